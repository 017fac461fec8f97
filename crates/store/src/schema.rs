//! The tables of a state file, by version.
//!
//! Rows are lean, because applying them is the limit of the whole system: an instance is known by `born`, the position
//! of its Start entry, which is unique for ever and therefore needs no table that maps names to numbers; history is
//! appended by log position, carries the receipt, and has one index, (instance, key). Receipts whose target has no
//! instance row stand in the same table under instance 0 ("loose").
//!
//! The definitions, tenants, keys, quotas, schedules, batches and members are few and alike, so they share one table,
//! `catalog`, with one file that reads and writes it.
//!
//! What each column is, and how a flipped byte in it is noticed, stands in the file of its table.

use rusqlite::Connection;

use crate::error::Fault;

/// Marks a state file: "SHst".
pub(crate) const APPLICATION_ID: i32 = 0x5348_7374;
/// The schema that this build writes and reads.
pub(crate) const VERSION: i64 = 1;

/// Every object with the statement that made it, in the order of making.
const OBJECTS: [(&str, &str); 11] = [
    ("meta", "CREATE TABLE meta (id INTEGER PRIMARY KEY, body BLOB NOT NULL)"),
    (
        "instances",
        "CREATE TABLE instances (born INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, tenant TEXT NOT NULL, \
         instance TEXT NOT NULL, version INTEGER NOT NULL, status INTEGER NOT NULL, position INTEGER NOT NULL, \
         digest BLOB NOT NULL, keys BLOB NOT NULL, birth BLOB NOT NULL, head BLOB NOT NULL, snapshot BLOB NOT NULL)",
    ),
    ("names", "CREATE UNIQUE INDEX names ON instances (bucket, tenant, instance)"),
    (
        "history",
        "CREATE TABLE history (pos INTEGER PRIMARY KEY, inst INTEGER NOT NULL, key BLOB, body BLOB NOT NULL)",
    ),
    ("history_key", "CREATE INDEX history_key ON history (inst, key)"),
    (
        "due",
        "CREATE TABLE due (held INTEGER NOT NULL, at INTEGER NOT NULL, born INTEGER NOT NULL, what BLOB NOT NULL, \
         PRIMARY KEY (held, at, born, what)) WITHOUT ROWID",
    ),
    (
        "tasks",
        "CREATE TABLE tasks (born INTEGER NOT NULL, version INTEGER NOT NULL, n INTEGER NOT NULL, \
         tenant TEXT NOT NULL, queue TEXT NOT NULL, ready INTEGER, body BLOB NOT NULL, \
         PRIMARY KEY (born, version, n)) WITHOUT ROWID",
    ),
    (
        "tasks_ready",
        "CREATE INDEX tasks_ready ON tasks (tenant, queue, ready) WHERE ready IS NOT NULL",
    ),
    (
        "outbox",
        "CREATE TABLE outbox (born INTEGER NOT NULL, version INTEGER NOT NULL, n INTEGER NOT NULL, \
         body BLOB NOT NULL, PRIMARY KEY (born, version, n)) WITHOUT ROWID",
    ),
    (
        "catalog",
        "CREATE TABLE catalog (kind INTEGER NOT NULL, tenant TEXT NOT NULL, name TEXT NOT NULL, \
         version INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, tenant, name, version)) WITHOUT ROWID",
    ),
    ("buckets", "CREATE TABLE buckets (bucket INTEGER PRIMARY KEY, body BLOB NOT NULL)"),
];

/// Makes every table and index in an empty file.
pub(crate) fn create(connection: &Connection) -> Result<(), Fault> {
    for (_, statement) in OBJECTS {
        connection.execute_batch(statement)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}

/// Checks that the file holds exactly our objects, so that a damaged schema page cannot hide an index.
pub(crate) fn check(connection: &Connection) -> Result<(), Fault> {
    let mut read = connection.prepare(
        "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name",
    )?;
    let found =
        read.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let mut expected: Vec<_> =
        OBJECTS.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
    expected.sort();
    for (name, sql) in &found {
        if !expected.contains(&(name.clone(), sql.clone())) {
            return Err(Fault::row("sqlite_schema", name, format!("unexpected object: {sql}")));
        }
    }
    if found.len() == expected.len() {
        return Ok(());
    }
    let what = format!("expected {} objects, found {}", expected.len(), found.len());
    Err(Fault::row("sqlite_schema", "(all)", what))
}
