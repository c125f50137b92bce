//! The command line: what the user typed ([`Typed`]) and what it means ([`Command`]).
//!
//! [`Typed`] has each option once, with its help: clap derives the parser, `-h` and `--help`, the completions
//! ([`completions`]) and the section OPTIONS of the man page from it. The grammar is that of Python's argparse, which
//! version 1 used: a long option may be shortened to a unique prefix, its value is in the same word or in the
//! next one, and an option that is repeated counts once, the last time. What clap says about a mistake is made more
//! specific in [`mistakes`].
//!
//! A subcommand is a variant of an enum that [`Typed`] holds as `#[command(subcommand)]`, and a variant of
//! [`Command`]. It needs nothing of the daemon's options.

pub(crate) mod completions;
mod import;
mod mistakes;
mod watch;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use event::Flag;

pub(crate) use completions::Shell;

use crate::client::command::{Ask, Asked, Printed};
use crate::client::doctor::{Wanted, Whose};
use crate::config::{ConfigPath, Line};

/// What the program is to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// Run the daemon.
    Run(ConfigOptions),
    /// Check the configuration and end.
    ConfigTest(ConfigOptions),
    /// Print the event names.
    ListEvents,
    /// Print the version.
    Version,
    /// Say what an event on a path would do.
    Explain(ConfigOptions, PathBuf, Option<Flag>),
    /// Print the completion script of a shell.
    Completions(Shell),
    /// Print the config file that does what a line does.
    PrintConfig(Line),
    /// Write a config file that does what another program's configuration says.
    Import(crate::import::Import),
    /// Ask a running daemon.
    Ask(Asked),
    /// Say what keeps the daemon from its work, with the options that the config file is executed with.
    Doctor(ConfigOptions, Wanted),
    /// Install service files and configuration.
    Install,
    /// Remove them.
    Uninstall,
}

/// Where the configuration is and how it is executed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConfigOptions {
    /// What is configured.
    pub source: Source,
    /// Root logger at DEBUG, whatever the configuration says.
    pub debug: bool,
    /// Log what tasks would do instead of doing it.
    pub dry_run: bool,
    /// The interpreter, if the user named one.
    pub python: Option<PathBuf>,
    /// Where tasks are kept, if the user says it.
    pub state: Option<PathBuf>,
    /// The control socket, if the user named one.
    pub control: Option<PathBuf>,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// Config files, and directories of such.
    Files(Vec<ConfigPath>),
    /// The command line of `watch`.
    Line(Line),
}

impl Source {
    /// The config files and directories of such; none with `watch`.
    pub(crate) fn files(&self) -> &[ConfigPath] {
        match self {
            Source::Files(files) => files,
            Source::Line(_) => &[],
        }
    }
}

/// Where the configuration is, unless it is said: the file, and a directory that may be there.
pub(crate) const CONFIG_FILE: &str = "/etc/pyinotifyd/config.py";
const CONFIG_DIRECTORY: &str = "/etc/pyinotifyd/conf.d";

/// Columns of a terminal that help texts and man pages fit into.
const COLUMNS: usize = 80;

const EXAMPLES: &str = "\
Examples:
  pyinotifyd -c ./config.py        run in the foreground with this config file
  pyinotifyd -c ./config.py -d     the same, and log every event
  pyinotifyd -t                    check /etc/pyinotifyd/config.py
  sudo pyinotifyd --install        install the service files
  pyinotifyd watch /srv/in         print what happens there; needs no config file

Signals: SIGTERM and SIGINT end the daemon, SIGHUP reloads its config file,
SIGUSR1 logs its status.";

/// Watch directories and files with inotify and run tasks when something happens there
#[derive(Debug, Parser)]
#[command(
    name = "pyinotifyd",
    disable_version_flag = true,
    infer_long_args = true,
    args_override_self = true,
    term_width = COLUMNS,
    after_help = EXAMPLES
)]
struct Typed {
    /// Config file, executed as Python, or directory of config files.
    ///
    /// May be given several times. Each file is executed by itself, and all their watches are used. A directory stands
    /// for all *.py in it, in the order of their names. Default: /etc/pyinotifyd/config.py, and
    /// /etc/pyinotifyd/conf.d if it is there.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = CONFIG_FILE,
        hide_default_value = true,
        add = ArgValueCompleter::new(completions::config_files)
    )]
    config: Vec<PathBuf>,

    /// Log at DEBUG, every event included.
    ///
    /// If the configuration sets a level for a logger, that logger keeps it.
    // `--d` was unique before there was --dry-run; it stays what it was.
    #[arg(short, long, alias = "d")]
    debug: bool,

    /// Control socket: where the daemon listens, and where subcommands ask.
    ///
    /// It is an error if the daemon cannot listen there. Default for the daemon: the one in the configuration, else
    /// $RUNTIME_DIRECTORY/control.sock, else /run/pyinotifyd/control.sock for root and
    /// $XDG_RUNTIME_DIR/pyinotifyd/control.sock for others. Subcommands try $PYINOTIFYD_CONTROL, then these places.
    #[arg(long, value_name = "PATH", add = ArgValueCompleter::new(completions::paths))]
    control: Option<PathBuf>,

    /// Interpreter that executes the config file, Python 3.9 or newer.
    ///
    /// Default: the first of $PYINOTIFYD_PYTHON, python3 beside the program, python3 of $VIRTUAL_ENV, python3 in $PATH.
    #[arg(long, value_name = "PATH", add = ArgValueCompleter::new(completions::paths))]
    python: Option<PathBuf>,

    /// Directory that keeps tasks across restarts and crashes.
    ///
    /// It is made if it is missing. Default: the one in the configuration, else $STATE_DIRECTORY, else none.
    #[arg(long, value_name = "DIR", add = ArgValueCompleter::new(completions::paths))]
    state: Option<PathBuf>,

    /// Log what tasks would do instead of doing it.
    ///
    /// It touches no file and runs no command or job. It uses no state, and no control socket unless --control names
    /// one.
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    mode: Mode,

    #[command(subcommand)]
    subcommand: Option<Sub>,
}

/// Instead of running the daemon with a config file.
#[derive(Debug, Subcommand)]
enum Sub {
    Watch(watch::Watch),
    Import(import::Import),
    #[command(flatten)]
    Ask(Ask),
}

/// What to do instead of running the daemon; at most one of them.
#[derive(Debug, Default, PartialEq, Args)]
#[group(multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
struct Mode {
    /// Check the config file and exit.
    ///
    /// Executes it, watches nothing, and prints what is wrong, with file and line. Exits with status 0 and "config file
    /// ok", or with status 1 if the configuration cannot be used.
    #[arg(short = 't', long)]
    configtest: bool,

    /// Print what an event on PATH would do.
    ///
    /// Executes the config file and prints which watch covers the path, which exclude filter matches, which schedulers
    /// get the event, which rule matches, the destination or the command line, the delay, and what would cancel the
    /// task. Without EVENT, it prints this for all events that are mapped. It watches nothing and runs nothing.
    #[arg(
        long,
        value_names = ["PATH", "EVENT"],
        num_args = 1..=2,
        action = clap::ArgAction::Set,
        value_parser = clap::builder::OsStringValueParser::new(),
        add = ArgValueCompleter::new(completions::paths_and_events)
    )]
    explain: Option<Vec<OsString>>,

    /// Install service files and a config file that explains itself.
    ///
    /// Installs a unit for systemd or an init script for OpenRC, where it finds them. An existing config file is kept.
    /// Needs root.
    #[arg(short, long)]
    install: bool,

    /// Remove the service files, and the config file if you have not changed it.
    ///
    /// Needs root.
    #[arg(short, long)]
    uninstall: bool,

    /// List all events that you can map.
    #[arg(short, long)]
    list: bool,

    /// Print the version.
    #[arg(short, long)]
    version: bool,

    /// Print the completion script for bash, zsh or fish.
    ///
    /// For example: eval "$(pyinotifyd --completions bash)".
    #[arg(long, value_name = "SHELL", hide_possible_values = true)]
    completions: Option<Shell>,
}

/// Reads the process's command line. Ends the process for a shell that asks for completions.
///
/// # Errors
/// What is to be printed instead: the text of `--help`, or what is wrong with the line.
pub(crate) fn parse() -> Result<Command, clap::Error> {
    completions::answer(Typed::command);
    read(std::env::args_os())
}

/// Reads the words of a command line, the program's name first.
fn read(words: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let mut command = Typed::command();
    let words: Vec<OsString> = words.into_iter().collect();
    let typed = command
        .try_get_matches_from_mut(&words)
        .and_then(|matches| Ok((Typed::from_arg_matches(&matches)?, matches)))
        .map_err(|error| mistakes::explained(error, mistakes::meant(&words, &mut command)));
    let (typed, matches) = typed?;
    means(typed, &matches, &mut command)
}

fn means(typed: Typed, matches: &ArgMatches, command: &mut clap::Command) -> Result<Command, clap::Error> {
    let Typed { config, debug, python, state, control, dry_run, mode, subcommand } = typed;
    let mut files = named(&config);
    if matches.value_source("config") == Some(ValueSource::DefaultValue) {
        files.push(ConfigPath { path: CONFIG_DIRECTORY.into(), optional: true });
    }
    let source = Source::Files(files);
    let mut options = ConfigOptions { source, debug, dry_run, python, state, control };
    if let Some((name, _)) = matches.subcommand() {
        // It looks at what a daemon would have.
        let is_doctor = matches!(subcommand, Some(Sub::Ask(Ask::Doctor { .. })));
        let of_config = if is_doctor { &[][..] } else { &OF_CONFIG };
        // A line can be tested, and has no socket.
        let other = match subcommand {
            Some(Sub::Watch(_)) => options.control.as_ref().map(|_| "--control"),
            Some(Sub::Import(_)) => of_a_daemon(&options).or(tests(&mode)),
            Some(Sub::Ask(_)) | None => tests(&mode),
        };
        let of_config = given(matches, of_config);
        if let Some(option) = of_config.or(given(matches, &INSTEAD)).or(other) {
            let asks = of_config.is_some() && matches!(subcommand, Some(Sub::Ask(_)));
            let hint = if asks { ": it asks the daemon that runs, which '--control PATH' names" } else { "" };
            let text = format!("the argument '{option}' cannot be used with '{name}'{hint}");
            return Err(command.error(ErrorKind::ArgumentConflict, text));
        }
    }
    match subcommand {
        Some(Sub::Watch(watch)) => {
            let command = command.find_subcommand_mut("watch").expect("it was found in there");
            let prints_config = watch.print_config;
            let (line, debug, dry_run) = watch.means(&options, command)?;
            if prints_config {
                return Ok(Command::PrintConfig(line));
            }
            let source = Source::Line(line);
            options = ConfigOptions { source, debug, dry_run, python: None, state: None, control: None };
        }
        Some(Sub::Import(import)) => {
            let command = command.find_subcommand_mut("import").expect("it was found in there");
            return Ok(Command::Import(import.means(command)?));
        }
        Some(Sub::Ask(Ask::Doctor { config: own, python, state, printed })) => {
            let Printed { control, json } = printed;
            let is_named = !own.is_empty() || given(matches, &[("config", "--config")]).is_some();
            let whose = if is_named { Whose::Named } else { Whose::Default };
            return Ok(examination(
                Wanted { config: own, whose, python, state, control, json },
                config,
                options,
            ));
        }
        Some(Sub::Ask(ask)) => {
            let control = ask.printed().control.clone().or(options.control);
            return Ok(Command::Ask(Asked { ask, control }));
        }
        None => {}
    }
    Ok(match mode {
        Mode { configtest: true, .. } => Command::ConfigTest(options),
        Mode { list: true, .. } => Command::ListEvents,
        Mode { version: true, .. } => Command::Version,
        Mode { install: true, .. } => Command::Install,
        Mode { uninstall: true, .. } => Command::Uninstall,
        Mode { completions: Some(shell), .. } => Command::Completions(shell),
        Mode { explain: Some(words), .. } => {
            let mut words = words.into_iter();
            let path = words.next().expect("--explain has one value at least");
            let flag = words.next().map(|word| flag(&word, command)).transpose()?;
            Command::Explain(options, path.into(), flag)
        }
        Mode { explain: None, completions: None, .. } => Command::Run(options),
    })
}

/// The option that says how a daemon runs.
fn of_a_daemon(options: &ConfigOptions) -> Option<&'static str> {
    let given = [
        ("--debug", options.debug),
        ("--dry-run", options.dry_run),
        ("--control", options.control.is_some()),
    ];
    given.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
}

/// The option that asks what a configuration would do.
fn tests(mode: &Mode) -> Option<&'static str> {
    if mode.configtest {
        return Some("--configtest");
    }
    mode.explain.as_ref().map(|_| "--explain")
}

/// What doctor looks at. Its options may stand before it, too.
fn examination(own: Wanted, config: Vec<PathBuf>, before: ConfigOptions) -> Command {
    let source = if own.config.is_empty() { before.source } else { Source::Files(named(&own.config)) };
    let config = if own.config.is_empty() { config } else { own.config };
    let python = own.python.or(before.python);
    let state = own.state.or(before.state);
    let control = own.control.or(before.control);
    let options = ConfigOptions {
        source,
        python: python.clone(),
        state: state.clone(),
        control: control.clone(),
        ..before
    };
    Command::Doctor(options, Wanted { config, python, state, control, ..own })
}

/// Files that have to be there.
pub(crate) fn named(files: &[PathBuf]) -> Vec<ConfigPath> {
    files.iter().map(|path| ConfigPath { path: path.clone(), optional: false }).collect()
}

/// Options that have no meaning without a config file.
const OF_CONFIG: [(&str, &str); 3] = [("config", "--config"), ("python", "--python"), ("state", "--state")];

/// Options that do something else than any subcommand.
const INSTEAD: [(&str, &str); 5] = [
    ("install", "--install"),
    ("uninstall", "--uninstall"),
    ("list", "--list"),
    ("version", "--version"),
    ("completions", "--completions"),
];

/// The first of some options that is given.
fn given(matches: &ArgMatches, options: &[(&str, &'static str)]) -> Option<&'static str> {
    let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    options.iter().find(|(id, _)| is_given(id)).map(|(_, option)| *option)
}

fn flag(word: &OsStr, command: &mut clap::Command) -> Result<Flag, clap::Error> {
    let word = word.to_string_lossy();
    word.parse().map_err(|_| {
        command.error(ErrorKind::InvalidValue, format!("unknown event '{word}', see pyinotifyd --list"))
    })
}

#[cfg(test)]
mod tests;
