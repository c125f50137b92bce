//! Which of some paths are missing, on a filesystem that may not answer.

use std::time::Instant;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Lanes, Report};
use crate::lane::{LaneId, Once, Size, Undone};
use crate::log::Escaped;

/// A path that was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Which.
    pub path: Vec<u8>,
    /// It does not exist. A path that cannot be looked at is not missing.
    pub is_missing: bool,
}

/// Whether a path does not exist. Waits for its filesystem.
pub(crate) fn is_missing(path: &[u8]) -> bool {
    matches!(rustix::fs::lstat(path), Err(Errno::NOENT | Errno::NOTDIR))
}

/// Asks for a look at paths on the filesystem of a device; one report tells of all of them.
pub(crate) fn look(device: u64, paths: Vec<Vec<u8>>, lanes: &mut Lanes, now: Instant) {
    let Some(first) = paths.first() else { return };
    let about = format!("look whether '{}' exists", Escaped(first));
    let given_up = paths.clone();
    let run = move || Report::Looked(paths.into_iter().map(Looked::at).collect());
    let unknown = |path: &Vec<u8>| Looked { path: path.clone(), is_missing: false };
    let undone = move |_: Undone| Report::Looked(given_up.iter().map(unknown).collect());
    lanes.submit(LaneId::Filesystem(device), Size::Large, Once::new(about, run, undone), now);
}

impl Looked {
    fn at(path: Vec<u8>) -> Looked {
        Looked { is_missing: is_missing(&path), path }
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
    let undone = move |_: Undone| Report::Stands(number, Standing::Unknown(Errno::AGAIN));
    lanes.submit(LaneId::Filesystem(device), Size::Small, Once::new(about, run, undone), now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_exist_is_missing() {
        let looked = |path: &[u8]| Looked::at(path.to_vec()).is_missing;
        assert!(looked(b"/nowhere") && looked(b"/dev/null/below a file"));
        assert_eq!(Standing::of(b"/nowhere"), Standing::Missing);
        assert_eq!(Standing::of(b"/"), Standing::Is(FileType::Directory));
        assert_eq!(Standing::of(&[b'x'; 5_000]), Standing::Unknown(Errno::NAMETOOLONG));
        assert!(!looked(b"/dev/null") && !looked(&[b'x'; 5_000]));
    }
}
