//! The database: opened, mended, read as a whole, written a batch at a time.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{
    CachedStatement, Connection, ErrorCode, MAIN_DB, OpenFlags, Row, Statement, TransactionBehavior, params,
};
use rustix::fs::OFlags;

use crate::directory::{ClaimError, Directory, plain};
use crate::files::{Fate, Files};
use crate::rows::{Batch, Ended, Id, Outcome, Process, Subject, Task, TaskState, Told};
use crate::schema;

/// Name of the database in the state directory.
pub(crate) const DATABASE: &str = "state.db";

/// How long a lock of another program on the database is waited for, by the thread that writes.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A database that is closed keeps its log beside it.
pub(crate) const KEEP_LOG: bool = true;

/// The bits of a mask that say which event it is, inotify(7).
const EVENTS: u32 = 0xefff;

/// The database of a state directory.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// The directory's lock; absent until the directory can be used.
    directory: Option<Directory>,
    /// Absent until the database can be used, and after a damaged one was moved aside.
    connection: Option<Connection>,
    /// Its files; absent with it.
    files: Option<Files>,
    /// What an earlier daemon kept was read.
    is_read: bool,
}

/// A store, and what was found in it.
#[derive(Debug)]
pub struct Opened {
    /// The store. Where there is trouble, each batch tries to open it again.
    pub store: Store,
    /// What an earlier daemon kept; nothing where there is trouble.
    pub restored: Restored,
    /// A damaged database was moved aside.
    pub damage: Option<Damage>,
    /// Why nothing can be kept now, which may pass: the disk is full, read-only or fails.
    pub trouble: Option<String>,
}

/// A database that could not be used, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What SQLite said.
    pub error: String,
    /// Its new name.
    pub moved_to: PathBuf,
}

/// Why a state directory cannot be used, and will not be before somebody changes something.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory.
    #[error(transparent)]
    Claim(#[from] ClaimError),
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
}

/// Why a database cannot be opened.
enum ConnectError {
    /// A newer program wrote it; its version.
    Newer(u32),
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for ConnectError {
    fn from(error: rusqlite::Error) -> ConnectError {
        ConnectError::Failed(error)
    }
}

/// All that an earlier daemon kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// Tasks that had not ended, in the order in which they are due; those whose first event counts in that of it.
    pub tasks: Vec<Task>,
    /// Schedulers that are paused: file, name.
    pub paused: Vec<(String, String)>,
    /// The last checkpoint, seconds since 1970.
    pub checkpoint_s: Option<f64>,
    /// What was told before that, as [`Batch::told`] says.
    pub told: Vec<Told>,
    /// Tasks that stand as failed, with the file and the name of their schedulers.
    pub failed: Vec<(Id, Arc<str>, Arc<str>)>,
}

impl Store {
    /// Takes a directory, opens its database or makes it, and reads all that is kept there. A damaged one is moved
    /// aside.
    ///
    /// # Errors
    /// What does not pass by itself.
    pub fn open(path: &Path) -> Result<Opened, OpenError> {
        let mut store =
            Store { path: path.to_owned(), directory: None, connection: None, files: None, is_read: false };
        let mut damage = None;
        let trouble = |store, damage, error: String| {
            Ok(Opened { store, restored: Restored::default(), damage, trouble: Some(error) })
        };
        match Directory::claim(path) {
            Ok(directory) => store.directory = Some(directory),
            Err(error) if error.may_pass() => return trouble(store, damage, error.to_string()),
            Err(error) => return Err(error.into()),
        }
        loop {
            let error = match store.connect().and_then(|()| Ok(store.restore()?)) {
                Ok(restored) => {
                    store.is_read = true;
                    return Ok(Opened { store, restored, damage, trouble: None });
                }
                Err(ConnectError::Newer(found)) => {
                    return Err(OpenError::Newer { path: store.database(), found, known: schema::VERSION });
                }
                Err(ConnectError::Failed(error)) => error,
            };
            if !is_damage(&error) || damage.is_some() {
                return trouble(store, damage, said(&error));
            }
            match store.move_aside(&error) {
                Ok(moved) => damage = Some(moved),
                Err(_) => return trouble(store, damage, said(&error)),
            }
        }
    }

    /// Makes what is absent.
    fn connect(&mut self) -> Result<(), ConnectError> {
        if self.directory.is_none() {
            let claimed = Directory::claim(&self.path);
            self.directory = Some(claimed.map_err(|error| other(Box::new(error)))?);
        }
        if self.connection.is_none() {
            let path = self.database();
            self.use_connection(connect(&path)?)?;
        }
        Ok(())
    }

    fn use_connection(&mut self, connection: Connection) -> rusqlite::Result<()> {
        self.files = Some(Files::of(&self.database(), &connection)?);
        self.connection = Some(connection);
        Ok(())
    }

    /// Looks whether somebody removed the database, its log, or put something else into the place of one. Of a database
    /// that is gone it lets go: from here on the one that is there is used, or a new one. What a lost log had is
    /// written into the database, which then has a new one.
    ///
    /// # Errors
    /// One that says damage if a file was cut. Else what a lost log had is not on the disk yet, and is not lost.
    pub(crate) fn look_after(&mut self) -> rusqlite::Result<Fate> {
        let (Some(connection), Some(files)) = (&self.connection, &mut self.files) else {
            return Ok(Fate::Whole);
        };
        let fate = match files.look(connection)? {
            Fate::WithoutLog => self.begin_another_log()?,
            Fate::Gone => {
                if !files.has_its_log() {
                    // The log that is there is that of the other one. SQLite removes it by its name.
                    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, KEEP_LOG)?;
                }
                Fate::Gone
            }
            Fate::Whole => Fate::Whole,
        };
        if fate == Fate::Gone {
            (self.connection, self.files, self.directory, self.is_read) = (None, None, None, false);
        }
        Ok(fate)
    }

    /// Writes what the log has into the database, and opens that again, which begins a log at its place.
    fn begin_another_log(&mut self) -> rusqlite::Result<Fate> {
        let (Some(connection), Some(files)) = (&self.connection, &self.files) else { return Ok(Fate::Whole) };
        let checkpoint = "PRAGMA main.wal_checkpoint(TRUNCATE)";
        let is_busy: bool = connection.query_row(checkpoint, [], |row| row.get(0)).map_err(cut)?;
        if is_busy {
            return Err(other("its log was removed, and another program reads what was in it".into()));
        }
        let before = files.database;
        (self.connection, self.files) = (None, None);
        // Not by `connect`: its look at the file takes the locks from whoever reads it in this process, see fcntl(2).
        let opened = resolved(&self.database()).map(|path| open(&path).map_err(failed));
        let connection = match opened {
            Ok(Err(error)) if error.sqlite_error_code() != Some(ErrorCode::CannotOpen) => return Err(error),
            Ok(Ok(connection)) => connection,
            Ok(Err(_)) | Err(_) => return Ok(Fate::Gone),
        };
        self.use_connection(connection)?;
        let is_same = self.files.as_ref().is_some_and(|files| files.database == before);
        Ok(if is_same { Fate::WithoutLog } else { Fate::Gone })
    }

    /// What an earlier daemon kept, if it could not be read before.
    pub(crate) fn read_late(&mut self) -> rusqlite::Result<Option<Restored>> {
        if self.is_read {
            return Ok(None);
        }
        self.connect().map_err(failed)?;
        let restored = self.restore()?;
        self.is_read = true;
        Ok((!restored.is_empty()).then_some(restored))
    }

    /// Moves the database aside that turned out to be damaged; an empty one takes its place with the next batch.
    pub(crate) fn move_aside(&mut self, error: &rusqlite::Error) -> std::io::Result<Damage> {
        // Before the move: SQLite removes the log by its name when it closes a database.
        (self.connection, self.files, self.is_read) = (None, None, true);
        move_aside(&self.database(), said(error))
    }

    /// Where the database is.
    fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Reads everything that an earlier daemon kept.
    fn restore(&self) -> rusqlite::Result<Restored> {
        let Some(connection) = &self.connection else { return Ok(Restored::default()) };
        let mut tasks = connection.prepare(&select_tasks())?;
        let mut words = Words::default();
        let tasks = tasks.query_map([], |row| task_of(row, &mut words))?;
        let mut tasks = tasks.collect::<rusqlite::Result<Vec<_>>>()?;
        // SQLite would sort copies of all rows.
        tasks.sort_by(|one, other| {
            let place = |task: &Task| task.waits_s.unwrap_or(task.due_s);
            place(one).total_cmp(&place(other)).then(one.first_s.total_cmp(&other.first_s))
        });
        let mut paused = connection.prepare("SELECT file, scheduler FROM paused")?;
        let paused = paused.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let paused = paused.collect::<rusqlite::Result<_>>()?;
        let mut failed = connection.prepare("SELECT id, file, scheduler FROM ended WHERE open = 1")?;
        let failed = failed.query_map([], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.word(Id::parse)?, words.get(&mut columns)?, words.get(&mut columns)?))
        })?;
        let failed = failed.collect::<rusqlite::Result<_>>()?;
        let mut checkpoint = connection.prepare("SELECT at FROM checkpoint")?;
        let checkpoint_s = checkpoint.query_map([], |row| row.get(0))?.next().transpose()?;
        let mut told = connection.prepare("SELECT path, inode, ctime FROM told")?;
        let told = told.query_map([], told_of)?.collect::<rusqlite::Result<_>>()?;
        Ok(Restored { tasks, paused, checkpoint_s, told, failed })
    }

    /// Writes a batch as one transaction, and keeps the history within its limit.
    pub(crate) fn write(&mut self, batch: &Batch, history_max: u32) -> rusqlite::Result<()> {
        self.connect().map_err(failed)?;
        let connection = self.connection.as_mut().expect("it is connected");
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write(&transaction, batch, history_max)?;
        transaction.commit()
    }
}

impl Restored {
    fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.paused.is_empty() && self.failed.is_empty()
    }
}

fn failed(error: ConnectError) -> rusqlite::Error {
    match error {
        ConnectError::Failed(error) => error,
        ConnectError::Newer(version) => other(format!("it has version {version}").into()),
    }
}

/// An error that is not SQLite's, among those that are.
fn other(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error)
}

/// What people are told of an error.
pub(crate) fn said(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::ToSqlConversionFailure(error) => error.to_string(),
        // Without the statement, which is ours.
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    }
}

fn write(connection: &Connection, batch: &Batch, history_max: u32) -> rusqlite::Result<()> {
    for id in &batch.not_failed {
        by_id(connection, NOT_FAILED, *id)?;
    }
    for id in &batch.gone {
        by_id(connection, "DELETE FROM task WHERE id = ?1", *id)?;
    }
    let mut put = putting(connection, "task", TASK)?;
    for task in &batch.tasks {
        put_task(&mut put, task)?;
    }
    let mut put = putting(connection, "ended", ENDED)?;
    for ended in &batch.ended {
        if ended.result == Outcome::Failed {
            // It may have failed before, and have run again for an event.
            by_id(connection, NOT_FAILED, ended.id)?;
        }
        if history_max > 0 || ended.result == Outcome::Failed {
            put_ended(&mut put, ended)?;
        }
    }
    for id in &batch.closed {
        by_id(connection, NOT_FAILED, *id)?;
    }
    for (id, output) in &batch.outputs {
        let sql = "UPDATE ended SET output = ?2 WHERE number = (SELECT max(number) FROM ended WHERE id = ?1)";
        connection.prepare_cached(sql)?.execute(params![id.to_string(), PathValue(output)])?;
    }
    for (id, deed) in &batch.deeds {
        let sql = "UPDATE ended SET done = ?2 WHERE number = (SELECT max(number) FROM ended WHERE id = ?1)";
        connection.prepare_cached(sql)?.execute(params![id.to_string(), deed])?;
    }
    for (id, before, after) in &batch.done {
        let sql = "UPDATE ended SET done = ?3 WHERE id = ?1 AND done = ?2";
        connection.prepare_cached(sql)?.execute(params![id.to_string(), before, after])?;
    }
    for (file, scheduler, is_paused) in &batch.paused {
        let sql = if *is_paused {
            "INSERT OR IGNORE INTO paused VALUES (?1, ?2)"
        } else {
            "DELETE FROM paused WHERE file = ?1 AND scheduler = ?2"
        };
        connection.prepare_cached(sql)?.execute(params![file, scheduler])?;
    }
    if !batch.ended.is_empty() || !batch.not_failed.is_empty() {
        // AUTOINCREMENT numbers only grow, so that this is a range at the start of the table's partial index.
        let sql = "DELETE FROM ended WHERE open = 0 AND number <= (SELECT max(number) FROM ended) - ?1";
        connection.prepare_cached(sql)?.execute(params![history_max])?;
    }
    if let Some(checkpoint_s) = batch.checkpoint_s {
        connection.execute_batch("DELETE FROM checkpoint; DELETE FROM told")?;
        connection.prepare_cached("INSERT INTO checkpoint VALUES (?1)")?.execute([checkpoint_s])?;
        let mut put = connection.prepare_cached("INSERT INTO told VALUES (?1, ?2, ?3)")?;
        for told in &batch.told {
            put.execute(params![PathValue(&told.path), told.inode as i64, told.ctime_ns])?;
        }
    }
    Ok(())
}

/// Whether an error says that the file holds no sound database.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            // Our statements have no errors: what SQLite does not understand is the file.
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || failure.extended_code == rusqlite::ffi::SQLITE_ERROR
        }
        // A row of ours that does not hold what we wrote: the schema or a value was damaged, or somebody edited it.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::SqlInputError { .. } => true,
        _ => false,
    }
}

/// Of a log: what SQLite knows to be in it is not there.
fn cut(error: rusqlite::Error) -> rusqlite::Error {
    match error.sqlite_extended_error_code() {
        Some(rusqlite::ffi::SQLITE_IOERR_SHORT_READ) => {
            damaged("somebody has cut its log, state.db-wal".to_owned())
        }
        Some(_) | None => error,
    }
}

/// Makes the database if it is missing, and opens it.
fn connect(path: &Path) -> Result<Connection, ConnectError> {
    // SQLite makes its files with the umask, which may let others read what is watched.
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    let cannot = |error| other(format!("cannot open '{}': {}", path.display(), plain(&error)).into());
    let path = resolved(path).map_err(cannot)?;
    options.open(&path).map_err(cannot)?;
    open(&path)
}

/// The way to the directory may have links, as that of a service with DynamicUser=. Our files are none, and SQLite
/// takes NOFOLLOW for the whole path.
fn resolved(path: &Path) -> std::io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(directory), Some(name)) => Ok(directory.canonicalize()?.join(name)),
        _ => Ok(path.to_owned()),
    }
}

/// Opens a database that is there and can be written.
fn open(path: &Path) -> Result<Connection, ConnectError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    prepare(&mut connection)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection) -> Result<(), ConnectError> {
    connection.busy_timeout(LOCK_WAIT)?;
    // Until it is known whose it is: closing a database writes its log into it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, KEEP_LOG)?;
    if schema::is_foreign(connection)? {
        return Err(damaged("it is the database of another program".to_owned()).into());
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !KEEP_LOG)?;
    let found = schema::version(connection)?;
    if found > schema::VERSION {
        return Err(ConnectError::Newer(found));
    }
    // The file itself was opened for writing a moment ago.
    if connection.is_readonly(MAIN_DB)? {
        return Err(damaged("its header forbids to write it".to_owned()).into());
    }
    let setup = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -512;
        PRAGMA journal_size_limit = 1048576; PRAGMA temp_store = MEMORY;";
    connection.execute_batch(setup)?;
    check(connection)?;
    if found < schema::VERSION {
        let transaction = connection.transaction()?;
        schema::migrate(&transaction, found)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Looks at every page. Damage that is found later would cost the tasks that are written meanwhile.
pub(crate) fn check(connection: &Connection) -> rusqlite::Result<()> {
    let answer: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if answer == "ok" {
        return Ok(());
    }
    Err(damaged(answer))
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
    for suffix in ["-wal", "-shm", "-journal"] {
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

/// The columns of a row, one after the other: to find each by its name takes longer than all else.
struct Columns<'r, 'c> {
    row: &'r Row<'c>,
    next: usize,
}

impl<'r, 'c> Columns<'r, 'c> {
    fn of(row: &'r Row<'c>) -> Columns<'r, 'c> {
        Columns { row, next: 0 }
    }

    fn take_ref(&mut self) -> rusqlite::Result<ValueRef<'r>> {
        self.next += 1;
        self.row.get_ref(self.next - 1)
    }

    fn take<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    /// What [`PathValue`] wrote.
    fn bytes(&mut self) -> rusqlite::Result<Vec<u8>> {
        let value = self.take_ref()?;
        let wrong = |_| rusqlite::Error::InvalidColumnType(self.next - 1, self.name(), value.data_type());
        value.as_bytes().map(<[u8]>::to_vec).map_err(wrong)
    }

    /// The name of the column that was taken last.
    fn name(&self) -> String {
        self.row.as_ref().column_name(self.next - 1).unwrap_or_default().to_owned()
    }

    fn optional_bytes(&mut self) -> rusqlite::Result<Option<Vec<u8>>> {
        if self.row.get_ref(self.next)? == ValueRef::Null {
            self.next += 1;
            return Ok(None);
        }
        self.bytes().map(Some)
    }

    /// A word that one of our types understands.
    fn word<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
        let word = self.take_ref()?.as_str()?;
        parse(word).ok_or_else(|| unknown_word(&self.name(), word))
    }
}

/// The columns that tasks and ended tasks share, in the order in which [`bind`] fills them.
const SUBJECT: &str =
    "id, file, scheduler, kind, digest, mask, is_dir, synthetic, path, name_len, root_len, src_path,
    given_path, detail";

/// The columns of tasks beside these, in the order in which [`put_task`] fills them.
const TASK: &str = "state, attempt, first, waits, settles, since, due, error, process_group, process_started";

/// The same of ended tasks, by [`put_ended`].
const ENDED: &str = "result, open, error, exit_status, signal, output, attempts, first, started, ended, done";

/// A statement that puts a row into a table: the subject, then other columns.
fn putting<'c>(
    connection: &'c Connection,
    table: &str,
    columns: &str,
) -> rusqlite::Result<CachedStatement<'c>> {
    let count = SUBJECT.split(',').count() + columns.split(',').count();
    let places = vec!["?"; count].join(", ");
    connection
        .prepare_cached(&format!("INSERT OR REPLACE INTO {table} ({SUBJECT}, {columns}) VALUES ({places})"))
}

/// Fills the first parameters of a statement, and then the others.
fn bind(
    statement: &mut Statement<'_>,
    (id, subject): (Id, &Subject),
    others: &[&dyn ToSql],
) -> rusqlite::Result<()> {
    let (src_path, given_path) = (subject.src_path.as_deref(), subject.given_path.as_deref());
    let shared: [&dyn ToSql; 14] = [
        &id.to_string(),
        &subject.file,
        &subject.scheduler,
        &subject.kind,
        &subject.digest,
        &subject.mask,
        &subject.is_dir,
        &subject.synthetic,
        &PathValue(&subject.path),
        &subject.name_len,
        &subject.root_len,
        &src_path.map(PathValue),
        &given_path.map(PathValue),
        &subject.detail,
    ];
    for (place, value) in (1..).zip(shared.iter().chain(others)) {
        statement.raw_bind_parameter(place, value)?;
    }
    statement.raw_execute().map(drop)
}

fn put_task(put: &mut Statement<'_>, task: &Task) -> rusqlite::Result<()> {
    let process = task.process;
    let others: [&dyn ToSql; 10] = [
        &task.state.name(),
        &task.attempt,
        &task.first_s,
        &task.waits_s,
        &task.settles_s,
        &task.since_s,
        &task.due_s,
        &task.error,
        &process.map(|process| process.group),
        &process.map(|process| process.started_ticks as i64),
    ];
    bind(put, (task.id, &task.subject), &others)
}

fn put_ended(put: &mut Statement<'_>, ended: &Ended) -> rusqlite::Result<()> {
    let others: [&dyn ToSql; 11] = [
        &ended.result.name(),
        &(ended.result == Outcome::Failed),
        &ended.error,
        &ended.exit_status,
        &ended.signal,
        &ended.output.as_deref().map(PathValue),
        &ended.attempts,
        &ended.first_s,
        &ended.started_s,
        &ended.ended_s,
        &ended.done,
    ];
    bind(put, (ended.id, &ended.subject), &others)
}

/// A task stands as failed no more.
const NOT_FAILED: &str = "UPDATE ended SET open = 0 WHERE id = ?1 AND open = 1";

fn by_id(connection: &Connection, sql: &str, id: Id) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([id.to_string()])?;
    Ok(())
}

/// Reads an id, which stands in the first column.
pub(crate) fn id_of(row: &Row<'_>) -> rusqlite::Result<Id> {
    Columns::of(row).word(Id::parse)
}

/// Words that many rows share.
#[derive(Default)]
struct Words(Vec<Arc<str>>);

impl Words {
    fn get(&mut self, columns: &mut Columns<'_, '_>) -> rusqlite::Result<Arc<str>> {
        let value = columns.take_ref()?;
        let word = value.as_str()?;
        let known = self.0.iter().find(|known| ***known == *word).cloned();
        Ok(known.unwrap_or_else(|| {
            let shared: Arc<str> = word.into();
            self.0.push(Arc::clone(&shared));
            shared
        }))
    }
}

/// Reads the columns that tasks and ended tasks share.
fn subject_of(columns: &mut Columns<'_, '_>, words: &mut Words) -> rusqlite::Result<Subject> {
    let subject = Subject {
        file: words.get(columns)?,
        scheduler: words.get(columns)?,
        kind: words.get(columns)?,
        digest: words.get(columns)?,
        mask: columns.take()?,
        is_dir: columns.take()?,
        synthetic: columns.take()?,
        path: columns.bytes()?,
        name_len: columns.take()?,
        root_len: columns.take()?,
        src_path: columns.optional_bytes()?,
        given_path: columns.optional_bytes()?,
        detail: columns.take()?,
    };
    let (path, name_len) = (&subject.path, usize::from(subject.name_len));
    let has_name = name_len == 0 || path.iter().rev().nth(name_len) == Some(&b'/');
    if has_name && usize::from(subject.root_len) <= path.len() && subject.mask & EVENTS != 0 {
        return Ok(subject);
    }
    Err(damaged("path, lengths and event of a task do not fit".to_owned()))
}

/// All tasks.
pub(crate) fn select_tasks() -> String {
    format!("SELECT {SUBJECT}, {TASK} FROM task")
}

fn task_of(row: &Row<'_>, words: &mut Words) -> rusqlite::Result<Task> {
    let mut columns = Columns::of(row);
    let mut task = Task {
        id: columns.word(Id::parse)?,
        subject: subject_of(&mut columns, words)?,
        state: columns.word(TaskState::parse)?,
        attempt: columns.take()?,
        first_s: columns.take()?,
        waits_s: columns.take()?,
        settles_s: columns.take()?,
        since_s: columns.take()?,
        due_s: columns.take()?,
        error: columns.take()?,
        process: None,
    };
    let (group, started): (Option<i32>, Option<i64>) = (columns.take()?, columns.take()?);
    task.process = group.zip(started).map(|(group, ticks)| Process { group, started_ticks: ticks as u64 });
    Ok(task)
}

fn told_of(row: &Row<'_>) -> rusqlite::Result<Told> {
    let mut columns = Columns::of(row);
    let (path, inode): (_, i64) = (columns.bytes()?, columns.take()?);
    Ok(Told { path, inode: inode as u64, ctime_ns: columns.take()? })
}

/// Ended tasks that a condition holds for.
pub(crate) fn select_ended(condition: &str) -> String {
    format!("SELECT {SUBJECT}, {ENDED} FROM ended WHERE {condition}")
}

/// Reads a row of ended tasks.
pub(crate) fn ended_of(row: &Row<'_>) -> rusqlite::Result<Ended> {
    let mut columns = Columns::of(row);
    Ok(Ended {
        id: columns.word(Id::parse)?,
        subject: subject_of(&mut columns, &mut Words::default())?,
        result: columns.word(Outcome::parse)?,
        error: {
            let _open: bool = columns.take()?;
            columns.take()?
        },
        exit_status: columns.take()?,
        signal: columns.take()?,
        output: columns.optional_bytes()?,
        attempts: columns.take()?,
        first_s: columns.take()?,
        started_s: columns.take()?,
        ended_s: columns.take()?,
        done: columns.take()?,
    })
}

/// A word that no version of this program wrote into that column.
fn unknown_word(column: &str, word: &str) -> rusqlite::Error {
    damaged(format!("column {column} holds '{word}'"))
}

pub(crate) fn damaged(why: String) -> rusqlite::Error {
    let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(failure, Some(why))
}
