//! Python's `glob.glob(path)` without `recursive`, on bytes.
//!
//! Source: the library reference of `glob` and `fnmatch`. `*`, `?` and `[...]` match within one component; a leading
//! dot is matched only by a dot; `**` is `*`. A character is a character of UTF-8, or one byte that is not UTF-8 (as
//! surrogateescape has it).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Whether the path has any character that makes it a pattern.
pub(crate) fn has_magic(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// How much of a pattern is before its first component with magic.
pub fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = b"/".to_vec();
    for part in crate::path::components(pattern).take_while(|part| !has_magic(part)) {
        crate::path::push(&mut prefix, part);
    }
    prefix
}

/// The one path that a pattern matches, if all wildcards in it stand for themselves, as in `[*]`.
pub(crate) fn literal(pattern: &[u8]) -> Option<Vec<u8>> {
    let (mut path, mut rest) = (Vec::new(), pattern);
    while let [first, tail @ ..] = rest {
        let (byte, behind) = match rest {
            [b'[', byte @ (b'*' | b'?' | b'['), b']', behind @ ..] => (byte, behind),
            [b'*' | b'?' | b'[', ..] => return None,
            _ => (first, tail),
        };
        path.push(*byte);
        rest = behind;
    }
    Some(path)
}

/// All existing paths that match `pattern`, which is absolute, sorted. A trailing slash asks for directories. What
/// `may_ask` forbids to ask about counts as there, and its entries as not.
pub(crate) fn expand(pattern: &[u8], may_ask: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let dirs_only = pattern.ends_with(b"/");
    let mut found = vec![b"/".to_vec()];
    for part in crate::path::components(pattern) {
        found = found.iter().flat_map(|dir| step(dir, part, &may_ask)).collect();
    }
    found.retain(|path| !dirs_only || !may_ask(path) || as_path(path).is_dir());
    found.sort();
    found
}

/// The entries of `dir` that one component of the pattern names.
pub(crate) fn step(dir: &[u8], part: &[u8], may_ask: &impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let join = |name: &[u8]| {
        let mut path = dir.to_vec();
        crate::path::push(&mut path, name);
        path
    };
    if !has_magic(part) {
        let path = join(part);
        // A dangling link exists as a name, as os.path.lexists says.
        let exists = !may_ask(&path) || as_path(&path).symlink_metadata().is_ok();
        return if exists { vec![path] } else { Vec::new() };
    }
    if !may_ask(dir) {
        return Vec::new();
    }
    let pattern = characters(part);
    // What can't be listed matches nothing, as in Python.
    let Ok(entries) = std::fs::read_dir(as_path(dir)) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    names.filter(|name| matches_name(&pattern, name.as_bytes())).map(|name| join(name.as_bytes())).collect()
}

/// Whether one component of a pattern, with magic or without, names the entry.
pub(crate) fn is_match(part: &[u8], name: &[u8]) -> bool {
    if has_magic(part) { matches_name(&characters(part), name) } else { part == name }
}

/// Whether a path of a watch, with wildcards or without, names a path, as far as text alone tells.
pub fn names(pattern: &[u8], path: &[u8]) -> bool {
    let (mut parts, mut names) = (crate::path::components(pattern), crate::path::components(path));
    loop {
        match (parts.next(), names.next()) {
            (None, None) => return true,
            (Some(part), Some(name)) if is_match(part, name) => {}
            _ => return false,
        }
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn matches_name(pattern: &[char], name: &[u8]) -> bool {
    (!name.starts_with(b".") || pattern.first() == Some(&'.')) && matches(pattern, &characters(name))
}

/// Text as characters; each byte that is not UTF-8 becomes one of a private plane, as good as any other.
fn characters(bytes: &[u8]) -> Vec<char> {
    let escape =
        |byte: &u8| char::from_u32(0x10_ff00 + u32::from(*byte)).expect("plane 16 has such characters");
    bytes
        .utf8_chunks()
        .flat_map(|chunk| chunk.valid().chars().chain(chunk.invalid().iter().map(escape)).collect::<Vec<_>>())
        .collect()
}

/// fnmatch: the usual two-pointer search, which only ever returns to the last star. Linear in space, at worst
/// quadratic in time for names of at most 255 bytes.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while pos < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, pos));
                at += 1;
            }
            Some(_) if let_one(pattern, at, name[pos]).is_some() => {
                at += let_one(pattern, at, name[pos]).expect("was just matched");
                pos += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                (at, pos) = (after, from + 1);
                star = Some((after, from + 1));
            }
        }
    }
    pattern[at..].iter().all(|&character| character == '*')
}

/// Length of the pattern's item at `at` if it matches `character`.
fn let_one(pattern: &[char], at: usize, character: char) -> Option<usize> {
    match pattern[at] {
        '?' => Some(1),
        '[' => match set_end(pattern, at) {
            Some(end) => set_matches(&pattern[at + 1..end], character).then_some(end + 1 - at),
            None => (character == '[').then_some(1),
        },
        literal => (literal == character).then_some(1),
    }
}

/// Where the set that opens at `at` closes; a `]` that comes first (after `!`) belongs to the set.
fn set_end(pattern: &[char], at: usize) -> Option<usize> {
    let mut from = at + 1;
    from += usize::from(pattern.get(from) == Some(&'!'));
    from += usize::from(pattern.get(from) == Some(&']'));
    (from..pattern.len()).find(|&end| pattern[end] == ']')
}

fn set_matches(set: &[char], character: char) -> bool {
    let (negated, set) = match set {
        ['!', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut at = 0;
    let mut found = false;
    while at < set.len() {
        // A range needs a character on both sides of the hyphen; otherwise the hyphen is itself.
        if at + 2 < set.len() && set[at + 1] == '-' {
            found |= (set[at]..=set[at + 2]).contains(&character);
            at += 3;
        } else {
            found |= set[at] == character;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Results of CPython 3.11's `fnmatch.fnmatchcase`, plus the rule on dots.
    #[test]
    fn names_match_as_in_python() {
        let cases: [(&str, &[u8], bool); 26] = [
            ("*", b"abc", true),
            ("*", b".abc", false),
            (".*", b".abc", true),
            ("[.]*", b".abc", false),
            ("?", b"a", true),
            ("?", "\u{e4}".as_bytes(), true),
            ("??", "\u{e4}".as_bytes(), false),
            ("?", b"\xff", true),
            ("a*c", b"abc", true),
            ("a*c", b"abd", false),
            ("a*b*c", b"axbxbxc", true),
            ("**", b"abc", true),
            ("[ab]", b"a", true),
            ("[!ab]", b"a", false),
            ("[!ab]", b"c", true),
            ("[a-c]x", b"bx", true),
            ("[a-c]x", b"dx", false),
            ("[]]", b"]", true),
            ("[!]]", b"]", false),
            ("[!]]", b"x", true),
            ("[", b"[", true),
            ("a[b", b"a[b", true),
            ("[a-]", b"-", true),
            ("[-a]", b"-", true),
            ("", b"", true),
            ("*a", b"aaab", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches_name(&characters(pattern.as_bytes()), name), expected, "{pattern} {name:?}");
        }
    }

    #[test]
    fn a_pattern_without_a_wildcard_is_one_path() {
        for (pattern, path) in [
            ("/a/i[[]n][*][?]", Some("/a/i[n]*?")),
            ("/a", Some("/a")),
            ("/a[*]*", None),
            ("/a[", None),
            ("/[ab]", None),
            ("/a[[]", Some("/a[")),
            ("/a?", None),
        ] {
            assert_eq!(literal(pattern.as_bytes()), path.map(|path| path.as_bytes().to_vec()), "{pattern}");
        }
    }

    #[test]
    fn paths_expand_to_what_exists() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a1", "a2/in", ".hidden/in", "b/in"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("a3"), "").unwrap();
        let expand_in = |pattern: &str| {
            let full = dir.path().join(pattern);
            let prefix = dir.path().as_os_str().len() + 1;
            let found = expand(full.as_os_str().as_bytes(), |_| true);
            found.iter().map(|path| String::from_utf8_lossy(&path[prefix..]).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(expand_in("a*"), ["a1", "a2", "a3"]);
        assert_eq!(expand_in("a*/"), ["a1", "a2"]);
        assert_eq!(expand_in("*/in"), ["a2/in", "b/in"]);
        assert_eq!(expand_in(".h*/in"), [".hidden/in"]);
        assert_eq!(expand_in("**/in"), ["a2/in", "b/in"]);
        assert_eq!(expand_in("nothing*"), [""; 0]);
        let server = dir.path().join("a2");
        let may_ask = |path: &[u8]| !path.starts_with(server.as_os_str().as_bytes());
        let pattern = dir.path().join("*/*");
        let found = expand(pattern.as_os_str().as_bytes(), may_ask);
        assert_eq!(found, [dir.path().join("b/in").as_os_str().as_bytes()], "its entries are not asked for");
        assert_eq!(expand(server.join("no").as_os_str().as_bytes(), may_ask).len(), 1, "it may be there");
        assert_eq!(literal_prefix(b"/a/b*/c"), b"/a");
    }
}
