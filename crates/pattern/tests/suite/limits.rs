//! Limits: steps, sizes, memory.

use pattern::{Error, Pattern, PatternSet, StepLimit, Template};

fn pattern(source: &str) -> Pattern {
    Pattern::new(source.as_bytes()).unwrap()
}

/// A name of many `a`, which makes CPython's time double with each letter.
fn hostile_path() -> Vec<u8> {
    let mut path = b"/".to_vec();
    path.resize(200, b'a');
    path
}

#[test]
fn nested_repeats_end_in_linear_patterns() {
    let pattern = pattern("/(a+)+[.]x");
    assert!(pattern.is_linear());
    assert_eq!(pattern.is_match(&hostile_path()), Ok(false));
    let template = Template::new(b"/dst/\\1", &pattern).unwrap();
    assert_eq!(pattern.sub(&template, &hostile_path()), Ok(hostile_path()));
    let mut not_utf8 = hostile_path();
    not_utf8.push(0xff);
    assert_eq!(pattern.is_match(&not_utf8), Ok(false));
    let final_newline = [hostile_path(), b"\n".to_vec()].concat();
    assert_eq!(pattern.is_match(&final_newline), Ok(false));
}

#[test]
fn nested_repeats_end_beside_look_around_too() {
    for source in [
        "/(?!b)(a+)+[.]x",
        "/(?>a|b)(a*)*[.]x",
        "/(a?a?)*+(a|aa)*[.]x",
        "(?=/(a+)+[.]x)",
        "/((a*)*)*(?<!a)[.]x",
    ] {
        let pattern = pattern(source);
        assert!(!pattern.is_linear(), "{source}");
        assert_eq!(pattern.is_match(&hostile_path()), Ok(false), "{source}");
    }
}

#[test]
fn back_references_give_up() {
    let pattern = pattern("/(a*)*(b?)\\2[.]x");
    let limit = pattern.is_match(&hostile_path()).unwrap_err();
    let text = limit.to_string();
    assert!(text.contains(&limit.limit.to_string()), "{text}");
    let template = Template::new(b"", &pattern).unwrap();
    assert!(pattern.sub(&template, &hostile_path()).is_err());
    assert!(pattern.captures(&hostile_path()).is_err());
}

#[test]
fn a_set_tells_no_order_that_it_does_not_know() {
    let set = PatternSet::new(vec![pattern("/b"), pattern("/(a*)*(b?)\\2[.]x"), pattern("/a")]);
    assert!(matches!(set.first_match(&hostile_path()), Err(StepLimit { .. })));
    assert_eq!(set.first_match(b"/b"), Ok(Some(0)));
    let set = PatternSet::new(vec![pattern("/a"), pattern("/(a*)*(b?)\\2[.]x")]);
    assert_eq!(set.first_match(&hostile_path()), Ok(Some(0)));
}

#[test]
fn long_paths_are_matched() {
    let mut path = b"/src/".to_vec();
    path.extend_from_slice("d/é/".repeat(1_000).as_bytes());
    path.extend_from_slice(b"x.to_move");
    let pattern = pattern("^/src/(.*)/(?!y)([^/]*)\\.to_move$");
    assert_eq!(pattern.is_match(&path), Ok(true));
    let template = Template::new(b"\\2", &pattern).unwrap();
    assert_eq!(pattern.sub(&template, &path).unwrap(), b"x");
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let deep = |depth| format!("{}{}", "(".repeat(depth), ")".repeat(depth));
    for (source, construct) in [
        ("\\N{EM DASH}".to_owned(), "\\N{...}"),
        (deep(300), "nesting"),
        ("a".repeat(70_000), "70000 bytes"),
        ("(?:ab){0,60000}".to_owned(), "expand"),
        ("(?:(?:(?:ab){99}c){99}d){99}".to_owned(), "expand"),
    ] {
        let error = Pattern::new(source.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(construct), "{error}");
    }
    assert!(Pattern::new(deep(150).as_bytes()).is_ok());
}

#[test]
fn huge_counts_are_cheap() {
    for source in [
        "(?:){4294967294}",
        "(?:){0,4294967294}",
        "a{4294967294}",
        "(?:a{9999}){1000}",
        "(?:(?:){99999999}a)*b",
    ] {
        assert_eq!(pattern(source).is_match(b"aaa"), Ok(source.starts_with("(?:){")), "{source}");
    }
}

#[test]
fn a_pattern_is_small() {
    let rule = pattern("^/src/(?P<path>.*)\\.to_move$");
    assert!(rule.memory_usage() < 1_024, "{} bytes", rule.memory_usage());
    let words = pattern("^/home/(?P<user>\\w+)/in/(.*)\\.(pdf|jpe?g)$");
    assert!(words.memory_usage() < 1_536, "{} bytes", words.memory_usage());
    assert_eq!(words.is_match(b"/home/a/in/b.jpg"), Ok(true));
    println!("{} bytes, {} with its automaton", rule.memory_usage(), words.memory_usage());
    assert!(words.memory_usage() < 16_384, "{} bytes", words.memory_usage());
}

#[test]
fn patterns_are_shared_by_threads() {
    fn check<T: Send + Sync>() {}
    check::<Pattern>();
    check::<PatternSet>();
    check::<Template>();
}

#[test]
fn ends_anchored_sees_every_branch() {
    for (source, expected) in [
        ("^/src/(.*)$", true),
        ("^/src/(.*)\\Z", true),
        ("(a$|b\\Z)", true),
        ("(a$|b)", false),
        ("a(?:$)", true),
        ("(?>a$)", true),
        ("a(?=$)", true),
        ("a(?=b$)", false),
        ("(?m)a$", false),
        ("a$(?!b)", true),
        ("(a)?(?(1)b$|c\\Z)", true),
        ("(a)?(?(1)b$)", false),
        ("(?:a$)?", false),
        ("(?:a$)+", true),
        ("^/src/(.*)", false),
        ("", false),
    ] {
        assert_eq!(pattern(source).ends_anchored(), expected, "{source}");
    }
}

/// Python 3.14 writes `\z` where older ones wrote `\Z`.
#[test]
fn both_spellings_of_the_end_are_the_end() {
    for end in ["\\Z", "\\z"] {
        let filter = pattern(&format!("(?s:.*\\.tmp){end}"));
        assert!(filter.ends_anchored(), "{end}");
        let paths = [&b"/a/b.tmp"[..], b"/a/b.tmp\n", b"/a/\n.tmp", "/a/é.tmp".as_bytes(), b"/a/\xff.tmp"];
        let matches = paths.map(|path| filter.is_match(path));
        assert_eq!(matches, [Ok(true), Ok(false), Ok(true), Ok(true), Ok(true)], "{end}");
    }
    let in_a_set = Pattern::new(b"[\\z]").unwrap_err();
    assert_eq!(in_a_set.to_string(), "bad escape \\z at position 1");
}

/// Letters of Unicode 15.0, which Python 3.11 does not know yet: the reference names them.
#[test]
fn letters_are_those_of_unicode_15_1() {
    let reference = include_str!("../../../../docs/reference.md");
    let word = pattern("\\w");
    for letter in ['\u{11f1f}', '\u{11f2d}', '\u{1e065}', '\u{31f98}'] {
        assert_eq!(word.is_match(letter.to_string().as_bytes()), Ok(true), "{letter}");
        let name = format!("U+{:X}", u32::from(letter));
        assert!(reference.contains(&name), "{name}");
    }
    // Of Unicode 16.0.
    assert_eq!(word.is_match("\u{1c89}".as_bytes()), Ok(false));
    assert!(reference.contains("U+1C89") && reference.contains("15.1"));
}
