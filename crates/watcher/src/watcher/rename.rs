//! Renames: the two halves are paired by cookie, a directory takes its subtree with it.
//!
//! The kernel sends IN_MOVED_FROM, IN_MOVED_TO and IN_MOVE_SELF of one rename in this order; events of other
//! directories may stand between them (K2), events of the same directories may not, since rename(2) holds their locks.
//! A directory whose IN_MOVED_FROM was followed by its IN_MOVE_SELF without IN_MOVED_TO has left our sight.

use std::os::fd::AsFd as _;

use event::{Flag, Mask};

use super::Watcher;
use super::place::{Kind, Look};
use super::roots::Reason;
use super::tell::{Told, UNKNOWN_PATH};
use crate::cover::{EMPTY, RootId};
use crate::decode::RawEvent;
use crate::pending::Move;
use crate::spec::{Sink, WatchId};
use crate::tree::{MOVED, MOVING, NodeId, UNNAMED};

impl Watcher {
    pub(super) fn moved_from(&mut self, nodes: &[NodeId], mask: Mask, raw: &RawEvent<'_>, sink: &mut impl Sink) {
        nodes.iter().for_each(|&node| self.forget_young(node, raw.name));
        self.tell_all(nodes, &Told { cookie: raw.cookie, ..Told::real(mask, raw.name) }, sink);
        let source = if self.sources_wanted { self.path_in(nodes[0], raw.name) } else { None };
        let source = source.map(Box::from).unwrap_or_default();
        let mut moving = Vec::new();
        if mask.is_dir() {
            for &node in nodes {
                if let Some(child) = self.named_before(node, raw.name) {
                    self.tree.set(child, MOVING);
                    moving.push((child, self.tree.wd(child)));
                }
            }
        }
        let own = (self.options.own_name)(raw.name);
        self.moves.insert(raw.cookie, Move { source, nodes: moving, own }, self.now);
    }

    /// The node that had this name when the event was made: one that has lost it to the other half of an exchange,
    /// else the one that has it.
    fn named_before(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let displaced = self.displaced.iter().rev().map(|&(node, _)| node);
        let is_it = |node: &NodeId| {
            self.tree.has(*node, UNNAMED) && self.tree.parent(*node) == Some(parent) && self.tree.name(*node) == name
        };
        displaced.into_iter().find(is_it).or_else(|| self.tree.child(parent, name))
    }

    pub(super) fn moved_to(
        &mut self,
        nodes: &[NodeId],
        mask: Mask,
        raw: &RawEvent<'_>,
        units: &mut u32,
        sink: &mut impl Sink,
    ) {
        let entry = self.moves.take(raw.cookie);
        let own_target = (self.options.own_name)(raw.name);
        if entry.as_ref().is_some_and(|entry| entry.own) && !own_target {
            return self.own_rename(nodes, mask, raw.name, units, sink);
        }
        let source = entry.as_ref().map(|entry| &entry.source[..]).filter(|source| !source.is_empty());
        let told = Told { cookie: raw.cookie, source, ..Told::real(mask, raw.name) };
        self.tell_all(nodes, &told, sink);
        if !mask.is_dir() || own_target {
            return;
        }
        let mut movers = entry.map(|entry| entry.nodes).unwrap_or_default();
        // A node that was freed meanwhile has another wd, or none, or is not under way.
        movers.retain(|&(node, wd)| self.tree.has(node, MOVING) && self.tree.wd(node) == wd);
        let mut movers = movers.into_iter().map(|(node, _)| node);
        for &node in nodes {
            match movers.next() {
                Some(mover) => self.arrive_at(mover, node, raw.name, units, sink),
                None => self.moved_in(node, raw.name, units, sink),
            }
        }
        // Seen from more places before than after.
        movers.for_each(|node| self.doom(node));
    }

    /// The last step of one of our own file actions: to a watch this is where the entry comes into being.
    fn own_rename(&mut self, nodes: &[NodeId], mask: Mask, name: &[u8], units: &mut u32, sink: &mut impl Sink) {
        for &node in nodes {
            if mask.is_dir() {
                self.paths.told_clear();
                self.tell(node, &Told::arrival(Flag::Create.mask() | Mask::ISDIR, name, None), sink);
                self.found_directory(node, name, Kind::Arrive, units, sink);
            } else {
                self.own_file_found(node, name, sink);
            }
        }
    }

    /// A directory came from where it was not watched, with everything in it: no arrivals.
    fn moved_in(&mut self, parent: NodeId, name: &[u8], units: &mut u32, sink: &mut impl Sink) {
        if let Some(victim) = self.tree.child(parent, name)
            && self.tree.wd(victim) != 0
            && matches!(self.look_at(victim), Look::Nothing)
        {
            self.displace(victim);
        }
        self.found_directory(parent, name, Kind::MovedIn, units, sink);
    }

    /// A directory of the tree has its new parent and name.
    fn arrive_at(
        &mut self,
        mover: NodeId,
        parent: NodeId,
        name: &[u8],
        units: &mut u32,
        sink: &mut impl Sink,
    ) {
        self.tree.clear(mover, MOVING);
        match self.tree.child(parent, name) {
            Some(other) if other == mover => return,
            Some(other) if self.tree.wd(mover) != 0 && self.tree.wd(other) == self.tree.wd(mover) => {
                // A listing has found it at its new place already.
                return self.doom(mover);
            }
            Some(other) if self.tree.wd(mover) == 0 && matches!(self.look_at(other), Look::Same) => {
                return self.doom(mover);
            }
            Some(other) => self.displace(other),
            None => {}
        }
        if self.tree.is_at_or_above(mover, parent) {
            // Only lost events can make a directory its own ancestor.
            return self.doom(mover);
        }
        self.relocate(mover, parent, name, sink);
        self.doom_uncovered(mover);
        if !self.is_reachable(mover) {
            return;
        }
        if self.tree.wd(mover) == 0 {
            // Made, and renamed before we could look at it.
            return self.enter(mover, Kind::Arrive, units, sink);
        }
        self.tree.set(mover, MOVED);
        if self.fresh_contains(mover) {
            self.confirm(mover);
        }
    }

    /// The node was watched by a name that another inode may have had by then: looks whether it is the right one.
    fn confirm(&mut self, node: NodeId) {
        match self.look_at(node) {
            Look::Same => {}
            Look::Other(object, wd) => self.replace(node, object, wd, Kind::Arrive),
            Look::Nothing | Look::Unsure => self.wait_for_quiet(node),
        }
    }

    /// Hangs a directory under its new parent. Who sees it there may be others than before.
    fn relocate(&mut self, node: NodeId, parent: NodeId, name: &[u8], sink: &mut impl Sink) {
        self.leave_roots_behind(node, sink);
        let before = self.tree.cover(node);
        let (kept, lost) = self.after_move(node, parent, name);
        let gained = self.gained(before, &kept, parent, name);
        for &(_, root) in &lost {
            let told = Told {
                is_dir: true,
                suffix: UNKNOWN_PATH,
                only: Some(root),
                ..Told::real(Flag::MoveSelf.mask(), b"")
            };
            self.paths.told_clear();
            self.tell(node, &told, sink);
        }
        self.paths.forget();
        self.tree.rename(node, parent, name);
        let stays = lost.is_empty() && kept.iter().all(|&(old, new)| old == new);
        if !stays {
            self.change_covers(node, &kept);
        }
        if self.tree.cover(node) == EMPTY && gained.is_empty() {
            return self.doom(node);
        }
        for root in gained {
            self.gain(node, root);
        }
    }

    /// Roots are paths: they don't move with the directory that they stood for.
    fn leave_roots_behind(&mut self, node: NodeId, sink: &mut impl Sink) {
        for root in self.roots_below(node) {
            if self.root(root).node == Some(node) {
                let told = Told {
                    is_dir: true,
                    suffix: UNKNOWN_PATH,
                    only: Some(root),
                    ..Told::real(Flag::MoveSelf.mask(), b"")
                };
                self.paths.told_clear();
                self.tell(node, &told, sink);
            }
            self.unbind_in_place(root);
            self.recheck.push((root, Reason::Moved));
        }
        self.recheck_guarded(node, Reason::Moved);
    }

    /// Of the roots that see a directory: through which root its watch sees it at its new place, and the roots whose
    /// watch does not see it any more.
    fn after_move(
        &mut self,
        node: NodeId,
        parent: NodeId,
        name: &[u8],
    ) -> (Vec<(RootId, RootId)>, Vec<(WatchId, RootId)>) {
        let (mut kept, mut lost) = (Vec::new(), Vec::new());
        for root in self.covers.roots(self.tree.cover(node)).to_vec() {
            let watch = self.root(root).watch;
            let there = self.covers.roots(self.tree.cover(parent)).to_vec();
            let same = there.iter().copied().find(|&other| other == root);
            let through = same.or_else(|| there.into_iter().find(|&other| self.root(other).watch == watch));
            match through {
                Some(through) if !self.excludes(through, parent, name) => kept.push((root, through)),
                Some(_) | None => lost.push((watch, root)),
            }
        }
        (kept, lost)
    }

    /// Roots that see the new place, take new directories, and whose watch has not seen this one before.
    fn gained(&mut self, before: u16, kept: &[(RootId, RootId)], parent: NodeId, name: &[u8]) -> Vec<RootId> {
        let there = self.cover_below(parent, name);
        let seen: Vec<WatchId> = kept.iter().map(|&(root, _)| self.root(root).watch).collect();
        let roots = self.covers.roots(there).iter().copied();
        let old = self.covers.roots(before);
        roots.filter(|root| !old.contains(root) && !seen.contains(&self.root(*root).watch)).collect()
    }

    /// Exchanges the roots of a whole branch.
    fn change_covers(&mut self, top: NodeId, kept: &[(RootId, RootId)]) {
        for node in self.tree.subtree(top) {
            let roots = self.covers.roots(self.tree.cover(node)).iter();
            let new = roots.filter_map(|root| kept.iter().find(|(old, _)| old == root).map(|&(_, new)| new));
            let new = new.collect();
            let cover = self.intern(new);
            self.covers.assign(&mut self.tree, node, cover);
        }
    }

    /// A root gains a directory that others have watched already: walked for it alone, without arrivals.
    fn gain(&mut self, node: NodeId, root: RootId) {
        let mut roots = self.covers.roots(self.tree.cover(node)).to_vec();
        roots.push(root);
        let cover = self.intern(roots);
        self.covers.assign(&mut self.tree, node, cover);
        let wd = self.tree.wd(node);
        if wd == 0 {
            return;
        }
        if let Ok(object) = self.open_dir(node) {
            // Opening has asked the kernel for what this root wants as well.
            let _ = object.as_fd();
            self.start_walk(node, wd, Some(object), Kind::MovedIn, Some(root));
        } else {
            self.wait_for_quiet(node);
        }
    }
}
