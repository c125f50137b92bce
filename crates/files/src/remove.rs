//! Removing files and trees.
//!
//! Owns the delete action, the removal of the source after a move across filesystems, and the removal of our own
//! unfinished trees. Everything is removed by its name in a directory that is held; no link is followed, and what is
//! mounted inside a tree is not touched.

use rustix::io::Errno;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Owner, Refusal};
use crate::resolve::{self, Place};
use crate::sys::{self, Kind, Status};
use crate::walk::{self, Entry, Visit, Walk};
use crate::{Done, Held, Record, Request};

/// The delete action.
pub(crate) fn delete(
    request: &Request<'_>,
    held: &mut Held,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<Done, Error> {
    let place = match resolve::source(request, held) {
        Ok(place) => place,
        Err(error) => {
            record(Record::Delete(request.source));
            return Err(error);
        }
    };
    let path = request.source;
    let status = sys::status_at(&place.directory, place.name);
    if let Ok(status) = &status
        && request.is_unchanged(status)
    {
        return Ok(Done { identity: Some(status.identity()), bytes: 0, unchanged: true });
    }
    let is_tree = status.as_ref().is_ok_and(|status| status.kind == Kind::Directory && request.rule.rec);
    request.check_brief(is_tree)?;
    record(Record::Delete(path));
    let status = status.map_err(|errno| Error::os(errno, path))?;
    let failed = |errno| Error::os(errno, path);
    match status.kind {
        Kind::Directory if request.rule.rec => everything(&place, request.stop)?,
        Kind::Directory => sys::remove_directory(&place.directory, place.name).map_err(failed)?,
        Kind::File | Kind::Link | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => {
            sys::remove_file(&place.directory, place.name).map_err(failed)?;
        }
    }
    Ok(Done { identity: Some(status.identity()), bytes: 0, unchanged: false })
}

/// Removes a directory with all that is in it.
fn everything(place: &Place<'_>, stop: &AtomicBool) -> Result<(), Error> {
    let removal = Removal { what: What::Everything, stop: Some(stop) };
    removal.tree(place.directory.as_fd(), place.name, &place.path)
}

/// Removes an unfinished tree of ours, whatever modes its directories were given already.
pub(crate) fn own_tree(at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    Removal { what: What::Own, stop: None }.tree(at, name, name)
}

/// Removes the source of a move, of which everything that was seen is in its new place: what came or changed since is
/// kept, and an error.
pub(crate) fn moved_tree(place: &Place<'_>, moved: &Fingerprints) -> Result<(), Error> {
    Removal { what: What::Moved(moved), stop: None }.tree(place.directory.as_fd(), place.name, &place.path)
}

/// Which files and links a move has copied, and in which state: eight bytes each.
#[derive(Default)]
pub(crate) struct Fingerprints {
    secret: RandomState,
    set: HashSet<u64>,
}

impl Fingerprints {
    pub(crate) fn add(&mut self, status: &Status) {
        self.set.insert(self.of(status));
    }

    fn contains(&self, status: &Status) -> bool {
        self.set.contains(&self.of(status))
    }

    /// The time of the last change is left out: it changes when another name of the same file is removed.
    fn of(&self, status: &Status) -> u64 {
        self.secret.hash_one((status.inode, status.size, status.mtime.tv_sec, status.mtime.tv_nsec))
    }
}

enum What<'a> {
    Everything,
    Own,
    Moved(&'a Fingerprints),
}

struct Removal<'a> {
    what: What<'a>,
    stop: Option<&'a AtomicBool>,
}

impl Removal<'_> {
    fn tree(&self, at: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), Error> {
        let top = walk::open_on_same_mount(at, name).map_err(|errno| walk::not_entered(errno, path))?;
        let mut walk = Walk::start(top, path)?;
        self.list(&mut walk)?;
        loop {
            while let Some(name) = walk.next() {
                let directory = walk::open_on_same_mount(walk.directory(), &name)
                    .map_err(|errno| walk::not_entered(errno, &walk.path_of(&name)))?;
                walk.enter(&name, directory, false)?;
                self.list(&mut walk)?;
            }
            let done = walk.path().to_vec();
            match walk.leave()? {
                (left, Some(above)) => {
                    sys::remove_directory(above.directory(), &left.name)
                        .map_err(|errno| Error::os(errno, &done))?;
                    walk = above;
                }
                (_, None) => return sys::remove_directory(at, name).map_err(|errno| Error::os(errno, path)),
            }
        }
    }

    /// Removes everything in the current directory but directories, which are left for later.
    fn list(&self, walk: &mut Walk) -> Result<(), Error> {
        if matches!(self.what, What::Own) {
            // Its final mode may keep even its owner out; if this fails, so will the removal, and that is reported.
            let _ = sys::set_mode(walk.directory(), 0o700);
        }
        walk.list(|entry| {
            if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(Error::Stopped { path: entry.path() });
            }
            if entry.kind == Kind::Directory {
                return Ok(Visit::Later);
            }
            if let What::Moved(moved) = &self.what {
                check_moved(moved, entry)?;
            }
            match sys::remove_file(entry.directory, entry.name) {
                // The listing did not know that it is a directory; gone already is as good as removed.
                Err(Errno::ISDIR) => Ok(Visit::Later),
                Err(Errno::NOENT) => Ok(Visit::Done),
                result => result.map(|()| Visit::Done).map_err(|errno| entry.failed(errno)),
            }
        })
    }
}

/// Refuses to remove what is not in its new place in its present state.
fn check_moved(moved: &Fingerprints, entry: &Entry<'_>) -> Result<(), Error> {
    let status = sys::status_at(entry.directory, entry.name).map_err(|errno| entry.failed(errno))?;
    if moved.contains(&status) || status.kind == Kind::Directory {
        return Ok(());
    }
    Err(Refusal::Replaced { path: entry.path(), owner: Some(Owner(status.uid)) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_any_change_of_a_file_but_that_of_its_names() {
        let status = sys::status_at(sys::CWD, b"/").unwrap();
        let later = |time: rustix::fs::Timespec, seconds, nanoseconds| rustix::fs::Timespec {
            tv_sec: time.tv_sec + seconds,
            tv_nsec: time.tv_nsec + nanoseconds,
        };
        let mut moved = Fingerprints::default();
        moved.add(&status);
        assert!(moved.contains(&Status { ctime: later(status.ctime, 1, 0), links: 7, ..status }));
        let inode = |dev, ino| sys::Inode { dev: status.inode.dev + dev, ino: status.inode.ino + ino };
        for other in [
            Status { inode: inode(1, 0), ..status },
            Status { inode: inode(0, 1), ..status },
            Status { size: status.size + 1, ..status },
            Status { mtime: later(status.mtime, 1, 0), ..status },
            Status { mtime: later(status.mtime, 0, 1), ..status },
        ] {
            assert!(!moved.contains(&other), "{other:?} is not {status:?}");
        }
    }
}
