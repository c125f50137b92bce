//! Runs of replaced configurations, as the schedulers see them that take the place of theirs: an event for a path of
//! such a run is treated as if there had been no reload.

use std::collections::HashMap;

use event::Event;

use crate::generation::{Generation, place_of};
use crate::path::Path;
use crate::scheduler::{Phase, Scheduler};
use crate::tasks::{Slot, Tasks};
use crate::turn::Turn;
use crate::verdict::Verdict;
use crate::{Effects, MapId, Reaction, SchedulerId};

/// The run of an elder.
#[derive(Clone, Copy)]
pub(crate) struct Elder {
    /// Place of its configuration among the older ones,
    generation: usize,
    /// and of its scheduler there.
    scheduler: usize,
    pub(crate) slot: Slot,
}

/// Lets the schedulers of the newest configuration and those of their names and kinds in older ones know each other.
pub(crate) fn link(generations: &mut [Generation]) {
    let Some((newest, older)) = generations.split_last_mut() else { return };
    let mut elders: HashMap<_, Vec<SchedulerId>> = HashMap::new();
    for elder in older.iter().rev().flat_map(Generation::schedulers) {
        elders.entry(elder.likeness()).or_default().push(elder.id());
    }
    for heir in newest.schedulers_mut() {
        heir.set_elders(elders.get(&heir.likeness()).cloned().unwrap_or_default());
    }
    // Of several heirs the first is the one.
    for heir in newest.schedulers().iter().rev() {
        for elder in heir.elders() {
            if let Some((at, place)) = place_of(older, *elder) {
                older[at].schedulers_mut()[place].set_heir(heir.id());
            }
        }
    }
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
    heir.elders().iter().find_map(|elder| {
        let (generation, scheduler) = place_of(older, *elder)?;
        let slot = older[generation].schedulers()[scheduler].run_of(heir, path, tasks)?;
        Some(Elder { generation, scheduler, slot })
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
