//! Escapes: `\n`, `\x41`, `\d`, `\b`, `\1`, … outside and inside of sets.

use super::Parser;
use super::flags::Flags;
use super::tokens::{Token, Tokens};
use crate::ast::{Assertion, Node};
use crate::error::Error;
use crate::set::{Item, Single};
use crate::text::printable;
use crate::unicode::{CODE_MAX, Category};

/// Largest value of an octal escape.
const OCTAL_MAX: u32 = 0o377;

impl Parser {
    /// An escape outside of a set; its token is taken already.
    pub(super) fn parse_escape(&mut self, escaped: u32) -> Result<Node, Error> {
        if let Some(assertion) = self.assertion(escaped) {
            return Ok(Node::Assertion(assertion));
        }
        if let Some(item) = category(escaped, self.flags) {
            return Ok(Node::Single(Single::set(&[item], self.fold(), false)));
        }
        match ascii(escaped) {
            Some(b'0') => {
                let digits = self.tokens.take_while(2, is_octal)?;
                Ok(self.literal(octal(&digits)))
            }
            Some(digit @ b'1'..=b'9') => self.parse_number(digit),
            _ => {
                let code = parse_character(&mut self.tokens, escaped)?;
                Ok(self.literal(code))
            }
        }
    }

    /// An escape inside a set; its token is taken already.
    pub(super) fn parse_set_escape(&mut self, escaped: u32) -> Result<Item, Error> {
        if let Some(item) = category(escaped, self.flags) {
            return Ok(item);
        }
        match ascii(escaped) {
            Some(b'b') => Ok(Item::Literal(8)),
            Some(digit @ b'0'..=b'7') => {
                let mut digits = String::from(char::from(digit));
                digits.push_str(&self.tokens.take_while(2, is_octal)?);
                checked_octal(&self.tokens, &digits).map(Item::Literal)
            }
            Some(b'8' | b'9') => Err(bad_escape(&self.tokens, escaped)),
            _ => parse_character(&mut self.tokens, escaped).map(Item::Literal),
        }
    }

    fn assertion(&self, escaped: u32) -> Option<Assertion> {
        let ascii_only = self.flags.contains(Flags::ASCII);
        match ascii(escaped)? {
            b'A' => Some(Assertion::Start),
            // Python 3.14 has `\z` too, and its `fnmatch.translate` ends with it.
            b'Z' | b'z' => Some(Assertion::End),
            b'b' => Some(Assertion::WordBoundary { ascii: ascii_only }),
            b'B' => Some(Assertion::NotWordBoundary { ascii: ascii_only }),
            _ => None,
        }
    }

    /// `\1` to `\99` are groups, but three octal digits are a character.
    fn parse_number(&mut self, first: u8) -> Result<Node, Error> {
        let mut digits = String::from(char::from(first));
        digits.push_str(&self.tokens.take_while(1, is_digit)?);
        let all_octal = digits.bytes().all(is_octal);
        if digits.len() == 2 && all_octal {
            digits.push_str(&self.tokens.take_while(1, is_octal)?);
        }
        if digits.len() == 3 {
            let code = checked_octal(&self.tokens, &digits)?;
            return Ok(self.literal(code));
        }
        let group = digits.bytes().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        if group as usize >= self.groups.len() {
            let message = format!("invalid group reference {group}");
            return Err(self.tokens.error(message, digits.len()));
        }
        self.backreference(group, digits.len() + 1)
    }
}

/// Escapes that stand for one character both outside and inside of sets.
fn parse_character(tokens: &mut Tokens, escaped: u32) -> Result<u32, Error> {
    let Some(byte) = ascii(escaped) else { return Ok(escaped) };
    match byte {
        b'x' => parse_hex(tokens, 'x', 2),
        b'u' => parse_hex(tokens, 'u', 4),
        b'U' => parse_hex(tokens, 'U', 8),
        b'N' => Err(tokens.unsupported(
            "\\N{...} (a character by its name)".to_owned(),
            2,
            "write the character itself or its \\u escape",
        )),
        _ => match control_escape(byte) {
            Some(code) => Ok(code),
            None if byte.is_ascii_alphabetic() => Err(bad_escape(tokens, escaped)),
            None => Ok(escaped),
        },
    }
}

/// `\a \f \n \r \t \v`; templates know them too.
pub(crate) fn control_escape(byte: u8) -> Option<u32> {
    match byte {
        b'a' => Some(7),
        b'f' => Some(12),
        b'n' => Some(10),
        b'r' => Some(13),
        b't' => Some(9),
        b'v' => Some(11),
        _ => None,
    }
}

fn parse_hex(tokens: &mut Tokens, letter: char, digits: usize) -> Result<u32, Error> {
    let hex = tokens.take_while(digits, |byte| byte.is_ascii_hexdigit())?;
    let length = 2 + hex.len();
    if hex.len() != digits {
        return Err(tokens.error(format!("incomplete escape \\{letter}{hex}"), length));
    }
    let code = u32::from_str_radix(&hex, 16).expect("two, four or eight hexadecimal digits fit");
    if code > CODE_MAX {
        return Err(tokens.error(format!("bad escape \\{letter}{hex}"), length));
    }
    Ok(code)
}

fn category(escaped: u32, flags: Flags) -> Option<Item> {
    let byte = ascii(escaped)?;
    let category = match byte.to_ascii_lowercase() {
        b'd' => Category::Digit,
        b's' => Category::Space,
        b'w' => Category::Word,
        _ => return None,
    };
    Some(Item::Category { category, ascii: flags.contains(Flags::ASCII), negated: byte.is_ascii_uppercase() })
}

/// The value of an octal escape of three digits at most, refused above 0o377.
pub(crate) fn checked_octal(tokens: &Tokens, digits: &str) -> Result<u32, Error> {
    let code = octal(digits);
    if code > OCTAL_MAX {
        let message = format!("octal escape value \\{digits} outside of range 0-0o377");
        return Err(tokens.error(message, digits.len() + 1));
    }
    Ok(code)
}

fn octal(digits: &str) -> u32 {
    digits.bytes().fold(0, |code, digit| code * 8 + u32::from(digit - b'0'))
}

pub(crate) fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

pub(crate) fn is_octal(byte: u8) -> bool {
    matches!(byte, b'0'..=b'7')
}

fn ascii(code: u32) -> Option<u8> {
    u8::try_from(code).ok().filter(u8::is_ascii)
}

fn bad_escape(tokens: &Tokens, escaped: u32) -> Error {
    let token = Token::Escape(escaped);
    tokens.error(format!("bad escape \\{}", printable(&[escaped])), token.len())
}
