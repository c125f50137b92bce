//! What is remembered between events, each kind bounded: moves under way, names whose creation was told, nodes that a
//! look has found, wds that are ending.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use crate::tree::NodeId;

/// The first half of a rename.
#[derive(Debug)]
pub(crate) struct Move {
    /// Where the entry was; empty if nobody asks for it.
    pub(crate) source: Box<[u8]>,
    /// Nodes of the directory that moves, with their wds, one for each place from which it is seen.
    pub(crate) nodes: Vec<(NodeId, i32)>,
    /// Nodes that had the name before those and lost it: they are meant if this is the second half of an exchange.
    pub(crate) displaced: Vec<(NodeId, i32)>,
    /// It had a name of our own temporary files.
    pub(crate) own: bool,
}

/// Moves by their cookie (K2: the halves are not always adjacent). At most `max`, at most `age` old.
#[derive(Debug)]
pub(crate) struct Moves {
    halves: HashMap<u32, Move>,
    order: VecDeque<(u32, Instant)>,
    max: usize,
    age: Duration,
}

impl Moves {
    pub(crate) fn new(max: usize, age: Duration) -> Moves {
        Moves { halves: HashMap::new(), order: VecDeque::new(), max, age }
    }

    pub(crate) fn insert(&mut self, cookie: u32, entry: Move, now: Instant) {
        self.expire(now);
        if self.halves.insert(cookie, entry).is_none() {
            self.order.push_back((cookie, now));
        }
    }

    /// Drops what is too old or too much, and the order's entries whose move was taken.
    fn expire(&mut self, now: Instant) {
        while let Some(&(cookie, at)) = self.order.front() {
            let too_many = self.halves.len() >= self.max || self.order.len() >= 2 * self.max;
            let too_old = now.saturating_duration_since(at) >= self.age;
            if self.halves.contains_key(&cookie) && !too_many && !too_old {
                return;
            }
            self.halves.remove(&cookie);
            self.order.pop_front();
        }
    }

    pub(crate) fn take(&mut self, cookie: u32) -> Option<Move> {
        let entry = self.halves.remove(&cookie)?;
        // The usual case, both halves next to each other, keeps the order short.
        if self.order.back().is_some_and(|&(last, _)| last == cookie) {
            self.order.pop_back();
        }
        Some(entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.halves.len()
    }
}

/// Names whose creation was told, while something may still tell it again: a creation is told once, whether the
/// kernel's event or a look comes first.
#[derive(Debug)]
pub(crate) struct Creations {
    names: NameHasher,
    /// Told as arrivals, with their inodes: their IN_CREATE may still be queued.
    by_look: Recent<u64>,
    /// Told as events, while the queue is long or a recovery runs: a recovery is not to tell them again.
    by_event: Recent<()>,
}

impl Creations {
    pub(crate) fn new(max: usize) -> Creations {
        Creations { names: NameHasher::default(), by_look: Recent::new(max), by_event: Recent::new(max) }
    }

    /// An entry was told as an arrival.
    pub(crate) fn arrived(&mut self, node: NodeId, name: &[u8], inode: u64) {
        self.by_look.insert(self.names.hash(node, name), inode);
    }

    /// The kernel's event was told.
    pub(crate) fn created(&mut self, node: NodeId, name: &[u8]) {
        self.by_event.insert(self.names.hash(node, name), ());
    }

    /// The inode of the entry that was told as an arrival of that name. It is forgotten: the event of it has come.
    pub(crate) fn take_arrival(&mut self, node: NodeId, name: &[u8]) -> Option<u64> {
        if self.by_look.is_empty() {
            return None;
        }
        self.by_look.remove(self.names.hash(node, name))
    }

    /// Whether the kernel's event is known to have been told.
    pub(crate) fn was_created(&self, node: NodeId, name: &[u8]) -> bool {
        self.by_event.get(self.names.hash(node, name)).is_some()
    }

    /// An entry has left its name: a new one of that name is another creation.
    pub(crate) fn forget(&mut self, node: NodeId, name: &[u8]) {
        if !self.by_look.is_empty() {
            self.by_look.remove(self.names.hash(node, name));
        }
        if !self.by_event.is_empty() {
            self.by_event.remove(self.names.hash(node, name));
        }
    }

    /// Whether some were told as arrivals.
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.by_look.is_empty()
    }

    /// A read begins.
    pub(crate) fn mark(&mut self) {
        self.by_look.mark();
        self.by_event.mark();
    }

    /// The queue was empty at the mark. A recovery that runs still has to know what was told as an event.
    pub(crate) fn settle(&mut self, recovers: bool) {
        self.by_look.settle();
        if !recovers {
            self.by_event.settle();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_look.len() + self.by_event.len()
    }
}

/// Nodes that a look has found, numbered in that order, while events about their names may still be queued.
#[derive(Debug)]
pub(crate) struct Fresh {
    nodes: Recent<u64>,
    /// How many were found so far.
    found: u64,
}

impl Fresh {
    pub(crate) fn new(max: usize) -> Fresh {
        Fresh { nodes: Recent::new(max), found: 0 }
    }

    /// The node was watched because a look has found it.
    pub(crate) fn found(&mut self, node: NodeId) {
        self.found += 1;
        self.nodes.insert(u64::from(node.0), self.found);
    }

    /// When it was found, if that was lately: later ones have larger numbers, and all others 0.
    pub(crate) fn number(&self, node: NodeId) -> u64 {
        self.nodes.get(u64::from(node.0)).unwrap_or(0)
    }

    /// Whether a node may be one of them.
    pub(crate) fn may_have(&self, node: NodeId) -> bool {
        self.nodes.has_lost() || self.nodes.get(u64::from(node.0)).is_some()
    }

    /// Whether there may be any.
    pub(crate) fn may_have_some(&self) -> bool {
        !self.nodes.is_empty() || self.nodes.has_lost()
    }

    /// Says that there are some that are not remembered.
    pub(crate) fn lose(&mut self) {
        self.nodes.lose();
    }

    /// A read begins.
    pub(crate) fn mark(&mut self) {
        self.nodes.mark();
    }

    /// The queue was empty at the mark.
    pub(crate) fn settle(&mut self) {
        self.nodes.settle();
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// Remembers things until every event that was queued when they were put in has been read.
///
/// [`Recent::mark`] is called when a read begins, [`Recent::settle`] when all it brought has been worked off and it
/// had emptied the queue: what was put in before the mark is then forgotten.
#[derive(Debug)]
struct Recent<V> {
    new: HashMap<u64, V>,
    old: HashMap<u64, V>,
    max: usize,
    /// Some things were not remembered: before the mark, after it.
    lost_old: bool,
    lost_new: bool,
}

impl<V: Copy> Recent<V> {
    fn new(max: usize) -> Recent<V> {
        Recent { new: HashMap::new(), old: HashMap::new(), max, lost_old: false, lost_new: false }
    }

    fn insert(&mut self, key: u64, value: V) {
        if self.len() < self.max {
            self.new.insert(key, value);
        } else {
            self.lose();
        }
    }

    /// Says that something is not remembered.
    fn lose(&mut self) {
        self.lost_new = true;
    }

    /// Whether something may be missing.
    fn has_lost(&self) -> bool {
        self.lost_old || self.lost_new
    }

    fn get(&self, key: u64) -> Option<V> {
        self.new.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn remove(&mut self, key: u64) -> Option<V> {
        let (new, old) = (self.new.remove(&key), self.old.remove(&key));
        new.or(old)
    }

    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    fn len(&self) -> usize {
        self.new.len() + self.old.len()
    }

    fn mark(&mut self) {
        self.lost_old |= std::mem::take(&mut self.lost_new);
        if self.old.is_empty() {
            std::mem::swap(&mut self.old, &mut self.new);
        } else {
            self.old.extend(self.new.drain());
        }
    }

    fn settle(&mut self) {
        self.lost_old = false;
        if self.old.capacity() > 1024 {
            // A burst is over; its memory goes back.
            self.old = HashMap::new();
        } else {
            self.old.clear();
        }
    }
}

/// Hash of a name in a directory, seeded.
#[derive(Debug, Default)]
pub(crate) struct NameHasher(DefaultHashBuilder);

impl NameHasher {
    pub(crate) fn hash(&self, node: NodeId, name: &[u8]) -> u64 {
        self.0.hash_one((node.0, name))
    }
}

/// Watches that we have ended and whose last events may still be queued: until IN_IGNORED such a wd is deaf, even if
/// the kernel, having counted once around (K7), has given its number away again. At most [`RETIRED_MAX`]: past it an
/// old event could be told only if the kernel gave out 2^31 numbers while it was queued.
#[derive(Debug, Default)]
pub(crate) struct Retired(HashSet<i32>);

/// More than the kernel's queue holds by default: each is there with its IN_IGNORED.
const RETIRED_MAX: usize = 64 * 1024;

impl Retired {
    pub(crate) fn insert(&mut self, wd: i32) {
        if self.0.len() < RETIRED_MAX {
            self.0.insert(wd);
        }
    }

    /// Whether an event of this wd is to be dropped; `ends` says that it is the IN_IGNORED.
    pub(crate) fn swallows(&mut self, wd: i32, ends: bool) -> bool {
        if self.0.is_empty() {
            return false;
        }
        if ends { self.0.remove(&wd) } else { self.0.contains(&wd) }
    }

    /// After an overflow, with the queue empty: IN_IGNORED may have been lost (K6).
    pub(crate) fn clear(&mut self) {
        self.0 = HashSet::new();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Move {
        Move { source: Box::new([]), nodes: Vec::new(), displaced: Vec::new(), own: false }
    }

    #[test]
    fn moves_are_found_by_cookie_and_bounded() {
        let start = Instant::now();
        let mut moves = Moves::new(4, Duration::from_secs(60));
        (0..100).for_each(|cookie| moves.insert(cookie, entry(), start));
        assert!(
            moves.len() <= 4
                && moves.take(0).is_none()
                && moves.take(99).is_some()
                && moves.take(97).is_some()
        );
        moves.insert(100, entry(), start + Duration::from_secs(61));
        assert_eq!(moves.len(), 1, "what is a minute old is forgotten");
        for cookie in 0..100_000 {
            moves.insert(cookie, entry(), start);
            moves.insert(1_000_000 + cookie, entry(), start);
            moves.take(cookie);
        }
        assert!(moves.order.len() <= 8, "{}", moves.order.len());
    }

    #[test]
    fn recent_things_outlive_the_events_that_were_queued() {
        let mut recent = Recent::new(2);
        recent.insert(1, 'a');
        recent.mark();
        recent.insert(2, 'b');
        recent.settle();
        assert_eq!((recent.get(1), recent.get(2)), (None, Some('b')));
        recent.insert(3, 'c');
        recent.insert(4, 'd');
        assert!(recent.has_lost() && recent.len() == 2);
        recent.settle();
        assert!(recent.has_lost(), "what was lost after the mark is still lost");
    }

    #[test]
    fn a_wd_that_counted_around_is_deaf_until_its_old_watch_is_through() {
        let mut retired = Retired::default();
        retired.insert(1);
        assert!(retired.swallows(1, false) && retired.swallows(1, true));
        assert!(!retired.swallows(1, false), "events of the new watch with this number count");
        (0..1_000_000).for_each(|wd| retired.insert(wd));
        assert_eq!(retired.len(), RETIRED_MAX);
    }
}
