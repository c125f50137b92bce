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
use ledger::{Process, Task};
use rustix::process::{Pid, Signal, kill_process_group};

use super::restore::INTERRUPTED;
use super::{Keeper, Stat, started_ticks};
use crate::action::Report;
use crate::daemon::Daemon;
use crate::daemon::perform::GRACE;
use crate::daemon::tasks::failed;
use crate::lane::{Fit, LaneId, Size, Undone, Work};
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
    /// The process of a run, if it is the one of such a command.
    pub(super) fn process(leftovers: &[Leftover], run: TaskHandle) -> Option<Process> {
        leftovers.iter().find(|one| one.is_of(run)).map(|one| one.process)
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

/// Whether a process group of an earlier daemon's command is still there: its leader, which was started then.
pub(super) fn outlives(process: Process) -> bool {
    started_ticks(process.group) == Some(process.started_ticks)
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
                let living = living_groups();
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

    fn undone(&self, _: Undone) -> Report {
        Report::Leftovers(self.groups.clone())
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
