//! One load of the configuration: its event maps and its schedulers, and its way from being in force to being gone.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use event::{Event, Flag};

use crate::clock::{Nanos, span};
use crate::elders;
use crate::path::Path;
use crate::scheduler::hand_over::Ends;
use crate::scheduler::{Phase, Scheduler};
use crate::tasks::{Slot, Tasks};
use crate::turn::{Delivery, Shared, Turn};
use crate::verdict::Verdict;
use crate::{
    CancelledBy, Effects, GenerationId, MapId, MapSpec, Matcher, Outcome, Reaction, Record, SchedulerId,
    SchedulerSpec, Settled, StepLimit,
};

/// The deadline of a scheduler that has none.
const NEVER: Nanos = Nanos::MAX;

/// What the exclude filter says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exclusion {
    Passes,
    Excluded(usize),
    StepLimit,
}

/// The event map of one watch.
pub(crate) struct Map {
    reactions: [Box<[Reaction]>; 15],
    exclude: Option<Arc<dyn Matcher>>,
    /// What the filter said of the latest path, by its serial.
    latest: Cell<(u64, Exclusion)>,
}

impl Map {
    pub(crate) fn new(spec: MapSpec) -> Map {
        Map {
            reactions: spec.reactions.map(Vec::into_boxed_slice),
            exclude: spec.exclude,
            latest: Cell::new((Path::UNCACHED, Exclusion::Passes)),
        }
    }

    /// What a kind of event does, in order.
    pub(crate) fn reactions(&self, flag: Flag) -> &[Reaction] {
        &self.reactions[flag.index()]
    }

    /// What the filter says of a path. An overflow has none, and passes.
    pub(crate) fn exclusion(&self, path: &Path<'_>) -> Exclusion {
        let Some(exclude) = self.exclude.as_ref().filter(|_| !path.bytes.is_empty()) else {
            return Exclusion::Passes;
        };
        let (serial, latest) = self.latest.get();
        if serial == path.serial && serial != Path::UNCACHED {
            return latest;
        }
        let exclusion = match exclude.first_match(path.bytes) {
            Ok(None) => Exclusion::Passes,
            Ok(Some(pattern)) => Exclusion::Excluded(pattern),
            Err(StepLimit) => Exclusion::StepLimit,
        };
        self.latest.set((path.serial, exclusion));
        exclusion
    }

    /// The same of a path whose directory is at a new place. What lies below an excluded directory is excluded, too:
    /// nobody watches it.
    fn exclusion_below(&self, directory: &[u8], path: &Path<'_>) -> Exclusion {
        match self.exclusion(path) {
            Exclusion::Passes => self.exclusion(&Path { bytes: directory, hash: 0, serial: Path::UNCACHED }),
            decided => decided,
        }
    }
}

/// One configuration with its tasks.
pub(crate) struct Generation {
    pub(crate) id: GenerationId,
    first_scheduler: u32,
    first_map: u32,
    phase: Phase,
    shutdown_timeout: Duration,
    schedulers: Vec<Scheduler>,
    maps: Vec<Map>,
    /// The maps that took the place of its own, once another configuration is in force.
    map_successors: Vec<Option<MapId>>,
    /// When each scheduler has something to do; apart from the schedulers, so that the least is found quickly.
    deadlines: Vec<Nanos>,
}

/// The position of the generation with a scheduler, and that of the scheduler in it.
#[inline]
pub(crate) fn place_of(generations: &[Generation], id: SchedulerId) -> Option<(usize, usize)> {
    let at = last_from(generations, id.0, Generation::first_scheduler)?;
    let place = (id.0 - generations[at].first_scheduler) as usize;
    (place < generations[at].schedulers.len()).then_some((at, place))
}

/// The last generation whose numbers start no later than `number`; nearly always the last of all.
#[inline]
pub(crate) fn last_from(
    generations: &[Generation],
    number: u32,
    first: impl Fn(&Generation) -> u32,
) -> Option<usize> {
    match generations.last() {
        Some(last) if first(last) <= number => Some(generations.len() - 1),
        Some(_) => generations.partition_point(|generation| first(generation) <= number).checked_sub(1),
        None => None,
    }
}

impl Generation {
    /// # Panics
    ///
    /// A reaction names a scheduler that is not in the list, or a batch is not alone.
    pub(crate) fn new(
        id: GenerationId,
        (first_scheduler, schedulers): (u32, Vec<SchedulerSpec>),
        (first_map, maps): (u32, Vec<Map>),
        shutdown_timeout: Duration,
    ) -> Generation {
        let named = maps.iter().flat_map(|map| map.reactions.iter().flatten());
        let known = named.copied().map(scheduler_index).all(|index| index < schedulers.len());
        assert!(known, "a reaction names a scheduler that is not in the list");
        let clean = schedulers.iter().all(SchedulerSpec::batch_is_alone);
        assert!(clean, "a scheduler has a batch and something that excludes it");
        let numbered = (first_scheduler..).map(SchedulerId).zip(schedulers);
        let schedulers: Vec<Scheduler> = numbered.map(|(id, spec)| Scheduler::new(id, spec)).collect();
        Generation {
            id,
            first_scheduler,
            first_map,
            phase: Phase::Active,
            shutdown_timeout,
            deadlines: vec![NEVER; schedulers.len()],
            schedulers,
            map_successors: (first_map..).map(MapId).map(Some).take(maps.len()).collect(),
            maps,
        }
    }

    pub(crate) fn first_scheduler(&self) -> u32 {
        self.first_scheduler
    }

    pub(crate) fn first_map(&self) -> u32 {
        self.first_map
    }

    /// Whether a map with this number or a higher one is its own.
    #[inline]
    pub(crate) fn has_map(&self, id: MapId) -> bool {
        ((id.0.wrapping_sub(self.first_map)) as usize) < self.maps.len()
    }

    #[inline]
    pub(crate) fn map(&self, id: MapId) -> &Map {
        &self.maps[(id.0 - self.first_map) as usize]
    }

    /// Another configuration takes the place of the one in force.
    pub(crate) fn succeed_maps(&mut self, successor: &impl Fn(MapId) -> Option<MapId>) {
        for map in &mut self.map_successors {
            *map = map.and_then(successor);
        }
    }

    /// The map in force that took the place of one of its own.
    pub(crate) fn successor(&self, map: MapId) -> Option<MapId> {
        let at = map.0.checked_sub(self.first_map)?;
        self.map_successors.get(at as usize).copied().flatten()
    }

    /// The map of its own whose place a map in force took.
    pub(crate) fn predecessor(&self, map: MapId) -> MapId {
        let at = self.map_successors.iter().position(|successor| *successor == Some(map));
        at.map_or(MapId::NONE, |at| MapId(self.first_map + at as u32))
    }

    pub(crate) fn scheduler_of(&self, reaction: Reaction) -> &Scheduler {
        &self.schedulers[scheduler_index(reaction)]
    }

    pub(crate) fn schedulers(&self) -> &[Scheduler] {
        &self.schedulers
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it has tasks that should go on in a newer configuration.
    pub(crate) fn has_left(&self) -> bool {
        self.phase != Phase::Active && self.schedulers.iter().any(Scheduler::has_left)
    }

    /// Whether it is not in force any more and has no task left, nor is heir to one.
    pub(crate) fn is_done(&self) -> bool {
        self.phase != Phase::Active && self.schedulers.iter().all(Scheduler::is_done)
    }

    /// When it has something to do.
    pub(crate) fn deadline(&self) -> Option<Nanos> {
        let first = self.deadlines.iter().copied().min().filter(|at| *at != NEVER);
        match self.phase {
            Phase::Active | Phase::Retired { .. } => first,
            // The end is waited for only while there is something to cut.
            Phase::Closing { until } if self.schedulers.iter().any(|scheduler| scheduler.pending() > 0) => {
                Some(first.map_or(until, |at| at.min(until)))
            }
            Phase::Closing { .. } => None,
        }
    }

    /// What a reaction does to an event.
    pub(crate) fn judge(
        &self,
        reaction: Reaction,
        path: &Path<'_>,
        event: &Event<'_>,
        tasks: &Tasks,
        now: Nanos,
        shared: &Shared,
    ) -> Verdict<Slot> {
        judge(self.scheduler_of(reaction), self.phase, reaction, (path, event), tasks, now, shared)
    }

    /// The same if the event's path has a run of an elder.
    pub(crate) fn judge_elder(
        &self,
        reaction: Reaction,
        path: &Path<'_>,
        event: &Event<'_>,
        run: Slot,
        tasks: &Tasks,
    ) -> Verdict<Slot> {
        self.scheduler_of(reaction).judge_elder(self.phase, reaction, (path, event.is_dir), run, tasks)
    }

    /// Routes an event through one of its maps.
    #[inline]
    pub(crate) fn event<E: Effects>(
        &mut self,
        map_id: MapId,
        flag: Flag,
        path: &Path<'_>,
        event: &Event<'_>,
        older: &mut [Generation],
        turn: &mut Turn<'_, E>,
    ) {
        let map = &self.maps[(map_id.0 - self.first_map) as usize];
        let pathname = event.pathname;
        match map.exclusion(path) {
            Exclusion::Passes => {}
            Exclusion::Excluded(_) => return turn.out.record(Record::Excluded { map: map_id, pathname }),
            Exclusion::StepLimit => {
                return turn.out.record(Record::ExcludeStepLimit { map: map_id, pathname });
            }
        }
        for reaction in map.reactions(flag) {
            let index = scheduler_index(*reaction);
            let scheduler = &mut self.schedulers[index];
            if let Some(elder) = elders::find(older, (scheduler, self.phase), path, turn.tasks) {
                let heir = (&*scheduler, self.phase);
                elders::meet(older, elder, heir, *reaction, (path, event, map_id), turn);
                continue;
            }
            let verdict = judge_now(scheduler, self.phase, *reaction, (path, event), turn);
            if let Verdict::Ignored(reason) = verdict {
                // As are most events of a storm. It moves no deadline.
                scheduler.ignore(reason, event, turn);
                continue;
            }
            scheduler.perform(verdict, path, event, map_id, turn);
            self.deadlines[index] = deadline(scheduler, self.phase, self.shutdown_timeout, turn.tasks);
        }
    }

    /// A run of one of its tasks is over.
    #[inline]
    pub(crate) fn finished<E: Effects>(
        &mut self,
        id: SchedulerId,
        slot: Slot,
        outcome: &Outcome,
        turn: &mut Turn<'_, E>,
    ) {
        let index = (id.0 - self.first_scheduler) as usize;
        let scheduler = &mut self.schedulers[index];
        scheduler.finish(slot, outcome, turn);
        self.deadlines[index] = deadline(scheduler, self.phase, self.shutdown_timeout, turn.tasks);
        self.deliver(turn);
    }

    /// Gives the events of tasks that failed for good to those that are to get them.
    pub(crate) fn deliver<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        if turn.shared.failures.is_empty() {
            return;
        }
        for Delivery { receivers, map, event, failed } in std::mem::take(&mut turn.shared.failures) {
            for index in receivers {
                self.schedulers[index].receive(&event.get(), map, failed.clone(), turn);
                self.note_deadline(index, turn.tasks);
            }
        }
    }

    /// The answer to whether the file of a task has settled.
    pub(crate) fn settled<E: Effects>(
        &mut self,
        id: SchedulerId,
        slot: Slot,
        answer: Settled<'_>,
        turn: &mut Turn<'_, E>,
    ) {
        let index = (id.0 - self.first_scheduler) as usize;
        let scheduler = &mut self.schedulers[index];
        match answer {
            Settled::Yes => scheduler.settled(slot, turn),
            Settled::No(reason) => scheduler.unsettled(slot, reason, turn),
            Settled::Vanished => {
                let map = turn.tasks.map(slot);
                let reactions: &[Reaction] = match map.0.checked_sub(self.first_map) {
                    Some(at) => self.maps.get(at as usize).map_or(&[], |map| map.reactions(Flag::Delete)),
                    None => &[],
                };
                let own = reactions.iter().find(|reaction| scheduler_index(**reaction) == index);
                scheduler.vanished(slot, own.copied(), turn);
            }
        }
        self.note_deadline(index, turn.tasks);
        self.deliver(turn);
    }

    /// Acts on one of its tasks by its scheduler.
    pub(crate) fn with_scheduler<E: Effects>(
        &mut self,
        id: SchedulerId,
        turn: &mut Turn<'_, E>,
        act: impl FnOnce(&mut Scheduler, &mut Turn<'_, E>),
    ) {
        let index = (id.0 - self.first_scheduler) as usize;
        act(&mut self.schedulers[index], turn);
        self.note_deadline(index, turn.tasks);
    }

    /// Whether tasks of one of its schedulers are to be kept.
    pub(crate) fn persists(&self, id: SchedulerId) -> bool {
        let at = id.0.checked_sub(self.first_scheduler);
        at.and_then(|at| self.schedulers.get(at as usize)).is_some_and(|one| one.spec().persist)
    }

    /// Its schedulers, to act on them; note the deadlines afterwards.
    pub(crate) fn schedulers_mut(&mut self) -> &mut [Scheduler] {
        &mut self.schedulers
    }

    /// Does what is due. What is over is stopped first, so that nothing starts that would be stopped at once.
    pub(crate) fn tick<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        match self.phase {
            Phase::Closing { until } if until <= turn.now => return self.cut(turn),
            Phase::Active | Phase::Retired { .. } | Phase::Closing { .. } => {}
        }
        // One dense row of times is looked through, not the schedulers: there may be a thousand with nothing to do.
        for index in 0..self.schedulers.len() {
            if self.deadlines[index] > turn.now {
                continue;
            }
            if let Some(started_max) = self.started_max(turn.now) {
                self.schedulers[index].stop_running(started_max, turn);
            }
            self.schedulers[index].run_due(turn);
            self.note_deadline(index, turn.tasks);
        }
        self.deliver(turn);
    }

    /// Says that another configuration takes its place. A scheduler that is paused by an operator is no news.
    pub(crate) fn tell_paused(&self, out: &mut impl Effects) {
        for scheduler in self.schedulers.iter().filter(|scheduler| !scheduler.is_paused()) {
            out.record(Record::Paused { scheduler: scheduler.id() });
        }
    }

    /// Another configuration takes its place, and has taken what could go on there.
    pub(crate) fn retire<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        match self.phase {
            Phase::Active => {}
            Phase::Retired { .. } | Phase::Closing { .. } => return,
        }
        for scheduler in &mut self.schedulers {
            scheduler.give_up(Ends::Configuration, turn);
        }
        if self.shutdown_timeout.is_zero() {
            // Tasks would be stopped as soon as they start; a command that is killed at once is worse than none.
            return self.close(turn);
        }
        self.phase = Phase::Retired { since: turn.now };
        self.tell_wait(turn);
        self.note_deadlines(turn.tasks);
    }

    /// The daemon ends.
    pub(crate) fn close<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        let until = turn.now + span(self.shutdown_timeout);
        self.phase = Phase::Closing { until };
        for scheduler in &mut self.schedulers {
            scheduler.give_up(Ends::All { until }, turn);
        }
        self.tell_wait(turn);
        if self.shutdown_timeout.is_zero() {
            return self.cut(turn);
        }
        self.note_deadlines(turn.tasks);
    }

    /// The daemon ends, and waits for nothing.
    pub(crate) fn end_now<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        self.phase = Phase::Closing { until: turn.now };
        self.cut(turn);
    }

    /// The tasks of a path.
    pub(crate) fn tasks_of<'a>(
        &'a self,
        path: &'a Path<'_>,
        tasks: &'a Tasks,
    ) -> impl Iterator<Item = Slot> + 'a {
        let found = self.schedulers.iter().filter_map(|scheduler| scheduler.find(path, tasks));
        // With singlejob it may be that of another path.
        found.filter(|slot| tasks.is_path(*slot, path.bytes))
    }

    /// Gives a task the path of `event`, as its directory was renamed from one path to another.
    pub(crate) fn follow<E: Effects>(
        &mut self,
        slot: Slot,
        path: &Path<'_>,
        event: &Event<'_>,
        renamed: (&[u8], &[u8]),
        older: &mut [Generation],
        turn: &mut Turn<'_, E>,
    ) {
        let (map_id, pathname) = (turn.tasks.map(slot), event.pathname);
        let index = (turn.tasks.scheduler(slot).0 - self.first_scheduler) as usize;
        let excluded = match self.map(map_id).exclusion_below(renamed.1, path) {
            Exclusion::Passes => None,
            Exclusion::Excluded(_) => Some(Record::Excluded { map: map_id, pathname }),
            Exclusion::StepLimit => Some(Record::ExcludeStepLimit { map: map_id, pathname }),
        };
        let runs = !turn.tasks.state(slot).is_to_come();
        let scheduler = &mut self.schedulers[index];
        let has_task = scheduler.find(path, turn.tasks).is_some_and(|other| other != slot);
        if let Some(record) = excluded {
            turn.out.record(record);
            scheduler.drop_rest(slot, turn);
        } else if runs && has_task {
            // What comes at the new path is for that task; what this one leaves is for the old path.
        } else if has_task {
            // There was something of that name, whose task is not over: for that one it is an event.
            scheduler.cancel_unstarted(slot, CancelledBy::Rename, turn);
            let reaction = Reaction::Schedule(index);
            let verdict = judge_now(scheduler, self.phase, reaction, (path, event), turn);
            scheduler.perform(verdict, path, event, map_id, turn);
        } else if !runs && let Some(elder) = elders::find(older, (scheduler, self.phase), path, turn.tasks) {
            scheduler.cancel_unstarted(slot, CancelledBy::Rename, turn);
            let (heir, reaction) = ((&*scheduler, self.phase), Reaction::Schedule(index));
            elders::meet(older, elder, heir, reaction, (path, event, map_id), turn);
        } else {
            scheduler.follow(slot, (path, event), renamed, turn);
        }
        self.note_deadline(index, turn.tasks);
    }

    /// Gives a task a path that nothing else has.
    pub(crate) fn set_aside<E: Effects>(
        &mut self,
        slot: Slot,
        path: &Path<'_>,
        event: &Event<'_>,
        renamed: (&[u8], &[u8]),
        turn: &mut Turn<'_, E>,
    ) {
        let index = (turn.tasks.scheduler(slot).0 - self.first_scheduler) as usize;
        let rule = turn.tasks.rule(slot);
        self.schedulers[index].rename(slot, rule, (path, event), renamed, turn);
        self.note_deadline(index, turn.tasks);
    }

    /// Cancels a task that has not started.
    pub(crate) fn withdraw<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        let index = (turn.tasks.scheduler(slot).0 - self.first_scheduler) as usize;
        self.schedulers[index].cancel_unstarted(slot, CancelledBy::Withdrawal, turn);
        self.note_deadline(index, turn.tasks);
    }

    fn tell_wait<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        for scheduler in &mut self.schedulers {
            scheduler.tell_wait(self.shutdown_timeout, turn);
        }
    }

    fn cut<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        for scheduler in &mut self.schedulers {
            scheduler.cut(turn);
        }
        self.note_deadlines(turn.tasks);
    }

    /// Running tasks that were started no later than this have had their time.
    fn started_max(&self, now: Nanos) -> Option<Nanos> {
        match self.phase {
            Phase::Active | Phase::Closing { .. } => None,
            Phase::Retired { since } => {
                now.checked_sub(span(self.shutdown_timeout)).filter(|started_max| since <= *started_max)
            }
        }
    }

    pub(crate) fn note_deadlines(&mut self, tasks: &Tasks) {
        (0..self.schedulers.len()).for_each(|index| self.note_deadline(index, tasks));
    }

    #[inline]
    pub(crate) fn note_deadline(&mut self, index: usize, tasks: &Tasks) {
        self.deadlines[index] = deadline(&self.schedulers[index], self.phase, self.shutdown_timeout, tasks);
    }
}

#[inline]
fn judge(
    scheduler: &Scheduler,
    phase: Phase,
    reaction: Reaction,
    (path, event): (&Path<'_>, &Event<'_>),
    tasks: &Tasks,
    now: Nanos,
    shared: &Shared,
) -> Verdict<Slot> {
    match reaction {
        Reaction::Schedule(_) => scheduler.judge(phase, (path, event.is_dir), tasks, now, shared),
        Reaction::Cancel(_) => scheduler.judge_cancel(path, tasks),
    }
}

#[inline]
fn judge_now<E>(
    scheduler: &Scheduler,
    phase: Phase,
    reaction: Reaction,
    event: (&Path<'_>, &Event<'_>),
    turn: &Turn<'_, E>,
) -> Verdict<Slot> {
    judge(scheduler, phase, reaction, event, turn.tasks, turn.now, turn.shared)
}

/// When a scheduler has something to do by itself: a delay ends, or, after a reload, the time of a running task.
#[inline]
fn deadline(scheduler: &Scheduler, phase: Phase, shutdown_timeout: Duration, tasks: &Tasks) -> Nanos {
    let due = scheduler.deadline(tasks).unwrap_or(NEVER);
    match phase {
        Phase::Active | Phase::Closing { .. } => due,
        Phase::Retired { since } => due.min(stop_deadline(scheduler, since, shutdown_timeout, tasks)),
    }
}

/// When the time of a task is over that runs since before a reload.
#[cold]
fn stop_deadline(scheduler: &Scheduler, since: Nanos, shutdown_timeout: Duration, tasks: &Tasks) -> Nanos {
    let started = scheduler.running_since(tasks);
    started.map_or(NEVER, |started| started.max(since) + span(shutdown_timeout))
}

fn scheduler_index(reaction: Reaction) -> usize {
    match reaction {
        Reaction::Schedule(index) | Reaction::Cancel(index) => index,
    }
}
