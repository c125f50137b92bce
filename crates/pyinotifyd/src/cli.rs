//! The command line: what the user typed ([`Typed`]) and what it means ([`Command`]).
//!
//! One table holds the options with their help. The grammar is that of Python's argparse, which version 1 used: long options
//! may be cut short as long as they stay unique, a value stands in the same word or in the next, the last one counts.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::PathBuf;

use event::Flag;
use lexopt::Arg;

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
    /// Print the completion script of a shell.
    Completions(&'static str),
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

/// Where the config file is unless the user says otherwise.
const CONFIG_DEFAULT: &str = "/etc/pyinotifyd/config.py";

/// An option, as it can be typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Typed {
    Config,
    Debug,
    Python,
    DryRun,
    Help,
    /// One of those that exclude each other.
    Mode(Mode),
}

/// What to do instead of running the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    List,
    Version,
    Install,
    Uninstall,
    ConfigTest,
    Explain,
    Completions,
}

/// How an option is written.
struct Spelling {
    option: Typed,
    short: Option<char>,
    long: &'static str,
    values: &'static str,
    help: &'static str,
}

const fn spelling(
    option: Typed,
    short: Option<char>,
    long: &'static str,
    values: &'static str,
    help: &'static str,
) -> Spelling {
    Spelling { option, short, long, values, help }
}

const OPTIONS: [Spelling; 12] = [
    spelling(
        Typed::Config,
        Some('c'),
        "config",
        "<FILE>",
        "Config file, executed as Python [default: /etc/pyinotifyd/config.py]",
    ),
    spelling(Typed::Debug, Some('d'), "debug", "", "Log at DEBUG, every event included"),
    spelling(
        Typed::Python,
        None,
        "python",
        "<PATH>",
        "Interpreter that executes the config file [default: python3 beside the program, of $VIRTUAL_ENV, of $PATH]",
    ),
    spelling(Typed::DryRun, None, "dry-run", "", "Log what tasks would do instead of doing it"),
    spelling(Typed::Mode(Mode::List), Some('l'), "list", "", "List all events that a map can name"),
    spelling(Typed::Mode(Mode::Version), Some('v'), "version", "", "Print the version"),
    spelling(
        Typed::Mode(Mode::Install),
        Some('i'),
        "install",
        "",
        "Install service files and a config file that explains itself",
    ),
    spelling(
        Typed::Mode(Mode::Uninstall),
        Some('u'),
        "uninstall",
        "",
        "Remove service files, and the config file if it was not changed",
    ),
    spelling(Typed::Mode(Mode::ConfigTest), Some('t'), "configtest", "", "Check the config file and end"),
    spelling(
        Typed::Mode(Mode::Explain),
        None,
        "explain",
        "<PATH> [EVENT]",
        "Say which watch, schedulers and rules an event on PATH would reach, and do nothing",
    ),
    spelling(
        Typed::Mode(Mode::Completions),
        None,
        "completions",
        "<SHELL>",
        "Print the completion script for bash, zsh or fish",
    ),
    spelling(Typed::Help, Some('h'), "help", "", "Print help"),
];

const ABOUT: &str = "Watch directories and files with inotify and run tasks when something happens there";
const USAGE: &str = "Usage: pyinotifyd [OPTIONS]";
const EXAMPLES: &str = "\
Examples:
  pyinotifyd -c ./config.py        run in the foreground with this config file
  pyinotifyd -c ./config.py -d     the same, and log every event
  pyinotifyd -t                    check /etc/pyinotifyd/config.py
  sudo pyinotifyd --install        install the service files

Signals: SIGTERM and SIGINT end the daemon, SIGHUP makes it read its config file anew.";

/// Shells with their completion scripts.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", include_str!("../share/completions/pyinotifyd.bash")),
    ("zsh", include_str!("../share/completions/_pyinotifyd")),
    ("fish", include_str!("../share/completions/pyinotifyd.fish")),
];

/// Exit status after a wrong command line, as argparse has it.
const EXIT_WRONG: i32 = 2;

/// Why there is no command.
#[derive(Debug, PartialEq, Eq)]
enum NoCommand {
    /// The user has asked for help.
    Help,
    /// The line is wrong: what the user is told.
    Wrong(String),
}

impl From<lexopt::Error> for NoCommand {
    fn from(error: lexopt::Error) -> NoCommand {
        NoCommand::Wrong(error.to_string())
    }
}

/// Reads the process's command line; ends the process for `--help` (0) and for a wrong line (2).
pub(crate) fn parse() -> Command {
    read(std::env::args_os().skip(1)).unwrap_or_else(|reason| match reason {
        NoCommand::Help => {
            // A reader that went away is no reason to complain.
            let _ = std::io::stdout().write_all(help().as_bytes());
            std::process::exit(0)
        }
        NoCommand::Wrong(text) => {
            eprint!("error: {text}\n\n{USAGE}\n\nFor more information, try '--help'.\n");
            std::process::exit(EXIT_WRONG)
        }
    })
}

/// Reads the words after the program's name.
fn read(words: impl IntoIterator<Item = OsString>) -> Result<Command, NoCommand> {
    let mut parser = lexopt::Parser::from_args(words);
    let mut options =
        ConfigOptions { config: CONFIG_DEFAULT.into(), debug: false, dry_run: false, python: None };
    let mut chosen: Option<(Mode, &Spelling)> = None;
    let mut words = Vec::new();
    while let Some(argument) = parser.next()? {
        let spelling = spelled(&argument)?;
        match spelling.option {
            Typed::Config => options.config = value(&mut parser, spelling)?.into(),
            Typed::Debug => options.debug = true,
            Typed::Python => options.python = Some(value(&mut parser, spelling)?.into()),
            Typed::DryRun => options.dry_run = true,
            Typed::Help => return Err(NoCommand::Help),
            Typed::Mode(mode) => {
                if let Some((_, other)) = chosen.filter(|(before, _)| *before != mode) {
                    return Err(wrong(format!("the argument '{spelling}' cannot be used with '{other}'")));
                }
                match mode {
                    Mode::Explain => words = values(&mut parser, spelling, 2)?,
                    Mode::Completions => words = values(&mut parser, spelling, 1)?,
                    Mode::List | Mode::Version | Mode::Install | Mode::Uninstall | Mode::ConfigTest => {}
                }
                chosen = Some((mode, spelling));
            }
        }
    }
    means(options, chosen.map(|(mode, _)| mode), words)
}

/// The option that a word names.
fn spelled(argument: &Arg<'_>) -> Result<&'static Spelling, NoCommand> {
    match argument {
        Arg::Short(letter) => OPTIONS
            .iter()
            .find(|spelling| spelling.short == Some(*letter))
            .ok_or_else(|| unexpected(&format!("-{letter}"))),
        Arg::Long(word) => begun(word),
        Arg::Value(word) => Err(unexpected(&word.to_string_lossy())),
    }
}

/// The long option that begins with `word`, if there is one only.
fn begun(word: &str) -> Result<&'static Spelling, NoCommand> {
    // `--d` was unique before there was --dry-run; it stays what it was.
    let word = if word == "d" { "debug" } else { word };
    let found: Vec<&Spelling> = OPTIONS.iter().filter(|spelling| spelling.long.starts_with(word)).collect();
    match found[..] {
        [] => Err(unexpected(&format!("--{word}"))),
        [spelling] => Ok(spelling),
        [..] => found.iter().find(|spelling| spelling.long == word).copied().ok_or_else(|| {
            let names: Vec<String> = found.iter().map(ToString::to_string).collect();
            wrong(format!("ambiguous option: --{word} could match {}", names.join(", ")))
        }),
    }
}

/// The one value of an option.
fn value(parser: &mut lexopt::Parser, spelling: &Spelling) -> Result<OsString, NoCommand> {
    Ok(values(parser, spelling, 1)?.remove(0))
}

/// The values of an option, at least one and at most `most`; what begins with a dash is none.
fn values(parser: &mut lexopt::Parser, spelling: &Spelling, most: usize) -> Result<Vec<OsString>, NoCommand> {
    let found: Vec<OsString> = parser.values().map_or_else(|_| Vec::new(), |all| all.take(most).collect());
    if found.is_empty() || found.iter().any(|value| value.is_empty()) {
        return Err(wrong(format!("a value is required for '{spelling} {}'", spelling.values)));
    }
    Ok(found)
}

fn means(options: ConfigOptions, mode: Option<Mode>, words: Vec<OsString>) -> Result<Command, NoCommand> {
    let mut words = words.into_iter();
    let mut first = || words.next().expect("an option's values are at least one");
    Ok(match mode {
        None => Command::Run(options),
        Some(Mode::List) => Command::ListEvents,
        Some(Mode::Version) => Command::Version,
        Some(Mode::Install) => Command::Install,
        Some(Mode::Uninstall) => Command::Uninstall,
        Some(Mode::ConfigTest) => Command::ConfigTest(options),
        Some(Mode::Explain) => {
            let path = first();
            let event = words.next().map(|word| event(&word)).transpose()?;
            Command::Explain(options, path.into(), event)
        }
        Some(Mode::Completions) => Command::Completions(completions(&first())?),
    })
}

fn completions(shell: &OsStr) -> Result<&'static str, NoCommand> {
    let found = COMPLETIONS.iter().find(|(name, _)| *name == shell);
    found.map(|(_, script)| *script).ok_or_else(|| {
        wrong(format!(
            "unknown shell '{}', there is completion for bash, zsh and fish",
            shell.to_string_lossy()
        ))
    })
}

fn event(word: &OsStr) -> Result<Flag, NoCommand> {
    let word = word.to_string_lossy();
    word.parse().map_err(|_| wrong(format!("unknown event '{word}', see pyinotifyd --list")))
}

fn unexpected(word: &str) -> NoCommand {
    wrong(format!("unexpected argument '{word}' found"))
}

fn wrong(text: String) -> NoCommand {
    NoCommand::Wrong(text)
}

impl fmt::Display for Spelling {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "--{}", self.long)
    }
}

fn help() -> String {
    let mut text = format!("{ABOUT}\n\n{USAGE}\n\nOptions:\n");
    for spelling in &OPTIONS {
        let short = spelling.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
        let long = format!("{spelling} {}", spelling.values);
        writeln!(text, "  {short}{long:<24}  {}", spelling.help).expect("a String takes all");
    }
    text + "\n" + EXAMPLES + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, NoCommand> {
        read(line.split_whitespace().map(OsString::from))
    }

    fn options(config: &str, debug: bool) -> ConfigOptions {
        ConfigOptions { config: config.into(), debug, dry_run: false, python: None }
    }

    #[test]
    fn spellings_of_argparse_are_understood() {
        let default = "/etc/pyinotifyd/config.py";
        let cases = [
            ("", Command::Run(options(default, false))),
            ("--", Command::Run(options(default, false))),
            ("-cFILE", Command::Run(options("FILE", false))),
            ("-c=FILE", Command::Run(options("FILE", false))),
            ("-c -", Command::Run(options("-", false))),
            ("--config=FILE", Command::Run(options("FILE", false))),
            ("--config=-FILE", Command::Run(options("-FILE", false))),
            ("-c A -c B", Command::Run(options("B", false))),
            ("-tc FILE", Command::ConfigTest(options("FILE", false))),
            ("-dt", Command::ConfigTest(options(default, true))),
            ("-dd", Command::Run(options(default, true))),
            ("--configt", Command::ConfigTest(options(default, false))),
            ("--vers", Command::Version),
            ("-l -l", Command::ListEvents),
            ("--un", Command::Uninstall),
            ("--completions fish", Command::Completions(COMPLETIONS[2].1)),
            ("--d", Command::Run(options(default, true))),
            ("--explain /a", Command::Explain(options(default, false), "/a".into(), None)),
            ("--explain /a -d", Command::Explain(options(default, true), "/a".into(), None)),
            ("--explain /a --explain=/b", Command::Explain(options(default, false), "/b".into(), None)),
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
    fn what_is_ambiguous_excluded_or_unknown_is_said() {
        for (line, said) in [
            ("--conf x", "ambiguous option: --conf could match --config, --configtest"),
            ("-l -v", "the argument '--version' cannot be used with '--list'"),
            ("-iu", "the argument '--uninstall' cannot be used with '--install'"),
            ("--explain /a -t", "the argument '--configtest' cannot be used with '--explain'"),
            ("stray", "unexpected argument 'stray' found"),
            ("-- -l", "unexpected argument '-l' found"),
            ("--explain /a IN_OPEN b", "unexpected argument 'b' found"),
            ("--explain=/a IN_OPEN", "unexpected argument 'IN_OPEN' found"),
            ("-x", "unexpected argument '-x' found"),
            ("--nothing", "unexpected argument '--nothing' found"),
            ("-c", "a value is required for '--config <FILE>'"),
            ("--config=", "a value is required for '--config <FILE>'"),
            ("-c --list", "a value is required for '--config <FILE>'"),
            ("--explain", "a value is required for '--explain <PATH> [EVENT]'"),
            ("--completions tcsh", "unknown shell 'tcsh', there is completion for bash, zsh and fish"),
            ("--explain /a IN_CLOSE", "unknown event 'IN_CLOSE', see pyinotifyd --list"),
            ("--version=1", "unexpected argument for option '--version': \"1\""),
        ] {
            assert_eq!(parse(line), Err(wrong(said.to_owned())), "{line}");
        }
    }

    #[test]
    fn help_comes_before_what_is_wrong_behind_it() {
        assert_eq!(parse("-h -x"), Err(NoCommand::Help));
        assert_eq!(parse("-x -h"), Err(unexpected("-x")));
    }

    #[test]
    fn every_option_is_in_the_help_and_fits_its_column() {
        let help = help();
        for spelling in &OPTIONS {
            let is_its =
                |line: &&str| line.get(6..).is_some_and(|rest| rest.starts_with(&spelling.to_string()));
            let line = help.lines().find(is_its).expect("each option has a line");
            assert!(line[30..].starts_with(&format!("  {}", spelling.help)), "{line}");
        }
        assert!(help.contains(CONFIG_DEFAULT));
    }
}
