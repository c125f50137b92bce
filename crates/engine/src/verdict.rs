//! What an event does at a scheduler, as a value: decided in one place, carried out in another, shown by `--explain`.

use std::time::Duration;

use crate::{Reaction, SchedulerId, TaskId};

/// What an event does at one scheduler. `T` names a task that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<T = TaskId> {
    /// Nothing.
    Ignored(Ignored),
    /// It makes a task.
    New {
        /// When the task starts.
        begin: Begin,
        /// The rule that matches, where the scheduler has rules.
        rule: Option<usize>,
    },
    /// It meets the task of its path.
    Met {
        /// The task.
        task: T,
        /// What becomes of it.
        change: Change,
    },
}

impl<T> Verdict<T> {
    /// The same, with another name for the task.
    pub(crate) fn named<U>(self, name: impl Fn(T) -> U) -> Verdict<U> {
        match self {
            Verdict::Ignored(reason) => Verdict::Ignored(reason),
            Verdict::New { begin, rule } => Verdict::New { begin, rule },
            Verdict::Met { task, change } => Verdict::Met { task: name(task), change },
        }
    }
}

/// Why an event does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The scheduler does not want directories, or wants nothing else.
    Unfit,
    /// The scheduler's rules have nothing for the path.
    NoRule(NoRule),
    /// The scheduler's configuration was replaced, or the daemon ends.
    Paused,
    /// There are as many tasks as the limits allow.
    TasksMax,
    /// There is no task to cancel.
    NothingToCancel,
}

/// Why rules have nothing for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoRule {
    /// None of them matches it.
    NoMatch,
    /// One of them gave up on it before it was certain.
    StepLimit,
}

/// When a new task starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Now.
    AtOnce,
    /// When a place is free: as many as may run at once do.
    WhenPlaceIsFree,
    /// When the scheduler's delay is over, and a place is free.
    AfterDelay,
    /// With the next batch.
    WithBatch,
}

/// What an event does to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It waits anew, and gets the event.
    Reschedule {
        /// The rule that matches the event's path.
        rule: Option<usize>,
    },
    /// It is gathered for the next batch, where it keeps its place if it has one there, and gets the event.
    Gather {
        /// The rule that matches the event's path.
        rule: Option<usize>,
    },
    /// It waits for a place only: it keeps its turn, and gets the event.
    Refresh {
        /// The rule that matches the event's path.
        rule: Option<usize>,
    },
    /// It runs; nothing.
    Skip,
    /// It runs, and will run again with the event.
    SkipAndRunAgain {
        /// The rule that matches the event's path.
        rule: Option<usize>,
    },
    /// It runs, and will run once more with the event.
    Remember {
        /// The rule that matches the event's path.
        rule: Option<usize>,
    },
    /// It runs, is stopped, and starts anew with the event.
    Restart {
        /// The rule that matches the event's path.
        rule: Option<usize>,
    },
    /// It has not started; it is forgotten.
    Cancel,
    /// It runs, and will not run again: nothing, or the mark of an earlier event is lifted.
    SkipCancel,
    /// Its time was over, though it has not ended yet: it is not tried again.
    CancelRetry,
}

/// What an event would do, see [`Engine::explain`](crate::Engine::explain).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// The event's flag is mapped to nothing.
    Unmapped,
    /// The exclude filter drops it.
    Excluded {
        /// The pattern that matches.
        pattern: usize,
    },
    /// The exclude filter gave up on the path; the event is dropped.
    ExcludeStepLimit,
    /// It reaches these schedulers, in this order.
    Reactions(Vec<Explained>),
}

/// One reaction to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The reaction as the map has it.
    pub reaction: Reaction,
    /// The scheduler of the reaction.
    pub scheduler: SchedulerId,
    /// The scheduler's delay.
    pub delay: Duration,
    /// What the event would do.
    pub verdict: Verdict,
}
