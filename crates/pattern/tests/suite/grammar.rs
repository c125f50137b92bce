//! Random patterns and paths, and the runner that says how to repeat a failure.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

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

pub(crate) fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(select(PATH_PIECES), 0..9).prop_map(|pieces| pieces.concat())
}

/// Patterns by Python's grammar; some are errors all the same (a reference too early, a loose look-behind).
pub(crate) fn pattern_source() -> impl Strategy<Value = String> {
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

/// Runs a test on so many random values, or on as many as the environment says.
pub(crate) fn run<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
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
