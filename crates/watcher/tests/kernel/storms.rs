//! Many events at once: overflows, deep trees made at full speed, noise between the halves of renames.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use event::{Flag, Mask};
use rustix::fs::{CWD, RenameFlags};
use watcher::Turn;

use crate::bed::{Bed, CHANGES, Expected, expected};

const ENTRIES: Mask = Mask(Flag::Create.mask().0 | Flag::CloseWrite.mask().0);

/// Length of the queue on this machine.
pub(crate) fn queue_max() -> usize {
    fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap()
}

impl Bed {
    /// Works while `busy` runs in other threads, and then to the end.
    fn work_while(&mut self, busy: impl FnOnce(&Path) + Send) {
        let done = AtomicBool::new(false);
        let top = self.top.clone();
        std::thread::scope(|scope| {
            let done = &done;
            scope.spawn(move || {
                busy(&top);
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                self.now = Instant::now();
                match self.watcher.turn(self.now, &mut self.told) {
                    Turn::More => {}
                    Turn::Pause(_) | Turn::Idle => std::thread::yield_now(),
                }
            }
        });
        self.settle();
    }
}

fn told_paths(told: &[Expected], mask: &str) -> HashSet<PathBuf> {
    told.iter().filter(|event| event.mask == mask).map(|event| event.path.clone()).collect()
}

#[test]
fn what_an_overflow_swallowed_is_told() {
    let mut bed = Bed::new();
    bed.mkdir("in/sub");
    bed.mkdir("in/gone/deep");
    bed.mkdir("in/moves/deep");
    bed.write("in/sub/old");
    let watch = bed.watch_tree("in", Mask(ENTRIES.0 | Flag::QOverflow.mask().0));
    // The old file is older than the queue is empty.
    std::thread::sleep(std::time::Duration::from_millis(150));
    bed.now = Instant::now();
    bed.settle();
    let count = queue_max();
    let files: Vec<PathBuf> = (0..count).map(|number| bed.write(&format!("in/sub/{number}"))).collect();
    fs::remove_dir_all(bed.path("in/gone")).unwrap();
    bed.rename("in/moves", "in/moved");
    bed.mkdir("in/new/deep");
    let deep = bed.write("in/new/deep/f");
    bed.now = Instant::now();
    bed.settle();
    assert_eq!(bed.told.recovered, [watch.0]);
    let told = bed.events();
    assert_eq!(told.iter().filter(|event| event.mask == "IN_Q_OVERFLOW").count(), 1);
    let (created, closed) = (told_paths(&told, "IN_CREATE"), told_paths(&told, "IN_CLOSE_WRITE"));
    for file in files.iter().chain([&deep]) {
        assert!(created.contains(file) && closed.contains(file), "{}", file.display());
    }
    assert!(!closed.contains(&bed.path("in/sub/old")), "nothing has happened to it");
    let twice = told.iter().filter(|event| event.mask == "IN_CREATE").count();
    assert_eq!(twice, created.len(), "creation is told once");
    let notices = bed.notices();
    assert!(notices[0].starts_with("event queue overflowed"), "{notices:?}");
    assert_eq!(notices.len(), 3, "{notices:?}");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len(), "the tables agree (K6)");
    for name in ["in/sub", "in/moved/deep", "in/new/deep"] {
        bed.assert_watched(name);
    }
}

#[test]
fn a_root_removed_during_an_overflow_is_watched_again() {
    let mut bed = Bed::new();
    bed.mkdir("in/a");
    bed.mkdir("noise");
    bed.watch_tree("in", CHANGES);
    bed.watch_tree("noise", Flag::Create.mask());
    for number in 0..=queue_max() {
        fs::File::create(bed.path(&format!("noise/{number}"))).unwrap();
    }
    fs::remove_dir_all(bed.path("in")).unwrap();
    bed.mkdir("in/b");
    bed.events();
    bed.assert_watched("in/b");
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

#[test]
fn ten_writers_of_deep_trees_lose_nothing() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", ENTRIES);
    bed.work_while(|top| {
        std::thread::scope(|scope| {
            for writer in 0..10 {
                scope.spawn(move || {
                    for tree in 0..30 {
                        let mut dir = top.join(format!("in/{writer}-{tree}"));
                        for level in 0..5 {
                            dir.push(level.to_string());
                            fs::create_dir_all(&dir).unwrap();
                            fs::write(dir.join("f"), "").unwrap();
                        }
                    }
                });
            }
        });
    });
    let told = bed.events();
    let closed = told_paths(&told, "IN_CLOSE_WRITE");
    let created = told.iter().filter(|event| event.mask == "IN_CREATE").count();
    assert_eq!(closed.len(), 10 * 30 * 5);
    assert_eq!(created, 10 * 30 * 5, "creation is told once");
    assert_eq!(told.iter().filter(|event| event.mask == "IN_CREATE|IN_ISDIR").count(), 10 * 30 * 6);
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
    bed.assert_watched("in/9-29/0/1/2/3/4");
}

#[test]
fn renames_under_noise_keep_their_sources() {
    let mut bed = Bed::new();
    for dir in ["in/a", "in/b", "in/noise0", "in/noise1"] {
        bed.mkdir(dir);
    }
    bed.watch_tree("in", CHANGES);
    let rounds = 2000;
    bed.work_while(|top| {
        std::thread::scope(|scope| {
            for noise in ["in/noise0", "in/noise1"] {
                scope.spawn(move || {
                    for number in 0..rounds {
                        let path = top.join(noise).join(number.to_string());
                        fs::write(&path, "").unwrap();
                        fs::remove_file(&path).unwrap();
                    }
                });
            }
            for number in 0..rounds {
                let (old, new) = (top.join(format!("in/a/{number}")), top.join(format!("in/b/{number}")));
                fs::write(&old, "").unwrap();
                fs::rename(&old, &new).unwrap();
            }
        });
    });
    let told = bed.events();
    let moves: Vec<_> = told.iter().filter(|event| event.mask == "IN_MOVED_TO").collect();
    assert_eq!(moves.len(), rounds);
    for (number, event) in moves.iter().enumerate() {
        let expected = expected(bed.path(&format!("in/b/{number}"))).moved_to();
        assert_eq!(**event, expected.from(bed.path(&format!("in/a/{number}"))));
    }
}

#[test]
fn trees_renamed_while_they_are_made_have_the_right_paths() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", CHANGES);
    bed.work_while(|top| {
        std::thread::scope(|scope| {
            for writer in 0..4 {
                scope.spawn(move || {
                    for tree in 0..100 {
                        let temporary = top.join(format!("in/{writer}.tmp"));
                        let last = top.join(format!("in/{writer}-{tree}"));
                        fs::create_dir_all(temporary.join("x/y")).unwrap();
                        fs::write(temporary.join("x/y/f"), "").unwrap();
                        fs::rename(&temporary, &last).unwrap();
                        fs::rename(last.join("x"), last.join("z")).unwrap();
                        fs::write(last.join("z/y/g"), "").unwrap();
                    }
                });
            }
        });
    });
    let told = bed.events();
    let closed = told_paths(&told, "IN_CLOSE_WRITE");
    for writer in 0..4 {
        for tree in 0..100 {
            let file = bed.path(&format!("in/{writer}-{tree}/z/y/g"));
            let near = || {
                let name = format!("/in/{writer}-{tree}");
                let next = format!("/in/{writer}-{}", tree + 1);
                let temporary = format!("/in/{writer}.tmp");
                let is_of = |event: &Expected, name: &str| {
                    let path = event.path.to_string_lossy();
                    path.ends_with(name) || path.contains(&format!("{name}/"))
                };
                let first = told.iter().position(|event| is_of(event, &name)).unwrap_or(0);
                let last = told.iter().rposition(|event| is_of(event, &name)).unwrap_or(0);
                let story = &told[first.saturating_sub(40)..(last + 40).min(told.len())];
                let of = |event: &&Expected| [&name, &next, &temporary].iter().any(|name| is_of(event, name));
                story.iter().filter(of).collect::<Vec<_>>()
            };
            assert!(closed.contains(&file), "{} is not among\n{:#?}", file.display(), near());
            assert!(bed.path(&format!("in/{writer}-{tree}/z/y/f")).exists());
        }
    }
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
    for writer in 0..4 {
        bed.assert_watched(&format!("in/{writer}-50/z/y"));
    }
}

#[test]
fn a_days_churn_leaves_nothing_behind() {
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", ENTRIES);
    for round in 0..40 {
        for number in 0..100 {
            bed.mkdir(&format!("in/{round}-{number}/sub"));
        }
        bed.settle();
        bed.rename(&format!("in/{round}-0"), "in/moved");
        fs::remove_dir_all(bed.path("in")).unwrap();
        bed.settle();
        bed.mkdir("in");
        bed.events();
    }
    let stats = bed.watcher.stats();
    // 200 directories at a time, 8,000 in all.
    assert!(stats.tree_bytes < 128 * 1024, "{} bytes", stats.tree_bytes);
    assert_eq!((stats.watches, stats.nodes), (bed.kernel_wds().len(), bed.kernel_wds().len()));
    assert_eq!(stats.queued, 0, "{stats:?}");
}

#[test]
fn a_hot_tree_pauses_and_a_trickle_does_not() {
    let pause = watcher::Limits::default().pause;
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", Flag::CloseWrite.mask());
    bed.settle();
    for number in 0..10 {
        bed.write(&format!("in/{number}"));
    }
    assert_eq!(bed.watcher.turn(bed.now, &mut bed.told), Turn::Idle);
    bed.now += std::time::Duration::from_secs(1);
    for number in 0..200 {
        bed.write(&format!("in/{number}"));
    }
    let turn = bed.watcher.turn(bed.now, &mut bed.told);
    assert_eq!(turn, Turn::Pause(bed.now + pause));
    bed.write("in/f");
    assert_eq!(bed.watcher.turn(bed.now, &mut bed.told), turn, "nothing is read during the pause");
    bed.now += pause;
    assert_eq!(bed.watcher.turn(bed.now, &mut bed.told), Turn::Idle);
    assert_eq!(bed.told.events.len(), 211);
    // 10,000 events a second in batches, also right after a pause.
    for _ in 0..10 {
        for number in 0..10 {
            bed.write(&format!("in/{number}"));
        }
        assert_eq!(bed.watcher.turn(bed.now, &mut bed.told), Turn::Idle);
        bed.now += std::time::Duration::from_millis(1);
    }
}

/// What lost its name and has it again makes no room for others to lose theirs.
#[test]
fn many_exchanges_between_two_reads_leave_the_directories_watched() {
    let mut bed = Bed::new();
    for number in 0..1_100 {
        bed.mkdir(&format!("in/a{number}/deep"));
        bed.mkdir(&format!("in/b{number}/low"));
    }
    bed.watch_tree("in", ENTRIES);
    for number in (0..1_100).chain([0, 1, 0]) {
        bed.exchange(&format!("in/a{number}"), &format!("in/b{number}"));
    }
    bed.settle();
    for number in [0, 1, 2, 1_099] {
        let (a, b) = if number == 1 { ("b", "a") } else { ("a", "b") };
        bed.assert_watched(&format!("in/{b}{number}/deep"));
        bed.assert_watched(&format!("in/{a}{number}/low"));
    }
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}

/// What one storm does again and again in its own tree.
type Storm = (&'static str, fn(&Path));

const STORMS: [Storm; 4] = [
    ("directories are exchanged", |top| {
        let (one, other) = (top.join("storm/a"), top.join("storm/b"));
        let _ = rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
    }),
    ("a directory is renamed to and fro", |top| {
        let _ = fs::rename(top.join("storm/a"), top.join("storm/c"));
        let _ = fs::rename(top.join("storm/c"), top.join("storm/a"));
    }),
    ("directories of several levels are exchanged", |top| {
        let (one, other) = (top.join("storm/a"), top.join("storm/b/deep"));
        let _ = rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
        let _ = rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
    }),
    ("directories come and go", |top| {
        let _ = fs::create_dir_all(top.join("storm/new/deep"));
        let _ = fs::remove_dir_all(top.join("storm/new"));
    }),
];

/// Longer than a recovery of these trees takes on a busy machine. The storm lasts until the victim was told.
const VICTIM_MAX: Duration = Duration::from_secs(10);
const STORM: Duration = Duration::from_secs(3);

impl Bed {
    /// Makes a file in a directory that is there and one in a directory that is renamed, again and again for a while,
    /// and works until both are told. Gives the number of rounds and the longest of them.
    fn victims_are_told(&mut self) -> (u32, Duration) {
        let started = Instant::now();
        let (mut round, mut longest) = (0, Duration::ZERO);
        while started.elapsed() < STORM {
            round += 1;
            let (old, new) = (format!("other/old/{round}"), format!("other/new{round}"));
            let wanted = [self.write(&old), self.path(&format!("{new}-last/f"))];
            self.mkdir(&new);
            self.write(&format!("{new}/f"));
            self.rename(&new, &format!("{new}-last"));
            let since = Instant::now();
            let is_told = |told: &[Expected]| {
                let closed = told_paths(told, "IN_CLOSE_WRITE");
                wanted.iter().all(|path| closed.contains(path))
            };
            while !is_told(&self.told.events) {
                assert!(since.elapsed() < VICTIM_MAX, "round {round}: {wanted:?}: {:#?}", self.watcher);
                self.now = Instant::now();
                self.watcher.turn(self.now, &mut self.told);
            }
            longest = longest.max(since.elapsed());
            self.told.events.clear();
        }
        (round, longest)
    }

    /// Works on the victims' tree while `act` runs in two threads in another one.
    fn storm(&mut self, what: &str, act: impl Fn(&Path) + Sync) {
        let (done, top) = (AtomicBool::new(false), self.top.clone());
        let (rounds, longest) = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        act(&top);
                    }
                });
            }
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.victims_are_told()));
            done.store(true, Ordering::Release);
            told.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let overflows = self.watcher.stats().overflows;
        println!("{what}: {rounds} rounds, the longest {longest:?}, {overflows} overflows");
        self.settle();
        // The last look at everything has its pause before it.
        self.now += Duration::from_secs(1);
        self.settle();
    }
}

/// Whoever keeps the queue full in one tree keeps no other tree waiting.
#[test]
fn no_tree_waits_for_the_storm_in_another() {
    for (what, act) in STORMS {
        let mut bed = Bed::new();
        for name in ["storm/a", "storm/b/deep", "other/old"] {
            bed.mkdir(name);
        }
        bed.watch_tree("storm", Flag::CloseWrite.mask());
        bed.watch_tree("other", ENTRIES);
        bed.storm(what, act);
        for name in ["storm/a", "storm/b", "other/old", "other/new1-last"] {
            bed.assert_watched(name);
        }
        assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len(), "{what}");
    }
}

/// The same where each exchange brings many directories into doubt.
#[test]
fn no_tree_waits_for_the_exchange_of_large_directories_in_another() {
    let mut bed = Bed::new();
    for number in 0..500 {
        bed.mkdir(&format!("storm/a/{number}"));
        bed.mkdir(&format!("storm/b/{number}"));
    }
    bed.mkdir("other/old");
    bed.watch_tree("storm", Flag::CloseWrite.mask());
    bed.watch_tree("other", ENTRIES);
    bed.storm("directories of 500 are exchanged", STORMS[0].1);
    for name in ["storm/a/499", "storm/b/0", "other/old", "other/new1-last"] {
        bed.assert_watched(name);
    }
    assert_eq!(bed.watcher.stats().watches, bed.kernel_wds().len());
}
