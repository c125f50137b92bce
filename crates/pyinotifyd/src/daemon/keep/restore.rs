//! What an earlier daemon left: its tasks go on, fail, or are run again.
//!
//! A task that waited goes on waiting. A file rule that ran is run again, since its actions are made for that; a
//! command or a job only if its scheduler says `rerun=True`, else it has failed. A command that outlived the daemon is
//! ended before anything is done with its task, by a worker, since that may take seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use engine::{FailedTask, Failure, FailureKind, IdPrefix, MapId, TaskId};
use event::{Event, Flag, Mask};
use ledger::{Ended, Outcome, Process, Restored, Subject, Task, TaskState};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::{Clock, Stat, started_ticks};
use crate::action::{Report, missing};
use crate::config::Identity;
use crate::daemon::Daemon;
use crate::daemon::generation::{Generation, Watching};
use crate::lane::{LaneId, Once, Size, Undone};
use crate::log::{Escaped, Level, record};

/// Time that a command which outlived the daemon has to end by itself.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);
/// Time that the kernel has to end it then.
const KILL_MAX: Duration = Duration::from_secs(1);
/// Pause between two looks at it.
const LEFTOVER_PAUSE: Duration = Duration::from_millis(20);

/// What the error of a run says that the daemon did not see the end of.
const INTERRUPTED: &str = "interrupted: the daemon ended";

/// What becomes of a task of an earlier daemon.
enum Fate {
    /// It goes on as it was kept.
    GoesOn,
    /// It is run now.
    Again,
    /// It has failed for good.
    Failed(String),
}

/// Where a task goes on.
struct Place<'a> {
    generation: &'a Generation,
    /// Its scheduler in the configuration.
    index: usize,
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
        let Restored { tasks, paused, .. } = restored;
        let mut report = BTreeMap::<&str, usize>::new();
        let mut edited = BTreeSet::new();
        let mut leftovers = Vec::new();
        for (file, name) in paused {
            self.pause_restored(&Identity { file: file.into(), name: name.into() }, now);
        }
        let clock = Clock::now();
        for task in tasks {
            match task.process.filter(|process| task.state == TaskState::Running && outlives(*process)) {
                Some(process) => leftovers.push((task, process)),
                None => self.restore_task(task, &clock, &mut report, &mut edited),
            }
        }
        for scheduler in edited {
            let text = format_args!("scheduler {scheduler} was edited, its kept tasks go on");
            self.core.performer.log.write(self.logger, Level::INFO, text);
        }
        if !report.is_empty() {
            let parts: Vec<String> = report.iter().map(|(what, count)| format!("{count} {what}")).collect();
            let text = parts.join(", ");
            record!(self.core.performer.log, self.logger, INFO, "tasks of the earlier daemon: {text}");
        }
        self.end_leftovers(leftovers, now);
    }

    fn pause_restored(&mut self, scheduler: &Identity, now: Instant) {
        let performer = &mut self.core.performer;
        let Some(newest) = performer.generations.last() else { return };
        if let Some(index) = newest.find(scheduler) {
            let id = newest.scheduler(index);
            self.core.engine.pause(now, id, performer);
        }
    }

    /// Takes one task over.
    fn restore_task(
        &mut self,
        task: Task,
        clock: &Clock,
        report: &mut BTreeMap<&'static str, usize>,
        edited: &mut BTreeSet<Arc<str>>,
    ) {
        let performer = &mut self.core.performer;
        let identity =
            Identity { file: Arc::clone(&task.subject.file), name: Arc::clone(&task.subject.scheduler) };
        let place = performer.generations.last().and_then(|generation| {
            let index = generation.find(&identity)?;
            Some(Place { generation, index })
        });
        let Some(place) = place.filter(|place| place.is_of_kind(&task)) else {
            let same_name =
                performer.generations.last().is_some_and(|newest| newest.find(&identity).is_some());
            *report.entry("failed").or_default() += 1;
            return self.lose(task, no_heir_of(same_name));
        };
        let action = place.generation.action_at(place.index);
        if *action.digest != *task.subject.digest {
            edited.insert(Arc::clone(&action.name));
        }
        let fate = fate(&task, action.rerun);
        let map = place.map(&task);
        let (scheduler, now) = (place.generation.scheduler(place.index), clock.now);
        let failed = failed_of(&task);
        let event = event_of(&task.subject);
        let is_gone = performer.lanes.filesystems.of_parent(event.pathname, now).is_local
            && should_exist(&event)
            && missing::is_missing(event.pathname);
        let id = TaskId(task.id.0);
        let restored = engine::Restored {
            id,
            scheduler,
            map,
            event,
            due: match fate {
                Fate::GoesOn => clock.instant(task.due_s),
                Fate::Again | Fate::Failed(_) => now,
            },
            attempt: task.attempt,
            failed: failed.as_ref().map(|(error, attempts, id)| FailedTask {
                error,
                attempts: *attempts,
                id: *id,
            }),
            is_kept: matches!(fate, Fate::GoesOn),
        };
        if !self.core.engine.restore(now, &restored, performer) {
            // A later event of its path has made a task already.
            if let Some(keeper) = &mut performer.keeper {
                keeper.next.gone.push(task.id);
            }
            return;
        }
        let what = match &fate {
            Fate::GoesOn => "go on",
            Fate::Again => "run again",
            Fate::Failed(_) => "failed",
        };
        *report.entry(what).or_default() += 1;
        match fate {
            Fate::Failed(error) => {
                let failure = Failure::new(FailureKind::Interrupted, error);
                self.core.engine.fail(now, id, &failure, performer);
            }
            Fate::GoesOn | Fate::Again => {
                if let (true, Some(map)) = (is_gone, map) {
                    self.core.deleted(map, event.pathname, event.root_len);
                }
            }
        }
    }

    /// A task that no scheduler of the configuration can take fails for good.
    fn lose(&mut self, task: Task, why: impl Fn(&str) -> String) {
        let performer = &mut self.core.performer;
        let Some(keeper) = &mut performer.keeper else { return };
        let error = why(&task.subject.scheduler);
        let (path, id) = (Escaped(&task.subject.path), task.id);
        record!(performer.log, self.logger, ERROR, "task failed: {error}, pathname={path}, task_id={id}");
        let now_s = Clock::now().now_s;
        keeper.next.gone.push(task.id);
        keeper.add_end(Ended {
            id: task.id,
            subject: task.subject,
            result: Outcome::Failed,
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

    /// Ends commands that outlived the daemon; their tasks follow.
    fn end_leftovers(&mut self, leftovers: Vec<(Task, Process)>, now: Instant) {
        if leftovers.is_empty() {
            return;
        }
        // A command with a batch is that of many tasks.
        let mut said = BTreeSet::new();
        for (task, Process { group, .. }) in leftovers.iter().filter(|(_, one)| said.insert(one.group)) {
            let path = Escaped(&task.subject.path);
            let text =
                format_args!("end the command of '{path}' (pid {group}), which outlived the earlier daemon");
            self.core.performer.log.write(self.logger, Level::WARNING, text);
        }
        let (tasks, processes): (Vec<Task>, Vec<Process>) = leftovers.into_iter().unzip();
        let unended = tasks.clone();
        let run = move || {
            end(&processes);
            Report::Leftovers(tasks)
        };
        let about = "end commands that outlived the earlier daemon".to_owned();
        let work = Once::new(about, run, move |_: Undone| Report::Leftovers(unended.clone()));
        self.core.performer.lanes.submit(LaneId::Leftovers, Size::Large, work, now);
    }

    /// Commands that outlived the earlier daemon have been ended.
    pub(in crate::daemon) fn leftovers_ended(&mut self, tasks: Vec<Task>) {
        for task in tasks {
            self.restore_task(task, &Clock::now(), &mut BTreeMap::new(), &mut BTreeSet::new());
        }
    }
}

fn no_heir_of(same_name: bool) -> impl Fn(&str) -> String {
    move |name| no_heir(name, same_name)
}

impl Place<'_> {
    fn is_of_kind(&self, task: &Task) -> bool {
        self.generation.action_at(self.index).work.kept_kind() == &*task.subject.kind
    }

    /// The map that the task's event would come through now: of a watch with that root, rather than of any.
    fn map(&self, task: &Task) -> Option<MapId> {
        let root = task.subject.path.get(..usize::from(task.subject.root_len))?;
        let has_root = |watch: &&Watching| watch.what.has_root(root);
        self.generation.watches.iter().find(has_root).map(|watch| watch.map)
    }
}

fn fate(task: &Task, rerun: bool) -> Fate {
    match task.state {
        TaskState::Waiting | TaskState::Queued | TaskState::Retrying => Fate::GoesOn,
        TaskState::Running if rerun || is_to_run_again(task) => Fate::Again,
        TaskState::Running => Fate::Failed(INTERRUPTED.to_owned()),
    }
}

fn detail_of(task: &Task) -> Option<Value> {
    serde_json::from_str(task.subject.detail.as_deref()?).ok()
}

fn is_to_run_again(task: &Task) -> bool {
    detail_of(task).is_some_and(|detail| detail["again"] == Value::Bool(true))
}

/// What the task tells of, if it tells of a failure.
fn failed_of(task: &Task) -> Option<(String, u32, TaskId)> {
    let detail = detail_of(task)?;
    let failed = detail.get("failed")?;
    let id = IdPrefix::parse(failed["id"].as_str()?)?.whole()?;
    Some((failed["error"].as_str()?.to_owned(), failed["attempts"].as_u64()? as u32, id))
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

/// Whether an event speaks of something that is there.
fn should_exist(event: &Event<'_>) -> bool {
    match event.mask.flag() {
        Some(
            Flag::Delete
            | Flag::DeleteSelf
            | Flag::MovedFrom
            | Flag::QOverflow
            | Flag::Unmount
            | Flag::Ignored,
        )
        | None => false,
        Some(
            Flag::Access
            | Flag::Modify
            | Flag::Attrib
            | Flag::CloseWrite
            | Flag::CloseNowrite
            | Flag::Open
            | Flag::MovedTo
            | Flag::Create
            | Flag::MoveSelf,
        ) => !event.pathname.is_empty(),
    }
}

/// Whether a process group of an earlier daemon's command is still there: its leader, which was started then.
fn outlives(process: Process) -> bool {
    started_ticks(process.group) == Some(process.started_ticks)
}

/// Ends process groups: SIGTERM, then SIGKILL.
fn end(processes: &[Process]) {
    let mut groups: Vec<Pid> = processes.iter().filter_map(|process| Pid::from_raw(process.group)).collect();
    for (signal, time) in [(Signal::TERM, LEFTOVER_GRACE), (Signal::KILL, KILL_MAX)] {
        let until = Instant::now() + time;
        // ESRCH: it has ended.
        groups.retain(|group| kill_process_group(*group, signal).is_ok());
        while !groups.is_empty() && Instant::now() < until {
            thread::sleep(LEFTOVER_PAUSE);
            let living = living_groups();
            groups.retain(|group| living.contains(&group.as_raw_nonzero().get()));
        }
    }
}

/// The process groups of all processes that run. A signal would find zombies, too: whoever inherited them may take its
/// time.
fn living_groups() -> BTreeSet<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let group = |process: fs::DirEntry| {
        let stat = Stat::read(&process.file_name().to_string_lossy())?;
        (stat.field(3)? != b"Z").then(|| stat.number(5)).flatten()
    };
    processes.flatten().filter_map(group).map(|group| group as i32).collect()
}
