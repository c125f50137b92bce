//! `pyinotifyd import`: the configuration of another program as a config file of ours.
//!
//! [`files`] reads what is asked for. [`incron`], [`direvent`] and [`systemd`] translate text; they read no file and
//! look at nothing themselves. What they make grows in a [`draft`], which also holds what is different or left out. No
//! Python is started and no daemon asked: [`judge`] says of each command what `pyinotifyd -t` will say of it.

mod direvent;
mod draft;
mod files;
mod incron;
mod judge;
mod shell;
mod systemd;

use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use crate::log::{Cause, Escaped};

/// What is to be imported, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub from: From,
    /// A file, a directory of tables, or the name of a unit.
    pub source: PathBuf,
    /// Whose table it is.
    pub user: Option<String>,
    /// Where includes are looked for.
    pub include: Vec<PathBuf>,
    /// Where the config file goes; to stdout without it.
    pub output: Option<PathBuf>,
    /// Whether a file that is there is replaced.
    pub force: bool,
}

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// A table of incron, or a directory of tables such as /etc/incron.d
    Incrontab,
    /// A configuration of GNU direvent, such as /etc/direvent.conf
    Direvent,
    /// A path unit of systemd: its file or its name
    SystemdPath,
}

impl From {
    fn name(self) -> &'static str {
        match self {
            From::Incrontab => "incrontab",
            From::Direvent => "direvent",
            From::SystemdPath => "systemd-path",
        }
    }
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// None: nothing.
    kind: Option<Kind>,
    is_link: bool,
}

/// Looks at a path: whether something is a file or a directory decides what other programs watch.
type Look<'a> = &'a dyn Fn(&[u8]) -> Standing;

/// Whether a path is a link itself, whatever slashes stand behind it.
fn is_link(path: &[u8], look: Look<'_>) -> bool {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    look(&path[..end]).is_link
}

/// Writes the config file, and says on stderr what differs or is left out.
pub(crate) fn run(import: &Import) -> ExitCode {
    let draft = match files::draft(import) {
        Ok(draft) => draft,
        Err((path, error)) => {
            let path = Escaped(path.as_os_str().as_bytes());
            eprintln!("ERROR: cannot read '{path}': {error}", error = Cause(&error));
            return ExitCode::FAILURE;
        }
    };
    let source = Escaped(import.source.as_os_str().as_bytes());
    let text = draft.text(&format!("{} {source}", import.from.name()));
    if let Err(fault) = write(&text, import) {
        eprintln!("ERROR: {fault}");
        return ExitCode::FAILURE;
    }
    for note in &draft.notes {
        eprintln!("{}: {}: {}", note.severity.level(), note.place, Escaped(note.text.as_bytes()));
    }
    if draft.is_incomplete() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// # Errors
/// What is to be said about it.
fn write(text: &str, import: &Import) -> Result<(), String> {
    let Some(path) = &import.output else {
        return io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| format!("cannot write: {}", Cause(&error)));
    };
    write_file(text, path, import.force).map_err(|error| {
        let shown = Escaped(path.as_os_str().as_bytes());
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("'{shown}' is there already: write --force to replace it")
            }
            _ => format!("cannot write '{shown}': {}", Cause(&error)),
        }
    })
}

fn write_file(text: &str, path: &Path, force: bool) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests;
