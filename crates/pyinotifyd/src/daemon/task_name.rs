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
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
        }
        let mut text = [b'-'; 36];
        // Groups of 8, 4, 4, 4 and 12 digits; each begins one place further on than the one before.
        for (group, range) in [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().enumerate() {
            text[range.start + group..range.end + group].copy_from_slice(&digits[range]);
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
    fn digits_stand_in_their_order() {
        let name = TaskName::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(name.as_str(), "01234567-89ab-cdef-0011-223344556677");
    }

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
