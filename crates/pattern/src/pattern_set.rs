//! Many patterns at once, in order.
//!
//! A thousand rules must cost little more than one. Nearly every pattern has a literal that each of its matches
//! contains. An Aho-Corasick automaton finds in one pass which of these literals a path contains, and only their
//! patterns are then tried, in order. Of several literals of a pattern, the one that the fewest other patterns have is
//! looked for, so that rules below one directory differ in theirs. Patterns without a literal are always tried.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::error::StepLimit;
use crate::pattern::Pattern;

/// Fewer patterns than this are tried one after the other: comparing their prefixes costs less than a pass.
const FILTERED_MIN: usize = 8;
/// Sets of up to 64 times so many patterns need no allocation for a path.
const WORDS_ON_STACK: usize = 16;

/// Ordered patterns, matched together.
#[derive(Debug, Default)]
pub struct PatternSet {
    patterns: Vec<Pattern>,
    filter: Option<Filter>,
}

impl PatternSet {
    /// Combines patterns. Their order is kept.
    pub fn new(patterns: Vec<Pattern>) -> PatternSet {
        let filter = if patterns.len() < FILTERED_MIN { None } else { Filter::new(&patterns) };
        PatternSet { patterns, filter }
    }

    /// The patterns, in order.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Index of the first pattern that matches at the start of `path`.
    ///
    /// # Errors
    /// [`StepLimit`] if a pattern before the first match gives up: then the first one is not known.
    pub fn first_match(&self, path: &[u8]) -> Result<Option<usize>, StepLimit> {
        let Some(filter) = &self.filter else {
            return self.first_of(path, 0..self.patterns.len());
        };
        if filter.always.len() <= WORDS_ON_STACK {
            let mut words = [0; WORDS_ON_STACK];
            let words = &mut words[..filter.always.len()];
            filter.mark(path, words);
            return self.first_of(path, set_bits(words));
        }
        let mut words = vec![0; filter.always.len()];
        filter.mark(path, &mut words);
        self.first_of(path, set_bits(&words))
    }

    /// Whether any pattern matches at the start of `path`.
    ///
    /// # Errors
    /// As [`PatternSet::first_match`].
    pub fn any_match(&self, path: &[u8]) -> Result<bool, StepLimit> {
        self.first_match(path).map(|first| first.is_some())
    }

    fn first_of(
        &self,
        path: &[u8],
        candidates: impl Iterator<Item = usize>,
    ) -> Result<Option<usize>, StepLimit> {
        for index in candidates {
            if self.patterns[index].is_match(path)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

/// Finds the patterns that can match at all.
#[derive(Debug)]
struct Filter {
    automaton: AhoCorasick,
    /// The patterns of each literal of the automaton.
    patterns: Vec<Box<[u32]>>,
    /// Bits of the patterns that are tried on every path.
    always: Box<[u64]>,
}

impl Filter {
    /// `None` if the literals can't be combined; then every pattern is tried.
    fn new(patterns: &[Pattern]) -> Option<Filter> {
        let required: Vec<Vec<Vec<u8>>> = patterns.iter().map(Pattern::required_literals).collect();
        let mut frequency: HashMap<&[u8], u32> = HashMap::new();
        for literal in required.iter().flatten() {
            *frequency.entry(literal).or_default() += 1;
        }
        let mut always = vec![0; patterns.len().div_ceil(64)];
        let mut index_of: HashMap<&[u8], usize> = HashMap::new();
        let mut literals: Vec<&[u8]> = Vec::new();
        let mut patterns_of: Vec<Vec<u32>> = Vec::new();
        for (pattern, runs) in required.iter().enumerate() {
            let rarest = runs.iter().min_by_key(|run| (frequency[run.as_slice()], usize::MAX - run.len()));
            let Some(literal) = rarest else {
                set_bit(&mut always, pattern);
                continue;
            };
            let index = *index_of.entry(literal).or_insert_with(|| {
                literals.push(literal);
                patterns_of.push(Vec::new());
                literals.len() - 1
            });
            patterns_of[index].push(pattern as u32);
        }
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&literals).ok()?;
        let patterns = patterns_of.into_iter().map(Vec::into_boxed_slice).collect();
        Some(Filter { automaton, patterns, always: always.into() })
    }

    fn mark(&self, path: &[u8], words: &mut [u64]) {
        words.copy_from_slice(&self.always);
        for found in self.automaton.find_overlapping_iter(path) {
            for &pattern in &self.patterns[found.pattern().as_usize()] {
                set_bit(words, pattern as usize);
            }
        }
    }
}

fn set_bit(words: &mut [u64], index: usize) {
    words[index / 64] |= 1 << (index % 64);
}

/// The indices of the bits that are set, from the lowest.
fn set_bits(words: &[u64]) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(index, &word)| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(index * 64 + bit)
        })
    })
}
