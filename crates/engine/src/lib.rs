//! The rules of pyinotifyd, pure: which event makes, puts off, cancels or skips which task, and when a task runs.
//!
//! Owns event maps, exclude filters, schedulers and tasks with their delays, from the load of a configuration to the
//! end of its last task. Leaves to the program: reading the kernel, running tasks, telling the time, writing the log,
//! compiling patterns ([`Matcher`]). There is no I/O here, no clock, no thread and no randomness, so that the same
//! calls always have the same effects; that is what makes the [simulator](#testing) possible.
//!
//! # Theory of operation
//!
//! The program calls [`Engine::event`] for each event and each map that covers its path, [`Engine::finished`] when a
//! run is over, [`Engine::tick`] when [`Engine::deadline`] has come, and [`Engine::retire`] and [`Engine::shutdown`]
//! when it was told to. Each call gets the time, and performs its effects through [`Effects`] before it returns: start
//! this, stop that, note this decision. An effect must not block and cannot call back.
//!
//! An event goes through its map's table of flags, then through the exclude filter, then to each scheduler that the
//! table names. A scheduler has at most one task for a path (or at all, with `singlejob`). What an event does depends
//! on that task and is decided by one function as a [`Verdict`]:
//!
//! ```text
//!            event                       due, may start              finished
//!  (no task) ──────► waiting ────────────────────────────► running ─────────► (no task)
//!      │             ▲  │  │ due, must not yet       ▲        │  ▲
//!      │      event: │  │  └──► settling, queued ────┘        │  │ event: by on_busy
//!      │  wait anew  └──┤             │                       │
//!      │                │ cancel      │ cancel                ├─► put off, retrying: wait for a time of their own
//!      └─► (no delay)   ▼             ▼                       └─► stopping (time over, restart, cancelled)
//! ```
//!
//! With [`SchedulerSpec::batch`] one run is for many paths. Events gather tasks instead of letting each wait for
//! itself; when the batch is due all of them are queued, and one run takes as many of them as it can
//! ([`Effects::batch_line`]). One task has the run and gives it its name, the others are taken along. No path leads to
//! any of them meanwhile, so that events make the next batch; and there is one run at a time, so that two never act on
//! one path. A failure sends all of them into the timer with one time for the next try.
//!
//! A run ends as [`Outcome`]. A failure is recorded once: as [`Record::Retry`] if the task is tried again under its id,
//! else as [`Record::Failed`], and its event goes to the schedulers of `on_failure` as tasks that no path leads to. A
//! run whose timeout is over has failed at that moment, though its path and its place stay taken until the program says
//! that it has ended. A file that is in use ([`FailureKind::InUse`]) is no failure: the task is put off, and looks
//! again each second.
//!
//! Mostly all tasks of a scheduler wait equally long. They are due in the order in which they came, and a linked list
//! in that order is the timer: putting a task off moves it to the end. Tasks that wait otherwise are in an ordered set
//! beside it. The first of each gives the deadline. Tasks of all schedulers are in one slab, their names beside it, and
//! each directory once for all tasks in it; each scheduler has a hash table from paths to tasks, with a key that those
//! who choose file names do not know. A waiting task takes 104 bytes, its name, and 6 to 12 bytes of the table; what
//! few tasks have beside that (why they wait, what they tell of) is apart. What was learnt of a path (hash, excluded or
//! not, rule) is kept until an event of another path comes, since a file that is written gives several events in a row.
//! What is seldom asked for is done in functions that are marked cold: else whatever calls them saves registers for
//! them.
//!
//! A directory that is renamed takes the tasks along of what lies below it ([`Engine::rename`]): they keep their time,
//! and filter and rules are asked again. Of two directories that are exchanged, one steps aside meanwhile
//! ([`Engine::set_aside`]). A run ends under the path that it began with; the new one is for what comes
//! after, and for the events that meet the run. What the daemon itself moves or removes is told by
//! [`Engine::withdraw`].
//!
//! A configuration is a *generation*. A reload adds the new one and retires the old one ([`Engine::retire`]): tasks to
//! come go on in the new scheduler of the same name and kind, the *heir*; running ones end as they began. The heir
//! counts those runs of its *elders* among its places, an event for the path of one meets it as if it were the heir's
//! own, and what it leaves to come goes on there. What has no such scheduler ends with the old generation, whose maps
//! still hear events, but only to cancel. When its last task is gone a retired generation is forgotten.
//!
//! A task has an id that is a UUID ([`TaskId`]); people name tasks by it or by its beginning ([`Engine::find`],
//! [`Engine::cancel`], [`Engine::run_now`]). Randomness comes from a seed that the program gives. Times are those of
//! the caller; where they cross the daemon's life, the program turns them into times of day and back
//! ([`Engine::restore`]). A run that crosses it is being stopped from the start ([`Engine::restore_run`]).
//!
//! # What is ours
//!
//! The original has none of the arguments below `delay` in [`SchedulerSpec`], nor the limits. Where they had to be
//! decided:
//!
//! - A task that is due and must not start yet keeps its turn when an event comes, and gets the event.
//! - A file action that an event came upon runs again when it is over, as if the event came then: after the delay, if
//!   there is one, and unless it is cancelled. The original blocks meanwhile and reads the event afterwards.
//! - A pattern that gives up on a path: nothing is done with the path, and that is recorded. Neither must a later rule
//!   act on what an earlier one may have been meant for, nor any rule on what may have been excluded.
//! - An event without a path (an overflow) is not excluded and matches no rule.
//! - A reload with a shutdown timeout of zero ends all old tasks that do not go on, as shutdown does.
//! - What comes after a run of an elder comes though a reload stops that run.
//! - Where only one of heir and elder has a batch, or the heir alone `singlejob`, no path tells whether a run is in the
//!   way: the heir starts nothing until it has ended.
//! - What the daemon interrupted is final, and not tried again. While the daemon ends nothing is tried again.
//! - `settle` and `delay` do not hold up what tells of a failure. A batch does: failures are gathered as events are.
//! - A task of an earlier life of the daemon, or of another configuration, joins the next batch.
//! - A file rule whose directory was renamed during its run, and that failed, runs again at the new path, once for each
//!   such run: it has not acted. A command or a job may have, and has failed unless it is tried again.
//! - Where the new path of a run has a task already, the run keeps its own.
//! - Tasks of one run have the same try. An event for a path that waits for another try makes it a first try again,
//!   which joins no batch before the pause has passed.
//!
//! # Limits
//!
//! | what | limit | at the limit |
//! |---|---|---|
//! | tasks in all states | [`Limits::tasks_max`], 2,000,000 | an event makes no task; see below |
//! | bytes of tasks and their paths | [`Limits::bytes_max`], 256 MiB | the same |
//! | generations | [`Limits::generations_max`], 1,000 | the new one is refused, the one in force stays |
//! | starts in a tick, each scheduler | [`Limits::starts_per_tick_max`] | the rest in the next tick, at once |
//! | runs at once, each scheduler | [`SchedulerSpec::max_jobs`] | wait in order: [`Record::MaxJobs`] once |
//! | delay | 73 years | longer ones are cut |
//!
//! Where there are too many tasks: [`Record::TasksMax`] the first time, [`Record::TasksMaxOver`] with the count when an
//! eighth is free again. Tasks that are there go on and can be put off and cancelled.
//!
//! Nothing here takes time in one call that grows with the number of tasks, but for the start and the end of a batch
//! (some 1 µs for each path), the end of a shutdown, which forgets what is left (some 90 ns a task), the rename of a
//! directory (some 300 ns for each task below it), and the move of paths when most of their memory is holes. Of the
//! tasks that a shutdown forgets, the first 999 are named.
//!
//! # Testing
//!
//! `tests/behaviour.rs` says each rule in a few lines. The [`script`](self) module (feature `script`) runs random calls
//! on the engine and on a naive model side by side and compares all effects: `ENGINE_STEPS=1000000 cargo test -p
//! engine`.

mod changes;
mod chunks;
mod clock;
mod dirs;
mod effects;
mod elders;
mod engine;
mod generation;
mod index;
mod path;
mod random;
mod scheduler;
#[cfg(any(test, feature = "script"))]
pub mod script;
mod seconds;
mod spec;
mod status;
mod tasks;
mod texts;
mod turn;
mod verdict;

pub use effects::{
    BatchEvent, CancelledBy, Effects, End, EndResult, FailedTask, Failure, FailureKind, NotDone, Outcome,
    OwnedEvent, OwnedTask, Question, Record, Restored, Settled, Start, TaskRecord, Waits,
};
pub use engine::by_id::{Found, NotRun};
pub use engine::{Engine, Stats};
pub use seconds::Seconds;
pub use spec::{
    Batch, GenerationError, GenerationId, GenerationIds, IdPrefix, Limits, MapId, MapSpec, Matcher, OnBusy,
    Rate, Reaction, Retry, RetryOn, SchedulerId, SchedulerKind, SchedulerSpec, Settle, StepLimit, TaskHandle,
    TaskId,
};
pub use status::{Doing, SchedulerStats, TaskStatus};
pub use verdict::{Begin, Change, Explained, Explanation, Ignored, NoRule, Verdict};

/// Bytes of the text of a failure that an `on_failure` gets, and that a task shows which is tried again.
pub const ERROR_MAX: usize = 4_096;
