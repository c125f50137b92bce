//! Commands that outlived the daemon which started them.
//!
//! Each is ended, by SIGTERM and after a grace by SIGKILL, before anything else is done with its task. A worker does
//! that, since it may take seconds. Meanwhile the task runs as far as the engine knows: it is seen, it keeps its path
//! and its place, and the end of the daemon waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use engine::{FailureKind, TaskHandle};
use hashbrown::HashMap;
use ledger::{Id, Process, Task, TaskState};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Keeper;
use super::group::Group;
use super::restore::{INTERRUPTED, was_stopped};
use crate::action::Report;
use crate::action::command::Environment;
use crate::daemon::Daemon;
use crate::daemon::children::Stat;
use crate::daemon::perform::GRACE;
use crate::daemon::tasks::failed;
use crate::lane::{Fit, LaneId, NotPerformed, Size, Work};
use crate::log::{Escaped, Level};

/// Time that the kernel has to end a command after SIGKILL.
const KILL_MAX: Duration = Duration::from_secs(1);
/// Pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(20);

/// A command that is being ended.
#[derive(Debug)]
pub(super) struct Leftover {
    process: Process,
    whose: Whose,
}

/// What waits for the end of a command.
#[derive(Debug)]
enum Whose {
    /// The run that the engine has of it.
    Run(TaskHandle),
    /// A task that no scheduler can take. It fails then, for that reason.
    Lost(Box<Task>, String),
}

impl Keeper {
    /// Whether a command of an earlier daemon is still being ended.
    pub(in crate::daemon) fn has_leftovers(&self) -> bool {
        !self.leftovers.is_empty()
    }
}

impl Leftover {
    /// The process group of a run, if it is the one of such a command.
    pub(super) fn group(leftovers: &[Leftover], run: TaskHandle) -> Option<Group> {
        let found = leftovers.iter().find(|one| one.is_of(run));
        found.map(|one| Group { process: one.process, is_stopped: true })
    }

    fn is_of(&self, run: TaskHandle) -> bool {
        match self.whose {
            Whose::Run(handle) => handle == run,
            Whose::Lost(..) => false,
        }
    }
}

impl Daemon {
    /// Notes that a command is to be ended. Its task has that run, or fails afterwards with that error.
    pub(super) fn leave_over(&mut self, task: Task, process: Process, run: Result<TaskHandle, String>) {
        let Some(keeper) = &mut self.core.performer.keeper else { return };
        // A command with a batch is that of many tasks.
        if keeper.leftovers.iter().all(|one| one.process != process) {
            let (path, group) = (Escaped(&task.subject.path), process.group);
            let text =
                format_args!("end the command of '{path}' (pid {group}), which outlived the earlier daemon");
            self.core.performer.log.write(self.logger, Level::WARNING, text);
        }
        let whose = run.map_or_else(|error| Whose::Lost(Box::new(task), error), Whose::Run);
        keeper.leftovers.push(Leftover { process, whose });
    }

    /// Lets a worker end what was noted.
    pub(super) fn end_leftovers(&mut self, now: Instant) {
        let performer = &mut self.core.performer;
        let Some(keeper) = performer.keeper.as_ref().filter(|keeper| keeper.has_leftovers()) else { return };
        let groups = keeper.leftovers.iter().map(|one| one.process.group).collect();
        performer.lanes.submit(LaneId::Leftovers, Size::Large, Arc::new(Ending { groups }), now);
    }

    /// Commands that outlived the earlier daemon have ended.
    pub(in crate::daemon) fn leftovers_ended(&mut self, groups: &BTreeSet<i32>, now: Instant) {
        let Some(keeper) = &mut self.core.performer.keeper else { return };
        let has_ended = |one: &Leftover| groups.contains(&one.process.group);
        let (ended, left) =
            std::mem::take(&mut keeper.leftovers).into_iter().partition::<Vec<_>, _>(has_ended);
        keeper.leftovers = left;
        for Leftover { whose, .. } in ended {
            match whose {
                Whose::Lost(task, error) => self.lose(*task, error),
                Whose::Run(run) => self.leftover_run_ended(run, now),
            }
        }
    }

    fn leftover_run_ended(&mut self, run: TaskHandle, now: Instant) {
        let performer = &mut self.core.performer;
        let left =
            performer.keeper.as_ref().is_some_and(|keeper| keeper.leftovers.iter().any(|one| one.is_of(run)));
        if !left {
            let interrupted = failed(FailureKind::Interrupted, INTERRUPTED.to_owned());
            self.core.engine.finished(now, run, &interrupted, performer);
        }
    }
}

/// The process groups of an earlier daemon's commands that are still there: those whose leader is, which was started
/// then. Of a command that was told to end the leader may be gone while others still tidy up; they are known by the
/// task's id in their environment, since a group's number may be given again. What any other command has left in the
/// background is its own affair.
pub(super) fn outliving(tasks: &[Task]) -> Vec<Process> {
    let mut outliving = Vec::new();
    let mut orphaned = HashMap::<i32, Vec<&Task>>::new();
    for task in tasks.iter().filter(|task| task.state == TaskState::Running) {
        let Some(process) = task.process else { continue };
        if lives(process) {
            outliving.push(process);
        } else if was_stopped(task) {
            orphaned.entry(process.group).or_default().push(task);
        }
    }
    if !orphaned.is_empty() {
        for (pid, group) in living() {
            let tasks = orphaned.get(&group).into_iter().flatten();
            outliving.extend(tasks.filter(|task| has_id(&pid, task.id)).filter_map(|task| task.process));
        }
    }
    outliving
}

/// Whether the leader of a process group runs, which was started then.
fn lives(leader: Process) -> bool {
    let stat = Stat::read(&leader.group.to_string()).filter(|stat| !stat.is_zombie());
    stat.and_then(|stat| stat.number(22)) == Some(leader.started_ticks)
}

/// Whether a process was started for a task.
fn has_id(pid: &str, id: Id) -> bool {
    let variable = format!("{}={id}", Environment::TASK_ID);
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|found| found == variable.as_bytes())
}

/// Ends process groups; each is reported as soon as it has ended.
struct Ending {
    groups: BTreeSet<i32>,
}

impl<K> Work<Report, K> for Ending {
    fn about(&self) -> String {
        "end commands that outlived the earlier daemon".to_owned()
    }

    fn perform(&self, _: Size, _: &mut K, report: &mut dyn FnMut(Report)) -> Fit {
        let mut groups = self.groups.clone();
        for (signal, time) in [(Signal::TERM, GRACE), (Signal::KILL, KILL_MAX)] {
            let until = Instant::now() + time;
            for group in groups.iter().filter_map(|group| Pid::from_raw(*group)) {
                // ESRCH: it has ended.
                let _ = kill_process_group(group, signal);
            }
            while !groups.is_empty() && Instant::now() < until {
                let living: BTreeSet<i32> = living().map(|(_, group)| group).collect();
                let ended: BTreeSet<i32> = groups.difference(&living).copied().collect();
                groups.retain(|group| !ended.contains(group));
                if !ended.is_empty() {
                    report(Report::Leftovers(ended));
                }
                thread::sleep(PAUSE);
            }
        }
        report(Report::Leftovers(groups));
        Fit::Done
    }

    fn not_performed(&self, _: NotPerformed) -> Report {
        Report::Leftovers(self.groups.clone())
    }
}
/// All processes that run, with their process groups. A signal would find zombies, too: whoever inherited them may take
/// its time.
fn living() -> impl Iterator<Item = (String, i32)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| {
        let pid = process.file_name().into_string().ok()?;
        let stat = Stat::read(&pid)?;
        let group = Some(stat).filter(|stat| !stat.is_zombie())?.number(5)?;
        Some((pid, group as i32))
    })
}
