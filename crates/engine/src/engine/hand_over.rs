//! Tasks that go on in the configuration that takes the place of theirs, and commands that share their places.

use std::collections::VecDeque;
use std::time::Instant;

use super::Engine;
use crate::clock::Nanos;
use crate::scheduler::{Phase, Scheduler};
use crate::tasks::Slot;
use crate::{Effects, MapId, SchedulerKind};

/// The map of a task whose watch the configuration in force does not have.
const NO_MAP: MapId = MapId(u32::MAX);

impl Engine {
    /// Gives the tasks to come of a configuration to schedulers of the same name and kind in the one in force.
    pub(super) fn hand_over(&mut self, now: Instant, from: usize, out: &mut impl Effects) {
        let Some(to) = self.generations.iter().rposition(|one| one.phase() == Phase::Active) else { return };
        if to == from {
            return;
        }
        let mut moved: Vec<(usize, Vec<Slot>, VecDeque<Nanos>)> = Vec::new();
        let [old, new] = self.generations.get_disjoint_mut([from, to]).expect("they are two");
        for scheduler in old.schedulers_mut() {
            let heir = new.schedulers().iter().position(|other| other.is_like(scheduler));
            if let Some(heir) = heir {
                moved.push((heir, scheduler.give_to_come(&mut self.tasks), scheduler.take_starts()));
            }
        }
        old.note_deadlines(&self.tasks);
        old.schedulers_mut().iter_mut().for_each(|scheduler| scheduler.tell_completed_to(out));
        for (heir, slots, starts) in moved {
            let heir = &mut self.generations[to].schedulers_mut()[heir];
            heir.inherit_starts(starts);
            let id = heir.id();
            for slot in slots {
                let map = self.generations[from].successor(self.tasks.map(slot)).unwrap_or(NO_MAP);
                let (generations, mut turn) = self.turn(now, out);
                generations[to].with_scheduler(id, &mut turn, |scheduler, turn| {
                    scheduler.adopt(slot, map, turn);
                });
            }
        }
    }

    /// Starts commands that are queued, in the order in which they came, as long as there are places.
    pub(super) fn fill_commands(&mut self, out: &mut impl Effects) {
        self.commands.to_fill = false;
        let now = self.clock.now();
        loop {
            let schedulers = self.generations.iter().enumerate();
            let schedulers = schedulers
                .flat_map(|(at, one)| one.schedulers().iter().map(move |scheduler| (at, scheduler)));
            let ready = |scheduler: &Scheduler| {
                scheduler.spec().kind == SchedulerKind::Command && scheduler.can_start(now, &self.commands)
            };
            let first = schedulers
                .filter(|(_, scheduler)| ready(scheduler))
                .filter_map(|(at, scheduler)| {
                    Some((scheduler.queued_since(&self.tasks)?, at, scheduler.id()))
                })
                .min();
            let Some((_, at, id)) = first else { return };
            let (generations, mut turn) = self.turn_at(now, out);
            generations[at].with_scheduler(id, &mut turn, Scheduler::run_first_queued);
        }
    }
}
