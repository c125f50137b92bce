//! Which tasks changed since the program last asked: for a program that keeps tasks elsewhere, so that another life of
//! the daemon has them. Without such a program nothing is noted.
//!
//! To note is never inlined: then all that a program without a state has of it is the question whether there is one.
//!
//! A change is a mark of the task's slot, and is read as the task is when the program asks. A task that came and went
//! in between leaves nothing.

use std::collections::VecDeque;

use crate::TaskId;
use crate::tasks::Slot;

/// The task differs from what the program has.
const CHANGED: u8 = 1;
/// The slot stands in the queue.
const QUEUED: u8 = 2;
/// The program has the task.
const KEPT: u8 = 4;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// By slot.
    marks: Vec<u8>,
    /// Slots that changed, the first one first; each at most once.
    queue: VecDeque<Slot>,
    /// Tasks that the program has and that are no more.
    gone: Vec<TaskId>,
}

impl Changes {
    /// The task in a slot is new, or not what it was.
    #[inline(never)]
    pub(crate) fn note(&mut self, slot: Slot) {
        let place = slot.0 as usize;
        if place >= self.marks.len() {
            self.marks.resize(place + 1, 0);
        }
        let marks = &mut self.marks[place];
        *marks |= CHANGED;
        if *marks & QUEUED == 0 {
            *marks |= QUEUED;
            self.queue.push_back(slot);
        }
    }

    /// The task in a slot is no more.
    #[inline(never)]
    pub(crate) fn removed(&mut self, slot: Slot, id: TaskId) {
        let Some(marks) = self.marks.get_mut(slot.0 as usize) else { return };
        if *marks & KEPT != 0 {
            self.gone.push(id);
        }
        *marks &= QUEUED;
    }

    /// The program has the task in a slot, as it is.
    pub(crate) fn keep(&mut self, slot: Slot) {
        self.note(slot);
        let marks = &mut self.marks[slot.0 as usize];
        *marks = *marks & !CHANGED | KEPT;
    }

    /// The program has the task in a slot as it was.
    pub(crate) fn keep_changed(&mut self, slot: Slot) {
        self.note(slot);
        self.marks[slot.0 as usize] |= KEPT;
    }

    /// The next slot whose task changed.
    pub(crate) fn next(&mut self) -> Option<Slot> {
        while let Some(slot) = self.queue.pop_front() {
            let marks = &mut self.marks[slot.0 as usize];
            let changed = *marks & CHANGED != 0;
            *marks &= !(CHANGED | QUEUED);
            if changed {
                return Some(slot);
            }
        }
        None
    }

    /// Tasks that the program has and that are no more.
    pub(crate) fn take_gone(&mut self) -> Vec<TaskId> {
        std::mem::take(&mut self.gone)
    }

    /// Whether the program has the task in a slot, as it is or was.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.marks.get(slot.0 as usize).is_some_and(|marks| marks & KEPT != 0)
    }

    /// The program takes the task in a slot.
    pub(crate) fn taken(&mut self, slot: Slot) {
        self.marks[slot.0 as usize] |= KEPT;
    }

    /// How many tasks changed, at most.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there may be something to take.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.gone.is_empty()
    }
}
