//! `pyinotifyd watch`: its options, and what they mean.

use std::ffi::OsString;
use std::num::{IntErrorKind, NonZeroU32, ParseIntError};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser as _};
use clap::error::ErrorKind;
use clap_complete::engine::ArgValueCompleter;
use engine::OnBusy;
use event::Flag;
use pattern::Pattern;

use super::{ConfigOptions, completions};
use crate::config::{Does, Format, JOBS_DEFAULT, Line, QUIET_DEFAULT, Run, Seconds};

const EXAMPLES: &str = "\
Examples:
  pyinotifyd watch /srv/in                           print what happens there
  pyinotifyd watch /srv/in -- cp {pathname} /backup  copy each file
  pyinotifyd watch . --delay 2 -- sh -c make         run make two seconds after
                                                     the last change of a file

{pathname}, {src_pathname} and {maskname} stand for the values of the event.
Ctrl-C ends it at once.";

/// Run a command for each event, or print events, without a config file.
///
/// Runs COMMAND for each event in PATH and its subdirectories, new ones included. There is no shell. {pathname},
/// {src_pathname} and {maskname} in its arguments are replaced by the values of the event. If there is none of them,
/// the path is appended. Without COMMAND, prints a line for each event: the time, the event, the path. Waits for a PATH
/// that is missing. Stays in the foreground; Ctrl-C ends it at once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(super) struct Watch {
    /// Directory or file to watch.
    #[arg(required = true, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(path),
        add = ArgValueCompleter::new(completions::paths))]
    paths: Vec<PathBuf>,

    /// Events, separated by commas, such as create,delete,moved_to.
    ///
    /// Default: close_write,moved_to with a command, else all. The names are those of --list, in lower or upper case,
    /// with or without IN_.
    #[arg(long, value_name = "EVENTS", value_delimiter = ',', value_parser = flag,
        add = ArgValueCompleter::new(completions::events))]
    on: Vec<Flag>,

    /// Watch no subdirectories.
    #[arg(long)]
    no_rec: bool,

    /// Leave out paths that match this regular expression.
    ///
    /// It is matched from the start of the whole path, as Python does. May be given several times. Directories that
    /// match are not watched.
    #[arg(long, value_name = "RE", value_parser = OsStringValueParser::new().try_map(expression))]
    exclude: Vec<Vec<u8>>,

    /// Wait until no such event of the path came for so many seconds.
    ///
    /// Events of the same path count; with --batch, those of any path.
    #[arg(long, value_name = "SECONDS", value_parser = delay, allow_negative_numbers = true)]
    delay: Option<Seconds>,

    /// Run the command once for many paths.
    ///
    /// It runs when no event came for --delay seconds (default 2), at the latest 30 seconds after the first event, or
    /// --delay seconds if that is longer. {pathnames} becomes an argument for each path; without it, the paths are
    /// appended. The command can also read them from its standard input, each with a NUL byte at its end.
    #[arg(long)]
    batch: bool,

    /// How many commands run at once; others wait.
    ///
    /// Default: 64.
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    jobs: Option<NonZeroU32>,

    /// What an event does while the command for its path runs: skip, rerun or restart.
    ///
    /// skip: nothing, with a warning (the default). rerun: the command runs once more afterwards, for the latest event.
    /// restart: the command is ended and started anew.
    #[arg(long, value_name = "HOW", conflicts_with = "batch", hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["skip", "rerun", "restart"]).map(busy))]
    on_busy: Option<OnBusy>,

    /// End a command that takes longer; its task has failed.
    #[arg(long, value_name = "SECONDS", value_parser = timeout, allow_negative_numbers = true)]
    timeout: Option<Seconds>,

    /// Try a command that failed again, up to so many times.
    ///
    /// The first pause is a second, each further one twice as long.
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    retry: Option<NonZeroU32>,

    /// Begin with what is already there.
    ///
    /// Each file and directory below PATH gets the events of a new one.
    #[arg(long)]
    initial: bool,

    /// How events are found: auto or inotify.
    #[arg(long, value_name = "BACKEND", value_parser = backend)]
    backend: Option<Backend>,

    /// Print JSON objects.
    ///
    /// Each line is an object with time, event, path, src_path, dir and synthetic.
    #[arg(long, conflicts_with = "command")]
    json: bool,

    /// Print a config file that does the same, and exit.
    #[arg(long)]
    pub(super) print_config: bool,

    /// Log at DEBUG, every event included.
    #[arg(short, long)]
    debug: bool,

    /// Log which command it would run instead of running it.
    #[arg(long)]
    dry_run: bool,

    /// Command and arguments, after --.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Watch {
    /// What the options mean, and whether they ask for DEBUG and for a dry run; `above` are those before the word
    /// `watch`.
    pub(super) fn means(
        self,
        above: &ConfigOptions,
        parser: &mut clap::Command,
    ) -> Result<(Line, bool, bool), clap::Error> {
        let (debug, dry_run) = (self.debug || above.debug, self.dry_run || above.dry_run);
        let for_commands = [
            ("--delay", self.delay.is_some()),
            ("--batch", self.batch),
            ("--jobs", self.jobs.is_some()),
            ("--on-busy", self.on_busy.is_some()),
            ("--timeout", self.timeout.is_some()),
            ("--retry", self.retry.is_some()),
            ("--dry-run", dry_run),
        ];
        if self.command.is_empty()
            && let Some((option, _)) = for_commands.iter().find(|(_, given)| *given)
        {
            let text = format!("{option} is for commands, and there is none: write '-- COMMAND' at the end");
            return Err(parser.error(ErrorKind::MissingRequiredArgument, text));
        }
        let does = if self.command.is_empty() {
            Does::Print(if self.json { Format::Json } else { Format::Text })
        } else {
            let at_once = if self.batch { QUIET_DEFAULT } else { Seconds(0.0) };
            let mut run = Run {
                argv: self.command.into_iter().map(OsString::into_vec).collect(),
                delay: self.delay.unwrap_or(at_once),
                batch: self.batch,
                jobs: self.jobs.unwrap_or(JOBS_DEFAULT),
                on_busy: self.on_busy.unwrap_or(OnBusy::Skip),
                timeout: self.timeout,
                retry: self.retry,
                doubts: Vec::new(),
            };
            run.check().map_err(|fault| parser.error(ErrorKind::InvalidValue, fault))?;
            Does::Run(run)
        };
        let is_on = |flag: &Flag| match (&does, self.on.as_slice()) {
            (Does::Print(_), []) => true,
            (Does::Run(_), []) => [Flag::CloseWrite, Flag::MovedTo].contains(flag),
            (_, named) => named.contains(flag),
        };
        let line = Line {
            on: Flag::ALL.into_iter().filter(is_on).collect(),
            paths: self.paths.into_iter().map(|path| path.into_os_string().into_vec()).collect(),
            rec: !self.no_rec,
            initial: self.initial,
            exclude: self.exclude,
            does,
        };
        Ok((line, debug, dry_run))
    }
}

/// A path means what it means now, wherever the program goes.
#[expect(clippy::needless_pass_by_value, reason = "a parser of clap takes the word")]
fn path(word: OsString) -> Result<PathBuf, String> {
    if word.is_empty() {
        return Err("it is empty".to_owned());
    }
    std::path::absolute(&word).map_err(|error| error.to_string())
}

fn expression(word: OsString) -> Result<Vec<u8>, String> {
    let word = word.into_vec();
    Pattern::new(&word).map(|_| word).map_err(|error| error.to_string())
}

/// The event of a name: `close_write`, `CLOSE_WRITE`, `IN_CLOSE_WRITE`.
fn flag(word: &str) -> Result<Flag, String> {
    let name = word.trim().to_uppercase();
    let name = if name.starts_with("IN_") { name } else { format!("IN_{name}") };
    name.parse().map_err(|_| {
        let several = match name.as_str() {
            "IN_CLOSE" => ", write close_write,close_nowrite",
            "IN_MOVE" | "IN_MOVED" => ", write moved_from,moved_to",
            "IN_ALL" | "IN_ALL_EVENTS" => ", leave --on out for all events",
            _ => ", see pyinotifyd --list",
        };
        format!("unknown event{several}")
    })
}

/// One of the words that the parser lets pass.
#[expect(clippy::needless_pass_by_value, reason = "a parser of clap hands over the word")]
fn busy(word: String) -> OnBusy {
    match word.as_str() {
        "rerun" => OnBusy::Rerun,
        "restart" => OnBusy::Restart,
        _ => OnBusy::Skip,
    }
}

/// How events are found. There is one way; `auto` chooses it.
#[derive(Clone, Copy, Debug)]
struct Backend;

fn backend(word: &str) -> Result<Backend, String> {
    match word {
        "auto" | "inotify" => Ok(Backend),
        "poll" | "fanotify" => Err("this version has no such backend, write auto or inotify".to_owned()),
        _ => Err("expected auto or inotify".to_owned()),
    }
}

/// Longest time that clocks can hold, as in a config file.
const SECONDS_MAX: f64 = 1e9;

fn delay(word: &str) -> Result<Seconds, String> {
    match word.parse::<f64>() {
        Ok(seconds) if seconds > SECONDS_MAX => Err(format!("expected at most {SECONDS_MAX} seconds")),
        Ok(seconds) if seconds >= 0.0 => Ok(Seconds(seconds.abs())),
        Ok(_) | Err(_) => Err("expected 0 or more seconds".to_owned()),
    }
}

fn timeout(word: &str) -> Result<Seconds, String> {
    match delay(word) {
        Ok(seconds) if seconds.0 > 0.0 => Ok(seconds),
        Err(text) if word.parse().is_ok_and(|seconds: f64| seconds > SECONDS_MAX) => Err(text),
        Ok(_) | Err(_) => Err("expected more than 0 seconds".to_owned()),
    }
}

fn count(word: &str) -> Result<NonZeroU32, String> {
    word.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => format!("expected at most {}", NonZeroU32::MAX),
        _ => "expected a number of at least 1".to_owned(),
    })
}
