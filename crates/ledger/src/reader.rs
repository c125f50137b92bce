//! Questions about tasks that have ended, on a connection of their own, so that they hold up nothing.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::glob::{self, Glob};
use crate::rows::{Ended, Id, Outcome};
use crate::store::{DATABASE, KEEP_LOG, ended_of, select_ended};

/// What is asked for. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Only tasks that stand as failed: neither run again since nor forgotten.
    pub failed_only: bool,
    /// The scheduler's name, with the stem of its file if that is given.
    pub scheduler: Option<(Option<String>, String)>,
    /// A glob over the whole path.
    pub path: Option<Glob>,
    /// The beginning of the id, in its displayed form.
    pub id_prefix: Option<String>,
    /// Ended at or after that, seconds since 1970.
    pub since_s: Option<f64>,
    /// How it ended.
    pub result: Option<Outcome>,
}

/// The newest rows that match, newest first, and how many match in all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// At most as many as were asked for.
    pub rows: Vec<Ended>,
    /// How many match, whatever the limit.
    pub total: u32,
}

/// A connection that reads.
#[derive(Debug)]
pub struct Reader(Connection);

impl Reader {
    /// Opens the database of a state directory for reading.
    ///
    /// # Errors
    /// As SQLite.
    pub fn open(directory: &Path) -> rusqlite::Result<Reader> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(directory.join(DATABASE), flags)?;
        // Whoever closes a database last removes its log by the name, which may be that of the next one by then.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, KEEP_LOG)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -256;")?;
        connection.create_scalar_function(
            "path_matches",
            2,
            FunctionFlags::SQLITE_DETERMINISTIC,
            |given| Ok(glob::matches(given.get_raw(0).as_blob()?, given.get_raw(1).as_bytes()?)),
        )?;
        Ok(Reader(connection))
    }

    /// The newest ended tasks that match.
    ///
    /// # Errors
    /// As SQLite.
    pub fn ended(&self, filter: &Filter, limit: u32) -> rusqlite::Result<Page> {
        let (condition, values) = filter.sql();
        let count = format!("SELECT count(*) FROM ended WHERE {condition}");
        let total = self.0.query_row(&count, rusqlite::params_from_iter(&values), |row| row.get(0))?;
        let select = format!("{} ORDER BY number DESC LIMIT {limit}", select_ended(&condition));
        let mut select = self.0.prepare(&select)?;
        let rows = select.query_map(rusqlite::params_from_iter(&values), ended_of)?;
        Ok(Page { rows: rows.collect::<rusqlite::Result<_>>()?, total })
    }

    /// The failed tasks that match, ids only, oldest first: what a change with a filter works on.
    ///
    /// # Errors
    /// As SQLite.
    pub fn ids(&self, filter: &Filter) -> rusqlite::Result<Vec<Id>> {
        let (condition, values) = filter.sql();
        let mut select =
            self.0.prepare(&format!("SELECT id FROM ended WHERE {condition} ORDER BY number"))?;
        let rows = select.query_map(rusqlite::params_from_iter(&values), crate::store::id_of)?;
        rows.collect()
    }
}

impl Filter {
    /// Whether a row that is not written yet matches. Whether it stands as failed is for the caller to know.
    pub fn matches(&self, row: &Ended) -> bool {
        let Filter { failed_only: _, scheduler, path, id_prefix, since_s, result } = self;
        let subject = &row.subject;
        scheduler.as_ref().is_none_or(|(file, name)| {
            *name == *subject.scheduler && file.as_ref().is_none_or(|file| *file == *subject.file)
        }) && path.as_ref().is_none_or(|glob| glob.matches(&subject.path))
            && id_prefix
                .as_ref()
                .is_none_or(|prefix| row.id.to_string().starts_with(&prefix.to_ascii_lowercase()))
            && since_s.is_none_or(|since_s| row.ended_s >= since_s)
            && result.is_none_or(|result| row.result == result)
    }

    fn sql(&self) -> (String, Vec<Value>) {
        let mut conditions = vec![if self.failed_only { "open = 1" } else { "1" }.to_owned()];
        let mut values = Vec::new();
        let mut add = |condition: &str, value: Value| {
            values.push(value);
            conditions.push(condition.replace('?', &format!("?{}", values.len())));
        };
        if let Some((file, name)) = &self.scheduler {
            add("scheduler = ?", name.clone().into());
            if let Some(file) = file {
                add("file = ?", file.clone().into());
            }
        }
        if let Some(Glob(bytes)) = &self.path {
            add("path_matches(?, path)", bytes.clone().into());
        }
        if let Some(prefix) = &self.id_prefix {
            // Only hexadecimal digits and hyphens come here, which GLOB takes literally.
            add("id GLOB ?", format!("{}*", prefix.to_ascii_lowercase()).into());
        }
        if let Some(since_s) = self.since_s {
            add("ended >= ?", since_s.into());
        }
        if let Some(result) = self.result {
            add("result = ?", result.name().to_owned().into());
        }
        (conditions.join(" AND "), values)
    }
}
