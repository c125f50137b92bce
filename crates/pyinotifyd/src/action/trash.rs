//! Trashes: what has lain there for longer than a rule keeps it is removed, once an hour.
//!
//! A trash may be on a filesystem that does not answer, so that a worker of its lane empties it. One that is still
//! being emptied is left alone.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use super::{Lanes, Report};
use crate::lane::{LaneId, NotPerformed, Once, Size};
use crate::log::Escaped;

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// A trash was looked through.
#[derive(Debug)]
pub(crate) struct Emptied {
    /// The trash.
    pub trash: Vec<u8>,
    /// What was removed, or why nothing could be.
    pub result: Result<files::Swept, String>,
}

/// The trashes of the configuration in force.
#[derive(Debug, Default)]
pub(crate) struct Trashes {
    /// Each with the time for which its rules keep what comes there; the longest counts.
    kept: BTreeMap<Vec<u8>, Duration>,
    /// Those that are being looked through.
    at_work: Vec<Vec<u8>>,
    next: Option<Instant>,
}

impl Trashes {
    /// Sets what is to be kept for how long. The first look is now.
    pub(crate) fn set(&mut self, kept: impl IntoIterator<Item = (Vec<u8>, Duration)>, now: Instant) {
        self.kept.clear();
        for (trash, keep) in kept {
            let longest = self.kept.entry(trash).or_default();
            *longest = keep.max(*longest);
        }
        self.next = (!self.kept.is_empty()).then_some(now);
    }

    /// When there is something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Looks the trashes through, if it is time.
    pub(crate) fn tend(&mut self, lanes: &mut Lanes, now: Instant) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        self.next = Some(now + PERIOD);
        for (trash, keep) in &self.kept {
            if self.at_work.contains(trash) {
                continue;
            }
            self.at_work.push(trash.clone());
            let lane = LaneId::Filesystem(lanes.filesystems.of_directory(trash, now).device);
            submit(lane, trash, *keep, lanes, now);
        }
    }

    /// One was looked through.
    pub(crate) fn ended(&mut self, emptied: &Emptied) {
        self.at_work.retain(|trash| *trash != emptied.trash);
    }
}

fn submit(lane: LaneId, trash: &[u8], keep: Duration, lanes: &mut Lanes, now: Instant) {
    let about = format!("removal of what is old from the trash '{}'", Escaped(trash));
    let (trash, unseen) = (trash.to_vec(), trash.to_vec());
    let run = move || {
        let result = files::empty_trash(&trash, keep, SystemTime::now(), &AtomicBool::new(false));
        Report::Emptied(Emptied { trash, result: result.map_err(|error| error.to_string()) })
    };
    let not_performed = move |why: NotPerformed| {
        Report::Emptied(Emptied { trash: unseen.clone(), result: Err(why.to_string()) })
    };
    lanes.submit(lane, Size::Large, Once::new(about, run, not_performed), now);
}
