//! Looks at all tasks, a part in each turn: lists, and changes of what matches a filter.

use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

use control::api::{Done, Filter, Left, List, PathText, Selection, SrcPathText, TaskView};
use control::{Answering, Peer, Refusal};
use engine::{Doing, Found, IdPrefix, NoRule, NotRun, TaskId, TaskStatus};
use hashbrown::HashSet;
use ledger::Glob;

use super::{Changed, Reply};
use crate::config::Identity;
use crate::daemon::Daemon;
use crate::daemon::generation::Action;
use crate::daemon::keep::no_rule;
use crate::daemon::observe::{Moments, PAUSED};
use crate::daemon::task_name::TaskName;

/// Tasks that are looked at in a turn: about a millisecond.
const LOOKS_A_TURN: usize = 4_096;
/// Tasks that are changed in a turn: some milliseconds, with their lines in the log.
const CHANGES_A_TURN: usize = 512;
/// Rows of a list, whatever is asked for: some 300 bytes each until they are written.
const ROWS_MAX: u32 = 100_000;

/// What is done to tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Run,
    Cancel,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Run => "run",
            Verb::Cancel => "cancel",
        }
    }
}

/// A look that is under way.
#[derive(Debug)]
pub(super) struct Work {
    filter: Matching,
    reply: Reply,
    /// Where it goes on.
    from: u32,
    goal: Goal,
}

#[derive(Debug)]
enum Goal {
    List { rows: BinaryHeap<Row>, limit: usize, total: u64, moments: Moments },
    Change { verb: Verb, peer: Peer, found: Vec<TaskId>, is_all: bool, has_looked: bool, changes: Changes },
}

/// What a change was made for.
#[derive(Debug, Default)]
struct Changes {
    done: Done,
    named: HashSet<TaskId>,
    /// How many tasks were to be run and ended instead, see [`NotRun::NoRule`].
    cancelled: BTreeMap<NoRule, u64>,
}

/// A row of a list: those that were made first are shown.
#[derive(Debug)]
struct Row {
    made: (Option<Instant>, u64),
    view: TaskView,
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.made == other.made
    }
}
impl Eq for Row {}
impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Row) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Row {
    fn cmp(&self, other: &Row) -> std::cmp::Ordering {
        self.made.cmp(&other.made)
    }
}

/// Which tasks.
#[derive(Debug, Default)]
pub(super) struct Matching {
    state: Option<String>,
    /// As `FILE/NAME`.
    scheduler: Option<String>,
    path: Option<Glob>,
}

impl Matching {
    pub(super) fn new(state: Option<String>, scheduler: Option<String>, path: Option<Vec<u8>>) -> Matching {
        Matching { state, scheduler, path: path.map(Glob) }
    }

    /// Whether these are what it is about, whatever the scheduler.
    pub(super) fn matches(&self, state: &str, path: &[u8]) -> bool {
        self.state.as_ref().is_none_or(|wanted| wanted == state)
            && self.path.as_ref().is_none_or(|glob| glob.matches(path))
    }

    fn is_of(&self, scheduler: &Identity) -> bool {
        self.scheduler.as_ref().is_none_or(|wanted| scheduler.is(wanted))
    }
}

impl Work {
    pub(super) fn list(filter: Filter, reply: Reply, now: Instant) -> Work {
        let limit = filter.limit.unwrap_or(ROWS_MAX).min(ROWS_MAX) as usize;
        let goal = Goal::List { rows: BinaryHeap::new(), limit, total: 0, moments: Moments::at(now) };
        Work { filter: Matching::new(filter.state, filter.scheduler, filter.path), reply, from: 0, goal }
    }
}

/// Why a task that runs does nothing yet.
const WAITS: &str = "other work on its paths comes first";

/// As the API names it.
fn state_name(doing: Doing) -> &'static str {
    match doing {
        Doing::Waiting(_) | Doing::Gathered(_) | Doing::PutOff(_) | Doing::Settling(_) => "waiting",
        Doing::Retrying(_) => "retrying",
        Doing::Queued(_) => "queued",
        Doing::Running(_) => "running",
    }
}

/// `held_up` is why the program does not go on with it.
fn view(
    task: &TaskStatus<'_>,
    scheduler: &str,
    held_up: Option<&'static str>,
    moments: &Moments,
) -> TaskView {
    let time = |at: Option<Instant>| at.map(|at| moments.time(at));
    let made = time(task.waits.made).unwrap_or_else(|| moments.ago(std::time::Duration::ZERO));
    let (due, since) = match task.doing {
        Doing::Waiting(at)
        | Doing::Gathered(at)
        | Doing::PutOff(at)
        | Doing::Retrying(at)
        | Doing::Settling(at) => (time(at), made),
        Doing::Queued(at) => (time(at), time(at).unwrap_or(made)),
        Doing::Running(at) => (None, time(at).unwrap_or(made)),
    };
    let in_use = matches!(task.doing, Doing::PutOff(_)).then_some("its file is in use");
    let reason = Some(task.reason).filter(|reason| !reason.is_empty());
    let reason = held_up.or(reason).or(in_use).map(str::to_owned);
    TaskView {
        id: TaskName::of(task.id).as_str().to_owned(),
        scheduler: scheduler.to_owned(),
        path: PathText::of(task.event.pathname),
        src_path: SrcPathText::of(task.event.src_pathname),
        event: task.event.mask.name().to_owned(),
        state: state_name(task.doing).to_owned(),
        due,
        since,
        attempt: task.attempt,
        reason,
    }
}

impl Daemon {
    /// Runs or cancels what was selected.
    pub(super) fn change(
        &mut self,
        verb: Verb,
        selection: Selection,
        peer: Peer,
        reply: Reply,
        now: Instant,
    ) -> Option<(Result<Answering, Refusal>, Reply)> {
        let (filter, is_all) = match selection {
            Selection::Ids(ids) => return Some((self.change_one(verb, &ids, peer, now), reply)),
            Selection::Matching { state, scheduler, path } => (Matching::new(state, scheduler, path), false),
            Selection::All => (Matching::default(), true),
        };
        let (found, changes) = (Vec::new(), Changes::default());
        let goal = Goal::Change { verb, peer, found, is_all, has_looked: false, changes };
        self.control.work.push_back(Work { filter, reply, from: 0, goal });
        None
    }

    fn change_one(
        &mut self,
        verb: Verb,
        ids: &[String],
        peer: Peer,
        now: Instant,
    ) -> Result<Answering, Refusal> {
        let mut changes = Changes::default();
        for text in ids {
            let prefix = IdPrefix::parse(text);
            let prefix =
                prefix.ok_or_else(|| Refusal::bad_request(format!("'{text}' is no beginning of an id")))?;
            let id = match self.core.engine.find(&prefix) {
                Found::One(id) => id,
                Found::None => return Err(Refusal::not_found(format!("there is no task {text}"))),
                Found::Many => {
                    return Err(Refusal::bad_request(format!("more than one task's id begins with {text}")));
                }
            };
            self.change_task(verb, id, &mut changes, now).map_err(|why| {
                Refusal::conflict(match why {
                    NotRun::NotToCome => format!("task {text} runs already"),
                    NotRun::NoRule(why) => format!("task {text} is cancelled: {}", no_rule(why)),
                })
            })?;
        }
        let done = changes.done;
        self.say_change(peer, format_args!("{}", Changed(verb.name(), &done.done)));
        Ok(Answering::of(done))
    }

    /// Notes that something was done to a task, and whether it waits all the same.
    pub(super) fn note_done(&self, id: TaskId, done: &mut Done) {
        let text = TaskName::of(id).as_str().to_owned();
        if self.core.engine.is_held_back(id) {
            done.queued.push(text.clone());
        }
        done.done.push(text);
    }

    /// Changes a task, and with it all that its run is for.
    fn change_task(
        &mut self,
        verb: Verb,
        id: TaskId,
        changes: &mut Changes,
        now: Instant,
    ) -> Result<(), NotRun> {
        if changes.named.contains(&id) {
            return Ok(());
        }
        let core = &mut self.core;
        let together = core.engine.of_run(id);
        match verb {
            Verb::Run => core.engine.run_now(now, id, &mut core.performer)?,
            Verb::Cancel if core.engine.cancel(now, id, &mut core.performer) => {}
            Verb::Cancel => return Err(NotRun::NotToCome),
        }
        for id in std::iter::once(id).chain(together) {
            if changes.named.insert(id) {
                self.note_done(id, &mut changes.done);
            }
        }
        Ok(())
    }

    /// Goes on with the first look; true if there is more to do.
    pub(super) fn advance_work(&mut self, now: Instant) -> bool {
        let Some(mut work) = self.control.work.pop_front() else { return false };
        // Whoever went away wants nothing of it; a change that was begun is brought to its end.
        let is_list = matches!(work.goal, Goal::List { .. });
        if (is_list && work.reply.is_closed()) || self.advance(&mut work, now) {
            self.finish(work, now);
        } else {
            self.control.work.push_front(work);
        }
        !self.control.work.is_empty()
    }

    /// True if it has come to its end.
    fn advance(&mut self, work: &mut Work, now: Instant) -> bool {
        if let Goal::Change { verb, found, has_looked: true, changes, .. } = &mut work.goal {
            let verb = *verb;
            for _ in 0..CHANGES_A_TURN {
                let Some(id) = found.pop() else { return true };
                // One that runs by now has been started meanwhile, as was wanted.
                if let Err(NotRun::NoRule(why)) = self.change_task(verb, id, changes, now) {
                    *changes.cancelled.entry(why).or_default() += 1;
                }
            }
            return false;
        }
        let Work { filter, from, goal, .. } = work;
        let (performer, pauses) = (&self.core.performer, &self.control.pauses);
        let next = self.core.engine.visit(*from, LOOKS_A_TURN, |task| {
            let Action { name, identity, .. } = performer.action(task.scheduler);
            if filter.matches(state_name(task.doing), task.event.pathname) && filter.is_of(identity) {
                let is_paused = || matches!(task.doing, Doing::Queued(_)) && pauses.contains(identity);
                let waits =
                    || matches!(task.doing, Doing::Running(_)) && performer.files.waits(task.handle.0);
                let held_up = is_paused().then_some(PAUSED).or_else(|| waits().then_some(WAITS));
                goal.take(task, name, held_up);
            }
        });
        *from = next.unwrap_or(*from);
        match goal {
            Goal::List { .. } => next.is_none(),
            Goal::Change { has_looked, found, .. } => {
                *has_looked = next.is_none();
                // The last one is changed first.
                if *has_looked {
                    found.reverse();
                }
                false
            }
        }
    }

    fn finish(&mut self, work: Work, now: Instant) {
        match work.goal {
            Goal::List { rows, total, .. } => {
                let tasks = rows.into_sorted_vec().into_iter().map(|row| row.view).collect();
                let _ = work.reply.send(Ok(Answering::of(List { tasks, total })));
            }
            Goal::Change { changes: Changes { done, cancelled, .. }, is_all, .. }
                if done.done.is_empty() && (!is_all || !cancelled.is_empty()) =>
            {
                let none = Refusal::not_found("no task matches");
                let refusal = cancelled.keys().next().map_or(none, |why| Refusal::conflict(no_rule(*why)));
                let _ = work.reply.send(Err(refusal));
            }
            Goal::Change { verb, peer, changes: Changes { mut done, cancelled, .. }, .. } => {
                if !done.done.is_empty() {
                    self.say_change(peer, format_args!("{}", Changed(verb.name(), &done.done)));
                }
                let left = |(why, count)| Left { count, error: no_rule(why).to_owned() };
                done.left.extend(cancelled.into_iter().map(left));
                self.answer_when_kept(Ok(Answering::of(done)), work.reply, now);
            }
        }
    }
}

impl Goal {
    fn take(&mut self, task: &TaskStatus<'_>, scheduler: &str, held_up: Option<&'static str>) {
        match self {
            Goal::List { rows, limit, total, moments } => {
                let made = (task.waits.made, *total);
                *total += 1;
                if rows.len() >= *limit {
                    if rows.peek().is_none_or(|last| last.made <= made) {
                        return;
                    }
                    rows.pop();
                }
                rows.push(Row { made, view: view(task, scheduler, held_up, moments) });
            }
            Goal::Change { verb: Verb::Run, .. } if !task.doing.is_to_come() => {}
            Goal::Change { found, .. } => found.push(task.id),
        }
    }
}
