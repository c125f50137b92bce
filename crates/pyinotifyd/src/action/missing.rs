//! Which of some paths are missing or gone, on a filesystem that may not answer.

use std::time::Instant;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Lanes, Report};
use crate::lane::{LaneId, NotPerformed, Once, Size};
use crate::log::Escaped;

/// A path that was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Which.
    pub path: Vec<u8>,
    /// See [`is_gone`].
    pub is_gone: bool,
}

/// Whether a path does not exist. A path that cannot be looked at is not missing. Waits for its filesystem.
pub(crate) fn is_missing(path: &[u8]) -> bool {
    matches!(rustix::fs::lstat(path), Err(Errno::NOENT | Errno::NOTDIR))
}

/// Whether a path below a watch root is gone: it does not exist, and the root does. Where that is missing, or a link to
/// nothing, as on a disk that is mounted late, nothing is known of what lies below. Waits for its filesystem.
pub(crate) fn is_gone(path: &[u8], root_len: u16) -> bool {
    // A watched file is itself the root: its directory counts.
    let directory_len = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    let root = &path[..directory_len.min(usize::from(root_len))];
    let leads_nowhere = || matches!(rustix::fs::stat(root), Err(Errno::NOENT | Errno::NOTDIR));
    is_missing(path) && (root.is_empty() || !leads_nowhere())
}

/// Asks for a look at paths on the filesystem of a device, each with the length of its watch root; one report tells of
/// all of them.
pub(crate) fn look(device: u64, paths: Vec<(Vec<u8>, u16)>, lanes: &mut Lanes, now: Instant) {
    let Some((first, _)) = paths.first() else { return };
    let about = format!("look whether '{}' exists", Escaped(first));
    let given_up = paths.clone();
    let run = move || Report::Looked(paths.into_iter().map(Looked::at).collect());
    let unknown = |(path, _): &(Vec<u8>, u16)| Looked { path: path.clone(), is_gone: false };
    let not_performed = move |_: NotPerformed| Report::Looked(given_up.iter().map(unknown).collect());
    lanes.submit(LaneId::Filesystem(device), Size::Large, Once::new(about, run, not_performed), now);
}

impl Looked {
    fn at((path, root_len): (Vec<u8>, u16)) -> Looked {
        Looked { is_gone: is_gone(&path, root_len), path }
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// An object of this kind.
    Is(FileType),
    /// Nothing.
    Missing,
    /// It cannot be looked at.
    Unknown(Errno),
}

impl Standing {
    /// Looks at a path. Waits for its filesystem.
    pub(crate) fn of(path: &[u8]) -> Standing {
        match rustix::fs::lstat(path) {
            Ok(stat) => Standing::Is(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT | Errno::NOTDIR) => Standing::Missing,
            Err(errno) => Standing::Unknown(errno),
        }
    }
}

/// Asks what stands at a path on the filesystem of a device; the report has the number.
pub(crate) fn stand(device: u64, number: u64, path: Vec<u8>, lanes: &mut Lanes, now: Instant) {
    let about = format!("look at '{}'", Escaped(&path));
    let run = move || Report::Stands(number, Standing::of(&path));
    let not_performed = move |_: NotPerformed| Report::Stands(number, Standing::Unknown(Errno::AGAIN));
    lanes.submit(LaneId::Filesystem(device), Size::Small, Once::new(about, run, not_performed), now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_exist_is_missing() {
        let looked = |path: &[u8]| Looked::at((path.to_vec(), 1)).is_gone;
        assert!(looked(b"/nowhere") && looked(b"/dev/null/below a file"));
        assert_eq!(Standing::of(b"/nowhere"), Standing::Missing);
        assert_eq!(Standing::of(b"/"), Standing::Is(FileType::Directory));
        assert_eq!(Standing::of(&[b'x'; 5_000]), Standing::Unknown(Errno::NAMETOOLONG));
        assert!(!looked(b"/dev/null") && !looked(&[b'x'; 5_000]));
    }

    #[test]
    fn nothing_is_gone_below_a_root_that_is_missing() {
        for (path, root, gone) in [
            ("/dev/nowhere", "/dev", true),
            ("/dev/nowhere/f", "/dev", true),
            ("/dev/nowhere/f", "/dev/nowhere", false),
            ("/nowhere", "/", true),
            ("/nowhere", "", true),
            ("/dev/nowhere", "/dev/nowhere", true),
            ("/nowhere/f", "/nowhere/f", false),
        ] {
            assert_eq!(is_gone(path.as_bytes(), root.len() as u16), gone, "{path} of {root}");
        }
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("disk", &link).unwrap();
        let (path, root_len) = (link.join("f"), link.as_os_str().len() as u16);
        let path = path.as_os_str().as_encoded_bytes();
        assert!(!is_gone(path, root_len), "a link to nothing");
        std::fs::create_dir(directory.path().join("disk")).unwrap();
        assert!(is_gone(path, root_len));
    }
}
