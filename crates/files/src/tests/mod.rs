//! Tests of whole actions, on the real kernel, in temporary directories.

mod access;
mod actions;
mod attacks;
mod conflicts;
mod crash;
mod differential;
mod faults;
mod guards;
mod held;
mod hostile;
mod property;
mod trash;
mod trees;
mod unremovable;
mod watched;
mod writers;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::{Action, Conflict, Done, Durability, Error, Held, Identity, Record, Request, Rule};

/// A user and group of nobody in particular, for tests that run as root.
const STRANGER: u32 = 54_321;

thread_local! {
    /// Where a test wants its scenes, instead of where there is a filesystem in memory.
    static MOUNTED: std::cell::RefCell<Option<PathBuf>> = const { std::cell::RefCell::new(None) };
}

/// Two directories, one to act in and one to put things into, that go away with the test.
struct Scene {
    base: PathBuf,
    /// Elsewhere, where the scene has a second filesystem.
    other: Option<PathBuf>,
}

impl Scene {
    fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    fn below(directory: &Path) -> Self {
        let base = new_directory(directory);
        for name in ["in", "out", "victim"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        Scene { base, other: None }
    }

    /// A scene that is quick to make, where there is a filesystem in memory.
    fn in_memory() -> Self {
        if let Some(mounted) = MOUNTED.with_borrow(Clone::clone) {
            return Self::below(&mounted);
        }
        let shared_memory = Path::new("/dev/shm");
        if shared_memory.is_dir() { Self::below(shared_memory) } else { Self::new() }
    }

    /// A scene whose `out` is on another filesystem; says so and gives none where there is only one.
    fn across() -> Option<Self> {
        let shared_memory = Path::new("/dev/shm");
        let mounted = MOUNTED.with_borrow(Clone::clone);
        let mut scene = Self::below(&mounted.unwrap_or_else(std::env::temp_dir));
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
        if device(shared_memory).is_none() || device(shared_memory) == device(&scene.base) {
            eprintln!("skipped: /dev/shm is not a filesystem of its own");
            return None;
        }
        let other = new_directory(shared_memory);
        fs::create_dir(other.join("out")).unwrap();
        scene.other = Some(other);
        Some(scene)
    }

    /// `in/...`, `out/...` or `victim/...` as an absolute path.
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        let name = name.as_ref();
        let other = self.other.as_ref().filter(|_| name.starts_with("out"));
        other.unwrap_or(&self.base).join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        wait_until_closed(&path);
        path
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path(name)).ok()
    }

    fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn owner(&self, name: &str) -> (u32, u32) {
        let metadata = fs::symlink_metadata(self.path(name)).unwrap();
        (metadata.uid(), metadata.gid())
    }

    fn set_owner(&self, name: &str, id: u32) {
        std::os::unix::fs::lchown(self.path(name), Some(id), Some(id)).unwrap();
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
    }

    /// Acts on `in/...`, with a destination `out/...` of which `out/` is literal.
    fn act(&self, rule: &Rule, source: &str, destination: &str) -> Outcome {
        self.act_again(&mut Held::default(), rule, source, destination)
    }

    /// As [`Scene::act`], after other actions that have left directories open.
    fn act_again(&self, held: &mut Held, rule: &Rule, source: &str, destination: &str) -> Outcome {
        let destination = self.path(destination);
        let trusted = self.path("out").as_os_str().len() + 1;
        let source = self.path(source);
        self.request_again(held, rule, &source, destination.as_os_str().as_bytes(), trusted, None)
    }

    fn request(
        &self,
        rule: &Rule,
        source: &Path,
        destination: &[u8],
        trusted_len: usize,
        unless_same_as: Option<&Identity>,
    ) -> Outcome {
        let held = &mut Held::default();
        self.request_again(held, rule, source, destination, trusted_len, unless_same_as)
    }

    fn request_again(
        &self,
        held: &mut Held,
        rule: &Rule,
        source: &Path,
        destination: &[u8],
        trusted_len: usize,
        unless_same_as: Option<&Identity>,
    ) -> Outcome {
        let root = self.path("in");
        let stop = AtomicBool::new(false);
        let request = Request {
            root: bytes(&root),
            trusted_len,
            unless_same_as,
            ..Request::plain(rule, bytes(source), destination, &stop)
        };
        self.perform(held, &request)
    }

    /// As [`Scene::act`], if it can be done at once.
    fn act_briefly(&self, rule: &Rule, source: &str, destination: &str) -> Outcome {
        let (root, source, destination) = (self.path("in"), self.path(source), self.path(destination));
        let stop = AtomicBool::new(false);
        let request = Request {
            root: bytes(&root),
            trusted_len: self.path("out").as_os_str().len() + 1,
            brief: true,
            ..Request::plain(rule, bytes(&source), bytes(&destination), &stop)
        };
        self.perform(&mut Held::default(), &request)
    }

    fn perform(&self, held: &mut Held, request: &Request<'_>) -> Outcome {
        let (mut records, mut made) = (Vec::new(), Vec::new());
        let mut record = |record: Record<'_>| match record {
            Record::Making { path, is_tree } => made.push((name_of(path), is_tree)),
            record => records.push(self.shorten(&record.to_string())),
        };
        let result = crate::perform(request, held, &mut record);
        Outcome { result, records, made }
    }

    /// Acts beside `source` and `destination`, so that the directories of both are held for the next action.
    fn hold(&self, held: &mut Held, source: &str, destination: &str) {
        let beside = |name: &str, other: &str| format!("{}/{other}", name.rsplit_once('/').unwrap().0);
        // Twice: parents that are made on the way are not held.
        for name in ["first", "second"] {
            self.write(&beside(source, name), "harmless");
            let rule = Rule { auto_create: true, ..rule(Action::Move) };
            self.act_again(held, &rule, &beside(source, name), &beside(destination, name)).done();
        }
    }

    /// A text without the names of the temporary directories.
    fn shorten(&self, text: &str) -> String {
        let mut text = text.replace(&format!("{}/", self.base.display()), "");
        if let Some(other) = &self.other {
            text = text.replace(&format!("{}/", other.display()), "");
        }
        text
    }

    /// Everything below a name, as sorted lines of kind, mode, size or target, and path.
    fn tree(&self, name: &str) -> Vec<String> {
        let mut lines = Vec::new();
        describe(&self.path(name), Path::new(""), &mut lines);
        lines.sort();
        lines
    }

    /// Names in a directory that are ours and unfinished.
    fn temporaries(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for directory in ["in", "out"] {
            let is_ours = |name: &[u8]| name.starts_with(crate::TEMPORARY_PREFIX);
            find(&self.path(directory), &is_ours, &mut found);
        }
        found
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for directory in [Some(&self.base), self.other.as_ref()].into_iter().flatten() {
            if fs::remove_dir_all(directory).is_err() {
                // Tests leave directories behind that even their owner may not enter.
                let _ = std::process::Command::new("chmod").args(["-R", "u+rwX"]).arg(directory).output();
                let _ = fs::remove_dir_all(directory);
            }
        }
    }
}

/// How an action went.
#[derive(Debug)]
struct Outcome {
    result: Result<Done, Error>,
    records: Vec<String>,
    /// What [`Record::Making`] told, and whether all below it is meant.
    made: Vec<(PathBuf, bool)>,
}

impl Outcome {
    #[track_caller]
    fn done(&self) -> Done {
        self.result.as_ref().unwrap_or_else(|error| panic!("{error}; records {:?}", self.records)).clone()
    }

    /// The text of the error.
    #[track_caller]
    fn error(&self, scene: &Scene) -> String {
        scene.shorten(&self.result.as_ref().expect_err("an error").to_string())
    }
}

/// Waits until nobody has a file open for writing: a process that another test starts may hold a copy of our descriptor
/// for a moment after it was closed.
fn wait_until_closed(path: &Path) {
    let Ok(file) = fs::File::open(path) else { return };
    for _ in 0..10_000 {
        if syscall::lease::writers(std::os::fd::AsFd::as_fd(&file)) != syscall::lease::Writers::Some {
            return;
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
}

fn new_directory(parent: &Path) -> PathBuf {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let path = parent.join(format!("files-test-{}-{serial}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

fn rule(action: Action) -> Rule {
    Rule::new(action)
}

fn overwriting(action: Action) -> Rule {
    Rule { on_conflict: Conflict::Overwrite, ..rule(action) }
}

fn describe(path: &Path, shown: &Path, lines: &mut Vec<String>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.permissions().mode();
    let detail = if metadata.is_symlink() {
        fs::read_link(path).unwrap().display().to_string()
    } else if metadata.is_file() {
        format!("{:?}", fs::read(path).map(|content| content.len()))
    } else {
        String::new()
    };
    lines.push(format!("{} {mode:o} {detail}", shown.as_os_str().to_string_lossy()));
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let name = entry.unwrap().file_name();
            describe(&path.join(&name), &shown.join(&name), lines);
        }
    }
}

fn find(path: &Path, wanted: &dyn Fn(&[u8]) -> bool, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if wanted(entry.file_name().as_bytes()) {
            found.push(entry.path());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), wanted, found);
        }
    }
}

/// Whether the test runs as root; says that it is skipped if not.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// A path as requests have it.
fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

/// Sets an attribute; says so and gives false where the filesystem has none.
fn set_attribute(path: &Path, name: &str, value: &[u8]) -> bool {
    let set = rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty());
    if let Err(errno) = set {
        eprintln!("skipped: {name} can't be set here: {errno}");
    }
    set.is_ok()
}

fn name_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

/// A FIFO, by the command of that name.
fn make_fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Modification time in nanoseconds.
fn mtime(path: &Path) -> i64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec()
}

/// Runs one test of this binary in a child process, prepared by a shell line before it (such as a mount).
fn child_test(test: &str, variable: (&str, &OsStr)) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(variable.0, variable.1);
    command
}
