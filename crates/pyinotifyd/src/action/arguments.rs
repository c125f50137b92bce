//! Text with fields that an event fills in, without a shell: elements of `argv`.

use super::occasion::{Field, Occasion, Placeholder};

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArgumentTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Field(Field),
}

impl ArgumentTemplate {
    /// Finds the fields; all braces that are none of `known` are text.
    pub(crate) fn new(text: &[u8], known: &[Placeholder]) -> ArgumentTemplate {
        let (mut parts, mut literal, mut rest) = (Vec::new(), Vec::new(), text);
        while let Some((first, tail)) = rest.split_first() {
            let found = known.iter().find(|(name, ..)| rest.starts_with(name.as_bytes()));
            let Some((name, field, _)) = found else {
                literal.push(*first);
                rest = tail;
                continue;
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(*field));
            rest = &rest[name.len()..];
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        ArgumentTemplate(parts)
    }

    /// Whether an event fills anything in.
    pub(crate) fn has_field(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Field(_)))
    }

    /// The text for an event.
    pub(crate) fn expand(&self, occasion: &Occasion<'_>) -> Vec<u8> {
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.as_slice(),
            Part::Field(field) => occasion.value(*field),
        });
        parts.collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::occasion::OF_EVENTS;
    use event::{Event, Flag};

    #[test]
    fn fields_are_filled_in_once_and_as_they_are() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"{pathname}", b"/w/it's {maskname} \xff"),
            (b"-i={pathname}{src_pathname}", b"-i=/w/it's {maskname} \xff"),
            (b"{{maskname}}", b"{IN_MOVED_TO}"),
            (b"{path} ${x} {", b"{path} ${x} {"),
            (b"", b""),
        ];
        let (mask, pathname) =
            (Flag::MovedTo.mask() | event::Mask::ISDIR, b"/w/it's {maskname} \xff".as_slice());
        let event = Event { mask, pathname, ..Event::overflow() };
        for (template, expected) in cases {
            assert_eq!(ArgumentTemplate::new(template, OF_EVENTS).expand(&Occasion::of(&event)), expected);
        }
        let event = Event { src_pathname: Some(b"/from"), ..event };
        let template = ArgumentTemplate::new(b"{src_pathname}", OF_EVENTS);
        assert_eq!(template.expand(&Occasion::of(&event)), b"/from");
    }
}
