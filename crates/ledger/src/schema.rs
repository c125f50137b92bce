//! The tables, and how an older database becomes a newer one.
//!
//! `docs/state.md` describes them for administrators. A change of the schema is one more entry of [`STEPS`]; entries
//! that were released are never edited, and the tables of the first one keep their names: a database is known by them.

use rusqlite::{Connection, Transaction};

/// What leads from each version to the next; an empty database has version 0.
const STEPS: [&str; 2] = [
    "
CREATE TABLE task (
    id TEXT PRIMARY KEY, file TEXT NOT NULL, scheduler TEXT NOT NULL, kind TEXT NOT NULL, digest TEXT NOT NULL,
    mask INTEGER NOT NULL, is_dir INTEGER NOT NULL, synthetic INTEGER NOT NULL, path NOT NULL,
    name_len INTEGER NOT NULL, root_len INTEGER NOT NULL, src_path, given_path, detail TEXT,
    state TEXT NOT NULL, attempt INTEGER NOT NULL, first REAL NOT NULL, since REAL NOT NULL, due REAL NOT NULL,
    error TEXT, process_group INTEGER, process_started INTEGER
);
CREATE TABLE ended (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL, file TEXT NOT NULL, scheduler TEXT NOT NULL, kind TEXT NOT NULL, digest TEXT NOT NULL,
    mask INTEGER NOT NULL, is_dir INTEGER NOT NULL, synthetic INTEGER NOT NULL, path NOT NULL,
    name_len INTEGER NOT NULL, root_len INTEGER NOT NULL, src_path, given_path, detail TEXT,
    result TEXT NOT NULL, open INTEGER NOT NULL, error TEXT, exit_status INTEGER, signal INTEGER, output,
    attempts INTEGER NOT NULL, first REAL NOT NULL, started REAL NOT NULL, ended REAL NOT NULL, done TEXT
);
CREATE INDEX ended_open ON ended (id) WHERE open = 1;
CREATE INDEX ended_closed ON ended (number) WHERE open = 0;
CREATE TABLE paused (file TEXT NOT NULL, scheduler TEXT NOT NULL, PRIMARY KEY (file, scheduler));
CREATE TABLE checkpoint (at REAL NOT NULL);
",
    "
ALTER TABLE task ADD COLUMN waits REAL;
ALTER TABLE task ADD COLUMN settles REAL;
CREATE TABLE told (path NOT NULL, inode INTEGER NOT NULL, ctime INTEGER NOT NULL);
",
];

/// The version that this program writes.
pub(crate) const VERSION: u32 = STEPS.len() as u32;

/// The version of a database that is not foreign.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Whether another program made a database: it lacks tables that each of our versions has, and is not a new one.
pub(crate) fn is_foreign(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*), count(*) FILTER (
            WHERE type = 'table' AND name IN ('task', 'ended', 'paused', 'checkpoint')
        ) FROM sqlite_master";
    let (all, ours): (u32, u32) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // Signed, since it is anybody's.
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let is_new = all == 0 && version == 0;
    Ok(!is_new && (ours < 4 || version == 0))
}

/// Brings an older database up to date. The caller has refused newer ones.
pub(crate) fn migrate(transaction: &Transaction<'_>, from: u32) -> rusqlite::Result<()> {
    for step in &STEPS[from as usize..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)
}
