//! Sets: `[a-z\d]`. `[`, `&&`, `--`, `~~` and `||` inside of one are characters, as in Python.

use super::Parser;
use super::tokens::Token;
use crate::ast::Node;
use crate::error::Error;
use crate::set::{Item, Single};

impl Parser {
    /// A set whose `[` is taken already.
    pub(super) fn parse_set(&mut self) -> Result<Node, Error> {
        let start = self.tokens.position() - 1;
        let negated = self.tokens.take_if('^')?;
        let mut items = Vec::new();
        loop {
            let token = self.take_in_set(start)?;
            if token.is(']') && !items.is_empty() {
                break;
            }
            let item = self.set_item(token)?;
            if !self.tokens.take_if('-')? {
                items.push(item);
                continue;
            }
            let last = self.take_in_set(start)?;
            if last.is(']') {
                items.extend([item, Item::Literal(u32::from(b'-'))]);
                break;
            }
            items.push(self.range(token, item, last)?);
        }
        Ok(Node::Single(self.single_of(&items, negated)))
    }

    fn take_in_set(&mut self, start: usize) -> Result<Token, Error> {
        let token = self.tokens.take()?;
        token.ok_or_else(|| self.tokens.error_at("unterminated character set", start))
    }

    fn set_item(&mut self, token: Token) -> Result<Item, Error> {
        match token {
            Token::Char(code) => Ok(Item::Literal(code)),
            Token::Escape(escaped) => self.parse_set_escape(escaped),
        }
    }

    fn range(&mut self, first_token: Token, first: Item, last_token: Token) -> Result<Item, Error> {
        let last = self.set_item(last_token)?;
        if let (Item::Literal(first), Item::Literal(last)) = (first, last)
            && first <= last
        {
            return Ok(Item::Range(first, last));
        }
        let message = format!("bad character range {}-{}", first_token.text(), last_token.text());
        Err(self.tokens.error(message, first_token.len() + 1 + last_token.len()))
    }

    /// A set of one character is that character, which matters where case is ignored.
    fn single_of(&self, items: &[Item], negated: bool) -> Single {
        match *items {
            [Item::Literal(code), ref rest @ ..] if rest.iter().all(|item| *item == Item::Literal(code)) => {
                Single::literal(code, self.fold(), negated)
            }
            _ => Single::set(items, self.fold(), negated),
        }
    }
}
