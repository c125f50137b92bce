//! What the engine tells the program: effects to perform, and records of what it decided.

use std::time::{Duration, Instant};

use event::{Event, Flag, Mask};

use crate::{MapId, NoRule, SchedulerId, TaskHandle, TaskId};

/// The program's side of the engine. It may do nothing slow: the engine's caller waits.
pub trait Effects {
    /// Run a task. Its end is told by [`Engine::finished`](crate::Engine::finished), in a later call.
    fn start(&mut self, start: Start<'_>);

    /// Say whether what runs the jobs of that scheduler can take one more, which is to begin before long if it is
    /// `prompt`: its time counts from its start. If not, they are queued until
    /// [`Engine::start_jobs`](crate::Engine::start_jobs).
    fn has_room(&self, scheduler: SchedulerId, prompt: bool) -> bool {
        let _ = (scheduler, prompt);
        true
    }

    /// End a running task, its time is over. Its end is told as for any other.
    fn stop(&mut self, handle: TaskHandle, id: TaskId);

    /// Find out whether a task's file has settled, and say so by [`Engine::settled`](crate::Engine::settled), in a
    /// later call. Only for schedulers with [`SchedulerSpec::settle`](crate::SchedulerSpec).
    fn ask_settled(&mut self, question: Question<'_>);

    /// Say how long the command line of a run is with one more path of its batch: `used` is what it was with those
    /// before, zero for the first one. `None`: that is too long. Only for schedulers with
    /// [`SchedulerSpec::batch`](crate::SchedulerSpec), and of no effect for the first path, which is always taken.
    fn batch_line(&mut self, scheduler: SchedulerId, used: usize, added: &BatchEvent) -> Option<usize> {
        let _ = (scheduler, added);
        Some(used)
    }

    /// A task came to an end that is worth to be remembered: its run is over, it failed for good without one, or it was
    /// cancelled ([`EndResult::Cancelled`]). The same task may come again, for an event that came meanwhile. The record
    /// of it follows; the ends of other tasks that the run was for come behind that, and have none.
    fn ended(&mut self, task: &TaskRecord<'_>, end: End<'_>) {
        let _ = (task, end);
    }

    /// Note a decision. Most calls are for the log at DEBUG, so this should return early.
    fn record(&mut self, record: Record<'_>);
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// Whether it did what it is for.
    pub result: EndResult<'a>,
    /// How often it was tried.
    pub attempts: u32,
    /// Since its first event.
    pub age: Duration,
    /// Since the start of its latest run; zero if it has not run.
    pub ran: Duration,
    /// What it told of, if that was a failure.
    pub told: Option<FailedTask<'a>>,
}

/// Whether a task did what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndResult<'a> {
    /// It did.
    Done,
    /// It failed for good.
    Failed(&'a Failure),
    /// It was cancelled: while it ran, by its id, or while it waited for another attempt.
    Cancelled(CancelledBy),
    /// It was cancelled when it was to start: the rules that it came to have nothing for its path.
    NoRule(NoRule),
    /// It was cancelled: the scheduler that it came to has a task of a later event in its place.
    Replaced,
}

/// What a task was cancelled by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelledBy {
    /// An event of its path.
    Event(Option<Flag>),
    /// Somebody who named it ([`Engine::cancel`](crate::Engine::cancel)).
    Id,
    /// A rename of its directory: nothing is to be done for its new path, or that has a task already.
    Rename,
    /// The daemon itself, which moved or removed what it was for ([`Engine::withdraw`](crate::Engine::withdraw)).
    Withdrawal,
    /// Its path is gone, and was to settle.
    Loss,
    /// The end of its run, which was told to end or did so by itself.
    Stop,
}

/// Whether a task's file has settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Names the question.
    pub handle: TaskHandle,
    /// Names the task.
    pub id: TaskId,
    /// The scheduler that says what settled means.
    pub scheduler: SchedulerId,
    /// The latest event of the task.
    pub event: Event<'a>,
}

/// The answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled<'a> {
    /// The task can start.
    Yes,
    /// It waits, for this reason.
    No(&'a str),
    /// Nothing is there any more.
    Vanished,
}

/// A task to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start<'a> {
    /// Names this run.
    pub handle: TaskHandle,
    /// Names the task, for logs and jobs.
    pub id: TaskId,
    /// The scheduler that says what to do.
    pub scheduler: SchedulerId,
    /// The latest event of the task.
    pub event: Event<'a>,
    /// The rule that matched the event's path, where the scheduler has rules.
    pub rule: Option<usize>,
    /// The task ran before and events came meanwhile: there is work only if the object is not what that run acted on.
    ///
    /// Without a delay this comes within the call of [`Engine::finished`](crate::Engine::finished) that ended the run
    /// before, or later if no place is free; with a delay [`Record::Scheduled`] comes within that call, and this when
    /// the delay is over.
    pub again: bool,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// How long after it was due: for want of a place, a rate, a pause, or a file that had not settled.
    pub late: Duration,
    /// What failed, if the task tells of a failure ([`SchedulerSpec::on_failure`](crate::SchedulerSpec)).
    pub failed: Option<FailedTask<'a>>,
    /// All that the run is for, `event` and `failed` of this start first; empty without
    /// [`SchedulerSpec::batch`](crate::SchedulerSpec).
    pub batch: &'a [BatchEvent],
}

/// One of many that a run is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEvent {
    /// The latest event of the path.
    pub event: OwnedEvent,
    /// What failed, if it tells of a failure: why, how often it was tried, and its id.
    pub failed: Option<(String, u32, TaskId)>,
}

/// A task that failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedTask<'a> {
    /// Why: at most [`ERROR_MAX`](crate::ERROR_MAX) bytes.
    pub error: &'a str,
    /// How often it was tried.
    pub attempts: u32,
    /// Its id.
    pub id: TaskId,
}

/// How a run ended. Every start has exactly one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it is for.
    Done,
    /// It was to run again and found that its object had not changed.
    Unchanged,
    /// It did not do what it is for, or could not be started.
    Failed(Failure),
    /// It was cancelled, by [`Effects::stop`] or by itself.
    Cancelled,
    /// It has not begun, and what was to run it is gone: its task is queued again.
    NotBegun,
    /// It has not begun, and what it is for was moved or removed by the daemon itself ([`crate::Engine::withdraw`]).
    Withdrawn,
}

/// Why a run did not do what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the engine decides by.
    pub kind: FailureKind,
    /// It is not to be tried again, whatever its kind: an exception that [`Retry::on`](crate::Retry) does not name.
    pub is_final: bool,
    /// One line for the log and for people.
    pub text: String,
    /// Lines that explain it further, such as a traceback; often empty.
    pub details: String,
}

impl Failure {
    /// A failure without further lines.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Failure {
        Failure { kind, is_final: false, text: text.into(), details: String::new() }
    }
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A job raised, a file rule met an error, or the run could not be started.
    Error,
    /// A command ended with this status, which is not 0.
    ExitStatus(i32),
    /// A command was killed by this signal.
    Signal(i32),
    /// Its time was over.
    Timeout,
    /// What ran it has ended: the host of its job, or the daemon.
    Interrupted,
    /// Somebody writes to the file. This is no failure of the task: it is put off, see [`Record::PutOff`].
    InUse,
}

impl FailureKind {
    /// The exit status or the signal that a command ended by.
    pub fn exit(self) -> (Option<i32>, Option<i32>) {
        match self {
            FailureKind::ExitStatus(status) => (Some(status), None),
            FailureKind::Signal(signal) => (None, Some(signal)),
            FailureKind::Error | FailureKind::Timeout | FailureKind::Interrupted | FailureKind::InUse => {
                (None, None)
            }
        }
    }
}

/// Why a task that has not started is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// The time for that is over.
    TimeOver,
    /// It waits for its retry, which no end waits for.
    Retry,
    /// Its scheduler is paused.
    Paused,
    /// It was left to another life of the daemon, which does not get it.
    NotKept,
}

/// A task in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRecord<'a> {
    /// The task's scheduler.
    pub scheduler: SchedulerId,
    /// The task.
    pub id: TaskId,
    /// The event that the record is about: the one that came now, else the latest of the task.
    pub event: Event<'a>,
    /// How many other paths its run is for.
    pub others: u32,
}

/// One decision of the engine, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An event came in, before its map and exclude filter are asked.
    Received {
        /// The map it came through.
        map: MapId,
        /// The event.
        event: &'a Event<'a>,
    },
    /// The exclude filter dropped the event.
    Excluded {
        /// The map with the filter.
        map: MapId,
        /// The path that matched.
        pathname: &'a [u8],
    },
    /// A pattern of the exclude filter gave up; the event is dropped, as it may have to be.
    ExcludeStepLimit {
        /// The map with the filter.
        map: MapId,
        /// The path that was tried.
        pathname: &'a [u8],
    },
    /// No rule of the scheduler matches the path.
    NoRule {
        /// The scheduler with the rules.
        scheduler: SchedulerId,
        /// The event that makes no task.
        event: &'a Event<'a>,
    },
    /// A pattern among the rules gave up; the event makes no task, as a wrong rule might act.
    RuleStepLimit {
        /// The scheduler with the rules.
        scheduler: SchedulerId,
        /// The event that makes no task.
        event: &'a Event<'a>,
    },
    /// A task begins to wait.
    Scheduled {
        /// The task.
        task: TaskRecord<'a>,
        /// How long it waits.
        delay: Duration,
        /// It ran before, and an event came meanwhile. What that run acted on is still of use to [`Start::again`].
        again: bool,
    },
    /// A task is gathered for the next batch, or an event came for it there.
    Gathered {
        /// The task.
        task: TaskRecord<'a>,
        /// How many are gathered.
        count: u32,
    },
    /// What is gathered is too much for one run: the rest follows in others. Said once until nothing is left.
    Split {
        /// The task that the first run has.
        task: TaskRecord<'a>,
        /// How many paths there are in all.
        count: u32,
    },
    /// A waiting task was put off by an event.
    Rescheduled {
        /// The task.
        task: TaskRecord<'a>,
        /// How long it waits from now on; zero for a task that waits for a free place only.
        delay: Duration,
    },
    /// A task starts to run.
    Started {
        /// The task.
        task: TaskRecord<'a>,
        /// It ran before and may find that there is nothing to do.
        again: bool,
        /// It was put off before, since its file was in use, and looks again: [`Record::PutOff`] came already.
        looks_again: bool,
    },
    /// A task came to its end.
    Finished {
        /// The task.
        task: TaskRecord<'a>,
    },
    /// A task failed.
    Failed {
        /// The task.
        task: TaskRecord<'a>,
        /// Why.
        failure: &'a Failure,
    },
    /// A task failed, and is tried again.
    Retry {
        /// The task.
        task: TaskRecord<'a>,
        /// Why it failed.
        failure: &'a Failure,
        /// Which try that was, from 1.
        attempt: u32,
        /// The pause before the next one. `None`: an event came meanwhile, for which the task runs again instead.
        pause: Option<Duration>,
    },
    /// An event came for a task that runs, and will be acted on when the run has ended.
    Remembered {
        /// The task.
        task: TaskRecord<'a>,
    },
    /// An event came for a task that runs, which is stopped for it and starts anew.
    Restarting {
        /// The task.
        task: TaskRecord<'a>,
    },
    /// A task ran again for an event, ten times in a row without a pause.
    Reruns {
        /// The task.
        task: TaskRecord<'a>,
        /// How often.
        count: u32,
    },
    /// All starts of a scheduler's rate are used for the first time; from now on tasks wait in order.
    MaxRate {
        /// The scheduler.
        scheduler: SchedulerId,
    },
    /// A task's file has not settled. It is asked again.
    Unsettled {
        /// The task.
        task: TaskRecord<'a>,
        /// Why.
        reason: &'a str,
        /// There was another reason before, or none.
        is_news: bool,
    },
    /// A task is due and waits in order for a place, or until its scheduler is resumed. Not told of tasks of a batch:
    /// what becomes of them is told of the one that has their run.
    Queued {
        /// The task.
        task: TaskRecord<'a>,
        /// Its scheduler is paused.
        is_paused: bool,
    },
    /// The path of a task vanished before its file settled, and the map says nothing of that: the task is dropped.
    Vanished {
        /// The task.
        task: TaskRecord<'a>,
    },
    /// A task found its file in use for the first time. It waits, and looks again each second.
    PutOff {
        /// The task.
        task: TaskRecord<'a>,
        /// Who uses the file, as far as the program knows.
        failure: &'a Failure,
    },
    /// A task that was to run again had nothing to do.
    Unchanged {
        /// The task.
        task: TaskRecord<'a>,
    },
    /// An event for a task that runs.
    SkippedOngoing {
        /// The task.
        task: TaskRecord<'a>,
    },
    /// An event cancelled a waiting task.
    CancelledWaiting {
        /// The task.
        task: TaskRecord<'a>,
    },
    /// A waiting task was cancelled: the scheduler that it came to has a task of a later event in its place.
    Replaced {
        /// The task.
        task: TaskRecord<'a>,
    },
    /// A running task was cancelled.
    CancelledOngoing {
        /// The task.
        task: TaskRecord<'a>,
    },
    /// All places of a scheduler are taken for the first time; from now on tasks wait in order.
    MaxJobs {
        /// The scheduler.
        scheduler: SchedulerId,
        /// Its places.
        max_jobs: u32,
    },
    /// The first event that made no task because there are too many.
    TasksMax {
        /// The scheduler that wanted one.
        scheduler: SchedulerId,
        /// The event that was lost.
        event: &'a Event<'a>,
        /// How many tasks there are.
        tasks: u32,
    },
    /// There is room for tasks again.
    TasksMaxOver {
        /// How many events made no task since [`Record::TasksMax`].
        refused: u64,
    },
    /// A scheduler of a replaced configuration takes no more tasks; said of those that were not paused already.
    Paused {
        /// The scheduler.
        scheduler: SchedulerId,
    },
    /// A scheduler waits for its tasks.
    WaitForTasks {
        /// The scheduler.
        scheduler: SchedulerId,
        /// How long.
        timeout: Duration,
        /// Its tasks.
        count: u32,
    },
    /// The tasks that a scheduler waited for are done.
    AllCompleted {
        /// The scheduler.
        scheduler: SchedulerId,
    },
    /// The daemon ends, and tasks that have not started are left to another life of it.
    Kept {
        /// The scheduler.
        scheduler: SchedulerId,
        /// How many.
        count: u32,
    },
    /// The time is over; what is left of a scheduler's tasks is cancelled.
    TimeoutExceeded {
        /// The scheduler.
        scheduler: SchedulerId,
        /// Its tasks that are cancelled.
        count: u32,
    },
    /// One of these that had not started. Of those that run, the end is recorded as ever.
    NotDone {
        /// The task.
        task: TaskRecord<'a>,
        /// Why it is not waited for.
        why: NotDone,
        /// It is one of the first, which the log names.
        is_named: bool,
    },
    /// There were more of them than the log names.
    NotDoneMore {
        /// How many.
        count: u32,
    },
    /// A task that has not started followed the rename of a directory.
    Followed {
        /// The task, with its new path.
        task: TaskRecord<'a>,
        /// The path that the directory had.
        from: &'a [u8],
        /// The path that it has now.
        to: &'a [u8],
    },
    /// Tasks that have not started are cancelled next, because the daemon itself moved or removed what they were for.
    Withdrawn {
        /// What it moved or removed.
        pathname: &'a [u8],
        /// How many tasks of that path and, if it was a directory, below it.
        count: u32,
    },
}

/// Since when a task waits, where that bounds how long: it counts on in another life of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// When it was made.
    pub made: Option<Instant>,
    /// When the first of the events came that it waits for; with a `max_delay` or a batch.
    pub first: Option<Instant>,
    /// When it was first due; with `settle`.
    pub due: Option<Instant>,
}

/// A task that an earlier life of the daemon had, see [`Engine::restore`](crate::Engine::restore).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored<'a> {
    /// The id that it had.
    pub id: TaskId,
    /// The scheduler of its name.
    pub scheduler: SchedulerId,
    /// The map of its watch, if the configuration has it.
    pub map: Option<MapId>,
    /// Its latest event.
    pub event: Event<'a>,
    /// When it is due; at once, if that has passed.
    pub due: Instant,
    /// Which try its next run is, from 1.
    pub attempt: u32,
    /// Why its latest try failed; empty if it has not been tried.
    pub reason: &'a str,
    /// Since when it waits.
    pub waits: Waits,
    /// What failed, if the task tells of a failure.
    pub failed: Option<FailedTask<'a>>,
    /// It goes on as the program keeps it, so that it is not one of the changes. Else it is run again: no batch gathers
    /// more for it.
    pub is_kept: bool,
}

/// An event that owns its paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedEvent {
    fields: (u32, i32, u32, bool, bool, u16, u16),
    pathname: Box<[u8]>,
    given_path: Option<Box<[u8]>>,
    src_pathname: Option<Box<[u8]>>,
}

impl OwnedEvent {
    /// A copy of an event.
    pub fn of(event: &Event<'_>) -> OwnedEvent {
        let Event { mask, wd, cookie, is_dir, synthetic, name_len, root_len, .. } = *event;
        OwnedEvent {
            fields: (mask.0, wd, cookie, is_dir, synthetic, name_len, root_len),
            pathname: event.pathname.into(),
            given_path: event.given_path.map(Into::into),
            src_pathname: event.src_pathname.map(Into::into),
        }
    }

    /// The event.
    pub fn get(&self) -> Event<'_> {
        let (mask, wd, cookie, is_dir, synthetic, name_len, root_len) = self.fields;
        Event {
            mask: Mask(mask),
            wd,
            cookie,
            is_dir,
            synthetic,
            pathname: &self.pathname,
            name_len,
            root_len,
            given_path: self.given_path.as_deref(),
            src_pathname: self.src_pathname.as_deref(),
        }
    }
}

/// A task that was asked for by the handle of its run, see [`Engine::task`](crate::Engine::task).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedTask {
    /// The task's scheduler.
    pub scheduler: SchedulerId,
    /// The task.
    pub id: TaskId,
    /// Its latest event.
    pub event: OwnedEvent,
    /// How many other paths its run is for.
    pub others: u32,
}

impl OwnedTask {
    /// As it stands in records.
    pub fn record(&self) -> TaskRecord<'_> {
        TaskRecord { scheduler: self.scheduler, id: self.id, event: self.event.get(), others: self.others }
    }
}
