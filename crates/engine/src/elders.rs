//! Runs of replaced configurations, as the schedulers see them that take the place of theirs: an event for a path of
//! such a run is treated as if there had been no reload.

use event::Event;

use crate::generation::Generation;
use crate::path::Path;
use crate::scheduler::{Phase, Scheduler};
use crate::tasks::{Slot, Tasks};
use crate::turn::Turn;
use crate::verdict::Verdict;
use crate::{Effects, MapId, Reaction};

/// The run of an elder.
#[derive(Clone, Copy)]
pub(crate) struct Elder {
    /// Place of its configuration among the older ones,
    generation: usize,
    /// and of its scheduler there.
    scheduler: usize,
    pub(crate) slot: Slot,
}

/// The run that an event of a path meets, among those of older configurations.
#[inline]
pub(crate) fn find(
    older: &[Generation],
    (heir, phase): (&Scheduler, Phase),
    path: &Path<'_>,
    tasks: &Tasks,
) -> Option<Elder> {
    if older.is_empty() { None } else { look(older, (heir, phase), path, tasks) }
}

#[cold]
fn look(
    older: &[Generation],
    (heir, phase): (&Scheduler, Phase),
    path: &Path<'_>,
    tasks: &Tasks,
) -> Option<Elder> {
    let hears = !heir.has_heir() && !matches!(phase, Phase::Retired { .. });
    // With a batch, what comes during a run is for the next one.
    if !hears || heir.spec().batch.is_some() || heir.find(path, tasks).is_some() {
        return None;
    }
    older.iter().enumerate().rev().find_map(|(generation, one)| {
        let schedulers = one.schedulers().iter().enumerate();
        let mut runs = schedulers.filter_map(|(at, elder)| Some((at, elder.run_of(heir, path, tasks)?)));
        runs.next().map(|(scheduler, slot)| Elder { generation, scheduler, slot })
    })
}

/// Lets an event that came through `map` meet the run of an elder.
#[cold]
pub(crate) fn meet<E: Effects>(
    older: &mut [Generation],
    elder: Elder,
    (heir, phase): (&Scheduler, Phase),
    reaction: Reaction,
    (path, event, map): (&Path<'_>, &Event<'_>, MapId),
    turn: &mut Turn<'_, E>,
) {
    let verdict = heir.judge_elder(phase, reaction, (path, event.is_dir), elder.slot, turn.tasks);
    if let Verdict::Ignored(reason) = verdict {
        return heir.ignore(reason, event, turn);
    }
    let generation = &mut older[elder.generation];
    let map = generation.predecessor(map);
    let id = generation.schedulers()[elder.scheduler].id();
    generation.with_scheduler(id, turn, |elder, turn| elder.perform(verdict, path, event, map, turn));
}
