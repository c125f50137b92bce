//! What the program tells the engine: ids, limits, and the schedulers and event maps of a configuration.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A scheduler, numbered for the life of the engine: those of one configuration follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchedulerId(pub u32);

/// An event map (one a watch), numbered for the life of the engine: those of one configuration follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(pub u32);

impl MapId {
    /// The map of a task whose watch its configuration does not have.
    pub(crate) const NONE: MapId = MapId(u32::MAX);
}

/// One load of the configuration, numbered for the life of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(pub u32);

/// A task's id: a random UUID (RFC 9562, version 4), the same for all its attempts. Shown as 36 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u128);

impl TaskId {
    /// A random one, whose last 32 bits tell the task's place to those who know the others.
    pub(crate) fn new(high: u64, low: u64, place: u32) -> TaskId {
        let random = u128::from(high) << 64 | u128::from(low);
        let version = random & !(0xf << 76) | 4 << 76;
        let upper = (version & !(0b11 << 62) | 0b10 << 62) >> 32;
        TaskId(upper << 32 | u128::from(place ^ TaskId::cover(upper)))
    }

    pub(crate) fn place(self) -> u32 {
        self.0 as u32 ^ TaskId::cover(self.0 >> 32)
    }

    fn cover(upper: u128) -> u32 {
        (upper >> 64) as u32 ^ (upper >> 32) as u32 ^ upper as u32
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = |shift: u32, digits: u32| self.0 >> shift & ((1 << (digits * 4)) - 1);
        write!(
            out,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            group(96, 8),
            group(80, 4),
            group(64, 4),
            group(48, 4),
            group(0, 12)
        )
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TaskId({self})")
    }
}

/// The beginning of a task's id: at least four of its characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdPrefix {
    bits: u128,
    mask: u128,
}

/// Characters that an id must at least be given with.
const PREFIX_MIN: usize = 4;

impl IdPrefix {
    /// Reads hexadecimal digits with the dashes of a UUID; `None` if it is something else or too short.
    pub fn parse(text: &str) -> Option<IdPrefix> {
        let mut prefix = IdPrefix { bits: 0, mask: 0 };
        let mut shift = 128;
        if text.len() < PREFIX_MIN || text.len() > 36 {
            return None;
        }
        for (at, character) in text.chars().enumerate() {
            if [8, 13, 18, 23].contains(&at) {
                if character != '-' {
                    return None;
                }
                continue;
            }
            shift -= 4;
            prefix.bits |= u128::from(character.to_digit(16)?) << shift;
            prefix.mask |= 0xf << shift;
        }
        Some(prefix)
    }

    /// Whether an id begins so.
    pub fn matches(&self, id: TaskId) -> bool {
        id.0 & self.mask == self.bits
    }

    /// The id, if the prefix is all of it.
    pub fn whole(&self) -> Option<TaskId> {
        (self.mask == u128::MAX).then_some(TaskId(self.bits))
    }
}

/// One run of a task, from [`Effects::start`](crate::Effects::start) to [`Engine::finished`](crate::Engine::finished).
///
/// A task that runs again gets a new handle, so that a report that comes twice or too late is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskHandle(pub u64);

/// A pattern that backtracks gave up on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLimit;

/// An ordered list of patterns: the rules of a scheduler or the exclude filter of a map.
pub trait Matcher: Send + Sync {
    /// Index of the first pattern that matches at the start of `pathname`.
    ///
    /// # Errors
    ///
    /// A pattern gave up before the answer was certain.
    fn first_match(&self, pathname: &[u8]) -> Result<Option<usize>, StepLimit>;
}

/// One scheduler of a configuration.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "these are the arguments that a configuration gives")]
pub struct SchedulerSpec {
    /// Its name, by which people and later configurations know it.
    pub name: String,
    /// What its tasks are.
    pub kind: SchedulerKind,
    /// Makes tasks for what is not a directory.
    pub files: bool,
    /// Makes tasks for directories.
    pub dirs: bool,
    /// How long a task waits, counted anew from each event; zero: it starts at once.
    pub delay: Duration,
    /// One task at a time, whatever the path.
    pub singlejob: bool,
    /// How long events can put a waiting task off, counted from the first of them; not below the delay.
    pub max_delay: Option<Duration>,
    /// How many tasks may run at once; the others wait in order.
    pub max_jobs: Option<NonZeroU32>,
    /// How many tasks may start in a time; the others wait in order.
    pub max_rate: Option<Rate>,
    /// What an event does that comes while the task of its path runs.
    pub on_busy: OnBusy,
    /// How long a run may take before it is stopped and has failed.
    pub timeout: Option<Duration>,
    /// What becomes of a task that failed.
    pub retry: Option<Retry>,
    /// Schedulers, by their place in the list, that get the event of a task that failed for good. What fails in them
    /// goes no further.
    pub on_failure: Vec<usize>,
    /// A task that is due waits until the program says that its file has settled.
    pub settle: Option<Settle>,
    /// One run for many paths. There is no delay, no `singlejob`, no `max_delay`, no `settle` and no rule with it, and
    /// `on_busy` is [`OnBusy::Skip`]; `max_jobs` does not matter, since one run acts at a time.
    pub batch: Option<Batch>,
    /// Only paths that match one of these make tasks; `None`: all do.
    pub rules: Option<Arc<dyn Matcher>>,
    /// Its tasks are kept for another life of the daemon, where the program keeps any
    /// ([`Engine::keep_changes`](crate::Engine::keep_changes)).
    pub persist: bool,
}

/// What the tasks of a scheduler are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchedulerKind {
    /// Calls of a coroutine.
    Job,
    /// Shell commands. [`Engine::limit_commands`](crate::Engine::limit_commands) bounds them all together.
    Command,
    /// Actions on files.
    Rules,
}

/// At most so many starts in any span of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub starts: NonZeroU32,
    /// The span.
    pub span: Duration,
}

/// What an event does that comes while the task of its path runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBusy {
    /// Nothing.
    Skip,
    /// The task runs again afterwards, and is told that it may find nothing to do ([`Start::again`](crate::Start)).
    RunAgainIfChanged,
    /// The task runs once more, the delay after the run's end.
    Rerun,
    /// The run is stopped, and the task starts anew when it has ended.
    Restart,
}

/// When a task that failed is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How often at most; `None`: without end.
    pub times: Option<u32>,
    /// The first pause.
    pub delay: Duration,
    /// By how much each pause is longer than the one before.
    pub factor: f64,
    /// The longest pause.
    pub max_delay: Duration,
    /// By which part of itself a pause is longer or shorter at random; 0 to 1.
    pub jitter: f64,
    /// Which failures; `None`: all but interruptions.
    pub on: Option<RetryOn>,
}

/// The failures that are tried again; all others are final.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// Errors, unless the program says that one is final ([`Failure::is_final`](crate::Failure)).
    pub errors: bool,
    /// These statuses of a command.
    pub statuses: Vec<i32>,
    /// Timeouts.
    pub timeout: bool,
    /// Signals, and the statuses above 128 by which a shell tells of them.
    pub signal: bool,
}

/// How long the program is asked whether a file has settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    /// Pause between two questions.
    pub check: Duration,
    /// How long after it was first due a task fails for good.
    pub give_up: Duration,
    /// How long after a start of the daemon it does not, since its file is looked at anew.
    pub anew: Duration,
}

/// When a run begins that is for all paths which had events since the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// When no event came for so long,
    pub quiet: Duration,
    /// or so long after the first one,
    pub max_wait: Duration,
    /// or with so many paths; what is more goes into the next run.
    pub max_files: NonZeroU32,
}

impl SchedulerSpec {
    /// Whether nothing excludes the batch, if there is one.
    pub fn batch_is_alone(&self) -> bool {
        let SchedulerSpec { delay, singlejob, max_delay, on_busy, settle, rules, .. } = self;
        let is_plain = delay.is_zero() && !singlejob && *on_busy == OnBusy::Skip;
        self.batch.is_none() || (is_plain && max_delay.is_none() && settle.is_none() && rules.is_none())
    }

    /// A scheduler as the configuration's defaults make it: tasks for files, at once, one for each path, without limit.
    pub fn named(name: impl Into<String>) -> SchedulerSpec {
        SchedulerSpec {
            name: name.into(),
            kind: SchedulerKind::Job,
            files: true,
            dirs: false,
            delay: Duration::ZERO,
            singlejob: false,
            max_delay: None,
            max_jobs: None,
            max_rate: None,
            on_busy: OnBusy::Skip,
            timeout: None,
            retry: None,
            on_failure: Vec::new(),
            settle: None,
            batch: None,
            rules: None,
            persist: true,
        }
    }
}

/// What an event does, by its place in the configuration's list of schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Make, or put off, the task of the event's path.
    Schedule(usize),
    /// Forget the waiting task of the event's path.
    Cancel(usize),
}

/// The event map of one watch, with its exclude filter.
#[derive(Clone, Default)]
pub struct MapSpec {
    /// What each flag does, by [`event::Flag::index`]; done in the order of the list.
    pub reactions: [Vec<Reaction>; 15],
    /// Events whose path matches one of these are dropped.
    pub exclude: Option<Arc<dyn Matcher>>,
}

/// Names that [`Engine::add_generation`](crate::Engine::add_generation) gave to a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationIds {
    /// The configuration itself.
    pub id: GenerationId,
    /// Its schedulers, in the order of the list.
    pub schedulers: Range<u32>,
    /// Its maps, in the order of the list.
    pub maps: Range<u32>,
}

impl GenerationIds {
    /// The id of the scheduler at a place of the list.
    pub fn scheduler(&self, index: usize) -> SchedulerId {
        SchedulerId(self.schedulers.start + index as u32)
    }

    /// The id of the map at a place of the list.
    pub fn map(&self, index: usize) -> MapId {
        MapId(self.maps.start + index as u32)
    }
}

/// Why a configuration was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationError {
    /// As many configurations as [`Limits::generations_max`] still have tasks.
    TooMany,
    /// The engine shuts down.
    ShuttingDown,
    /// Ids have 32 bits, and all were given away.
    NumbersUsedUp,
}

impl fmt::Display for GenerationError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            GenerationError::TooMany => {
                "too many earlier configurations still have tasks; wait until some are done"
            }
            GenerationError::ShuttingDown => "the daemon shuts down",
            GenerationError::NumbersUsedUp => {
                "all numbers for schedulers and watches were used; restart the daemon"
            }
        })
    }
}

impl std::error::Error for GenerationError {}

/// The engine's limits; the head of the crate says what happens at each.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Tasks in all states.
    pub tasks_max: u32,
    /// Bytes that all tasks take with their paths, the path of a directory counted once for all tasks in it; so that a
    /// flood of names of four kilobytes is bounded as well.
    pub bytes_max: u64,
    /// Configurations that still have tasks, the newest included.
    pub generations_max: u32,
    /// Tasks that one [`Engine::tick`](crate::Engine::tick) starts for one scheduler.
    pub starts_per_tick_max: u32,
    /// Key of the hash of paths. It must be unknown to those who choose names: take it from getrandom(2).
    pub hash_seed: u64,
    /// What ids and the jitter of retries come from; another random number, as ids are no secret.
    pub random_seed: u64,
}

impl Default for Limits {
    /// The documented limits, with seeds of zero.
    fn default() -> Limits {
        Limits {
            tasks_max: 2_000_000,
            bytes_max: 256 << 20,
            generations_max: 1_000,
            starts_per_tick_max: 1_024,
            hash_seed: 0,
            random_seed: 0,
        }
    }
}
