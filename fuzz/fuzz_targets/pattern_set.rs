//! Many patterns, together and one after the other: both find the same first match.
//!
//! An input is `place, source NUL source NUL … NUL NUL path NUL path …`; the first byte says where among the fixed
//! rules the sources stand.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pattern::{Pattern, PatternSet, StepLimit};

/// Rules that are there in any case, so that the set is large enough to have a filter.
const RULES: [&str; 8] = [
    r"^/src/a/(?P<path>.*)\.to_move$",
    r"^/src/b/(?P<path>.*)\.to_move$",
    r"(?i)^/photos/.*\.jpe?g$",
    r"^/home/[^/]+/in/(.*)\.pdf$",
    r"/spool/\d{4}/",
    r"^/srv/(?!keep)[^/]+/x\.tmp$",
    r"^/data/.*~$",
    r"^/src/c/.*\.to_move$",
];
/// Paths and sources of one input; more of them only make it slower.
const PATHS_MAX: usize = 8;
const SOURCES_MAX: usize = 80;

fuzz_target!(|input: &[u8]| {
    let Some((&place, rest)) = input.split_first() else { return };
    let mut parts = rest.split(|byte| *byte == 0);
    let sources: Vec<&[u8]> =
        parts.by_ref().take_while(|source| !source.is_empty()).take(SOURCES_MAX).collect();
    let patterns = patterns(usize::from(place) % (RULES.len() + 1), &sources);
    let alike =
        patterns.iter().map(Pattern::as_bytes).map(|source| Pattern::new(source).expect("compiled before"));
    let set = PatternSet::new(alike.collect());
    assert_eq!(set.patterns().len(), patterns.len());
    for path in parts.take(PATHS_MAX) {
        check(&patterns, &set, path);
    }
});

fn patterns(place: usize, sources: &[&[u8]]) -> Vec<Pattern> {
    let (before, after) = RULES.split_at(place);
    let fixed = |rules: &[&'static str]| rules.iter().map(|rule| rule.as_bytes()).collect::<Vec<_>>();
    let all = [fixed(before), sources.to_vec(), fixed(after)].concat();
    all.into_iter().filter_map(|source| Pattern::new(source).ok()).collect()
}

/// A pattern that gives up must not be passed over, unless the filter knows that it cannot match.
fn check(patterns: &[Pattern], set: &PatternSet, path: &[u8]) {
    let together = set.first_match(path);
    match (one_after_the_other(patterns, path), together) {
        (Ok(expected), together) => assert_eq!(together, Ok(expected), "one after the other (right)"),
        (Err(_), Err(_)) => {}
        (Err(_), Ok(first)) => {
            let last = first.unwrap_or(patterns.len());
            assert!(patterns[..last].iter().all(|pattern| pattern.is_match(path) != Ok(true)));
            assert!(first.is_none_or(|first| patterns[first].is_match(path) == Ok(true)));
        }
    }
    assert_eq!(set.any_match(path), together.map(|first| first.is_some()));
}

fn one_after_the_other(patterns: &[Pattern], path: &[u8]) -> Result<Option<usize>, StepLimit> {
    for (index, pattern) in patterns.iter().enumerate() {
        if pattern.is_match(path)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}
