//! The files of a database in use. SQLite does not notice when somebody removes or cuts one of them: it goes on to
//! write what nobody finds.
//!
//! A log becomes shorter by right, too: whoever makes a checkpoint may empty it. So the bytes that it must have are
//! asked of SQLite: the frames that it knows of are there, however often the log began anew.

use std::fs::{Metadata, symlink_metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::store::{check, damaged, is_damage};

/// Header of a log, and of each frame in it beside its page (sqlite.org/fileformat2.html#walformat).
const LOG_HEADER_LEN: u64 = 32;
const FRAME_HEADER_LEN: u64 = 24;

/// Filesystem and inode.
type Identity = (u64, u64);

/// The files of a database, as they were seen last.
#[derive(Debug)]
pub(crate) struct Files {
    path: PathBuf,
    log_path: PathBuf,
    pub(crate) database: Option<Identity>,
    /// Absent where the filesystem has no place for one (sqlite.org/wal.html#noshm), or did not say.
    log: Option<Identity>,
    /// Length of the database in bytes.
    len: u64,
    page_len: u64,
}

/// What became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They are what they were, or the disk does not say: nothing is lost yet.
    Whole,
    /// The database was removed, or another one is in its place.
    Gone,
    /// The log was removed, or another one is in its place. SQLite has it open still.
    WithoutLog,
}

impl Files {
    /// The files of a database that was just opened.
    pub(crate) fn of(path: &Path, connection: &Connection) -> rusqlite::Result<Files> {
        let mut log_path = path.as_os_str().to_owned();
        log_path.push("-wal");
        let log_path = PathBuf::from(log_path);
        let page_len = connection.query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0))?;
        let (database, log) = (symlink_metadata(path).ok(), symlink_metadata(&log_path).ok());
        Ok(Files {
            path: path.to_owned(),
            log_path,
            len: database.as_ref().map_or(0, Metadata::len),
            database: database.as_ref().map(identity),
            log: log.as_ref().map(identity),
            page_len: page_len.into(),
        })
    }

    /// Looks what became of them: two system calls and a glance into the memory that SQLite shares.
    ///
    /// # Errors
    /// One that says damage if a file was cut.
    pub(crate) fn look(&mut self, connection: &Connection) -> rusqlite::Result<Fate> {
        match symlink_metadata(&self.path) {
            Ok(found) if self.database != Some(identity(&found)) => return Ok(Fate::Gone),
            Ok(found) => self.see_database(found.len(), connection)?,
            Err(error) if is_absent(&error) => return Ok(Fate::Gone),
            Err(_) => return Ok(Fate::Whole),
        }
        let Some(log) = self.log else { return Ok(Fate::Whole) };
        // Before the length: the log may grow meanwhile.
        let needed = self.log_len(connection)?;
        match symlink_metadata(&self.log_path) {
            Ok(found) if log != identity(&found) => Ok(Fate::WithoutLog),
            Err(error) if is_absent(&error) => Ok(Fate::WithoutLog),
            // Else another program has emptied it between the two looks, by a checkpoint.
            Ok(found) if found.len() < needed && self.log_len(connection)? == needed => {
                Err(damaged("somebody has cut its log, state.db-wal".to_owned()))
            }
            Ok(_) | Err(_) => Ok(Fate::Whole),
        }
    }

    /// Whether the log that is there is the one that SQLite has open.
    pub(crate) fn has_its_log(&self) -> bool {
        self.log.is_some() && self.log == symlink_metadata(&self.log_path).ok().as_ref().map(identity)
    }

    fn see_database(&mut self, len: u64, connection: &Connection) -> rusqlite::Result<()> {
        if len < self.page_len {
            return Err(damaged("somebody has emptied it".to_owned()));
        }
        let is_shorter = len < self.len;
        self.len = len;
        if is_shorter {
            // By right after another program's VACUUM; then every page is there. SQLite has the old ones in memory.
            connection.execute_batch("PRAGMA shrink_memory")?;
            let cut = || damaged("somebody has cut it".to_owned());
            check(connection).map_err(|error| if is_damage(&error) { cut() } else { error })?;
        }
        Ok(())
    }

    /// The bytes that the log has at least.
    fn log_len(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let mut noop = connection.prepare_cached("PRAGMA main.wal_checkpoint(NOOP)")?;
        let frames: i64 = noop.query_row([], |row| row.get(1))?;
        // Negative where there is no log.
        let frames = u64::try_from(frames).unwrap_or(0);
        Ok(if frames == 0 { 0 } else { LOG_HEADER_LEN + frames * (FRAME_HEADER_LEN + self.page_len) })
    }
}

fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
