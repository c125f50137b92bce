//! Errors that end a call.

use rustix::io::Errno;

/// Why a watcher can't be made or a watch can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user has no inotify instance left.
    #[error(
        "cannot start watching: limit of inotify instances reached ({sysctl} = {value}); close programs that use \
         inotify or raise it with 'sysctl {sysctl}=N'"
    )]
    InstanceLimit {
        /// Name of the limit.
        sysctl: &'static str,
        /// Its value.
        value: u64,
    },
    /// The process has no descriptor left.
    #[error(
        "cannot start watching: too many open files; raise the limit (ulimit -n, LimitNOFILE= of a systemd unit)"
    )]
    DescriptorLimit,
    /// inotify_init1(2) failed for another reason.
    #[error("cannot start watching: inotify_init1: {0}")]
    Init(#[source] Errno),
    /// More roots, or combinations of roots, than the tables can number.
    #[error("cannot watch '{path}': more than {max} paths", path = String::from_utf8_lossy(path))]
    TooManyRoots {
        /// The path that is one too many.
        path: Vec<u8>,
        /// How many are possible.
        max: usize,
    },
}
