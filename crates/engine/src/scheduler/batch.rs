//! Batches: one run for many paths.
//!
//! The members of a batch are tasks like any other, with an id and a key, so that a rename, a cancel or a withdrawal
//! finds them. Events gather them; when the batch is due they are queued, and the next run is for all that are queued,
//! as far as one run can be. One of them runs and has the place, the timeout and the name of the run; the others are
//! *taken*. While the run lasts none of them has a key, so that an event of their paths makes members of the next
//! batch.

use super::run::Left;
use super::{Scheduler, wait_for_event};
use crate::clock::{Nanos, START, span};
use crate::path::Path;
use crate::tasks::{Mark, News, Renamed, Slot, State, Tasks};
use crate::turn::Turn;
use crate::{Batch, BatchEvent, CancelledBy, Effects, Failure, OwnedEvent, Record, Start};

/// What one run is for.
struct Members {
    slots: Vec<Slot>,
    events: Vec<BatchEvent>,
    /// One command line does not take the next one.
    is_split: bool,
}

impl Scheduler {
    /// When what is gathered is to be run.
    pub(crate) fn batch_due(&self, tasks: &Tasks) -> Option<Nanos> {
        let Batch { quiet, max_wait, .. } = self.spec.batch?;
        let first = tasks.time(self.gathered.first()?);
        if self.is_full() {
            return Some(START);
        }
        Some((self.gathered_last + span(quiet)).min(first + span(max_wait)))
    }

    fn is_full(&self) -> bool {
        self.spec.batch.is_some_and(|batch| self.gathered.len() >= batch.max_files.get())
    }

    /// Gathers a task in no list, for an event.
    pub(super) fn gather<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        self.join(slot, turn.now, turn);
        self.tell_gathered(slot, turn);
    }

    /// An event came for a task that has not started: gathers it, if it is not, with the event.
    pub(super) fn gather_again<E: Effects>(&mut self, slot: Slot, news: &News<'_>, turn: &mut Turn<'_, E>) {
        turn.tasks.update(slot, news);
        if turn.tasks.state(slot) == State::Gathered {
            self.gathered_last = turn.now;
        } else {
            self.leave(slot, turn.tasks);
            wait_for_event(slot, turn.tasks);
            self.join(slot, turn.now, turn);
        }
        self.tell_gathered(slot, turn);
    }

    /// Puts a task in no list into the next batch, with the time of its first event. The time counts as that of the one
    /// before it if it is earlier, so that the first of the list is the one that has waited for longest.
    pub(super) fn join<E>(&mut self, slot: Slot, time: Nanos, turn: &mut Turn<'_, E>) {
        let last = self.gathered.last().map_or(0, |last| turn.tasks.time(last));
        turn.tasks.set_state(slot, State::Gathered, time.max(last));
        turn.tasks.push(&mut self.gathered, slot);
        self.gathered_last = turn.now;
    }

    /// Records that a task is gathered, and begins the batch if it has as many paths as it may.
    fn tell_gathered<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
        turn.out.record(Record::Gathered { task, count: self.gathered.len() });
        if self.is_full() {
            self.queue_gathered(turn);
            self.fill_places(turn);
        }
    }

    /// The next batch begins, without what must wait longer.
    fn queue_gathered<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        while let Some(slot) = self.gathered.first() {
            turn.tasks.unlink(&mut self.gathered, slot);
            let not_before = turn.tasks.more(slot).map_or(0, |more| more.not_before);
            if not_before > turn.now {
                self.timer.insert(slot, State::Waiting, not_before, turn.tasks);
            } else {
                self.queue(slot, turn);
            }
        }
    }

    /// Queues all that is due, so that one run can be for all of it, and starts that run.
    pub(super) fn run_batches<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        while let Some(slot) = self.timer.first(turn.tasks).filter(|slot| turn.tasks.time(*slot) <= turn.now)
        {
            self.timer.remove(slot, turn.tasks);
            self.queue(slot, turn);
        }
        if self.batch_due(turn.tasks).is_some_and(|due| due <= turn.now) {
            self.queue_gathered(turn);
        }
        self.to_fill = false;
        self.fill_places(turn);
    }

    /// Starts a run for all that is queued and of the same try as the first, as far as one run can be.
    pub(super) fn run_batch<E: Effects>(&mut self, first: Slot, turn: &mut Turn<'_, E>) {
        let Members { slots, events, is_split } = self.members(first, turn);
        let late = turn.tasks.late(first, turn.now);
        for slot in &slots {
            self.leave(*slot, turn.tasks);
            self.remove_key(*slot, turn.tasks);
            self.prepare(*slot, turn);
            if *slot == first {
                turn.tasks.begin_run(*slot, turn.now);
                turn.tasks.push(&mut self.running, *slot);
            } else {
                turn.tasks.take(*slot, turn.now);
                turn.tasks.push(&mut self.taken, *slot);
            }
        }
        turn.tasks.more_mut(first).leads = true;
        self.count_start(turn);
        turn.shared.counters.started += 1;
        let start = turn.tasks.start(first, late, turn.path);
        let task = self.record_of_run(first, start.event, turn.tasks);
        if is_split && !self.split_told {
            let count = slots.len() as u32 + self.queued.len();
            turn.out.record(Record::Split { task, count });
        }
        self.split_told = (self.split_told || is_split) && self.queued.len() > 0;
        turn.out.record(Record::Started { task, again: false, looks_again: false });
        turn.out.start(Start { rule: None, again: false, batch: &events, ..start });
    }

    /// What the next run is for.
    fn members<E: Effects>(&self, first: Slot, turn: &mut Turn<'_, E>) -> Members {
        let files_max = self.spec.batch.map_or(1, |batch| batch.max_files.get()) as usize;
        let attempt = turn.tasks.attempt(first);
        let mut members = Members { slots: Vec::new(), events: Vec::new(), is_split: false };
        let mut used = 0;
        let mut next = Some(first);
        while let Some(slot) = next.filter(|_| members.slots.len() < files_max) {
            next = turn.tasks.next_in_list(slot);
            if turn.tasks.attempt(slot) != attempt {
                continue;
            }
            let event = OwnedEvent::of(&turn.tasks.event(slot, turn.path));
            let failed = turn.tasks.failed(slot);
            let failed = failed.map(|failed| (failed.error.to_owned(), failed.attempts, failed.id));
            let event = BatchEvent { event, failed };
            let line = turn.out.batch_line(self.id, used, &event);
            members.is_split = line.is_none() && slot != first;
            if members.is_split {
                break;
            }
            used = line.unwrap_or(usize::MAX);
            members.slots.push(slot);
            members.events.push(event);
        }
        members
    }

    /// Does with the tasks of a batch what its run left to do. The one that ran is in no list.
    pub(super) fn end_batch<E: Effects>(&mut self, first: Slot, left: Left, turn: &mut Turn<'_, E>) {
        if let Some(more) = turn.tasks.known_more(first) {
            more.leads = false;
        }
        let mut next = Some(first);
        while let Some(slot) = next {
            turn.tasks.clear(slot, Mark::Interrupted);
            turn.tasks.clear(slot, Mark::Restart);
            let renamed = turn.tasks.take_renamed(slot);
            if left != Left::Nothing {
                self.tell_followed(slot, &renamed, turn);
            }
            match left {
                Left::Nothing => turn.tasks.remove(slot),
                Left::Retry(due) => self.retry_member(slot, due.max(turn.now), turn),
                Left::Anew => self.join_anew(slot, turn),
            }
            if matches!(renamed, Renamed::Unwanted) && turn.tasks.is_task(slot) {
                self.cancel_unstarted(slot, CancelledBy::Rename, turn);
            }
            next = self.taken.first();
            if let Some(slot) = next {
                turn.tasks.unlink(&mut self.taken, slot);
            }
        }
    }

    /// Runs a task again whose run was for nothing, with all others of that run, unless its path has a newer one.
    fn join_anew<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        if self.regain_key(slot, turn) {
            self.queue_for_tick(slot, turn);
        }
    }

    /// Lets the path of a task in no list lead to it again. If it leads to a newer one, the task is forgotten.
    fn regain_key<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) -> bool {
        if turn.tasks.has(slot, Mark::Keyless) {
            return true;
        }
        let event = turn.tasks.event(slot, turn.path);
        let path = Path { bytes: event.pathname, hash: turn.tasks.hash(slot), serial: Path::UNCACHED };
        if self.find(&path, turn.tasks).is_some() {
            turn.tasks.remove(slot);
            return false;
        }
        self.add_key(path.hash, slot, turn.tasks);
        true
    }

    /// Lets a task wait for another try, unless its path has a newer one.
    fn retry_member<E: Effects>(&mut self, slot: Slot, due: Nanos, turn: &mut Turn<'_, E>) {
        if !self.regain_key(slot, turn) {
            return;
        }
        let attempt = turn.tasks.attempt(slot);
        turn.tasks.set_attempt(slot, attempt.saturating_add(1));
        self.wait_for_retry(slot, due, turn.tasks);
    }

    /// Leaves the events of the other tasks of a batch that failed for good to those that are to get them.
    pub(super) fn deliver_taken<E>(&self, failure: &Failure, turn: &mut Turn<'_, E>) {
        let mut next = self.taken.first();
        while let Some(slot) = next {
            let event = OwnedEvent::of(&turn.tasks.event_of_run(slot, turn.path));
            self.deliver(slot, turn.tasks.attempt(slot), event, failure, turn);
            next = turn.tasks.next_in_list(slot);
        }
    }

    /// What the run of a batch is for, beside the task that has it.
    pub(crate) fn taken_slots(&self, tasks: &Tasks) -> Vec<Slot> {
        tasks.in_list(self.taken).collect()
    }

    /// The task that has the run which is for this one.
    pub(crate) fn leader(&self, slot: Slot, tasks: &Tasks) -> Slot {
        match tasks.state(slot) {
            State::Taken => {
                let runs = self.running.first().or(self.stopping.first());
                runs.expect("a task is taken as long as another one runs")
            }
            State::Waiting
            | State::PutOff
            | State::Retrying
            | State::Settling
            | State::Asked
            | State::Gathered
            | State::Queued
            | State::Left
            | State::Running
            | State::Stopping => slot,
        }
    }
}
