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

    /// The arguments for an event: one, but for the placeholder that stands for all paths of a batch.
    pub(crate) fn expand(&self, occasion: &Occasion<'_>) -> Vec<Vec<u8>> {
        if self.is_path_list() {
            return occasion.values(Field::Pathnames).into_iter().map(<[u8]>::to_vec).collect();
        }
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.as_slice(),
            Part::Field(field) => occasion.value(*field),
        });
        vec![parts.collect::<Vec<_>>().concat()]
    }

    /// Whether it stands for all paths of a batch.
    pub(crate) fn is_path_list(&self) -> bool {
        self.0 == [Part::Field(Field::Pathnames)]
    }

    /// Whether what stands for all paths is only a part of it.
    pub(crate) fn has_path_list_inside(&self) -> bool {
        !self.is_path_list() && self.0.contains(&Part::Field(Field::Pathnames))
    }

    /// Bytes of the text that is always there.
    pub(super) fn literal_bytes(&self) -> usize {
        let literals = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.len(),
            Part::Field(_) => 0,
        });
        literals.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::occasion::{OF_BATCHES, OF_EVENTS};
    use engine::{BatchEvent, OwnedEvent};
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
            assert_eq!(ArgumentTemplate::new(template, OF_EVENTS).expand(&Occasion::of(&event)), [expected]);
        }
        let event = Event { src_pathname: Some(b"/from"), ..event };
        let template = ArgumentTemplate::new(b"{src_pathname}", OF_EVENTS);
        assert_eq!(template.expand(&Occasion::of(&event)), [b"/from"]);
    }

    #[test]
    fn one_element_becomes_all_paths_of_a_batch() {
        let path = |pathname| Event { mask: Flag::Create.mask(), pathname, ..Event::overflow() };
        let events = [path(b"/w/a".as_slice()), path(b"/w/b c")];
        let batch = events.map(|event| BatchEvent { event: OwnedEvent::of(&event), failed: None });
        let occasion = Occasion { batch: &batch, ..Occasion::of(&events[0]) };
        let template = ArgumentTemplate::new(b"{pathnames}", OF_BATCHES);
        assert_eq!(template.expand(&occasion), [b"/w/a".as_slice(), b"/w/b c"]);
        assert!(template.is_path_list() && !template.has_path_list_inside());
        let template = ArgumentTemplate::new(b"-f={pathnames}", OF_BATCHES);
        assert!(template.has_path_list_inside());
        let template = ArgumentTemplate::new(b"{pathnames}", OF_EVENTS);
        assert_eq!(template.expand(&occasion), [b"{pathnames}"]);
    }
}
