//! Watches a tree and counts events; for measuring against other programs.
//!
//! `cargo run --release -p watcher --example count -- PATH [all|narrow]` says `ready` with the time that setting up
//! took and the memory (PSS) a watch, then counts until nothing has happened for a second after the first event, and
//! says what an event cost.

use std::os::unix::ffi::OsStringExt as _;
use std::time::Instant;

use event::{Event, Flag, Mask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use watcher::{Notice, Options, Sink, Turn, WatchId, WatchSpec, Watcher};

/// Counts.
#[derive(Default)]
struct Counter {
    events: u64,
}

impl Sink for Counter {
    fn event(&mut self, _watch: WatchId, _event: &Event<'_>) {
        self.events += 1;
    }

    fn renamed(&mut self, _: WatchId, _: &[u8], _: Option<&[u8]>) {}
    fn set_aside(&mut self, _: WatchId, _: &[u8], _: &[u8]) {}

    fn notice(&mut self, notice: Notice<'_>) {
        eprintln!("{notice}");
    }
}

fn main() -> Result<(), watcher::Error> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: count PATH [all|narrow]");
        std::process::exit(2);
    };
    let narrow = arguments.next().is_some_and(|which| which == "narrow");
    let interest = if narrow { Flag::CloseWrite | Flag::MovedTo } else { Mask(0xefff) };
    let start = Instant::now();
    let cwd = std::env::current_dir().unwrap_or_default().into_os_string().into_vec();
    let mut watcher = Watcher::new(Options::new(cwd), start)?;
    let mut counter = Counter::default();
    let spec = WatchSpec::trees(vec![path.into_vec()], interest);
    watcher.add(&spec, start, &mut counter)?;
    let took = start.elapsed();
    drain(&mut watcher, &mut counter);
    let (stats, pss) = (watcher.stats(), pss_bytes());
    let each = pss as f64 / stats.watches.max(1) as f64;
    let (own, cpu, seconds) = (counter.events, cpu_s(), took.as_secs_f64());
    println!(
        "ready {seconds:.3} s ({cpu:.3} s of CPU), {} watches, PSS {pss} ({each:.1} B a watch)",
        stats.watches
    );
    // A second of silence after the first event ends it.
    while counter.events == own || wait(&watcher, 1) {
        if counter.events == own {
            wait(&watcher, 3600);
        }
        drain(&mut watcher, &mut counter);
    }
    let (told, spent) = (counter.events - own, cpu_s() - cpu);
    let each = spent * 1e6 / told.max(1) as f64;
    println!("{told} events, {spent:.3} s of CPU, {each:.3} us an event, PSS {}", pss_bytes());
    println!("{:?}", watcher.stats());
    Ok(())
}

/// Works until nothing is left.
fn drain(watcher: &mut Watcher, counter: &mut Counter) {
    loop {
        match watcher.turn(Instant::now(), counter) {
            Turn::More => {}
            Turn::Pause(until) => std::thread::sleep(until.saturating_duration_since(Instant::now())),
            Turn::Idle => return,
        }
    }
}

/// Waits for events; false if none came.
fn wait(watcher: &Watcher, seconds: i64) -> bool {
    let fd = watcher.inotify_fd();
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)).is_ok_and(|ready| ready > 0)
}

/// Proportional set size of this process, from /proc/self/smaps_rollup.
fn pss_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// User and system time of this process.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
