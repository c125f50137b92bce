//! A compiled pattern and what can be done with it.

use std::ops::Range;

use crate::ast::Node;
use crate::backtrack::Backtracker;
use crate::error::{Error, StepLimit};
use crate::linear::{Linear, may_match};
use crate::literals::{Literals, required};
use crate::parse::{Parsed, parse};
use crate::program::Program;
use crate::template::{Part, Template};
use crate::text::{AsciiText, Text, WideText};

/// A Python regular expression, used like `re.match` and `re.sub` on paths that may not be UTF-8.
///
/// Bytes that are not UTF-8 count as Python's `surrogateescape` has them: one character each, matched by `.`, `\W` and
/// `\S`.
///
/// Matching takes time in proportion to the path where [`Pattern::is_linear`]. Where it is not, and for some paths
/// where it is, the backtracking engine works under a limit on its steps: hence [`StepLimit`].
#[derive(Debug)]
pub struct Pattern {
    source: Box<[u8]>,
    /// Name of each group by number, the whole match included.
    names: Box<[Option<Box<str>>]>,
    literals: Literals,
    /// `None` if the pattern is not regular.
    linear: Option<Linear>,
    program: Program,
    ends_anchored: bool,
}

/// One group of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Number of the group; 0 is the whole match.
    pub index: usize,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Where in the path, in bytes; `None` if it took no part in the match.
    pub range: Option<Range<usize>>,
}

/// Result of [`Pattern::sub_parts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substituted {
    /// The whole result.
    pub bytes: Vec<u8>,
    /// How many leading bytes are certain to be literal text of the template; what follows may be of the path's
    /// choosing. 0 unless the first match begins at the start of the path and the template begins with literal text.
    pub literal_prefix_len: usize,
}

impl Pattern {
    /// Compiles a pattern. Automata for matching are built when the first path needs them.
    ///
    /// # Errors
    /// [`Error::Syntax`] where CPython's `re.compile` fails, with its text; [`Error::Unsupported`] for what can't be
    /// honoured faithfully: `\N{…}`, nesting beyond 200 levels, sources beyond 64 KiB, counted repeats beyond 65,536
    /// steps.
    pub fn new(source: &[u8]) -> Result<Pattern, Error> {
        let parsed = parse(source)?;
        let program = Program::new(&parsed)?;
        let Parsed { node, names, .. } = parsed;
        Ok(Pattern {
            source: source.into(),
            names: names.into(),
            literals: Literals::new(&node),
            linear: node.is_regular().then(Linear::default),
            ends_anchored: node.ends_anchored(),
            program,
        })
    }

    /// The source.
    pub fn as_bytes(&self) -> &[u8] {
        &self.source
    }

    /// Whether the pattern matches at the start of `path`, as `re.match` does; it need not match to the end.
    ///
    /// # Errors
    /// [`StepLimit`] if the backtracking engine gives up.
    #[inline]
    pub fn is_match(&self, path: &[u8]) -> Result<bool, StepLimit> {
        if let Some(is_match) = self.literals.is_match(path) {
            return Ok(is_match);
        }
        let prefix = self.literals.prefix();
        let linear = self.linear.as_ref();
        match linear.and_then(|linear| linear.is_match(&self.source, prefix, path)) {
            Some(is_match) => Ok(is_match),
            None => self.backtracks_to_match(path),
        }
    }

    /// The groups of a match at the start of `path`, the whole match first; `None` if there is no match.
    ///
    /// # Errors
    /// [`StepLimit`] if the backtracking engine gives up.
    pub fn captures(&self, path: &[u8]) -> Result<Option<Vec<Capture>>, StepLimit> {
        if path.is_ascii() {
            self.captures_in(&AsciiText(path))
        } else {
            self.captures_in(&WideText::new(path))
        }
    }

    /// `re.sub`: every match in `path` is replaced, what matches nothing stays. An empty match counts unless it touches
    /// another empty one (Python 3.7 and newer).
    ///
    /// Differs: a leading `(?a:…)` holds in `sub` as it does in `match` (test `scoped_flags_hold_in_sub`).
    ///
    /// # Errors
    /// [`StepLimit`] if the backtracking engine gives up.
    pub fn sub(&self, template: &Template, path: &[u8]) -> Result<Vec<u8>, StepLimit> {
        self.sub_parts(template, path).map(|substituted| substituted.bytes)
    }

    /// As [`Pattern::sub`], and says how much of the result's start is the template's own text.
    ///
    /// # Errors
    /// [`StepLimit`] if the backtracking engine gives up.
    pub fn sub_parts(&self, template: &Template, path: &[u8]) -> Result<Substituted, StepLimit> {
        if self.literals.is_sole_match(path) {
            return Ok(self.sub_whole(template, path));
        }
        if path.is_ascii() {
            self.sub_in(template, &AsciiText(path), path)
        } else {
            self.sub_in(template, &WideText::new(path), path)
        }
    }

    /// Whether matching is linear in the length of the path. If not (look-around, back references, conditions, atomic
    /// groups, possessive repeats), a path can take so many steps that the engine gives up.
    ///
    /// A regular pattern needs the backtracking engine too, for `sub` and for paths that hold newlines or bytes that
    /// are not UTF-8; there it remembers where it failed and needs at most some steps for each place of the pattern and
    /// pair of characters.
    pub fn is_linear(&self) -> bool {
        self.linear.is_some()
    }

    /// Whether every match ends at the end of the path (`$` or `\Z`), a final newline aside. If not, [`Pattern::sub`]
    /// keeps what follows the match.
    pub fn ends_anchored(&self) -> bool {
        self.ends_anchored
    }

    /// Bytes of memory that the pattern takes now, its automaton over ASCII included, a lazy one for other paths
    /// excluded.
    pub fn memory_usage(&self) -> usize {
        size_of::<Pattern>()
            + self.source.len()
            + self.names.len() * size_of::<Option<Box<str>>>()
            + self.program.memory_usage()
            + self.linear.as_ref().map_or(0, Linear::ascii_bytes)
    }

    /// What the path of every match begins with.
    pub fn prefix(&self) -> &[u8] {
        self.literals.prefix()
    }

    /// Whether something right in a directory may match, if it has the right name; true where nothing is known.
    pub fn may_match_in(&self, directory: &[u8]) -> bool {
        self.may_match_after(directory, |byte| byte != b'/')
    }

    /// The same of something at any depth below a directory.
    pub fn may_match_below(&self, directory: &[u8]) -> bool {
        self.may_match_after(directory, |_| true)
    }

    fn may_match_after(&self, directory: &[u8], may_follow: fn(u8) -> bool) -> bool {
        let slash: &[u8] = if directory == b"/" { b"" } else { b"/" };
        let beginning = [directory, slash].concat();
        let shared = self.prefix().len().min(beginning.len());
        self.prefix()[..shared] == beginning[..shared]
            && may_match(&self.source, &beginning, may_follow).unwrap_or(true)
    }

    /// Number of the last group.
    pub(crate) fn last_group(&self) -> usize {
        self.names.len() - 1
    }

    /// Number of the group with this name.
    pub(crate) fn named_group(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known.as_deref() == Some(name))
    }

    /// Literals that every match contains somewhere.
    pub(crate) fn required_literals(&self) -> Vec<Vec<u8>> {
        let node = parse(&self.source).map_or(Node::Fail, |parsed| parsed.node);
        required(&node)
    }

    fn backtracks_to_match(&self, path: &[u8]) -> Result<bool, StepLimit> {
        if path.is_ascii() {
            Backtracker::new(&self.program, &AsciiText(path)).match_at(0)
        } else {
            Backtracker::new(&self.program, &WideText::new(path)).match_at(0)
        }
    }

    fn captures_in<T: Text>(&self, text: &T) -> Result<Option<Vec<Capture>>, StepLimit> {
        let mut backtracker = Backtracker::new(&self.program, text);
        if !backtracker.match_at(0)? {
            return Ok(None);
        }
        let capture = |(index, name): (usize, &Option<Box<str>>)| Capture {
            index,
            name: name.as_deref().map(str::to_owned),
            range: group_range(&backtracker, text, index),
        };
        Ok(Some(self.names.iter().enumerate().map(capture).collect()))
    }

    /// A substitution in a path that matches as a whole and in one way only.
    fn sub_whole(&self, template: &Template, path: &[u8]) -> Substituted {
        let literal_prefix_len = template.literal_prefix().len();
        let mut bytes = Vec::with_capacity(path.len() + literal_prefix_len);
        expand(template, path, &mut bytes, |group| self.literals.group(group, path.len()));
        Substituted { bytes, literal_prefix_len }
    }

    fn sub_in<T: Text>(&self, template: &Template, text: &T, path: &[u8]) -> Result<Substituted, StepLimit> {
        let mut backtracker = Backtracker::new(&self.program, text);
        let mut bytes = Vec::with_capacity(path.len() + template.literal_prefix().len());
        let mut literal_prefix_len = 0;
        // End of the last match, and whether that was empty: then an empty one at the same place doesn't count.
        let (mut done, mut after_empty) = (0, false);
        while backtracker.find(done, after_empty)? {
            let (start, end) = backtracker.group(0).expect("group 0 is set by every match");
            if start == 0 && bytes.is_empty() {
                literal_prefix_len = template.literal_prefix().len();
            }
            bytes.extend_from_slice(&path[text.byte_offset(done)..text.byte_offset(start)]);
            expand(template, path, &mut bytes, |group| group_range(&backtracker, text, group));
            (done, after_empty) = (end, start == end);
        }
        bytes.extend_from_slice(&path[text.byte_offset(done)..]);
        Ok(Substituted { bytes, literal_prefix_len })
    }
}

/// Appends the template's text; `group` says where in the path a group is.
fn expand(
    template: &Template,
    path: &[u8],
    bytes: &mut Vec<u8>,
    group: impl Fn(usize) -> Option<Range<usize>>,
) {
    for part in template.parts() {
        match part {
            Part::Literal(literal) => bytes.extend_from_slice(literal),
            Part::Group(number) => bytes.extend_from_slice(&path[group(*number).unwrap_or_default()]),
        }
    }
}

/// `None` also for a group that the pattern doesn't have, which a template made for another pattern may name.
fn group_range<T: Text>(backtracker: &Backtracker<'_, T>, text: &T, group: usize) -> Option<Range<usize>> {
    let (start, end) = backtracker.group(group)?;
    Some(text.byte_offset(start)..text.byte_offset(end))
}
