//! Python's view of characters: categories of `\w \d \s`, simple case mappings, identifiers.
//!
//! The categories come from CPython's own tables (`tables.rs`). Case mappings are those of the standard library, whose
//! first character is the one that CPython's `_sre` uses; surrogates have no case.

use std::sync::OnceLock;

use crate::tables::{ALPHANUMERIC, DECIMAL, EXTRA_CASES, SPACE};

/// Highest code point.
pub(crate) const CODE_MAX: u32 = 0x10_FFFF;
/// No character above this one has a case (the last are the letters of Adlam, U+1E900 to U+1E943, in all of Unicode up
/// to 17); tested against the standard library below.
const CASED_MAX: u32 = 0x1_EFFF;

/// A class that Python names with one letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Category {
    /// `\d`
    Digit,
    /// `\s`
    Space,
    /// `\w`
    Word,
}

impl Category {
    /// Whether `code` belongs to it; with `ascii`, by the rules of `(?a)`.
    pub(crate) fn contains(self, code: u32, ascii: bool) -> bool {
        if code < 128 {
            return self.contains_ascii(code as u8, ascii);
        }
        !ascii && within(self.table(), code)
    }

    /// All its members beyond ASCII.
    pub(crate) fn table(self) -> &'static [(u32, u32)] {
        match self {
            Category::Digit => DECIMAL,
            Category::Space => SPACE,
            Category::Word => ALPHANUMERIC,
        }
    }

    /// Python's `(?a)` keeps `\s` to the six of `isspace` in C; without it the four separators of ASCII belong to it
    /// too.
    fn contains_ascii(self, byte: u8, ascii: bool) -> bool {
        match self {
            Category::Digit => byte.is_ascii_digit(),
            Category::Space => {
                matches!(byte, b'\t'..=b'\r' | b' ') || (!ascii && matches!(byte, 0x1c..=0x1f))
            }
            Category::Word => byte.is_ascii_alphanumeric() || byte == b'_',
        }
    }
}

/// Whether `code` lies in one of the sorted, inclusive `ranges`.
pub(crate) fn within(ranges: &[(u32, u32)], code: u32) -> bool {
    let index = ranges.partition_point(|&(_, last)| last < code);
    ranges.get(index).is_some_and(|&(first, _)| first <= code)
}

/// Simple lower case.
pub(crate) fn lower(code: u32) -> u32 {
    if code < 128 {
        return u32::from((code as u8).to_ascii_lowercase());
    }
    char::from_u32(code).and_then(|char| char.to_lowercase().next()).map_or(code, u32::from)
}

/// First character of the upper case, as `_sre` has it (that of `ß` is `S`).
pub(crate) fn upper(code: u32) -> u32 {
    char::from_u32(code).and_then(|char| char.to_uppercase().next()).map_or(code, u32::from)
}

/// Whether the case of `code` can change.
pub(crate) fn is_cased(code: u32) -> bool {
    lower(code) != code || upper(code) != code
}

/// Other lower-case characters with the upper case of the lower-case `code`.
pub(crate) fn extra_cases(code: u32) -> impl Iterator<Item = u32> {
    let start = EXTRA_CASES.partition_point(|&(char, _)| char < code);
    EXTRA_CASES[start..].iter().take_while(move |&&(char, _)| char == code).map(|&(_, extra)| extra)
}

/// All `(character, its lower case)` that differ, sorted. Made once, when the first range under `(?i)` asks for it.
pub(crate) fn lowered() -> &'static [(u32, u32)] {
    static LOWERED: OnceLock<Vec<(u32, u32)>> = OnceLock::new();
    LOWERED.get_or_init(|| {
        (0..=CASED_MAX).map(|code| (code, lower(code))).filter(|&(code, lower)| code != lower).collect()
    })
}

/// Python's `str.isidentifier`.
pub(crate) fn is_identifier(codes: &[u32]) -> bool {
    let underscore = u32::from(b'_');
    let is_start = |code: u32| code == underscore || char::from_u32(code).is_some_and(char::is_alphabetic);
    let is_rest = |code: u32| is_start(code) || char::from_u32(code).is_some_and(char::is_alphanumeric);
    codes.first().is_some_and(|&first| is_start(first)) && codes.iter().all(|&code| is_rest(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_above_the_limit_has_a_case() {
        assert!((CASED_MAX + 1..=CODE_MAX).all(|code| !is_cased(code)));
    }

    #[test]
    fn lower_case_is_stable() {
        assert!((0..=CODE_MAX).all(|code| lower(lower(code)) == lower(code)));
    }

    #[test]
    fn extra_cases_are_found() {
        assert_eq!(extra_cases(0x1fbe).collect::<Vec<_>>(), [0x345, 0x3b9]);
        assert_eq!(extra_cases(0x61).count(), 0);
    }

    #[test]
    fn tables_are_sorted() {
        for category in [Category::Digit, Category::Space, Category::Word] {
            assert!(category.table().windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
        assert!(EXTRA_CASES.is_sorted());
    }
}
