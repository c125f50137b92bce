//! The linear-time engines: does the pattern match at the start of the path, yes or no.
//!
//! They get what is regular of a pattern, which is everything but look-around, back references, conditions, atomic groups
//! and possessive repeats. What a path may hold decides which of them answers, so that each is asked only what it answers
//! just as CPython would:
//!
//! - ASCII: a DFA over ASCII, small because it knows no other characters; a lookup a byte, no lock, no allocation;
//! - other UTF-8: the lazy DFA of `regex-automata`, if nothing depends on the case or on word boundaries beyond ASCII;
//! - the rest (bytes that are not UTF-8, a final newline under `$`): no answer; the backtracking engine has one.
//!
//! Both are built when the first path needs them: a rule that never sees a path of its own costs no automaton.

use std::sync::OnceLock;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::{Anchored, Input, meta};
use regex_syntax::hir::{
    Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition,
};

use crate::ast::{Assertion, Node, RepeatKind, UNBOUNDED};
use crate::parse::parse;
use crate::set::Single;

/// Largest DFA over ASCII, in bytes. A typical rule needs 2 to 6 KiB; one beyond this goes to the lazy DFA.
const DFA_BYTES_MAX: usize = 64 << 10;
/// Most memory while such a DFA is built, in bytes; bounds the time too.
const DETERMINIZE_BYTES_MAX: usize = 512 << 10;
/// Largest NFA, in bytes; repeats with large counts go to the backtracking engine instead.
const NFA_BYTES_MAX: usize = 1 << 20;
/// Memory for the states that the lazy DFA has met, in bytes; it starts over when this is full.
const LAZY_BYTES_MAX: usize = 256 << 10;

/// A DFA over ASCII, and where it stands after the prefix that every match begins with.
#[derive(Debug)]
struct AsciiDfa {
    dfa: dense::DFA<Vec<u32>>,
    after_prefix: StateID,
}

impl AsciiDfa {
    fn new(source: &[u8], prefix: &[u8]) -> Option<AsciiDfa> {
        let hir = hir(&parse(source).ok()?.node, Alphabet::Ascii)?;
        let nfa_config = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(NFA_BYTES_MAX))
            .which_captures(WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(nfa_config).build_from_hir(&hir).ok()?;
        // Only states that end a search are special then, which keeps the loop below short.
        let dfa_config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .specialize_start_states(false)
            .dfa_size_limit(Some(DFA_BYTES_MAX))
            .determinize_size_limit(Some(DETERMINIZE_BYTES_MAX));
        let dfa = dense::Builder::new().configure(dfa_config).build_from_nfa(&nfa).ok()?;
        let start = dfa.start_state_forward(&Input::new(b"").anchored(Anchored::Yes)).ok()?;
        let after_prefix = prefix.iter().fold(start, |state, &byte| dfa.next_state(state, byte));
        Some(AsciiDfa { dfa, after_prefix })
    }

    /// Whether the pattern matches a path that goes on with `rest` after the prefix. A match shows one byte late, so that
    /// the prefix alone never decides.
    #[inline]
    fn is_match(&self, rest: &[u8]) -> bool {
        let mut state = self.after_prefix;
        for &byte in rest {
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_special_state(state) {
                return self.dfa.is_match_state(state);
            }
        }
        self.dfa.is_match_state(self.dfa.next_eoi_state(state))
    }
}

/// The linear-time engines of one pattern.
#[derive(Debug, Default)]
pub(crate) struct Linear {
    ascii: OnceLock<Option<Box<AsciiDfa>>>,
    unicode: OnceLock<Option<meta::Regex>>,
}

impl Linear {
    /// Whether the pattern matches at the start of `path`; `None` if no engine here can tell. `dollar` says that the
    /// pattern has a `$` that a final newline would satisfy early; `path` begins with `prefix`, as every match does.
    #[inline]
    pub(crate) fn is_match(&self, source: &[u8], prefix: &[u8], dollar: bool, path: &[u8]) -> Option<bool> {
        // An empty path is told apart because `\B` is false there.
        let last = path.last()?;
        if dollar && *last == b'\n' {
            return None;
        }
        if path.is_ascii() {
            let dfa = self.ascii.get_or_init(|| AsciiDfa::new(source, prefix).map(Box::new));
            if let Some(dfa) = dfa {
                return Some(dfa.is_match(&path[prefix.len()..]));
            }
        } else if std::str::from_utf8(path).is_err() {
            return None;
        }
        let regex = self.unicode.get_or_init(|| build_unicode(source)).as_ref()?;
        Some(regex.is_match(Input::new(path).anchored(Anchored::Yes)))
    }

    /// Bytes that the DFA over ASCII takes; 0 if there is none yet.
    pub(crate) fn dfa_bytes(&self) -> usize {
        self.ascii
            .get()
            .and_then(Option::as_ref)
            .map_or(0, |ascii| ascii.dfa.memory_usage() + size_of::<AsciiDfa>())
    }
}

fn build_unicode(source: &[u8]) -> Option<meta::Regex> {
    let hir = hir(&parse(source).ok()?.node, Alphabet::Unicode)?;
    let config = meta::Config::new()
        .nfa_size_limit(Some(NFA_BYTES_MAX))
        .hybrid_cache_capacity(LAZY_BYTES_MAX)
        .which_captures(WhichCaptures::None);
    meta::Builder::new().configure(config).build_from_hir(&hir).ok()
}

/// The characters that a path may hold for an engine to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alphabet {
    Ascii,
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
    if alphabet == Alphabet::Ascii {
        let members = (0..128_u8).filter(|&byte| single.contains(u32::from(byte)));
        let class = ClassBytes::new(members.map(|byte| ClassBytesRange::new(byte, byte)));
        return Some(Hir::class(Class::Bytes(class)));
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
