//! A tree that keeps the queue full is watched apart, and shares the queue again when it is calm.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event::{Flag, Mask};
use rustix::fs::{CWD, RenameFlags};
use watcher::{Found, Inotify, Options, Source, Turn, WatchSpec};

use crate::bed::Told;
use crate::storms::queue_max;

/// Something that has not happened by then never will.
const DEADLINE: Duration = Duration::from_secs(60);
/// Longer than a tree must be calm.
const CALM: Duration = Duration::from_secs(11);
const ROUNDS: usize = 200;

/// A source, and a thread for each of its looks.
struct Bed {
    top: PathBuf,
    source: Inotify,
    told: Told,
    looks: Vec<JoinHandle<Found>>,
    /// How far its clock is ahead of ours.
    ahead: Duration,
}

impl Bed {
    fn new(top: &Path) -> Bed {
        let options = Options::new(top.as_os_str().as_bytes().to_vec());
        let source = Inotify::new(options, Instant::now()).unwrap();
        Bed { top: top.to_owned(), source, told: Told::default(), looks: Vec::new(), ahead: Duration::ZERO }
    }

    fn watch(&mut self, name: &str, interest: Mask) {
        let path = self.top.join(name).as_os_str().as_bytes().to_vec();
        let spec = WatchSpec::trees(vec![path], interest);
        let watch = self.source.add(spec, Instant::now(), &mut self.told).unwrap();
        self.work_until(|bed| bed.source.is_set_up(watch));
    }

    fn turn(&mut self) {
        let now = Instant::now() + self.ahead;
        if self.source.turn(now, &mut self.told) != Turn::More {
            std::thread::yield_now();
        }
        while let Some(look) = self.source.next_look(now) {
            self.looks.push(std::thread::spawn(|| look.perform()));
        }
        for look in self.looks.extract_if(.., |look| look.is_finished()).collect::<Vec<_>>() {
            self.source.found(look.join().unwrap(), now, &mut self.told);
        }
    }

    fn work_until(&mut self, is_so: impl Fn(&Bed) -> bool) {
        let since = Instant::now();
        while !is_so(self) {
            assert!(since.elapsed() < DEADLINE, "{:#?}\n{:#?}", self.source, self.told.notices);
            self.turn();
        }
    }

    fn write(&self, name: &str) -> PathBuf {
        let path = self.top.join(name);
        fs::write(&path, "").unwrap();
        path
    }

    /// Makes a file and works until it is told. Whether the kernel's event was, and not an arrival.
    fn is_told_by_the_kernel(&mut self, name: &str) -> bool {
        let path = self.write(name);
        self.work_until(|bed| bed.told.events.iter().any(|event| event.path == path));
        let told = std::mem::take(&mut self.told.events);
        self.told.details.clear();
        told.iter().all(|event| event.path != path || !event.synthetic)
    }

    fn is_apart(&self) -> bool {
        self.told.notices.iter().any(|(_, text)| text.contains("has an event queue of its own"))
    }

    fn has_remotes(&self) -> bool {
        !format!("{:?}", self.source).contains("remotes: 0")
    }
}

/// While a tree storms, nothing of the other one is lost or late, and nothing of its own is lost either.
#[test]
fn a_tree_that_storms_has_a_queue_of_its_own_until_it_is_calm() {
    let temp = tempfile::Builder::new().prefix("watcher-").tempdir().unwrap();
    let top = temp.path().canonicalize().unwrap();
    // So many that a look at everything takes longer than the queue takes to overflow again.
    for number in 0..1000 {
        fs::create_dir_all(top.join(format!("storm/a/{number}"))).unwrap();
        fs::create_dir_all(top.join(format!("storm/b/{number}"))).unwrap();
    }
    fs::create_dir(top.join("storm/c")).unwrap();
    fs::create_dir(top.join("other")).unwrap();
    let mut bed = Bed::new(&top);
    bed.watch("storm", Flag::CloseWrite.mask());
    bed.watch("other", Flag::CloseWrite.mask());
    let done = AtomicBool::new(false);
    let (one, other) = (top.join("storm/a"), top.join("storm/b"));
    let exchange = || rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
    // The queue overflows before each turn, however the machine shares its time out among threads.
    bed.work_until(|bed| {
        (0..queue_max() / 4).for_each(|_| exchange());
        bed.is_apart()
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                exchange();
            }
        });
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // What is still queued from before is worked off when some events in a row have come through.
            let mut in_a_row = 0;
            for round in 0.. {
                let by_the_kernel = bed.is_told_by_the_kernel(&format!("other/before{round}"));
                in_a_row = if by_the_kernel { in_a_row + 1 } else { 0 };
                if in_a_row == 10 {
                    break;
                }
            }
            let since = Instant::now();
            let found = (0..ROUNDS).filter(|round| !bed.is_told_by_the_kernel(&format!("other/{round}")));
            let found = found.count();
            println!("{found} of {ROUNDS} files were lost and found again, {:?} each", since.elapsed() / 200);
            // A look at everything that began before may come upon a new file first. Without a queue of its own, the
            // storm lets nearly every file be found by such looks.
            assert!(found * 10 <= ROUNDS, "{found} of {ROUNDS}");
            let own = bed.write("storm/c/f");
            bed.work_until(|bed| bed.told.events.iter().any(|event| event.path == own));
        }));
        done.store(true, Ordering::Release);
        told.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    bed.ahead = CALM;
    bed.turn();
    let late = bed.write("storm/c/late");
    let since = Instant::now();
    while bed.has_remotes() {
        assert!(since.elapsed() < DEADLINE, "{:#?}", bed.source);
        // Time passes while nothing is under way: a look takes as long as the machine lets it.
        if bed.looks.is_empty() {
            bed.ahead += CALM;
        }
        bed.turn();
    }
    bed.work_until(|bed| bed.told.events.iter().any(|event| event.path == late));
    // Its first walk here would find a new file before its event is read.
    bed.work_until(|bed| bed.source.is_quiet());
    for name in ["storm/a/99/f", "storm/b/0/f", "storm/c/g", "other/last"] {
        assert!(bed.is_told_by_the_kernel(name), "{name}");
    }
}

/// Thousands of paths are not looked at in one go, and each of them is watched in the end.
#[test]
fn many_paths_are_set_up_in_several_turns() {
    let temp = tempfile::Builder::new().prefix("watcher-").tempdir().unwrap();
    let top = temp.path().canonicalize().unwrap();
    for number in 0..2000 {
        fs::create_dir_all(top.join(format!("in/{number}"))).unwrap();
    }
    let mut bed = Bed::new(&top);
    let path = top.join("in/*").as_os_str().as_bytes().to_vec();
    let spec = WatchSpec::trees(vec![path], Flag::CloseWrite.mask());
    let watch = bed.source.add(spec, Instant::now(), &mut bed.told).unwrap();
    assert!(!bed.source.is_set_up(watch));
    assert!(bed.source.deadline().is_some_and(|due| due <= Instant::now()), "it goes on at once");
    bed.work_until(|bed| bed.source.is_set_up(watch));
    for name in ["in/0/f", "in/1999/f"] {
        assert!(bed.is_told_by_the_kernel(name), "{name}");
    }
}
