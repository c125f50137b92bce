//! The sweep: temporary files that an earlier run left in the directories where file rules make their results, and
//! beside the files that they were working on.
//!
//! One directory of a filesystem is swept at a time, as large work on the lane of that filesystem. A directory that
//! waits for its sweep is not noted twice, so that reloads while a filesystem hangs cost nothing.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use hashbrown::HashMap;

use super::{Lanes, Report};
use crate::lane::{LaneId, NotPerformed, Once, Size};
use crate::log::Escaped;

/// Directories that wait for their sweep. What comes beyond is left to the next start.
const WAITING_MAX: usize = 4_096;

/// What is swept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub directory: Vec<u8>,
    /// All that is below it, too.
    pub is_tree: bool,
}

/// The sweep of one directory came to its end.
#[derive(Debug)]
pub(crate) struct Swept {
    lane: LaneId,
    /// Where.
    pub area: Area,
    /// How many files were removed.
    pub removed: u64,
}

/// Sweeps under way and to come.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    /// By lane: the directory that is swept now, then those that wait.
    lanes: HashMap<LaneId, Vec<Area>>,
}

impl Sweeps {
    /// Asks for these sweeps.
    pub(crate) fn order(&mut self, areas: impl IntoIterator<Item = Area>, lanes: &mut Lanes, now: Instant) {
        for area in areas {
            let lane = LaneId::Filesystem(lanes.filesystems.of_directory(&area.directory, now).device);
            let waiting: usize = self.lanes.values().map(Vec::len).sum();
            let of_lane = self.lanes.entry(lane).or_default();
            if waiting >= WAITING_MAX || of_lane.contains(&area) {
                continue;
            }
            of_lane.push(area);
            if let [only] = of_lane.as_slice() {
                submit(lane, only.clone(), lanes, now);
            }
        }
    }

    /// Goes on with the next directory of the lane.
    pub(crate) fn ended(&mut self, swept: &Swept, lanes: &mut Lanes, now: Instant) {
        let Some(of_lane) = self.lanes.get_mut(&swept.lane) else { return };
        of_lane.retain(|area| *area != swept.area);
        match of_lane.first() {
            Some(next) => submit(swept.lane, next.clone(), lanes, now),
            None => {
                self.lanes.remove(&swept.lane);
            }
        }
    }
}

fn submit(lane: LaneId, area: Area, lanes: &mut Lanes, now: Instant) {
    let about = format!("sweep of temporary files below '{}'", Escaped(&area.directory));
    let unswept = area.clone();
    let run = move || {
        // A destination that does not exist yet holds nothing of ours.
        let swept = files::sweep(&area.directory, area.is_tree, &AtomicBool::new(false));
        let removed = swept.map_or(0, |swept| swept.removed);
        Report::Swept(Swept { lane, area, removed })
    };
    // Left to the next start.
    let not_performed =
        move |_: NotPerformed| Report::Swept(Swept { lane, area: unswept.clone(), removed: 0 });
    lanes.submit(lane, Size::Large, Once::new(about, run, not_performed), now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Limits;

    #[test]
    fn a_directory_that_waits_for_its_sweep_is_not_noted_twice() {
        let (mut sweeps, mut lanes) = (Sweeps::default(), Lanes::new(Limits::default()));
        let now = Instant::now();
        let areas = |range: std::ops::Range<usize>| -> Vec<Area> {
            let directory = |number| format!("/nowhere/{number}/").into_bytes();
            range.map(|number| Area { directory: directory(number), is_tree: true }).collect()
        };
        for _ in 0..30 {
            sweeps.order(areas(0..3), &mut lanes, now);
        }
        assert_eq!(sweeps.lanes.values().map(Vec::len).collect::<Vec<_>>(), [3]);
        // One at a time, until none is left.
        let lane = *sweeps.lanes.keys().next().unwrap();
        for area in areas(0..3) {
            assert_eq!(sweeps.lanes[&lane][0], area);
            sweeps.ended(&Swept { lane, area, removed: 0 }, &mut lanes, now);
        }
        assert!(sweeps.lanes.is_empty());
        sweeps.order(areas(0..WAITING_MAX * 2), &mut lanes, now);
        assert_eq!(sweeps.lanes[&lane].len(), WAITING_MAX);
    }
}
