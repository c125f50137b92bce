//! Random work around many roots: below each other, missing, files, links, matches of patterns. At rest each watch is
//! told of what happens below each of its paths, whatever stands there by then, and what is over leaves nothing behind.
//!
//! `WATCHER_STEPS` and `WATCHER_SEED` give longer and other runs. What fails is made as short as it can be before it is
//! shown.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use watcher::{WatchId, WatchSpec};

use crate::bed::{Bed, CHANGES, spec};
use crate::simulation::{PAUSE_MAX, Random, Room, TIGHT_STEPS, settings_or};

/// Paths of each watch below the top, and whether they are watched with their subdirectories.
const WATCHES: [(&[&str], bool); 8] = [
    (&["a"], true),
    (&["a/b", "b", "a/b/c"], true),
    (&["c/d"], true),
    (&["*/a"], true),
    (&["d"], false),
    (&["e/*", "missing"], false),
    (&["*/*/e"], true),
    (&["b/c/d/e", "c/d"], true),
];

/// Places at which a watch is to be told of things.
struct Places {
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The paths that a pattern matches.
fn expand(top: &Path, pattern: &str) -> Vec<PathBuf> {
    pattern.split('/').fold(vec![top.to_owned()], |found, part| match part {
        "*" => found.iter().flat_map(|dir| entries(dir)).collect(),
        name => {
            found.iter().map(|dir| dir.join(name)).filter(|path| path.symlink_metadata().is_ok()).collect()
        }
    })
}

fn below(dir: &Path, found: &mut Vec<PathBuf>) {
    found.push(dir.to_owned());
    for entry in entries(dir).into_iter().filter(|entry| entry.is_dir() && !entry.is_symlink()) {
        below(&entry, found);
    }
}

fn places(top: &Path, (paths, rec): (&[&str], bool)) -> Places {
    let mut places = Places { dirs: Vec::new(), files: Vec::new() };
    for root in paths.iter().flat_map(|path| expand(top, path)) {
        match fs::metadata(&root) {
            Ok(found) if found.is_dir() && rec && !root.is_symlink() => below(&root, &mut places.dirs),
            Ok(found) if found.is_dir() => places.dirs.push(root),
            Ok(_) => places.files.push(root),
            Err(_) => {}
        }
    }
    places
}

/// One thing that happens, below the top or outside of it.
#[derive(Clone)]
enum Step {
    MakeDir(PathBuf),
    Write(PathBuf),
    Unlink(PathBuf),
    RemoveAll(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Exchange(PathBuf, PathBuf),
    /// A watch comes, or goes if it is there.
    Toggle(usize),
    Turn,
    /// The watcher works until it has nothing left to do.
    Rest,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::MakeDir(path) => write!(out, "mkdir -p {}", path.display()),
            Step::Write(path) => write!(out, "write {}", path.display()),
            Step::Unlink(path) => write!(out, "rm {}", path.display()),
            Step::RemoveAll(path) => write!(out, "rm -r {}", path.display()),
            Step::Rename(path, other) => write!(out, "mv {} {}", path.display(), other.display()),
            Step::Link(path, other) => write!(out, "ln -s {} {}", other.display(), path.display()),
            Step::Exchange(path, other) => write!(out, "exchange {} {}", path.display(), other.display()),
            Step::Toggle(at) => write!(out, "-- watch {:?} comes or goes", WATCHES[*at].0),
            Step::Turn => write!(out, "-- turn"),
            Step::Rest => write!(out, "-- rest"),
        }
    }
}

fn work(random: &mut Random) -> Step {
    let (top, outside) = (Path::new("in"), Path::new("out"));
    let (path, other) = (random.path(top), random.path(top));
    match random.below(20) {
        0..=5 => Step::MakeDir(path),
        6 | 7 => Step::Write(path),
        8 => Step::Unlink(path),
        9 | 10 => Step::RemoveAll(path),
        11..=13 => Step::Rename(path, other),
        14 => Step::Rename(path, random.path(outside)),
        15 => Step::Rename(random.path(outside), path),
        16 | 17 => Step::Link(path, other),
        _ => Step::Exchange(path, other),
    }
}

fn script(random: &mut Random, steps: usize, batch_max: usize, room: Room) -> Vec<Step> {
    let mut script: Vec<Step> = (0..WATCHES.len()).map(Step::Toggle).collect();
    let mut count = 0;
    while count < steps {
        for _ in 0..=random.below(batch_max) {
            if random.below(16) == 0 {
                script.push(Step::Toggle(random.below(WATCHES.len())));
            }
            script.push(work(random));
            count += 1;
            script.extend((0..room.turns(random)).map(|_| Step::Turn));
        }
        script.push(Step::Rest);
    }
    script
}

/// A bed with watches that come and go.
struct Crowd {
    bed: Bed,
    watches: Vec<Option<WatchId>>,
}

impl Crowd {
    fn new(seed: u64, room: Room) -> Crowd {
        let bed = room.bed(&mut Random(seed));
        bed.mkdir("in");
        bed.mkdir("out");
        Crowd { bed, watches: vec![None; WATCHES.len()] }
    }

    /// Does what can be done.
    fn act(&mut self, step: &Step) {
        let at = |path: &PathBuf| self.bed.top.join(path);
        let _ = match step {
            Step::MakeDir(path) => fs::create_dir_all(at(path)),
            Step::Write(path) => fs::write(at(path), "x"),
            Step::Unlink(path) => fs::remove_file(at(path)),
            Step::RemoveAll(path) => fs::remove_dir_all(at(path)),
            Step::Rename(path, other) => fs::rename(at(path), at(other)),
            Step::Link(path, other) => symlink(at(other), at(path)),
            Step::Exchange(path, other) => {
                rustix::fs::renameat_with(CWD, at(path), CWD, at(other), RenameFlags::EXCHANGE)
                    .map_err(Into::into)
            }
            &Step::Toggle(at) => {
                self.toggle(at);
                Ok(())
            }
            Step::Turn => {
                self.bed.watcher.turn(self.bed.now, &mut self.bed.told);
                Ok(())
            }
            Step::Rest => {
                self.come_to_rest();
                Ok(())
            }
        };
    }

    fn toggle(&mut self, at: usize) {
        if let Some(watch) = self.watches[at].take() {
            return self.bed.watcher.remove(watch, &mut self.bed.told);
        }
        let (paths, rec) = WATCHES[at];
        let paths: Vec<PathBuf> = paths.iter().map(|path| self.bed.path("in").join(path)).collect();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        self.watches[at] = Some(self.bed.watch(WatchSpec { rec, auto_add: rec, ..spec(&paths, CHANGES) }));
    }

    fn come_to_rest(&mut self) {
        self.bed.settle();
        while let Some(due) = self.bed.watcher.deadline().filter(|&due| due <= self.bed.now + PAUSE_MAX) {
            self.bed.now = self.bed.now.max(due);
            self.bed.settle();
        }
        self.bed.events();
    }

    /// At rest the kernel has the watches that we count, and who sees a directory or a file is told of it. Some of the
    /// places are tried, or all of them.
    fn check(&mut self, mut some: Option<&mut Random>) -> Result<(), String> {
        self.come_to_rest();
        let (ours, kernel) = (self.bed.watcher.stats().watches, self.bed.kernel_wds().len());
        if ours != kernel {
            return Err(format!("{ours} watches, of which the kernel has {kernel}"));
        }
        let (mut dirs, mut files) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for (at, watch) in self.watches.iter().enumerate() {
            let Some(watch) = *watch else { continue };
            let places = places(&self.bed.path("in"), WATCHES[at]);
            places.dirs.into_iter().for_each(|dir| dirs.entry(dir).or_default().push(watch));
            places.files.into_iter().for_each(|file| files.entry(file).or_default().push(watch));
        }
        let mut is_tried = |count: usize| some.as_mut().is_none_or(|random| random.below(count) < 4);
        let count = dirs.len() + files.len();
        for (dir, watches) in dirs.into_iter().filter(|_| is_tried(count)).collect::<Vec<_>>() {
            let probe = dir.join("probe");
            fs::create_dir(&probe).unwrap();
            fs::remove_dir(&probe).unwrap();
            self.check_told(&watches, &dir, "probe", "IN_CREATE|IN_ISDIR")?;
        }
        for (file, watches) in files.into_iter().filter(|_| is_tried(count)).collect::<Vec<_>>() {
            fs::write(&file, "y").unwrap();
            self.check_told(&watches, &file, "", "IN_CLOSE_WRITE")?;
        }
        Ok(())
    }

    /// Each watch is told under the paths of its own that lead to the object: under one at least, under none twice.
    fn check_told(
        &mut self,
        watches: &[WatchId],
        object: &Path,
        name: &str,
        mask: &str,
    ) -> Result<(), String> {
        let told = self.bed.events();
        let real = object.canonicalize().unwrap();
        let is_it = |path: &Path| {
            let path =
                if name.is_empty() { Some(path) } else { path.parent().filter(|_| path.ends_with(name)) };
            path.and_then(|path| path.canonicalize().ok()).is_some_and(|path| path == real)
        };
        for watch in watches {
            let found = told.iter().filter(|event| event.watch == watch.0 && event.mask == mask);
            let mut found: Vec<&Path> = found.map(|event| &*event.path).filter(|path| is_it(path)).collect();
            let count = found.len();
            found.sort_unstable();
            found.dedup();
            // A file is told of by itself and by its directory.
            let is_repeated = !name.is_empty() && found.len() < count;
            if found.is_empty() || is_repeated {
                return Err(format!("{} to {watch:?} among {told:#?}", object.join(name).display()));
            }
        }
        Ok(())
    }

    /// What stands where, and which roots there are.
    fn picture(&self) -> String {
        let mut lines = Vec::new();
        let mut ahead = vec![self.bed.path("in")];
        while let Some(dir) = ahead.pop() {
            for entry in entries(&dir) {
                let target = fs::read_link(&entry).ok();
                if target.is_none() && entry.is_dir() {
                    ahead.push(entry.clone());
                }
                lines.push(format!("{} {target:?}", entry.display()));
            }
        }
        lines.sort();
        for (at, watch) in self.watches.iter().enumerate() {
            let Some(watch) = watch else { continue };
            for (path, state) in self.bed.watcher.watch_state(*watch).roots {
                lines.push(format!(
                    "{:?} {watch:?} {} {state:?}",
                    WATCHES[at],
                    String::from_utf8_lossy(&path)
                ));
            }
        }
        lines.join("\n")
    }

    fn check_nothing_left(&mut self) -> Result<(), String> {
        (0..WATCHES.len())
            .filter(|&at| self.watches[at].is_some())
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|at| self.toggle(at));
        self.come_to_rest();
        let stats = self.bed.watcher.stats();
        let kernel = self.bed.kernel_wds();
        let is_clean = (stats.nodes, stats.watches) == (1, 0) && kernel.is_empty();
        if is_clean { Ok(()) } else { Err(format!("left at the end: {kernel:?} {stats:#?}")) }
    }
}

/// Plays a script. At each rest some places are tried, at the end all. Gives the step that failed and what is wrong.
fn play(script: &[Step], seed: u64, room: Room) -> Result<(), (usize, String)> {
    let mut at = 0;
    let play = AssertUnwindSafe(|| {
        let mut crowd = Crowd::new(seed, room);
        let shown = |crowd: &Crowd, error| format!("{error}\n{}", crowd.picture());
        for (number, step) in script.iter().enumerate() {
            at = number;
            crowd.act(step);
            if matches!(step, Step::Rest) {
                // The same places, whatever is left out of the script elsewhere.
                crowd.check(Some(&mut Random(seed))).map_err(|error| shown(&crowd, error))?;
            }
        }
        crowd.check(None).map_err(|error| shown(&crowd, error))?;
        crowd.check_nothing_left()
    });
    let played = std::panic::catch_unwind(play).unwrap_or_else(|_| Err("it panics".to_owned()));
    played.map_err(|error| (at, error))
}

/// Leaves out what is not needed to fail, in ever smaller pieces.
fn shrink(mut script: Vec<Step>, seed: u64, room: Room) -> Vec<Step> {
    let mut size = script.len() / 2;
    while size > 0 {
        let before = script.len();
        let mut at = script.len();
        while at > 0 {
            let from = at.saturating_sub(size);
            let shorter = [&script[..from], &script[at..]].concat();
            if play(&shorter, seed, room).is_err() {
                script = shorter;
            }
            at = from;
        }
        size = if size == 1 && script.len() < before { 1 } else { size / 2 };
    }
    script
}

fn run(steps: usize, seed: u64, batch_max: usize, room: Room) {
    println!("seed {seed}, {steps} steps, batches up to {batch_max}");
    let script = script(&mut Random(seed), steps, batch_max, room);
    let Err((at, error)) = play(&script, seed, room) else { return };
    let story = shrink(script[..=at].to_vec(), seed, room);
    let error = play(&story, seed, room).err().map_or(error, |(_, error)| error);
    let story: Vec<String> = story.iter().map(Step::to_string).collect();
    panic!("seed {seed}, step {at}: {error}\nafter\n{}", story.join("\n"));
}

#[test]
fn roots_are_what_stands_at_their_paths_after_every_operation() {
    let (steps, seed) = settings_or(500, 2);
    run(steps, seed, 1, Room::Usual);
}

#[test]
fn roots_are_what_stands_at_their_paths_after_batches() {
    let (steps, seed) = settings_or(500, 2);
    run(steps, seed, 8, Room::Usual);
    run(steps, seed, 60, Room::Usual);
}

#[test]
fn roots_are_what_stands_at_their_paths_with_tight_limits() {
    let (steps, seed) = settings_or(500, 2);
    let mut random = Random(seed);
    for _ in 0..steps.div_ceil(TIGHT_STEPS) {
        let (seed, batch_max) = (random.0, 1 + random.below(16));
        run(steps.min(TIGHT_STEPS), seed, batch_max, Room::Tight);
        random.below(2);
    }
}

/// What was wrong, in which bed, and the shortest story that showed it.
#[expect(clippy::too_many_lines, reason = "it is a list")]
fn found() -> Vec<(&'static str, (u64, Room), Vec<Step>)> {
    let watch = |path: &str| {
        Step::Toggle(WATCHES.iter().position(|(paths, _)| paths.contains(&path)).expect("one has it"))
    };
    let make = |path: &str| Step::MakeDir(Path::new("in").join(path));
    let link = |path: &str, to: &str| Step::Link(Path::new("in").join(path), Path::new("in").join(to));
    let exchange =
        |one: &str, other: &str| Step::Exchange(Path::new("in").join(one), Path::new("in").join(other));
    let remove = |path: &str| Step::RemoveAll(Path::new("in").join(path));
    let write = |path: &str| Step::Write(Path::new("in").join(path));
    let usual = (1, Room::Usual);
    vec![
        (
            "links in a circle were not watched for its end",
            usual,
            vec![link("a", "d/c/d"), link("d", "a"), watch("d"), remove("a"), make("a/a/d")],
        ),
        (
            "a branch that went with its last root was freed twice",
            usual,
            vec![watch("e/*"), write("d"), make("e/b"), Step::Rest, watch("d"), exchange("d", "e/b")],
        ),
        (
            "a directory that took another's place was set up for nobody",
            usual,
            vec![
                watch("*/*/e"),
                watch("b/c/d/e"),
                make("c/d/a/b"),
                make("b/d/b"),
                Step::Rest,
                exchange("b", "c"),
                Step::Turn,
                watch("a/b"),
            ],
        ),
        (
            "a directory that came to a root's place was seen by the root alone",
            usual,
            vec![watch("*/a"), make("d/a/d/c"), make("b/a"), Step::Rest, watch("a/b"), exchange("d", "b/a")],
        ),
        (
            "a directory on the way that took a link's place was not watched",
            usual,
            vec![
                make("c/c/b"),
                link("a", "e/d"),
                exchange("c", "a"),
                watch("c/d"),
                make("e/d/c/b"),
                Step::Rest,
                exchange("c", "a"),
                Step::Turn,
                make("c/d"),
            ],
        ),
        (
            "a directory on the way that was found before its event passed for the one of the event",
            usual,
            vec![
                make("a/a"),
                watch("*/a"),
                make("e"),
                make("a/a/c"),
                Step::Rest,
                exchange("e", "a/a/c"),
                watch("e/*"),
            ],
        ),
        (
            "a root did not hear of the directory on its way that another root's look had replaced",
            usual,
            vec![
                make("c/d"),
                make("e/e"),
                make("b/b/d"),
                watch("b/c/d/e"),
                exchange("b", "e"),
                exchange("e/b", "c"),
                watch("*/*/e"),
            ],
        ),
        (
            "a walk for all passed by what a walk for one had watched",
            (17_018_679_138_070_715_608, Room::Tight),
            vec![
                write("b"),
                watch("*/a"),
                link("e", "a"),
                watch("*/*/e"),
                make("a/a"),
                watch("a"),
                exchange("b", "e"),
                write("b/a/e"),
                Step::Rest,
                make("d/b/b/d"),
                exchange("d", "b/a"),
            ],
        ),
    ]
}

#[test]
fn what_was_found_once_stays_mended() {
    for (fault, (seed, room), script) in found() {
        assert_eq!(play(&script, seed, room), Ok(()), "{fault}");
    }
}
