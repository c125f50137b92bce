//! From the command line to a daemon that runs: the first execution of the config file.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use control::api::Time;
use engine::Engine;
use event::Flag;
use ledger::Restored;
use rustix::process::Signal;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::Interest;
use tokio::sync::mpsc;
use watcher::{Inotify, Source};

use super::behind::Behind;
use super::children;
use super::control::Control;
use super::keep::{Beginning, Keeper};
use super::loading::{LoadError, Loading};
use super::observe::wall_now;
use super::perform::{GRACE, Performer};
use super::prepared::Prepared;
use super::print::Printer;
use super::report::{give_up, refuse, test_warnings};
use super::routing::Core;
use super::shutdown::State;
use super::supervise::Supervision;
use super::wake::{Descriptor, EndSignal, Request, Signals, Timer, Wake};
use super::{Daemon, leave};
use crate::cli::{self, ConfigOptions};
use crate::config::{Config, ConfigFile, StateWanted};
use crate::host::{self, Host, HostEvent, HostId};
use crate::log::{Cause, Level, Log, Style, record};

/// Why there is no daemon.
pub(super) enum NoDaemon {
    /// A signal asked for the end before there was anything to end.
    Asked(EndSignal),
    /// What is wrong was said.
    Failed(ExitCode),
}

impl NoDaemon {
    /// The exit status of a daemon: who manages it has ended it, and Ctrl-C has interrupted what was typed.
    pub(super) fn of_daemon(self) -> ExitCode {
        match self {
            NoDaemon::Asked(EndSignal::Term) => ExitCode::SUCCESS,
            why => why.of_answer(),
        }
    }

    /// The exit status of who was asked a question that has no answer now: after a signal that of a shell.
    pub(super) fn of_answer(self) -> ExitCode {
        match self {
            NoDaemon::Asked(EndSignal::Int) => ExitCode::from(128 + Signal::INT.as_raw() as u8),
            NoDaemon::Asked(EndSignal::Term) => ExitCode::from(128 + Signal::TERM.as_raw() as u8),
            NoDaemon::Failed(code) => code,
        }
    }
}

impl From<ExitCode> for NoDaemon {
    fn from(code: ExitCode) -> NoDaemon {
        NoDaemon::Failed(code)
    }
}

/// A configuration that was executed for the first time, and what it takes to run it.
pub(super) struct Start {
    pub(super) options: ConfigOptions,
    pub(super) log: Log,
    pub(super) config: Config,
    /// The host that executed it, if any did; it stays or is about to end by itself.
    pub(super) host: Option<Host>,
    /// The interpreter.
    pub(super) python: Option<Arc<Path>>,
    /// When it began.
    pub(super) since: Time,
    pub(super) signals: Signals,
    /// SIGHUP came: the config file may have changed since it was read.
    pub(super) reload: bool,
    pub(super) hosts: (mpsc::Sender<HostEvent>, mpsc::Receiver<HostEvent>),
    /// Tasks of an earlier daemon, where there is a state.
    pub(super) state: Option<Beginning>,
}

impl Start {
    /// Executes the config file; a signal ends one that never returns.
    pub(super) async fn load(options: ConfigOptions, mut log: Log) -> Result<Start, NoDaemon> {
        if options.debug {
            log.set_level("", Level::DEBUG);
        }
        let since = wall_now();
        children::become_subreaper();
        let signals = Signals::new();
        let mut signals = signals.map_err(|error| {
            give_up(&mut log, &format!("cannot handle signals: {error}", error = Cause(&error)))
        })?;
        let (sender, mut receiver) = host::channel();
        let mut reload = false;
        let (loaded, host, python) = match &options.source {
            cli::Source::Line(line) => (Config::from_line(line).map_err(LoadError::Fault), None, None),
            cli::Source::Files(_) => {
                let loading =
                    Loading::start(&options, None, HostId(0), &log, sender.clone(), |config| config);
                let mut loading = loading.map_err(|error| refuse(&mut log, &options, error))?;
                let outcome =
                    outcome(&mut loading, &mut signals, &mut receiver, &mut reload, &mut log).await?;
                let Loading { host, python, early, .. } = loading;
                (outcome.map(|config| Config { early, ..config }), Some(host), Some(python))
            }
        };
        let config = loaded.map_err(|error| refuse(&mut log, &options, error))?;
        if state_directory(&options, &config).is_none()
            && !options.dry_run
            && let Err(fault) = config.check_without_state()
        {
            return Err(refuse(&mut log, &options, LoadError::Fault(fault)).into());
        }
        for warning in &config.warnings {
            record!(log, Log::ROOT, WARNING, "{warning}");
        }
        let hosts = (sender, receiver);
        Ok(Start { options, log, config, host, python, since, signals, reload, hosts, state: None })
    }

    /// What it says.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The answer of a config test.
    pub(super) fn report_ok(mut self) -> ExitCode {
        let state = state_directory(&self.options, &self.config);
        for warning in test_warnings(&self.config, state.as_deref()) {
            record!(self.log, Log::ROOT, WARNING, "{warning}");
        }
        record!(self.log, Log::ROOT, INFO, "config file ok");
        self.log.flush_at_exit();
        ExitCode::SUCCESS
    }

    /// The answer of `--explain`, on stdout.
    pub(super) fn explain(mut self, path: &Path, event: Option<Flag>) -> ExitCode {
        let text = super::explain::explain(&self.config, path, event);
        self.log.flush_at_exit();
        let Err(error) = io::stdout().write_all(text.as_bytes()) else { return ExitCode::SUCCESS };
        if error.kind() != io::ErrorKind::BrokenPipe {
            eprintln!("ERROR: cannot write to stdout: {error}", error = Cause(&error));
        }
        ExitCode::FAILURE
    }

    /// Opens the state, if there is to be one, by a thread: its filesystem may not answer.
    pub(super) async fn open_state(mut self) -> Result<Start, NoDaemon> {
        let directory = state_directory(&self.options, &self.config);
        let Some(directory) = directory.filter(|_| !self.options.source.files().is_empty()) else {
            return Ok(self);
        };
        let history = self.config.history;
        let (sender, mut opened) = mpsc::channel(1);
        let open = move || {
            let _ = sender.blocking_send(Keeper::open(&directory, history));
        };
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(open);
        thread.map_err(|error| {
            give_up(&mut self.log, &format!("cannot start a thread: {error}", error = Cause(&error)))
        })?;
        loop {
            tokio::select! {
                biased;
                wake = self.signals.next() => match wake {
                    Wake::Asked(Request::Shutdown(signal)) => return Err(asked_to_end(signal, &mut self.log)),
                    Wake::Asked(Request::Reload) => self.reload = true,
                    _ => self.host.iter_mut().for_each(reap_host),
                },
                opened = opened.recv() => {
                    let opened = opened.expect("the thread sends what it has before it ends");
                    self.state = Some(opened.map_err(|error| give_up(&mut self.log, &error))?);
                    return Ok(self);
                }
            }
        }
    }

    /// Puts the configuration to work.
    pub(super) fn into_daemon(mut self) -> Result<Daemon, ExitCode> {
        let now = Instant::now();
        keep_directory(&mut self.options, &mut self.config);
        self.config.surroundings.apply();
        self.log.set_style(style());
        match Inotify::new(watcher_options(), now) {
            Ok(watcher) => self.with_source(Box::new(watcher), now),
            Err(error) => Err(give_up(&mut self.log, &error.to_string())),
        }
    }

    /// The same with what tells events.
    pub(super) fn with_source(self, watcher: Box<dyn Source>, now: Instant) -> Result<Daemon, ExitCode> {
        let Start { options, mut log, config, host, python, since, signals, reload, hosts, state } = self;
        let events = descriptor(watcher.events_fd(), Interest::READABLE);
        let events = events.map_err(|error| {
            give_up(&mut log, &format!("cannot wait for inotify events: {error}", error = Cause(&error)))
        })?;
        let others = descriptor(watcher.others_fd(), Interest::READABLE).ok();
        let mounts = descriptor(watcher.mounts_fd(), Interest::PRIORITY).ok();
        let timer = Timer::new().map_err(|error| {
            give_up(&mut log, &format!("cannot make a timer: {error}", error = Cause(&error)))
        })?;
        let limits = engine::Limits {
            hash_seed: random_seed(),
            random_seed: random_seed(),
            ..engine::Limits::default()
        };
        let logger = log.logger("daemon");
        let control = Control::new(log.logger("control"));
        let printer = Printer::of(&config);
        let stdout = printer.as_ref().and_then(Printer::source);
        let core = Core::new(Engine::new(now, limits), Performer::new(log, options.dry_run, now), printer);
        let mut daemon = Daemon {
            options,
            watcher,
            core,
            signals,
            hosts: hosts.1,
            host_events: hosts.0,
            hosts_started: 1,
            leaving: Vec::new(),
            reload: None,
            adoption: None,
            logger,
            state: State::Running,
            config_locks: Vec::new(),
            interrupts: 0,
            supervision: Supervision::new(now),
            control,
            since,
            python,
            events,
            others,
            doubtful: Behind::default(),
            mounts,
            outputs: None,
            printed: stdout,
            terminals: terminals(),
            failed: false,
            timer,
        };
        let restored = state.map(|state| daemon.begin_to_keep(state));
        let stays = config.host_stays;
        let host = match host {
            Some(host) if !stays => leave(&mut daemon.leaving, host, now + GRACE),
            host => host,
        };
        daemon.begin(config, host, restored, now)?;
        if reload {
            daemon.begin_reload(now);
        }
        Ok(daemon)
    }
}

impl Daemon {
    /// Adopts the first configuration, and takes over what an earlier daemon left.
    fn begin(
        &mut self,
        config: Config,
        host: Option<Host>,
        mut restored: Option<Restored>,
        now: Instant,
    ) -> Result<(), ExitCode> {
        let directory = state_directory(&self.options, &config);
        let unwise = directory.map(|directory| crate::config::state_warnings(&config, &directory));
        if let Some(restored) = &mut restored {
            // What is told of new watches at once runs nothing of what is paused.
            self.restore_pauses(std::mem::take(&mut restored.paused), now);
        }
        // Relative paths begin in the directory that it has set by now.
        let adopted = self.adopt(Prepared::new(config), host, None, now);
        adopted.map_err(|error| give_up(&mut self.core.performer.log, &error))?;
        for warning in unwise.into_iter().flatten() {
            record!(self.core.performer.log, Log::ROOT, WARNING, "{warning}");
        }
        if let Some(restored) = restored {
            self.restore(restored, now);
        }
        Ok(())
    }
}

/// Waits until the host has described the configuration or failed to.
async fn outcome(
    loading: &mut Loading<Config>,
    signals: &mut Signals,
    hosts: &mut mpsc::Receiver<HostEvent>,
    reload: &mut bool,
    log: &mut Log,
) -> Result<Result<Config, LoadError>, NoDaemon> {
    loop {
        log.flush();
        let wake = tokio::select! {
            biased;
            wake = signals.next() => wake,
            Some(event) = hosts.recv() => Wake::Host(event),
        };
        match wake {
            Wake::Asked(Request::Shutdown(signal)) => return Err(asked_to_end(signal, log)),
            Wake::Asked(Request::Reload) => *reload = true,
            Wake::Child => reap_host(&mut loading.host),
            Wake::Host(HostEvent::Frame(_, frame)) => {
                if let Some(outcome) = loading.frame(frame, log) {
                    return Ok(outcome);
                }
            }
            Wake::Host(HostEvent::Broken(..)) => loading.host.kill(Signal::KILL),
            Wake::Host(HostEvent::Gone(_, ending)) => return Ok(Err(loading.died(ending))),
            Wake::Asked(Request::Status) => {
                record!(log, Log::ROOT, INFO, "status: the config file is being executed");
                log.flush();
            }
            Wake::Control(_)
            | Wake::Lanes
            | Wake::Kept
            | Wake::Output
            | Wake::Events
            | Wake::Printed
            | Wake::Mounts
            | Wake::Time => {}
        }
    }
}

/// SIGTERM or SIGINT at the start.
fn asked_to_end(signal: EndSignal, log: &mut Log) -> NoDaemon {
    let logger = log.logger("daemon");
    record!(log, logger, INFO, "got signal {signal}, shutdown");
    record!(log, logger, INFO, "shutdown complete");
    log.flush_at_exit();
    NoDaemon::Asked(signal)
}

/// Takes children that ended: while the configuration is loaded there is only its host.
fn reap_host(host: &mut Host) {
    while let Some(ended) = children::reap() {
        if ended.pid == host.pid() {
            host.process_ended(ended.ending);
        }
    }
}

/// Where tasks are kept: as the command line says, else the configuration, else the service manager.
pub(super) fn state_directory(options: &ConfigOptions, config: &Config) -> Option<PathBuf> {
    // What a trial run takes for done is not done.
    if options.dry_run {
        return None;
    }
    let given = match (&options.state, &config.state) {
        (Some(directory), _) | (None, StateWanted::In(directory)) => directory.clone(),
        (None, StateWanted::Never) => return None,
        (None, StateWanted::Default) => {
            // More than one are separated by colons (systemd.exec(5)).
            let all = std::env::var_os("STATE_DIRECTORY")?.into_vec();
            let first = all.split(|byte| *byte == b':').next().filter(|first| !first.is_empty())?;
            OsString::from_vec(first.to_vec()).into()
        }
    };
    Some(std::path::absolute(&given).unwrap_or(given))
}

/// Makes paths mean for a reload what they meant when they were typed: the config may change the working directory.
fn keep_directory(options: &mut ConfigOptions, config: &mut Config) {
    let named = options.python.as_mut().filter(|python| python.components().count() > 1);
    let files = match &mut options.source {
        cli::Source::Files(files) => files.as_mut_slice(),
        // Its paths are absolute.
        cli::Source::Line(_) => &mut [],
    };
    let files = files.iter_mut().map(|named| &mut named.path);
    let named = named.into_iter().chain(files).chain(&mut options.state).chain(&mut options.control);
    for path in named {
        if let Ok(absolute) = std::path::absolute(&path) {
            *path = absolute;
        }
    }
    // Those that were read, for another host and for their locks.
    let absolute = |file: &ConfigFile| ConfigFile {
        path: std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone()),
        content: Arc::clone(&file.content),
    };
    config.source = config.source.iter().map(absolute).collect();
}

/// Waits on a duplicate of a descriptor that the watcher keeps.
fn descriptor(fd: Option<BorrowedFd<'_>>, interest: Interest) -> io::Result<Descriptor> {
    let fd = fd.ok_or(io::ErrorKind::Unsupported)?;
    Descriptor::new(fd.try_clone_to_owned()?, interest)
}

fn watcher_options() -> watcher::Options {
    // Without a working directory (it was removed) relative paths match nothing, which the watcher says.
    let cwd = std::env::current_dir().unwrap_or_else(|_| "/".into());
    watcher::Options {
        own_name: files::is_own_temporary_name,
        own_entry: files::is_own_temporary,
        own_tree: files::is_placed_tree,
        take_own_tree: files::take_placed_tree,
        ..watcher::Options::new(cwd.into_os_string().into_vec())
    }
}

/// A key for the hash of paths that those who choose names cannot know.
fn random_seed() -> u64 {
    let mut seed = [0; 8];
    match getrandom(&mut seed, GetRandomFlags::empty()) {
        Ok(_) => u64::from_ne_bytes(seed),
        // A kernel without getrandom(2) is older than 3.17; the standard library keys its maps by other means there.
        Err(_) => std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0),
    }
}

/// How many of the standard streams are terminals that are there.
pub(super) fn terminals() -> usize {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    [input.is_terminal(), output.is_terminal(), error.is_terminal()].into_iter().filter(|is| *is).count()
}

/// How lines look on this stderr: a person likes colours.
fn style() -> Style {
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if colours { Style::Terminal } else { Style::Full }
}
