//! Guards: what the ancestors of roots are watched for, so that roots are looked at when something happens to their
//! paths.
//!
//! Thousands of roots may have the same ancestors. So an ancestor knows its roots by the entry on the way to them, and
//! an event costs what the roots cost that it concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;

use event::{Flag, Mask};
use hashbrown::HashSet;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Watcher;
use super::place::{Kind, LOOK_UNITS, is_searchable};
use super::roots::{COMES, Reason, SELF};
use crate::cover::{EMPTY, RootId};
use crate::kernel::Refusal;
use crate::lookup::{RealPath, real_path};
use crate::spec::Sink;
use crate::tree::{GUARD, MOVING, NodeId, ROOT, SHARED};
use crate::{glob, path};

/// What a root has one of its ancestors watched for.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) node: NodeId,
    next: Next,
    mask: u32,
}

/// Which entries of the ancestor are on the way to the root.
#[derive(Clone, Debug)]
enum Next {
    /// The one whose name has this hash. A name with the same hash costs a look at the root.
    Named(u64),
    /// Those that match a component of the root's pattern.
    Matching(Box<[u8]>),
}

/// How often the way to a missing root is looked at while it changes, before other things have their turn.
const WAYS_TRIED_MAX: usize = 16;

/// A directory, the entry of it that is on the way to a root, and what it is watched for.
type Found = (Vec<u8>, Box<[u8]>, u32);

/// What one ancestor is watched for.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// Events to ask the kernel for, and how many ways ask for them.
    masks: Vec<(u32, usize)>,
    named: BTreeSet<(u64, RootId)>,
    matching: BTreeSet<(Box<[u8]>, RootId)>,
}

impl Guards {
    fn insert(&mut self, root: RootId, way: &Way) {
        match self.masks.iter_mut().find(|(mask, _)| *mask == way.mask) {
            Some((_, count)) => *count += 1,
            None => self.masks.push((way.mask, 1)),
        }
        match way.next.clone() {
            Next::Named(hash) => self.named.insert((hash, root)),
            Next::Matching(part) => self.matching.insert((part, root)),
        };
    }

    /// Takes back what was inserted; of several ways of a root with the same entry all are taken one after the other.
    fn remove(&mut self, root: RootId, way: &Way) {
        if let Some(at) = self.masks.iter().position(|(mask, _)| *mask == way.mask) {
            self.masks[at].1 -= 1;
            if self.masks[at].1 == 0 {
                self.masks.swap_remove(at);
            }
        }
        match way.next.clone() {
            Next::Named(hash) => self.named.remove(&(hash, root)),
            Next::Matching(part) => self.matching.remove(&(part, root)),
        };
    }

    fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }

    fn mask(&self) -> u32 {
        self.masks.iter().fold(0, |sum, (mask, _)| sum | mask)
    }

    /// All roots, each once.
    pub(super) fn roots(&self) -> Vec<RootId> {
        let named = self.named.iter().map(|&(_, root)| root);
        each_once(named.chain(self.matching.iter().map(|&(_, root)| root)))
    }

    /// The roots on whose way an entry is, each once.
    fn roots_through(&self, hash: u64, name: &[u8]) -> Vec<RootId> {
        let named = self.named.range((hash, RootId(0))..=(hash, RootId(u16::MAX))).map(|&(_, root)| root);
        let matching = self.matching.iter().filter(|(part, _)| glob::is_match(part, name));
        each_once(named.chain(matching.map(|&(_, root)| root)))
    }
}

fn each_once(roots: impl Iterator<Item = RootId>) -> Vec<RootId> {
    let mut roots: Vec<RootId> = roots.collect();
    roots.sort_unstable();
    roots.dedup();
    roots
}

impl Watcher {
    /// Watches the ancestors of a root for what can happen to it there.
    pub(super) fn guard(&mut self, root: RootId, sink: &mut impl Sink) {
        let mut before = Vec::new();
        let mut ways = self.all_ways_to(root);
        for tried in 1.. {
            for node in self.take_guards(root) {
                // Each once, those above first.
                if !before.contains(&node) {
                    before.push(node);
                }
            }
            self.guard_all(root, &ways);
            if self.root(root).node.is_some() {
                break;
            }
            // A directory that came before its parent was watched makes the way longer.
            let now = self.all_ways_to(root);
            if now == ways {
                break;
            }
            if tried == WAYS_TRIED_MAX {
                self.recheck_later(root, Reason::Appeared);
                break;
            }
            ways = now;
        }
        for node in before {
            self.prune(node);
        }
        self.say_limit(sink);
    }

    fn all_ways_to(&mut self, root: RootId) -> Vec<Found> {
        let path = self.root(root).path.clone();
        let mut ways = self.ways_to(root, &path);
        ways.extend(self.ways_through_links(root, &path));
        ways
    }

    /// Guards a root at a directory to which a path of its pattern leads through a link.
    pub(super) fn guard_behind_link(&mut self, root: RootId, path: &[u8]) {
        let ways = self.ways_through_links(root, path);
        self.guard_all(root, &ways);
    }

    fn guard_all(&mut self, root: RootId, ways: &[Found]) {
        let mut masks = BTreeMap::new();
        for (at, next, mask) in ways {
            *masks.entry((at, next)).or_insert(0) |= mask;
        }
        for ((at, next), mask) in masks {
            if let Err(errno) = self.guard_one(root, at, next, mask)
                && Refusal::of(errno) == Refusal::Limit
            {
                self.starve_roots(errno, at);
            }
        }
    }

    /// The directories through which a path leads besides those that it names, and those on the ways to its links.
    fn ways_through_links(&mut self, root: RootId, path: &[u8]) -> Vec<Found> {
        let RealPath { path: real, links } =
            real_path(path, |path: &[u8]| self.territory.elsewhere(path).is_none());
        if links.is_empty() {
            return Vec::new();
        }
        self.territory.has_links = true;
        let mut ways = self.ways_to(root, &real);
        for (mut link, name) in links {
            path::push(&mut link, &name);
            let mut to_link = self.ways_to(root, &link);
            if let Some((_, _, mask)) = to_link.last_mut() {
                // A link sends no event of its own: its directory does.
                *mask |= (COMES | Flag::Delete).0;
            }
            ways.extend(to_link);
        }
        ways
    }

    /// The directories above `path` that exist, each with the next name and what it is watched for.
    fn ways_to(&self, root: RootId, path: &[u8]) -> Vec<Found> {
        let bound = self.root(root).node.is_some() && !self.root(root).missing;
        let mut ways: Vec<Found> = Vec::new();
        let mut at = b"/".to_vec();
        for name in path::components(path) {
            if self.territory.elsewhere(&at).is_some() {
                break;
            }
            let is_dir = rustix::fs::stat(&at[..])
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
            if !is_dir {
                break;
            }
            let mut next = at.clone();
            path::push(&mut next, name);
            ways.push((at, name.into(), SELF.0));
            at = next;
        }
        if let Some((_, _, mask)) = ways.last_mut() {
            let last = match (bound, self.root(root).is_dir) {
                (true, true) => Flag::Delete.mask(),
                (true, false) => Flag::Delete | Flag::MovedTo,
                (false, _) => COMES | Flag::Attrib,
            };
            *mask |= last.0;
        }
        ways
    }

    /// Watches one ancestor of a root; `next` is the entry on the way, or what it is to match.
    pub(super) fn guard_one(&mut self, root: RootId, at: &[u8], next: &[u8], mask: u32) -> Result<(), Errno> {
        self.spend(LOOK_UNITS);
        let node = self.ensure(at);
        let is_pattern = self.root(root).pattern.is_some() && glob::has_magic(next);
        let next = if is_pattern {
            Next::Matching(next.into())
        } else {
            Next::Named(self.way_names.hash(node, next))
        };
        // Every ancestor knows of the root, even one that can't be watched.
        let way = Way { node, next, mask };
        self.guards.entry(node).or_default().insert(root, &way);
        self.tree.set(node, GUARD);
        self.root_mut(root).ways.push(way);
        let object = rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let is_covered = self.tree.cover(node) != EMPTY;
        let known = self.tree.wd(node);
        let wd = self.kernel.add(object.as_fd(), self.mask_for(node))?;
        if known == 0 || (wd != known && !is_covered) {
            if known != 0 {
                // What is queued of the one that stood there goes with its watch.
                self.recheck_guarded(node, Reason::Moved);
            }
            self.release_object(node);
            self.tree.set_wd(node, wd);
            self.fresh.found(node);
        } else if wd != known {
            // A covered directory is out of date; its own events tell.
            self.end_stray(wd);
            return Ok(());
        }
        // It stands here, wherever it is said to have gone.
        self.tree.clear(node, MOVING);
        if !is_covered && !self.tree.has(node, SHARED) {
            let _ = self.kernel.replace(object.as_fd(), self.mask_for(node));
        }
        Ok(())
    }

    pub(super) fn guard_mask(&self, node: NodeId) -> u32 {
        let guards = self.guards.get(&node).map_or(0, Guards::mask);
        let blocked = if self.blocked.contains_key(&node) { Flag::Attrib.mask().0 } else { 0 };
        guards | blocked
    }

    /// Takes a root's guards back, and gives the ancestors.
    pub(super) fn take_guards(&mut self, root: RootId) -> Vec<NodeId> {
        let ways = std::mem::take(&mut self.root_mut(root).ways);
        for way in &ways {
            let Some(guards) = self.guards.get_mut(&way.node) else { continue };
            guards.remove(root, way);
            if guards.is_empty() {
                self.guards.remove(&way.node);
                if !self.blocked.contains_key(&way.node) {
                    self.tree.clear(way.node, GUARD);
                }
            }
        }
        ways.into_iter().map(|way| way.node).collect()
    }

    pub(super) fn release_guards(&mut self, root: RootId) {
        for node in self.take_guards(root) {
            self.prune(node);
        }
    }

    /// The nearest ancestor of a path that is watched for a root.
    pub(super) fn nearest_guard(&mut self, root: RootId, path: &[u8]) -> Vec<u8> {
        let guards: Vec<NodeId> = self.root(root).ways.iter().map(|way| way.node).collect();
        let mut best = b"/".to_vec();
        for guard in guards {
            if let Some(at) = self.path_of(guard).map(<[u8]>::to_vec)
                && path::is_at_or_below(path, &at)
                && at.len() > best.len()
            {
                best = at;
            }
        }
        best
    }

    /// Frees a node that nobody needs any more, and its ancestors likewise.
    pub(super) fn prune(&mut self, node: NodeId) {
        let mut at = node;
        loop {
            if self.tree.has(at, GUARD | ROOT) || self.tree.cover(at) != EMPTY || self.tree.has_children(at) {
                return;
            }
            self.release_object(at);
            let Some(parent) = self.tree.parent(at) else { return };
            self.free_node(at);
            at = parent;
        }
    }

    /// An event of an ancestor.
    pub(super) fn guard_event(&mut self, node: NodeId, mask: Mask, name: &[u8], sink: &mut impl Sink) {
        let about_names = COMES | Flag::Delete | Flag::MovedFrom | Flag::Attrib;
        let about_itself = SELF | Flag::Unmount | Flag::Ignored | Flag::Attrib;
        let guards = self.guards.get(&node);
        let concerned = match guards {
            Some(guards) if name.is_empty() && mask.intersects(about_itself) => guards.roots(),
            Some(guards) if !name.is_empty() && mask.intersects(about_names) => {
                guards.roots_through(self.way_names.hash(node, name), name)
            }
            Some(_) | None => Vec::new(),
        };
        for id in concerned {
            let root = self.root(id);
            let is_object = !root.is_link && root.node.is_some_and(|at| self.tree.parent(at) == Some(node));
            let reason = match mask.flag() {
                // Its own event follows, and is told of the root.
                Some(Flag::MovedFrom) if is_object => continue,
                Some(Flag::Delete) if is_object => Reason::Deleted,
                Some(Flag::Create | Flag::MovedTo | Flag::Attrib) => Reason::Appeared,
                _ => Reason::Moved,
            };
            self.recheck.push((id, reason));
        }
        self.unblock(node, mask, name, sink);
    }

    /// A name below a node stays unwatched because of our rights, until its attributes change.
    pub(super) fn keep_blocked(&mut self, node: NodeId, name: Box<[u8]>) {
        self.blocked.entry(node).or_default().insert(name);
        self.tree.set(node, GUARD);
    }

    /// A directory that our rights kept unwatched has other attributes: tries again.
    fn unblock(&mut self, node: NodeId, mask: Mask, name: &[u8], sink: &mut impl Sink) {
        let is_attrib = mask.intersects(Flag::Attrib.mask());
        if name == SHUT {
            let is_shut = |names: &Blocked| names.contains(SHUT);
            if is_attrib
                && self.blocked.get(&node).is_some_and(is_shut)
                && self.open_dir(node).is_ok_and(|dir| is_searchable(dir.as_fd()))
            {
                self.open_up(node);
            }
        } else if mask.intersects(Flag::Attrib | Flag::Delete | Flag::MovedFrom) {
            let was_blocked = self.forget_blocked(node, name);
            if was_blocked && is_attrib {
                self.found_directory(node, name, Kind::Arrive, sink);
            }
        }
    }

    /// A directory that was [`SHUT`] may be entered now: everything in it arrives.
    pub(super) fn open_up(&mut self, node: NodeId) {
        self.forget_blocked(node, SHUT);
        self.start_walk(node, self.tree.wd(node), None, Kind::Arrive, None);
    }

    /// Whether the name was kept.
    fn forget_blocked(&mut self, node: NodeId, name: &[u8]) -> bool {
        let Some(names) = self.blocked.get_mut(&node) else { return false };
        let was_there = names.remove(name);
        if names.is_empty() {
            self.blocked.remove(&node);
            if !self.guards.contains_key(&node) {
                self.tree.clear(node, GUARD);
            }
        }
        was_there
    }

    pub(super) fn recheck_guarded(&mut self, node: NodeId, reason: Reason) {
        let roots = self.guards.get(&node).map(Guards::roots).unwrap_or_default();
        self.recheck.extend(roots.into_iter().map(|root| (root, reason)));
    }
}

/// Names below a node that our rights keep unwatched.
pub(super) type Blocked = HashSet<Box<[u8]>>;

/// Among the names below a directory: the directory itself may be listed and not entered.
pub(super) const SHUT: &[u8] = b"";

#[cfg(test)]
mod tests {
    use super::*;

    fn way(next: Next, mask: u32) -> Way {
        Way { node: NodeId(1), next, mask }
    }

    #[test]
    fn an_event_concerns_the_roots_behind_its_entry() {
        let mut guards = Guards::default();
        let part = |text: &[u8]| Next::Matching(text.into());
        for root in 0..100 {
            guards.insert(RootId(root), &way(Next::Named(u64::from(root) / 2), 1));
        }
        guards.insert(RootId(100), &way(part(b"a*"), 2));
        guards.insert(RootId(101), &way(part(b"?b"), 4));
        assert_eq!(guards.mask(), 7);
        assert_eq!(guards.roots_through(7, b"x"), [RootId(14), RootId(15)]);
        assert_eq!(guards.roots_through(7, b"ab"), [14, 15, 100, 101].map(RootId));
        assert_eq!(guards.roots().len(), 102);
        guards.remove(RootId(101), &way(part(b"?b"), 4));
        guards.remove(RootId(14), &way(Next::Named(7), 1));
        assert_eq!((guards.mask(), guards.roots_through(7, b"ab")), (3, [15, 100].map(RootId).to_vec()));
    }

    #[test]
    fn a_root_with_two_ways_through_an_entry_is_gone_when_both_are() {
        let mut guards = Guards::default();
        let (one, other) = (way(Next::Named(1), 1), way(Next::Named(1), 2));
        guards.insert(RootId(0), &one);
        guards.insert(RootId(0), &other);
        assert_eq!((guards.roots(), guards.mask()), (vec![RootId(0)], 3));
        guards.remove(RootId(0), &one);
        assert!(!guards.is_empty());
        guards.remove(RootId(0), &other);
        assert!(guards.is_empty() && guards.roots().is_empty());
    }
}
