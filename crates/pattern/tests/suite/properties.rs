//! Random patterns, templates and paths: against CPython, against one another, and to see that nothing panics.
//!
//! Each test prints its seed when it fails; `PATTERN_TEST_SEED` repeats a run, `PATTERN_TEST_CASES` makes it longer.

use std::cell::RefCell;

use crate::cpython::{Counts, Cpython, Request};
use crate::grammar::{path, pattern_source, run};
use pattern::{Pattern, PatternSet, Template};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

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

/// What simple rules make of a path is told without an engine.
#[test]
fn simple_rules_agree_with_cpython() {
    let Some(cpython) = Cpython::start() else { return };
    let templates = [&b"<\\g<0>|\\1>"[..], b"/dst/\\1/\\2"].map(<[u8]>::to_vec);
    agree(cpython, 1_500, &(simple_rule(), vec(simple_path(), 12)), |(pattern, paths)| {
        (pattern.into_bytes(), paths, templates.to_vec())
    });
}

/// A `.*` at an end of a pattern is searched for, not read: with newlines and bytes that are not UTF-8 in the path,
/// too.
#[test]
fn open_ends_agree_with_cpython() {
    let Some(cpython) = Cpython::start() else { return };
    agree(cpython, 2_000, &(open_rule(), vec(simple_path(), 12)), |(pattern, paths)| {
        (pattern.into_bytes(), paths, Vec::new())
    });
}

/// Where `(?a:…)` begins a pattern, CPython's search looks for a first character of `\w` and its kin by the flags
/// outside of the group, so that its `sub` misses what its `match` finds.
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
    run(5_000, &(source, bytes(), vec(prop_oneof![bytes(), path()], 4)), |(source, template, paths)| {
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
fn where_a_path_matches_something_may() {
    let sources = prop_oneof![pattern_source(), rule_source()];
    run(2_000, &(sources, vec(prop_oneof![path(), rule_path()], 12)), |(source, paths)| {
        let Ok(pattern) = Pattern::new(source.as_bytes()) else { return Ok(()) };
        let is_plain = |path: &&Vec<u8>| !path.windows(2).any(|pair| pair == b"//");
        for path in paths.iter().filter(is_plain).filter(|path| !path.ends_with(b"/")) {
            let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { continue };
            let matches = pattern.is_match(path) == Ok(true);
            prop_assert!(!matches || pattern.may_match_in(&path[..slash]), "path {}", path.escape_ascii());
            let mut above = (1..=slash).filter(|at| path[*at] == b'/');
            let is_below = above.all(|slash| pattern.may_match_below(&path[..slash]));
            prop_assert!(!matches || is_below, "path {}", path.escape_ascii());
        }
        Ok(())
    });
}

#[test]
fn where_nothing_can_match_is_known() {
    for (source, may, may_not) in [
        ("^/srv/in/(.*)$", &["/srv/in", "/srv/in/a"][..], &["/srv", "/srv/other", "/srv/inn"][..]),
        ("^/srv/([^/]+)/in/.+[.]pdf$", &["/srv/a/in"], &["/srv", "/srv/a", "/srv/a/inn", "/srv/a/b/in"]),
        ("^(/srv/a|/data)/x", &["/srv/a", "/data", "/data/x"], &["/srv", "/srv/b", "/"]),
        (".*[.]jpg$", &["/", "/srv"], &[]),
        ("/srv/in", &["/srv", "/srv/in", "/srv/in/a"], &["/", "/data"]),
        ("^/srv/(?!no)", &["/srv", "/srv/no"], &["/data"]),
        ("^/srv/[^\\x00-\\x7f]+$", &["/srv"], &["/srv/a", "/"]),
        ("^/srv/[^/]\\b/", &["/srv", "/srv/a"], &["/data"]),
    ] {
        let pattern = Pattern::new(source.as_bytes()).unwrap();
        for (directories, expected) in [(may, true), (may_not, false)] {
            for directory in directories {
                assert_eq!(pattern.may_match_in(directory.as_bytes()), expected, "{source} in {directory}");
            }
        }
    }
}

#[test]
fn what_lies_deeper_can_match_too() {
    for (source, may, may_not) in [
        (
            "^/srv/([^/]+)/in/.+[.]pdf$",
            &["/", "/srv", "/srv/a"][..],
            &["/srv/a/inn", "/srv/a/b/in", "/data"][..],
        ),
        ("^/srv/[^/]+$", &["/", "/srv"], &["/srv/a"]),
    ] {
        let pattern = Pattern::new(source.as_bytes()).unwrap();
        for (directories, expected) in [(may, true), (may_not, false)] {
            for directory in directories {
                assert_eq!(
                    pattern.may_match_below(directory.as_bytes()),
                    expected,
                    "{source} below {directory}"
                );
            }
        }
    }
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

fn soup() -> impl Strategy<Value = String> {
    vec(select(SOUP), 0..10).prop_map(|pieces| pieces.concat())
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

/// Text, a run of characters, text and the end, with groups around any of it.
fn simple_rule() -> impl Strategy<Value = String> {
    let start =
        select(vec!["", "^", "^/src/", "/src/", "(^/(s)rc)/", "(?m:^)/()", "(?>/src/)", "\\A(é)", "(/src/"]);
    let run = select(vec!["", ".*", "(.*)", "(.*?)", "([^/]+)", "(([^a]*))", "((?s:.+))", "(?:(.*)a)", "x*"]);
    let suffix = select(vec!["", "a", "(\\.a)", "(é)", "\\udca9", "(\\.(a))", "\n"]);
    let end = select(vec!["$", "\\Z", "($)", "$()", ""]);
    (start, run, suffix, end).prop_map(|(start, run, suffix, end)| {
        let closed = if start == "(/src/" { ")" } else { "" };
        format!("{start}{run}{suffix}{closed}{end}")
    })
}

/// Something that is no plain text, between runs of characters or at the ends of the path.
fn open_rule() -> impl Strategy<Value = String> {
    let start = select(vec!["", "^", "(?m)^", "^/", "/src/", "(?i)/SRC/", "\\b", "(?a)", "(é|/)"]);
    let run =
        || select(vec!["", ".*", "(.*)", "(.*?)", ".+", "(.+?)", "(?s:.*)", "(?s:(.+))", "[^/]*", "(?:a.*)"]);
    let middle = select(vec![
        "a|/", "/", "[ab]", "\\.a?", "(?i:É)", "\\w\\W", "\\b", "\\B", "\\n", "^a", "$", "x*", "(?m:^)",
    ]);
    let end = select(vec!["", "$", "\\Z", "(?m:$)", "[aé]$", "(\\.a|/)$", "\\w\\Z", "\\B$", "$\\n?"]);
    (start, run(), middle, run(), end)
        .prop_map(|(start, run, middle, last, end)| format!("{start}{run}(?:{middle}){last}{end}"))
}

fn simple_path() -> impl Strategy<Value = Vec<u8>> {
    let start = select(vec![&b"/src/"[..], b"/", b"", "é".as_bytes(), b"\n/src/"]);
    let end = select(vec![&b""[..], b"a", b".a", "é".as_bytes(), b"\xa9", b"a\n", b"\n", b".a/src/.a"]);
    (start, path(), end).prop_map(|(start, middle, end)| [start, &middle, end].concat())
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
