//! Arrivals: events made up for entries that were found, because the kernel's may have come too early for us.
//!
//! Every entry is told as IN_CREATE; a regular file that nobody has open for writing also as IN_CLOSE_WRITE (if
//! somebody has, the real close will come); watches that want neither are told IN_MOVED_TO. Where the filesystem does
//! not say who is writing, a file counts as finished when size and time have not changed for a moment.
//!
//! Differs: the original tells IN_CREATE only, and so never runs IN_CLOSE_WRITE rules for files that were finished
//! before their directory was watched (`files_finished_before_the_watch_are_told`).

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use event::{Flag, Mask};
use rustix::fs::{AtFlags, FileType, Stat};
use syscall::lease::Writers;

use super::Watcher;
use super::place::{Kind, open_file};
use super::tell::Told;
use super::walk::Walk;
use crate::cover::RootId;
use crate::spec::Sink;
use crate::tree::NodeId;

/// A file whose writers can't be known: looked at again when it is due.
pub(super) struct Settling {
    node: NodeId,
    wd: i32,
    name: Box<[u8]>,
    pub(super) audience: Option<RootId>,
    size: u64,
    modified: (i64, u64),
    pub(super) due: Instant,
}

/// The coarsest times that filesystems keep: whole seconds (ext4 with inodes of 128 bytes, ext3, NFSv2), or every other
/// one (FAT).
const COARSE: Duration = Duration::from_secs(2);

/// Asking for a file's status and its writers costs about as much as so many events.
const FILE_UNITS: u32 = 10;

/// A file as a listing gives it.
pub(super) struct FoundFile<'a> {
    pub(super) node: NodeId,
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) kind: FileType,
    pub(super) inode: u64,
}

/// Whether the entry's status changed at or after a time; true if that can't be known.
pub(super) fn changed_since(dir: BorrowedFd<'_>, name: &[u8], since: SystemTime) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_since(&stat, since))
}

/// The same of an open object.
pub(super) fn object_changed_since(object: BorrowedFd<'_>, since: SystemTime) -> bool {
    rustix::fs::fstat(object).is_ok_and(|stat| is_since(&stat, since))
}

/// Whether a directory was renamed at or after a time, rather than changed: a rename leaves the time of the last change
/// of what is in it. True of one that lost its name and got it back, or another owner or mode: told once too often.
pub(super) fn moved_since(object: BorrowedFd<'_>, since: SystemTime) -> bool {
    rustix::fs::fstat(object).is_ok_and(|stat| is_moved_since(&stat, since))
}

/// The same of an entry.
pub(super) fn entry_moved_since(dir: BorrowedFd<'_>, name: &[u8], since: SystemTime) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_moved_since(&stat, since))
}

fn is_moved_since(stat: &Stat, since: SystemTime) -> bool {
    is_since(stat, since) && (stat.st_ctime, stat.st_ctime_nsec) != (stat.st_mtime, stat.st_mtime_nsec)
}

/// Whether the status may have changed at or after a time, as far as the filesystem's clock can tell: what has no
/// nanoseconds is as old as that, or by up to [`COARSE`] younger.
fn is_since(stat: &Stat, since: SystemTime) -> bool {
    let Ok(since) = since.duration_since(SystemTime::UNIX_EPOCH) else { return true };
    let coarse_s = if stat.st_ctime_nsec == 0 { COARSE.as_secs() as i64 } else { 0 };
    (stat.st_ctime + coarse_s, stat.st_ctime_nsec)
        >= (since.as_secs() as i64, u64::from(since.subsec_nanos()))
}

impl Watcher {
    /// A listing has found an entry that is no directory.
    pub(super) fn file_found(&mut self, walk: &Walk, file: &FoundFile<'_>, sink: &mut impl Sink) {
        if let Kind::Recover { since } = walk.kind()
            && !changed_since(file.dir, file.name, since)
        {
            return;
        }
        self.spend(FILE_UNITS);
        self.tell_created(file.node, file.name, Mask::NONE, file.inode, walk.audience(), sink);
        if file.kind == FileType::RegularFile {
            self.file_arrived_after_create(file.node, Some(file.dir), file.name, walk.audience(), sink);
        } else {
            // Links, pipes, sockets and devices have no content whose writer could be waited for.
            self.tell_moved_in(file.node, file.name, walk.audience(), sink);
        }
    }

    /// The final rename of one of our own file actions.
    pub(super) fn own_file_found(&mut self, node: NodeId, name: &[u8], sink: &mut impl Sink) {
        self.file_arrived(node, None, name, None, sink);
    }

    /// A file is there that nobody was told of; `name` is empty for a root that is a file.
    pub(super) fn file_arrived(
        &mut self,
        node: NodeId,
        dir: Option<BorrowedFd<'_>>,
        name: &[u8],
        audience: Option<RootId>,
        sink: &mut impl Sink,
    ) {
        self.paths.told_clear();
        self.tell(node, &Told::arrival(Flag::Create.mask(), name, audience), sink);
        self.file_arrived_after_create(node, dir, name, audience, sink);
    }

    fn file_arrived_after_create(
        &mut self,
        node: NodeId,
        dir: Option<BorrowedFd<'_>>,
        name: &[u8],
        audience: Option<RootId>,
        sink: &mut impl Sink,
    ) {
        let interest = match audience {
            Some(root) => self.asks_of(root).interest,
            None => self.covers.wants(self.tree.cover(node)).interest,
        };
        if interest.intersects(Flag::CloseWrite.mask()) {
            self.tell_if_finished(node, dir, name, audience, sink);
        }
        if interest.intersects(Flag::MovedTo.mask()) {
            self.tell_moved_in(node, name, audience, sink);
        }
    }

    /// Tells those for which neither IN_CREATE nor IN_CLOSE_WRITE makes work.
    fn tell_moved_in(&mut self, node: NodeId, name: &[u8], audience: Option<RootId>, sink: &mut impl Sink) {
        self.paths.told_clear();
        for root in self.covers.roots(self.tree.cover(node)).to_vec() {
            let watch = self.watch(self.root(root).watch);
            let others = watch.is_some_and(|one| one.schedules.intersects(Flag::Create | Flag::CloseWrite));
            if !others && audience.is_none_or(|only| only == root) {
                self.tell(node, &Told::arrival(Flag::MovedTo.mask(), name, Some(root)), sink);
            }
        }
    }

    pub(super) fn tell_if_finished(
        &mut self,
        node: NodeId,
        dir: Option<BorrowedFd<'_>>,
        name: &[u8],
        audience: Option<RootId>,
        sink: &mut impl Sink,
    ) {
        match self.writers_of(node, dir, name) {
            Some(Writers::None) => self.tell_closed(node, name, audience, sink),
            // The real close will come: the directory is watched.
            Some(Writers::Some) | None => {}
            Some(Writers::Unknown) => self.let_settle(node, name, audience, sink),
        }
    }

    pub(super) fn tell_closed(
        &mut self,
        node: NodeId,
        name: &[u8],
        audience: Option<RootId>,
        sink: &mut impl Sink,
    ) {
        self.paths.told_clear();
        self.tell(node, &Told::arrival(Flag::CloseWrite.mask(), name, audience), sink);
    }

    /// Who writes to a regular file; `None` if there is none any more.
    fn writers_of(&mut self, node: NodeId, dir: Option<BorrowedFd<'_>>, name: &[u8]) -> Option<Writers> {
        let opened = match dir {
            Some(dir) => open_file(Some(dir), name),
            None if !self.may_ask(node, name) => return None,
            None => open_file(None, self.path_in(node, name)?),
        };
        match opened {
            Ok(file) => {
                let stat = rustix::fs::fstat(&file).ok()?;
                let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                is_regular.then(|| (self.options.writers)(file.as_fd()))
            }
            Err(errno) if crate::kernel::Refusal::of(errno) == crate::kernel::Refusal::Gone => None,
            // Not ours to read, or leased by another: size and time must do.
            Err(_) => Some(Writers::Unknown),
        }
    }

    fn let_settle(&mut self, node: NodeId, name: &[u8], audience: Option<RootId>, sink: &mut impl Sink) {
        let Ok(stat) = self.status_of(node, name) else { return };
        if self.settling.len() >= self.options.limits.settling_max {
            // Possibly too early; its real close then comes as well.
            return self.tell_closed(node, name, audience, sink);
        }
        self.settling.push_back(Settling {
            node,
            wd: self.tree.wd(node),
            name: name.into(),
            audience,
            size: stat.st_size as u64,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            due: self.now + self.options.limits.settle,
        });
    }

    /// Looks at files again that are due.
    pub(super) fn settle_files(&mut self, sink: &mut impl Sink) {
        while self.settling.front().is_some_and(|first| first.due <= self.now) {
            let settling = self.settling.pop_front().expect("was just looked at");
            if self.tree.wd(settling.node) != settling.wd {
                continue;
            }
            let Ok(stat) = self.status_of(settling.node, &settling.name) else { continue };
            let modified = (stat.st_mtime, stat.st_mtime_nsec);
            if stat.st_size as u64 == settling.size && modified == settling.modified {
                self.tell_closed(settling.node, &settling.name, settling.audience, sink);
            } else {
                let due = self.now + self.options.limits.settle;
                self.settling.push_back(Settling { size: stat.st_size as u64, modified, due, ..settling });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_new_by_the_granularity_of_its_time_is_new() {
        let mut stat = rustix::fs::stat("/").unwrap();
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(100_500);
        // Seconds and nanoseconds of a status, and whether it may have changed at 100.5 s or later.
        for (seconds, nanoseconds, is_new) in [
            (100, 499_999_999, false),
            (100, 500_000_000, true),
            (101, 1, true),
            (99, 999_999_999, false),
            (100, 0, true),
            (99, 0, true),
            (98, 0, false),
            (101, 0, true),
        ] {
            (stat.st_ctime, stat.st_ctime_nsec) = (seconds, nanoseconds);
            assert_eq!(is_since(&stat, since), is_new, "{seconds}.{nanoseconds:09}");
        }
    }
}
