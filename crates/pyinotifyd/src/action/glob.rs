//! Globs over whole paths, as SQLite's GLOB: `*` and `?` stand for slashes, too, `[...]` for one of a set.

/// A glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(pub String);

impl Glob {
    /// Whether it matches all of a path.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        matches(self.0.as_bytes(), path)
    }
}

/// Goes back to the latest `*` where the rest does not match: at most the product of both lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, place));
            at += 1;
        } else if place == text.len() {
            return at == pattern.len();
        } else if let Some(next) = one(pattern, at, text[place]) {
            (at, place) = (next, place + 1);
        } else if let Some((star_at, star_place)) = star {
            (at, place) = (star_at + 1, star_place + 1);
            star = Some((star_at, star_place + 1));
        } else {
            return false;
        }
    }
}

/// Where the pattern goes on behind what stands for one byte at `place`, if that is this byte.
fn one(pattern: &[u8], place: usize, byte: u8) -> Option<usize> {
    match *pattern.get(place)? {
        b'?' => Some(place + 1),
        b'[' => {
            let is_negated = pattern.get(place + 1) == Some(&b'^');
            let start = place + 1 + usize::from(is_negated);
            // A bracket that comes first is one of the set.
            let end = start + 1 + pattern.get(start + 1..)?.iter().position(|byte| *byte == b']')?;
            (is_in(&pattern[start..end], byte) != is_negated).then_some(end + 1)
        }
        literal => (literal == byte).then_some(place + 1),
    }
}

fn is_in(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == b'-' {
            if (set[at]..=set[at + 2]).contains(&byte) {
                return true;
            }
            at += 3;
        } else if set[at] == byte {
            return true;
        } else {
            at += 1;
        }
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
            ("/in/[]]", "/in/]", true),
            ("/in/[a", "/in/[a", false),
            ("*a*b*c*", "/xxaxxbxxcxx", true),
            ("*a*b*c", "/xxaxxbxxcxx", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Glob(pattern.to_owned()).matches(path.as_bytes()), expected, "{pattern} {path}");
        }
        let hostile = "a*".repeat(200) + "b";
        assert!(!Glob(hostile).matches(&[b'a'; 4096]));
    }
}
