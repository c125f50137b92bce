//! Read leases: whether anybody has a file open for writing, and a moment in which nobody can.
//!
//! The question has one reliable answer in Linux: a read lease (`F_SETLEASE` with `F_RDLCK`, fcntl(2)) is refused with
//! `EAGAIN` while a writer exists. Neither rustix nor nix wraps it.
//!
//! Leaves to the caller: opening the file (read only, without following links, without blocking) and what to do where
//! leases are not to be had.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// What a look at a file's writers found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Nobody has the file open for writing.
    None,
    /// Somebody has the file open for writing, or is about to.
    Some,
    /// The filesystem or our rights don't allow leases (`EINVAL`, `EACCES`): unknown.
    Unknown,
}

/// Which signal tells of a broken lease; `<asm-generic/fcntl.h>`, the same on every architecture that Rust's Linux
/// targets of tier 1 and 2 have. libc does not export it.
const F_SETSIG: libc::c_int = 10;

/// Whether somebody has the regular file behind `file` open for writing. `file` is open for reading only.
///
/// The lease is held for a few microseconds. A writer who comes in that time waits for its end.
pub fn writers(file: BorrowedFd<'_>) -> Writers {
    match take(file) {
        Attempt::Taken(_) => Writers::None,
        Attempt::Writers => Writers::Some,
        Attempt::Refused => Writers::Unknown,
    }
}

/// How an attempt to take a lease ended.
#[derive(Debug)]
pub enum Attempt<'a> {
    /// Nobody has the file open for writing, and nobody can open it for writing, until the lease is dropped.
    Taken(Lease<'a>),
    /// Somebody has the file open for writing, or is about to.
    Writers,
    /// The filesystem or our rights don't allow leases (`EINVAL`, `EACCES`).
    Refused,
}

/// A read lease on a regular file. Who opens the file for writing waits until it is dropped, at most
/// `/proc/sys/fs/lease-break-time` seconds; so hold it for a few system calls only.
#[derive(Debug)]
pub struct Lease<'a>(BorrowedFd<'a>);

impl Lease<'_> {
    /// Whether somebody waits for the end of the lease, to write to the file, or has had it ended.
    pub fn is_contested(&self) -> bool {
        fcntl(self.0, libc::F_GETLEASE, 0).is_ok_and(|lease| lease != libc::F_RDLCK)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Cannot fail on a lease that is held; if it did, closing the file gives the lease up as well.
        let _ = fcntl(self.0, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

/// Takes a read lease on the regular file behind `file`, which is open for reading only.
///
/// The kernel tells the holder of a writer by a signal, which is set to SIGURG because that one is ignored by default,
/// where the customary SIGIO would end the process.
pub fn take(file: BorrowedFd<'_>) -> Attempt<'_> {
    // On failure SIGIO would stay in force, so that no lease may be taken.
    if fcntl(file, F_SETSIG, libc::SIGURG).is_err() {
        return Attempt::Refused;
    }
    match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(_) => Attempt::Taken(Lease(file)),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Attempt::Writers,
        Err(_) => Attempt::Refused,
    }
}

/// fcntl(2) for commands whose argument, if any, is an integer.
#[expect(unsafe_code, reason = "no safe wrapper of leases and F_SETSIG exists in rustix or nix")]
fn fcntl(file: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is open for the whole call because it is borrowed; all commands take an int or nothing and
    // touch no memory of this process.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_writer_is_seen_as_long_as_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert_eq!(writers(reader.as_fd()), Writers::Some);
        drop(writer);
        assert_eq!(writers(reader.as_fd()), Writers::None);
        let appender = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(writers(reader.as_fd()), Writers::Some);
        drop(appender);
        assert_eq!(writers(reader.as_fd()), Writers::None);
    }

    #[test]
    fn readers_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        drop(File::create(&path).unwrap());
        let (_other, reader) = (File::open(&path).unwrap(), File::open(&path).unwrap());
        assert_eq!(writers(reader.as_fd()), Writers::None);
    }

    #[test]
    fn what_can_hold_no_lease_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(writers(File::open(dir.path()).unwrap().as_fd()), Writers::Unknown);
    }

    #[test]
    fn a_lease_keeps_writers_out_and_tells_of_the_one_who_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        drop(File::create(&path).unwrap());
        let reader = File::open(&path).unwrap();
        let Attempt::Taken(lease) = take(reader.as_fd()) else { panic!("nobody writes") };
        assert!(!lease.is_contested());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| OpenOptions::new().append(true).open(&path).unwrap());
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while !lease.is_contested() {
                assert!(std::time::Instant::now() < deadline, "the writer is not told of");
                std::thread::yield_now();
            }
            assert!(!writer.is_finished());
            drop(lease);
            let _writer = writer.join().unwrap();
            assert!(matches!(take(reader.as_fd()), Attempt::Writers));
        });
    }

    /// The signal of a broken lease must not end the process; the default action of SIGIO would.
    #[test]
    fn writers_that_break_leases_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        drop(File::create(&path).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    drop(OpenOptions::new().write(true).open(&path).unwrap());
                }
            });
            let reader = File::open(&path).unwrap();
            for _ in 0..20_000 {
                writers(reader.as_fd());
            }
        });
    }
}
