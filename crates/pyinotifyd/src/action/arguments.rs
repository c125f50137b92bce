//! Text with fields that an event fills in, without a shell: elements of `argv`.

use event::Event;

use super::template::{FIELDS, Field};

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArgumentTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Field(Field),
}

impl ArgumentTemplate {
    /// Finds the fields; all other braces are text.
    pub(crate) fn new(text: &[u8]) -> ArgumentTemplate {
        let (mut parts, mut literal, mut rest) = (Vec::new(), Vec::new(), text);
        while let Some((first, tail)) = rest.split_first() {
            let found = FIELDS.iter().find(|(name, ..)| rest.starts_with(name.as_bytes()));
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

    /// The text for an event.
    pub(crate) fn expand(&self, event: &Event<'_>) -> Vec<u8> {
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.as_slice(),
            Part::Field(field) => field.of(event),
        });
        parts.collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::Flag;

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
            assert_eq!(ArgumentTemplate::new(template).expand(&event), expected);
        }
        let event = Event { src_pathname: Some(b"/from"), ..event };
        assert_eq!(ArgumentTemplate::new(b"{src_pathname}").expand(&event), b"/from");
    }
}
