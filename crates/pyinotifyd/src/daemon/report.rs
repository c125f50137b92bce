//! What the user reads when a configuration cannot be used.

use std::path::Path;
use std::process::ExitCode;

use super::accounts;
use super::loading::LoadError;
use crate::cli::ConfigOptions;
use crate::config::{self, Config};
use crate::host::wire::{ConfigFault, Location};
use crate::log::{Escaped, Indented, Log, record};

/// Exit status of a configuration that cannot be used.
const EXIT_CONFIG: u8 = 1;

/// Says at the start why the configuration cannot be used; the exit status of the program.
pub(crate) fn refuse(log: &mut Log, options: &ConfigOptions, error: LoadError) -> ExitCode {
    match error {
        LoadError::Fault(fault) => {
            let what = match &fault.path {
                Some(path) => format!("config file '{}': ", Escaped(&path.0)),
                None if options.source.files().is_empty() => String::new(),
                None => "config file: ".to_owned(),
            };
            record!(log, Log::ROOT, ERROR, "{what}{}", describe(&fault, options.debug));
            if options.source.files().iter().any(|named| !named.optional && !named.path.exists()) {
                let next = "name a config file with -c FILE, or let 'pyinotifyd --install' (as root) write one that \
                    explains itself";
                record!(log, Log::ROOT, INFO, "next: {next}");
            }
            log.flush_at_exit();
            ExitCode::from(EXIT_CONFIG)
        }
        LoadError::Exit(exit) => {
            if let Some(message) = exit.message {
                eprintln!("{message}");
            }
            log.flush_at_exit();
            ExitCode::from((exit.code & 0xff) as u8)
        }
    }
}

/// What a config test warns of, beside what is said at each load. Waits for the databases of users and groups.
pub(super) fn test_warnings(config: &Config, state: Option<&Path>) -> Vec<String> {
    let mut all = config::warnings(config, state.is_some());
    all.extend(accounts::warnings(config));
    if let Some(directory) = state {
        all.extend(config::state_warnings(config, directory));
        all.extend(config::unnamed_warnings(config));
    }
    all
}

/// Says at the start what keeps the daemon from running at all.
pub(crate) fn give_up(log: &mut Log, text: &str) -> ExitCode {
    record!(log, Log::ROOT, ERROR, "{text}");
    log.flush_at_exit();
    ExitCode::FAILURE
}

/// The fault in one line, behind the file and the line where it is.
pub(crate) fn in_a_line(fault: &ConfigFault) -> String {
    let message: Vec<&str> = fault.message.lines().map(str::trim).collect();
    let message = message.join(" ");
    match fault.locations.last() {
        Some(Location { file, line: Some(line), .. }) => {
            // The text of a syntax error ends with the same place.
            let name = Path::new(file).file_name().unwrap_or_default().display();
            let message = message.strip_suffix(&format!(" ({name}, line {line})")).unwrap_or(&message);
            format!("{file}:{line}: {message}")
        }
        Some(Location { file, line: None, .. }) => format!("{file}: {message}"),
        None => message,
    }
}

/// The fault with its place; where the whole traceback is asked for, that shows the place.
pub(crate) fn describe(fault: &ConfigFault, traceback: bool) -> String {
    let text = if traceback && !fault.traceback.is_empty() {
        format!("{}\n{}", fault.message, fault.traceback)
    } else {
        fault.to_string()
    };
    // Lines below the first are indented already; what comes from the user's file cannot pass for a record.
    text.lines().enumerate().fold(String::new(), |mut all, (number, line)| {
        if number > 0 {
            all.push('\n');
            if !line.starts_with(' ') {
                all.push_str("  ");
            }
        }
        all.push_str(&Indented(line).to_string());
        all
    })
}
