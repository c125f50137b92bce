//! The state: tasks that survive the end of the daemon, tasks that failed, and what was done lately.
//!
//! Owns one directory with an SQLite database, its schema, and the thread that writes it. Knows rows and nothing else:
//! what a task means, when it runs and what a restart does with it is decided by the program. Never on the way of an
//! event.
//!
//! # Theory of operation
//!
//! [`Store::open`] makes the directory if it is missing, checks who may write there, and takes a lock that only one
//! daemon can hold. It opens the database, brings its schema up to date, moves a damaged one aside, and reads all that
//! an earlier daemon kept. [`Ledger::start`] then hands the store to a thread. A disk that is full or read-only keeps
//! nobody from starting: each batch tries again.
//!
//! The loop collects what has changed and gives it to [`Ledger::commit`] as one [`Batch`], at most one at a time: while
//! a batch is being written, the loop goes on to mark rows as changed, and writes each row once, as it is then. So a
//! disk that is slow or frozen costs the loop nothing but marks. A batch is one transaction (`synchronous=FULL`,
//! write-ahead log): after [`Report::Committed`] it survives a power cut.
//!
//! An error that may pass (disk full, read-only, locked by somebody's shell) is reported once; the thread keeps the
//! batch and tries again after a pause that doubles up to [`RETRY_MAX`]. A database that turns out to be damaged is
//! moved aside, an empty one takes its place, and [`Report::StartedAfresh`] asks the loop to give everything again. So
//! it is with one that somebody removed, emptied or cut, or whose log somebody cut. Before each batch its files are
//! looked at, since SQLite does not notice. A log that was removed is open still: what it has is written into the
//! database. One that cannot be read at the start is read as soon as it can be.
//!
//! # Limits
//!
//! | what | limit | at the limit |
//! |---|---|---|
//! | batches on their way | one | the loop waits with the next one; it does not block |
//! | rows of history | [`Options::history_max`] | the oldest are deleted in the same transaction |
//! | pages that SQLite caches | 512 KiB | read again from the file |
//! | wait for a lock that another program holds on the database | 2 s | as a disk that is full |

mod directory;
mod files;
mod glob;
mod reader;
mod rows;
mod schema;
mod store;
mod writer;

pub use directory::ClaimError;
pub use glob::Glob;
pub use reader::{Filter, Page, Reader};
pub use rows::{Batch, Ended, Id, Outcome, Process, Subject, Task, TaskState, Told};
pub use store::{Damage, OpenError, Opened, Restored, Store};
pub use writer::{Ledger, Options, RETRY_MAX, Report};
