//! Everything that can wake the loop: a closed list.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::action::file::FileWorkers;
use crate::host::HostEvent;

/// Why the loop woke.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A signal that asks the daemon for something.
    Asked(Request),
    /// A child ended.
    Child,
    /// File workers have reports.
    Files,
    /// A host said something, or is gone.
    Host(HostEvent),
    /// The kernel has events.
    Events,
    /// Mounts have changed.
    Mounts,
    /// A deadline has come.
    Time,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGTERM or SIGINT, by name.
    Shutdown(&'static str),
    /// SIGHUP.
    Reload,
}

/// The signals that the daemon listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    child: Signal,
    /// A writer broke our read lease (fcntl(2)); the default action would end the daemon. Never waited for.
    _io: Signal,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// As sigaction(2).
    pub(crate) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
            _io: signal(SignalKind::io())?,
        })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Wake {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Wake::Asked(Request::Shutdown("SIGTERM")),
            _ = self.interrupt.recv() => Wake::Asked(Request::Shutdown("SIGINT")),
            _ = self.hangup.recv() => Wake::Asked(Request::Reload),
            _ = self.child.recv() => Wake::Child,
        }
    }
}

/// A descriptor of the watcher that the loop waits on.
#[derive(Debug)]
pub(crate) struct Source {
    fd: Arc<OwnedFd>,
    interest: Interest,
    /// `None` while nobody is to be woken.
    waiting: Option<AsyncFd<Arc<OwnedFd>>>,
}

impl Source {
    /// Waits for `interest` on a duplicate of the descriptor.
    ///
    /// # Errors
    /// As dup(2) and epoll_ctl(2).
    pub(crate) fn new(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<Source> {
        let fd = Arc::new(fd.try_clone_to_owned()?);
        Ok(Source { waiting: Some(register(&fd, interest)?), fd, interest })
    }

    /// Takes the descriptor off epoll until [`Source::listen`]. Not to ask for readiness would not do: epoll wakes its
    /// thread at each event of a registered descriptor.
    pub(crate) fn rest(&mut self) {
        self.waiting = None;
    }

    /// Waits for the descriptor again, and for what has come meanwhile; false if the kernel has no memory for it now.
    pub(crate) fn listen(&mut self) -> bool {
        if self.waiting.is_none() {
            self.waiting = register(&self.fd, self.interest).ok();
        }
        self.waiting.is_some()
    }

    async fn ready(&self) {
        let Some(waiting) = &self.waiting else { return std::future::pending().await };
        // Errors of epoll itself cannot be waited away; the next read tells. Readiness is cleared before the read: what
        // comes after it sets it again (the epoll edge).
        if let Ok(mut guard) = waiting.ready(self.interest).await {
            guard.clear_ready();
        }
    }
}

#[expect(
    deprecated,
    reason = "the safe constructor is deprecated for owners whose descriptor may change; this one keeps its own"
)]
fn register<T: std::os::fd::AsRawFd>(fd: &Arc<T>, interest: Interest) -> io::Result<AsyncFd<Arc<T>>> {
    AsyncFd::with_interest(Arc::clone(fd), interest)
}

/// The loop's one timer. The runtime's are good to a millisecond; the pause of a busy tree is no longer than that.
#[derive(Debug)]
pub(crate) struct Timer {
    source: Source,
    /// When the kernel's timer fires, if it does.
    armed: Option<Instant>,
}

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// As timerfd_create(2) and epoll_ctl(2).
    pub(crate) fn new() -> io::Result<Timer> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let source = Source::new(std::os::fd::AsFd::as_fd(&fd), Interest::READABLE)?;
        Ok(Timer { source, armed: None })
    }

    /// Completes when the time has come; never without one.
    async fn until(&mut self, deadline: Option<Instant>) {
        let Some(at) = deadline else { return std::future::pending().await };
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // Deadlines move on with each event. A timer that fires too early is set again then, which is rare.
            if self.armed.is_none_or(|armed| armed > at) {
                self.armed = Some(at);
                set(&self.source.fd, left);
            }
            self.source.ready().await;
            self.armed = None;
        }
    }
}

fn set(timer: &OwnedFd, left: Duration) {
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    // 32 bits of seconds are 136 years; the kernel adds them to its own time.
    let seconds = left.as_secs().min(u64::from(u32::MAX)).cast_signed();
    let value = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: value })
        .expect("a timer takes every time that is not negative");
}

/// All sources, borrowed for one wait.
pub(crate) struct Sources<'a> {
    /// Signals.
    pub signals: &'a mut Signals,
    /// Frames of all hosts.
    pub hosts: &'a mut mpsc::Receiver<HostEvent>,
    /// File workers.
    pub files: &'a FileWorkers,
    /// The kernel's queue; it rests while its reader pauses.
    pub events: &'a Source,
    /// The mount table.
    pub mounts: Option<&'a Source>,
    /// The timer, for `deadline`.
    pub timer: &'a mut Timer,
    /// When the loop has something to do by itself.
    pub deadline: Option<Instant>,
}

impl Sources<'_> {
    /// Waits for the first of them. Signals come first, so that a storm cannot delay them.
    pub(crate) async fn wait(self) -> Wake {
        let Sources { signals, hosts, files, events, mounts, timer, deadline } = self;
        tokio::select! {
            biased;
            wake = signals.next() => wake,
            () = files.reported() => Wake::Files,
            Some(event) = hosts.recv() => Wake::Host(event),
            () = timer.until(deadline) => Wake::Time,
            () = changed(mounts) => Wake::Mounts,
            () = events.ready() => Wake::Events,
        }
    }
}

async fn changed(source: Option<&Source>) {
    match source {
        Some(source) => source.ready().await,
        None => std::future::pending().await,
    }
}
