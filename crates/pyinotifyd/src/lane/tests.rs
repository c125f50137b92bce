//! Lanes with work that ends when a test says so. Time is passed in, and no test sleeps.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::pool::{GROWTH, HIRE_RETRY, LOOK, STALL};
use super::*;

type Reports = Lanes<&'static str, ()>;

/// No wait of these tests takes so long unless something is broken.
const DEADLINE: Duration = Duration::from_secs(30);

/// Work that says when it begins and ends when it is let through.
struct Gated {
    name: &'static str,
    size: Size,
    begun: Sender<&'static str>,
    gate: Mutex<Receiver<()>>,
}

impl Work<&'static str, ()> for Gated {
    fn about(&self) -> String {
        self.name.to_owned()
    }

    fn perform(&self, size: Size, (): &mut (), report: &mut dyn FnMut(&'static str)) -> Fit {
        if self.size == Size::Large && size == Size::Small {
            return Fit::TooLarge;
        }
        self.begun.send(self.name).unwrap();
        // The test that has let go of the gate is over.
        let _ = self.gate.lock().unwrap().recv();
        assert_ne!(self.name, "panics");
        report(self.name);
        Fit::Done
    }

    fn not_performed(&self, why: NotPerformed) -> &'static str {
        match why {
            NotPerformed::QueueFull => "queue full",
            NotPerformed::Panicked => "panicked",
        }
    }
}

/// Lanes under a clock that only the test moves.
struct Bench {
    lanes: Reports,
    now: Instant,
    begun: Receiver<&'static str>,
    started: Sender<&'static str>,
    gates: Vec<(&'static str, Sender<()>)>,
    reports: VecDeque<&'static str>,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        let (started, begun) = channel();
        let (lanes, now) = (Lanes::new(limits), Instant::now());
        Bench { lanes, now, begun, started, gates: Vec::new(), reports: VecDeque::new() }
    }

    fn submit_to(&mut self, lane: LaneId, size: Size, name: &'static str) {
        let (open, gate) = channel();
        self.gates.push((name, open));
        let work = Gated { name, size, begun: self.started.clone(), gate: Mutex::new(gate) };
        self.lanes.submit(lane, Size::Small, Arc::new(work), self.now);
    }

    fn submit(&mut self, lane: u64, name: &'static str) {
        self.submit_to(LaneId::Filesystem(lane), Size::Small, name);
    }

    fn tend(&mut self) -> Vec<Notice> {
        self.lanes.tend(self.now)
    }

    /// Moves the clock on.
    fn pass(&mut self, time: Duration) -> Vec<Notice> {
        self.now += time;
        self.tend()
    }

    /// The names of work that has begun, so many.
    fn begun(&mut self, count: usize) -> Vec<&'static str> {
        (0..count).map(|_| self.begun.recv_timeout(DEADLINE).expect("work begins")).collect()
    }

    fn nothing_begins(&self) {
        assert_eq!(self.begun.try_iter().next(), None);
    }

    /// Lets work end.
    fn open(&mut self, name: &'static str) {
        let place = self.gates.iter().position(|(of, _)| *of == name).unwrap();
        // What was refused, or has not begun yet, finds its gate open.
        let _ = self.gates.swap_remove(place).1.send(());
    }

    /// The next report; the loop tends the lanes meanwhile.
    fn reported(&mut self) -> &'static str {
        let until = Instant::now() + DEADLINE;
        loop {
            self.reports.extend(self.lanes.take_reports());
            if let Some(report) = self.reports.pop_front() {
                return report;
            }
            assert!(Instant::now() < until, "nothing is reported");
            std::thread::yield_now();
        }
    }

    /// Waits until the lanes are as `is_so` says.
    fn until(&mut self, what: &str, is_so: impl Fn(&Reports) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !is_so(&self.lanes) {
            assert!(Instant::now() < until, "{what}");
            std::thread::yield_now();
        }
    }
}

fn limits() -> Limits {
    Limits { small_workers: 3, large_workers: 1, ..Limits::default() }
}

#[test]
fn a_worker_comes_at_once_and_another_one_when_work_waits_too_long() {
    let mut bench = Bench::new(limits());
    assert_eq!(bench.lanes.deadline(), None, "without work nothing is to do");
    bench.submit(1, "a");
    bench.tend();
    assert_eq!(bench.begun(1), ["a"]);
    for name in ["b", "c", "d"] {
        bench.submit(1, name);
    }
    bench.tend();
    bench.nothing_begins();
    assert_eq!(bench.lanes.deadline(), Some(bench.now + GROWTH));
    bench.pass(GROWTH / 2);
    bench.nothing_begins();
    bench.pass(GROWTH / 2);
    assert_eq!(bench.begun(1), ["b"], "one joins at a time");
    bench.tend();
    bench.nothing_begins();
    bench.pass(GROWTH);
    assert_eq!(bench.begun(1), ["c"]);
    bench.pass(GROWTH);
    bench.nothing_begins();
    // As many as there may be: what is to do next is only to look whether they get on.
    assert!(bench.lanes.deadline().is_some_and(|at| at > bench.now + LOOK / 2));
    bench.open("b");
    assert_eq!(bench.reported(), "b");
    assert_eq!(bench.begun(1), ["d"]);
}

#[test]
fn no_lane_waits_for_another() {
    let mut bench = Bench::new(limits());
    let hung = ["a1", "a2", "a3", "a4", "a5"];
    for (lane, name) in (0..16).flat_map(|lane| hung.map(|name| (lane, name))) {
        bench.submit(lane, name);
    }
    for _ in 0..5 {
        bench.pass(GROWTH);
    }
    bench.begun(16 * 3);
    bench.submit(99, "healthy");
    bench.tend();
    assert_eq!(bench.begun(1), ["healthy"]);
    bench.open("healthy");
    assert_eq!(bench.reported(), "healthy");
}

#[test]
fn large_work_leaves_the_workers_of_small_work_alone() {
    let mut bench = Bench::new(limits());
    for name in ["large 1", "large 2", "large 3"] {
        bench.submit_to(LaneId::Filesystem(1), Size::Large, name);
    }
    // The worker for small work finds out that they are large; the loop is woken for somebody to come for them.
    bench.tend();
    bench.until("all have moved on", |lanes| lanes.waiting(LaneId::Filesystem(1)) == [0, 0, 3]);
    bench.now = Instant::now();
    bench.tend();
    assert_eq!(bench.begun(1), ["large 1"]);
    bench.pass(GROWTH);
    bench.submit(1, "small");
    bench.tend();
    assert_eq!(bench.begun(1), ["small"], "large 2 and 3 wait");
    bench.open("small");
    assert_eq!(bench.reported(), "small");
    for name in ["large 1", "large 2", "large 3"] {
        bench.open(name);
        assert_eq!(bench.reported(), name);
    }
}

#[test]
fn lanes_beyond_the_limit_share_one() {
    let mut bench = Bench::new(Limits { lanes: 2, small_workers: 1, ..limits() });
    for (lane, name) in [(1, "a"), (2, "b"), (3, "c"), (1, "d")] {
        bench.submit(lane, name);
    }
    bench.tend();
    let mut begun = bench.begun(2);
    begun.sort_unstable();
    assert_eq!(begun, ["a", "b"]);
    bench.open("b");
    assert_eq!((bench.begun(1), bench.reported()), (vec!["c"], "b"));
    bench.open("a");
    assert_eq!((bench.begun(1), bench.reported()), (vec!["d"], "a"));
}

#[test]
fn a_queue_has_a_limit_and_what_is_beyond_is_not_performed() {
    let mut bench = Bench::new(Limits { queue: 2, ..limits() });
    for name in ["a", "b", "c"] {
        bench.submit(1, name);
    }
    bench.tend();
    assert_eq!(bench.reported(), "queue full");
    for name in ["a", "b"] {
        assert_eq!(bench.begun(1), [name]);
        bench.open(name);
        assert_eq!(bench.reported(), name);
    }
}

#[test]
fn work_that_panics_is_reported_and_its_worker_stays() {
    let mut bench = Bench::new(limits());
    bench.submit(1, "panics");
    bench.submit(1, "next");
    bench.tend();
    bench.begun(1);
    bench.open("panics");
    assert_eq!(bench.reported(), "panicked");
    assert_eq!(bench.begun(1), ["next"]);
}

#[test]
fn a_worker_that_gets_on_with_nothing_is_said_once_and_so_is_its_end() {
    let mut bench = Bench::new(limits());
    bench.submit(1, "stuck");
    bench.submit(2, "other");
    bench.tend();
    bench.begun(2);
    bench.open("other");
    assert_eq!(bench.reported(), "other");
    let began = bench.now;
    bench.submit(1, "behind");
    bench.tend();
    bench.pass(GROWTH);
    assert_eq!(bench.begun(1), ["behind"]);
    bench.until("both wait at their gates", |lanes| lanes.all_wait(LaneId::Filesystem(1)));
    let mut notices = Vec::new();
    let mut looks = 0;
    while notices.is_empty() {
        assert!(looks < 20, "nothing is said");
        // At the moments that the deadline names, and at no others.
        notices = bench.pass(bench.lanes.deadline().unwrap().saturating_duration_since(bench.now));
        looks += 1;
    }
    let [Notice::Stalled { lane: LaneId::Filesystem(1), about, since, waiting: 0 }] = notices.as_slice()
    else {
        panic!("{notices:?}")
    };
    assert_eq!(about, "stuck");
    let since = *since;
    assert!(since.saturating_duration_since(began) < LOOK * 3 && bench.now >= began + STALL);
    for _ in 0..5 {
        assert!(bench.pass(STALL).is_empty(), "it was said");
    }
    bench.open("stuck");
    assert_eq!(bench.reported(), "stuck");
    assert!(bench.tend().is_empty(), "the other one is still stalled");
    bench.open("behind");
    assert_eq!(bench.reported(), "behind");
    let notices = bench.tend();
    let [Notice::Resumed { about, since: from }] = notices.as_slice() else { panic!("{notices:?}") };
    assert_eq!(about, "stuck");
    assert_eq!(*from, since);
}

#[test]
fn a_look_at_a_worker_holds_up_no_other_one() {
    let mut bench = Bench::new(limits());
    for name in ["a", "b"] {
        bench.submit(1, name);
        bench.pass(GROWTH);
        assert_eq!(bench.begun(1), [name]);
    }
    bench.submit(1, "c");
    bench.tend();
    let Bench { lanes, now, begun, gates, .. } = &mut bench;
    let looks = Cell::new(0);
    let notices = lanes.tend_with(*now + LOOK, |_| {
        if looks.replace(looks.get() + 1) == 0 {
            let (_, gate) = &gates[1];
            gate.send(()).unwrap();
            assert_eq!(begun.recv_timeout(DEADLINE), Ok("c"), "its worker takes what is next");
        }
        None
    });
    assert!(looks.get() > 0 && notices.is_empty(), "{notices:?}");
    assert_eq!(bench.reported(), "b");
}

#[test]
fn work_that_takes_long_but_gets_on_is_not_said() {
    let mut bench = Bench::new(limits());
    let (stop, stopped) = channel::<()>();
    let busy = move || {
        while stopped.try_recv().is_err() {
            std::thread::yield_now();
        }
        "over"
    };
    let work = Once::new("busy".to_owned(), busy, |_: NotPerformed| "not performed");
    bench.lanes.submit(LaneId::Filesystem(1), Size::Large, work, bench.now);
    for _ in 0..20 {
        assert!(bench.pass(LOOK).is_empty());
    }
    stop.send(()).unwrap();
    assert_eq!(bench.reported(), "over");
}

#[test]
fn without_a_thread_work_waits_and_is_tried_again_and_that_is_said_once() {
    let mut bench = Bench::new(Limits { stack: usize::MAX / 4, ..limits() });
    bench.submit(1, "a");
    bench.submit(1, "b");
    let notices = bench.tend();
    assert!(matches!(notices.as_slice(), [Notice::NoThread { waiting: 2, .. }]), "{notices:?}");
    assert_eq!(bench.lanes.deadline(), Some(bench.now + HIRE_RETRY));
    for _ in 0..3 {
        assert!(bench.pass(HIRE_RETRY).is_empty(), "it was said");
    }
    bench.lanes.set_stack(Limits::default().stack);
    bench.tend();
    bench.nothing_begins();
    bench.pass(HIRE_RETRY);
    assert_eq!(bench.begun(1), ["a"]);
    bench.lanes.set_stack(usize::MAX / 4);
    assert!(bench.pass(GROWTH).is_empty(), "one is at work");
    bench.open("a");
    assert_eq!(bench.begun(1), ["b"]);
}

#[test]
fn a_worker_without_work_ends_and_its_lane_with_it() {
    let mut bench = Bench::new(Limits { idle: Duration::from_millis(1), ..limits() });
    for _ in 0..2 {
        bench.submit(1, "a");
        bench.tend();
        assert_eq!(bench.begun(1), ["a"]);
        bench.open("a");
        assert_eq!(bench.reported(), "a");
        bench.until("its lane goes with it", |lanes| lanes.count() == 0);
        assert_eq!(bench.lanes.deadline(), None);
    }
}

/// What a worker keeps; counts how many there are.
struct Counted;

static COUNTED: AtomicU32 = AtomicU32::new(0);
static DROPPED: AtomicU32 = AtomicU32::new(0);

impl Default for Counted {
    fn default() -> Self {
        COUNTED.fetch_add(1, Ordering::Relaxed);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_a_worker_keeps_is_dropped_before_it_sleeps_and_not_while_work_waits() {
    let mut lanes: Lanes<u32, Counted> = Lanes::new(limits());
    for number in 0..100 {
        let work = Once::new(String::new(), move || number, |_: NotPerformed| 0);
        lanes.submit(LaneId::Filesystem(1), Size::Small, work, Instant::now());
    }
    lanes.tend(Instant::now());
    let until = Instant::now() + DEADLINE;
    while lanes.asleep(LaneId::Filesystem(1)) == 0 {
        assert!(Instant::now() < until, "it sleeps");
        std::thread::yield_now();
    }
    assert_eq!(lanes.take_reports(), (0..100).collect::<Vec<_>>());
    assert_eq!((COUNTED.load(Ordering::Relaxed), DROPPED.load(Ordering::Relaxed)), (2, 1));
}

#[test]
fn a_worker_that_sleeps_is_called_before_another_is_started() {
    let mut bench = Bench::new(Limits { idle: DEADLINE, ..limits() });
    for _ in 0..200 {
        bench.submit(1, "a");
        bench.tend();
        bench.begun(1);
        bench.open("a");
        assert_eq!(bench.reported(), "a");
        bench.until("it sleeps", |lanes| lanes.asleep(LaneId::Filesystem(1)) == 1);
    }
}
