//! The engine and the patterns, without a kernel.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    Effects, Engine, Limits, MapId, MapSpec, Matcher, Outcome, Question, Reaction, Record, SchedulerSpec,
    Start, StepLimit, TaskHandle, TaskId,
};
use event::{Event, Flag};
use pattern::{Pattern, PatternSet, Template};

/// Events of one file that is made, written, closed and removed.
const FILE_EVENTS: [Flag; 4] = [Flag::Create, Flag::Modify, Flag::CloseWrite, Flag::Delete];

/// Different files that come up in turn. Their paths are made beforehand: that is not what is counted.
const PATHS: usize = 1000;

/// Tasks that wait in the scenario `re-arm`: more than a processor's first cache holds.
const WAITING: usize = 10_000;

/// Remembers the latest start; all else is as nothing.
struct Latest(TaskHandle);

impl Effects for Latest {
    fn start(&mut self, start: Start<'_>) {
        self.0 = start.handle;
    }

    fn stop(&mut self, _handle: TaskHandle, _id: TaskId) {}

    fn ask_settled(&mut self, _question: Question<'_>) {}

    fn record(&mut self, record: Record<'_>) {
        black_box(&record);
    }
}

struct Rules(PatternSet);

impl Matcher for Rules {
    fn first_match(&self, pathname: &[u8]) -> Result<Option<usize>, StepLimit> {
        self.0.first_match(pathname).map_err(|_| StepLimit)
    }
}

fn rules(count: usize) -> Arc<dyn Matcher> {
    let source = |rule: usize| format!(r"^/srv/incoming/(?P<path>.*)\.kind{rule}$");
    let patterns = (0..count).map(|rule| Pattern::new(source(rule).as_bytes()).expect("it is a pattern"));
    Arc::new(Rules(PatternSet::new(patterns.collect())))
}

struct Replay {
    engine: Engine,
    map: MapId,
    now: Instant,
    latest: Latest,
}

impl Replay {
    /// One scheduler that every event reaches.
    fn new(delay: Duration, rules: Option<Arc<dyn Matcher>>) -> Replay {
        let now = Instant::now();
        let mut engine = Engine::new(now, Limits::default());
        let scheduler = SchedulerSpec { delay, rules, ..SchedulerSpec::named("sched") };
        let map = MapSpec { reactions: std::array::from_fn(|_| vec![Reaction::Schedule(0)]), exclude: None };
        let ids = engine.add_generation(vec![scheduler], vec![map], Duration::ZERO).expect("it is the first");
        Replay { engine, map: ids.map(0), now, latest: Latest(TaskHandle(0)) }
    }

    fn event(&mut self, flag: Flag, path: &str) {
        let name_len = path.len() - path.rfind('/').map_or(0, |at| at + 1);
        let event = Event {
            mask: flag.mask(),
            wd: 1,
            pathname: path.as_bytes(),
            name_len: name_len as u16,
            root_len: 13,
            ..Event::overflow()
        };
        self.engine.event(self.now, self.map, &event, &mut self.latest);
    }
}

/// Paths of 45 bytes.
fn paths(count: usize) -> Vec<String> {
    (0..count).map(|file| format!("/srv/incoming/customer-17/upload/{file:08}.dat")).collect()
}

fn storm(mut replay: Replay, count: usize) {
    for path in paths(PATHS).iter().cycle().take(count / FILE_EVENTS.len()) {
        for flag in FILE_EVENTS {
            replay.event(flag, path);
        }
    }
}

pub(crate) fn no_match(count: usize, _dir: &str) {
    storm(Replay::new(Duration::ZERO, Some(rules(1))), count);
}

pub(crate) fn no_match_of_many(count: usize, _dir: &str) {
    storm(Replay::new(Duration::ZERO, Some(rules(1000))), count);
}

pub(crate) fn re_arm(count: usize, _dir: &str) {
    let mut replay = Replay::new(Duration::from_secs(60), None);
    let paths = paths(WAITING);
    for path in &paths {
        replay.event(Flag::Create, path);
    }
    // The step has no divisor in common with the number of paths: each comes up before one comes twice.
    for at in 0..count {
        replay.event(Flag::Modify, &paths[at * 7919 % WAITING]);
    }
}

pub(crate) fn start_finish(count: usize, _dir: &str) {
    let mut replay = Replay::new(Duration::ZERO, None);
    for path in paths(PATHS).iter().cycle().take(count) {
        replay.event(Flag::CloseWrite, path);
        replay.engine.finished(replay.now, replay.latest.0, &Outcome::Done, &mut replay.latest);
    }
}

pub(crate) fn destination(count: usize, _dir: &str) {
    let rule = Pattern::new(br"^/srv/incoming/(?P<path>.*)\.dat$").expect("it is a pattern");
    let template = Template::new(br"/srv/done/\g<path>", &rule).expect("it is a template");
    for path in paths(PATHS).iter().cycle().take(count) {
        black_box(rule.sub(&template, path.as_bytes()).expect("a linear pattern has no step limit"));
    }
}
