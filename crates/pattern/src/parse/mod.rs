//! From the source of a pattern to its [`Node`]s, accepting what CPython 3.11 to 3.13 accept (and 3.14's `\z`) and
//! refusing, with their texts and positions, what they refuse.
//!
//! Inline flags for the whole pattern stand at its very start, so that every character's meaning is known when it is
//! read: flags never leave this module.

mod escape;
mod flags;
mod group;
mod set;
mod tokens;

pub(crate) use escape::{checked_octal, control_escape, is_digit, is_octal};
pub(crate) use group::{decimal, digits};
pub(crate) use tokens::{Token, Tokens};

use crate::ast::{Assertion, Node, Repeat, RepeatKind, UNBOUNDED, Width};
use crate::error::{Error, Place};
use crate::set::{Fold, Single};
use crate::text::{decode, repr};
use flags::Flags;

/// Longest source in bytes. Far above anything that a person writes; keeps what follows in proportion.
const SOURCE_MAX: usize = 64 * 1024;
/// How deep parentheses may nest: parsing and compiling recurse, and each level costs a few hundred bytes of stack in
/// each. CPython's own recursion limit stops at a few hundred as well.
const DEPTH_MAX: u32 = 200;
/// CPython's bound on the counts of `{…}`.
const REPEAT_MAX: u64 = u32::MAX as u64;

/// A pattern that was read.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) node: Node,
    /// Name of each group by number, group 0 (the whole match) included.
    pub(crate) names: Vec<Option<Box<str>>>,
    /// Widths by group number, for look-behinds.
    pub(crate) widths: Vec<Width>,
}

/// Reads a pattern.
pub(crate) fn parse(source: &[u8]) -> Result<Parsed, Error> {
    if source.len() > SOURCE_MAX {
        let construct = format!("a pattern of {} bytes (limit {SOURCE_MAX})", source.len());
        let advice = "split it into several patterns";
        return Err(Error::Unsupported { construct, place: Place::default(), advice });
    }
    let mut parser = Parser::new(Tokens::new(decode(source))?);
    let node = parser.parse_alternation_at_top()?;
    parser.finish(node)
}

struct Group {
    name: Option<Vec<u32>>,
    is_closed: bool,
}

struct Parser {
    tokens: Tokens,
    /// In force at this point.
    flags: Flags,
    /// By number; 0 is the whole match, which is never closed.
    groups: Vec<Group>,
    /// By group number; zero while the group is open.
    widths: Vec<Width>,
    /// Groups and positions that conditions named by number.
    conditions: Vec<(u32, usize)>,
    /// Inside a look-behind: how many groups there were before it.
    look_behind_groups: Option<usize>,
    depth: u32,
}

impl Parser {
    fn new(tokens: Tokens) -> Parser {
        Parser {
            tokens,
            flags: Flags::default(),
            groups: vec![Group { name: None, is_closed: false }],
            widths: vec![Width::ZERO],
            conditions: Vec::new(),
            look_behind_groups: None,
            depth: 0,
        }
    }

    fn finish(self, node: Node) -> Result<Parsed, Error> {
        if self.flags.kinds_conflict() {
            let message = "ASCII and UNICODE flags are incompatible".to_owned();
            return Err(Error::Syntax { message, place: Place::default() });
        }
        if self.tokens.peek().is_some() {
            return Err(self.tokens.error("unbalanced parenthesis", 0));
        }
        for &(group, position) in &self.conditions {
            if group as usize >= self.groups.len() {
                return Err(self.tokens.error_at(format!("invalid group reference {group}"), position));
            }
        }
        let name = |group: Group| group.name.map(|name| crate::text::printable(&name).into());
        Ok(Parsed { node, names: self.groups.into_iter().map(name).collect(), widths: self.widths })
    }

    fn parse_alternation_at_top(&mut self) -> Result<Node, Error> {
        let first = self.parse_sequence(true)?;
        self.parse_alternatives(first)
    }

    /// Alternatives up to a `)` or the end.
    fn parse_alternation(&mut self) -> Result<Node, Error> {
        let first = self.parse_sequence(false)?;
        self.parse_alternatives(first)
    }

    fn parse_alternatives(&mut self, first: Node) -> Result<Node, Error> {
        if !self.tokens.peek_is('|') {
            return Ok(first);
        }
        let mut nodes = vec![first];
        while self.tokens.take_if('|')? {
            nodes.push(self.parse_sequence(false)?);
        }
        Ok(Node::Alternation(nodes))
    }

    /// Items up to a `|`, a `)` or the end. Global flags may stand at the start if `first`.
    fn parse_sequence(&mut self, first: bool) -> Result<Node, Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let construct = format!("nesting deeper than {DEPTH_MAX} levels");
            return Err(self.tokens.unsupported(construct, 0, "use fewer parentheses"));
        }
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.peek() {
            if token.is('|') || token.is(')') {
                break;
            }
            self.tokens.take()?;
            if self.flags.contains(Flags::VERBOSE) && self.skip_verbose(token)? {
                continue;
            }
            self.parse_item(token, first, &mut nodes)?;
        }
        self.depth -= 1;
        Ok(Node::Sequence(nodes))
    }

    /// Blanks and comments of `(?x)`.
    fn skip_verbose(&mut self, token: Token) -> Result<bool, Error> {
        match token.ascii() {
            Some(b' ' | b'\t'..=b'\r') => Ok(true),
            Some(b'#') => loop {
                if self.tokens.take()?.is_none_or(|token| token.is('\n')) {
                    return Ok(true);
                }
            },
            _ => Ok(false),
        }
    }

    fn parse_item(&mut self, token: Token, first: bool, nodes: &mut Vec<Node>) -> Result<(), Error> {
        let code = match token {
            Token::Escape(escaped) => {
                nodes.push(self.parse_escape(escaped)?);
                return Ok(());
            }
            Token::Char(code) => code,
        };
        match token.ascii() {
            Some(b'[') => nodes.push(self.parse_set()?),
            Some(b'.') => nodes.push(self.dot()),
            Some(b'^') => nodes.push(self.caret()),
            Some(b'$') => nodes.push(self.dollar()),
            Some(b'(') => nodes.extend(self.parse_parenthesis(first && nodes.is_empty())?),
            Some(byte @ (b'*' | b'+' | b'?' | b'{')) => self.parse_repeat(byte, nodes)?,
            _ => nodes.push(self.literal(code)),
        }
        Ok(())
    }

    /// A repeat whose first character is taken already; it takes the last of `nodes`.
    fn parse_repeat(&mut self, byte: u8, nodes: &mut Vec<Node>) -> Result<(), Error> {
        let start = self.tokens.position() - 1;
        let (min, max) = match byte {
            b'?' => (0, 1),
            b'*' => (0, UNBOUNDED),
            b'+' => (1, UNBOUNDED),
            _ => {
                let Some(counts) = self.parse_counts(start)? else {
                    nodes.push(self.literal(u32::from(byte)));
                    return Ok(());
                };
                counts
            }
        };
        match nodes.last() {
            None | Some(Node::Assertion(_)) => return Err(self.tokens.error_at("nothing to repeat", start)),
            Some(Node::Repeat(_)) => return Err(self.tokens.error_at("multiple repeat", start)),
            Some(
                Node::Single(_)
                | Node::Sequence(_)
                | Node::Alternation(_)
                | Node::Group(..)
                | Node::Look(_)
                | Node::Atomic(_)
                | Node::Backreference(..)
                | Node::Conditional(_)
                | Node::Fail,
            ) => {}
        }
        let kind = if self.tokens.take_if('?')? {
            RepeatKind::Lazy
        } else if self.tokens.take_if('+')? {
            RepeatKind::Possessive
        } else {
            RepeatKind::Greedy
        };
        let node = nodes.pop().expect("a last node was seen above");
        nodes.push(Node::Repeat(Box::new(Repeat { node, min, max, kind })));
        Ok(())
    }

    /// The counts of `{2,3}`; `None` if the brace is a character, as in `{}` or `{x`.
    fn parse_counts(&mut self, start: usize) -> Result<Option<(u32, u32)>, Error> {
        if self.tokens.peek_is('}') {
            return Ok(None);
        }
        let low = self.tokens.take_while(usize::MAX, is_digit)?;
        let high = if self.tokens.take_if(',')? {
            self.tokens.take_while(usize::MAX, is_digit)?
        } else {
            low.clone()
        };
        if !self.tokens.take_if('}')? {
            self.tokens.seek(start + 1)?;
            return Ok(None);
        }
        let min = count(&low)?.unwrap_or(0);
        let max = count(&high)?.unwrap_or(UNBOUNDED);
        if max < min {
            return Err(self.tokens.error_at("min repeat greater than max repeat", start + 1));
        }
        Ok(Some((min, max)))
    }

    fn open_group(&mut self, name: Option<Vec<u32>>) -> Result<u32, Error> {
        let number = self.groups.len();
        if let Some(name) = &name
            && let Some(old) = self.groups.iter().position(|group| group.name.as_ref() == Some(name))
        {
            let name_text = repr(name);
            let message =
                format!("redefinition of group name {name_text} as group {number}; was group {old}");
            return Err(self.tokens.error(message, name.len() + 1));
        }
        self.groups.push(Group { name, is_closed: false });
        self.widths.push(Width::ZERO);
        Ok(number as u32)
    }

    fn close_group(&mut self, number: u32, node: &Node) {
        self.widths[number as usize] = node.width(&self.widths);
        self.groups[number as usize].is_closed = true;
    }

    fn fold(&self) -> Fold {
        match (self.flags.contains(Flags::IGNORE_CASE), self.flags.contains(Flags::ASCII)) {
            (false, _) => Fold::None,
            (true, true) => Fold::Ascii,
            (true, false) => Fold::Unicode,
        }
    }

    fn literal(&self, code: u32) -> Node {
        Node::Single(Single::literal(code, self.fold(), false))
    }

    fn dot(&self) -> Node {
        Node::Single(if self.flags.contains(Flags::DOT_ALL) { Single::Any } else { Single::NotNewline })
    }

    fn caret(&self) -> Node {
        let by_line = self.flags.contains(Flags::MULTI_LINE);
        Node::Assertion(if by_line { Assertion::LineStart } else { Assertion::Start })
    }

    fn dollar(&self) -> Node {
        let by_line = self.flags.contains(Flags::MULTI_LINE);
        Node::Assertion(if by_line { Assertion::LineEnd } else { Assertion::EndOrFinalNewline })
    }
}

/// A count of `{…}`; `None` if there is none.
fn count(digits: &str) -> Result<Option<u32>, Error> {
    if digits.is_empty() {
        return Ok(None);
    }
    let value = digits
        .bytes()
        .fold(0_u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    if value >= REPEAT_MAX {
        let message = "the repetition number is too large".to_owned();
        return Err(Error::Syntax { message, place: Place::default() });
    }
    Ok(Some(value as u32))
}
