//! Removing files and trees.
//!
//! Owns the delete action, the removal of the source after a move across filesystems, and the removal of our own
//! unfinished trees. Everything is removed by its name in a directory that is held; no link is followed, and what is
//! mounted inside a tree is not touched.

use rustix::io::Errno;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::conflict::{Aside, Goes};
use crate::error::{Error, Owner, Refusal, Use};
use crate::identity;
use crate::prune;
use crate::resolve::{self, Place};
use crate::sys::{self, Kind, Lease, Status, Writers};
use crate::trash;
use crate::walk::{self, Entry, Visit, Walk};
use crate::{Done, Held, Record, Request};

/// The delete action.
pub(crate) fn delete(
    request: &Request<'_>,
    held: &mut Held,
    record: &mut dyn FnMut(Record<'_>),
) -> Result<Done, Error> {
    let path = request.source;
    let failed = |errno| Error::os(errno, path);
    let looked = resolve::source(request, held).and_then(|place| {
        let status = sys::status_at(&place.directory, &place.name).map_err(failed)?;
        Ok((place, status))
    });
    let (place, status) = match looked {
        Err(error) if request.is_known_to_be_gone(&error) => {
            return Ok(Done { unchanged: true, ..Done::default() });
        }
        looked => looked?,
    };
    request.check_kind(&status)?;
    let identity = Some(status.identity());
    if request.is_unchanged(&status, &place.directory) {
        return Ok(Done { identity, unchanged: true, ..Done::default() });
    }
    let is_tree = status.kind == Kind::Directory && request.rule.rec;
    request.check_brief(is_tree)?;
    match status.kind {
        // An empty directory is no loss, and rmdir(2) finds out whether it is one.
        _ if request.rule.trash.is_some() && (status.kind != Kind::Directory || request.rule.rec) => {
            trash::take(request, place.again(), &status, record)?.keep(record);
        }
        Kind::Directory if request.rule.rec => everything(&place, request.stop)?,
        Kind::Directory => sys::remove_directory(&place.directory, &place.name).map_err(failed)?,
        Kind::File | Kind::Link | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => {
            sys::remove_file(&place.directory, &place.name).map_err(failed)?;
        }
    }
    record(Record::Delete(path));
    let pruned = prune::prune(request, &place, record);
    Ok(Done { identity, pruned, ..Done::default() })
}

/// Removes a directory with all that is in it.
fn everything(place: &Place<'_>, stop: &AtomicBool) -> Result<(), Error> {
    let removal = Removal::new(What::Everything, Some(stop));
    removal.tree(place.directory.as_fd(), &place.name, &place.path)
}

/// Removes a directory of ours that was in the trash for long enough.
pub(crate) fn trashed_tree(
    at: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
    stop: &AtomicBool,
) -> Result<(), Error> {
    Removal::new(What::Everything, Some(stop)).tree(at, name, path)
}

/// Removes an unfinished tree of ours, whatever modes its directories were given already.
pub(crate) fn own_tree(at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    Removal::new(What::Own, None).tree(at, name, name)
}

/// Removes a tree that a move has made, with all that it has made in there and nothing else.
pub(crate) fn made_tree(at: BorrowedFd<'_>, name: &[u8], made: &Fingerprints) -> Result<(), Error> {
    Removal::new(What::Made(made), None).tree(at, name, name)
}

/// Whether the source of a move could be removed, as far as can be told without doing it: a copy would be for nothing.
/// What keeps it is an error, what can't be asked is not.
pub(crate) fn check_removable(place: &Place<'_>, status: &Status) -> sys::Result<()> {
    let is_fixed = |name: &[u8]| sys::is_fixed(&place.directory, name).unwrap_or(false);
    if is_fixed(b".") || is_fixed(&place.name) {
        return Err(Errno::PERM);
    }
    // Whoever has capabilities may do what modes and owners forbid, and older kernels don't tell him that.
    let is_plain_user = !sys::has_capabilities();
    match sys::may_change(&place.directory) {
        Err(Errno::ROFS) => return Err(Errno::ROFS),
        Err(Errno::ACCESS) if is_plain_user => return Err(Errno::ACCESS),
        Ok(()) | Err(_) => {}
    }
    let Ok(above) = sys::status(&place.directory) else { return Ok(()) };
    let user = rustix::process::geteuid().as_raw();
    let is_sticky = above.mode & 0o1000 != 0;
    if is_sticky && is_plain_user && user != above.uid && user != status.uid {
        return Err(Errno::PERM);
    }
    Ok(())
}

/// Why a tree was not removed.
pub(crate) struct Unremoved {
    pub(crate) error: Error,
    /// Nothing in it was removed either.
    pub(crate) is_whole: bool,
}

/// Removes the source of a move, of which everything that was seen is in its new place: what came or changed since is
/// kept, and an error.
pub(crate) fn moved_tree(place: &Place<'_>, moved: &Fingerprints) -> Result<(), Unremoved> {
    let removal = Removal::new(What::Moved(moved), None);
    let removed = removal.tree(place.directory.as_fd(), &place.name, &place.path);
    removed.map_err(|error| Unremoved { error, is_whole: !removal.has_removed.get() })
}

/// Which files and links a move has copied, and in which state: sixteen bytes each.
#[derive(Default)]
pub(crate) struct Fingerprints {
    secret: RandomState,
    /// By inode, size and time of the last write: the number of names, and the time of the last change.
    states: HashMap<u64, (u32, u32)>,
}

impl Fingerprints {
    pub(crate) fn add(&mut self, status: &Status) {
        let (key, state) = self.of(status);
        self.states.insert(key, state);
    }

    /// Whether this state was copied, as [`Status::is_same_state`] says it.
    fn contains(&self, status: &Status) -> bool {
        let (key, (links, ctime)) = self.of(status);
        self.states.get(&key).is_some_and(|copied| copied.0 != links || copied.1 == ctime)
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is enough beside a whole one")]
    fn of(&self, status: &Status) -> (u64, (u32, u32)) {
        let key = self.secret.hash_one((status.inode, status.size, sys::nanoseconds(status.mtime)));
        let ctime = self.secret.hash_one(sys::nanoseconds(status.ctime)) as u32;
        (key, (status.links as u32, ctime))
    }
}

/// Why the source of a complete copy was not removed.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Somebody has it open for writing, or waits to.
    InUse,
    /// It is not what was copied any more; who owns it.
    Changed(Owner),
    Os(Errno),
}

/// Removes a name of which `is_copied` is in its new place in its present state. `file` is the same file, open for
/// reading: where leases are to be had, nobody can begin to write to it between the last look and the removal. What
/// somebody puts in its place meanwhile stays.
pub(crate) fn copied(
    directory: impl AsFd,
    name: &[u8],
    file: Option<BorrowedFd<'_>>,
    is_copied: impl Fn(&Status) -> bool,
) -> Result<(), Kept> {
    let lease = match file.map(sys::keep_writers_out) {
        Some(Writers::Some) => return Err(Kept::InUse),
        Some(Writers::KeptOut(lease)) => Some(lease),
        Some(Writers::Unknown) | None => None,
    };
    let now = identity::look(&is_copied, || sys::status_at(&directory, name)).map_err(Kept::Os)?;
    if !is_copied(&now) {
        return Err(Kept::Changed(Owner(now.uid)));
    }
    let aside = match Aside::set(directory.as_fd(), name, &now, Goes::Now) {
        // A disk that is full of files has no room for another name, and room is made by removing one.
        Err(Errno::NOSPC | Errno::DQUOT) => None,
        Err(Errno::EXIST) => {
            let owner = sys::status_at(&directory, name).map_or(now.uid, |now| now.uid);
            return Err(Kept::Changed(Owner(owner)));
        }
        aside => Some(aside.map_err(Kept::Os)?),
    };
    // Who has looked the name up before it goes, and opens the file after this question, writes to what nobody finds:
    // the width of one system call, and nothing can be locked against it.
    if lease.as_ref().is_some_and(Lease::is_contested) {
        return Err(Kept::InUse);
    }
    aside.map_or_else(|| sys::remove_file(&directory, name), Aside::remove).map_err(Kept::Os)
}

enum What<'a> {
    Everything,
    Own,
    Moved(&'a Fingerprints),
    Made(&'a Fingerprints),
}

struct Removal<'a> {
    what: What<'a>,
    stop: Option<&'a AtomicBool>,
    /// Anything is gone already.
    has_removed: Cell<bool>,
}

impl<'a> Removal<'a> {
    fn new(what: What<'a>, stop: Option<&'a AtomicBool>) -> Self {
        Removal { what, stop, has_removed: Cell::new(false) }
    }

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
                    self.has_removed.set(true);
                    walk = above;
                }
                (_, None) => return sys::remove_directory(at, name).map_err(|errno| Error::os(errno, path)),
            }
        }
    }

    /// Removes everything in the current directory but directories, which are left for later.
    fn list(&self, walk: &mut Walk) -> Result<(), Error> {
        if matches!(self.what, What::Own | What::Made(_)) {
            // Its final mode may keep even its owner out; if this fails, so will the removal, and that is reported.
            let _ = sys::set_mode(walk.directory(), 0o700);
        }
        let listed = walk.list(|entry| {
            if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(Error::Stopped { path: entry.path() });
            }
            if entry.kind == Kind::Directory {
                return Ok(Visit::Later);
            }
            if let What::Moved(known) | What::Made(known) = &self.what {
                let removed = known_entry(known, entry)?;
                self.has_removed.set(self.has_removed.get() || matches!(removed, Visit::Done));
                return Ok(removed);
            }
            match sys::remove_file(entry.directory, entry.name) {
                // The listing did not know that it is a directory; gone already is as good as removed.
                Err(Errno::ISDIR) => Ok(Visit::Later),
                Err(Errno::NOENT) => Ok(Visit::Done),
                result => result.map(|()| Visit::Done).map_err(|errno| entry.failed(errno)),
            }
        });
        listed.map_err(Error::from)
    }
}

/// Removes an entry of a tree in whose present state it was copied or made.
fn known_entry(known: &Fingerprints, entry: &Entry<'_>) -> Result<Visit, Error> {
    let status = sys::status_at(entry.directory, entry.name).map_err(|errno| entry.failed(errno))?;
    let file = match status.kind {
        Kind::Directory => return Ok(Visit::Later),
        Kind::File => Some(open_to_remove(entry)?),
        Kind::Link | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => None,
    };
    let is_copied = |now: &Status| now.inode == status.inode && known.contains(now);
    let removed = copied(entry.directory, entry.name, file.as_ref().map(OwnedFd::as_fd), is_copied);
    removed.map(|()| Visit::Done).map_err(|kept| match kept {
        Kept::InUse => Error::InUse { path: entry.path(), why: Use::Written },
        Kept::Changed(owner) => Refusal::Replaced { path: entry.path(), owner: Some(owner) }.into(),
        Kept::Os(errno) => entry.failed(errno),
    })
}

fn open_to_remove(entry: &Entry<'_>) -> Result<OwnedFd, Error> {
    sys::open_file(entry.directory, entry.name).map_err(|errno| match errno {
        Errno::AGAIN => Error::InUse { path: entry.path(), why: Use::Leased },
        errno => entry.failed(errno),
    })
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
        // Another name that came or went is no change of the file.
        assert!(moved.contains(&Status { ctime: later(status.ctime, 1, 0), links: 7, ..status }));
        let inode = |dev, ino| sys::Inode { dev: status.inode.dev + dev, ino: status.inode.ino + ino };
        for other in [
            Status { inode: inode(1, 0), ..status },
            Status { inode: inode(0, 1), ..status },
            Status { size: status.size + 1, ..status },
            Status { mtime: later(status.mtime, 1, 0), ..status },
            Status { mtime: later(status.mtime, 0, 1), ..status },
            Status { ctime: later(status.ctime, 0, 1), ..status },
        ] {
            assert!(!moved.contains(&other), "{other:?} is not {status:?}");
        }
    }
}
