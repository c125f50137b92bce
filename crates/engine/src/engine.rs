//! The engine: the generations side by side, and one call for each thing that can happen.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use event::Event;

use crate::clock::{Clock, Nanos};
use crate::elders;
use crate::generation::{self, Exclusion, Generation, Map};
use crate::path::Paths;
use crate::scheduler::{Phase, Scheduler, tasks_full};
use crate::tasks::Tasks;
use crate::turn::{Shared, Turn};
use crate::verdict::{Explained, Explanation};
use crate::{
    Effects, GenerationError, GenerationId, GenerationIds, Limits, MapId, MapSpec, Outcome, OwnedEvent,
    OwnedTask, Record, SchedulerId, SchedulerKind, SchedulerSpec, Settled, TaskHandle, TaskId,
};

pub(crate) mod by_id;
mod hand_over;
pub(crate) mod rename;

/// All rules and all tasks. See the head of the crate for how it is used.
pub struct Engine {
    clock: Clock,
    paths: Paths,
    tasks: Tasks,
    /// Where pathnames are put together.
    path: Vec<u8>,
    shared: Shared,
    /// In the order in which they were added: the last one is in force.
    generations: Vec<Generation>,
    next_ids: NextIds,
}

/// The numbers that the next configuration gets.
struct NextIds {
    generation: u32,
    scheduler: u32,
    map: u32,
}

/// How many tasks there are and were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tasks whose delay runs, or that are gathered.
    pub waiting: u32,
    /// Tasks that wait for a place.
    pub queued: u32,
    /// Tasks that run, or were told to stop and have not.
    pub running: u32,
    /// Configurations that are in force or still have tasks.
    pub generations: u32,
    /// Runs that were started, ever.
    pub started: u64,
    /// Events that made no task because of the limits, ever.
    pub refused: u64,
}

impl Engine {
    /// An engine without a configuration. Times before `now` will count as `now`.
    pub fn new(now: Instant, limits: Limits) -> Engine {
        Engine {
            clock: Clock::new(now),
            paths: Paths::new(limits.hash_seed),
            tasks: Tasks::new(limits.random_seed),
            path: Vec::new(),
            shared: Shared::new(limits),
            generations: Vec::new(),
            next_ids: NextIds { generation: 0, scheduler: 0, map: 0 },
        }
    }

    /// Takes a configuration, beside those it has. It is in force at once; [`Engine::retire`] the one before.
    ///
    /// # Errors
    ///
    /// Too many earlier configurations still have tasks, the numbers are used up, or the engine shuts down.
    ///
    /// # Panics
    ///
    /// A reaction of a map names a scheduler that is not in the list, or a scheduler has a batch and something that
    /// excludes it.
    pub fn add_generation(
        &mut self,
        schedulers: Vec<SchedulerSpec>,
        maps: impl IntoIterator<Item = MapSpec>,
        shutdown_timeout: Duration,
    ) -> Result<GenerationIds, GenerationError> {
        if self.shared.daemon_ends {
            return Err(GenerationError::ShuttingDown);
        }
        if self.generations.len() >= self.shared.limits.generations_max as usize {
            return Err(GenerationError::TooMany);
        }
        let maps: Vec<Map> = maps.into_iter().map(Map::new).collect();
        let ids = self.next_ids.take(schedulers.len(), maps.len()).ok_or(GenerationError::NumbersUsedUp)?;
        let schedulers = (ids.schedulers.start, schedulers);
        let maps = (ids.maps.start, maps);
        self.generations.push(Generation::new(ids.id, schedulers, maps, shutdown_timeout));
        elders::link(&mut self.generations);
        Ok(ids)
    }

    /// An event came in through a map. Events for a map whose configuration is done do nothing.
    #[inline]
    pub fn event(&mut self, now: Instant, map: MapId, event: &Event<'_>, out: &mut impl Effects) {
        let Some(at) = self.of_map(map) else { return };
        let generation = &self.generations[at];
        match generation.phase() {
            Phase::Active | Phase::Closing { .. } => out.record(Record::Received { map, event }),
            // The configuration in force records it.
            Phase::Retired { .. } => {}
        }
        let flag = event.mask.flag();
        let Some(flag) = flag.filter(|flag| !generation.map(map).reactions(*flag).is_empty()) else { return };
        let path = self.paths.see(event.pathname);
        let (generations, mut turn) = self.turn(now, out);
        let (older, rest) = generations.split_at_mut(at);
        rest[0].event(map, flag, &path, event, older, &mut turn);
        self.end_turn(out);
    }

    /// Does what is due: starts tasks whose delay is over, stops those whose time is over.
    ///
    /// At most [`Limits::starts_per_tick_max`] tasks of a scheduler are started; if there are more, the next
    /// deadline is not in the future.
    pub fn tick(&mut self, now: Instant, out: &mut impl Effects) {
        let (generations, mut turn) = self.turn(now, out);
        for generation in generations {
            generation.tick(&mut turn);
        }
        (0..self.generations.len()).for_each(|at| self.hand_over_left(at, out));
        self.end_turn(out);
    }

    /// When [`Engine::tick`] will have something to do, if no event comes before.
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.generations.iter().filter_map(Generation::deadline).min()?;
        self.clock.instant(first)
    }

    /// A run is over. A handle whose run was over before is ignored.
    pub fn finished(&mut self, now: Instant, handle: TaskHandle, outcome: &Outcome, out: &mut impl Effects) {
        let Some((slot, scheduler)) = self.tasks.running(handle) else { return };
        let Some(at) = self.of_scheduler(scheduler) else { return };
        let (generations, mut turn) = self.turn(now, out);
        generations[at].finished(scheduler, slot, outcome, &mut turn);
        if at + 1 < self.generations.len() {
            self.ended_elsewhere(at, scheduler, out);
        }
        self.end_turn(out);
    }

    /// The answer to a question; of no effect if the task is not waiting for it any more.
    pub fn settled(&mut self, now: Instant, handle: TaskHandle, answer: Settled<'_>, out: &mut impl Effects) {
        let Some((slot, scheduler)) = self.tasks.asked(handle) else { return };
        let Some(at) = self.of_scheduler(scheduler) else { return };
        let (generations, mut turn) = self.turn(now, out);
        generations[at].settled(scheduler, slot, answer, &mut turn);
        self.hand_over_left(at, out);
        self.end_turn(out);
    }

    /// How many shell commands of all schedulers may run at once.
    pub fn limit_commands(&mut self, now: Instant, max: Option<NonZeroU32>, out: &mut impl Effects) {
        self.shared.commands.max = max;
        self.shared.commands.to_fill = true;
        self.clock.advance(now);
        self.end_turn(out);
    }

    /// There is room for jobs again, where [`Effects::has_room`] had said that there is none: those that are queued
    /// start, in the order in which they came, as long as there is.
    pub fn start_jobs(&mut self, now: Instant, out: &mut impl Effects) {
        if !std::mem::take(&mut self.shared.jobs_wait) {
            return;
        }
        self.clock.advance(now);
        self.fill(SchedulerKind::Job, out);
        self.end_turn(out);
    }

    /// A configuration was replaced by one that was added: it makes no more tasks.
    ///
    /// Its tasks to come go on in the scheduler of their name and kind in the configuration in force, with their times,
    /// ids and attempts; rules are asked when they start. Where that has one task for all paths, only that of the
    /// latest event goes on ([`EndResult::Replaced`](crate::EndResult::Replaced)). `map` says which map takes the place
    /// of one of its own, for what [`Engine::rename`] and a file that vanished ask of it. Nothing starts within this
    /// call.
    ///
    /// Where there is no such scheduler, waiting tasks run when they are due, unless an event for their path comes
    /// through one of the old maps: that cancels them, for the new configuration gets the event too. Running tasks end
    /// as they began, and are stopped when the shutdown timeout is over, counted from now or from their start. With a
    /// timeout of zero all that is left ends now.
    pub fn retire(
        &mut self,
        now: Instant,
        generation: GenerationId,
        map: impl Fn(MapId) -> Option<MapId>,
        out: &mut impl Effects,
    ) {
        let Ok(at) = self.generations.binary_search_by_key(&generation, |generation| generation.id) else {
            return;
        };
        if self.generations[at].phase() == Phase::Active {
            for generation in &mut self.generations[..=at] {
                generation.succeed_maps(&map);
            }
            self.generations[at].tell_paused(out);
        }
        self.clock.advance(now);
        self.hand_over_all(out);
        let (generations, mut turn) = self.turn(now, out);
        generations[at].retire(&mut turn);
        self.end_turn(out);
    }

    /// The daemon ends: no new tasks; those that are there have the shutdown timeout of their configuration to come to
    /// their end, delays included. A second call does nothing.
    ///
    /// Where tasks are kept ([`Engine::keep_changes`]), what is not due by then is left to another life of the daemon,
    /// and so is what is not done when the time is over. Those tasks stay, but are not waited for.
    pub fn shutdown(&mut self, now: Instant, out: &mut impl Effects) {
        if std::mem::replace(&mut self.shared.daemon_ends, true) {
            return;
        }
        let (generations, mut turn) = self.turn(now, out);
        for generation in generations {
            generation.close(&mut turn);
        }
        self.end_turn(out);
    }

    /// The daemon ends at once: running tasks are stopped, the others forgotten, as if all timeouts were over.
    pub fn end_now(&mut self, now: Instant, out: &mut impl Effects) {
        self.shared.daemon_ends = true;
        let (generations, mut turn) = self.turn(now, out);
        for generation in generations {
            generation.end_now(&mut turn);
        }
        self.end_turn(out);
    }

    /// The program cannot keep what changed: tells that those tasks are not done that were left to another life of the
    /// daemon and that the program has not taken, or only just now (`is_unwritten`). What was stopped was told then.
    pub fn tell_not_kept(
        &mut self,
        now: Instant,
        is_unwritten: impl Fn(TaskId) -> bool,
        out: &mut impl Effects,
    ) {
        let (generations, mut turn) = self.turn(now, out);
        for generation in generations {
            for scheduler in generation.schedulers_mut() {
                scheduler.tell_not_kept(&is_unwritten, &mut turn);
            }
        }
        self.end_turn(out);
    }

    /// The task of a run that is not over, for what the program has to say about it.
    pub fn task(&self, handle: TaskHandle) -> Option<OwnedTask> {
        let (slot, scheduler) = self.tasks.running(handle)?;
        let mut path = Vec::new();
        let event = OwnedEvent::of(&self.tasks.event_of_run(slot, &mut path));
        let others = self.scheduler(scheduler).map_or(0, Scheduler::taken);
        Some(OwnedTask { scheduler, id: self.tasks.id(slot), event, others })
    }

    /// Whether there are as many tasks as there may be.
    pub fn is_full(&self) -> bool {
        tasks_full(&self.tasks, &self.shared.limits)
    }

    /// The name of the task of a run that is not over.
    pub fn task_id(&self, handle: TaskHandle) -> Option<TaskId> {
        self.tasks.running(handle).map(|(slot, _)| self.tasks.id(slot))
    }

    /// Whether there is nothing to wait for: no task but those that are left to another life of the daemon.
    pub fn is_idle(&self) -> bool {
        self.tasks.len() == self.schedulers().map(Scheduler::left_behind).sum::<u32>()
    }

    /// Whether a configuration was replaced, or the engine shuts down, and it has no task left.
    pub fn generation_done(&self, generation: GenerationId) -> bool {
        self.generations.binary_search_by_key(&generation, |generation| generation.id).is_err()
    }

    /// How many tasks there are and were.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            generations: self.generations.len() as u32,
            started: self.shared.counters.started,
            refused: self.shared.counters.refused,
            ..Stats::default()
        };
        for scheduler in self.generations.iter().flat_map(Generation::schedulers) {
            stats.waiting += scheduler.waiting();
            stats.queued += scheduler.queued();
            stats.running += scheduler.running();
        }
        stats
    }

    /// Bytes that tasks, their paths and the tables take, free room included; what grew too large is not yet touched,
    /// and counts all the same.
    pub fn memory_bytes(&self) -> usize {
        let tables = self.generations.iter().flat_map(Generation::schedulers).map(Scheduler::memory_bytes);
        self.tasks.memory_bytes() + tables.sum::<usize>()
    }

    /// What an event would do if it came now, without doing it; `None` for a map whose configuration is done.
    ///
    /// A scheduler that is named twice is judged twice as if it were named once.
    pub fn explain(&self, map: MapId, event: &Event<'_>) -> Option<Explanation> {
        let (older, rest) = self.generations.split_at(self.of_map(map)?);
        let generation = rest.first()?;
        let path = self.paths.look(event.pathname);
        let reactions = event.mask.flag().map_or(&[][..], |flag| generation.map(map).reactions(flag));
        if reactions.is_empty() {
            return Some(Explanation::Unmapped);
        }
        match generation.map(map).exclusion(&path) {
            Exclusion::Passes => {}
            Exclusion::Excluded(pattern) => return Some(Explanation::Excluded { pattern }),
            Exclusion::StepLimit => return Some(Explanation::ExcludeStepLimit),
        }
        let explained = reactions.iter().map(|reaction| {
            let scheduler = generation.scheduler_of(*reaction);
            let elder = elders::find(older, (scheduler, generation.phase()), &path, &self.tasks);
            let verdict = match elder {
                Some(elder) => generation.judge_elder(*reaction, &path, event, elder.slot, &self.tasks),
                None => {
                    generation.judge(*reaction, &path, event, &self.tasks, self.clock.now(), &self.shared)
                }
            };
            let verdict = verdict.named(|slot| self.tasks.id(slot));
            Explained {
                reaction: *reaction,
                scheduler: scheduler.id(),
                delay: scheduler.spec().delay,
                verdict,
            }
        });
        Some(Explanation::Reactions(explained.collect()))
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(crate) fn tasks_mut(&mut self) -> &mut Tasks {
        &mut self.tasks
    }

    /// Whether tasks of a scheduler are to be kept.
    pub(crate) fn persists(&self, scheduler: SchedulerId) -> bool {
        self.of_scheduler(scheduler).is_some_and(|at| self.generations[at].persists(scheduler))
    }

    pub(crate) fn schedulers(&self) -> impl Iterator<Item = &Scheduler> {
        self.generations.iter().flat_map(Generation::schedulers)
    }

    pub(crate) fn scheduler(&self, id: SchedulerId) -> Option<&Scheduler> {
        let (at, place) = generation::place_of(&self.generations, id)?;
        Some(&self.generations[at].schedulers()[place])
    }

    pub(crate) fn instant(&self, at: Nanos) -> Option<Instant> {
        self.clock.instant(at)
    }

    /// The position of the generation with a map.
    #[inline]
    fn of_map(&self, map: MapId) -> Option<usize> {
        let at = generation::last_from(&self.generations, map.0, Generation::first_map)?;
        self.generations[at].has_map(map).then_some(at)
    }

    /// The position of the generation with a scheduler.
    #[inline]
    fn of_scheduler(&self, scheduler: SchedulerId) -> Option<usize> {
        generation::place_of(&self.generations, scheduler).map(|(at, _)| at)
    }

    #[inline]
    fn turn<'a, E: Effects>(
        &'a mut self,
        now: Instant,
        out: &'a mut E,
    ) -> (&'a mut [Generation], Turn<'a, E>) {
        let now = self.clock.advance(now);
        self.turn_at(now, out)
    }

    #[inline]
    fn turn_at<'a, E: Effects>(
        &'a mut self,
        now: Nanos,
        out: &'a mut E,
    ) -> (&'a mut [Generation], Turn<'a, E>) {
        let turn = Turn { now, tasks: &mut self.tasks, path: &mut self.path, shared: &mut self.shared, out };
        (&mut self.generations, turn)
    }

    #[inline]
    fn end_turn(&mut self, out: &mut impl Effects) {
        if std::mem::take(&mut self.shared.commands.to_fill) {
            self.fill(SchedulerKind::Command, out);
        }
        self.shared.tell_counted(&self.tasks, out);
        if self.generations.iter().any(Generation::is_done) {
            self.forget_done();
        }
    }

    #[cold]
    fn forget_done(&mut self) {
        self.generations.retain(|generation| !generation.is_done());
    }
}

impl NextIds {
    /// Numbers for a configuration; `None` when 32 bits are used up, which takes millions of reloads.
    fn take(&mut self, schedulers: usize, maps: usize) -> Option<GenerationIds> {
        let next_generation = self.generation.checked_add(1)?;
        let next_scheduler = self.scheduler.checked_add(u32::try_from(schedulers).ok()?)?;
        let next_map = self.map.checked_add(u32::try_from(maps).ok()?)?;
        let ids = GenerationIds {
            id: GenerationId(self.generation),
            schedulers: self.scheduler..next_scheduler,
            maps: self.map..next_map,
        };
        *self = NextIds { generation: next_generation, scheduler: next_scheduler, map: next_map };
        Some(ids)
    }
}
