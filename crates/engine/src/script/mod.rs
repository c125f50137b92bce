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

use crate::{
    Begin, Change, Effects, Engine, Explanation, Failure, FailureKind, GenerationIds, Ignored, Limits, MapId,
    MapSpec, Matcher, Outcome, Reaction, Record, SchedulerSpec, Start, StepLimit, TaskHandle, TaskId,
    Verdict,
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

/// Everything that came out of a call, as text; and which tasks run under which handle.
#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    running: Vec<(TaskId, TaskHandle)>,
}

impl Effects for Seen {
    fn start(&mut self, start: Start<'_>) {
        self.running.push((start.id, start.handle));
        let kind = if start.again { "Start again" } else { "Start" };
        self.lines.push(format!("{kind}({:?})", Start { handle: TaskHandle(0), ..start }));
    }

    fn stop(&mut self, handle: TaskHandle, id: TaskId) {
        let known = handle == TaskHandle(0) || self.running.contains(&(id, handle));
        assert!(known, "a task is stopped by the handle that it was started with");
        self.lines.push(format!("stop({id:?})"));
    }

    fn record(&mut self, record: Record<'_>) {
        self.lines.push(format!("{record:?}"));
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
}

impl Run {
    fn new(script: &mut Script<'_>) -> Run {
        let limits = Limits {
            tasks_max: [3, 17, 1_000][usize::from(script.below(3))],
            bytes_max: [600, 1 << 30, 1 << 30][usize::from(script.below(3))],
            generations_max: 4,
            starts_per_tick_max: [1, 3, 1_000][usize::from(script.below(3))],
            hash_seed: u64::from(script.below(255)),
        };
        let now = Instant::now();
        Run {
            start: now,
            now,
            step: 0,
            engine: Engine::new(now, limits.clone()),
            model: Model::new(now, limits),
            engine_seen: Seen::default(),
            model_seen: Seen::default(),
            generations: Vec::new(),
            verdicts: Vec::new(),
            stale: Vec::new(),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.below(64) {
            0..34 => self.event(script),
            34..40 => self.now += Duration::from_millis(100) * u32::from(script.below(16)),
            40..44 => self.tick(),
            44..49 => self.tick_at_deadline(),
            49..58 => self.finish(script),
            58 => self.rename(script),
            59 => self.withdraw(script),
            60 => self.finish_again(script),
            61 => self.reload(script),
            62 => self.retire(script),
            _ => self.shutdown(script),
        }
    }

    fn event(&mut self, script: &mut Script<'_>) {
        let Some(map) = pick_map(&self.generations, script) else { return };
        let event = pick_event(script);
        let expected = self.engine.explain(map, &event.get());
        if let Some(Explanation::Reactions(reactions)) = &expected {
            self.verdicts.extend(reactions.iter().map(|reaction| verdict_name(reaction.verdict)));
        }
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
        self.engine_seen.running.retain(|running| running.1 != handle);
        self.stale.push(handle);
        self.engine.finished(self.now, handle, &outcome, &mut self.engine_seen);
        self.model.finished(self.now, id, &outcome, &mut self.model_seen);
    }

    fn rename(&mut self, script: &mut Script<'_>) {
        let Some(map) = pick_map(&self.generations, script) else { return };
        let (from, to) = (pick_dir(script), pick_dir(script));
        let to = (!script.one_in(3)).then_some(to.as_slice());
        self.engine.rename(self.now, map, &from, to, &mut self.engine_seen);
        self.model.rename(self.now, map, &from, to, &mut self.model_seen);
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
        let schedulers: Vec<SchedulerSpec> = (0..=script.below(3)).map(|_| pick_scheduler(script)).collect();
        let maps: Vec<MapSpec> =
            (0..=script.below(2)).map(|_| pick_map_spec(schedulers.len(), script)).collect();
        let timeout = Duration::from_millis([0, 700, 2_500, 30_000][usize::from(script.below(4))]);
        let Ok(ids) = self.engine.add_generation(schedulers.clone(), maps.clone(), timeout) else { return };
        self.model.add(ids.clone(), schedulers, maps, timeout);
        if let Some(old) = self.generations.last().map(|old| old.id) {
            self.engine.retire(self.now, old, &mut self.engine_seen);
            self.model.retire(self.now, old, &mut self.model_seen);
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
            self.engine.retire(self.now, id, &mut self.engine_seen);
            self.model.retire(self.now, id, &mut self.model_seen);
        }
    }

    /// Rarely, for nothing new comes after it.
    fn shutdown(&mut self, script: &mut Script<'_>) {
        if !script.one_in(24) {
            return self.event(script);
        }
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
        let mut waiting = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.engine.visit(at, 3, |task| {
                if task.doing.is_to_come() {
                    waiting.push((task.scheduler, task.id, task.map, OwnedEvent::of(&task.event)));
                }
            });
        }
        let mut expected = self.model.waiting();
        waiting.sort();
        expected.sort();
        assert_eq!(waiting, expected, "waiting tasks at {at}");
    }
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
        FailureKind::Signal(9),
        FailureKind::Interrupted,
        FailureKind::InUse,
        FailureKind::InUse,
    ];
    match script.below(8) {
        0..3 => Outcome::Done,
        3 => Outcome::Cancelled,
        4 => Outcome::Unchanged,
        _ => Outcome::Failed(Failure::new(script.pick(&kinds).unwrap_or(FailureKind::Error), "why")),
    }
}

fn pick_scheduler(script: &mut Script<'_>) -> SchedulerSpec {
    SchedulerSpec {
        name: "sched".to_owned(),
        files: !script.one_in(8),
        dirs: script.one_in(2),
        delay: Duration::from_millis([0, 300, 1_000, 5_000][usize::from(script.below(4))]),
        singlejob: script.one_in(5),
        max_jobs: NonZeroU32::new([0, 0, 1, 2][usize::from(script.below(4))]),
        retry_if_changed: script.one_in(3),
        rules: script.one_in(3).then(|| letters(script)),
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
        Verdict::Ignored(Ignored::NoRule) => "NoRule",
        Verdict::Ignored(Ignored::RuleStepLimit) => "RuleStepLimit",
        Verdict::New { begin: Begin::AtOnce, .. } => "Started",
        Verdict::New { begin: Begin::WhenPlaceIsFree, .. } => return,
        Verdict::New { begin: Begin::AfterDelay, .. } => "Scheduled",
        Verdict::Met { change: Change::Reschedule { .. } | Change::Refresh { .. }, .. } => "Rescheduled",
        Verdict::Met {
            change: Change::Skip | Change::SkipCancel | Change::SkipAndRunAgain { .. }, ..
        } => "Skipped",
        Verdict::Met { change: Change::Cancel, .. } => "CancelledWaiting",
    };
    assert_starts(lines, expected, event);
}

fn verdict_name(verdict: Verdict) -> String {
    match verdict {
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
