//! The database: opened, mended, read as a whole, written a batch at a time.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior, params};

use crate::rows::{Batch, Checkpoint, Ended, Handled, Id, Kept, Outcome, Process, Subject, Task, TaskState};
use crate::{Directory, schema};

/// Name of the database in the state directory.
pub(crate) const DATABASE: &str = "state.db";

/// How long a lock of another program on the database is waited for, by the thread that writes.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The database of a state directory that is ours.
#[derive(Debug)]
pub struct Store {
    /// Absent after a damaged database was moved aside.
    connection: Option<Connection>,
    /// Holds the lock.
    directory: Directory,
}

/// A database that could not be used, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What SQLite said.
    pub error: String,
    /// Its new name.
    pub moved_to: PathBuf,
}

/// Why a database cannot be used, although it is not damaged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer program wrote it.
    #[error(
        "the state '{}' has version {found}, this program knows {known}; use the newer program, or another directory",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that we know.
        known: u32,
    },
    /// SQLite, or the disk.
    #[error("cannot open the state '{}': {source}", path.display())]
    Failed {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

impl OpenError {
    fn into_cause(self) -> rusqlite::Error {
        match self {
            OpenError::Failed { source, .. } => source,
            newer @ OpenError::Newer { .. } => rusqlite::Error::ToSqlConversionFailure(Box::new(newer)),
        }
    }
}

/// All that an earlier daemon kept.
#[derive(Debug, Default, PartialEq)]
pub struct Restored {
    /// Tasks that had not ended, in the order in which they are due.
    pub tasks: Vec<Task>,
    /// Schedulers that are paused: file, name.
    pub paused: Vec<(String, String)>,
    /// The last checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// How many tasks stand as failed.
    pub failed: u32,
}

impl Store {
    /// Opens the database of a directory, or makes it. A damaged one is moved aside.
    ///
    /// # Errors
    /// It is newer than this program, or cannot be opened although it is not damaged.
    pub fn open(directory: Directory) -> Result<(Store, Option<Damage>), OpenError> {
        let path = directory.path().join(DATABASE);
        match connect(&path) {
            Ok(connection) => Ok((Store { connection: Some(connection), directory }, None)),
            Err(OpenError::Failed { source, .. }) if is_damage(&source) => {
                let damage = move_aside(&path, source.to_string())
                    .map_err(|_| OpenError::Failed { path: path.clone(), source })?;
                Ok((Store { connection: Some(connect(&path)?), directory }, Some(damage)))
            }
            Err(error) => Err(error),
        }
    }

    /// Moves the database aside that turned out to be damaged; an empty one takes its place with the next batch.
    pub(crate) fn move_aside(&mut self, error: &rusqlite::Error) -> std::io::Result<Damage> {
        // Before the move: SQLite removes the log by its name when it closes a database.
        self.connection = None;
        move_aside(&self.path(), error.to_string())
    }

    /// Where the database is.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join(DATABASE)
    }

    /// Reads everything that an earlier daemon kept.
    ///
    /// # Errors
    /// As SQLite; damage is reported by [`Store::open`] already, as far as it can be seen.
    pub fn restore(&self) -> rusqlite::Result<Restored> {
        let Some(connection) = &self.connection else { return Ok(Restored::default()) };
        let mut tasks = connection.prepare("SELECT * FROM task ORDER BY due, first")?;
        let tasks = tasks.query_map([], task_of)?.collect::<rusqlite::Result<_>>()?;
        let mut paused = connection.prepare("SELECT file, scheduler FROM paused")?;
        let paused = paused.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let paused = paused.collect::<rusqlite::Result<_>>()?;
        let failed =
            connection.query_row("SELECT count(*) FROM ended WHERE open = 1", [], |row| row.get(0))?;
        Ok(Restored { tasks, paused, checkpoint: checkpoint(connection)?, failed })
    }

    /// Writes a batch as one transaction, and keeps the history within its limit.
    pub(crate) fn write(&mut self, batch: &Batch, history_max: u32) -> rusqlite::Result<()> {
        let path = self.path();
        let connection = match &mut self.connection {
            Some(connection) => connection,
            missing => missing.insert(connect(&path).map_err(OpenError::into_cause)?),
        };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut history_changes = false;
        for change in &batch.changes {
            match change {
                Kept::Task(task) => put_task(&transaction, task)?,
                Kept::Gone(id) => by_id(&transaction, "DELETE FROM task WHERE id = ?1", *id)?,
                Kept::Ended(ended) => {
                    by_id(&transaction, "DELETE FROM task WHERE id = ?1", ended.id)?;
                    if history_max > 0 || ended.result == Outcome::Failed {
                        put_ended(&transaction, ended)?;
                        history_changes = true;
                    }
                }
                Kept::NotFailed(id) => {
                    by_id(&transaction, "UPDATE ended SET open = 0 WHERE id = ?1 AND open = 1", *id)?;
                    history_changes = true;
                }
                Kept::Paused(file, scheduler, true) => {
                    let sql = "INSERT OR IGNORE INTO paused VALUES (?1, ?2)";
                    transaction.prepare_cached(sql)?.execute(params![file, scheduler])?;
                }
                Kept::Paused(file, scheduler, false) => {
                    let sql = "DELETE FROM paused WHERE file = ?1 AND scheduler = ?2";
                    transaction.prepare_cached(sql)?.execute(params![file, scheduler])?;
                }
            }
        }
        if history_changes {
            // AUTOINCREMENT numbers only grow, so that this is a range at the start of the table's partial index.
            let sql = "DELETE FROM ended WHERE open = 0 AND number <= (SELECT max(number) FROM ended) - ?1";
            transaction.prepare_cached(sql)?.execute(params![history_max])?;
        }
        if let Some(checkpoint) = &batch.checkpoint {
            put_checkpoint(&transaction, checkpoint)?;
        }
        transaction.commit()
    }
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<Option<Checkpoint>> {
    let mut at = connection.prepare("SELECT at FROM checkpoint")?;
    let Some(at_s) = at.query_map([], |row| row.get(0))?.next().transpose()? else { return Ok(None) };
    let mut handled = connection.prepare("SELECT path, ctime FROM handled")?;
    let entry = |row: &Row<'_>| Ok(Handled { path: bytes(row, "path")?, ctime_ns: row.get("ctime")? });
    let handled = handled.query_map([], entry)?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(Checkpoint { at_s, handled }))
}

/// Whether an error says that the file holds no sound database.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        // A row of ours that does not hold what we wrote: the schema or a value was damaged, or somebody edited it.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::SqlInputError { .. } => true,
        _ => false,
    }
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Failed { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // SQLite makes its files with the umask, which may let others read what is watched.
    let made = std::os::unix::fs::OpenOptionsExt::mode(&mut std::fs::OpenOptions::new(), 0o600)
        .append(true)
        .create(true)
        .open(path);
    made.map_err(|error| failed(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    prepare(&mut connection, path)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Failed { path: path.to_owned(), source };
    connection.busy_timeout(LOCK_WAIT).map_err(failed)?;
    let found = schema::version(connection).map_err(failed)?;
    if found > schema::VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: schema::VERSION });
    }
    let setup = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -512;
        PRAGMA journal_size_limit = 1048576; PRAGMA temp_store = MEMORY;";
    connection.execute_batch(setup).map_err(failed)?;
    check(connection).map_err(failed)?;
    if found < schema::VERSION {
        let transaction = connection.transaction().map_err(failed)?;
        schema::migrate(&transaction, found).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

/// Looks at every page. Damage that is found later would cost the tasks that are written meanwhile.
fn check(connection: &Connection) -> rusqlite::Result<()> {
    let answer: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if answer == "ok" {
        return Ok(());
    }
    let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(failure, Some(answer)))
}

/// Renames a database with what belongs to it to `state.db.damaged-TIME`, a free name.
fn move_aside(path: &Path, error: String) -> std::io::Result<Damage> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = |suffix: &str, number: u64| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}{suffix}"));
        PathBuf::from(name)
    };
    let mut number = now_s;
    while name("", number).exists() {
        number += 1;
    }
    let moved_to = name("", number);
    std::fs::rename(path, &moved_to)?;
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        match std::fs::rename(beside, name(suffix, number)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Damage { error, moved_to })
}

/// A path: text where it is UTF-8, so that people can search it, else a blob.
struct PathValue<'a>(&'a [u8]);

impl ToSql for PathValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match std::str::from_utf8(self.0) {
            Ok(_) => ValueRef::Text(self.0),
            Err(_) => ValueRef::Blob(self.0),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// Reads what [`PathValue`] wrote.
pub(crate) fn bytes(row: &Row<'_>, column: &str) -> rusqlite::Result<Vec<u8>> {
    let value = row.get_ref(column)?;
    value
        .as_bytes()
        .map(<[u8]>::to_vec)
        .map_err(|_| rusqlite::Error::InvalidColumnType(0, column.to_owned(), value.data_type()))
}

fn optional_bytes(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    if row.get_ref(column)? == ValueRef::Null { Ok(None) } else { bytes(row, column).map(Some) }
}

fn put_task(connection: &Connection, task: &Task) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO task VALUES
        (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)";
    let subject = &task.subject;
    connection.prepare_cached(sql)?.execute(params![
        task.id.to_string(),
        subject.file,
        subject.scheduler,
        subject.kind,
        subject.digest,
        subject.mask,
        subject.is_dir,
        subject.synthetic,
        PathValue(&subject.path),
        subject.name_len,
        subject.root_len,
        subject.src_path.as_deref().map(PathValue),
        subject.given_path.as_deref().map(PathValue),
        subject.detail,
        task.state.name(),
        task.attempt,
        task.first_s,
        task.since_s,
        task.due_s,
        task.error,
        task.process.map(|process| process.group),
        task.process.map(|process| process.started_ticks as i64),
    ])?;
    Ok(())
}

fn put_ended(connection: &Connection, ended: &Ended) -> rusqlite::Result<()> {
    let sql = "INSERT INTO ended VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
        ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)";
    let subject = &ended.subject;
    connection.prepare_cached(sql)?.execute(params![
        ended.id.to_string(),
        subject.file,
        subject.scheduler,
        subject.kind,
        subject.digest,
        subject.mask,
        subject.is_dir,
        subject.synthetic,
        PathValue(&subject.path),
        subject.name_len,
        subject.root_len,
        subject.src_path.as_deref().map(PathValue),
        subject.given_path.as_deref().map(PathValue),
        subject.detail,
        ended.result.name(),
        ended.result == Outcome::Failed,
        ended.error,
        ended.exit_status,
        ended.signal,
        ended.output.as_deref().map(PathValue),
        ended.attempts,
        ended.first_s,
        ended.started_s,
        ended.ended_s,
        ended.done,
    ])?;
    Ok(())
}

fn by_id(connection: &Connection, sql: &str, id: Id) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([id.to_string()])?;
    Ok(())
}

fn put_checkpoint(connection: &Connection, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    connection.execute_batch("DELETE FROM checkpoint; DELETE FROM handled")?;
    connection.prepare_cached("INSERT INTO checkpoint VALUES (?1)")?.execute([checkpoint.at_s])?;
    let mut handled = connection.prepare_cached("INSERT OR REPLACE INTO handled VALUES (?1, ?2)")?;
    for entry in &checkpoint.handled {
        handled.execute(params![PathValue(&entry.path), entry.ctime_ns])?;
    }
    Ok(())
}

/// Reads an id, which stands in the column of that name.
pub(crate) fn id_of(row: &Row<'_>) -> rusqlite::Result<Id> {
    let text: String = row.get("id")?;
    Id::parse(&text).ok_or_else(|| unknown_word("id", &text))
}

/// Reads the columns that tasks and ended tasks share.
pub(crate) fn subject_of(row: &Row<'_>) -> rusqlite::Result<Subject> {
    Ok(Subject {
        file: row.get("file")?,
        scheduler: row.get("scheduler")?,
        kind: row.get("kind")?,
        digest: row.get("digest")?,
        mask: row.get("mask")?,
        is_dir: row.get("is_dir")?,
        synthetic: row.get("synthetic")?,
        path: bytes(row, "path")?,
        name_len: row.get("name_len")?,
        root_len: row.get("root_len")?,
        src_path: optional_bytes(row, "src_path")?,
        given_path: optional_bytes(row, "given_path")?,
        detail: row.get("detail")?,
    })
}

fn task_of(row: &Row<'_>) -> rusqlite::Result<Task> {
    let state: String = row.get("state")?;
    let group: Option<i32> = row.get("process_group")?;
    let started: Option<i64> = row.get("process_started")?;
    Ok(Task {
        id: id_of(row)?,
        subject: subject_of(row)?,
        state: TaskState::parse(&state).ok_or_else(|| unknown_word("state", &state))?,
        attempt: row.get("attempt")?,
        first_s: row.get("first")?,
        since_s: row.get("since")?,
        due_s: row.get("due")?,
        error: row.get("error")?,
        process: group.zip(started).map(|(group, ticks)| Process { group, started_ticks: ticks as u64 }),
    })
}

/// Reads a row of ended tasks.
pub(crate) fn ended_of(row: &Row<'_>) -> rusqlite::Result<Ended> {
    let result: String = row.get("result")?;
    Ok(Ended {
        id: id_of(row)?,
        subject: subject_of(row)?,
        result: Outcome::parse(&result).ok_or_else(|| unknown_word("result", &result))?,
        error: row.get("error")?,
        exit_status: row.get("exit_status")?,
        signal: row.get("signal")?,
        output: optional_bytes(row, "output")?,
        attempts: row.get("attempts")?,
        first_s: row.get("first")?,
        started_s: row.get("started")?,
        ended_s: row.get("ended")?,
        done: row.get("done")?,
    })
}

/// A word that no version of this program wrote into that column.
fn unknown_word(column: &str, word: &str) -> rusqlite::Error {
    let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(failure, Some(format!("column {column} holds '{word}'")))
}
