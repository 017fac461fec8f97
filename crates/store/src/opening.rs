//! Opening a state file: connections with our settings, an empty file made ours, a file looked at before it is believed.
//!
//! The same looks are taken at a snapshot before it is installed. What is small is compared with its sum; a small file, or
//! one that came from elsewhere, is checked page by page too.
//!
//! Invariant: nothing is read for anybody before schema, shard, level and sums fit.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};

use statehouse_contract::{Build, ShardId};

use crate::{
    buckets::Buckets,
    catalog, due,
    error::{Fault, StoreError},
    history,
    meta::Meta,
    outbox, schema,
    sum::Sum,
    tasks,
};

const STATEMENTS_CACHED: usize = 96;

/// How thoroughly a file is looked at when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Schema, sums of the small tables, pages if the file is small. What every start does.
    Start,
    /// Every page too. For a snapshot that came from elsewhere, and for operators.
    Pages,
}

/// Files up to this size are checked page by page at every start.
const PAGES_CHECKED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Opens a connection with the settings that every one of ours has.
pub(crate) fn connect(path: &Path, writes: bool) -> Result<Connection, Fault> {
    let access = if writes {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    };
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // A writer meets nobody but a long read when it restarts the WAL; it tries again later instead of waiting.
    connection.busy_timeout(Duration::from_millis(if writes { 20 } else { 1_000 }))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // Plans do not depend on bound values; without this SQLite prepares some statements again at every use (a fifth of
    // the time of apply when measured).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if writes {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -4_096)?;
    } else {
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -512)?;
    }
    Ok(connection)
}

/// Runs a checkpoint; returns whether everything in the WAL is now in the file.
pub(crate) fn checkpoint(connection: &Connection, mode: &str) -> Result<bool, Fault> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (busy, log, moved): (i64, i64, i64) = connection.query_row(&sql, [], read)?;
    Ok(busy == 0 && log == moved)
}

/// Makes an empty file ours, or checks that a file is ours, and reads where it stands.
pub(crate) fn ready(
    connection: &mut Connection,
    path: &Path,
    shard: ShardId,
    build: Build,
) -> Result<Meta, StoreError> {
    let at = |fault: Fault| fault.at(path, "open");
    let (application, version) = format_of(connection).map_err(at)?;
    let objects = |connection: &Connection| -> Result<i64, Fault> {
        Ok(connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?)
    };
    if version == 0 && application == 0 && objects(connection).map_err(at)? == 0 {
        return create(connection, shard).map_err(at);
    }
    check_format(connection, path)?;
    schema::check(connection).map_err(at)?;
    let meta = Meta::read(connection).map_err(at)?;
    if meta.shard != shard {
        let (expected, found) = (shard, meta.shard);
        return Err(StoreError::OtherShard { path: path.to_owned(), expected, found });
    }
    check_level(&meta, path, build)?;
    Ok(meta)
}

fn format_of(connection: &Connection) -> Result<(i64, i64), Fault> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

/// Checks that the file is a state file of a format that this build knows.
pub(crate) fn check_format(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = format_of(connection).map_err(|fault| fault.at(path, "open"))?;
    let (application, version) = found;
    if application == i64::from(schema::APPLICATION_ID) && (1..=schema::VERSION).contains(&version)
    {
        return Ok(());
    }
    let (expected, found) = (schema::VERSION, version);
    Err(StoreError::Format { path: path.to_owned(), expected, found })
}

/// Checks that this build understands every entry that the rows may come from.
pub(crate) fn check_level(meta: &Meta, path: &Path, build: Build) -> Result<(), StoreError> {
    if meta.level <= build.level {
        return Ok(());
    }
    let (expected, found) = (build.level, meta.level);
    Err(StoreError::Level { path: path.to_owned(), expected, found })
}

fn create(connection: &mut Connection, shard: ShardId) -> Result<Meta, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema::create(&transaction)?;
    let meta = Meta::empty(shard);
    meta.save(&transaction)?;
    transaction.commit()?;
    Ok(meta)
}

/// Compares everything that is small enough with its sum.
pub(crate) fn inspect(
    connection: &Connection,
    meta: &Meta,
    verify: Verify,
    path: &Path,
) -> Result<Buckets, Fault> {
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    if verify == Verify::Pages || bytes <= PAGES_CHECKED_BYTES_MAX {
        check_pages(connection)?;
    }
    let buckets = Buckets::load(connection, meta)?;
    catalog::verify(connection, meta)?;
    due::verify(connection, meta)?;
    tasks::verify(connection, meta)?;
    outbox::verify(connection, meta)?;
    let mut loose = Sum::default();
    for key in history::keys(connection, 0)? {
        loose.add(u128::from_le_bytes(key.0));
    }
    if loose == meta.sums.loose {
        return Ok(buckets);
    }
    let what = format!("sum {loose:?}, expected {:?}", meta.sums.loose);
    Err(Fault::row("history_key", "receipts of no instance", what))
}

fn check_pages(connection: &Connection) -> Result<(), Fault> {
    let mut read = connection.prepare("PRAGMA quick_check(1)")?;
    let said: String = read.query_row([], |row| row.get(0))?;
    if said == "ok" { Ok(()) } else { Err(Fault::row("(pages)", "(any)", said)) }
}
