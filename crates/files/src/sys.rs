//! The system calls of this crate, one thin function each.
//!
//! Owns the flags that make each call safe (no link is followed by name, every descriptor is closed on exec, nothing
//! blocks on a FIFO), the retry after a signal, and the shape of a file's status. Decides nothing else. Everything
//! goes through here, so that a test can make the n-th call fail, or change the world just before it
//! (`fault`, which is compiled for tests only).

use rustix::fs::{
    self, Access, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatxAttributes, StatxFlags, Timespec,
    Timestamps,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use syscall::lease::Lease;

pub(crate) use rustix::fs::{CWD, Gid, Uid};

pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// How often a call is repeated that a signal interrupted. The daemon's signals come one at a time; a call that is
/// interrupted this often is reported instead of spinning for ever.
const INTERRUPTIONS_MAX: u32 = 1000;

/// Bytes of directory entries that are read at a time.
const ENTRIES_SIZE: usize = 32 * 1024;

/// Largest value of an extended attribute, and of the list of names: the kernel's `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`.
const ATTRIBUTE_SIZE_MAX: usize = 64 * 1024;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    Fifo,
    Socket,
    Device,
    /// The filesystem did not say (only in listings).
    Unknown,
}

impl From<fs::FileType> for Kind {
    fn from(kind: fs::FileType) -> Self {
        match kind {
            fs::FileType::RegularFile => Kind::File,
            fs::FileType::Directory => Kind::Directory,
            fs::FileType::Symlink => Kind::Link,
            fs::FileType::Fifo => Kind::Fifo,
            fs::FileType::Socket => Kind::Socket,
            fs::FileType::CharacterDevice | fs::FileType::BlockDevice => Kind::Device,
            fs::FileType::Unknown => Kind::Unknown,
        }
    }
}

/// Device and inode: the same object while somebody holds a descriptor of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl Inode {
    /// This object, as a result.
    pub(crate) fn placed_at(self, path: &[u8]) -> crate::Placed {
        crate::Placed { path: path.to_vec(), dev: self.dev, ino: self.ino }
    }
}

/// Where a directory is: device, inode and mount, which none else can be while somebody holds a descriptor of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    dev: (u32, u32),
    ino: u64,
    mount: u64,
}

/// What fstat(2) says, in types that are the same on every architecture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) inode: Inode,
    pub(crate) kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Bytes that are allocated on the disk; fewer than `size` where the file has holes.
    pub(crate) allocated: u64,
    pub(crate) atime: Timespec,
    pub(crate) mtime: Timespec,
    pub(crate) ctime: Timespec,
    /// The wall clock just before the call, in nanoseconds since the epoch.
    pub(crate) seen_ns: i128,
}

/// Nanoseconds since the epoch.
pub(crate) fn nanoseconds(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

fn now_ns() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128)
}

impl Status {
    // The widths of these fields differ between architectures; here they all become the widest.
    #[expect(clippy::unnecessary_cast, reason = "necessary on other architectures")]
    fn new(stat: &fs::Stat, seen_ns: i128) -> Self {
        let time = |seconds, nanoseconds| Timespec { tv_sec: seconds as i64, tv_nsec: nanoseconds as _ };
        Status {
            inode: Inode { dev: stat.st_dev as u64, ino: stat.st_ino as u64 },
            kind: fs::FileType::from_raw_mode(stat.st_mode).into(),
            mode: stat.st_mode as u32 & 0o7777,
            links: stat.st_nlink as u64,
            uid: stat.st_uid as u32,
            gid: stat.st_gid as u32,
            size: stat.st_size as u64,
            allocated: stat.st_blocks as u64 * 512,
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            seen_ns,
        }
    }
}

/// Performs one call: counts it for the fault tests, repeats it when a signal interrupts it.
fn call<T>(name: &'static str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..INTERRUPTIONS_MAX {
        match fault::point(name).and_then(|()| attempt()) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::INTR)
}

/// Set once openat2(2) was answered with ENOSYS (Linux before 5.6, or a seccomp filter).
static OPENAT2_MISSING: AtomicBool = AtomicBool::new(false);

/// How far a lookup of several components may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// Anywhere, but through no symbolic link at all.
    NoLinks,
    /// Below the directory of the descriptor, through no symbolic link.
    Beneath,
    /// As [`Within::Beneath`], and on the same mount.
    BeneathMount,
}

impl Within {
    fn flags(self) -> ResolveFlags {
        let links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match self {
            Within::NoLinks => links,
            Within::Beneath => links | ResolveFlags::BENEATH,
            Within::BeneathMount => links | ResolveFlags::BENEATH | ResolveFlags::NO_XDEV,
        }
    }
}

/// What a directory is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// As a place to look up names in; makes no inotify event and needs no read permission.
    Lookup,
    /// To list it, to sync it, or to change its attributes.
    Reading,
}

impl For {
    fn flags(self) -> OFlags {
        match self {
            For::Lookup => OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            For::Reading => OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        }
    }
}

/// Opens the directory `path` with openat2(2). ENOSYS where the kernel has none: walk instead.
pub(crate) fn open_within(at: impl AsFd, path: &[u8], purpose: For, within: Within) -> Result<OwnedFd> {
    if OPENAT2_MISSING.load(Ordering::Relaxed) {
        return Err(Errno::NOSYS);
    }
    let result =
        call("openat2", || fs::openat2(at.as_fd(), path, purpose.flags(), Mode::empty(), within.flags()));
    // Tests let single calls fail; what they say about the kernel is not true.
    if matches!(result, Err(Errno::NOSYS)) && !cfg!(test) {
        OPENAT2_MISSING.store(true, Ordering::Relaxed);
    }
    result
}

/// Opens the directory `name`, which must not be a link (ENOTDIR or ELOOP). `..` and `.` are names too.
pub(crate) fn open_directory(at: impl AsFd, name: &[u8], purpose: For) -> Result<OwnedFd> {
    let flags = purpose.flags() | OFlags::NOFOLLOW;
    call("openat", || fs::openat(at.as_fd(), name, flags, Mode::empty()))
}

/// Opens whatever `name` is, a link included, as a mere reference (O_PATH).
pub(crate) fn open_reference(at: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    call("openat", || fs::openat(at.as_fd(), name, flags, Mode::empty()))
}

/// Opens a file to read it; doesn't wait for the writer of a FIFO, doesn't follow a link (ELOOP).
pub(crate) fn open_file(at: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    call("openat", || fs::openat(at.as_fd(), name, flags, Mode::empty()))
}

/// Opens a file for writing and closes it, for whoever watches its directory. Where that can't be done, nobody is told.
pub(crate) fn show_as_written(at: impl AsFd, name: &[u8]) {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let _ = call("openat", || fs::openat(at.as_fd(), name, flags, Mode::empty()));
}

/// Makes the file `name`, which must not exist, readable and writable for the daemon alone, and opens it for both.
pub(crate) fn create_file(at: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    call("openat", || fs::openat(at.as_fd(), name, flags, Mode::RUSR | Mode::WUSR))
}

pub(crate) fn make_directory(at: impl AsFd, name: &[u8], mode: u32) -> Result<()> {
    call("mkdirat", || fs::mkdirat(at.as_fd(), name, Mode::from_raw_mode(mode)))
}

pub(crate) fn make_link(target: &[u8], at: impl AsFd, name: &[u8]) -> Result<()> {
    call("symlinkat", || fs::symlinkat(target, at.as_fd(), name))
}

/// The text of the link that `link` refers to.
pub(crate) fn read_link(link: impl AsFd) -> Result<Vec<u8>> {
    call("readlinkat", || fs::readlinkat(link.as_fd(), "", Vec::new())).map(std::ffi::CString::into_bytes)
}

pub(crate) fn status(fd: impl AsFd) -> Result<Status> {
    let seen_ns = now_ns();
    call("fstat", || fs::fstat(fd.as_fd())).map(|stat| Status::new(&stat, seen_ns))
}

/// Status of `name` itself, also where it is a link.
pub(crate) fn status_at(at: impl AsFd, name: &[u8]) -> Result<Status> {
    let seen_ns = now_ns();
    call("newfstatat", || fs::statat(at.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW))
        .map(|stat| Status::new(&stat, seen_ns))
}

/// The number by which statfs(2) names the type of the filesystem of an open file.
// The width of the field differs between architectures.
#[expect(clippy::cast_sign_loss, reason = "a number of 32 bits")]
pub(crate) fn filesystem_type(fd: impl AsFd) -> Result<u64> {
    call("fstatfs", || fs::fstatfs(fd.as_fd())).map(|status| u64::from(status.f_type as u32))
}

/// What a read lease on a file says of its writers.
pub(crate) enum Writers<'a> {
    /// There are none, and there can't be any while the lease is held.
    KeptOut(Lease<'a>),
    /// Somebody has the file open for writing.
    Some,
    /// The filesystem or our rights don't allow leases.
    Unknown,
}

/// Takes a read lease on a file that is open for reading.
pub(crate) fn keep_writers_out(file: BorrowedFd<'_>) -> Writers<'_> {
    use syscall::lease::{self, Attempt};
    if fault::point("fcntl").is_err() {
        return Writers::Unknown;
    }
    match lease::take(file) {
        Attempt::Taken(lease) => Writers::KeptOut(lease),
        Attempt::Writers => Writers::Some,
        Attempt::Refused => Writers::Unknown,
    }
}

/// Where the directory of a descriptor is.
pub(crate) fn spot(fd: impl AsFd) -> Result<Spot> {
    ask_spot(fd, b"", AtFlags::EMPTY_PATH)
}

/// Where the directory is that a path leads to; of a link at its end, where that link is.
pub(crate) fn spot_at(at: impl AsFd, path: &[u8]) -> Result<Spot> {
    ask_spot(at, path, AtFlags::SYMLINK_NOFOLLOW)
}

/// Whether the directory of a descriptor is where something is mounted.
pub(crate) fn is_mount_point(fd: impl AsFd) -> Result<bool> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let statx = call("statx", || fs::statx(fd.as_fd(), "", AtFlags::EMPTY_PATH, wanted))?;
    if statx.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // Before Linux 5.8: another filesystem than the directory above, or the top of everything.
    let above = call("statx", || fs::statx(fd.as_fd(), "..", AtFlags::empty(), wanted))?;
    let device = |statx: &fs::Statx| (statx.stx_dev_major, statx.stx_dev_minor);
    Ok(device(&statx) != device(&above) || statx.stx_ino == above.stx_ino)
}

/// Whether a name leads to something that chattr(1) has made immutable or open for additions only.
pub(crate) fn is_fixed(at: impl AsFd, name: &[u8]) -> Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let statx = call("statx", || fs::statx(at.as_fd(), name, flags, StatxFlags::INO))?;
    Ok(statx.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND))
}

/// Whether names may be made and removed in a directory, by its mode and the state of its filesystem.
pub(crate) fn may_change(directory: impl AsFd) -> Result<()> {
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    call("faccessat2", || fs::accessat(directory.as_fd(), ".", wanted, AtFlags::EACCESS))
}

/// Whether this thread may do anything that the user it runs as may not.
pub(crate) fn has_capabilities() -> bool {
    rustix::thread::capabilities(None).map_or(true, |sets| !sets.effective.is_empty())
}

fn ask_spot(at: impl AsFd, path: &[u8], flags: AtFlags) -> Result<Spot> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let statx = call("statx", || fs::statx(at.as_fd(), path, flags, wanted))?;
    // Before Linux 5.8 mounts have no numbers.
    if statx.stx_mask & wanted.bits() != wanted.bits() {
        return Err(Errno::NOSYS);
    }
    let dev = (statx.stx_dev_major, statx.stx_dev_minor);
    Ok(Spot { dev, ino: statx.stx_ino, mount: statx.stx_mnt_id })
}

pub(crate) fn rename(from_at: impl AsFd, from: &[u8], to_at: impl AsFd, to: &[u8]) -> Result<()> {
    call("renameat", || fs::renameat(from_at.as_fd(), from, to_at.as_fd(), to))
}

/// Renames unless `to` exists (EEXIST). EINVAL also where the filesystem can't do that.
pub(crate) fn rename_new(from_at: impl AsFd, from: &[u8], to_at: impl AsFd, to: &[u8]) -> Result<()> {
    call("renameat2", || fs::renameat_with(from_at.as_fd(), from, to_at.as_fd(), to, RenameFlags::NOREPLACE))
}

pub(crate) fn link(from_at: impl AsFd, from: &[u8], to_at: impl AsFd, to: &[u8]) -> Result<()> {
    call("linkat", || fs::linkat(from_at.as_fd(), from, to_at.as_fd(), to, AtFlags::empty()))
}

pub(crate) fn remove_file(at: impl AsFd, name: &[u8]) -> Result<()> {
    call("unlinkat", || fs::unlinkat(at.as_fd(), name, AtFlags::empty()))
}

pub(crate) fn remove_directory(at: impl AsFd, name: &[u8]) -> Result<()> {
    call("unlinkat", || fs::unlinkat(at.as_fd(), name, AtFlags::REMOVEDIR))
}

/// Changes the mode of an open file or directory, or of what a reference refers to.
pub(crate) fn set_mode(fd: impl AsFd, mode: u32) -> Result<()> {
    let mode = Mode::from_raw_mode(mode);
    match call("fchmod", || fs::fchmod(fd.as_fd(), mode)) {
        Err(Errno::BADF) => call("fchmodat", || fs::chmodat(CWD, path_of(&fd), mode, AtFlags::empty())),
        result => result,
    }
}

/// The way through /proc to what a reference (O_PATH) refers to, for calls that take no reference: the only one that
/// works on every kernel (open(2)). It ends at the inode that is held, whatever happens to its names.
fn path_of(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Changes owner and group of what a descriptor or a reference refers to, a link included.
pub(crate) fn set_owner(fd: impl AsFd, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
    call("fchownat", || fs::chownat(fd.as_fd(), "", uid, gid, AtFlags::EMPTY_PATH))
}

pub(crate) fn set_times(fd: impl AsFd, atime: Timespec, mtime: Timespec) -> Result<()> {
    let times = Timestamps { last_access: atime, last_modification: mtime };
    call("utimensat", || fs::futimens(fd.as_fd(), &times))
}

/// Changes the times of what a reference refers to, a link included (Linux 5.8).
pub(crate) fn set_times_of_reference(fd: impl AsFd, atime: Timespec, mtime: Timespec) -> Result<()> {
    let times = Timestamps { last_access: atime, last_modification: mtime };
    call("utimensat", || fs::utimensat(fd.as_fd(), "", &times, AtFlags::EMPTY_PATH))
}

/// Names of all extended attributes, each followed by NUL; empty where the filesystem has none.
pub(crate) fn attribute_names(fd: impl AsFd) -> Result<Vec<u8>> {
    let mut small = [0; 256];
    match call("flistxattr", || fs::flistxattr(fd.as_fd(), &mut small[..])) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut names = vec![0; ATTRIBUTE_SIZE_MAX];
            let length = call("flistxattr", || fs::flistxattr(fd.as_fd(), &mut names[..]))?;
            names.truncate(length);
            Ok(names)
        }
        Err(errno) => Err(errno),
    }
}

/// The value of an extended attribute of an open file or of what a reference refers to.
pub(crate) fn attribute(fd: impl AsFd, name: &[u8]) -> Result<Vec<u8>> {
    let mut value = vec![0; ATTRIBUTE_SIZE_MAX];
    let length = match call("fgetxattr", || fs::fgetxattr(fd.as_fd(), name, &mut value[..])) {
        Err(Errno::BADF) => call("getxattr", || fs::getxattr(path_of(&fd), name, &mut value[..]))?,
        result => result?,
    };
    value.truncate(length);
    Ok(value)
}

pub(crate) fn set_attribute(fd: impl AsFd, name: &[u8], value: &[u8]) -> Result<()> {
    call("fsetxattr", || fs::fsetxattr(fd.as_fd(), name, value, fs::XattrFlags::empty()))
}

/// Removes an extended attribute of an open file or of what a reference refers to.
pub(crate) fn remove_attribute(fd: impl AsFd, name: &[u8]) -> Result<()> {
    match call("fremovexattr", || fs::fremovexattr(fd.as_fd(), name)) {
        Err(Errno::BADF) => call("removexattr", || fs::removexattr(path_of(&fd), name)),
        result => result,
    }
}

pub(crate) fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    call("pread", || rustix::io::pread(fd.as_fd(), &mut *buffer, offset))
}

pub(crate) fn write_at(fd: impl AsFd, bytes: &[u8], offset: u64) -> Result<usize> {
    call("pwrite", || rustix::io::pwrite(fd.as_fd(), bytes, offset))
}

/// Lets the kernel copy `length` bytes at `offset` of one file to the same place in the other.
pub(crate) fn copy_range(from: impl AsFd, to: impl AsFd, offset: u64, length: usize) -> Result<usize> {
    call("copy_file_range", || {
        let (mut from_offset, mut to_offset) = (offset, offset);
        fs::copy_file_range(from.as_fd(), Some(&mut from_offset), to.as_fd(), Some(&mut to_offset), length)
    })
}

/// Shares the whole content of `from` with `to` (FICLONE), where the filesystem can.
pub(crate) fn share_content(from: impl AsFd, to: impl AsFd) -> Result<()> {
    call("ioctl", || fs::ioctl_ficlone(to.as_fd(), from.as_fd()))
}

/// Offset of the next data at or after `offset`; ENXIO if there is none.
pub(crate) fn next_data(fd: impl AsFd, offset: u64) -> Result<u64> {
    call("lseek", || fs::seek(fd.as_fd(), fs::SeekFrom::Data(offset)))
}

/// Offset of the next hole at or after `offset`; the end of the file counts as one.
pub(crate) fn next_hole(fd: impl AsFd, offset: u64) -> Result<u64> {
    call("lseek", || fs::seek(fd.as_fd(), fs::SeekFrom::Hole(offset)))
}

pub(crate) fn set_size(fd: impl AsFd, size: u64) -> Result<()> {
    call("ftruncate", || fs::ftruncate(fd.as_fd(), size))
}

pub(crate) fn sync(fd: impl AsFd) -> Result<()> {
    call("fsync", || if fault::is_pretending() { Ok(()) } else { fs::fsync(fd.as_fd()) })
}

/// Lets the kernel forget what it has cached of a file that is on the disk, where it can.
pub(crate) fn drop_cache(fd: impl AsFd) -> Result<()> {
    call("fadvise64", || fs::fadvise(fd.as_fd(), 0, None, fs::Advice::DontNeed))
}

/// Writes out the whole filesystem of `fd`; reports errors since it was opened (Linux 5.8).
pub(crate) fn sync_filesystem(fd: impl AsFd) -> Result<()> {
    call("syncfs", || if fault::is_pretending() { Ok(()) } else { fs::syncfs(fd.as_fd()) })
}

/// Closes a file that was written, and says what close(2) says: NFS and quotas report late.
pub(crate) fn close(fd: OwnedFd) -> Result<()> {
    // close(2) must not be repeated: the descriptor is gone also when it was interrupted.
    let injected = fault::point("close");
    let closed = nix::unistd::close(fd).map_err(|errno| Errno::from_raw_os_error(errno as i32));
    match injected.and(closed) {
        Err(Errno::INTR) => Ok(()),
        result => result,
    }
}

/// Calls `visit` with each name in the open directory `fd`, `.` and `..` apart.
pub(crate) fn list(fd: BorrowedFd<'_>, mut visit: impl FnMut(&[u8], Kind) -> Result<()>) -> Result<()> {
    let mut buffer = Box::<[u8]>::new_uninit_slice(ENTRIES_SIZE);
    let mut entries = fs::RawDir::new(fd, &mut buffer);
    loop {
        if entries.is_buffer_empty() {
            call("getdents64", || Ok(()))?;
        }
        match entries.next() {
            None => return Ok(()),
            Some(Err(Errno::INTR)) => {}
            Some(Err(errno)) => return Err(errno),
            Some(Ok(entry)) => {
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    visit(name, fault::kind(entry.file_type().into()))?;
                }
            }
        }
    }
}

/// Makes calls fail, or lets something happen just before them. In the program it is nothing at all.
#[cfg(not(test))]
mod fault {
    #[inline(always)]
    #[expect(clippy::unnecessary_wraps, clippy::inline_always, reason = "the tests' form of it can fail")]
    pub(super) fn point(_: &'static str) -> super::Result<()> {
        Ok(())
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the condition goes away")]
    pub(super) fn is_pretending() -> bool {
        false
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it does nothing")]
    pub(super) fn kind(listed: super::Kind) -> super::Kind {
        listed
    }
}

/// Makes the n-th call of this thread fail, or lets a test change the world just before it.
#[cfg(test)]
pub(crate) mod fault {
    use super::{Errno, Kind};
    use std::cell::{Cell, RefCell};

    /// What happens at a call.
    pub(crate) type Plan = Box<dyn FnMut(u32, &'static str) -> super::Result<()>>;

    #[derive(Default)]
    struct State {
        calls: u32,
        plan: Option<Plan>,
        pretending: bool,
    }

    thread_local! {
        static STATE: RefCell<State> = RefCell::default();
        static KINDS_HIDDEN: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn point(name: &'static str) -> super::Result<()> {
        // The plan is taken out while it runs: it may make calls of its own, which are not counted.
        let Some((calls, mut plan)) = STATE.with_borrow_mut(|state| {
            let plan = state.plan.take()?;
            state.calls += 1;
            Some((state.calls, plan))
        }) else {
            return Ok(());
        };
        let result = plan(calls, name);
        STATE.with_borrow_mut(|state| state.plan = Some(plan));
        result
    }

    /// Whether the disk is left out of it: thousands of runs would wait for it.
    pub(super) fn is_pretending() -> bool {
        STATE.with_borrow(|state| state.pretending)
    }

    /// What a listing says of an entry.
    pub(super) fn kind(listed: Kind) -> Kind {
        if KINDS_HIDDEN.get() { Kind::Unknown } else { listed }
    }

    /// Runs `action` as if on a filesystem whose listings say nothing of kinds.
    pub(crate) fn without_kinds<T>(action: impl FnOnce() -> T) -> T {
        KINDS_HIDDEN.set(true);
        let result = action();
        KINDS_HIDDEN.set(false);
        result
    }

    /// Runs `action` with a plan in force in this thread; returns its result and the number of calls.
    pub(crate) fn with<T>(plan: Plan, action: impl FnOnce() -> T) -> (T, u32) {
        run(State { calls: 0, plan: Some(plan), pretending: true }, action)
    }

    /// As [`with`], and what is to be on the disk is brought there.
    pub(crate) fn with_disk<T>(plan: Plan, action: impl FnOnce() -> T) -> (T, u32) {
        run(State { calls: 0, plan: Some(plan), pretending: false }, action)
    }

    fn run<T>(planned: State, action: impl FnOnce() -> T) -> (T, u32) {
        STATE.with_borrow_mut(|state| *state = planned);
        let result = action();
        (result, STATE.take().calls)
    }

    /// Lets every call of this name fail with `errno`.
    pub(crate) fn fail_all(name: &'static str, errno: Errno) -> Plan {
        Box::new(move |_, called| if called == name { Err(errno) } else { Ok(()) })
    }

    /// Lets the n-th call, counted from 1, fail with `errno`.
    pub(crate) fn fail(n: u32, errno: Errno) -> Plan {
        Box::new(move |call, _| if call == n { Err(errno) } else { Ok(()) })
    }
}
