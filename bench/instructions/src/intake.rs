//! The watcher, on a real directory: this process makes the events and reads them, one after the other.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use event::{Event, Mask};
use watcher::{Notice, Options, Sink, Turn, WatchId, WatchSpec, Watcher};

/// Files between two looks of the watcher: with four or five events each, well below the kernel's queue.
const BURST: usize = 1000;
/// Directories in one directory of a tree.
const TREE_WIDTH: usize = 100;

/// Counts, and looks at each path so that it has to be built.
#[derive(Default)]
struct Seen {
    events: usize,
    bytes: usize,
}

impl Sink for Seen {
    fn event(&mut self, _watch: WatchId, event: &Event<'_>) {
        self.events += 1;
        self.bytes += black_box(event.pathname).len();
    }

    fn renamed(&mut self, _: WatchId, _: &[u8], _: Option<&[u8]>) {}
    fn set_aside(&mut self, _: WatchId, _: &[u8], _: &[u8]) {}

    fn notice(&mut self, notice: Notice<'_>) {
        panic!("{notice}");
    }
}

fn make_and_remove(dir: &Path, file: usize) {
    let path = dir.join(format!("{file:08}.dat"));
    fs::write(&path, "x").expect("the directory of the replay takes files");
    fs::remove_file(&path).expect("it was just made");
}

fn watch(dir: &Path) -> (Watcher, Seen) {
    let mut seen = Seen::default();
    let now = Instant::now();
    let mut watcher = Watcher::new(Options::new(b"/".to_vec()), now).expect("an inotify instance is left");
    let spec = WatchSpec::trees(vec![dir.as_os_str().as_encoded_bytes().to_vec()], Mask::ALL_EVENTS);
    watcher.add(&spec, now, &mut seen).expect("the directory can be watched");
    (watcher, seen)
}

/// Reads until nothing is left; the pauses of a busy tree are skipped.
fn drain(watcher: &mut Watcher, seen: &mut Seen) {
    let mut now = Instant::now();
    loop {
        match watcher.turn(now, seen) {
            Turn::Idle => return,
            Turn::More => {}
            Turn::Pause(until) => now = until,
        }
    }
}

pub(crate) fn storm(count: usize, dir: &str) {
    for file in 0..count {
        make_and_remove(Path::new(dir), file);
    }
}

pub(crate) fn storm_watched(count: usize, dir: &str) {
    let (mut watcher, mut seen) = watch(Path::new(dir));
    for file in 0..count {
        make_and_remove(Path::new(dir), file);
        if file % BURST == BURST - 1 {
            drain(&mut watcher, &mut seen);
        }
    }
    drain(&mut watcher, &mut seen);
    assert!(seen.events >= count * 4, "{} events for {count} files", seen.events);
}

pub(crate) fn set_up(count: usize, dir: &str) {
    let (watcher, _seen) = watch(&tree(dir, count));
    assert!(
        watcher.stats().watches >= count,
        "{} of {count} directories are watched",
        watcher.stats().watches
    );
}

/// The tree of so many directories; `count.py` has made it, so that making it is not counted.
fn tree(dir: &str, count: usize) -> PathBuf {
    let tree = Path::new(dir).join(format!("tree{count}"));
    if !tree.exists() {
        for at in 0..count / TREE_WIDTH {
            for inner in 0..TREE_WIDTH - 1 {
                fs::create_dir_all(tree.join(format!("d{at}/e{inner}"))).expect("directories can be made");
            }
        }
    }
    tree
}
