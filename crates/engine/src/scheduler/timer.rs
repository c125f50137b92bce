//! When the tasks of one scheduler are due.
//!
//! All tasks of a scheduler mostly wait equally long. They are due in the order in which they came, and a list in that
//! order is all it takes. Those that wait otherwise (a retry, a file in use, a delay that has a longest end) are in an
//! ordered set beside it.

use std::collections::BTreeSet;

use crate::clock::Nanos;
use crate::tasks::{List, Mark, Slot, State, Tasks};

/// The tasks of a scheduler that wait for a time.
pub(super) struct Timer {
    list: List,
    /// Time, order of coming, and task.
    odd: BTreeSet<(Nanos, u64, Slot)>,
}

impl Timer {
    pub(super) const fn new() -> Timer {
        Timer { list: List::EMPTY, odd: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> u32 {
        self.list.len() + self.odd.len() as u32
    }

    /// The task that is due first; of two at one time, that of the list.
    #[inline]
    pub(super) fn first(&self, tasks: &Tasks) -> Option<Slot> {
        if self.odd.is_empty() { self.list.first() } else { self.first_of_both(tasks) }
    }

    #[cold]
    fn first_of_both(&self, tasks: &Tasks) -> Option<Slot> {
        let (odd_time, _, odd) = self.odd.first()?;
        self.list.first().filter(|slot| tasks.time(*slot) <= *odd_time).or(Some(*odd))
    }

    /// Lets a task wait whose time is not before that of any other that came in this way.
    #[inline]
    pub(super) fn push(&mut self, slot: Slot, time: Nanos, tasks: &mut Tasks) {
        tasks.set_state(slot, State::Waiting, time);
        tasks.push(&mut self.list, slot);
    }

    /// Lets a task wait for any time.
    pub(super) fn insert(&mut self, slot: Slot, state: State, time: Nanos, tasks: &mut Tasks) {
        tasks.set_state(slot, state, time);
        tasks.set(slot, Mark::Odd);
        self.odd.insert((time, tasks.take_order(slot), slot));
    }

    /// Lets a task wait whose time was set elsewhere: in the list if it is in its order there, and not behind what will
    /// come.
    pub(super) fn hold(&mut self, slot: Slot, time: Nanos, latest: Nanos, tasks: &mut Tasks) {
        let in_order = self.list.last().is_none_or(|last| tasks.time(last) <= time);
        if in_order && time <= latest {
            self.push(slot, time, tasks);
        } else {
            self.insert(slot, State::Waiting, time, tasks);
        }
    }

    /// Takes a task out.
    #[inline]
    pub(super) fn remove(&mut self, slot: Slot, tasks: &mut Tasks) {
        if tasks.has(slot, Mark::Odd) {
            self.remove_odd(slot, tasks);
        } else {
            tasks.unlink(&mut self.list, slot);
        }
    }

    #[cold]
    fn remove_odd(&mut self, slot: Slot, tasks: &mut Tasks) {
        tasks.clear(slot, Mark::Odd);
        self.odd.remove(&(tasks.time(slot), tasks.order(slot), slot));
    }

    /// All tasks, first those of the list.
    pub(super) fn all(&self, tasks: &Tasks) -> Vec<Slot> {
        tasks.in_list(self.list).chain(self.odd.iter().map(|(_, _, slot)| *slot)).collect()
    }

    /// The tasks that wait for another try.
    pub(super) fn retrying(&self, tasks: &Tasks) -> impl Iterator<Item = Slot> {
        let odd = self.odd.iter().map(|(_, _, slot)| *slot);
        odd.filter(|slot| tasks.state(*slot) == State::Retrying)
    }

    /// A task to take out when all are; in the order of the list, then of the set.
    pub(super) fn any(&self) -> Option<Slot> {
        self.list.first().or_else(|| self.odd.first().map(|(_, _, slot)| *slot))
    }
}
