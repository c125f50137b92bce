//! Everything that begins with `(`.

use super::Parser;
use super::flags::{FlagGroup, Flags, begins_flags, parse_flags};
use super::tokens::Token;
use crate::ast::{Conditional, Look, Node};
use crate::error::Error;
use crate::text::{printable, repr};
use crate::unicode::is_identifier;

/// CPython's bound on group numbers.
const GROUPS_MAX: u64 = (1 << 30) - 1;

/// What the text after `(?` says that the parenthesis is.
enum Kind {
    Capture(Option<Vec<u32>>),
    Plain {
        added: Flags,
        removed: Flags,
    },
    Atomic,
    /// Complete already; `None` matches nothing and can't be repeated (a comment, flags).
    Done(Option<Node>),
}

impl Parser {
    /// A parenthesis whose `(` is taken already. `first` says that it begins the pattern.
    pub(super) fn parse_parenthesis(&mut self, first: bool) -> Result<Option<Node>, Error> {
        let start = self.tokens.position() - 1;
        let kind =
            if self.tokens.take_if('?')? { self.parse_extension(start, first)? } else { Kind::Capture(None) };
        match kind {
            Kind::Done(node) => Ok(node),
            Kind::Capture(name) => {
                let group = self.open_group(name)?;
                let node = self.parse_alternation()?;
                self.close(start)?;
                self.close_group(group, &node);
                Ok(Some(Node::Group(group, Box::new(node))))
            }
            Kind::Atomic => {
                let node = self.parse_alternation()?;
                self.close(start)?;
                Ok(Some(Node::Atomic(Box::new(node))))
            }
            Kind::Plain { added, removed } => {
                let outer = self.flags;
                self.flags = outer.scoped(added, removed);
                let node = self.parse_alternation()?;
                self.flags = outer;
                self.close(start)?;
                // The extra level keeps `(?:^)*` and `(?:a*)*` apart from `^*` and `a**`, which are errors.
                Ok(Some(Node::Sequence(vec![node])))
            }
        }
    }

    fn parse_extension(&mut self, start: usize, first: bool) -> Result<Kind, Error> {
        let token = self.take_in_group()?;
        match token.ascii() {
            Some(b'P') => self.parse_python_extension(),
            Some(b':') => Ok(Kind::Plain { added: Flags::default(), removed: Flags::default() }),
            Some(b'#') => self.skip_comment(start),
            Some(b'=' | b'!') => self.parse_look(token, false, start),
            Some(b'<') => {
                let token = self.take_in_group()?;
                if !token.is('=') && !token.is('!') {
                    let message = format!("unknown extension ?<{}", token.text());
                    return Err(self.tokens.error(message, token.len() + 2));
                }
                self.parse_look(token, true, start)
            }
            Some(b'(') => self.parse_conditional(start),
            Some(b'>') => Ok(Kind::Atomic),
            _ if begins_flags(token) => self.parse_flag_group(token, start, first),
            _ => {
                let message = format!("unknown extension ?{}", token.text());
                Err(self.tokens.error(message, token.len() + 1))
            }
        }
    }

    fn parse_python_extension(&mut self) -> Result<Kind, Error> {
        if self.tokens.take_if('<')? {
            let name = self.tokens.take_until('>', "group name")?;
            self.check_name(&name)?;
            return Ok(Kind::Capture(Some(name)));
        }
        if self.tokens.take_if('=')? {
            let name = self.tokens.take_until(')', "group name")?;
            self.check_name(&name)?;
            let group = self.named_group(&name)?;
            return self.backreference(group, name.len() + 1).map(|node| Kind::Done(Some(node)));
        }
        let token = self.take_in_group()?;
        Err(self.tokens.error(format!("unknown extension ?P{}", token.text()), token.len() + 2))
    }

    fn skip_comment(&mut self, start: usize) -> Result<Kind, Error> {
        loop {
            let token = self.tokens.peek();
            if token.is_none() {
                return Err(self.tokens.error_at("missing ), unterminated comment", start));
            }
            self.tokens.take()?;
            if token.is_some_and(|token| token.is(')')) {
                return Ok(Kind::Done(None));
            }
        }
    }

    fn parse_look(&mut self, token: Token, behind: bool, start: usize) -> Result<Kind, Error> {
        let outermost = behind && self.look_behind_groups.is_none();
        if outermost {
            self.look_behind_groups = Some(self.groups.len());
        }
        let node = self.parse_alternation()?;
        if outermost {
            self.look_behind_groups = None;
        }
        self.close(start)?;
        let negated = token.is('!');
        if negated && node == Node::Sequence(Vec::new()) {
            return Ok(Kind::Done(Some(Node::Fail)));
        }
        Ok(Kind::Done(Some(Node::Look(Box::new(Look { node, behind, negated })))))
    }

    fn parse_conditional(&mut self, start: usize) -> Result<Kind, Error> {
        let name = self.tokens.take_until(')', "group name")?;
        let group = self.condition_group(&name)?;
        self.check_look_behind(group, 0)?;
        let yes = self.parse_sequence(false)?;
        let mut no = Node::Sequence(Vec::new());
        if self.tokens.take_if('|')? {
            no = self.parse_sequence(false)?;
            if self.tokens.peek_is('|') {
                return Err(self.tokens.error("conditional backref with more than two branches", 0));
            }
        }
        self.close(start)?;
        Ok(Kind::Done(Some(Node::Conditional(Box::new(Conditional { group, yes, no })))))
    }

    /// A condition may name a group by a number that only a later group will have; that is checked at the end.
    fn condition_group(&mut self, name: &[u32]) -> Result<u32, Error> {
        let Some(number) = decimal(name) else {
            self.check_name(name)?;
            return self.named_group(name);
        };
        if number == 0 {
            return Err(self.tokens.error("bad group number", name.len() + 1));
        }
        if number >= GROUPS_MAX {
            let message = format!("invalid group reference {}", digits(name));
            return Err(self.tokens.error(message, name.len() + 1));
        }
        let group = number as u32;
        if !self.conditions.iter().any(|&(known, _)| known == group) {
            self.conditions.push((group, self.tokens.position() - name.len() - 1));
        }
        Ok(group)
    }

    fn parse_flag_group(&mut self, token: Token, start: usize, first: bool) -> Result<Kind, Error> {
        match parse_flags(&mut self.tokens, token)? {
            FlagGroup::Scoped { added, removed } => Ok(Kind::Plain { added, removed }),
            FlagGroup::Global(_) if !first => {
                Err(self.tokens.error_at("global flags not at the start of the expression", start))
            }
            FlagGroup::Global(added) => {
                self.flags = self.flags.with(added);
                Ok(Kind::Done(None))
            }
        }
    }

    fn named_group(&self, name: &[u32]) -> Result<u32, Error> {
        let index = self.groups.iter().position(|group| group.name.as_deref() == Some(name));
        index
            .map(|index| index as u32)
            .ok_or_else(|| self.tokens.error(format!("unknown group name {}", repr(name)), name.len() + 1))
    }

    /// A reference to an earlier group; `offset` is the length of what was written.
    pub(super) fn backreference(&self, group: u32, offset: usize) -> Result<Node, Error> {
        if !self.groups[group as usize].is_closed {
            return Err(self.tokens.error("cannot refer to an open group", offset));
        }
        self.check_look_behind(group, 0)?;
        Ok(Node::Backreference(group, self.fold()))
    }

    fn check_look_behind(&self, group: u32, offset: usize) -> Result<(), Error> {
        let Some(groups_before) = self.look_behind_groups else { return Ok(()) };
        let is_closed = self.groups.get(group as usize).is_some_and(|group| group.is_closed);
        if !is_closed {
            return Err(self.tokens.error("cannot refer to an open group", offset));
        }
        if group as usize >= groups_before {
            let message = "cannot refer to group defined in the same lookbehind subpattern";
            return Err(self.tokens.error(message, offset));
        }
        Ok(())
    }

    fn check_name(&self, name: &[u32]) -> Result<(), Error> {
        if is_identifier(name) {
            return Ok(());
        }
        Err(self.tokens.error(format!("bad character in group name {}", repr(name)), name.len() + 1))
    }

    fn take_in_group(&mut self) -> Result<Token, Error> {
        let token = self.tokens.take()?;
        token.ok_or_else(|| self.tokens.error("unexpected end of pattern", 0))
    }

    fn close(&mut self, start: usize) -> Result<(), Error> {
        if self.tokens.take_if(')')? {
            return Ok(());
        }
        Err(self.tokens.error_at("missing ), unterminated subpattern", start))
    }
}

/// The value of a name that is a decimal number, as large as it may be.
pub(crate) fn decimal(name: &[u32]) -> Option<u64> {
    let digit = |&code: &u32| char::from_u32(code).and_then(|char| char.to_digit(10));
    name.iter().try_fold(0_u64, |number, code| {
        Some(number.saturating_mul(10).saturating_add(u64::from(digit(code)?)))
    })
}

/// A decimal number without the zeros before it.
pub(crate) fn digits(name: &[u32]) -> String {
    let text = printable(name);
    let trimmed = text.trim_start_matches('0');
    if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
}
