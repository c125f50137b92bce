//! What there is to see from outside: counts by scheduler, and the tasks that are there longest.

use std::collections::BinaryHeap;
use std::time::Instant;

use event::Event;

use crate::changes::Changes;
use crate::clock::Nanos;
use crate::tasks::{Mark, Renamed, Slot, State};
use crate::{Engine, FailedTask, MapId, SchedulerId, TaskHandle, TaskId, Waits};

/// The tasks of one scheduler, by what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerStats {
    /// The scheduler.
    pub scheduler: SchedulerId,
    /// Tasks whose delay runs, that are gathered, or that look at their file again later.
    pub waiting: u32,
    /// Tasks that failed and are tried again later.
    pub retrying: u32,
    /// Tasks that wait for a place.
    pub queued: u32,
    /// Tasks that run, or were told to stop and have not.
    pub running: u32,
    /// It starts nothing.
    pub paused: bool,
}

/// What a task does. A time of `None` is beyond what the system's clock can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Its delay runs until then.
    Waiting(Option<Instant>),
    /// Its file is in use; it looks again then.
    PutOff(Option<Instant>),
    /// It failed, and is tried again then.
    Retrying(Option<Instant>),
    /// It was due, and its file has not settled; that is asked again then.
    Settling(Option<Instant>),
    /// It is gathered for a batch, which begins then if no event comes before.
    Gathered(Option<Instant>),
    /// It was due then, and waits for its start.
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
    /// Of a task that runs, its run.
    pub handle: TaskHandle,
    /// Its latest event; of a task that runs the one that it runs for.
    pub event: Event<'a>,
    /// What it does.
    pub doing: Doing,
    /// Since when it is there, and waits.
    pub waits: Waits,
    /// Which try its run is, or its next one; from 1.
    pub attempt: u32,
    /// Why it waits, where there is more to say than what it does, or why its latest try failed; empty while it runs.
    pub reason: &'a str,
    /// It runs, and is to run again for an event that came meanwhile.
    pub again: bool,
    /// What failed, if the task tells of a failure.
    pub failed: Option<FailedTask<'a>>,
    /// The program has it already, as it is or was ([`Engine::take_changed`]).
    pub is_taken: bool,
}

impl Doing {
    /// Whether the task's run is still to come.
    pub fn is_to_come(self) -> bool {
        match self {
            Doing::Waiting(_)
            | Doing::PutOff(_)
            | Doing::Retrying(_)
            | Doing::Settling(_)
            | Doing::Gathered(_)
            | Doing::Queued(_) => true,
            Doing::Running(_) => false,
        }
    }
}

impl Engine {
    /// The counts of all schedulers, those of replaced configurations that still have tasks first.
    pub fn scheduler_stats(&self) -> impl Iterator<Item = SchedulerStats> {
        self.schedulers().map(|scheduler| {
            let retrying = scheduler.retrying(self.tasks());
            SchedulerStats {
                scheduler: scheduler.id(),
                waiting: scheduler.waiting() - retrying,
                retrying,
                queued: scheduler.queued(),
                running: scheduler.running(),
                paused: scheduler.is_paused(),
            }
        })
    }

    /// Shows at most `count` tasks, in no particular order, from a place on: zero, or what an earlier call returned.
    /// Returns where to go on, `None` after the last task. So a caller with something slow to do for each can take them
    /// bit by bit; tasks that come or go in between may be missed.
    ///
    /// After an overflow, the program looks which paths of tasks that are to come are gone, and feeds `IN_DELETE`
    /// through [`TaskStatus::map`]. Two tasks of one path and map are two items; the event is to be fed once.
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

    /// Notes from here on which tasks change, for a program that keeps them: for another life of the daemon, which gets
    /// them by [`Engine::restore`](crate::Engine::restore). All that are there count as changed.
    pub fn keep_changes(&mut self) {
        self.tasks_mut().keep_changes();
    }

    /// Ends that.
    #[cfg(any(test, feature = "script"))]
    pub(crate) fn forget_changes(&mut self) {
        self.tasks_mut().forget_changes();
    }

    /// Whether there may be changes to take.
    pub fn has_changes(&self) -> bool {
        self.tasks().has_changes()
    }

    /// How many tasks there are to take at most: [`Engine::take_changed`] shows those that are there now before others.
    pub fn changed(&self) -> usize {
        self.tasks().changed()
    }

    /// What the program keeps of a run is not what it was.
    pub fn note_change(&mut self, handle: TaskHandle) {
        let Some((slot, scheduler)) = self.tasks().running(handle) else { return };
        let taken = self.scheduler(scheduler).map(|one| one.taken_slots(self.tasks())).unwrap_or_default();
        for slot in [slot].into_iter().chain(taken) {
            self.tasks_mut().note(slot);
        }
    }

    /// Tasks that the program keeps and that are no more.
    pub fn take_gone(&mut self) -> Vec<TaskId> {
        self.tasks_mut().changes().map(Changes::take_gone).unwrap_or_default()
    }

    /// Shows tasks that are new or changed since they were shown, at most `max` of them, as they are now; those that
    /// changed first come first. Of one that runs, the event is that of what comes after. The program has them
    /// then; tasks of schedulers that are not to be kept are not shown.
    pub fn take_changed(&mut self, max: usize, mut look: impl FnMut(&TaskStatus<'_>)) {
        let mut path = Vec::new();
        for _ in 0..max {
            let Some(slot) = self.tasks_mut().changes().and_then(Changes::next) else { return };
            if !self.tasks().is_task(slot) || !self.persists(self.tasks().scheduler(slot)) {
                continue;
            }
            let mut status = self.task_status(slot, &mut path);
            if status.again || matches!(self.tasks().renamed(slot), Renamed::Followed { .. }) {
                let mut path = Vec::new();
                status.event = self.tasks().event(slot, &mut path);
                look(&status);
            } else {
                look(&status);
            }
            if let Some(changes) = self.tasks_mut().changes() {
                changes.taken(slot);
            }
        }
    }

    /// Shows the tasks that were made first, at most `count` of them, in that order. Looks at each task: some 10 ms for
    /// a million.
    pub fn oldest(&self, count: usize, mut look: impl FnMut(&TaskStatus<'_>)) {
        let mut oldest = BinaryHeap::new();
        for slot in self.tasks().slots() {
            oldest.push((self.tasks().made(slot), slot.0));
            if oldest.len() > count {
                oldest.pop();
            }
        }
        let mut path = Vec::new();
        for (_, slot) in oldest.into_sorted_vec() {
            look(&self.task_status(Slot(slot), &mut path));
        }
    }

    fn waits(&self, slot: Slot) -> Waits {
        let tasks = self.tasks();
        let (more, state) = (tasks.more(slot), tasks.state(slot));
        // What is left behind was gathered at that time.
        let gathered = || {
            let scheduler = self.scheduler(tasks.scheduler(slot));
            let is_gathered = matches!(state, State::Gathered | State::Left);
            let is_gathered = is_gathered && scheduler.is_some_and(|one| one.spec().batch.is_some());
            is_gathered.then(|| tasks.time(slot))
        };
        let first = more.and_then(|more| more.first).or_else(gathered);
        let due = more.and_then(|more| more.settles_since);
        let instant = |at: Option<Nanos>| at.and_then(|at| self.instant(at));
        Waits { made: self.instant(tasks.made(slot)), first: instant(first), due: instant(due) }
    }

    fn task_status<'a>(&'a self, slot: Slot, path: &'a mut Vec<u8>) -> TaskStatus<'a> {
        let tasks = self.tasks();
        let at = self.instant(tasks.time(slot));
        let doing = match tasks.state(slot) {
            State::PutOff => Doing::PutOff(at),
            State::Retrying => Doing::Retrying(at),
            State::Settling | State::Asked => Doing::Settling(at),
            State::Gathered => {
                let scheduler = self.scheduler(tasks.scheduler(slot));
                let due = scheduler.and_then(|scheduler| scheduler.batch_due(tasks));
                Doing::Gathered(due.and_then(|due| self.instant(due)))
            }
            State::Queued => Doing::Queued(at),
            State::Left if tasks.has(slot, Mark::Interrupted) => Doing::Running(at),
            State::Waiting | State::Left => Doing::Waiting(at),
            State::Running | State::Stopping | State::Taken => Doing::Running(at),
        };
        let run = self.scheduler(tasks.scheduler(slot)).map_or(slot, |one| one.leader(slot, tasks));
        TaskStatus {
            scheduler: tasks.scheduler(slot),
            map: tasks.map(slot),
            id: tasks.id(slot),
            handle: tasks.handle(run),
            event: if doing.is_to_come() { tasks.event(slot, path) } else { tasks.event_of_run(slot, path) },
            doing,
            waits: self.waits(slot),
            attempt: tasks.attempt(slot),
            reason: if doing.is_to_come() { tasks.reason(slot) } else { "" },
            again: tasks.has(slot, Mark::Again) || tasks.has(slot, Mark::Restart),
            failed: tasks.failed(slot),
            is_taken: tasks.is_taken(slot),
        }
    }
}
