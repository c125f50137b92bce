//! Globs over whole paths, as SQLite's GLOB: `*` and `?` stand for slashes, too, `[...]` for one of a set, `[!...]` and
//! `[^...]` for one that is not in it. Unlike with SQLite's own, bytes that are not UTF-8 are told apart.

/// A glob, of any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(pub Vec<u8>);

impl Glob {
    /// What stands for all paths below a directory.
    pub fn below(directory: &[u8]) -> Glob {
        let literal = directory.iter().flat_map(|byte| match byte {
            b'*' | b'?' | b'[' => vec![b'[', *byte, b']'],
            _ => vec![*byte],
        });
        Glob(literal.chain(*b"/*").collect())
    }

    /// Whether it matches all of a path.
    pub fn matches(&self, path: &[u8]) -> bool {
        matches(&self.0, path)
    }
}

/// The letter at a place and where the next one begins; a byte that is not UTF-8 is a letter of its own.
fn letter(text: &[u8], at: usize) -> Option<(u32, usize)> {
    let first = *text.get(at)?;
    if first.is_ascii() {
        return Some((first.into(), at + 1));
    }
    let begun = &text[at..text.len().min(at + LETTER_BYTES_MAX)];
    let decoded = begun.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    Some(decoded.map_or((BEHIND_ALL_LETTERS + u32::from(first), at + 1), |found| {
        (found.into(), at + found.len_utf8())
    }))
}

const LETTER_BYTES_MAX: usize = 4;
/// No letter has so high a number.
const BEHIND_ALL_LETTERS: u32 = char::MAX as u32 + 1;

/// Whether a glob matches all of a text. Goes back to the latest `*` where the rest does not match: at most the product
/// of both lengths.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, place));
            at += 1;
        } else if place == text.len() {
            return at == pattern.len();
        } else if let Some((found, after)) = letter(text, place)
            && let Some(next) = one(pattern, at, found)
        {
            (at, place) = (next, after);
        } else if let Some((star_at, star_place)) = star {
            let after = letter(text, star_place).map_or(text.len(), |(_, after)| after);
            (at, place) = (star_at + 1, after);
            star = Some((star_at, after));
        } else {
            return false;
        }
    }
}

/// Where the pattern goes on behind what stands for one letter at `place`, if that is this letter.
fn one(pattern: &[u8], place: usize, found: u32) -> Option<usize> {
    match *pattern.get(place)? {
        b'?' => Some(place + 1),
        b'[' => {
            let is_negated = matches!(pattern.get(place + 1), Some(b'!' | b'^'));
            let start = place + 1 + usize::from(is_negated);
            // A bracket that comes first is one of the set.
            let end = start + 1 + pattern.get(start + 1..)?.iter().position(|byte| *byte == b']')?;
            (is_in(&pattern[start..end], found) != is_negated).then_some(end + 1)
        }
        _ => letter(pattern, place).filter(|(wanted, _)| *wanted == found).map(|(_, next)| next),
    }
}

fn is_in(set: &[u8], found: u32) -> bool {
    let mut at = 0;
    while let Some((first, next)) = letter(set, at) {
        let last = letter(set, next + 1).filter(|_| set[next] == b'-');
        let (last, after) = last.unwrap_or((first, next));
        if (first..=last).contains(&found) {
            return true;
        }
        at = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_paths_and_cross_slashes() {
        let cases = [
            ("/in/*", "/in/a/b", true),
            ("/in/*.txt", "/in/a/b.txt", true),
            ("/in/?", "/in/ab", false),
            ("*", "", true),
            ("", "", true),
            ("/in", "/in/", false),
            ("/in/[a-c]x", "/in/bx", true),
            ("/in/[^a-c]x", "/in/bx", false),
            ("/in/[!a-c]x", "/in/bx", false),
            ("/in/[!a-c]x", "/in/!x", true),
            ("/in/[!]]", "/in/]", false),
            ("/in/[a!]", "/in/!", true),
            ("/in/[]]", "/in/]", true),
            ("/in/[a", "/in/[a", false),
            ("/in/[a-]", "/in/-", true),
            ("/in/?", "/in/\u{fc}", true),
            ("/in/??", "/in/\u{fc}", false),
            ("/in/[\u{e4}-\u{fc}]x", "/in/\u{f6}x", true),
            ("/in/[^a]x", "/in/\u{f6}x", true),
            ("*a*b*c*", "/xxaxxbxxcxx", true),
            ("*a*b*c", "/xxaxxbxxcxx", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Glob(pattern.into()).matches(path.as_bytes()), expected, "{pattern} {path}");
        }
        let hostile = "a*".repeat(200) + "b";
        assert!(!Glob(hostile.into()).matches(&[b'a'; 4096]));
    }

    #[test]
    fn a_directory_stands_for_what_is_below_it_whatever_its_name() {
        for name in [&b"/in/a"[..], b"/in/[a-c]", b"/in/*?", b"/in/]^", b"/in/\xff["] {
            let glob = Glob::below(name);
            assert!(glob.matches(&[name, b"/x/y"].concat()), "{}", name.escape_ascii());
            assert!(!glob.matches(name) && !glob.matches(b"/in/b/x"), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_letters_of_their_own() {
        let cases: [(&[u8], &[u8], bool); 6] = [
            (b"/in/\xff*", b"/in/\xffx", true),
            (b"/in/\xff*", b"/in/\xfex", false),
            (b"/in/?", b"/in/\xff", true),
            (b"/in/?\xbc", b"/in/\xc3\xbc", false),
            (b"/in/[\xf0-\xff]", b"/in/\xfe", true),
            (b"*\xbc", b"/in/\xc3\xbc", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Glob(pattern.to_vec()).matches(path), expected, "{}", pattern.escape_ascii());
        }
    }
}
