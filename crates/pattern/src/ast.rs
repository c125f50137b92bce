//! A parsed pattern, and what follows from its structure alone.

use crate::set::{Fold, Single};

/// A repeat without an upper bound.
pub(crate) const UNBOUNDED: u32 = u32::MAX;

/// A piece of a pattern. Inline flags are resolved: they live on in the kinds of characters and assertions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// One character.
    Single(Single),
    /// One after the other; empty matches the empty string.
    Sequence(Vec<Node>),
    /// The first that leads to a match.
    Alternation(Vec<Node>),
    /// A capturing group with its number, from 1.
    Group(u32, Box<Node>),
    /// A repeat.
    Repeat(Box<Repeat>),
    /// A condition on the position.
    Assertion(Assertion),
    /// Look-ahead or look-behind.
    Look(Box<Look>),
    /// `(?>…)`
    Atomic(Box<Node>),
    /// `\1`, `(?P=name)`
    Backreference(u32, Fold),
    /// `(?(1)yes|no)`
    Conditional(Box<Conditional>),
    /// `(?!)`: never matches.
    Fail,
}

/// `*`, `+`, `?`, `{…}` in their three kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    pub(crate) node: Node,
    pub(crate) min: u32,
    /// [`UNBOUNDED`] for none.
    pub(crate) max: u32,
    pub(crate) kind: RepeatKind,
}

/// What a repeat prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RepeatKind {
    /// As many as possible.
    Greedy,
    /// As few as possible.
    Lazy,
    /// As many as possible, and never fewer.
    Possessive,
}

/// A condition on a position in the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assertion {
    /// `^` and `\A`
    Start,
    /// `\Z` and `\z`
    End,
    /// `$`: at the end, or before a newline that ends the subject.
    EndOrFinalNewline,
    /// `^` with `(?m)`
    LineStart,
    /// `$` with `(?m)`
    LineEnd,
    /// `\b`, by the rules of `(?a)` or of Unicode.
    WordBoundary { ascii: bool },
    /// `\B`; false in an empty subject, as in CPython up to 3.13.
    NotWordBoundary { ascii: bool },
}

/// A look-around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) node: Node,
    pub(crate) behind: bool,
    pub(crate) negated: bool,
}

/// A choice by whether a group has matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conditional {
    pub(crate) group: u32,
    pub(crate) yes: Node,
    pub(crate) no: Node,
}

/// Least and greatest number of characters that something matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Width {
    pub(crate) min: u64,
    /// `u64::MAX` if there is no bound.
    pub(crate) max: u64,
}

impl Width {
    pub(crate) const ZERO: Width = Width { min: 0, max: 0 };
    const ONE: Width = Width { min: 1, max: 1 };

    fn then(self, next: Width) -> Width {
        Width { min: self.min.saturating_add(next.min), max: self.max.saturating_add(next.max) }
    }

    fn or(self, other: Width) -> Width {
        Width { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    fn repeated(self, min: u32, max: u32) -> Width {
        let unbounded = max == UNBOUNDED && self.max > 0;
        let max = if unbounded { u64::MAX } else { self.max.saturating_mul(u64::from(max)) };
        Width { min: self.min.saturating_mul(u64::from(min)), max }
    }
}

impl Node {
    /// The widths that it can match; `groups` are those of the groups before it, by number.
    pub(crate) fn width(&self, groups: &[Width]) -> Width {
        match self {
            Node::Single(_) => Width::ONE,
            Node::Sequence(nodes) => {
                nodes.iter().fold(Width::ZERO, |width, node| width.then(node.width(groups)))
            }
            Node::Alternation(nodes) => {
                nodes.iter().map(|node| node.width(groups)).reduce(Width::or).unwrap_or(Width::ZERO)
            }
            Node::Group(_, node) | Node::Atomic(node) => node.width(groups),
            Node::Repeat(repeat) => repeat.node.width(groups).repeated(repeat.min, repeat.max),
            Node::Backreference(group, _) => groups.get(*group as usize).copied().unwrap_or(Width::ZERO),
            Node::Conditional(conditional) => conditional.yes.width(groups).or(conditional.no.width(groups)),
            Node::Assertion(_) | Node::Look(_) | Node::Fail => Width::ZERO,
        }
    }

    /// Whether it surely consumes at least one character each time it matches.
    pub(crate) fn always_consumes(&self) -> bool {
        // Backreferences are taken as empty, which errs on the safe side: a loop around them is guarded.
        self.width(&[]).min > 0
    }

    /// Whether a finite automaton can say it.
    pub(crate) fn is_regular(&self) -> bool {
        match self {
            Node::Single(_) | Node::Assertion(_) | Node::Fail => true,
            Node::Sequence(nodes) | Node::Alternation(nodes) => nodes.iter().all(Node::is_regular),
            Node::Group(_, node) => node.is_regular(),
            Node::Repeat(repeat) => repeat.kind != RepeatKind::Possessive && repeat.node.is_regular(),
            Node::Look(_) | Node::Atomic(_) | Node::Backreference(..) | Node::Conditional(_) => false,
        }
    }

    /// Whether every match ends at the end of the subject, a final newline aside.
    pub(crate) fn ends_anchored(&self) -> bool {
        match self {
            Node::Assertion(Assertion::End | Assertion::EndOrFinalNewline) | Node::Fail => true,
            Node::Sequence(nodes) => sequence_ends_anchored(nodes),
            Node::Alternation(nodes) => nodes.iter().all(Node::ends_anchored),
            Node::Group(_, node) | Node::Atomic(node) => node.ends_anchored(),
            Node::Repeat(repeat) => repeat.min > 0 && repeat.node.ends_anchored(),
            Node::Conditional(conditional) => {
                conditional.yes.ends_anchored() && conditional.no.ends_anchored()
            }
            Node::Look(look) => !look.behind && !look.negated && look.node.is_end_assertion(),
            Node::Single(_)
            | Node::Backreference(..)
            | Node::Assertion(
                Assertion::Start
                | Assertion::LineStart
                | Assertion::LineEnd
                | Assertion::WordBoundary { .. }
                | Assertion::NotWordBoundary { .. },
            ) => false,
        }
    }

    /// A look-ahead that consumes nothing says where we are only if it is an end anchor and nothing else.
    fn is_end_assertion(&self) -> bool {
        self.ends_anchored() && self.width(&[]).max == 0
    }
}

/// What follows an end anchor can at most be empty, so that it doesn't matter where in the sequence the anchor is.
fn sequence_ends_anchored(nodes: &[Node]) -> bool {
    for node in nodes.iter().rev() {
        if node.ends_anchored() {
            return true;
        }
        if node.width(&[]).max > 0 || matches!(node, Node::Backreference(..)) {
            return false;
        }
    }
    false
}
