//! Random work on a real tree, in random batches, against a naive reader of events.
//!
//! The reader knows the tree only from what it is told: a set of files that exist and a set of files that were closed
//! after writing, both re-keyed when a directory is renamed. After each batch the tree on disk must agree with it, and
//! the kernel's list of watches must be exactly the directories that are there.
//!
//! `WATCHER_STEPS` sets the number of operations, `WATCHER_SEED` repeats a run.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use event::{Flag, Mask};
use rustix::fs::{CWD, RenameFlags};

use crate::bed::{Bed, CHANGES, Expected};

/// Numbers that look random and can be had again: xorshift64*.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// A short path below `top`; names are few, so that they meet often.
    pub(crate) fn path(&mut self, top: &Path) -> PathBuf {
        let depth = 1 + self.below(4);
        let names = ["a", "b", "c", "d", "e"];
        (0..depth).fold(top.to_owned(), |path, _| path.join(names[self.below(names.len())]))
    }
}

/// What a reader of events knows.
#[derive(Default)]
struct Reader {
    files: BTreeSet<PathBuf>,
    closed: BTreeSet<PathBuf>,
}

fn rekey(paths: &mut BTreeSet<PathBuf>, old: &Path, new: Option<&Path>) {
    let moved: Vec<PathBuf> = paths.iter().filter(|path| path.starts_with(old)).cloned().collect();
    for path in moved {
        paths.remove(&path);
        if let Some(new) = new {
            let rest = path.strip_prefix(old).unwrap();
            paths.insert(if rest.as_os_str().is_empty() { new.to_owned() } else { new.join(rest) });
        }
    }
}

impl Reader {
    fn all(&mut self) -> [&mut BTreeSet<PathBuf>; 2] {
        [&mut self.files, &mut self.closed]
    }

    fn read(&mut self, events: &[Expected]) {
        let mut under_way: Vec<(PathBuf, PathBuf)> = Vec::new();
        for (number, event) in events.iter().enumerate() {
            match event.mask {
                "IN_CREATE" => drop(self.files.insert(event.path.clone())),
                "IN_CLOSE_WRITE" => drop(self.closed.insert(event.path.clone())),
                "IN_DELETE" => self.all().into_iter().for_each(|set| rekey(set, &event.path, None)),
                "IN_MOVED_FROM" | "IN_MOVED_FROM|IN_ISDIR" => {
                    let limbo = PathBuf::from(format!("/under way/{number}"));
                    for set in self.all() {
                        rekey(set, &event.path, Some(&limbo));
                    }
                    under_way.push((event.path.clone(), limbo));
                }
                "IN_MOVED_TO" | "IN_MOVED_TO|IN_ISDIR" => self.moved_to(event, &mut under_way),
                _ => {}
            }
        }
        // What did not come back is gone.
        for set in self.all() {
            set.retain(|path| !path.starts_with("/under way"));
        }
    }

    fn moved_to(&mut self, event: &Expected, under_way: &mut Vec<(PathBuf, PathBuf)>) {
        // A file is replaced; a directory would have been empty.
        for set in self.all() {
            rekey(set, &event.path, None);
        }
        let from = event.source.as_ref();
        let from = from.and_then(|source| under_way.iter().rposition(|(was, _)| was == source));
        if let Some(at) = from.map(|at| under_way.remove(at).1) {
            for set in self.all() {
                rekey(set, &at, Some(&event.path));
            }
        } else if !event.is_dir {
            self.closed.insert(event.path.clone());
        }
        if !event.is_dir {
            self.files.insert(event.path.clone());
        }
    }

    fn knows(&self, path: &Path) -> bool {
        self.files.contains(path) && self.closed.contains(path)
    }
}

/// Whether directories and files are exchanged (renameat2(2)), after which only one who looks can tell what is where.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exchanges {
    No,
    Yes,
}

/// Carries out one operation, and says which if it succeeded.
fn one_operation(random: &mut Random, top: &Path, outside: &Path, exchanges: Exchanges) -> Option<String> {
    let path = random.path(top);
    let operations = if exchanges == Exchanges::Yes { 16 } else { 15 };
    let (what, other, result) = match random.below(operations) {
        0..=3 => ("mkdir -p", None, fs::create_dir_all(&path)),
        4..=7 => ("write", None, fs::write(&path, "x")),
        8 => ("rm", None, fs::remove_file(&path)),
        9 => ("rm -r", None, fs::remove_dir_all(&path)),
        10..=12 => {
            let other = random.path(top);
            ("mv to", Some(other.clone()), fs::rename(&path, other))
        }
        15 => {
            let other = random.path(top);
            let result = rustix::fs::renameat_with(CWD, &path, CWD, &other, RenameFlags::EXCHANGE);
            ("exchange with", Some(other), result.map_err(Into::into))
        }
        13 => ("mv out", None, fs::rename(&path, random.path(outside))),
        _ => ("mv in", None, fs::rename(random.path(outside), &path)),
    };
    let short =
        |path: &Path| path.strip_prefix(top).map(|path| path.display().to_string()).unwrap_or_default();
    let other = other.as_deref().map(short).unwrap_or_default();
    result.is_ok().then(|| format!("{} {what} {other}", short(&path)))
}

/// All directories and files of a tree.
fn walk(top: &Path, dirs: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) {
    dirs.push(top.to_owned());
    for entry in fs::read_dir(top).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), dirs, files);
        } else {
            files.push(entry.path());
        }
    }
}

fn settings() -> (usize, u64) {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    settings_or(2_000, now | 1)
}

/// How many operations and which seed are asked for, or else these.
pub(crate) fn settings_or(steps: usize, seed: u64) -> (usize, u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    (number("WATCHER_STEPS").map_or(steps, |steps| steps as usize), number("WATCHER_SEED").unwrap_or(seed))
}

/// What was done and told in a batch; put into words only where it is needed.
struct Story<'a> {
    seed: u64,
    step: usize,
    done: &'a [String],
    told: &'a [Expected],
}

impl fmt::Display for Story<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "seed {}, step {}\n{:#?}\n{:#?}", self.seed, self.step, self.done, self.told)
    }
}

fn compare(bed: &Bed, reader: Option<&Reader>, top: &Path, story: &Story<'_>) -> Vec<PathBuf> {
    let (mut dirs, mut files) = (Vec::new(), Vec::new());
    walk(top, &mut dirs, &mut files);
    for (file, reader) in
        files.iter().zip(std::iter::repeat(reader)).filter_map(|(file, reader)| Some((file, reader?)))
    {
        assert!(
            reader.knows(file),
            "{} is not known (told: {}, closed: {}) after {story}",
            file.display(),
            reader.files.contains(file),
            reader.closed.contains(file)
        );
    }
    let kernel = bed.kernel_inodes();
    let watches = kernel.len();
    let kernel: BTreeSet<u64> = kernel.into_iter().collect();
    let ancestors = top.ancestors().skip(1).map(Path::to_owned);
    let expected: BTreeSet<u64> =
        dirs.iter().cloned().chain(ancestors).map(|dir| fs::metadata(dir).unwrap().ino()).collect();
    assert_eq!(kernel, expected, "watches differ from directories after {story}");
    assert_eq!(bed.watcher.stats().watches, watches, "{story}");
    dirs
}

/// Some directories tell of a new entry under their path.
fn probe(bed: &mut Bed, random: &mut Random, dirs: &[PathBuf], story: &Story<'_>) {
    for _ in 0..3 {
        let probe = dirs[random.below(dirs.len())].join("probe");
        fs::create_dir(&probe).unwrap();
        fs::remove_dir(&probe).unwrap();
        let told = bed.events();
        let found = told.iter().any(|event| event.path == probe && event.mask == "IN_CREATE|IN_ISDIR");
        assert!(found, "{} is not among {told:#?} after {story}", probe.display());
    }
}

/// How much the watcher may do in a turn and keep in mind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Usual,
    /// So little that turns end between the halves of a rename, walks wait, and everything is looked at again often.
    Tight,
}

impl Room {
    pub(crate) fn bed(self, random: &mut Random) -> Bed {
        Bed::with(|options| {
            let limits = &mut options.limits;
            if self == Room::Tight {
                limits.turn_units = 1 + random.below(32) as u32;
                limits.doubts_max = [0, 4, 16 * 1024][random.below(3)];
                limits.walks_max = 1 + random.below(4);
                limits.young_max = 1 << random.below(8);
                limits.read_bytes = 0;
            }
        })
    }

    /// Turns between one operation and the next.
    pub(crate) fn turns(self, random: &mut Random) -> usize {
        match self {
            Room::Usual => usize::from(random.below(8) == 0),
            Room::Tight => random.below(2) * random.below(8),
        }
    }
}

fn run(steps: usize, seed: u64, batch_max: usize, exchanges: Exchanges, room: Room) {
    println!("seed {seed}, {steps} steps, batches up to {batch_max}");
    let mut random = Random(seed);
    let mut bed = room.bed(&mut random);
    let (top, outside) = (bed.mkdir("in"), bed.mkdir("out"));
    let more = Flag::DeleteSelf | Flag::MoveSelf;
    bed.watch_tree("in", Mask(CHANGES.0 & !more.0 & !Flag::Ignored.mask().0));
    let mut reader = Reader::default();
    let mut step = 0;
    while step < steps {
        let mut done = Vec::new();
        for _ in 0..=random.below(batch_max) {
            done.extend(one_operation(&mut random, &top, &outside, exchanges));
            step += 1;
            // Turns in between: walks and events interleave with the work.
            for _ in 0..room.turns(&mut random) {
                bed.watcher.turn(bed.now, &mut bed.told);
                done.push(format!("-- turn, {} told", bed.told.events.len()));
            }
        }
        bed.settle();
        // Looking at everything once more has its pause before it.
        while let Some(due) = bed.watcher.deadline().filter(|&due| due <= bed.now + PAUSE_MAX) {
            bed.now = bed.now.max(due);
            bed.settle();
        }
        let events = bed.events();
        reader.read(&events);
        let story = Story { seed, step, done: &done, told: &events };
        let known = (exchanges == Exchanges::No).then_some(&reader);
        let dirs = compare(&bed, known, &top, &story);
        // Probes are events themselves, and let the watcher catch up: not after every batch.
        if batch_max <= 8 || random.below(4) == 0 {
            probe(&mut bed, &mut random, &dirs, &story);
        }
    }
}

#[test]
fn a_reader_of_events_knows_the_tree_after_every_operation() {
    let (steps, seed) = settings();
    run(steps, seed, 1, Exchanges::No, Room::Usual);
}

#[test]
fn a_reader_of_events_knows_the_tree_after_small_batches() {
    let (steps, seed) = settings();
    run(steps, seed, 8, Exchanges::No, Room::Usual);
}

#[test]
fn a_reader_of_events_knows_the_tree_after_large_batches() {
    let (steps, seed) = settings();
    run(steps, seed, 100, Exchanges::No, Room::Usual);
}

#[test]
fn watches_are_right_after_exchanges() {
    let (steps, seed) = settings();
    run(steps, seed, 1, Exchanges::Yes, Room::Usual);
    run(steps, seed, 8, Exchanges::Yes, Room::Usual);
    run(steps, seed, 100, Exchanges::Yes, Room::Usual);
}

/// Short runs, each with other limits, by all kinds of batches.
fn run_tight(exchanges: Exchanges) {
    let (steps, seed) = settings();
    let mut random = Random(seed);
    for _ in 0..steps.div_ceil(TIGHT_STEPS) {
        let (seed, batch_max) = (random.0, 1 + random.below(16));
        run(steps.min(TIGHT_STEPS), seed, batch_max, exchanges, Room::Tight);
        random.below(2);
    }
}

/// Longer than the pause between two looks at everything.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Operations of one run with the same limits.
pub(crate) const TIGHT_STEPS: usize = 400;

#[test]
fn a_reader_of_events_knows_the_tree_with_tight_limits() {
    run_tight(Exchanges::No);
}

#[test]
fn watches_are_right_with_tight_limits() {
    run_tight(Exchanges::Yes);
}

/// Two to six operations on directories of a small tree, all of them before one read.
fn one_short_batch(random: &mut Random, bed: &mut Bed) -> usize {
    let seed = random.0;
    for dir in ["in", "out"] {
        for entry in fs::read_dir(bed.mkdir(dir)).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }
    for dir in ["in/a/a/a", "in/a/b", "in/b/a", "in/b/b", "in/c", "out/a/a", "out/b"] {
        bed.mkdir(dir);
    }
    bed.events();
    let (top, outside) = (bed.path("in"), bed.path("out"));
    let names = ["a", "b", "c"];
    let path = |random: &mut Random| {
        let top = if random.below(8) == 0 { &outside } else { &top };
        let depth = 1 + random.below(2);
        (0..depth).fold(top.clone(), |path, _| path.join(names[random.below(names.len())]))
    };
    let mut done = Vec::new();
    for _ in 0..2 + random.below(5) {
        let (one, other) = (path(random), path(random));
        let (what, result) = match random.below(6) {
            0 => ("mkdir", fs::create_dir(&one)),
            1 => ("rm -r", fs::remove_dir_all(&one)),
            2 | 3 => ("mv to", fs::rename(&one, &other)),
            _ => {
                let result = rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
                ("exchange with", result.map_err(Into::into))
            }
        };
        if result.is_ok() {
            let short = |path: &Path| path.strip_prefix(&bed.top).unwrap().display().to_string();
            done.push(format!("{} {what} {}", short(&one), short(&other)));
        }
    }
    bed.settle();
    let story = Story { seed, step: 0, done: &done, told: &[] };
    compare(bed, None, &top, &story);
    done.len()
}

#[test]
fn watches_are_right_after_short_batches() {
    let (steps, seed) = settings();
    println!("seed {seed}, {steps} steps");
    let mut random = Random(seed);
    let mut bed = Bed::new();
    bed.mkdir("in");
    bed.watch_tree("in", CHANGES);
    let mut step = 0;
    while step < steps {
        step += one_short_batch(&mut random, &mut bed);
    }
}
