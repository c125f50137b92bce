//! Tasks that go on in the configuration that takes the place of theirs, and commands that share their places.

use super::Engine;
use crate::generation;
use crate::scheduler::Scheduler;
use crate::tasks::{Mark, Slot, State, Tasks};
use crate::{Effects, MapId, SchedulerId, SchedulerKind};

/// Puts the task first that has the latest event, as far as its state tells: what waits for its delay heard of its
/// event after what was due before.
fn latest_first(slots: &mut [Slot], tasks: &Tasks) {
    let age = |slot: Slot| {
        let rank = match tasks.state(slot) {
            State::Waiting => 2,
            State::Gathered | State::Queued => 1,
            State::PutOff
            | State::Retrying
            | State::Settling
            | State::Asked
            | State::Left
            | State::Running
            | State::Stopping
            | State::Taken => 0,
        };
        (rank, tasks.time(slot))
    };
    let keyed = slots.iter().enumerate().filter(|(_, slot)| !tasks.has(**slot, Mark::Keyless));
    if let Some((latest, _)) = keyed.max_by_key(|(_, slot)| age(**slot)) {
        slots[..=latest].rotate_right(1);
    }
}

impl Engine {
    /// Gives what replaced configurations have to come to schedulers of the same name and kind in newer ones.
    pub(super) fn hand_over_all(&mut self, out: &mut impl Effects) {
        for at in 0..self.generations.len() {
            for place in 0..self.generations[at].schedulers().len() {
                self.hand_over((at, place), out);
            }
        }
    }

    /// The same of what came up in one of them since: what a run left, or a failure to be told.
    pub(super) fn hand_over_left(&mut self, at: usize, out: &mut impl Effects) {
        if !self.generations[at].has_left() {
            return;
        }
        for place in 0..self.generations[at].schedulers().len() {
            if self.generations[at].schedulers()[place].has_left() {
                self.hand_over((at, place), out);
            }
        }
    }

    /// A run is over in a configuration that is not the newest: there may be a place, and what is to come again goes on
    /// where the others went.
    pub(super) fn ended_elsewhere(&mut self, at: usize, id: SchedulerId, out: &mut impl Effects) {
        let place = (id.0 - self.generations[at].first_scheduler()) as usize;
        let heir = self.heir(at, place);
        if let Some(heir) = heir {
            self.count_elders(heir);
        }
        self.hand_over_left(at, out);
        if let Some((at, place)) = heir {
            let (generations, mut turn) = self.turn_at(self.clock.now(), out);
            let id = generations[at].schedulers()[place].id();
            generations[at].with_scheduler(id, &mut turn, Scheduler::fill_places);
        }
    }

    /// Where the tasks of a scheduler go on.
    fn heir(&self, at: usize, place: usize) -> Option<(usize, usize)> {
        let heir = self.generations[at].schedulers()[place].heir()?;
        generation::place_of(&self.generations, heir)
    }

    fn count_elders(&mut self, (at, place): (usize, usize)) {
        let (older, rest) = self.generations.split_at_mut(at);
        rest[0].schedulers_mut()[place].count_elders(|elder| {
            let (at, place) = generation::place_of(older, elder)?;
            Some(&older[at].schedulers()[place])
        });
        rest[0].note_deadline(place, &self.tasks);
    }

    fn hand_over(&mut self, (from, place): (usize, usize), out: &mut impl Effects) {
        let Some((to, heir_place)) = self.heir(from, place) else { return };
        let elder = &mut self.generations[from].schedulers_mut()[place];
        elder.give_way();
        let batch_due = elder.batch_due(&self.tasks);
        let mut slots = elder.give_to_come(&mut self.tasks);
        let starts = elder.take_starts();
        elder.tell_completed_to(out);
        self.generations[from].note_deadline(place, &self.tasks);
        let heir = &mut self.generations[to].schedulers_mut()[heir_place];
        heir.inherit_starts(starts);
        if heir.spec().singlejob {
            latest_first(&mut slots, &self.tasks);
        }
        let id = heir.id();
        self.count_elders((to, heir_place));
        for slot in slots {
            let map = self.generations[from].successor(self.tasks.map(slot));
            let map = map.filter(|map| self.generations[to].has_map(*map)).unwrap_or(MapId::NONE);
            let (generations, mut turn) = self.turn_at(self.clock.now(), out);
            generations[to]
                .with_scheduler(id, &mut turn, |heir, turn| heir.adopt(slot, (map, batch_due), turn));
        }
    }

    /// Starts tasks of one kind that are queued, in the order in which they came, as long as there are places.
    #[cold]
    pub(super) fn fill(&mut self, kind: SchedulerKind, out: &mut impl Effects) {
        let now = self.clock.now();
        loop {
            let mut first = None;
            for at in 0..self.generations.len() {
                let (generations, mut turn) = self.turn_at(now, out);
                for scheduler in generations[at].schedulers() {
                    let Some(since) = scheduler.queued_since(turn.tasks) else { continue };
                    let key = (since, at, scheduler.id());
                    if scheduler.spec().kind == kind
                        && first.is_none_or(|first| key < first)
                        && scheduler.can_start(now, &turn.shared.commands)
                        && scheduler.has_room(&mut turn)
                    {
                        first = Some(key);
                    }
                }
            }
            let Some((_, at, id)) = first else { return };
            let (generations, mut turn) = self.turn_at(now, out);
            generations[at].with_scheduler(id, &mut turn, Scheduler::run_first_queued);
        }
    }
}
