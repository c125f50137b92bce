//! Inline flags: `(?im)` for the whole pattern, `(?i-s:…)` for a group.

use super::tokens::{Token, Tokens};
use crate::error::Error;

/// A set of Python's flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) const IGNORE_CASE: Flags = Flags(1);
    pub(crate) const MULTI_LINE: Flags = Flags(2);
    pub(crate) const DOT_ALL: Flags = Flags(4);
    pub(crate) const VERBOSE: Flags = Flags(8);
    pub(crate) const ASCII: Flags = Flags(16);
    const UNICODE: Flags = Flags(32);
    /// The kind of characters: one of them at most.
    const KINDS: Flags = Flags(16 | 32);

    pub(crate) fn contains(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The flags inside a group that adds and removes some.
    pub(crate) fn scoped(self, added: Flags, removed: Flags) -> Flags {
        let kept = if added.contains(Flags::KINDS) { self.0 & !Flags::KINDS.0 } else { self.0 };
        Flags((kept | added.0) & !removed.0)
    }

    /// `(?a)` and `(?u)` at once, which only separate groups can bring about.
    pub(crate) fn kinds_conflict(self) -> bool {
        self.0 & Flags::KINDS.0 == Flags::KINDS.0
    }

    fn of(token: Token) -> Option<Flags> {
        match token.ascii()? {
            b'i' => Some(Flags::IGNORE_CASE),
            b'm' => Some(Flags::MULTI_LINE),
            b's' => Some(Flags::DOT_ALL),
            b'x' => Some(Flags::VERBOSE),
            b'a' => Some(Flags::ASCII),
            b'u' => Some(Flags::UNICODE),
            _ => None,
        }
    }
}

/// What stood between `(?` and `)` or `:`.
pub(super) enum FlagGroup {
    /// `(?im)`: for the whole pattern.
    Global(Flags),
    /// `(?im-s:`: for the group that begins here.
    Scoped { added: Flags, removed: Flags },
}

/// Whether `token` can begin a flag group.
pub(super) fn begins_flags(token: Token) -> bool {
    token.is('-') || token.is('L') || Flags::of(token).is_some()
}

/// Reads the rest of a flag group whose first token, `first`, is taken already.
pub(super) fn parse_flags(tokens: &mut Tokens, first: Token) -> Result<FlagGroup, Error> {
    let mut added = Flags::default();
    let mut token = first;
    if !token.is('-') {
        (added, token) = parse_added(tokens, first)?;
    }
    if token.is(')') {
        return Ok(FlagGroup::Global(added));
    }
    let mut removed = Flags::default();
    if token.is('-') {
        removed = parse_removed(tokens)?;
    }
    if added.contains(removed) {
        return Err(tokens.error("bad inline flags: flag turned on and off", 1));
    }
    Ok(FlagGroup::Scoped { added, removed })
}

fn parse_added(tokens: &mut Tokens, first: Token) -> Result<(Flags, Token), Error> {
    let mut added = Flags::default();
    let mut token = first;
    loop {
        if token.is('L') {
            return Err(tokens.error("bad inline flags: cannot use 'L' flag with a str pattern", 0));
        }
        let Some(flag) = Flags::of(token) else {
            return Err(unknown_flag(tokens, token, "missing -, : or )"));
        };
        added = added.with(flag);
        if added.kinds_conflict() {
            let message = "bad inline flags: flags 'a', 'u' and 'L' are incompatible";
            return Err(tokens.error(message, 0));
        }
        token = tokens.take()?.ok_or_else(|| tokens.error("missing -, : or )", 0))?;
        if token.is(')') || token.is('-') || token.is(':') {
            return Ok((added, token));
        }
    }
}

fn parse_removed(tokens: &mut Tokens) -> Result<Flags, Error> {
    let mut removed = Flags::default();
    let mut missing = "missing flag";
    loop {
        let token = tokens.take()?.ok_or_else(|| tokens.error(missing, 0))?;
        if token.is(':') && removed != Flags::default() {
            return Ok(removed);
        }
        match Flags::of(token) {
            Some(flag) if !flag.contains(Flags::KINDS) => removed = removed.with(flag),
            None if !token.is('L') => return Err(unknown_flag(tokens, token, missing)),
            Some(_) | None => {
                let message = "bad inline flags: cannot turn off flags 'a', 'u' and 'L'";
                return Err(tokens.error(message, 0));
            }
        }
        missing = "missing :";
    }
}

fn unknown_flag(tokens: &Tokens, token: Token, missing: &str) -> Error {
    let is_letter =
        matches!(token, Token::Char(code) if char::from_u32(code).is_some_and(char::is_alphabetic));
    tokens.error(if is_letter { "unknown flag" } else { missing }, token.len())
}
