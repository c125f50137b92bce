//! The corpus against the machine's CPython: matches with the ranges of all groups, substitutions, texts of errors.

use crate::cpython::{Counts, Cpython, Request};

/// Templates that are applied to every path; the others only to the first paths, which suffice to see what they mean.
const TEMPLATES_ON_ALL_PATHS: usize = 2;
const PATHS_OF_OTHER_TEMPLATES: usize = 12;
/// Characters of a path when all of Unicode is compared.
const CHARS_OF_PATH: usize = 64;
/// Most differences that a failure prints.
const DIFFERENCES_SHOWN: usize = 60;

#[test]
fn corpus_agrees_with_cpython() {
    let Some(mut cpython) = Cpython::start() else { return };
    let patterns = corpus(include_str!("corpus/patterns.txt"));
    let paths = corpus(include_str!("corpus/paths.txt"));
    let templates = corpus(include_str!("corpus/templates.txt"));
    assert!(patterns.len() >= 200 && paths.len() >= 100, "the corpus has shrunk");
    let mut counts = Counts::default();
    let mut differences = Vec::new();
    let (on_all, others) = templates.split_at(TEMPLATES_ON_ALL_PATHS);
    let few_paths = &paths[..PATHS_OF_OTHER_TEMPLATES];
    let version = cpython.version();
    for pattern in patterns.iter().filter(|pattern| !differs_before(pattern, version)) {
        for (paths, templates) in [(&paths[..], on_all), (few_paths, others)] {
            let request = Request { pattern, paths, templates };
            differences.extend(cpython.compare(&request, &mut counts));
        }
    }
    println!("{counts:?}");
    let shown = differences.len().min(DIFFERENCES_SHOWN);
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences[..shown].join("\n")
    );
    assert_eq!(counts.gave_up, 0);
}

#[test]
fn categories_of_all_characters_agree_with_cpython() {
    let Some(mut cpython) = Cpython::start() else { return };
    let chars = ('\0'..=char::MAX).filter(|&char| !is_alike(char));
    let known: Vec<char> = chars.filter(|&char| cpython.knows(char)).collect();
    let paths: Vec<Vec<u8>> =
        known.chunks(CHARS_OF_PATH).map(|chars| chars.iter().collect::<String>().into_bytes()).collect();
    let templates = [b"".to_vec()];
    for pattern in
        [&b"\\w"[..], b"\\D", b"\\s", b"(?a)\\W", b"(?a)\\s", b"[^\\W\\d_]", b"(?i)[^\\W]", b"(?i)[\\S1k]"]
    {
        let request = Request { pattern, paths: &paths, templates: &templates };
        let differences = cpython.compare(&request, &mut Counts::default());
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// Ideographs, Hangul and private use: thousands of characters of one kind, of which some suffice.
fn is_alike(char: char) -> bool {
    let code = u32::from(char);
    let is_of_block = matches!(code, 0x3400..=0x9fff | 0xac00..=0xf8ff | 0x20000..);
    is_of_block && !code.is_multiple_of(97)
}

#[test]
fn cases_of_all_letters_agree_with_cpython() {
    let Some(mut cpython) = Cpython::start() else { return };
    let is_cased = |char: char| !char.to_lowercase().eq([char]) || !char.to_uppercase().eq([char]);
    let known: Vec<char> = ('\0'..=char::MAX).filter(|&char| is_cased(char) && cpython.knows(char)).collect();
    assert!(known.len() > 2_000, "{} cased letters", known.len());
    let cases = |char: char| {
        char.to_lowercase().chain(char.to_uppercase()).chain(['s', 'ſ', 'k', 'K', 'i', 'ı', 'İ'])
    };
    for char in known {
        let uppers = cases(char).flat_map(|case| case.to_lowercase().chain(case.to_uppercase()));
        let mut paths: Vec<Vec<u8>> =
            uppers.filter(|&case| cpython.knows(case)).map(|case| case.to_string().into_bytes()).collect();
        paths.push(char.to_string().into_bytes());
        for pattern in [
            format!("(?i){char}"),
            format!("(?i)[{char}1]"),
            format!("(?i)[^{char}1]"),
            format!("(?i)[{char}-{char}1]"),
        ] {
            let request = Request { pattern: pattern.as_bytes(), paths: &paths, templates: &[] };
            let differences = cpython.compare(&request, &mut Counts::default());
            assert!(differences.is_empty(), "{}", differences.join("\n"));
        }
    }
}

/// Where an older CPython differs from 3.13, which we follow, and `\z`, which 3.14 brought.
fn differs_before(pattern: &[u8], version: (u64, u64)) -> bool {
    let (_, minor) = version;
    match pattern {
        // Groups inside of a negative look-ahead stayed set.
        b"(?!(a)b)a" => minor < 11,
        // Numbers of groups could have a sign and blanks.
        b"(?( 1)a)" | b"(?(+1)a)" => minor < 12,
        // Another exception, with another text.
        b"\\UFFFFFFFF" => minor < 13,
        // `\z` was no escape.
        _ if pattern.ends_with(b"\\z") => minor < 14,
        _ => false,
    }
}

fn corpus(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("##"));
    lines.map(|line| if line == "%" { Vec::new() } else { unescaped(line.as_bytes()) }).collect()
}

fn unescaped(line: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(byte);
        }
    }
    bytes
}
