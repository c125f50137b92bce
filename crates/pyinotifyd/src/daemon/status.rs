//! What the daemon does at the moment, in numbers. The unit's STATUS line and the lines that SIGUSR1 asks for are
//! made here, from the same figures.

use std::fmt;
use std::time::Instant;

use control::api::SchedulerStatus;
use engine::{Doing, Engine, TaskStatus};
use watcher::Source;

use super::Daemon;
use super::generation::Generation;
use super::reload::counted;
use super::task_name::TaskName;
use crate::log::{Escaped, record};

/// How many tasks SIGUSR1 names: those that are there longest.
const TASKS_NAMED: usize = 10;

/// Counts over everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    /// Watches that the configuration in force names.
    watches: usize,
    /// Watches that the kernel holds for them, one for each directory.
    kernel_watches: usize,
    waiting: u32,
    retrying: u32,
    queued: u32,
    running: u32,
    events: u64,
    overflows: u64,
    started: u64,
}

impl Totals {
    pub(super) fn of(watcher: &dyn Source, engine: &Engine, generations: &[Generation]) -> Totals {
        let retrying = engine.scheduler_stats().map(|stats| stats.retrying).sum();
        let (watcher, engine) = (watcher.stats(), engine.stats());
        Totals {
            watches: generations.last().map_or(0, |newest| newest.watches.len()),
            kernel_watches: watcher.watches,
            waiting: engine.waiting - retrying,
            retrying,
            queued: engine.queued,
            running: engine.running,
            events: watcher.events,
            overflows: watcher.overflows,
            started: engine.started,
        }
    }
}

impl Totals {
    /// As the API shows them, with what the schedulers have brought to an end, and how many tasks stand as failed.
    pub(super) fn view(&self, schedulers: &[SchedulerStatus], failed: u64) -> control::api::Totals {
        control::api::Totals {
            events: self.events,
            overflows: self.overflows,
            kernel_watches: self.kernel_watches as u64,
            waiting: self.waiting.into(),
            running: self.running.into(),
            queued: self.queued.into(),
            retrying: self.retrying.into(),
            failed,
            done: schedulers.iter().map(|scheduler| scheduler.done).sum(),
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { watches, kernel_watches, waiting, queued, running, events, overflows, started, .. } =
            self;
        let retrying = Retrying(self.retrying);
        let watches = counted(*watches as u64, "watch", "watches");
        let events = counted(*events, "event", "events");
        let overflows = counted(*overflows, "overflow", "overflows");
        let started = counted(*started, "run", "runs");
        write!(
            out,
            "{watches} ({kernel_watches} in the kernel), tasks: {waiting} waiting, {queued} queued, \
             {running} running{retrying}; so far {events}, {overflows}, {started}"
        )
    }
}

/// Tasks that are tried again, where there are some.
struct Retrying(u32);

impl fmt::Display for Retrying {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(out, ", {} retrying", self.0) } else { Ok(()) }
    }
}

impl Daemon {
    /// SIGUSR1: the status as INFO lines.
    pub(super) fn log_status(&mut self, now: Instant) {
        let performer = &self.core.performer;
        let totals = Totals::of(&*self.watcher, &self.core.engine, &performer.generations);
        let mut lines = vec![totals.to_string()];
        for generation in performer.generations.iter().rev() {
            let replaced = if generation.retired { " of a replaced configuration" } else { "" };
            for watch in &generation.watches {
                lines.push(format!("watch '{}'{replaced}", watch.path_text));
            }
            for stats in self.core.engine.scheduler_stats().filter(|stats| generation.owns(stats.scheduler)) {
                let action = generation.action(stats.scheduler);
                let (name, kind) = (&action.name, action.work.kind());
                let (waiting, queued, running) = (stats.waiting, stats.queued, stats.running);
                let retrying = Retrying(stats.retrying);
                let paused = if stats.paused && !generation.retired { ", paused" } else { "" };
                lines.push(format!(
                    "scheduler {name} ({kind}){replaced}: {waiting} waiting, {queued} queued, \
                     {running} running{retrying}{paused}"
                ));
            }
        }
        self.core.engine.oldest(TASKS_NAMED, |task| lines.push(self.task_line(task, now)));
        for line in lines {
            record!(self.core.performer.log, self.logger, INFO, "status: {line}");
        }
    }

    fn task_line(&self, task: &TaskStatus<'_>, now: Instant) -> String {
        let performer = &self.core.performer;
        let scheduler = performer.scheduler_name(task.scheduler);
        let (doing, mask) = (Shown(task.doing, now), task.event.mask.name());
        let (path, id) = (Escaped(task.event.pathname), TaskName::of(task.id));
        format!("task {doing}, scheduler={scheduler}, mask={mask}, path={path}, task_id={}", id.as_str())
    }
}

/// What a task does, as seen at a time.
struct Shown(Doing, Instant);

impl fmt::Display for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(doing, now) = self;
        let to = |at: Instant| at.saturating_duration_since(*now).as_secs_f64();
        let ago = |at: Instant| now.saturating_duration_since(at).as_secs();
        match doing {
            Doing::Waiting(Some(at)) => {
                write!(out, "waits, due in {:.1} s", at.saturating_duration_since(*now).as_secs_f64())
            }
            Doing::Waiting(None) => write!(out, "waits"),
            Doing::PutOff(_) => write!(out, "waits, its file is in use"),
            Doing::Retrying(at) => write!(out, "is tried again in {:.1} s", at.map_or(0.0, to)),
            Doing::Settling(_) => write!(out, "waits for its file to settle"),
            Doing::Gathered(at) => {
                write!(out, "is gathered for a batch, due in at most {:.1} s", at.map_or(0.0, to))
            }
            Doing::Queued(at) => write!(out, "is queued for {} s", at.map_or(0, ago)),
            Doing::Running(at) => write!(out, "runs for {} s", at.map_or(0, ago)),
        }
    }
}
