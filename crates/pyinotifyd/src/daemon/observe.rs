//! What operators see of events and tasks: counts since the start, streams of what happens, and what failed lately.
//!
//! Fed from the way of an event and of a task, so that counting is an addition, and a stream costs one look at an empty
//! list while nobody reads. Counts of a scheduler are kept under its name, across reloads.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use control::Stream;
use control::api::{EventLine, FATES, PathText, SrcPathText, TaskLine, Time};
use control::metrics::Histogram;
use engine::{EndResult, Failure, Record, Start, TaskId, TaskRecord};
use event::{Event, Flag};
use hashbrown::{HashMap, HashSet};
use ledger::Glob;

use super::failed::{FailedTask, FailedTasks};
use super::task_name::TaskName;
use crate::config::Identity;

/// Upper bounds of the histograms, in seconds: from a small move to a night's work.
const BOUNDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0, 1_800.0, 7_200.0];

/// Schedulers that no configuration has any more and whose failures are still counted: operators hear of a failure by
/// what its count is some minutes later.
const GONE_MAX: usize = 100;

/// Why a task waits whose scheduler is paused.
pub(crate) const PAUSED: &str = "its scheduler is paused";

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Counts since the start.
    pub counts: Counts,
    /// Who reads what happens.
    pub streams: Streams,
    /// What failed for good lately.
    pub failed: FailedTasks,
    /// The end of what the command wrote whose end the engine is being told of.
    pub output: Vec<u8>,
    /// Tasks that run.
    runs: HashMap<TaskId, Run>,
}

/// A task that runs.
#[derive(Debug)]
struct Run {
    began: Instant,
    /// It only looks whether its file changed since its run before, and how long it was due. It counts if that was so.
    looks: Option<Duration>,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Failed,
    Cancelled,
}

impl End {
    /// All of them.
    pub(crate) const ALL: [End; 3] = [End::Ok, End::Failed, End::Cancelled];

    /// As the API names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            End::Ok => "ok",
            End::Failed => "failed",
            End::Cancelled => "cancelled",
        }
    }
}

/// Counts of one scheduler since the start.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Runs that were started; one that looks again whether its file is in use counts once, and one that finds nothing
    /// changed since the run before does not count.
    pub attempts: u64,
    /// Ends by [`End`].
    ends: [u64; 3],
    /// How long runs took.
    pub duration: Histogram,
    /// How long tasks were due when they were started.
    pub delay: Histogram,
    /// Bytes that file rules copied, by action.
    pub bytes: Vec<(&'static str, u64)>,
}

impl Tally {
    /// How many tasks ended so.
    pub(crate) fn ends(&self, end: End) -> u64 {
        self.ends[end as usize]
    }
}

impl Default for Tally {
    fn default() -> Tally {
        let (duration, delay) = (Histogram::new(BOUNDS), Histogram::new(BOUNDS));
        Tally { attempts: 0, ends: [0; 3], duration, delay, bytes: Vec::new() }
    }
}

/// Counts of everything since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Events by flag, [`Flag::index`].
    events: [u64; 15],
    /// Those of them that the daemon made up.
    pub synthetic: u64,
    /// Events that exclude filters dropped.
    pub excluded: u64,
    /// Reloads that succeeded, and that failed.
    pub reloads: [u64; 2],
    /// How often hosts were started again.
    pub host_restarts: u64,
    tallies: HashMap<Arc<str>, Tally>,
}

impl Counts {
    /// Counts an event that is told to a watch.
    #[inline]
    pub(crate) fn event(&mut self, event: &Event<'_>) {
        if let Some(flag) = event.mask.flag() {
            self.events[flag.index()] += 1;
        }
        self.synthetic += u64::from(event.synthetic);
    }

    /// Events of all kinds, by name.
    pub(crate) fn events_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Flag::ALL.into_iter().map(|flag| (flag.name(), self.events[flag.index()]))
    }

    /// The counts of a scheduler.
    pub(crate) fn tally(&self, scheduler: &str) -> Tally {
        self.tallies.get(scheduler).cloned().unwrap_or_default()
    }

    /// Forgets schedulers that no configuration has any more, but for some of which tasks have failed: what is labelled
    /// with names is bounded.
    pub(crate) fn keep(&mut self, names: &HashSet<Arc<str>>) {
        let mut gone = 0;
        self.tallies.retain(|name, tally| {
            let has_failed = !names.contains(name) && tally.ends(End::Failed) > 0;
            gone += usize::from(has_failed);
            names.contains(name) || (has_failed && gone <= GONE_MAX)
        });
    }

    /// Schedulers of which tasks have failed, but for those of `names`; in the order of their names.
    pub(crate) fn failed_besides(&self, names: &HashSet<&str>) -> Vec<(&str, &Tally)> {
        let tallies = self.tallies.iter().map(|(name, tally)| (&**name, tally));
        let mut gone: Vec<_> =
            tallies.filter(|(name, tally)| !names.contains(name) && tally.ends(End::Failed) > 0).collect();
        gone.sort_unstable_by_key(|(name, _)| *name);
        gone.truncate(GONE_MAX);
        gone
    }

    /// Counts a task of an earlier daemon that failed without a scheduler.
    pub(crate) fn lost(&mut self, scheduler: &Arc<str>) {
        self.tally_mut(scheduler).ends[End::Failed as usize] += 1;
    }

    /// Schedulers are called otherwise from here on.
    pub(crate) fn rename(&mut self, names: &std::collections::HashMap<Arc<str>, Arc<str>>) {
        // Names may be exchanged: all are taken before one is given back.
        let taken: Vec<_> =
            names.iter().filter_map(|(old, new)| Some((new, self.tallies.remove(old)?))).collect();
        for (name, tally) in taken {
            self.tallies.insert(Arc::clone(name), tally);
        }
    }

    /// Counts bytes that a file rule copied.
    pub(crate) fn copied(&mut self, scheduler: &Arc<str>, action: &'static str, bytes: u64) {
        let tally = self.tally_mut(scheduler);
        match tally.bytes.iter_mut().find(|(known, _)| *known == action) {
            Some((_, sum)) => *sum += bytes,
            None => tally.bytes.push((action, bytes)),
        }
    }

    fn tally_mut(&mut self, scheduler: &Arc<str>) -> &mut Tally {
        self.tallies.entry_ref(scheduler).or_default()
    }
}

impl Observed {
    /// A task is started.
    pub(crate) fn started(&mut self, start: &Start<'_>, scheduler: &Arc<str>, now: Instant) {
        let looks = start.again.then_some(start.late);
        self.runs.insert(start.id, Run { began: now, looks });
        if looks.is_none() {
            self.counts.tally_mut(scheduler).delay.observe(start.late.as_secs_f64());
        }
    }

    /// What the engine has decided about a task, with the name of its scheduler.
    pub(crate) fn decided(
        &mut self,
        task: &TaskRecord<'_>,
        fate: Fate<'_>,
        scheduler: &Arc<str>,
        now: Instant,
    ) {
        match fate {
            Fate::Scheduled | Fate::Rescheduled | Fate::Skipped | Fate::Settling(_) | Fate::Queued(_) => {}
            Fate::Started { again } => {
                self.counts.tally_mut(scheduler).attempts += u64::from(!again);
            }
            Fate::PutOff(_) | Fate::Unchanged => {
                self.runs.remove(&task.id);
            }
            Fate::Retrying(_) => {
                self.run_is_over(task.id, scheduler, now);
            }
            Fate::Finished => self.ended(task, scheduler, End::Ok, now),
            Fate::Failed(_) => self.ended(task, scheduler, End::Failed, now),
            Fate::Cancelled => self.ended(task, scheduler, End::Cancelled, now),
        }
        if self.streams.wants_tasks() {
            self.streams.task(task, scheduler, fate);
        }
    }

    /// Whether it is counted, or told to somebody: most events put a task off, which is neither.
    #[inline]
    pub(crate) fn wants(&self, fate: Fate<'_>) -> bool {
        let is_told_only = matches!(
            fate,
            Fate::Scheduled | Fate::Rescheduled | Fate::Skipped | Fate::Settling(_) | Fate::Queued(_)
        );
        !is_told_only || self.streams.wants_tasks()
    }

    /// Counts how long a run took, if there was one.
    fn run_is_over(&mut self, id: TaskId, scheduler: &Arc<str>, now: Instant) -> &mut Tally {
        let run = self.runs.remove(&id);
        let tally = self.counts.tally_mut(scheduler);
        if let Some(Run { began, looks }) = run {
            tally.duration.observe(now.saturating_duration_since(began).as_secs_f64());
            if let Some(late) = looks {
                tally.attempts += 1;
                tally.delay.observe(late.as_secs_f64());
            }
        }
        tally
    }

    fn ended(&mut self, task: &TaskRecord<'_>, scheduler: &Arc<str>, end: End, now: Instant) {
        let tally = self.run_is_over(task.id, scheduler, now);
        tally.ends[end as usize] += 1 + u64::from(task.others);
    }

    /// A task has ended, and nobody else keeps what failed.
    pub(crate) fn failed(&mut self, task: &TaskRecord<'_>, scheduler: Identity, end: &engine::End<'_>) {
        let output = std::mem::take(&mut self.output);
        if let EndResult::Failed(failure) = end.result {
            self.failed.push(FailedTask::new(task, scheduler, failure, end, output));
        }
    }
}

/// What becomes of a task, as far as operators follow it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate<'a> {
    Scheduled,
    Rescheduled,
    Skipped,
    /// Why it has not settled.
    Settling(&'a str),
    /// Whether its scheduler is paused; else it waits for a place.
    Queued(bool),
    /// Whether it looks first if its file changed since its run before.
    Started {
        again: bool,
    },
    PutOff(&'a Failure),
    Retrying(&'a Failure),
    Finished,
    /// Nothing changed since its run before: nothing was done, and nothing ends that has not ended then.
    Unchanged,
    Failed(&'a Failure),
    Cancelled,
}

impl<'a> Fate<'a> {
    /// Of a record that tells of one.
    pub(crate) fn of<'r>(record: &'r Record<'a>) -> Option<(&'r TaskRecord<'a>, Fate<'a>)> {
        Some(match record {
            Record::Scheduled { task, .. } => (task, Fate::Scheduled),
            Record::Rescheduled { task, .. } => (task, Fate::Rescheduled),
            Record::SkippedOngoing { task } => (task, Fate::Skipped),
            Record::Unsettled { task, reason, is_news: true } => (task, Fate::Settling(reason)),
            Record::Queued { task, is_paused } => (task, Fate::Queued(*is_paused)),
            Record::Started { task, looks_again: false, again } => (task, Fate::Started { again: *again }),
            Record::PutOff { task, failure } => (task, Fate::PutOff(failure)),
            Record::Retry { task, failure, .. } => (task, Fate::Retrying(failure)),
            Record::Finished { task } => (task, Fate::Finished),
            Record::Unchanged { task } => (task, Fate::Unchanged),
            Record::Failed { task, failure } => (task, Fate::Failed(failure)),
            Record::CancelledWaiting { task }
            | Record::Replaced { task }
            | Record::CancelledOngoing { task }
            | Record::NotDone { task, .. }
            | Record::Vanished { task } => (task, Fate::Cancelled),
            // One that looks again whether its file is in use was told when it was started for the first time.
            Record::Started { looks_again: true, .. }
            | Record::Received { .. }
            | Record::Excluded { .. }
            | Record::ExcludeStepLimit { .. }
            | Record::NoRule { .. }
            | Record::RuleStepLimit { .. }
            | Record::Remembered { .. }
            | Record::Restarting { .. }
            | Record::Reruns { .. }
            | Record::Unsettled { is_news: false, .. }
            | Record::Gathered { .. }
            | Record::Split { .. }
            | Record::Followed { .. }
            | Record::Withdrawn { .. }
            | Record::MaxJobs { .. }
            | Record::MaxRate { .. }
            | Record::TasksMax { .. }
            | Record::TasksMaxOver { .. }
            | Record::Paused { .. }
            | Record::WaitForTasks { .. }
            | Record::AllCompleted { .. }
            | Record::Kept { .. }
            | Record::TimeoutExceeded { .. }
            | Record::NotDoneMore { .. } => return None,
        })
    }

    /// As streams name it.
    fn name(self) -> &'static str {
        match self {
            Fate::Scheduled => "scheduled",
            Fate::Rescheduled => "rescheduled",
            Fate::Skipped => "skipped",
            Fate::Settling(_) => "settling",
            Fate::Queued(_) => "queued",
            Fate::Started { .. } => "started",
            Fate::PutOff(_) => "put off",
            Fate::Retrying(_) => "retrying",
            Fate::Finished => "finished",
            Fate::Unchanged => "unchanged",
            Fate::Failed(_) => "failed",
            Fate::Cancelled => "cancelled",
        }
    }

    fn error(self) -> Option<&'a str> {
        match self {
            Fate::PutOff(failure) | Fate::Retrying(failure) | Fate::Failed(failure) => Some(&failure.text),
            Fate::Scheduled
            | Fate::Rescheduled
            | Fate::Skipped
            | Fate::Settling(_)
            | Fate::Queued(_)
            | Fate::Started { .. }
            | Fate::Finished
            | Fate::Unchanged
            | Fate::Cancelled => None,
        }
    }

    /// What it waits for, as far as it is not for a place.
    fn reason(self) -> Option<&'a str> {
        match self {
            Fate::Settling(reason) => Some(reason),
            Fate::Queued(true) => Some(PAUSED),
            Fate::Queued(false)
            | Fate::Scheduled
            | Fate::Rescheduled
            | Fate::Skipped
            | Fate::Started { .. }
            | Fate::PutOff(_)
            | Fate::Retrying(_)
            | Fate::Finished
            | Fate::Unchanged
            | Fate::Failed(_)
            | Fate::Cancelled => None,
        }
    }
}

/// Readers of what happens; the server limits how many there are.
#[derive(Debug, Default)]
pub(crate) struct Streams(Vec<Reader>);

#[derive(Debug)]
struct Reader {
    stream: Stream,
    tasks: bool,
    path: Option<Glob>,
}

impl Streams {
    /// One more reader.
    pub(crate) fn add(&mut self, stream: Stream, tasks: bool, path: Option<Glob>) {
        self.0.push(Reader { stream, tasks, path });
    }

    /// Nothing more is told; whether there were readers.
    pub(crate) fn end(&mut self) -> bool {
        self.0.drain(..).count() > 0
    }

    fn wants_tasks(&self) -> bool {
        self.0.iter().any(|reader| reader.tasks)
    }

    /// An event that is told to a watch.
    #[inline]
    pub(crate) fn event(&mut self, event: &Event<'_>) {
        if !self.0.is_empty() {
            self.write_event(event);
        }
    }

    fn write_event(&mut self, event: &Event<'_>) {
        let line = EventLine {
            time: wall_now(),
            event: event.mask.name().to_owned(),
            path: PathText::of(event.pathname),
            src_path: SrcPathText::of(event.src_pathname),
            dir: event.is_dir,
            synthetic: event.synthetic,
        };
        self.0.retain(|reader| !reader.wants(event.pathname) || reader.stream.write(&line));
    }

    fn task(&mut self, task: &TaskRecord<'_>, scheduler: &str, fate: Fate<'_>) {
        debug_assert!(FATES.contains(&fate.name()), "the API's description names it");
        let line = TaskLine {
            time: wall_now(),
            task: TaskName::of(task.id).as_str().to_owned(),
            what: fate.name().to_owned(),
            scheduler: scheduler.to_owned(),
            path: PathText::of(task.event.pathname),
            event: task.event.mask.name().to_owned(),
            error: fate.error().map(str::to_owned),
            reason: fate.reason().map(str::to_owned),
        };
        let path = task.event.pathname;
        self.0.retain(|reader| !reader.tasks || !reader.wants(path) || reader.stream.write(&line));
    }
}

impl Reader {
    fn wants(&self, path: &[u8]) -> bool {
        self.path.as_ref().is_none_or(|glob| glob.matches(path))
    }
}

/// The moment, for people.
pub(crate) fn wall_now() -> Time {
    Time(wall_seconds(SystemTime::now()))
}

/// Seconds since 1970.
pub(crate) fn wall_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Turns the loop's times into those of people, and back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    /// As the loop has it.
    pub now: Instant,
    /// The same, in seconds since 1970.
    pub wall_s: f64,
}

impl Moments {
    /// As things stand.
    pub(crate) fn at(now: Instant) -> Moments {
        Moments { now, wall_s: wall_now().0 }
    }

    /// A time of the loop's, past or to come.
    pub(crate) fn time(&self, at: Instant) -> Time {
        let ahead = at.saturating_duration_since(self.now).as_secs_f64();
        Time(self.wall_s + ahead - self.now.saturating_duration_since(at).as_secs_f64())
    }

    /// So long ago.
    pub(crate) fn ago(&self, time: Duration) -> Time {
        Time(self.wall_s - time.as_secs_f64())
    }

    /// The loop's time of one that is past, or now.
    pub(crate) fn past(&self, time_s: f64) -> Instant {
        let ago = Duration::try_from_secs_f64((self.wall_s - time_s).max(0.0)).unwrap_or_default();
        self.now.checked_sub(ago).unwrap_or(self.now)
    }

    /// The loop's time of one that is to come, or now.
    pub(crate) fn future(&self, time_s: f64) -> Instant {
        let ahead = Duration::try_from_secs_f64((time_s - self.wall_s).max(0.0)).unwrap_or_default();
        self.now.checked_add(ahead).unwrap_or(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{FailureKind, SchedulerId};

    const NOW: Duration = Duration::from_secs(1);

    fn task(id: u128) -> TaskRecord<'static> {
        let event = Event { pathname: b"/in/a", name_len: 1, mask: Flag::Create.mask(), ..Event::overflow() };
        TaskRecord { scheduler: SchedulerId(0), id: TaskId(id), event, others: 0 }
    }

    fn start(task: &TaskRecord<'static>, attempt: u32) -> Start<'static> {
        Start {
            handle: engine::TaskHandle(1),
            id: task.id,
            scheduler: task.scheduler,
            event: task.event,
            rule: None,
            again: false,
            attempt,
            late: NOW,
            failed: None,
            batch: &[],
        }
    }

    #[test]
    fn a_task_that_fails_once_counts_two_attempts_and_one_end() {
        let (mut observed, name, now) = (Observed::default(), Arc::<str>::from("move"), Instant::now());
        let failure = Failure::new(FailureKind::ExitStatus(3), "exited with status 3");
        let task = task(7);
        let say = |observed: &mut Observed, record: Record<'_>, at: Instant| {
            let (task, fate) = Fate::of(&record).unwrap();
            observed.decided(task, fate, &name, at);
        };
        say(&mut observed, Record::Started { task, again: false, looks_again: false }, now);
        observed.started(&start(&task, 1), &name, now);
        let retry = Record::Retry { task, failure: &failure, attempt: 1, pause: Some(NOW) };
        say(&mut observed, retry, now + NOW);
        say(&mut observed, Record::Started { task, again: false, looks_again: false }, now + NOW);
        observed.started(&start(&task, 2), &name, now + NOW);
        assert!(Fate::of(&Record::Started { task, again: false, looks_again: true }).is_none());
        say(&mut observed, Record::Failed { task, failure: &failure }, now + 2 * NOW);
        let tally = observed.counts.tally("move");
        assert_eq!((tally.attempts, End::ALL.map(|end| tally.ends(end))), (2, [0, 1, 0]));
        let result = EndResult::Failed(&failure);
        let scheduler = Identity { file: "config".into(), name: Arc::clone(&name) };
        observed.failed(
            &task,
            scheduler,
            &engine::End { result, attempts: 2, age: NOW, ran: NOW, told: None },
        );
        let failed = observed.failed.iter().next().unwrap();
        assert_eq!((failed.attempts, failed.exit_status), (2, Some(3)));
        assert!((failed.duration_s - 1.0).abs() < 0.001);
        assert!(observed.runs.is_empty());
        assert_eq!(observed.counts.tally("other").attempts, 0);
        observed.counts.keep(&HashSet::new());
        let gone = observed.counts.failed_besides(&HashSet::new());
        assert_eq!(
            gone.iter().map(|(name, tally)| (*name, tally.ends(End::Failed))).collect::<Vec<_>>(),
            [("move", 1)]
        );
    }

    #[test]
    fn of_schedulers_that_are_gone_the_failures_of_some_are_kept() {
        let mut counts = Counts::default();
        for number in 0..GONE_MAX + 50 {
            counts.lost(&format!("gone{number}").into());
        }
        counts.copied(&"gone without a failure".into(), "copy", 1);
        counts.lost(&"here".into());
        let here: HashSet<Arc<str>> = ["here".into()].into();
        counts.keep(&here);
        assert_eq!(counts.failed_besides(&["here"].into()).len(), GONE_MAX);
        assert_eq!((counts.tally("here").ends(End::Failed), counts.tallies.len()), (1, GONE_MAX + 1));
    }

    #[test]
    fn a_run_that_finds_nothing_changed_counts_nowhere_and_one_that_does_something_counts() {
        let (mut observed, name, now) = (Observed::default(), Arc::<str>::from("move"), Instant::now());
        let task = task(7);
        let mut run = |end: Record<'_>, again: bool| {
            for record in [Record::Started { task, again, looks_again: false }, end] {
                let (told, fate) = Fate::of(&record).unwrap();
                observed.decided(told, fate, &name, now);
                if matches!(fate, Fate::Started { .. }) {
                    observed.started(&Start { again, ..start(&task, 1) }, &name, now);
                }
            }
            let tally = observed.counts.tally("move");
            (tally.attempts, tally.ends(End::Ok))
        };
        assert_eq!(run(Record::Finished { task }, false), (1, 1));
        assert_eq!(run(Record::Unchanged { task }, true), (1, 1));
        assert_eq!(run(Record::Finished { task }, true), (2, 2));
        assert!(observed.runs.is_empty());
    }

    #[test]
    fn times_of_the_loop_are_told_as_times_of_day() {
        let before = Instant::now();
        let now = before + NOW;
        let moments = Moments { now, wall_s: 100.0 };
        let times = [moments.time(now + NOW), moments.time(before), moments.ago(NOW)];
        assert_eq!(times, [Time(101.0), Time(99.0), Time(99.0)]);
    }

    #[test]
    fn times_of_day_lead_back_to_instants() {
        let moments = Moments::at(Instant::now());
        let later = moments.now + Duration::from_millis(1_500);
        let back = moments.future(moments.time(later).0);
        assert!(back <= later && later - back < Duration::from_micros(10), "{:?}", later - back);
        assert_eq!(moments.future(moments.wall_s - 5.0), moments.now, "what has passed is due at once");
        assert_eq!(moments.future(f64::NAN), moments.now);
        let past = moments.past(moments.wall_s - 5.0);
        assert!(moments.time(past).0 - moments.wall_s + 5.0 < 1e-5);
        assert_eq!(moments.past(moments.wall_s + 5.0), moments.now, "what was begun later was not begun");
    }
}
