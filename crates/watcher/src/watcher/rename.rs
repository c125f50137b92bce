//! Renames: the two halves are paired by cookie, a directory takes its subtree with it.
//!
//! The kernel sends IN_MOVED_FROM, IN_MOVED_TO and IN_MOVE_SELF of one rename in this order; events of other
//! directories may stand between them (K2), events of the same directories may not, since rename(2) holds their locks.
//! A directory whose IN_MOVED_FROM was followed by its IN_MOVE_SELF without IN_MOVED_TO has left our sight.

use event::{Flag, Mask};

use super::Watcher;
use super::place::{Kind, Standing};
use super::roots::Reason;
use super::tell::Told;
use crate::cover::{EMPTY, RootId};
use crate::decode::RawEvent;
use crate::pending::Move;
use crate::spec::{Sink, WatchId};
use crate::tree::{GUARD, MOVING, NodeId, ROOT, SEEN, UNNAMED};

/// A directory that has lost its name to another one, and whose own rename or end is still to be read.
pub(super) struct Aside {
    node: NodeId,
    /// Where it was.
    old: Vec<u8>,
    /// What is said to be its path meanwhile. A NUL is in no path.
    path: Vec<u8>,
    /// Who was told.
    watches: Vec<WatchId>,
}

/// Who sees a directory after a rename.
struct AfterMove {
    /// Each root that saw it before, and the root through which the same watch sees it now.
    kept: Vec<(RootId, RootId)>,
    /// Roots whose watch does not see it any more.
    lost: Vec<RootId>,
    /// The watches of those of them whose filter excludes it at its new place.
    excluded: Vec<WatchId>,
}

impl Watcher {
    pub(super) fn moved_from(
        &mut self,
        nodes: &[NodeId],
        mask: Mask,
        raw: &RawEvent<'_>,
        sink: &mut impl Sink,
    ) {
        for &node in nodes {
            self.creations.forget(node, raw.name);
        }
        self.tell_all(nodes, &Told { cookie: raw.cookie, ..Told::real(mask, raw.name) }, sink);
        let source = if self.wants_sources() { self.path_in(nodes[0], raw.name) } else { None };
        let source = source.map(Box::from).unwrap_or_default();
        let own = self.is_own(nodes[0], raw.name);
        let mut entry = Move { source, nodes: Vec::new(), displaced: Vec::new(), own };
        if mask.is_dir() {
            for &node in nodes {
                let child = self.tree.child(node, raw.name);
                if let Some(child) = child {
                    self.mounts_go_along(child);
                    entry.nodes.push(self.set_moving(child));
                }
                let displaced = self.displaced_from(node, raw.name);
                entry.displaced.extend(displaced.map(|child| self.set_moving(child)));
                self.doubt_if_ahead(node, raw.name);
            }
        }
        self.moves.insert(raw.cookie, entry, self.now);
    }

    /// Whether the directory that has come is a tree that we have put there; once for each.
    fn takes_own_tree(&mut self, node: NodeId, name: &[u8]) -> bool {
        if !(self.options.own_tree)(name) {
            return false;
        }
        let (Some(directory), Some(tree)) = (self.identity(node, b""), self.identity(node, name)) else {
            return false;
        };
        (self.options.take_own_tree)(directory, name, tree)
    }

    fn set_moving(&mut self, node: NodeId) -> (NodeId, i32) {
        self.tree.set(node, MOVING);
        (node, self.tree.wd(node))
    }

    /// The node that has lost this name to another one last.
    fn displaced_from(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let displaced = self.displaced.iter().rev().map(|&(node, _)| node);
        let is_it = |node: &NodeId| {
            self.tree.has(*node, UNNAMED)
                && self.tree.parent(*node) == Some(parent)
                && self.tree.name(*node) == name
        };
        displaced.into_iter().find(is_it)
    }

    pub(super) fn moved_to(
        &mut self,
        nodes: &[NodeId],
        mask: Mask,
        raw: &RawEvent<'_>,
        sink: &mut impl Sink,
    ) {
        let entry = self.moves.take(raw.cookie);
        let own_target = self.is_own(nodes[0], raw.name);
        let own_source = entry.as_ref().is_some_and(|entry| entry.own);
        // A tree of ours comes out of a directory that nobody watches.
        let own_tree = entry.is_none() && mask.is_dir() && self.takes_own_tree(nodes[0], raw.name);
        if (own_source || own_tree) && !own_target {
            return self.own_rename(nodes, mask, raw.name, sink);
        }
        let source = entry.as_ref().map(|entry| &entry.source[..]).filter(|source| !source.is_empty());
        let told = Told { cookie: raw.cookie, source, ..Told::real(mask, raw.name) };
        self.tell_all(nodes, &told, sink);
        if !mask.is_dir() || own_target {
            return;
        }
        let (movers, displaced) = entry.map(|entry| (entry.nodes, entry.displaced)).unwrap_or_default();
        let movers = self.which_moves(movers, displaced, nodes[0], raw.name);
        let mut movers = movers.into_iter();
        for &node in nodes {
            match movers.next() {
                Some(mover) => self.arrive_at(mover, node, raw.name, sink),
                None => self.moved_in(node, raw.name, sink),
            }
        }
        // Seen from more places before than after.
        movers.for_each(|node| self.doom(node));
        for &node in nodes {
            self.recover_renamed(node, raw.name);
        }
    }

    /// Which nodes a rename is about: those that have the old name, or those that had lost it. Overwriting a directory
    /// and renaming it back looks like an exchange; what stands at the new name now decides, as far as it can.
    fn which_moves(
        &mut self,
        named: Vec<(NodeId, i32)>,
        displaced: Vec<(NodeId, i32)>,
        parent: NodeId,
        name: &[u8],
    ) -> Vec<NodeId> {
        // A node that was freed meanwhile has another wd, or is not under way; one that was cut off is about to be
        // freed.
        let live = |nodes: Vec<(NodeId, i32)>| {
            let is_live = |&(node, wd): &(NodeId, i32)| {
                let is_same = self.tree.has(node, MOVING) && (wd == 0 || self.tree.wd(node) == wd);
                is_same && self.is_reachable(node)
            };
            nodes.into_iter().filter(is_live).map(|(node, _)| node).collect::<Vec<_>>()
        };
        let (named, displaced) = (live(named), live(displaced));
        let (Some(&one), Some(&other)) = (named.first(), displaced.first()) else {
            return if named.is_empty() { displaced } else { named };
        };
        self.doubt(parent, name);
        self.doubt_node(one);
        let (one_wd, other_wd) = (self.tree.wd(one), self.tree.wd(other));
        let is_exchange = match self.standing(parent, name) {
            Standing::Directory(wd) if wd == one_wd => false,
            Standing::Directory(wd) if wd == other_wd => true,
            // A victim that was watched would have told its end by now.
            Standing::Directory(_) | Standing::Nothing | Standing::Unknown => {
                other_wd != 0 || self.is_in_place(one)
            }
        };
        let (moves, stays) = if is_exchange { (displaced, named) } else { (named, displaced) };
        for node in stays {
            self.tree.clear(node, MOVING);
        }
        moves
    }

    /// Whether the node's name is that of its inode now.
    fn is_in_place(&mut self, node: NodeId) -> bool {
        let Some(parent) = self.tree.parent(node) else { return false };
        let name = self.tree.name(node).to_vec();
        let wd = self.tree.wd(node);
        wd != 0 && self.standing(parent, &name) == Standing::Directory(wd)
    }

    /// The last step of one of our own file actions: to a watch this is where the entry comes into being.
    fn own_rename(&mut self, nodes: &[NodeId], mask: Mask, name: &[u8], sink: &mut impl Sink) {
        for &node in nodes {
            if mask.is_dir() {
                self.paths.told_clear();
                self.tell(node, &Told::arrival(Flag::Create.mask() | Mask::ISDIR, name, None), sink);
                self.found_directory(node, name, Kind::Arrive, sink);
            } else {
                self.own_file_found(node, name, sink);
            }
        }
    }

    /// A directory came from where it was not watched: everything in it arrives with it.
    ///
    /// Differs: the original tells the directory only (`a_tree_moved_in_is_told_file_by_file`).
    fn moved_in(&mut self, parent: NodeId, name: &[u8], sink: &mut impl Sink) {
        if let Some(victim) = self.tree.child(parent, name)
            && self.tree.wd(victim) != 0
            && self.standing(parent, name) == Standing::Nothing
        {
            self.displace(victim);
        }
        self.found_directory(parent, name, Kind::Arrive, sink);
    }

    /// A directory of the tree has its new parent and name.
    pub(super) fn arrive_at(&mut self, mover: NodeId, parent: NodeId, name: &[u8], sink: &mut impl Sink) {
        self.tree.clear(mover, MOVING);
        match self.tree.child(parent, name) {
            Some(other) if other == mover => {}
            Some(other) if self.takes_over(other, mover) => {
                self.doom(mover);
                // What stands there may have been watched for a root alone, and not for who watches the place.
                let cover = self.cover_below(parent, name);
                let new = self.join(other, cover);
                self.found_again(other, Kind::Arrive, new);
            }
            Some(other) if self.tree.wd(other) == self.tree.wd(mover) => {
                // A listing has found it at its new place already; what is known of it is kept with the old node.
                self.doom(other);
                self.bring(mover, parent, name, sink);
            }
            other => {
                if let Some(other) = other {
                    self.set_aside(other, sink);
                    self.displace(other);
                }
                self.bring(mover, parent, name, sink);
            }
        }
        // What moves need not be the directory that the tree had under the old name.
        let is_new = self.tree.child(parent, name).is_some_and(|node| self.tree.wd(node) == 0);
        if is_new {
            self.look_or_doubt(parent, name, Kind::Arrive, sink);
        } else {
            self.doubt_if_ahead(parent, name);
        }
    }

    /// Tells who sees a directory that its name goes to another one: what waits below it must not become one with what
    /// waits below that.
    fn set_aside(&mut self, node: NodeId, sink: &mut impl Sink) {
        let Some(old) = self.path_of(node).map(<[u8]>::to_vec) else { return };
        let path = [&old, &b"\0"[..], node.0.to_string().as_bytes()].concat();
        let seeing = self.covers.roots(self.tree.cover(node)).iter();
        let mut watches: Vec<WatchId> = seeing.map(|&root| self.root(root).watch).collect();
        watches.sort_unstable();
        watches.dedup();
        for &watch in &watches {
            sink.set_aside(watch, &old, &path);
        }
        self.asides.push(Aside { node, old, path, watches });
    }

    /// Whether a node waits for its own rename, having lost its name.
    pub(super) fn is_aside(&self, node: NodeId) -> bool {
        self.tree.has(node, UNNAMED) && self.is_reachable(node)
    }

    /// Says of directories that were set aside, and of which nothing is awaited any more (`ended`), that they are where
    /// they were.
    pub(super) fn end_asides(&mut self, ended: impl Fn(&Watcher, NodeId) -> bool, sink: &mut impl Sink) {
        if self.asides.is_empty() {
            return;
        }
        let asides = std::mem::take(&mut self.asides);
        let (ended, asides): (Vec<_>, Vec<_>) = asides.into_iter().partition(|one| ended(self, one.node));
        self.asides = asides;
        for Aside { old, path, watches, .. } in ended {
            for watch in watches {
                sink.renamed(watch, &path, Some(&old));
            }
        }
    }

    /// Whether a node that is at the new place stands for the mover: a root, which stays where it is, or the directory
    /// that was looked for too late at its old place and found at the new one.
    fn takes_over(&mut self, other: NodeId, mover: NodeId) -> bool {
        let wd = self.tree.wd(mover);
        if wd == 0 {
            self.is_in_place(other)
        } else {
            self.tree.wd(other) == wd && self.tree.has(other, ROOT | GUARD)
        }
    }

    fn bring(&mut self, mover: NodeId, parent: NodeId, name: &[u8], sink: &mut impl Sink) {
        if !self.is_reachable(mover) {
            // It went with what had to make room.
            return self.moved_in(parent, name, sink);
        }
        if self.tree.is_at_or_above(mover, parent) {
            // Out of date: no directory can become its own ancestor.
            return self.doom(mover);
        }
        self.relocate(mover, parent, name, sink);
    }

    /// Hangs a directory under its new parent. Who sees it there may be others than before.
    fn relocate(&mut self, node: NodeId, parent: NodeId, name: &[u8], sink: &mut impl Sink) {
        let from = self.path_of(node).map(<[u8]>::to_vec).unwrap_or_default();
        let mut left = self.leave_roots_behind(node, sink);
        let before = self.tree.cover(node);
        let AfterMove { kept, lost, excluded } = self.after_move(node, parent, name);
        let gained = self.gained(before, &kept, parent, name);
        for &root in &lost {
            let told =
                Told { is_dir: true, lost: true, only: Some(root), ..Told::real(Flag::MoveSelf.mask(), b"") };
            self.paths.told_clear();
            self.tell(node, &told, sink);
        }
        left.extend(lost.iter().map(|&root| (self.root(root).watch, from.clone())));
        self.paths.forget();
        self.tree.rename(node, parent, name);
        let kept_by = kept.iter().map(|&(root, _)| self.root(root).watch);
        // What is excluded is not watched, but where it went is known: filters and rules are asked there.
        let knowing = kept_by.chain(excluded).collect();
        self.say_renamed(node, &from, knowing, &left, sink);
        self.take_inner_along(node, &from, &kept);
        // A listing of its new parent that is under way may have passed the name.
        self.tree.set(node, SEEN);
        let changes = kept.iter().any(|&(old, new)| old != new);
        if changes || !lost.is_empty() {
            self.change_covers(node, &kept);
        }
        if self.tree.cover(node) == EMPTY && gained.is_empty() {
            return self.doom(node);
        }
        for root in gained {
            self.gain(node, root);
        }
        if changes || !left.is_empty() {
            self.doom_uncovered(node);
        }
    }

    /// Tells those who know the directory's place where it is now, and those who don't any more (with what they saw of
    /// it).
    fn say_renamed(
        &mut self,
        node: NodeId,
        from: &[u8],
        mut knowing: Vec<WatchId>,
        left: &[(WatchId, Vec<u8>)],
        sink: &mut impl Sink,
    ) {
        knowing.sort_unstable();
        knowing.dedup();
        let place = self.asides.iter().position(|one| one.node == node);
        let aside = place.map(|place| self.asides.swap_remove(place));
        let set_aside = |watch: &WatchId| aside.as_ref().filter(|one| one.watches.contains(watch));
        let Some(to) = self.path_of(node) else { return };
        for watch in &knowing {
            sink.renamed(*watch, set_aside(watch).map_or(from, |one| &one.path), Some(to));
        }
        for (watch, _) in left.iter().filter(|(watch, _)| !knowing.contains(watch)) {
            if let Some(one) = set_aside(watch) {
                sink.renamed(*watch, &one.path, Some(&one.old));
            }
        }
        for (watch, path) in left {
            if !knowing.contains(watch) {
                sink.renamed(*watch, path, None);
            }
        }
    }

    /// Roots are paths: they don't move with the directory that they stood for. Gives the watches of those, and the
    /// paths that they stay at.
    fn leave_roots_behind(&mut self, node: NodeId, sink: &mut impl Sink) -> Vec<(WatchId, Vec<u8>)> {
        let mut left = Vec::new();
        for root in self.roots_below(node) {
            left.push((self.root(root).watch, self.root(root).path.clone()));
            if self.root(root).node == Some(node) {
                let told = Told {
                    is_dir: true,
                    lost: true,
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
        left
    }

    fn after_move(&mut self, node: NodeId, parent: NodeId, name: &[u8]) -> AfterMove {
        let (mut kept, mut lost, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
        for root in self.covers.roots(self.tree.cover(node)).to_vec() {
            let watch = self.root(root).watch;
            let there = self.covers.roots(self.tree.cover(parent)).to_vec();
            let same = there.iter().copied().find(|&other| other == root);
            let through = same.or_else(|| there.into_iter().find(|&other| self.root(other).watch == watch));
            match through {
                Some(through) if !self.excludes(through, parent, name) => kept.push((root, through)),
                Some(_) => {
                    lost.push(root);
                    excluded.push(watch);
                }
                None => lost.push(root),
            }
        }
        AfterMove { kept, lost, excluded }
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

    /// A root gains a directory that others have watched already: to its watch everything in it arrives.
    fn gain(&mut self, node: NodeId, root: RootId) {
        let mut roots = self.covers.roots(self.tree.cover(node)).to_vec();
        roots.push(root);
        let cover = self.intern(roots);
        self.covers.assign(&mut self.tree, node, cover);
        let wd = self.tree.wd(node);
        if wd == 0 {
            return;
        }
        // Opening it for the walk will ask the kernel for what this root wants as well.
        self.start_walk(node, wd, None, Kind::Arrive, Some(root));
    }
}
