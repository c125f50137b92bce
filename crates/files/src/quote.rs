//! Paths in texts, as Python writes them.
//!
//! Two forms: [`Plain`] is what an f-string gives between quotes that the text already has, [`Repr`] is `repr()` with
//! quotes of its own. Bytes that are not UTF-8 come out as the lone surrogates of `os.fsdecode`, in the escaped form
//! in which Python's stderr prints them (`\udcff`), so no byte is lost. Escaping of control characters that [`Plain`]
//! lets through is left to the log.

use std::fmt::{self, Write as _};

/// A path as it is, for texts that bring their own quotes.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a>(pub(crate) &'a [u8]);

/// A path as Python's `repr()` of a string shows it.
#[derive(Clone, Copy)]
pub(crate) struct Repr<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            out.write_str(chunk.valid())?;
            write_surrogates(chunk.invalid(), out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Repr<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains(&b'\'') && !self.0.contains(&b'"') { '"' } else { '\'' };
        out.write_char(quote)?;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                write_character(character, quote, out)?;
            }
            write_surrogates(chunk.invalid(), out)?;
        }
        out.write_char(quote)
    }
}

fn write_character(character: char, quote: char, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    match character {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\\' => out.write_str("\\\\"),
        _ if character == quote => write!(out, "\\{quote}"),
        _ if character.is_control() => write!(out, "\\x{:02x}", u32::from(character)),
        _ => out.write_char(character),
    }
}

fn write_surrogates(bytes: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "\\udc{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repr_is_that_of_python() {
        let cases: [(&[u8], &str); 7] = [
            (b"/a b", "'/a b'"),
            (b"it's", "\"it's\""),
            (b"'\"", "'\\'\"'"),
            (b"a\nb\x1b", "'a\\nb\\x1b'"),
            (b"back\\slash", "'back\\\\slash'"),
            (b"\xff/\xc3\xa4", "'\\udcff/\u{e4}'"),
            (b"", "''"),
        ];
        for (path, text) in cases {
            assert_eq!(Repr(path).to_string(), text);
        }
    }

    #[test]
    fn plain_adds_nothing_and_loses_nothing() {
        assert_eq!(Plain(b"it's\n\xfe").to_string(), "it's\n\\udcfe");
    }
}
