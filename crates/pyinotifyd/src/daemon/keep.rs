//! Tasks that survive the end of the daemon: what changes is written by a thread, what an earlier daemon left comes
//! back ([`restore`]), commands of it are ended ([`leftovers`]), and what it told is not told again ([`told`]).
//!
//! 1. The engine marks tasks that change. The ends of tasks are collected here, as the engine tells them.
//! 2. [`COMMIT_PAUSE`] after the first mark the loop makes one [`Batch`] of all that: rows of the marked tasks as they
//!    are now, ids of those that are no more, ends. It takes [`TASKS_A_BATCH`] rows at most; the rest follows at once.
//! 3. The thread writes the batch as one transaction and reports. Only then the next batch is made. Meanwhile the loop
//!    goes on to mark, and waits for nothing.
//! 4. A task is marked before it is read, and is read after it changed: whatever came before a batch is in it or in an
//!    earlier one, and a transaction is there as a whole or not at all. So after a crash each task is as it was at the
//!    latest batch that was reported, at most the pause and the time of one transaction ago.
//! 5. What came and went between two batches leaves nothing but its end. An end and the row that it takes away are in
//!    one transaction, so that a task is never both.
//!    A failed task that is run again counts as failed until there is a row of its run or its end.
//! 6. If the disk does not take a batch, the thread keeps it and tries again. Marks cost a byte for each task, ends are
//!    bounded ([`HISTORY_A_BATCH`], [`FAILURES_MAX`]).

mod checkpoints;
mod failures;
mod group;
mod leftovers;
mod restore;
mod row;
mod told;
mod unwritten;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use control::metrics::Histogram;
use engine::{End, EndResult, Engine, TaskHandle, TaskId, TaskRecord};
use hashbrown::{HashMap, HashSet};
use ledger::{Batch, Ended, Id, Ledger, Opened, Options, Outcome, Report, Restored, Told};
use rustix::process::Pid;
use tokio::sync::Notify;

use restore::cancelled;
pub(super) use restore::{REPLACED, event_of, no_heir, no_rule, told_of};
pub(super) use told::ToldBefore;
pub(super) use unwritten::Unwritten;

use checkpoints::Checkpoints;
use failures::Failures;
use group::{Group, group_of};
use leftovers::Leftover;
use row::{detail_of_end, row, subject};
use told::Recent;

use super::Daemon;
use super::generation::{Action, Generation};
use super::observe::{Moments, wall_now, wall_seconds};
use super::runs::Traces;
use super::shutdown::State;
use crate::action::command::Commands;
use crate::config::Identity;
use crate::log::{Escaped, record};

/// What changes is written so long after the first change.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);
/// Batches that are made only to look for the process group of a command that does not execute its program: some
/// seconds. From then on it is looked for in each that is made anyway.
const GROUP_TRIES: u32 = 50;

/// Rows of tasks in one transaction: a few milliseconds of the loop's time.
const TASKS_A_BATCH: usize = 4_096;

/// Ends of tasks that one transaction adds to the history, failures aside. The earliest are left out.
const HISTORY_A_BATCH: usize = 1_000;

/// Failures that wait for a disk that does not take them; about 300 bytes each. The earliest are lost beyond that.
const FAILURES_MAX: usize = 65_536;

/// Bounds of the histogram of transactions, in seconds.
const COMMIT_BOUNDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];

/// How long the end of the daemon waits for the disk.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Keeper {
    ledger: Ledger,
    reported: Arc<Notify>,
    directory: PathBuf,
    /// Ends of tasks that did not fail.
    ended: VecDeque<Arc<Ended>>,
    /// Failures.
    failed: VecDeque<Arc<Ended>>,
    /// Those of the batch in flight.
    failed_in_flight: Vec<Arc<Ended>>,
    /// What stands as failed, written or not.
    pub(super) failures: Failures,
    /// What else the next batch has.
    next: Batch,
    /// When the next batch is due.
    commit_at: Option<Instant>,
    /// When a batch is due even if it says nothing, since the state could not be read.
    doubted_at: Option<Instant>,
    /// Why nothing is kept at present.
    trouble: Option<String>,
    /// How long transactions took.
    pub(super) took: Histogram,
    /// How many batches there were, and how many of them are written.
    made: u64,
    written: u64,
    /// Tasks that the database gets with the batch in flight, and does not have yet.
    unwritten: HashSet<TaskId>,
    /// Failed tasks that are run again. They count as failed until there is a row of that, or of its end.
    again: HashSet<Id>,
    /// Tasks that do not stand as failed any more, while that is not written.
    closing: HashSet<Id>,
    checkpoints: Checkpoints,
    /// What tasks were about lately, where the next daemon may look for what has changed.
    recent: Option<Recent>,
    /// What the daemon before this one told in its last moments.
    told_before: Vec<Told>,
    /// What the run leaves whose end is told to the engine.
    pub(super) traces: Traces,
    /// Process groups of commands that run.
    groups: HashMap<TaskHandle, Group>,
    /// Runs whose command was told to end since the last batch.
    stopped: Vec<TaskHandle>,
    /// Runs that were written while their command had not executed its program, and how often: a later batch has their
    /// group.
    without_group: HashMap<TaskHandle, u32>,
    /// Commands that outlived the earlier daemon, while they are being ended.
    leftovers: Vec<Leftover>,
}

/// A state directory that was opened, by a thread.
pub(super) struct Beginning {
    pub(super) keeper: Keeper,
    pub(super) restored: Restored,
    /// What is to be said about it: an error, or nothing.
    pub(super) errors: Vec<String>,
}

impl Keeper {
    /// Opens a state directory and reads what is kept there. Waits for its filesystem.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn open(directory: &Path, history_max: u32) -> Result<Beginning, String> {
        let opened = ledger::Store::open(directory).map_err(|error| error.to_string())?;
        let Opened { store, restored, damage, trouble } = opened;
        let mut errors = Vec::new();
        errors.extend(damage.map(|damage| damage_text(&damage)));
        errors.extend(trouble.as_ref().map(|error| trouble_text(directory, error)));
        let mut failures = Failures::default();
        failures.add_all(&restored.failed);
        let reported = Arc::new(Notify::new());
        let wake = Arc::clone(&reported);
        let ledger = Ledger::start(store, Options { history_max }, move || wake.notify_one());
        let ledger = ledger.map_err(|error| format!("cannot start a thread for the state: {error}"))?;
        let keeper = Keeper {
            ledger,
            reported,
            directory: directory.to_owned(),
            ended: VecDeque::new(),
            failed: VecDeque::new(),
            failed_in_flight: Vec::new(),
            failures,
            next: Batch::default(),
            commit_at: None,
            doubted_at: None,
            trouble,
            took: Histogram::new(COMMIT_BOUNDS),
            made: 0,
            written: 0,
            unwritten: HashSet::new(),
            again: HashSet::new(),
            closing: HashSet::new(),
            traces: Traces::default(),
            groups: HashMap::new(),
            stopped: Vec::new(),
            without_group: HashMap::new(),
            leftovers: Vec::new(),
            recent: None,
            told_before: restored.told.clone(),
            checkpoints: Checkpoints::new(restored.checkpoint_s),
        };
        Ok(Beginning { keeper, restored, errors })
    }

    /// Where the state is; [`ledger::Reader::open`] reads it from there.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Up to when everything that happened was handled or is kept, as far as that is written.
    pub(super) fn checkpoint(&self) -> Option<SystemTime> {
        let since = Duration::try_from_secs_f64(self.checkpoints.latest_s?).ok()?;
        UNIX_EPOCH.checked_add(since)
    }

    /// The daemon ends: what happens from here on is for the next one.
    pub(super) fn end_checkpoints(&mut self, complete: Option<SystemTime>, told: Vec<Told>) {
        self.checkpoints.end(complete.map(|complete| (wall_seconds(complete), told)));
    }

    /// Whether the next daemon is to know what was told in the last moments of this one.
    pub(super) fn set_looks_back(&mut self, looks_back: bool) {
        self.recent = if looks_back { self.recent.take().or_else(|| Some(Recent::default())) } else { None };
    }

    /// How many ended tasks are to be remembered.
    pub(super) fn set_history(&self, history_max: u32) {
        self.ledger.set_options(Options { history_max });
    }

    /// Completes when the thread has something to say.
    pub(super) async fn reported(&self) {
        self.reported.notified().await;
    }

    /// When the next batch is due, unless the thread is still at the one before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let at = [self.commit_at, self.doubted_at, self.checkpoints.due_at].into_iter().flatten().min();
        at.filter(|_| self.ledger.is_ready())
    }

    /// A task of a scheduler whose tasks are kept came to an end.
    pub(super) fn ended(&mut self, task: &TaskRecord<'_>, action: &Action, end: End<'_>) {
        let now_s = wall_now().0;
        let (result, error, exit_status, signal) = match end.result {
            EndResult::Done => (Outcome::Ok, None, None, None),
            EndResult::Cancelled(by) => (Outcome::Cancelled, Some(cancelled(by)), None, None),
            EndResult::NoRule(why) => (Outcome::Cancelled, Some(no_rule(why).to_owned()), None, None),
            EndResult::Replaced => (Outcome::Cancelled, Some(REPLACED.to_owned()), None, None),
            EndResult::Failed(failure) => {
                let (exit_status, signal) = failure.kind.exit();
                (Outcome::Failed, Some(failure.text.clone()), exit_status, signal)
            }
        };
        let Traces { output, deed } = std::mem::take(&mut self.traces);
        self.add_end(Ended {
            id: Id(task.id.0),
            subject: subject(action, &task.event, end.told.map(detail_of_end)),
            result,
            error,
            exit_status,
            signal,
            output: (!output.is_empty()).then_some(output),
            attempts: end.attempts,
            first_s: now_s - end.age.as_secs_f64(),
            started_s: now_s - end.ran.as_secs_f64(),
            ended_s: now_s,
            done: deed,
        });
    }

    fn batch_is_written(&mut self) {
        self.written = self.made;
        self.unwritten.clear();
        self.failed_in_flight.clear();
        self.closing = self.again.iter().chain(&self.next.not_failed).copied().collect();
    }

    /// The database is gone, with the batch in flight. What failed of that goes with the next one.
    fn batch_is_lost(&mut self) {
        for row in std::mem::take(&mut self.failed_in_flight).into_iter().rev() {
            self.failed.push_front(row);
        }
        self.batch_is_written();
        self.failures = Failures::default();
        for row in &self.failed {
            self.failures.add(row.id, (&row.subject).into());
        }
    }

    fn add_end(&mut self, end: Ended) {
        let (queue, max) = match end.result {
            Outcome::Failed => (&mut self.failed, FAILURES_MAX),
            Outcome::Ok | Outcome::Cancelled => (&mut self.ended, HISTORY_A_BATCH),
        };
        let lost = if queue.len() >= max { queue.pop_front() } else { None };
        if let Some(lost) = lost.filter(|lost| lost.result == Outcome::Failed) {
            self.failures.remove(lost.id);
        }
        if end.result == Outcome::Failed {
            self.failures.add(end.id, (&end.subject).into());
        }
        queue.push_back(Arc::new(end));
    }

    /// Writes what there is at once; how many batches that is, with those before.
    pub(super) fn hurry(&mut self, engine: &Engine, now: Instant) -> u64 {
        if !self.has_news(engine) {
            return self.made;
        }
        self.commit_at = Some(now);
        self.made + engine.changed().div_ceil(TASKS_A_BATCH).max(1) as u64
    }

    /// The state could not be read: the thread looks after its files, as it does before each batch.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.doubted_at = Some(now);
    }

    /// Whether so many batches are written, or everything is, or nothing can be now.
    pub(super) fn has_written(&self, batches: u64, engine: &Engine) -> bool {
        let is_all_written = || self.ledger.is_ready() && !self.has_news(engine);
        self.written >= batches || self.trouble.is_some() || is_all_written()
    }

    /// The command of a run is told to end. Its process group may live on without its leader.
    pub(super) fn stopped(&mut self, run: TaskHandle, leader: Option<Pid>) {
        if let Some(group) = leader.and_then(|leader| group_of(&mut self.groups, run, leader)) {
            group.is_stopped = true;
            self.stopped.push(run);
        }
    }

    /// Why nothing is kept at present.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What the run of a task leaves that had failed before it ended: what its command wrote at last, and what its rule
    /// did, unless the task goes on.
    pub(super) fn late_traces(&mut self, task: Option<TaskId>, goes_on: bool) {
        let Traces { output, deed } = std::mem::take(&mut self.traces);
        let Some(task) = task else { return };
        if !output.is_empty() {
            self.next.outputs.push((Id(task.0), output));
        }
        if let Some(deed) = deed.filter(|_| !goes_on) {
            self.next.deeds.push((Id(task.0), deed));
        }
    }

    /// A failed task is to be forgotten.
    pub(crate) fn not_failed(&mut self, id: Id) {
        self.failures.remove(id);
        self.closing.insert(id);
        self.next.not_failed.push(id);
    }

    /// What an ended task has done is to be remembered differently.
    pub(crate) fn done_differs(&mut self, id: Id, before: String, after: String) {
        self.next.done.push((id, before, after));
    }

    /// A failed task is run again, and kept.
    pub(crate) fn runs_again(&mut self, id: Id) {
        self.failures.remove(id);
        self.closing.insert(id);
        self.again.insert(id);
    }

    /// A scheduler is paused, or no more.
    pub(crate) fn paused(&mut self, scheduler: Identity, is_paused: bool) {
        self.next.paused.push((scheduler.file, scheduler.name, is_paused));
    }

    /// Whether changes of tasks are not on the disk yet.
    fn owes_changes(&self, engine: &Engine) -> bool {
        self.ledger.owes_changes() || self.has_news(engine)
    }

    fn has_news(&self, engine: &Engine) -> bool {
        engine.has_changes()
            || !self.ended.is_empty()
            || !self.failed.is_empty()
            || !self.stopped.is_empty()
            || self.without_group.values().any(|tries| *tries < GROUP_TRIES)
            || !self.next.is_empty()
    }

    /// Everything that is to be written, as far as one batch goes.
    fn batch(&mut self, engine: &mut Engine, generations: &[Generation], commands: &Commands) -> Batch {
        let mut batch = std::mem::take(&mut self.next);
        batch.gone.extend(engine.take_gone().into_iter().map(|id| Id(id.0)));
        self.failed_in_flight.clear();
        self.failed_in_flight.extend(self.failed.iter().cloned());
        batch.ended.extend(self.failed.drain(..).chain(self.ended.drain(..)));
        let moments = Moments::at(Instant::now());
        let Keeper { groups, leftovers, unwritten, without_group, .. } = self;
        unwritten.clear();
        groups.retain(|run, _| commands.process(run.0).is_some());
        without_group.retain(|run, _| commands.process(run.0).is_some());
        for run in self.stopped.drain(..).chain(without_group.keys().copied()) {
            engine.note_change(run);
        }
        engine.take_changed(TASKS_A_BATCH, |task| {
            if !task.is_taken {
                unwritten.insert(task.id);
            }
            let generation = generations.iter().rfind(|generation| generation.owns(task.scheduler));
            let action =
                generation.expect("a generation stays until its tasks have ended").action(task.scheduler);
            let group = match commands.process(task.handle.0) {
                Some(leader) => {
                    let group = group_of(groups, task.handle, leader).copied();
                    if group.is_some() {
                        without_group.remove(&task.handle);
                    } else {
                        *without_group.entry(task.handle).or_default() += 1;
                    }
                    group
                }
                None => Leftover::group(leftovers, task.handle),
            };
            batch.tasks.push(row(task, action, &moments, group));
        });
        if !self.again.is_empty() {
            let of_tasks = batch.tasks.iter().map(|task| task.id);
            let of_ended = batch.ended.iter().map(|ended| ended.id);
            let ids = of_tasks.chain(of_ended).chain(batch.gone.iter().copied());
            batch.not_failed.extend(ids.filter(|id| self.again.remove(id)));
        }
        let failed = self.failed_in_flight.iter().map(|row| row.id);
        let is_closed = |id: &Id| !self.failures.has(*id) && !self.again.contains(id);
        batch.closed.extend(failed.filter(is_closed));
        if let Some(recent) = &mut self.recent {
            recent.note(&batch, moments.now);
        }
        batch
    }
}

impl Daemon {
    /// Keeps tasks from here on; returns what an earlier daemon kept.
    pub(super) fn begin_to_keep(&mut self, beginning: Beginning) -> Restored {
        let Beginning { keeper, mut restored, errors } = beginning;
        self.core.told_before = ToldBefore::new(std::mem::take(&mut restored.told));
        for error in errors {
            record!(self.core.performer.log, self.logger, ERROR, "{error}");
        }
        self.core.performer.keeper = Some(keeper);
        self.core.engine.keep_changes();
        restored
    }

    /// Writes what has changed, when it is time.
    pub(super) fn keep(&mut self, now: Instant) {
        self.take_ledger_reports(now);
        let (engine, performer) = (&mut self.core.engine, &mut self.core.performer);
        let Some(keeper) = &mut performer.keeper else { return };
        let checkpoint_is_due = keeper.checkpoints.note(self.watcher.stats().events, now);
        if keeper.has_news(engine) {
            keeper.commit_at.get_or_insert(now + COMMIT_PAUSE);
        } else {
            keeper.commit_at = None;
        }
        let of_keeper = [keeper.commit_at, keeper.doubted_at];
        let is_due = checkpoint_is_due || of_keeper.into_iter().flatten().any(|at| at <= now);
        if !is_due || !keeper.ledger.is_ready() {
            return;
        }
        let mut batch = keeper.batch(engine, &performer.generations, &performer.commands);
        // What found no room goes with the next one, as soon as this is written.
        keeper.commit_at = engine.has_changes().then_some(now);
        if !engine.has_changes() {
            keeper.checkpoints.take(self.watcher.complete_until(), now, &mut batch);
            if batch.checkpoint_s.is_some() {
                self.core.told_before.forget();
            }
        }
        if keeper.doubted_at.take().is_some() || !batch.is_empty() {
            keeper.made += 1;
            keeper.ledger.commit(batch);
        }
    }

    fn take_ledger_reports(&mut self, now: Instant) {
        let keeper = self.core.performer.keeper.as_mut();
        for report in keeper.map(|keeper| keeper.ledger.take_reports()).unwrap_or_default() {
            let performer = &mut self.core.performer;
            let Some(keeper) = &mut performer.keeper else { return };
            match report {
                Report::Committed { took, recovered } => {
                    keeper.took.observe(took.as_secs_f64());
                    keeper.batch_is_written();
                    // What was wrong at the start may be over with the first batch.
                    if keeper.trouble.take().is_some() || recovered {
                        let directory = keeper.directory.display();
                        record!(performer.log, self.logger, INFO, "tasks are kept in '{directory}' again");
                    }
                }
                Report::Failing(error) => {
                    // One that was there at the start was said then.
                    if keeper.trouble.replace(error.clone()).is_none() {
                        let text = trouble_text(&keeper.directory, &error);
                        record!(performer.log, self.logger, ERROR, "{text}");
                    }
                }
                // A daemon that ends leaves them where they are.
                Report::Restored(mut restored) if self.state == State::Running => {
                    // What was put back into the database's place may be a copy of what this daemon has.
                    restored.tasks.retain(|task| !self.core.engine.has(TaskId(task.id.0)));
                    keeper.failures.add_all(&restored.failed);
                    self.restore(*restored, now);
                }
                Report::Restored(_) => {}
                Report::LogRemoved => {
                    let directory = keeper.directory.display();
                    let text = format!(
                        "somebody removed state.db-wal in '{directory}'; what it had is in state.db, nothing is lost"
                    );
                    record!(performer.log, self.logger, ERROR, "{text}");
                }
                Report::StartedAfresh(damage) => {
                    let lost =
                        || format!("the state in '{}' is gone; it is made anew", keeper.directory.display());
                    let text = damage.as_ref().map_or_else(lost, damage_text);
                    record!(performer.log, self.logger, ERROR, "{text}");
                    keeper.batch_is_lost();
                    self.core.engine.keep_changes();
                    for scheduler in &self.control.pauses {
                        keeper.paused(scheduler.clone(), true);
                    }
                }
            }
        }
    }

    /// The end of the daemon: writes what is left. A disk that does not take it is not waited for long. What waits and
    /// is lost with it is named.
    pub(super) fn close_keeper(&mut self) {
        let deadline = Instant::now() + CLOSE_MAX;
        self.write_the_rest(deadline);
        let (engine, performer) = (&mut self.core.engine, &mut self.core.performer);
        let Some(keeper) = performer.keeper.take() else { return };
        if keeper.trouble.is_some() && !keeper.owes_changes(engine) {
            // Only the time of the last look is lost: the next daemon looks back further.
            keeper.ledger.close(Instant::now());
            return;
        }
        let owes_more = keeper.has_news(engine);
        let Keeper { ledger, directory, unwritten, trouble, .. } = keeper;
        let is_written = ledger.close(deadline);
        if is_written && !owes_more {
            return;
        }
        let is_lost = |id: TaskId| !is_written && unwritten.contains(&id);
        engine.tell_not_kept(Instant::now(), is_lost, performer);
        let why = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
        let directory = directory.display();
        record!(
            performer.log,
            self.logger,
            ERROR,
            "the latest changes of tasks are not kept in '{directory}'{why}"
        );
    }

    /// Writes batches until nothing is left or the deadline has come. What failed before is tried again at once: who
    /// has made room may have stopped the daemon for that.
    fn write_the_rest(&mut self, deadline: Instant) {
        loop {
            self.take_ledger_reports(Instant::now());
            let (engine, performer) = (&mut self.core.engine, &mut self.core.performer);
            let Some(keeper) = &mut performer.keeper else { return };
            if !keeper.ledger.is_ready() {
                let is_for_nothing = keeper.trouble.is_some() && !keeper.owes_changes(engine);
                keeper.ledger.hurry();
                if is_for_nothing || !keeper.ledger.wait(deadline) {
                    return;
                }
                continue;
            }
            let mut batch = keeper.batch(engine, &performer.generations, &performer.commands);
            if !keeper.has_news(engine) {
                keeper.checkpoints.take(None, Instant::now(), &mut batch);
            }
            if !batch.is_empty() {
                keeper.ledger.commit(batch);
            } else if !keeper.has_news(engine) {
                return;
            }
        }
    }
}

fn trouble_text(directory: &Path, error: &str) -> String {
    format!(
        "cannot keep tasks in '{}': {error}; the daemon goes on without, and tries again",
        Escaped(std::os::unix::ffi::OsStrExt::as_bytes(directory.as_os_str()))
    )
}

fn damage_text(damage: &ledger::Damage) -> String {
    let moved_to = damage.moved_to.display();
    let error = damage.error.trim().replace('\n', " ");
    format!("the state is damaged ({error}), it was moved to '{moved_to}'; the daemon starts afresh")
}
