//! From the path of a task to its slot, for one scheduler.
//!
//! A hash table that doubles moves all it has within the one event that overflows it: 40 ms with a million paths, in
//! which a storm fills the kernel's queue. This one is cut into shards and grows by one at a time (linear hashing,
//! Litwin 1980): the next shard in turn is divided between its own place and the new last one. No event moves more than
//! some thousand slots.

use hashbrown::HashTable;

use crate::tasks::{Slot, Tasks};

/// Slots a shard, on average, above which a shard is divided. The tables inside hold 3,584 or 7,168 in their 4,096 or
/// 8,192 places; at this mean they are used best.
const DIVIDE_ABOVE: usize = 3_500;

/// Below this mean the last shard is given back. Far enough from [`DIVIDE_ABOVE`] that a few tasks more or less do not
/// divide and join again and again.
const JOIN_BELOW: usize = DIVIDE_ABOVE / 4;

/// Bits of the hash that choose the shard: enough for seven million paths. The rest chooses the place in the shard.
const SHARD_BITS: u32 = 11;

/// A shard with room for more than this gives room back when seven eighths of it are free.
const KEPT_CAPACITY: usize = 64;

/// The slots of one scheduler's tasks, by the hash of their path.
pub(crate) struct Index {
    shards: Vec<HashTable<Slot>>,
    len: usize,
}

impl Index {
    pub(crate) fn new() -> Index {
        Index { shards: vec![HashTable::new()], len: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that were taken from the allocator.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }

    /// The slot of the task with a path.
    #[inline]
    pub(crate) fn find(&self, hash: u32, path: &[u8], tasks: &Tasks) -> Option<Slot> {
        // A storm that no rule matches asks for each path while there is no task at all.
        if self.len == 0 {
            return None;
        }
        let shard = &self.shards[self.shard(hash)];
        shard.find(inner_hash(hash), |slot| tasks.is_path(*slot, path)).copied()
    }

    /// Adds a slot whose path is not there yet.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, slot: Slot, tasks: &Tasks) {
        self.put(hash, slot, tasks);
        self.len += 1;
        if self.len > self.shards.len() * DIVIDE_ABOVE && self.shards.len() < 1 << SHARD_BITS {
            self.divide(tasks);
        }
    }

    /// Divides the next shard in turn.
    #[cold]
    fn divide(&mut self, tasks: &Tasks) {
        let divided = self.partner(self.shards.len());
        let slots = std::mem::take(&mut self.shards[divided]);
        self.shards.push(HashTable::new());
        slots.into_iter().for_each(|slot| self.put(tasks.hash(slot), slot, tasks));
    }

    /// Takes a slot out.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot, tasks: &Tasks) {
        let hash = tasks.hash(slot);
        let number = self.shard(hash);
        let shard = &mut self.shards[number];
        let entry = shard.find_entry(inner_hash(hash), |other| *other == slot);
        entry.expect("a task is in the index until it is removed").remove();
        self.len -= 1;
        if shard.capacity() > KEPT_CAPACITY && shard.len() < shard.capacity() / 8 {
            shard.shrink_to(shard.len() * 2, |slot| inner_hash(tasks.hash(*slot)));
        }
        if self.shards.len() > 1 && self.len < (self.shards.len() - 1) * JOIN_BELOW {
            self.join_last(tasks);
        }
    }

    /// Gives the last shard back.
    #[cold]
    fn join_last(&mut self, tasks: &Tasks) {
        let slots = self.shards.pop().expect("there is more than one");
        slots.into_iter().for_each(|slot| self.put(tasks.hash(slot), slot, tasks));
    }

    #[inline]
    fn put(&mut self, hash: u32, slot: Slot, tasks: &Tasks) {
        let number = self.shard(hash);
        self.shards[number].insert_unique(inner_hash(hash), slot, |slot| inner_hash(tasks.hash(*slot)));
    }

    /// The shard of a hash: by as many bits as the last shard needs, or by one less if that shard is not there yet.
    #[inline]
    fn shard(&self, hash: u32) -> usize {
        let wanted = hash as usize & (self.shards.len().next_power_of_two() - 1);
        if wanted < self.shards.len() { wanted } else { self.partner(wanted) }
    }

    /// The shard that holds what belongs to another one which is not there yet: its number without the highest bit.
    #[expect(clippy::unused_self, reason = "it is about these shards")]
    fn partner(&self, number: usize) -> usize {
        number & !(1 << number.ilog2())
    }
}

/// What a shard sees of the hash: the bits that did not choose it. The table takes its place from the low ones, 13 at
/// most, and a tag from the seven highest.
fn inner_hash(hash: u32) -> u64 {
    let place = hash >> SHARD_BITS;
    let tag = hash >> (u32::BITS - 7);
    u64::from(tag) << (u64::BITS - 7) | u64::from(place)
}

#[cfg(test)]
mod tests {
    use event::{Event, Flag};

    use super::*;
    use crate::path::Paths;
    use crate::tasks::News;
    use crate::{MapId, SchedulerId};

    fn path(file: u32) -> String {
        format!("/srv/{file}")
    }

    #[test]
    fn paths_are_found_while_shards_are_divided_and_joined() {
        let (mut index, mut tasks, paths) = (Index::new(), Tasks::new(1), Paths::new(1));
        let files = 0..50_000;
        for file in files.clone() {
            let pathname = path(file);
            let event =
                Event { mask: Flag::Create.mask(), pathname: pathname.as_bytes(), ..Event::overflow() };
            let hash = paths.look(pathname.as_bytes()).hash;
            let news = News { event: &event, map: MapId(0), rule: None, hash, same_path: false };
            let slot = tasks.insert(SchedulerId(0), &news, 0);
            index.insert(hash, slot, &tasks);
            assert_eq!(slot, Slot(file));
        }
        assert_eq!(index.shards.len(), 50_000_usize.div_ceil(DIVIDE_ABOVE));
        let found = |index: &Index, tasks: &Tasks, file| {
            let pathname = path(file);
            index.find(paths.look(pathname.as_bytes()).hash, pathname.as_bytes(), tasks)
        };
        assert!(files.clone().all(|file| found(&index, &tasks, file) == Some(Slot(file))));
        assert_eq!(found(&index, &tasks, 50_000), None);
        let largest = index.shards.iter().map(HashTable::len).max();
        assert!(largest < Some(DIVIDE_ABOVE * 5 / 2), "{largest:?}");

        let peak_bytes = index.memory_bytes();
        for file in files.clone().filter(|file| file % 100 != 0) {
            index.remove(Slot(file), &tasks);
        }
        assert_eq!(index.shards.len(), 1);
        assert!(index.memory_bytes() < peak_bytes / 10, "{} of {peak_bytes}", index.memory_bytes());
        assert!(files.clone().all(|file| found(&index, &tasks, file).is_some() == (file % 100 == 0)));
        assert_eq!(index.len, 500);
    }

    #[test]
    fn bits_of_place_and_tag_do_not_overlap() {
        assert_eq!(inner_hash(0x01ff_ffff) >> 57, 0);
        assert_eq!(inner_hash(0xfe00_0000) & 0x1fff, 0);
    }
}
