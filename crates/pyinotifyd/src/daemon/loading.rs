//! One execution of the config file, from the start of its host to what came of it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::children::{Ending, signal_name};
use crate::cli::ConfigOptions;
use crate::config::{Config, check_patterns, check_safety};
use crate::host::wire::{self, ConfigFault, Exit, FromHost, Hello, HostRecord};
use crate::host::{Host, HostEvent, HostId, interpreter};
use crate::log::{Level, Log, record};

/// A host that executes the config file.
#[derive(Debug)]
pub(crate) struct Loading {
    /// The host.
    pub host: Host,
    python: Arc<Path>,
    hello: Option<Hello>,
}

/// Why a configuration cannot be used.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The user has to change something; said with its place.
    Fault(ConfigFault),
    /// `sys.exit`.
    Exit(Exit),
}

impl Loading {
    /// Starts a host and asks it to execute the config file, unless that file is not safe to execute.
    ///
    /// # Errors
    /// Without an interpreter, without the means to start it, or with a config file that others can write.
    pub(crate) fn start(
        options: &ConfigOptions,
        id: HostId,
        log: &Log,
        events: mpsc::Sender<HostEvent>,
        reload: bool,
    ) -> Result<Loading, LoadError> {
        check_safety(&options.config).map_err(plain)?;
        let python: Arc<Path> = interpreter::find(options.python.as_deref()).map_err(plain)?.into();
        let host = Host::start(id, &python, events).map_err(|error| cannot_start(&python, &error))?;
        let levels = log.levels().iter().map(|(name, level)| (name.clone(), Value::from(level.0)));
        host.send(wire::load(
            &options.config,
            options.debug,
            &Value::Object(levels.collect::<Map<_, _>>()),
            reload,
        ));
        Ok(Loading { host, python, hello: None })
    }

    /// What a frame of the host means for the load; `None`: it goes on.
    pub(crate) fn frame(&mut self, frame: FromHost, log: &mut Log) -> Option<Result<Config, LoadError>> {
        match frame {
            FromHost::Hello(hello) => {
                let refused = check_hello(&hello).err();
                self.hello = Some(hello);
                refused.map(|text| Err(plain(text)))
            }
            FromHost::Describe(body) => {
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
                Some(Config::from_description(&body).map_err(LoadError::Fault))
            }
            FromHost::Error(fault) => {
                // A bad expression was there first: Python itself does not look at them.
                let first = check_patterns(&fault.patterns).err().unwrap_or(fault);
                Some(Err(LoadError::Fault(first)))
            }
            FromHost::Exit(exit) => Some(Err(LoadError::Exit(exit))),
            FromHost::Log(line) => {
                write_host_record(log, &line);
                None
            }
            FromHost::Done(_) | FromHost::Cancelled(_) | FromHost::Fail(_) | FromHost::Taken(_) => None,
        }
    }

    /// What the end of the host's process means before it described anything.
    pub(crate) fn died(&self, ending: Option<Ending>) -> LoadError {
        let python = self.python.display();
        let how = match ending {
            Some(Ending::Exited(status)) => format!("ended with status {status}"),
            Some(Ending::Killed(signal)) => format!("was killed by {}", signal_name(signal)),
            None => "ended".to_owned(),
        };
        // A host that greeted us is new enough, and what it did then is the file's affair. 126 and 127 are a shell's answers
        // for what it cannot execute: the interpreter is a script that leads to another one (pyenv).
        let remark = match ending {
            _ if self.hello.is_some() => String::new(),
            Some(Ending::Exited(126 | 127)) => {
                let uid = rustix::process::geteuid().as_raw();
                format!(": it leads to a program that the user with uid {uid} cannot execute")
            }
            Some(Ending::Exited(_)) | None => " (Python 3.9 or newer is needed)".to_owned(),
            Some(Ending::Killed(_)) => String::new(),
        };
        plain(format!("the interpreter '{python}' {how} before it had executed the file{remark}"))
    }
}

/// Writes a record of Python's logging, with its traceback.
pub(crate) fn write_host_record(log: &mut Log, line: &HostRecord) {
    let text = match &line.exc {
        Some(exc) => &format!("{}\n{exc}", line.message),
        None => &line.message,
    };
    log.write_foreign(&line.logger, Level(line.level), line.created, text);
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
    plain(format!("cannot start the interpreter '{}': {error}", python.display()))
}

fn plain(message: String) -> LoadError {
    LoadError::Fault(ConfigFault { message, ..ConfigFault::default() })
}
