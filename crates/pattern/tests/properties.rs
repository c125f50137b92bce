//! Random patterns, templates and paths: against CPython, against one another, and to see that nothing panics.
//!
//! Each test prints its seed when it fails; `PATTERN_TEST_SEED` repeats a run, `PATTERN_TEST_CASES` makes it longer.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod cpython;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

use cpython::{Counts, Cpython, Request};
use pattern::{Pattern, PatternSet, Template};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

const SEED_VARIABLE: &str = "PATTERN_TEST_SEED";
const CASES_VARIABLE: &str = "PATTERN_TEST_CASES";

/// Characters of random paths: such as the leaves of patterns ask for, and such as cases and categories turn on.
const PATH_PIECES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"A",
    b"/",
    b".",
    b"1",
    b"_",
    b" ",
    b"\n",
    b"-",
    b"k",
    b"s",
    b"\xff",
    b"\x80",
    b"\x1c",
    "é".as_bytes(),
    "É".as_bytes(),
    "ſ".as_bytes(),
    "K".as_bytes(),
    "İ".as_bytes(),
    "ß".as_bytes(),
    "٣".as_bytes(),
    "𐐀".as_bytes(),
    "\u{301}".as_bytes(),
];

const LEAVES: &[&str] = &[
    "a",
    "b",
    "c",
    "/",
    "ab",
    "",
    ".",
    "\\.",
    "\\w",
    "\\W",
    "\\d",
    "\\D",
    "\\s",
    "\\S",
    "^",
    "$",
    "\\A",
    "\\Z",
    "\\b",
    "\\B",
    "[ab]",
    "[^a]",
    "[a-c]",
    "[^/]",
    "[\\w.]",
    "[^\\W\\d]",
    "[a-]",
    "[]a]",
    "\\n",
    "\\x61",
    "é",
    "[é-ÿ]",
    "k",
    "s",
    "[k-s]",
    "ß",
    "\\1",
    "\\2",
    "(?P=n)",
    "[\\udc80-\\udcff]",
    "(?!)",
    "𐐨",
];

const WRAPPERS: &[(&str, &str)] = &[
    ("(", ")"),
    ("(", ")"),
    ("(?:", ")"),
    ("(?P<n>", ")"),
    ("(?=", ")"),
    ("(?!", ")"),
    ("(?<=", ")"),
    ("(?<!", ")"),
    ("(?>", ")"),
    ("(?i:", ")"),
    ("(?m:", ")"),
    ("(?s:", ")"),
    ("(?a:", ")"),
    ("(?ai:", ")"),
    ("(?-i:", ")"),
    ("(?(1)", "|b)"),
    ("(?(1)", ")"),
    ("(?x: ", " )"),
];

const REPEATS: &[&str] = &[
    "*", "+", "?", "*?", "+?", "??", "*+", "++", "?+", "{2}", "{1,2}", "{,2}", "{2,}", "{1,3}?", "{0,2}+",
    "{0}",
];

/// What a parser trips over.
const SOUP: &[&str] = &[
    "(", ")", "[", "]", "{", "}", "<", ">", "?", "*", "+", "|", "^", "$", ".", "\\", "-", ",", "=", "!", ":",
    "#", "P", "i", "m", "s", "x", "a", "u", "L", "0", "1", "2", "9", "é", "\n", " ", "'", "(?", "(?P<n>",
    "(?P=n)", "(?(1)", "(?i)", "(?<=", "(?#", "\\1", "\\x4", "\\u00e", "\\0", "[^", "{1,2}", "g", "\\g<",
    "n>",
];

#[test]
fn random_patterns_agree_with_cpython() {
    let Some(cpython) = Cpython::start() else { return };
    let templates = [&b"<\\g<0>>"[..], b"[\\1]"].map(<[u8]>::to_vec);
    // Groups inside of a negative look-ahead stay set in older ones.
    if cpython.version() < (3, 11) {
        return println!("skipped: groups in look-aheads differ before Python 3.11");
    }
    let counts = agree(cpython, 2_000, &(pattern_source(), vec(path(), 12)), |(pattern, paths)| {
        // CPython looks for the first character by the flags of the whole pattern (see `scoped_flags_hold_in_sub`).
        let has_scoped_ascii = pattern.contains("(?a:") || pattern.contains("(?ai:");
        let templates = if has_scoped_ascii { Vec::new() } else { templates.to_vec() };
        (pattern.into_bytes(), paths, templates)
    });
    assert!(counts.errors * 4 < counts.patterns * 3, "too few good patterns: {counts:?}");
    assert!(counts.gave_up * 50 < counts.matches, "too many given up: {counts:?}");
}

/// Where `(?a:…)` begins a pattern, CPython's search looks for a first character of `\w` and its kin by the flags outside of
/// the group, so that its `sub` misses what its `match` finds.
#[test]
fn scoped_flags_hold_in_sub() {
    let pattern = Pattern::new(b"(?a:\\W)").unwrap();
    let template = Template::new(b"-", &pattern).unwrap();
    let path = "é".as_bytes();
    assert_eq!(pattern.is_match(path), Ok(true));
    assert_eq!(pattern.sub(&template, path).unwrap(), b"-");
}

#[test]
fn random_errors_agree_with_cpython() {
    let Some(cpython) = Cpython::start() else { return };
    let is_old = cpython.version() < (3, 12);
    agree(cpython, 3_000, &(soup(), soup()), |(mut pattern, template)| {
        // Older ones take signs and blanks in numbers of groups.
        if is_old {
            pattern = pattern.replace("(?(", "(?:(");
        }
        let template = if is_old { template.replace("\\g<", "\\g>") } else { template };
        (pattern.into_bytes(), vec![b"a".to_vec(), b"(1)\n".to_vec()], vec![template.into_bytes()])
    });
}

#[test]
fn nothing_panics() {
    let bytes = || vec(any::<u8>(), 0..24);
    let source = prop_oneof![
        bytes(),
        pattern_source().prop_map(String::into_bytes),
        soup().prop_map(String::into_bytes)
    ];
    run(20_000, &(source, bytes(), vec(prop_oneof![bytes(), path()], 4)), |(source, template, paths)| {
        let Ok(pattern) = Pattern::new(&source) else { return Ok(()) };
        let Ok(template) = Template::new(&template, &pattern) else { return Ok(()) };
        for path in &paths {
            let _ = pattern.is_match(path);
            let _ = pattern.captures(path);
            let _ = pattern.sub(&template, path);
        }
        Ok(())
    });
}

#[test]
fn a_set_finds_what_its_patterns_find() {
    let patterns = vec(prop_oneof![pattern_source(), rule_source()], 0..40);
    run(400, &(patterns, vec(prop_oneof![path(), rule_path()], 12)), |(sources, paths)| {
        let patterns: Vec<Pattern> =
            sources.iter().filter_map(|source| Pattern::new(source.as_bytes()).ok()).collect();
        let expected = |path: &[u8]| patterns.iter().position(|pattern| pattern.is_match(path) == Ok(true));
        let expected: Vec<Option<usize>> = paths.iter().map(|path| expected(path)).collect();
        let set = PatternSet::new(patterns);
        for (path, expected) in paths.iter().zip(expected) {
            let Ok(first) = set.first_match(path) else { continue };
            prop_assert_eq!(first, expected, "path {}", path.escape_ascii());
        }
        Ok(())
    });
}

#[test]
fn literal_prefixes_are_the_templates_own() {
    let strategy = (pattern_source(), select(vec!["/dst/\\1", "/d\\g<0>", "\\1/x", "/all"]), vec(path(), 8));
    run(2_000, &strategy, |(source, template, paths)| {
        let Ok(pattern) = Pattern::new(source.as_bytes()) else { return Ok(()) };
        let Ok(template) = Template::new(template.as_bytes(), &pattern) else { return Ok(()) };
        for path in &paths {
            let Ok(substituted) = pattern.sub_parts(&template, path) else { continue };
            let length = substituted.literal_prefix_len;
            prop_assert!(length == 0 || length == template.literal_prefix().len());
            prop_assert_eq!(&substituted.bytes[..length], &template.literal_prefix()[..length]);
            let matches_at_start = pattern.is_match(path) == Ok(true);
            prop_assert_eq!(length > 0, matches_at_start && !template.literal_prefix().is_empty());
        }
        Ok(())
    });
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(select(PATH_PIECES), 0..9).prop_map(|pieces| pieces.concat())
}

fn soup() -> impl Strategy<Value = String> {
    vec(select(SOUP), 0..10).prop_map(|pieces| pieces.concat())
}

/// Patterns by Python's grammar; some are errors all the same (a reference too early, a loose look-behind).
fn pattern_source() -> impl Strategy<Value = String> {
    let leaf = select(LEAVES).prop_map(str::to_owned);
    let body = leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            3 => vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            2 => vec(inner.clone(), 2..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            3 => (inner.clone(), select(WRAPPERS)).prop_map(|(body, (open, close))| format!("{open}{body}{close}")),
            3 => (inner.clone(), select(REPEATS)).prop_map(|(body, repeat)| format!("(?:{body}){repeat}")),
            2 => (inner, select(REPEATS)).prop_map(|(body, repeat)| format!("({body}){repeat}")),
        ]
    });
    let flags = select(vec!["", "", "", "(?i)", "(?m)", "(?s)", "(?a)", "(?im)", "(?ai)"]);
    (flags, body).prop_map(|(flags, body)| format!("{flags}{body}"))
}

/// Rules such as configurations hold, close to one another.
fn rule_source() -> impl Strategy<Value = String> {
    let directory = select(vec!["^/src/", "/src/", "^/dst/a/", "(?i)^/src/", "^/"]);
    let middle = select(vec!["(.*)", "[^/]*", "a.*", "(?!b).*", "x\\w+"]);
    let end = select(vec!["\\.to_move$", "\\.tmp$", "", "\\.a$", "/b"]);
    (directory, middle, end).prop_map(|(directory, middle, end)| format!("{directory}{middle}{end}"))
}

fn rule_path() -> impl Strategy<Value = Vec<u8>> {
    let directory = select(vec!["/src/", "/dst/a/", "/SRC/", "/"]);
    let middle = select(vec!["", "a", "b", "x1", "a/b", "aé", "b\n"]);
    let end = select(vec![".to_move", ".tmp", ".a", "/b", ".to_move\n"]);
    (directory, middle, end)
        .prop_map(|(directory, middle, end)| format!("{directory}{middle}{end}").into_bytes())
}

type Question = (Vec<u8>, Vec<Vec<u8>>, Vec<Vec<u8>>);

/// Compares with CPython on random questions.
fn agree<S: Strategy>(
    cpython: Cpython,
    cases: u32,
    strategy: &S,
    question: impl Fn(S::Value) -> Question,
) -> Counts {
    let cpython = RefCell::new(cpython);
    let counts = RefCell::new(Counts::default());
    run(cases, strategy, |value| {
        let (pattern, paths, templates) = question(value);
        let request = Request { pattern: &pattern, paths: &paths, templates: &templates };
        let differences = cpython.borrow_mut().compare(&request, &mut counts.borrow_mut());
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
        Ok(())
    });
    println!("{:?}", counts.borrow());
    counts.into_inner()
}

fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed: u64 = std::env::var(SEED_VARIABLE).map_or_else(|_| now(), |text| text.parse().unwrap());
    let cases = std::env::var(CASES_VARIABLE).map_or(cases, |text| text.parse().unwrap());
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    match catch_unwind(AssertUnwindSafe(|| runner.run(strategy, test))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{SEED_VARIABLE}={seed}: {error}"),
        Err(panic) => {
            println!("{SEED_VARIABLE}={seed}");
            resume_unwind(panic);
        }
    }
}
