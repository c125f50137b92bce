//! Tasks that failed for good lately and that no state keeps: there is none, or their scheduler has `persist=False`.
//! They are known for as long as the daemon lives.

use std::collections::VecDeque;

use control::api::{EndedView, PathText, SrcPathText, Time};
use engine::{Failure, OwnedEvent, TaskId, TaskRecord};

use super::children::signal_name;
use super::observe::{End, wall_now};
use super::task_name::TaskName;
use crate::config::Identity;

/// How many are remembered; some 300 bytes each, and what their commands wrote.
const FAILED_MAX: usize = 1_000;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct FailedTasks(VecDeque<FailedTask>);

/// One of them.
#[derive(Debug)]
pub(crate) struct FailedTask {
    /// Its id.
    pub id: TaskId,
    /// Its scheduler.
    pub scheduler: Identity,
    /// The event that it ran for.
    pub event: OwnedEvent,
    error: String,
    /// Exit status of its command.
    pub exit_status: Option<i32>,
    signal: Option<i32>,
    output: Vec<u8>,
    ended: Time,
    /// How long its last attempt took, in seconds.
    pub duration_s: f64,
    /// How often it was tried.
    pub attempts: u32,
    /// The failure that it told of.
    pub told: Option<Told>,
}

/// The failure of another task that a task tells of.
#[derive(Debug)]
pub(crate) struct Told {
    /// Why it failed.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Its id.
    pub id: TaskId,
}

impl Told {
    /// Of what the engine has said.
    pub(crate) fn of(failed: engine::FailedTask<'_>) -> Told {
        Told { error: failed.error.to_owned(), attempts: failed.attempts, id: failed.id }
    }

    /// As the engine takes it.
    pub(crate) fn get(&self) -> engine::FailedTask<'_> {
        engine::FailedTask { error: &self.error, attempts: self.attempts, id: self.id }
    }
}

impl FailedTask {
    /// Of what the engine has said.
    pub(crate) fn new(
        task: &TaskRecord<'_>,
        scheduler: Identity,
        failure: &Failure,
        end: &engine::End<'_>,
        output: Vec<u8>,
    ) -> FailedTask {
        let (exit_status, signal) = failure.kind.exit();
        FailedTask {
            id: task.id,
            scheduler,
            event: OwnedEvent::of(&task.event),
            error: failure.text.clone(),
            exit_status,
            signal,
            output,
            ended: wall_now(),
            duration_s: end.ran.as_secs_f64(),
            attempts: end.attempts,
            told: end.told.map(Told::of),
        }
    }

    /// Whether it is of the scheduler that is asked for, by its name or with its file.
    pub(crate) fn is_of(&self, asked: &str) -> bool {
        *self.scheduler.name == *asked || self.scheduler.is(asked)
    }

    /// As the API shows it, with what people call its scheduler.
    pub(crate) fn view(&self, scheduler: String) -> EndedView {
        let event = self.event.get();
        let output = (!self.output.is_empty()).then(|| String::from_utf8_lossy(&self.output).into_owned());
        EndedView {
            id: TaskName::of(self.id).as_str().to_owned(),
            scheduler,
            path: PathText::of(event.pathname),
            src_path: SrcPathText::of(event.src_pathname),
            event: event.mask.name().to_owned(),
            result: End::Failed.name().to_owned(),
            error: Some(self.error.clone()),
            exit_status: self.exit_status,
            signal: self.signal.map(signal_name),
            output,
            started: Time(self.ended.0 - self.duration_s),
            ended: self.ended,
            duration: self.duration_s,
            attempts: self.attempts,
            undone: None,
        }
    }
}

impl FailedTasks {
    /// One more; the oldest gives way. A task that fails once more after a retry counts once.
    pub(crate) fn push(&mut self, task: FailedTask) {
        self.0.retain(|other| other.id != task.id);
        if self.0.len() >= FAILED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(task);
    }

    /// How many those of a scheduler are.
    pub(crate) fn of(&self, scheduler: &Identity) -> u64 {
        self.0.iter().filter(|task| task.scheduler == *scheduler).count() as u64
    }

    /// How many all are.
    pub(crate) fn all(&self) -> u64 {
        self.0.len() as u64
    }

    /// All, the newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &FailedTask> {
        self.0.iter().rev()
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, id: TaskId) -> Option<FailedTask> {
        let place = self.0.iter().position(|task| task.id == id)?;
        self.0.remove(place)
    }
}
