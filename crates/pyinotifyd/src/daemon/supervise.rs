//! When to tell the service supervisor what: readiness, reloads, the end, the watchdog, a line of status.

use std::time::{Duration, Instant};

use crate::service::notify::Notifier;

/// The status line is renewed at most so often, and only when the loop wakes anyway.
const STATUS_PAUSE: Duration = Duration::from_secs(5);
/// While tasks may still end, the supervisor is asked for so much more time, in half of it again.
const EXTENSION: Duration = Duration::from_secs(20);

/// See the module's head. Without a supervisor everything here does nothing.
#[derive(Debug)]
pub(crate) struct Supervision {
    notifier: Notifier,
    watchdog_at: Option<Instant>,
    status_at: Instant,
    extend_at: Option<Instant>,
}

impl Supervision {
    /// Looks for a supervisor in the environment.
    pub(crate) fn new(now: Instant) -> Supervision {
        let notifier = Notifier::from_env();
        let watchdog_at = notifier.watchdog_interval().map(|_| now);
        Supervision { notifier, watchdog_at, status_at: now, extend_at: None }
    }

    /// The start or a reload is complete.
    pub(crate) fn ready(&self, status: &str) {
        self.notifier.ready(status);
    }

    /// A reload begins.
    pub(crate) fn reloading(&self) {
        self.notifier.reloading("reloading the config file");
    }

    /// The shutdown begins.
    pub(crate) fn stopping(&mut self, now: Instant) {
        self.notifier.stopping("waiting for tasks to end");
        self.extend_at = self.notifier.is_active().then_some(now);
    }

    /// One turn of the loop: the watchdog, more time, a fresh status.
    pub(crate) fn turn(&mut self, now: Instant, status: impl FnOnce() -> String) {
        if self.watchdog_at.is_some_and(|at| at <= now) {
            self.notifier.watchdog();
            self.watchdog_at = self.notifier.watchdog_interval().map(|interval| now + interval);
        }
        if self.extend_at.is_some_and(|at| at <= now) {
            self.notifier.extend_timeout(EXTENSION);
            self.extend_at = Some(now + EXTENSION / 2);
        }
        if self.notifier.is_active() && self.status_at <= now {
            self.notifier.status(&status());
            self.status_at = now + STATUS_PAUSE;
        }
    }

    /// When [`Supervision::turn`] has to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.watchdog_at, self.extend_at].into_iter().flatten().min()
    }
}
