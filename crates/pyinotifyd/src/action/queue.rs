//! A queue of tasks from which any can be taken back, in the same time however many wait: when the daemon ends, all of
//! them are.

use std::collections::VecDeque;

use hashbrown::HashMap;

/// Numbers without a task that may lie between those that wait, beside as many as wait: below that it is not worth
/// looking for them.
const GONE_MIN: usize = 64;

/// What waits, by the number of its task, the oldest first.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: HashMap<u64, T>,
    /// The order. The number of one that was taken back may stay until its turn.
    order: VecDeque<u64>,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { waiting: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Queue<T> {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push_back(&mut self, task: u64, what: T) {
        self.waiting.insert(task, what);
        self.order.push_back(task);
    }

    /// Gives one back that was just taken.
    pub(super) fn push_front(&mut self, task: u64, what: T) {
        self.waiting.insert(task, what);
        self.order.push_front(task);
    }

    pub(super) fn pop_front(&mut self) -> Option<(u64, T)> {
        let waiting = &mut self.waiting;
        std::iter::from_fn(|| self.order.pop_front()).find_map(|task| waiting.remove_entry(&task))
    }

    /// Takes one back, wherever it stands.
    pub(super) fn remove(&mut self, task: u64) -> Option<T> {
        let what = self.waiting.remove(&task)?;
        if self.order.len() > 2 * self.waiting.len() + GONE_MIN {
            self.order.retain(|task| self.waiting.contains_key(task));
        }
        Some(what)
    }

    /// All of them, in their order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (u64, T)> + use<T> {
        let mut all = std::mem::take(self);
        std::iter::from_fn(move || all.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_has_no_turn_and_the_rest_keeps_its_order() {
        let mut queue = Queue::default();
        for task in 0..1_000 {
            queue.push_back(task, task * 10);
        }
        assert_eq!(queue.pop_front(), Some((0, 0)));
        queue.push_front(0, 1);
        for task in (0..1_000).filter(|task| task % 100 != 7) {
            assert!(queue.remove(task).is_some() && queue.remove(task).is_none(), "{task}");
        }
        assert_eq!(queue.len(), 10);
        assert!(queue.order.len() <= 2 * queue.len() + GONE_MIN, "{}", queue.order.len());
        queue.push_back(1, 10);
        let rest: Vec<u64> = queue.take().map(|(task, _)| task).collect();
        assert_eq!(rest, [7, 107, 207, 307, 407, 507, 607, 707, 807, 907, 1]);
        assert!(queue.is_empty() && queue.pop_front().is_none());
    }
}
