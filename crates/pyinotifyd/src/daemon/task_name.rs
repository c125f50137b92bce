//! The id of a task as logs and jobs see it, as text that needs no allocation.

use engine::TaskId;

/// A UUID: 36 ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskName([u8; 36]);

impl TaskName {
    /// The name of a task.
    pub(crate) fn of(id: TaskId) -> TaskName {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let TaskId(bits) = id;
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
        let id = TaskId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(TaskName::of(id).as_str(), "01234567-89ab-cdef-0011-223344556677");
        assert_eq!(TaskName::of(id).as_str(), id.to_string());
    }
}
