//! Shell commands: the child and its end.
//!
//! A command runs as `/bin/sh -c`, in a process group of its own, with stdin from /dev/null, no signal blocked or ignored,
//! and the daemon's working directory, environment, umask, stdout and stderr. Its text is made by [`super::template`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{CStr, CString, NulError, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use event::Event;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use super::template::plain_mask_name;
use crate::service::notify::Notifier;

/// A command that is to run.
#[derive(Debug)]
pub(crate) struct Order {
    /// Who asked for it.
    pub task: u64,
    /// The expanded command line.
    pub line: Vec<u8>,
    /// `PYINOTIFYD_*` for the child.
    pub environment: Environment,
}

/// What a command finds in its environment about the event.
#[derive(Debug)]
pub(crate) struct Environment {
    maskname: &'static str,
    pathname: Vec<u8>,
    src_pathname: Vec<u8>,
    task_id: String,
}

impl Environment {
    const NAMES: [&str; 4] =
        ["PYINOTIFYD_MASKNAME", "PYINOTIFYD_PATHNAME", "PYINOTIFYD_SRC_PATHNAME", "PYINOTIFYD_TASK_ID"];

    /// Of an event.
    pub(crate) fn of(event: &Event<'_>, task_id: String) -> Environment {
        Environment {
            maskname: plain_mask_name(event),
            pathname: event.pathname.to_vec(),
            src_pathname: event.src_pathname.unwrap_or_default().to_vec(),
            task_id,
        }
    }

    /// As the child gets them.
    fn variables(&self) -> Result<[CString; 4], NulError> {
        let [maskname, pathname, src_pathname, task_id] = Environment::NAMES;
        Ok([
            variable(maskname, self.maskname.as_bytes())?,
            variable(pathname, &self.pathname)?,
            variable(src_pathname, &self.src_pathname)?,
            variable(task_id, self.task_id.as_bytes())?,
        ])
    }
}

fn variable(name: impl AsRef<OsStr>, value: &[u8]) -> Result<CString, NulError> {
    CString::new([name.as_ref().as_bytes(), b"=", value].concat())
}

/// Commands that are started in one loop turn: a start takes about a third of a millisecond of the loop's time.
const STARTS_A_TURN: usize = 4;
/// Pause before a start is tried again that the system had no room for.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// What came of the starts of a turn.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    /// Commands that can never be started, by task.
    pub failed: Vec<(u64, io::Error)>,
    /// From now on there is no room for another process; nothing is lost, and this is said once until there is.
    pub no_room: Option<io::Error>,
}

/// All commands: those that wait for a loop turn, and those that run. The engine bounds how many there are.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    waiting: VecDeque<Order>,
    running: HashMap<i32, u64>,
    pids: HashMap<u64, Pid>,
    /// While the system has no room for another process: when to try again.
    no_room_until: Option<Instant>,
    /// What all commands find in their environment, put together once for each configuration.
    environment: Vec<CString>,
    /// /dev/null, open from the first command on.
    null: Option<File>,
}

impl Commands {
    /// Sets what the configuration changed in the environment; `None` removes a variable.
    pub(crate) fn set_environment(&mut self, changed: Vec<(OsString, Option<OsString>)>) {
        let mut environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for name in Notifier::VARIABLES {
            environment.remove(OsStr::new(name));
        }
        for (name, value) in changed {
            match value {
                Some(value) => environment.insert(name, value),
                None => environment.remove(&name),
            };
        }
        for name in Environment::NAMES {
            environment.remove(OsStr::new(name));
        }
        let variables = environment.iter().map(|(name, value)| variable(name, value.as_bytes()));
        // None holds NUL, which putenv(3) cannot take.
        self.environment = variables.filter_map(Result::ok).collect();
    }

    /// Queues a command; [`Commands::start_some`] starts it.
    pub(crate) fn order(&mut self, order: Order) {
        self.waiting.push_back(order);
    }

    /// Whether a command waits that can be started now.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() && self.no_room_until.is_none()
    }

    /// How many wait to be started.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When [`Commands::start_some`] has something to do although nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.no_room_until.filter(|_| !self.waiting.is_empty())
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Starts some of the waiting commands.
    pub(crate) fn start_some(&mut self, now: Instant) -> Starts {
        let mut starts = Starts::default();
        if self.no_room_until.is_some_and(|at| at > now) {
            return starts;
        }
        for _ in 0..STARTS_A_TURN {
            let Some(order) = self.waiting.pop_front() else { break };
            match stdin(&mut self.null).and_then(|null| spawn(&order, &self.environment, null)) {
                Ok(pid) => {
                    self.no_room_until = None;
                    self.running.insert(pid.as_raw_nonzero().get(), order.task);
                    self.pids.insert(order.task, pid);
                }
                Err(error) if is_no_room(&error) => {
                    self.waiting.push_front(order);
                    let said = self.no_room_until.replace(now + ROOM_PAUSE).is_some();
                    starts.no_room = (!said).then_some(error);
                    break;
                }
                Err(error) => starts.failed.push((order.task, error)),
            }
        }
        starts
    }

    /// The task whose command's shell had that pid.
    pub(crate) fn ended(&mut self, pid: Pid) -> Option<u64> {
        let task = self.running.remove(&pid.as_raw_nonzero().get())?;
        self.pids.remove(&task);
        Some(task)
    }

    /// Takes a command back that was not started; false if it runs (or is unknown).
    pub(crate) fn withdraw(&mut self, task: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|order| order.task != task);
        self.waiting.len() < before
    }

    /// Sends a signal to the process group of a running command; false if it does not run.
    pub(crate) fn signal(&self, task: u64, signal: Signal) -> bool {
        let Some(pid) = self.pids.get(&task) else { return false };
        // ESRCH: it ended, and the reaper is about to tell.
        let _ = kill_process_group(*pid, signal);
        true
    }

    /// Sends a signal to the process groups of all that run.
    pub(crate) fn signal_all(&self, signal: Signal) {
        for pid in self.pids.values() {
            let _ = kill_process_group(*pid, signal);
        }
    }
}

/// Whether a start failed only because others have what it needs: processes, memory or descriptors (fork(2)).
fn is_no_room(error: &io::Error) -> bool {
    let passing = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// /dev/null, opened if it is not open.
fn stdin(null: &mut Option<File>) -> io::Result<BorrowedFd<'_>> {
    let file = match null.take() {
        Some(file) => file,
        None => File::open("/dev/null")?,
    };
    let file: &File = null.insert(file);
    Ok(file.as_fd())
}

/// Starts the command's shell.
fn spawn(order: &Order, inherited: &[CString], stdin: BorrowedFd<'_>) -> io::Result<Pid> {
    let line = CString::new(&*order.line)?;
    let own = order.environment.variables()?;
    let environment: Vec<&CStr> = inherited.iter().chain(&own).map(CString::as_c_str).collect();
    let pid = syscall::spawn::start(c"/bin/sh", &[c"/bin/sh", c"-c", &line], &environment, stdin)?;
    Ok(Pid::from_raw(pid).expect("a child's pid is not 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_changes_the_environment_but_not_what_tells_of_the_event() {
        let set = |name: &str, value: &str| (OsString::from(name), Some(OsString::from(value)));
        let mut commands = Commands::default();
        let changed = vec![
            set("ONE", "1"),
            set("NOTIFY_SOCKET", "its own"),
            set("PYINOTIFYD_TASK_ID", "x"),
            ("PATH".into(), None),
        ];
        commands.set_environment(changed);
        let has = |variable: &CStr| commands.environment.iter().any(|found| found.as_c_str() == variable);
        assert!(has(c"ONE=1") && has(c"NOTIFY_SOCKET=its own"));
        let starts_with =
            |name: &[u8]| commands.environment.iter().any(|found| found.to_bytes().starts_with(name));
        assert!(!starts_with(b"PATH=") && !starts_with(b"PYINOTIFYD_"));
        assert_eq!(starts_with(b"HOME="), std::env::var_os("HOME").is_some());
    }
}
