//! What is remembered between events, each kind bounded: moves under way, names that were told already, wds that are
//! ending.

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

/// Remembers things until every event that was queued when they were put in has been read.
///
/// [`Recent::mark`] is called when a read begins, [`Recent::settle`] when all it brought has been worked off and it
/// had emptied the queue: what was put in before the mark is then forgotten.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    new: HashMap<u64, V>,
    old: HashMap<u64, V>,
    max: usize,
    /// Some things were not remembered: before the mark, after it.
    lost_old: bool,
    lost_new: bool,
}

impl<V: Copy> Recent<V> {
    pub(crate) fn new(max: usize) -> Recent<V> {
        Recent { new: HashMap::new(), old: HashMap::new(), max, lost_old: false, lost_new: false }
    }

    pub(crate) fn insert(&mut self, key: u64, value: V) {
        if self.len() < self.max {
            self.new.insert(key, value);
        } else {
            self.lose();
        }
    }

    /// Says that something is not remembered.
    pub(crate) fn lose(&mut self) {
        self.lost_new = true;
    }

    /// Whether something may be missing.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost_old || self.lost_new
    }

    pub(crate) fn get(&self, key: u64) -> Option<V> {
        self.new.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        let (new, old) = (self.new.remove(&key), self.old.remove(&key));
        new.or(old)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.new.len() + self.old.len()
    }

    pub(crate) fn mark(&mut self) {
        self.lost_old |= std::mem::take(&mut self.lost_new);
        if self.old.is_empty() {
            std::mem::swap(&mut self.old, &mut self.new);
        } else {
            self.old.extend(self.new.drain());
        }
    }

    pub(crate) fn settle(&mut self) {
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
