//! The table of runs: every start of a task, from the engine's effect to its one end.
//!
//! A run is in the table from [`Runs::begin`] to [`Runs::end`]. Whoever learns of an end first reports it, once,
//! whatever it
//! is: a worker, the reaper of children, a host, the end of a host, a start that was taken back. A second report, or
//! one that comes too late, finds no run and counts for nothing. The loop takes the ends ([`Runs::take_ended`]) and
//! tells the engine, which decides what follows.
//!
//! What a command or a job did to files is in the queue of events before its end is learnt of. So the end waits until
//! these events have been told ([`Runs::ends_after`]): they are events of a path whose task runs.

use std::time::Instant;

use engine::{GenerationId, Outcome, TaskHandle};
use hashbrown::HashMap;

use super::behind::Behind;

/// What runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// The host of that configuration.
    Host(GenerationId),
    /// A child process.
    Command,
    /// A worker of a lane.
    Lane,
    /// Nothing: it is only logged.
    DryRun,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// What runs it.
    pub(crate) runner: Runner,
    /// It was handed to its runner and cannot be taken back.
    pub(crate) is_sent: bool,
    /// It was asked to end, and is forced to at this time.
    force_at: Option<Instant>,
}

/// A run that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Which.
    pub(crate) handle: TaskHandle,
    /// How.
    pub(crate) outcome: Outcome,
    /// What it leaves for the history.
    pub(crate) traces: Traces,
}

/// What a run leaves for the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// The end of what its command wrote, where that goes into the log.
    pub(crate) output: Vec<u8>,
    /// What its file rule did, for an undo.
    pub(crate) deed: Option<String>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    table: HashMap<TaskHandle, Run>,
    ended: Behind<Ended>,
    /// See [`Runs::ends_after`].
    after: u64,
    /// Runs that were asked to end, so that nobody looks for them where there are none.
    asked: usize,
}

impl Runs {
    /// A task starts.
    pub(crate) fn begin(&mut self, handle: TaskHandle, runner: Runner) {
        let run = Run { runner, is_sent: false, force_at: None };
        let before = self.table.insert(handle, run);
        debug_assert!(before.is_none(), "the engine gives each run a handle of its own");
    }

    /// The run, while it has not ended.
    pub(crate) fn get(&self, handle: TaskHandle) -> Option<&Run> {
        self.table.get(&handle)
    }

    /// The run was handed to its runner.
    pub(crate) fn sent(&mut self, handle: TaskHandle) {
        if let Some(run) = self.table.get_mut(&handle) {
            run.is_sent = true;
        }
    }

    /// The run is over. Whatever came of one that was asked to end, it was cancelled, unless it had not begun.
    pub(crate) fn end(&mut self, handle: TaskHandle, outcome: Outcome) {
        self.end_with(handle, outcome, Traces::default());
    }

    /// The run is over, and leaves that.
    pub(crate) fn end_with(&mut self, handle: TaskHandle, outcome: Outcome, traces: Traces) {
        let Some(run) = self.table.remove(&handle) else { return };
        let is_asked = run.force_at.is_some();
        self.asked -= usize::from(is_asked);
        let outcome = if is_asked && outcome != Outcome::NotBegun { Outcome::Cancelled } else { outcome };
        self.ended.push(self.after, Ended { handle, outcome, traces });
    }

    /// Ends that are learnt of from here on are those of runs that may have caused what is queued up to there.
    pub(crate) fn ends_after(&mut self, queued: u64) {
        self.after = queued;
    }

    /// Takes the runs that have ended, in order, of which all that they may have caused is told.
    pub(crate) fn take_ended(&mut self, told: u64) -> Vec<Ended> {
        self.ended.take(told)
    }

    /// Whether there are ends to take.
    pub(crate) fn has_ended(&self, told: u64) -> bool {
        self.ended.has(told)
    }

    /// The run is asked to end, and will be forced to at that time. Said again, the time is a later one.
    pub(crate) fn ask_to_end(&mut self, handle: TaskHandle, force_at: Instant) {
        if let Some(run) = self.table.get_mut(&handle) {
            self.asked += usize::from(run.force_at.replace(force_at).is_none());
        }
    }

    /// Runs whose time to end by themselves is over.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<TaskHandle> {
        self.asked_to_end().filter(|(_, force_at)| *force_at <= now).map(|(handle, _)| handle).collect()
    }

    /// When the next one is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.asked_to_end().map(|(_, force_at)| force_at).min()
    }

    fn asked_to_end(&self) -> impl Iterator<Item = (TaskHandle, Instant)> {
        let table = (self.asked > 0).then_some(&self.table);
        table.into_iter().flatten().filter_map(|(handle, run)| Some((*handle, run.force_at?)))
    }

    /// What a runner has, when it is gone.
    pub(crate) fn sent_to(&self, runner: Runner) -> Vec<TaskHandle> {
        let theirs = self.table.iter().filter(|(_, run)| run.runner == runner && run.is_sent);
        theirs.map(|(handle, _)| *handle).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::{Failure, FailureKind};

    use super::*;

    const ONE: TaskHandle = TaskHandle(1);
    const TWO: TaskHandle = TaskHandle(2);

    fn runs() -> Runs {
        let mut runs = Runs::default();
        runs.begin(ONE, Runner::Command);
        runs.begin(TWO, Runner::Host(GenerationId(7)));
        runs
    }

    fn ended(handle: TaskHandle, outcome: Outcome, output: &str) -> Ended {
        Ended { handle, outcome, traces: traces(output) }
    }

    fn traces(output: &str) -> Traces {
        Traces { output: output.into(), deed: None }
    }

    #[test]
    fn what_a_run_leaves_is_kept_with_its_outcome() {
        let (mut runs, now) = (runs(), Instant::now());
        runs.end_with(ONE, Outcome::Done, traces("said"));
        runs.ask_to_end(TWO, now);
        runs.end_with(TWO, Outcome::Done, traces("more"));
        let expected = [ended(ONE, Outcome::Done, "said"), ended(TWO, Outcome::Cancelled, "more")];
        assert_eq!(runs.take_ended(0), expected);
    }

    #[test]
    fn each_run_ends_once() {
        let mut runs = runs();
        let failure = Outcome::Failed(Failure::new(FailureKind::Error, "x"));
        runs.end(ONE, failure.clone());
        runs.end(ONE, Outcome::Done);
        runs.end(TaskHandle(3), Outcome::Done);
        assert_eq!(runs.take_ended(0), [ended(ONE, failure, "")]);
        assert!(!runs.has_ended(0) && runs.get(ONE).is_none() && runs.get(TWO).is_some());
    }

    #[test]
    fn one_that_was_asked_to_end_was_cancelled_whatever_it_says() {
        let (mut runs, now) = (runs(), Instant::now());
        assert_eq!((runs.deadline(), runs.overdue(now)), (None, vec![]));
        let later = now + Duration::from_secs(1);
        runs.ask_to_end(ONE, now);
        runs.ask_to_end(ONE, later);
        assert_eq!((runs.deadline(), runs.overdue(now)), (Some(later), vec![]));
        assert_eq!(runs.overdue(later), [ONE]);
        runs.end(ONE, Outcome::Done);
        assert_eq!(runs.take_ended(0), [ended(ONE, Outcome::Cancelled, "")]);
        assert_eq!((runs.deadline(), runs.asked), (None, 0));
    }

    #[test]
    fn an_end_waits_for_the_events_before_it() {
        let mut runs = runs();
        runs.ends_after(10);
        runs.end(ONE, Outcome::Done);
        runs.ends_after(20);
        runs.end(TWO, Outcome::Done);
        assert!(!runs.has_ended(9) && runs.take_ended(9).is_empty());
        assert!(runs.has_ended(10));
        assert_eq!(runs.take_ended(19), [ended(ONE, Outcome::Done, "")]);
        assert_eq!(runs.take_ended(20), [ended(TWO, Outcome::Done, "")]);
    }

    #[test]
    fn a_runner_that_is_gone_had_what_was_sent_to_it() {
        let (mut runs, host) = (runs(), Runner::Host(GenerationId(7)));
        assert_eq!(runs.sent_to(host), []);
        runs.sent(TWO);
        runs.sent(ONE);
        assert_eq!(runs.sent_to(host), [TWO]);
    }
}
