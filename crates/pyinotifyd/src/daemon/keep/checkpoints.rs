//! When a checkpoint is written: with each batch that leaves nothing out, and once more when it has been quiet.

use std::time::{Duration, Instant, SystemTime};

use ledger::{Batch, Told};

use crate::daemon::observe::wall_seconds;

/// A checkpoint is written so long after the latest event, beside those that go with other changes.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(3);

/// When a checkpoint is to be written, and which was the latest.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pub(super) latest_s: Option<f64>,
    /// Events that were read when this was looked at last, and when there was another one.
    events: u64,
    event_at: Option<Instant>,
    /// When one is to be written, whatever else is.
    pub(super) due_at: Option<Instant>,
    /// The daemon ends: no checkpoint follows but that of its end, if there can be one.
    ends: bool,
    last: Option<(f64, Vec<Told>)>,
}

impl Checkpoints {
    pub(super) fn new(latest_s: Option<f64>) -> Checkpoints {
        // The first one tells the next daemon from where on this one has watched.
        Checkpoints { latest_s, events: u64::MAX, event_at: None, due_at: None, ends: false, last: None }
    }

    /// The daemon ends: what happens from here on is for the next one. `last` is the checkpoint of the end, if there
    /// can be one, with what was told before it.
    pub(super) fn end(&mut self, last: Option<(f64, Vec<Told>)>) {
        self.ends = true;
        self.last = last;
    }

    /// Notes how many events were read; whether a checkpoint is to be written now.
    pub(super) fn note(&mut self, events: u64, now: Instant) -> bool {
        if self.events != events {
            self.events = events;
            self.event_at = Some(now);
            self.due_at.get_or_insert(now + CHECKPOINT_PAUSE);
        }
        self.due_at.is_some_and(|at| at <= now) && !self.ends
    }

    /// Gives a batch that has all changes its checkpoint; `complete` is up to when everything was told.
    pub(super) fn take(&mut self, complete: Option<SystemTime>, now: Instant, batch: &mut Batch) {
        if self.ends {
            self.due_at = None;
            if let Some((last_s, told)) = self.last.take() {
                (batch.checkpoint_s, batch.told) = (Some(last_s), told);
            }
            return;
        }
        let Some(complete) = complete else {
            // Something is still to be found out, or may never be: it is tried again.
            self.due_at = self.due_at.map(|_| now + CHECKPOINT_PAUSE);
            return;
        };
        // One more when it has been quiet for so long.
        let quiet_at = self.event_at.map(|at| at + CHECKPOINT_PAUSE);
        self.due_at = quiet_at.filter(|at| *at > now);
        let complete_s = wall_seconds(complete);
        self.latest_s = Some(complete_s);
        batch.checkpoint_s = Some(complete_s);
    }
}
