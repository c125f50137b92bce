//! Runs of tasks: how they start, end, fail and are tried again.

use std::time::Duration;

use event::Flag;

use super::{Keys, Scheduler, cancel_rerun, wait_for_event};
use crate::clock::{Nanos, span};
use crate::random::Random;
use crate::tasks::{Mark, Renamed, Slot, State, Tasks, beginning};
use crate::turn::{Delivery, Turn};
use crate::{
    CancelledBy, ERROR_MAX, Effects, End, EndResult, Failure, FailureKind, OnBusy, Outcome, OwnedEvent,
    Question, Reaction, Record, Retry, SchedulerKind, Seconds,
};

/// How long a task is put off that found its file in use.
const IN_USE_PAUSE: Nanos = 1_000_000_000;

/// Reruns in a row without a pause that are told.
const RERUNS_TOLD: u32 = 10;

/// What a run leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing, unless an event came.
    Nothing,
    /// It was for nothing: the task starts anew.
    Anew,
    /// It is tried again then.
    Retry(Nanos),
}

impl Scheduler {
    /// A task in no list is due: it starts, or waits for what it still needs.
    #[inline]
    pub(super) fn offer<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        if self.spec.settle.is_some() && is_to_settle(slot, turn.tasks) {
            self.ask(slot, turn);
        } else {
            self.place(slot, turn);
        }
    }

    /// The same of a task that waits: it need not wait for the tick.
    pub(crate) fn offer_waiting<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        self.timer.remove(slot, turn.tasks);
        self.offer(slot, turn);
    }

    fn ask<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        let now = turn.now;
        turn.tasks.more_mut(slot).settles_since.get_or_insert(now);
        turn.tasks.begin_question(slot, now);
        turn.tasks.push(&mut self.asked, slot);
        let (handle, id) = (turn.tasks.handle(slot), turn.tasks.id(slot));
        let event = turn.tasks.event(slot, turn.path);
        turn.out.ask_settled(Question { handle, id, scheduler: self.id, event });
    }

    /// The file of a task has settled.
    pub(crate) fn settled<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        turn.tasks.unlink(&mut self.asked, slot);
        if let Some(more) = turn.tasks.known_more(slot) {
            more.reason.clear();
        }
        self.place(slot, turn);
        self.tell_completed(turn);
    }

    /// The file of a task has not settled.
    pub(crate) fn unsettled<E: Effects>(&mut self, slot: Slot, reason: &str, turn: &mut Turn<'_, E>) {
        turn.tasks.unlink(&mut self.asked, slot);
        let settle = self.spec.settle.expect("only its tasks are asked");
        let now = turn.now;
        let more = turn.tasks.more_mut(slot);
        let is_news = more.reason != reason;
        reason.clone_into(&mut more.reason);
        let since = *more.settles_since.get_or_insert(now);
        if since + span(settle.give_up) <= now {
            let text = format!("did not settle in {} s: {reason}", Seconds(settle.give_up));
            let failure = Failure { is_final: true, ..Failure::new(FailureKind::Error, text) };
            self.fail_for_good(slot, &failure, turn);
            return;
        }
        self.timer.insert(slot, State::Settling, now + span(settle.check).max(1), turn.tasks);
        let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
        turn.out.record(Record::Unsettled { task, reason, is_news });
    }

    /// The path of a task is not there any more, and did not settle: it gets what the map gives a deletion.
    pub(crate) fn vanished<E: Effects>(
        &mut self,
        slot: Slot,
        reaction: Option<Reaction>,
        turn: &mut Turn<'_, E>,
    ) {
        match reaction {
            Some(Reaction::Schedule(_)) => {
                turn.tasks.unlink(&mut self.asked, slot);
                turn.tasks.set_flag(slot, Flag::Delete);
                wait_for_event(slot, turn.tasks);
                self.arm(slot, turn);
                let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
                turn.out.record(Record::Rescheduled { task, delay: self.spec.delay });
            }
            Some(Reaction::Cancel(_)) => self.cancel_unstarted(slot, CancelledBy::Loss, turn),
            None => {
                self.tell_cancelled_retry(slot, CancelledBy::Loss, turn);
                let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
                turn.out.record(Record::Vanished { task });
                self.withdraw(slot, turn);
            }
        }
    }

    /// Lets a task in no list fail for good that has not started.
    pub(super) fn fail_for_good<E: Effects>(
        &mut self,
        slot: Slot,
        failure: &Failure,
        turn: &mut Turn<'_, E>,
    ) {
        let event = turn.tasks.event(slot, turn.path);
        let task = self.record(slot, event, turn.tasks);
        let end = end_without_run(slot, EndResult::Failed(failure), turn.now, turn.tasks);
        let attempts = end.attempts;
        turn.out.ended(&task, end);
        turn.out.record(Record::Failed { task, failure });
        let event = OwnedEvent::of(&event);
        self.deliver(slot, attempts, event, failure, turn);
        self.remove(slot, turn.tasks);
        self.tell_completed(turn);
    }

    /// Lets a task be remembered as one that was cancelled if an attempt of it has failed: somebody may look for that.
    pub(crate) fn tell_cancelled_retry<E: Effects>(
        &self,
        slot: Slot,
        by: CancelledBy,
        turn: &mut Turn<'_, E>,
    ) {
        if turn.tasks.tries(slot) > 0 {
            self.tell_end_without_run(slot, EndResult::Cancelled(by), turn);
        }
    }

    /// The same of a task that has failed because its time was over, and all that its run was for: its end will tell
    /// nothing more.
    pub(super) fn tell_cancelled_run<E: Effects>(&self, slot: Slot, by: CancelledBy, turn: &mut Turn<'_, E>) {
        let task = self.record_of_run(slot, turn.tasks.event_of_run(slot, turn.path), turn.tasks);
        turn.out.ended(&task, end_of(slot, EndResult::Cancelled(by), turn.now, turn.tasks));
        self.tell_taken(EndResult::Cancelled(by), turn);
    }

    /// Lets a task that is to come be remembered as one that ended so.
    pub(crate) fn tell_end_without_run<E: Effects>(
        &self,
        slot: Slot,
        result: EndResult<'_>,
        turn: &mut Turn<'_, E>,
    ) {
        let event = turn.tasks.event(slot, turn.path);
        let task = self.record(slot, event, turn.tasks);
        turn.out.ended(&task, end_without_run(slot, result, turn.now, turn.tasks));
    }

    /// Starts a task in no list, or puts it behind those that wait for their start.
    #[inline]
    pub(super) fn place<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        let is_alone =
            !self.shares_places(turn.shared) && self.spec.batch.is_none() && self.queued.len() == 0;
        if is_alone && self.can_start(turn.now, &turn.shared.commands) && self.has_room(turn) {
            self.run(slot, turn);
        } else {
            self.queue(slot, turn);
        }
    }

    /// Puts a task that is in no list behind those that wait for their start.
    pub(super) fn queue<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        // A rate that lets it start is no deadline: it waits for something else.
        self.looked_at = turn.now;
        turn.tasks.set_state(slot, State::Queued, turn.now);
        turn.tasks.push(&mut self.queued, slot);
        if self.shares_places(turn.shared) {
            turn.shared.commands.to_fill = true;
        }
        let max_jobs = self.spec.max_jobs.filter(|_| self.spec.batch.is_none());
        if let (Some(max_jobs), false, true) = (max_jobs, self.max_jobs_told, self.places_are_taken()) {
            self.max_jobs_told = true;
            turn.out.record(Record::MaxJobs { scheduler: self.id, max_jobs: max_jobs.get() });
        }
        if !self.max_rate_told && !self.is_within_rate(turn.now) {
            self.max_rate_told = true;
            turn.out.record(Record::MaxRate { scheduler: self.id });
        }
        let must_wait =
            self.queued.len() > 1 || !self.can_start(turn.now, &turn.shared.commands) || !self.has_room(turn);
        if self.spec.batch.is_none() && must_wait {
            let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
            turn.out.record(Record::Queued { task, is_paused: self.paused });
        }
    }

    /// Starts a task that is in no list.
    #[inline]
    pub(super) fn run<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        if !turn.tasks.is_plain(slot) && !self.prepare(slot, turn) {
            return;
        }
        self.count_start(turn);
        let late = turn.tasks.late(slot, turn.now);
        turn.tasks.begin_run(slot, turn.now);
        turn.tasks.push(&mut self.running, slot);
        turn.shared.counters.started += 1;
        let start = turn.tasks.start(slot, late, turn.path);
        let task = self.record(slot, start.event, turn.tasks);
        let looks_again = turn.tasks.was_in_use(slot);
        turn.out.record(Record::Started { task, again: start.again, looks_again });
        turn.out.start(start);
    }

    /// Makes a task ready to start that is not a plain one; false if it must not.
    pub(super) fn prepare<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) -> bool {
        if turn.tasks.clear(slot, Mark::AskRules) && !self.ask_rules(slot, turn) {
            return false;
        }
        if let Some(more) = turn.tasks.known_more(slot) {
            more.first = None;
            more.not_before = 0;
            more.settles_since = None;
            more.tried = 0;
            more.reason.clear();
        }
        turn.tasks.clear(slot, Mark::Settled);
        true
    }

    #[inline]
    pub(super) fn count_start<E>(&mut self, turn: &mut Turn<'_, E>) {
        if self.spec.kind == SchedulerKind::Command {
            turn.shared.commands.running += 1;
        }
        if let Some(rate) = self.spec.max_rate {
            if self.starts.len() >= rate.starts.get() as usize {
                self.starts.pop_front();
            }
            self.starts.push_back(turn.now);
        }
    }

    /// Stops running tasks whose time is over. They have failed, though they hold their place until they have ended.
    pub(crate) fn stop_timed_out<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        let Some(timeout) = self.spec.timeout else { return };
        let timed_out = |slot: &Slot, turn: &Turn<'_, E>| turn.tasks.time(*slot) + span(timeout) <= turn.now;
        while let Some(slot) = self.running.first().filter(|slot| timed_out(slot, turn)) {
            self.stop(slot, turn);
            turn.tasks.set(slot, Mark::TimedOut);
            let text = format!("timeout after {} s", Seconds(timeout));
            let retry = self.fail(slot, &Failure::new(FailureKind::Timeout, text), turn);
            if retry.is_some() {
                turn.tasks.more_mut(slot).retry = retry;
            }
        }
        self.tell_completed(turn);
    }

    /// Tells the program to stop a running task.
    pub(super) fn stop<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        turn.tasks.unlink(&mut self.running, slot);
        turn.tasks.set_stopping(slot);
        turn.tasks.push(&mut self.stopping, slot);
        turn.out.stop(turn.tasks.handle(slot), turn.tasks.id(slot));
    }

    /// The program says that a run is over.
    #[inline]
    pub(crate) fn finish<E: Effects>(&mut self, slot: Slot, outcome: &Outcome, turn: &mut Turn<'_, E>) {
        let state = turn.tasks.state(slot);
        self.leave(slot, turn.tasks);
        if self.spec.kind == SchedulerKind::Command {
            turn.shared.commands.running -= 1;
        }
        let left_behind = self.leaves_after.is_some() && turn.tasks.has(slot, Mark::Interrupted);
        if left_behind && self.interrupted(slot, outcome, turn) {
            return self.tell_completed(turn);
        }
        let left = if turn.tasks.is_plain(slot) {
            self.end(slot, state, outcome, turn)
        } else {
            self.end_marked(slot, state, outcome, turn)
        };
        match left {
            None => {}
            Some(Left::Nothing) if turn.tasks.is_plain(slot) => {
                self.remove(slot, turn.tasks);
            }
            Some(left) if turn.tasks.more(slot).is_some_and(|more| more.leads) => {
                self.end_batch(slot, left, turn);
            }
            Some(left) => self.go_on(slot, left, turn),
        }
        if self.queued.len() > 0 || self.shares_places(turn.shared) {
            self.fill_places(turn);
        }
        self.tell_completed(turn);
    }

    /// The end of a run that may have failed already, or have begun in an earlier life of the daemon.
    fn end_marked<E: Effects>(
        &mut self,
        slot: Slot,
        state: State,
        outcome: &Outcome,
        turn: &mut Turn<'_, E>,
    ) -> Option<Left> {
        if turn.tasks.clear(slot, Mark::TimedOut) {
            let retry = turn.tasks.known_more(slot).and_then(|more| more.retry.take());
            return Some(retry.map_or(Left::Nothing, Left::Retry));
        }
        let was_interrupted = turn.tasks.clear(slot, Mark::Interrupted);
        match outcome {
            Outcome::Failed(failure) if was_interrupted => Some(self.end_earlier(slot, failure, turn)),
            Outcome::Done
            | Outcome::Unchanged
            | Outcome::Failed(_)
            | Outcome::Cancelled
            | Outcome::NotBegun
            | Outcome::Withdrawn => self.end(slot, state, outcome, turn),
        }
    }

    /// A run that was stopped for the end of the daemon is over. Unless it was done all the same, the task is left as
    /// it was while it ran, or as it was before if it has not begun.
    fn interrupted<E: Effects>(&mut self, slot: Slot, outcome: &Outcome, turn: &mut Turn<'_, E>) -> bool {
        match outcome {
            Outcome::Done | Outcome::Unchanged => {
                turn.tasks.clear(slot, Mark::Interrupted);
                return false;
            }
            Outcome::NotBegun => {
                turn.tasks.clear(slot, Mark::Interrupted);
                turn.tasks.set_time(slot, turn.now);
            }
            Outcome::Failed(_) | Outcome::Cancelled | Outcome::Withdrawn => {
                let task = self.record_of_run(slot, turn.tasks.event_of_run(slot, turn.path), turn.tasks);
                turn.out.record(Record::CancelledOngoing { task });
            }
        }
        let is_interrupted = turn.tasks.has(slot, Mark::Interrupted);
        self.push_left(slot, turn.tasks);
        while let Some(slot) = self.taken.first() {
            turn.tasks.unlink(&mut self.taken, slot);
            if is_interrupted {
                turn.tasks.set(slot, Mark::Interrupted);
            } else {
                turn.tasks.set_time(slot, turn.now);
            }
            self.push_left(slot, turn.tasks);
        }
        true
    }

    /// A run that outlived the life of the daemon that started it is over.
    fn end_earlier<E: Effects>(&mut self, slot: Slot, failure: &Failure, turn: &mut Turn<'_, E>) -> Left {
        if is_marked(slot, turn.tasks) {
            return Left::Anew;
        }
        self.fail(slot, failure, turn).map_or(Left::Nothing, Left::Retry)
    }

    /// Tells the end of all tasks that a run was for beside the one that had it.
    #[inline]
    fn tell_taken<E: Effects>(&self, result: EndResult<'_>, turn: &mut Turn<'_, E>) {
        let mut next = self.taken.first();
        while let Some(slot) = next {
            let task = self.record(slot, turn.tasks.event_of_run(slot, turn.path), turn.tasks);
            turn.out.ended(&task, end_of(slot, result, turn.now, turn.tasks));
            next = turn.tasks.next_in_list(slot);
        }
    }

    /// Records the end of a run; `None` if the task was put off and that is all.
    #[inline]
    fn end<E: Effects>(
        &mut self,
        slot: Slot,
        state: State,
        outcome: &Outcome,
        turn: &mut Turn<'_, E>,
    ) -> Option<Left> {
        if *outcome == Outcome::NotBegun && state != State::Stopping {
            return self.not_begun(slot, turn);
        }
        let result = match outcome {
            Outcome::Done => Some(EndResult::Done),
            // What it was stopped for is the reason, whatever it says.
            Outcome::Failed(_) if state == State::Stopping => Some(EndResult::Cancelled(CancelledBy::Stop)),
            Outcome::Cancelled | Outcome::NotBegun => Some(EndResult::Cancelled(CancelledBy::Stop)),
            Outcome::Withdrawn => Some(EndResult::Cancelled(CancelledBy::Withdrawal)),
            Outcome::Unchanged | Outcome::Failed(_) => None,
        };
        let task = self.record_of_run(slot, turn.tasks.event_of_run(slot, turn.path), turn.tasks);
        if let Some(result) = result {
            turn.out.ended(&task, end_of(slot, result, turn.now, turn.tasks));
        }
        let left = match outcome {
            Outcome::Done => {
                turn.out.record(Record::Finished { task });
                Left::Nothing
            }
            Outcome::Unchanged => {
                turn.out.record(Record::Unchanged { task });
                Left::Nothing
            }
            Outcome::Failed(_) if state == State::Stopping => {
                turn.out.record(Record::CancelledOngoing { task });
                Left::Nothing
            }
            Outcome::Failed(failure) if failure.kind == FailureKind::InUse && self.spec.batch.is_none() => {
                self.put_off(slot, failure, turn);
                return None;
            }
            Outcome::Failed(failure) => self.fail(slot, failure, turn).map_or(Left::Nothing, Left::Retry),
            Outcome::Cancelled | Outcome::NotBegun => {
                turn.out.record(Record::CancelledOngoing { task });
                Left::Nothing
            }
            Outcome::Withdrawn => {
                turn.out.record(Record::CancelledWaiting { task });
                cancel_rerun(slot, turn.tasks);
                Left::Nothing
            }
        };
        if let Some(result) = result {
            self.tell_taken(result, turn);
        }
        Some(left)
    }

    /// Lets a task start anew whose run has not begun: it is due, and whatever marked it meanwhile is in its latest
    /// event.
    fn not_begun<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) -> Option<Left> {
        // It was no start.
        let at = turn.tasks.time(slot);
        if let Some(place) = self.starts.iter().rposition(|start| *start == at) {
            self.starts.remove(place);
        }
        if self.spec.batch.is_some() {
            return Some(Left::Anew);
        }
        turn.tasks.clear(slot, Mark::Again);
        let renamed = turn.tasks.take_renamed(slot);
        self.tell_followed(slot, &renamed, turn);
        if matches!(renamed, Renamed::Unwanted) {
            self.timer.insert(slot, State::Waiting, turn.now, turn.tasks);
            self.cancel_unstarted(slot, CancelledBy::Rename, turn);
        } else if self.has_heir {
            self.leave_to_heir(slot, turn.tasks);
        } else {
            self.go_on_after(slot, 0, turn);
        }
        None
    }

    /// Does with a task in no list what its run left to do.
    #[inline]
    pub(super) fn go_on<E: Effects>(&mut self, slot: Slot, left: Left, turn: &mut Turn<'_, E>) {
        if self.has_heir && is_marked(slot, turn.tasks) {
            return self.leave_to_heir(slot, turn.tasks);
        }
        let restart = turn.tasks.clear(slot, Mark::Restart);
        let again = turn.tasks.clear(slot, Mark::Again);
        let renamed = turn.tasks.take_renamed(slot);
        if restart || again || matches!(left, Left::Retry(_)) {
            self.tell_followed(slot, &renamed, turn);
        }
        match left {
            _ if restart => {
                turn.tasks.set_attempt(slot, 1);
                self.go_on_after(slot, 0, turn);
            }
            Left::Nothing | Left::Retry(_) | Left::Anew if again => self.run_again(slot, turn),
            Left::Nothing | Left::Anew => self.remove(slot, turn.tasks),
            Left::Retry(due) => {
                let attempt = turn.tasks.attempt(slot);
                turn.tasks.set_attempt(slot, attempt.saturating_add(1));
                if let Some(more) = turn.tasks.known_more(slot) {
                    more.reruns = 0;
                }
                self.wait_for_retry(slot, due.max(turn.now), turn.tasks);
                if matches!(renamed, Renamed::Unwanted) {
                    self.cancel_unstarted(slot, CancelledBy::Rename, turn);
                }
            }
        }
    }

    /// Says that what is to come after the run of a task is for another path.
    pub(super) fn tell_followed<E: Effects>(&self, slot: Slot, renamed: &Renamed, turn: &mut Turn<'_, E>) {
        if let Renamed::Followed { from, to } = renamed {
            let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
            turn.out.record(Record::Followed { task, from, to });
        }
    }

    /// Treats the event that marked a task as if it came now, when the run is over: the delay, which says how long
    /// the object must be left alone, counts for this run as for any other.
    fn run_again<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        turn.tasks.set_attempt(slot, 1);
        match self.spec.on_busy {
            OnBusy::RunAgainIfChanged => turn.tasks.set_again(slot),
            OnBusy::Skip | OnBusy::Rerun | OnBusy::Restart => self.count_rerun(slot, turn),
        }
        self.go_on_after(slot, self.delay, turn);
    }

    /// Lets a task in no list start anew: after its delay or at once, or in another life of the daemon if this one ends
    /// before.
    fn go_on_after<E: Effects>(&mut self, slot: Slot, delay: Nanos, turn: &mut Turn<'_, E>) {
        if self.leaves_after.is_some_and(|after| turn.now + delay > after) {
            turn.tasks.set_time(slot, turn.now + delay);
            self.push_left(slot, turn.tasks);
        } else if delay > 0 {
            self.wait(slot, turn);
        } else {
            self.offer(slot, turn);
        }
    }

    /// Lets a task wait for its next try; while the daemon ends, in its next life.
    pub(super) fn wait_for_retry(&mut self, slot: Slot, due: Nanos, tasks: &mut Tasks) {
        if self.leaves_after.is_some() {
            tasks.set_time(slot, due);
            self.push_left(slot, tasks);
        } else {
            self.timer.insert(slot, State::Retrying, due, tasks);
        }
    }

    fn count_rerun<E: Effects>(&mut self, slot: Slot, turn: &mut Turn<'_, E>) {
        if self.delay > 0 {
            return;
        }
        let more = turn.tasks.more_mut(slot);
        more.reruns = more.reruns.saturating_add(1);
        let count = more.reruns;
        if count == RERUNS_TOLD {
            let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
            turn.out.record(Record::Reruns { task, count });
        }
    }

    /// Lets a task look again later that found its file in use. Whatever marked it is in its latest event.
    fn put_off<E: Effects>(&mut self, slot: Slot, failure: &Failure, turn: &mut Turn<'_, E>) {
        turn.tasks.clear(slot, Mark::Again);
        let more = turn.tasks.more_mut(slot);
        failure.text.clone_into(&mut more.reason);
        let renamed = turn.tasks.take_renamed(slot);
        self.timer.insert(slot, State::PutOff, turn.now + IN_USE_PAUSE, turn.tasks);
        if turn.tasks.note_in_use(slot) {
            let task = self.record(slot, turn.tasks.event(slot, turn.path), turn.tasks);
            turn.out.record(Record::PutOff { task, failure });
        }
        self.tell_followed(slot, &renamed, turn);
        if matches!(renamed, Renamed::Unwanted) {
            self.cancel_unstarted(slot, CancelledBy::Rename, turn);
        }
    }

    /// Records a failure and decides what follows: when the task is tried again, or else who gets its event.
    fn fail<E: Effects>(&mut self, slot: Slot, failure: &Failure, turn: &mut Turn<'_, E>) -> Option<Nanos> {
        let attempt = turn.tasks.attempt(slot);
        let retry = self.spec.retry.as_ref().filter(|retry| self.retries && retry.is_for(failure, attempt));
        let never_acted = matches!(turn.tasks.renamed(slot), Renamed::Followed { .. })
            && self.spec.kind == SchedulerKind::Rules
            && self.spec.batch.is_none()
            && failure.kind == FailureKind::Error;
        let replaced = is_marked(slot, turn.tasks);
        let event = turn.tasks.event_of_run(slot, turn.path);
        let task = self.record_of_run(slot, event, turn.tasks);
        if let Some(retry) = retry {
            let pause = (!replaced).then(|| retry.pause(attempt, &mut turn.shared.random));
            turn.out.record(Record::Retry { task, failure, attempt, pause });
            if pause.is_some() {
                self.note_reason(slot, failure, turn.tasks);
            } else {
                turn.tasks.more_mut(slot).tried = attempt;
            }
            return pause.map(|pause| turn.now + span(pause));
        }
        if never_acted {
            turn.out.record(Record::Retry { task, failure, attempt, pause: None });
            turn.tasks.set(slot, Mark::Restart);
            turn.tasks.more_mut(slot).tried = attempt;
            return None;
        }
        turn.out.ended(&task, end_of(slot, EndResult::Failed(failure), turn.now, turn.tasks));
        turn.out.record(Record::Failed { task, failure });
        if !self.spec.on_failure.is_empty() {
            let event = OwnedEvent::of(&event);
            self.deliver(slot, attempt, event, failure, turn);
            self.deliver_taken(failure, turn);
        }
        self.tell_taken(EndResult::Failed(failure), turn);
        None
    }

    /// Notes why a task is tried again, and all others that its run was for.
    fn note_reason(&self, slot: Slot, failure: &Failure, tasks: &mut Tasks) {
        tasks.set_reason(slot, &failure.text);
        for taken in self.taken_slots(tasks) {
            tasks.set_reason(taken, &failure.text);
        }
    }

    /// Leaves the event of a task that failed for good after so many attempts to those that are to get it; what tells
    /// of a failure itself goes no further.
    pub(super) fn deliver<E>(
        &self,
        slot: Slot,
        attempts: u32,
        event: OwnedEvent,
        failure: &Failure,
        turn: &mut Turn<'_, E>,
    ) {
        if self.spec.on_failure.is_empty() || turn.tasks.has(slot, Mark::Keyless) {
            return;
        }
        let error = failure.text.replace('\0', "\u{fffd}");
        let error = beginning(&error, ERROR_MAX).to_owned();
        let failed = crate::tasks::Failed { error, attempts, id: turn.tasks.id(slot) };
        let receivers = self.spec.on_failure.clone();
        turn.shared.failures.push(Delivery { receivers, map: turn.tasks.map(slot), event, failed });
    }

    pub(crate) fn fill_places<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        self.looked_at = turn.now;
        if self.shares_places(turn.shared) {
            turn.shared.commands.to_fill = true;
            return;
        }
        while self.queued.len() > 0 && self.can_start(turn.now, &turn.shared.commands) && self.has_room(turn)
        {
            self.run_first_queued(turn);
        }
    }

    /// Starts the task that has been queued for longest.
    pub(crate) fn run_first_queued<E: Effects>(&mut self, turn: &mut Turn<'_, E>) {
        let Some(slot) = self.queued.first() else { return };
        if self.spec.batch.is_some() {
            return self.run_batch(slot, turn);
        }
        turn.tasks.unlink(&mut self.queued, slot);
        self.run(slot, turn);
    }

    /// Forgets a task, which is in no list any more.
    #[inline]
    pub(super) fn remove(&mut self, slot: Slot, tasks: &mut Tasks) {
        self.remove_key(slot, tasks);
        tasks.remove(slot);
    }

    /// Lets no path lead to a task any more.
    #[inline]
    pub(super) fn remove_key(&mut self, slot: Slot, tasks: &Tasks) {
        if tasks.has(slot, Mark::Keyless) {
            return;
        }
        match &mut self.keys {
            Keys::Single(task) => *task = None,
            Keys::Paths(index) => index.remove(slot, tasks),
        }
    }
}

impl Retry {
    /// Whether a failure of that try is followed by another one.
    fn is_for(&self, failure: &Failure, attempt: u32) -> bool {
        if failure.is_final || self.times.is_some_and(|times| attempt > times) {
            return false;
        }
        let Some(on) = &self.on else {
            return !matches!(failure.kind, FailureKind::Interrupted | FailureKind::InUse);
        };
        match failure.kind {
            FailureKind::Error => on.errors,
            FailureKind::ExitStatus(status) => {
                on.statuses.contains(&status) || (on.signal && (129..=128 + SIGNAL_MAX).contains(&status))
            }
            FailureKind::Signal(_) => on.signal,
            FailureKind::Timeout => on.timeout,
            FailureKind::Interrupted | FailureKind::InUse => false,
        }
    }

    /// The pause after a try.
    pub(crate) fn pause(&self, attempt: u32, random: &mut Random) -> Duration {
        if self.delay.is_zero() {
            // Nothing times without end is not a number.
            return Duration::ZERO;
        }
        let longest = self.max_delay.as_secs_f64();
        let growth = self.factor.powi(attempt.saturating_sub(1).min(i32::MAX as u32) as i32);
        let pause_s = (self.delay.as_secs_f64() * growth).min(longest);
        let jitter = if self.jitter > 0.0 { self.jitter * (2.0 * random.fraction() - 1.0) } else { 0.0 };
        Duration::try_from_secs_f64(pause_s * (1.0 + jitter)).unwrap_or(self.max_delay)
    }
}

/// Whether a task that runs is to run again for an event.
pub(super) fn is_marked(slot: Slot, tasks: &Tasks) -> bool {
    tasks.has(slot, Mark::Again) || tasks.has(slot, Mark::Restart)
}

/// The end of a task whose run is over.
fn end_of<'a>(slot: Slot, result: EndResult<'a>, now: Nanos, tasks: &'a Tasks) -> End<'a> {
    let since = |time: Nanos| Duration::from_nanos(now.saturating_sub(time));
    let (attempts, told) = (tasks.attempt(slot), tasks.failed(slot));
    End { result, attempts, age: since(tasks.made(slot)), ran: since(tasks.time(slot)), told }
}

/// The end of a task that is to come: the attempt that it waits for is not made.
fn end_without_run<'a>(slot: Slot, result: EndResult<'a>, now: Nanos, tasks: &'a Tasks) -> End<'a> {
    let end = end_of(slot, result, now, tasks);
    End { ran: Duration::ZERO, attempts: tasks.tries(slot), ..end }
}

/// The highest number of a signal (signal(7)).
const SIGNAL_MAX: i32 = 64;

/// Directories settle at once; what is said to be gone need not, nor what a task tells of that failed.
fn is_to_settle(slot: Slot, tasks: &Tasks) -> bool {
    let gone = tasks.flag(slot).is_some_and(|flag| match flag {
        Flag::Delete | Flag::DeleteSelf | Flag::MovedFrom | Flag::QOverflow => true,
        Flag::Access
        | Flag::Modify
        | Flag::Attrib
        | Flag::CloseWrite
        | Flag::CloseNowrite
        | Flag::Open
        | Flag::MovedTo
        | Flag::Create
        | Flag::MoveSelf
        | Flag::Unmount
        | Flag::Ignored => false,
    });
    !gone && !tasks.is_dir(slot) && !tasks.has(slot, Mark::Settled) && tasks.failed(slot).is_none()
}
