//! Everything that can wake the loop: a closed list.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

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
pub(crate) struct Source(AsyncFd<OwnedFd>);

impl Source {
    /// Waits for `interest` on a duplicate of the descriptor.
    ///
    /// # Errors
    /// As dup(2) and epoll_ctl(2).
    #[expect(
        deprecated,
        reason = "the safe constructor is deprecated for owners whose descriptor may change; an OwnedFd keeps its own"
    )]
    pub(crate) fn new(fd: std::os::fd::BorrowedFd<'_>, interest: Interest) -> io::Result<Source> {
        Ok(Source(AsyncFd::with_interest(fd.try_clone_to_owned()?, interest)?))
    }

    async fn readable(&self) {
        // Errors of epoll itself cannot be waited away; the next read tells.
        if let Ok(mut guard) = self.0.readable().await {
            guard.clear_ready();
        }
    }

    async fn changed(&self) {
        if let Ok(mut guard) = self.0.ready(Interest::PRIORITY).await {
            guard.clear_ready();
        }
    }
}

/// All sources, borrowed for one wait.
pub(crate) struct Sources<'a> {
    /// Signals.
    pub signals: &'a mut Signals,
    /// Frames of all hosts.
    pub hosts: &'a mut mpsc::Receiver<HostEvent>,
    /// File workers.
    pub files: &'a FileWorkers,
    /// The kernel's queue; `None` while its reader pauses.
    pub events: Option<&'a Source>,
    /// The mount table.
    pub mounts: Option<&'a Source>,
    /// When the loop has something to do by itself.
    pub deadline: Option<Instant>,
}

impl Sources<'_> {
    /// Waits for the first of them. Signals come first, so that a storm cannot delay them.
    pub(crate) async fn wait(self) -> Wake {
        let Sources { signals, hosts, files, events, mounts, deadline } = self;
        tokio::select! {
            biased;
            wake = signals.next() => wake,
            () = files.reported() => Wake::Files,
            Some(event) = hosts.recv() => Wake::Host(event),
            () = until(deadline) => Wake::Time,
            () = changed(mounts) => Wake::Mounts,
            () = readable(events) => Wake::Events,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn readable(source: Option<&Source>) {
    match source {
        // Readiness is cleared before the read: what comes after it sets it again (the epoll edge).
        Some(source) => source.readable().await,
        None => std::future::pending().await,
    }
}

async fn changed(source: Option<&Source>) {
    match source {
        Some(source) => source.changed().await,
        None => std::future::pending().await,
    }
}
