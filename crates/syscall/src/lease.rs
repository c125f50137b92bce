//! Asks the kernel whether anybody has a file open for writing.
//!
//! The question has one reliable answer in Linux: a read lease (`F_SETLEASE` with `F_RDLCK`, fcntl(2)) is refused with
//! `EAGAIN` while a writer exists. Neither rustix nor nix wraps it.
//!
//! Leaves to the caller: opening the file (read only, without following links, without
//! blocking) and what to do where leases are not to be had.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// What a probe found.
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
/// The lease is held for a few microseconds. A writer who comes in that time waits for its end; the kernel then tells
/// the holder by a signal, which is set to SIGURG because that one is ignored by default, where the customary SIGIO
/// would end the process.
pub fn writers(file: BorrowedFd<'_>) -> Writers {
    // On failure SIGIO would stay in force, so that no lease may be taken.
    if fcntl(file, F_SETSIG, libc::SIGURG).is_err() {
        return Writers::Unknown;
    }
    match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {
            // Cannot fail on a lease that is held; if it did, closing `file` gives the lease up as well.
            let _ = fcntl(file, libc::F_SETLEASE, libc::F_UNLCK);
            Writers::None
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Writers::Some,
        Err(_) => Writers::Unknown,
    }
}

/// fcntl(2) for commands whose argument is an integer.
#[expect(unsafe_code, reason = "no safe wrapper of F_SETLEASE and F_SETSIG exists in rustix or nix")]
fn fcntl(file: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call because it is borrowed; both commands take an int and touch
    // no memory of this process.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
