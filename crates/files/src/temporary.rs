//! Names under which something grows until it is complete, and what becomes of them.
//!
//! Owns the pattern of these names, the guard that removes what was not finished, and the sweep that removes what a
//! crash has left. A name tells which process of which boot of which machine made it, so that a sweep knows whether
//! that process can still be at work.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use syscall::spawn;

use crate::conflict::{Aside, Goes, Replace};
use crate::error::Error;
use crate::given::{self, Given};
use crate::metadata::is_not_here;
use crate::remove;
use crate::resolve;
use crate::sys::{self, For, Inode, Kind, Status, Writers};
use crate::trash;
use crate::walk::{self, Entry, Visit, Walk};

/// How the names begin.
pub const TEMPORARY_PREFIX: &[u8] = b".pyinotifyd-";
/// How the names end.
pub const TEMPORARY_SUFFIX: &[u8] = b".tmp";
/// How the name of what is only set aside ends. It may be somebody's only file: a sweep removes it only where the name
/// says that this very file is to go.
const ASIDE_SUFFIX: &[u8] = b".old";

/// How often another name is tried when one is taken. Names are unpredictable; a second try is an attack already.
const NAMES_TRIED_MAX: u32 = 8;

/// How often, and with which pause, it is asked whether a file is closed: a process is started in less.
const CLOSE_LOOKS_MAX: u32 = 500;
const CLOSE_PAUSE: Duration = Duration::from_micros(100);

/// Age of something from another machine or container, whose processes can't be seen from here, before it counts as
/// left over: no copy takes that long.
const FOREIGN_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Entries that one sweep looks at: a few seconds' work.
const SWEEP_ENTRIES_MAX: u64 = 2_000_000;

/// Directories of a trash that one sweep looks into, the newest: a thing has one of its own, and no more are on their
/// way at once.
const SWEEP_TRASHED_MAX: usize = 1_000;

/// Bits of each part of a name between prefix and suffix, in order; six bits are one character. A name is 39 bytes
/// long with all of this: the longest that the kernel keeps inside a directory entry (DNAME_INLINE_LEN).
const FIELDS: [u32; 6] = [18, 18, 18, 24, 24, 36];
const NAME_LEN: usize = TEMPORARY_PREFIX.len() + 23 + TEMPORARY_SUFFIX.len();
/// Bits that [`fold`] gives.
const FOLDED: u32 = 18;
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz+";

/// A process, as the names spell it: each number cut to its width in [`FIELDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    /// /etc/machine-id, hashed; 0 if there is none.
    machine: u64,
    /// The kernel's boot id, hashed.
    boot: u64,
    /// Inode of the PID namespace.
    namespace: u64,
    pid: u64,
    /// Start of the process in clock ticks since boot, proc_pid_stat(5).
    start: u64,
}

impl Origin {
    /// This process.
    fn own() -> &'static Origin {
        static OWN: OnceLock<Origin> = OnceLock::new();
        OWN.get_or_init(|| {
            let own = Origin {
                machine: std::fs::read("/etc/machine-id").map_or(0, |id| fold(id.trim_ascii())),
                boot: std::fs::read("/proc/sys/kernel/random/boot_id").map_or(0, |id| fold(id.trim_ascii())),
                namespace: std::fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino()),
                pid: std::process::id().into(),
                start: start_of(std::process::id().into()).unwrap_or(0),
            };
            // What a name can hold of it.
            let name = own.name(0, TEMPORARY_SUFFIX);
            Origin::parse(&name, TEMPORARY_SUFFIX).expect("a name that was just made can be read").0
        })
    }

    /// Reads a temporary name, and its serial number.
    fn parse(name: &[u8], suffix: &[u8]) -> Option<(Origin, u64)> {
        let mut digits = name.strip_prefix(TEMPORARY_PREFIX)?.strip_suffix(suffix)?;
        if name.len() != NAME_LEN {
            return None;
        }
        let mut fields = [0; FIELDS.len()];
        for (field, bits) in fields.iter_mut().zip(FIELDS) {
            let (these, rest) = digits.split_at(bits as usize / 6);
            for digit in these {
                let value = DIGITS.iter().position(|known| known == digit)?;
                *field = *field << 6 | value as u64;
            }
            digits = rest;
        }
        let [machine, boot, namespace, pid, start, serial] = fields;
        Some((Origin { machine, boot, namespace, pid, start }, serial))
    }

    fn name(&self, serial: u64, suffix: &[u8]) -> Vec<u8> {
        let mut name = Vec::with_capacity(NAME_LEN);
        name.extend_from_slice(TEMPORARY_PREFIX);
        let fields = [self.machine, self.boot, self.namespace, self.pid, self.start, serial];
        for (field, bits) in fields.into_iter().zip(FIELDS) {
            let shifts = (0..bits).step_by(6).rev();
            name.extend(shifts.map(|shift| DIGITS[(field >> shift) as usize & 63]));
        }
        name.extend_from_slice(suffix);
        name
    }

    /// Whether the process that made a name is gone; `age` is that of the object.
    fn is_gone(&self, age: Duration) -> bool {
        let own = Origin::own();
        let same_boot = self.boot == own.boot && own.boot != 0;
        if same_boot && self.namespace == own.namespace {
            let start = start_of(self.pid).map(|start| start & ((1 << FIELDS[4]) - 1));
            return start != Some(self.start);
        }
        let same_machine = self.machine == own.machine && own.machine != 0;
        (same_machine && !same_boot) || age > FOREIGN_AGE
    }
}

/// FNV-1a: a number that differs where the ids differ, the same in every build; its high bits are the better ones.
fn fold(bytes: &[u8]) -> u64 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    u64::from(bytes.iter().fold(0x811c_9dc5, step) >> (32 - FOLDED))
}

/// When a process started; `None` if there is no such process, or it has ended and its parent has not asked for that
/// yet. See proc_pid_stat(5).
fn start_of(pid: u64) -> Option<u64> {
    let fields = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let name_end = fields.iter().rposition(|byte| *byte == b')')?;
    let mut after_name = fields[name_end + 1..].trim_ascii().split(|byte| *byte == b' ');
    let state = after_name.next()?;
    let start = after_name.nth(18)?;
    let has_ended = matches!(state, b"Z" | b"X");
    std::str::from_utf8(start).ok().filter(|_| !has_ended)?.parse().ok()
}

/// Whether a name has the form of our temporary names, whoever made it.
pub fn is_temporary_name(name: &[u8]) -> bool {
    Origin::parse(name, TEMPORARY_SUFFIX).is_some()
}

fn new_name() -> Vec<u8> {
    Origin::own().name(random(), TEMPORARY_SUFFIX)
}

/// A name for what is set aside; `goes` is what has nothing to wait for, and has its fingerprint in the name.
fn name_aside(goes: Option<&Status>) -> Vec<u8> {
    let serial = goes.map_or(0, fingerprint) << FOLDED | random() & ((1 << FOLDED) - 1);
    Origin::own().name(serial, ASIDE_SUFFIX)
}

fn random() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    static SECRET: OnceLock<RandomState> = OnceLock::new();
    SECRET.get_or_init(RandomState::new).hash_one(SERIAL.fetch_add(1, Ordering::Relaxed))
}

/// Tells a file, and what was written to it, in few bits. Never 0.
fn fingerprint(status: &Status) -> u64 {
    let (inode, size, mtime) = (status.inode.ino, status.size, sys::nanoseconds(status.mtime));
    fold(&[&inode.to_le_bytes()[..], &size.to_le_bytes(), &mtime.to_le_bytes()].concat()).max(1)
}

/// Something under a temporary name, removed when it is dropped before it was given its final name.
pub(crate) struct Temporary<D: AsFd> {
    directory: D,
    name: Given,
    made: spawn::Moment,
    done: bool,
}

impl<D: AsFd> Temporary<D> {
    /// A new file in `directory`, open for writing.
    pub(crate) fn file(directory: D) -> sys::Result<(Self, OwnedFd)> {
        let made = spawn::Moment::now();
        let (name, file) = try_names(&directory, new_name, |name| sys::create_file(&directory, name))?;
        Ok((Temporary { directory, name, made, done: false }, file))
    }

    /// A new symbolic link in `directory`.
    pub(crate) fn link(directory: D, target: &[u8]) -> sys::Result<Self> {
        let made = spawn::Moment::now();
        let (name, ()) = try_names(&directory, new_name, |name| sys::make_link(target, &directory, name))?;
        Ok(Temporary { directory, name, made, done: false })
    }

    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Waits, after a file was closed, until the kernel has closed it, too: who watches is told of that under the name
    /// that the file has then, and must not take it for another write to the result.
    pub(crate) fn wait_until_closed(&self) {
        if !self.made.was_followed_by_start() {
            return;
        }
        let Ok(file) = sys::open_file(&self.directory, &self.name) else { return };
        for _ in 0..CLOSE_LOOKS_MAX {
            match sys::keep_writers_out(file.as_fd()) {
                Writers::Some => thread::sleep(CLOSE_PAUSE),
                Writers::KeptOut(_) | Writers::Unknown => return,
            }
        }
    }

    /// Gives it its final name in the same directory, in one step; in three where only a certain file may be replaced.
    pub(crate) fn place(&mut self, name: &[u8], replace: Replace) -> sys::Result<()> {
        let directory = self.directory.as_fd();
        rename_replacing(directory, &self.name, directory, name, Kind::File, replace)?;
        self.done = true;
        Ok(())
    }
}

impl<D: AsFd> Drop for Temporary<D> {
    fn drop(&mut self) {
        if !self.done {
            // What can't be removed now is found by the sweep of the next start.
            let _ = sys::remove_file(&self.directory, &self.name);
        }
    }
}

/// A tree that grows inside a directory with a temporary name, removed when it is dropped before it was placed.
///
/// The tree is not that directory but the one inside it, of the same name. So nobody can have somebody else's
/// directory removed by giving it such a name: who can't write in it can't make that inner name.
pub(crate) struct TemporaryTree {
    parent: OwnedFd,
    name: Given,
    /// The outer directory, which only the daemon's user can enter.
    outer: OwnedFd,
    inode: Inode,
    placed: bool,
}

impl TemporaryTree {
    /// An empty tree in `parent`, and its open top.
    pub(crate) fn new(parent: OwnedFd) -> sys::Result<(Self, OwnedFd)> {
        let (name, ()) = try_names(&parent, new_name, |name| sys::make_directory(&parent, name, 0o700))?;
        let outer = sys::open_directory(&parent, &name, For::Reading).inspect_err(|_| {
            let _ = sys::remove_directory(&parent, &name);
        })?;
        let inode = sys::status(&outer).map(|status| status.inode).inspect_err(|_| {
            let _ = sys::remove_directory(&parent, &name);
        })?;
        let tree = TemporaryTree { parent, name, outer, inode, placed: false };
        sys::make_directory(&tree.outer, &tree.name, 0o700)?;
        let top = sys::open_directory(&tree.outer, &tree.name, For::Reading)?;
        Ok((tree, top))
    }

    /// Gives the tree its final name, in one step; `top` is its open top.
    pub(crate) fn place(mut self, top: &OwnedFd, name: &[u8], overwrite: bool) -> sys::Result<()> {
        // Before the rename: whoever reads of it must find the name.
        given::remember_placed(sys::status(&self.parent)?.inode, name, sys::status(top)?.inode);
        let mut result = self.rename(name, overwrite);
        if matches!(result, Err(Errno::ACCESS)) {
            // Who is not root may move a directory out of another one only while he may write in it.
            let mode = sys::status(top)?.mode;
            sys::set_mode(top, 0o700)?;
            result = self.rename(name, overwrite);
            sys::set_mode(top, mode)?;
        }
        self.placed = result.is_ok();
        result
    }

    fn rename(&self, name: &[u8], overwrite: bool) -> sys::Result<()> {
        rename(self.outer.as_fd(), &self.name, self.parent.as_fd(), name, Kind::Directory, overwrite)
    }

    /// The outer directory.
    pub(crate) fn inode(&self) -> Inode {
        self.inode
    }

    /// The directory that the tree gets its final name in.
    pub(crate) fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }
}

impl Drop for TemporaryTree {
    fn drop(&mut self) {
        // What can't be removed now is found by the sweep of the next start.
        if !self.placed {
            let _ = remove::own_tree(self.outer.as_fd(), &self.name);
        }
        let _ = sys::remove_directory(&self.parent, &self.name);
    }
}

fn try_names<T>(
    directory: impl AsFd,
    new_name: impl Fn() -> Vec<u8>,
    mut attempt: impl FnMut(&[u8]) -> sys::Result<T>,
) -> sys::Result<(Given, T)> {
    let directory = sys::status(directory)?.inode;
    for _ in 1..NAMES_TRIED_MAX {
        let name = Given::new(directory, new_name());
        match attempt(&name) {
            Err(Errno::EXIST) => {}
            result => return result.map(|made| (name, made)),
        }
    }
    let name = Given::new(directory, new_name());
    attempt(&name).map(|made| (name, made))
}

/// Renames something to a temporary name beside it, and gives that. `goes`: a sweep may remove it if it is that.
pub(crate) fn set_aside(
    directory: BorrowedFd<'_>,
    name: &[u8],
    kind: Kind,
    goes: Option<&Status>,
) -> sys::Result<Given> {
    let aside = |aside: &[u8]| rename_new(directory, name, directory, aside, kind);
    try_names(directory, || name_aside(goes), aside).map(|(name, _)| name)
}

/// Renames, and replaces what may be replaced; EXIST where something else has the name.
pub(crate) fn rename_replacing(
    from_at: BorrowedFd<'_>,
    from: &[u8],
    to_at: BorrowedFd<'_>,
    to: &[u8],
    kind: Kind,
    replace: Replace,
) -> sys::Result<()> {
    let Replace::Only(judged) = replace else {
        return rename(from_at, from, to_at, to, kind, replace.any());
    };
    let aside = match Aside::set(to_at, to, &judged, Goes::Later) {
        // The name is free now.
        Err(Errno::NOENT) => None,
        aside => Some(aside?),
    };
    rename(from_at, from, to_at, to, kind, false)?;
    // What can't be removed stays, under a numbered name.
    let _ = aside.map(Aside::remove);
    Ok(())
}

/// Renames, and where `overwrite` is false only if the new name is free.
pub(crate) fn rename(
    from_at: BorrowedFd<'_>,
    from: &[u8],
    to_at: BorrowedFd<'_>,
    to: &[u8],
    kind: Kind,
    overwrite: bool,
) -> sys::Result<()> {
    if overwrite {
        return sys::rename(from_at, from, to_at, to);
    }
    match rename_new(from_at, from, to_at, to, kind)? {
        // For who watches, a link is a new file that nobody has written yet.
        By::Link if kind == Kind::File => sys::show_as_written(to_at, to),
        By::Link | By::Rename => {}
        By::RenameAfterLook => LOOKED_FIRST.store(true, Ordering::Relaxed),
    }
    Ok(())
}

/// How a new name was given.
enum By {
    Rename,
    Link,
    /// It was free a moment before.
    RenameAfterLook,
}

/// Renames if the new name is free, on every filesystem: in one step where that can be done, else after a look.
fn rename_new(
    from_at: BorrowedFd<'_>,
    from: &[u8],
    to_at: BorrowedFd<'_>,
    to: &[u8],
    kind: Kind,
) -> sys::Result<By> {
    match sys::rename_new(from_at, from, to_at, to) {
        // The filesystem has no RENAME_NOREPLACE (or a directory would go into itself, which fails here too).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if kind == Kind::Directory => {
            // mkdir(2) takes the name only if it is free, and rename(2) replaces an empty directory only.
            sys::make_directory(to_at, to, 0o700)?;
            sys::rename(from_at, from, to_at, to).inspect_err(|_| {
                let _ = sys::remove_directory(to_at, to);
            })?;
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match sys::link(from_at, from, to_at, to) {
            // No hard links either (FAT, exFAT, many FUSE servers), none to this file (fs.protected_hardlinks), or too
            // many.
            Err(errno) if is_not_here(errno) || errno == Errno::MLINK => {
                rename_after_look(from_at, from, to_at, to)?;
                return Ok(By::RenameAfterLook);
            }
            result => {
                result?;
                sys::remove_file(from_at, from).inspect_err(|_| {
                    let _ = sys::remove_file(to_at, to);
                })?;
                return Ok(By::Link);
            }
        },
        result => result?,
    }
    Ok(By::Rename)
}

/// Renames if the new name was free a moment ago.
fn rename_after_look(
    from_at: BorrowedFd<'_>,
    from: &[u8],
    to_at: BorrowedFd<'_>,
    to: &[u8],
) -> sys::Result<()> {
    match sys::status_at(to_at, to) {
        Ok(_) => return Err(Errno::EXIST),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    sys::rename(from_at, from, to_at, to)
}

/// Whether a name was checked before a rename because the filesystem can't do both in one step.
static LOOKED_FIRST: AtomicBool = AtomicBool::new(false);

/// Whether a rename was made after a mere look, and nobody was told of it in this process yet.
pub(crate) fn is_first_without_no_replace() -> bool {
    static SAID: AtomicBool = AtomicBool::new(false);
    LOOKED_FIRST.load(Ordering::Relaxed) && !SAID.swap(true, Ordering::Relaxed)
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files, links and directories that a crash had left, and that are gone now.
    pub removed: u64,
    /// Those that could not be removed, and directories that could not be read.
    pub failed: u64,
    /// Not everything was looked at: told to stop, or more than two million entries.
    pub incomplete: bool,
}

/// Removes what a process that is gone has left in `directory` under temporary names; below it too if `recursive`. Of a
/// trash, looks into the thousand newest directories.
///
/// Stays on the filesystem, follows no link below `directory`, and touches nothing that another process may be at
/// work on. `directory` is the administrator's text, such as the literal beginning of dst_re.
///
/// # Errors
/// If `directory` can't be opened.
pub fn sweep(directory: &[u8], recursive: bool, stop: &AtomicBool) -> Result<Swept, Error> {
    let top = resolve::trusted_directory(directory)?;
    let top = sys::open_directory(&top, b".", For::Reading).map_err(|errno| Error::os(errno, directory))?;
    let mut sweep =
        Sweep { swept: Swept::default(), entries: 0, trashed: BinaryHeap::new(), recursive, stop };
    let mut walk = Walk::start(top, directory)?;
    sweep.list(&mut walk);
    loop {
        while let Some(name) = walk.next() {
            let entered = walk::open_on_same_mount(walk.directory(), &name);
            match entered.map(|directory| walk.enter(&name, directory, false)) {
                Ok(Ok(())) => sweep.list(&mut walk),
                // A mount, or gone meanwhile.
                Err(Errno::XDEV | Errno::NOENT) => {}
                Ok(Err(_)) | Err(_) => sweep.swept.failed += 1,
            }
        }
        match walk.leave()? {
            (_, Some(rest)) => walk = rest,
            (_, None) => return Ok(sweep.swept),
        }
    }
}

struct Sweep<'a> {
    swept: Swept,
    entries: u64,
    /// The newest directories of a trash that is being listed, the oldest of them first.
    trashed: BinaryHeap<Reverse<Vec<u8>>>,
    recursive: bool,
    stop: &'a AtomicBool,
}

impl Sweep<'_> {
    fn list(&mut self, walk: &mut Walk) {
        if walk.list(|entry| Ok(self.visit(entry))).is_err() {
            self.swept.failed += 1;
        }
        for Reverse(name) in self.trashed.drain() {
            walk.enter_later(&name);
        }
    }

    fn visit(&mut self, entry: &Entry<'_>) -> Visit {
        self.entries += 1;
        if self.entries > SWEEP_ENTRIES_MAX || self.stop.load(Ordering::Relaxed) {
            self.swept.incomplete = true;
            return Visit::Done;
        }
        let aside = || Origin::parse(entry.name, ASIDE_SUFFIX).map(|(origin, serial)| (origin, Some(serial)));
        let own = Origin::parse(entry.name, TEMPORARY_SUFFIX).map(|(origin, _)| (origin, None));
        match own.or_else(aside) {
            Some((origin, of_aside)) => {
                self.remove_stale(entry, origin, of_aside);
                Visit::Done
            }
            None if self.recursive && matches!(entry.kind, Kind::Directory | Kind::Unknown) => {
                if trash::stamp_of(entry.name).is_none() {
                    return Visit::Later;
                }
                self.trashed.push(Reverse(entry.name.to_vec()));
                if self.trashed.len() > SWEEP_TRASHED_MAX {
                    self.trashed.pop();
                }
                Visit::Done
            }
            None => Visit::Done,
        }
    }

    /// `of_aside` is the serial number of what was set aside.
    fn remove_stale(&mut self, entry: &Entry<'_>, origin: Origin, of_aside: Option<u64>) {
        let Ok(status) = sys::status_at(entry.directory, entry.name) else { return };
        if of_aside.is_some_and(|serial| serial >> FOLDED != fingerprint(&status)) {
            return;
        }
        let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(status.ctime.tv_sec).unwrap_or(0));
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        if !origin.is_gone(age) || !is_ours(&status) {
            return;
        }
        let removed = match status.kind {
            Kind::Directory => remove_stale_tree(entry),
            Kind::File | Kind::Link => sys::remove_file(entry.directory, entry.name).is_ok(),
            // Nothing of ours.
            Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => return,
        };
        if removed {
            self.swept.removed += 1;
        } else {
            self.swept.failed += 1;
        }
    }
}

/// Whether an object under a temporary name can be ours.
fn is_ours(status: &Status) -> bool {
    let daemon = rustix::process::geteuid();
    let own = status.uid == daemon.as_raw();
    match status.kind {
        Kind::Directory => own && status.mode == 0o700,
        // Root gives a moved file its owner just before the last rename, so root can't tell its own by their owner.
        // It needn't: who can give a file such a name can remove it too.
        Kind::File | Kind::Link | Kind::Fifo | Kind::Socket | Kind::Device | Kind::Unknown => {
            own || daemon.is_root()
        }
    }
}

/// Removes what is left of a [`TemporaryTree`], and nothing else.
fn remove_stale_tree(entry: &Entry<'_>) -> bool {
    let Ok(outer) = walk::open_on_same_mount(entry.directory, entry.name) else { return false };
    if !sys::status(&outer).is_ok_and(|status| is_ours(&status)) {
        return false;
    }
    match remove::own_tree(outer.as_fd(), entry.name) {
        Ok(()) | Err(Error::Os { errno: Errno::NOENT, .. }) => {}
        Err(_) => return false,
    }
    sys::remove_directory(entry.directory, entry.name).is_ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A name that such a process would have given to what it set aside.
    pub(crate) fn aside_of_pid(pid: u64, goes: Option<&Status>) -> Vec<u8> {
        let (_, serial) = Origin::parse(&name_aside(goes), ASIDE_SUFFIX).unwrap();
        Origin { pid, ..*Origin::own() }.name(serial, ASIDE_SUFFIX)
    }

    /// A temporary name that a process of this boot would have made.
    pub(crate) fn name_of_pid(pid: u64) -> Vec<u8> {
        Origin { pid, ..*Origin::own() }.name(1, TEMPORARY_SUFFIX)
    }

    const LONG_AGO: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn names_are_recognised_by_their_whole_form() {
        let name = new_name();
        assert_eq!(name.len(), 39);
        assert!(is_temporary_name(&name));
        assert_ne!(name, new_name());
        for other in [
            &b".pyinotifyd-.tmp"[..],
            b".pyinotifyd-notes.tmp",
            b".pyinotifyd-0123456789012345678901.tmp",
            b".pyinotifyd-012345678901234567890123.tmp",
            b".pyinotifyd-01234567890123456789-12.tmp",
            b".pyinotifyd-01234567890123456789012.tmp.gz",
            b"x.pyinotifyd-01234567890123456789012.tmp",
        ] {
            assert!(!is_temporary_name(other), "{other:?}");
        }
        assert!(is_temporary_name(b".pyinotifyd-01234567890123456789012.tmp"));
    }

    #[test]
    fn a_name_says_whether_its_process_can_still_be_at_work() {
        let own = *Origin::own();
        assert_ne!(own.start, 0);
        let cases = [
            (own, LONG_AGO, false),
            (Origin { start: own.start + 1, ..own }, Duration::ZERO, true),
            (Origin { pid: (1 << 24) - 1, ..own }, Duration::ZERO, true),
            (Origin { boot: own.boot ^ 1, ..own }, Duration::ZERO, own.machine != 0),
            (Origin { boot: own.boot ^ 1, machine: own.machine ^ 1, ..own }, Duration::ZERO, false),
            (Origin { boot: own.boot ^ 1, machine: own.machine ^ 1, ..own }, LONG_AGO, true),
            (Origin { namespace: own.namespace ^ 1, ..own }, Duration::ZERO, false),
            (Origin { namespace: own.namespace ^ 1, ..own }, LONG_AGO, true),
        ];
        for (origin, age, gone) in cases {
            assert_eq!(origin.is_gone(age), gone, "{origin:?} of age {age:?}");
        }
    }

    #[test]
    fn a_process_that_nobody_has_waited_for_is_gone() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = u64::from(child.id());
        let start = start_of(pid).unwrap() & ((1 << FIELDS[4]) - 1);
        let origin = Origin { pid, start, ..*Origin::own() };
        assert!(!origin.is_gone(Duration::ZERO));
        child.kill().unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while start_of(pid).is_some() {
            assert!(std::time::Instant::now() < until, "it has been killed");
            std::thread::yield_now();
        }
        assert!(origin.is_gone(Duration::ZERO));
        child.wait().unwrap();
    }

    #[test]
    fn a_new_file_takes_nobodys_place() {
        let directory = std::env::temp_dir().join(format!("files-test-new-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("taken"), "kept").unwrap();
        std::os::unix::fs::symlink("made", directory.join("link")).unwrap();
        let at = sys::open_directory(sys::CWD, directory.to_str().unwrap().as_bytes(), For::Reading).unwrap();
        for name in [&b"taken"[..], b"link"] {
            assert_eq!(sys::create_file(&at, name).unwrap_err(), Errno::EXIST);
        }
        assert!(!directory.join("made").exists());
        // A name that is taken is no reason to give up; one that is always taken is.
        let mut tried = 0;
        let mut attempt = |free_after| {
            tried = 0;
            try_names(&at, new_name, |_| {
                tried += 1;
                if tried > free_after { Ok(()) } else { Err(Errno::EXIST) }
            })
        };
        assert!(attempt(NAMES_TRIED_MAX - 1).is_ok());
        assert_eq!(attempt(u32::MAX).unwrap_err(), Errno::EXIST);
        assert_eq!(tried, NAMES_TRIED_MAX);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
