//! One character of a pattern: a literal, a dot or a set, with Python's rules for case.
//!
//! CPython decides `(?i)` by looking at the lower case of the subject's character, and at the few characters that share
//! their upper case with another lower-case one (`s` and `ſ`, `µ` and `μ`). A set here is tested in just that way,
//! instead of being widened by Unicode's own folding, which differs.

use crate::unicode::{CODE_MAX, Category, extra_cases, is_cased, lower, lowered, upper, within};

/// First code point beyond the Basic Multilingual Plane, where CPython's sets under `(?i)` follow other rules.
const BEYOND_BMP: u32 = 0x1_0000;

/// How a subject's character is changed before it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fold {
    /// As it is.
    None,
    /// `(?ai)`: lower case, ASCII only.
    Ascii,
    /// `(?i)`: simple lower case.
    Unicode,
}

impl Fold {
    /// The form in which characters are compared.
    pub(crate) fn apply(self, code: u32) -> u32 {
        match self {
            Fold::Ascii if code < 128 => u32::from((code as u8).to_ascii_lowercase()),
            Fold::None | Fold::Ascii => code,
            Fold::Unicode => lower(code),
        }
    }

    fn is_cased(self, code: u32) -> bool {
        match self {
            Fold::None => false,
            Fold::Ascii => code < 128 && (code as u8).is_ascii_alphabetic(),
            Fold::Unicode => is_cased(code),
        }
    }
}

/// A member of a set as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    /// One character.
    Literal(u32),
    /// Both ends belong to it.
    Range(u32, u32),
    /// `\d \s \w`, or, negated, `\D \S \W`; with `ascii`, under `(?a)`.
    Category { category: Category, ascii: bool, negated: bool },
}

/// What one character of the subject must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Single {
    /// Exactly this one.
    Char(u32),
    /// `.` with `(?s)`.
    Any,
    /// `.` without.
    NotNewline,
    /// Everything else.
    Set(Box<CharSet>),
}

impl Single {
    /// A literal, or with `negated` anything but that literal.
    pub(crate) fn literal(code: u32, fold: Fold, negated: bool) -> Single {
        if !fold.is_cased(code) {
            return if negated {
                Single::set(&[Item::Literal(code)], Fold::None, true)
            } else {
                Single::Char(code)
            };
        }
        let folded = fold.apply(code);
        let mut ranges = vec![(folded, folded)];
        if fold == Fold::Unicode {
            ranges.extend(extra_cases(folded).map(|extra| (extra, extra)));
        }
        Single::Set(Box::new(CharSet::from_parts(ranges, Vec::new(), Vec::new(), fold, negated)))
    }

    /// A set as written, with case ignored as `fold` says.
    pub(crate) fn set(items: &[Item], fold: Fold, negated: bool) -> Single {
        Single::Set(Box::new(CharSet::new(items, fold, negated)))
    }

    /// Whether the subject's character `code` is accepted.
    #[inline]
    pub(crate) fn contains(&self, code: u32) -> bool {
        match self {
            Single::Char(char) => *char == code,
            Single::Any => true,
            Single::NotNewline => code != u32::from(b'\n'),
            Single::Set(set) => set.contains(code),
        }
    }

    /// Whether it accepts everything.
    pub(crate) fn is_any(&self) -> bool {
        *self == Single::Any
    }

    /// The one character that it doesn't accept, if there is just one, of ASCII.
    pub(crate) fn only_exception(&self) -> Option<u8> {
        match self {
            Single::NotNewline => Some(b'\n'),
            Single::Set(set) => match set.ranges[..] {
                [(first, last)]
                    if set.negated
                        && set.fold == Fold::None
                        && set.categories.is_empty()
                        && first == last =>
                {
                    u8::try_from(first).ok().filter(u8::is_ascii)
                }
                _ => None,
            },
            Single::Char(_) | Single::Any => None,
        }
    }

    /// Bytes that it takes.
    pub(crate) fn memory_usage(&self) -> usize {
        let beside = match self {
            Single::Char(_) | Single::Any | Single::NotNewline => 0,
            Single::Set(set) => {
                size_of::<CharSet>()
                    + (set.ranges.len() + set.upper_ranges.len()) * size_of::<(u32, u32)>()
                    + set.categories.len() * size_of::<(Category, bool, bool)>()
            }
        };
        size_of::<Single>() + beside
    }

    /// All accepted characters as sorted ranges; `None` if the subject's case is changed first, which ranges can't say.
    pub(crate) fn ranges(&self) -> Option<Vec<(u32, u32)>> {
        match self {
            Single::Char(char) => Some(vec![(*char, *char)]),
            Single::Any => Some(vec![(0, CODE_MAX)]),
            Single::NotNewline => Some(vec![(0, 9), (11, CODE_MAX)]),
            Single::Set(set) => set.all_ranges(),
        }
    }
}

/// A set of characters, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CharSet {
    /// The answers for ASCII, bit by bit, all rules applied.
    ascii: u128,
    /// Literals and ranges, folded, sorted and merged.
    ranges: Box<[(u32, u32)]>,
    /// Ranges beyond the BMP under `(?i)`, which the upper case may lie in too.
    upper_ranges: Box<[(u32, u32)]>,
    categories: Box<[(Category, bool, bool)]>,
    fold: Fold,
    negated: bool,
}

impl CharSet {
    fn new(items: &[Item], fold: Fold, negated: bool) -> CharSet {
        let has_cased = items.iter().any(|item| is_item_cased(item, fold));
        let mut ranges = Vec::new();
        let mut upper_ranges = Vec::new();
        let mut categories = Vec::new();
        for item in items {
            match *item {
                Item::Literal(code) => push_literal(code, fold, &mut ranges),
                Item::Range(first, last) => {
                    push_range(first, last, fold, &mut ranges);
                    if fold == Fold::Unicode && last >= BEYOND_BMP {
                        upper_ranges.push((first, last));
                    }
                }
                Item::Category { category, ascii, negated } => categories.push((category, ascii, negated)),
            }
        }
        let fold = if has_cased { fold } else { Fold::None };
        CharSet::from_parts(ranges, upper_ranges, categories, fold, negated)
    }

    fn from_parts(
        ranges: Vec<(u32, u32)>,
        upper_ranges: Vec<(u32, u32)>,
        categories: Vec<(Category, bool, bool)>,
        fold: Fold,
        negated: bool,
    ) -> CharSet {
        let mut set = CharSet {
            ascii: 0,
            ranges: merged(ranges).into(),
            upper_ranges: upper_ranges.into(),
            categories: categories.into(),
            fold,
            negated,
        };
        for code in 0..128 {
            set.ascii |= u128::from(set.compute(code)) << code;
        }
        set
    }

    #[inline]
    fn contains(&self, code: u32) -> bool {
        if code < 128 { self.ascii >> code & 1 == 1 } else { self.compute(code) }
    }

    fn compute(&self, code: u32) -> bool {
        let code = self.fold.apply(code);
        let is_member = within(&self.ranges, code)
            || self
                .categories
                .iter()
                .any(|&(category, ascii, negated)| category.contains(code, ascii) != negated)
            || (!self.upper_ranges.is_empty() && self.contains_upper(code));
        is_member != self.negated
    }

    fn contains_upper(&self, code: u32) -> bool {
        let upper = upper(code);
        self.upper_ranges.iter().any(|&(first, last)| (first..=last).contains(&upper))
    }

    fn all_ranges(&self) -> Option<Vec<(u32, u32)>> {
        if self.fold != Fold::None {
            return None;
        }
        let mut ranges = self.ranges.to_vec();
        for &(category, ascii, negated) in &self.categories {
            let members = category_ranges(category, ascii);
            ranges.extend(if negated { complement(&members) } else { members });
        }
        let ranges = merged(ranges);
        Some(if self.negated { complement(&ranges) } else { ranges })
    }
}

/// A range beyond the BMP always counts as cased, as in CPython.
fn is_item_cased(item: &Item, fold: Fold) -> bool {
    match (*item, fold) {
        (_, Fold::None) | (Item::Category { .. }, _) => false,
        (Item::Literal(code), Fold::Unicode) if code >= BEYOND_BMP => true,
        (Item::Range(_, last), Fold::Unicode) if last >= BEYOND_BMP => true,
        (Item::Literal(code), _) => fold.is_cased(code),
        (Item::Range(first, last), _) => (first..=last).any(|code| fold.is_cased(code)),
    }
}

/// A literal beyond the BMP is compared as written: inside a set under `(?i)`, an upper-case one matches nothing in
/// CPython, and nothing here.
fn push_literal(code: u32, fold: Fold, ranges: &mut Vec<(u32, u32)>) {
    if fold == Fold::Unicode && code >= BEYOND_BMP {
        return ranges.push((code, code));
    }
    push_folded(fold.apply(code), fold, ranges);
}

fn push_folded(folded: u32, fold: Fold, ranges: &mut Vec<(u32, u32)>) {
    ranges.push((folded, folded));
    if fold == Fold::Unicode {
        ranges.extend(extra_cases(folded).map(|extra| (extra, extra)));
    }
}

/// The range itself stays, upper case included: subjects arrive in lower case, so that those members are never asked
/// for.
fn push_range(first: u32, last: u32, fold: Fold, ranges: &mut Vec<(u32, u32)>) {
    ranges.push((first, last));
    match fold {
        Fold::None => {}
        Fold::Ascii => {
            let folded = (first..=last.min(127)).map(|code| fold.apply(code));
            ranges.extend(folded.map(|code| (code, code)));
        }
        Fold::Unicode => {
            let start = lowered().partition_point(|&(code, _)| code < first);
            for &(code, lower) in &lowered()[start..] {
                if code > last || code >= BEYOND_BMP {
                    break;
                }
                push_folded(lower, fold, ranges);
            }
            push_extra_cases_within(first, last, ranges);
        }
    }
}

/// Lower-case members of a range bring their extra cases too.
fn push_extra_cases_within(first: u32, last: u32, ranges: &mut Vec<(u32, u32)>) {
    let table = crate::tables::EXTRA_CASES;
    let start = table.partition_point(|&(code, _)| code < first);
    ranges.extend(
        table[start..].iter().take_while(|&&(code, _)| code <= last).map(|&(_, extra)| (extra, extra)),
    );
}

fn category_ranges(category: Category, ascii: bool) -> Vec<(u32, u32)> {
    let of_ascii = (0..128).filter(|&code| category.contains(code, ascii)).map(|code| (code, code));
    let beyond = category.table().iter().filter(|&&(_, last)| !ascii && last >= 128);
    of_ascii.chain(beyond.map(|&(first, last)| (first.max(128), last))).collect()
}

fn merged(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    let mut result: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match result.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => result.push((first, last)),
        }
    }
    result
}

fn complement(ranges: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut result = Vec::with_capacity(ranges.len() + 1);
    let mut next = 0;
    for &(first, last) in ranges {
        if next < first {
            result.push((next, first - 1));
        }
        next = last + 1;
    }
    if next <= CODE_MAX {
        result.push((next, CODE_MAX));
    }
    result
}
