//! What an earlier daemon left: its tasks go on, fail, or are run again.
//!
//! A task that waited goes on waiting. A file rule that ran is run again, since its actions are made for that; a
//! command or a job only if its scheduler says `rerun=True`, else it has failed. A file rule with nothing to act on is
//! cancelled: one that ran and has no rule now, and one that ran or is due by now, and whose source is gone: what ends
//! just before a crash is kept as it was before. A command that outlived the daemon is ended first
//! ([`super::leftovers`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    CancelledBy, Failure, FailureKind, IdPrefix, MapId, NoRule, SchedulerId, TaskId, TaskRecord, Waits,
};
use event::{Event, Flag, Mask};
use ledger::{Ended, Outcome, Process, Restored, Subject, Task, TaskState};
use serde_json::Value;

use super::Keeper;
use super::leftovers::outliving;
use crate::action::sweep::Area;
use crate::config::{Identity, Work};
use crate::daemon::Daemon;
use crate::daemon::failed::Told;
use crate::daemon::generation::Generation;
use crate::daemon::observe::{Moments, wall_now};
use crate::daemon::perform::Performer;
use crate::daemon::vanished::is_gone_here;
use crate::log::{About, Level, record};

/// Why the rules of a configuration that a task came to have nothing for it, in words.
pub(in crate::daemon) fn no_rule(why: NoRule) -> &'static str {
    match why {
        NoRule::NoMatch => "no rule matches its path any more",
        NoRule::StepLimit => "a pattern of its rules gave up on its path; make the pattern simpler",
    }
}

/// What a task was cancelled by, in words.
pub(super) fn cancelled(by: CancelledBy) -> String {
    match by {
        CancelledBy::Event(flag) => format!("cancelled by {}", flag.map_or("an event", Flag::name)),
        CancelledBy::Id => "cancelled by an operator".to_owned(),
        CancelledBy::Rename => "its directory was renamed, and the new path asks for nothing more".to_owned(),
        CancelledBy::Withdrawal => "a rule moved or removed its path".to_owned(),
        CancelledBy::Loss => "its path vanished".to_owned(),
        CancelledBy::Stop => "its run was ended".to_owned(),
    }
}

/// Why a task does not go on in a scheduler that has one task for all paths, or a later one of its path.
pub(in crate::daemon) const REPLACED: &str = "a later event took its place";

/// What the error of a run says that the daemon did not see the end of.
pub(super) const INTERRUPTED: &str = "interrupted: the daemon ended";

/// Tasks that are due so soon hear at once that their path is gone, before they start.
const LOOKED_AT_FIRST: Duration = Duration::from_secs(10);

/// How people are told of tasks whose commands are still to be ended.
const STILL_RUNS: &str = "still run";

/// What becomes of a task of an earlier daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on as it was kept.
    GoesOn,
    /// It is run now.
    Again,
    /// It has failed for good: it was interrupted.
    Failed,
}

/// Why a task does not go on, and is cancelled: a file rule that has nothing to act on, or one that has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Its action may just have ended.
    SourceGone,
    /// Its scheduler was edited.
    NoMatch,
    /// Its scheduler has a task of a later event in its place.
    Replaced,
    /// There are as many tasks as there may be.
    TooMany,
}

impl Over {
    /// For the summary of the start.
    fn counted(self) -> &'static str {
        match self {
            Over::SourceGone => "cancelled since their source is gone",
            Over::NoMatch => "cancelled since no rule matches",
            Over::Replaced => "cancelled since a later event took their place",
            Over::TooMany => "cancelled since there are too many",
        }
    }

    /// For the history.
    fn reason(self) -> &'static str {
        match self {
            Over::SourceGone => "its source was gone when the daemon started again",
            Over::NoMatch => no_rule(NoRule::NoMatch),
            Over::Replaced => REPLACED,
            Over::TooMany => "there are too many tasks",
        }
    }
}

/// Where a task goes on.
struct Heir {
    scheduler: SchedulerId,
    map: Option<MapId>,
    rerun: bool,
    is_rule: bool,
    /// The scheduler's name, if it does not do the same as before.
    edited_name: Option<Arc<str>>,
}

/// Why a scheduler's tasks cannot go on in a configuration.
pub(in crate::daemon) fn no_heir(name: &str, same_name: bool) -> String {
    if same_name {
        format!("{name} is another scheduler now")
    } else {
        format!("the config has no scheduler {name}")
    }
}

impl Daemon {
    /// Takes over what an earlier daemon left.
    pub(in crate::daemon) fn restore(&mut self, restored: Restored, now: Instant) {
        let Restored { mut tasks, paused, .. } = restored;
        let mut report = BTreeMap::<&str, usize>::new();
        let mut edited = BTreeSet::new();
        self.restore_pauses(paused, now);
        let moments = Moments::at(Instant::now());
        let outliving = outliving(&tasks);
        let maps = self.core.performer.generations.last().map(maps_by_root).unwrap_or_default();
        let mut gone = Vec::new();
        self.sweep_beside(&tasks, now);
        self.latest_first(&mut tasks, &outliving);
        for task in tasks {
            let process = task.process.filter(|process| outliving.contains(process));
            if let Some(what) = self.restore_task(task, process, &maps, &moments, &mut edited, &mut gone) {
                *report.entry(what).or_default() += 1;
            }
        }
        for scheduler in edited {
            let text = format_args!("scheduler {scheduler} was edited, its kept tasks go on");
            self.core.performer.log.write(self.logger, Level::INFO, text);
        }
        if !report.is_empty() {
            self.core.vanished.begin();
            self.core.are_gone(gone);
            let parts: Vec<String> = report.iter().map(|(what, count)| format!("{count} {what}")).collect();
            let text = parts.join(", ");
            record!(self.core.performer.log, self.logger, INFO, "tasks of the earlier daemon: {text}");
        }
        self.end_leftovers(now);
    }

    /// Rules that ran may have left something half-made, or set aside, beside their files and where these go.
    fn sweep_beside(&mut self, tasks: &[Task], now: Instant) {
        let Performer { generations, lanes, sweeps, .. } = &mut self.core.performer;
        let Some(newest) = generations.last() else { return };
        let is_one =
            |task: &&Task| task.state == TaskState::Running && &*task.subject.kind == Work::KEPT_RULES;
        let mut files = Vec::new();
        for Task { subject, .. } in tasks.iter().filter(is_one) {
            let action = newest.find(&subject.into()).map(|index| newest.action_at(index));
            if let Some(Work::Rules(rules)) = action.map(|action| &action.work) {
                let rule = rules.patterns.first_match(&subject.path).ok().flatten();
                let destination = rule.and_then(|rule| rules.destination(rule, &subject.path).ok().flatten());
                files.extend(destination.map(|destination| destination.bytes));
            }
            files.push(subject.path.clone());
        }
        let parents = files.iter().filter_map(|file| Path::new(OsStr::from_bytes(file)).parent());
        let parents: BTreeSet<&OsStr> = parents.map(Path::as_os_str).collect();
        let areas = parents
            .into_iter()
            .map(|directory| Area { directory: directory.as_bytes().to_vec(), is_tree: false });
        sweeps.order(areas, lanes, now);
    }

    /// Of the tasks of a scheduler that has one task for all paths by now, the first one goes on: that of the latest
    /// event. Before it come those that end at once. What waits for its delay heard of its event after what failed or
    /// ran before.
    fn latest_first(&self, tasks: &mut [Task], outliving: &[Process]) {
        let Some(newest) = self.core.performer.generations.last() else { return };
        let is_single = |task: &Task| {
            let place = newest.find(&(&task.subject).into())?;
            newest.action_at(place).is_single.then(|| newest.action_at(place).rerun)
        };
        if !newest.actions().iter().any(|action| action.is_single) {
            return;
        }
        let mut place = 0;
        tasks.sort_by_cached_key(|task| {
            // Of two events of one moment, the later one was written later.
            place -= 1;
            let Some(rerun) = is_single(task) else { return (0, 0, 0) };
            let outlives = task.process.is_some_and(|process| outliving.contains(&process));
            let rank = match fate(task, rerun) {
                Fate::Failed if !outlives => 0,
                Fate::GoesOn if task.attempt <= 1 => 1,
                Fate::GoesOn | Fate::Again | Fate::Failed => 2,
            };
            (rank, -(task.due_s * 1e6) as i64, place)
        });
    }

    /// Takes one task over, and the command that outlived the earlier daemon; returns what becomes of it, for people.
    fn restore_task(
        &mut self,
        task: Task,
        process: Option<Process>,
        maps: &HashMap<Vec<u8>, MapId>,
        moments: &Moments,
        edited: &mut BTreeSet<Arc<str>>,
        gone: &mut Vec<(MapId, Vec<u8>, u16)>,
    ) -> Option<&'static str> {
        let performer = &mut self.core.performer;
        let newest = performer.generations.last()?;
        let Heir { scheduler, map, rerun, is_rule, edited_name } = match heir(newest, &task, maps) {
            Ok(heir) => heir,
            Err(error) => {
                if let Some(process) = process {
                    self.leave_over(task, process, Err(error));
                    return Some(STILL_RUNS);
                }
                self.lose(task, error);
                return Some("failed");
            }
        };
        let fate = fate(&task, rerun);
        let now = moments.now;
        let told = told_of(&task.subject);
        let event = event_of(&task.subject);
        let due = if fate == Fate::GoesOn { due(&task, moments) } else { now };
        // There is time to look at all others when the daemon is ready.
        let filesystems = &mut performer.lanes.filesystems;
        let is_gone = due <= now + LOOKED_AT_FIRST && is_gone_here(&event, filesystems, now);
        let id = TaskId(task.id.0);
        let over = match fate {
            _ if !is_rule => None,
            _ if is_gone && may_be_done(&task, fate, due <= now) => Some(Over::SourceGone),
            // A pattern that gives up does so again when the task is to start, and the log says it.
            Fate::Again if self.core.engine.no_rule(scheduler, event.pathname) == Some(NoRule::NoMatch) => {
                Some(Over::NoMatch)
            }
            _ => None,
        };
        let hears = map.filter(|_| is_gone && fate != Fate::Failed);
        let of_path = hears.map(|map| (map, event.pathname.to_vec(), event.root_len));
        if let Some(over) = over {
            gone.extend(of_path);
            self.end_over(task, over, scheduler);
            return Some(over.counted());
        }
        edited.extend(edited_name);
        let restored = engine::Restored {
            id,
            scheduler,
            map,
            event,
            due,
            attempt: attempt_of(&task, fate, process.is_some()),
            reason: task.error.as_deref().unwrap_or_default(),
            waits: waits(&task, moments),
            failed: told.as_ref().map(Told::get),
            is_kept: fate == Fate::GoesOn || process.is_some(),
        };
        let mut run = None;
        if process.is_some() {
            run = self.core.engine.restore_run(now, &restored, fate == Fate::Again, performer);
        } else if !self.core.engine.restore(now, &restored, performer) {
            return Some(self.end_without_place(task, fate, scheduler));
        } else if fate == Fate::Failed {
            let failure = Failure::new(FailureKind::Interrupted, INTERRUPTED);
            self.core.engine.fail(now, id, &failure, performer);
        }
        gone.extend(of_path);
        if let Some(process) = process {
            self.leave_over(task, process, run.ok_or_else(|| INTERRUPTED.to_owned()));
            return Some(STILL_RUNS);
        }
        Some(match fate {
            Fate::GoesOn => "go on",
            Fate::Again => "run again",
            Fate::Failed => "failed",
        })
    }

    /// Cancels a task that does not go on.
    fn end_over(&mut self, task: Task, over: Over, scheduler: SchedulerId) {
        let event = event_of(&task.subject);
        let cancelled = TaskRecord { scheduler, id: TaskId(task.id.0), event, others: 0 };
        self.core.performer.cancelled_kept(cancelled, over.reason());
        if let Some(keeper) = &mut self.core.performer.keeper {
            keeper.end_kept(task, Outcome::Cancelled, over.reason().to_owned());
        }
    }

    /// A task has no place among those that there are; returns what becomes of it, for people.
    fn end_without_place(&mut self, task: Task, fate: Fate, scheduler: SchedulerId) -> &'static str {
        if fate == Fate::Failed {
            self.lose(task, INTERRUPTED.to_owned());
            return "failed";
        }
        let over = if self.core.engine.is_full() { Over::TooMany } else { Over::Replaced };
        self.end_over(task, over, scheduler);
        over.counted()
    }

    /// A task that no scheduler of the configuration can take fails for good.
    pub(super) fn lose(&mut self, task: Task, error: String) {
        let scheduler = self.name_of(&(&task.subject).into()).into();
        let performer = &mut self.core.performer;
        let Some(keeper) = &mut performer.keeper else { return };
        let (event, id) = (event_of(&task.subject), task.id.to_string());
        let (mask, path) = (event.mask.name(), event.pathname);
        let about = About { event: Some(mask), path: Some(path), task: Some(&id), ..About::default() };
        let text = format_args!("task failed: {error}{about}");
        performer.log.write_about(self.logger, Level::ERROR, &about, text);
        performer.observed.counts.lost(&scheduler);
        keeper.end_kept(task, Outcome::Failed, error);
    }
}

impl Keeper {
    /// A task of an earlier daemon ends as it was kept.
    fn end_kept(&mut self, mut task: Task, result: Outcome, error: String) {
        let now_s = wall_now().0;
        if task.state != TaskState::Running {
            // The attempt that it waited for has not been made, as far as is known.
            task.attempt = task.attempt.saturating_sub(1);
            task.since_s = now_s;
        }
        self.next.gone.push(task.id);
        self.add_end(Ended {
            id: task.id,
            subject: task.subject,
            result,
            error: Some(error),
            exit_status: None,
            signal: None,
            output: None,
            attempts: task.attempt,
            first_s: task.first_s,
            started_s: task.since_s,
            ended_s: now_s,
            done: None,
        });
    }
}

/// Whether a file rule whose source is gone may have ended just before a crash, and nothing else is likely. What was
/// not due by now cannot have run; when the earlier daemon ended is not known, since an idle one writes nothing. An
/// attempt that failed before is for the rule's errors and its `retry`.
fn may_be_done(task: &Task, fate: Fate, was_due: bool) -> bool {
    fate == Fate::Again || (was_due && task.attempt <= 1)
}

/// Where a task goes on, or why it cannot.
fn heir(newest: &Generation, task: &Task, maps: &HashMap<Vec<u8>, MapId>) -> Result<Heir, String> {
    let Subject { kind, digest, .. } = &task.subject;
    let identity = Identity::from(&task.subject);
    let index = newest.find(&identity).ok_or_else(|| no_heir(&newest.name_of(&identity), false))?;
    let action = newest.action_at(index);
    if action.work.kept_kind() != &**kind {
        return Err(no_heir(&action.name, true));
    }
    let edited_name = (*action.digest != **digest).then(|| Arc::clone(&action.name));
    let (scheduler, rerun) = (newest.scheduler(index), action.rerun);
    let is_rule = matches!(action.work, Work::Rules(_));
    // That through which the task's event would come now: of a watch with that root, rather than of any.
    let root = task.subject.path.get(..usize::from(task.subject.root_len));
    let map = root.and_then(|root| maps.get(root)).copied();
    Ok(Heir { scheduler, map, rerun, is_rule, edited_name })
}

/// The maps of the watches by their roots, as configured and absolute; of several watches of one root the first is the
/// one.
fn maps_by_root(newest: &Generation) -> HashMap<Vec<u8>, MapId> {
    let paths =
        newest.watches.iter().flat_map(|watch| watch.what.paths().iter().map(|path| (path, watch.map)));
    let all: Vec<_> = paths.zip(&newest.roots).collect();
    let both =
        all.into_iter().rev().flat_map(|((path, map), root)| [(root.clone(), map), (path.clone(), map)]);
    both.collect()
}

/// The attempt that a task waits for or that still runs. One that is to fail has made that which was interrupted.
fn attempt_of(task: &Task, fate: Fate, still_runs: bool) -> u32 {
    task.attempt.saturating_add(u32::from(fate == Fate::Failed && !still_runs))
}

fn fate(task: &Task, rerun: bool) -> Fate {
    match task.state {
        TaskState::Waiting | TaskState::Queued | TaskState::Retrying => Fate::GoesOn,
        TaskState::Running if rerun || is_to_run_again(task) => Fate::Again,
        TaskState::Running => Fate::Failed,
    }
}

/// When a kept task is due: not later than it was when it was written, if the clock was set back since then.
fn due(task: &Task, moments: &Moments) -> Instant {
    moments.future(task.due_s.min(moments.wall_s + task.due_s - task.since_s))
}

fn waits(task: &Task, moments: &Moments) -> Waits {
    Waits {
        made: Some(moments.past(task.first_s)),
        first: task.waits_s.map(|waits_s| moments.past(waits_s)),
        due: task.settles_s.map(|settles_s| moments.past(settles_s)),
    }
}

impl From<&Subject> for Identity {
    /// The scheduler that a task was of.
    fn from(subject: &Subject) -> Identity {
        Identity { file: Arc::clone(&subject.file), name: Arc::clone(&subject.scheduler) }
    }
}

fn detail_of(subject: &Subject) -> Option<Value> {
    serde_json::from_str(subject.detail.as_deref()?).ok()
}

fn is_to_run_again(task: &Task) -> bool {
    detail_of(&task.subject).is_some_and(|detail| detail["again"] == Value::Bool(true))
}

/// Whether its command had been told to end.
pub(super) fn was_stopped(task: &Task) -> bool {
    detail_of(&task.subject).is_some_and(|detail| detail["stopped"] == Value::Bool(true))
}

/// What the task tells of, if it tells of a failure.
pub(in crate::daemon) fn told_of(subject: &Subject) -> Option<Told> {
    let detail = detail_of(subject)?;
    let failed = detail.get("failed")?;
    let id = IdPrefix::parse(failed["id"].as_str()?)?.whole()?;
    Some(Told {
        error: failed["error"].as_str()?.to_owned(),
        attempts: failed["attempts"].as_u64()? as u32,
        id,
    })
}

/// The event that a kept task is about.
pub(in crate::daemon) fn event_of(subject: &Subject) -> Event<'_> {
    Event {
        mask: Mask(subject.mask),
        is_dir: subject.is_dir,
        synthetic: subject.synthetic,
        pathname: &subject.path,
        name_len: subject.name_len,
        root_len: subject.root_len,
        given_path: subject.given_path.as_deref(),
        src_pathname: subject.src_path.as_deref(),
        ..Event::overflow()
    }
}
