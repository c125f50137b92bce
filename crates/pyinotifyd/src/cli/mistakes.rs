//! What is said about a word that is no option.
//!
//! clap knows that a word is wrong; this says what was probably meant: one of several options that a prefix stands
//! for, an option with another spelling, or a config file without its `-c`.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

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
    if kind == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
    {
        let similar = match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(similar)) => Some(similar.as_str()),
            _ => None,
        };
        return command.error(kind, unknown(word, similar, command));
    }
    if kind == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
    {
        let similar = match error.get(ContextKind::SuggestedSubcommand) {
            Some(ContextValue::Strings(similar)) => similar.first().map(String::as_str),
            Some(ContextValue::String(similar)) => Some(similar.as_str()),
            _ => None,
        };
        return command.error(ErrorKind::UnknownArgument, unknown(word, similar, command));
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
