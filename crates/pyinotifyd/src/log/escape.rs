//! Text from outside on its way into a log line: nothing in a file's name can end a line or steer a terminal.

use std::fmt::{self, Write as _};

/// Bytes of a path (or of a command line) as log text: control characters, line and direction marks and bytes that
/// are not UTF-8 are written as escapes. Undecodable bytes look as Python's stderr shows them (`\udcff`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().all(|byte| (0x20..0x7f).contains(byte)) {
            // Printable ASCII, the common case, is copied whole.
            return out.write_str(std::str::from_utf8(self.0).unwrap_or_default());
        }
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                write_character(out, character)?;
            }
            for byte in chunk.invalid() {
                write!(out, "\\udc{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl Escaped<'_> {
    /// Text that a program made, with lines: only bytes that are not UTF-8 are written as escapes.
    pub(crate) fn readable(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                write!(text, "\\udc{byte:02x}").expect("formatting into a string cannot fail");
            }
        }
        text
    }
}

/// Text of several lines: each further line is indented, so that none of them can pass for a record of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indented<'a>(pub &'a str);

impl fmt::Display for Indented<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.0.trim_end_matches('\n').split('\n').enumerate() {
            if number > 0 {
                out.write_str("\n    ")?;
            }
            for character in line.chars() {
                if character == '\t' { out.write_char('\t')? } else { write_character(out, character)? }
            }
        }
        Ok(())
    }
}

fn write_character(out: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
    match character {
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => write!(out, "\\x{:02x}", character as u32),
        // Line and paragraph separators, direction marks, the byte order mark: invisible, and they reorder a line.
        '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{61c}'
        | '\u{feff}' => {
            write!(out, "\\u{:04x}", character as u32)
        }
        other => out.write_char(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_end_a_line_or_steer_a_terminal() {
        let cases: [(&[u8], &str); 6] = [
            (b"/srv/plain name", "/srv/plain name"),
            (b"a\nb", "a\\x0ab"),
            (b"\x1b[31m", "\\x1b[31m"),
            (b"bad\xff\xfe.txt", "bad\\udcff\\udcfe.txt"),
            ("für".as_bytes(), "für"),
            ("\u{202e}fdp".as_bytes(), "\\u202efdp"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Escaped(bytes).to_string(), text);
        }
    }

    #[test]
    fn further_lines_are_indented() {
        assert_eq!(Indented("a\nb\x07\n").to_string(), "a\n    b\\x07");
    }
}
