//! One call of the engine: what it needs to act on tasks.

use event::Event;

use crate::clock::Nanos;
use crate::tasks::Tasks;
use crate::{Effects, Limits, Record, SchedulerId};

/// Everything that a scheduler needs beside itself.
pub(crate) struct Turn<'a, E> {
    pub(crate) now: Nanos,
    pub(crate) tasks: &'a mut Tasks,
    pub(crate) counters: &'a mut Counters,
    pub(crate) limits: &'a Limits,
    /// Where pathnames are put together for records and starts.
    pub(crate) path: &'a mut Vec<u8>,
    pub(crate) out: &'a mut E,
}

/// Tasks that a shutdown did not wait for and that are named; the others are counted.
const NOT_DONE_NAMED_MAX: u32 = 999;

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
    /// Counts an event that makes no task because there are too many. Only the first is told.
    pub(crate) fn refuse(&mut self, scheduler: SchedulerId, event: &Event<'_>) {
        self.counters.refused += 1;
        self.counters.refused_in_a_row += 1;
        if self.counters.refused_in_a_row == 1 {
            self.out.record(Record::TasksMax { scheduler, event, tasks: self.tasks.len() });
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
    pub(crate) fn tell_not_done(&mut self, out: &mut impl Effects) {
        let count = std::mem::take(&mut self.not_done).saturating_sub(NOT_DONE_NAMED_MAX);
        if count > 0 {
            out.record(Record::NotDoneMore { count });
        }
    }

    /// Tells that there is room again; an eighth of it, so that the log does not follow each task.
    pub(crate) fn tell_room(&mut self, tasks: &Tasks, limits: &Limits, out: &mut impl Effects) {
        if self.refused_in_a_row == 0 {
            return;
        }
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
