//! Whether another daemon runs with the same config file: it would act on the same events.
//!
//! A running daemon holds flock(2) on its config file. Nothing depends on it, and a file that cannot be locked is used
//! all the same: who finds it locked says so, with the process that `/proc/locks` names.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, major, minor};
use rustix::io::Errno;
use rustix::process::getpid;

/// The lock on a config file, for as long as this lives.
#[derive(Debug)]
pub(super) struct ConfigLock {
    /// Of the file that stood at the path when it was locked. Its descriptor is close-on-exec: no command keeps the
    /// lock.
    file: File,
}

/// Who holds a lock: its pid, or `None` where that cannot be seen (it is in another PID namespace).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder(pub Option<u32>);

impl ConfigLock {
    /// Locks the file at `path`; `None` if that is not possible here, which concerns nobody.
    ///
    /// # Errors
    /// Another process holds the lock.
    pub(super) fn take(path: &Path) -> Result<Option<ConfigLock>, Holder> {
        let Some(file) = open(path) else { return Ok(None) };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(ConfigLock { file })),
            Err(Errno::WOULDBLOCK) => Err(Holder(holder(&file))),
            Err(_) => Ok(None),
        }
    }

    /// Whether the file at `path` is the one that is locked; an editor puts a new file in its place.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        let same = |ours: &std::fs::Metadata, theirs: &std::fs::Metadata| {
            (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
        };
        matches!((self.file.metadata(), path.metadata()), (Ok(ours), Ok(theirs)) if same(&ours, &theirs))
    }
}

/// The file, if it is one: to open a FIFO would wait for its writer.
fn open(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
}

fn holder(file: &File) -> Option<u32> {
    let found = file.metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    holder_in(&locks, found.dev(), found.ino()).filter(|pid| *pid != getpid().as_raw_nonzero().get() as u32)
}

/// The process that holds flock(2) on an inode, by `/proc/locks`: lines
/// `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF`. Overlay filesystems and btrfs show another device there than
/// stat(2) does: without one of the same device, the only one of the inode is it.
fn holder_in(locks: &str, dev: u64, ino: u64) -> Option<u32> {
    let device = format!("{:02x}:{:02x}", major(dev), minor(dev));
    let held: Vec<(&str, u32)> = locks
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, "FLOCK", _, "WRITE", pid, place, ..] = fields[..] else { return None };
            let (device, inode) = place.rsplit_once(':')?;
            (inode.parse() == Ok(ino)).then_some((device, pid.parse().ok()?))
        })
        .collect();
    let exact = held.iter().find(|(of, _)| *of == device);
    let only = if held.len() == 1 { held.first() } else { None };
    exact.or(only).map(|(_, pid)| *pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 1 fe:01:77 0 EOF
2: FLOCK  ADVISORY  READ 2 fe:01:77 0 EOF
3: -> FLOCK  ADVISORY  WRITE 3 fe:01:77 0 EOF
4: FLOCK  ADVISORY  WRITE 4 00:2b:77 0 EOF
5: FLOCK  ADVISORY  WRITE 5 fe:01:77 0 EOF
6: FLOCK  ADVISORY  WRITE 6 00:2c:78 0 EOF
nonsense";
        let dev = rustix::fs::makedev(0xfe, 1);
        assert_eq!(holder_in(locks, dev, 77), Some(5));
        assert_eq!(holder_in(locks, dev, 78), Some(6), "the device of an overlay");
        assert_eq!(holder_in(locks, rustix::fs::makedev(1, 1), 77), None, "one of two");
        assert_eq!(holder_in(locks, dev, 79), None);
    }

    #[test]
    fn a_file_is_locked_once_and_an_editor_puts_another_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.py");
        std::fs::write(&path, "").unwrap();
        let lock = ConfigLock::take(&path).unwrap().unwrap();
        assert!(lock.is_of(&path));
        assert_eq!(ConfigLock::take(&path).unwrap_err(), Holder(None), "nobody else holds it");
        std::fs::write(directory.path().join("new"), "").unwrap();
        std::fs::rename(directory.path().join("new"), &path).unwrap();
        assert!(!lock.is_of(&path));
        assert!(ConfigLock::take(&path).unwrap().is_some());
        assert!(ConfigLock::take(&directory.path().join("none")).unwrap().is_none());
        assert!(ConfigLock::take(directory.path()).unwrap().is_none(), "a directory is no file");
    }
}
