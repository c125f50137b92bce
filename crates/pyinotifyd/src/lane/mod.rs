//! Work that waits for something outside of this program: a filesystem, the database of users, a name server.
//!
//! The loop waits for nothing that it does not know to be quick, so it hands such work over. Owns the threads that do
//! it. Knows nothing of what the work is: its callers bring that along as [`Work`], and get what they report back in
//! the order in which it was reported.
//!
//! # Theory of operation
//!
//! A *lane* ([`LaneId`]) takes all work that waits for the same thing. It has a queue for each [`Size`] of work:
//! small, small but written to a disk, and large. Each queue has workers of its own, and no worker ever takes work
//! from another queue. So
//!
//! - a filesystem that does not answer stops the workers of its own lane, and nobody else's;
//! - a heap of huge copies keeps the few workers for large work busy, while small work on the same filesystem goes on;
//! - small files for a disk, which writes what many wait for in one go, have many workers without keeping processors
//!   busy.
//!
//! Where it is not known beforehand that work is large, it begins as small work; a worker that finds out that it is
//! large gives it back ([`Fit::TooLarge`]), and it moves to the queue for large work.
//!
//! One rule decides how many workers a queue has: one more joins, up to a limit, when the oldest work in the queue
//! has waited longer than [`pool::GROWTH`]. A worker without work sleeps, and ends after a while. The loop applies the
//! rule ([`Lanes::tend`]) at the times that [`Lanes::deadline`] names. Nothing here polls: without work there is no
//! deadline.
//!
//! The loop is woken for reports when the queue that they came from is empty, and at the latest [`pool::REPORT_PAUSE`]
//! after the last time: to wake a thread costs more than to move a small file.
//!
//! A worker that got on with nothing for [`pool::STALL`] is stalled. The kernel tells: a thread that waits is never
//! switched to. The first stalled worker of a lane makes a [`Notice`], and so does the end of the last one.

mod filesystems;
mod pool;
#[cfg(test)]
mod tests;

pub(crate) use filesystems::{Filesystem, Filesystems};
pub(crate) use pool::{Fit, Lanes, Limits, NotPerformed, Notice, Once, Size, Work};

/// What a lane's work waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LaneId {
    /// Two filesystems, or one twice: a file goes from the one to the other.
    Files {
        /// Device of the filesystem where it is.
        from: u64,
        /// Device of the filesystem where it goes.
        to: u64,
        /// The database of users, too: the result gets an owner by name.
        owner: bool,
    },
    /// One filesystem, by its device.
    Filesystem(u64),
    /// The database of users.
    Users,
    /// Processes of an earlier daemon.
    Leftovers,
    /// What found no room for a lane of its own.
    Crowded,
}

impl LaneId {
    /// What does not answer if work in the lane makes no progress.
    pub(crate) fn answers(self) -> &'static str {
        match self {
            LaneId::Files { owner: false, .. } | LaneId::Filesystem(_) => "a filesystem",
            LaneId::Files { owner: true, .. } | LaneId::Crowded => "a filesystem or the database of users",
            LaneId::Users => "the database of users",
            LaneId::Leftovers => "a process",
        }
    }
}
