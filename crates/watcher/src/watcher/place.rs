//! Putting watches on objects and taking them off, so that a node always stands for the inode that its wd watches.
//!
//! A name may have been given to another inode since the event at hand was queued. So a directory is opened below its
//! parent, the parent having been opened and compared by wd first, and the watch is put on the open descriptor. Where
//! that fails because events are still queued, the name comes in [`doubt`](super::doubt).

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use event::Mask;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Watcher;
use super::guards::SHUT;
use super::masks::MOVES;
use super::roots::Reason;
use super::walk::{Frame, Walk};
use crate::cover::{EMPTY, RootId};
use crate::kernel::Refusal;
use crate::notice::Notice;
use crate::spec::{News, Sink};
use crate::tree::{GUARD, MOVING, NodeId, ROOT, SEEN, STARVED, TOP, UNNAMED, UNTOLD};

/// Why a directory is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A watch is set up: subdirectories are watched, nothing is told.
    Add,
    /// It came into being here, or from where nobody watches: everything in it is told as an arrival.
    Arrive,
    /// Events about it may be missing: what has changed since then is told as an arrival.
    Recover { since: SystemTime },
    /// A person wants all of it told once more. Nothing else changes: what is not watched stays so.
    Rescan,
}

/// A directory that stays open for the rest of the turn because its entries come in clusters.
pub(super) struct OpenParent {
    node: NodeId,
    wd: i32,
    fd: OwnedFd,
}

/// Why an entry could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// The directory is not where the tree has it: events are still queued.
    ParentElsewhere,
    /// The entry itself failed.
    Failed(Errno),
}

/// What a look at a name has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// The directory that the tree had there, or one that can't be watched, or that nobody watches.
    Same,
    /// Another one, or the first; it is in the tree and will be walked.
    Other,
    /// No directory.
    Nothing,
    /// The directory that is to have it is not where its path leads.
    Elsewhere,
}

/// Which inode has a name at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// A directory, by its wd.
    Directory(i32),
    /// No directory.
    Nothing,
    /// Can't be told now.
    Unknown,
}

/// Displaced nodes beyond this number are given up at once.
const DISPLACED_MAX: usize = 1024;

/// Opening a directory and adding a watch cost about as much as so many events.
pub(super) const LOOK_UNITS: u32 = 30;
/// Ending a watch does.
const END_UNITS: u32 = 10;

/// Events that looking at a directory makes.
pub(super) const LOOKS: u32 = Mask::READING.0;

/// To list a directory.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// To have a way to a directory's entries alone, which makes no events.
pub(super) const WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Watcher {
    /// Events to ask the kernel for at this node.
    pub(super) fn mask_for(&self, node: NodeId) -> u32 {
        let mut mask = self.covers.wants(self.tree.cover(node)).kernel;
        if self.tree.has(node, GUARD) {
            mask |= self.guard_mask(node);
        }
        if self.sets_up() && self.is_set_up_at(node) {
            // A root that is being set up is not told of our own listing of it; the rest is asked for afterwards.
            mask &= !LOOKS;
        }
        mask
    }

    /// A node that a limit kept unwatched is watched.
    pub(super) fn unstarve(&mut self, node: NodeId) {
        if self.tree.has(node, STARVED) {
            self.covers.set_starved(&mut self.tree, node, false);
            self.starved.count -= 1;
        }
    }

    /// Opens the directory of a node for listing, by its path, and makes sure that it is the one that the node stands
    /// for.
    pub(super) fn open_dir(&mut self, node: NodeId) -> Result<OwnedFd, Unopened> {
        self.open_as(node, DIRECTORY)
    }

    fn open_as(&mut self, node: NodeId, mut flags: OFlags) -> Result<OwnedFd, Unopened> {
        if !self.tree.has(node, ROOT | GUARD) {
            flags |= OFlags::NOFOLLOW;
        }
        if !self.may_ask(node, b"") {
            return Err(Unopened::ParentElsewhere);
        }
        let path = self.path_of(node).ok_or(Unopened::ParentElsewhere)?;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(Unopened::Failed)?;
        if self.is_object_of(node, fd.as_fd()) { Ok(fd) } else { Err(Unopened::ParentElsewhere) }
    }

    /// Whether the open object is the inode that the node stands for. Only the kernel can tell: inode numbers are
    /// used again at once.
    fn is_object_of(&mut self, node: NodeId, object: BorrowedFd<'_>) -> bool {
        self.spend(LOOK_UNITS);
        let own = self.tree.wd(node);
        match self.kernel.add(object, self.mask_for(node)) {
            Ok(wd) if wd == own => true,
            Ok(stray) => {
                self.end_stray(stray);
                false
            }
            Err(_) => false,
        }
    }

    /// Ends a watch that was made by looking, unless it is one of the tree's.
    pub(super) fn end_stray(&mut self, wd: i32) {
        if self.tree.by_wd(wd).is_none() {
            self.spend(END_UNITS);
            self.kernel.remove(wd);
            self.retired.insert(wd);
        }
    }

    /// Opens a subdirectory without following a link.
    pub(super) fn open_child(&mut self, parent: NodeId, name: &[u8]) -> Result<OwnedFd, Unopened> {
        let wd = self.tree.wd(parent);
        if self.open_parent.as_ref().is_none_or(|open| open.node != parent || open.wd != wd) {
            self.open_parent = None;
            if wd == 0 {
                return Err(Unopened::ParentElsewhere);
            }
            let fd = self.open_as(parent, WAY).map_err(|unopened| match unopened {
                Unopened::Failed(errno) if Refusal::of(errno) != Refusal::Gone => unopened,
                Unopened::Failed(_) | Unopened::ParentElsewhere => Unopened::ParentElsewhere,
            })?;
            self.open_parent = Some(OpenParent { node: parent, wd, fd });
        }
        let open = self.open_parent.take().expect("was just put there");
        let opened = self.enter(parent, open.fd.as_fd(), name, DIRECTORY);
        self.open_parent = Some(open);
        opened.map_err(Unopened::Failed)
    }

    /// Opens a subdirectory of an open directory without following a link. Something that is mounted there is entered
    /// only where that may be asked, by a table of mounts that has it; EXDEV if not.
    pub(super) fn enter(
        &mut self,
        node: NodeId,
        dir: BorrowedFd<'_>,
        name: &[u8],
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW;
        if self.territory.is_everywhere() || self.lacks_openat2 {
            return rustix::fs::openat(dir, name, flags, Mode::empty());
        }
        match rustix::fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
            Err(Errno::XDEV) if !self.may_cross(node, name) => return Err(Errno::XDEV),
            Err(Errno::XDEV) => {}
            // Before Linux 5.6, or a sandbox that does not know openat2(2); older ones say EPERM.
            Err(Errno::NOSYS | Errno::PERM) => self.lacks_openat2 = true,
            opened => return opened,
        }
        rustix::fs::openat(dir, name, flags, Mode::empty())
    }

    /// A directory has appeared under a watched one.
    pub(super) fn found_directory(&mut self, parent: NodeId, name: &[u8], kind: Kind, sink: &mut impl Sink) {
        let cover = self.cover_below(parent, name);
        if cover == EMPTY
            || self.is_own(parent, name)
            || self.hand_over_inner(parent, name, cover, News::Everything)
        {
            return;
        }
        // In the tree at once: if it has been renamed by now, the events that say so take the node along.
        if self.tree.child(parent, name).is_none() {
            self.insert_untold(parent, name, cover);
        }
        match self.look(parent, name, cover, kind, sink) {
            Looked::Same | Looked::Other => {}
            Looked::Nothing | Looked::Elsewhere => self.doubt(parent, name),
        }
    }

    /// New roots see a directory that was watched already.
    pub(super) fn found_again(&mut self, node: NodeId, kind: Kind, new: Vec<RootId>) {
        let wd = self.tree.wd(node);
        for root in new {
            self.start_walk(node, wd, None, kind, Some(root));
        }
    }

    /// Makes the tree agree with what has this name now. `cover` sees what is there, whoever else does.
    pub(super) fn look(
        &mut self,
        parent: NodeId,
        name: &[u8],
        cover: u16,
        kind: Kind,
        sink: &mut impl Sink,
    ) -> Looked {
        let known = self.tree.child(parent, name);
        if cover == EMPTY && known.is_none_or(|known| self.tree.cover(known) == EMPTY) {
            // Nobody watches what is there.
            return Looked::Same;
        }
        if self.hand_over_inner(parent, name, cover, News::Everything) {
            return Looked::Same;
        }
        self.spend(LOOK_UNITS);
        let opened = match self.open_child(parent, name) {
            Err(Unopened::ParentElsewhere) => return Looked::Elsewhere,
            Err(Unopened::Failed(Errno::XDEV)) => {
                self.hand_over_inner(parent, name, cover, News::Everything);
                return Looked::Same;
            }
            Err(Unopened::Failed(errno)) if Refusal::of(errno) == Refusal::Gone => return Looked::Nothing,
            Err(Unopened::Failed(errno)) => Err(errno),
            Ok(object) => Ok(object),
        };
        let node = known.unwrap_or_else(|| self.insert(parent, name, cover));
        if kind == Kind::Arrive && self.tree.wd(node) == 0 {
            // A limit may keep it from being entered now.
            self.tree.set(node, UNTOLD);
        }
        // A listing under way that has passed the name does not know better.
        self.tree.set(node, SEEN);
        // A listing was faster than the event, or a root stands there.
        let new = self.join(node, cover);
        let looked = match opened {
            Ok(object) => self.stands(node, object, kind, sink),
            Err(errno) => {
                self.refused(node, errno, sink);
                Looked::Same
            }
        };
        if looked == Looked::Same {
            self.found_again(node, kind, new);
        }
        looked
    }

    /// This open directory has the name of the node.
    fn stands(&mut self, node: NodeId, object: OwnedFd, kind: Kind, sink: &mut impl Sink) -> Looked {
        let before = self.tree.wd(node);
        match self.kernel.add(object.as_fd(), self.mask_for(node)) {
            Ok(wd) if wd == before && !self.tree.has(node, UNTOLD) => {
                self.tree.clear(node, MOVING);
                self.unstarve(node);
                return Looked::Same;
            }
            Ok(wd) if wd == before || before == 0 => {
                self.tree.clear(node, MOVING);
                self.unstarve(node);
                self.first_watched(node, object, wd, kind);
            }
            Ok(wd) => self.replace(node, object, wd, kind),
            Err(errno) => {
                self.refused(node, errno, sink);
                return Looked::Same;
            }
        }
        Looked::Other
    }

    fn first_watched(&mut self, node: NodeId, object: OwnedFd, wd: i32, kind: Kind) {
        let kind = if self.tree.has(node, UNTOLD) { Kind::Arrive } else { kind };
        self.tree.clear(node, UNTOLD);
        self.tree.set_wd(node, wd);
        self.fresh.found(node);
        self.start_walk(node, wd, Some(object), kind, None);
    }

    /// The inode that has this name now, without changing the tree.
    pub(super) fn standing(&mut self, parent: NodeId, name: &[u8]) -> Standing {
        if !self.may_ask(parent, name) {
            return Standing::Unknown;
        }
        self.spend(LOOK_UNITS);
        let object = match self.open_child(parent, name) {
            Ok(object) => object,
            Err(Unopened::Failed(errno)) if Refusal::of(errno) == Refusal::Gone => return Standing::Nothing,
            Err(Unopened::Failed(_) | Unopened::ParentElsewhere) => return Standing::Unknown,
        };
        let Ok(wd) = self.kernel.add(object.as_fd(), self.mask_for(parent)) else { return Standing::Unknown };
        self.end_stray(wd);
        Standing::Directory(wd)
    }

    /// Adds the roots of a set to those that see a node; gives those that did not.
    pub(super) fn join(&mut self, node: NodeId, cover: u16) -> Vec<RootId> {
        let before = self.covers.roots(self.tree.cover(node)).to_vec();
        let joining = self.covers.roots(cover).iter().copied();
        let new: Vec<RootId> = joining.filter(|root| !before.contains(root)).collect();
        if !new.is_empty() {
            let both = self.intern([&before[..], &new[..]].concat());
            self.covers.assign(&mut self.tree, node, both);
        }
        new
    }

    pub(super) fn insert(&mut self, parent: NodeId, name: &[u8], cover: u16) -> NodeId {
        self.covers.retain(cover);
        self.tree.insert(parent, name, cover)
    }

    /// The same of a directory that came to be here.
    pub(super) fn insert_untold(&mut self, parent: NodeId, name: &[u8], cover: u16) -> NodeId {
        let node = self.insert(parent, name, cover);
        self.tree.set(node, UNTOLD);
        node
    }

    /// The roots that will see a new directory: those that see its parent, take new ones and don't exclude it.
    pub(super) fn cover_below(&mut self, parent: NodeId, name: &[u8]) -> u16 {
        let cover = self.tree.cover(parent);
        let count = self.covers.roots(cover).len();
        let mut keep = self.admitting(cover, parent, name);
        keep.retain(|&root| self.root(root).auto_add);
        if keep.len() == count { cover } else { self.intern(keep) }
    }

    /// The roots of a set that don't exclude a directory.
    pub(super) fn admitting(&mut self, cover: u16, parent: NodeId, name: &[u8]) -> Vec<RootId> {
        let mut roots = self.covers.roots(cover).to_vec();
        roots.retain(|&root| !self.excludes(root, parent, name));
        roots
    }

    /// Whether the root's watch excludes a directory.
    pub(super) fn excludes(&mut self, root: RootId, parent: NodeId, name: &[u8]) -> bool {
        let watch = self.root(root).watch;
        if self.watch(watch).is_none_or(|watch| watch.exclude.is_none()) {
            return false;
        }
        let Some(path) = self.path_in(parent, name).map(<[u8]>::to_vec) else { return true };
        let exclude = self.watch(watch).and_then(|watch| watch.exclude.as_ref());
        exclude.is_some_and(|exclude| exclude(&path))
    }

    pub(super) fn start_walk(
        &mut self,
        node: NodeId,
        wd: i32,
        fd: Option<OwnedFd>,
        kind: Kind,
        audience: Option<RootId>,
    ) {
        let tree = self.tree_of(node);
        self.walks.push(tree, Walk::new(Frame::new(node, wd, fd), kind, audience));
    }

    /// A directory that could not be opened or watched.
    pub(super) fn refused(&mut self, node: NodeId, errno: Errno, sink: &mut impl Sink) {
        match Refusal::of(errno) {
            // Renamed or removed: an event says which.
            Refusal::Gone => {
                self.unstarve(node);
                self.doubt_node(node);
            }
            Refusal::Limit => self.starve(node, errno),
            Refusal::Forbidden => {
                self.say_cannot_watch(node, errno, sink);
                self.block(node);
            }
            Refusal::Other => {
                self.say_cannot_watch(node, errno, sink);
                self.doom(node);
            }
        }
    }

    pub(super) fn say_cannot_watch(&mut self, node: NodeId, source: Errno, sink: &mut impl Sink) {
        if let Some(path) = self.path_of(node).map(<[u8]>::to_vec) {
            self.say(Notice::CannotWatch { path: &path, source }, sink);
        }
    }

    /// Forgets a directory that our rights don't let us watch until its attributes change.
    fn block(&mut self, node: NodeId) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name: Box<[u8]> = self.tree.name(node).into();
        self.doom(node);
        // If it can't be opened the parent's own events come first.
        match self.open_dir(parent) {
            Ok(object) if !is_searchable(object.as_fd()) => self.shut(parent, object.as_fd()),
            Ok(object) => {
                self.keep_blocked(parent, name);
                let _ = self.kernel.add(object.as_fd(), self.mask_for(parent));
            }
            Err(_) => self.keep_blocked(parent, name),
        }
    }

    /// A directory may be listed and not entered: everything in it arrives when that changes.
    pub(super) fn shut(&mut self, node: NodeId, object: BorrowedFd<'_>) {
        self.keep_blocked(node, SHUT.into());
        let _ = self.kernel.add(object, self.mask_for(node));
        if is_searchable(object) {
            // It has changed since.
            self.open_up(node);
        }
    }

    /// Another inode has taken the node's place.
    pub(super) fn replace(&mut self, node: NodeId, object: OwnedFd, wd: i32, kind: Kind) {
        if let Some(new) = self.make_way(node, wd, None) {
            self.first_watched(new, object, wd, kind);
        }
    }

    /// A node goes with everything below it, since another inode, that of `wd`, has taken its place. Gives the node of
    /// that one, unless nobody sees it: a walk that came by it does, too.
    pub(super) fn make_way(&mut self, node: NodeId, wd: i32, walk: Option<&Walk>) -> Option<NodeId> {
        let parent = self.tree.parent(node)?;
        let name = self.tree.name(node).to_vec();
        self.doom(node);
        let visiting = walk.map_or(EMPTY, |walk| self.cover_of_visit(walk, parent, &name, true));
        let seeing = self.cover_below(parent, &name);
        let cover = self.intern([self.covers.roots(visiting), self.covers.roots(seeing)].concat());
        if cover == EMPTY {
            self.end_stray(wd);
            return None;
        }
        Some(self.insert_untold(parent, &name, cover))
    }

    /// Whether a path leads to the node after it has been renamed.
    pub(super) fn stays_in_sight(&mut self, node: NodeId) -> bool {
        if self.tree.has(node, MOVING) {
            return false;
        }
        let tells = |parent| self.covers.wants(self.tree.cover(parent)).kernel & MOVES == MOVES;
        // Where its parent tells of renames, it has told of this one.
        self.tree.parent(node).is_none_or(tells) || self.path_leads_to(node)
    }

    /// Whether the node's path leads to its inode at this moment.
    pub(super) fn path_leads_to(&mut self, node: NodeId) -> bool {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if !self.tree.has(node, ROOT | GUARD) {
            flags |= OFlags::NOFOLLOW;
        }
        if !self.may_ask(node, b"") {
            return false;
        }
        let Some(path) = self.path_of(node) else { return false };
        let Ok(object) = rustix::fs::open(path, flags, Mode::empty()) else { return false };
        self.is_object_of(node, object.as_fd())
    }

    /// Takes the name of a node for another one. If it is half of an exchange, its own rename follows; if it was
    /// overwritten, its end does.
    pub(super) fn displace(&mut self, node: NodeId) {
        self.paths.forget();
        self.tree.unname(node);
        // Those that have a name again are not; in a storm of exchanges one directory comes up again and again.
        let tree = &self.tree;
        self.displaced.retain(|&(other, _)| other != node && tree.has(other, UNNAMED) && !tree.is_cut(other));
        self.displaced.push((node, self.reading.number));
        if self.displaced.len() > DISPLACED_MAX {
            // Without it the second half of its exchange can't be told from another rename.
            self.fresh.lose();
            let (oldest, _) = self.displaced.remove(0);
            self.doom(oldest);
        }
    }

    /// Cuts a branch off at once; its watches end in their own time.
    pub(super) fn doom(&mut self, node: NodeId) {
        if node == TOP || self.tree.is_cut(node) {
            return;
        }
        for root in self.roots_below(node) {
            self.unbind(root);
            self.recheck.push((root, Reason::Gone));
        }
        if self.tree.is_cut(node) {
            // It went with its last root.
            return;
        }
        // Others wait for something to come to be below.
        self.recheck_guarded(node, Reason::Gone);
        self.paths.forget();
        self.tree.cut(node);
        self.doomed.push(node);
    }

    /// Ends the watches of doomed branches, leaves first. Half of what the turn has left is kept for walks: a storm of
    /// branches that go must not keep them waiting.
    pub(super) fn unwatch_doomed(&mut self) {
        let kept = self.units / 2;
        while let Some(&top) = self.doomed.last() {
            if self.units <= kept {
                return;
            }
            self.spend(1);
            let mut leaf = top;
            while let Some(child) = self.tree.children(leaf).next() {
                leaf = child;
            }
            if leaf == top {
                self.doomed.pop();
            }
            self.release_object(leaf);
            self.free_node(leaf);
        }
    }

    /// Ends the node's watch unless other nodes share it.
    pub(super) fn release_object(&mut self, node: NodeId) {
        let wd = self.tree.wd(node);
        if wd != 0 {
            self.tree.set_wd(node, 0);
            self.end_stray(wd);
        }
    }
}

/// Whether the entries of a directory may be looked up.
pub(super) fn is_searchable(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::statat(dir, ".", AtFlags::empty()).err() != Some(Errno::ACCESS)
}

/// Opens a directory for listing that is open as a way to its entries alone.
pub(super) fn open_way(way: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(way, ".", DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens a file to be probed, not waiting for anything and not following a link.
pub(super) fn open_file(dir: Option<BorrowedFd<'_>>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW;
    rustix::fs::openat(dir.unwrap_or(CWD), name, flags, Mode::empty())
}
