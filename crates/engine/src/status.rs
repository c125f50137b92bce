//! What there is to see from outside: counts by scheduler, and the tasks that are there longest.

use std::collections::BinaryHeap;
use std::time::Instant;

use event::Event;

use crate::tasks::{Slot, State};
use crate::{Engine, MapId, SchedulerId, TaskId};

/// The tasks of one scheduler, by what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerStats {
    /// The scheduler.
    pub scheduler: SchedulerId,
    /// Tasks whose delay runs.
    pub waiting: u32,
    /// Tasks that wait for a place.
    pub queued: u32,
    /// Tasks that run, or were told to stop and have not.
    pub running: u32,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Its delay runs until then; without a time for ever, as far as the system's clock can show.
    Waiting(Option<Instant>),
    /// All places of its scheduler are taken, since then.
    Queued(Option<Instant>),
    /// It runs since then, or was told to stop and has not.
    Running(Option<Instant>),
}

/// A task as [`Engine::visit`] and [`Engine::oldest`] show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStatus<'a> {
    /// Its scheduler.
    pub scheduler: SchedulerId,
    /// The map through which its latest event came.
    pub map: MapId,
    /// The task.
    pub id: TaskId,
    /// Its latest event; of a task that runs the one that it runs for.
    pub event: Event<'a>,
    /// What it does.
    pub doing: Doing,
}

impl Doing {
    /// Whether the task's run is still to come.
    pub fn is_to_come(self) -> bool {
        match self {
            Doing::Waiting(_) | Doing::Queued(_) => true,
            Doing::Running(_) => false,
        }
    }
}

impl Engine {
    /// The counts of all schedulers, those of replaced configurations that still have tasks first.
    pub fn scheduler_stats(&self) -> impl Iterator<Item = SchedulerStats> {
        self.schedulers().map(|scheduler| SchedulerStats {
            scheduler: scheduler.id(),
            waiting: scheduler.waiting(),
            queued: scheduler.queued(),
            running: scheduler.running(),
        })
    }

    /// Shows at most `count` tasks, in no particular order, from a place on: zero, or what an earlier call returned.
    /// Returns where to go on, `None` after the last task. So a caller with something slow to do for each can take them
    /// bit by bit; tasks that come or go in between may be missed.
    ///
    /// After an overflow, the program looks which paths of tasks that are to come are gone, and feeds `IN_DELETE` through
    /// [`TaskStatus::map`]. Two tasks of one path and map are two items; the event is to be fed once.
    pub fn visit(&self, from: u32, count: usize, mut look: impl FnMut(&TaskStatus<'_>)) -> Option<u32> {
        let mut path = Vec::new();
        let mut next = from;
        for _ in 0..count {
            let slot = self.tasks().next(next)?;
            look(&self.task_status(slot, &mut path));
            next = slot.0 + 1;
        }
        Some(next)
    }

    /// Shows the tasks that were made first, at most `count` of them, in that order. Looks at each task: some 10 ms for a
    /// million.
    pub fn oldest(&self, count: usize, mut look: impl FnMut(&TaskStatus<'_>)) {
        let mut oldest = BinaryHeap::new();
        for slot in self.tasks().slots() {
            oldest.push((self.tasks().id(slot).0, slot.0));
            if oldest.len() > count {
                oldest.pop();
            }
        }
        let mut path = Vec::new();
        for (_, slot) in oldest.into_sorted_vec() {
            look(&self.task_status(Slot(slot), &mut path));
        }
    }

    fn task_status<'a>(&'a self, slot: Slot, path: &'a mut Vec<u8>) -> TaskStatus<'a> {
        let tasks = self.tasks();
        let at = self.instant(tasks.time(slot));
        let (doing, event) = match tasks.state(slot) {
            State::Waiting | State::PutOff => (Doing::Waiting(at), tasks.event(slot, path)),
            State::Queued => (Doing::Queued(at), tasks.event(slot, path)),
            State::Running | State::Marked | State::Stopping => {
                (Doing::Running(at), tasks.event_of_run(slot, path))
            }
        };
        let (scheduler, map, id) = (tasks.scheduler(slot), tasks.map(slot), tasks.id(slot));
        TaskStatus { scheduler, map, id, event, doing }
    }
}
