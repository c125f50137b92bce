//! What an operator types to ask a running daemon: the subcommands, as clap reads them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use control::api::{id_prefix, span_s};

use crate::cli::completions;

/// A subcommand, and which daemon it is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// What is asked.
    pub(crate) ask: Ask,
    /// The daemon's control socket, if the user named one.
    pub(crate) control: Option<PathBuf>,
}

/// A question to a running daemon, or a change in it.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum Ask {
    /// Show what the daemon does.
    Status(Printed),
    /// List tasks that wait, run, are queued or will be tried again.
    Tasks {
        #[command(flatten)]
        filter: Filter,
        /// Only tasks in this state: waiting, running, queued, retrying.
        #[arg(long, value_name = "STATE", value_parser = ["waiting", "running", "queued", "retrying"])]
        state: Option<String>,
        #[command(flatten)]
        printed: Printed,
    },
    /// List tasks that failed for good, the newest first.
    Failed {
        #[command(flatten)]
        filter: Filter,
        /// Only what ended in the last 90s, 10m, 1h, 2d.
        #[arg(long, value_name = "TIME", value_parser = span)]
        since: Option<f64>,
        /// As for history; all of these have failed.
        #[arg(long, value_name = "STATE", value_parser = ["ok", "failed", "cancelled"], hide = true)]
        state: Option<String>,
        #[command(flatten)]
        printed: Printed,
    },
    /// List tasks that have ended, the newest first; needs a state.
    History {
        #[command(flatten)]
        filter: Filter,
        /// Only what ended in the last 90s, 10m, 1h, 2d.
        #[arg(long, value_name = "TIME", value_parser = span)]
        since: Option<f64>,
        /// Only tasks with this result: ok, failed, cancelled.
        #[arg(long, value_name = "STATE", value_parser = ["ok", "failed", "cancelled"])]
        state: Option<String>,
        #[command(flatten)]
        printed: Printed,
    },
    /// Start waiting tasks now.
    Run(Change),
    /// Cancel tasks, running ones too.
    Cancel(Change),
    /// Run failed tasks again.
    Retry(Change),
    /// Forget failed tasks.
    Forget(Change),
    /// Undo what a file rule moved, overwrote or deleted; needs a state.
    Undo {
        /// The task's id, or its first 4 characters or more.
        #[arg(value_parser = id_prefix)]
        id: String,
        #[command(flatten)]
        printed: Printed,
    },
    /// Pause schedulers: they still take events, but start no task.
    Pause(Schedulers),
    /// Let paused schedulers start tasks again.
    Resume(Schedulers),
    /// Handle a path as if it had just had an event.
    Send {
        /// An existing path in a watch.
        #[arg(add = ArgValueCompleter::new(completions::paths))]
        path: PathBuf,
        /// The event's name.
        #[arg(default_value = "IN_CLOSE_WRITE")]
        event: String,
        #[command(flatten)]
        printed: Printed,
    },
    /// Handle everything below paths as if it were new; without a path, below all watches.
    Rescan {
        /// Directories or files in a watch.
        #[arg(add = ArgValueCompleter::new(completions::paths))]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        printed: Printed,
    },
    /// Wait until the daemon has read every change made before.
    Sync {
        /// Give up after so many seconds, with status 1.
        #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
        timeout: Option<f64>,
        /// Also wait until no task waits, runs, is queued or will be tried again.
        #[arg(long)]
        idle: bool,
        #[command(flatten)]
        printed: Printed,
    },
    /// Apply the changed configuration; print what changed and what -t warns of, or what is wrong.
    Reload(Printed),
    /// Print events as they come.
    Events {
        /// Also print what becomes of tasks.
        #[arg(long)]
        tasks: bool,
        /// Only paths that match; `*` also stands for slashes.
        #[arg(long, value_name = "GLOB")]
        path: Option<OsString>,
        #[command(flatten)]
        printed: Printed,
    },
    /// Show a live view of what the daemon does.
    Top(Printed),
    /// Print metrics in the text format of Prometheus.
    Metrics(Printed),
    /// Check limits, rights and configuration, and print how to mend what is wrong; needs no daemon.
    Doctor {
        /// Config file, executed as Python; default: /etc/pyinotifyd/config.py.
        #[arg(short, long, value_name = "FILE", add = ArgValueCompleter::new(completions::config_files))]
        config: Vec<PathBuf>,
        /// Interpreter that executes the config file.
        #[arg(long, value_name = "PATH", add = ArgValueCompleter::new(completions::paths))]
        python: Option<PathBuf>,
        /// Directory that keeps tasks.
        #[arg(long, value_name = "DIR", add = ArgValueCompleter::new(completions::paths))]
        state: Option<PathBuf>,
        #[command(flatten)]
        printed: Printed,
    },
}

/// Which daemon, and how to print.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Printed {
    /// The daemon's control socket.
    ///
    /// Default: $PYINOTIFYD_CONTROL, $RUNTIME_DIRECTORY/control.sock, /run/pyinotifyd/control.sock,
    /// $XDG_RUNTIME_DIR/pyinotifyd/control.sock: the first one that is there.
    #[arg(long, value_name = "PATH", add = ArgValueCompleter::new(completions::paths))]
    pub(crate) control: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which rows of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Filter {
    /// Only tasks of this scheduler.
    #[arg(long, value_name = "NAME")]
    pub(crate) scheduler: Option<String>,
    /// Only tasks whose path matches; `*` also stands for slashes.
    #[arg(long, value_name = "GLOB")]
    pub(crate) path: Option<OsString>,
    /// At most so many rows.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
}

/// Which tasks a change is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Change {
    /// Ids of tasks, or their first 4 characters or more.
    #[arg(
        value_parser = id_prefix,
        required_unless_present_any = ["scheduler", "path", "all"],
        conflicts_with_all = ["scheduler", "path", "all"]
    )]
    pub(crate) ids: Vec<String>,
    /// All tasks of this scheduler.
    #[arg(long, value_name = "NAME")]
    pub(crate) scheduler: Option<String>,
    /// All tasks whose path matches; `*` also stands for slashes.
    #[arg(long, value_name = "GLOB")]
    pub(crate) path: Option<OsString>,
    /// All tasks.
    #[arg(long, conflicts_with_all = ["scheduler", "path"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) printed: Printed,
}

/// Which schedulers a change is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Schedulers {
    /// Names of schedulers; all without a name.
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) printed: Printed,
}

impl Ask {
    /// Which daemon, and how to print.
    pub(crate) fn printed(&self) -> &Printed {
        match self {
            Ask::Status(printed)
            | Ask::Reload(printed)
            | Ask::Top(printed)
            | Ask::Metrics(printed)
            | Ask::Tasks { printed, .. }
            | Ask::Failed { printed, .. }
            | Ask::History { printed, .. }
            | Ask::Send { printed, .. }
            | Ask::Rescan { printed, .. }
            | Ask::Undo { printed, .. }
            | Ask::Sync { printed, .. }
            | Ask::Doctor { printed, .. }
            | Ask::Events { printed, .. } => printed,
            Ask::Run(change) | Ask::Cancel(change) | Ask::Retry(change) | Ask::Forget(change) => {
                &change.printed
            }
            Ask::Pause(schedulers) | Ask::Resume(schedulers) => &schedulers.printed,
        }
    }
}

/// Reads a span as people write it.
fn span(text: &str) -> Result<f64, String> {
    span_s(text).ok_or_else(|| "expected a time such as 90s, 10m, 1h or 2d".to_owned())
}

/// Reads a length of time in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| "expected a number of seconds, 0 or more".to_owned())
}

/// The words of a command line as bytes.
pub(crate) fn bytes(path: PathBuf) -> Vec<u8> {
    std::os::unix::ffi::OsStringExt::into_vec(OsString::from(path))
}
