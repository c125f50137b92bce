//! Who waits for something that has to happen first: a reload, or that all was read.

use std::time::{Duration, Instant};

use control::api::{Done, Reloaded, SyncBody};
use control::{Answering, Peer, Refusal};
use engine::Seconds;
use watcher::Turn;

use super::Reply;
use crate::action::Report;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::daemon::report::test_warnings;
use crate::daemon::shutdown::State;
use crate::daemon::start::state_directory;
use crate::lane::{LaneId, NotPerformed, Once, Size};

/// The longest wait that is understood; longer ones are cut.
const WAIT_MAX: Duration = Duration::from_secs(365 * 86_400);

/// How long whoever asked for a reload waits for the config test, which may look at many directories and ask for users.
const EXAMINATION_MAX: Duration = Duration::from_secs(10);
const NOT_EXAMINED: &str = "the config test takes too long to be waited for, see pyinotifyd -t";

/// Who waits for reloads.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Reloads {
    /// For the next one.
    next: Vec<Reply>,
    /// For the one that goes on.
    current: Vec<Reply>,
    /// For what a config test says of one that is done.
    examined: Vec<Examined>,
    examinations: u64,
}

/// A configuration that has taken over, and is looked at as by a config test.
#[derive(Debug)]
struct Examined {
    number: u64,
    reloaded: Reloaded,
    replies: Vec<Reply>,
    until: Instant,
}

impl Examined {
    fn answer(self, warnings: Vec<String>) {
        let reloaded = Reloaded { warnings, ..self.reloaded };
        for reply in self.replies {
            let _ = reply.send(Ok(Answering::of(reloaded.clone())));
        }
    }
}

impl Reloads {
    /// A config file begins to be executed: it is as those want it who wait by now.
    pub(in crate::daemon) fn begin(&mut self) {
        self.current.append(&mut self.next);
    }

    /// Whether somebody waits for the one that goes on.
    pub(in crate::daemon) fn is_awaited(&self) -> bool {
        !self.current.is_empty()
    }

    /// When somebody has waited for a config test for long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.examined.iter().map(|examined| examined.until).min()
    }

    /// It came to its end.
    pub(in crate::daemon) fn finish(&mut self, outcome: &Result<Reloaded, String>) {
        for reply in self.current.drain(..) {
            let answer = match outcome {
                Ok(reloaded) => Ok(Answering::of(reloaded.clone())),
                Err(error) => Err(Refusal::conflict(error.clone())),
            };
            let _ = reply.send(answer);
        }
    }

    /// None comes any more.
    pub(super) fn end(&mut self) {
        self.next.clear();
        self.current.clear();
        self.examined.clear();
    }
}

/// Somebody who waits until what happened before was read.
#[derive(Debug)]
pub(super) struct Sync {
    reply: Reply,
    /// And until no task is left.
    idle: bool,
    /// Then as many events have been told as can have been queued, however long the queue stays.
    events: u64,
    /// What was read is known to be all.
    has_read: bool,
    timeout: Option<(Duration, Instant)>,
}

impl Sync {
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        self.timeout.map(|(_, at)| at)
    }
}

impl Daemon {
    pub(super) fn reload_for(
        &mut self,
        peer: Peer,
        reply: Reply,
    ) -> Option<(Result<Answering, Refusal>, Reply)> {
        if self.state != State::Running {
            return Some((Err(Refusal::unavailable("the daemon ends")), reply));
        }
        self.say_change(peer, format_args!("reload config file"));
        self.control.reloads.next.push(reply);
        self.reload_config();
        None
    }

    /// Answers a reload that is done, as soon as a lane has looked what a config test would warn of.
    pub(in crate::daemon) fn answer_examined(&mut self, reloaded: Reloaded, config: Config, now: Instant) {
        let reloads = &mut self.control.reloads;
        let (number, replies) = (reloads.examinations, std::mem::take(&mut reloads.current));
        reloads.examinations += 1;
        reloads.examined.push(Examined { number, reloaded, replies, until: now + EXAMINATION_MAX });
        let state = state_directory(&self.options, &config);
        let run = move || {
            let said = config.warnings.iter().cloned();
            let all = said.chain(test_warnings(&config, state.as_deref())).collect();
            Report::Examined(number, all)
        };
        let not_performed = move |_: NotPerformed| Report::Examined(number, vec![NOT_EXAMINED.to_owned()]);
        let work = Once::new("test the config file".to_owned(), run, not_performed);
        self.core.performer.lanes.submit(LaneId::Users, Size::Large, work, now);
    }

    /// What a config test says of a configuration.
    pub(in crate::daemon) fn has_examined(&mut self, number: u64, warnings: Vec<String>) {
        let all = &mut self.control.reloads.examined;
        if let Some(at) = all.iter().position(|examined| examined.number == number) {
            all.swap_remove(at).answer(warnings);
        }
    }

    /// Answers those who have waited for a config test for long enough.
    pub(super) fn advance_examined(&mut self, now: Instant) {
        let all = &mut self.control.reloads.examined;
        for examined in all.extract_if(.., |examined| examined.until <= now) {
            examined.answer(vec![NOT_EXAMINED.to_owned()]);
        }
    }

    pub(super) fn wait_for_sync(&mut self, body: SyncBody, reply: Reply, now: Instant) {
        let timeout = body.timeout.map(|timeout| {
            let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(WAIT_MAX).min(WAIT_MAX);
            (timeout, now + timeout)
        });
        let events = self.watcher.events_after_all();
        self.control.syncs.push(Sync { reply, idle: body.idle, events, has_read: false, timeout });
    }

    /// Answers those whose wait is over. `events` is what the watcher's turn has left.
    pub(super) fn advance_syncs(&mut self, events: Turn, now: Instant) {
        if self.control.syncs.is_empty() {
            return;
        }
        let is_quiet = events == Turn::Idle && self.watcher.is_quiet();
        let told = self.watcher.stats().events;
        let is_idle = self.core.engine.is_idle();
        for mut sync in std::mem::take(&mut self.control.syncs) {
            sync.has_read |= is_quiet || told >= sync.events;
            if sync.has_read && (is_idle || !sync.idle) {
                let _ = sync.reply.send(Ok(Answering::of(Done::default())));
            } else if let Some((timeout, _)) = sync.timeout.filter(|(_, at)| *at <= now) {
                let _ = sync.reply.send(Err(self.in_vain(timeout, sync.has_read)));
            } else if !sync.reply.is_closed() {
                self.control.syncs.push(sync);
            }
        }
    }

    fn in_vain(&self, timeout: Duration, has_read: bool) -> Refusal {
        let timeout = Seconds(timeout);
        if !has_read {
            return Refusal::unavailable(format!("not all changes were read within {timeout} s"));
        }
        let stats = self.core.engine.stats();
        let (waiting, queued, running) = (stats.waiting, stats.queued, stats.running);
        let text =
            format!("not idle within {timeout} s: {waiting} tasks wait, {queued} are queued, {running} run");
        Refusal::unavailable(text)
    }
}
