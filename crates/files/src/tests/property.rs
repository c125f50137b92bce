//! Writers, stalls, rewrites and moves at random, against a model: no byte is ever lost.
//!
//! `FILES_TEST_STEPS` says how many steps (a small number by default), `FILES_TEST_SEED` repeats a failure. Each
//! filesystem that can be made is tried as the source's: times of whole seconds and of nanoseconds, with and without
//! shared content.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use super::crash::{child_scene, with_mounts};
use super::*;
use crate::sys::fault;

/// Files that are moved alone; those of the tree come on top.
const LONE: usize = 9;
const FILES: usize = LONE + 3;

/// Longer than the coarsest times take to tell two changes apart.
const COARSE: Duration = Duration::from_millis(2_100);

pub(super) fn steps() -> u32 {
    std::env::var("FILES_TEST_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(600)
}

/// Numbers that can be repeated.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// One file: what was written to it, and who may still write.
#[derive(Default)]
struct Model {
    content: Vec<u8>,
    writer: Option<File>,
    /// Whether the writer opened it where the rules find it.
    is_at_source: bool,
    /// What the last copy of it said.
    copied: Option<Identity>,
}

struct World {
    scene: Scene,
    across: bool,
    files: Vec<Model>,
    dice: Dice,
    turn: u32,
    moved: u32,
    copied: u32,
    put_off: u32,
}

fn name(file: usize) -> String {
    if file < LONE { format!("f{file}") } else { format!("t/f{file}") }
}

/// The files that an action on a file, or on the tree, is about.
fn acted_on(file: usize) -> std::ops::Range<usize> {
    if file < LONE { file..file + 1 } else { LONE..FILES }
}

impl World {
    fn new(scene: Scene, across: bool, seed: u64) -> World {
        let files = (0..FILES).map(|_| Model::default()).collect();
        World { scene, across, files, dice: Dice(seed), turn: 0, moved: 0, copied: 0, put_off: 0 }
    }

    fn place(&self, side: &str, file: usize) -> PathBuf {
        self.scene.path(format!("{side}/{}", name(file)))
    }

    /// The path under which a file is now; the source's name counts first.
    fn now(&self, file: usize) -> PathBuf {
        let source = self.place("in", file);
        if source.exists() { source } else { self.place("out", file) }
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.turn += 1;
        let mut bytes = format!("<{}>", self.turn).into_bytes();
        bytes.resize(bytes.len() + self.dice.below(200), b'.');
        bytes
    }

    /// Opens for writing without waiting for a lease that this very thread may hold.
    fn open(&self, file: usize) -> Option<File> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new().append(true).custom_flags(nonblocking).open(self.now(file)).ok()
    }

    /// What a program does to one of its files.
    fn write(&mut self) {
        let file = self.dice.below(FILES);
        self.write_to(file);
    }

    fn write_to(&mut self, file: usize) {
        match self.dice.below(6) {
            0 => {
                if self.files[file].writer.is_none() {
                    self.files[file].is_at_source = self.place("in", file).exists();
                    self.files[file].writer = self.open(file);
                }
            }
            1 | 2 => self.go_on(file),
            3 => self.files[file].writer = None,
            4 => {
                let bytes = self.bytes();
                if let Some(mut writer) = self.open(file) {
                    writer.write_all(&bytes).unwrap();
                    self.files[file].content.extend(bytes);
                }
            }
            _ => self.rewrite(file),
        }
    }

    /// Who has the file open writes more, and sets the time back now and then.
    fn go_on(&mut self, file: usize) {
        let bytes = self.bytes();
        let sets_back = self.dice.below(3) == 0;
        let model = &mut self.files[file];
        let Some(writer) = &mut model.writer else { return };
        let old = writer.metadata().unwrap().modified().unwrap();
        writer.write_all(&bytes).unwrap();
        model.content.extend(bytes);
        if sets_back {
            writer.set_modified(old).unwrap();
        }
    }

    /// Writes over the beginning, and sets the time back.
    fn rewrite(&mut self, file: usize) {
        let bytes = self.bytes();
        let path = self.now(file);
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let Ok(writer) = OpenOptions::new().write(true).custom_flags(nonblocking).open(path) else { return };
        let content = &mut self.files[file].content;
        let length = bytes.len().min(content.len());
        let old = writer.metadata().unwrap().modified().unwrap();
        writer.write_all_at(&bytes[..length], 0).unwrap();
        writer.set_modified(old).unwrap();
        content[..length].copy_from_slice(&bytes[..length]);
    }

    /// Puts a file, or the tree, where it began, if nobody writes to it.
    fn renew(&mut self, file: usize) {
        let group = acted_on(file);
        if self.files[group.clone()].iter().any(|model| model.writer.is_some()) {
            return;
        }
        if file >= LONE {
            for side in ["in/t", "out/t", "out/copy-t"] {
                let _ = fs::remove_dir_all(self.scene.path(side));
            }
            fs::create_dir(self.scene.path("in/t")).unwrap();
        }
        for file in group {
            let _ = fs::remove_file(self.place("out", file));
            let content = self.bytes();
            fs::write(self.place("in", file), &content).unwrap();
            self.files[file] = Model { content, ..Model::default() };
        }
    }

    /// A copy that was made while nobody wrote holds what was written last.
    fn check_copy(&mut self, file: usize) {
        for file in acted_on(file) {
            let name = name(file);
            let copy = fs::read(self.scene.path(format!("out/copy-{name}"))).unwrap();
            assert!(copy == self.files[file].content, "the copy of {name} is old");
        }
        self.copied += 1;
    }

    /// Each file is whole in one of its two places, and what is left in the first one is the newest.
    fn check(&self, what: &dyn std::fmt::Display) {
        for (file, model) in self.files.iter().enumerate() {
            let path = self.now(file);
            let found =
                fs::read(&path).unwrap_or_else(|error| panic!("{} is lost: {error}, {what}", name(file)));
            assert!(
                found == model.content,
                "{} of {} holds {:?} instead of {:?}, {what}",
                path.display(),
                name(file),
                String::from_utf8_lossy(&found),
                String::from_utf8_lossy(&model.content)
            );
        }
    }
}

/// Acts on a file, or the tree, while a program writes before one of its calls.
fn act(world: &Rc<RefCell<World>>) -> String {
    let (file, action, call_of_write, busy) = {
        let dice = &mut world.borrow_mut().dice;
        let action = if dice.below(3) == 0 { Action::Copy } else { Action::Move };
        (dice.below(LONE + 1), action, dice.below(45) as u32, dice.below(2) == 0)
    };
    let name = if file < LONE { name(file) } else { "t".to_owned() };
    let source = world.borrow().scene.path(format!("in/{name}"));
    if !source.exists() {
        world.borrow_mut().renew(file);
        return format!("{name} is made again");
    }
    let target = if action == Action::Copy { format!("out/copy-{name}") } else { format!("out/{name}") };
    let writing = Rc::clone(world);
    let has_written = Rc::new(std::cell::Cell::new(false));
    let written = Rc::clone(&has_written);
    let plan: fault::Plan = Box::new(move |call, _| {
        if busy && call == call_of_write {
            written.set(true);
            let mut world = writing.borrow_mut();
            // Most of the time to what is acted on.
            let file = if file < LONE { file } else { LONE + world.dice.below(FILES - LONE) };
            if world.dice.below(4) == 0 { world.write() } else { world.write_to(file) }
        }
        Ok(())
    });
    let rule = overwriting(action);
    let known = world.borrow().files[file].copied.filter(|_| action == Action::Copy && file < LONE);
    let destination = world.borrow().scene.path(&target);
    let request = ActAgain { source, destination, known };
    // The world is borrowed by the writer meanwhile.
    let base = Scene { base: world.borrow().scene.base.clone(), other: world.borrow().scene.other.clone() };
    let base = std::mem::ManuallyDrop::new(base);
    let (outcome, _) = fault::with(plan, || request.run(&base, &rule));
    let what = format!("{action} of {name}: {:?}", outcome.result);
    judge(&mut world.borrow_mut(), file, action, &outcome, has_written.get());
    what
}

struct ActAgain {
    source: PathBuf,
    destination: PathBuf,
    known: Option<Identity>,
}

impl ActAgain {
    fn run(&self, scene: &Scene, rule: &Rule) -> Outcome {
        let destination = self.destination.as_os_str().as_bytes();
        scene.request(rule, &self.source, destination, destination.len(), self.known.as_ref())
    }
}

/// What the end of an action promises, beyond what [`World::check`] asks for.
fn judge(world: &mut World, file: usize, action: Action, outcome: &Outcome, has_written: bool) {
    match (&outcome.result, action) {
        (Ok(done), Action::Copy) => {
            // What is written after the look at the source has an event of its own.
            if !has_written {
                world.check_copy(file);
            }
            if file < LONE {
                world.files[file].copied = done.identity;
            }
        }
        (Ok(_), Action::Move) => {
            world.moved += 1;
            let source = if file < LONE { world.place("in", file) } else { world.scene.path("in/t") };
            assert!(!source.exists(), "moved, and still there");
            // What has arrived of a tree may be opened before the rest of its source is gone; and what has arrived of a
            // file, as soon as that has lost its name.
            if world.across && (file < LONE || !has_written) {
                let opened = |model: &Model| model.writer.is_some() && model.is_at_source;
                let is_open = world.files[acted_on(file)].iter().any(opened);
                assert!(!is_open, "moved to another filesystem under its writer");
            }
        }
        (Err(Error::InUse { .. }), _) => world.put_off += 1,
        (Ok(_), Action::Delete) => {}
        (Err(error), _) => {
            // A change in the last moment keeps the source; a busy tree or file may be given up.
            let expected =
                matches!(error, Error::SourceKept { .. } | Error::Changing { .. } | Error::LeftOut { .. });
            // The tree that was kept has its destination taken already.
            let taken = file >= LONE && matches!(error, Error::Os { .. } | Error::Refused(_));
            assert!(expected || taken, "{error}");
            if file >= LONE {
                world.check(error);
                world.renew(file);
            }
        }
    }
    assert_eq!(world.scene.temporaries(), [] as [PathBuf; 0]);
}

/// Runs the script of a seed. `coarse` where times are so coarse that everything has to rest now and then.
fn run(scene: Scene, across: bool, coarse: bool) {
    let seed = std::env::var("FILES_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
    let world = Rc::new(RefCell::new(World::new(scene, across, seed)));
    let steps = steps();
    for file in 0..=LONE {
        world.borrow_mut().renew(file);
    }
    for step in 0..steps {
        let choice = world.borrow_mut().dice.below(5);
        let what = if choice == 0 {
            act(&world)
        } else {
            world.borrow_mut().write();
            "a write".to_owned()
        };
        world.borrow().check(&format_args!("FILES_TEST_SEED={seed}, step {step}: {what}"));
        if coarse && step % (steps / 100).max(150) == 0 {
            std::thread::sleep(COARSE);
            for _ in 0..20 {
                let what = act(&world);
                world.borrow().check(&format_args!("FILES_TEST_SEED={seed}, step {step}: {what}"));
            }
        }
    }
    let world = world.borrow();
    let World { moved, copied, put_off, .. } = *world;
    assert!(moved > 0 && copied > 0, "{moved} moves, {copied} copies, {put_off} times put off");
    eprintln!(
        "{steps} steps: {moved} moves, {copied} copies, {put_off} times put off, FILES_TEST_SEED={seed}"
    );
}

#[test]
fn no_byte_is_lost_on_one_filesystem() {
    run(Scene::in_memory(), false, false);
}

#[test]
fn no_byte_is_lost_between_two_filesystems() {
    if let Some(scene) = Scene::across() {
        run(scene, true, false);
    }
}

/// Filesystems in image files, and how each is made.
const FILESYSTEMS: [(&str, &str); 4] = [
    ("ext4 with times of seconds", "truncate -s 64m fs.img; mkfs.ext4 -q -F -I 128 fs.img 2>/dev/null"),
    ("ext4", "truncate -s 64m fs.img; mkfs.ext4 -q -F -I 256 fs.img"),
    ("xfs", "truncate -s 400m fs.img; mkfs.xfs -q -f fs.img"),
    ("btrfs", "truncate -s 400m fs.img; mkfs.btrfs -q -f fs.img"),
];

pub(super) fn on_each_filesystem(child: &str) {
    if !is_root() {
        return;
    }
    for (what, make) in FILESYSTEMS {
        let program = make.split_whitespace().find(|word| word.starts_with("mkfs.")).unwrap();
        if Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .unwrap()
            .stdout
            .is_empty()
        {
            eprintln!("skipped: {what}: there is no {program}");
            continue;
        }
        for across in [true, false] {
            let scene = Scene::new();
            let mount = if across {
                "mount -o loop fs.img in; mount -t tmpfs none out; echo > across"
            } else {
                "mkdir both; mount -o loop fs.img both; mkdir both/in both/out both/victim"
            };
            let Some(output) = with_mounts(&format!("{make}; {mount}"), child, &scene) else { return };
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{what}, across: {across}: {text}");
            eprintln!(
                "{what}, across: {across}: {}",
                text.lines().find(|line| line.contains("steps:")).unwrap_or("")
            );
        }
    }
}

#[test]
fn no_byte_is_lost_on_any_filesystem() {
    on_each_filesystem("tests::property::property_child");
}

/// The scene that [`on_each_filesystem`] has mounted, and whether its `out` is another filesystem.
pub(super) fn mounted_scene() -> Option<(Scene, bool)> {
    let base = child_scene()?.base.clone();
    let across = base.join("across").exists();
    let base = if across { base } else { base.join("both") };
    Some((Scene { base, other: None }, across))
}

/// Whether the filesystem of the source keeps whole seconds.
pub(super) fn has_coarse_times(scene: &Scene) -> bool {
    let probe = scene.write("in/probe", "");
    let coarse = mtime(&probe) % 1_000_000_000 == 0;
    fs::remove_file(probe).unwrap();
    coarse
}

/// Not a test of its own: runs where [`on_each_filesystem`] has mounted something.
#[test]
fn property_child() {
    let Some((scene, across)) = mounted_scene() else { return };
    let coarse = has_coarse_times(&scene);
    let keep = std::mem::ManuallyDrop::new(scene);
    run(Scene { base: keep.base.clone(), other: None }, across, coarse);
}
