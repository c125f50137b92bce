//! One execution of the config file, from the start of its host to what came of it.
//!
//! The file is read by a thread, since it may lie on a filesystem that does not answer: the loop only starts the host,
//! and hears of what could not be read as of any other fault. What the host says of it is read by a thread, too, since
//! it takes time with thousands of watches. A host that is started again gets the bytes that were read first.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use super::children::signal_name;
use crate::cli::ConfigOptions;
use crate::config::{
    Config, ConfigFile, ConfigFiles, ConfigPath, check_modules, check_patterns, check_program,
};
use crate::host::Ending;
use crate::host::wire::{self, ConfigFault, Exit, FromHost, Hello, HostRecord};
use crate::host::{Host, HostEvent, HostId, Reader, interpreter};
use crate::log::{Cause, Early, Escaped, Indented, Level, Log, record};

/// Threads that read config files. More than one is there only where a filesystem does not answer and somebody goes on
/// asking for reloads.
const READERS_MAX: usize = 4;
static READERS: AtomicUsize = AtomicUsize::new(0);

/// Records of a config file that go to its syslog targets; one that logs more while it executes is flooding.
const EARLY_MAX: usize = 1000;

/// Variables that lead Python to modules, or to what it takes for compiled ones; several paths in each, as in PATH.
const MODULE_VARIABLES: [&str; 3] = ["PYTHONPATH", "PYTHONHOME", "PYTHONPYCACHEPREFIX"];

/// A host that executes the config file, and what is wanted of what the file defines.
#[derive(Debug)]
pub(crate) struct Loading<T> {
    /// The host.
    pub host: Host,
    /// The interpreter.
    pub python: Arc<Path>,
    hello: Option<Hello>,
    /// Where the files are.
    paths: Vec<ConfigPath>,
    debug: bool,
    /// Levels of loggers, for the host.
    levels: Value,
    /// The files, as soon as they were read.
    content: Arc<OnceLock<ConfigFiles>>,
    /// What they define, as soon as the host has described it.
    described: oneshot::Receiver<Result<T, ConfigFault>>,
    events: mpsc::Sender<HostEvent>,
    /// Records of the file for syslog, of which the daemon does not know yet where it is.
    pub early: Vec<Early>,
}

/// Why a configuration cannot be used.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The user has to change something; said with its place.
    Fault(ConfigFault),
    /// `sys.exit`.
    Exit(Exit),
}

impl<T: Send + 'static> Loading<T> {
    /// Starts a host and asks it to execute the config file: what is in it now, or `known` content. A thread prepares
    /// what is wanted of it.
    ///
    /// # Errors
    /// Without an interpreter that is safe to execute, or without the means to start it.
    pub(crate) fn start(
        options: &ConfigOptions,
        known: Option<Arc<[ConfigFile]>>,
        id: HostId,
        log: &Log,
        events: mpsc::Sender<HostEvent>,
        prepare: fn(Config) -> T,
    ) -> Result<Loading<T>, LoadError> {
        let python: Arc<Path> = interpreter::find(options.python.as_deref()).map_err(plain)?.into();
        check_interpreter(&python).map_err(plain)?;
        let known = known.map(|files| ConfigFiles { files, warnings: Vec::new() });
        let content = Arc::new(known.map_or_else(OnceLock::new, OnceLock::from));
        let (reader, described) = reader(Arc::clone(&content), prepare);
        let host = Host::start(id, &python, events.clone(), reader);
        let host = host.map_err(|error| cannot_start(&python, &error))?;
        let levels = log.levels().iter().map(|(name, level)| (name.clone(), Value::from(level.0)));
        let levels = Value::Object(levels.collect::<Map<_, _>>());
        let (paths, debug) = (options.source.files().to_vec(), options.debug);
        Ok(Loading {
            host,
            python,
            hello: None,
            paths,
            debug,
            levels,
            content,
            described,
            events,
            early: Vec::new(),
        })
    }

    /// Has the config files read, checked and sent to the host.
    fn send_files(&mut self, module_paths: Vec<wire::PathText>) -> Result<(), LoadError> {
        if READERS.fetch_add(1, Ordering::Relaxed) >= READERS_MAX {
            READERS.fetch_sub(1, Ordering::Relaxed);
            let paths = shown(&self.paths);
            return Err(plain(format!(
                "{READERS_MAX} earlier attempts to read {paths} have not come to an end: its filesystem does not \
                 answer"
            )));
        }
        let (paths, content) = (std::mem::take(&mut self.paths), Arc::clone(&self.content));
        let (debug, levels) = (self.debug, std::mem::take(&mut self.levels));
        let (queue, id, events) = (self.host.queue(), self.host.id, self.events.clone());
        let read = move || {
            let read = check_module_paths(&module_paths).and_then(|()| match content.get() {
                Some(known) => Ok(known.clone()),
                None => ConfigFiles::read(&paths),
            });
            READERS.fetch_sub(1, Ordering::Relaxed);
            match read {
                Ok(read) => {
                    let load = wire::load(read.files.iter().map(|file| file.path.as_path()), debug, &levels);
                    for file in read.files.iter() {
                        queue.send(wire::source(&file.content));
                    }
                    content.get_or_init(|| read);
                    queue.send(load);
                }
                Err(message) => {
                    let fault = FromHost::Error(ConfigFault { message, ..ConfigFault::default() });
                    // A loop that is gone needs no fault. It is told before the host ends, whose end would be the
                    // reason otherwise.
                    let _ = events.blocking_send(HostEvent::Frame(id, fault));
                    queue.send(wire::stop());
                }
            }
        };
        let started = thread::Builder::new().name("config".to_owned()).spawn(read);
        started.map(drop).map_err(|error| {
            READERS.fetch_sub(1, Ordering::Relaxed);
            plain(format!("cannot start a thread that reads the config file: {error}", error = Cause(&error)))
        })
    }

    /// What a frame of the host means for the load; `None`: it goes on.
    pub(crate) fn frame(&mut self, frame: FromHost, log: &mut Log) -> Option<Result<T, LoadError>> {
        match frame {
            FromHost::Hello(mut hello) => {
                let module_paths = std::mem::take(&mut hello.path);
                let refused = check_hello(&hello).map_err(plain).and_then(|()| self.send_files(module_paths));
                self.hello = Some(hello);
                refused.err().map(Err)
            }
            FromHost::Describe(_) => {
                if let Some(hello) = &self.hello {
                    record!(
                        log,
                        Log::ROOT,
                        DEBUG,
                        "config host: Python {} ({})",
                        hello.python,
                        hello.executable
                    );
                }
                let described = self.described.try_recv().unwrap_or_else(|_| {
                    let message = "cannot start a thread that reads the host's description".to_owned();
                    Err(ConfigFault { message, ..ConfigFault::default() })
                });
                Some(described.map_err(LoadError::Fault))
            }
            FromHost::Error(fault) => {
                // A bad expression was there first: Python itself does not look at them.
                let first = check_patterns(&fault.patterns).err().unwrap_or(fault);
                Some(Err(LoadError::Fault(first)))
            }
            FromHost::Exit(exit) => Some(Err(LoadError::Exit(exit))),
            FromHost::Log(line) => {
                write_host_record(log, &line);
                if line.syslog > 0 && self.early.len() < EARLY_MAX {
                    self.early.push(early(&line));
                }
                None
            }
            FromHost::Done(_)
            | FromHost::Cancelled(_)
            | FromHost::Fail(_)
            | FromHost::Dropped(_)
            | FromHost::Taken { .. }
            | FromHost::Level(_) => None,
        }
    }

    /// What the end of the host's process means before it described anything.
    pub(crate) fn died(&self, ending: Ending) -> LoadError {
        let python = self.python.display();
        let how = match ending {
            Ending::Exited(status) => format!("ended with status {status}"),
            Ending::Killed(signal) => format!("was killed by {}", signal_name(signal)),
        };
        // A host that greeted us is new enough, and what it did then is the file's affair. 126 and 127 are a shell's
        // answers for what it cannot execute: the interpreter is a script that leads to another one (pyenv).
        let remark = match ending {
            _ if self.hello.is_some() => String::new(),
            Ending::Exited(126 | 127) => {
                let uid = rustix::process::geteuid().as_raw();
                format!(": it leads to a program that the user with uid {uid} cannot execute")
            }
            Ending::Exited(_) => " (Python 3.9 or newer is needed)".to_owned(),
            Ending::Killed(_) => String::new(),
        };
        plain(format!("the interpreter '{python}' {how} before it had executed the file{remark}"))
    }
}

/// What reads a description of files that are known by then, and what comes of it.
fn reader<T: Send + 'static>(
    content: Arc<OnceLock<ConfigFiles>>,
    prepare: fn(Config) -> T,
) -> (Reader, oneshot::Receiver<Result<T, ConfigFault>>) {
    let (sender, described) = oneshot::channel();
    let read = move |body: &[u8]| {
        let ConfigFiles { files, mut warnings } = content.get().cloned().unwrap_or_default();
        let described = Config::from_description(body, files).map(|config| {
            warnings.extend(config.warnings);
            prepare(Config { warnings, ..config })
        });
        // A load that was given up needs none.
        let _ = sender.send(described);
    };
    (Box::new(read), described)
}

/// Writes a record of Python's logging, with its traceback.
pub(crate) fn write_host_record(log: &mut Log, line: &HostRecord) {
    log.write_foreign(&line.logger, Level(line.level), line.created, &text(line));
}

fn text(line: &HostRecord) -> Cow<'_, str> {
    match &line.exc {
        Some(exc) => format!("{}\n{exc}", line.message).into(),
        None => (&line.message).into(),
    }
}

fn early(line: &HostRecord) -> Early {
    let logger = if line.logger == "root" { String::new() } else { line.logger.clone() };
    let text = Indented(&text(line)).to_string();
    Early { logger, level: Level(line.level), text, targets: line.syslog }
}

/// Refuses, as root, an interpreter that others could change, and variables that lead it to modules of theirs: it
/// executes some of these before it executes anything of ours.
fn check_interpreter(python: &Path) -> Result<(), String> {
    check_program(python).map_err(|error| {
        format!("the interpreter is not safe: {error}; or name another one with --python")
    })?;
    for variable in MODULE_VARIABLES {
        let Some(paths) = std::env::var_os(variable) else { continue };
        for path in std::env::split_paths(&paths) {
            // An empty one is the current directory.
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
            check_modules(path, true)
                .map_err(|error| format!("{variable} is not safe: {error}; or unset it"))?;
        }
    }
    Ok(())
}

/// The same for all places in which the interpreter looks for modules.
fn check_module_paths(paths: &[wire::PathText]) -> Result<(), String> {
    paths.iter().try_for_each(|path| {
        let path = Path::new(OsStr::from_bytes(&path.0));
        check_modules(path, false)
            .map_err(|error| format!("a place of modules (sys.path) is not safe: {error}"))
    })
}

fn check_hello(hello: &Hello) -> Result<(), String> {
    let ours = env!("CARGO_PKG_VERSION");
    if hello.protocol == wire::PROTOCOL && hello.version == ours {
        return Ok(());
    }
    Err(format!(
        "the host is of version {} (protocol {}), the daemon of {ours}",
        hello.version, hello.protocol
    ))
}

fn cannot_start(python: &Path, error: &io::Error) -> LoadError {
    plain(format!("cannot start the interpreter '{}': {}", python.display(), Cause(error)))
}

/// Paths as a message shows them: `'A', 'B'`.
pub(crate) fn shown(paths: &[ConfigPath]) -> String {
    let paths = paths.iter().map(|named| format!("'{}'", Escaped(named.path.as_os_str().as_bytes())));
    paths.collect::<Vec<_>>().join(", ")
}

fn plain(message: String) -> LoadError {
    LoadError::Fault(ConfigFault { message, ..ConfigFault::default() })
}
