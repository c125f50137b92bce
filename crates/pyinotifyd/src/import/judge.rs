//! What is written has to load: the commands of an entry are judged as `pyinotifyd -t` judges those of a config file.

use std::collections::BTreeSet;

use super::draft::{Entry, Runs};
use crate::action::misspelt::misspelt;
use crate::action::occasion::OF_EVENTS;
use crate::config::read_program;
use crate::host::wire::PathText;

/// What `-t` would warn of in the commands of an entry, each text once.
///
/// # Errors
/// Why `-t` would refuse the entry.
pub(super) fn doubts(entry: &Entry) -> Result<BTreeSet<String>, String> {
    let mut all = BTreeSet::new();
    for runs in entry.watches.iter().flat_map(|watch| watch.map.schedulers()).map(|scheduler| &scheduler.runs)
    {
        all.extend(doubts_of(runs).map_err(|text| worded(&text, entry))?);
    }
    let paths = entry.watches.iter().flat_map(|watch| watch.paths.iter().chain(&watch.exclude));
    if paths.chain(&entry.source).any(|text| text.contains(&0)) {
        return Err(NUL.to_owned());
    }
    Ok(all.into_iter().map(|text| worded(&text, entry)).collect())
}

const NUL: &str = "it holds a NUL byte, which no path and no command can";

fn doubts_of(runs: &Runs) -> Result<Vec<String>, String> {
    let (cmd, argv) = match runs {
        Runs::Line(parts) => (Some(parts.join(b"; ".as_slice())), None),
        Runs::Program(words) => (None, Some(words.iter().cloned().map(PathText).collect::<Vec<_>>())),
    };
    let mut texts = cmd.iter().chain(argv.iter().flatten().map(|word| &word.0));
    if texts.clone().any(|text| text.contains(&0)) {
        return Err(NUL.to_owned());
    }
    let (_, doubts) = read_program(cmd.as_deref(), argv.as_deref(), OF_EVENTS)?;
    Ok(doubts.into_iter().chain(texts.by_ref().flat_map(|text| misspelt(text, OF_EVENTS))).collect())
}

/// A text about a command in the words of the other program.
fn worded(text: &str, entry: &Entry) -> String {
    let text = ["cmd: ", "argv: "].iter().find_map(|name| text.strip_prefix(name)).unwrap_or(text);
    let text = entry.words.iter().fold(text.to_owned(), |text, (ours, theirs)| text.replace(ours, theirs));
    format!("command: {text}")
}
