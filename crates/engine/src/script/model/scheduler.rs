//! One scheduler of the model, and what all schedulers share.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use event::{Flag, Mask};

use super::{OwnedEvent, Phase};
use crate::dirs::DIR_BYTES;
use crate::random::Random;
use crate::tasks::TASK_BYTES;
use crate::{
    BatchEvent, Effects, FailedTask, Failure, FailureKind, Limits, MapId, NotDone, OnBusy, Outcome, Question,
    Reaction, Record, Retry, SchedulerId, SchedulerKind, SchedulerSpec, Settled, Start, StepLimit,
    TaskHandle, TaskId, TaskRecord, Waits,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    PutOff,
    Retrying,
    Settling,
    Asked,
    Gathered,
    Queued,
    Running,
    Stopping,
    /// The run of another task is for it.
    Taken,
}

#[expect(clippy::struct_excessive_bools, reason = "naive on purpose")]
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) state: State,
    /// When it is due or since when it is in its state.
    pub(super) time: Instant,
    /// When it came into its state, as a serial number: tasks are taken in this order.
    order: u64,
    /// It is due at another time than those that wait for the plain delay.
    odd: bool,
    pub(super) event: OwnedEvent,
    run_mask: u32,
    run_event: Option<OwnedEvent>,
    /// Its directory was renamed during its run: the latest time from there to there,
    followed: Option<(Vec<u8>, Vec<u8>)>,
    /// or to where it is not wanted.
    unwanted: bool,
    rule: Option<usize>,
    pub(super) map: MapId,
    again: bool,
    in_use_told: bool,
    pub(super) attempt: u32,
    marked: bool,
    restart: bool,
    timed_out: bool,
    pub(super) keyless: bool,
    /// Its run is that of an earlier life of the daemon.
    earlier: bool,
    settled: bool,
    pub(super) ask_rules: bool,
    first: Option<Instant>,
    not_before: Option<Instant>,
    settles_since: Option<Instant>,
    pub(super) reason: String,
    /// Why its latest try failed.
    pub(super) failure: String,
    reruns: u32,
    retry: Option<Instant>,
    failed: Option<(String, u32, TaskId)>,
}

impl Task {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running | State::Stopping | State::Taken)
    }

    fn has_place(&self) -> bool {
        matches!(self.state, State::Running | State::Stopping)
    }

    /// When it is due, with what decides between tasks that are due at one time.
    fn due(&self) -> Option<(Instant, bool, u64)> {
        match self.state {
            State::Waiting | State::PutOff | State::Retrying | State::Settling => {
                Some((self.time, self.odd, self.order))
            }
            State::Asked
            | State::Gathered
            | State::Queued
            | State::Running
            | State::Stopping
            | State::Taken => None,
        }
    }

    /// The place in the order in which tasks to come are given up.
    fn place(&self) -> Option<(u8, Option<Instant>, u64)> {
        match self.state {
            State::Waiting | State::PutOff | State::Retrying | State::Settling if self.odd => {
                Some((1, Some(self.time), self.order))
            }
            State::Waiting | State::PutOff | State::Retrying | State::Settling => Some((0, None, self.order)),
            State::Asked => Some((2, None, self.order)),
            State::Gathered => Some((3, None, self.order)),
            State::Queued => Some((4, None, self.order)),
            State::Running | State::Stopping | State::Taken => None,
        }
    }

    /// How late its event is among those to come: what waits for its delay heard of it last.
    pub(super) fn lateness(&self) -> u8 {
        match self.state {
            State::Waiting => 2,
            State::Gathered | State::Queued => 1,
            State::PutOff
            | State::Retrying
            | State::Settling
            | State::Asked
            | State::Running
            | State::Stopping
            | State::Taken => 0,
        }
    }

    fn event_of_run(&self) -> OwnedEvent {
        match &self.run_event {
            Some(event) => event.clone(),
            None => OwnedEvent { mask: self.run_mask, ..self.event.clone() },
        }
    }

    fn take(&mut self, map: MapId, rule: Option<usize>, event: &OwnedEvent, shared: &mut Shared) {
        shared.discharge(&self.event);
        shared.charge(event);
        self.map = map;
        self.rule = rule;
        self.event = event.clone();
    }

    fn cancel_rerun(&mut self) {
        self.marked = false;
        self.earlier &= !self.restart;
        self.restart = false;
    }

    fn forget_marks(&mut self) {
        self.marked = false;
        self.restart = false;
        self.retry = None;
    }
}

/// The event of a task that failed for good: receivers, map, event, error, attempts, id.
pub(super) type Delivery = (Vec<usize>, MapId, OwnedEvent, String, u32, TaskId);

/// What all schedulers share.
pub(super) struct Shared {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) limits: Limits,
    next_id: u128,
    next_order: u64,
    pub(super) tasks: u32,
    pub(super) bytes: u64,
    /// Directories of tasks, with how many tasks each has.
    dirs: BTreeMap<Vec<u8>, u32>,
    pub(super) started: u64,
    pub(super) refused: u64,
    pub(super) refused_in_a_row: u64,
    pub(super) daemon_ends: bool,
    pub(super) not_done: u32,
    pub(super) commands_max: Option<u32>,
    pub(super) commands: u32,
    pub(super) to_fill: bool,
    pub(super) failures: Vec<Delivery>,
    random: Random,
}

impl Shared {
    pub(super) fn new(now: Instant, limits: Limits) -> Shared {
        Shared {
            now,
            start: now,
            random: Random::new(!limits.random_seed),
            limits,
            next_id: 1,
            next_order: 0,
            tasks: 0,
            bytes: 0,
            dirs: BTreeMap::new(),
            started: 0,
            refused: 0,
            refused_in_a_row: 0,
            daemon_ends: false,
            not_done: 0,
            commands_max: None,
            commands: 0,
            to_fill: false,
            failures: Vec::new(),
        }
    }

    /// Counts the bytes of a task with an event.
    fn charge(&mut self, event: &OwnedEvent) {
        self.bytes += TASK_BYTES as u64 + block_bytes(event);
        let dir = event.dir();
        let tasks = self.dirs.entry(dir.to_vec()).or_default();
        if *tasks == 0 {
            self.bytes += DIR_BYTES as u64 + dir.len() as u64;
        }
        *tasks += 1;
    }

    /// Takes them back.
    fn discharge(&mut self, event: &OwnedEvent) {
        self.bytes -= TASK_BYTES as u64 + block_bytes(event);
        let dir = event.dir();
        let tasks = self.dirs.get_mut(dir).expect("it was counted");
        *tasks -= 1;
        if *tasks == 0 {
            self.dirs.remove(dir);
            self.bytes -= DIR_BYTES as u64 + dir.len() as u64;
        }
    }

    /// Records a task that a shutdown did not wait for.
    fn not_done(&mut self, task: TaskRecord<'_>, why: NotDone, out: &mut impl Effects) {
        self.not_done += 1;
        out.record(Record::NotDone { task, why, is_named: self.not_done <= 999 });
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    fn is_full(&self) -> bool {
        self.tasks >= self.limits.tasks_max || self.bytes >= self.limits.bytes_max
    }

    fn refuse(&mut self, scheduler: SchedulerId, event: &OwnedEvent, out: &mut impl Effects) {
        self.refused += 1;
        self.refused_in_a_row += 1;
        if self.refused_in_a_row == 1 {
            out.record(Record::TasksMax { scheduler, event: &event.get(), tasks: self.tasks });
        }
    }

    fn forget(&mut self, task: &Task) {
        self.tasks -= 1;
        self.discharge(&task.event);
        self.bytes -= task.failed.as_ref().map_or(0, |failed| failed.0.len() as u64);
        self.bytes -= task.failure.len() as u64;
    }
}

#[expect(clippy::struct_excessive_bools, reason = "naive on purpose")]
pub(super) struct Scheduler {
    pub(super) id: SchedulerId,
    pub(super) spec: SchedulerSpec,
    pub(super) tasks: BTreeMap<Vec<u8>, Task>,
    /// All starts there were.
    pub(super) starts: VecDeque<Instant>,
    pub(super) paused: bool,
    to_fill: bool,
    retries: bool,
    pub(super) has_heir: bool,
    /// Runs of those whose heir it is, and whether it waits for all of them.
    pub(super) elders: (usize, bool),
    max_jobs_told: bool,
    max_rate_told: bool,
    wait_told: bool,
    gathered_last: Option<Instant>,
    /// When it last looked whether something that is queued may start.
    looked_at: Option<Instant>,
    split_told: bool,
}

impl Scheduler {
    pub(super) fn new(id: SchedulerId, spec: SchedulerSpec) -> Scheduler {
        Scheduler {
            id,
            spec,
            tasks: BTreeMap::new(),
            starts: VecDeque::new(),
            paused: false,
            to_fill: false,
            retries: true,
            has_heir: false,
            elders: (0, false),
            max_jobs_told: false,
            max_rate_told: false,
            wait_told: false,
            gathered_last: None,
            looked_at: None,
            split_told: false,
        }
    }

    pub(super) fn pending(&self) -> u32 {
        let runs = self.first(State::Running).is_some();
        let pending = |task: &&Task| match task.state {
            State::Stopping => false,
            State::Taken => runs,
            _ => true,
        };
        self.tasks.values().filter(pending).count() as u32
    }

    pub(super) fn key(&self, event: &OwnedEvent) -> Vec<u8> {
        if self.spec.singlejob { b"the one task".to_vec() } else { event.pathname.clone() }
    }

    pub(super) fn running(&self) -> usize {
        self.tasks.values().filter(|task| task.has_place()).count()
    }

    fn places_are_taken(&self) -> bool {
        let running = self.running() + self.elders.0;
        if self.spec.batch.is_some() {
            return running > 0;
        }
        self.spec.max_jobs.is_some_and(|max_jobs| running >= max_jobs.get() as usize)
    }

    fn has_place(&self) -> bool {
        !self.places_are_taken() && !self.elders.1
    }

    pub(super) fn is_like(&self, other: &Scheduler) -> bool {
        self.spec.name == other.spec.name && self.spec.kind == other.spec.kind
    }

    /// The key of the run that an event meets which is for its heir.
    pub(super) fn run_of(&self, heir: &Scheduler, event: &OwnedEvent) -> Option<Vec<u8>> {
        let single = self.spec.singlejob && heir.spec.singlejob;
        let meets = |task: &Task| {
            task.is_running() && !task.keyless && (single || task.event.pathname == event.pathname)
        };
        let found = self.tasks.iter().find(|(_, task)| self.spec.batch.is_none() && meets(task));
        found.filter(|_| self.is_like(heir)).map(|(key, _)| key.clone())
    }

    /// Whether a run of it may be on the path of any task of its heir.
    pub(super) fn holds_up(&self, heir: &Scheduler) -> bool {
        let has_batch = self.spec.batch.is_some() && heir.spec.batch.is_none() && self.running() > 0;
        let paths = self.spec.batch.is_none() && !self.spec.singlejob && heir.spec.singlejob;
        has_batch || (paths && self.tasks.values().any(|task| task.is_running() && !task.keyless))
    }

    pub(super) fn give_way(&mut self) {
        self.retries |= !self.has_heir;
        self.has_heir = true;
        self.elders = (0, false);
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_heir && self.tasks.values().any(|task| !task.is_running())
    }

    fn within_rate(&self, now: Instant) -> bool {
        let Some(rate) = self.spec.max_rate else { return true };
        let recent = self.starts.iter().filter(|start| **start + rate.span > now).count();
        recent < rate.starts.get() as usize
    }

    fn is_command(&self) -> bool {
        self.spec.kind == SchedulerKind::Command
    }

    fn can_start(&self, shared: &Shared) -> bool {
        let common = !self.is_command() || shared.commands_max.is_none_or(|max| shared.commands < max);
        self.has_place() && !self.paused && !self.has_heir && self.within_rate(shared.now) && common
    }

    fn has_queued(&self) -> bool {
        self.tasks.values().any(|task| task.state == State::Queued)
    }

    fn get(&mut self, key: &[u8]) -> &mut Task {
        self.tasks.get_mut(key).expect("the caller looked")
    }

    fn record<'a>(&self, task: &'a Task) -> TaskRecord<'a> {
        TaskRecord { scheduler: self.id, id: task.id, event: task.event.get(), others: 0 }
    }

    fn others(&self) -> u32 {
        self.tasks.values().filter(|task| task.state == State::Taken).count() as u32
    }

    /// The rule that matches, where there are rules; `Err` if none does.
    pub(super) fn ask_rules(&self, event: &OwnedEvent, out: &mut impl Effects) -> Result<Option<usize>, ()> {
        match self.spec.rules.as_ref().map(|rules| rules.first_match(&event.pathname)) {
            None => Ok(None),
            Some(Ok(Some(rule))) if !event.pathname.is_empty() => Ok(Some(rule)),
            Some(Err(StepLimit)) if !event.pathname.is_empty() => {
                out.record(Record::RuleStepLimit { scheduler: self.id, event: &event.get() });
                Err(())
            }
            Some(_) => {
                out.record(Record::NoRule { scheduler: self.id, event: &event.get() });
                Err(())
            }
        }
    }

    pub(super) fn fits(&self, event: &OwnedEvent) -> bool {
        if event.is_dir { self.spec.dirs } else { self.spec.files }
    }

    pub(super) fn schedule(
        &mut self,
        phase: Phase,
        map: MapId,
        event: &OwnedEvent,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let key = self.key(event);
        if !self.fits(event) || (phase != Phase::Active && !self.tasks.contains_key(&key)) {
            return;
        }
        let Ok(rule) = self.ask_rules(event, out) else { return };
        if self.tasks.contains_key(&key) {
            self.meet(&key, phase, map, rule, event, shared, out);
        } else if shared.is_full() {
            shared.refuse(self.id, event, out);
        } else {
            let batch = self.spec.batch.is_some();
            self.insert(&key, map, rule, event, shared);
            if batch {
                self.gather(&key, shared, out);
            } else if self.spec.delay.is_zero() {
                self.offer(&key, shared, out);
            } else {
                self.wait(&key, shared, out);
            }
        }
    }

    fn insert(
        &mut self,
        key: &[u8],
        map: MapId,
        rule: Option<usize>,
        event: &OwnedEvent,
        shared: &mut Shared,
    ) {
        let id = TaskId(shared.next_id);
        shared.next_id += 1;
        shared.tasks += 1;
        shared.charge(event);
        let task = Task {
            id,
            state: State::Waiting,
            time: shared.now,
            order: 0,
            odd: false,
            event: event.clone(),
            run_mask: 0,
            run_event: None,
            followed: None,
            unwanted: false,
            rule,
            map,
            again: false,
            in_use_told: false,
            attempt: 1,
            marked: false,
            restart: false,
            timed_out: false,
            keyless: false,
            earlier: false,
            settled: false,
            ask_rules: false,
            first: None,
            not_before: None,
            settles_since: None,
            reason: String::new(),
            failure: String::new(),
            reruns: 0,
            retry: None,
            failed: None,
        };
        self.tasks.insert(key.to_vec(), task);
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
        let (id, delay) = (self.id, self.spec.delay);
        let task = self.tasks.get_mut(key).expect("the caller looked");
        let record = TaskRecord { scheduler: id, id: task.id, event: event.get(), others: 0 };
        if task.is_running() {
            if !matches!(phase, Phase::Retired { .. }) && !self.has_heir {
                let busy = (self.spec.on_busy, self.spec.singlejob);
                self.meet_run(key, (phase, busy, true), map, rule, event, shared, out);
            }
            return;
        }
        if phase != Phase::Active {
            return self.cancel(event, shared, out);
        }
        task.take(map, rule, event, shared);
        if self.spec.batch.is_some() && task.state != State::Queued {
            if task.state == State::Gathered {
                self.gathered_last = Some(shared.now);
            } else {
                task.anew(shared);
                self.join(key, shared.now, shared);
            }
            return self.gathered(key, shared, out);
        }
        task.ask_rules = false;
        let keeps_time = match task.state {
            State::Queued => true,
            State::PutOff | State::Settling | State::Asked => delay.is_zero(),
            State::Waiting
            | State::Retrying
            | State::Gathered
            | State::Running
            | State::Stopping
            | State::Taken => false,
        };
        if !keeps_time {
            if task.state != State::Waiting {
                task.anew(shared);
            }
            self.arm(key, shared);
        }
        out.record(Record::Rescheduled { task: record, delay });
    }

    /// An event meets a run: its own, or one of an elder.
    #[expect(clippy::too_many_arguments, reason = "naive on purpose")]
    pub(super) fn meet_run(
        &mut self,
        key: &[u8],
        (phase, (on_busy, single), own): (Phase, (OnBusy, bool), bool),
        map: MapId,
        rule: Option<usize>,
        event: &OwnedEvent,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let (id, batch) = (self.id, self.spec.batch.is_some());
        let task = self.get(key);
        let record = TaskRecord { scheduler: id, id: task.id, event: event.get(), others: 0 };
        let earlier = task.earlier && phase == Phase::Active && !batch;
        let ends = own && task.state == State::Stopping && !task.timed_out && !task.restart;
        let same_path = task.event.pathname == event.pathname;
        let reads = event.get().mask.intersects(Mask::READING);
        if !earlier && !ends && on_busy == OnBusy::RunAgainIfChanged && same_path && !reads {
            out.record(Record::SkippedOngoing { task: record });
            task.marked = true;
            return task.take(map, rule, event, shared);
        }
        let restart = !earlier && on_busy == OnBusy::Restart && phase == Phase::Active;
        let renamed = on_busy == OnBusy::Skip && same_path && !single && task.followed.is_some();
        if !earlier && (ends || !(restart || renamed || on_busy == OnBusy::Rerun)) {
            return out.record(Record::SkippedOngoing { task: record });
        }
        if !same_path {
            task.run_event = Some(task.event_of_run());
            (task.followed, task.unwanted) = (None, false);
        }
        task.take(map, rule, event, shared);
        task.ask_rules = false;
        if !restart {
            task.marked = true;
            return out.record(Record::Remembered { task: record });
        }
        out.record(Record::Restarting { task: record });
        task.restart = true;
        if task.state == State::Running {
            self.stop_one(key, shared, out);
        }
    }

    /// A cancel meets a run: its own, or one of an elder.
    pub(super) fn cancel_run(&mut self, key: &[u8], event: &OwnedEvent, out: &mut impl Effects) {
        let id = self.id;
        let task = self.get(key);
        let record = TaskRecord { scheduler: id, id: task.id, event: event.get(), others: 0 };
        if task.retry.is_some() {
            task.forget_marks();
            return out.record(Record::CancelledWaiting { task: record });
        }
        task.marked = false;
        task.earlier &= !task.restart;
        task.restart = false;
        out.record(Record::SkippedOngoing { task: record });
    }

    pub(super) fn cancel(&mut self, event: &OwnedEvent, shared: &mut Shared, out: &mut impl Effects) {
        let key = self.key(event);
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let record = TaskRecord { scheduler: self.id, id: task.id, event: event.get(), others: 0 };
        if task.is_running() {
            if !self.has_heir {
                self.cancel_run(&key, event, out);
            }
            return;
        }
        out.record(Record::CancelledWaiting { task: record });
        self.remove(&key, shared);
        self.tell_completed(out);
    }

    pub(super) fn cancel_to_come(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        out.record(Record::CancelledWaiting { task: self.record(&self.tasks[key]) });
        self.remove(key, shared);
        self.tell_completed(out);
    }

    /// Follows a rename: the task gets the event under a new key.
    pub(super) fn rename(
        &mut self,
        (key, new_key): (&[u8], Vec<u8>),
        map: MapId,
        event: &OwnedEvent,
        renamed: (&[u8], &[u8]),
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let Ok(rule) = self.ask_rules(event, out) else { return self.drop_rest(key, shared, out) };
        let mut task = self.tasks.remove(key).expect("the caller looked");
        task.ask_anew(shared);
        task.take(map, rule, event, shared);
        let record = TaskRecord { scheduler: self.id, id: task.id, event: event.get(), others: 0 };
        out.record(Record::Followed { task: record, from: renamed.0, to: renamed.1 });
        self.tasks.insert(new_key, task);
    }

    /// A task gets a path that nothing else has.
    pub(super) fn set_aside(
        &mut self,
        key: &[u8],
        map: MapId,
        event: &OwnedEvent,
        renamed: (&[u8], &[u8]),
        shared: &mut Shared,
    ) {
        let (new_key, rule) = (self.key(event), self.tasks[key].rule);
        if self.tasks[key].is_running() {
            return self.give_run((key, new_key), (map, rule, event), renamed, shared);
        }
        let mut task = self.tasks.remove(key).expect("the caller looked");
        task.ask_anew(shared);
        task.take(map, rule, event, shared);
        self.tasks.insert(new_key, task);
    }

    /// The same of a task that runs: what comes after gets the event.
    pub(super) fn rename_run(
        &mut self,
        keys: (&[u8], Vec<u8>),
        map: MapId,
        event: &OwnedEvent,
        renamed: (&[u8], &[u8]),
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let Ok(rule) = self.ask_rules(event, out) else { return self.drop_rest(keys.0, shared, out) };
        self.give_run(keys, (map, rule, event), renamed, shared);
    }

    fn give_run(
        &mut self,
        (key, new_key): (&[u8], Vec<u8>),
        (map, rule, event): (MapId, Option<usize>, &OwnedEvent),
        (from, to): (&[u8], &[u8]),
        shared: &mut Shared,
    ) {
        let mut task = self.tasks.remove(key).expect("the caller looked");
        if task.event.pathname != event.pathname {
            task.run_event = Some(task.event_of_run());
        }
        task.take(map, rule, event, shared);
        (task.followed, task.unwanted) = (Some((from.to_vec(), to.to_vec())), false);
        let key = if self.spec.batch.is_some() { key.to_vec() } else { new_key };
        self.tasks.insert(key, task);
    }

    /// The new path of a task is not wanted.
    pub(super) fn drop_rest(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        if !self.tasks[key].is_running() {
            return self.cancel_to_come(key, shared, out);
        }
        let (id, batch) = (self.id, self.spec.batch.is_some());
        let task = self.get(key);
        if !batch && (task.marked || task.restart) {
            let event = task.event.get();
            out.record(Record::CancelledWaiting {
                task: TaskRecord { scheduler: id, id: task.id, event, others: 0 },
            });
            task.cancel_rerun();
        }
        (task.followed, task.unwanted) = (None, true);
    }

    fn tell_followed(&self, task: &Task, out: &mut impl Effects) {
        if let Some((from, to)) = &task.followed {
            out.record(Record::Followed { task: self.record(task), from, to });
        }
    }

    fn wait(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        self.arm(key, shared);
        let task = &self.tasks[key];
        let (task, again) = (self.record(task), task.again);
        out.record(Record::Scheduled { task, delay: self.spec.delay, again });
    }

    fn arm(&mut self, key: &[u8], shared: &mut Shared) {
        let due = shared.now + self.spec.delay;
        let (max_delay, delay) = (self.spec.max_delay, self.spec.delay);
        let task = self.get(key);
        let mut bounded = due;
        if let Some(max_delay) = max_delay {
            let first = *task.first.get_or_insert(shared.now);
            bounded = bounded.min(first + max_delay.max(delay));
        }
        bounded = task.not_before.map_or(bounded, |not_before| bounded.max(not_before));
        task.hold(State::Waiting, bounded, bounded != due, shared);
    }

    /// For a task that is due.
    fn offer(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let settles = self.spec.settle.is_some();
        let id = self.id;
        let task = self.get(key);
        let gone = [Flag::Delete, Flag::DeleteSelf, Flag::MovedFrom, Flag::QOverflow]
            .map(Some)
            .contains(&Mask(task.event.mask).flag());
        if !settles || gone || task.event.is_dir || task.settled || task.failed.is_some() {
            return self.place(key, shared, out);
        }
        task.settles_since.get_or_insert(shared.now);
        task.state = State::Asked;
        task.time = shared.now;
        task.order = shared.order();
        let event = task.event.get();
        out.ask_settled(Question { handle: TaskHandle(0), id: task.id, scheduler: id, event });
    }

    pub(super) fn answer(
        &mut self,
        key: &[u8],
        answer: Settled<'_>,
        deletion: Option<Reaction>,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let now = shared.now;
        match (answer, deletion) {
            (Settled::Yes, _) => {
                self.get(key).reason.clear();
                self.place(key, shared, out);
                self.tell_completed(out);
            }
            (Settled::No(reason), _) => {
                let settle = self.spec.settle.expect("it was asked");
                let task = self.get(key);
                let is_news = task.reason != reason;
                reason.clone_into(&mut task.reason);
                if *task.settles_since.get_or_insert(now) + settle.give_up <= now {
                    let seconds = settle.give_up.as_secs_f64();
                    let text = format!("did not settle in {seconds} s: {reason}");
                    let failure = Failure { is_final: true, ..Failure::new(FailureKind::Error, text) };
                    let mut task = self.tasks[key].clone();
                    out.record(Record::Failed { task: self.record(&task), failure: &failure });
                    // The attempt that it waited for is not made.
                    task.attempt -= 1;
                    self.deliver(&task, &task.event, &failure, shared);
                    self.remove(key, shared);
                    return self.tell_completed(out);
                }
                let check = settle.check.max(Duration::from_nanos(1));
                task.hold(State::Settling, now + check, true, shared);
                out.record(Record::Unsettled { task: self.record(&self.tasks[key]), reason, is_news });
            }
            (Settled::Vanished, Some(Reaction::Schedule(_))) => {
                let task = self.get(key);
                task.event.mask = task.event.mask & Mask::ISDIR.0 | Flag::Delete.mask().0;
                task.anew(shared);
                self.arm(key, shared);
                let task = self.record(&self.tasks[key]);
                out.record(Record::Rescheduled { task, delay: self.spec.delay });
            }
            (Settled::Vanished, Some(Reaction::Cancel(_))) => self.cancel_to_come(key, shared, out),
            (Settled::Vanished, None) => {
                out.record(Record::Vanished { task: self.record(&self.tasks[key]) });
                self.remove(key, shared);
                self.tell_completed(out);
            }
        }
    }

    /// For a task that may start.
    pub(super) fn place(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let in_common = self.is_command() && shared.commands_max.is_some();
        let batch = self.spec.batch.is_some();
        self.get(key).state = State::Asked;
        if !batch && !in_common && !self.has_queued() && self.can_start(shared) {
            self.start(key, shared, out);
        } else {
            self.queue(key, shared, out);
        }
    }

    fn queue(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        self.looked_at = Some(shared.now);
        let is_behind = self.has_queued();
        let task = self.get(key);
        task.state = State::Queued;
        task.time = shared.now;
        task.order = shared.order();
        if self.is_command() && shared.commands_max.is_some() {
            shared.to_fill = true;
        }
        let limited = self.spec.batch.is_none() && self.places_are_taken();
        if limited && !std::mem::replace(&mut self.max_jobs_told, true) {
            let max_jobs = self.spec.max_jobs.expect("places are limited").get();
            out.record(Record::MaxJobs { scheduler: self.id, max_jobs });
        }
        if !self.within_rate(shared.now) && !std::mem::replace(&mut self.max_rate_told, true) {
            out.record(Record::MaxRate { scheduler: self.id });
        }
        if self.spec.batch.is_none() && (is_behind || !self.can_start(shared)) {
            let task = self.record(&self.tasks[key]);
            out.record(Record::Queued { task, is_paused: self.paused });
        }
    }

    pub(super) fn start(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        if self.spec.batch.is_some() {
            return self.start_batch(key, shared, out);
        }
        if self.tasks[key].ask_rules {
            let event = self.tasks[key].event.clone();
            let Ok(rule) = self.ask_rules(&event, out) else {
                return self.cancel_to_come(key, shared, out);
            };
            let task = self.get(key);
            task.ask_rules = false;
            task.rule = rule;
        }
        if self.is_command() {
            shared.commands += 1;
        }
        self.starts.push_back(shared.now);
        shared.started += 1;
        let order = shared.order();
        let now = shared.now;
        let id = self.id;
        let task = self.get(key);
        task.first = None;
        task.not_before = None;
        task.settles_since = None;
        task.reason.clear();
        task.settled = false;
        task.state = State::Running;
        task.time = now;
        task.order = order;
        task.run_mask = task.event.mask;
        let event = task.event.get();
        let record = TaskRecord { scheduler: id, id: task.id, event, others: 0 };
        out.record(Record::Started { task: record, again: task.again, looks_again: task.in_use_told });
        let failed = task.failed.as_ref();
        out.start(Start {
            // The engine's own business.
            handle: TaskHandle(0),
            id: task.id,
            scheduler: id,
            event,
            rule: task.rule,
            again: task.again,
            attempt: task.attempt,
            late: Duration::ZERO,
            failed: failed.map(|(error, attempts, id)| FailedTask { error, attempts: *attempts, id: *id }),
            batch: &[],
        });
    }

    pub(super) fn finished(
        &mut self,
        key: &[u8],
        outcome: &Outcome,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        if self.is_command() {
            shared.commands -= 1;
        }
        let stopping = self.tasks[key].state == State::Stopping;
        // Out of the way of what is counted as running.
        self.get(key).state = State::Asked;
        self.end(key, stopping, outcome, shared, out);
        self.fill_places(shared, out);
        self.tell_completed(out);
    }

    fn end(
        &mut self,
        key: &[u8],
        stopping: bool,
        outcome: &Outcome,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let task = self.tasks[key].clone();
        let event = task.event_of_run();
        let record =
            TaskRecord { scheduler: self.id, id: task.id, event: event.get(), others: self.others() };
        let (mut retry, mut anew) = (None, false);
        if task.timed_out {
            retry = task.retry;
        } else if let (true, Outcome::Failed(failure)) = (task.earlier, outcome) {
            anew = task.restart || task.marked;
            if !anew {
                retry = self.fail(key, failure, shared, out);
            }
        } else {
            match outcome {
                Outcome::Done => out.record(Record::Finished { task: record }),
                Outcome::Unchanged => out.record(Record::Unchanged { task: record }),
                Outcome::Failed(failure)
                    if !stopping && failure.kind == FailureKind::InUse && self.spec.batch.is_none() =>
                {
                    return self.put_off(key, failure, shared, out);
                }
                Outcome::Failed(failure) if !stopping => retry = self.fail(key, failure, shared, out),
                Outcome::NotBegun if !stopping && self.spec.batch.is_some() => {
                    anew = true;
                    self.forget_start(task.time);
                }
                Outcome::NotBegun if !stopping => return self.not_begun(key, shared, out),
                Outcome::Failed(_) | Outcome::Cancelled | Outcome::NotBegun => {
                    out.record(Record::CancelledOngoing { task: record });
                }
                Outcome::Withdrawn => {
                    out.record(Record::CancelledWaiting { task: record });
                    self.get(key).cancel_rerun();
                }
            }
        }
        let (batch, has_heir) = (self.spec.batch.is_some(), self.has_heir);
        let task = self.get(key);
        if has_heir && !batch && (task.restart || task.marked) {
            // By these marks it goes on there.
            (task.timed_out, task.earlier, task.retry) = (false, false, None);
            (task.state, task.order) = (State::Queued, shared.order());
            return;
        }
        let (restart, marked) = (task.restart, task.marked);
        (task.restart, task.marked, task.timed_out, task.earlier) = (false, false, false, false);
        (task.retry, task.run_event) = (None, None);
        if batch {
            return self.end_batch(key, retry, anew, shared, out);
        }
        let unwanted = std::mem::take(&mut task.unwanted);
        if restart || marked || retry.is_some() {
            self.tell_followed(&self.tasks[key], out);
        }
        let task = self.get(key);
        task.followed = None;
        if restart {
            task.attempt = 1;
            self.offer(key, shared, out);
        } else if marked {
            self.run_again(key, shared, out);
        } else if let Some(due) = retry {
            task.attempt += 1;
            task.reruns = 0;
            task.hold(State::Retrying, due.max(shared.now), true, shared);
            if unwanted {
                self.cancel_to_come(key, shared, out);
            }
        } else {
            self.remove(key, shared);
        }
    }

    fn run_again(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let (on_busy, delay, id) = (self.spec.on_busy, self.spec.delay, self.id);
        let task = self.get(key);
        task.attempt = 1;
        if on_busy == OnBusy::RunAgainIfChanged {
            task.again = true;
        } else if delay.is_zero() {
            task.reruns += 1;
            if task.reruns == 10 {
                let task = TaskRecord { scheduler: id, id: task.id, event: task.event.get(), others: 0 };
                out.record(Record::Reruns { task, count: 10 });
            }
        }
        if delay.is_zero() {
            self.offer(key, shared, out);
        } else {
            self.wait(key, shared, out);
        }
    }

    fn put_off(&mut self, key: &[u8], failure: &Failure, shared: &mut Shared, out: &mut impl Effects) {
        let id = self.id;
        let task = self.get(key);
        task.marked = false;
        task.run_event = None;
        failure.text.clone_into(&mut task.reason);
        task.hold(State::PutOff, shared.now + Duration::from_secs(1), true, shared);
        if !std::mem::replace(&mut task.in_use_told, true) {
            let task = TaskRecord { scheduler: id, id: task.id, event: task.event.get(), others: 0 };
            out.record(Record::PutOff { task, failure });
        }
        self.tell_followed(&self.tasks[key], out);
        let task = self.get(key);
        task.followed = None;
        if std::mem::take(&mut task.unwanted) {
            self.cancel_to_come(key, shared, out);
        }
    }

    fn forget_start(&mut self, at: Instant) {
        let place = self.starts.iter().rposition(|start| *start == at);
        place.map(|place| self.starts.remove(place));
    }

    fn not_begun(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        self.forget_start(self.tasks[key].time);
        let has_heir = self.has_heir;
        let task = self.get(key);
        (task.marked, task.earlier, task.run_event) = (false, false, None);
        self.tell_followed(&self.tasks[key], out);
        let task = self.get(key);
        task.followed = None;
        if std::mem::take(&mut task.unwanted) {
            task.hold(State::Waiting, shared.now, true, shared);
            self.cancel_to_come(key, shared, out);
        } else if has_heir {
            (task.state, task.order) = (State::Queued, shared.order());
        } else {
            self.offer(key, shared, out);
        }
    }

    fn fail(
        &mut self,
        key: &[u8],
        failure: &Failure,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) -> Option<Instant> {
        let task = self.tasks[key].clone();
        let event = task.event_of_run();
        let record =
            TaskRecord { scheduler: self.id, id: task.id, event: event.get(), others: self.others() };
        let attempt = task.attempt;
        let retry = self.spec.retry.as_ref().filter(|retry| self.retries && goes_on(retry, failure, attempt));
        if let Some(retry) = retry {
            let replaced = task.marked || task.restart;
            let pause = (!replaced).then(|| retry.pause(attempt, &mut shared.random));
            out.record(Record::Retry { task: record, failure, attempt, pause });
            if pause.is_some() {
                let taken = self.in_order(State::Taken);
                for key in [key.to_vec()].into_iter().chain(taken) {
                    let task = self.get(&key);
                    shared.bytes += failure.text.len() as u64;
                    shared.bytes -= task.failure.len() as u64;
                    failure.text.clone_into(&mut task.failure);
                }
            }
            return pause.map(|pause| shared.now + pause);
        }
        let rules = self.spec.kind == SchedulerKind::Rules && self.spec.batch.is_none();
        if rules && task.followed.is_some() && failure.kind == FailureKind::Error {
            out.record(Record::Retry { task: record, failure, attempt, pause: None });
            self.get(key).restart = true;
            return None;
        }
        out.record(Record::Failed { task: record, failure });
        self.deliver(&task, &event, failure, shared);
        for taken in self.in_order(State::Taken).into_iter().map(|key| self.tasks[&key].clone()) {
            self.deliver(&taken, &taken.event_of_run(), failure, shared);
        }
        None
    }

    fn deliver(&self, task: &Task, event: &OwnedEvent, failure: &Failure, shared: &mut Shared) {
        if !self.spec.on_failure.is_empty() && !task.keyless {
            let error = failure.text.chars().take(4_096).collect();
            let receivers = self.spec.on_failure.clone();
            shared.failures.push((receivers, task.map, event.clone(), error, task.attempt, task.id));
        }
    }

    pub(super) fn receive(
        &mut self,
        (map, event): (MapId, &OwnedEvent),
        failed: (String, u32, TaskId),
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let Ok(rule) = self.ask_rules(event, out) else { return };
        if shared.is_full() {
            return shared.refuse(self.id, event, out);
        }
        let key = [b"\0", shared.next_id.to_be_bytes().as_slice()].concat();
        self.insert(&key, map, rule, event, shared);
        shared.bytes += failed.0.len() as u64;
        let task = self.get(&key);
        task.keyless = true;
        task.failed = Some(failed);
        if self.spec.batch.is_some() {
            return self.gather(&key, shared, out);
        }
        self.place(&key, shared, out);
    }

    pub(super) fn fill_places(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        self.looked_at = Some(shared.now);
        if self.is_command() && shared.commands_max.is_some() {
            shared.to_fill = true;
            return;
        }
        while let Some(key) = self.first(State::Queued).filter(|_| self.can_start(shared)) {
            self.start(&key, shared, out);
        }
    }

    pub(super) fn tick(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        self.stop_timed_out(shared, out);
        if self.spec.batch.is_some() {
            return self.tick_batch(shared, out);
        }
        for _ in 0..shared.limits.starts_per_tick_max {
            let due = self.tasks.iter().filter_map(|(key, task)| Some((task.due()?, key)));
            let first = due.min().filter(|((due, ..), _)| *due <= shared.now);
            let Some(key) = first.map(|(_, key)| key.clone()) else { break };
            self.offer(&key, shared, out);
        }
        if std::mem::take(&mut self.to_fill) || self.spec.max_rate.is_some() {
            self.fill_places(shared, out);
        }
    }

    fn stop_timed_out(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        let Some(timeout) = self.spec.timeout else { return };
        while let Some(key) = self.first(State::Running) {
            if self.tasks[&key].time + timeout > shared.now {
                break;
            }
            self.stop_one(&key, shared, out);
            self.get(&key).timed_out = true;
            let text = format!("timeout after {} s", timeout.as_secs_f64());
            let retry = self.fail(&key, &Failure::new(FailureKind::Timeout, text), shared, out);
            self.get(&key).retry = retry;
        }
        self.tell_completed(out);
    }

    fn stop_one(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let order = shared.order();
        let task = self.get(key);
        task.state = State::Stopping;
        task.order = order;
        out.stop(TaskHandle(0), task.id);
    }

    pub(super) fn stop_for_good(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let is_taken = self.tasks[key].state == State::Taken;
        let run = self.first(State::Running).or(self.first(State::Stopping)).filter(|_| is_taken);
        let key = run.as_deref().unwrap_or(key);
        let task = self.tasks[key].clone();
        if task.retry.is_some() {
            let event = task.event_of_run();
            let record =
                TaskRecord { scheduler: self.id, id: task.id, event: event.get(), others: self.others() };
            out.record(Record::CancelledWaiting { task: record });
        }
        let task = self.get(key);
        task.forget_marks();
        task.earlier = false;
        if task.state == State::Running {
            self.stop_one(key, shared, out);
        }
        self.tell_completed(out);
    }

    /// Stops what has run for longer than a replaced configuration may.
    pub(super) fn stop(
        &mut self,
        retired: Instant,
        timeout: Duration,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let over =
            |task: &&Task| task.state == State::Running && task.time.max(retired) + timeout <= shared.now;
        let runs = self.tasks.values().filter(over).count() as u32;
        if runs == 0 {
            return;
        }
        self.wait_told = false;
        let count = runs + self.others();
        out.record(Record::TimeoutExceeded { scheduler: self.id, count });
        for _ in 0..runs {
            let key = self.first(State::Running).expect("they were counted");
            if !self.goes_on(shared) {
                self.get(&key).forget_marks();
            }
            self.stop_one(&key, shared, out);
        }
    }

    pub(super) fn tell_wait(&mut self, timeout: Duration, out: &mut impl Effects) {
        let count = self.pending();
        if count > 0 {
            self.wait_told = true;
            out.record(Record::WaitForTasks { scheduler: self.id, timeout, count });
        }
    }

    pub(super) fn give_up_retries(&mut self, all: bool, shared: &mut Shared, out: &mut impl Effects) {
        self.retries = !all && self.has_heir;
        while let Some(key) = self.first_to_come(|task| task.state == State::Retrying) {
            shared.not_done(self.record(&self.tasks[&key]), NotDone::Retry, out);
            self.remove(&key, shared);
        }
        for key in self.in_order(State::Stopping).into_iter().filter(|_| !self.retries).collect::<Vec<_>>() {
            if self.get(&key).retry.take().is_some() {
                for key in [key].into_iter().chain(self.in_order(State::Taken)) {
                    shared.not_done(self.record(&self.tasks[&key]), NotDone::Retry, out);
                }
            }
        }
        if self.paused {
            self.forget_to_come(NotDone::Paused, shared, out);
        }
        self.tell_completed(out);
    }

    /// The starts that its own rate counted.
    pub(super) fn take_starts(&mut self) -> VecDeque<Instant> {
        let counted = self.spec.max_rate.map_or(0, |rate| rate.starts.get() as usize);
        let first = self.starts.len().saturating_sub(counted);
        std::mem::take(&mut self.starts).split_off(first)
    }

    fn forget_to_come(&mut self, why: NotDone, shared: &mut Shared, out: &mut impl Effects) {
        while let Some(key) = self.first_to_come(|_| true) {
            shared.not_done(self.record(&self.tasks[&key]), why, out);
            self.remove(&key, shared);
        }
    }

    /// What its runs leave goes on elsewhere, though these are stopped.
    fn goes_on(&self, shared: &Shared) -> bool {
        self.has_heir && !shared.daemon_ends
    }

    pub(super) fn cut(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        if !self.goes_on(shared) {
            self.tasks.values_mut().filter(|task| task.state == State::Stopping).for_each(Task::forget_marks);
        }
        let count = self.pending();
        if count == 0 {
            return;
        }
        self.wait_told = false;
        out.record(Record::TimeoutExceeded { scheduler: self.id, count });
        while let Some(key) = self.first(State::Running) {
            if !self.goes_on(shared) {
                self.get(&key).forget_marks();
            }
            self.stop_one(&key, shared, out);
        }
        self.forget_to_come(NotDone::TimeOver, shared, out);
    }

    pub(super) fn run_now(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let task = self.get(key);
        task.not_before = None;
        task.settled = true;
        if task.state != State::Queued {
            self.place(key, shared, out);
        }
        if self.spec.batch.is_some() {
            self.fill_places(shared, out);
        }
    }

    /// Gives away what is to come, in order.
    pub(super) fn give_to_come(&mut self) -> Vec<(Vec<u8>, Task)> {
        let mut given = Vec::new();
        while let Some(key) = self.first_to_come(|_| true) {
            let task = self.tasks.remove(&key).expect("it was found");
            given.push((key, task));
        }
        given
    }

    pub(super) fn adopt(
        &mut self,
        old_key: Vec<u8>,
        mut task: Task,
        (map, batch_due): (MapId, Option<Instant>),
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let key = if task.keyless { old_key } else { self.key(&task.event) };
        if self.tasks.contains_key(&key) {
            out.record(Record::Replaced { task: self.record(&task) });
            return shared.forget(&task);
        }
        task.map = map;
        task.ask_rules = true;
        if task.marked || task.restart {
            let restart = std::mem::take(&mut task.restart);
            task.marked = false;
            task.run_event = None;
            self.tell_followed(&task, out);
            (task.followed, task.unwanted) = (None, false);
            self.tasks.insert(key.clone(), task);
            if !restart {
                return self.run_again(&key, shared, out);
            }
            self.get(&key).attempt = 1;
            return self.offer(&key, shared, out);
        }
        let time = task.time;
        match task.state {
            State::Queued => {
                task.order = shared.order();
                self.to_fill = true;
            }
            State::Asked => task.hold(State::Settling, shared.now, true, shared),
            State::Gathered if self.spec.batch.is_some() => {
                self.tasks.insert(key.clone(), task);
                return self.join(&key, time, shared);
            }
            State::Gathered => {
                let due = batch_due.into_iter().chain(task.not_before).max().expect("it is gathered");
                self.tasks.insert(key.clone(), task);
                return self.hold_waiting(&key, due, shared);
            }
            State::Waiting => {
                self.tasks.insert(key.clone(), task);
                return self.hold_waiting(&key, time, shared);
            }
            state @ (State::PutOff | State::Retrying | State::Settling) => {
                task.hold(state, time, true, shared);
            }
            State::Running | State::Stopping | State::Taken => {
                unreachable!("only tasks to come are given away")
            }
        }
        self.tasks.insert(key, task);
    }

    fn hold_waiting(&mut self, key: &[u8], time: Instant, shared: &mut Shared) {
        let listed =
            |(other, task): &(&Vec<u8>, &Task)| other.as_slice() != key && task.due().is_some() && !task.odd;
        let last = self.tasks.iter().filter(listed).map(|(_, task)| task.time).max();
        let latest = shared.now + self.spec.delay;
        let odd = last.is_some_and(|last| last > time) || time > latest;
        let max_delay = self.spec.max_delay;
        let task = self.get(key);
        task.hold(State::Waiting, time, odd, shared);
        if max_delay.is_some() {
            task.first.get_or_insert(shared.now);
        }
    }

    pub(super) fn restore(
        &mut self,
        map: MapId,
        event: &OwnedEvent,
        (id, due, attempt, waits): (TaskId, Instant, u32, Waits),
        shared: &mut Shared,
    ) -> bool {
        let key = self.key(event);
        if self.tasks.contains_key(&key) || shared.is_full() {
            return false;
        }
        self.insert(&key, map, None, event, shared);
        let due = due.max(shared.now);
        let first = waits.first.map_or(shared.now, |first| first.min(shared.now));
        let (settle, bounded) = (self.spec.settle, self.spec.max_delay.is_some());
        let is_batch = self.spec.batch.is_some();
        let task = self.get(&key);
        task.id = id;
        task.attempt = attempt;
        task.ask_rules = true;
        task.settles_since = waits.due.zip(settle).map(|(due, settle)| {
            let fails = (shared.now + settle.anew).checked_sub(settle.give_up);
            due.min(shared.now).max(fails.expect("the script begins later"))
        });
        task.first = Some(first).filter(|_| bounded && attempt == 1 && !is_batch);
        if attempt > 1 {
            task.hold(State::Retrying, due, true, shared);
        } else if is_batch {
            // The script restores what is run again.
            task.state = State::Queued;
            task.time = shared.now;
            task.order = shared.order();
            self.to_fill = true;
        } else {
            self.hold_waiting(&key, due, shared);
        }
        true
    }

    pub(super) fn restore_run(
        &mut self,
        map: MapId,
        event: &OwnedEvent,
        (id, attempt, again): (TaskId, u32, bool),
        shared: &mut Shared,
    ) -> bool {
        let mut key = self.key(event);
        if self.tasks.contains_key(&key) || shared.is_full() {
            return false;
        }
        self.insert(&key, map, None, event, shared);
        let mut task = self.tasks.remove(&key).expect("it was made");
        let mut state = State::Stopping;
        task.order = shared.order();
        if self.spec.batch.is_some() {
            key = [b"\0run", task.order.to_be_bytes().as_slice()].concat();
            state = if self.running() > 0 { State::Taken } else { State::Stopping };
        }
        if self.is_command() && state == State::Stopping {
            shared.commands += 1;
        }
        let time = shared.now;
        let run_mask = event.mask;
        task = Task {
            id,
            attempt,
            state,
            time,
            run_mask,
            restart: again,
            earlier: true,
            ask_rules: true,
            ..task
        };
        self.tasks.insert(key, task);
        true
    }

    /// When it has something to do by itself.
    pub(super) fn deadline(&self, shared: &Shared) -> Option<Instant> {
        if self.to_fill {
            return Some(shared.start);
        }
        let due = self.tasks.values().filter_map(|task| task.due().map(|(due, ..)| due)).min();
        let running = self.first(State::Running).map(|key| self.tasks[&key].time);
        let timeout = running.zip(self.spec.timeout).map(|(since, timeout)| since + timeout);
        let waits_for_rate = self.has_queued() && self.has_place() && !self.paused;
        let rate = self.spec.max_rate.filter(|_| waits_for_rate);
        let rate = rate.and_then(|rate| {
            let first = self.starts.len().checked_sub(rate.starts.get() as usize)?;
            Some(*self.starts.get(first)? + rate.span)
        });
        let rate = rate.filter(|rate| self.looked_at.is_none_or(|looked| *rate > looked));
        [due, timeout, rate, self.batch_due(shared)].into_iter().flatten().min()
    }

    pub(super) fn is_ready_command(&self, shared: &Shared) -> bool {
        self.is_command() && self.has_queued() && self.can_start(shared)
    }

    pub(super) fn queued_since(&self) -> Option<Instant> {
        self.first(State::Queued).map(|key| self.tasks[&key].time)
    }

    /// The key of the first task, in order, of a state.
    pub(super) fn first(&self, state: State) -> Option<Vec<u8>> {
        let found = self.tasks.iter().filter(|(_, task)| task.state == state);
        found.min_by_key(|(_, task)| task.order).map(|(key, _)| key.clone())
    }

    fn first_to_come(&self, wanted: impl Fn(&Task) -> bool) -> Option<Vec<u8>> {
        let found = self.tasks.iter().filter(|(_, task)| wanted(task) && task.place().is_some());
        found.min_by_key(|(_, task)| task.place()).map(|(key, _)| key.clone())
    }

    pub(super) fn remove(&mut self, key: &[u8], shared: &mut Shared) {
        let task = self.tasks.remove(key).expect("the caller looked");
        shared.forget(&task);
    }

    pub(super) fn tell_completed(&mut self, out: &mut impl Effects) {
        if self.wait_told && self.pending() == 0 {
            self.wait_told = false;
            out.record(Record::AllCompleted { scheduler: self.id });
        }
    }
}

impl Task {
    fn hold(&mut self, state: State, time: Instant, odd: bool, shared: &mut Shared) {
        self.state = state;
        self.time = time;
        self.odd = odd;
        self.order = shared.order();
    }

    /// What is asked about another path is of no use.
    fn ask_anew(&mut self, shared: &mut Shared) {
        if self.state == State::Asked {
            self.hold(State::Settling, shared.now, true, shared);
        }
    }

    /// An event came: it waits for its delay and for nothing else.
    fn anew(&mut self, shared: &mut Shared) {
        if self.state == State::Retrying {
            self.attempt = 1;
            self.not_before = Some(self.time);
            shared.bytes -= std::mem::take(&mut self.failure).len() as u64;
        }
        self.first = None;
        self.settles_since = None;
        self.reason.clear();
    }
}

/// Batches.
impl Scheduler {
    /// The keys of the tasks of a state, in order.
    fn in_order(&self, state: State) -> Vec<Vec<u8>> {
        let found = self.tasks.iter().filter(|(_, task)| task.state == state);
        let mut found: Vec<_> = found.map(|(key, task)| (task.order, key.clone())).collect();
        found.sort();
        found.into_iter().map(|(_, key)| key).collect()
    }

    fn is_full(&self) -> bool {
        let gathered = self.tasks.values().filter(|task| task.state == State::Gathered).count();
        self.spec.batch.is_some_and(|batch| gathered >= batch.max_files.get() as usize)
    }

    pub(super) fn batch_due(&self, shared: &Shared) -> Option<Instant> {
        let batch = self.spec.batch?;
        let first = self.tasks.values().filter(|task| task.state == State::Gathered);
        let first = first.map(|task| task.time).min()?;
        if self.is_full() {
            return Some(shared.start);
        }
        Some((self.gathered_last? + batch.quiet).min(first + batch.max_wait))
    }

    fn gather(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        self.join(key, shared.now, shared);
        self.gathered(key, shared, out);
    }

    fn join(&mut self, key: &[u8], time: Instant, shared: &mut Shared) {
        let gathered = self.tasks.iter().filter(|(_, task)| task.state == State::Gathered);
        let last = gathered.filter(|(other, _)| other.as_slice() != key).map(|(_, task)| task.time).max();
        let time = last.map_or(time, |last| last.max(time));
        let order = shared.order();
        self.gathered_last = Some(shared.now);
        let task = self.get(key);
        task.state = State::Gathered;
        task.order = order;
        task.time = time;
    }

    fn gathered(&mut self, key: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let count = self.in_order(State::Gathered).len() as u32;
        out.record(Record::Gathered { task: self.record(&self.tasks[key]), count });
        if self.is_full() {
            self.queue_gathered(shared, out);
            self.fill_places(shared, out);
        }
    }

    fn queue_gathered(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        for key in self.in_order(State::Gathered) {
            let task = self.get(&key);
            match task.not_before.filter(|not_before| *not_before > shared.now) {
                Some(not_before) => task.hold(State::Waiting, not_before, true, shared),
                None => self.queue(&key, shared, out),
            }
        }
    }

    fn tick_batch(&mut self, shared: &mut Shared, out: &mut impl Effects) {
        loop {
            let due = self.tasks.iter().filter_map(|(key, task)| Some((task.due()?, key)));
            let first = due.min().filter(|((due, ..), _)| *due <= shared.now);
            let Some(key) = first.map(|(_, key)| key.clone()) else { break };
            self.queue(&key, shared, out);
        }
        if self.batch_due(shared).is_some_and(|due| due <= shared.now) {
            self.queue_gathered(shared, out);
        }
        self.to_fill = false;
        self.fill_places(shared, out);
    }

    fn start_batch(&mut self, first: &[u8], shared: &mut Shared, out: &mut impl Effects) {
        let attempt = self.tasks[first].attempt;
        let mut queued = self.in_order(State::Queued);
        queued.retain(|key| self.tasks[key].attempt == attempt);
        let max_files = self.spec.batch.expect("it has one").max_files.get() as usize;
        queued.truncate(max_files);
        let (mut used, mut fits) = (0, queued.len());
        for (at, key) in queued.iter().enumerate() {
            let task = &self.tasks[key];
            let event = crate::OwnedEvent::of(&task.event.get());
            let line = out.batch_line(self.id, used, &BatchEvent { event, failed: task.failed.clone() });
            if line.is_none() && at > 0 {
                fits = at;
                break;
            }
            used = line.unwrap_or(usize::MAX);
        }
        let is_split = fits < queued.len();
        queued.truncate(fits);
        let mut events = Vec::new();
        let mut run = None;
        for key in queued {
            let mut task = self.tasks.remove(&key).expect("it is queued");
            events.push(BatchEvent {
                event: crate::OwnedEvent::of(&task.event.get()),
                failed: task.failed.clone(),
            });
            task.first = None;
            task.not_before = None;
            task.settles_since = None;
            task.reason.clear();
            task.settled = false;
            task.ask_rules = false;
            task.state = if key == first { State::Running } else { State::Taken };
            task.time = shared.now;
            task.order = shared.order();
            task.run_mask = task.event.mask;
            // Events of its path are not for it any more.
            let new_key = [b"\0run", task.order.to_be_bytes().as_slice()].concat();
            if key == first {
                run = Some(task.clone());
            }
            self.tasks.insert(new_key, task);
        }
        if self.is_command() {
            shared.commands += 1;
        }
        self.starts.push_back(shared.now);
        shared.started += 1;
        let run = run.expect("the first is one of them");
        let task = TaskRecord { others: self.others(), ..self.record(&run) };
        let left = self.in_order(State::Queued).len() as u32;
        if is_split && !self.split_told {
            out.record(Record::Split { task, count: events.len() as u32 + left });
            self.split_told = true;
        }
        self.split_told &= left > 0;
        out.record(Record::Started { task, again: false, looks_again: false });
        let failed = run.failed.as_ref();
        out.start(Start {
            handle: TaskHandle(0),
            id: run.id,
            scheduler: self.id,
            event: run.event.get(),
            rule: None,
            again: false,
            attempt,
            late: Duration::ZERO,
            failed: failed.map(|(error, attempts, id)| FailedTask { error, attempts: *attempts, id: *id }),
            batch: &events,
        });
    }

    fn end_batch(
        &mut self,
        key: &[u8],
        retry: Option<Instant>,
        anew: bool,
        shared: &mut Shared,
        out: &mut impl Effects,
    ) {
        let mut keys = vec![key.to_vec()];
        keys.extend(self.in_order(State::Taken));
        for key in keys {
            let mut task = self.tasks.remove(&key).expect("it ran");
            let own = self.key(&task.event);
            let replaced = !task.keyless && self.tasks.contains_key(&own);
            if anew || retry.is_some() {
                self.tell_followed(&task, out);
            }
            let unwanted = std::mem::take(&mut task.unwanted);
            (task.followed, task.run_event) = (None, None);
            if replaced || !(anew || retry.is_some()) {
                shared.forget(&task);
                continue;
            }
            task.earlier = false;
            task.restart = false;
            if let Some(due) = retry {
                task.attempt += 1;
                task.hold(State::Retrying, due.max(shared.now), true, shared);
            }
            let key = if task.keyless { key } else { own };
            if anew {
                task.state = State::Queued;
                task.time = shared.now;
                task.order = shared.order();
                self.to_fill = true;
            }
            self.tasks.insert(key.clone(), task);
            if unwanted {
                self.cancel_to_come(&key, shared, out);
            }
        }
    }
}

/// Whether a failure is followed by another try.
fn goes_on(retry: &Retry, failure: &Failure, attempt: u32) -> bool {
    if failure.is_final || retry.times.is_some_and(|times| attempt > times) {
        return false;
    }
    let kind = failure.kind;
    match &retry.on {
        None => !matches!(kind, FailureKind::Interrupted | FailureKind::InUse),
        Some(on) => match kind {
            FailureKind::Error => on.errors,
            FailureKind::ExitStatus(status) => {
                on.statuses.contains(&status) || (on.signal && status > 128 && status <= 192)
            }
            FailureKind::Signal(_) => on.signal,
            FailureKind::Timeout => on.timeout,
            FailureKind::Interrupted | FailureKind::InUse => false,
        },
    }
}

/// What the paths of a task count: multiples of eight bytes, above 512 powers of two.
fn block_bytes(event: &OwnedEvent) -> u64 {
    let extra = |path: &Option<Vec<u8>>| path.as_ref().map_or(0, Vec::len);
    let lengths = if event.src_pathname.is_some() || event.given_path.is_some() { 8 } else { 0 };
    let paths = extra(&event.src_pathname) + extra(&event.given_path);
    let len = event.pathname.len() - event.dir().len() + lengths + paths;
    let units = len.div_ceil(8).max(1) as u64;
    8 * if units <= 64 { units } else { units.next_power_of_two() }
}
