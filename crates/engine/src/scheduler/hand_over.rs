//! Tasks that go on in another configuration, or come from an earlier life of the daemon.

use std::collections::VecDeque;

use super::run::{Left, is_marked};
use super::{Keys, Scheduler, forget_marks};
use crate::clock::{Nanos, span};
use crate::index::Index;
use crate::path::Path;
use crate::tasks::{Failed, Mark, News, Slot, State, Tasks};
use crate::turn::Turn;
use crate::{
    CancelledBy, Effects, EndResult, Failure, MapId, NotDone, Record, SchedulerId, SchedulerKind, TaskId,
};

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Another configuration takes the place of this one.
    Configuration,
    /// The daemon ends, or all that is left of this configuration, at that time.
    All { until: Nanos },
}

/// A task of an earlier life of the daemon.
pub(crate) struct Earlier<'a> {
    pub(crate) path: &'a Path<'a>,
    pub(crate) news: &'a News<'a>,
    pub(crate) attempt: u32,
    /// As [`crate::Waits`] has them.
    pub(crate) made: Option<Nanos>,
    pub(crate) first: Option<Nanos>,
    pub(crate) due: Option<Nanos>,
    pub(crate) failed: Option<Failed>,
    /// It is run again rather than waits on.
    pub(crate) again: bool,
}

impl Scheduler {
    /// What another one has to have in common with it, for its tasks to go on there.
    pub(crate) fn likeness(&self) -> (&str, SchedulerKind) {
        (&self.spec.name, self.spec.kind)
    }

    /// The one of its name and kind in the newest configuration that has one.
    pub(crate) fn heir(&self) -> Option<SchedulerId> {
        self.heir
    }

    pub(crate) fn set_heir(&mut self, heir: SchedulerId) {
        self.heir = Some(heir);
    }

    /// Those of its name and kind in older configurations, the newest first; there may be some that are gone.
    pub(crate) fn elders(&self) -> &[SchedulerId] {
        &self.elders
    }

    pub(crate) fn set_elders(&mut self, elders: Vec<SchedulerId>) {
        self.elders = elders;
    }

    /// Counts the starts of the scheduler whose place it takes for its own rate.
    pub(crate) fn inherit_starts(&mut self, mut starts: VecDeque<Nanos>) {
        starts.extend(self.starts.drain(..));
        starts.make_contiguous().sort_unstable();
        let kept = self.spec.max_rate.map_or(0, |rate| rate.starts.get() as usize);
        starts.drain(..starts.len().saturating_sub(kept));
        self.starts = starts;
    }

    /// When its latest tasks started, for the scheduler that takes its place.
    pub(crate) fn take_starts(&mut self) -> VecDeque<Nanos> {
        std::mem::take(&mut self.starts)
    }

    /// Whether another configuration has one of its name and kind.
    pub(crate) fn has_heir(&self) -> bool {
        self.has_heir
    }

    /// Another one takes its place, and that of its elders.
    pub(crate) fn give_way(&mut self) {
        self.retries |= !self.has_heir;
        self.has_heir = true;
        (self.elder_runs, self.waits_for_elders) = (0, false);
    }

    /// Whether it has tasks that should go on in its heir.
    pub(crate) fn has_left(&self) -> bool {
        self.has_heir && self.waiting() + self.queued() > 0
    }

    /// Leaves a task in no list to the heir, with the marks that say what is to come.
    pub(super) fn leave_to_heir(&mut self, slot: Slot, tasks: &mut Tasks) {
        tasks.set_state(slot, State::Queued, tasks.time(slot));
        tasks.push(&mut self.queued, slot);
    }

    /// Gives away the tasks that are to come, in the order in which they are due.
    pub(crate) fn give_to_come(&mut self, tasks: &mut Tasks) -> Vec<Slot> {
        let is_most = self.waiting() + self.queued() > self.runs();
        let mut slots = Vec::new();
        while let Some(slot) = self.any_to_come() {
            self.leave(slot, tasks);
            if !is_most {
                self.remove_key(slot, tasks);
            }
            slots.push(slot);
        }
        if is_most {
            self.index_running(tasks);
        }
        slots
    }

    /// Counts the runs of its elders, as far as those can be found.
    pub(crate) fn count_elders<'a>(&mut self, find: impl Fn(SchedulerId) -> Option<&'a Scheduler>) {
        (self.elder_runs, self.waits_for_elders) = (0, false);
        let elders = self.elders.iter().filter_map(|elder| find(*elder));
        for elder in elders.filter(|elder| elder.runs() > 0) {
            self.elder_runs += elder.runs();
            self.waits_for_elders |= elder.holds_up(self);
        }
    }

    /// Whether its runs may act on the path of any task of its heir.
    fn holds_up(&self, heir: &Scheduler) -> bool {
        let has_batch = self.spec.batch.is_some() && heir.spec.batch.is_none();
        let has_paths = match &self.keys {
            Keys::Single(_) => false,
            Keys::Paths(index) => heir.spec.singlejob && !index.is_empty(),
        };
        has_batch || has_paths
    }

    /// Its run that an event of a path meets, as if it were its heir's own.
    pub(crate) fn run_of(&self, heir: &Scheduler, path: &Path<'_>, tasks: &Tasks) -> Option<Slot> {
        if self.runs() == 0 {
            return None;
        }
        let slot = self.find(path, tasks).filter(|slot| !tasks.state(*slot).is_to_come())?;
        let both_single = self.spec.singlejob && heir.spec.singlejob;
        (both_single || tasks.is_path(slot, path.bytes)).then_some(slot)
    }

    /// Makes the index anew with what runs, which is much faster than taking a million paths out of it.
    pub(super) fn index_running(&mut self, tasks: &Tasks) {
        self.keys = if self.spec.singlejob { Keys::Single(None) } else { Keys::Paths(Index::new()) };
        if self.spec.batch.is_some() {
            // What runs has no key.
            return;
        }
        for first in [self.running.first(), self.stopping.first()] {
            let mut next = first;
            while let Some(slot) = next {
                if !tasks.has(slot, Mark::Keyless) {
                    self.add_key(tasks.hash(slot), slot, tasks);
                }
                next = tasks.next_in_list(slot);
            }
        }
    }

    /// Takes a task of another configuration, in the state that it had. Nothing starts before the next tick, but for
    /// what a run left to come. Where its key has a task already, that one has the later event.
    ///
    /// `batch_due` is when the batch was due that it was gathered for, if it was.
    pub(crate) fn adopt<E: Effects>(
        &mut self,
        slot: Slot,
        (map, batch_due): (MapId, Option<Nanos>),
        turn: &mut Turn<'_, E>,
    ) {
        turn.tasks.set_place(slot, self.id, map);
        if !turn.tasks.has(slot, Mark::Keyless) {
            let event = turn.tasks.event(slot, turn.path);
            let path = Path { bytes: event.pathname, hash: turn.tasks.hash(slot), serial: Path::UNCACHED };
            if self.find(&path, turn.tasks).is_some() {
                self.tell_end_without_run(slot, EndResult::Replaced, turn);
                let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
                turn.out.record(Record::Replaced { task });
                return turn.tasks.remove(slot);
            }
            self.add_key(path.hash, slot, turn.tasks);
        }
        turn.tasks.set(slot, Mark::AskRules);
        if is_marked(slot, turn.tasks) {
            return self.go_on(slot, Left::Nothing, turn);
        }
        match turn.tasks.state(slot) {
            State::Queued => {
                turn.tasks.push(&mut self.queued, slot);
                self.to_fill = true;
            }
            State::Asked => self.timer.insert(slot, State::Settling, turn.now, turn.tasks),
            State::Waiting => self.hold(slot, turn.tasks.time(slot), turn),
            State::Gathered if self.spec.batch.is_some() => self.join(slot, turn.tasks.time(slot), turn),
            State::Gathered => {
                let not_before = turn.tasks.more(slot).map_or(0, |more| more.not_before);
                self.hold(slot, batch_due.unwrap_or(turn.now).max(not_before), turn);
            }
            state @ (State::PutOff | State::Retrying | State::Settling) => {
                let time = turn.tasks.time(slot);
                self.timer.insert(slot, state, time, turn.tasks);
            }
            State::Left | State::Running | State::Stopping | State::Taken => {
                unreachable!("only tasks to come are given away")
            }
        }
    }

    /// Puts a task in no list behind those that wait for their start, without a start before the next tick: then one
    /// run can be for all that come so.
    pub(super) fn queue_for_tick<E>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        turn.tasks.set_state(slot, State::Queued, turn.now);
        turn.tasks.push(&mut self.queued, slot);
        self.to_fill = true;
    }

    /// Lets a task wait until a time that is not of its own making.
    fn hold<E: Effects>(&mut self, slot: Slot, time: Nanos, turn: &mut Turn<'_, E>) {
        let latest = turn.now + self.delay;
        self.timer.hold(slot, time, latest, turn.tasks);
        if self.spec.max_delay.is_some() {
            let now = turn.now;
            turn.tasks.more_mut(slot).first.get_or_insert(now);
        }
    }

    /// Makes a task that an earlier life of the daemon had; `None` if its path has one, or there are too many.
    pub(crate) fn restore<E: Effects>(
        &mut self,
        earlier: Earlier<'_>,
        due: Nanos,
        turn: &mut Turn<'_, E>,
    ) -> Option<Slot> {
        let first = earlier.first.unwrap_or(turn.now).min(turn.now);
        let first_due = earlier.due.zip(self.spec.settle);
        let again = earlier.again;
        let slot = self.insert_earlier(earlier, turn)?;
        if let Some((first_due, settle)) = first_due {
            let fails = (turn.now + span(settle.anew)).saturating_sub(span(settle.give_up));
            turn.tasks.more_mut(slot).settles_since = Some(first_due.min(turn.now).max(fails));
        }
        if turn.tasks.attempt(slot) > 1 {
            self.timer.insert(slot, State::Retrying, due, turn.tasks);
        } else if self.spec.batch.is_some() && again {
            self.queue_for_tick(slot, turn);
        } else if self.spec.batch.is_some() {
            self.join(slot, first, turn);
        } else {
            if self.spec.max_delay.is_some() {
                turn.tasks.more_mut(slot).first = Some(first);
            }
            self.hold(slot, due, turn);
        }
        Some(slot)
    }

    /// The same of a task whose run outlived that life, and is being ended.
    pub(crate) fn restore_run<E: Effects>(
        &mut self,
        earlier: Earlier<'_>,
        again: bool,
        turn: &mut Turn<'_, E>,
    ) -> Option<Slot> {
        let slot = self.insert_earlier(earlier, turn)?;
        turn.tasks.set(slot, Mark::Interrupted);
        if again {
            turn.tasks.set(slot, Mark::Restart);
        }
        if self.spec.batch.is_some() {
            self.remove_key(slot, turn.tasks);
            if self.running.len() + self.stopping.len() > 0 {
                turn.tasks.take(slot, turn.now);
                turn.tasks.push(&mut self.taken, slot);
                return Some(slot);
            }
            turn.tasks.more_mut(slot).leads = true;
        }
        turn.tasks.begin_run(slot, turn.now);
        turn.tasks.set_stopping(slot);
        turn.tasks.push(&mut self.stopping, slot);
        if self.spec.kind == SchedulerKind::Command {
            turn.shared.commands.running += 1;
        }
        Some(slot)
    }

    /// Makes a task of an earlier life of the daemon, in no list; `None` if its path has one, or there are too many.
    fn insert_earlier<E: Effects>(
        &mut self,
        Earlier { path, news, attempt, made, failed, .. }: Earlier<'_>,
        turn: &mut Turn<'_, E>,
    ) -> Option<Slot> {
        let is_known = failed.is_none() && self.find(path, turn.tasks).is_some();
        if is_known || super::tasks_full(turn.tasks, &turn.shared.limits) {
            return None;
        }
        let slot = if let Some(failed) = failed {
            let slot = turn.tasks.insert(self.id, news, turn.now);
            turn.tasks.set(slot, Mark::Keyless);
            turn.tasks.set_failed(slot, failed);
            slot
        } else {
            self.insert(news, turn.now, turn.tasks)
        };
        turn.tasks.set_attempt(slot, attempt);
        turn.tasks.set(slot, Mark::AskRules);
        if let Some(made) = made {
            turn.tasks.set_made(slot, made.min(turn.now));
        }
        Some(slot)
    }

    /// While it ends, nothing is tried again and nothing that is paused is waited for: such tasks are not done. Where
    /// tasks are kept, they are left behind instead, with what is not due by the end.
    pub(crate) fn give_up<E: Effects>(&mut self, ends: Ends, turn: &mut Turn<'_, E>) {
        if let (Ends::All { until }, true) = (ends, turn.keeps() && self.spec.persist) {
            self.leaves_after = Some(until);
            let later = |slot: &Slot, tasks: &Tasks| {
                tasks.time(*slot) > until || tasks.state(*slot) == State::Retrying
            };
            let slots = if self.paused {
                self.to_come(turn.tasks)
            } else {
                let mut slots = self.timer.all(turn.tasks);
                slots.retain(|slot| later(slot, turn.tasks));
                if self.batch_due(turn.tasks).is_some_and(|due| due > until) {
                    slots.extend(turn.tasks.in_list(self.gathered));
                }
                slots
            };
            return self.leave_behind(slots, turn);
        }
        self.retries = ends == Ends::Configuration && self.has_heir;
        let retrying: Vec<Slot> = self.timer.retrying(turn.tasks).collect();
        for slot in retrying {
            self.not_done(slot, NotDone::Retry, turn);
        }
        if !self.retries {
            self.give_up_retries(turn);
        }
        if self.paused {
            self.forget_to_come(NotDone::Paused, turn);
        }
        // Since its configuration was replaced, it may have waited for these alone.
        self.tell_completed(turn);
    }

    /// What has failed because its time was over is not tried again when it has ended.
    fn give_up_retries<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        let stopping: Vec<Slot> = turn.tasks.in_list(self.stopping).collect();
        for slot in stopping {
            let more = turn.tasks.known_more(slot);
            if more.is_none_or(|more| more.retry.take().is_none()) {
                continue;
            }
            self.tell_not_done(slot, NotDone::Retry, turn);
            for taken in self.taken_slots(turn.tasks) {
                self.tell_not_done(taken, NotDone::Retry, turn);
            }
        }
    }

    /// All tasks that are to come.
    fn to_come(&self, tasks: &Tasks) -> Vec<Slot> {
        let mut slots = self.timer.all(tasks);
        slots.extend(tasks.in_list(self.asked));
        slots.extend(tasks.in_list(self.gathered));
        slots.extend(tasks.in_list(self.queued));
        slots
    }

    /// Leaves all tasks that are to come to another life of the daemon.
    pub(super) fn leave_all_behind<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        self.leaves_after = Some(0);
        let slots = self.to_come(turn.tasks);
        self.leave_behind(slots, turn);
    }

    fn leave_behind<E: Effects>(&mut self, slots: Vec<Slot>, turn: &mut Turn<'_, E>) {
        if slots.is_empty() {
            return;
        }
        turn.out.record(Record::Kept { scheduler: self.id, count: slots.len() as u32 });
        for slot in slots {
            self.leave(slot, turn.tasks);
            self.push_left(slot, turn.tasks);
        }
        self.tell_completed(turn);
    }

    /// Leaves a task in no list to another life of the daemon.
    pub(super) fn push_left(&mut self, slot: Slot, tasks: &mut Tasks) {
        tasks.leave_behind(slot);
        tasks.push(&mut self.left, slot);
    }

    /// Tells of what is left to another life of the daemon that did not get it.
    pub(crate) fn tell_not_kept<E: Effects>(
        &mut self,
        is_unwritten: impl Fn(TaskId) -> bool,
        turn: &mut Turn<'_, E>,
    ) {
        let left: Vec<Slot> = turn.tasks.in_list(self.left).collect();
        for slot in left {
            let is_kept = turn.tasks.is_taken(slot) && !is_unwritten(turn.tasks.id(slot));
            if !is_kept && !turn.tasks.has(slot, Mark::Interrupted) {
                self.tell_not_done(slot, NotDone::NotKept, turn);
            }
        }
    }

    /// Lets a task that is to come fail for good, without a run.
    pub(crate) fn fail_unstarted<E: Effects>(
        &mut self,
        slot: Slot,
        failure: &Failure,
        turn: &mut Turn<'_, E>,
    ) {
        self.leave(slot, turn.tasks);
        self.fail_for_good(slot, failure, turn);
    }

    /// The same of all its tasks that are to come.
    pub(crate) fn fail_all<E: Effects>(&mut self, failure: &Failure, turn: &mut Turn<'_, E>) {
        for slot in self.to_come(turn.tasks) {
            self.fail_unstarted(slot, failure, turn);
        }
    }

    /// Starts a task that is to come now, or as soon as it may.
    pub(crate) fn run_now<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        if let Some(more) = turn.tasks.known_more(slot) {
            more.not_before = 0;
        }
        turn.tasks.set(slot, Mark::Settled);
        // A task that is queued keeps its place.
        if turn.tasks.state(slot) != State::Queued {
            self.leave(slot, turn.tasks);
            self.place(slot, turn);
        }
        if self.spec.batch.is_some() {
            self.fill_places(turn);
        }
    }

    /// Stops a running task, which does not run again.
    pub(crate) fn stop_for_good<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        let slot = self.leader(slot, turn.tasks);
        if turn.tasks.more(slot).is_some_and(|more| more.retry.is_some()) {
            let task = self.record_of_run(slot, turn.tasks.event_of_run(slot, turn.path), turn.tasks);
            turn.out.record(Record::CancelledWaiting { task });
            self.tell_cancelled_run(slot, CancelledBy::Id, turn);
        }
        forget_marks(slot, turn.tasks);
        turn.tasks.clear(slot, Mark::Interrupted);
        if turn.tasks.state(slot) == State::Running {
            self.stop(slot, turn);
        }
        self.tell_completed(turn);
    }
}
