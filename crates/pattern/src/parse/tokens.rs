//! The source of a pattern or template, one token at a time, and errors that know their place in it.
//!
//! A token is one character, or a backslash with the character after it. One token of look-ahead is always read, so
//! that a backslash at the very end is found when the token before it is taken, as in CPython.

use crate::error::{Error, Place};
use crate::text::printable;

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A character that is no backslash.
    Char(u32),
    /// A backslash and this character.
    Escape(u32),
}

impl Token {
    /// Number of characters in the source.
    pub(crate) fn len(self) -> usize {
        match self {
            Token::Char(_) => 1,
            Token::Escape(_) => 2,
        }
    }

    pub(crate) fn is(self, char: char) -> bool {
        self == Token::Char(u32::from(char))
    }

    /// The character, if it is one of ASCII and not escaped.
    pub(crate) fn ascii(self) -> Option<u8> {
        match self {
            Token::Char(code) => u8::try_from(code).ok().filter(u8::is_ascii),
            Token::Escape(_) => None,
        }
    }

    pub(crate) fn push_to(self, codes: &mut Vec<u32>) {
        match self {
            Token::Char(code) => codes.push(code),
            Token::Escape(code) => codes.extend([u32::from(b'\\'), code]),
        }
    }

    /// As written, for a message.
    pub(crate) fn text(self) -> String {
        let mut codes = Vec::new();
        self.push_to(&mut codes);
        printable(&codes)
    }
}

/// A source being read.
pub(crate) struct Tokens {
    chars: Vec<u32>,
    /// Index of the character after the look-ahead.
    index: usize,
    next: Option<Token>,
}

impl Tokens {
    pub(crate) fn new(chars: Vec<u32>) -> Result<Tokens, Error> {
        let mut tokens = Tokens { chars, index: 0, next: None };
        tokens.advance()?;
        Ok(tokens)
    }

    pub(crate) fn peek(&self) -> Option<Token> {
        self.next
    }

    pub(crate) fn peek_is(&self, char: char) -> bool {
        self.next.is_some_and(|token| token.is(char))
    }

    /// The next token, which is taken.
    pub(crate) fn take(&mut self) -> Result<Option<Token>, Error> {
        let token = self.next;
        self.advance()?;
        Ok(token)
    }

    /// Takes the next token if it is `char`.
    pub(crate) fn take_if(&mut self, char: char) -> Result<bool, Error> {
        let is_char = self.peek_is(char);
        if is_char {
            self.advance()?;
        }
        Ok(is_char)
    }

    /// Takes up to `count` characters that `accepts`.
    pub(crate) fn take_while(&mut self, count: usize, accepts: fn(u8) -> bool) -> Result<String, Error> {
        let mut taken = String::new();
        while taken.len() < count
            && let Some(byte) = self.next.and_then(Token::ascii).filter(|&byte| accepts(byte))
        {
            taken.push(char::from(byte));
            self.advance()?;
        }
        Ok(taken)
    }

    /// Takes everything up to and including `terminator`, and returns it without that. `what` names it in a message.
    pub(crate) fn take_until(&mut self, terminator: char, what: &str) -> Result<Vec<u32>, Error> {
        let mut name = Vec::new();
        loop {
            match self.take()? {
                None if name.is_empty() => return Err(self.error(format!("missing {what}"), 0)),
                None => {
                    let message = format!("missing {terminator}, unterminated name");
                    return Err(self.error(message, name.len()));
                }
                Some(token) if token.is(terminator) => {
                    if name.is_empty() {
                        return Err(self.error(format!("missing {what}"), 1));
                    }
                    return Ok(name);
                }
                Some(token) => token.push_to(&mut name),
            }
        }
    }

    /// Index of the look-ahead.
    pub(crate) fn position(&self) -> usize {
        self.index - self.next.map_or(0, Token::len)
    }

    pub(crate) fn seek(&mut self, position: usize) -> Result<(), Error> {
        self.index = position;
        self.advance()
    }

    /// An error `offset` characters before the look-ahead.
    pub(crate) fn error(&self, message: impl Into<String>, offset: usize) -> Error {
        self.error_at(message, self.position() - offset)
    }

    pub(crate) fn error_at(&self, message: impl Into<String>, position: usize) -> Error {
        Error::Syntax { message: message.into(), place: self.place(position) }
    }

    pub(crate) fn unsupported(&self, construct: String, offset: usize, advice: &'static str) -> Error {
        Error::Unsupported { construct, place: self.place(self.position() - offset), advice }
    }

    fn place(&self, position: usize) -> Place {
        let newline = u32::from(b'\n');
        if !self.chars.contains(&newline) {
            return Place { position: Some(position), line_column: None };
        }
        let before = &self.chars[..position];
        let line = before.iter().filter(|&&code| code == newline).count() + 1;
        let line_start = before.iter().rposition(|&code| code == newline).map_or(0, |index| index + 1);
        Place { position: Some(position), line_column: Some((line, position - line_start + 1)) }
    }

    fn advance(&mut self) -> Result<(), Error> {
        let Some(&code) = self.chars.get(self.index) else {
            self.next = None;
            return Ok(());
        };
        if code != u32::from(b'\\') {
            self.index += 1;
            self.next = Some(Token::Char(code));
            return Ok(());
        }
        let Some(&escaped) = self.chars.get(self.index + 1) else {
            return Err(self.error_at("bad escape (end of pattern)", self.chars.len() - 1));
        };
        self.index += 2;
        self.next = Some(Token::Escape(escaped));
        Ok(())
    }
}
