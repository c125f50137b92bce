//! One scheduler: which event does what to which of its tasks.
//!
//! [`Scheduler::judge`] and [`Scheduler::judge_cancel`] decide and change nothing, so that they also explain; the other
//! methods act. A task is in exactly one of five lists, by its state. All tasks of a scheduler wait equally long, so
//! those that wait are due in the order in which they came, and their list is the timer. The same holds for those that
//! are put off.

use std::cell::Cell;
use std::time::Duration;

use event::Event;

use crate::clock::{Nanos, span};
use crate::index::Index;
use crate::path::Path;
use crate::tasks::{List, News, Share, Slot, State, Tasks};
use crate::turn::Turn;
use crate::verdict::{Begin, Change, Ignored, Verdict};
use crate::{
    Effects, Failure, FailureKind, Limits, MapId, Outcome, Record, SchedulerId, SchedulerSpec, Start,
    StepLimit, TaskRecord,
};

/// How long a task is put off that found its file in use.
const IN_USE_PAUSE: Nanos = 1_000_000_000;

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

/// What the rules say of a path.
#[derive(Clone, Copy, Debug)]
enum RuleMatch {
    Rule(Option<usize>),
    NoRule,
    StepLimit,
}

/// From a path to the task that it has.
enum Keys {
    /// All paths have the same task.
    Single(Option<Slot>),
    /// Each path has its own.
    Paths(Index),
}

/// One scheduler with its tasks.
pub(crate) struct Scheduler {
    id: SchedulerId,
    spec: SchedulerSpec,
    delay: Nanos,
    /// What the rules said of the latest path, by its serial: events come in bursts of one path.
    latest_match: Cell<(u64, RuleMatch)>,
    keys: Keys,
    /// The timer: in the order in which they were armed, which is the order in which they are due.
    waiting: List,
    /// Found their file in use; in the order in which they did, which is the order in which they look again.
    put_off: List,
    /// Due, in the order in which they found no place. Not empty only while all places are taken.
    queued: List,
    /// In the order of their starts, so that the first is the first whose time is over.
    running: List,
    /// Told to stop.
    stopping: List,
    /// [`Record::MaxJobs`] was given.
    max_jobs_told: bool,
    /// [`Record::WaitForTasks`] was given, and its end was not.
    wait_told: bool,
}

impl Scheduler {
    pub(crate) fn new(id: SchedulerId, spec: SchedulerSpec) -> Scheduler {
        Scheduler {
            id,
            delay: span(spec.delay),
            latest_match: Cell::new((Path::UNCACHED, RuleMatch::NoRule)),
            keys: if spec.singlejob { Keys::Single(None) } else { Keys::Paths(Index::new()) },
            waiting: List::EMPTY,
            put_off: List::EMPTY,
            queued: List::EMPTY,
            running: List::EMPTY,
            stopping: List::EMPTY,
            max_jobs_told: false,
            wait_told: false,
            spec,
        }
    }

    pub(crate) fn id(&self) -> SchedulerId {
        self.id
    }

    pub(crate) fn delay(&self) -> Duration {
        self.spec.delay
    }

    /// Tasks that wait for their time.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.len() + self.put_off.len()
    }

    /// Tasks that wait for a place.
    pub(crate) fn queued(&self) -> u32 {
        self.queued.len()
    }

    /// Tasks that run, those that were told to stop too: they take a place until they have stopped.
    pub(crate) fn running(&self) -> u32 {
        self.running.len() + self.stopping.len()
    }

    /// Tasks that may still come to their end.
    pub(crate) fn pending(&self) -> u32 {
        self.waiting() + self.queued.len() + self.running.len()
    }

    /// Bytes of its table.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.keys {
            Keys::Single(_) => 0,
            Keys::Paths(index) => index.memory_bytes(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending() + self.stopping.len() == 0
    }

    /// When the first waiting task is due.
    pub(crate) fn due(&self, tasks: &Tasks) -> Option<Nanos> {
        self.first_due(tasks).map(|slot| tasks.time(slot))
    }

    fn first_due(&self, tasks: &Tasks) -> Option<Slot> {
        match (self.waiting.first(), self.put_off.first()) {
            (Some(waiting), Some(put_off)) if tasks.time(put_off) < tasks.time(waiting) => Some(put_off),
            (waiting, put_off) => waiting.or(put_off),
        }
    }

    /// When the task that has run for longest was started.
    pub(crate) fn running_since(&self, tasks: &Tasks) -> Option<Nanos> {
        self.running.first().map(|slot| tasks.time(slot))
    }

    /// The task of a path.
    pub(crate) fn find(&self, path: &Path<'_>, tasks: &Tasks) -> Option<Slot> {
        match &self.keys {
            Keys::Single(slot) => *slot,
            Keys::Paths(index) => index.find(path.hash, path.bytes, tasks),
        }
    }

    /// What an event does that is mapped to this scheduler.
    pub(crate) fn judge(
        &self,
        phase: Phase,
        path: &Path<'_>,
        is_dir: bool,
        tasks: &Tasks,
        limits: &Limits,
    ) -> Verdict<Slot> {
        if !(if is_dir { self.spec.dirs } else { self.spec.files }) {
            return Verdict::Ignored(Ignored::Unfit);
        }
        let found = self.find(path, tasks);
        // Before the rules: a generation that is over should not match patterns for nothing.
        if found.is_none() && phase != Phase::Active {
            return Verdict::Ignored(Ignored::Paused);
        }
        // A task of the same path has its rule already; with singlejob the task may be another path's.
        let same_path = match &self.keys {
            Keys::Single(slot) => slot.filter(|slot| tasks.is_path(*slot, path.bytes)),
            Keys::Paths(_) => found,
        };
        let rule = match same_path.map_or_else(|| self.rule(path), |slot| RuleMatch::Rule(tasks.rule(slot))) {
            RuleMatch::Rule(rule) => rule,
            RuleMatch::NoRule => return Verdict::Ignored(Ignored::NoRule),
            RuleMatch::StepLimit => return Verdict::Ignored(Ignored::RuleStepLimit),
        };
        match found {
            None => self.judge_new(rule, tasks, limits),
            Some(task) => self.judge_met(phase, rule, task, tasks.state(task), same_path.is_some()),
        }
    }

    fn judge_new(&self, rule: Option<usize>, tasks: &Tasks, limits: &Limits) -> Verdict<Slot> {
        if tasks.len() >= limits.tasks_max || tasks.bytes() as u64 >= limits.bytes_max {
            return Verdict::Ignored(Ignored::TasksMax);
        }
        let begin = if self.delay > 0 {
            Begin::AfterDelay
        } else if self.has_place() {
            Begin::AtOnce
        } else {
            Begin::WhenPlaceIsFree
        };
        Verdict::New { begin, rule }
    }

    fn judge_met(
        &self,
        phase: Phase,
        rule: Option<usize>,
        task: Slot,
        state: State,
        same_path: bool,
    ) -> Verdict<Slot> {
        let change = match (state, phase) {
            (
                State::Waiting | State::PutOff | State::Queued,
                Phase::Retired { .. } | Phase::Closing { .. },
            ) => Change::Cancel,
            (State::Waiting, Phase::Active) => Change::Reschedule { rule },
            (State::PutOff | State::Queued, Phase::Active) if self.delay > 0 => Change::Reschedule { rule },
            (State::PutOff | State::Queued, Phase::Active) => Change::Refresh { rule },
            // The configuration in force gets the same event and acts on it.
            (State::Running | State::Marked | State::Stopping, Phase::Retired { .. }) => {
                return Verdict::Ignored(Ignored::Paused);
            }
            (State::Running | State::Marked, Phase::Active | Phase::Closing { .. })
                if self.spec.retry_if_changed && same_path =>
            {
                Change::SkipAndRunAgain { rule }
            }
            (State::Running | State::Marked | State::Stopping, Phase::Active | Phase::Closing { .. }) => {
                Change::Skip
            }
        };
        Verdict::Met { task, change }
    }

    /// What an event does that is mapped to `Cancel` of this scheduler. Files, dirs and rules do not matter.
    pub(crate) fn judge_cancel(&self, path: &Path<'_>, tasks: &Tasks) -> Verdict<Slot> {
        let Some(task) = self.find(path, tasks) else {
            return Verdict::Ignored(Ignored::NothingToCancel);
        };
        let change = match tasks.state(task) {
            State::Waiting | State::PutOff | State::Queued => Change::Cancel,
            State::Running | State::Marked | State::Stopping => Change::SkipCancel,
        };
        Verdict::Met { task, change }
    }

    fn rule(&self, path: &Path<'_>) -> RuleMatch {
        let Some(rules) = &self.spec.rules else { return RuleMatch::Rule(None) };
        let (serial, latest) = self.latest_match.get();
        if serial == path.serial && serial != Path::UNCACHED {
            return latest;
        }
        // An overflow has no path. A rule that matches everything must not act on nothing.
        let matched = if path.bytes.is_empty() { Ok(None) } else { rules.first_match(path.bytes) };
        let matched = match matched {
            Ok(Some(rule)) => RuleMatch::Rule(Some(rule)),
            Ok(None) => RuleMatch::NoRule,
            Err(StepLimit) => RuleMatch::StepLimit,
        };
        self.latest_match.set((path.serial, matched));
        matched
    }

    fn has_place(&self) -> bool {
        self.spec.max_jobs.is_none_or(|max| self.running() < max.get())
    }
}

/// What happens to tasks.
impl Scheduler {
    /// Carries out a verdict on an event that came through `map`.
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
                let news = News { event, map, rule, same_path: false };
                let share = match begin {
                    // It will be over before that pays.
                    Begin::AtOnce => Share::Nothing,
                    Begin::WhenPlaceIsFree | Begin::AfterDelay => Share::Directory,
                };
                let slot = self.insert(path, &news, share, turn.tasks);
                match begin {
                    Begin::AtOnce => self.run(slot, turn),
                    Begin::WhenPlaceIsFree => self.queue(slot, turn),
                    Begin::AfterDelay => self.wait(slot, turn),
                }
            }
            Verdict::Met { task, change } => match change {
                Change::Reschedule { rule } => self.reschedule(task, &self.news(event, map, rule), turn),
                Change::Refresh { rule } => self.refresh(task, &self.news(event, map, rule), turn),
                Change::Skip => self.skip(task, event, turn),
                Change::SkipAndRunAgain { rule } => {
                    turn.tasks.update(task, &self.news(event, map, rule));
                    turn.tasks.set_state(task, State::Marked);
                    self.skip(task, event, turn);
                }
                Change::SkipCancel => {
                    // What the mark stands for is a task that waits for the end of this run, and that is cancelled.
                    if turn.tasks.state(task) == State::Marked {
                        turn.tasks.set_state(task, State::Running);
                    }
                    self.skip(task, event, turn);
                }
                Change::Cancel => self.cancel(task, event, turn),
            },
        }
    }

    /// What a task gets that an event met.
    fn news<'a>(&self, event: &'a Event<'a>, map: MapId, rule: Option<usize>) -> News<'a> {
        // With singlejob it may be that of another path.
        News { event, map, rule, same_path: matches!(self.keys, Keys::Paths(_)) }
    }

    fn ignore<E: Effects>(&self, reason: Ignored, event: &Event<'_>, turn: &mut Turn<'_, E>) {
        let scheduler = self.id;
        match reason {
            Ignored::NoRule => turn.out.record(Record::NoRule { scheduler, event }),
            Ignored::RuleStepLimit => turn.out.record(Record::RuleStepLimit { scheduler, event }),
            Ignored::TasksMax => turn.refuse(scheduler, event),
            Ignored::Unfit | Ignored::Paused | Ignored::NothingToCancel => {}
        }
    }

    fn insert(&mut self, path: &Path<'_>, news: &News<'_>, share: Share, tasks: &mut Tasks) -> Slot {
        let slot = tasks.insert(self.id, path.hash, news, share);
        self.add_key(slot, tasks);
        slot
    }

    fn add_key(&mut self, slot: Slot, tasks: &Tasks) {
        match &mut self.keys {
            Keys::Single(task) => *task = Some(slot),
            Keys::Paths(index) => index.insert(slot, tasks),
        }
    }

    /// Forgets a task, which is in no list any more.
    fn remove(&mut self, slot: Slot, tasks: &mut Tasks) {
        match &mut self.keys {
            Keys::Single(task) => *task = None,
            Keys::Paths(index) => index.remove(slot, tasks),
        }
        tasks.remove(slot);
    }

    fn wait<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        self.arm(slot, turn);
        let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
        let again = turn.tasks.again(slot);
        turn.out.record(Record::Scheduled { task, delay: self.spec.delay, again });
    }

    fn reschedule<E: Effects>(&mut self, slot: Slot, news: &News<'_>, turn: &mut Turn<'_, E>) {
        turn.tasks.update(slot, news);
        let list = self.list(turn.tasks.state(slot));
        turn.tasks.unlink(list, slot);
        self.arm(slot, turn);
        let task = self.record(slot, *news.event, turn.tasks);
        turn.out.record(Record::Rescheduled { task, delay: self.spec.delay });
    }

    /// Starts the delay of a task that is in no list.
    fn arm<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        turn.tasks.set_state(slot, State::Waiting);
        turn.tasks.set_time(slot, turn.now + self.delay);
        turn.tasks.push(&mut self.waiting, slot);
    }

    fn refresh<E: Effects>(&mut self, slot: Slot, news: &News<'_>, turn: &mut Turn<'_, E>) {
        turn.tasks.update(slot, news);
        let task = self.record(slot, *news.event, turn.tasks);
        turn.out.record(Record::Rescheduled { task, delay: self.spec.delay });
    }

    fn skip<E: Effects>(&mut self, slot: Slot, event: &Event<'_>, turn: &mut Turn<'_, E>) {
        let task = self.record(slot, *event, turn.tasks);
        turn.out.record(Record::SkippedOngoing { task });
    }

    fn cancel<E: Effects>(&mut self, slot: Slot, event: &Event<'_>, turn: &mut Turn<'_, E>) {
        let task = self.record(slot, *event, turn.tasks);
        turn.out.record(Record::CancelledWaiting { task });
        self.withdraw(slot, turn);
    }

    /// Cancels a task that has not started for no event of its own.
    pub(crate) fn cancel_unstarted<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
        turn.out.record(Record::CancelledWaiting { task });
        self.withdraw(slot, turn);
    }

    /// Forgets a task that has not started.
    pub(crate) fn withdraw<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        let list = self.list(turn.tasks.state(slot));
        turn.tasks.unlink(list, slot);
        self.remove(slot, turn.tasks);
        self.tell_completed(turn);
    }

    /// Gives a task that has not started another path, that of `event`, as its directory was renamed from `from` to `to`.
    pub(crate) fn follow<E: Effects>(
        &mut self,
        slot: Slot,
        path: &Path<'_>,
        event: &Event<'_>,
        (from, to): (&[u8], &[u8]),
        turn: &mut Turn<'_, E>,
    ) {
        let scheduler = self.id;
        let rule = match self.rule(path) {
            RuleMatch::Rule(rule) => rule,
            RuleMatch::NoRule => {
                turn.out.record(Record::NoRule { scheduler, event });
                return self.cancel_unstarted(slot, turn);
            }
            RuleMatch::StepLimit => {
                turn.out.record(Record::RuleStepLimit { scheduler, event });
                return self.cancel_unstarted(slot, turn);
            }
        };
        if let Keys::Paths(index) = &mut self.keys {
            index.remove(slot, turn.tasks);
        }
        let news = News { event, map: turn.tasks.map(slot), rule, same_path: false };
        turn.tasks.update(slot, &news);
        turn.tasks.set_hash(slot, path.hash);
        if let Keys::Paths(index) = &mut self.keys {
            index.insert(slot, turn.tasks);
        }
        let task = self.record(slot, *event, turn.tasks);
        turn.out.record(Record::Followed { task, from, to });
    }

    /// Puts a task that is in no list behind those that wait for a place.
    fn queue<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        turn.tasks.share_dir(slot);
        turn.tasks.set_state(slot, State::Queued);
        turn.tasks.set_time(slot, turn.now);
        turn.tasks.push(&mut self.queued, slot);
        if let (Some(max_jobs), false) = (self.spec.max_jobs, self.max_jobs_told) {
            self.max_jobs_told = true;
            turn.out.record(Record::MaxJobs { scheduler: self.id, max_jobs: max_jobs.get() });
        }
    }

    /// Starts a task that is in no list.
    fn run<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        turn.tasks.begin_run(slot, turn.now);
        turn.tasks.push(&mut self.running, slot);
        turn.counters.started += 1;
        let event = turn.tasks.event(slot, turn.path);
        let task = self.record(slot, event, turn.tasks);
        let again = turn.tasks.again(slot);
        let (handle, rule) = (turn.tasks.handle(slot), turn.tasks.rule(slot));
        turn.out.record(Record::Started { task, again });
        turn.out.start(Start { handle, id: task.id, scheduler: self.id, event, rule, again });
    }

    /// Starts, or puts in the queue, the tasks that are due; not more than the limit.
    pub(crate) fn run_due<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        for _ in 0..turn.limits.starts_per_tick_max {
            let Some(slot) = self.first_due(turn.tasks).filter(|slot| turn.tasks.time(*slot) <= turn.now)
            else {
                return;
            };
            let list = self.list(turn.tasks.state(slot));
            turn.tasks.unlink(list, slot);
            if self.has_place() {
                self.run(slot, turn);
            } else {
                self.queue(slot, turn);
            }
        }
    }

    /// The program says that a run is over.
    pub(crate) fn finish<E: Effects>(&mut self, slot: Slot, outcome: &Outcome, turn: &mut Turn<'_, E>) {
        let state = turn.tasks.state(slot);
        let list = self.list(state);
        turn.tasks.unlink(list, slot);
        let task = self.record(slot, turn.tasks.event_of_run(slot, turn.path), turn.tasks);
        let may_run_again = match outcome {
            Outcome::Done => {
                turn.out.record(Record::Finished { task });
                true
            }
            Outcome::Unchanged => {
                turn.out.record(Record::Unchanged { task });
                true
            }
            // What it was stopped for is the reason, whatever it says.
            Outcome::Failed(_) if state == State::Stopping => {
                turn.out.record(Record::CancelledOngoing { task });
                false
            }
            Outcome::Failed(failure) if failure.kind == FailureKind::InUse => {
                self.put_off(slot, failure, turn);
                return self.fill_places(turn);
            }
            Outcome::Failed(failure) => {
                turn.out.record(Record::Failed { task, failure });
                true
            }
            Outcome::Cancelled => {
                turn.out.record(Record::CancelledOngoing { task });
                false
            }
        };
        if may_run_again && state == State::Marked {
            self.run_again(slot, turn);
        } else {
            self.remove(slot, turn.tasks);
        }
        self.fill_places(turn);
        self.tell_completed(turn);
    }

    /// Lets a task look again later that found its file in use. Whatever marked it is in its latest event.
    fn put_off<E: Effects>(&mut self, slot: Slot, failure: &Failure, turn: &mut Turn<'_, E>) {
        turn.tasks.share_dir(slot);
        turn.tasks.set_state(slot, State::PutOff);
        turn.tasks.set_time(slot, turn.now + IN_USE_PAUSE);
        turn.tasks.push(&mut self.put_off, slot);
        if turn.tasks.note_in_use(slot) {
            let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
            turn.out.record(Record::PutOff { task, failure });
        }
    }

    /// Treats the event that marked a task as if it came now, when the run is over: the delay, which says how long
    /// the object must be left alone, counts for this run as for any other.
    fn run_again<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        turn.tasks.share_dir(slot);
        turn.tasks.set_again(slot);
        if self.delay > 0 {
            self.wait(slot, turn);
        } else {
            // Behind those that wait for the place that has just become free; the caller fills it.
            turn.tasks.set_state(slot, State::Queued);
            turn.tasks.set_time(slot, turn.now);
            turn.tasks.push(&mut self.queued, slot);
        }
    }

    fn fill_places<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        while let (Some(slot), true) = (self.queued.first(), self.has_place()) {
            turn.tasks.unlink(&mut self.queued, slot);
            self.run(slot, turn);
        }
    }

    /// Says how long it waits for its tasks, if there are any.
    pub(crate) fn tell_wait<E: Effects>(&mut self, timeout: Duration, turn: &mut Turn<'_, E>) {
        if self.pending() > 0 {
            self.wait_told = true;
            turn.out.record(Record::WaitForTasks { scheduler: self.id, timeout, count: self.pending() });
        }
    }

    fn tell_completed<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        if self.wait_told && self.pending() == 0 {
            self.wait_told = false;
            turn.out.record(Record::AllCompleted { scheduler: self.id });
        }
    }

    /// Stops the running tasks that were started no later than `started_max`.
    pub(crate) fn stop_running<E: Effects>(&mut self, started_max: Nanos, turn: &mut Turn<'_, E>) {
        let count = self.overdue(started_max, turn.tasks);
        if count > 0 {
            self.wait_told = false;
            turn.out.record(Record::TimeoutExceeded { scheduler: self.id, count });
            self.stop_first(count, turn);
        }
    }

    /// Ends everything: running tasks are stopped, the others forgotten.
    pub(crate) fn cut<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        let count = self.pending();
        if count == 0 {
            return;
        }
        self.wait_told = false;
        turn.out.record(Record::TimeoutExceeded { scheduler: self.id, count });
        self.stop_first(self.running.len(), turn);
        self.forget_unstarted(turn);
    }

    /// Makes the index anew with what is left, which is much faster than taking a million paths out of it.
    fn forget_unstarted<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        for list in [&mut self.waiting, &mut self.put_off, &mut self.queued] {
            while let Some(slot) = list.first() {
                if turn.counters.name_not_done() {
                    let (id, event) = (turn.tasks.id(slot), turn.tasks.event(slot, turn.path));
                    let task = TaskRecord { scheduler: self.id, id, event };
                    turn.out.record(Record::NotDone { task });
                }
                turn.tasks.unlink(list, slot);
                turn.tasks.remove(slot);
            }
        }
        self.keys = if self.spec.singlejob { Keys::Single(None) } else { Keys::Paths(Index::new()) };
        let mut next = self.stopping.first();
        while let Some(slot) = next {
            self.add_key(slot, turn.tasks);
            next = turn.tasks.next_in_list(slot);
        }
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
            turn.tasks.unlink(&mut self.running, slot);
            turn.tasks.set_state(slot, State::Stopping);
            turn.tasks.push(&mut self.stopping, slot);
            turn.out.stop(turn.tasks.handle(slot), turn.tasks.id(slot));
        }
    }

    fn list(&mut self, state: State) -> &mut List {
        match state {
            State::Waiting => &mut self.waiting,
            State::PutOff => &mut self.put_off,
            State::Queued => &mut self.queued,
            State::Running | State::Marked => &mut self.running,
            State::Stopping => &mut self.stopping,
        }
    }

    fn record<'a>(&self, slot: Slot, event: Event<'a>, tasks: &Tasks) -> TaskRecord<'a> {
        TaskRecord { scheduler: self.id, id: tasks.id(slot), event }
    }
}
