//! A task as the ledger has it: its row, and times of day instead of instants.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::{Doing, FailedTask, TaskStatus};
use event::Event;
use ledger::{Id, Subject, TaskState};
use serde_json::{Value, json};

use super::group::Group;
use crate::daemon::generation::Action;

/// The time of day at an instant.
pub(super) struct Clock {
    pub(super) now: Instant,
    pub(super) now_s: f64,
}

impl Clock {
    pub(super) fn now() -> Clock {
        Clock { now: Instant::now(), now_s: seconds(SystemTime::now()) }
    }

    pub(super) fn time(&self, at: Instant) -> f64 {
        let ahead = at.saturating_duration_since(self.now).as_secs_f64();
        self.now_s + ahead - self.now.saturating_duration_since(at).as_secs_f64()
    }

    /// When a kept task is due: not later than it was when it was written, if the clock was set back since then.
    pub(super) fn due(&self, task: &ledger::Task) -> Instant {
        self.instant(task.due_s.min(self.now_s + task.due_s - task.since_s))
    }

    pub(super) fn past(&self, time_s: f64) -> Instant {
        let ago = Duration::try_from_secs_f64((self.now_s - time_s).max(0.0)).unwrap_or_default();
        self.now.checked_sub(ago).unwrap_or(self.now)
    }

    pub(super) fn instant(&self, time_s: f64) -> Instant {
        let ahead = Duration::try_from_secs_f64((time_s - self.now_s).max(0.0)).unwrap_or_default();
        self.now.checked_add(ahead).unwrap_or(self.now)
    }
}

pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

pub(super) fn subject(action: &Action, event: &Event<'_>, detail: Option<String>) -> Subject {
    Subject {
        file: Arc::clone(&action.identity.file),
        scheduler: Arc::clone(&action.identity.name),
        kind: action.work.kept_kind().into(),
        digest: Arc::clone(&action.digest),
        mask: event.mask.0,
        is_dir: event.is_dir,
        synthetic: event.synthetic,
        path: event.pathname.to_vec(),
        name_len: event.name_len,
        root_len: event.root_len,
        src_path: event.src_pathname.map(<[u8]>::to_vec),
        given_path: event.given_path.map(<[u8]>::to_vec),
        detail,
    }
}

pub(super) fn row(
    task: &TaskStatus<'_>,
    action: &Action,
    clock: &Clock,
    group: Option<Group>,
) -> ledger::Task {
    let (state, at) = match task.doing {
        Doing::Waiting(at) | Doing::PutOff(at) | Doing::Settling(at) | Doing::Gathered(at) => {
            (TaskState::Waiting, at)
        }
        Doing::Retrying(at) => (TaskState::Retrying, at),
        Doing::Queued(at) => (TaskState::Queued, at),
        Doing::Running(at) => (TaskState::Running, at),
    };
    let runs = state == TaskState::Running;
    let group = group.filter(|_| runs);
    let due_s = at.map_or(f64::from(u32::MAX), |at| clock.time(at));
    ledger::Task {
        id: Id(task.id.0),
        subject: subject(action, &task.event, detail(task, group.is_some_and(|group| group.is_stopped))),
        state,
        attempt: task.attempt,
        first_s: task.waits.made.map_or(clock.now_s, |made| clock.time(made)),
        waits_s: task.waits.first.map(|first| clock.time(first)),
        settles_s: task.waits.due.map(|due| clock.time(due)),
        since_s: if runs { due_s } else { clock.now_s },
        due_s,
        error: (!task.reason.is_empty()).then(|| task.reason.to_owned()),
        process: group.map(|group| group.process),
    }
}

/// What only this program understands of a task.
fn detail(task: &TaskStatus<'_>, is_stopped: bool) -> Option<String> {
    let mut detail = serde_json::Map::new();
    if let Some(failed) = task.failed {
        detail.insert("failed".to_owned(), described(failed));
    } else if task.again {
        detail.insert("again".to_owned(), true.into());
    }
    if is_stopped {
        detail.insert("stopped".to_owned(), true.into());
    }
    (!detail.is_empty()).then(|| Value::Object(detail).to_string())
}

/// The same of a task that has ended and told of a failure.
pub(super) fn detail_of_end(failed: FailedTask<'_>) -> String {
    json!({"failed": described(failed)}).to_string()
}

fn described(failed: FailedTask<'_>) -> Value {
    json!({"error": failed.error, "attempts": failed.attempts, "id": failed.id.to_string()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_lead_back_to_instants() {
        let clock = Clock::now();
        let later = clock.now + Duration::from_millis(1_500);
        let back = clock.instant(clock.time(later));
        assert!(back <= later && later - back < Duration::from_micros(10), "{:?}", later - back);
        assert_eq!(clock.instant(clock.now_s - 5.0), clock.now, "what has passed is due at once");
        assert_eq!(clock.instant(f64::NAN), clock.now);
        let past = clock.past(clock.now_s - 5.0);
        assert!(clock.time(past) - clock.now_s + 5.0 < 1e-5);
        assert_eq!(clock.past(clock.now_s + 5.0), clock.now, "what was begun later was not begun");
    }
}
