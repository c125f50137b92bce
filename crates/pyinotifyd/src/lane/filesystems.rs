//! Which filesystem a path is on, without touching one that may not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use mounts::{Mounts, Way};

/// How long an answer is believed: a link on the way may lead elsewhere afterwards, which is told only where a watch
/// leads through it. A wrong answer does no harm but that work waits in the wrong lane, and that rules which feed each
/// other are known later.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// Directories that are remembered; some 100 bytes each.
const REMEMBERED_MAX: usize = 1_024;

/// The table of mounts, and the answers of the last moments.
#[derive(Debug, Default)]
pub(crate) struct Filesystems {
    /// Read when it is needed for the first time after a change.
    mounts: Option<Mounts>,
    known: HashMap<Box<[u8]>, Filesystem>,
    known_since: Option<Instant>,
}

/// Where a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filesystem {
    /// The device number of its filesystem; 0 where there is no table of mounts.
    pub device: u64,
    /// Its path inside of that filesystem, as far as it could be followed without asking one that is not local.
    pub inside: Arc<[u8]>,
    /// How much of that is the directory which is mounted, at most all of it.
    pub mounted_len: usize,
    /// Whether calls on it wait for nothing but this machine.
    pub is_local: bool,
}

impl Filesystem {
    fn of(way: &Way<'_>) -> Filesystem {
        let inside: Arc<[u8]> = way.inside().into();
        let mounted_len = way.mount.root.len().min(inside.len());
        Filesystem { device: way.mount.device, inside, mounted_len, is_local: way.is_local() }
    }
}

impl Filesystems {
    /// Mounts came or went.
    pub(crate) fn changed(&mut self) {
        *self = Filesystems::default();
    }

    /// A link on the way to some directory may lead elsewhere now.
    pub(crate) fn forget_ways(&mut self) {
        self.known.clear();
    }

    /// For each mount that stands on another one: where it stands there, and what it shows.
    pub(crate) fn mounted(&mut self) -> Vec<(Filesystem, Filesystem)> {
        let all = self.mounts().on_others();
        all.map(|(at, shown)| (Filesystem::of(&at), Filesystem::of(&shown))).collect()
    }

    /// The filesystem of the directory in which a path's last name stands.
    pub(crate) fn of_parent(&mut self, path: &[u8], now: Instant) -> Filesystem {
        let end = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        self.of_directory(&path[..end], now)
    }

    /// The filesystem that a directory is on; a relative one, or none at all, begins at the working directory.
    pub(crate) fn of_directory(&mut self, directory: &[u8], now: Instant) -> Filesystem {
        let is_old = self.known_since.is_none_or(|since| since + BELIEVED_FOR <= now);
        if is_old || self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
            self.known_since = Some(now);
        }
        if let Some(known) = self.known.get(directory) {
            return known.clone();
        }
        let found = self.find(if directory.is_empty() { b"." } else { directory });
        self.known.insert(directory.into(), found.clone());
        found
    }

    fn find(&mut self, directory: &[u8]) -> Filesystem {
        Filesystem::of(&self.mounts().way(directory))
    }

    fn mounts(&mut self) -> &Mounts {
        // Without /proc nothing is known to be local.
        self.mounts.get_or_insert_with(|| Mounts::read().unwrap_or_else(|_| Mounts::parse(b"")))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_path_is_on_the_filesystem_of_its_directory_and_the_answer_grows_old() {
        let (directory, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut filesystems = Filesystems::default();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        let inside = |name: &str| link.join(name).as_os_str().as_bytes().to_vec();
        let device = std::fs::metadata("/proc").unwrap().dev();
        let proc = Filesystem { device, inside: b"/".as_slice().into(), mounted_len: 1, is_local: true };
        assert_eq!(filesystems.of_parent(&inside("version"), now), proc);
        assert_eq!(
            filesystems.of_parent(link.as_os_str().as_bytes(), now).device,
            link.parent().unwrap().metadata().unwrap().dev()
        );

        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/sys", &link).unwrap();
        assert_eq!(filesystems.of_parent(&inside("version"), now), proc, "believed for a moment");
        let later = filesystems.of_parent(&inside("version"), now + BELIEVED_FOR);
        assert_eq!(later.device, std::fs::metadata("/sys").unwrap().dev());
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        filesystems.forget_ways();
        assert_eq!(filesystems.of_parent(&inside("version"), now + BELIEVED_FOR), proc);
        assert_eq!(filesystems.of_parent(b"a name", now), filesystems.of_directory(b".", now));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut filesystems = Filesystems::default();
        let now = Instant::now();
        for number in 0..3 * REMEMBERED_MAX {
            filesystems.of_directory(format!("/nowhere/{number}/").as_bytes(), now);
            assert!(filesystems.known.len() <= REMEMBERED_MAX);
        }
    }
}
