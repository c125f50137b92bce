//! The end, told as a story.
//!
//! A signal asks for it. What is queued by then is read; later events make no tasks. Tasks that wait or run have the
//! configuration's time to end. When none is left, or the time is over and the last ones were stopped, hosts are asked
//! to end; they have what is left of the time. Then whatever they and commands left behind is asked to end, and after a
//! grace forced to.

use std::time::Instant;

use rustix::process::{Pid, Signal};

use super::children::signal_leftovers;
use super::keep::Keeper;
use super::perform::GRACE;
use super::start::terminals;
use super::wake::EndSignal;
use super::{Daemon, leave};
use crate::action::undo::Refused;
use crate::cli::Source;
use crate::log::record;

/// Turns in which the kernel's queue is read before the end, at most: a second, and more than a full queue takes.
const LAST_TURNS: usize = 256;

/// Where the daemon stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It works.
    Running,
    /// Tasks may end.
    ShuttingDown,
    /// All tasks have ended; hosts end by themselves: callbacks, threads and handlers of the configuration have their
    /// turn.
    EndingHosts,
    /// All hosts have ended; what they and commands left behind is asked to.
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
            State::Running | State::ShuttingDown | State::EndingHosts => None,
        }
    }
}

impl Daemon {
    /// SIGTERM or SIGINT. Who sends SIGINT twice does not want to wait.
    pub(super) fn shutdown(&mut self, signal: EndSignal, now: Instant) {
        self.interrupts = self.interrupts.saturating_add(u8::from(signal == EndSignal::Int));
        let log = &mut self.core.performer.log;
        if self.state != State::Running {
            if self.interrupts == 2 && signal == EndSignal::Int {
                record!(log, self.logger, WARNING, "got signal SIGINT again, end at once");
                self.end_now(now);
                return;
            }
            record!(log, self.logger, WARNING, "got signal {signal}, but shutdown already in progress");
            return;
        }
        record!(log, self.logger, INFO, "got signal {signal}, shutdown");
        self.begin_end(now);
        if signal == EndSignal::Int && matches!(self.options.source, Source::Line(_)) {
            // Who has typed the line ends it by Ctrl-C, and waits for nothing.
            return self.end_now(now);
        }
        self.core.engine.shutdown(now, &mut self.core.performer);
    }

    /// SIGHUP where there is no config file: a terminal that was closed ends what was started on it.
    pub(super) fn hang_up(&mut self, now: Instant) {
        let log = &mut self.core.performer.log;
        if terminals() >= self.terminals {
            record!(log, self.logger, INFO, "got signal SIGHUP, but there is no config file to reload");
            return;
        }
        record!(log, self.logger, INFO, "got signal SIGHUP, the terminal is gone, shutdown");
        self.begin_end(now);
        self.end_now(now);
    }

    /// Begins the end: no reload, and the time that tasks have.
    pub(super) fn begin_end(&mut self, now: Instant) {
        self.state = State::ShuttingDown;
        self.supervision.stopping(now);
        self.end_waits();
        // What they wait for may end with the last of the time that there is.
        for number in self.core.performer.files.withdraw_undos() {
            self.undone(number, Vec::new(), Err(Refused::For("the daemon ends".to_owned())), now);
        }
        if let Some(reload) = self.reload.take() {
            // A file that is being executed has nothing to bring to an end.
            reload.loading.host.kill(Signal::TERM);
            leave(&mut self.leaving, reload.loading.host, now + GRACE);
        }
        self.read_up_to_now();
        let told = self.look_back(now);
        // From here on events make no tasks: for the next daemon they have not been handled.
        let complete = self.watcher.complete_until();
        if let Some(keeper) = &mut self.core.performer.keeper {
            keeper.end_checkpoints(complete, told);
        }
        for generation in &mut self.core.performer.generations {
            generation.begin_end(now);
        }
    }

    /// Tells the events that are queued now: they came before the daemon was asked to end.
    fn read_up_to_now(&mut self) {
        let queued = self.read_soon();
        for _ in 0..LAST_TURNS {
            if self.told() >= queued {
                return;
            }
            self.watcher.turn(Instant::now(), &mut self.core);
        }
    }

    /// Stops everything, with the time only that a process needs to end by SIGTERM.
    pub(super) fn end_now(&mut self, now: Instant) {
        for generation in &mut self.core.performer.generations {
            generation.end_now(now);
        }
        for (_, until) in &mut self.leaving {
            *until = (*until).min(now + GRACE);
        }
        self.core.performer.ends_at_once = true;
        self.core.engine.end_now(now, &mut self.core.performer);
    }

    /// Goes on to the end of hosts when the last task has ended, and then to that of what is left.
    pub(super) fn advance_shutdown(&mut self, now: Instant) {
        let keeper = self.core.performer.keeper.as_ref();
        let ends_others = keeper.is_some_and(Keeper::has_leftovers);
        if self.state == State::ShuttingDown && self.core.engine.is_idle() && !ends_others {
            self.end_hosts(now);
        }
        if self.state == State::EndingHosts && self.leaving.is_empty() {
            signal_leftovers(Signal::TERM, &[]);
            self.state = State::Ending { force_at: now + GRACE };
        }
    }

    /// Asks hosts to end, and what commands left behind.
    fn end_hosts(&mut self, now: Instant) {
        for place in 0..self.core.performer.generations.len() {
            self.say_end_of_listening(place, usize::MAX);
        }
        // What the hosts' handlers are to get goes before the word to end.
        self.core.performer.flush_hosts(now);
        for generation in &mut self.core.performer.generations {
            let until = generation.host_may_take_until(now);
            if let Some(host) = generation.jobs.close() {
                leave(&mut self.leaving, host, until);
            }
        }
        let hosts: Vec<Pid> = self.leaving.iter().map(|(host, _)| host.pid()).collect();
        signal_leftovers(Signal::TERM, &hosts);
        self.state = State::EndingHosts;
    }

    /// Whether nothing of ours runs any more; after the grace it is made so.
    pub(super) fn has_ended(&mut self, now: Instant) -> bool {
        let State::Ending { force_at } = self.state else { return false };
        if now >= force_at {
            self.core.performer.commands.signal_all(Signal::KILL);
            signal_leftovers(Signal::KILL, &[]);
            return true;
        }
        self.core.performer.commands.running() == 0 && signal_leftovers(Signal::CONT, &[]) == 0
    }
}
