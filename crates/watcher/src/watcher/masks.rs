//! What the kernel is asked for: what the watches want told, and what the tree needs to follow.
//!
//! Narrow masks cost a third of asking for everything, and the kernel's queue holds five times as long.

use std::os::fd::AsFd as _;

use event::{Flag, Mask};
use hashbrown::HashSet;
use rustix::fs::{Mode, OFlags};

use super::place::LOOK_UNITS;
use super::roots::Root;
use super::{Watch, Watcher};
use crate::cover::{Asks, RootId};
use crate::spec::{Sink, WatchId};
use crate::tree::{GUARD, NodeId, ROOT, SHARED};

/// An object's own end and renames: every path depends on them.
const SELF: u32 = Flag::DeleteSelf.mask().0 | Flag::MoveSelf.mask().0;
/// Renames of entries.
pub(super) const MOVES: u32 = Flag::MovedFrom.mask().0 | Flag::MovedTo.mask().0;

/// So many nodes are passed over in the time of an event.
const NODES_A_UNIT: u32 = 64;

/// A pass over all nodes, for those of some sets whose masks have changed. Nodes that come meanwhile have the new ones.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    covers: HashSet<u16>,
    next: u32,
}

/// What one root wants.
fn asks(watches: &[Option<Watch>], roots: &[Option<Root>], sources: bool, root: RootId) -> Option<Asks> {
    let id = roots.get(usize::from(root.0))?.as_ref()?.watch;
    let watch = watches.get(id.0 as usize)?.as_ref()?;
    let mut kernel = (watch.interest & Mask::ALL_EVENTS).0 | SELF;
    if watch.rec || watch.auto_add {
        // Renamed subdirectories keep their watches under the right path.
        kernel |= MOVES;
    }
    if watch.auto_add {
        kernel |= Flag::Create.mask().0;
    }
    if watch.interest.intersects(Flag::Create | Flag::CloseWrite) {
        // Our own file actions end in a rename, which is an arrival to others.
        kernel |= MOVES;
    }
    if sources {
        // So that IN_MOVED_TO has its source wherever that was.
        kernel |= Flag::MovedFrom.mask().0;
    }
    Some(Asks { watch: id, interest: watch.interest, kernel })
}

impl Watcher {
    /// Changes which of the events that a watch wants told make work.
    pub fn set_schedules(&mut self, watch: WatchId, schedules: Mask) {
        if let Some(Some(watch)) = self.watches.get_mut(watch.0 as usize) {
            watch.schedules = schedules;
        }
    }

    /// Changes what a watch wants told. What it wants in addition is told of everything that happens from when
    /// [`Watcher::is_set_up`] says so: at once in trees of some hundred directories, if the last turn had little to do.
    pub fn set_interest(&mut self, watch: WatchId, interest: Mask, sink: &mut impl Sink) {
        let Some(Some(watch)) = self.watches.get_mut(watch.0 as usize) else { return };
        let before = std::mem::replace(&mut watch.interest, interest);
        if before != interest {
            let sets = self.covers.of_roots(&watch.roots);
            self.count_sources(before, interest);
            self.update_masks(&sets);
            self.renew_masks();
            self.settle_roots(sink);
        }
    }

    pub(super) fn asks_of(&self, root: RootId) -> Asks {
        let asks = asks(&self.watches, &self.roots, self.wants_sources(), root);
        asks.expect("the caller has a root that exists")
    }

    /// The number of a set of roots.
    pub(super) fn intern(&mut self, roots: Vec<RootId>) -> u16 {
        let sources = self.wants_sources();
        let Watcher { covers, watches, roots: all, .. } = self;
        covers.intern(roots, |root| asks(watches, all, sources, root))
    }

    /// Whether sources of moves are remembered.
    pub(super) fn wants_sources(&self) -> bool {
        self.source_watches > 0
    }

    /// A watch wants something else than before: all must ask for sources if one wants IN_MOVED_TO.
    pub(super) fn count_sources(&mut self, before: Mask, after: Mask) {
        let moved_to = Flag::MovedTo.mask();
        let wanted = self.wants_sources();
        self.source_watches += usize::from(after.intersects(moved_to));
        self.source_watches -= usize::from(before.intersects(moved_to));
        if wanted != self.wants_sources() {
            self.update_masks(&self.covers.all());
        }
    }

    /// Brings sets up to date, and the kernel before long.
    fn update_masks(&mut self, sets: &[u16]) {
        let sources = self.wants_sources();
        let Watcher { covers, watches, roots, .. } = self;
        let changed = covers.update(sets, |root| asks(watches, roots, sources, root));
        if !changed.is_empty() {
            let renewal = self.renewal.get_or_insert_default();
            renewal.covers.extend(changed);
            renewal.next = 0;
        }
    }

    /// Goes on with bringing the kernel up to date.
    pub(super) fn renew_masks(&mut self) {
        let Some(mut renewal) = self.renewal.take() else { return };
        while self.units > 0 {
            let node = NodeId(renewal.next);
            if renewal.next >= self.tree.id_bound() {
                return;
            }
            renewal.next += 1;
            if self.tree.wd(node) != 0 && renewal.covers.contains(&self.tree.cover(node)) {
                self.spend(LOOK_UNITS);
                self.renew_mask(node);
            } else if renewal.next.is_multiple_of(NODES_A_UNIT) {
                self.spend(1);
            }
        }
        self.renewal = Some(renewal);
    }

    /// Asks the kernel for exactly what is wanted of a node's inode.
    pub(super) fn renew_mask(&mut self, node: NodeId) {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if !self.tree.has(node, ROOT | GUARD) {
            flags |= OFlags::NOFOLLOW;
        }
        if !self.may_ask(node, b"") {
            return;
        }
        let Some(path) = self.path_of(node) else { return };
        let object = rustix::fs::open(path, flags, Mode::empty());
        let wd = self.tree.wd(node);
        let mask = self.mask_of_wd(wd);
        match object.and_then(|object| Ok((self.kernel.replace(object.as_fd(), mask)?, object))) {
            Ok((other, _)) if other == wd => {}
            // Renamed, the event is queued: the inode that has the name gets its own mask back.
            Ok((other, object)) => {
                match self.mask_of_wd(other) {
                    0 => self.end_stray(other),
                    mask => drop(self.kernel.replace(object.as_fd(), mask)),
                }
                self.doubt_node(node);
            }
            Err(_) => self.doubt_node(node),
        }
    }

    /// What all nodes of a wd want together.
    fn mask_of_wd(&self, wd: i32) -> u32 {
        match self.tree.by_wd(wd) {
            None => 0,
            Some(node) if !self.tree.has(node, SHARED) => self.mask_for(node),
            Some(_) => self.tree.all_by_wd(wd).into_iter().fold(0, |sum, node| sum | self.mask_for(node)),
        }
    }
}
