//! What tells events: the calls that the program makes of a source, whatever stands behind it.
//!
//! The program holds its source as a `Box<dyn Source>`, so that another one can take its place: one that tells what a
//! test has written down, for instance.
//!
//! A source never waits. What may wait for a server it gives away as a [`Look`], which is performed on a thread that
//! may wait, and whose [`Found`] comes back. A look that never ends costs the watches that it is about, and no others.
//!
//! Watches have numbers of their own ([`WatchId`]), which mean nothing to the kernel.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use event::Mask;

use crate::error::Error;
use crate::look::{Found, Look};
use crate::spec::{Sighting, Sink, Stats, Turn, WatchId, WatchSpec, WatchState};

/// See the module's head.
pub trait Source {
    /// Keeps room for these paths of watches that are to be added, in place of those for which it was kept before:
    /// none of these watches is refused then.
    ///
    /// # Errors
    /// [`Error::TooManyRoots`] if there is no room for all of them; none is kept.
    fn make_room(&mut self, paths: &[&[u8]]) -> Result<(), Error>;

    /// What these watches see is no news to watches that begin from here on: neither what is there
    /// ([`WatchSpec::initial`]) nor, on filesystems of this machine, what happens. The next call replaces it; it has
    /// to come before one of these watches is removed.
    fn pass_over(&mut self, seen_by: Vec<WatchId>);

    /// Begins to watch what `spec` says. Events are told as soon as [`Source::is_set_up`] says so, and some before.
    ///
    /// # Errors
    /// What keeps the watch from being made at all. Paths that can't be watched are notices, and are waited for.
    fn add(&mut self, spec: WatchSpec, now: Instant, sink: &mut dyn Sink) -> Result<WatchId, Error>;

    /// Whether a watch, with the interest that it was given last, is in force as far as it is on filesystems of this
    /// machine. What is elsewhere tells what has changed since it was added when it is watched.
    fn is_set_up(&self, watch: WatchId) -> bool;

    /// Whether one of a watch's paths at least is there and watched.
    fn is_watched(&self, watch: WatchId) -> bool;

    /// Changes what a watch wants told.
    fn set_interest(&mut self, watch: WatchId, interest: Mask, sink: &mut dyn Sink);

    /// Changes which of the events that a watch wants told make work.
    fn set_schedules(&mut self, watch: WatchId, schedules: Mask);

    /// Ends a watch: nothing is told of it any more.
    fn remove(&mut self, watch: WatchId, sink: &mut dyn Sink);

    /// Does a bounded amount of work, some milliseconds at most: tells events and notices.
    fn turn(&mut self, now: Instant, sink: &mut dyn Sink) -> Turn;

    /// Ends the pause of a busy tree ([`Turn::Pause`]): the next turn tells what has happened until then.
    fn end_pause(&mut self);

    /// When to call [`Source::turn`] though no descriptor is ready.
    fn deadline(&self) -> Option<Instant>;

    /// Readable when there are events of this machine's filesystems.
    fn events_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Readable when there are events of other filesystems.
    fn others_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Has POLLPRI when something was mounted or unmounted; then call [`Source::mounts_changed`].
    fn mounts_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Something was mounted or unmounted. The next turn says so, as each one does of what it notices by itself
    /// ([`crate::Notice::MountsChanged`]).
    fn mounts_changed(&mut self, now: Instant);

    /// The next look to be performed elsewhere, after a turn.
    fn next_look(&mut self, now: Instant) -> Option<Look>;

    /// A look is back.
    fn found(&mut self, found: Found, now: Instant, sink: &mut dyn Sink);

    /// Whether [`Source::rescan`] of a path goes through anything.
    fn can_rescan(&mut self, path: &[u8]) -> bool;

    /// Tells everything at and below a path as arrivals, in the turns to come; without a path, everything below all
    /// roots. How many trees are gone through: none if nobody watches the path.
    fn rescan(&mut self, path: Option<&[u8]>, now: Instant, sink: &mut dyn Sink) -> usize;

    /// The watches that see a path, each once.
    fn sightings(&mut self, path: &[u8]) -> Vec<Sighting>;

    /// How a watch stands.
    fn watch_state(&self, watch: WatchId) -> WatchState;

    /// How far the events of this machine's filesystems have been told. Grows with them, in a measure of its own.
    fn told(&self) -> u64;

    /// What [`Source::told`] says when all that is queued now has been told. Asks the kernel.
    fn queued(&self) -> u64;

    /// How many events [`Stats::events`] must count until all that are queued now have been told.
    fn events_after_all(&self) -> u64;

    /// After a turn that left nothing to do: whether nothing is left elsewhere either.
    fn is_quiet(&self) -> bool;

    /// How long the oldest event that is not read waits, at most. Asks the kernel.
    fn lag(&self, now: Instant) -> Duration;

    /// Until when everything that happened in what is watched has been told; `None` if something is still to be found
    /// out or cannot be. Changes before that are not told any more.
    fn complete_until(&self) -> Option<SystemTime>;

    /// Counters and sizes.
    fn stats(&self) -> Stats;
}
