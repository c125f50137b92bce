//! A temporary tree, a watcher on it, and words for what is expected: `expected(&path).create_file()`.
//!
//! The kernel queues events while the system call that causes them runs, so nothing here waits for time: a bed works
//! the watcher until it has nothing left to do, on a clock of its own.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event::{Event, Flag, Mask};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, RenameFlags};
use watcher::{Notice, Options, Severity, Sink, Turn, WatchId, WatchSpec, Watcher};

/// All events that tell of work on entries: no accesses, no own listings.
pub(crate) const CHANGES: Mask = Mask(
    Flag::Create.mask().0
        | Flag::Delete.mask().0
        | Flag::MovedFrom.mask().0
        | Flag::MovedTo.mask().0
        | Flag::CloseWrite.mask().0
        | Flag::DeleteSelf.mask().0
        | Flag::MoveSelf.mask().0
        | Flag::Ignored.mask().0
        | Flag::Unmount.mask().0
        | Flag::QOverflow.mask().0,
);

/// What is told of one event, or expected to be.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Expected {
    pub(crate) path: PathBuf,
    pub(crate) mask: &'static str,
    pub(crate) synthetic: bool,
    pub(crate) source: Option<PathBuf>,
    pub(crate) is_dir: bool,
    pub(crate) watch: u32,
}

/// The beginning of a sentence about a path.
pub(crate) fn expected(path: impl AsRef<Path>) -> Expected {
    Expected {
        path: path.as_ref().to_owned(),
        mask: "",
        synthetic: false,
        source: None,
        is_dir: false,
        watch: 0,
    }
}

impl Expected {
    fn is(self, mask: &'static str) -> Expected {
        Expected { mask, is_dir: mask.ends_with("|IN_ISDIR"), ..self }
    }
    pub(crate) fn create_file(self) -> Expected {
        self.is("IN_CREATE")
    }
    pub(crate) fn create_dir(self) -> Expected {
        self.is("IN_CREATE|IN_ISDIR")
    }
    pub(crate) fn modify(self) -> Expected {
        self.is("IN_MODIFY")
    }
    pub(crate) fn attrib(self) -> Expected {
        self.is("IN_ATTRIB")
    }
    pub(crate) fn attrib_dir(self) -> Expected {
        self.is("IN_ATTRIB|IN_ISDIR")
    }
    pub(crate) fn close_write(self) -> Expected {
        self.is("IN_CLOSE_WRITE")
    }
    pub(crate) fn delete_file(self) -> Expected {
        self.is("IN_DELETE")
    }
    pub(crate) fn delete_dir(self) -> Expected {
        self.is("IN_DELETE|IN_ISDIR")
    }
    pub(crate) fn delete_self(self) -> Expected {
        self.is("IN_DELETE_SELF")
    }
    pub(crate) fn move_self(self) -> Expected {
        self.is("IN_MOVE_SELF")
    }
    pub(crate) fn ignored(self) -> Expected {
        self.is("IN_IGNORED")
    }
    pub(crate) fn unmount(self) -> Expected {
        self.is("IN_UNMOUNT|IN_ISDIR")
    }
    pub(crate) fn moved_from(self) -> Expected {
        self.is("IN_MOVED_FROM")
    }
    pub(crate) fn moved_to(self) -> Expected {
        self.is("IN_MOVED_TO")
    }
    pub(crate) fn moved_from_dir(self) -> Expected {
        self.is("IN_MOVED_FROM|IN_ISDIR")
    }
    pub(crate) fn moved_to_dir(self) -> Expected {
        self.is("IN_MOVED_TO|IN_ISDIR")
    }
    /// With the path from which it came.
    pub(crate) fn from(self, source: impl AsRef<Path>) -> Expected {
        Expected { source: Some(source.as_ref().to_owned()), ..self }
    }
    /// The object is a directory although the mask doesn't say so.
    pub(crate) fn of_dir(self) -> Expected {
        Expected { is_dir: true, ..self }
    }
    /// Made up for an entry that was found.
    pub(crate) fn arrived(self) -> Expected {
        Expected { synthetic: true, ..self }
    }
    pub(crate) fn by(self, watch: WatchId) -> Expected {
        Expected { watch: watch.0, ..self }
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.watch, self.mask, self.path.display())?;
        if let Some(source) = &self.source {
            write!(out, " from {}", source.display())?;
        }
        if self.is_dir && !self.mask.contains("ISDIR") {
            write!(out, " (dir)")?;
        }
        if self.synthetic {
            write!(out, " (arrived)")?;
        }
        Ok(())
    }
}

fn path_buf(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// What was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) events: Vec<Expected>,
    /// wd, path of the watch and root of each event.
    pub(crate) details: Vec<(i32, PathBuf, PathBuf)>,
    pub(crate) notices: Vec<(Severity, String)>,
    /// Paths that lead to something else.
    pub(crate) elsewhere: Vec<PathBuf>,
    /// Watch, old path and new path of each directory that was renamed.
    pub(crate) renamed: Vec<(u32, PathBuf, Option<PathBuf>)>,
    pub(crate) recovered: Vec<u32>,
    /// Only count; a storm would be too much to keep.
    pub(crate) counted: Option<u64>,
    /// What somebody does at the moment when an event of this path is told: between the read and all that follows.
    pub(crate) meanwhile: Option<(PathBuf, Meanwhile)>,
}

pub(crate) type Meanwhile = Box<dyn FnOnce()>;

impl Sink for Told {
    fn event(&mut self, watch: WatchId, event: &Event<'_>) {
        if let Some(counted) = &mut self.counted {
            *counted += 1;
            return;
        }
        self.details.push((event.wd, path_buf(event.path()), path_buf(event.root())));
        self.events.push(Expected {
            path: path_buf(event.pathname),
            mask: event.mask.name(),
            synthetic: event.synthetic,
            source: event.src_pathname.map(path_buf),
            is_dir: event.is_dir,
            watch: watch.0,
        });
        if let Some((_, act)) =
            self.meanwhile.take_if(|(path, _)| path.as_os_str().as_bytes() == event.pathname)
        {
            act();
        }
    }

    fn renamed(&mut self, watch: WatchId, from: &[u8], to: Option<&[u8]>) {
        self.renamed.push((watch.0, path_buf(from), to.map(path_buf)));
    }

    fn set_aside(&mut self, watch: WatchId, path: &[u8], aside: &[u8]) {
        self.renamed.push((watch.0, path_buf(path), Some(path_buf(aside))));
    }

    fn notice(&mut self, notice: Notice<'_>) {
        if let Notice::Recovered { watch } = notice {
            self.recovered.push(watch.0);
        }
        if let Notice::RootElsewhere { path } = notice {
            return self.elsewhere.push(os(path));
        }
        self.notices.push((notice.severity(), notice.to_string()));
    }
}

/// See the module's head.
pub(crate) struct Bed {
    /// Removed when the bed is.
    _temp: tempfile::TempDir,
    /// The tree's top, without links on the way.
    pub(crate) top: PathBuf,
    pub(crate) watcher: Watcher,
    pub(crate) told: Told,
    pub(crate) now: Instant,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        Bed::with(|_| {})
    }

    /// With other options.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Bed {
        let temp = tempfile::Builder::new().prefix("watcher-").tempdir().unwrap();
        let top = temp.path().canonicalize().unwrap();
        let mut options = Options::new(top.as_os_str().as_bytes().to_vec());
        options.own_name = |name| name.starts_with(b".pyinotifyd-") && name.ends_with(b".tmp");
        change(&mut options);
        let now = Instant::now();
        let watcher = Watcher::new(options, now).unwrap();
        Bed { _temp: temp, top, watcher, told: Told::default(), now }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.top.clone() } else { self.top.join(name) }
    }

    pub(crate) fn mkdir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn write(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, name).unwrap();
        path
    }

    pub(crate) fn rename(&self, old: &str, new: &str) {
        std::fs::rename(self.path(old), self.path(new)).unwrap();
    }

    pub(crate) fn exchange(&self, one: &str, other: &str) {
        let (one, other) = (self.path(one), self.path(other));
        rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    }

    /// Watches with rec and auto_add.
    pub(crate) fn watch_tree(&mut self, name: &str, interest: Mask) -> WatchId {
        let path = self.path(name);
        self.watch(spec(&[&path], interest))
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "so that a test can say what it watches in one sentence"
    )]
    pub(crate) fn watch(&mut self, spec: WatchSpec) -> WatchId {
        self.watcher.add(&spec, self.now, &mut self.told).unwrap()
    }

    /// Works until nothing is left to do, without waiting.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            match self.watcher.turn(self.now, &mut self.told) {
                // A turn takes time, and some things are done when it has passed.
                Turn::More => self.now += Duration::from_micros(10),
                Turn::Pause(until) => self.now = self.now.max(until),
                Turn::Idle if self.is_readable() => {}
                Turn::Idle => return,
            }
        }
        panic!("the watcher does not come to rest: {:#?}", self.watcher);
    }

    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.watcher.inotify_fd(), PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    }

    /// Everything told since the last call.
    pub(crate) fn events(&mut self) -> Vec<Expected> {
        self.settle();
        self.told.details.clear();
        std::mem::take(&mut self.told.events)
    }

    /// Exactly these events, in this order.
    #[track_caller]
    pub(crate) fn assert_told(&mut self, expected: &[Expected]) {
        let told = self.events();
        assert!(told == expected, "told\n{told:#?}\nexpected\n{expected:#?}");
    }

    /// At least these events, in any order.
    #[track_caller]
    pub(crate) fn assert_told_among_others(&mut self, expected: &[Expected]) {
        let told = self.events();
        for one in expected {
            assert!(told.contains(one), "{one:?} is not among\n{told:#?}");
        }
    }

    /// A file of this name was told as finished, wherever it was.
    #[track_caller]
    pub(crate) fn assert_told_closed(&mut self, name: &str) {
        let told = self.events();
        let is_it = |event: &Expected| event.path.ends_with(name) && event.mask == "IN_CLOSE_WRITE";
        assert!(told.iter().any(is_it), "{name} is not among\n{told:#?}");
    }

    /// Lets time pass, and what is due happen.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }

    /// As when the descriptor of the mounts has become ready.
    pub(crate) fn mounts_changed(&mut self) {
        self.watcher.mounts_changed(self.now);
        self.pass(Duration::from_millis(60));
    }

    pub(crate) fn notices(&mut self) -> Vec<String> {
        self.settle();
        std::mem::take(&mut self.told.notices).into_iter().map(|(_, text)| text).collect()
    }

    /// A file written at this path is told, at this path.
    #[track_caller]
    pub(crate) fn assert_watched(&mut self, name: &str) {
        self.settle();
        self.told.events.clear();
        let path = self.write(&format!("{name}/probe"));
        let told = self.events();
        let found = told.iter().any(|event| event.path == path && event.mask == "IN_CLOSE_WRITE");
        assert!(found, "{} is not among\n{told:#?}", path.display());
        std::fs::remove_file(path).unwrap();
        self.events();
    }

    #[track_caller]
    pub(crate) fn assert_unwatched(&mut self, name: &str) {
        self.events();
        let path = self.write(&format!("{name}/probe"));
        self.assert_told(&[]);
        std::fs::remove_file(path).unwrap();
        self.events();
    }

    /// The next time that an event of this entry is told, `act` happens before the watcher goes on.
    pub(crate) fn meanwhile(&mut self, name: &str, act: impl FnOnce() + 'static) {
        self.told.meanwhile = Some((self.path(name), Box::new(act)));
    }

    /// At rest the kernel watches all directories of the tree, no others but the tree's ancestors, and each of them
    /// tells of a new entry under its path.
    #[track_caller]
    pub(crate) fn assert_complete(&mut self, name: &str) {
        self.settle();
        let dirs = directories(&self.path(name));
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let above = self.path(name);
        let mut expected: Vec<u64> =
            dirs.iter().map(PathBuf::as_path).chain(above.ancestors().skip(1)).map(inode).collect();
        expected.sort_unstable();
        let mut watched = self.kernel_inodes();
        watched.sort_unstable();
        assert_eq!(watched, expected, "the inodes that are watched and those of {dirs:#?}");
        for dir in dirs {
            self.assert_watched(dir.strip_prefix(&self.top).unwrap().to_str().unwrap());
        }
    }

    /// Inodes that the watcher's instance watches, from /proc/self/fdinfo.
    pub(crate) fn kernel_inodes(&self) -> Vec<u64> {
        let field = |line: &str| line.split(" ino:").nth(1)?.split(' ').next().map(str::to_owned);
        let text = self.fdinfo();
        let inodes = text.lines().filter(|line| line.starts_with("inotify")).filter_map(field);
        inodes.map(|inode| u64::from_str_radix(&inode, 16).unwrap()).collect()
    }

    fn fdinfo(&self) -> String {
        use std::os::fd::AsRawFd as _;
        let info = format!("/proc/self/fdinfo/{}", self.watcher.inotify_fd().as_raw_fd());
        std::fs::read_to_string(info).unwrap()
    }

    /// wds that the kernel has for the watcher's instance, from /proc/self/fdinfo.
    pub(crate) fn kernel_wds(&self) -> Vec<i32> {
        let text = self.fdinfo();
        let fields = text.lines().filter_map(|line| line.strip_prefix("inotify wd:"));
        let mut wds: Vec<i32> = fields
            .map(|rest| i32::from_str_radix(rest.split_whitespace().next().unwrap(), 16).unwrap())
            .collect();
        wds.sort_unstable();
        wds
    }
}

/// A directory and all below it.
fn directories(top: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
    let below =
        entries.filter(|path| path.is_dir() && !path.is_symlink()).flat_map(|path| directories(&path));
    std::iter::once(top.to_owned()).chain(below).collect()
}

/// Paths with rec and auto_add.
pub(crate) fn spec(paths: &[&Path], interest: Mask) -> WatchSpec {
    WatchSpec::trees(paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(), interest)
}

/// A path from bytes that need not be UTF-8.
pub(crate) fn os(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}
