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
//!   means the inode that the event was about is decided by adding a watch: the same inode gives the same wd. What
//!   can't be decided while events are queued waits until the queue is empty.
//! - **Overflow is an event like any other.** Afterwards every directory is compared by wd and every entry that changed
//!   since the queue was last known to be empty is told as an arrival.
//! - **Roots are paths.** A root that is missing, deleted, replaced, unmounted or covered is waited for through its
//!   ancestors, and bound anew, with arrivals, when something stands there again.
//!
//! Owns the path from the kernel's bytes to [`event::Event`]s for each watch. Knows no schedulers, filters no events
//! (an exclude filter only prunes directories), starts no threads, never sleeps, and keeps no descriptor open in a
//! watched directory beyond a turn but for one listing under way. Time is passed in.
//!
//! # Use
//!
//! ```no_run
//! # struct Log;
//! # impl watcher::Sink for Log {
//! #     fn event(&mut self, _: watcher::WatchId, _: &event::Event<'_>) {}
//! #     fn notice(&mut self, _: watcher::Notice<'_>) {}
//! # }
//! use std::time::Instant;
//! use watcher::{Options, Turn, WatchSpec, Watcher};
//!
//! # fn main() -> Result<(), watcher::Error> {
//! # let mut sink = Log;
//! let mut watcher = Watcher::new(Options::new(b"/".to_vec()), Instant::now())?;
//! let spec = WatchSpec {
//!     paths: vec![b"/srv/in".to_vec()],
//!     rec: true,
//!     auto_add: true,
//!     interest: event::Flag::CloseWrite | event::Flag::MovedTo,
//!     exclude: None,
//! };
//! watcher.add(spec, Instant::now(), &mut sink)?;
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
mod filesystem;
mod glob;
mod kernel;
mod notice;
mod path;
mod pending;
mod spec;
mod tree;
mod watcher;

pub use error::Error;
pub use filesystem::network_filesystem;
pub use kernel::{Sysctl, watches_max};
pub use lease::Writers;
pub use notice::{Notice, Severity};
pub use rustix::io::Errno;
pub use spec::{Exclude, Limits, Options, Problem, Sink, Stats, Turn, WatchId, WatchSpec};
pub use watcher::Watcher;
