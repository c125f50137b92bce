//! The rules of pyinotifyd, pure: which event makes, puts off, cancels or skips which task, and when a task runs.
//!
//! Owns event maps, exclude filters, schedulers and tasks with their delays, from the load of a configuration to the end
//! of its last task. Leaves to the program: reading the kernel, running tasks, telling the time, writing the log,
//! compiling patterns ([`Matcher`]). There is no I/O here, no clock, no thread and no randomness, so that the same calls
//! always have the same effects; that is what makes the [simulator](#testing) possible.
//!
//! # Theory of operation
//!
//! The program calls [`Engine::event`] for each event and each map that covers its path, [`Engine::finished`] when a run
//! is over, [`Engine::tick`] when [`Engine::deadline`] has come, and [`Engine::retire`] and [`Engine::shutdown`] when it
//! was told to. Each call gets the time, and performs its effects through [`Effects`] before it returns: start this, stop
//! that, note this decision. An effect must not block and cannot call back.
//!
//! An event goes through its map's table of flags, then through the exclude filter, then to each scheduler that the table
//! names. A scheduler has at most one task for a path (or at all, with `singlejob`). What an event does depends on that
//! task and is decided by one function as a [`Verdict`]:
//!
//! ```text
//!            event                       due, place free            finished
//!  (no task) ──────► waiting ────────────────────────────► running ─────────► (no task)
//!      │             ▲  │  │ due, no place           ▲        │  ▲
//!      │      event: │  │  └──────────► queued ──────┘ place  │  │ event: skipped; with retry_if_changed
//!      │  wait anew  └──┤                 │          is free  │  │ marked, waits again when finished
//!      │                │ cancel          │ cancel            ▼  │
//!      └─► (no delay)   ▼                 ▼                stopping (time over)
//! ```
//!
//! All tasks of a scheduler wait equally long. Those that wait are therefore due in the order in which they came, and a
//! linked list in that order is the timer: putting a task off moves it to the end. The first of each list gives the
//! deadline. Tasks of all schedulers are in one slab, their names beside it, and each directory once for all tasks in it;
//! each scheduler has a hash table from paths to tasks, with a key that those who choose file names do not know. A waiting
//! task takes 88 bytes, its name, and 6 to 12 bytes of the table. What was learnt of a path (hash, excluded or not, rule) is kept until an event of another path
//! comes, since a file that is written gives several events in a row.
//!
//! A directory that is renamed takes the tasks along that are to come for what lies below it ([`Engine::rename`]): they
//! keep their time, and filter and rules are asked again. Those that run end under the path that they began with. What
//! the daemon itself moves or removes is told by [`Engine::withdraw`].
//!
//! A configuration is a *generation*. A reload adds the new one and retires the old one, whose tasks go on and whose maps
//! still hear events, but only to cancel: a path with a waiting task of the old configuration is handed over to the new
//! one by the first event. When its last task is gone a retired generation is forgotten.
//!
//! # What is ours
//!
//! The original has none of `max_jobs`, `retry_if_changed` and the limits below. Where they had to be decided:
//!
//! - A task that is due and waits for a place keeps its turn when an event comes and there is no delay; with a delay it
//!   waits anew, for the delay says how long the path must be left alone.
//! - A file action that an event came upon runs again when it is over, as if the event came then: after the delay, if
//!   there is one, and unless it is cancelled. The original blocks meanwhile and reads the event afterwards.
//! - A pattern that gives up on a path: nothing is done with the path, and that is recorded. Neither must a later rule act
//!   on what an earlier one may have been meant for, nor any rule on what may have been excluded.
//! - An event without a path (an overflow) is not excluded and matches no rule.
//! - A reload with a shutdown timeout of zero ends all old tasks at once, as shutdown does.
//!
//! # Limits
//!
//! | what | limit | at the limit |
//! |---|---|---|
//! | tasks in all states | [`Limits::tasks_max`], 2,000,000 | an event makes no task: [`Record::TasksMax`] the first time, [`Record::TasksMaxOver`] with the count when an eighth is free again; tasks that are there go on and can be put off and cancelled |
//! | bytes of tasks and their paths | [`Limits::bytes_max`], 256 MiB | the same |
//! | generations | [`Limits::generations_max`], 1,000 | the new one is refused, the one in force stays |
//! | starts in a tick, each scheduler | [`Limits::starts_per_tick_max`], 1,024 | the rest in the next tick, whose deadline is now |
//! | runs at once, each scheduler | [`SchedulerSpec::max_jobs`] | tasks wait in order: [`Record::MaxJobs`] the first time |
//! | delay | 73 years | longer ones are cut |
//!
//! Nothing here takes time in one call that grows with the number of tasks, but for the end of a shutdown, which forgets
//! what is left (some 90 ns a task), the rename of a directory (some 300 ns for each task below it), and the move of paths
//! when most of their memory is holes. Of the tasks that a shutdown forgets, the first 999 are named.
//!
//! # Testing
//!
//! `tests/behaviour.rs` says each rule in a few lines. The [`script`](self) module (feature `script`) runs random calls on
//! the engine and on a naive model side by side and compares all effects: `ENGINE_STEPS=1000000 cargo test -p engine`.

mod chunks;
mod clock;
mod dirs;
mod effects;
mod engine;
mod generation;
mod index;
mod path;
mod random;
mod scheduler;
#[cfg(any(test, feature = "script"))]
pub mod script;
mod spec;
mod status;
mod tasks;
mod texts;
mod turn;
mod verdict;

pub use effects::{
    Effects, FailedTask, Failure, FailureKind, Outcome, OwnedEvent, OwnedTask, Question, Record, Restored,
    Settled, Start, TaskRecord,
};
pub use engine::by_id::Found;
pub use engine::{Engine, Stats};
pub use spec::{
    GenerationError, GenerationId, GenerationIds, IdPrefix, Limits, MapId, MapSpec, Matcher, OnBusy, Rate,
    Reaction, Retry, RetryOn, SchedulerId, SchedulerKind, SchedulerSpec, Settle, StepLimit, TaskHandle,
    TaskId,
};
pub use status::{Doing, SchedulerStats, TaskStatus};
pub use verdict::{Begin, Change, Explained, Explanation, Ignored, Verdict};

/// Bytes of the text of a failure that an `on_failure` gets.
pub const ERROR_MAX: usize = 4_096;
