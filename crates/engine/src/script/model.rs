//! The engine again, without any cleverness: maps and sorted lists, paths copied, everything looked for from the start.
//!
//! It is written from the description of the behaviour and shares nothing with the engine but the public types, the
//! random numbers, and what an event becomes by a rename. Where the two differ, one of them is wrong.

mod scheduler;

use std::time::{Duration, Instant};

use event::{Event, Flag, Mask};

use self::scheduler::{Scheduler, Shared, State, Task};
use crate::engine::rename::renamed;
use crate::{
    Effects, GenerationId, GenerationIds, Limits, MapId, MapSpec, Outcome, Reaction, Record, SchedulerId,
    SchedulerSpec, Settled, Stats, StepLimit, TaskId, Waits,
};

/// Path, place of the scheduler, key, id and event of a task.
type Below = (Vec<u8>, usize, Vec<u8>, TaskId, OwnedEvent);

/// What is compared of a task.
pub(super) type Seen = (SchedulerId, u128, MapId, OwnedEvent, u32, String);

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

/// What a configuration lets its schedulers do.
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
    /// What took the place of each map.
    successors: Vec<Option<MapId>>,
}

/// The model.
pub(super) struct Model {
    shared: Shared,
    generations: Vec<Generation>,
    shutting_down: bool,
}

impl Model {
    pub(super) fn new(now: Instant, limits: Limits) -> Model {
        let shared = Shared::new(now, limits);
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
        let numbered = schedulers.into_iter().enumerate();
        let schedulers = numbered.map(|(index, spec)| Scheduler::new(ids.scheduler(index), spec)).collect();
        let successors = ids.maps.clone().map(MapId).map(Some).collect();
        self.generations.push(Generation {
            ids,
            phase: Phase::Active,
            timeout,
            schedulers,
            maps,
            successors,
        });
    }

    pub(super) fn event(&mut self, now: Instant, map: MapId, event: &OwnedEvent, out: &mut impl Effects) {
        let Some(at) = self.generations.iter().position(|one| one.ids.maps.contains(&map.0)) else { return };
        let generation = &self.generations[at];
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
            let (Reaction::Schedule(index) | Reaction::Cancel(index)) = reaction;
            if let Some(elder) = self.elder(at, index, event) {
                self.meet_elder(elder, (at, reaction), map, event, out);
                continue;
            }
            let Generation { phase, schedulers, .. } = &mut self.generations[at];
            let scheduler = &mut schedulers[index];
            match reaction {
                Reaction::Schedule(_) => scheduler.schedule(*phase, map, event, &mut self.shared, out),
                Reaction::Cancel(_) => scheduler.cancel(event, &mut self.shared, out),
            }
        }
        self.end(out);
    }

    /// The run of an older configuration that an event meets: its place, that of its scheduler, and its key.
    fn elder(&self, at: usize, index: usize, event: &OwnedEvent) -> Option<(usize, usize, Vec<u8>)> {
        let Generation { phase, schedulers, .. } = &self.generations[at];
        let heir = &schedulers[index];
        let hears = !heir.has_heir && !matches!(phase, Phase::Retired { .. });
        if !hears || heir.spec.batch.is_some() || heir.tasks.contains_key(&heir.key(event)) {
            return None;
        }
        for (at, one) in self.generations[..at].iter().enumerate().rev() {
            for (index, elder) in one.schedulers.iter().enumerate() {
                if let Some(key) = elder.run_of(heir, event) {
                    return Some((at, index, key));
                }
            }
        }
        None
    }

    fn meet_elder(
        &mut self,
        (older, elder, key): (usize, usize, Vec<u8>),
        (at, reaction): (usize, Reaction),
        map: MapId,
        event: &OwnedEvent,
        out: &mut impl Effects,
    ) {
        let (Reaction::Schedule(index) | Reaction::Cancel(index)) = reaction;
        let Generation { phase, schedulers, .. } = &self.generations[at];
        let (phase, heir) = (*phase, &schedulers[index]);
        if matches!(reaction, Reaction::Cancel(_)) {
            return self.generations[older].schedulers[elder].cancel_run(&key, event, out);
        }
        if !heir.fits(event) {
            return;
        }
        let Ok(rule) = heir.ask_rules(event, out) else { return };
        let busy = (heir.spec.on_busy, heir.spec.singlejob);
        let Generation { ids, successors, schedulers, .. } = &mut self.generations[older];
        let place = successors.iter().position(|successor| *successor == Some(map));
        let map = place.map_or(MapId(u32::MAX), |place| ids.map(place));
        let met = (phase, busy, false);
        schedulers[elder].meet_run(&key, met, map, rule, event, &mut self.shared, out);
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut impl Effects) {
        self.shared.now = now;
        for generation in &mut self.generations {
            generation.tick(&mut self.shared, out);
        }
        (0..self.generations.len()).for_each(|at| self.hand_over_left(at, out));
        self.end(out);
    }

    pub(super) fn finished(&mut self, now: Instant, id: TaskId, outcome: &Outcome, out: &mut impl Effects) {
        self.shared.now = now;
        if let Some((at, index, key)) = self.find(|task| task.id == id && task.is_running()) {
            let generation = &mut self.generations[at];
            generation.schedulers[index].finished(&key, outcome, &mut self.shared, out);
            generation.deliver(&mut self.shared, out);
            let heir = self.heir(at, index);
            if let Some(heir) = heir {
                self.count_elders(heir);
            }
            self.hand_over_left(at, out);
            if let Some((at, index)) = heir {
                self.generations[at].schedulers[index].fill_places(&mut self.shared, out);
            }
        }
        self.end(out);
    }

    pub(super) fn settled(&mut self, now: Instant, id: TaskId, answer: Settled<'_>, out: &mut impl Effects) {
        let Some((at, index, key)) = self.find(|task| task.id == id && task.state == State::Asked) else {
            return;
        };
        self.shared.now = now;
        let generation = &mut self.generations[at];
        let map = generation.schedulers[index].tasks[&key].map;
        let own = generation.ids.maps.contains(&map.0);
        let map = own.then(|| &generation.maps[(map.0 - generation.ids.maps.start) as usize]);
        let reactions = map.map(|map| map.reactions[Flag::Delete.index()].clone()).unwrap_or_default();
        let of = |reaction: &Reaction| match reaction {
            Reaction::Schedule(of) | Reaction::Cancel(of) => *of == index,
        };
        let deletion = reactions.into_iter().find(of);
        generation.schedulers[index].answer(&key, answer, deletion, &mut self.shared, out);
        generation.deliver(&mut self.shared, out);
        self.hand_over_left(at, out);
        self.end(out);
    }

    /// Where a task is of which something is true: the places of its configuration and scheduler, and its key.
    fn find(&self, wanted: impl Fn(&Task) -> bool) -> Option<(usize, usize, Vec<u8>)> {
        for (at, generation) in self.generations.iter().enumerate() {
            for (index, scheduler) in generation.schedulers.iter().enumerate() {
                if let Some((key, _)) = scheduler.tasks.iter().find(|(_, task)| wanted(task)) {
                    return Some((at, index, key.clone()));
                }
            }
        }
        None
    }

    fn scheduler(&mut self, id: SchedulerId) -> Option<&mut Scheduler> {
        self.generations.iter_mut().flat_map(|one| &mut one.schedulers).find(|one| one.id == id)
    }

    pub(super) fn cancel(&mut self, now: Instant, id: TaskId, out: &mut impl Effects) -> bool {
        let Some((at, index, key)) = self.find(|task| task.id == id) else { return false };
        self.shared.now = now;
        let scheduler = &mut self.generations[at].schedulers[index];
        if scheduler.tasks[&key].is_running() {
            scheduler.stop_for_good(&key, &mut self.shared, out);
        } else {
            scheduler.cancel_to_come(&key, &mut self.shared, out);
        }
        self.end(out);
        true
    }

    pub(super) fn run_now(&mut self, now: Instant, id: TaskId, out: &mut impl Effects) -> bool {
        let found = self.find(|task| task.id == id && !task.is_running());
        let Some((at, index, key)) = found else { return false };
        self.shared.now = now;
        self.generations[at].schedulers[index].run_now(&key, &mut self.shared, out);
        self.end(out);
        true
    }

    pub(super) fn set_paused(&mut self, now: Instant, id: SchedulerId, paused: bool, out: &mut impl Effects) {
        self.shared.now = now;
        let mut shared = std::mem::replace(&mut self.shared, Shared::new(now, Limits::default()));
        if let Some(scheduler) = self.scheduler(id) {
            scheduler.paused = paused;
            scheduler.fill_places(&mut shared, out);
        }
        self.shared = shared;
        self.end(out);
    }

    pub(super) fn limit_commands(&mut self, now: Instant, max: Option<u32>, out: &mut impl Effects) {
        self.shared.now = now;
        self.shared.commands_max = max;
        self.shared.to_fill = true;
        self.end(out);
    }

    pub(super) fn restore(
        &mut self,
        now: Instant,
        (scheduler, map): (SchedulerId, MapId),
        event: &OwnedEvent,
        task: (TaskId, Instant, u32, Waits),
        out: &mut impl Effects,
    ) -> bool {
        self.shared.now = now;
        let is_taken = self.has_elder_run(scheduler, event);
        let mut shared = std::mem::replace(&mut self.shared, Shared::new(now, Limits::default()));
        let scheduler = self.scheduler(scheduler).filter(|_| !is_taken);
        let made = scheduler.is_some_and(|scheduler| scheduler.restore(map, event, task, &mut shared));
        self.shared = shared;
        self.end(out);
        made
    }

    pub(super) fn restore_run(
        &mut self,
        now: Instant,
        (scheduler, map): (SchedulerId, MapId),
        event: &OwnedEvent,
        task: (TaskId, u32, bool),
        out: &mut impl Effects,
    ) -> bool {
        self.shared.now = now;
        let is_taken = self.has_elder_run(scheduler, event);
        let mut shared = std::mem::replace(&mut self.shared, Shared::new(now, Limits::default()));
        let scheduler = self.scheduler(scheduler).filter(|_| !is_taken);
        let made = scheduler.is_some_and(|scheduler| scheduler.restore_run(map, event, task, &mut shared));
        self.shared = shared;
        self.end(out);
        made
    }

    fn has_elder_run(&self, id: SchedulerId, event: &OwnedEvent) -> bool {
        let at = self.generations.iter().position(|one| one.ids.schedulers.contains(&id.0));
        let index = at.map(|at| (id.0 - self.generations[at].ids.schedulers.start) as usize);
        at.zip(index).is_some_and(|(at, index)| self.elder(at, index, event).is_some())
    }

    /// The newest scheduler of a name and kind, if another one is newer.
    fn heir(&self, at: usize, index: usize) -> Option<(usize, usize)> {
        let elder = &self.generations[at].schedulers[index];
        let newer = (at + 1..self.generations.len()).rev();
        let mut heirs = newer.filter_map(|at| {
            let place = self.generations[at].schedulers.iter().position(|one| one.is_like(elder))?;
            Some((at, place))
        });
        heirs.next()
    }

    fn count_elders(&mut self, (at, index): (usize, usize)) {
        let heir = &self.generations[at].schedulers[index];
        let older = self.generations[..at].iter().flat_map(|one| &one.schedulers);
        let elders = older.filter(|one| one.is_like(heir));
        let runs = elders.clone().map(Scheduler::running).sum();
        let holds_up = elders.clone().any(|elder| elder.holds_up(heir));
        self.generations[at].schedulers[index].elders = (runs, holds_up);
    }

    fn hand_over_left(&mut self, at: usize, out: &mut impl Effects) {
        for index in 0..self.generations[at].schedulers.len() {
            if self.generations[at].phase != Phase::Active
                && self.generations[at].schedulers[index].has_left()
            {
                self.hand_over(at, index, out);
            }
        }
    }

    /// Gives what is to come of a scheduler to the newest one of its name and kind.
    fn hand_over(&mut self, from: usize, index: usize, out: &mut impl Effects) {
        let Some((to, place)) = self.heir(from, index) else { return };
        let elder = &mut self.generations[from].schedulers[index];
        elder.give_way();
        let batch_due = elder.batch_due(&self.shared);
        let (mut given, mut starts) = (elder.give_to_come(), elder.take_starts());
        elder.tell_completed(out);
        let own = &mut self.generations[to].schedulers[place].starts;
        starts.extend(own.drain(..));
        starts.make_contiguous().sort();
        *own = starts;
        self.count_elders((to, place));
        if self.generations[to].schedulers[place].spec.singlejob {
            // The latest event's comes first, and stays.
            let keyed = given.iter().enumerate().filter(|(_, (_, task))| !task.keyless);
            if let Some((latest, _)) = keyed.max_by_key(|(_, (_, task))| (task.lateness(), task.time)) {
                let task = given.remove(latest);
                given.insert(0, task);
            }
        }
        for (key, task) in given {
            let Generation { ids, successors, .. } = &self.generations[from];
            let own = task.map.0.checked_sub(ids.maps.start);
            let map = own.and_then(|own| successors.get(own as usize).copied().flatten());
            let map = map.filter(|map| self.generations[to].ids.maps.contains(&map.0));
            let map = map.unwrap_or(MapId(u32::MAX));
            self.generations[to].schedulers[place].adopt(key, task, (map, batch_due), &mut self.shared, out);
        }
    }

    pub(super) fn retire(
        &mut self,
        now: Instant,
        id: GenerationId,
        map: impl Fn(MapId) -> Option<MapId>,
        out: &mut impl Effects,
    ) {
        let Some(at) = self.generations.iter().position(|one| one.ids.id == id) else { return };
        self.shared.now = now;
        let is_active = self.generations[at].phase == Phase::Active;
        if is_active {
            for successor in self.generations[..=at].iter_mut().flat_map(|one| &mut one.successors) {
                *successor = successor.and_then(&map);
            }
            for scheduler in self.generations[at].schedulers.iter().filter(|scheduler| !scheduler.paused) {
                out.record(Record::Paused { scheduler: scheduler.id });
            }
        }
        for from in 0..self.generations.len() {
            for index in 0..self.generations[from].schedulers.len() {
                self.hand_over(from, index, out);
            }
        }
        let generation = &mut self.generations[at];
        if is_active {
            for scheduler in &mut generation.schedulers {
                scheduler.give_up_retries(false, &mut self.shared, out);
            }
            generation.phase = Phase::Retired { since: now };
            if generation.timeout.is_zero() {
                generation.close(&mut self.shared, out);
            } else {
                generation.tell_wait(out);
            }
        }
        self.end(out);
    }

    pub(super) fn shutdown(&mut self, now: Instant, out: &mut impl Effects) {
        if self.shutting_down {
            return;
        }
        self.shutting_down = true;
        self.shared.daemon_ends = true;
        self.shared.now = now;
        for generation in &mut self.generations {
            generation.close(&mut self.shared, out);
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
        let found = self.below(from, Some(map), to.is_some());
        let mut gone = None;
        for (pathname, scheduler, key, id, event) in found {
            let one = &self.generations[at].schedulers[scheduler];
            if let Some(to) = to {
                if tells_of(&event, from, Flag::MovedFrom.mask()) {
                    continue;
                }
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

    pub(super) fn set_aside(&mut self, now: Instant, map: MapId, from: &[u8], aside: &[u8]) {
        let Some(at) = self.generations.iter().position(|one| one.ids.maps.contains(&map.0)) else { return };
        self.shared.now = now;
        for (_, index, key, _, event) in self.below(from, Some(map), true) {
            if tells_of(&event, from, Flag::MovedFrom | Flag::MovedTo) {
                continue;
            }
            let event = OwnedEvent::of(&renamed(&event.get(), from, aside).get());
            self.generations[at].schedulers[index].set_aside(
                &key,
                map,
                &event,
                (from, aside),
                &mut self.shared,
            );
        }
    }

    pub(super) fn withdraw(&mut self, now: Instant, pathname: &[u8], out: &mut impl Effects) {
        self.shared.now = now;
        let found = self.below(pathname, None, false);
        if !found.is_empty() {
            out.record(Record::Withdrawn { pathname, count: found.len() as u32 });
        }
        for (_, _, key, id, _) in found {
            let schedulers = self.generations.iter_mut().flat_map(|one| &mut one.schedulers);
            for scheduler in schedulers.filter(|one| one.tasks.get(&key).is_some_and(|task| task.id == id)) {
                scheduler.cancel_to_come(&key, &mut self.shared, out);
            }
        }
        self.end(out);
    }

    /// Tasks of a path or below, of one map or of all, to come or also running: path, place of the scheduler, key, id
    /// and event.
    fn below(&self, from: &[u8], map: Option<MapId>, running: bool) -> Vec<Below> {
        let mut found = Vec::new();
        for (at, scheduler) in self.generations.iter().flat_map(|one| one.schedulers.iter().enumerate()) {
            for (key, task) in &scheduler.tasks {
                let below = task.event.pathname.strip_prefix(from);
                // No path leads to what the run of a batch is for.
                let has_key = scheduler.spec.batch.is_none() || !task.is_running();
                let below = below.is_some_and(|rest| rest.first().map_or(has_key, |next| *next == b'/'));
                let is_of_kind = running || !task.is_running();
                if below && is_of_kind && !task.keyless && map.is_none_or(|map| task.map == map) {
                    found.push((scheduler.id, at, key, task));
                }
            }
        }
        found.sort_by_key(|(id, _, _, task)| (&task.event.pathname, *id, !task.is_running()));
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
        let task = &self.generations[at].schedulers[index].tasks[key];
        let event = OwnedEvent::of(&renamed(&task.event.get(), from, to).get());
        let elder = self.elder(at, index, &event);
        let Generation { ids, phase, schedulers, maps, .. } = &mut self.generations[at];
        let scheduler = &mut schedulers[index];
        let pathname = &event.pathname;
        let exclude = maps[(map.0 - ids.maps.start) as usize].exclude.as_ref();
        let asked = [pathname.as_slice(), to].map(|path| exclude.map(|exclude| exclude.first_match(path)));
        let excluded = asked.into_iter().flatten().find_map(|answer| match answer {
            Ok(None) => None,
            Ok(Some(_)) => Some(Record::Excluded { map, pathname }),
            Err(StepLimit) => Some(Record::ExcludeStepLimit { map, pathname }),
        });
        if let Some(record) = excluded {
            out.record(record);
            return scheduler.drop_rest(key, &mut self.shared, out);
        }
        let new_key = scheduler.key(&event);
        if scheduler.tasks[key].is_running() {
            if new_key == key || !scheduler.tasks.contains_key(&new_key) {
                scheduler.rename_run((key, new_key), map, &event, (from, to), &mut self.shared, out);
            }
            return;
        }
        if new_key != key && scheduler.tasks.contains_key(&new_key) {
            scheduler.cancel_to_come(key, &mut self.shared, out);
            return scheduler.schedule(*phase, map, &event, &mut self.shared, out);
        }
        if let Some(elder) = elder {
            scheduler.cancel_to_come(key, &mut self.shared, out);
            return self.meet_elder(elder, (at, Reaction::Schedule(index)), map, &event, out);
        }
        scheduler.rename((key, new_key), map, &event, (from, to), &mut self.shared, out);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.generations.iter().filter_map(|one| one.deadline(&self.shared)).min()
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
            waiting: tasks().filter(|task| !task.is_running() && task.state != State::Queued).count() as u32,
            queued: tasks().filter(|task| task.state == State::Queued).count() as u32,
            running: tasks().filter(|task| task.is_running()).count() as u32,
            generations: self.generations.len() as u32,
            started: self.shared.started,
            refused: self.shared.refused,
        }
    }

    /// Tasks that are to come.
    pub(super) fn to_come(&self) -> Vec<Seen> {
        let schedulers = self.generations.iter().flat_map(|generation| &generation.schedulers);
        let to_come = schedulers.flat_map(|scheduler| {
            let tasks = scheduler.tasks.values().filter(|task| !task.is_running());
            tasks.map(|task| {
                let Task { id, map, event, attempt, reason, failure, .. } = task.clone();
                let reason = if reason.is_empty() { failure } else { reason };
                (scheduler.id, id.0, map, event, attempt, reason)
            })
        });
        to_come.collect()
    }

    fn fill_commands(&mut self, out: &mut impl Effects) {
        while std::mem::take(&mut self.shared.to_fill) {
            loop {
                let shared = &mut self.shared;
                let schedulers = self.generations.iter_mut().flat_map(|one| &mut one.schedulers);
                let ready = schedulers.filter(|one| one.is_ready_command(shared));
                let Some(scheduler) = ready.min_by_key(|one| (one.queued_since(), one.id)) else { break };
                let key = scheduler.first(State::Queued).expect("it has one");
                scheduler.start(&key, &mut self.shared, out);
            }
        }
    }

    fn end(&mut self, out: &mut impl Effects) {
        self.fill_commands(out);
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
                || generation.schedulers.iter().any(|one| !one.tasks.is_empty() || one.elders.0 > 0)
        });
    }
}

impl Generation {
    fn tick(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        match self.phase {
            Phase::Closing { until } if until <= shared.now => {
                return self.schedulers.iter_mut().for_each(|scheduler| scheduler.cut(shared, out));
            }
            Phase::Active | Phase::Retired { .. } | Phase::Closing { .. } => {}
        }
        let phase = self.phase;
        for scheduler in &mut self.schedulers {
            if deadline(scheduler, phase, self.timeout, shared).is_none_or(|due| due > shared.now) {
                continue;
            }
            if let Phase::Retired { since } = phase {
                scheduler.stop(since, self.timeout, shared, out);
            }
            scheduler.tick(shared, out);
        }
        self.deliver(shared, out);
    }

    fn deliver(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        for (receivers, map, event, error, attempts, id) in std::mem::take(&mut shared.failures) {
            for receiver in receivers {
                let failed = (error.clone(), attempts, id);
                self.schedulers[receiver].receive((map, &event), failed, shared, out);
            }
        }
    }

    fn tell_wait(&mut self, out: &mut impl Effects) {
        self.schedulers.iter_mut().for_each(|scheduler| scheduler.tell_wait(self.timeout, out));
    }

    /// The daemon ends, or what is left of this configuration.
    fn close(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        self.phase = Phase::Closing { until: shared.now + self.timeout };
        for scheduler in &mut self.schedulers {
            scheduler.give_up_retries(true, shared, out);
        }
        self.tell_wait(out);
        if self.timeout.is_zero() {
            self.schedulers.iter_mut().for_each(|scheduler| scheduler.cut(shared, out));
        }
    }

    fn deadline(&self, shared: &Shared) -> Option<Instant> {
        let due = |scheduler| deadline(scheduler, self.phase, self.timeout, shared);
        let first = self.schedulers.iter().filter_map(due).min();
        match self.phase {
            Phase::Active | Phase::Retired { .. } => first,
            Phase::Closing { until } => {
                let pending = self.schedulers.iter().any(|scheduler| scheduler.pending() > 0);
                pending.then(|| first.map_or(until, |first| first.min(until)))
            }
        }
    }
}

/// When a scheduler has something to do by itself, or the time of a run of a replaced configuration is over.
fn deadline(scheduler: &Scheduler, phase: Phase, timeout: Duration, shared: &Shared) -> Option<Instant> {
    let due = scheduler.deadline(shared);
    let Phase::Retired { since } = phase else { return due };
    let running = scheduler.tasks.values().filter(|task| task.state == State::Running);
    let over = running.map(|task| task.time.max(since) + timeout).min();
    [due, over].into_iter().flatten().min()
}

fn tells_of(event: &OwnedEvent, pathname: &[u8], flags: Mask) -> bool {
    event.pathname == pathname && Mask(event.mask).intersects(flags)
}
