//! The engine again, without any cleverness: maps and sorted lists, paths copied, everything looked for from the start.
//!
//! It is written from the description of the behaviour and shares nothing with the engine but the public types.
//! Where the two differ, one of them is wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event::{Event, Mask};

use crate::dirs::DIR_BYTES;
use crate::engine::rename::renamed;
use crate::tasks::TASK_BYTES;
use crate::{
    Effects, FailureKind, GenerationId, GenerationIds, Limits, MapId, MapSpec, Outcome, Reaction, Record,
    SchedulerId, SchedulerSpec, Start, Stats, StepLimit, TaskHandle, TaskId, TaskRecord,
};

/// Path, place of the scheduler, key, id and event of a task.
type ToCome = (Vec<u8>, usize, Vec<u8>, TaskId, OwnedEvent);

/// An event that owns its paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnedEvent {
    pub(super) mask: u32,
    pub(super) wd: i32,
    pub(super) cookie: u32,
    pub(super) is_dir: bool,
    pub(super) synthetic: bool,
    pub(super) pathname: Vec<u8>,
    pub(super) name_len: u16,
    pub(super) root_len: u16,
    pub(super) given_path: Option<Vec<u8>>,
    pub(super) src_pathname: Option<Vec<u8>>,
}

impl OwnedEvent {
    pub(super) fn of(event: &Event<'_>) -> OwnedEvent {
        OwnedEvent {
            mask: event.mask.0,
            wd: event.wd,
            cookie: event.cookie,
            is_dir: event.is_dir,
            synthetic: event.synthetic,
            pathname: event.pathname.to_vec(),
            name_len: event.name_len,
            root_len: event.root_len,
            given_path: event.given_path.map(<[u8]>::to_vec),
            src_pathname: event.src_pathname.map(<[u8]>::to_vec),
        }
    }

    /// The path up to its last slash.
    fn dir(&self) -> &[u8] {
        let slash = self.pathname.iter().rposition(|byte| *byte == b'/');
        &self.pathname[..slash.map_or(0, |slash| slash + 1)]
    }

    pub(super) fn get(&self) -> Event<'_> {
        Event {
            mask: Mask(self.mask),
            wd: self.wd,
            cookie: self.cookie,
            is_dir: self.is_dir,
            synthetic: self.synthetic,
            pathname: &self.pathname,
            name_len: self.name_len,
            root_len: self.root_len,
            given_path: self.given_path.as_deref(),
            src_pathname: self.src_pathname.as_deref(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { due: Instant },
    PutOff { due: Instant },
    Queued,
    Running { since: Instant, marked: bool },
    Stopping,
}

#[derive(Clone, Debug)]
struct Task {
    id: TaskId,
    state: State,
    /// When it came into its state, as a serial number: tasks are taken in this order.
    order: u64,
    event: OwnedEvent,
    run_mask: u32,
    rule: Option<usize>,
    map: MapId,
    again: bool,
    in_use_told: bool,
    /// Its directory is counted once for all its tasks: it was to come at some time.
    shares: bool,
}

impl Task {
    /// When it is due, with what decides between tasks that are due at one time.
    fn due(&self) -> Option<(Instant, bool, u64)> {
        match self.state {
            State::Waiting { due } => Some((due, false, self.order)),
            State::PutOff { due } => Some((due, true, self.order)),
            State::Queued | State::Running { .. } | State::Stopping => None,
        }
    }

    /// The place in the order in which tasks to come are forgotten.
    fn place(&self) -> Option<u8> {
        match self.state {
            State::Waiting { .. } => Some(0),
            State::PutOff { .. } => Some(1),
            State::Queued => Some(2),
            State::Running { .. } | State::Stopping => None,
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Stopping)
    }
}

struct Scheduler {
    id: SchedulerId,
    spec: SchedulerSpec,
    tasks: BTreeMap<Vec<u8>, Task>,
    max_jobs_told: bool,
    wait_told: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Active,
    Retired { since: Instant },
    Closing { until: Instant },
}

struct Generation {
    ids: GenerationIds,
    phase: Phase,
    timeout: Duration,
    schedulers: Vec<Scheduler>,
    maps: Vec<MapSpec>,
}

/// What all schedulers share.
struct Shared {
    now: Instant,
    limits: Limits,
    next_id: u64,
    next_order: u64,
    tasks: u32,
    bytes: u64,
    /// Directories of tasks, with how many tasks each has.
    dirs: BTreeMap<Vec<u8>, u32>,
    started: u64,
    refused: u64,
    refused_in_a_row: u64,
    not_done: u32,
}

impl Shared {
    /// Counts the bytes of a task with an event.
    fn charge(&mut self, event: &OwnedEvent, shares: bool) {
        self.bytes += TASK_BYTES as u64 + block_bytes(event, shares);
        if !shares {
            return;
        }
        let dir = event.dir();
        let tasks = self.dirs.entry(dir.to_vec()).or_default();
        if *tasks == 0 {
            self.bytes += DIR_BYTES as u64 + dir.len() as u64;
        }
        *tasks += 1;
    }

    /// Takes them back.
    fn discharge(&mut self, event: &OwnedEvent, shares: bool) {
        self.bytes -= TASK_BYTES as u64 + block_bytes(event, shares);
        if !shares {
            return;
        }
        let dir = event.dir();
        let tasks = self.dirs.get_mut(dir).expect("it was counted");
        *tasks -= 1;
        if *tasks == 0 {
            self.dirs.remove(dir);
            self.bytes -= DIR_BYTES as u64 + dir.len() as u64;
        }
    }

    /// Records a task that a shutdown did not wait for.
    fn not_done(&mut self, task: TaskRecord<'_>, out: &mut impl Effects) {
        self.not_done += 1;
        if self.not_done <= 999 {
            out.record(Record::NotDone { task });
        }
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }
}

pub(super) struct Model {
    shared: Shared,
    generations: Vec<Generation>,
    shutting_down: bool,
}

impl Model {
    pub(super) fn new(now: Instant, limits: Limits) -> Model {
        let shared = Shared {
            now,
            limits,
            next_id: 1,
            next_order: 0,
            tasks: 0,
            bytes: 0,
            dirs: BTreeMap::new(),
            started: 0,
            refused: 0,
            refused_in_a_row: 0,
            not_done: 0,
        };
        Model { shared, generations: Vec::new(), shutting_down: false }
    }

    /// Takes a configuration under the names that the engine gave it.
    pub(super) fn add(
        &mut self,
        ids: GenerationIds,
        schedulers: Vec<SchedulerSpec>,
        maps: Vec<MapSpec>,
        timeout: Duration,
    ) {
        let numbered = schedulers.into_iter().enumerate().map(|(index, spec)| Scheduler {
            id: ids.scheduler(index),
            spec,
            tasks: BTreeMap::new(),
            max_jobs_told: false,
            wait_told: false,
        });
        let schedulers = numbered.collect();
        self.generations.push(Generation { ids, phase: Phase::Active, timeout, schedulers, maps });
    }

    pub(super) fn event(&mut self, now: Instant, map: MapId, event: &OwnedEvent, out: &mut impl Effects) {
        let Some(generation) =
            self.generations.iter_mut().find(|generation| generation.ids.maps.contains(&map.0))
        else {
            return;
        };
        if !matches!(generation.phase, Phase::Retired { .. }) {
            out.record(Record::Received { map, event: &event.get() });
        }
        let spec = &generation.maps[(map.0 - generation.ids.maps.start) as usize];
        let Some(flag) = Mask(event.mask).flag() else { return };
        let reactions = spec.reactions[flag.index()].clone();
        if reactions.is_empty() {
            return;
        }
        self.shared.now = now;
        if let (Some(exclude), false) = (&spec.exclude, event.pathname.is_empty()) {
            match exclude.first_match(&event.pathname) {
                Ok(None) => {}
                Ok(Some(_)) => return out.record(Record::Excluded { map, pathname: &event.pathname }),
                Err(StepLimit) => {
                    return out.record(Record::ExcludeStepLimit { map, pathname: &event.pathname });
                }
            }
        }
        for reaction in reactions {
            match reaction {
                Reaction::Schedule(index) => {
                    generation.schedulers[index].schedule(
                        generation.phase,
                        map,
                        event,
                        &mut self.shared,
                        out,
                    );
                }
                Reaction::Cancel(index) => generation.schedulers[index].cancel(event, &mut self.shared, out),
            }
        }
        self.end(out);
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut impl Effects) {
        self.shared.now = now;
        for generation in &mut self.generations {
            generation.tick(&mut self.shared, out);
        }
        self.end(out);
    }

    pub(super) fn finished(&mut self, now: Instant, id: TaskId, outcome: &Outcome, out: &mut impl Effects) {
        self.shared.now = now;
        for scheduler in self.generations.iter_mut().flat_map(|generation| &mut generation.schedulers) {
            let task = scheduler.tasks.iter().find(|(_, task)| task.id == id && task.is_running());
            if let Some(key) = task.map(|(key, _)| key.clone()) {
                scheduler.finished(&key, outcome, &mut self.shared, out);
            }
        }
        self.end(out);
    }

    pub(super) fn retire(&mut self, now: Instant, id: GenerationId, out: &mut impl Effects) {
        self.shared.now = now;
        let generation = self.generations.iter_mut().find(|generation| generation.ids.id == id);
        if let Some(generation) = generation.filter(|generation| generation.phase == Phase::Active) {
            for scheduler in &generation.schedulers {
                out.record(Record::Paused { scheduler: scheduler.id });
            }
            generation.phase = Phase::Retired { since: now };
            generation.wait_or_cut(&mut self.shared, out);
        }
        self.end(out);
    }

    pub(super) fn shutdown(&mut self, now: Instant, out: &mut impl Effects) {
        if self.shutting_down {
            return;
        }
        self.shutting_down = true;
        self.shared.now = now;
        for generation in &mut self.generations {
            generation.phase = Phase::Closing { until: now + generation.timeout };
            generation.wait_or_cut(&mut self.shared, out);
        }
        self.end(out);
    }

    pub(super) fn rename(
        &mut self,
        now: Instant,
        map: MapId,
        from: &[u8],
        to: Option<&[u8]>,
        out: &mut impl Effects,
    ) {
        let Some(at) = self.generations.iter().position(|one| one.ids.maps.contains(&map.0)) else { return };
        self.shared.now = now;
        let found = self.to_come_below(from, Some(map));
        let mut gone = None;
        for (pathname, scheduler, key, id, event) in found {
            let one = &self.generations[at].schedulers[scheduler];
            if let Some(to) = to {
                let stays = |task: &Task| task.id == id && task.event.pathname == pathname;
                if one.tasks.get(&key).is_some_and(stays) {
                    self.follow(at, (scheduler, &key), map, (from, to), out);
                    self.end(out);
                }
            } else if gone.as_ref() != Some(&pathname) {
                let mask = event::Flag::MovedFrom.mask() | (Mask(event.mask) & Mask::ISDIR);
                let event = Event { mask, cookie: 0, synthetic: true, src_pathname: None, ..event.get() };
                self.event(now, map, &OwnedEvent::of(&event), out);
                gone = Some(pathname);
            }
        }
    }

    pub(super) fn withdraw(&mut self, now: Instant, pathname: &[u8], out: &mut impl Effects) {
        self.shared.now = now;
        let found = self.to_come_below(pathname, None);
        let count = found.len() as u32;
        for (_, _, key, id, _) in found {
            let schedulers = self.generations.iter_mut().flat_map(|one| &mut one.schedulers);
            for scheduler in schedulers.filter(|one| one.tasks.get(&key).is_some_and(|task| task.id == id)) {
                scheduler.remove(&key, &mut self.shared);
                scheduler.tell_completed(out);
            }
        }
        if count > 0 {
            out.record(Record::Withdrawn { pathname, count });
        }
        self.end(out);
    }

    /// Tasks to come of a path or below, of one map or of all: path, place of the scheduler, key, id and event.
    fn to_come_below(&self, from: &[u8], map: Option<MapId>) -> Vec<ToCome> {
        let mut found = Vec::new();
        for (at, scheduler) in self.generations.iter().flat_map(|one| one.schedulers.iter().enumerate()) {
            for (key, task) in &scheduler.tasks {
                let below = task.event.pathname.strip_prefix(from);
                let below = below.is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
                if below && !task.is_running() && map.is_none_or(|map| task.map == map) {
                    found.push((scheduler.id, at, key, task));
                }
            }
        }
        found.sort_by_key(|(id, _, _, task)| (&task.event.pathname, *id));
        let found = found.into_iter();
        found
            .map(|(_, at, key, task)| {
                (task.event.pathname.clone(), at, key.clone(), task.id, task.event.clone())
            })
            .collect()
    }

    fn follow(
        &mut self,
        at: usize,
        (index, key): (usize, &[u8]),
        map: MapId,
        (from, to): (&[u8], &[u8]),
        out: &mut impl Effects,
    ) {
        let Generation { ids, phase, schedulers, maps, .. } = &mut self.generations[at];
        let scheduler = &mut schedulers[index];
        let event = OwnedEvent::of(&renamed(&scheduler.tasks[key].event.get(), from, to).get());
        let pathname = &event.pathname;
        let exclude = maps[(map.0 - ids.maps.start) as usize].exclude.as_ref();
        let excluded = match exclude.map(|exclude| exclude.first_match(pathname)) {
            None | Some(Ok(None)) => None,
            Some(Ok(Some(_))) => Some(Record::Excluded { map, pathname }),
            Some(Err(StepLimit)) => Some(Record::ExcludeStepLimit { map, pathname }),
        };
        if let Some(record) = excluded {
            out.record(record);
            return scheduler.cancel_to_come(key, &mut self.shared, out);
        }
        let new_key = scheduler.key(&event);
        if new_key != key && scheduler.tasks.contains_key(&new_key) {
            scheduler.cancel_to_come(key, &mut self.shared, out);
            return scheduler.schedule(*phase, map, &event, &mut self.shared, out);
        }
        let rule = match scheduler.spec.rules.as_ref().map(|rules| rules.first_match(pathname)) {
            None => None,
            Some(Ok(Some(rule))) => Some(rule),
            Some(Ok(None)) => {
                out.record(Record::NoRule { scheduler: scheduler.id, event: &event.get() });
                return scheduler.cancel_to_come(key, &mut self.shared, out);
            }
            Some(Err(StepLimit)) => {
                out.record(Record::RuleStepLimit { scheduler: scheduler.id, event: &event.get() });
                return scheduler.cancel_to_come(key, &mut self.shared, out);
            }
        };
        let mut task = scheduler.tasks.remove(key).expect("the caller looked");
        task.take(map, rule, &event, &mut self.shared);
        let record = TaskRecord { scheduler: scheduler.id, id: task.id, event: event.get() };
        out.record(Record::Followed { task: record, from, to });
        scheduler.tasks.insert(new_key, task);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.generations.iter().filter_map(Generation::deadline).min()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes
    }

    pub(super) fn is_idle(&self) -> bool {
        self.shared.tasks == 0
    }

    pub(super) fn generation_done(&self, id: GenerationId) -> bool {
        self.generations.iter().all(|generation| generation.ids.id != id)
    }

    pub(super) fn stats(&self) -> Stats {
        let tasks =
            || self.generations.iter().flat_map(|one| &one.schedulers).flat_map(|one| one.tasks.values());
        Stats {
            waiting: tasks().filter(|task| task.due().is_some()).count() as u32,
            queued: tasks().filter(|task| matches!(task.state, State::Queued)).count() as u32,
            running: tasks().filter(|task| task.is_running()).count() as u32,
            generations: self.generations.len() as u32,
            started: self.shared.started,
            refused: self.shared.refused,
        }
    }

    /// Tasks that have not started.
    pub(super) fn waiting(&self) -> Vec<(SchedulerId, TaskId, MapId, OwnedEvent)> {
        let schedulers = self.generations.iter().flat_map(|generation| &generation.schedulers);
        let unstarted = schedulers.flat_map(|scheduler| {
            let tasks = scheduler.tasks.values().filter(|task| !task.is_running());
            tasks.map(|task| (scheduler.id, task.id, task.map, task.event.clone()))
        });
        unstarted.collect()
    }

    fn end(&mut self, out: &mut impl Effects) {
        let Shared { limits, tasks, bytes, refused_in_a_row, not_done, .. } = &mut self.shared;
        if *not_done > 999 {
            out.record(Record::NotDoneMore { count: *not_done - 999 });
        }
        *not_done = 0;
        let room = *tasks < limits.tasks_max
            && *tasks <= limits.tasks_max - limits.tasks_max / 8
            && *bytes <= limits.bytes_max - limits.bytes_max / 8;
        if *refused_in_a_row > 0 && room {
            out.record(Record::TasksMaxOver { refused: *refused_in_a_row });
            *refused_in_a_row = 0;
        }
        self.generations.retain(|generation| {
            generation.phase == Phase::Active
                || generation.schedulers.iter().any(|scheduler| !scheduler.tasks.is_empty())
        });
    }
}

impl Generation {
    fn tick(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        match self.phase {
            Phase::Closing { until } if until <= shared.now => {
                for scheduler in &mut self.schedulers {
                    scheduler.cut(shared, out);
                }
            }
            Phase::Retired { since } => {
                for scheduler in &mut self.schedulers {
                    scheduler.stop(since, self.timeout, shared, out);
                    scheduler.start_due(shared, out);
                }
            }
            Phase::Active | Phase::Closing { .. } => {
                for scheduler in &mut self.schedulers {
                    scheduler.start_due(shared, out);
                }
            }
        }
    }

    /// How retirement and shutdown begin.
    fn wait_or_cut(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        for scheduler in &mut self.schedulers {
            if scheduler.pending() > 0 {
                scheduler.wait_told = true;
                let count = scheduler.pending();
                out.record(Record::WaitForTasks { scheduler: scheduler.id, timeout: self.timeout, count });
            }
        }
        if self.timeout.is_zero() {
            self.phase = Phase::Closing { until: shared.now };
            for scheduler in &mut self.schedulers {
                scheduler.cut(shared, out);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let tasks = self.schedulers.iter().flat_map(|scheduler| scheduler.tasks.values());
        let own = tasks.filter_map(|task| match (task.state, self.phase) {
            (State::Waiting { due } | State::PutOff { due }, Phase::Closing { until }) => {
                Some(due.min(until))
            }
            (State::Waiting { due } | State::PutOff { due }, _) => Some(due),
            (State::Running { since, .. }, Phase::Retired { since: retired }) => {
                Some(since.max(retired) + self.timeout)
            }
            (State::Running { .. } | State::Queued, Phase::Closing { until }) => Some(until),
            (State::Running { .. } | State::Queued | State::Stopping, _) => None,
        });
        own.min()
    }
}

impl Scheduler {
    fn pending(&self) -> u32 {
        self.tasks.values().filter(|task| task.state != State::Stopping).count() as u32
    }

    fn key(&self, event: &OwnedEvent) -> Vec<u8> {
        if self.spec.singlejob { b"the one task".to_vec() } else { event.pathname.clone() }
    }

    fn has_place(&self) -> bool {
        let running = self.tasks.values().filter(|task| task.is_running()).count();
        self.spec.max_jobs.is_none_or(|max_jobs| running < max_jobs.get() as usize)
    }

    fn schedule(
        &mut self,
        phase: Phase,
        map: MapId,
        event: &OwnedEvent,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let fits = if event.is_dir { self.spec.dirs } else { self.spec.files };
        let key = self.key(event);
        if !fits || (phase != Phase::Active && !self.tasks.contains_key(&key)) {
            return;
        }
        let rule = match self.spec.rules.as_ref().map(|rules| rules.first_match(&event.pathname)) {
            None => None,
            Some(Ok(Some(rule))) if !event.pathname.is_empty() => Some(rule),
            Some(Err(StepLimit)) if !event.pathname.is_empty() => {
                return out.record(Record::RuleStepLimit { scheduler: self.id, event: &event.get() });
            }
            Some(_) => return out.record(Record::NoRule { scheduler: self.id, event: &event.get() }),
        };
        if self.tasks.contains_key(&key) {
            self.meet(&key, phase, map, rule, event, shared, out);
        } else {
            self.make(&key, map, rule, event, shared, out);
        }
    }

    fn make(
        &mut self,
        key: &[u8],
        map: MapId,
        rule: Option<usize>,
        event: &OwnedEvent,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        if shared.tasks >= shared.limits.tasks_max || shared.bytes >= shared.limits.bytes_max {
            shared.refused += 1;
            shared.refused_in_a_row += 1;
            if shared.refused_in_a_row == 1 {
                out.record(Record::TasksMax { scheduler: self.id, event: &event.get(), tasks: shared.tasks });
            }
            return;
        }
        let id = TaskId(shared.next_id);
        shared.next_id += 1;
        shared.tasks += 1;
        shared.charge(event, false);
        let (state, order, event) = (State::Queued, shared.order(), event.clone());
        let task = Task {
            id,
            state,
            order,
            event,
            run_mask: 0,
            rule,
            map,
            again: false,
            in_use_told: false,
            shares: false,
        };
        self.tasks.insert(key.to_vec(), task);
        if self.spec.delay.is_zero() {
            self.start_or_queue(key, shared, out);
        } else {
            self.wait(key, shared, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "naive on purpose")]
    fn meet(
        &mut self,
        key: &[u8],
        phase: Phase,
        map: MapId,
        rule: Option<usize>,
        event: &OwnedEvent,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let (id, retry) = (self.id, self.spec.retry_if_changed);
        let task = self.tasks.get_mut(key).expect("the caller looked");
        let record = TaskRecord { scheduler: id, id: task.id, event: event.get() };
        if !task.is_running() && phase != Phase::Active {
            return self.cancel(event, shared, out);
        }
        if let (true, Phase::Retired { .. }) = (task.is_running(), phase) {
            return;
        }
        if let State::Running { since, .. } = task.state {
            out.record(Record::SkippedOngoing { task: record });
            if retry && task.event.pathname == event.pathname {
                task.state = State::Running { since, marked: true };
                task.take(map, rule, event, shared);
            }
        } else if task.state == State::Stopping {
            out.record(Record::SkippedOngoing { task: record });
        } else {
            // Without a delay what waits keeps its turn.
            if !self.spec.delay.is_zero() {
                task.state = State::Waiting { due: shared.now + self.spec.delay };
                task.order = shared.order();
            }
            task.take(map, rule, event, shared);
            out.record(Record::Rescheduled { task: record, delay: self.spec.delay });
        }
    }

    fn cancel(&mut self, event: &OwnedEvent, shared: &mut Shared, out: &mut impl Effects) {
        let key = self.key(event);
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let record = TaskRecord { scheduler: self.id, id: task.id, event: event.get() };
        if task.is_running() {
            if let State::Running { marked, .. } = &mut task.state {
                *marked = false;
            }
            return out.record(Record::SkippedOngoing { task: record });
        }
        out.record(Record::CancelledWaiting { task: record });
        self.remove(&key, shared);
        self.tell_completed(out);
    }

    fn cancel_to_come(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let task = &self.tasks[key];
        let record = TaskRecord { scheduler: self.id, id: task.id, event: task.event.get() };
        out.record(Record::CancelledWaiting { task: record });
        self.remove(key, shared);
        self.tell_completed(out);
    }

    fn wait(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let task = self.tasks.get_mut(key).expect("the caller looked");
        task.share(shared);
        task.state = State::Waiting { due: shared.now + self.spec.delay };
        task.order = shared.order();
        let record = TaskRecord { scheduler: self.id, id: task.id, event: task.event.get() };
        out.record(Record::Scheduled { task: record, delay: self.spec.delay, again: task.again });
    }

    /// For a task that is new, or due.
    fn start_or_queue(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        if self.has_place() {
            return self.start(key, shared, out);
        }
        let task = self.tasks.get_mut(key).expect("the caller looked");
        task.share(shared);
        task.state = State::Queued;
        task.order = shared.order();
        if !self.max_jobs_told {
            self.max_jobs_told = true;
            let max_jobs = self.spec.max_jobs.expect("places are limited").get();
            out.record(Record::MaxJobs { scheduler: self.id, max_jobs });
        }
    }

    fn start(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let task = self.tasks.get_mut(key).expect("the caller looked");
        task.state = State::Running { since: shared.now, marked: false };
        task.order = shared.order();
        task.run_mask = task.event.mask;
        shared.started += 1;
        let event = task.event.get();
        let record = TaskRecord { scheduler: self.id, id: task.id, event };
        out.record(Record::Started { task: record, again: task.again });
        out.start(Start {
            // The engine's own business.
            handle: TaskHandle(0),
            id: task.id,
            scheduler: self.id,
            event,
            rule: task.rule,
            again: task.again,
        });
    }

    fn finished(&mut self, key: &[u8], outcome: &Outcome, shared: &mut Shared, out: &mut impl Effects) {
        let task = self.tasks.get_mut(key).expect("the caller looked");
        let event = Event { mask: Mask(task.run_mask), ..task.event.get() };
        let record = TaskRecord { scheduler: self.id, id: task.id, event };
        let stopping = task.state == State::Stopping;
        match outcome {
            Outcome::Done => out.record(Record::Finished { task: record }),
            Outcome::Unchanged => out.record(Record::Unchanged { task: record }),
            Outcome::Failed(_) if stopping => out.record(Record::CancelledOngoing { task: record }),
            Outcome::Failed(failure) if failure.kind == FailureKind::InUse => {}
            Outcome::Failed(failure) => out.record(Record::Failed { task: record, failure }),
            Outcome::Cancelled => out.record(Record::CancelledOngoing { task: record }),
        }
        match outcome {
            Outcome::Failed(failure) if failure.kind == FailureKind::InUse && !stopping => {
                task.share(shared);
                task.state = State::PutOff { due: shared.now + Duration::from_secs(1) };
                task.order = shared.order();
                let record = TaskRecord { scheduler: self.id, id: task.id, event: task.event.get() };
                if !std::mem::replace(&mut task.in_use_told, true) {
                    out.record(Record::PutOff { task: record, failure });
                }
            }
            Outcome::Done | Outcome::Unchanged | Outcome::Failed(_)
                if matches!(task.state, State::Running { marked: true, .. }) =>
            {
                task.again = true;
                task.share(shared);
                task.state = State::Queued;
                task.order = shared.order();
                if !self.spec.delay.is_zero() {
                    self.wait(key, shared, out);
                }
            }
            Outcome::Done | Outcome::Unchanged | Outcome::Failed(_) | Outcome::Cancelled => {
                self.remove(key, shared);
            }
        }
        while let Some(key) = self.first(|task| task.state == State::Queued).filter(|_| self.has_place()) {
            self.start(&key, shared, out);
        }
        self.tell_completed(out);
    }

    fn start_due(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        for _ in 0..shared.limits.starts_per_tick_max {
            let due = self.tasks.iter().filter_map(|(key, task)| Some((task.due()?, key)));
            let first = due.min().filter(|((due, ..), _)| *due <= shared.now);
            let Some(key) = first.map(|(_, key)| key.clone()) else { return };
            self.start_or_queue(&key, shared, out);
        }
    }

    fn stop(&mut self, retired: Instant, timeout: Duration, shared: &mut Shared, out: &mut impl Effects) {
        let over = |task: &Task| matches!(task.state, State::Running { since, .. } if since.max(retired) + timeout <= shared.now);
        let count = self.tasks.values().filter(|task| over(task)).count() as u32;
        if count == 0 {
            return;
        }
        self.wait_told = false;
        out.record(Record::TimeoutExceeded { scheduler: self.id, count });
        while let Some(key) = self.first(over) {
            let task = self.tasks.get_mut(&key).expect("it was found");
            task.state = State::Stopping;
            out.stop(TaskHandle(0), task.id);
        }
    }

    fn cut(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        let count = self.pending();
        if count == 0 {
            return;
        }
        self.wait_told = false;
        out.record(Record::TimeoutExceeded { scheduler: self.id, count });
        while let Some(key) = self.first(|task| matches!(task.state, State::Running { .. })) {
            let task = self.tasks.get_mut(&key).expect("it was found");
            task.state = State::Stopping;
            out.stop(TaskHandle(0), task.id);
        }
        for state in 0..3 {
            let next = |scheduler: &Scheduler| {
                let tasks = scheduler.tasks.iter().filter(|(_, task)| task.place() == Some(state));
                tasks.min_by_key(|(_, task)| (task.due(), task.order)).map(|(key, _)| key.clone())
            };
            while let Some(key) = next(self) {
                let task = &self.tasks[&key];
                let record = TaskRecord { scheduler: self.id, id: task.id, event: task.event.get() };
                shared.not_done(record, out);
                self.remove(&key, shared);
            }
        }
    }

    /// The key of the first task, in order, of which something is true.
    fn first(&self, wanted: impl Fn(&Task) -> bool) -> Option<Vec<u8>> {
        let found = self.tasks.iter().filter(|(_, task)| wanted(task)).min_by_key(|(_, task)| task.order);
        found.map(|(key, _)| key.clone())
    }

    fn remove(&mut self, key: &[u8], shared: &mut Shared) {
        let task = self.tasks.remove(key).expect("the caller looked");
        shared.tasks -= 1;
        shared.discharge(&task.event, task.shares);
    }

    fn tell_completed(&mut self, out: &mut impl Effects) {
        if self.wait_told && self.pending() == 0 {
            self.wait_told = false;
            out.record(Record::AllCompleted { scheduler: self.id });
        }
    }
}

impl Task {
    /// From now on it is to come, or was.
    fn share(&mut self, shared: &mut Shared) {
        shared.discharge(&self.event, self.shares);
        self.shares = true;
        shared.charge(&self.event, true);
    }

    fn take(&mut self, map: MapId, rule: Option<usize>, event: &OwnedEvent, shared: &mut Shared) {
        shared.discharge(&self.event, self.shares);
        shared.charge(event, self.shares);
        self.map = map;
        self.rule = rule;
        self.event = event.clone();
    }
}

/// What the paths of a task count: multiples of eight bytes, above 512 powers of two.
fn block_bytes(event: &OwnedEvent, shares: bool) -> u64 {
    let extra = |path: &Option<Vec<u8>>| path.as_ref().map_or(0, Vec::len);
    let lengths = if event.src_pathname.is_some() || event.given_path.is_some() { 8 } else { 0 };
    let paths = extra(&event.src_pathname) + extra(&event.given_path);
    let len = event.pathname.len() - if shares { event.dir().len() } else { 0 } + lengths + paths;
    let units = len.div_ceil(8).max(1) as u64;
    8 * if units <= 64 { units } else { units.next_power_of_two() }
}
