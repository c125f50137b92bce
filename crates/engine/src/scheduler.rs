//! One scheduler: which event does what to which of its tasks.
//!
//! [`Scheduler::judge`] and [`Scheduler::judge_cancel`] decide and change nothing, so that they also explain; the other
//! methods act. A task is by its state in exactly one place: the timer, or one of the lists of those that were asked
//! about, that are gathered, queued or taken for a batch, that run and that are being stopped.

mod batch;
pub(crate) mod hand_over;
mod run;
mod timer;

use std::cell::Cell;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use event::{Event, Mask};

use self::run::is_marked;
use self::timer::Timer;
use crate::clock::{Nanos, START, span};
use crate::index::Index;
use crate::path::Path;
use crate::tasks::{Failed, List, Mark, News, Renamed, Slot, State, Tasks};
use crate::turn::{Commands, Shared, Turn};
use crate::verdict::{Begin, Change, Ignored, Verdict};
use crate::{
    CancelledBy, Effects, EndResult, Limits, MapId, NoRule, NotDone, OnBusy, OwnedEvent, Reaction, Record,
    SchedulerId, SchedulerKind, SchedulerSpec, StepLimit, TaskRecord,
};

/// What a generation lets its schedulers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its configuration is in force.
    Active,
    /// Another configuration took its place: no new tasks; waiting ones run when they are due, running ones have the
    /// shutdown timeout from here or from their start.
    Retired { since: Nanos },
    /// The daemon ends: no new tasks; those that are left have until then.
    Closing { until: Nanos },
}

/// The rule that matches a path, where the scheduler has rules, or why none does.
type RuleMatch = Result<Option<usize>, NoRule>;

/// From a path to the task that it has.
enum Keys {
    /// All paths have the same task.
    Single(Option<Slot>),
    /// Each path has its own.
    Paths(Index),
}

/// One scheduler with its tasks.
#[expect(clippy::struct_excessive_bools, reason = "each says something else, and all can be true at once")]
pub(crate) struct Scheduler {
    id: SchedulerId,
    spec: SchedulerSpec,
    delay: Nanos,
    /// What the rules said of the latest path, by its serial: events come in bursts of one path.
    latest_match: Cell<(u64, RuleMatch)>,
    keys: Keys,
    timer: Timer,
    /// Due, and the program was asked about them.
    asked: List,
    /// The next batch, in the order of first events.
    gathered: List,
    /// When the latest event came for it.
    gathered_last: Nanos,
    /// Due, in the order in which they had to wait for their start.
    queued: List,
    /// In the order of their starts, so that the first is the first whose time is over.
    running: List,
    /// Told to stop.
    stopping: List,
    /// What the one run of a batch is for, beside the task that runs, in the order of first events.
    taken: List,
    /// How many tasks may run at once.
    places: Option<NonZeroU32>,
    /// A time other than that of the timer can be its deadline.
    has_deadlines: bool,
    /// Not started or interrupted, and left to another life of the daemon.
    left: List,
    /// The daemon ends: what is to come after that is left.
    leaves_after: Option<Nanos>,
    /// When the latest tasks started, as many as may in the span of `max_rate`.
    starts: VecDeque<Nanos>,
    /// When the queue was looked at: what the rate let start then is held up by something else.
    looked_at: Nanos,
    /// It starts nothing.
    paused: bool,
    /// The queue is to be looked at in the next tick.
    to_fill: bool,
    /// What failed may be tried again: not while it ends.
    retries: bool,
    /// Another configuration has one of its name and kind, which hears its events and where its tasks go on. It starts
    /// nothing more.
    has_heir: bool,
    /// The one of its name and kind in the newest configuration that has one.
    heir: Option<SchedulerId>,
    /// Those of its name and kind in older configurations, the newest first.
    elders: Vec<SchedulerId>,
    /// Runs of those whose heir it is.
    elder_runs: u32,
    /// Such a run may act on any path.
    waits_for_elders: bool,
    /// [`Record::MaxJobs`] was given.
    max_jobs_told: bool,
    /// [`Record::MaxRate`] was given.
    max_rate_told: bool,
    /// [`Record::WaitForTasks`] was given, and its end was not.
    wait_told: bool,
    /// [`Record::Split`] was given, and there are tasks that it was about.
    split_told: bool,
}

impl Scheduler {
    pub(crate) fn new(id: SchedulerId, spec: SchedulerSpec) -> Scheduler {
        Scheduler {
            id,
            // Two runs at once could act on the same path.
            places: spec.batch.map_or(spec.max_jobs, |_| Some(NonZeroU32::MIN)),
            has_deadlines: spec.timeout.is_some() || spec.max_rate.is_some() || spec.batch.is_some(),
            delay: span(spec.delay),
            latest_match: Cell::new((Path::UNCACHED, Ok(None))),
            keys: if spec.singlejob { Keys::Single(None) } else { Keys::Paths(Index::new()) },
            timer: Timer::new(),
            asked: List::EMPTY,
            gathered: List::EMPTY,
            gathered_last: 0,
            queued: List::EMPTY,
            running: List::EMPTY,
            stopping: List::EMPTY,
            taken: List::EMPTY,
            left: List::EMPTY,
            leaves_after: None,
            starts: VecDeque::new(),
            looked_at: 0,
            paused: false,
            to_fill: false,
            retries: true,
            has_heir: false,
            heir: None,
            elders: Vec::new(),
            elder_runs: 0,
            waits_for_elders: false,
            max_jobs_told: false,
            max_rate_told: false,
            wait_told: false,
            split_told: false,
            spec,
        }
    }

    pub(crate) fn id(&self) -> SchedulerId {
        self.id
    }

    pub(crate) fn spec(&self) -> &SchedulerSpec {
        &self.spec
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Tasks that wait for their time.
    pub(crate) fn waiting(&self) -> u32 {
        self.timer.len() + self.asked.len() + self.gathered.len()
    }

    /// Those of them that wait for another try. Looks at each task that does not wait for the scheduler's delay.
    pub(crate) fn retrying(&self, tasks: &Tasks) -> u32 {
        self.timer.retrying(tasks).count() as u32
    }

    /// Tasks that wait for their start.
    pub(crate) fn queued(&self) -> u32 {
        self.queued.len()
    }

    /// Tasks that run, those that were told to stop too: they take a place until they have stopped.
    pub(crate) fn running(&self) -> u32 {
        self.running.len() + self.stopping.len() + self.taken.len()
    }

    /// Tasks that the run of a batch is for, beside the one that it has its name of.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.len()
    }

    /// Tasks that may still come to their end.
    pub(crate) fn pending(&self) -> u32 {
        self.waiting() + self.queued.len() + self.with_taken(self.running.len())
    }

    /// A number of runs as one of tasks.
    fn with_taken(&self, runs: u32) -> u32 {
        if runs == 0 { 0 } else { runs + self.taken.len() }
    }

    /// Tasks that are left to another life of the daemon.
    pub(crate) fn left_behind(&self) -> u32 {
        self.left.len()
    }

    /// Bytes of its table.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.keys {
            Keys::Single(_) => 0,
            Keys::Paths(index) => index.memory_bytes(),
        }
    }

    /// Whether there is nothing that it has to do, or may have when an elder's run is over.
    pub(crate) fn is_done(&self) -> bool {
        self.pending() + self.stopping.len() + self.left.len() + self.elder_runs == 0
    }

    /// When it has something to do by itself.
    #[inline]
    pub(crate) fn deadline(&self, tasks: &Tasks) -> Option<Nanos> {
        if self.to_fill {
            return Some(START);
        }
        let due = self.timer.first(tasks).map(|slot| tasks.time(slot));
        if self.has_deadlines { self.first_deadline(due, tasks) } else { due }
    }

    /// The first of its deadlines, with that of the timer.
    #[cold]
    fn first_deadline(&self, due: Option<Nanos>, tasks: &Tasks) -> Option<Nanos> {
        let timeout = self.spec.timeout.zip(self.running.first());
        let timeout = timeout.map(|(timeout, slot)| tasks.time(slot) + span(timeout));
        let rate = self.rate_passes().filter(|passes| *passes > self.looked_at);
        [due, timeout, rate, self.batch_due(tasks)].into_iter().flatten().min()
    }

    /// When the task that is queued for longest was due.
    pub(crate) fn queued_since(&self, tasks: &Tasks) -> Option<Nanos> {
        self.queued.first().map(|slot| tasks.time(slot))
    }

    /// When the task that has run for longest was started.
    pub(crate) fn running_since(&self, tasks: &Tasks) -> Option<Nanos> {
        self.running.first().map(|slot| tasks.time(slot))
    }

    /// The task of a path.
    #[inline]
    pub(crate) fn find(&self, path: &Path<'_>, tasks: &Tasks) -> Option<Slot> {
        match &self.keys {
            Keys::Single(slot) => *slot,
            Keys::Paths(index) => index.find(path.hash, path.bytes, tasks),
        }
    }

    /// What an event does that is mapped to this scheduler.
    #[inline]
    pub(crate) fn judge(
        &self,
        phase: Phase,
        (path, is_dir): (&Path<'_>, bool),
        tasks: &Tasks,
        now: Nanos,
        shared: &Shared,
    ) -> Verdict<Slot> {
        if !self.fits(is_dir) {
            return Verdict::Ignored(Ignored::Unfit);
        }
        let Some(task) = self.find(path, tasks) else {
            // Before the rules: a generation that is over should not match patterns for nothing.
            if phase != Phase::Active {
                return Verdict::Ignored(Ignored::Paused);
            }
            return match self.rule(path) {
                Ok(rule) => self.judge_new(rule, tasks, now, shared),
                Err(why) => Verdict::Ignored(Ignored::NoRule(why)),
            };
        };
        // With singlejob the task may be another path's.
        let same_path = matches!(self.keys, Keys::Paths(_)) || tasks.is_path(task, path.bytes);
        // A task of the same path has its rule already.
        let is_known = same_path && !tasks.has(task, Mark::AskRules);
        match if is_known { Ok(tasks.rule(task)) } else { self.rule(path) } {
            Ok(rule) => self.judge_met(phase, rule, task, tasks, same_path),
            Err(why) => Verdict::Ignored(Ignored::NoRule(why)),
        }
    }

    #[inline]
    fn judge_new(&self, rule: Option<usize>, tasks: &Tasks, now: Nanos, shared: &Shared) -> Verdict<Slot> {
        if tasks_full(tasks, &shared.limits) {
            return Verdict::Ignored(Ignored::TasksMax);
        }
        let begin = if self.delay > 0 {
            Begin::AfterDelay
        } else if self.spec.batch.is_some() {
            Begin::WithBatch
        } else if self.queued.len() == 0 && self.can_start(now, &shared.commands) {
            Begin::AtOnce
        } else {
            Begin::WhenPlaceIsFree
        };
        Verdict::New { begin, rule }
    }

    #[inline]
    fn judge_met(
        &self,
        phase: Phase,
        rule: Option<usize>,
        task: Slot,
        tasks: &Tasks,
        same_path: bool,
    ) -> Verdict<Slot> {
        let state = tasks.state(task);
        // Another life of the daemon gets it as it is.
        if state == State::Left || (self.leaves_after.is_some() && state.is_to_come()) {
            return Verdict::Ignored(Ignored::Paused);
        }
        if self.spec.batch.is_some() {
            return Verdict::Met { task, change: judge_member(phase, rule, state) };
        }
        let change = match (state, phase) {
            (State::Waiting | State::Retrying, Phase::Active) => Change::Reschedule { rule },
            (State::PutOff | State::Settling | State::Asked, Phase::Active) if self.delay > 0 => {
                Change::Reschedule { rule }
            }
            (State::PutOff | State::Settling | State::Asked | State::Queued, Phase::Active) => {
                Change::Refresh { rule }
            }
            (State::Left, _) => return Verdict::Ignored(Ignored::Paused),
            // The configuration in force gets the same event and acts on it.
            (State::Running | State::Stopping | State::Taken, _)
                if self.has_heir || matches!(phase, Phase::Retired { .. }) =>
            {
                return Verdict::Ignored(Ignored::Paused);
            }
            (State::Running | State::Stopping | State::Taken, _) => {
                self.judge_busy(phase, rule, task, tasks, same_path)
            }
            (State::Gathered, Phase::Active) => Change::Gather { rule },
            (
                State::Waiting
                | State::Retrying
                | State::PutOff
                | State::Settling
                | State::Asked
                | State::Gathered
                | State::Queued,
                Phase::Retired { .. } | Phase::Closing { .. },
            ) => Change::Cancel,
        };
        Verdict::Met { task, change }
    }

    /// What an event does whose task runs.
    fn judge_busy(
        &self,
        phase: Phase,
        rule: Option<usize>,
        task: Slot,
        tasks: &Tasks,
        same_path: bool,
    ) -> Change {
        if phase == Phase::Active && tasks.has(task, Mark::Interrupted) {
            // The run of an earlier life of the daemon does nothing for what comes now.
            return Change::Remember { rule };
        }
        // An elder's run is stopped because of the reload, which is no reason to lose an event.
        let ends = tasks.scheduler(task) == self.id
            && tasks.state(task) == State::Stopping
            && !tasks.has(task, Mark::TimedOut)
            && !tasks.has(task, Mark::Restart);
        match self.spec.on_busy {
            OnBusy::RunAgainIfChanged if same_path && !ends => Change::SkipAndRunAgain { rule },
            OnBusy::Rerun if !ends => Change::Remember { rule },
            // The run is for the old path, and may have come too late for it: one for the new path follows.
            OnBusy::Skip if !ends && same_path && self.has_followed(task, tasks) => Change::Remember { rule },
            OnBusy::Restart if !ends && phase == Phase::Active => Change::Restart { rule },
            OnBusy::Skip | OnBusy::RunAgainIfChanged | OnBusy::Rerun | OnBusy::Restart => Change::Skip,
        }
    }

    /// Whether the directory of a task was renamed during its run. With singlejob the path of a run does not matter.
    fn has_followed(&self, task: Slot, tasks: &Tasks) -> bool {
        matches!(self.keys, Keys::Paths(_)) && matches!(tasks.renamed(task), Renamed::Followed { .. })
    }

    /// What an event does whose path has a run of an elder: the same as if that were its own.
    pub(crate) fn judge_elder(
        &self,
        phase: Phase,
        reaction: Reaction,
        (path, is_dir): (&Path<'_>, bool),
        task: Slot,
        tasks: &Tasks,
    ) -> Verdict<Slot> {
        match reaction {
            Reaction::Cancel(_) => return Verdict::Met { task, change: judge_cancel_of_run(task, tasks) },
            Reaction::Schedule(_) if !self.fits(is_dir) => return Verdict::Ignored(Ignored::Unfit),
            Reaction::Schedule(_) => {}
        }
        match self.rule(path) {
            Ok(rule) => {
                let same_path = tasks.is_path(task, path.bytes);
                Verdict::Met { task, change: self.judge_busy(phase, rule, task, tasks, same_path) }
            }
            Err(why) => Verdict::Ignored(Ignored::NoRule(why)),
        }
    }

    /// What an event does that is mapped to `Cancel` of this scheduler. Files, dirs and rules do not matter.
    pub(crate) fn judge_cancel(&self, path: &Path<'_>, tasks: &Tasks) -> Verdict<Slot> {
        let Some(task) = self.find(path, tasks) else {
            return Verdict::Ignored(Ignored::NothingToCancel);
        };
        let change = match tasks.state(task) {
            State::Waiting
            | State::PutOff
            | State::Retrying
            | State::Settling
            | State::Asked
            | State::Gathered
            | State::Queued
            | State::Left => Change::Cancel,
            State::Running | State::Stopping | State::Taken if self.has_heir => {
                return Verdict::Ignored(Ignored::NothingToCancel);
            }
            State::Running | State::Stopping | State::Taken => judge_cancel_of_run(task, tasks),
        };
        Verdict::Met { task, change }
    }

    #[inline]
    pub(crate) fn rule(&self, path: &Path<'_>) -> RuleMatch {
        let Some(rules) = &self.spec.rules else { return Ok(None) };
        let (serial, latest) = self.latest_match.get();
        if serial == path.serial && serial != Path::UNCACHED {
            return latest;
        }
        // An overflow has no path. A rule that matches everything must not act on nothing.
        let matched = if path.bytes.is_empty() { Ok(None) } else { rules.first_match(path.bytes) };
        let matched = match matched {
            Ok(Some(rule)) => Ok(Some(rule)),
            Ok(None) => Err(NoRule::NoMatch),
            Err(StepLimit) => Err(NoRule::StepLimit),
        };
        self.latest_match.set((path.serial, matched));
        matched
    }

    #[inline]
    fn fits(&self, is_dir: bool) -> bool {
        if is_dir { self.spec.dirs } else { self.spec.files }
    }

    /// Runs that it has, those that were told to stop too.
    #[inline]
    fn runs(&self) -> u32 {
        self.running.len() + self.stopping.len()
    }

    #[inline]
    fn places_are_taken(&self) -> bool {
        self.places.is_some_and(|max| self.runs() + self.elder_runs >= max.get())
    }

    #[inline]
    fn has_place(&self) -> bool {
        !self.waits_for_elders && !self.places_are_taken()
    }

    #[inline]
    fn is_within_rate(&self, now: Nanos) -> bool {
        self.spec.max_rate.is_none_or(|rate| {
            let first = self.starts.front().filter(|_| self.starts.len() >= rate.starts.get() as usize);
            first.is_none_or(|first| first + span(rate.span) <= now)
        })
    }

    /// When the rate lets the next task start, if one waits for that.
    fn rate_passes(&self) -> Option<Nanos> {
        let waits = self.queued.len() > 0 && self.has_place() && !self.paused;
        let rate = self.spec.max_rate.filter(|rate| waits && self.starts.len() >= rate.starts.get() as usize);
        rate.zip(self.starts.front()).map(|(rate, first)| first + span(rate.span))
    }

    /// Whether its places are those of all commands: the one that has waited for longest gets the next, at the turn's
    /// end.
    #[inline]
    fn shares_places(&self, shared: &Shared) -> bool {
        self.spec.kind == SchedulerKind::Command && shared.commands.max.is_some()
    }

    /// Whether what would run one more task of it can take that. If not, the engine is told when it can.
    #[inline]
    pub(crate) fn has_room<E: Effects>(&self, turn: &mut Turn<'_, E>) -> bool {
        let prompt = self.spec.timeout.is_some() || self.spec.max_rate.is_some();
        let has_room = self.spec.kind != SchedulerKind::Job || turn.out.has_room(self.id, prompt);
        turn.shared.jobs_wait |= !has_room;
        has_room
    }

    /// Whether one more task may start.
    #[inline]
    pub(crate) fn can_start(&self, now: Nanos, commands: &Commands) -> bool {
        self.has_place()
            && !self.paused
            && !self.has_heir
            && self.is_within_rate(now)
            && (self.spec.kind != SchedulerKind::Command || commands.has_place())
    }
}

/// What happens to tasks.
impl Scheduler {
    /// Carries out a verdict on an event that came through `map`.
    #[inline]
    pub(crate) fn perform<E: Effects>(
        &mut self,
        verdict: Verdict<Slot>,
        path: &Path<'_>,
        event: &Event<'_>,
        map: MapId,
        turn: &mut Turn<'_, E>,
    ) {
        match verdict {
            Verdict::Ignored(reason) => self.ignore(reason, event, turn),
            Verdict::New { begin, rule } => {
                let news = News { event, map, rule, hash: path.hash, same_path: false };
                let slot = self.insert(&news, turn.now, turn.tasks);
                match begin {
                    Begin::AtOnce
                        if self.spec.settle.is_none()
                            && !self.shares_places(turn.shared)
                            && self.has_room(turn) =>
                    {
                        self.run(slot, turn);
                    }
                    Begin::AtOnce | Begin::WhenPlaceIsFree => self.offer(slot, turn),
                    Begin::AfterDelay => self.wait(slot, turn),
                    Begin::WithBatch => self.gather(slot, turn),
                }
            }
            Verdict::Met { task, change } => match change {
                Change::Reschedule { rule } => {
                    self.reschedule(task, &self.news(path, event, map, rule), turn);
                }
                Change::Gather { rule } => {
                    self.gather_again(task, &self.news(path, event, map, rule), turn);
                }
                Change::Refresh { rule } => self.refresh(task, &self.news(path, event, map, rule), turn),
                Change::Skip => self.skip(task, event, turn),
                Change::SkipAndRunAgain { rule } => {
                    // Whoever reads a file changes nothing, and may be this very run.
                    if !event.mask.intersects(Mask::READING) {
                        turn.tasks.update(task, &self.news(path, event, map, rule));
                        turn.tasks.set(task, Mark::Again);
                    }
                    self.skip(task, event, turn);
                }
                Change::Remember { rule } => {
                    remember(task, &self.news(path, event, map, rule), turn);
                    turn.tasks.set(task, Mark::Again);
                    let task = self.record(task, *event, turn.tasks);
                    turn.out.record(Record::Remembered { task });
                }
                Change::Restart { rule } => self.restart(task, &self.news(path, event, map, rule), turn),
                Change::SkipCancel => {
                    // What the mark stands for is a task that waits for the end of this run, and that is cancelled.
                    cancel_rerun(task, turn.tasks);
                    self.skip(task, event, turn);
                }
                Change::CancelRetry => {
                    self.tell_cancelled_run(task, CancelledBy::Event(event.mask.flag()), turn);
                    forget_marks(task, turn.tasks);
                    let task = self.record(task, *event, turn.tasks);
                    turn.out.record(Record::CancelledWaiting { task });
                }
                Change::Cancel => self.cancel(task, event, turn),
            },
        }
    }

    fn restart<E: Effects>(&mut self, slot: Slot, news: &News<'_>, turn: &mut Turn<'_, E>) {
        remember(slot, news, turn);
        let task = self.record(slot, *news.event, turn.tasks);
        turn.out.record(Record::Restarting { task });
        turn.tasks.set(slot, Mark::Restart);
        if turn.tasks.state(slot) == State::Running {
            self.stop(slot, turn);
        }
    }

    /// What a task gets that an event met.
    #[inline]
    fn news<'a>(&self, path: &Path<'_>, event: &'a Event<'a>, map: MapId, rule: Option<usize>) -> News<'a> {
        // With singlejob it may be that of another path.
        News { event, map, rule, hash: path.hash, same_path: matches!(self.keys, Keys::Paths(_)) }
    }

    #[inline]
    pub(crate) fn ignore<E: Effects>(&self, reason: Ignored, event: &Event<'_>, turn: &mut Turn<'_, E>) {
        let scheduler = self.id;
        match reason {
            Ignored::NoRule(NoRule::NoMatch) => turn.out.record(Record::NoRule { scheduler, event }),
            Ignored::NoRule(NoRule::StepLimit) => {
                turn.out.record(Record::RuleStepLimit { scheduler, event });
            }
            Ignored::TasksMax => turn.refuse(scheduler, event),
            Ignored::Unfit | Ignored::Paused | Ignored::NothingToCancel => {}
        }
    }

    #[inline]
    fn insert(&mut self, news: &News<'_>, now: Nanos, tasks: &mut Tasks) -> Slot {
        let slot = tasks.insert(self.id, news, now);
        self.add_key(news.hash, slot, tasks);
        slot
    }

    #[inline]
    fn add_key(&mut self, hash: u32, slot: Slot, tasks: &Tasks) {
        match &mut self.keys {
            Keys::Single(task) => *task = Some(slot),
            Keys::Paths(index) => index.insert(hash, slot, tasks),
        }
    }

    /// Takes a task out of the place that its state says.
    #[inline]
    fn leave(&mut self, slot: Slot, tasks: &mut Tasks) {
        let list = match tasks.state(slot) {
            State::Waiting | State::PutOff | State::Retrying | State::Settling => {
                return self.timer.remove(slot, tasks);
            }
            State::Asked => &mut self.asked,
            State::Gathered => &mut self.gathered,
            State::Queued => &mut self.queued,
            State::Running => &mut self.running,
            State::Stopping => &mut self.stopping,
            State::Taken => &mut self.taken,
            State::Left => &mut self.left,
        };
        tasks.unlink(list, slot);
    }

    #[inline]
    fn wait<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        self.arm(slot, turn);
        let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
        let again = turn.tasks.again(slot);
        turn.out.record(Record::Scheduled { task, delay: self.spec.delay, again });
    }

    #[inline]
    fn reschedule<E: Effects>(&mut self, slot: Slot, news: &News<'_>, turn: &mut Turn<'_, E>) {
        turn.tasks.update(slot, news);
        self.leave(slot, turn.tasks);
        if turn.tasks.state(slot) != State::Waiting {
            wait_for_event(slot, turn.tasks);
        }
        self.arm(slot, turn);
        let task = self.record(slot, *news.event, turn.tasks);
        turn.out.record(Record::Rescheduled { task, delay: self.spec.delay });
    }

    /// Starts the delay of a task that is in no list.
    #[inline]
    fn arm<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        let due = turn.now + self.delay;
        if self.spec.max_delay.is_none() && turn.tasks.more(slot).is_none() {
            return self.timer.push(slot, due, turn.tasks);
        }
        self.arm_within(slot, due, turn);
    }

    /// The same where something bounds the delay.
    fn arm_within<E: Effects>(&mut self, slot: Slot, due: Nanos, turn: &mut Turn<'_, E>) {
        let mut bounded = due;
        if let Some(max_delay) = self.spec.max_delay {
            let first = *turn.tasks.more_mut(slot).first.get_or_insert(turn.now);
            bounded = bounded.min(first + span(max_delay).max(self.delay));
        }
        let not_before = turn.tasks.more(slot).map_or(0, |more| more.not_before);
        bounded = bounded.max(not_before);
        if bounded == due {
            self.timer.push(slot, due, turn.tasks);
        } else {
            self.timer.insert(slot, State::Waiting, bounded, turn.tasks);
        }
    }

    fn refresh<E: Effects>(&mut self, slot: Slot, news: &News<'_>, turn: &mut Turn<'_, E>) {
        turn.tasks.update(slot, news);
        let task = self.record(slot, *news.event, turn.tasks);
        turn.out.record(Record::Rescheduled { task, delay: self.spec.delay });
    }

    #[inline]
    fn skip<E: Effects>(&mut self, slot: Slot, event: &Event<'_>, turn: &mut Turn<'_, E>) {
        let task = self.record(slot, *event, turn.tasks);
        turn.out.record(Record::SkippedOngoing { task });
    }

    fn cancel<E: Effects>(&mut self, slot: Slot, event: &Event<'_>, turn: &mut Turn<'_, E>) {
        self.tell_cancelled_retry(slot, CancelledBy::Event(event.mask.flag()), turn);
        let task = self.record(slot, *event, turn.tasks);
        turn.out.record(Record::CancelledWaiting { task });
        self.withdraw(slot, turn);
    }

    /// Cancels a task that has not started for no event of its own.
    pub(crate) fn cancel_unstarted<E: Effects>(
        &mut self,
        slot: Slot,
        by: CancelledBy,
        turn: &mut Turn<'_, E>,
    ) {
        self.tell_cancelled_retry(slot, by, turn);
        let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
        turn.out.record(Record::CancelledWaiting { task });
        self.withdraw(slot, turn);
    }

    /// Forgets a task that has not started.
    pub(crate) fn withdraw<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        self.leave(slot, turn.tasks);
        self.remove(slot, turn.tasks);
        self.tell_completed(turn);
    }

    /// Gives a task the path of `event`, as its directory was renamed from one path to another. Without a rule for it,
    /// nothing of the task is to come any more.
    pub(crate) fn follow<E: Effects>(
        &mut self,
        slot: Slot,
        (path, event): (&Path<'_>, &Event<'_>),
        (from, to): (&[u8], &[u8]),
        turn: &mut Turn<'_, E>,
    ) {
        let rule = match self.rule(path) {
            Ok(rule) => rule,
            Err(why) => {
                self.ignore(Ignored::NoRule(why), event, turn);
                return self.drop_rest(slot, turn);
            }
        };
        self.rename(slot, rule, (path, event), (from, to), turn);
        if turn.tasks.state(slot).is_to_come() {
            let task = self.record(slot, *event, turn.tasks);
            turn.out.record(Record::Followed { task, from, to });
        }
    }

    /// Gives a task another path. A run ends as it began: the path is that of what comes after, and of events that meet
    /// the run.
    pub(crate) fn rename<E>(
        &mut self,
        slot: Slot,
        rule: Option<usize>,
        (path, event): (&Path<'_>, &Event<'_>),
        (from, to): (&[u8], &[u8]),
        turn: &mut Turn<'_, E>,
    ) {
        let news = News { event, map: turn.tasks.map(slot), rule, hash: path.hash, same_path: false };
        let runs = !turn.tasks.state(slot).is_to_come();
        // With a batch, no path leads to what runs.
        let has_key = !runs || self.spec.batch.is_none();
        if has_key {
            self.remove_key(slot, turn.tasks);
        }
        if runs {
            remember(slot, &news, turn);
            turn.tasks.more_mut(slot).renamed = Renamed::Followed { from: from.into(), to: to.into() };
        } else {
            if turn.tasks.state(slot) == State::Asked {
                // The answer will be about another path.
                turn.tasks.unlink(&mut self.asked, slot);
                self.timer.insert(slot, State::Settling, turn.now, turn.tasks);
            }
            turn.tasks.update(slot, &news);
        }
        if has_key {
            self.add_key(path.hash, slot, turn.tasks);
        }
    }

    /// The new path of a task is not wanted: it is cancelled, or what is to come after its run.
    pub(crate) fn drop_rest<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        if turn.tasks.state(slot).is_to_come() {
            return self.cancel_unstarted(slot, CancelledBy::Rename, turn);
        }
        if self.spec.batch.is_none() && is_marked(slot, turn.tasks) {
            let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
            turn.out.record(Record::CancelledWaiting { task });
            cancel_rerun(slot, turn.tasks);
        }
        turn.tasks.more_mut(slot).renamed = Renamed::Unwanted;
        turn.tasks.note(slot);
    }

    /// Does what is due: starts tasks whose time has come, not more than the limit, and those that a rate held up.
    pub(crate) fn run_due<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        self.stop_timed_out(turn);
        if self.spec.batch.is_some() {
            return self.run_batches(turn);
        }
        for _ in 0..turn.shared.limits.starts_per_tick_max {
            let first = self.timer.first(turn.tasks);
            let Some(slot) = first.filter(|slot| turn.tasks.time(*slot) <= turn.now) else { break };
            self.timer.remove(slot, turn.tasks);
            self.offer(slot, turn);
        }
        if std::mem::take(&mut self.to_fill) || self.spec.max_rate.is_some() {
            self.fill_places(turn);
        }
    }

    /// Asks the rules for a task that another configuration made; without one it is cancelled.
    fn ask_rules<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) -> bool {
        let event = turn.tasks.event(slot, turn.path);
        let path = Path { bytes: event.pathname, hash: 0, serial: Path::UNCACHED };
        let why = match self.rule(&path) {
            Ok(rule) => {
                turn.tasks.set_rule(slot, rule);
                return true;
            }
            Err(why) => why,
        };
        let event = OwnedEvent::of(&event);
        self.ignore(Ignored::NoRule(why), &event.get(), turn);
        // Whether it was tried or not, it was kept: somebody may look for what became of it.
        self.tell_end_without_run(slot, EndResult::NoRule(why), turn);
        let task = self.record(slot, event.get(), turn.tasks);
        turn.out.record(Record::CancelledWaiting { task });
        self.remove(slot, turn.tasks);
        self.tell_completed(turn);
        false
    }

    /// Makes a task that tells of a failure. It starts as soon as there is a place, whatever else the path has.
    pub(crate) fn receive<E: Effects>(
        &mut self,
        event: &Event<'_>,
        map: MapId,
        failed: Failed,
        turn: &mut Turn<'_, E>,
    ) {
        let path = Path { bytes: event.pathname, hash: 0, serial: Path::UNCACHED };
        let rule = match self.rule(&path) {
            Ok(rule) => rule,
            Err(why) => return self.ignore(Ignored::NoRule(why), event, turn),
        };
        if tasks_full(turn.tasks, &turn.shared.limits) {
            return self.ignore(Ignored::TasksMax, event, turn);
        }
        let news = News { event, map, rule, hash: 0, same_path: false };
        let slot = turn.tasks.insert(self.id, &news, turn.now);
        turn.tasks.set(slot, Mark::Keyless);
        turn.tasks.set_failed(slot, failed);
        if self.spec.batch.is_some() {
            return self.gather(slot, turn);
        }
        self.place(slot, turn);
    }

    /// Says how long it waits for its tasks, if there are any.
    pub(crate) fn tell_wait<E: Effects>(&mut self, timeout: Duration, turn: &mut Turn<'_, E>) {
        if self.pending() > 0 {
            self.wait_told = true;
            turn.out.record(Record::WaitForTasks { scheduler: self.id, timeout, count: self.pending() });
        }
    }

    #[inline]
    fn tell_completed<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        self.tell_completed_to(turn.out);
    }

    pub(crate) fn tell_completed_to(&mut self, out: &mut impl Effects) {
        if self.wait_told && self.pending() == 0 {
            self.wait_told = false;
            out.record(Record::AllCompleted { scheduler: self.id });
        }
    }

    /// Stops the running tasks that were started no later than `started_max`.
    pub(crate) fn stop_running<E: Effects>(&mut self, started_max: Nanos, turn: &mut Turn<'_, E>) {
        let runs = self.overdue(started_max, turn.tasks);
        if runs > 0 {
            self.wait_told = false;
            let count = self.with_taken(runs);
            turn.out.record(Record::TimeoutExceeded { scheduler: self.id, count });
            self.stop_first(runs, turn);
        }
    }

    /// Ends everything: running tasks are stopped, the others forgotten.
    pub(crate) fn cut<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        let keeps = turn.keeps() && self.spec.persist;
        let mut next = self.stopping.first().filter(|_| !keeps && !self.goes_on(turn));
        while let Some(slot) = next {
            forget_marks(slot, turn.tasks);
            next = turn.tasks.next_in_list(slot);
        }
        let count = if keeps { self.with_taken(self.running.len()) } else { self.pending() };
        if count > 0 {
            self.wait_told = false;
            turn.out.record(Record::TimeoutExceeded { scheduler: self.id, count });
        }
        if keeps {
            self.leave_all_behind(turn);
            return self.interrupt_running(turn);
        }
        self.stop_first(self.running.len(), turn);
        self.forget_to_come(NotDone::TimeOver, turn);
    }

    /// Makes the index anew with what is left, which is much faster than taking a million paths out of it.
    fn forget_to_come<E: Effects>(&mut self, why: NotDone, turn: &mut Turn<'_, E>) {
        while let Some(slot) = self.any_to_come() {
            self.tell_not_done(slot, why, turn);
            self.leave(slot, turn.tasks);
            turn.tasks.remove(slot);
        }
        self.index_running(turn.tasks);
    }

    /// A task to take out when all that are to come are.
    fn any_to_come(&self) -> Option<Slot> {
        self.timer.any().or(self.asked.first()).or(self.gathered.first()).or(self.queued.first())
    }

    /// Forgets a task to come that is not waited for.
    fn not_done<E: Effects>(&mut self, slot: Slot, why: NotDone, turn: &mut Turn<'_, E>) {
        self.tell_not_done(slot, why, turn);
        self.leave(slot, turn.tasks);
        self.remove(slot, turn.tasks);
    }

    fn tell_not_done<E: Effects>(&mut self, slot: Slot, why: NotDone, turn: &mut Turn<'_, E>) {
        let is_named = turn.shared.counters.name_not_done();
        let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
        turn.out.record(Record::NotDone { task, why, is_named });
    }

    /// What is to come after its runs comes, though these are stopped: in the configuration in force.
    fn goes_on<E>(&self, turn: &Turn<'_, E>) -> bool {
        self.has_heir && !turn.shared.daemon_ends
    }

    fn overdue(&self, started_max: Nanos, tasks: &Tasks) -> u32 {
        let mut next = self.running.first();
        let mut count = 0;
        while let Some(slot) = next.filter(|slot| tasks.time(*slot) <= started_max) {
            count += 1;
            next = tasks.next_in_list(slot);
        }
        count
    }

    fn stop_first<E: Effects>(&mut self, count: u32, turn: &mut Turn<'_, E>) {
        for _ in 0..count {
            let slot = self.running.first().expect("not more are stopped than run");
            if !self.goes_on(turn) {
                forget_marks(slot, turn.tasks);
            }
            self.stop(slot, turn);
        }
    }

    /// Stops what runs, for another life of the daemon to say what becomes of it.
    fn interrupt_running<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        while let Some(slot) = self.running.first() {
            turn.tasks.set(slot, Mark::Interrupted);
            self.stop(slot, turn);
        }
    }

    #[inline]
    fn record<'a>(&self, slot: Slot, event: Event<'a>, tasks: &Tasks) -> TaskRecord<'a> {
        TaskRecord { scheduler: self.id, id: tasks.id(slot), event, others: 0 }
    }

    /// The same of a task that runs.
    #[inline]
    fn record_of_run<'a>(&self, slot: Slot, event: Event<'a>, tasks: &Tasks) -> TaskRecord<'a> {
        TaskRecord { others: self.taken.len(), ..self.record(slot, event, tasks) }
    }
}

/// What an event does to a task of a scheduler with a batch. What runs has no key, so that no event meets it.
fn judge_member(phase: Phase, rule: Option<usize>, state: State) -> Change {
    match (state, phase) {
        (State::Running | State::Stopping | State::Taken | State::Left, _) => Change::Skip,
        (_, Phase::Retired { .. } | Phase::Closing { .. }) => Change::Cancel,
        (State::Queued, Phase::Active) => Change::Refresh { rule },
        (
            State::Waiting
            | State::PutOff
            | State::Retrying
            | State::Settling
            | State::Asked
            | State::Gathered,
            Phase::Active,
        ) => Change::Gather { rule },
    }
}

fn judge_cancel_of_run(task: Slot, tasks: &Tasks) -> Change {
    let is_tried_again = tasks.more(task).is_some_and(|more| more.retry.is_some());
    if is_tried_again { Change::CancelRetry } else { Change::SkipCancel }
}

pub(crate) fn tasks_full(tasks: &Tasks, limits: &Limits) -> bool {
    tasks.len() >= limits.tasks_max || tasks.bytes() as u64 >= limits.bytes_max
}

/// Gives a running task the event for which it is to run again.
fn remember<E>(slot: Slot, news: &News<'_>, turn: &mut Turn<'_, E>) {
    if !turn.tasks.is_path(slot, news.event.pathname) {
        let event = OwnedEvent::of(&turn.tasks.event_of_run(slot, turn.path));
        let more = turn.tasks.more_mut(slot);
        more.run_event = Some(event);
        more.renamed = Renamed::No;
    }
    turn.tasks.update(slot, news);
}

/// A task that waited for something else waits for its delay again.
fn wait_for_event(slot: Slot, tasks: &mut Tasks) {
    if tasks.state(slot) == State::Retrying {
        let (due, tried) = (tasks.time(slot), tasks.tries(slot));
        tasks.set_attempt(slot, 1);
        tasks.forget_reason(slot);
        let more = tasks.more_mut(slot);
        (more.not_before, more.tried) = (due, tried);
    }
    if let Some(more) = tasks.known_more(slot) {
        more.first = None;
        more.settles_since = None;
        more.reason.clear();
    }
}

/// A task that runs does not run again for an event that came.
fn cancel_rerun(slot: Slot, tasks: &mut Tasks) {
    tasks.clear(slot, Mark::Again);
    if tasks.clear(slot, Mark::Restart) {
        tasks.clear(slot, Mark::Interrupted);
    }
    tasks.note(slot);
}

/// A task that is stopped for good does not run again.
fn forget_marks(slot: Slot, tasks: &mut Tasks) {
    tasks.clear(slot, Mark::Again);
    tasks.clear(slot, Mark::Restart);
    if let Some(more) = tasks.known_more(slot) {
        more.retry = None;
    }
    tasks.note(slot);
}
