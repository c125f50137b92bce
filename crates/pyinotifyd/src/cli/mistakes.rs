//! What is said about a word that is no option.
//!
//! clap knows that a word is wrong; this says what was probably meant: one of several options that a prefix stands
//! for, an option with another spelling, or a config file without its `-c`.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use crate::similar::similar;

/// The command that a line was meant for: a subcommand that stands in it, else the program itself.
pub(super) fn meant<'a>(words: &[OsString], command: &'a mut Command) -> &'a mut Command {
    let named = words.iter().skip(1).find(|word| command.find_subcommand(word).is_some());
    match named {
        Some(word) => command.find_subcommand_mut(word).expect("it was just found"),
        None => command,
    }
}

/// The same error, in words that say what to type instead, with the usage behind it.
pub(super) fn explained(error: Error, command: &mut Command) -> Error {
    let kind = error.kind();
    let word = match kind {
        ErrorKind::UnknownArgument => text_of(&error, ContextKind::InvalidArg),
        ErrorKind::InvalidSubcommand => text_of(&error, ContextKind::InvalidSubcommand),
        _ => None,
    };
    if let Some(word) = word {
        let option = text_of(&error, ContextKind::SuggestedArg);
        let similar = option.map(str::to_owned).or_else(|| similar_subcommand(word, command));
        let similar = similar.as_deref();
        let text = unknown(word, similar, command);
        return command.error(ErrorKind::UnknownArgument, text);
    }
    if kind == ErrorKind::MissingRequiredArgument && takes_ids(command) {
        return command.error(kind, NAME_TASKS);
    }
    // clap leaves the usage out where only a value is wrong.
    let text = error.to_string();
    if error.use_stderr() && !text.contains(USAGE) {
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let text = text.split_once(FOR_MORE).map_or(text, |(text, _)| text);
        return command.error(kind, text);
    }
    error
}

/// What is missing where a change of tasks names none.
const NAME_TASKS: &str = "name the tasks: by their ids, or all by --scheduler NAME, --path GLOB or --all";

fn takes_ids(command: &Command) -> bool {
    command.get_arguments().any(|argument| argument.get_id() == "ids")
}

fn similar_subcommand(word: &str, command: &Command) -> Option<String> {
    let names = command.get_subcommands().map(Command::get_name);
    // clap's own guess is a wide one.
    similar(word, names).map(str::to_owned)
}

fn text_of(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => texts.first().map(String::as_str),
        _ => None,
    }
}

/// How clap begins the usage, and the advice behind it.
const USAGE: &str = "Usage: ";
const FOR_MORE: &str = "\n\nFor more information";

fn unknown(word: &str, similar: Option<&str>, command: &Command) -> String {
    let candidates = begun(word, command);
    if candidates.len() > 1 {
        return format!("ambiguous option: {word} could match {}", candidates.join(", "));
    }
    let unexpected = format!("unexpected argument '{word}' found");
    if let Some(similar) = similar {
        return format!("{unexpected}, did you mean '{similar}'?");
    }
    if is_path(word) {
        return format!("{unexpected}, a config file is named by '-c {word}'");
    }
    unexpected
}

/// The long options that begin with a word.
fn begun(word: &str, command: &Command) -> Vec<String> {
    let Some(prefix) = word.strip_prefix("--") else { return Vec::new() };
    let longs = command.get_arguments().filter_map(|option| option.get_long());
    longs.filter(|long| long.starts_with(prefix)).map(|long| format!("--{long}")).collect()
}

fn is_path(word: &str) -> bool {
    let is_python = Path::new(word).extension().is_some_and(|extension| extension == "py");
    !word.starts_with('-') && (is_python || word.contains('/') || Path::new(word).exists())
}
