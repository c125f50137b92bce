//! `pyinotifyd import`: its options.

use std::path::PathBuf;

use clap::Args;
use clap::error::ErrorKind;
use clap_complete::engine::ArgValueCompleter;

use super::completions;
use crate::import;

const EXAMPLES: &str = "\
Examples:
  pyinotifyd import incrontab /etc/incron.d          all tables of the system
  pyinotifyd import incrontab --user ann ann.table   the table of a user
  pyinotifyd import direvent /etc/direvent.conf -o config.py
  pyinotifyd import systemd-path upload.path         a unit by its name";

/// Write a config file that does what the configuration of incron, direvent or a path unit says.
///
/// The config file goes to stdout. What is different in it, or left out, is said on stderr and stands in it as a
/// comment, with file and line and what to do instead. Nothing is started or changed. The exit status is 0, or 1 if
/// something is left out or cannot be read.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Import {
    /// Whose configuration it is: incrontab, direvent or systemd-path.
    #[arg(value_name = "KIND", hide_possible_values = true)]
    from: import::From,

    /// File of the configuration, directory of incron's tables, or name of a path unit.
    #[arg(value_name = "FILE", add = ArgValueCompleter::new(completions::paths))]
    source: PathBuf,

    /// Write the config file there.
    ///
    /// A file that is there is kept, and that is an error.
    #[arg(short, long, value_name = "FILE", add = ArgValueCompleter::new(completions::paths))]
    output: Option<PathBuf>,

    /// Replace the file of --output if it is there.
    #[arg(long, requires = "output")]
    force: bool,

    /// User whose table of incron it is: commands run as this user.
    ///
    /// A table in /var/spool/incron is that of the user with its name, any other one of the system.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Directory where direvent looks for files that are included.
    ///
    /// May be given several times.
    #[arg(short = 'I', long, value_name = "DIR", add = ArgValueCompleter::new(completions::paths))]
    include: Vec<PathBuf>,
}

impl Import {
    pub(super) fn means(self, parser: &mut clap::Command) -> Result<import::Import, clap::Error> {
        let Import { from, source, output, force, user, include } = self;
        let foreign = [
            ("--user <NAME>", user.is_some() && from != import::From::Incrontab, "incrontab"),
            ("--include <DIR>", !include.is_empty() && from != import::From::Direvent, "direvent"),
        ];
        if let Some((option, _, kind)) = foreign.iter().find(|(_, is_given, _)| *is_given) {
            let text = format!("the argument '{option}' is for {kind}");
            return Err(parser.error(ErrorKind::ArgumentConflict, text));
        }
        Ok(import::Import { from, source, user, include, output, force })
    }
}
