//! What the control socket is asked, answered by the loop between two events.
//!
//! Most questions are answered at once ([`answers`], [`changes`]) from the state of the loop. Three take longer: a look
//! at all tasks, which goes on for some thousand a turn ([`work`]); a reload; and a reader of changes that waits until
//! all that happened before was read ([`waiting`]). [`listen`] owns the sockets. The numbers are those of
//! [`super::status`].
//!
//! Without a socket there is no server, no thread and nothing to wait for.

mod answers;
mod changes;
mod kept;
mod listen;
mod metrics;
mod waiting;
mod work;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Instant;

use control::api::{List, RefusedConfig, Selection};
use control::{Answering, Message, Peer, Question, Refusal};
use ledger::Glob;
use tokio::sync::oneshot;
use watcher::Turn;

use super::Daemon;
use super::generation::Action;
use crate::config::Identity;
use crate::log::{Escaped, LoggerId, record};

use listen::Listening;
use waiting::{Reloads, Sync};
use work::Work;

/// Whoever asked waits at the other end.
pub(super) type Reply = oneshot::Sender<Result<Answering, Refusal>>;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Control {
    listening: Listening,
    /// Looks at all tasks that are under way; the first one goes on.
    work: VecDeque<Work>,
    /// Who waits for reloads.
    pub(super) reloads: Reloads,
    syncs: Vec<Sync>,
    /// Events that people send for paths on filesystems that may not answer, by number.
    sends: changes::Sends,
    /// Questions about tasks that have ended, while the state is read.
    reads: kept::Reads,
    /// Schedulers that are paused until somebody resumes them, also those that no configuration has at present.
    pub(super) pauses: BTreeSet<Identity>,
    /// What the latest reload refused.
    pub(super) refused: Option<RefusedConfig>,
    /// Answers to changes that are being written.
    promises: Vec<kept::Promise>,
    logger: LoggerId,
}

impl Control {
    /// Nobody listens yet.
    pub(super) fn new(logger: LoggerId) -> Control {
        Control {
            listening: Listening::default(),
            work: VecDeque::new(),
            reloads: Reloads::default(),
            syncs: Vec::new(),
            sends: changes::Sends::default(),
            reads: kept::Reads::default(),
            pauses: BTreeSet::new(),
            refused: None,
            promises: Vec::new(),
            logger,
        }
    }

    /// The next message; never where nobody listens.
    pub(super) async fn next(&mut self) -> Message {
        self.listening.next().await
    }

    /// When somebody who waits has waited in vain.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let promises = self.promises.iter().map(kept::Promise::at_last);
        let waits = self.syncs.iter().filter_map(Sync::give_up_at).chain(self.reloads.deadline());
        waits.chain(promises).chain(self.reads.at_last()).chain(self.sends.at_last()).min()
    }
}

impl Daemon {
    /// Answers a question, or keeps it until it can be answered.
    pub(super) fn control_message(&mut self, message: Message, now: Instant) {
        let (question, peer, reply) = match message {
            Message::Question(question, peer, reply) => (question, peer, reply),
            Message::CutOff(peer) => {
                let log = &mut self.core.performer.log;
                record!(log, self.control.logger, WARNING, "a client that does not read is cut off ({peer})");
                return;
            }
            Message::TurnedAway { peer, unsaid } => return self.say_turned_away(peer, unsaid),
        };
        let is_kept = match question {
            Question::Run(_)
            | Question::Cancel(_)
            | Question::Retry(_)
            | Question::Forget(_)
            | Question::Pause(_)
            | Question::Resume(_) => true,
            Question::Status
            | Question::Health
            | Question::Metrics(_)
            | Question::Tasks(_)
            | Question::Failed(_)
            | Question::History(_)
            | Question::Undo(_)
            | Question::Send { .. }
            | Question::Rescan(_)
            | Question::Sync(_)
            | Question::Reload
            | Question::Events { .. } => false,
        };
        if let Some((answer, reply)) = self.answer(question, peer, reply, now) {
            if is_kept {
                self.answer_when_kept(answer, reply, now);
            } else {
                // A client that went away needs no answer.
                let _ = reply.send(answer);
            }
        }
    }

    /// The answer, unless it comes later.
    fn answer(
        &mut self,
        mut question: Question,
        peer: Peer,
        reply: Reply,
        now: Instant,
    ) -> Option<(Result<Answering, Refusal>, Reply)> {
        if let Err(refusal) = self.resolve_scheduler(&mut question) {
            return Some((Err(refusal), reply));
        }
        let answer = match question {
            Question::Status => Ok(Answering::of(self.status_view())),
            Question::Health => {
                self.health().map_or(Ok(Answering::Healthy), |why| Err(Refusal::unavailable(why)))
            }
            Question::Metrics(_) => Ok(Answering::Metrics(self.families(now))),
            Question::Tasks(filter) => {
                self.control.work.push_back(Work::list(filter, reply, now));
                return None;
            }
            Question::Failed(filter) => {
                let reply = self.list_ended(filter.clone(), true, reply, now)?;
                let none = List { tasks: Vec::new(), total: 0 };
                return Some((Ok(Answering::of(self.failed_view(&filter, none, now))), reply));
            }
            Question::History(filter) => {
                let reply = self.list_ended(filter, false, reply, now)?;
                return Some((Err(Refusal::conflict(NO_STATE)), reply));
            }
            Question::Undo(id) => {
                let reply = self.undo(id, peer, reply, now)?;
                return Some((Err(Refusal::conflict(NO_STATE)), reply));
            }
            Question::Run(selection) => return self.change(work::Verb::Run, selection, peer, reply, now),
            Question::Cancel(selection) => {
                return self.change(work::Verb::Cancel, selection, peer, reply, now);
            }
            Question::Retry(selection) => {
                return self.change_ended(kept::Verb::Retry, selection, peer, reply, now);
            }
            Question::Forget(selection) => {
                return self.change_ended(kept::Verb::Forget, selection, peer, reply, now);
            }
            Question::Pause(name) => self.pause(name.as_deref(), true, peer, now),
            Question::Resume(name) => self.pause(name.as_deref(), false, peer, now),
            Question::Send { path, event } => return self.send(&path, &event, peer, reply, now),
            Question::Rescan(paths) => self.rescan(&paths, peer, now),
            Question::Sync(body) => {
                self.wait_for_sync(body, reply, now);
                return None;
            }
            Question::Reload => return self.reload_for(peer, reply),
            Question::Events { tasks, path, .. } => {
                let (stream, answer) = Answering::stream();
                self.core.performer.observed.streams.add(stream, tasks, path.map(Glob));
                Ok(answer)
            }
        };
        Some((answer, reply))
    }

    /// Takes a scheduler that is asked about for the one that is meant, by what identifies it: a reload may change the
    /// name that it is shown by.
    fn resolve_scheduler(&self, question: &mut Question) -> Result<(), Refusal> {
        let asked = match question {
            Question::Tasks(filter) | Question::Failed(filter) | Question::History(filter) => {
                &mut filter.scheduler
            }
            Question::Run(selection)
            | Question::Cancel(selection)
            | Question::Retry(selection)
            | Question::Forget(selection) => match selection {
                Selection::Matching { scheduler, .. } => scheduler,
                Selection::Ids(_) | Selection::All => return Ok(()),
            },
            Question::Pause(name) | Question::Resume(name) => name,
            Question::Status
            | Question::Health
            | Question::Metrics(_)
            | Question::Undo(_)
            | Question::Send { .. }
            | Question::Rescan(_)
            | Question::Sync(_)
            | Question::Reload
            | Question::Events { .. } => return Ok(()),
        };
        let Some(asked) = asked else { return Ok(()) };
        if let Some(action) = self.scheduler_asked_for(asked)? {
            *asked = action.identity.to_string();
        }
        Ok(())
    }

    /// The scheduler that somebody names, as it is shown or as `FILE/NAME`.
    fn scheduler_asked_for(&self, asked: &str) -> Result<Option<&Action>, Refusal> {
        let is_it = |action: &&Action| *action.name == *asked || action.identity.is(asked);
        for generation in self.by_rank() {
            if let Some(action) = generation.actions().iter().find(is_it) {
                return Ok(Some(action));
            }
            let namesakes = generation.actions().iter().filter(|action| *action.identity.name == *asked);
            let names: Vec<&str> = namesakes.map(|action| &*action.name).collect();
            if !names.is_empty() {
                return Err(ambiguous(asked, &names));
            }
        }
        Ok(None)
    }

    /// Goes on with what takes longer than a turn; true if there is more to do at once.
    pub(super) fn advance_control(&mut self, events: Turn, now: Instant) -> bool {
        self.advance_syncs(events, now);
        self.advance_examined(now);
        self.control.sends.refuse_late(now);
        self.advance_work(now)
    }

    /// The daemon ends: who still waits for something that will not come hears of it.
    pub(super) fn end_waits(&mut self) {
        self.control.syncs.clear();
        self.control.promises.drain(..).for_each(kept::Promise::give);
        self.control.reloads.end();
    }

    /// The daemon has ended: streams end too, with what became of the last tasks.
    pub(super) fn end_streams(&mut self) {
        if self.core.performer.observed.streams.end() {
            self.control.listening.end_socket();
        }
    }

    /// Notes in the log that somebody came who may not ask.
    fn say_turned_away(&mut self, peer: Peer, unsaid: u64) {
        let log = &mut self.core.performer.log;
        let more = if unsaid > 0 { format!("; {unsaid} more since this was said") } else { String::new() };
        record!(
            log,
            self.control.logger,
            WARNING,
            "a client is refused ({peer}), it is neither root nor the daemon's user nor in control_group{more}"
        );
    }

    /// Notes a change in the log, with who made it.
    fn say_change(&mut self, peer: Peer, what: fmt::Arguments<'_>) {
        let text = what.to_string();
        let text = Escaped(text.as_bytes());
        record!(self.core.performer.log, self.control.logger, INFO, "{text}, asked by {peer}");
    }
}

/// What is answered where only a state could know.
const NO_STATE: &str =
    "this needs a state: Pyinotifyd(state=DIRECTORY), --state or StateDirectory= of the unit";

/// A scheduler's name may mean any of several.
fn ambiguous(asked: &str, names: &[&str]) -> Refusal {
    let (asked, names) = (asked.escape_debug(), names.join(", "));
    Refusal::bad_request(format!("more than one config file has a scheduler '{asked}': name {names}"))
}

/// What was done to which tasks, for the log.
struct Changed<'a>(&'a str, &'a [String]);

impl fmt::Display for Changed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Changed(verb, ids) = self;
        match ids {
            [id] => write!(out, "{verb} task {id}"),
            ids => write!(out, "{verb} {} tasks", ids.len()),
        }
    }
}
