//! One event of the kernel: told at once where it changes nothing, handed on where the tree must follow.

use event::{Flag, Mask};

use super::Watcher;
use super::nameless::nameless_inode;
use super::place::Kind;
use super::roots::Reason;
use super::tell::Told;
use crate::decode::RawEvent;
use crate::notice::Notice;
use crate::spec::Sink;
use crate::tree::{GUARD, NodeId, ROOT, SHARED};

/// Events that always concern the tree itself.
const STRUCTURE: u32 = Flag::MovedFrom.mask().0
    | Flag::MovedTo.mask().0
    | Flag::DeleteSelf.mask().0
    | Flag::MoveSelf.mask().0
    | Flag::Unmount.mask().0
    | Flag::Ignored.mask().0;
/// Events that concern the tree when their object is a directory.
const STRUCTURE_OF_DIRS: u32 = Flag::Create.mask().0 | Flag::Delete.mask().0;

impl Watcher {
    pub(super) fn dispatch(&mut self, raw: &RawEvent<'_>, sink: &mut impl Sink) {
        let mask = Mask(raw.mask);
        if self.retired.swallows(raw.wd, mask.intersects(Flag::Ignored.mask())) {
            return;
        }
        let Some(node) = self.node_of(raw.wd) else {
            if mask.intersects(Flag::QOverflow.mask()) {
                self.overflow(sink);
            }
            return;
        };
        if !self.tree.has(node, SHARED | GUARD) && !concerns_tree(mask) && !self.is_delicate(mask, raw.name) {
            return self.tell_all(&[node], &Told::real(mask, raw.name), sink);
        }
        let mut nodes = if self.tree.has(node, SHARED) { self.tree.all_by_wd(raw.wd) } else { vec![node] };
        if !mask.intersects(Flag::Ignored.mask()) {
            // Nodes of doomed branches can share the wd of a directory that was found again elsewhere.
            nodes.retain(|&node| self.is_reachable(node));
            // Each watch is told of one place: the one of the time of the event, not one where a look has found it
            // since.
            nodes.sort_by_key(|&node| self.fresh.number(node));
        }
        if nodes.is_empty() {
            return;
        }
        self.follow(&nodes, mask, raw, sink);
        let guards: Vec<NodeId> = nodes.into_iter().filter(|&node| self.tree.has(node, GUARD)).collect();
        for node in guards {
            self.guard_event(node, mask, raw.name, sink);
        }
        self.end_asides(|watcher, node| !watcher.is_aside(node), sink);
        self.settle_roots(sink);
    }

    /// A node that the event is about. Events cluster: the directory of the last one is asked first.
    fn node_of(&self, wd: i32) -> Option<NodeId> {
        let last = self.paths.node().filter(|&node| self.tree.wd(node) == wd);
        last.or_else(|| self.tree.by_wd(wd))
    }

    /// Whether an event of a file needs a closer look: arrivals of the same name, a long queue, files without a name.
    fn is_delicate(&self, mask: Mask, name: &[u8]) -> bool {
        let entry_events = || {
            self.reading.backlog
                || self.creations.has_arrivals()
                || self.has_nameless()
                || self.recovery.runs()
        };
        name.first() == Some(&b'#') || (mask.intersects(Flag::Create | Flag::Delete) && entry_events())
    }

    fn follow(&mut self, nodes: &[NodeId], mask: Mask, raw: &RawEvent<'_>, sink: &mut impl Sink) {
        if let Some(inode) = nameless_inode(raw.name)
            && self.is_of_nameless(nodes, mask, raw.name, inode, sink)
        {
            return;
        }
        match mask.flag() {
            Some(Flag::Create) => self.created(nodes, mask, raw.name, sink),
            Some(Flag::Delete) => self.deleted(nodes, mask, raw.name, sink),
            Some(Flag::MovedFrom) => self.moved_from(nodes, mask, raw, sink),
            Some(Flag::MovedTo) => self.moved_to(nodes, mask, raw, sink),
            Some(Flag::MoveSelf) => self.move_self(nodes, mask, sink),
            Some(Flag::DeleteSelf) => self.tell_self(nodes, mask, sink),
            Some(Flag::Unmount) => {
                self.unmounted_wd = raw.wd;
                self.tell_all(nodes, &Told::real(mask, raw.name), sink);
                self.say_unmounted(nodes, sink);
            }
            Some(Flag::Ignored) => self.ignored(nodes, mask, raw.wd, sink),
            Some(
                Flag::Access
                | Flag::Modify
                | Flag::Attrib
                | Flag::CloseWrite
                | Flag::CloseNowrite
                | Flag::Open,
            ) => self.tell_all(nodes, &Told::real(mask, raw.name), sink),
            Some(Flag::QOverflow) | None => {}
        }
    }

    fn say_unmounted(&mut self, nodes: &[NodeId], sink: &mut impl Sink) {
        for root in nodes.iter().flat_map(|&node| self.roots_at(node)).copied().collect::<Vec<_>>() {
            let path = self.root(root).path.clone();
            self.say(Notice::Unmounted { path: &path }, sink);
        }
    }

    /// Events that the kernel sends without IN_ISDIR although the object may be a directory.
    fn tell_self(&mut self, nodes: &[NodeId], mask: Mask, sink: &mut impl Sink) {
        let is_dir = nodes.iter().any(|&node| self.is_dir(node));
        self.tell_all(nodes, &Told { is_dir, ..Told::real(mask, b"") }, sink);
    }

    /// Whether the node was a directory when it was watched: all are but roots that are files.
    pub(super) fn is_dir(&self, node: NodeId) -> bool {
        let roots = self.covers.roots(self.tree.cover(node)).iter().map(|&root| self.root(root));
        !self.tree.has(node, ROOT) || !roots.into_iter().any(|root| root.node == Some(node) && !root.is_dir)
    }

    fn created(&mut self, nodes: &[NodeId], mask: Mask, name: &[u8], sink: &mut impl Sink) {
        self.paths.told_clear();
        for &node in nodes {
            if !self.was_told(node, name) {
                self.tell(node, &Told::real(mask, name), sink);
                self.remember_create(node, name);
            }
            if mask.is_dir() {
                self.found_directory(node, name, Kind::Arrive, sink);
            } else if self.has_nameless() {
                self.created_from_nameless(node, name, sink);
            }
        }
    }

    /// Whether the entry was told as an arrival already. The same name with another inode is another entry.
    fn was_told(&mut self, node: NodeId, name: &[u8]) -> bool {
        let Some(inode) = self.creations.take_arrival(node, name) else { return false };
        match self.status_of(node, name) {
            Ok(stat) => stat.st_ino == inode,
            // Gone by now: its creation was told, its deletion follows.
            Err(_) => true,
        }
    }

    fn remember_create(&mut self, node: NodeId, name: &[u8]) {
        if self.reading.backlog || self.recovery.runs() {
            self.creations.created(node, name);
        }
    }

    fn deleted(&mut self, nodes: &[NodeId], mask: Mask, name: &[u8], sink: &mut impl Sink) {
        for &node in nodes {
            self.creations.forget(node, name);
        }
        self.tell_all(nodes, &Told::real(mask, name), sink);
        if !mask.is_dir() {
            return;
        }
        // A directory that somebody holds open sends nothing itself until it is closed (K18).
        for &node in nodes {
            let child = self.tree.child(node, name);
            if let Some(child) = child.filter(|&child| !self.tree.has(child, ROOT | GUARD)) {
                self.gone(node, name, child);
            }
        }
    }

    /// A directory was deleted by name. If it was looked at lately, it may be a later one that is there.
    fn gone(&mut self, parent: NodeId, name: &[u8], child: NodeId) {
        if self.fresh.may_have(child) { self.doubt(parent, name) } else { self.doom(child) }
    }

    fn ignored(&mut self, nodes: &[NodeId], mask: Mask, wd: i32, sink: &mut impl Sink) {
        self.tell_all(nodes, &Told { is_dir: false, ..Told::real(mask, b"") }, sink);
        let unmounted = self.unmounted_wd == wd;
        for &node in nodes {
            self.forget_object(node, unmounted);
        }
    }

    /// The kernel has ended the watch of this node.
    fn forget_object(&mut self, node: NodeId, unmounted: bool) {
        self.tree.set_wd(node, 0);
        if !self.is_reachable(node) {
            // The doomed branch that it belongs to is taken down in its own time.
            return;
        }
        let concerned = self.roots_at(node).to_vec();
        let was_root = !concerned.is_empty();
        for root in concerned {
            self.unbind(root);
            self.recheck.push((root, Reason::Gone));
        }
        self.recheck_guarded(node, Reason::Gone);
        let again = self.unmount_reveals(node, unmounted && !was_root);
        self.doom(node);
        if let Some((parent, name)) = again {
            self.doubt(parent, &name);
        }
    }

    /// Below a mount point that is no root something reappears: its parent and name, to be looked at later.
    fn unmount_reveals(&mut self, node: NodeId, unmounted: bool) -> Option<(NodeId, Vec<u8>)> {
        let parent = self.tree.parent(node).filter(|_| unmounted)?;
        (self.tree.wd(parent) != 0).then(|| (parent, self.tree.name(node).to_vec()))
    }

    /// Whether a path leads to the node.
    pub(super) fn is_reachable(&self, node: NodeId) -> bool {
        let mut at = node;
        while let Some(parent) = self.tree.parent(at) {
            at = parent;
        }
        !self.tree.is_cut(at)
    }

    fn move_self(&mut self, nodes: &[NodeId], mask: Mask, sink: &mut impl Sink) {
        let mut stays = Vec::new();
        for &node in nodes {
            if self.stays_in_sight(node) {
                stays.push(node);
            } else {
                self.moved_out(node, mask, sink);
            }
        }
        self.tell_self(&stays, mask, sink);
    }

    fn moved_out(&mut self, node: NodeId, mask: Mask, sink: &mut impl Sink) {
        let is_dir = self.is_dir(node);
        let told = Told { is_dir, lost: true, ..Told::real(mask, b"") };
        self.paths.told_clear();
        self.tell(node, &told, sink);
        let covered = self.tree.cover(node) != crate::cover::EMPTY;
        let has_roots = !self.roots_below(node).is_empty();
        if covered
            && !has_roots
            && let Some(path) = self.path_of(node).map(<[u8]>::to_vec)
        {
            self.say(Notice::MovedOut { path: &path }, sink);
        }
        self.say_left(node, sink);
        for root in self.roots_below(node) {
            self.unbind(root);
            self.recheck.push((root, Reason::Moved));
        }
        self.recheck_guarded(node, Reason::Moved);
        self.doom(node);
    }

    /// A directory went where nobody sees it: tells those who saw it, or something below it.
    fn say_left(&mut self, node: NodeId, sink: &mut impl Sink) {
        let Some(path) = self.path_of(node).map(<[u8]>::to_vec) else { return };
        let seeing = self.covers.roots(self.tree.cover(node)).iter();
        let mut left: Vec<_> = seeing.map(|&root| (self.root(root).watch, path.clone())).collect();
        let below = self.roots_below(node).into_iter();
        left.extend(below.map(|root| (self.root(root).watch, self.root(root).path.clone())));
        left.sort_unstable();
        left.dedup();
        for (watch, path) in left {
            sink.renamed(watch, &path, None);
        }
    }
}

fn concerns_tree(mask: Mask) -> bool {
    mask.0 & STRUCTURE != 0 || (mask.is_dir() && mask.0 & STRUCTURE_OF_DIRS != 0)
}
