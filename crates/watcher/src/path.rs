//! Paths as bytes: made absolute and normal without asking the filesystem.

/// `path` as seen from `cwd`, absolute and normal, as Python's `os.path.abspath` makes it: `.`, `..`, doubled and
/// trailing slashes are taken out textually, links are not followed.
pub(crate) fn absolute(cwd: &[u8], path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let start: &[u8] = if path.starts_with(b"/") { b"" } else { cwd };
    for part in split(start).chain(split(path)) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let mut result = vec![b'/'];
    result.extend_from_slice(&parts.join(&b'/'));
    result
}

/// A relative path made normal, as Python's `os.path.normpath` does; `.` for the directory itself.
pub(crate) fn normal_relative(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in split(path) {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') }
}

fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
}

/// The names that lead from `/` to `path`, which is absolute and normal.
pub(crate) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    split(path).filter(|part| !part.is_empty())
}

/// Whether `path` is `top` or lies below it; both absolute and normal.
pub(crate) fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    top == b"/" || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// `path`, which is at `from` or below, as it is called where `from` is called `to`; all absolute and normal. `None` if
/// it is elsewhere.
pub(crate) fn rebased(path: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let rest = is_at_or_below(path, from).then(|| &path[from.len()..])?;
    let mut rebased = to.to_vec();
    for name in components(rest) {
        push(&mut rebased, name);
    }
    Some(rebased)
}

/// The directory of `path`, which is absolute and normal, and its name there. `None` for `/`.
pub(crate) fn parent_and_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    let name = &path[slash + 1..];
    let parent = if slash == 0 { &path[..1] } else { &path[..slash] };
    (!name.is_empty()).then_some((parent, name))
}

/// Appends `name` to the directory path in `path`.
pub(crate) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_what_python_makes_of_them() {
        let cases: [(&[u8], &[u8], &[u8]); 9] = [
            (b"/a/b", b"/a/b", b"/a/b"),
            (b"/a/b/", b"/a/b", b"/a/b"),
            (b"//a//b/./c/..", b"/a/b", b"//a/b"),
            (b"/..", b"/", b"/"),
            (b"in", b"/cwd/in", b"in"),
            (b"./in/", b"/cwd/in", b"in"),
            (b"../x", b"/x", b"../x"),
            (b".", b"/cwd", b"."),
            (b"in/../..", b"/", b".."),
        ];
        for (path, absolute_path, relative) in cases {
            assert_eq!(absolute(b"/cwd", path), absolute_path);
            if !path.starts_with(b"/") {
                assert_eq!(normal_relative(path), relative);
            }
        }
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_not_below() {
        assert!(
            is_at_or_below(b"/a", b"/a") && is_at_or_below(b"/a/b", b"/a") && is_at_or_below(b"/a", b"/")
        );
        assert!(!is_at_or_below(b"/ab", b"/a") && !is_at_or_below(b"/", b"/a"));
    }

    #[test]
    fn a_path_is_rebased_with_what_is_below() {
        for (path, from, to, expected) in [
            ("/a/b/c", "/a", "/x/y", Some("/x/y/b/c")),
            ("/a", "/a", "/x", Some("/x")),
            ("/a/b", "/", "/x", Some("/x/a/b")),
            ("/a/b", "/a", "/", Some("/b")),
            ("/a", "/a", "/", Some("/")),
            ("/ab", "/a", "/x", None),
        ] {
            let rebased = rebased(path.as_bytes(), from.as_bytes(), to.as_bytes());
            assert_eq!(rebased.as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }
}
