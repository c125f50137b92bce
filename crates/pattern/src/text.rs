//! Paths and sources as Python sees them: code points, with each undecodable byte as one surrogate.
//!
//! Python decodes file names with `surrogateescape`: a byte that is part of no UTF-8 character becomes U+DC80 + (byte -
//! 0x80), a character of its own that is no letter, no digit and no space. Nothing here fails: every byte string has
//! exactly one text, and every text that came from bytes leads back to them.

/// The surrogate of byte 0x80; bytes up to 0xFF follow.
const ESCAPED_FIRST: u32 = 0xDC80;
const ESCAPED_LAST: u32 = 0xDCFF;

/// What the backtracking engine reads: characters by index.
pub(crate) trait Text {
    /// Number of characters.
    fn len(&self) -> usize;
    /// The character at `index`, which is below `len`.
    fn at(&self, index: usize) -> u32;
    /// Index of the first `char`, an ASCII character, from `start` on and below `end`; `end` if there is none.
    fn find(&self, char: u8, start: usize, end: usize) -> usize;
    /// Whether these characters stand at `index`, which is not above `len`.
    fn has_at(&self, index: usize, codes: &[u32]) -> bool;
    /// The byte where the character at `index` begins; `index` may be `len`.
    fn byte_offset(&self, index: usize) -> usize;
}

/// A path of ASCII only: bytes are characters.
pub(crate) struct AsciiText<'a>(pub(crate) &'a [u8]);

impl Text for AsciiText<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn at(&self, index: usize) -> u32 {
        u32::from(self.0[index])
    }

    fn find(&self, char: u8, start: usize, end: usize) -> usize {
        memchr::memchr(char, &self.0[start..end]).map_or(end, |index| start + index)
    }

    fn has_at(&self, index: usize, codes: &[u32]) -> bool {
        let there = self.0[index..].get(..codes.len());
        there.is_some_and(|there| there.iter().zip(codes).all(|(byte, code)| u32::from(*byte) == *code))
    }

    fn byte_offset(&self, index: usize) -> usize {
        index
    }
}

/// Any other path, decoded.
pub(crate) struct WideText {
    chars: Vec<u32>,
    /// Byte offset of each character, and of the end.
    offsets: Vec<usize>,
}

impl WideText {
    pub(crate) fn new(bytes: &[u8]) -> WideText {
        let mut chars = Vec::with_capacity(bytes.len());
        let mut offsets = Vec::with_capacity(bytes.len() + 1);
        decode_each(bytes, |code, offset| {
            chars.push(code);
            offsets.push(offset);
        });
        offsets.push(bytes.len());
        WideText { chars, offsets }
    }
}

impl Text for WideText {
    fn len(&self) -> usize {
        self.chars.len()
    }

    fn at(&self, index: usize) -> u32 {
        self.chars[index]
    }

    fn find(&self, char: u8, start: usize, end: usize) -> usize {
        let mut chars = self.chars[start..end].iter();
        chars.position(|&code| code == u32::from(char)).map_or(end, |index| start + index)
    }

    fn has_at(&self, index: usize, codes: &[u32]) -> bool {
        self.chars[index..].starts_with(codes)
    }

    fn byte_offset(&self, index: usize) -> usize {
        self.offsets[index]
    }
}

/// The code points of `bytes`, undecodable bytes as surrogates (Python's `os.fsdecode` on a UTF-8 system).
pub(crate) fn decode(bytes: &[u8]) -> Vec<u32> {
    let mut chars = Vec::with_capacity(bytes.len());
    decode_each(bytes, |code, _| chars.push(code));
    chars
}

/// Appends the bytes of `code`. Surrogates that stand for no byte can occur in no path; they give nothing.
pub(crate) fn encode(code: u32, bytes: &mut Vec<u8>) {
    if (ESCAPED_FIRST..=ESCAPED_LAST).contains(&code) {
        bytes.push((code - ESCAPED_FIRST) as u8 + 0x80);
    } else if let Some(char) = char::from_u32(code) {
        bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// Text for a message: surrogates as Python's `backslashreplace` writes them.
pub(crate) fn printable(codes: &[u32]) -> String {
    codes
        .iter()
        .map(|&code| char::from_u32(code).map_or_else(|| format!("\\u{code:04x}"), String::from))
        .collect()
}

/// Python's `repr` of a string, as its messages show group names.
pub(crate) fn repr(codes: &[u32]) -> String {
    let has_single = codes.contains(&u32::from(b'\''));
    let has_double = codes.contains(&u32::from(b'"'));
    let quote = if has_single && !has_double { '"' } else { '\'' };
    let body: String = codes.iter().map(|&code| repr_of(code, quote)).collect();
    format!("{quote}{body}{quote}")
}

fn repr_of(code: u32, quote: char) -> String {
    match char::from_u32(code) {
        Some('\n') => "\\n".to_owned(),
        Some('\r') => "\\r".to_owned(),
        Some('\t') => "\\t".to_owned(),
        Some(char) if char == quote || char == '\\' => format!("\\{char}"),
        Some(char) if char.is_control() => format!("\\x{code:02x}"),
        Some(char) => char.to_string(),
        None => format!("\\u{code:04x}"),
    }
}

fn decode_each(bytes: &[u8], mut visit: impl FnMut(u32, usize)) {
    let mut offset = 0;
    for chunk in bytes.utf8_chunks() {
        for (index, char) in chunk.valid().char_indices() {
            visit(u32::from(char), offset + index);
        }
        offset += chunk.valid().len();
        for &byte in chunk.invalid() {
            visit(ESCAPED_FIRST + u32::from(byte) - 0x80, offset);
            offset += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undecodable_bytes_are_one_character_each() {
        for (bytes, codes) in [
            (&b"a\xc3\xa9"[..], &[0x61, 0xe9][..]),
            (b"\xff\x80z", &[0xdcff, 0xdc80, 0x7a]),
            (b"\xe2\x82A", &[0xdce2, 0xdc82, 0x41]),
            (b"\xed\xb2\x80", &[0xdced, 0xdcb2, 0xdc80]),
            (b"\xf0\x9f\x92", &[0xdcf0, 0xdc9f, 0xdc92]),
        ] {
            assert_eq!(decode(bytes), codes);
            let mut back = Vec::new();
            for &code in codes {
                encode(code, &mut back);
            }
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn repr_is_pythons() {
        for (text, expected) in [("a", "'a'"), ("a'b", "\"a'b\""), ("'\"", "'\\'\"'"), ("\n\\", "'\\n\\\\'")]
        {
            assert_eq!(repr(&decode(text.as_bytes())), expected);
        }
    }
}
