//! Whose thread runs the loop.
//!
//! One thread at a time leads: it has the [`Daemon`] and runs its loop. When a file rule asks for something brief, the
//! leader does it itself, because to wake another thread costs several times as much as to rename a file. But a rename
//! can hang, on a network filesystem or a frozen disk, and the loop must never wait for a file. So
//!
//! 1. the leader puts the daemon on the [`Relay::seat`], sets the alarm to [`LATE`], works, and takes the daemon back;
//! 2. another thread stands by: it sleeps until the alarm goes off. If the daemon is on the seat then, it takes it and leads
//!    on. Nothing has been lost: what the late one works on is an order like any other, whose report comes in the end;
//! 3. the late one sees when it is back that another term has begun, and goes on as a file worker.
//!
//! The usual case costs two calls that set a timer, two that set a mask of signals, and wakes nobody.
//!
//! Only who leads hears signals, and not while it works on files: a signal waits for the thread that the kernel chose for it,
//! even if that one hangs.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use syscall::signals;
use tokio::runtime::Runtime;

use super::wake::set_timer;
use super::{Daemon, Next};
use crate::action::file::Share;

/// How long the leader may work on files. Longer than what it takes up in one go, so that a busy machine does not make it
/// late; and than the kernel's tick, since a timer further away costs less to set.
const LATE: Duration = Duration::from_millis(10);

/// Exit status after a bug, as the main thread's.
const EXIT_PANIC: i32 = 101;

/// What all threads know that may lead.
struct Relay {
    runtime: Runtime,
    seat: Mutex<Seat>,
    share: Share,
    alarm: OwnedFd,
    /// Somebody waits for the alarm.
    stands_by: AtomicBool,
}

/// Where the daemon is while its leader works on files.
#[derive(Default)]
struct Seat {
    daemon: Option<Box<Daemon>>,
    /// How many leaders there were before. Who led in an earlier term has no claim to the daemon, nor to the alarm.
    term: u64,
}

/// What a thread hears of signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hears {
    All,
    Nothing,
}

fn hear_signals(what: Hears) {
    let result = match what {
        Hears::All => signals::unblock(),
        Hears::Nothing => signals::block(),
    };
    result.expect("the mask of a thread takes every set of signals");
}

/// Runs the daemon to its end, led by this thread at first.
pub(super) fn run(runtime: Runtime, daemon: Daemon) -> ExitCode {
    let share = daemon.core.performer.files.share();
    let Ok(alarm) = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC) else {
        // Without an alarm the loop's thread leaves all files to the workers.
        return ExitCode::from(lead_alone(&runtime, daemon));
    };
    share.allow(Instant::now());
    let stands_by = AtomicBool::new(false);
    let relay = Arc::new(Relay { runtime, seat: Mutex::default(), share, alarm, stands_by });
    match relay.lead(Box::new(daemon), 0) {
        Some(status) => ExitCode::from(status),
        // Another thread leads on, and ends the process.
        None => loop {
            thread::park();
        },
    }
}

fn lead_alone(runtime: &Runtime, mut daemon: Daemon) -> u8 {
    loop {
        if let Next::End(status) = runtime.block_on(daemon.run()) {
            return status;
        }
    }
}

impl Relay {
    /// Leads until the daemon's end, and gives its exit status; or until somebody else does.
    fn lead(self: &Arc<Self>, mut daemon: Box<Daemon>, term: u64) -> Option<u8> {
        loop {
            match self.runtime.block_on(daemon.run()) {
                Next::End(status) => return Some(status),
                Next::Share => daemon = self.work(daemon, term)?,
            }
        }
    }

    /// Works on files; gives the daemon back, unless that took so long that somebody else has it.
    fn work(self: &Arc<Self>, daemon: Box<Daemon>, term: u64) -> Option<Box<Daemon>> {
        if !self.is_covered() {
            self.share.rest(Instant::now());
            return Some(daemon);
        }
        self.seat().daemon = Some(daemon);
        hear_signals(Hears::Nothing);
        set_timer(&self.alarm, Some(LATE));
        self.share.work();
        let Some(daemon) = self.back_from(term) else {
            self.share.go_on();
            return None;
        };
        set_timer(&self.alarm, None);
        hear_signals(Hears::All);
        Some(daemon)
    }

    /// The daemon, for the leader of a term that still lasts.
    fn back_from(&self, term: u64) -> Option<Box<Daemon>> {
        let mut seat = self.seat();
        if seat.term == term { seat.daemon.take() } else { None }
    }

    /// Whether somebody stands by; hires one if need be.
    fn is_covered(self: &Arc<Self>) -> bool {
        if self.stands_by.load(Ordering::Relaxed) {
            return true;
        }
        let relay = Arc::clone(self);
        let hired = thread::Builder::new().name("stand-by".into()).spawn(move || relay.stand_by());
        self.stands_by.store(hired.is_ok(), Ordering::Relaxed);
        hired.is_ok()
    }

    /// Waits until the leader is late, and leads on.
    fn stand_by(self: &Arc<Self>) {
        hear_signals(Hears::Nothing);
        loop {
            self.wait_for_alarm();
            let mut seat = self.seat();
            // The leader may have been back just before.
            let Some(daemon) = seat.daemon.take() else { continue };
            seat.term += 1;
            let term = seat.term;
            self.share.is_late(Instant::now());
            self.stands_by.store(false, Ordering::Relaxed);
            drop(seat);
            hear_signals(Hears::All);
            // The process must not go on without a leader.
            match catch_unwind(AssertUnwindSafe(|| self.lead(daemon, term))) {
                Ok(Some(status)) => std::process::exit(status.into()),
                Ok(None) => return,
                Err(_) => std::process::exit(EXIT_PANIC),
            }
        }
    }

    fn wait_for_alarm(&self) {
        let mut expirations = [0; 8];
        while let Err(Errno::INTR) = rustix::io::read(&self.alarm, &mut expirations) {}
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().expect("no thread panics while it holds this lock")
    }
}
