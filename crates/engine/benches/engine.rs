//! What an event costs in the engine, in the cases that a storm is made of; in CPU time, so that what else the machine
//! does counts little.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use engine::{
    Effects, Engine, GenerationIds, Limits, MapSpec, Matcher, Outcome, Question, Reaction, Record,
    SchedulerSpec, Start, StepLimit, TaskHandle, TaskId,
};
use event::{Event, Flag};
use pattern::{Pattern, PatternSet};
use rustix::time::{ClockId, clock_gettime};

/// Takes effects and forgets them, but for the latest handle.
struct Sink(TaskHandle);

impl Effects for Sink {
    fn start(&mut self, start: Start<'_>) {
        self.0 = start.handle;
    }
    fn stop(&mut self, _handle: TaskHandle, _id: TaskId) {}

    fn ask_settled(&mut self, _question: Question<'_>) {}
    fn record(&mut self, record: Record<'_>) {
        std::hint::black_box(&record);
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

fn scheduler(delay_s: u64, rules: Option<Arc<dyn Matcher>>) -> SchedulerSpec {
    SchedulerSpec { delay: Duration::from_secs(delay_s), rules, ..SchedulerSpec::named("sched") }
}

/// All flags lead to all schedulers.
fn engine(schedulers: Vec<SchedulerSpec>) -> (Engine, GenerationIds, Instant) {
    let now = Instant::now();
    let mut engine = Engine::new(now, Limits::default());
    let reactions: Vec<Reaction> = (0..schedulers.len()).map(Reaction::Schedule).collect();
    let map = MapSpec { reactions: std::array::from_fn(|_| reactions.clone()), exclude: None };
    let ids = engine.add_generation(schedulers, vec![map], Duration::from_secs(30)).expect("it is the first");
    (engine, ids, now)
}

/// Length of a path.
const PATH_LEN: usize = 45;

/// Events in a row before the same come again.
const ROW: u32 = 400_000;

/// A path of the length for which the target of memory is given.
fn path(file: u32) -> String {
    format!("/srv/incoming/customer-17/upload/{file:08}.dat")
}

fn event(pathname: &str) -> Event<'_> {
    let mask = Flag::CloseWrite.mask();
    Event { mask, wd: 1, pathname: pathname.as_bytes(), name_len: 12, root_len: 13, ..Event::overflow() }
}

/// Events for paths that all have a waiting task, in an order that no cache likes.
fn re_arm(criterion: &mut Criterion<CpuTime>) {
    for tasks in [1, 1_000, 200_000, 1_000_000_u32] {
        let (mut engine, ids, now) = engine(vec![scheduler(60, None)]);
        let mut sink = Sink(TaskHandle(0));
        let paths: Vec<String> = (0..tasks).map(path).collect();
        for pathname in &paths {
            engine.event(now, ids.map(0), &event(pathname), &mut sink);
        }
        // The events themselves come in a row, as they do from the kernel's buffer.
        let row: String = (0..ROW).map(|at| path((at * 7_919) % tasks)).collect();
        let mut at = 0;
        criterion.bench_function(&format!("re-arm, {tasks} waiting"), |bench| {
            bench.iter(|| {
                at = (at + PATH_LEN) % row.len();
                engine.event(now, ids.map(0), &event(&row[at..at + PATH_LEN]), &mut sink);
            });
        });
    }
}

fn start_and_finish(criterion: &mut Criterion<CpuTime>) {
    let (mut engine, ids, now) = engine(vec![scheduler(0, None)]);
    let mut sink = Sink(TaskHandle(0));
    let paths: Vec<String> = (0..1_000).map(path).collect();
    let mut at = 0;
    criterion.bench_function("event, start, finished", |bench| {
        bench.iter(|| {
            at = (at + 1) % paths.len();
            engine.event(now, ids.map(0), &event(&paths[at]), &mut sink);
            engine.finished(now, sink.0, &Outcome::Done, &mut sink);
        });
    });
    criterion.bench_function("1,000 events with delay, tick, finished", |bench| {
        let fresh = || self::engine(vec![scheduler(60, None)]);
        let run = |(mut engine, ids, now): (Engine, GenerationIds, Instant)| {
            for pathname in &paths {
                engine.event(now, ids.map(0), &event(pathname), &mut sink);
            }
            let due = engine.deadline().expect("tasks wait");
            engine.tick(due, &mut sink);
            engine
        };
        bench.iter_batched(fresh, run, BatchSize::LargeInput);
    });
}

/// Four events of one path in a row, as a file that is written gives them, and each event another path.
fn no_match(criterion: &mut Criterion<CpuTime>) {
    let paths: Vec<String> = (0..1_000).map(path).collect();
    for (count, row) in [(1, 1), (1, 4), (1_000, 1), (1_000, 4)] {
        let (mut engine, ids, now) = engine(vec![scheduler(0, Some(rules(count)))]);
        let mut sink = Sink(TaskHandle(0));
        let mut at = 0;
        criterion.bench_function(&format!("no match, {count} rules, {row} events a path"), |bench| {
            bench.iter(|| {
                at = (at + 1) % (paths.len() * row);
                engine.event(now, ids.map(0), &event(&paths[at / row]), &mut sink);
            });
        });
    }
    let (mut engine, ids, now) = {
        let (mut engine, _, now) = engine(vec![scheduler(0, None)]);
        let ids = engine
            .add_generation(Vec::new(), vec![MapSpec::default()], Duration::ZERO)
            .expect("there is room");
        (engine, ids, now)
    };
    let mut sink = Sink(TaskHandle(0));
    criterion.bench_function("unmapped", |bench| {
        bench.iter(|| engine.event(now, ids.map(0), &event(&paths[0]), &mut sink));
    });
}

fn hundred_schedulers(criterion: &mut Criterion<CpuTime>) {
    let (mut engine, ids, now) = engine((0..100).map(|_| scheduler(60, None)).collect());
    let mut sink = Sink(TaskHandle(0));
    let paths: Vec<String> = (0..1_000).map(path).collect();
    for pathname in &paths {
        engine.event(now, ids.map(0), &event(pathname), &mut sink);
    }
    let mut at = 0;
    criterion.bench_function("re-arm at 100 schedulers", |bench| {
        bench.iter(|| {
            at = (at + 1) % paths.len();
            engine.event(now, ids.map(0), &event(&paths[at]), &mut sink);
        });
    });
    criterion.bench_function("deadline of 100 schedulers", |bench| bench.iter(|| engine.deadline()));
}

/// CPU time of this thread.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, left: &Duration, right: &Duration) -> Duration {
        *left + *right
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = re_arm, start_and_finish, no_match, hundred_schedulers
}
criterion_main!(benches);
