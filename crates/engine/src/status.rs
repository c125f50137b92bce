//! What there is to see from outside: counts by scheduler, and the tasks that are there longest.

use std::collections::BinaryHeap;
use std::time::Instant;

use event::Event;

use crate::tasks::{Slot, State};
use crate::{Engine, SchedulerId, TaskId};

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

/// A task as [`Engine::oldest`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStatus<'a> {
    /// Its scheduler.
    pub scheduler: SchedulerId,
    /// The task.
    pub id: TaskId,
    /// Its latest event; of a task that runs the one that it runs for.
    pub event: Event<'a>,
    /// What it does.
    pub doing: Doing,
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

    /// The tasks that were made first, at most `count` of them, in that order. Looks at each task: some 10 ms for a
    /// million.
    pub fn oldest(&self, count: usize) -> Vec<TaskStatus<'_>> {
        let mut oldest = BinaryHeap::new();
        for slot in self.tasks().slots() {
            oldest.push((self.tasks().id(slot).0, slot.0));
            if oldest.len() > count {
                oldest.pop();
            }
        }
        oldest.into_sorted_vec().into_iter().map(|(_, slot)| self.task_status(Slot(slot))).collect()
    }

    fn task_status(&self, slot: Slot) -> TaskStatus<'_> {
        let tasks = self.tasks();
        let (at, runs) = (self.instant(tasks.time(slot)), tasks.event_of_run(slot));
        let (doing, event) = match tasks.state(slot) {
            State::Waiting | State::PutOff => (Doing::Waiting(at), tasks.event(slot)),
            State::Queued => (Doing::Queued(at), tasks.event(slot)),
            State::Running | State::Marked | State::Stopping => (Doing::Running(at), runs),
        };
        TaskStatus { scheduler: tasks.scheduler(slot), id: tasks.id(slot), event, doing }
    }
}
