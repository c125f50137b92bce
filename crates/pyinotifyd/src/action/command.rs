//! Commands: how they are started, what they find, how they end.
//!
//! A command runs in a process group of its own, with no signal blocked or ignored, and with what it is to have; all
//! else is the daemon's: user, working directory, umask, limits, stdout and stderr. Its stdin is /dev/null unless it is
//! given something to read ([`super::input`]). Where its output is to be logged, it writes into pipes
//! ([`super::output`]).
//!
//! A command line for the shell that asks for nothing else is executed at once. All others go by way of a step
//! ([`super::exec`]). Who a command is to be is asked of the databases before ([`super::account`]); commands that do
//! not need that answer do not wait for it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, NulError, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Failure, FailureKind, Outcome};
use hashbrown::HashMap;
use rustix::fs::{Uid, fchown};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process_group, test_kill_process_group};

use super::Lanes;
use super::account::{Account, Accounts, Answer};
use super::exec::{self, Attributes};
use super::occasion::Occasion;
use super::output::{Outputs, Source, Writers};
use super::queue::Queue;
use crate::config::{AccountWanted, Command, CommandOptions, Output, Program};
use crate::log::{Cause, Escaped};
use crate::service::notify::Notifier;

impl Command {
    /// What is executed for an event.
    pub(crate) fn line(&self, occasion: &Occasion<'_>) -> Line {
        match &self.program {
            Program::Shell(template) => Line::Shell(template.expand(occasion)),
            Program::Arguments(templates) => {
                Line::Arguments(templates.iter().flat_map(|template| template.expand(occasion)).collect())
            }
        }
    }

    /// Bytes that the line has without any path, as execve(2) counts them.
    pub(crate) fn bytes_without_paths(&self) -> usize {
        match &self.program {
            Program::Shell(template) => template.literal_bytes() + ARGUMENT_BYTES,
            Program::Arguments(templates) => {
                templates.iter().map(|template| template.literal_bytes() + ARGUMENT_BYTES).sum()
            }
        }
    }

    /// Bytes that a path of a batch adds.
    pub(crate) fn bytes_of_path(&self, path: &[u8]) -> usize {
        match &self.program {
            Program::Shell(template) => {
                let lists = template.path_lists();
                let mut quoted = Vec::new();
                if lists > 0 {
                    super::template::quote(path, &mut quoted);
                }
                lists * (quoted.len() + b" ".len())
            }
            Program::Arguments(templates) => {
                let lists = templates.iter().filter(|template| template.is_path_list()).count();
                lists * (path.len() + ARGUMENT_BYTES)
            }
        }
    }
}

/// Bytes of an argument or a variable beside its text: its end and its pointer.
const ARGUMENT_BYTES: usize = 1 + size_of::<usize>();
/// Bytes of one argument at most, with its end: MAX_ARG_STRLEN of execve(2).
const ONE_ARGUMENT_MAX: usize = 128 << 10;
/// Bytes of all arguments and variables: a quarter of the stack, within these limits (execve(2)).
const ARGUMENTS_LEAST: u64 = 128 << 10;
const ARGUMENTS_MOST: u64 = 6 << 20;
/// Bytes that are kept free for the step, the program's name and what tells of the event.
const ARGUMENTS_KEPT: usize = 16 << 10;

/// What is executed, with the values of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// By the shell.
    Shell(Vec<u8>),
    /// A program and its arguments.
    Arguments(Vec<Vec<u8>>),
}

impl Line {
    /// As people would type it.
    pub(crate) fn text(&self) -> String {
        match self {
            Line::Shell(line) => Escaped(line).to_string(),
            Line::Arguments(words) => {
                let mut line = Vec::new();
                for (index, word) in words.iter().enumerate() {
                    if index > 0 {
                        line.push(b' ');
                    }
                    super::template::quote(word, &mut line);
                }
                Escaped(&line).to_string()
            }
        }
    }

    /// What the log calls it: `shell command, cmd=LINE`.
    pub(crate) fn shown(&self) -> String {
        let name = match self {
            Line::Shell(_) => "cmd",
            Line::Arguments(_) => "argv",
        };
        format!("{}, {name}={}", self.kind(), self.text())
    }

    fn kind(&self) -> &'static str {
        match self {
            Line::Shell(_) => "shell command",
            Line::Arguments(_) => "command",
        }
    }

    /// The words for execve(2).
    fn words(&self) -> Result<Vec<CString>, NulError> {
        match self {
            Line::Shell(line) => Ok(vec![c"/bin/sh".into(), c"-c".into(), CString::new(line.as_slice())?]),
            Line::Arguments(words) => words.iter().map(|word| CString::new(word.as_slice())).collect(),
        }
    }
}

/// A command that is to run.
#[derive(Debug)]
pub(crate) struct Order {
    /// Who asked for it.
    pub task: u64,
    /// What is executed.
    pub line: Line,
    /// How.
    pub command: Arc<Command>,
    /// `PYINOTIFYD_*` for the child.
    pub environment: Environment,
    /// What it reads.
    pub input: Option<Vec<u8>>,
    /// What records of its output are about, if they go into the log.
    pub source: Option<Source>,
}

/// What a command finds in its environment about the event.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Name, path and source of the event; those of a batch are not of one event.
    event: Option<(&'static str, Vec<u8>, Vec<u8>)>,
    task_id: String,
    error: Option<String>,
}

impl Environment {
    const NAMES: [&str; 5] = [
        "PYINOTIFYD_MASKNAME",
        "PYINOTIFYD_PATHNAME",
        "PYINOTIFYD_SRC_PATHNAME",
        Environment::TASK_ID,
        "PYINOTIFYD_ERROR",
    ];

    /// The variable by which a process is known to be of a task, whatever group it is in.
    pub(crate) const TASK_ID: &str = "PYINOTIFYD_TASK_ID";

    /// Of an event.
    pub(crate) fn of(occasion: &Occasion<'_>, task_id: String) -> Environment {
        let is_one = occasion.batch.is_empty();
        let src_pathname = occasion.event.src_pathname.unwrap_or_default();
        let of_event = || (occasion.mask_name(), occasion.event.pathname.to_vec(), src_pathname.to_vec());
        Environment {
            event: is_one.then(of_event),
            task_id,
            error: occasion.failed.filter(|_| is_one).map(|failed| failed.error.to_owned()),
        }
    }

    /// As the child gets them.
    fn variables(&self) -> Result<Vec<CString>, NulError> {
        let event = self.event.as_ref();
        let values: [Option<&[u8]>; 5] = [
            event.map(|(maskname, ..)| maskname.as_bytes()),
            event.map(|(_, pathname, _)| pathname.as_slice()),
            event.map(|(.., src_pathname)| src_pathname.as_slice()),
            Some(self.task_id.as_bytes()),
            self.error.as_deref().map(str::as_bytes),
        ];
        let named = Environment::NAMES.into_iter().zip(values);
        named.filter_map(|(name, value)| value.map(|value| variable(name, value))).collect()
    }
}

fn variable(name: impl AsRef<OsStr>, value: &[u8]) -> Result<CString, NulError> {
    CString::new([name.as_ref().as_bytes(), b"=", value].concat())
}

/// Name of a variable.
fn name_of(variable: &CStr) -> &[u8] {
    variable.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// Commands that are started in one loop turn: a start takes about a third of a millisecond of the loop's time.
const STARTS_A_TURN: usize = 4;
/// Pause before a start is tried again that the system had no room for.
const ROOM_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two looks at process groups that are to end.
const GROUP_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of what the step says that went wrong.
const FAILURE_MAX: u64 = 4 << 10;

/// What came of the starts of a turn.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    /// Commands that can never be started, by task, and why.
    pub failed: Vec<(u64, String)>,
    /// Tasks whose command has been started.
    pub started: Vec<u64>,
    /// From now on there is no room for another process; nothing is lost, and this is said once until there is.
    pub no_room: Option<io::Error>,
}

/// All commands: those that wait for an answer or for a loop turn, and those that run. The engine bounds how many there
/// are.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    /// What those that run write for the log.
    pub outputs: Outputs,
    accounts: Accounts,
    /// Those that wait to know who they are.
    unknown: HashMap<AccountWanted, Queue<Order>>,
    waiting: Queue<Waiting>,
    /// Those that can never be started, and why.
    failed: Queue<String>,
    /// By process ID.
    running: HashMap<i32, Running>,
    pids: HashMap<u64, Pid>,
    /// Those whose process has ended, some of which wait for the rest of their process group.
    lingering: Vec<Lingering>,
    /// When to look at these again.
    look_at: Option<Instant>,
    /// While the system has no room for another process: when to try again.
    no_room_until: Option<Instant>,
    inherited: Inherited,
    /// /dev/null, open from the first command on.
    null: Option<File>,
}

#[derive(Debug)]
struct Waiting {
    order: Order,
    account: Option<Arc<Account>>,
}

#[derive(Debug)]
struct Running {
    task: u64,
    /// Where the step says what went wrong.
    failure: Option<File>,
    /// It was told to end.
    is_stopped: bool,
}

#[derive(Debug)]
struct Lingering {
    task: u64,
    group: Pid,
    outcome: Outcome,
    /// Until that has ended, or was killed.
    waits_for_group: bool,
}

/// What commands find in their environment, put together once for each configuration.
#[derive(Debug, Default)]
struct Inherited {
    /// All variables.
    own: Vec<CString>,
    /// Those that a command of another user gets: what the configuration has set, and what says nothing about the
    /// daemon.
    strange: Vec<CString>,
}

/// Variables, besides LC_*, that are no secret of the daemon's user.
const COMMON: [&[u8]; 4] = [b"PATH", b"LANG", b"LANGUAGE", b"TZ"];

impl Inherited {
    /// `changed` is what the configuration changed; `None` removes a variable.
    fn new(changed: &[(OsString, Option<OsString>)]) -> Inherited {
        let mut all: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for name in Notifier::VARIABLES {
            all.remove(OsStr::new(name));
        }
        let is_common =
            |name: &OsStr| COMMON.contains(&name.as_bytes()) || name.as_bytes().starts_with(b"LC_");
        let mut strange: BTreeMap<OsString, OsString> =
            all.iter().filter(|(name, _)| is_common(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
        for variables in [&mut all, &mut strange] {
            for (name, value) in changed {
                match value {
                    Some(value) => variables.insert(name.clone(), value.clone()),
                    None => variables.remove(name),
                };
            }
            for name in Environment::NAMES {
                variables.remove(OsStr::new(name));
            }
        }
        // None holds NUL, which putenv(3) cannot take.
        let texts = |variables: &BTreeMap<OsString, OsString>| {
            variables.iter().filter_map(|(name, value)| variable(name, value.as_bytes()).ok()).collect()
        };
        Inherited { own: texts(&all), strange: texts(&strange) }
    }

    /// The environment of a command: a later variable takes the place of an earlier one.
    fn of<'a>(
        &'a self,
        account: Option<&'a Account>,
        options: &'a CommandOptions,
        event: &'a [CString],
    ) -> Vec<&'a CStr> {
        let user = account.and_then(|account| account.environment.as_ref());
        let inherited = if user.is_some() { &self.strange } else { &self.own };
        let given = options.environment.iter();
        let is_given = |name: &[u8]| given.clone().any(|(given, _)| given == name);
        let is_users =
            |name: &[u8]| user.is_some_and(|user| user.iter().any(|theirs| name_of(theirs) == name));
        let inherited = inherited.iter().filter(|variable| !is_users(name_of(variable)));
        let replaceable = inherited.chain(user.into_iter().flatten());
        let kept =
            replaceable.filter(|variable| options.environment.is_empty() || !is_given(name_of(variable)));
        let all = kept.chain(options.environment.iter().map(|(_, variable)| variable)).chain(event);
        all.map(CString::as_c_str).collect()
    }
}

impl Commands {
    /// Sets what the configuration changed in the environment; `None` removes a variable.
    pub(crate) fn set_environment(&mut self, changed: &[(OsString, Option<OsString>)]) {
        self.inherited = Inherited::new(changed);
    }

    /// How many bytes the line of a command may have.
    pub(crate) fn line_room(&self, command: &Command) -> usize {
        let inherited = self.inherited.own.iter().chain(&self.inherited.strange);
        let given = command.options.environment.iter().map(|(_, variable)| variable);
        let environment = inherited.chain(given).map(|one| one.count_bytes() + ARGUMENT_BYTES).sum::<usize>();
        let given = command.options.limits.iter().find(|(name, _)| name == "stack");
        let stack = [getrlimit(Resource::Stack).current, given.and_then(|(_, limit)| *limit)];
        let stack = stack.into_iter().flatten().min().unwrap_or(u64::MAX);
        let all = (stack / 4).clamp(ARGUMENTS_LEAST, ARGUMENTS_MOST) as usize;
        let room = all.saturating_sub(environment + ARGUMENTS_KEPT);
        match command.program {
            Program::Shell(_) => room.min(ONE_ARGUMENT_MAX),
            Program::Arguments(_) => room,
        }
    }

    /// Takes a command; [`Commands::start_some`] starts it, as soon as it is known who it is to be.
    pub(crate) fn order(&mut self, order: Order, lanes: &mut Lanes, now: Instant) {
        let Some(wanted) = &order.command.options.account else {
            return self.waiting.push_back(order.task, Waiting { order, account: None });
        };
        match self.accounts.get(wanted, lanes, now) {
            Some(account) => self.waiting.push_back(order.task, Waiting { order, account: Some(account) }),
            None => self.unknown.entry(wanted.clone()).or_default().push_back(order.task, order),
        }
    }

    /// It is known, or not, who some commands are to be.
    pub(crate) fn answered(&mut self, answer: &Answer, now: Instant) {
        self.accounts.answered(answer, now);
        for (task, order) in self.unknown.remove(&answer.wanted).unwrap_or_default().take() {
            match &answer.account {
                Ok(account) => {
                    self.waiting.push_back(task, Waiting { order, account: Some(Arc::clone(account)) });
                }
                Err(fault) => self.failed.push_back(task, fault.to_string()),
            }
        }
    }

    /// Whether a command waits that can be started now, or cannot be started ever.
    pub(crate) fn has_waiting(&self) -> bool {
        (!self.waiting.is_empty() && self.no_room_until.is_none()) || !self.failed.is_empty()
    }

    /// How many wait to be started.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When [`Commands::start_some`] or [`Commands::take_ended`] has something to do although nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let room = self.no_room_until.filter(|_| !self.waiting.is_empty());
        room.into_iter().chain(self.look_at).min()
    }

    /// The process of a task's command, if it runs.
    pub(crate) fn process(&self, task: u64) -> Option<Pid> {
        self.pids.get(&task).copied()
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.running.len() + self.lingering.len()
    }

    /// Starts some of the waiting commands.
    pub(crate) fn start_some(&mut self, now: Instant) -> Starts {
        let mut starts = Starts { failed: self.failed.take().collect(), ..Starts::default() };
        if self.no_room_until.is_some_and(|at| at > now) {
            return starts;
        }
        for _ in 0..STARTS_A_TURN {
            let Some((task, waiting)) = self.waiting.pop_front() else { break };
            match self.start(&waiting) {
                Ok((pid, failure)) => {
                    self.no_room_until = None;
                    self.running
                        .insert(pid.as_raw_nonzero().get(), Running { task, failure, is_stopped: false });
                    self.pids.insert(task, pid);
                    starts.started.push(task);
                }
                Err(error) if is_no_room(&error) => {
                    self.outputs.close(task);
                    self.waiting.push_front(task, waiting);
                    let said = self.no_room_until.replace(now + ROOM_PAUSE).is_some();
                    starts.no_room = (!said).then_some(error);
                    break;
                }
                Err(error) => {
                    self.outputs.close(task);
                    let what = waiting.order.line.kind();
                    starts.failed.push((task, format!("cannot start {what}: {}", Cause(&error))));
                }
            }
        }
        starts
    }

    /// A process has ended; whether it was that of a command. [`Commands::take_ended`] gives the command when all of it
    /// has.
    pub(crate) fn process_ended(&mut self, group: Pid, outcome: Outcome) -> bool {
        let Some(running) = self.running.remove(&group.as_raw_nonzero().get()) else { return false };
        let never_ran = |why| Outcome::Failed(Failure::new(FailureKind::Error, why));
        let outcome = running.failure.and_then(said).map_or(outcome, never_ran);
        // What a command that was not told to end leaves in the background is its own affair.
        self.lingering.push(Lingering {
            task: running.task,
            group,
            outcome,
            waits_for_group: running.is_stopped,
        });
        true
    }

    /// Tasks whose command has ended, and how. One that was told to end has only when its process group has, as a shell
    /// goes at once while the program that it started still tidies up.
    pub(crate) fn take_ended(&mut self, now: Instant) -> Vec<(u64, Outcome)> {
        let is_over = |one: &mut Lingering| !one.waits_for_group || !lives(one.group);
        let over: Vec<Lingering> = self.lingering.extract_if(.., is_over).collect();
        self.look_at = (!self.lingering.is_empty()).then(|| now + GROUP_PAUSE);
        for one in &over {
            self.pids.remove(&one.task);
        }
        over.into_iter().map(|one| (one.task, one.outcome)).collect()
    }

    /// Takes a command back that was not started; false if it runs (or is not known).
    pub(crate) fn withdraw(&mut self, task: u64) -> bool {
        self.waiting.remove(task).is_some()
            || self.failed.remove(task).is_some()
            || self.unknown.values_mut().any(|orders| orders.remove(task).is_some())
    }

    /// Sends a signal to the process group of a running command; false if it does not run.
    pub(crate) fn signal(&mut self, task: u64, signal: Signal) -> bool {
        let Some(&pid) = self.pids.get(&task) else { return false };
        if let Some(running) = self.running.get_mut(&pid.as_raw_nonzero().get()) {
            running.is_stopped = true;
        }
        for one in self.lingering.iter_mut().filter(|one| one.task == task) {
            one.waits_for_group &= signal != Signal::KILL;
        }
        // ESRCH: it ended, and the reaper is about to tell.
        let _ = kill_process_group(pid, signal);
        true
    }

    /// Sends a signal to the process groups of all that run.
    pub(crate) fn signal_all(&self, signal: Signal) {
        for pid in self.pids.values() {
            let _ = kill_process_group(*pid, signal);
        }
    }

    /// Starts a command; also returns where the step says what goes wrong, if there is a step.
    fn start(&mut self, Waiting { order, account }: &Waiting) -> io::Result<(Pid, Option<File>)> {
        let options = &order.command.options;
        let account = account.as_deref();
        let own = order.environment.variables()?;
        let environment = self.inherited.of(account, options, &own);
        let null = null(&mut self.null)?;
        let input = order.input.as_deref().map(super::input::file).transpose()?;
        let mut files =
            Files { stdin: input.as_ref().map_or(null, OwnedFd::as_fd), output: None, failure: None };
        let writers = order.source.as_ref().map(|source| self.outputs.open(order.task, source.clone()));
        let writers = writers.transpose()?;
        if let Some(writers) = &writers {
            give_to(account, writers);
        }
        files.output = match options.output {
            Output::Log => writers.as_ref().map(|writers| [writers.stdout.as_fd(), writers.stderr.as_fd()]),
            Output::Inherit => None,
            Output::Null => Some([null, null]),
        };
        let words = order.line.words()?;
        let Some(attributes) = attributes(&order.line, options, account) else {
            return Ok((spawn(c"/bin/sh", &words, &environment, &files)?, None));
        };
        let (failure, failure_writer) = io::pipe()?;
        files.failure = Some(failure_writer.as_fd());
        let step = [CString::new(exec::NAME)?, CString::new(serde_json::to_vec(&attributes)?)?];
        let words = [step.as_slice(), words.as_slice()].concat();
        // The program as it was when it was started: another one may have its place now.
        let pid = spawn(c"/proc/self/exe", &words, &environment, &files)?;
        Ok((pid, Some(File::from(OwnedFd::from(failure)))))
    }
}

/// What the step is to do; `None`: nothing, so that it is not needed.
fn attributes(line: &Line, options: &CommandOptions, account: Option<&Account>) -> Option<Attributes> {
    let attributes = Attributes {
        identity: account.map(|account| account.identity.clone()),
        umask: options.umask,
        nice: options.nice,
        directory: options.directory.clone(),
        limits: options.limits.clone(),
    };
    (matches!(line, Line::Arguments(_)) || attributes != Attributes::default()).then_some(attributes)
}

/// Lets the user of a command open its stdout and stderr by their names under /dev.
fn give_to(account: Option<&Account>, writers: &Writers) {
    let Some(uid) = account.and_then(|account| account.identity.uid) else { return };
    for writer in [&writers.stdout, &writers.stderr] {
        // Without the right to do so there is no right to become the user either, which is said then.
        let _ = fchown(writer, Some(Uid::from_raw(uid)), None);
    }
}

/// What a process is started with.
struct Files<'a> {
    stdin: BorrowedFd<'a>,
    /// Stdout and stderr.
    output: Option<[BorrowedFd<'a>; 2]>,
    failure: Option<BorrowedFd<'a>>,
}

fn spawn(program: &CStr, words: &[CString], environment: &[&CStr], files: &Files<'_>) -> io::Result<Pid> {
    let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    let output = files.output.into_iter().flat_map(|[stdout, stderr]| [(stdout, 1), (stderr, 2)]);
    // The descriptors of the daemon are above 2, so that none of them has the number of an earlier one.
    let failure = files.failure.map(|failure| (failure, exec::PIPE_FD));
    let files: Vec<_> = [(files.stdin, 0)].into_iter().chain(output).chain(failure).collect();
    let pid = syscall::spawn::start(program, &words, environment, &files)?;
    Ok(Pid::from_raw(pid).expect("a child's pid is not 0"))
}

/// Whether a start failed only because others have what it needs: processes, memory or descriptors (fork(2)).
fn is_no_room(error: &io::Error) -> bool {
    let passing = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// /dev/null, opened if it is not open.
fn null(null: &mut Option<File>) -> io::Result<BorrowedFd<'_>> {
    let file = match null.take() {
        Some(file) => file,
        None => OpenOptions::new().read(true).write(true).open("/dev/null")?,
    };
    let file: &File = null.insert(file);
    Ok(file.as_fd())
}

/// What the step said. It has ended, so that there is nothing to wait for.
fn said(pipe: File) -> Option<String> {
    rustix::io::ioctl_fionbio(&pipe, true).ok()?;
    let mut text = Vec::new();
    // A child that the step's process had cannot hold the pipe: it has none.
    let _ = pipe.take(FAILURE_MAX).read_to_end(&mut text);
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// Whether a process group has a process still, which may be one that nobody has reaped.
fn lives(group: Pid) -> bool {
    test_kill_process_group(group) != Err(Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::super::account::Fault;
    use super::*;
    use crate::config::AccountName;

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
        commands.set_environment(&changed);
        let has = |variable: &CStr| commands.inherited.own.iter().any(|found| found.as_c_str() == variable);
        assert!(has(c"ONE=1") && has(c"NOTIFY_SOCKET=its own"));
        let starts_with =
            |name: &[u8]| commands.inherited.own.iter().any(|found| found.to_bytes().starts_with(name));
        assert!(!starts_with(b"PATH=") && !starts_with(b"PYINOTIFYD_"));
        assert_eq!(starts_with(b"HOME="), std::env::var_os("HOME").is_some());
    }

    fn names(environment: &[&CStr]) -> Vec<String> {
        let mut names: Vec<_> = environment
            .iter()
            .map(|variable| String::from_utf8_lossy(name_of(variable)).into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn another_user_gets_nothing_that_is_the_daemons() {
        let texts =
            |texts: &[&str]| texts.iter().map(|text| CString::new(*text).unwrap()).collect::<Vec<_>>();
        let inherited = Inherited {
            own: texts(&["HOME=/root", "PATH=/bin", "SECRET=1"]),
            strange: texts(&["HOME=/set", "PATH=/bin", "SET=1"]),
        };
        let event = texts(&["PYINOTIFYD_TASK_ID=1"]);
        let options = CommandOptions {
            environment: vec![
                (b"PATH".to_vec(), c"PATH=/given".into()),
                (b"USER".to_vec(), c"USER=given".into()),
            ],
            ..CommandOptions::default()
        };
        let nothing = CommandOptions::default();
        let own = inherited.of(None, &nothing, &event);
        assert_eq!(names(&own), ["HOME", "PATH", "PYINOTIFYD_TASK_ID", "SECRET"]);
        let user =
            ["HOME=/home/alice", "USER=alice", "LOGNAME=alice"].map(|text| CString::new(text).unwrap());
        let account = Account { identity: exec::Identity::default(), environment: Some(user) };
        let theirs = inherited.of(Some(&account), &options, &event);
        assert_eq!(names(&theirs), ["HOME", "LOGNAME", "PATH", "PYINOTIFYD_TASK_ID", "SET", "USER"]);
        for variable in [c"HOME=/home/alice", c"PATH=/given", c"USER=given"] {
            assert!(theirs.contains(&variable), "{variable:?}");
        }
    }

    /// An order that no system starts, so that the starts tell who had a turn.
    fn order(task: u64, account: Option<AccountWanted>) -> Order {
        let options = CommandOptions { account, ..CommandOptions::default() };
        let command = Command { program: Program::Arguments(Vec::new()), options, doubts: Vec::new() };
        Order {
            task,
            line: Line::Shell(b"\0".to_vec()),
            command: Arc::new(command),
            environment: Environment { event: None, task_id: task.to_string(), error: None },
            input: None,
            source: None,
        }
    }

    #[test]
    fn a_command_that_is_taken_back_has_no_turn_wherever_it_waits() {
        let now = Instant::now();
        let (mut commands, mut lanes) = (Commands::default(), Lanes::new(crate::lane::Limits::default()));
        let [known, unknown] = ["known", "unknown"]
            .map(|name| Some(AccountWanted { user: Some(AccountName::Name(name.to_owned())), group: None }));
        for (first, wanted) in [(0, &None), (10, &known), (20, &unknown)] {
            (first..first + 10).for_each(|task| commands.order(order(task, wanted.clone()), &mut lanes, now));
        }
        assert!([1, 3, 11, 12, 21].into_iter().all(|task| commands.withdraw(task)));
        let account = Ok(Arc::new(Account { identity: exec::Identity::default(), environment: None }));
        commands.answered(&Answer { wanted: known.unwrap(), account }, now);
        let fault = Err(Fault::Unknown("no such user".to_owned()));
        commands.answered(&Answer { wanted: unknown.unwrap(), account: fault }, now);
        assert!([0, 13, 22].into_iter().all(|task| commands.withdraw(task)));
        assert!([0, 1, 11, 13, 21, 22, 99].into_iter().all(|task| !commands.withdraw(task)));
        let mut turns = Vec::new();
        while commands.has_waiting() {
            turns.extend(commands.start_some(now).failed.into_iter().map(|(task, _)| task));
        }
        assert_eq!(turns[..8], [20, 23, 24, 25, 26, 27, 28, 29], "those of nobody fail at once");
        assert_eq!(turns[8..], [2, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn a_command_line_shows_as_people_would_type_it() {
        let line =
            Line::Arguments(vec![b"convert".to_vec(), b"/w/it's".to_vec(), b"".to_vec(), b"\x1b".to_vec()]);
        assert_eq!(line.shown(), r#"command, argv=convert '/w/it'"'"'s' '' '\x1b'"#);
        assert_eq!(Line::Shell(b"a | b".to_vec()).shown(), "shell command, cmd=a | b");
    }
}
