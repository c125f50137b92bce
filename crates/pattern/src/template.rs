//! Python's replacement templates: `\1`, `\g<name>`, `\n`.

use crate::error::{Error, Place};
use crate::parse::{Token, Tokens, checked_octal, control_escape, decimal, digits, is_digit, is_octal};
use crate::pattern::Pattern;
use crate::text::{decode, encode, repr};
use crate::unicode::is_identifier;

/// A replacement template, checked against the pattern whose groups it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text as it is; never empty, and never next to another.
    Literal(Vec<u8>),
    /// What a group matched; nothing if it didn't.
    Group(usize),
}

impl Template {
    /// Reads a template for substitutions with `pattern`.
    ///
    /// # Errors
    /// [`Error::Syntax`] where CPython's `re.sub` fails on the template, with its text.
    pub fn new(source: &[u8], pattern: &Pattern) -> Result<Template, Error> {
        let mut reader = Reader { tokens: Tokens::new(decode(source))?, pattern, parts: Vec::new() };
        while let Some(token) = reader.tokens.take()? {
            reader.token(token)?;
        }
        Ok(Template { parts: reader.parts })
    }

    /// The literal text that it begins with, escapes resolved.
    pub fn literal_prefix(&self) -> &[u8] {
        match self.parts.first() {
            Some(Part::Literal(literal)) => literal,
            Some(Part::Group(_)) | None => b"",
        }
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

struct Reader<'a> {
    tokens: Tokens,
    pattern: &'a Pattern,
    parts: Vec<Part>,
}

impl Reader<'_> {
    fn token(&mut self, token: Token) -> Result<(), Error> {
        let escaped = match token {
            Token::Char(code) => return self.literal(code),
            Token::Escape(escaped) => escaped,
        };
        match u8::try_from(escaped) {
            Ok(b'g') => self.named_group(),
            Ok(b'0') => {
                let digits = self.tokens.take_while(2, is_octal)?;
                let code = checked_octal(&self.tokens, &digits)?;
                self.literal(code)
            }
            Ok(digit @ b'1'..=b'9') => self.number(digit),
            Ok(b'\\') => self.literal(escaped),
            Ok(b'b') => self.literal(8),
            Ok(byte) if byte.is_ascii_alphabetic() => match control_escape(byte) {
                Some(code) => self.literal(code),
                None => Err(self.tokens.error(format!("bad escape {}", token.text()), token.len())),
            },
            // Before anything else a backslash stands for itself.
            _ => {
                self.literal(u32::from(b'\\'))?;
                self.literal(escaped)
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the arms of `token` read alike this way")]
    fn literal(&mut self, code: u32) -> Result<(), Error> {
        if !matches!(self.parts.last(), Some(Part::Literal(_))) {
            self.parts.push(Part::Literal(Vec::new()));
        }
        if let Some(Part::Literal(bytes)) = self.parts.last_mut() {
            encode(code, bytes);
        }
        Ok(())
    }

    /// `\g<name>` or `\g<1>` whose `\g` is taken already.
    fn named_group(&mut self) -> Result<(), Error> {
        if !self.tokens.take_if('<')? {
            return Err(self.tokens.error("missing <", 0));
        }
        let name = self.tokens.take_until('>', "group name")?;
        if let Some(number) = decimal(&name) {
            return self.group(number, &digits(&name), name.len() + 1);
        }
        let name_text = repr(&name);
        if !is_identifier(&name) {
            let message = format!("bad character in group name {name_text}");
            return Err(self.tokens.error(message, name.len() + 1));
        }
        let Some(group) = self.pattern.named_group(&crate::text::printable(&name)) else {
            let message = format!("unknown group name {name_text}");
            return Err(Error::Syntax { message, place: Place::default() });
        };
        self.parts.push(Part::Group(group));
        Ok(())
    }

    /// `\1` to `\99`, or an octal escape of three digits.
    fn number(&mut self, first: u8) -> Result<(), Error> {
        let mut number = String::from(char::from(first));
        number.push_str(&self.tokens.take_while(1, is_digit)?);
        if number.len() == 2 && number.bytes().all(is_octal) {
            number.push_str(&self.tokens.take_while(1, is_octal)?);
        }
        if number.len() == 3 {
            let code = checked_octal(&self.tokens, &number)?;
            return self.literal(code);
        }
        let group = number.bytes().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
        self.group(group, &number, number.len())
    }

    fn group(&mut self, number: u64, digits: &str, offset: usize) -> Result<(), Error> {
        match usize::try_from(number) {
            Ok(group) if group <= self.pattern.last_group() => {
                self.parts.push(Part::Group(group));
                Ok(())
            }
            _ => Err(self.tokens.error(format!("invalid group reference {digits}"), offset)),
        }
    }
}
