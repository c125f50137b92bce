//! The inotify calls, and the limits behind their errors.
//!
//! Owns the descriptor. Knows nothing of trees: it turns a descriptor or path into a wd, and an errno into one of the
//! few things that can follow from it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::CreateFlags as EpollFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::path::DecInt;

use crate::error::Error;

/// The inotify instance.
#[derive(Debug)]
pub(crate) struct Kernel {
    fd: OwnedFd,
    /// Kept between calls so that no call allocates.
    proc_path: Vec<u8>,
}

/// A limit of the kernel, as a person finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Its name for sysctl(8).
    pub name: &'static str,
    /// Its value now.
    pub value: u64,
}

/// What an errno of inotify_add_watch(2) or open(2) means for the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is gone, or is no directory any more: no fault at all.
    Gone,
    /// A limit of the user or the system: to be tried again.
    Limit,
    /// Our rights: to be tried again when they change.
    Forbidden,
    /// Anything else: told, not tried again.
    Other,
}

impl Refusal {
    pub(crate) fn of(errno: Errno) -> Refusal {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE => Refusal::Gone,
            Errno::NOSPC | Errno::NOMEM | Errno::MFILE | Errno::NFILE => Refusal::Limit,
            Errno::ACCESS | Errno::PERM => Refusal::Forbidden,
            _ => Refusal::Other,
        }
    }
}

impl Kernel {
    pub(crate) fn new() -> Result<Kernel, Error> {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(fd) => Ok(Kernel { fd, proc_path: Vec::new() }),
            // The same error for two limits: of the process and of the user.
            Err(Errno::MFILE) if rustix::event::epoll::create(EpollFlags::CLOEXEC).is_err() => {
                Err(Error::DescriptorLimit)
            }
            Err(Errno::MFILE) => {
                let Sysctl { name, value } = instances_max();
                Err(Error::InstanceLimit { sysctl: name, value })
            }
            Err(errno) => Err(Error::Init(errno)),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Watches the open object, whatever its path is by now. Adds `mask` to what is watched already: another root may
    /// be watching the same inode, and a plain call would replace its mask.
    pub(crate) fn add(&mut self, object: BorrowedFd<'_>, mask: u32) -> Result<i32, Errno> {
        self.call(object, mask | WatchFlags::MASK_ADD.bits())
    }

    /// Sets the mask of the open object, which may become narrower by it.
    pub(crate) fn replace(&mut self, object: BorrowedFd<'_>, mask: u32) -> Result<i32, Errno> {
        self.call(object, mask)
    }

    fn call(&mut self, object: BorrowedFd<'_>, mask: u32) -> Result<i32, Errno> {
        // inotify has no call that takes a descriptor; its link in /proc leads to the very inode.
        self.proc_path.clear();
        self.proc_path.extend_from_slice(b"/proc/self/fd/");
        self.proc_path.extend_from_slice(DecInt::from_fd(object).as_bytes_with_nul());
        let path = CStr::from_bytes_with_nul(&self.proc_path).expect("a number holds no NUL");
        inotify::add_watch(&self.fd, path, WatchFlags::from_bits_retain(mask))
    }

    /// Ends a watch. Its events that are queued still come, then IN_IGNORED (K8).
    pub(crate) fn remove(&self, wd: i32) {
        // EINVAL: the kernel has ended the watch already, which is what was wanted.
        let _ = inotify::remove_watch(&self.fd, wd);
    }

    /// Bytes that are queued.
    pub(crate) fn queued_bytes(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.fd).unwrap_or(0)
    }

    /// Reads what is queued; `AGAIN` if nothing is.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }
}

/// The limit that keeps further watches from being added.
pub fn watches_max() -> Sysctl {
    smaller("fs.inotify.max_user_watches", "user.max_inotify_watches")
}

fn instances_max() -> Sysctl {
    smaller("fs.inotify.max_user_instances", "user.max_inotify_instances")
}

/// Length of the kernel's queue; its default where /proc doesn't say.
pub(crate) fn queue_max() -> u64 {
    read_sysctl("fs.inotify.max_queued_events").map_or(16_384, |sysctl| sysctl.value)
}

/// Two sysctls bound the same thing: one for the machine, one for the user namespace. The smaller one has bitten.
fn smaller(machine: &'static str, namespace: &'static str) -> Sysctl {
    let both = [read_sysctl(namespace), read_sysctl(machine)];
    both.into_iter().flatten().min_by_key(|sysctl| sysctl.value).unwrap_or(Sysctl { name: machine, value: 0 })
}

fn read_sysctl(name: &'static str) -> Option<Sysctl> {
    let text = std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(Sysctl { name, value: text.trim().parse().ok()? })
}
