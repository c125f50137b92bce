//! Why the tree is right in the end, whatever is looked at too late: names in doubt.
//!
//! The kernel reports a name as it was at the time of the event; a look at it finds what is there now. So the tree
//! mixes two times, and a directory can be taken for another one: the one that is moved by an event need not be the one
//! that a look has found under its name. What holds all the same, for each watched directory and each name in it:
//!
//! > the node under the name watches the directory that has the name now, **or** an event about the name is still to
//! > come, **or** a walk is still to come by it, **or** the name is in doubt.
//!
//! A look at a name makes the first true, and what changes afterwards makes the second true, since the directory is
//! watched. An event uses the second up: it is answered by a look (IN_CREATE, a directory moved in), or it makes the
//! first true by itself as long as the tree is *exact*, that is, nothing was looked at or doubted since the queue was
//! last empty. Otherwise, and wherever a node is taken from its name for another reason than an event about that
//! name, the name comes in doubt. When nothing is queued any more that was queued then (the queue is empty, or as many
//! events have been read as it holds), the names in doubt are looked at, from the top down. A name whose directory is
//! not where its path leads stays in doubt, and all names on its path come in doubt with it. So when the watcher is at
//! rest there are no doubts, no events and no walks, and only the first is left: the tree is right.
//!
//! The same holds for who sees the directory: a look gives it to all that see the place and take what is new. So where
//! a node comes to a name in another way (a root is bound there, a root that alone saw it goes), the name is in doubt.
//!
//! Owns the names in doubt and the walks that wait for paths to be right. Leaves the look itself to [`super::place`].

use hashbrown::HashMap;

use super::Watcher;
use super::place::{Kind, Looked};
use super::read::Queue;
use super::roots::Reason;
use super::walk::{Waiting, Walk};
use crate::cover::EMPTY;
use crate::spec::Sink;
use crate::tree::{GUARD, NodeId, ROOT, STARVED, UNNAMED};

/// Names that are looked at in one turn: about a millisecond. Those that are left wait for the next one.
const LOOKS_A_TURN: usize = 170;

/// What is known of a name in doubt.
#[derive(Clone, Copy)]
struct Doubt {
    /// It is looked at when so many events have been read, or the queue is empty before.
    ripe_at: u64,
    /// There was no directory when it was looked at, after the read with this number.
    nothing: Option<u64>,
}

/// Names in doubt and walks put off, until the queue is empty.
#[derive(Default)]
pub(super) struct Doubts {
    names: HashMap<(NodeId, Box<[u8]>), Doubt>,
    /// Walks whose directory was not where its path leads, and when they are tried again, as for names.
    walks: Waiting,
    walks_ripe_at: u64,
}

impl Doubts {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.walks.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.names.len() + self.walks.len()
    }

    pub(super) fn retain_walks(&mut self, keep: impl Fn(&Walk) -> bool) {
        self.walks.retain(keep);
    }

    pub(super) fn walks(&self) -> impl Iterator<Item = &Walk> {
        self.walks.iter()
    }
}

impl Watcher {
    /// Whether something was looked at, or is in doubt, that events may still be queued about.
    pub(super) fn is_ahead(&self) -> bool {
        self.fresh.may_have_some() || !self.doubts.names.is_empty()
    }

    /// It is not certain which directory has this name: it is looked at when the queue is empty.
    pub(super) fn doubt(&mut self, dir: NodeId, name: &[u8]) {
        let key = (dir, name.into());
        let doubt = Doubt { ripe_at: self.read_after_all(), nothing: None };
        let names = &mut self.doubts.names;
        if names.contains_key(&key) || names.len() < self.options.limits.doubts_max {
            names.insert(key, doubt);
        } else {
            // Looking at everything is cheaper than remembering so much of it.
            self.look_at_everything();
        }
    }

    pub(super) fn has_room_for_doubts(&self) -> bool {
        self.doubts.names.len() < self.options.limits.doubts_max
    }

    /// An event says what became of a name. Unless the tree is exact, the event may be older than what is known.
    pub(super) fn doubt_if_ahead(&mut self, dir: NodeId, name: &[u8]) {
        if self.is_ahead() {
            self.doubt(dir, name);
        }
    }

    /// It is not certain that this node stands in its place.
    pub(super) fn doubt_node(&mut self, node: NodeId) {
        let roots = self.roots_at(node).to_vec();
        self.recheck.extend(roots.into_iter().map(|root| (root, Reason::Moved)));
        self.doubt_name_of(node);
    }

    /// It is not certain that all who see the node's place see the node.
    pub(super) fn doubt_name_of(&mut self, node: NodeId) {
        let Some(parent) = self.tree.parent(node) else { return };
        if self.tree.cover(parent) != EMPTY && !self.tree.has(node, UNNAMED) {
            let name = self.tree.name(node).to_vec();
            self.doubt(parent, &name);
        }
    }

    /// The directory is not where its path leads: any name on the way may be the wrong one.
    fn doubt_path(&mut self, dir: NodeId) {
        let mut at = Some(dir);
        while let Some(node) = at {
            at = self.tree.parent(node);
            // Of what is in doubt already it stays known that nothing was there.
            let key = at.map(|parent| (parent, self.tree.name(node).into()));
            if key.is_none_or(|key| !self.doubts.names.contains_key(&key)) {
                self.doubt_node(node);
            }
        }
    }

    /// A walk waits until its directory can be found by its path.
    pub(super) fn put_off(&mut self, walk: Walk) {
        self.doubt_path(walk.top().0);
        if self.doubts.walks.is_empty() {
            self.doubts.walks_ripe_at = self.read_after_all();
        }
        self.doubts.walks.insert(walk);
    }

    /// Looks at some of what is in doubt and ripe; walks go on. True if nothing ripe is left.
    pub(super) fn resolve_doubts(&mut self, queue: Queue, sink: &mut impl Sink) -> bool {
        self.settle_roots(sink);
        let read = self.stats.events;
        let is_ripe = |ripe_at: u64| queue == Queue::Empty || ripe_at <= read;
        let names = self.doubts.names.extract_if(|_, doubt| is_ripe(doubt.ripe_at)).collect::<Vec<_>>();
        let mut names: Vec<_> =
            names.into_iter().map(|(key, doubt)| (self.depth(key.0), key, doubt)).collect();
        names.sort_unstable_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        let rest = names.split_off(LOOKS_A_TURN.min(names.len()));
        let is_all = rest.is_empty();
        self.doubts.names.extend(rest.into_iter().map(|(_, key, doubt)| (key, doubt)));
        for (_, (dir, name), doubt) in names {
            self.resolve_doubt(dir, &name, doubt, queue, sink);
        }
        self.settle_roots(sink);
        if !is_ripe(self.doubts.walks_ripe_at) {
            return is_all;
        }
        let walks = self.doubts.walks.take();
        for walk in walks.filter(|walk| self.tree.wd(walk.top().0) == walk.top().1) {
            let tree = self.tree_of(walk.top().0);
            self.walks.push(tree, walk);
        }
        is_all
    }

    fn depth(&self, node: NodeId) -> usize {
        std::iter::successors(Some(node), |&node| self.tree.parent(node)).count()
    }

    fn resolve_doubt(&mut self, dir: NodeId, name: &[u8], doubt: Doubt, queue: Queue, sink: &mut impl Sink) {
        // A directory that is not watched is listed when it will be. One that was freed, whose number may be another's
        // now, was found again with all that is in it, if it is anywhere.
        if self.tree.wd(dir) == 0 || !self.is_reachable(dir) {
            return;
        }
        let cover = self.cover_below(dir, name);
        match self.look(dir, name, cover, Kind::Arrive, sink) {
            Looked::Same | Looked::Other => {}
            Looked::Nothing => self.found_nothing(dir, name, doubt, queue),
            Looked::Elsewhere => {
                self.doubt_path(dir);
                self.doubt(dir, name);
            }
        }
    }

    /// Looks at a name at once, and again later if that can't tell.
    pub(super) fn look_or_doubt(&mut self, dir: NodeId, name: &[u8], kind: Kind, sink: &mut impl Sink) {
        let cover = self.cover_below(dir, name);
        match self.look(dir, name, cover, kind, sink) {
            Looked::Same | Looked::Other => {}
            Looked::Nothing | Looked::Elsewhere => self.doubt(dir, name),
        }
    }

    /// No directory has the name. The event that says where the one went that the tree has there may be queued, and
    /// needs the node: it goes when everything has been read that was queued at the time of the look.
    fn found_nothing(&mut self, dir: NodeId, name: &[u8], doubt: Doubt, queue: Queue) {
        let Some(node) = self.tree.child(dir, name) else { return };
        // Roots and their ancestors are looked after by themselves, what starves by its next attempt.
        if self.tree.has(node, ROOT | GUARD | STARVED) {
            return;
        }
        let number = self.reading.number;
        let is_read = |read: u64| queue == Queue::TurnedOver || read < number;
        if doubt.nothing.is_some_and(is_read) {
            // A recovery may still find it elsewhere.
            return if self.recovery.runs() { self.displace(node) } else { self.doom(node) };
        }
        let nothing = doubt.nothing.or(Some(number));
        let doubt = Doubt { ripe_at: self.read_after_all(), nothing };
        self.doubts.names.insert((dir, name.into()), doubt);
    }
}
