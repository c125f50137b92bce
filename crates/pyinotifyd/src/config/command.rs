//! What a configuration says about how a command runs: the arguments of a ShellScheduler beside `cmd`.
//!
//! Python has checked types and names, with the place in the file. What is checked here is what would harm the daemon.

use std::collections::BTreeMap;
use std::ffi::CString;

use serde::Deserialize;

use crate::action::arguments::ArgumentTemplate;
use crate::action::code::judge_arguments;
use crate::action::occasion::{OF_BATCHES, OF_EVENTS, Placeholder};
use crate::action::template::CommandTemplate;
use crate::host::wire::PathText;

/// A command of a configuration.
#[derive(Debug)]
pub(crate) struct Command {
    /// What is executed.
    pub program: Program,
    /// How.
    pub options: CommandOptions,
    /// What is accepted and probably not meant.
    pub doubts: Vec<String>,
}

/// What is executed.
#[derive(Debug)]
pub(crate) enum Program {
    /// `cmd`, by `/bin/sh -c`.
    Shell(CommandTemplate),
    /// `argv`: a program and its arguments, without a shell.
    Arguments(Vec<ArgumentTemplate>),
}

/// How a command runs.
#[derive(Debug, Default)]
pub(crate) struct CommandOptions {
    /// As whom; `None`: as the daemon.
    pub account: Option<AccountWanted>,
    /// Mode bits that its files do not get.
    pub umask: Option<u32>,
    /// Added to the niceness.
    pub nice: i32,
    /// Where it runs.
    pub directory: Option<Vec<u8>>,
    /// Variables that it gets besides, by name and as `NAME=value`.
    pub environment: Vec<(Vec<u8>, CString)>,
    /// Soft and hard limits by the names of getrlimit(2) without `RLIMIT_`; `None`: no limit.
    pub limits: Vec<(String, Option<u64>)>,
    /// What it reads.
    pub stdin: Stdin,
    /// Where its output goes.
    pub output: Output,
}

/// User and group of a command, as the configuration names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AccountWanted {
    /// User; `None`: that of the daemon.
    pub user: Option<AccountName>,
    /// Group; `None`: that of the user.
    pub group: Option<AccountName>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(untagged)]
pub(crate) enum AccountName {
    /// Its number.
    Number(u32),
    /// Its name; a number in digits, where nobody has that name.
    Name(String),
}

/// What a command reads from its stdin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stdin {
    /// Nothing.
    #[default]
    Null,
    /// The event as JSON.
    Json,
    /// The path, with NUL at its end.
    Paths,
}

/// Where the output of a command goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Output {
    /// Where the daemon's goes.
    #[default]
    Inherit,
    /// Into the log, line by line.
    Log,
    /// Nowhere.
    Null,
}

/// The description as the host writes it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct CommandDescription {
    argv: Option<Vec<PathText>>,
    user: Option<AccountName>,
    group: Option<AccountName>,
    umask: Option<u32>,
    nice: i32,
    cwd: Option<PathText>,
    env: BTreeMap<String, PathText>,
    limits: BTreeMap<String, Option<u64>>,
    stdin: Stdin,
    output: Output,
}

impl CommandDescription {
    /// The program and its arguments.
    pub(super) fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.argv.iter().flatten().map(|word| word.0.as_slice())
    }
}

impl Command {
    /// Reads a description; `cmd` is the command for the shell, if there is one, and `known` are its placeholders.
    ///
    /// # Errors
    /// What cannot be, as a text for the fault.
    pub(super) fn read(
        cmd: Option<&[u8]>,
        description: &CommandDescription,
        known: &'static [Placeholder],
    ) -> Result<Command, String> {
        let CommandDescription { argv, user, group, umask, nice, cwd, env, limits, stdin, output } =
            description.clone();
        let (program, doubts) = read_program(cmd, argv.as_deref(), known)?;
        let account = (user.is_some() || group.is_some()).then_some(AccountWanted { user, group });
        let environment = env.into_iter().map(|(name, value)| variable(&name, &value.0));
        let options = CommandOptions {
            account,
            umask,
            nice,
            directory: cwd.map(|path| path.0),
            environment: environment.collect::<Result<_, _>>()?,
            limits: limits.into_iter().collect(),
            stdin,
            output,
        };
        Ok(Command { program, options, doubts })
    }
}

/// What is executed, and what is odd about it: this judges commands of configurations, also those that are imported.
///
/// # Errors
/// A value would be code, or it is no command; as a text for the fault.
pub(crate) fn read_program(
    cmd: Option<&[u8]>,
    argv: Option<&[PathText]>,
    known: &'static [Placeholder],
) -> Result<(Program, Vec<String>), String> {
    let words = cmd.into_iter().chain(argv.into_iter().flatten().map(|word| word.0.as_slice()));
    refuse_of_one(words, known)?;
    let name = if cmd.is_some() { "cmd" } else { "argv" };
    let read = match (cmd, argv) {
        (Some(cmd), None) => CommandTemplate::with_doubts(cmd, known)
            .map(|(template, doubts)| (Program::Shell(template), doubts)),
        (None, Some(argv)) if !argv.is_empty() => {
            arguments(argv, known).map(|(templates, doubts)| (Program::Arguments(templates), doubts))
        }
        (Some(_), Some(_)) | (None, _) => return Err("expected either cmd or argv".to_owned()),
    };
    let (program, doubts) = read.map_err(|error| format!("{name}: {error}"))?;
    Ok((program, doubts.into_iter().map(|doubt| format!("{name}: {doubt}")).collect()))
}

/// Templates of a program and its arguments, and what is odd about these.
fn arguments(
    argv: &[PathText],
    known: &'static [Placeholder],
) -> Result<(Vec<ArgumentTemplate>, Vec<String>), String> {
    let templates: Vec<_> = argv.iter().map(|word| ArgumentTemplate::new(&word.0, known)).collect();
    if templates.iter().any(ArgumentTemplate::has_path_list_inside) {
        return Err("{pathnames} is many arguments: write it as an element of its own".to_owned());
    }
    let words: Vec<&[u8]> = argv.iter().map(|word| word.0.as_slice()).collect();
    Ok((templates, judge_arguments(&words, known)?))
}

/// Refuses what stands for one event in the command of a batch, which is for many.
pub(super) fn refuse_of_one<'a>(
    mut words: impl Iterator<Item = &'a [u8]>,
    known: &'static [Placeholder],
) -> Result<(), String> {
    if known != OF_BATCHES {
        return Ok(());
    }
    let found = words.find_map(|word| {
        let is_in = |name: &str| word.windows(name.len()).any(|part| part == name.as_bytes());
        OF_EVENTS.iter().map(|(name, ..)| *name).find(|name| is_in(name))
    });
    found.map_or(Ok(()), |name| {
        Err(format!(
            "{name} is one of many in a batch: write {{pathnames}}, or read the paths from the command's stdin"
        ))
    })
}

fn variable(name: &str, value: &[u8]) -> Result<(Vec<u8>, CString), String> {
    if name.is_empty() || name.contains('=') || name.starts_with("PYINOTIFYD_") {
        return Err(format!("env: '{name}' cannot be the name of a variable"));
    }
    let text = CString::new([name.as_bytes(), b"=", value].concat());
    let text = text.map_err(|_| format!("env: the variable '{name}' holds a NUL byte"))?;
    Ok((name.as_bytes().to_vec(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(changes: &serde_json::Value) -> CommandDescription {
        let mut all = serde_json::json!({
            "argv": null, "user": null, "group": null, "umask": null, "nice": 0, "cwd": null, "env": {},
            "limits": {}, "stdin": "null", "output": "inherit",
        });
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_command_is_for_the_shell_or_has_arguments() {
        let read = |cmd: Option<&[u8]>, argv| {
            Command::read(cmd, &description(&serde_json::json!({ "argv": argv })), OF_EVENTS)
        };
        assert!(matches!(read(Some(b"true"), None).unwrap().program, Program::Shell(_)));
        let program = read(None, Some(vec!["true", "{pathname}"])).unwrap().program;
        assert!(matches!(program, Program::Arguments(words) if words.len() == 2));
        for (cmd, argv) in
            [(Some(b"true".as_slice()), Some(vec!["true"])), (None, None), (None, Some(vec![]))]
        {
            assert_eq!(read(cmd, argv).unwrap_err(), "expected either cmd or argv");
        }
    }

    #[test]
    fn all_options_are_read() {
        let changes = serde_json::json!({
            "user": "alice", "group": 7, "umask": 0o77, "nice": -5, "cwd": "/srv", "env": {"ONE": "1"},
            "limits": {"nofile": 64, "core": null}, "stdin": "paths", "output": "log",
        });
        let options = Command::read(Some(b"true"), &description(&changes), OF_EVENTS).unwrap().options;
        let account = AccountWanted {
            user: Some(AccountName::Name("alice".into())),
            group: Some(AccountName::Number(7)),
        };
        assert_eq!(options.account, Some(account));
        assert_eq!((options.umask, options.nice), (Some(0o77), -5));
        assert_eq!(options.environment, [(b"ONE".to_vec(), c"ONE=1".to_owned())]);
        assert_eq!(options.limits, [("core".to_owned(), None), ("nofile".to_owned(), Some(64))]);
        assert_eq!((options.stdin, options.output), (Stdin::Paths, Output::Log));
    }

    #[test]
    fn what_no_environment_can_hold_is_refused() {
        for name in ["", "A=B", "PYINOTIFYD_PATHNAME", "NUL"] {
            let changes = serde_json::json!({ "env": { name: if name == "NUL" { "\0" } else { "" } } });
            let error = Command::read(Some(b"true"), &description(&changes), OF_EVENTS).unwrap_err();
            assert!(error.starts_with("env: "), "{error}");
        }
    }
}
