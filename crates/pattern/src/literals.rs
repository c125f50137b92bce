//! Literals that every match contains, known from the pattern alone.
//!
//! Most rules begin with a directory and many end with a suffix. Comparing these bytes refuses most paths without an
//! engine. The comparison is on raw bytes, which is right for any path: its bytes are the bytes of its characters, one
//! after the other.
//!
//! Where the whole pattern is a literal, a run of characters and a literal, a path can match in one way only. Each
//! group then begins and ends at a fixed number of bytes from the start or the end of the path.

use std::ops::Range;

use crate::ast::{Assertion, Node, Repeat, RepeatKind, UNBOUNDED};
use crate::set::Single;
use crate::text::encode;

/// What a path must begin and end with, and whether the pattern asks for anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literals {
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    /// The suffix may be followed by one newline.
    newline_may_follow: bool,
    shape: Shape,
    /// Where each group begins and ends, the whole match first. Empty unless every match takes the whole path, at least
    /// a character, and can do so in one way only.
    groups: Box<[(Edge, Edge)]>,
}

/// A place in a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    FromStart(u32),
    FromEnd(u32),
}

impl Edge {
    fn offset(self, path_len: usize) -> usize {
        match self {
            Edge::FromStart(bytes) => bytes as usize,
            Edge::FromEnd(bytes) => path_len - bytes as usize,
        }
    }
}

/// Patterns so simple that comparing bytes is all it takes: most rules are of these shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The prefix, and then anything or nothing: `^/src/`, `^/src/(.*)`.
    Prefix,
    /// The prefix and the end: `^/src/sub$`.
    Exact,
    /// The prefix, a run of at least `min` characters other than `except`, the suffix and the end: `^/src/(.*)\.tmp$`.
    Between { except: Option<u8>, min: usize },
    /// Anything else.
    Other,
}

impl Literals {
    pub(crate) fn new(node: &Node) -> Literals {
        let Outline { pieces, groups } = Outline::new(node);
        let is_char = |piece: &Piece| matches!(piece, Piece::Char(_));
        let prefix_len = pieces.iter().position(|piece| !is_char(piece)).unwrap_or(pieces.len());
        let (mut suffix, mut newline_may_follow) = (Vec::new(), false);
        if let Some((Piece::End { newline_may_follow: may }, before)) = pieces.split_last() {
            let start = before.iter().rposition(|piece| !is_char(piece));
            suffix = bytes(&before[start.map_or(0, |index| index + 1)..]);
            newline_may_follow = *may;
        }
        let shape = shape(&pieces, prefix_len);
        let prefix = bytes(&pieces[..prefix_len]);
        let has_one_way = match shape {
            Shape::Exact => !prefix.is_empty(),
            Shape::Between { min, .. } => prefix.len() + suffix.len() + min > 0,
            Shape::Prefix | Shape::Other => false,
        };
        let edge = |piece| edge(&pieces, prefix_len, piece);
        let edges = |group: &Range<usize>| (edge(group.start), edge(group.end));
        Literals {
            prefix: prefix.into(),
            suffix: suffix.into(),
            newline_may_follow,
            shape,
            groups: if has_one_way { groups.iter().map(edges).collect() } else { Box::default() },
        }
    }

    /// What every match begins with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether the pattern matches at the start of `path`; `None` if comparing bytes does not decide it.
    #[inline]
    pub(crate) fn is_match(&self, path: &[u8]) -> Option<bool> {
        if !self.prefix.is_empty() && !path.starts_with(&self.prefix) {
            return Some(false);
        }
        if self.shape == Shape::Prefix {
            return Some(true);
        }
        if !self.suffix.is_empty() && !path.ends_with(&self.suffix) {
            let may_match = self.newline_may_follow
                && path.strip_suffix(b"\n").is_some_and(|path| path.ends_with(&self.suffix));
            return if may_match { None } else { Some(false) };
        }
        if self.newline_may_follow && path.last() == Some(&b'\n') {
            return None;
        }
        match self.shape {
            Shape::Prefix => Some(true),
            Shape::Exact => Some(path.len() == self.prefix.len()),
            Shape::Between { except, min } => {
                let fixed_len = self.prefix.len() + self.suffix.len();
                if path.len() < fixed_len + min {
                    return Some(false);
                }
                let run = &path[self.prefix.len()..path.len() - self.suffix.len()];
                Some(except.is_none_or(|except| memchr::memchr(except, run).is_none()))
            }
            Shape::Other => None,
        }
    }

    /// Whether the path matches as a whole and in one way only, so that [`Literals::group`] says what the groups hold
    /// and nothing else in the path matches.
    pub(crate) fn is_sole_match(&self, path: &[u8]) -> bool {
        !self.groups.is_empty() && self.is_match(path) == Some(true)
    }

    /// What a group holds of such a path of so many bytes; `None` if there is no group of this number.
    pub(crate) fn group(&self, number: usize, path_len: usize) -> Option<Range<usize>> {
        let (start, end) = self.groups.get(number)?;
        Some(start.offset(path_len)..end.offset(path_len))
    }
}

/// Where a piece begins in a path whose only run, if there is one, follows the prefix.
fn edge(pieces: &[Piece], prefix_len: usize, piece: usize) -> Edge {
    if piece <= prefix_len {
        Edge::FromStart(bytes(&pieces[..piece]).len() as u32)
    } else {
        Edge::FromEnd(bytes(&pieces[piece..]).len() as u32)
    }
}

/// A byte that is no character in the pattern may be part of a character in a path: then comparing bytes proves
/// nothing.
fn shape(pieces: &[Piece], prefix_len: usize) -> Shape {
    if pieces.iter().any(Piece::is_escaped_byte) {
        return Shape::Other;
    }
    match &pieces[prefix_len..] {
        [] | [Piece::Run { min: 0, .. }] => Shape::Prefix,
        [Piece::End { .. }] => Shape::Exact,
        [Piece::Run { except, min }, suffix @ .., Piece::End { .. }]
            if suffix.iter().all(|piece| matches!(piece, Piece::Char(_))) =>
        {
            Shape::Between { except: *except, min: *min }
        }
        _ => Shape::Other,
    }
}

/// All literals that every match contains somewhere.
pub(crate) fn required(node: &Node) -> Vec<Vec<u8>> {
    let pieces = Outline::new(node).pieces;
    pieces.split(|piece| !matches!(piece, Piece::Char(_))).filter(|run| !run.is_empty()).map(bytes).collect()
}

/// A pattern as a row of pieces, for what a match must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Char(u32),
    /// The end of the path.
    End {
        newline_may_follow: bool,
    },
    /// Characters other than `except`, at least `min` (0 or 1) of them, as many as it takes.
    Run {
        except: Option<u8>,
        min: usize,
    },
    /// Anything.
    Gap,
    /// Nothing, on a condition.
    Condition,
}

impl Piece {
    fn is_escaped_byte(&self) -> bool {
        matches!(self, Piece::Char(code) if char::from_u32(*code).is_none())
    }
}

/// All pieces of a pattern, and which of them are in which group.
struct Outline {
    /// A leading `^` is left out, since matching begins at the start anyway.
    pieces: Vec<Piece>,
    /// By number, the whole match first. Those inside of a gap or a condition are not known, and those behind it have
    /// another place: they are of use only where there is neither.
    groups: Vec<Range<usize>>,
}

impl Outline {
    fn new(node: &Node) -> Outline {
        let mut outline = Outline { pieces: Vec::new(), groups: Vec::new() };
        outline.push_group(node);
        outline
    }

    fn push_group(&mut self, node: &Node) {
        let (number, start) = (self.groups.len(), self.pieces.len());
        self.groups.push(start..start);
        self.push(node);
        self.groups[number].end = self.pieces.len();
    }

    fn push(&mut self, node: &Node) {
        let pieces = &mut self.pieces;
        match node {
            Node::Single(Single::Char(code)) => pieces.push(Piece::Char(*code)),
            Node::Sequence(nodes) => nodes.iter().for_each(|node| self.push(node)),
            Node::Group(_, node) => self.push_group(node),
            Node::Atomic(node) => self.push_atomic(node),
            Node::Repeat(repeat) => {
                if let Some(run) = run(repeat) {
                    return pieces.push(run);
                }
                if repeat.min > 0 {
                    self.push(&repeat.node);
                }
                self.pieces.push(Piece::Gap);
            }
            Node::Assertion(Assertion::Start | Assertion::LineStart) if pieces.is_empty() => {}
            Node::Assertion(Assertion::End) => pieces.push(Piece::End { newline_may_follow: false }),
            Node::Assertion(Assertion::EndOrFinalNewline) => {
                pieces.push(Piece::End { newline_may_follow: true });
            }
            Node::Assertion(_) | Node::Look(_) => pieces.push(Piece::Condition),
            Node::Single(_)
            | Node::Alternation(_)
            | Node::Backreference(..)
            | Node::Conditional(_)
            | Node::Fail => pieces.push(Piece::Gap),
        }
    }

    /// A run in an atomic group doesn't give back what follows it.
    fn push_atomic(&mut self, node: &Node) {
        let start = self.pieces.len();
        self.push(node);
        for piece in &mut self.pieces[start..] {
            if let Piece::Run { .. } = piece {
                *piece = Piece::Gap;
            }
        }
    }
}

fn run(repeat: &Repeat) -> Option<Piece> {
    let is_run = repeat.min <= 1 && repeat.max == UNBOUNDED && repeat.kind != RepeatKind::Possessive;
    let Node::Single(single) = &repeat.node else { return None };
    let except = single.only_exception();
    (is_run && (except.is_some() || single.is_any()))
        .then_some(Piece::Run { except, min: repeat.min as usize })
}

fn bytes(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        if let Piece::Char(code) = piece {
            encode(*code, &mut bytes);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn literals(source: &str) -> Literals {
        Literals::new(&parse(source.as_bytes()).unwrap().node)
    }

    #[test]
    fn prefix_suffix_and_shape() {
        let between = |except: u8, min| Shape::Between { except: Some(except), min };
        for (source, prefix, suffix, shape) in [
            ("^/src/(?P<path>.*)\\.to_move$", "/src/", ".to_move", between(b'\n', 0)),
            ("^/src/([^/]+)\\Z", "/src/", "", between(b'/', 1)),
            ("(?s)/src/.*?x$", "/src/", "x", Shape::Between { except: None, min: 0 }),
            ("/src/skip", "/src/skip", "", Shape::Prefix),
            ("/src/(.*)", "/src/", "", Shape::Prefix),
            ("/src/.+", "/src/", "", Shape::Other),
            ("/src/.*a", "/src/", "", Shape::Other),
            ("/src/(?>.*)a$", "/src/", "a", Shape::Other),
            ("/src/.*+a$", "/src/", "a", Shape::Other),
            ("/src/a?", "/src/", "", Shape::Other),
            ("/src/a+$", "/src/a", "", Shape::Other),
            ("(/src)/(a|b)c\\Z", "/src/", "c", Shape::Other),
            ("/src$", "/src", "/src", Shape::Exact),
            ("(?i)/src/x", "/", "", Shape::Other),
            ("/src/\\udcff", "/src/", "", Shape::Other),
            ("", "", "", Shape::Prefix),
            ("a|b", "", "", Shape::Other),
            ("/a(?!b)", "/a", "", Shape::Other),
            ("/a(?m:$)", "/a", "", Shape::Other),
        ] {
            let literals = literals(source);
            let prefix_kept = literals.prefix.starts_with(prefix.as_bytes());
            assert!(prefix_kept, "{source}");
            assert_eq!(&*literals.suffix, suffix.as_bytes(), "{source}");
            assert_eq!(literals.shape, shape, "{source}");
        }
    }

    #[test]
    fn a_final_newline_is_left_to_the_engines() {
        assert_eq!(literals("/a$").is_match(b"/a\n"), None);
        assert_eq!(literals("/a\\Z").is_match(b"/a\n"), Some(false));
        assert_eq!(literals("/a$").is_match(b"/b\n"), Some(false));
        assert_eq!(literals("/a.*$").is_match(b"/a\n"), None);
    }

    #[test]
    fn prefix_and_suffix_share_no_byte() {
        assert_eq!(literals("/a(.*)a$").is_match(b"/a"), Some(false));
        assert_eq!(literals("/a(.*)a$").is_match(b"/aa"), Some(true));
        assert_eq!(literals("/a(.+)a$").is_match(b"/aa"), Some(false));
    }

    #[test]
    fn groups_of_the_only_match() {
        for (source, path, groups) in [
            ("^/src/(?P<path>.*)\\.dat$", "/src/a/b.dat", &["/src/a/b.dat", "a/b"][..]),
            ("(/(s)rc/)(x?)", "/src/", &[]),
            (
                "^(/(src))()/([^/]+)(\\.(d)at)($)",
                "/src/é.dat",
                &["/src/é.dat", "/src", "src", "", "é", ".dat", "d", ""],
            ),
            ("^/(src)$", "/src", &["/src", "src"]),
            ("(.*)$", "/src", &[]),
            ("/src/(.*)", "/src/a", &[]),
        ] {
            let literals = literals(source);
            assert_eq!(literals.is_sole_match(path.as_bytes()), !groups.is_empty(), "{source}");
            let held = (0..groups.len()).map(|number| &path[literals.group(number, path.len()).unwrap()]);
            assert_eq!(held.collect::<Vec<_>>(), groups, "{source}");
            assert_eq!(literals.group(groups.len(), path.len()), None, "{source}");
        }
    }

    #[test]
    fn required_runs() {
        let runs = required(&parse(b"^/a/(.*)/(x|y)z(?:q+)r?").unwrap().node);
        assert_eq!(runs, [&b"/a/"[..], b"/", b"zq"]);
    }
}
