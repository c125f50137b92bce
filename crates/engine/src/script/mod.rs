//! A script is a row of bytes that says what happens to an engine. It is run on the engine and on a naive
//! [model] at once, and every effect, record, deadline and count is compared.
//!
//! Any bytes are a script, so that a fuzzer can write them; the simulator in the tests makes them from a seed.

mod model;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{Event, Flag, Mask};

use crate::tasks::Renamed;
use crate::{
    Batch, BatchEvent, Begin, Change, Doing, Effects, Engine, Explanation, Failure, FailureKind, Found,
    GenerationIds, IdPrefix, Ignored, Limits, MapId, MapSpec, Matcher, NoRule, NotRun, OnBusy, Outcome,
    Question, Rate, Reaction, Record, Restored, Retry, RetryOn, SchedulerId, SchedulerKind, SchedulerSpec,
    Settle, Settled, Start, StepLimit, TaskHandle, TaskId, TaskStatus, Verdict, Waits,
};
use model::{Model, OwnedEvent};

/// Runs a script to its end and returns how many steps it had.
///
/// # Panics
///
/// The engine and the model differ; the message says at which step and how.
pub fn run_script(bytes: &[u8]) -> usize {
    run_counting(bytes, &mut Tally::new())
}

/// How often each kind of effect, record and verdict came.
type Tally = BTreeMap<String, u64>;

fn run_counting(bytes: &[u8], tally: &mut Tally) -> usize {
    let mut script = Script { bytes };
    let mut run = Run::new(&mut script);
    run.reload(&mut script);
    while !script.bytes.is_empty() {
        run.step += 1;
        run.step(&mut script);
        run.compare(tally);
    }
    run.step
}

/// The bytes that are left.
struct Script<'a> {
    bytes: &'a [u8],
}

impl Script<'_> {
    /// A number below `end`, from the next byte; zero at the end of the script.
    fn below(&mut self, end: u8) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first % end
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.below(n) == n - 1
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let end = u8::try_from(of.len()).unwrap_or(u8::MAX);
        (end > 0).then(|| of[usize::from(self.below(end))])
    }
}

/// Matches by the first letter of a path; a path with an `x` is too much for it.
struct Letters(Vec<u8>);

impl Matcher for Letters {
    fn first_match(&self, pathname: &[u8]) -> Result<Option<usize>, StepLimit> {
        if pathname.contains(&b'x') {
            return Err(StepLimit);
        }
        Ok(self.0.iter().position(|letter| pathname.get(1) == Some(letter)))
    }
}

/// Ids as they came up, which gives each a number that does not depend on how ids are made.
#[derive(Default)]
struct Ids(Vec<TaskId>);

impl Ids {
    fn number(&mut self, id: TaskId) -> usize {
        self.0.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.0.push(id);
            self.0.len() - 1
        })
    }

    /// The number of an id that has come up: what tells of a failure and is queued has not.
    fn known(&self, id: TaskId) -> Option<usize> {
        self.0.iter().position(|known| *known == id)
    }

    /// The text with numbers for ids.
    fn numbered(&mut self, text: &str) -> String {
        let mut parts = text.split("TaskId(");
        let mut numbered = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (id, rest) = part.split_once(')').expect("an id has an end");
            let id = u128::from_str_radix(&id.replace('-', ""), 16).expect("an id is hexadecimal");
            let number = self.number(TaskId(id)).to_string();
            numbered.extend(["#", number.as_str(), rest]);
        }
        numbered
    }
}

/// How long a run may take, where there is a limit.
const TIMEOUT: Duration = Duration::from_millis(900);

/// Bytes of all paths of a run.
const LINE_MAX: usize = 60;

/// Everything that came out of a call, as text; and which tasks run or were asked about under which handle.
#[derive(Default)]
struct Seen {
    ids: Ids,
    lines: Vec<String>,
    running: Vec<(TaskId, TaskHandle)>,
    asked: Vec<(TaskId, TaskHandle)>,
}

impl Seen {
    fn say(&mut self, text: &str) {
        let line = self.ids.numbered(text);
        self.lines.push(line);
    }
}

impl Effects for Seen {
    fn start(&mut self, start: Start<'_>) {
        self.running.push((start.id, start.handle));
        let kind = if start.again { "Start again" } else { "Start" };
        let kind = if start.failed.is_some() { "Start for failure" } else { kind };
        let kind = if start.batch.len() > 1 { "Start for many" } else { kind };
        // How late it is, is told by tests of its own; the model keeps no such time.
        let start = Start { handle: TaskHandle(0), late: Duration::ZERO, ..start };
        self.say(&format!("{kind}({start:?})"));
    }

    fn stop(&mut self, handle: TaskHandle, id: TaskId) {
        let known = handle == TaskHandle(0) || self.running.contains(&(id, handle));
        assert!(known, "a task is stopped by the handle that it was started with");
        self.say(&format!("stop({id:?})"));
    }

    fn ask_settled(&mut self, question: Question<'_>) {
        self.asked.retain(|asked| asked.0 != question.id);
        self.asked.push((question.id, question.handle));
        self.say(&format!("{:?}", Question { handle: TaskHandle(0), ..question }));
    }

    fn batch_line(&mut self, _: SchedulerId, used: usize, added: &BatchEvent) -> Option<usize> {
        used.checked_add(added.event.get().pathname.len()).filter(|len| *len <= LINE_MAX)
    }

    fn record(&mut self, record: Record<'_>) {
        self.say(&format!("{record:?}"));
    }
}

/// The engine and the model side by side.
struct Run {
    start: Instant,
    now: Instant,
    step: usize,
    engine: Engine,
    model: Model,
    engine_seen: Seen,
    model_seen: Seen,
    /// All configurations so far, done ones too: their maps may still be named.
    generations: Vec<GenerationIds>,
    /// What was explained in this step, as text.
    verdicts: Vec<String>,
    /// Handles of runs that are over.
    stale: Vec<TaskHandle>,
    /// Map, path aside and new path of the other half of an exchange.
    half_exchanged: Option<(MapId, Vec<u8>, Vec<u8>)>,
    /// Ids that were given to restored tasks.
    restored: u128,
    /// What a program that keeps tasks has of them; none once the engine shuts down.
    kept: Option<BTreeMap<TaskId, String>>,
}

impl Run {
    fn new(script: &mut Script<'_>) -> Run {
        let limits = Limits {
            tasks_max: [3, 17, 1_000][usize::from(script.below(3))],
            bytes_max: [600, 1 << 30, 1 << 30][usize::from(script.below(3))],
            generations_max: 4,
            starts_per_tick_max: [1, 3, 1_000][usize::from(script.below(3))],
            hash_seed: u64::from(script.below(255)),
            random_seed: u64::from(script.below(255)),
        };
        let now = Instant::now();
        let mut engine = Engine::new(now, limits.clone());
        engine.keep_changes();
        Run {
            start: now,
            now,
            step: 0,
            engine,
            model: Model::new(now, limits),
            engine_seen: Seen::default(),
            model_seen: Seen::default(),
            generations: Vec::new(),
            verdicts: Vec::new(),
            stale: Vec::new(),
            half_exchanged: None,
            restored: 0,
            kept: Some(BTreeMap::new()),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.below(72) {
            0..28 => self.event(script),
            28..34 => self.hammer(script),
            34..40 => self.now += Duration::from_millis(100) * u32::from(script.below(16)),
            40..44 => self.tick(),
            44..50 => self.tick_at_deadline(),
            50..59 => self.finish(script),
            59..63 => self.answer(script),
            63 if script.one_in(2) || self.half_exchanged.is_some() => self.exchange(script),
            63 => self.rename(script),
            64 => self.withdraw(script),
            65 => self.finish_again(script),
            66 => self.reload(script),
            67 => self.retire(script),
            68 => self.of_task(script),
            69 => self.of_scheduler(script),
            70 => self.restore(script),
            _ => self.shutdown(script),
        }
    }

    /// Events for a task that runs, and its ends, in turn.
    fn hammer(&mut self, script: &mut Script<'_>) {
        let mut running = Vec::new();
        self.engine.visit(0, 200, |task| {
            if !task.doing.is_to_come() {
                running.push((task.id, task.map, OwnedEvent::of(&task.event)));
            }
        });
        running.sort_by_key(|task| self.engine_seen.ids.known(task.0));
        if running.is_empty() {
            return self.event(script);
        }
        let (id, map, event) = running[usize::from(script.below(running.len() as u8))].clone();
        if script.one_in(2) {
            // Its time may be over.
            self.now += TIMEOUT;
            self.tick();
            for flag in [Flag::Create, Flag::Modify, Flag::MovedTo, Flag::Delete, Flag::CloseWrite] {
                let mask = flag.mask() | (Mask(event.mask) & Mask::ISDIR);
                self.tell(map, &OwnedEvent { mask: mask.0, ..event.clone() });
            }
        }
        for _ in 0..12 {
            self.tell(map, &event);
            let Some(handle) = self.engine_seen.running.iter().find(|run| run.0 == id).map(|run| run.1)
            else {
                return;
            };
            self.end_run(id, handle, &Outcome::Done);
        }
    }

    fn tell(&mut self, map: MapId, event: &OwnedEvent) {
        self.verdicts_of(map, event);
        self.engine.event(self.now, map, &event.get(), &mut self.engine_seen);
        self.model.event(self.now, map, event, &mut self.model_seen);
    }

    /// What an event would do.
    fn verdicts_of(&mut self, map: MapId, event: &OwnedEvent) -> Option<Explanation> {
        let expected = self.engine.explain(map, &event.get());
        if let Some(Explanation::Reactions(reactions)) = &expected {
            self.verdicts.extend(reactions.iter().map(|reaction| verdict_name(reaction.verdict)));
        }
        expected
    }

    fn answer(&mut self, script: &mut Script<'_>) {
        let Some((id, handle)) = script.pick(&self.engine_seen.asked) else { return self.finish(script) };
        let answers =
            [Settled::Yes, Settled::Yes, Settled::No("it grows"), Settled::No("why"), Settled::Vanished];
        let answer = script.pick(&answers).unwrap_or(Settled::Yes);
        self.engine_seen.asked.retain(|asked| asked.1 != handle);
        let id = self.in_model(id);
        self.engine.settled(self.now, handle, answer, &mut self.engine_seen);
        self.model.settled(self.now, id, answer, &mut self.model_seen);
    }

    /// The id that the model has for a task of the engine.
    fn in_model(&mut self, id: TaskId) -> TaskId {
        let number = self.engine_seen.ids.number(id);
        self.model_seen.ids.0.get(number).copied().unwrap_or(TaskId(0))
    }

    /// What people ask for: that a task is cancelled, or started now.
    fn of_task(&mut self, script: &mut Script<'_>) {
        let mut ids = Vec::new();
        self.engine.visit(0, 200, |task| ids.push(task.id));
        ids.retain(|id| self.engine_seen.ids.known(*id).is_some());
        ids.sort_by_key(|id| self.engine_seen.ids.known(*id));
        let Some(id) = script.pick(&ids) else { return };
        assert_eq!(self.engine.find(&IdPrefix::parse(&id.to_string()).expect("it is one")), Found::One(id));
        let in_model = self.in_model(id);
        let done = if script.one_in(2) {
            let expected = self.model.cancel(self.now, in_model, &mut self.model_seen);
            (self.engine.cancel(self.now, id, &mut self.engine_seen), expected)
        } else {
            let expected = self.model.run_now(self.now, in_model, &mut self.model_seen);
            let ran = self.engine.run_now(self.now, id, &mut self.engine_seen);
            (ran != Err(NotRun::NotToCome), expected)
        };
        assert_eq!(done.0, done.1, "whether {id} could be cancelled or started");
    }

    fn of_scheduler(&mut self, script: &mut Script<'_>) {
        if script.one_in(3) {
            let max = NonZeroU32::new(u32::from(script.below(3)));
            self.engine.limit_commands(self.now, max, &mut self.engine_seen);
            return self.model.limit_commands(self.now, max.map(NonZeroU32::get), &mut self.model_seen);
        }
        let Some(newest) = self.generations.last() else { return };
        let id = newest.scheduler(usize::from(script.below(newest.schedulers.len() as u8)));
        let paused = script.one_in(3);
        if self.engine.scheduler_stats().all(|stats| stats.scheduler != id) {
            return;
        }
        if paused {
            self.engine.pause(self.now, id, &mut self.engine_seen);
        } else {
            self.engine.resume(self.now, id, &mut self.engine_seen);
        }
        self.model.set_paused(self.now, id, paused, &mut self.model_seen);
    }

    fn restore(&mut self, script: &mut Script<'_>) {
        let Some(newest) = self.generations.last() else { return };
        let scheduler = newest.scheduler(usize::from(script.below(newest.schedulers.len() as u8)));
        let map = newest.map(usize::from(script.below(newest.maps.len() as u8)));
        if self.engine.scheduler_stats().all(|stats| stats.scheduler != scheduler) {
            return;
        }
        let event = pick_event(script);
        self.restored += 1;
        let id = TaskId(u128::MAX - self.restored);
        let due = self.now + Duration::from_millis(100) * u32::from(script.below(20));
        let attempt = 1 + u32::from(script.below(2));
        let event_of = event.get();
        let ago = |script: &mut Script<'_>| {
            let ago = Duration::from_millis(500) * u32::from(script.below(4));
            self.now.checked_sub(ago)
        };
        let waits = Waits { made: ago(script), first: ago(script), due: ago(script) };
        let task = Restored {
            id,
            scheduler,
            map: Some(map),
            event: event_of,
            due,
            attempt,
            reason: "",
            waits,
            failed: None,
            is_kept: false,
        };
        let place = (scheduler, map);
        // Some outlived the life of the daemon that they were started in.
        let runs = due.duration_since(self.now).as_millis() >= 1_500;
        let (made, expected) = if runs {
            let again = attempt > 1;
            let run = self.engine.restore_run(self.now, &task, again, &mut self.engine_seen);
            let leads = run.filter(|run| self.engine.task_id(*run) == Some(id));
            self.engine_seen.running.extend(leads.map(|run| (id, run)));
            let task = (id, attempt, again);
            let expected = self.model.restore_run(self.now, place, &event, task, &mut self.model_seen);
            (run.is_some(), expected)
        } else {
            let task = self.engine.restore(self.now, &task, &mut self.engine_seen);
            let expected =
                self.model.restore(self.now, place, &event, (id, due, attempt, waits), &mut self.model_seen);
            (task, expected)
        };
        assert_eq!(made, expected, "whether a task could be restored");
        if let (true, Some(kept)) = (made, &mut self.kept) {
            kept.insert(id, "as it was before".to_owned());
        }
        self.engine_seen.ids.number(id);
        self.model_seen.ids.number(id);
    }

    fn event(&mut self, script: &mut Script<'_>) {
        let Some(map) = pick_map(&self.generations, script) else { return };
        let event = pick_event(script);
        let expected = self.verdicts_of(map, &event);
        self.engine.event(self.now, map, &event.get(), &mut self.engine_seen);
        self.model.event(self.now, map, &event, &mut self.model_seen);
        check_explanation(expected, &event.get(), &self.engine_seen.lines);
    }

    fn tick(&mut self) {
        self.engine.tick(self.now, &mut self.engine_seen);
        self.model.tick(self.now, &mut self.model_seen);
    }

    fn tick_at_deadline(&mut self) {
        if let Some(deadline) = self.engine.deadline() {
            self.now = self.now.max(deadline);
        }
        self.tick();
    }

    fn finish(&mut self, script: &mut Script<'_>) {
        let Some((id, handle)) = script.pick(&self.engine_seen.running) else { return };
        let outcome = pick_outcome(script);
        self.end_run(id, handle, &outcome);
    }

    fn end_run(&mut self, id: TaskId, handle: TaskHandle, outcome: &Outcome) {
        self.engine_seen.running.retain(|running| running.1 != handle);
        self.stale.push(handle);
        let id = self.in_model(id);
        self.engine.finished(self.now, handle, outcome, &mut self.engine_seen);
        self.model.finished(self.now, id, outcome, &mut self.model_seen);
    }

    fn rename(&mut self, script: &mut Script<'_>) {
        let Some(map) = pick_map(&self.generations, script) else { return };
        let (from, to) = (pick_dir(script), pick_dir(script));
        self.rename_to(map, &from, (!script.one_in(3)).then_some(to.as_slice()));
    }

    fn rename_to(&mut self, map: MapId, from: &[u8], to: Option<&[u8]>) {
        self.engine.rename(self.now, map, from, to, &mut self.engine_seen);
        self.model.rename(self.now, map, from, to, &mut self.model_seen);
    }

    /// A half of an exchange of two directories. Anything may happen before the other half.
    fn exchange(&mut self, script: &mut Script<'_>) {
        if let Some((map, aside, to)) = self.half_exchanged.take() {
            return self.rename_to(map, &aside, Some(&to));
        }
        let Some(map) = pick_map(&self.generations, script) else { return };
        let (one, other) = (pick_dir(script), pick_dir(script));
        let aside = [&other, &b"\0"[..]].concat();
        self.engine.set_aside(self.now, map, &other, &aside, &mut self.engine_seen);
        self.model.set_aside(self.now, map, &other, &aside);
        self.rename_to(map, &one, Some(&other));
        self.half_exchanged = Some((map, aside, if script.one_in(4) { other } else { one }));
    }

    fn withdraw(&mut self, script: &mut Script<'_>) {
        let path = pick_dir(script);
        self.engine.withdraw(self.now, &path, &mut self.engine_seen);
        self.model.withdraw(self.now, &path, &mut self.model_seen);
    }

    /// A run that is over must not end again, nor any other in its place.
    fn finish_again(&mut self, script: &mut Script<'_>) {
        if let Some(handle) = script.pick(&self.stale) {
            self.engine.finished(self.now, handle, &Outcome::Done, &mut self.engine_seen);
        }
    }

    /// A new configuration takes the place of the one in force.
    fn reload(&mut self, script: &mut Script<'_>) {
        let count = 1 + usize::from(script.below(3));
        let schedulers: Vec<SchedulerSpec> =
            (0..count).map(|place| pick_scheduler(script, place, count)).collect();
        let maps: Vec<MapSpec> =
            (0..=script.below(2)).map(|_| pick_map_spec(schedulers.len(), script)).collect();
        let timeout = Duration::from_millis([0, 700, 2_500, 30_000][usize::from(script.below(4))]);
        let Ok(ids) = self.engine.add_generation(schedulers.clone(), maps.clone(), timeout) else { return };
        self.model.add(ids.clone(), schedulers, maps, timeout);
        if let Some(old) = self.generations.last().cloned() {
            // Maps of one place take each other's place.
            let new = ids.clone();
            let successor = |map: MapId| {
                let place = map.0.checked_sub(old.maps.start).filter(|_| old.maps.contains(&map.0));
                place.map(|place| new.maps.start + place).filter(|map| new.maps.contains(map)).map(MapId)
            };
            self.engine.retire(self.now, old.id, successor, &mut self.engine_seen);
            self.model.retire(self.now, old.id, successor, &mut self.model_seen);
        }
        self.generations.push(ids);
    }

    /// Sometimes, a configuration is retired without another in its place.
    fn retire(&mut self, script: &mut Script<'_>) {
        if !script.one_in(4) {
            return self.tick();
        }
        let ids: Vec<_> = self.generations.iter().map(|generation| generation.id).collect();
        if let Some(id) = script.pick(&ids) {
            self.engine.retire(self.now, id, |_| None, &mut self.engine_seen);
            self.model.retire(self.now, id, |_| None, &mut self.model_seen);
        }
    }

    /// Rarely, for nothing new comes after it.
    fn shutdown(&mut self, script: &mut Script<'_>) {
        if !script.one_in(24) {
            return self.event(script);
        }
        // The model keeps nothing.
        self.engine.forget_changes();
        self.kept = None;
        self.engine.shutdown(self.now, &mut self.engine_seen);
        self.model.shutdown(self.now, &mut self.model_seen);
    }

    fn compare(&mut self, tally: &mut Tally) {
        let at = format!("step {}, {:?} after the start", self.step, self.now - self.start);
        assert_eq!(self.engine_seen.lines, self.model_seen.lines, "engine (left) and model (right) at {at}");
        let bytes = self.engine.tasks().bytes() as u64;
        assert_eq!(bytes, self.model.bytes(), "bytes at {at} after {:#?}", self.engine_seen.lines);
        for line in self.engine_seen.lines.drain(..).chain(self.verdicts.drain(..)) {
            let kind = line.split(['(', '{']).next().unwrap_or_default().trim();
            *tally.entry(kind.to_owned()).or_default() += 1;
        }
        self.model_seen.lines.clear();
        assert_eq!(self.engine.deadline(), self.model.deadline(), "deadlines at {at}");
        assert_eq!(self.engine.stats(), self.model.stats(), "counts at {at}");
        assert_eq!(self.engine.is_idle(), self.model.is_idle(), "idleness at {at}");
        for ids in &self.generations {
            let done = self.model.generation_done(ids.id);
            assert_eq!(self.engine.generation_done(ids.id), done, "{:?} at {at}", ids.id);
        }
        let mut to_come = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.engine.visit(at, 3, |task| {
                if task.doing.is_to_come() {
                    let (event, reason) = (OwnedEvent::of(&task.event), task.reason.to_owned());
                    to_come.push((task.scheduler, task.id, task.map, event, task.attempt, reason));
                }
            });
        }
        let mut expected = self.model.to_come();
        let number = |ids: &Ids, id| ids.known(id).map_or(u128::MAX, |number| number as u128);
        for task in &mut expected {
            task.1 = number(&self.model_seen.ids, TaskId(task.1));
        }
        let to_come = to_come.into_iter();
        let mut to_come: Vec<_> = to_come
            .map(|task| (task.0, number(&self.engine_seen.ids, task.1), task.2, task.3, task.4, task.5))
            .collect();
        to_come.sort();
        expected.sort();
        assert_eq!(to_come, expected, "tasks to come at {at}");
        self.compare_kept(&at);
    }

    /// Takes changes at every other step, and not always all of them. Once all are taken, what is kept is what is.
    fn compare_kept(&mut self, at: &str) {
        let Some(kept) = &mut self.kept else { return };
        if self.step.is_multiple_of(2) {
            return;
        }
        for id in self.engine.take_gone() {
            assert!(kept.remove(&id).is_some(), "{id} is gone, and was not kept at {at}");
        }
        let max = if self.step.is_multiple_of(3) { 2 } else { usize::MAX };
        self.engine.take_changed(max, |task| {
            kept.insert(task.id, kept_line(task));
        });
        if self.engine.has_changes() {
            return;
        }
        let mut there = BTreeMap::new();
        let mut from = Some(0);
        while let Some(place) = from {
            from = self.engine.visit(place, 100, |task| {
                let tasks = self.engine.tasks();
                let slot = tasks.find(task.id).expect("it is there");
                let mut path = Vec::new();
                // Of one whose directory was renamed during its run, what comes after is kept.
                let event = match tasks.renamed(slot) {
                    Renamed::Followed { .. } => tasks.event(slot, &mut path),
                    Renamed::No | Renamed::Unwanted => task.event,
                };
                there.insert(task.id, kept_line(&TaskStatus { event, ..*task }));
            });
        }
        assert_eq!(*kept, there, "kept (left) and there (right) at {at}");
    }
}

fn kept_line(task: &TaskStatus<'_>) -> String {
    // A task that is to run again is kept with the later event, and shown with that of its run.
    let event = (!task.again).then(|| OwnedEvent::of(&task.event));
    // A batch begins later with each event that joins it, which changes no other task of it.
    let doing = if let Doing::Gathered(_) = task.doing { Doing::Gathered(None) } else { task.doing };
    format!("{event:?} {doing:?} {} {} {:?}", task.attempt, task.again, task.failed)
}

/// Mostly a map of the newest configuration, sometimes of an older one, sometimes one that never was.
fn pick_map(generations: &[GenerationIds], script: &mut Script<'_>) -> Option<MapId> {
    let generation = match script.below(8) {
        0..5 => generations.last()?,
        5..7 => &generations[usize::from(script.below(generations.len().min(200) as u8))],
        _ => return Some(MapId(generations.last()?.maps.end + 7)),
    };
    let index = script.below(generation.maps.len() as u8);
    Some(generation.map(usize::from(index)))
}

fn pick_event(script: &mut Script<'_>) -> OwnedEvent {
    let flags = [Flag::Create, Flag::CloseWrite, Flag::Modify, Flag::Delete, Flag::MovedTo, Flag::QOverflow];
    let flag = script.pick(&flags).unwrap_or(Flag::Create);
    if flag == Flag::QOverflow {
        return OwnedEvent::of(&Event::overflow());
    }
    // Letters are what rules and filters match; the tails give blocks of all sizes.
    let mut pathname = if script.one_in(2) { pick_dir(script) } else { Vec::new() };
    let root_len = if script.one_in(2) { pathname.len().max(1) } else { 1 };
    let given_path =
        script.one_in(8).then(|| [b"given", pathname.get(root_len..).unwrap_or_default()].concat());
    let dir_len = pathname.len() + 1;
    let tail = [0, 0, 1, 9, 40, 700][usize::from(script.below(6))];
    pathname.extend([b'/', b'a' + script.below(5)]);
    pathname.extend(std::iter::repeat_n(b'z', tail));
    if script.one_in(16) {
        pathname.push(b'x');
    }
    let is_dir = script.one_in(8);
    let mask = if is_dir { flag.mask() | Mask::ISDIR } else { flag.mask() };
    let moved = flag == Flag::MovedTo && script.one_in(2);
    OwnedEvent {
        mask: mask.0,
        wd: i32::from(script.below(4)),
        cookie: u32::from(moved),
        is_dir,
        synthetic: script.one_in(8),
        name_len: if script.one_in(8) { 0 } else { (pathname.len() - dir_len) as u16 },
        root_len: root_len as u16,
        pathname,
        given_path,
        src_pathname: moved.then(|| vec![b's'; usize::from(script.below(20))]),
    }
}

/// A directory of one or two letters.
fn pick_dir(script: &mut Script<'_>) -> Vec<u8> {
    let mut pathname = vec![b'/', b'a' + script.below(3)];
    if script.one_in(3) {
        pathname.extend([b'/', b'a' + script.below(3)]);
    }
    pathname
}

fn pick_outcome(script: &mut Script<'_>) -> Outcome {
    let kinds = [
        FailureKind::Error,
        FailureKind::ExitStatus(3),
        FailureKind::ExitStatus(137),
        FailureKind::Signal(9),
        FailureKind::Interrupted,
        FailureKind::InUse,
        FailureKind::InUse,
    ];
    match script.below(8) {
        0..3 => Outcome::Done,
        3 => Outcome::Cancelled,
        4 if script.one_in(4) => Outcome::Withdrawn,
        4 if script.one_in(4) => Outcome::NotBegun,
        4 => Outcome::Unchanged,
        _ => {
            let kind = script.pick(&kinds).unwrap_or(FailureKind::Error);
            let is_final = script.one_in(8);
            Outcome::Failed(Failure { is_final, ..Failure::new(kind, "why") })
        }
    }
}

/// Schedulers use few of their arguments, so that each is seen with and without each other.
fn pick_scheduler(script: &mut Script<'_>, place: usize, of: usize) -> SchedulerSpec {
    let kinds = [SchedulerKind::Job, SchedulerKind::Command, SchedulerKind::Rules];
    let kind = script.pick(&kinds).unwrap_or(SchedulerKind::Job);
    let rules = script.one_in(3).then(|| letters(script));
    let delay = Duration::from_millis([0, 300, 1_000, 5_000][usize::from(script.below(4))]);
    let on_busy = [OnBusy::Skip, OnBusy::RunAgainIfChanged, OnBusy::Rerun, OnBusy::Restart];
    let rate = |script: &mut Script<'_>| Rate {
        starts: NonZeroU32::new(1 + u32::from(script.below(3))).expect("it is more than nothing"),
        span: Duration::from_millis(100) * u32::from(1 + script.below(20)),
    };
    let batch = script.one_in(6).then(|| pick_batch(script));
    let spec = SchedulerSpec {
        name: format!("sched{place}"),
        kind,
        files: !script.one_in(8),
        dirs: script.one_in(2),
        delay,
        max_delay: script.one_in(4).then(|| delay + Duration::from_millis(700)),
        singlejob: script.one_in(5),
        max_jobs: NonZeroU32::new([0, 0, 1, 2][usize::from(script.below(4))]),
        max_rate: script.one_in(4).then(|| rate(script)),
        on_busy: script.pick(&on_busy).unwrap_or(OnBusy::Skip),
        timeout: script.one_in(4).then_some(TIMEOUT),
        retry: script.one_in(3).then(|| pick_retry(script)),
        on_failure: if script.one_in(3) { vec![usize::from(script.below(of as u8))] } else { Vec::new() },
        settle: script.one_in(3).then(|| {
            let [check, anew, give_up] = [400, 700, 1_500].map(Duration::from_millis);
            Settle { check, give_up, anew }
        }),
        batch: None,
        rules,
        persist: true,
    };
    if batch.is_none() {
        return spec;
    }
    SchedulerSpec {
        batch,
        delay: Duration::ZERO,
        max_delay: None,
        singlejob: false,
        on_busy: OnBusy::Skip,
        settle: None,
        rules: None,
        ..spec
    }
}

fn pick_batch(script: &mut Script<'_>) -> Batch {
    Batch {
        quiet: Duration::from_millis([0, 300, 1_000][usize::from(script.below(3))]),
        max_wait: Duration::from_millis([1_000, 2_500][usize::from(script.below(2))]),
        max_files: NonZeroU32::new([1, 2, 4, 1_000][usize::from(script.below(4))]).unwrap_or(NonZeroU32::MIN),
    }
}

fn pick_retry(script: &mut Script<'_>) -> Retry {
    let on = RetryOn {
        errors: script.one_in(2),
        statuses: if script.one_in(2) { vec![3] } else { Vec::new() },
        timeout: script.one_in(2),
        signal: script.one_in(2),
    };
    Retry {
        times: [None, Some(0), Some(1), Some(3)][usize::from(script.below(4))],
        delay: Duration::from_millis([0, 300, 2_000][usize::from(script.below(3))]),
        factor: [1.0, 2.0, 10.0][usize::from(script.below(3))],
        max_delay: Duration::from_secs(5),
        jitter: [0.0, 0.1, 1.0][usize::from(script.below(3))],
        on: script.one_in(2).then_some(on),
    }
}

fn pick_map_spec(schedulers: usize, script: &mut Script<'_>) -> MapSpec {
    let mut spec = MapSpec { exclude: script.one_in(5).then(|| letters(script)), ..MapSpec::default() };
    for flag in [Flag::Create, Flag::CloseWrite, Flag::Modify, Flag::Delete, Flag::MovedTo, Flag::QOverflow] {
        let reactions = (0..script.below(4)).map(|_| {
            let scheduler = usize::from(script.below(schedulers as u8));
            if script.one_in(4) { Reaction::Cancel(scheduler) } else { Reaction::Schedule(scheduler) }
        });
        spec.reactions[flag.index()] = reactions.collect();
    }
    spec
}

fn letters(script: &mut Script<'_>) -> Arc<dyn Matcher> {
    Arc::new(Letters((0..script.below(3)).map(|_| b'a' + script.below(5)).collect()))
}

/// What was explained before an event is what the event then did, as far as one reaction shows it.
fn check_explanation(explanation: Option<Explanation>, event: &Event<'_>, lines: &[String]) {
    let reactions = match explanation {
        None => return assert!(lines.is_empty(), "a map that is not there does nothing: {lines:?}"),
        Some(Explanation::Unmapped) => return,
        Some(Explanation::Excluded { .. }) => return assert_starts(lines, "Excluded", event),
        Some(Explanation::ExcludeStepLimit) => return assert_starts(lines, "ExcludeStepLimit", event),
        Some(Explanation::Reactions(reactions)) => reactions,
    };
    let [reaction] = reactions.as_slice() else { return };
    let expected = match reaction.verdict {
        Verdict::Ignored(Ignored::Unfit | Ignored::Paused | Ignored::NothingToCancel | Ignored::TasksMax) => {
            return;
        }
        Verdict::Ignored(Ignored::NoRule(NoRule::NoMatch)) => "NoRule",
        Verdict::Ignored(Ignored::NoRule(NoRule::StepLimit)) => "RuleStepLimit",
        // It may have to settle first, or its place may be one of all commands'.
        Verdict::New { begin: Begin::AtOnce | Begin::WhenPlaceIsFree, .. } => return,
        Verdict::New { begin: Begin::AfterDelay, .. } => "Scheduled",
        Verdict::New { begin: Begin::WithBatch, .. } | Verdict::Met { change: Change::Gather { .. }, .. } => {
            "Gathered"
        }
        Verdict::Met { change: Change::Reschedule { .. } | Change::Refresh { .. }, .. } => "Rescheduled",
        Verdict::Met {
            change: Change::Skip | Change::SkipCancel | Change::SkipAndRunAgain { .. }, ..
        } => "Skipped",
        Verdict::Met { change: Change::Remember { .. }, .. } => "Remembered",
        Verdict::Met { change: Change::Restart { .. }, .. } => "Restarting",
        Verdict::Met { change: Change::Cancel | Change::CancelRetry, .. } => "CancelledWaiting",
    };
    assert_starts(lines, expected, event);
}

fn verdict_name(verdict: Verdict) -> String {
    match verdict {
        Verdict::Ignored(Ignored::NoRule(why)) => format!("Ignored::{why:?}"),
        Verdict::Ignored(reason) => format!("Ignored::{reason:?}"),
        Verdict::New { begin, .. } => format!("Begin::{begin:?}"),
        Verdict::Met { change, .. } => format!("Change::{change:?}"),
    }
}

fn assert_starts(lines: &[String], expected: &str, event: &Event<'_>) {
    let found = lines.iter().any(|line| line.starts_with(expected));
    assert!(found, "{expected} was explained for {event:?}, but this came: {lines:#?}");
}

#[cfg(test)]
mod tests;
