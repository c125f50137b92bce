//! What tasks do outside Python: shell commands and file rules.
//!
//! Both are effects: they are started by the loop, run beside it, and report their end. Neither knows the engine or the
//! host, nor writes to the log.

pub(crate) mod account;
pub(crate) mod arguments;
pub(crate) mod claims;
pub(crate) mod code;
pub(crate) mod command;
pub(crate) mod descent;
pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod input;
pub(crate) mod missing;
pub(crate) mod misspelt;
pub(crate) mod occasion;
pub(crate) mod output;
mod queue;
pub(crate) mod settle;
pub(crate) mod sweep;
pub(crate) mod template;
pub(crate) mod trash;
pub(crate) mod undo;

use std::collections::BTreeSet;

/// What comes back from the lanes: a closed list.
#[derive(Debug)]
pub(crate) enum Report {
    /// Of the databases of users and groups.
    Account(account::Answer),
    /// Of a file rule.
    File(file::Report),
    /// Of a turn of the watcher on a filesystem that may not answer.
    Found(watcher::Found),
    /// Of a look at paths.
    Looked(Vec<missing::Looked>),
    /// Of a check of the configuration: warnings.
    Checked(Vec<String>),
    /// Of the config test that somebody with this number waits for: warnings.
    Examined(u64, Vec<String>),
    /// Of the tasks in the state that a question with this number is about.
    Read(u64, Result<Vec<ledger::Page>, String>),
    /// Of the undo of a task, with what was moved.
    Undone(u64, Vec<String>, Result<(), undo::Refused>),
    /// Of a look at the path of a question with this number.
    Stands(u64, missing::Standing),
    /// Of a look whether a file has settled.
    Settled(settle::Answer),
    /// Of the end of commands that outlived an earlier daemon: their process groups.
    Leftovers(BTreeSet<i32>),
    /// Of the sweep of a directory.
    Swept(sweep::Swept),
    /// Of a trash.
    Emptied(trash::Emptied),
}

impl Report {
    /// Whether it says that something is not where it was, which may be news of a rename that is not read yet.
    pub(crate) fn is_doubtful(&self) -> bool {
        matches!(
            self,
            Report::File(file::Report::Ended { result: Err(file::Failure::Error(_)), .. })
                | Report::Settled(settle::Answer { verdict: settle::Verdict::Vanished, .. })
                | Report::Looked(_)
        )
    }
}

/// The lanes of this program. A worker keeps the last directories from one file to the next.
pub(crate) type Lanes = crate::lane::Lanes<Report, files::Held>;
