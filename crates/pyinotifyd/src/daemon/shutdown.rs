//! The end, told as a story.
//!
//! A signal asks for it. New events make no tasks from then on; tasks that wait or run have the configuration's time to
//! end. When none is left, or the time is over and the last ones were stopped, hosts and whatever commands left behind are
//! asked to end, and after a grace forced to.

use std::time::Instant;

use rustix::process::Signal;

use super::children::signal_leftovers;
use super::perform::GRACE;
use super::{Daemon, leave};
use crate::log::record;

/// Where the daemon stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It works.
    Running,
    /// Tasks may end.
    ShuttingDown,
    /// All tasks have ended; processes are asked to.
    Ending {
        /// When they are forced to.
        force_at: Instant,
    },
}

impl State {
    /// When time alone moves it on.
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            State::Ending { force_at } => Some(force_at),
            State::Running | State::ShuttingDown => None,
        }
    }
}

impl Daemon {
    /// SIGTERM or SIGINT.
    pub(super) fn shutdown(&mut self, signal: &str, now: Instant) {
        let log = &mut self.core.performer.log;
        if self.state != State::Running {
            record!(log, self.logger, WARNING, "got signal {signal}, but shutdown already in progress");
            return;
        }
        record!(log, self.logger, INFO, "got signal {signal}, shutdown");
        self.state = State::ShuttingDown;
        self.supervision.stopping(now);
        if let Some(reload) = self.reload.take() {
            leave(&mut self.leaving, reload.loading.host, now);
        }
        self.core.engine.shutdown(now, &mut self.core.performer);
    }

    /// Goes on to the end of processes when the last task has ended.
    pub(super) fn advance_shutdown(&mut self, now: Instant) {
        if self.state != State::ShuttingDown || !self.core.engine.is_idle() {
            return;
        }
        for generation in &mut self.core.performer.generations {
            for watch in &generation.watches {
                let path = &watch.path_text;
                record!(
                    self.core.performer.log,
                    generation.logger,
                    DEBUG,
                    "stop listening for inotify events on '{path}'"
                );
            }
            if let Some(host) = generation.jobs.close() {
                leave(&mut self.leaving, host, now);
            }
        }
        signal_leftovers(Signal::TERM);
        self.state = State::Ending { force_at: now + GRACE };
    }

    /// Whether nothing of ours runs any more; after the grace it is made so.
    pub(super) fn has_ended(&mut self, now: Instant) -> bool {
        let State::Ending { force_at } = self.state else { return false };
        if now >= force_at {
            self.core.performer.commands.signal_all(Signal::KILL);
            for (host, _) in &self.leaving {
                host.kill(Signal::KILL);
            }
            signal_leftovers(Signal::KILL);
            return true;
        }
        self.leaving.is_empty()
            && self.core.performer.commands.running() == 0
            && signal_leftovers(Signal::CONT) == 0
    }
}
