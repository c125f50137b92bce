//! Rows in the words of the database, and batches of changes to them.

use std::fmt;
use std::sync::Arc;

/// A task's id, which logs show as a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u128);

impl Id {
    /// Reads the form that [`Id`] is displayed in.
    pub fn parse(text: &str) -> Option<Id> {
        let hyphens = [8, 13, 18, 23];
        let is_uuid = text.len() == 36 && hyphens.iter().all(|at| text.as_bytes()[*at] == b'-');
        let digits: String = text.chars().filter(|digit| *digit != '-').collect();
        (is_uuid && digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok().map(Id))?
    }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0;
        let part = |shift: u32, bits: u32| (digits >> shift) & ((1 << bits) - 1);
        write!(
            out,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 32),
            part(80, 16),
            part(64, 16),
            part(48, 16),
            part(0, 48)
        )
    }
}

/// What a task is about: its scheduler and its latest event.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Stem of the config file that defines the scheduler.
    pub file: Arc<str>,
    /// The scheduler's name.
    pub scheduler: Arc<str>,
    /// `job`, `command` or `rules`.
    pub kind: Arc<str>,
    /// Digest of what the scheduler does.
    pub digest: Arc<str>,
    /// The event's mask, inotify(7).
    pub mask: u32,
    /// Whether the object is a directory.
    pub is_dir: bool,
    /// Whether the daemon found the entry itself.
    pub synthetic: bool,
    /// Absolute path.
    pub path: Vec<u8>,
    /// Length of the name at the end of the path.
    pub name_len: u16,
    /// Length of the root's path at the start of the path.
    pub root_len: u16,
    /// Path before a move.
    pub src_path: Option<Vec<u8>>,
    /// The directory as the configuration gave it, where it was relative.
    pub given_path: Option<Vec<u8>>,
    /// What only the program understands, as JSON.
    pub detail: Option<String>,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Its delay runs.
    Waiting,
    /// It is due and waits for a place.
    Queued,
    /// It failed and is tried again later.
    Retrying,
    /// It runs.
    Running,
}

impl TaskState {
    const NAMES: [(TaskState, &'static str); 4] = [
        (TaskState::Waiting, "waiting"),
        (TaskState::Queued, "queued"),
        (TaskState::Retrying, "retrying"),
        (TaskState::Running, "running"),
    ];

    /// As the database shows it.
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Waiting => "waiting",
            TaskState::Queued => "queued",
            TaskState::Retrying => "retrying",
            TaskState::Running => "running",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<TaskState> {
        TaskState::NAMES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }
}

/// The process group of a command that runs: its leader may outlive the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process group, which is the pid of its leader.
    pub group: i32,
    /// When the leader was started, in ticks since boot (proc_pid_stat(5), field 22): a pid is given again.
    pub started_ticks: u64,
}

/// A task that has not ended. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id, the same for all attempts and restarts.
    pub id: Id,
    /// What it is about.
    pub subject: Subject,
    /// Where it stands.
    pub state: TaskState,
    /// Number of the attempt that waits or runs; the first is 1.
    pub attempt: u32,
    /// When its first event came.
    pub first_s: f64,
    /// When the first of the events came that it waits for, where that bounds how long it waits.
    pub waits_s: Option<f64>,
    /// When it was first due, where it waits for its file to settle.
    pub settles_s: Option<f64>,
    /// When it came into its state.
    pub since_s: f64,
    /// When it is due.
    pub due_s: f64,
    /// Why its latest attempt failed.
    pub error: Option<String>,
    /// The command that runs.
    pub process: Option<Process>,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was to do.
    Ok,
    /// It failed for good.
    Failed,
    /// Somebody or something cancelled it while it ran.
    Cancelled,
}

impl Outcome {
    /// As the database shows it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        }
    }

    /// Reads that.
    pub fn parse(name: &str) -> Option<Outcome> {
        [Outcome::Ok, Outcome::Failed, Outcome::Cancelled].into_iter().find(|result| result.name() == name)
    }
}

/// A task that has ended. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Its id.
    pub id: Id,
    /// What it was about.
    pub subject: Subject,
    /// How it ended.
    pub result: Outcome,
    /// Why it failed, or was cancelled.
    pub error: Option<String>,
    /// Exit status of its command.
    pub exit_status: Option<i32>,
    /// Signal that ended its command.
    pub signal: Option<i32>,
    /// The last bytes of the command's output.
    pub output: Option<Vec<u8>>,
    /// Number of attempts.
    pub attempts: u32,
    /// When its first event came.
    pub first_s: f64,
    /// When the last attempt was started.
    pub started_s: f64,
    /// When it ended.
    pub ended_s: f64,
    /// What a file rule did, so that it can be undone; JSON that only the program understands.
    pub done: Option<String>,
}

/// An entry that was told before the checkpoint, as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Number of its inode.
    pub inode: u64,
    /// When its status changed last, nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// One transaction, written in the order of the fields: a task that was retried, ran and failed again since the last
/// one is not gone then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Failed ones that are run again, or forgotten.
    pub not_failed: Vec<Id>,
    /// Tasks that are no more.
    pub gone: Vec<Id>,
    /// Tasks that are there, as they are now.
    pub tasks: Vec<Task>,
    /// Tasks that ended: part of the history, and if they failed, kept until they are run again or forgotten.
    pub ended: Vec<Arc<Ended>>,
    /// Of these, the ones that do not stand as failed: they were run again or forgotten before they were written.
    pub closed: Vec<Id>,
    /// What commands wrote at last that had failed before they ended.
    pub outputs: Vec<(Id, Vec<u8>)>,
    /// What tasks did that had failed before they ended.
    pub deeds: Vec<(Id, String)>,
    /// Ended tasks whose `done` is another one from now on: id, what stands there, what is to stand there.
    pub done: Vec<(Id, String, String)>,
    /// Schedulers that are paused, or no more: file, name.
    pub paused: Vec<(Arc<str>, Arc<str>, bool)>,
    /// Up to when everything that happened was handled or is in the database, once all this is written: seconds since
    /// 1970.
    pub checkpoint_s: Option<f64>,
    /// What need not be told again though it changed shortly before the checkpoint, which this goes with.
    pub told: Vec<Told>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Batch::default()
    }

    /// Whether it says anything of tasks or pauses, and not only up to when all is known.
    pub(crate) fn has_changes(&self) -> bool {
        let Batch {
            not_failed,
            gone,
            tasks,
            ended,
            closed,
            outputs,
            deeds,
            done,
            paused,
            checkpoint_s: _,
            told: _,
        } = self;
        let of_ids = !not_failed.is_empty() || !gone.is_empty() || !closed.is_empty();
        let of_ends = !outputs.is_empty() || !deeds.is_empty() || !done.is_empty();
        let of_tasks = !tasks.is_empty() || !ended.is_empty() || of_ends;
        of_ids || of_tasks || !paused.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back() {
        let id = Id(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "01234567-89ab-4def-8123-456789abcdef");
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        for wrong in
            ["", "01234567", "0123456789ab4def8123456789abcdef0000", "é1234567-89ab-4def-8123-456789abcde"]
        {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_states_and_results_read_back() {
        for (state, name) in TaskState::NAMES {
            assert_eq!((state.name(), TaskState::parse(name)), (name, Some(state)));
        }
        for result in [Outcome::Ok, Outcome::Failed, Outcome::Cancelled] {
            assert_eq!(Outcome::parse(result.name()), Some(result));
        }
    }
}
