//! The description as the host writes it (JSON), field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStringExt as _;

use serde::Deserialize;

use super::command::CommandDescription;
use super::running::RunningDescription;
use super::{ControlPlace, ControlWanted, StateWanted};
use crate::host::wire::{At, PathText, PatternMade, lossy, lossy_option};
use crate::log::{Address, Level};

#[derive(Debug, Deserialize)]
pub(super) struct Description {
    pub(super) logname: String,
    pub(super) shutdown_timeout: f64,
    pub(super) max_jobs: Option<NonZeroU32>,
    #[serde(default)]
    pub(super) state: StateDescription,
    pub(super) history: u32,
    /// Where the daemon listens for questions.
    #[serde(default)]
    pub(super) control: ControlDescription,
    pub(super) watches: Vec<WatchDescription>,
    pub(super) schedulers: Vec<SchedulerDescription>,
    pub(super) levels: BTreeMap<LoggerName, i64>,
    pub(super) syslog: Vec<SyslogDescription>,
    pub(super) handlers: bool,
    /// Loggers with filters of the file's.
    pub(super) filtered: BTreeSet<LoggerName>,
    pub(super) stays: bool,
    /// All that holds for the whole configuration, by what people call it; a reload compares it.
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
    /// What a config test says.
    #[serde(default)]
    pub(super) hints: Vec<HintDescription>,
    /// Expressions of rules that no scheduler of a watch uses.
    #[serde(default)]
    pub(super) loose_patterns: Vec<PatternMade>,
    /// What the file changed in the environment; null: removed.
    #[serde(default)]
    pub(super) environ: BTreeMap<PathText, Option<PathText>>,
    /// The working directory, if the file changed it.
    #[serde(default)]
    pub(super) cwd: Option<PathText>,
    /// The umask, if the file changed it.
    #[serde(default)]
    pub(super) umask: Option<u32>,
}

/// A name that code may also have given to a logger of Python's logging itself, of any letters, as records have it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(super) struct LoggerName(#[serde(deserialize_with = "lossy")] pub(super) String);

/// The directory where tasks are kept; null: the default. `never` says that there is none.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StateDescription {
    path: Option<PathText>,
    never: bool,
}

impl From<StateDescription> for StateWanted {
    fn from(described: StateDescription) -> StateWanted {
        let StateDescription { path, never } = described;
        match path {
            _ if never => StateWanted::Never,
            Some(path) => StateWanted::In(OsString::from_vec(path.0).into()),
            None => StateWanted::Default,
        }
    }
}

/// The socket's path; null: the default place. `never` says that there is none.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ControlDescription {
    path: Option<PathText>,
    never: bool,
    group: Option<u32>,
    metrics: Option<SocketAddr>,
}

impl From<ControlDescription> for ControlWanted {
    fn from(described: ControlDescription) -> Self {
        let ControlDescription { path, never, group, metrics } = described;
        let place = match path {
            _ if never => ControlPlace::Never,
            Some(path) => ControlPlace::At(OsString::from_vec(path.0).into()),
            None => ControlPlace::Default,
        };
        ControlWanted { place, group, metrics }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct HintDescription {
    #[serde(deserialize_with = "shown")]
    pub(super) text: String,
    pub(super) at: Option<At>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WatchDescription {
    pub(super) paths: Vec<PathText>,
    #[serde(deserialize_with = "shown")]
    pub(super) path_text: String,
    pub(super) rec: bool,
    pub(super) auto_add: bool,
    pub(super) initial: super::Initial,
    pub(super) exclude: Option<Vec<PatternMade>>,
    pub(super) map: BTreeMap<String, Vec<ReactionDescription>>,
    pub(super) at: Option<At>,
    /// All that is described here, with names for numbers and without places; a reload compares it.
    #[serde(default)]
    pub(super) settings: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReactionDescription {
    Schedule(usize),
    Cancel(usize),
}

/// What the tasks of a scheduler do.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KindDescription {
    Job,
    Shell,
    Files,
}

impl KindDescription {
    /// As it is described.
    pub(super) fn name(self) -> &'static str {
        match self {
            KindDescription::Job => "job",
            KindDescription::Shell => "shell",
            KindDescription::Files => "files",
        }
    }
}

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "these are the arguments that a configuration gives")]
pub(super) struct SchedulerDescription {
    pub(super) kind: KindDescription,
    pub(super) name: String,
    /// Stem of the file that it is of.
    #[serde(deserialize_with = "shown")]
    pub(super) file: String,
    pub(super) named: bool,
    pub(super) logname: String,
    pub(super) files: bool,
    pub(super) dirs: bool,
    pub(super) delay: f64,
    pub(super) delay_text: String,
    pub(super) singlejob: bool,
    pub(super) max_jobs: Option<NonZeroU32>,
    pub(super) at: Option<At>,
    #[serde(default, deserialize_with = "lossy_option")]
    pub(super) job: Option<String>,
    /// All that its tasks do, as a text that is the same in each process.
    pub(super) does: PathText,
    pub(super) cmd: Option<PathText>,
    /// How a command runs.
    pub(super) command: Option<CommandDescription>,
    pub(super) rules: Option<Vec<RuleDescription>>,
    pub(super) running: RunningDescription,
    /// All that is described here, with names for numbers and without places; a reload compares it.
    #[serde(default)]
    pub(super) settings: String,
}

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "these are the arguments that a configuration gives")]
pub(super) struct RuleDescription {
    pub(super) action: ActionDescription,
    pub(super) src_re: PathText,
    pub(super) dst_re: PathText,
    pub(super) auto_create: bool,
    pub(super) dirmode: Option<u32>,
    pub(super) filemode: Option<u32>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) rec: bool,
    pub(super) durable: Option<bool>,
    pub(super) on_conflict: ConflictDescription,
    pub(super) verify: bool,
    pub(super) trash: Option<PathText>,
    pub(super) trash_keep: Option<f64>,
    pub(super) generations: u32,
    pub(super) mounted: Option<PathText>,
    pub(super) prune: bool,
    pub(super) at: Option<At>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ActionDescription {
    Move,
    Copy,
    Delete,
}

impl From<ActionDescription> for files::Action {
    fn from(action: ActionDescription) -> Self {
        match action {
            ActionDescription::Move => files::Action::Move,
            ActionDescription::Copy => files::Action::Copy,
            ActionDescription::Delete => files::Action::Delete,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ConflictDescription {
    Fail,
    Overwrite,
    Skip,
    Rename,
    Newer,
    Same,
}

impl From<ConflictDescription> for files::Conflict {
    fn from(conflict: ConflictDescription) -> Self {
        match conflict {
            ConflictDescription::Fail => files::Conflict::Fail,
            ConflictDescription::Overwrite => files::Conflict::Overwrite,
            ConflictDescription::Skip => files::Conflict::Skip,
            ConflictDescription::Rename => files::Conflict::Rename,
            ConflictDescription::Newer => files::Conflict::Newer,
            ConflictDescription::Same => files::Conflict::Same,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct SyslogDescription {
    address: AddressDescription,
    level: Option<i64>,
    logname: Option<String>,
    at: Option<At>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AddressDescription {
    Path(PathText),
    Host(String, u16),
}

impl From<SyslogDescription> for super::SyslogTarget {
    fn from(target: SyslogDescription) -> Self {
        super::SyslogTarget {
            address: match target.address {
                AddressDescription::Path(path) => Address::Path(OsString::from_vec(path.0).into()),
                AddressDescription::Host(host, port) => Address::Host(host, port),
            },
            level: target.level.map(Level),
            logname: target.logname,
            at: target.at,
        }
    }
}

fn shown<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    PathText::deserialize(deserializer).map(|text| crate::log::Escaped(&text.0).to_string())
}
