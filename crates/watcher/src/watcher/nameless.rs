//! Files without a name (open(2), O_TMPFILE), which the kernel reports as `#` and the number of their inode.
//!
//! Their events concern nobody, but the last one: a file that was written without a name and given one (linkat(2)) is
//! finished when it is closed, and the kernel reports that under the number only (K14). The name is looked for.
//!
//! A file may as well be called `#42`. What is there under that name is told like anything else. What is not there had
//! no name, or has lost it: only an event can tell, that of the deletion or rename. It comes after the events that it
//! makes worth telling, which are kept until then.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use event::{Flag, Mask};
use hashbrown::HashSet;
use rustix::fs::RawDir;

use super::Watcher;
use super::tell::Told;
use super::walk::LISTING_BYTES;
use crate::spec::Sink;
use crate::tree::NodeId;

/// Files without a name that were closed, and events of names that look like theirs.
#[derive(Default)]
pub(super) struct Nameless {
    /// Closed since the last listing; what is too much is forgotten.
    closed: Vec<(NodeId, i32, u64)>,
    /// The directory that is being listed for them.
    search: Option<Search>,
    /// The next listing begins only then.
    rests_until: Option<Instant>,
    /// Closed and without a name when they were looked for: some have it given later.
    waiting: VecDeque<(NodeId, u64, Instant)>,
    /// Events of names that were not there.
    kept: VecDeque<Kept>,
}

/// One listing for all files that were closed in a directory.
struct Search {
    node: NodeId,
    wd: i32,
    dir: OwnedFd,
    inodes: HashSet<u64>,
    /// Entries that were looked at.
    entries: u32,
}

/// An event of a file that may have had no name.
struct Kept {
    node: NodeId,
    wd: i32,
    name: Box<[u8]>,
    mask: Mask,
    /// The read that brought it.
    read: u64,
}

/// Closed files for which no listing was made yet.
const CLOSED_MAX: usize = 16 * 1024;
/// How many closed files without a name are kept in mind.
const WAITING_MAX: usize = 256;
/// And how long.
const WAITING_AGE: Duration = Duration::from_secs(60);
/// Events of names that were not there; beyond it the oldest is told, though there may be no such file.
const KEPT_MAX: usize = 1024;
/// Rest after a listing, for each entry: ten times what it costs to list one, so that directories of any size cost a
/// tenth of a processor.
const REST: Duration = Duration::from_micros(4);

impl Nameless {
    /// When the next listing begins, if one is wanted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.rests_until.filter(|_| !self.closed.is_empty())
    }

    /// Whether events wait for the one that says whether they are told.
    pub(super) fn keeps_events(&self) -> bool {
        !self.kept.is_empty()
    }

    fn close(&mut self, node: NodeId, wd: i32, inode: u64) {
        if self.closed.len() >= CLOSED_MAX {
            self.closed.swap_remove(0);
        }
        self.closed.push((node, wd, inode));
    }
}

/// The inode number in the name that the kernel gives to a file without one, `#` and digits.
pub(super) fn nameless_inode(name: &[u8]) -> Option<u64> {
    let digits = name.strip_prefix(b"#")?;
    std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

impl Watcher {
    /// An event of an entry that is called like a file without a name. True if it is not to be told now.
    pub(super) fn is_of_nameless(
        &mut self,
        nodes: &[NodeId],
        mask: Mask,
        name: &[u8],
        inode: u64,
        sink: &mut impl Sink,
    ) -> bool {
        if mask.intersects(Flag::Create | Flag::Delete | Flag::MovedFrom | Flag::MovedTo) {
            // Files without a name send none of these: it has, or had, this one.
            self.tell_kept(nodes, name, sink);
            return false;
        }
        if self.exists(nodes[0], name) {
            return false;
        }
        let read = self.reading.number;
        for &node in nodes {
            let wd = self.tree.wd(node);
            if mask.intersects(Flag::CloseWrite.mask()) {
                self.nameless.close(node, wd, inode);
            }
            self.nameless.kept.push_back(Kept { node, wd, name: name.into(), mask, read });
        }
        while self.nameless.kept.len() > KEPT_MAX {
            if let Some(kept) = self.nameless.kept.pop_front() {
                self.tell_one_kept(&kept, sink);
            }
        }
        true
    }

    fn tell_kept(&mut self, nodes: &[NodeId], name: &[u8], sink: &mut impl Sink) {
        let is_of_name = |kept: &Kept| nodes.contains(&kept.node) && *kept.name == *name;
        let (told, rest) = self.nameless.kept.drain(..).partition::<VecDeque<_>, _>(is_of_name);
        self.nameless.kept = rest;
        for kept in &told {
            self.tell_one_kept(kept, sink);
        }
    }

    fn tell_one_kept(&mut self, kept: &Kept, sink: &mut impl Sink) {
        if self.tree.wd(kept.node) == kept.wd {
            self.tell_all(&[kept.node], &Told::real(kept.mask, &kept.name), sink);
        }
    }

    /// The queue is empty. What was kept from an earlier read had no name: its deletion would have come by now.
    pub(super) fn forget_kept(&mut self) {
        let number = self.reading.number;
        self.nameless.kept.retain(|kept| kept.read >= number);
    }

    fn exists(&mut self, node: NodeId, name: &[u8]) -> bool {
        self.status_of(node, name).is_ok()
    }

    /// Gives files that were closed without a name the one that they have by now: linkat(2) comes before close(2).
    pub(super) fn name_nameless(&mut self, sink: &mut impl Sink) {
        while self.units > 0 {
            let Some(mut search) = self.nameless.search.take().or_else(|| self.next_search()) else { return };
            if self.tree.wd(search.node) != search.wd {
                continue;
            }
            if self.look_for_names(&mut search, sink) {
                self.nameless.rests_until = Some(self.now + REST * search.entries);
            } else {
                self.nameless.search = Some(search);
            }
        }
    }

    fn rests_from_listing(&self) -> bool {
        self.nameless.rests_until.is_some_and(|until| self.now < until)
    }

    /// The next directory in which files were closed without a name.
    fn next_search(&mut self) -> Option<Search> {
        if self.rests_from_listing() {
            return None;
        }
        loop {
            let &(node, wd, _) = self.nameless.closed.last()?;
            let closed = self.nameless.closed.extract_if(.., |closed| (closed.0, closed.1) == (node, wd));
            let inodes: HashSet<u64> = closed.map(|(_, _, inode)| inode).collect();
            if self.tree.wd(node) == wd
                && let Ok(dir) = self.open_dir(node)
            {
                return Some(Search { node, wd, dir, inodes, entries: 0 });
            }
        }
    }

    /// Goes on with a listing by as much as one getdents64(2) gives; true when it is done.
    fn look_for_names(&mut self, search: &mut Search, sink: &mut impl Sink) -> bool {
        let mut bytes = vec![MaybeUninit::uninit(); LISTING_BYTES];
        let mut listing = RawDir::new(&search.dir, &mut bytes);
        while let Some(Ok(entry)) = listing.next() {
            self.spend(1);
            search.entries += 1;
            if search.inodes.remove(&entry.ino()) {
                self.tell_closed(search.node, entry.file_name().to_bytes(), None, sink);
            }
            if search.inodes.is_empty() {
                return true;
            }
            if listing.is_buffer_empty() {
                return false;
            }
        }
        for inode in search.inodes.drain() {
            self.nameless.waiting.push_back((search.node, inode, self.now));
            if self.nameless.waiting.len() > WAITING_MAX {
                self.nameless.waiting.pop_front();
            }
        }
        true
    }

    /// Whether names are still to be looked for.
    pub(super) fn seeks_names(&self) -> bool {
        self.nameless.search.is_some() || (!self.nameless.closed.is_empty() && !self.rests_from_listing())
    }

    /// Whether files without a name that were closed are in mind.
    pub(super) fn has_nameless(&self) -> bool {
        !self.nameless.waiting.is_empty()
    }

    /// A new entry may be such a file that got its name after it was closed.
    pub(super) fn created_from_nameless(&mut self, node: NodeId, name: &[u8], sink: &mut impl Sink) {
        let now = self.now;
        self.nameless.waiting.retain(|&(_, _, at)| now.saturating_duration_since(at) < WAITING_AGE);
        if self.nameless.waiting.is_empty() {
            return;
        }
        let Ok(stat) = self.status_of(node, name) else { return };
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
