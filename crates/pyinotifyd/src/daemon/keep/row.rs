//! A task as the ledger has it: its row.

use std::sync::Arc;

use engine::{Doing, FailedTask, TaskStatus};
use event::Event;
use ledger::{Id, Subject, TaskState};
use serde_json::{Value, json};

use super::group::Group;
use crate::daemon::generation::Action;
use crate::daemon::observe::Moments;

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
    moments: &Moments,
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
    let due_s = at.map_or(f64::from(u32::MAX), |at| moments.time(at).0);
    ledger::Task {
        id: Id(task.id.0),
        subject: subject(action, &task.event, detail(task, group.is_some_and(|group| group.is_stopped))),
        state,
        attempt: task.attempt,
        first_s: task.waits.made.map_or(moments.wall_s, |made| moments.time(made).0),
        waits_s: task.waits.first.map(|first| moments.time(first).0),
        settles_s: task.waits.due.map(|due| moments.time(due).0),
        since_s: if runs { due_s } else { moments.wall_s },
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
