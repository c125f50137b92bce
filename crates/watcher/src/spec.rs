//! What a user of the crate asks for, and what it is told in turn.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use event::{Event, Mask};
use std::os::fd::BorrowedFd;
use syscall::lease::{Writers, writers};

use crate::notice::Notice;

/// Number of a watch: one `Watch(...)` of the configuration with all its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub u32);

/// Says of the absolute path of a directory whether it and everything below it stays unwatched.
pub type Exclude = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What is told of what is found when a path is watched for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// All of it.
    Everything,
    /// What has changed since then, as far as times tell. A directory that is new there, and that was not changed but
    /// moved, has everything in it told.
    Since(SystemTime),
}

/// What to watch.
#[derive(Clone)]
pub struct WatchSpec {
    /// Paths as configured: Python globs, relative ones are meant from [`Options::cwd`].
    pub paths: Vec<Vec<u8>>,
    /// Watch the subdirectories that exist already, to any depth.
    pub rec: bool,
    /// Watch subdirectories that come later, to any depth.
    pub auto_add: bool,
    /// The events that are wanted; any of the fifteen flags.
    pub interest: Mask,
    /// Those of them that make work of files. A file that was moved in with its directory is told as IN_MOVED_TO to a
    /// watch for which neither its IN_CREATE nor its IN_CLOSE_WRITE makes any.
    pub schedules: Mask,
    /// Directories that are not to be watched; prunes.
    pub exclude: Option<Exclude>,
    /// What is told of what is there when the watch begins, as arrivals; `None`: nothing.
    pub initial: Option<News>,
}

impl WatchSpec {
    /// Whole trees, with what comes in them later. Each event that is wanted makes work, and nothing is told of what is
    /// there already.
    pub fn trees(paths: Vec<Vec<u8>>, interest: Mask) -> WatchSpec {
        WatchSpec {
            paths,
            rec: true,
            auto_add: true,
            interest,
            schedules: interest,
            exclude: None,
            initial: None,
        }
    }
}

impl fmt::Debug for WatchSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("WatchSpec")
            .field("paths", &self.paths)
            .field("rec", &self.rec)
            .field("auto_add", &self.auto_add)
            .field("interest", &self.interest)
            .field("schedules", &self.schedules)
            .field("exclude", &self.exclude.is_some())
            .field("initial", &self.initial)
            .finish()
    }
}

/// Where events and notices go. Called while the watcher works, so it must be quick.
pub trait Sink {
    /// One event for one watch; only flags of the watch's interest.
    fn event(&mut self, watch: WatchId, event: &Event<'_>);
    /// A directory that the watch sees, with everything below it, has another path from here on. `to` is `None` if the
    /// watch does not see it any more. Comes after the event that says so.
    fn renamed(&mut self, watch: WatchId, from: &[u8], to: Option<&[u8]>);
    /// A directory that the watch sees, with everything below it, has lost its name to another one, and is nowhere. It
    /// is told as renamed from `aside`, a path that nothing can have, before the turn ends: to its place by the other
    /// half of an exchange, or to where it was if there is none.
    fn set_aside(&mut self, watch: WatchId, path: &[u8], aside: &[u8]);
    /// Something that a person should know, or ([`crate::Severity::Silent`]) that the caller must act on.
    fn notice(&mut self, notice: Notice<'_>);
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn event(&mut self, watch: WatchId, event: &Event<'_>) {
        (**self).event(watch, event);
    }

    fn renamed(&mut self, watch: WatchId, from: &[u8], to: Option<&[u8]>) {
        (**self).renamed(watch, from, to);
    }

    fn set_aside(&mut self, watch: WatchId, path: &[u8], aside: &[u8]) {
        (**self).set_aside(watch, path, aside);
    }

    fn notice(&mut self, notice: Notice<'_>) {
        (**self).notice(notice);
    }
}

/// What the caller does after [`crate::Watcher::turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is left: wait until the descriptor is readable (or the deadline comes).
    Idle,
    /// There is more to do right now: look after other things, then call again without waiting.
    More,
    /// The tree is busy: come back at this time, and don't wait for the descriptor meanwhile. Reading in gulps is
    /// several times cheaper an event.
    Pause(Instant),
}

/// Device and inode.
pub type Inode = (u64, u64);

/// Fixed properties of a watcher.
#[derive(Clone, Debug)]
pub struct Options {
    /// Absolute path of the directory from which relative paths are meant.
    pub cwd: Vec<u8>,
    /// Whether the name of an entry is that of a temporary file of our own: such entries are never reported, and their
    /// final rename is reported as an arrival.
    pub own_name: fn(&[u8]) -> bool,
    /// Whether that is so in this directory (device and inode); asked only of names that [`Options::own_name`] is true
    /// of.
    pub own_entry: fn(Inode, &[u8]) -> bool,
    /// Whether a directory of this name was lately put into its place by ourselves, whole and from where nobody
    /// watches: what is in it is as new as if it had been made there, and is reported as arrivals.
    pub own_tree: fn(&[u8]) -> bool,
    /// Whether it is the directory with this device and inode that we have put there, in a directory with this device
    /// and inode; true once for each. Asked only of names that [`Options::own_tree`] is true of.
    pub take_own_tree: fn(Inode, &[u8], Inode) -> bool,
    /// How to learn whether a file is open for writing; [`syscall::lease::writers`] except in tests.
    pub writers: fn(BorrowedFd<'_>) -> Writers,
    /// Bounds of queues and of work.
    pub limits: Limits,
}

impl Options {
    /// The usual properties.
    pub fn new(cwd: Vec<u8>) -> Options {
        Options {
            cwd,
            own_name: |_| false,
            own_entry: |_, _| true,
            own_tree: |_| false,
            take_own_tree: |_, _, _| true,
            writers,
            limits: Limits::default(),
        }
    }
}

/// Bounds of queues and of work. Each has its reason beside its default.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one read(2) from the kernel's queue.
    pub read_bytes: usize,
    /// Units of work in one turn; an event is one, about 0.3 microseconds.
    pub turn_units: u32,
    /// `IN_MOVED_FROM` events that wait for their `IN_MOVED_TO`.
    pub moves_max: usize,
    /// How long they wait.
    pub move_age: Duration,
    /// Names that are remembered so that an arrival and the kernel's event are not both told.
    pub young_max: usize,
    /// Names of directories that are looked at again when the queue is empty.
    pub doubts_max: usize,
    /// Directories that wait to be listed; beyond them nothing is read from the kernel's queue.
    pub walks_max: usize,
    /// Files whose writers are unknown and that are looked at a second time.
    pub settling_max: usize,
    /// How long such a file must stay unchanged.
    pub settle: Duration,
    /// First pause between attempts to watch what a limit has refused; doubles up to `retry_max`.
    pub retry: Duration,
    /// Longest such pause.
    pub retry_max: Duration,
    /// The pause of a busy tree ([`Turn::Pause`]).
    pub pause: Duration,
    /// Notices of one kind that are told in a minute; the rest is counted.
    pub notices_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Half of a full queue of short names (16,384 events of 32 bytes).
            read_bytes: 256 * 1024,
            // About 5 ms: nothing else in the program waits longer for its turn.
            turn_units: 16 * 1024,
            // The default length of the kernel's queue: more pairs can't be under way in it.
            moves_max: 16 * 1024,
            // What the original keeps.
            move_age: Duration::from_secs(60),
            // 16 bytes each; past it a file may be told twice, which is allowed, in place of never.
            young_max: 64 * 1024,
            // Some 100 bytes each; past it all directories are looked at again, as after an overflow.
            doubts_max: 16 * 1024,
            // Some 200 bytes each; as many as a full queue of new directories starts.
            walks_max: 16 * 1024,
            // Some 100 bytes each; past it a file is told at once, possibly before its writer is done.
            settling_max: 16 * 1024,
            // Longer than the granularity of times on any usual filesystem but FAT's.
            settle: Duration::from_millis(250),
            retry: Duration::from_secs(5),
            retry_max: Duration::from_secs(300),
            // What a turn costs beside its events is then less than a tenth of it, and a file that comes in a storm
            // waits for 0.7 ms on average.
            pause: Duration::from_micros(1400),
            notices_max: 10,
        }
    }
}

/// How one path of a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootState {
    /// It is watched.
    Watched,
    /// Nothing stands there, or nothing that may be watched: it is waited for.
    Waiting,
    /// A limit of the kernel keeps it, or something below it, unwatched.
    Limited,
    /// It is on a filesystem that may not answer, whose watcher has to be asked.
    Elsewhere,
}

/// How a watch stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchState {
    /// Watches that the kernel holds for it, one a directory.
    pub kernel_watches: usize,
    /// Its paths. A pattern stands for itself while nothing matches it.
    pub roots: Vec<(Vec<u8>, RootState)>,
}

/// A watch that sees a path; what an event of the path has through it (`event::Event`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The watch.
    pub watch: WatchId,
    /// Watch descriptor of the directory, or of the path itself; 0 if it is not known here.
    pub wd: i32,
    /// Length of the root's path.
    pub root_len: u16,
    /// Length of the name at the end of the path.
    pub name_len: u16,
    /// The directory as the configuration gave it, where that is relative.
    pub given_path: Option<Vec<u8>>,
}

/// What is wrong with a path before it is watched ([`crate::Watcher::check`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A pattern that matches nothing.
    NoMatch,
    /// The path does not exist (it would be waited for).
    Missing,
    /// The path exists but can't be watched.
    CannotWatch(rustix::io::Errno),
}

impl Stats {
    /// Adds those of another watcher.
    pub(crate) fn add(&mut self, other: &Stats) {
        self.watches += other.watches;
        self.nodes += other.nodes;
        self.tree_bytes += other.tree_bytes;
        self.events += other.events;
        self.delivered += other.delivered;
        self.synthetic += other.synthetic;
        self.reads += other.reads;
        self.overflows += other.overflows;
        self.starved += other.starved;
        self.queued += other.queued;
    }
}

/// Counters and sizes, for status and benchmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Watches held in the kernel, those of ancestors included.
    pub watches: usize,
    /// Nodes of the tree.
    pub nodes: usize,
    /// Bytes allocated by the tree and its tables.
    pub tree_bytes: usize,
    /// Events read from the kernel.
    pub events: u64,
    /// Events told to watches, arrivals included.
    pub delivered: u64,
    /// Events made up for what was found.
    pub synthetic: u64,
    /// Reads from the kernel's queue.
    pub reads: u64,
    /// Overflows of the kernel's queue.
    pub overflows: u64,
    /// Directories that a limit keeps unwatched at present.
    pub starved: usize,
    /// Entries of all bounded queues together (moves, young names, walks, files that settle).
    pub queued: usize,
}
