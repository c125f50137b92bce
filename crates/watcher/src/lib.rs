//! From kernel bytes to events: watches directory trees with inotify(7) so that no event is lost in silence.
//!
//! To be completed.

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
pub use lease::Writers;
pub use notice::{Notice, Severity};
pub use rustix::io::Errno;
pub use spec::{Exclude, Limits, Options, Problem, Sink, Stats, Turn, WatchId, WatchSpec};
pub use watcher::Watcher;
