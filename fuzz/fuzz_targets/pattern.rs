//! One pattern, one template, some paths: nothing panics, and the DFA, the backtracking engine and the substitution
//! agree on what matches where.
//!
//! An input is `source NUL template NUL path NUL path …`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pattern::{Capture, Pattern, Template};

/// Paths of one input; more of them only make it slower.
const PATHS_MAX: usize = 8;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.split(|byte| *byte == 0);
    let source = parts.next().unwrap_or_default();
    check_lines(source);
    let pattern = match Pattern::new(source) {
        Ok(pattern) => pattern,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(pattern.as_bytes(), source);
    let template =
        Template::new(parts.next().unwrap_or_default(), &pattern).map_err(|error| error.to_string());
    let whole = Template::new(br"\g<0>", &pattern).expect("every pattern has a group 0");
    for path in parts.take(PATHS_MAX) {
        check_match(&pattern, path);
        // What is replaced by itself stays.
        if let Ok(same) = pattern.sub(&whole, path) {
            assert_eq!(same, path);
        }
        if let Ok(template) = &template {
            check_substitution(&pattern, template, path);
        }
    }
    // The limits of the automata hold whatever was matched.
    assert!(pattern.memory_usage() < 64 << 20, "{} bytes", pattern.memory_usage());
});

/// Yes or no, groups, and what both engines say of the end.
fn check_match(pattern: &Pattern, path: &[u8]) {
    let (is_match, captures) = (pattern.is_match(path), pattern.captures(path));
    let (Ok(is_match), Ok(captures)) = (is_match, captures) else { return };
    assert_eq!(is_match, captures.is_some(), "is_match and captures");
    let Some(captures) = captures else { return };
    assert_eq!(pattern.is_match(path), Ok(is_match), "asked again");
    check_captures(&captures, path);
    let end = captures[0].range.as_ref().expect("a match has a range").end;
    if pattern.ends_anchored() {
        assert!(end == path.len() || (end + 1 == path.len() && path.ends_with(b"\n")), "the end");
    }
}

/// Groups lie in the path and cut no character.
fn check_captures(captures: &[Capture], path: &[u8]) {
    let text = std::str::from_utf8(path);
    assert_eq!(captures[0].range.as_ref().map(|range| range.start), Some(0));
    for (index, capture) in captures.iter().enumerate() {
        assert_eq!(capture.index, index);
        let Some(range) = &capture.range else { continue };
        assert!(range.start <= range.end && range.end <= path.len(), "{capture:?}");
        if let Ok(text) = text {
            assert!(text.is_char_boundary(range.start) && text.is_char_boundary(range.end), "{capture:?}");
        }
    }
}

/// The beginning that the result is said to have from the template is there, and only if the path matches.
fn check_substitution(pattern: &Pattern, template: &Template, path: &[u8]) {
    let Ok(substituted) = pattern.sub_parts(template, path) else { return };
    let prefix = template.literal_prefix();
    let length = substituted.literal_prefix_len;
    assert!(length == 0 || length == prefix.len());
    assert_eq!(&substituted.bytes[..length], &prefix[..length]);
    if let Ok(is_match) = pattern.is_match(path) {
        assert_eq!(length > 0, is_match && !prefix.is_empty(), "literal prefix");
    }
    assert_eq!(pattern.sub(template, path), Ok(substituted.bytes));
}

/// Lines of a pattern file are stripped, not empty, and in order.
fn check_lines(content: &[u8]) {
    let lines = pattern::pattern_lines(content);
    assert!(lines.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for (number, line) in &lines {
        assert!(*number >= 1 && !line.is_empty() && line[0] != b'#' && !line.contains(&b'\n'));
        assert_eq!(pattern::pattern_lines(line), [(1, line.clone())], "stripped");
    }
}
