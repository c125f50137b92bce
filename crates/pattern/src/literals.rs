//! Text that every match must hold, known from the pattern alone.
//!
//! Most rules begin with a directory and many end with a suffix. Comparing these bytes refuses most paths before any
//! engine is asked. The comparison is on raw bytes, which is right for any path: its bytes are the bytes of its
//! characters, one after the other.

use crate::ast::{Assertion, Node, Repeat, RepeatKind, UNBOUNDED};
use crate::set::Single;
use crate::text::encode;

/// What must stand at the start and at the end of a path, and whether that is all there is to the pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literals {
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    /// The suffix may be followed by one newline.
    newline_may_follow: bool,
    shape: Shape,
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
        let pieces = pieces(node);
        let is_char = |piece: &Piece| matches!(piece, Piece::Char(_));
        let prefix_len = pieces.iter().position(|piece| !is_char(piece)).unwrap_or(pieces.len());
        let (mut suffix, mut newline_may_follow) = (Vec::new(), false);
        if let Some((Piece::End { newline_may_follow: may }, before)) = pieces.split_last() {
            let start = before.iter().rposition(|piece| !is_char(piece));
            suffix = bytes(&before[start.map_or(0, |index| index + 1)..]);
            newline_may_follow = *may;
        }
        Literals {
            prefix: bytes(&pieces[..prefix_len]).into(),
            suffix: suffix.into(),
            newline_may_follow,
            shape: shape(&pieces, prefix_len),
        }
    }

    /// What every match begins with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether the pattern matches at the start of `path`, as far as comparing bytes can tell. A "no" is nearly always
    /// certain here.
    #[inline]
    pub(crate) fn is_match(&self, path: &[u8]) -> Option<bool> {
        if !path.starts_with(&self.prefix) {
            return Some(false);
        }
        if self.shape == Shape::Prefix {
            return Some(true);
        }
        if !path.ends_with(&self.suffix) {
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
}

/// Bytes that are no characters of their own in a pattern may be part of one in a path: then comparing bytes is no proof.
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

/// All runs of characters that every match holds somewhere.
pub(crate) fn required(node: &Node) -> Vec<Vec<u8>> {
    let pieces = pieces(node);
    pieces.split(|piece| !matches!(piece, Piece::Char(_))).filter(|run| !run.is_empty()).map(bytes).collect()
}

/// A pattern seen from far: what it requires in a row.
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

/// A leading `^` is left out, since matching begins at the start anyway.
fn pieces(node: &Node) -> Vec<Piece> {
    let mut pieces = Vec::new();
    push_pieces(node, &mut pieces);
    pieces
}

fn push_pieces(node: &Node, pieces: &mut Vec<Piece>) {
    match node {
        Node::Single(Single::Char(code)) => pieces.push(Piece::Char(*code)),
        Node::Sequence(nodes) => nodes.iter().for_each(|node| push_pieces(node, pieces)),
        Node::Group(_, node) => push_pieces(node, pieces),
        Node::Atomic(node) => push_atomic(node, pieces),
        Node::Repeat(repeat) => {
            if let Some(run) = run(repeat) {
                return pieces.push(run);
            }
            if repeat.min > 0 {
                push_pieces(&repeat.node, pieces);
            }
            pieces.push(Piece::Gap);
        }
        Node::Assertion(Assertion::Start | Assertion::LineStart) if pieces.is_empty() => {}
        Node::Assertion(Assertion::End) => pieces.push(Piece::End { newline_may_follow: false }),
        Node::Assertion(Assertion::EndOrFinalNewline) => pieces.push(Piece::End { newline_may_follow: true }),
        Node::Assertion(_) | Node::Look(_) => pieces.push(Piece::Condition),
        Node::Single(_)
        | Node::Alternation(_)
        | Node::Backreference(..)
        | Node::Conditional(_)
        | Node::Fail => pieces.push(Piece::Gap),
    }
}

/// A run in an atomic group doesn't give back what follows it.
fn push_atomic(node: &Node, pieces: &mut Vec<Piece>) {
    let start = pieces.len();
    push_pieces(node, pieces);
    for piece in &mut pieces[start..] {
        if let Piece::Run { .. } = piece {
            *piece = Piece::Gap;
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
    fn required_runs() {
        let runs = required(&parse(b"^/a/(.*)/(x|y)z(?:q+)r?").unwrap().node);
        assert_eq!(runs, [&b"/a/"[..], b"/", b"zq"]);
    }
}
