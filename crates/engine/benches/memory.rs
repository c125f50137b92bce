//! What a waiting task costs in memory, and how long the table stops for when it grows.
//!
//! Counts resident pages, so it is the whole cost: slab, paths, table, allocator. Times are CPU time.

use std::time::{Duration, Instant};

use engine::{
    Effects, Engine, Limits, MapSpec, Question, Reaction, Record, SchedulerSpec, Start, TaskHandle, TaskId,
};
use event::{Event, Flag};
use rustix::time::{ClockId, clock_gettime};

struct Sink;

impl Effects for Sink {
    fn start(&mut self, _start: Start<'_>) {}
    fn stop(&mut self, _handle: TaskHandle, _id: TaskId) {}

    fn ask_settled(&mut self, _question: Question<'_>) {}
    fn record(&mut self, _record: Record<'_>) {}
}

fn main() {
    // Each number in its own process: what the allocator keeps of one would be given to the next.
    if let Ok(tasks) = std::env::var("TASKS") {
        return measure(tasks.parse().expect("it is a number"));
    }
    println!("{:>10} {:>14} {:>14} {:>14} {:>12}", "tasks", "B a task", "ns a task", "longest event", "cut");
    for tasks in ["200000", "230000", "1000000", "2000000"] {
        let program = std::env::current_exe().expect("it runs");
        let status = std::process::Command::new(program).env("TASKS", tasks).status();
        assert!(status.expect("it can be run again").success());
    }
}

fn measure(tasks: u32) {
    let now = Instant::now();
    let mut engine = Engine::new(now, Limits::default());
    let scheduler = SchedulerSpec { delay: Duration::from_secs(3_600), ..SchedulerSpec::named("sched") };
    let mut map = MapSpec::default();
    map.reactions[Flag::Create.index()] = vec![Reaction::Schedule(0)];
    let ids =
        engine.add_generation(vec![scheduler], vec![map], Duration::from_secs(1)).expect("it is the first");
    let before = resident_bytes();
    let mut pathname = String::new();
    let mut longest = Duration::ZERO;
    let start = cpu_time();
    for file in 0..tasks {
        use std::fmt::Write;
        pathname.clear();
        write!(pathname, "/srv/incoming/customer-17/upload/{file:08}.dat")
            .expect("a string takes everything");
        let mask = Flag::Create.mask();
        let event = Event {
            mask,
            wd: 1,
            pathname: pathname.as_bytes(),
            name_len: 12,
            root_len: 13,
            ..Event::overflow()
        };
        let at = cpu_time();
        engine.event(now, ids.map(0), &event, &mut Sink);
        longest = longest.max(since(at));
    }
    let each_ns = since(start).as_nanos() / u128::from(tasks);
    let bytes = (resident_bytes() - before) as f64 / f64::from(tasks);
    engine.shutdown(now, &mut Sink);
    let cut = cpu_time();
    engine.tick(now + Duration::from_secs(1), &mut Sink);
    assert!(engine.is_idle());
    println!("{tasks:>10} {bytes:>14.1} {each_ns:>14} {longest:>14.1?} {:>12.1?}", since(cut));
}

/// Resident pages of this process (proc(5), statm), of 4,096 bytes.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages = statm.split_whitespace().nth(1).expect("the second field is resident");
    pages.parse::<usize>().expect("it is a number") * 4_096
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn since(start: Duration) -> Duration {
    cpu_time().saturating_sub(start)
}
