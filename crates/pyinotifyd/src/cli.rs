//! The command line: what the user typed ([`Typed`]) and what it means ([`Command`]).

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser};
use event::Flag;

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Install service files and configuration.
    Install,
    /// Remove them.
    Uninstall,
}

/// Where the configuration is and how it is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigOptions {
    /// The config file.
    pub config: PathBuf,
    /// Root logger at DEBUG, whatever the configuration says.
    pub debug: bool,
    /// Log what tasks would do instead of doing it.
    pub dry_run: bool,
    /// The interpreter, if the user named one.
    pub python: Option<PathBuf>,
}

/// Watch directories and files with inotify and run tasks when something happens there.
#[derive(Debug, Parser)]
#[command(name = "pyinotifyd", disable_version_flag = true, infer_long_args = true, args_override_self = true, after_help = EXAMPLES)]
struct Typed {
    /// Config file, executed as Python
    #[arg(short, long, value_name = "FILE", default_value = "/etc/pyinotifyd/config.py")]
    config: PathBuf,
    /// Log at DEBUG, every event included
    // `--d` was unique before there was --dry-run; it stays what it was.
    #[arg(short, long, alias = "d")]
    debug: bool,
    /// Interpreter that executes the config file [default: python3 beside the program, of $VIRTUAL_ENV, of $PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Log what tasks would do instead of doing it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    mode: Mode,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag that a user can type; Command is what they mean"
)]
struct Mode {
    /// List all events that a map can name
    #[arg(short, long)]
    list: bool,
    /// Print the version
    #[arg(short, long)]
    version: bool,
    /// Install service files and a config file that explains itself
    #[arg(short, long)]
    install: bool,
    /// Remove service files, and the config file if it was not changed
    #[arg(short, long)]
    uninstall: bool,
    /// Check the config file and end
    #[arg(short = 't', long)]
    configtest: bool,
    /// Say which watch, schedulers and rules an event on PATH would reach, and do nothing
    #[arg(long, num_args = 1..=2, value_names = ["PATH", "EVENT"])]
    explain: Option<Vec<OsString>>,
}

const EXAMPLES: &str = "\
Examples:
  pyinotifyd -c ./config.py        run in the foreground with this config file
  pyinotifyd -c ./config.py -d     the same, and log every event
  pyinotifyd -t                    check /etc/pyinotifyd/config.py
  sudo pyinotifyd --install        install the service files

Signals: SIGTERM and SIGINT end the daemon, SIGHUP makes it read its config file anew.";

/// Reads the process's command line; ends the process for `--help` (0) and for a wrong line (2).
pub(crate) fn parse() -> Command {
    Typed::try_parse().and_then(means).unwrap_or_else(|error| complain(&error))
}

/// Ends the process with what clap says, and with what it leaves out: usage, and the candidates of an ambiguous prefix.
fn complain(error: &clap::Error) -> ! {
    let mut text = error.render().to_string();
    if error.use_stderr() && !text.contains("Usage:") {
        text = format!("{text}\n{}\n", grammar().render_usage());
    }
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        let candidates = candidates(word);
        if candidates.len() > 1 {
            text = format!(
                "error: ambiguous option: {word} could match {}\n\n{}\n",
                candidates.join(", "),
                grammar().render_usage()
            );
        }
    }
    if error.use_stderr() {
        eprint!("{text}");
    } else {
        print!("{text}");
    }
    std::process::exit(error.exit_code());
}

/// Long options that begin with what the user typed.
fn candidates(word: &str) -> Vec<String> {
    let options = grammar();
    let longs = options.get_arguments().filter_map(clap::Arg::get_long).map(|long| format!("--{long}"));
    longs.filter(|long| long.starts_with(word)).collect()
}

fn means(typed: Typed) -> Result<Command, clap::Error> {
    let Typed { config, debug, python, dry_run, mode } = typed;
    let options = ConfigOptions { config, debug, dry_run, python };
    if let Some(words) = mode.explain {
        let event = words.get(1).map(|word| event(word)).transpose()?;
        return Ok(Command::Explain(options, words[0].clone().into(), event));
    }
    Ok(match mode {
        Mode { list: true, .. } => Command::ListEvents,
        Mode { version: true, .. } => Command::Version,
        Mode { install: true, .. } => Command::Install,
        Mode { uninstall: true, .. } => Command::Uninstall,
        Mode { configtest: true, .. } => Command::ConfigTest(options),
        Mode { .. } => Command::Run(options),
    })
}

fn event(word: &OsStr) -> Result<Flag, clap::Error> {
    let word = word.to_string_lossy();
    let unknown = |_| {
        grammar().error(ErrorKind::InvalidValue, format!("unknown event '{word}', see pyinotifyd --list"))
    };
    word.parse().map_err(unknown)
}

/// The grammar, for the man page and shell completions.
pub(crate) fn grammar() -> clap::Command {
    Typed::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, i32> {
        let words = std::iter::once("pyinotifyd").chain(line.split_whitespace());
        Typed::try_parse_from(words).and_then(means).map_err(|error| error.exit_code())
    }

    fn options(config: &str, debug: bool) -> ConfigOptions {
        ConfigOptions { config: config.into(), debug, dry_run: false, python: None }
    }

    #[test]
    fn spellings_of_argparse_are_understood() {
        let default = "/etc/pyinotifyd/config.py";
        let cases = [
            ("", Command::Run(options(default, false))),
            ("-cFILE", Command::Run(options("FILE", false))),
            ("--config=FILE", Command::Run(options("FILE", false))),
            ("-c A -c B", Command::Run(options("B", false))),
            ("-tc FILE", Command::ConfigTest(options("FILE", false))),
            ("-dt", Command::ConfigTest(options(default, true))),
            ("-dd", Command::Run(options(default, true))),
            ("--configt", Command::ConfigTest(options(default, false))),
            ("--vers", Command::Version),
            ("-l -l", Command::ListEvents),
            ("--un", Command::Uninstall),
            ("--d", Command::Run(options(default, true))),
            ("--explain /a", Command::Explain(options(default, false), "/a".into(), None)),
            (
                "--explain /a IN_OPEN",
                Command::Explain(options(default, false), "/a".into(), Some(Flag::Open)),
            ),
        ];
        for (line, command) in cases {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_ambiguous_excluded_or_unknown_ends_with_2() {
        for line in [
            "--conf",
            "-l -v",
            "-i -u",
            "-t --list",
            "stray",
            "-c",
            "-x",
            "--nothing",
            "--explain",
            "--explain /a IN_CLOSE",
            "--explain /a -t",
        ] {
            assert_eq!(parse(line), Err(2), "{line}");
        }
        assert_eq!(parse("-h"), Err(0));
    }

    #[test]
    fn the_grammar_is_consistent() {
        grammar().debug_assert();
    }
}
