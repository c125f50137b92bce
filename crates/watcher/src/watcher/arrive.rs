//! Arrivals: events made up for entries that were found, because the kernel's may have come too early for us.
//!
//! An entry is told as IN_CREATE; a regular file that nobody has open for writing also as IN_CLOSE_WRITE (if somebody
//! has, the real close will come); watches that want neither are told IN_MOVED_TO. Where the filesystem does not say
//! who is writing, a file counts as finished when size and time have not changed for a moment.
//!
//! Differs: the original tells IN_CREATE only, and so never runs IN_CLOSE_WRITE rules for files that were finished
//! before their directory was watched (`files_finished_before_the_watch_are_told`).

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use event::{Flag, Mask};
use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use syscall::lease::Writers;

use super::Watcher;
use super::place::{Kind, open_file};
use super::tell::Told;
use super::walk::{LISTING_BYTES, Walk};
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

/// Files without a name (open(2), O_TMPFILE) that were closed: their names, if they were given any, are looked for.
#[derive(Default)]
pub(super) struct Nameless {
    /// Closed since the last look, at most as many as a turn has units.
    closed: Vec<(NodeId, i32, u64)>,
    /// The directory that is being listed for them.
    search: Option<Search>,
    /// Closed and without a name when they were looked for: some have it given later.
    waiting: VecDeque<(NodeId, u64, Instant)>,
}

/// One listing for all files that were closed in a directory.
struct Search {
    node: NodeId,
    wd: i32,
    dir: OwnedFd,
    inodes: Vec<u64>,
}

/// How many closed files without a name are kept in mind.
const NAMELESS_MAX: usize = 256;
/// And how long.
const NAMELESS_AGE: Duration = Duration::from_secs(60);

/// A file as a listing gives it.
pub(super) struct FoundFile<'a> {
    pub(super) node: NodeId,
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) kind: FileType,
    pub(super) inode: u64,
}

/// The inode number in the name that the kernel gives to a file without one, `#` and digits.
pub(super) fn nameless_inode(name: &[u8]) -> Option<u64> {
    let digits = name.strip_prefix(b"#")?;
    std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// Whether the entry's status changed at or after a time; true if that can't be known.
pub(super) fn changed_since(dir: BorrowedFd<'_>, name: &[u8], since: SystemTime) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_since(&stat, since))
}

fn is_since(stat: &Stat, since: SystemTime) -> bool {
    let Ok(since) = since.duration_since(SystemTime::UNIX_EPOCH) else { return true };
    (stat.st_ctime, stat.st_ctime_nsec) >= (since.as_secs() as i64, u64::from(since.subsec_nanos()))
}

impl Watcher {
    /// A listing has found an entry that is no directory.
    pub(super) fn file_found(
        &mut self,
        walk: &Walk,
        file: &FoundFile<'_>,
        units: &mut u32,
        sink: &mut impl Sink,
    ) {
        if walk.kind() == Kind::Recover && !changed_since(file.dir, file.name, walk.since) {
            return;
        }
        *units = units.saturating_sub(10);
        match file.kind {
            FileType::RegularFile => {
                self.tell_created(file.node, file.name, Mask::NONE, file.inode, walk.audience(), sink);
                self.file_arrived_after_create(file.node, Some(file.dir), file.name, walk.audience(), sink);
            }
            // A link to nowhere is nothing that a task could work on.
            FileType::Symlink if rustix::fs::statat(file.dir, file.name, AtFlags::empty()).is_ok() => {
                self.tell_created(file.node, file.name, Mask::NONE, file.inode, walk.audience(), sink);
                self.tell_moved_in(file.node, file.name, walk.audience(), sink);
            }
            // Pipes, sockets and devices hold no data that could have been missed.
            _ => {}
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
            Some(root) => self.wants_of(root).interest,
            None => self.covers.wants(self.tree.cover(node)).interest,
        };
        if interest.intersects(Flag::CloseWrite.mask()) {
            self.tell_if_finished(node, dir, name, audience, sink);
        }
        if interest.intersects(Flag::MovedTo.mask()) {
            self.tell_moved_in(node, name, audience, sink);
        }
    }

    /// Tells those that want neither IN_CREATE nor IN_CLOSE_WRITE.
    fn tell_moved_in(&mut self, node: NodeId, name: &[u8], audience: Option<RootId>, sink: &mut impl Sink) {
        self.paths.told_clear();
        for root in self.covers.roots(self.tree.cover(node)).to_vec() {
            let others = self.wants_of(root).interest.intersects(Flag::Create | Flag::CloseWrite);
            if !others && audience.is_none_or(|only| only == root) {
                self.tell(node, &Told::arrival(Flag::MovedTo.mask(), name, Some(root)), sink);
            }
        }
    }

    fn tell_if_finished(
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

    fn tell_closed(&mut self, node: NodeId, name: &[u8], audience: Option<RootId>, sink: &mut impl Sink) {
        self.paths.told_clear();
        self.tell(node, &Told::arrival(Flag::CloseWrite.mask(), name, audience), sink);
    }

    /// Who writes to a regular file; `None` if there is none any more.
    fn writers_of(&mut self, node: NodeId, dir: Option<BorrowedFd<'_>>, name: &[u8]) -> Option<Writers> {
        let opened = match dir {
            Some(dir) => open_file(Some(dir), name),
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
        let Some(path) = self.path_in(node, name) else { return };
        let Ok(stat) = rustix::fs::lstat(path) else { return };
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
            let Some(path) = self.path_in(settling.node, &settling.name) else { continue };
            let Ok(stat) = rustix::fs::lstat(path) else { continue };
            let modified = (stat.st_mtime, stat.st_mtime_nsec);
            if stat.st_size as u64 == settling.size && modified == settling.modified {
                self.tell_closed(settling.node, &settling.name, settling.audience, sink);
            } else {
                let due = self.now + self.options.limits.settle;
                self.settling.push_back(Settling { size: stat.st_size as u64, modified, due, ..settling });
            }
        }
    }

    /// IN_CLOSE_WRITE of an entry whose name may be none.
    pub(super) fn closed(&mut self, nodes: &[NodeId], mask: Mask, name: &[u8], sink: &mut impl Sink) {
        self.tell_all(nodes, &Told::real(mask, name), sink);
        let Some(inode) = nameless_inode(name) else { return };
        for &node in nodes {
            self.nameless.closed.push((node, self.tree.wd(node), inode));
        }
    }

    /// Gives files that were closed without a name the one that they have by now: linkat(2) comes before close(2), and
    /// the kernel reports the close under the old name only (K14).
    pub(super) fn name_nameless(&mut self, units: &mut u32, sink: &mut impl Sink) {
        while *units > 0 {
            let Some(mut search) = self.nameless.search.take().or_else(|| self.next_search()) else { return };
            if self.tree.wd(search.node) == search.wd && !self.look_for_names(&mut search, units, sink) {
                self.nameless.search = Some(search);
            }
        }
    }

    /// The next directory in which files were closed without a name.
    fn next_search(&mut self) -> Option<Search> {
        loop {
            let &(node, wd, _) = self.nameless.closed.last()?;
            let closed = self.nameless.closed.extract_if(.., |closed| (closed.0, closed.1) == (node, wd));
            let inodes: Vec<u64> = closed.map(|(_, _, inode)| inode).collect();
            if self.tree.wd(node) == wd
                && let Ok(dir) = self.open_dir(node)
            {
                return Some(Search { node, wd, dir, inodes });
            }
        }
    }

    /// Goes on with a listing by as much as one getdents64(2) gives; true when it is done.
    fn look_for_names(&mut self, search: &mut Search, units: &mut u32, sink: &mut impl Sink) -> bool {
        let mut bytes = vec![MaybeUninit::uninit(); LISTING_BYTES];
        let mut listing = RawDir::new(&search.dir, &mut bytes);
        while let Some(Ok(entry)) = listing.next() {
            *units = units.saturating_sub(1);
            if let Some(at) = search.inodes.iter().position(|&inode| inode == entry.ino()) {
                search.inodes.swap_remove(at);
                self.tell_closed(search.node, entry.file_name().to_bytes(), None, sink);
            }
            if search.inodes.is_empty() {
                return true;
            }
            if listing.is_buffer_empty() {
                return false;
            }
        }
        for inode in search.inodes.drain(..) {
            self.nameless.waiting.push_back((search.node, inode, self.now));
            if self.nameless.waiting.len() > NAMELESS_MAX {
                self.nameless.waiting.pop_front();
            }
        }
        true
    }

    /// Whether names are still to be looked for.
    pub(super) fn seeks_names(&self) -> bool {
        self.nameless.search.is_some() || !self.nameless.closed.is_empty()
    }

    /// Whether files without a name that were closed are in mind.
    pub(super) fn has_nameless(&self) -> bool {
        !self.nameless.waiting.is_empty()
    }

    /// A new entry may be such a file that got its name after it was closed.
    pub(super) fn created_from_nameless(&mut self, node: NodeId, name: &[u8], sink: &mut impl Sink) {
        let now = self.now;
        self.nameless.waiting.retain(|&(_, _, at)| now.saturating_duration_since(at) < NAMELESS_AGE);
        if self.nameless.waiting.is_empty() {
            return;
        }
        let Some(path) = self.path_in(node, name) else { return };
        let Ok(stat) = rustix::fs::lstat(path) else { return };
        let is_it = |&(dir, inode, _): &(NodeId, u64, Instant)| dir == node && inode == stat.st_ino;
        if let Some(at) = self.nameless.waiting.iter().position(is_it) {
            self.nameless.waiting.remove(at);
            self.tell_if_finished(node, None, name, None, sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_without_a_name() {
        assert_eq!(nameless_inode(b"#123"), Some(123));
        for name in [&b"123"[..], b"#", b"#12a", b"#+1", b"##1", b"#\xff"] {
            assert_eq!(nameless_inode(name), None, "{name:?}");
        }
    }
}
