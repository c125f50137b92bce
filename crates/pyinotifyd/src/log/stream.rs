//! A standard stream that is written to without ever waiting for its reader.
//!
//! A pipe or terminal is opened once more through `/proc/self/fd`, so that it can be non-blocking without changing
//! the descriptor that other programs share with us (`O_NONBLOCK` belongs to the open file description, open(2)). Where
//! that is refused, each write is asked for with poll(2) first and is no longer than `PIPE_BUF`, which cannot block
//! then.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// What may be written in one go where only poll(2) keeps us from blocking (`PIPE_BUF`, pipe(7)).
pub(super) const PIPE_BUF: usize = 4096;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The stream that the process was given.
    given: BorrowedFd<'static>,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// A regular file or a device that never makes a writer wait for long.
    Direct,
    /// Our own non-blocking description of the same pipe or terminal.
    Reopened(OwnedFd),
    /// A socket: `MSG_DONTWAIT` does it.
    Socket,
    /// Asked with poll(2) before each write.
    Polled,
    /// Nowhere, for tests.
    #[cfg(test)]
    Discard,
}

impl Stream {
    /// Of a standard stream.
    pub(crate) fn of(given: BorrowedFd<'static>) -> Stream {
        Stream { given, target: target(given) }
    }

    #[cfg(test)]
    pub(super) fn discard() -> Stream {
        Stream { given: rustix::stdio::stderr(), target: Target::Discard }
    }

    /// Writes as much as goes without waiting.
    ///
    /// # Errors
    /// `AGAIN`: the reader has to take something first; others as write(2).
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.target {
            Target::Direct => rustix::io::write(self.given, bytes),
            Target::Reopened(own) => rustix::io::write(own.as_fd(), bytes),
            Target::Socket => rustix::net::send(self.given, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Target::Polled => {
                if asked(self.given, PollFlags::OUT)?.is_empty() {
                    return Err(Errno::AGAIN);
                }
                rustix::io::write(self.given, &bytes[..bytes.len().min(PIPE_BUF)])
            }
            #[cfg(test)]
            Target::Discard => Err(Errno::AGAIN),
        }
    }

    /// What tells that the reader has taken something or is gone; `None` where there is nobody to wait for.
    pub(crate) fn waits_on(&self) -> Option<BorrowedFd<'_>> {
        match &self.target {
            Target::Direct => None,
            Target::Reopened(own) => Some(own.as_fd()),
            Target::Socket | Target::Polled => Some(self.given),
            #[cfg(test)]
            Target::Discard => None,
        }
    }

    /// Whether nobody can read it any more.
    pub(crate) fn is_closed(&self) -> bool {
        let gone = PollFlags::ERR | PollFlags::HUP;
        self.waits_on().is_some_and(|fd| asked(fd, PollFlags::empty()).is_ok_and(|is| is.intersects(gone)))
    }
}

/// What poll(2) says without waiting.
fn asked(fd: BorrowedFd<'_>, wanted: PollFlags) -> Result<PollFlags, Errno> {
    let mut fds = [PollFd::new(&fd, wanted)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(fds[0].revents())
}

fn target(given: BorrowedFd<'_>) -> Target {
    let Ok(stat) = rustix::fs::fstat(given) else { return Target::Direct };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => Target::Socket,
        FileType::Fifo | FileType::CharacterDevice => {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let own = format!("/proc/self/fd/{}", given.as_raw_fd());
            match rustix::fs::open(own, flags, Mode::empty()) {
                Ok(own) => Target::Reopened(own),
                Err(_) => Target::Polled,
            }
        }
        _ => Target::Direct,
    }
}
