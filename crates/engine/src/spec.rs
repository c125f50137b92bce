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

/// One load of the configuration, numbered for the life of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(pub u32);

/// A task's serial number, never given twice. The program derives from it the id that logs and jobs show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

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
#[expect(
    clippy::struct_excessive_bools,
    reason = "these are the arguments of the configuration, by their names"
)]
#[derive(Clone)]
pub struct SchedulerSpec {
    /// Its name, by which people and later configurations know it.
    pub name: String,
    /// Makes tasks for what is not a directory.
    pub files: bool,
    /// Makes tasks for directories.
    pub dirs: bool,
    /// How long a task waits, counted anew from each event; zero: it starts at once.
    pub delay: Duration,
    /// One task at a time, whatever the path.
    pub singlejob: bool,
    /// How many tasks may run at once; the others wait in order.
    pub max_jobs: Option<NonZeroU32>,
    /// An event that comes while the task of its path runs makes it run again afterwards (file rules).
    pub retry_if_changed: bool,
    /// Only paths that match one of these make tasks; `None`: all do.
    pub rules: Option<Arc<dyn Matcher>>,
}

impl SchedulerSpec {
    /// A scheduler as the configuration's defaults make it: tasks for files, at once, one for each path, without limit.
    pub fn named(name: impl Into<String>) -> SchedulerSpec {
        SchedulerSpec {
            name: name.into(),
            files: true,
            dirs: false,
            delay: Duration::ZERO,
            singlejob: false,
            max_jobs: None,
            retry_if_changed: false,
            rules: None,
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
}

impl Default for Limits {
    /// The documented limits, with a seed of zero.
    fn default() -> Limits {
        Limits {
            tasks_max: 2_000_000,
            bytes_max: 256 << 20,
            generations_max: 1_000,
            starts_per_tick_max: 1_024,
            hash_seed: 0,
        }
    }
}
