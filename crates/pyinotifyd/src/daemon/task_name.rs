//! The id of a task as logs and jobs see it: a random UUID (version 4) made from its serial number.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use engine::TaskId;

/// Turns serial numbers into UUIDs under a key of this run, so that a waiting task keeps eight bytes and no text.
#[derive(Debug, Default)]
pub(crate) struct TaskNames {
    high: RandomState,
    low: RandomState,
}

impl TaskNames {
    /// The same name for the same task, and no two alike (122 bits of a keyed hash).
    pub(crate) fn name(&self, id: TaskId) -> TaskName {
        let bits = u128::from(self.high.hash_one(id.0)) << 64 | u128::from(self.low.hash_one(id.0));
        // RFC 9562: version 4, variant 10.
        let version = bits & !(0xf << 76) | 4 << 76;
        TaskName::new(version & !(0b11 << 62) | 0b10 << 62)
    }
}

/// A UUID: 36 ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskName([u8; 36]);

impl TaskName {
    fn new(bits: u128) -> TaskName {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let places = (0..36).filter(|place| ![8, 13, 18, 23].contains(place));
        for (place, digit) in places.zip((0..32).rev()) {
            text[place] = HEX[(bits >> (4 * digit)) as usize & 0xf];
        }
        TaskName(text)
    }

    /// The 36 characters.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_uuids_of_version_4_that_stay() {
        let names = TaskNames::default();
        let text = names.name(TaskId(7)).as_str().to_owned();
        assert_eq!(text, names.name(TaskId(7)).as_str());
        assert_ne!(text, names.name(TaskId(8)).as_str());
        assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(&text[14..15], "4");
        assert!("89ab".contains(&text[19..20]));
    }
}
