//! What people ask of single tasks and schedulers, and tasks of an earlier life of the daemon.

use std::time::Instant;

use super::Engine;
use crate::elders;
use crate::path::Path;
use crate::scheduler::Scheduler;
use crate::scheduler::hand_over::Earlier;
use crate::tasks::{Failed, News, Slot, State};
use crate::turn::Turn;
use crate::{
    CancelledBy, Effects, EndResult, Failure, IdPrefix, MapId, NoRule, Restored, SchedulerId, TaskHandle,
    TaskId, Waits,
};

/// What an id or its beginning names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No task.
    None,
    /// This one.
    One(TaskId),
    /// More than one.
    Many,
}

/// Why a task was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRun {
    /// It runs already, or there is no such task.
    NotToCome,
    /// The rules that it came to have nothing for its path: it has ended ([`EndResult::NoRule`]).
    NoRule(NoRule),
}

impl Engine {
    /// Whether there is a task with this id.
    pub fn has(&self, id: TaskId) -> bool {
        self.tasks.find(id).is_some()
    }

    /// The task whose id begins so. A whole id is found at once; for less, all tasks are looked at: 5 ms for a million.
    pub fn find(&self, prefix: &IdPrefix) -> Found {
        if let Some(id) = prefix.whole() {
            return if self.has(id) { Found::One(id) } else { Found::None };
        }
        let mut matching =
            self.tasks.slots().map(|slot| self.tasks.id(slot)).filter(|id| prefix.matches(*id));
        match (matching.next(), matching.next()) {
            (None, _) => Found::None,
            (Some(id), None) => Found::One(id),
            (Some(_), Some(_)) => Found::Many,
        }
    }

    /// The tasks of the run that this one has a part in, the one that has it first; none if it does not run.
    pub fn of_run(&self, id: TaskId) -> Vec<TaskId> {
        let running = self.tasks.find(id).filter(|slot| !self.tasks.state(*slot).is_to_come());
        let Some(slot) = running else { return Vec::new() };
        let Some(scheduler) = self.scheduler(self.tasks.scheduler(slot)) else { return Vec::new() };
        let slots = std::iter::once(scheduler.leader(slot, &self.tasks));
        slots.chain(scheduler.taken_slots(&self.tasks)).map(|slot| self.tasks.id(slot)).collect()
    }

    /// Cancels a task: one that is to come is forgotten, one that runs is stopped and does not run again, with all
    /// [`of_run`](Engine::of_run). Whether there is such a task.
    pub fn cancel(&mut self, now: Instant, id: TaskId, out: &mut impl Effects) -> bool {
        let Some(slot) = self.tasks.find(id) else { return false };
        let scheduler = self.tasks.scheduler(slot);
        let Some(at) = self.of_scheduler(scheduler) else { return false };
        let to_come = self.tasks.state(slot).is_to_come();
        let (generations, mut turn) = self.turn(now, out);
        generations[at].with_scheduler(scheduler, &mut turn, |scheduler, turn| {
            if to_come {
                // Who has its id looks for its end, whether it was tried or not.
                if turn.tasks.tries(slot) == 0 {
                    scheduler.tell_end_without_run(slot, EndResult::Cancelled(CancelledBy::Id), turn);
                }
                scheduler.cancel_unstarted(slot, CancelledBy::Id, turn);
            } else {
                scheduler.stop_for_good(slot, turn);
            }
        });
        self.end_turn(out);
        true
    }

    /// Lets a task that is to come start now, or as soon as there is a place.
    ///
    /// # Errors
    /// There is nothing to start.
    pub fn run_now(&mut self, now: Instant, id: TaskId, out: &mut impl Effects) -> Result<(), NotRun> {
        let to_come = self.tasks.find(id).filter(|slot| self.tasks.state(*slot).is_to_come());
        let slot = to_come.ok_or(NotRun::NotToCome)?;
        let scheduler = self.tasks.scheduler(slot);
        let at = self.of_scheduler(scheduler).ok_or(NotRun::NotToCome)?;
        let (generations, mut turn) = self.turn(now, out);
        let path = turn.tasks.event(slot, turn.path).pathname.to_vec();
        generations[at].with_scheduler(scheduler, &mut turn, |scheduler, turn| scheduler.run_now(slot, turn));
        self.end_turn(out);
        if self.has(id) {
            return Ok(());
        }
        self.no_rule(scheduler, &path).map_or(Ok(()), |why| Err(NotRun::NoRule(why)))
    }

    /// Offers a place to a task that waits and is due, or is queued, as [`Engine::tick`] would.
    pub fn start_due(&mut self, now: Instant, id: TaskId, out: &mut impl Effects) {
        let due = self.clock.at(now);
        let Some(slot) = self.tasks.find(id) else { return };
        let is_queued = match self.tasks.state(slot) {
            State::Queued => true,
            State::Waiting if self.tasks.time(slot) <= due => false,
            _ => return,
        };
        let scheduler = self.tasks.scheduler(slot);
        let Some(at) = self.of_scheduler(scheduler) else { return };
        let (generations, mut turn) = self.turn(now, out);
        generations[at].with_scheduler(scheduler, &mut turn, |scheduler, turn| {
            if is_queued {
                scheduler.fill_places(turn);
            } else {
                scheduler.offer_waiting(slot, turn);
            }
        });
        self.end_turn(out);
    }

    /// Whether a task that is due has not started: it waits for a place or for its turn, or its scheduler is paused.
    pub fn is_held_back(&self, id: TaskId) -> bool {
        let Some(slot) = self.tasks.find(id) else { return false };
        let Some(scheduler) = self.scheduler(self.tasks.scheduler(slot)) else { return false };
        match self.tasks.state(slot) {
            State::Queued | State::Waiting => true,
            state => state.is_to_come() && scheduler.is_paused(),
        }
    }

    /// Lets a task that is to come fail for good, without a run. Whether there is such a task.
    pub fn fail(&mut self, now: Instant, id: TaskId, failure: &Failure, out: &mut impl Effects) -> bool {
        let Some(slot) = self.tasks.find(id).filter(|slot| self.tasks.state(*slot).is_to_come()) else {
            return false;
        };
        let scheduler = self.tasks.scheduler(slot);
        let Some(at) = self.of_scheduler(scheduler) else { return false };
        let (generations, mut turn) = self.turn(now, out);
        generations[at].with_scheduler(scheduler, &mut turn, |scheduler, turn| {
            scheduler.fail_unstarted(slot, failure, turn);
        });
        generations[at].deliver(&mut turn);
        self.hand_over_left(at, out);
        self.end_turn(out);
        true
    }

    /// The same of all tasks of a scheduler that are to come.
    pub fn fail_all(&mut self, now: Instant, id: SchedulerId, failure: &Failure, out: &mut impl Effects) {
        let Some(at) = self.of_scheduler(id) else { return };
        let (generations, mut turn) = self.turn(now, out);
        generations[at].with_scheduler(id, &mut turn, |scheduler, turn| scheduler.fail_all(failure, turn));
        generations[at].deliver(&mut turn);
        self.hand_over_left(at, out);
        self.end_turn(out);
    }

    /// Lets a scheduler start nothing: delays run out, and what is due is queued.
    pub fn pause(&mut self, now: Instant, scheduler: SchedulerId, out: &mut impl Effects) {
        self.set_paused(now, scheduler, true, out);
    }

    /// Ends that.
    pub fn resume(&mut self, now: Instant, scheduler: SchedulerId, out: &mut impl Effects) {
        self.set_paused(now, scheduler, false, out);
    }

    fn set_paused(&mut self, now: Instant, id: SchedulerId, paused: bool, out: &mut impl Effects) {
        let Some(at) = self.of_scheduler(id) else { return };
        let (generations, mut turn) = self.turn(now, out);
        generations[at].with_scheduler(id, &mut turn, |scheduler, turn| {
            scheduler.set_paused(paused);
            scheduler.fill_places(turn);
        });
        self.end_turn(out);
    }

    /// Why a task of that path would have nothing to do at a scheduler with rules.
    pub fn no_rule(&self, scheduler: SchedulerId, pathname: &[u8]) -> Option<NoRule> {
        let path = Path { bytes: pathname, hash: 0, serial: Path::UNCACHED };
        self.scheduler(scheduler)?.rule(&path).err()
    }

    /// Makes a task that an earlier life of the daemon had. Whether it was made: not if its path has a task of that
    /// scheduler, if its id is taken, or if there are too many.
    pub fn restore(&mut self, now: Instant, task: &Restored<'_>, out: &mut impl Effects) -> bool {
        let due = self.clock.at(task.due);
        let restored = self.restore_by(now, task, out, |scheduler, earlier, turn| {
            scheduler.restore(earlier, due.max(turn.now), turn)
        });
        restored.is_some()
    }

    /// The same of a task whose run outlived the life of the daemon that started it, and is being ended. It has its
    /// path and its place like any run, and its end is told by [`Engine::finished`], under the handle returned. If that
    /// run failed, the task starts anew if `again`, or if an event came meanwhile; else it has failed. What has a batch
    /// has one run for all.
    pub fn restore_run(
        &mut self,
        now: Instant,
        task: &Restored<'_>,
        again: bool,
        out: &mut impl Effects,
    ) -> Option<TaskHandle> {
        let slot = self.restore_by(now, task, out, |scheduler, earlier, turn| {
            scheduler.restore_run(earlier, again, turn)
        })?;
        let scheduler = self.scheduler(task.scheduler)?;
        Some(self.tasks.handle(scheduler.leader(slot, &self.tasks)))
    }

    fn restore_by<E: Effects>(
        &mut self,
        now: Instant,
        task: &Restored<'_>,
        out: &mut E,
        restore: impl FnOnce(&mut Scheduler, Earlier<'_>, &mut Turn<'_, E>) -> Option<Slot>,
    ) -> Option<Slot> {
        let id = task.scheduler;
        let at = self.of_scheduler(id)?;
        if self.tasks.find(task.id).is_some() {
            return None;
        }
        let failed = task.failed.map(|failed| Failed {
            error: failed.error.to_owned(),
            attempts: failed.attempts,
            id: failed.id,
        });
        let path = self.paths.see(task.event.pathname);
        let heir = (self.scheduler(id)?, self.generations[at].phase());
        let elder = elders::find(&self.generations[..at], heir, &path, &self.tasks);
        if elder.is_some() && failed.is_none() {
            return None;
        }
        let map = task.map.unwrap_or(MapId::NONE);
        let nanos = |at: Option<Instant>| at.map(|at| self.clock.at(at));
        let Waits { made, first, due } = task.waits;
        let (made, first, due) = (nanos(made), nanos(first), nanos(due));
        let news = News { event: &task.event, map, rule: None, hash: path.hash, same_path: false };
        let mut restored = None;
        let (generations, mut turn) = self.turn(now, out);
        generations[at].with_scheduler(id, &mut turn, |scheduler, turn| {
            let attempt = task.attempt.max(1);
            let again = !task.is_kept;
            let earlier = Earlier { path: &path, news: &news, attempt, made, first, due, failed, again };
            restored = restore(scheduler, earlier, turn);
        });
        if let Some(slot) = restored {
            if !task.reason.is_empty() && self.tasks.attempt(slot) > 1 {
                self.tasks.set_reason(slot, task.reason);
            }
            self.tasks.set_id(slot, task.id);
            if let Some(changes) = self.tasks.changes() {
                if task.is_kept { changes.keep(slot) } else { changes.keep_changed(slot) }
            }
        }
        self.end_turn(out);
        restored
    }
}
