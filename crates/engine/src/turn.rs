//! One call of the engine: what it needs to act on tasks.

use std::num::NonZeroU32;

use event::Event;

use crate::clock::Nanos;
use crate::random::Random;
use crate::tasks::{Failed, Tasks};
use crate::{Effects, Limits, MapId, OwnedEvent, Record, SchedulerId};

/// Everything that a scheduler needs beside itself.
pub(crate) struct Turn<'a, E> {
    pub(crate) now: Nanos,
    pub(crate) tasks: &'a mut Tasks,
    /// Where pathnames are put together for records and starts.
    pub(crate) path: &'a mut Vec<u8>,
    pub(crate) shared: &'a mut Shared,
    pub(crate) out: &'a mut E,
}

/// What all schedulers share, beside the tasks.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) commands: Commands,
    /// Jobs are queued for which there was no room.
    pub(crate) jobs_wait: bool,
    /// Events of tasks that failed, for those that are to get them.
    pub(crate) failures: Vec<Delivery>,
    /// For the jitter of retries.
    pub(crate) random: Random,
    pub(crate) daemon_ends: bool,
}

/// Tasks that a shutdown did not wait for and that the log names; the others are counted there.
const NOT_DONE_NAMED_MAX: u32 = 999;

/// The shell commands of all schedulers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Commands {
    /// How many may run at once.
    pub(crate) max: Option<NonZeroU32>,
    pub(crate) running: u32,
    /// Some wait, and there may be a place.
    pub(crate) to_fill: bool,
}

impl Commands {
    pub(crate) fn has_place(&self) -> bool {
        self.max.is_none_or(|max| self.running < max.get())
    }
}

/// The event of a task that failed for good, on its way.
pub(crate) struct Delivery {
    /// Places of schedulers in the configuration of the task.
    pub(crate) receivers: Vec<usize>,
    pub(crate) map: MapId,
    pub(crate) event: OwnedEvent,
    pub(crate) failed: Failed,
}

/// What is counted over the life of the engine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) started: u64,
    /// Events that made no task because of the limits.
    pub(crate) refused: u64,
    /// Of these, those since [`Record::TasksMax`]; zero while there is room.
    refused_in_a_row: u64,
    /// Tasks that this call cancelled because the time was over, those that were named included.
    not_done: u32,
}

impl<E: Effects> Turn<'_, E> {
    /// Whether another life of the daemon gets what is not done.
    pub(crate) fn keeps(&self) -> bool {
        self.shared.daemon_ends && self.tasks.are_kept()
    }

    /// Counts an event that makes no task because there are too many. Only the first is told.
    #[cold]
    pub(crate) fn refuse(&mut self, scheduler: SchedulerId, event: &Event<'_>) {
        let counters = &mut self.shared.counters;
        counters.refused += 1;
        counters.refused_in_a_row += 1;
        if counters.refused_in_a_row == 1 {
            self.out.record(Record::TasksMax { scheduler, event, tasks: self.tasks.len() });
        }
    }
}

impl Shared {
    pub(crate) fn new(limits: Limits) -> Shared {
        Shared {
            random: Random::new(!limits.random_seed),
            limits,
            counters: Counters::default(),
            commands: Commands::default(),
            jobs_wait: false,
            failures: Vec::new(),
            daemon_ends: false,
        }
    }

    /// Tells what was counted instead of told, at the end of a call.
    #[inline]
    pub(crate) fn tell_counted(&mut self, tasks: &Tasks, out: &mut impl Effects) {
        if self.counters.not_done > 0 {
            self.counters.tell_not_done(out);
        }
        if self.counters.refused_in_a_row > 0 {
            self.counters.tell_room(tasks, &self.limits, out);
        }
    }
}

impl Counters {
    /// Counts a task that was not done; whether it is to be named.
    pub(crate) fn name_not_done(&mut self) -> bool {
        self.not_done += 1;
        self.not_done <= NOT_DONE_NAMED_MAX
    }

    /// Tells how many were not named.
    #[cold]
    fn tell_not_done(&mut self, out: &mut impl Effects) {
        let count = std::mem::take(&mut self.not_done).saturating_sub(NOT_DONE_NAMED_MAX);
        if count > 0 {
            out.record(Record::NotDoneMore { count });
        }
    }

    /// Tells that there is room again; an eighth of it, so that the log does not follow each task.
    #[cold]
    fn tell_room(&mut self, tasks: &Tasks, limits: &Limits, out: &mut impl Effects) {
        let tasks_kept = limits.tasks_max - limits.tasks_max / 8;
        let bytes_kept = limits.bytes_max - limits.bytes_max / 8;
        // With a limit below eight the eighth is nothing; there is room all the same only if a task is gone.
        let room = tasks.len() <= tasks_kept && tasks.len() < limits.tasks_max;
        if room && tasks.bytes() as u64 <= bytes_kept {
            let refused = std::mem::take(&mut self.refused_in_a_row);
            out.record(Record::TasksMaxOver { refused });
        }
    }
}
