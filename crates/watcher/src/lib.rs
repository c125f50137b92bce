//! From kernel bytes to events: watches directory trees with inotify(7) so that no event is lost in silence.
//!
//! # Theory of operation
//!
//! inotify(7) watches single inodes, names nothing but a number and the last component, forgets to say where a renamed
//! directory went, and drops events when its queue is full. This crate turns that into events of whole trees with
//! right paths:
//!
//! - **One instance, one tree.** All watches share an inotify instance; an inode that several of them see has one wd
//!   with the union of their masks, and each event fans out to each watch under its own path. The tree holds names, not
//!   paths (some 50 bytes a directory), so that renaming a directory costs the same whatever lies below.
//! - **Watch, then list.** A new directory is opened below its parent, watched through the open descriptor, and then
//!   listed through it. What came before the watch is told as an *arrival*, a made-up event; what came after is queued.
//!   So nothing is missed, and an IN_CREATE that is both is told once.
//! - **The kernel is asked, not assumed.** Between an event and our look at it the world goes on. Whether a name still
//!   means the inode that the event was about is decided by adding a watch: the same inode gives the same wd. A name
//!   for which that is not certain is in doubt and looked at when the queue is empty; so at rest every directory is
//!   watched under its path. The argument is at the head of `watcher/doubt.rs`.
//! - **Overflow is an event like any other.** Afterwards every directory is compared by wd and every entry that changed
//!   since the queue was last known to be empty is told as an arrival. Each tree is looked at on its own, so that one
//!   that keeps the queue full keeps no other waiting (`watcher/recover.rs`). If it goes on it gets an instance of its
//!   own (`watcher/apart.rs`).
//! - **Roots are paths.** A root that is missing, deleted, replaced, unmounted or covered is waited for through its
//!   ancestors, and bound anew, with arrivals, when something stands there again.
//!
//! - **Nobody waits for a server.** The watcher of the loop asks only filesystems that are known to be local
//!   (`watcher/territory.rs`). Each other filesystem has a watcher of its own, with an inotify instance of its own,
//!   whose
//!   turns the caller has made on another thread: a [`Look`] goes out, a [`Found`] comes back. [`Inotify`] is all of
//!   them
//!   together; [`Source`] is what the program knows of it.
//!
//! Owns the path from the kernel's bytes to [`event::Event`]s for each watch. Knows no schedulers, filters no events
//! (an exclude filter only prunes directories), starts no threads, never sleeps, and keeps no descriptor open in a
//! watched directory beyond a turn but for a listing under way. Set-ups, walks, recoveries and changes of masks are
//! done in slices of some milliseconds. Time is passed in.
//!
//! # Bounds
//!
//! What is kept between events has a limit by number ([`Limits`]) or is bounded by something that has one:
//!
//! - Nodes, branches to be unwatched, and directories whose walk was put off or starves: by the directories that there
//!   are below the roots, one entry for each.
//! - Walks: at `walks_max` no events are read until some have ended. Then the kernel's queue holds the events, and if
//!   it
//!   overflows that is an overflow like any other.
//! - Names in doubt: past `doubts_max` everything is looked at again, as after an overflow.
//! - Moves, names told already, settling files: past their limits something is told twice, or a rename as a coming and
//!   a going.
//! - Ended watches whose last events are queued: by the queue; 65,536 are remembered, which matters only if the kernel
//!   counts its 2^31 numbers once around.
//! - Files closed without a name: those of one turn, and 256 that wait for a name for a minute.
//!
//! # Use
//!
//! ```no_run
//! # struct Log;
//! # impl watcher::Sink for Log {
//! #     fn event(&mut self, _: watcher::WatchId, _: &event::Event<'_>) {}
//! #     fn renamed(&mut self, _: watcher::WatchId, _: &[u8], _: Option<&[u8]>) {}
//! #     fn set_aside(&mut self, _: watcher::WatchId, _: &[u8], _: &[u8]) {}
//! #     fn notice(&mut self, _: watcher::Notice<'_>) {}
//! # }
//! use std::time::Instant;
//! use watcher::{Options, Turn, WatchSpec, Watcher};
//!
//! # fn main() -> Result<(), watcher::Error> {
//! # let mut sink = Log;
//! let mut watcher = Watcher::new(Options::new(b"/".to_vec()), Instant::now())?;
//! let spec = WatchSpec::trees(vec![b"/srv/in".to_vec()], event::Flag::CloseWrite | event::Flag::MovedTo);
//! watcher.add(&spec, Instant::now(), &mut sink)?;
//! loop {
//!     match watcher.turn(Instant::now(), &mut sink) {
//!         Turn::More => {}
//!         Turn::Pause(until) => std::thread::sleep(until.saturating_duration_since(Instant::now())),
//!         Turn::Idle => { /* poll(2) for watcher.inotify_fd() and mounts_fd(), until watcher.deadline() */ }
//!     }
//! }
//! # }
//! ```

mod cover;
pub mod decode;
mod error;
pub mod glob;
mod inotify;
mod kernel;
mod look;
mod lookup;
mod notice;
mod path;
mod pending;
mod source;
mod spec;
mod tree;
mod watcher;

pub use error::Error;
pub use inotify::Inotify;
pub use kernel::{Sysctl, watches_max};
pub use look::{Found, Look};
pub use lookup::{Dangling, dangling};
pub use notice::{Notice, Severity};
pub use rustix::io::Errno;
pub use source::Source;
pub use spec::{
    Exclude, Inode, Limits, News, Options, Problem, RootState, Sighting, Sink, Stats, Turn, WatchId,
    WatchSpec, WatchState,
};
pub use syscall::lease::Writers;
pub use watcher::Watcher;
