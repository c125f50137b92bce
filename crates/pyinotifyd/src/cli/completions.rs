//! What a shell offers when the user presses TAB.
//!
//! The script of a shell is short and the same for each version: it asks the program, with the words so far in its
//! arguments and the name of the shell in [`ASKED_BY`]. So completions know what the program knows, and no list is
//! kept twice.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use clap::ValueEnum;
use clap_complete::CompleteEnv;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter as _};
use clap_complete::env::{self, EnvCompleter, Shells};
use event::Flag;

/// Environment variable that holds the name of the shell that asks. It has our name in it, so that no variable of
/// another program makes the daemon print completions.
const ASKED_BY: &str = "PYINOTIFYD_COMPLETE";

const PROGRAM: &str = "pyinotifyd";

/// A shell that there are completions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The script that makes the shell ask this program.
    ///
    /// # Errors
    /// Those of the formatting.
    pub(crate) fn script(self) -> io::Result<String> {
        let mut script = Vec::new();
        self.adapter().write_registration(ASKED_BY, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
        let script = String::from_utf8(script).map_err(io::Error::other)?;
        Ok(match self {
            Shell::Bash | Shell::Fish => script.trim().to_owned() + "\n",
            // From a directory of $fpath the script is loaded as the body of the function that was to complete.
            Shell::Zsh => {
                script.trim().to_owned()
                    + "\n[[ ${funcstack[1]} = _pyinotifyd ]] && _clap_dynamic_completer_pyinotifyd \"$@\"\n"
            }
        })
    }

    fn adapter(self) -> &'static dyn EnvCompleter {
        match self {
            Shell::Bash => &env::Bash,
            Shell::Zsh => &env::Zsh,
            Shell::Fish => &env::Fish,
        }
    }
}

/// Answers a shell that asks for completions, and ends the process then.
pub(super) fn answer(command: fn() -> clap::Command) {
    CompleteEnv::with_factory(command)
        .var(ASKED_BY)
        .shells(Shells(&[&env::Bash, &env::Zsh, &env::Fish]))
        .bin(PROGRAM)
        .completer(PROGRAM)
        .complete();
}

/// Python files, and directories on the way to them; the current one is none.
pub(crate) fn config_files(word: &OsStr) -> Vec<CompletionCandidate> {
    let wanted = |path: &Path| path.is_dir() || path.extension().is_some_and(|extension| extension == "py");
    let found = PathCompleter::any().filter(wanted).complete(word);
    found.into_iter().filter(|candidate| candidate.get_value() != ".").collect()
}

/// All paths.
pub(crate) fn paths(word: &OsStr) -> Vec<CompletionCandidate> {
    PathCompleter::any().complete(word)
}

/// The names of events, behind a comma, too.
pub(super) fn events(word: &OsStr) -> Vec<CompletionCandidate> {
    let word = word.to_string_lossy();
    let (before, begun) = word.rsplit_once(',').map_or(("", &*word), |(before, begun)| (before, begun));
    let names = Flag::ALL.map(|flag| flag.name().trim_start_matches("IN_").to_lowercase());
    let fitting = names.into_iter().filter(|name| name.starts_with(begun));
    let comma = if before.is_empty() { "" } else { "," };
    fitting.map(|name| CompletionCandidate::new(format!("{before}{comma}{name}"))).collect()
}

/// All paths, and the names of events.
pub(super) fn paths_and_events(word: &OsStr) -> Vec<CompletionCandidate> {
    let begun = word.to_string_lossy();
    let events = Flag::ALL.map(Flag::name).into_iter().filter(|name| name.starts_with(&*begun));
    paths(word).into_iter().chain(events.map(CompletionCandidate::new)).collect()
}
