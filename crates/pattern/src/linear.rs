//! The linear-time engine, `regex-automata`: does the pattern match at the start of the path, yes or no.
//!
//! It takes regular patterns: those without look-around, back references, conditions, atomic groups and possessive
//! repeats. It answers where its result is certain to be CPython's. The path decides:
//!
//! - ASCII: a DFA of the pattern restricted to ASCII, which is small;
//! - other UTF-8: a lazy DFA, unless the pattern ignores case or has word boundaries by Unicode's rules;
//! - anything else (bytes that are not UTF-8, a newline where `$` or `.` depends on it): no answer, the backtracking
//!   engine has one.
//!
//! A pattern builds its automata when the first path needs them.
//!
//! `.*` at the start of a pattern, or after its literal prefix, becomes a search for what follows, and `.*$` at its end
//! is left out. The engine then looks for literals, or reads the path from its end, instead of reading all of it.

use std::collections::HashSet;
use std::sync::OnceLock;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::prefilter::Prefilter;
use regex_automata::{Anchored, Input, MatchKind, meta};
use regex_syntax::hir::{
    Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition,
};

use crate::ast::{Assertion, Node, RepeatKind, UNBOUNDED};
use crate::parse::parse;
use crate::set::Single;

/// Largest DFA over ASCII, in bytes. A typical rule needs 2 to 6 KiB; a larger one gets the lazy DFA.
const DFA_BYTES_MAX: usize = 64 << 10;
/// Most memory while such a DFA is built, in bytes; bounds the time too.
const DETERMINIZE_BYTES_MAX: usize = 512 << 10;
/// Largest NFA, in bytes; repeats with large counts go to the backtracking engine instead.
const NFA_BYTES_MAX: usize = 1 << 20;
/// Memory for the states that the lazy DFA has met, in bytes; it starts over when this is full.
const LAZY_BYTES_MAX: usize = 256 << 10;

/// The linear-time engine of one pattern.
#[derive(Debug, Default)]
pub(crate) struct Linear {
    ascii: OnceLock<Option<Box<Automaton>>>,
    unicode: OnceLock<Option<Box<Automaton>>>,
}

impl Linear {
    /// Whether the pattern matches at the start of `path`, which begins with `prefix`, as every match does; `None` if
    /// the engine has no certain answer.
    pub(crate) fn is_match(&self, source: &[u8], prefix: &[u8], path: &[u8]) -> Option<bool> {
        // `\B` is false in an empty path, and `$` is true before a final newline: the engine knows neither rule.
        if path.last().is_none_or(|last| *last == b'\n') {
            return None;
        }
        if path.is_ascii() {
            let automaton = self.ascii.get_or_init(|| Automaton::new(source, prefix, Alphabet::Ascii));
            if let Some(automaton) = automaton {
                return automaton.is_match(path);
            }
        } else if std::str::from_utf8(path).is_err() {
            return None;
        }
        let automaton = self.unicode.get_or_init(|| Automaton::new(source, prefix, Alphabet::Unicode));
        automaton.as_ref()?.is_match(path)
    }

    /// Bytes that the automaton over ASCII takes; 0 if there is none yet.
    pub(crate) fn ascii_bytes(&self) -> usize {
        self.ascii.get().and_then(Option::as_ref).map_or(0, |ascii| ascii.memory_usage())
    }
}

/// Whether the pattern can match a path that is `beginning` and some characters that may follow; `None` if that is not
/// known.
pub(crate) fn may_match(source: &[u8], beginning: &[u8], may_follow: fn(u8) -> bool) -> Option<bool> {
    if !source.is_ascii() || !beginning.is_ascii() {
        return None;
    }
    let hir = hir(&parse(source).ok()?.node, Alphabet::AsciiAndOne)?;
    let Engine::Forward(dfa) = Engine::dense(&hir, Anchored::Yes)? else { return None };
    let mut state = dfa.start_state_forward(&Input::new("").anchored(Anchored::Yes)).ok()?;
    for byte in beginning {
        state = dfa.next_state(state, *byte);
        if dfa.is_match_state(state) {
            return Some(true);
        }
    }
    let (mut seen, mut todo) = (HashSet::from([state]), vec![state]);
    while let Some(state) = todo.pop() {
        if dfa.is_match_state(state) || dfa.is_match_state(dfa.next_eoi_state(state)) {
            return Some(true);
        }
        let nexts = (1..=u8::MAX).filter(|byte| may_follow(*byte)).map(|byte| dfa.next_state(state, byte));
        todo.extend(nexts.filter(|next| seen.insert(*next)));
    }
    Some(false)
}

/// A pattern as `regex-automata` has it.
#[derive(Debug)]
struct Automaton {
    engine: Engine,
    /// Bytes of the literal prefix, which the caller compares.
    prefix_len: usize,
    /// Whether the match must begin after the prefix, or may begin anywhere from there on.
    anchored: Anchored,
    /// Whether a `.` that does not match newlines was left out: then a match is certain only in a path without
    /// newlines.
    ignores_newlines: bool,
}

impl Automaton {
    fn new(source: &[u8], prefix: &[u8], alphabet: Alphabet) -> Option<Box<Automaton>> {
        let rest = Rest::new(hir(&parse(source).ok()?.node, alphabet)?, prefix, alphabet)?;
        let Rest { pieces, prefix_len, anchored, ignores_newlines } = rest;
        let hir = Hir::concat(pieces);
        let engine = match alphabet {
            Alphabet::Ascii | Alphabet::AsciiAndOne => Engine::dense(&hir, anchored)?,
            Alphabet::Unicode => Engine::lazy(&hir)?,
        };
        Some(Box::new(Automaton { engine, prefix_len, anchored, ignores_newlines }))
    }

    fn is_match(&self, path: &[u8]) -> Option<bool> {
        let input = Input::new(path).range(self.prefix_len..).anchored(self.anchored).earliest(true);
        let is_match = self.engine.is_match(input)?;
        let is_in_doubt = is_match && self.ignores_newlines && memchr::memchr(b'\n', path).is_some();
        (!is_in_doubt).then_some(is_match)
    }

    fn memory_usage(&self) -> usize {
        let dfa_bytes = match &self.engine {
            Engine::Forward(dfa) | Engine::Backward(dfa) => dfa.memory_usage(),
            Engine::Lazy(regex) => regex.memory_usage(),
        };
        size_of::<Automaton>() + dfa_bytes
    }
}

/// One of the engines of `regex-automata`.
#[derive(Debug)]
enum Engine {
    /// A DFA that reads forward; a search needs neither memory nor a lock.
    Forward(dense::DFA<Vec<u32>>),
    /// A DFA that reads backward, where a match may begin anywhere and ends at the end of the path.
    Backward(dense::DFA<Vec<u32>>),
    /// A DFA that is built state by state, when a path leads there.
    Lazy(meta::Regex),
}

impl Engine {
    fn dense(hir: &Hir, anchored: Anchored) -> Option<Engine> {
        let is_search = anchored == Anchored::No;
        let is_backward = is_search && hir.properties().look_set_suffix().contains(Look::End);
        let is_forward_search = is_search && !is_backward;
        let nfa_config = thompson::Config::new()
            .reverse(is_backward)
            .utf8(false)
            .nfa_size_limit(Some(NFA_BYTES_MAX))
            .which_captures(WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(nfa_config).build_from_hir(hir).ok()?;
        let prefilter = if is_forward_search { prefilter(hir) } else { None };
        let dfa_config = dense::Config::new()
            .start_kind(if is_forward_search { StartKind::Unanchored } else { StartKind::Anchored })
            .specialize_start_states(prefilter.is_some())
            .prefilter(prefilter)
            .dfa_size_limit(Some(DFA_BYTES_MAX))
            .determinize_size_limit(Some(DETERMINIZE_BYTES_MAX));
        let dfa = dense::Builder::new().configure(dfa_config).build_from_nfa(&nfa).ok()?;
        Some(if is_backward { Engine::Backward(dfa) } else { Engine::Forward(dfa) })
    }

    fn lazy(hir: &Hir) -> Option<Engine> {
        // `auto_prefilter` would also search for literals at the end of a match. Where these are frequent, such as `/`,
        // the crate falls back to its slowest engine.
        let config = meta::Config::new()
            .auto_prefilter(false)
            .prefilter(prefilter(hir))
            .dfa(false)
            .nfa_size_limit(Some(NFA_BYTES_MAX))
            .hybrid_cache_capacity(LAZY_BYTES_MAX)
            .which_captures(WhichCaptures::None);
        meta::Builder::new().configure(config).build_from_hir(hir).ok().map(Engine::Lazy)
    }

    fn is_match(&self, input: Input<'_>) -> Option<bool> {
        match self {
            Engine::Forward(dfa) => dfa.try_search_fwd(&input).ok().map(|found| found.is_some()),
            Engine::Backward(dfa) => {
                dfa.try_search_rev(&input.anchored(Anchored::Yes)).ok().map(|found| found.is_some())
            }
            Engine::Lazy(regex) => Some(regex.is_match(input)),
        }
    }
}

/// Looks for the literals with which a match can begin.
fn prefilter(hir: &Hir) -> Option<Prefilter> {
    Prefilter::from_hir_prefix(MatchKind::LeftmostFirst, hir)
}

/// What remains of a pattern without its literal prefix and without the `.*` at its ends.
struct Rest {
    pieces: Vec<Hir>,
    prefix_len: usize,
    anchored: Anchored,
    ignores_newlines: bool,
}

impl Rest {
    fn new(pattern: Hir, prefix: &[u8], alphabet: Alphabet) -> Option<Rest> {
        let pieces =
            if let HirKind::Concat(pieces) = pattern.kind() { pieces.clone() } else { vec![pattern] };
        let mut rest = Rest { pieces, prefix_len: 0, anchored: Anchored::Yes, ignores_newlines: false };
        let dots = [class(&Single::NotNewline, alphabet)?, class(&Single::Any, alphabet)?];
        rest.take_prefix(prefix);
        rest.take_start(&dots);
        rest.take_end(&dots);
        Some(rest)
    }

    fn take_prefix(&mut self, prefix: &[u8]) {
        let is_start = |piece: &Hir| matches!(piece.kind(), HirKind::Look(Look::Start | Look::StartLF));
        let start = self.pieces.iter().position(|piece| !is_start(piece)).unwrap_or(self.pieces.len());
        self.pieces.drain(..start);
        if let Some(HirKind::Literal(literal)) = self.pieces.first().map(Hir::kind)
            && *literal.0 == *prefix
        {
            self.pieces.remove(0);
            self.prefix_len = prefix.len();
        }
    }

    /// `.*x` at the start of a path is `x` anywhere in it; `.+x` is `.x`.
    fn take_start(&mut self, dots: &[Hir; 2]) {
        let Some(run) = self.pieces.first().and_then(|piece| run(piece, dots)) else { return };
        self.pieces.splice(..1, run.required());
        self.anchored = Anchored::No;
        self.ignores_newlines |= run.stops_at_newline;
    }

    /// What `x.*$` matches is what `x` matches.
    fn take_end(&mut self, dots: &[Hir; 2]) {
        let [.., last, end] = &self.pieces[..] else { return };
        if !matches!(end.kind(), HirKind::Look(Look::End | Look::EndLF)) {
            return;
        }
        let Some(run) = run(last, dots) else { return };
        self.pieces.splice(self.pieces.len() - 2.., run.required());
        self.ignores_newlines |= run.stops_at_newline;
    }
}

/// `.*` or `.+`, greedy or not.
struct Run {
    dot: Hir,
    min: u32,
    stops_at_newline: bool,
}

impl Run {
    /// What it must match.
    fn required(&self) -> Option<Hir> {
        (self.min == 1).then(|| self.dot.clone())
    }
}

fn run(piece: &Hir, dots: &[Hir; 2]) -> Option<Run> {
    let HirKind::Repetition(repetition) = piece.kind() else { return None };
    let dot = dots.iter().find(|dot| **dot == *repetition.sub)?;
    let is_run = repetition.min <= 1 && repetition.max.is_none();
    is_run.then(|| Run { dot: dot.clone(), min: repetition.min, stops_at_newline: *dot == dots[0] })
}

/// The characters that a path may hold for an engine to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alphabet {
    Ascii,
    /// ASCII, and a byte above it that stands for whatever else a character may be.
    AsciiAndOne,
    Unicode,
}

/// The pattern for a linear-time engine; `None` if it can't be said there.
fn hir(node: &Node, alphabet: Alphabet) -> Option<Hir> {
    let all = |nodes: &[Node]| nodes.iter().map(|node| hir(node, alphabet)).collect::<Option<Vec<Hir>>>();
    match node {
        Node::Single(single) => class(single, alphabet),
        Node::Sequence(nodes) => Some(Hir::concat(all(nodes)?)),
        Node::Alternation(nodes) => Some(Hir::alternation(all(nodes)?)),
        // Which group matched what is no question here.
        Node::Group(_, node) => hir(node, alphabet),
        Node::Repeat(repeat) if repeat.kind != RepeatKind::Possessive => Some(Hir::repetition(Repetition {
            min: repeat.min,
            max: (repeat.max != UNBOUNDED).then_some(repeat.max),
            greedy: repeat.kind == RepeatKind::Greedy,
            sub: Box::new(hir(&repeat.node, alphabet)?),
        })),
        Node::Assertion(assertion) => look(*assertion, alphabet).map(Hir::look),
        Node::Fail => Some(Hir::fail()),
        Node::Repeat(_)
        | Node::Look(_)
        | Node::Atomic(_)
        | Node::Backreference(..)
        | Node::Conditional(_) => None,
    }
}

fn class(single: &Single, alphabet: Alphabet) -> Option<Hir> {
    if alphabet != Alphabet::Unicode {
        let members = (0..128_u8).filter(|&byte| single.contains(u32::from(byte)));
        let members = members.map(|byte| ClassBytesRange::new(byte, byte));
        let others = alphabet == Alphabet::AsciiAndOne && may_be_other_than_ascii(single);
        let others = others.then(|| ClassBytesRange::new(0x80, u8::MAX));
        return Some(Hir::class(Class::Bytes(ClassBytes::new(members.chain(others)))));
    }
    let char_range = |(first, last)| {
        // Valid UTF-8 holds no surrogates, so that a range may be cut at their edges.
        let first = if (0xD800..=0xDFFF).contains(&first) { 0xE000 } else { first };
        let last = if (0xD800..=0xDFFF).contains(&last) { 0xD7FF } else { last };
        let range = ClassUnicodeRange::new(char::from_u32(first)?, char::from_u32(last)?);
        (first <= last).then_some(range)
    };
    Some(Hir::class(Class::Unicode(ClassUnicode::new(single.ranges()?.into_iter().filter_map(char_range)))))
}

fn may_be_other_than_ascii(single: &Single) -> bool {
    single.ranges().is_none_or(|ranges| ranges.iter().any(|(_, last)| *last > 127))
}

fn look(assertion: Assertion, alphabet: Alphabet) -> Option<Look> {
    let is_ascii = alphabet == Alphabet::Ascii;
    match assertion {
        Assertion::Start => Some(Look::Start),
        // A final newline under `$` never comes here.
        Assertion::End | Assertion::EndOrFinalNewline => Some(Look::End),
        Assertion::LineStart => Some(Look::StartLF),
        Assertion::LineEnd => Some(Look::EndLF),
        Assertion::WordBoundary { ascii } => (is_ascii || ascii).then_some(Look::WordAscii),
        Assertion::NotWordBoundary { ascii } => (is_ascii || ascii).then_some(Look::WordAsciiNegate),
    }
}
