//! How the log file is opened, set up, and written back from its write-ahead file.
//!
//! WAL with full sync, one exclusive connection, no automatic checkpoints: this page decides when the
//! write-ahead file is written back. It is done between two batches at a bound, and the file is kept,
//! because blocks that are allocated already sync faster than new ones.
//!
//! Absent on purpose: a choice of journal or sync mode. Anything weaker lost acknowledged rows when
//! power was cut.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, hooks::Wal};
use tracing::info;

use statehouse_contract::{
    limits,
    mutant::{self, Mutant},
};

use super::{
    LogFile, LogFileError, LogFileOptions,
    wal::{self, WalState},
};

/// Format of the file: its tables and seals. The frames carry their own version.
const FORMAT: i64 = 1;
/// Pages held in memory, in KiB. More than the largest batch, so that no page is written to the
/// write-ahead file before its transaction ends (a rewritten one would look like damage to the scan).
const CACHE_KIB: usize = 4 * limits::LOG_BATCH_BYTES_MAX / 1024;

/// SQLite's number for `synchronous = FULL`; below it a commit to a write-ahead file is not synced.
const SYNC_EACH_COMMIT: i64 = 2;

const SCHEMA: &str = "BEGIN;
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, shard INTEGER NOT NULL, idx INTEGER NOT NULL, term INTEGER NOT NULL,
    kind INTEGER NOT NULL, seal INTEGER NOT NULL, frame BLOB NOT NULL
);
CREATE TABLE marks (shard INTEGER PRIMARY KEY, frame BLOB NOT NULL);
PRAGMA user_version = 1;
COMMIT;";

/// How the write-ahead file is written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checkpoint {
    /// And kept: the next write begins it again.
    Passive,
    /// And emptied.
    Truncate,
}

/// Refuses a write-ahead file that may have lost what was synced.
pub(super) fn judge_wal(path: &Path) -> Result<(), LogFileError> {
    let mut name = OsString::from(path);
    name.push("-wal");
    let path = PathBuf::from(name);
    match wal::scan(&path) {
        Ok(WalState::Absent) => Ok(()),
        Ok(WalState::Whole { frames }) => {
            info!(frames, "the log's write-ahead file is whole");
            Ok(())
        }
        Ok(WalState::Doubtful { frame }) => Err(LogFileError::Doubtful { path, frame }),
        Err(source) => Err(LogFileError::Io { path, doing: "read", source }),
    }
}

/// Opens the file with the settings that make it keep its promise; returns it with its page size.
pub(super) fn connect(options: &LogFileOptions) -> Result<(Connection, u64), LogFileError> {
    let failed = |e| LogFileError::sqlite(&options.path, "opening", e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&options.path, flags).map_err(failed)?;
    // Plans do not depend on bound values; without this SQLite prepares some statements again at every use.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    // A deliberate bug: a commit reaches the page cache, and the disk only with a later checkpoint.
    let synchronous = if mutant::is(Mutant::AckBeforeSync) { "NORMAL" } else { "FULL" };
    // Exclusive locking comes before the first read, so that the index of the write-ahead file lives in
    // memory and no other process ever gets in.
    let settings = format!(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         PRAGMA wal_autocheckpoint = 0; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
         PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = MEMORY;"
    );
    connection.execute_batch(&settings).map_err(failed)?;
    if let Some(pages) = options.pages_max {
        connection.execute_batch(&format!("PRAGMA max_page_count = {pages}")).map_err(failed)?;
    }
    let page_bytes: i64 =
        connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(failed)?;
    Ok((connection, page_bytes.unsigned_abs()))
}

impl LogFile {
    /// Makes the tables of a new file; refuses a file of another format.
    pub(super) fn check_format(&self) -> Result<(), LogFileError> {
        let failed = |e| LogFileError::sqlite(&self.path, "reading the format", e);
        let found: i64 = self
            .connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed)?;
        match found {
            0 => self.connection.execute_batch(SCHEMA).map_err(failed),
            FORMAT => Ok(()),
            found => Err(LogFileError::Format { path: self.path.clone(), expected: FORMAT, found }),
        }
    }

    /// Lets SQLite tell after each commit how long the write-ahead file is.
    pub(super) fn count_wal_pages(&mut self) -> Result<(), LogFileError> {
        let pages = Arc::clone(&self.wal_pages);
        let hook = move |_: &mut Wal, found: std::ffi::c_int| {
            pages.store(u64::from(found.unsigned_abs()), Ordering::Relaxed);
            Ok(())
        };
        self.connection
            .wal_hook(Some(hook))
            .map_err(|e| LogFileError::sqlite(&self.path, "opening", e))
    }

    /// Returns the used length of the write-ahead file.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        self.wal_pages.load(Ordering::Relaxed) * self.page_bytes
    }

    /// Returns whether a write is on the disk when it returns: what a rehearsal of a power cut has to know.
    ///
    /// # Errors
    /// Like [`LogFile::open`].
    #[doc(hidden)]
    pub fn syncs_each_write(&self) -> Result<bool, LogFileError> {
        let mode: i64 = self
            .connection
            .query_row("PRAGMA synchronous", [], |row| row.get(0))
            .map_err(|e| LogFileError::sqlite(&self.path, "asking for its settings", e))?;
        Ok(mode >= SYNC_EACH_COMMIT)
    }

    /// Writes the write-ahead file back into the file.
    pub(super) fn checkpoint(&mut self, how: Checkpoint) -> Result<(), LogFileError> {
        let failed = |e| LogFileError::sqlite(&self.path, "checkpointing", e);
        let sql = match how {
            Checkpoint::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
            Checkpoint::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        };
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let is_busy: i64 = statement.query_row([], |row| row.get(0)).map_err(failed)?;
        if is_busy != 0 {
            return Err(LogFileError::Locked { path: self.path.clone() });
        }
        self.wal_pages.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Raises or lowers the most pages that the file may have: a disk of another size, for tests.
    ///
    /// # Errors
    /// Like [`LogFile::open`].
    pub fn set_pages_max(&mut self, pages: u32) -> Result<(), LogFileError> {
        self.connection
            .execute_batch(&format!("PRAGMA max_page_count = {pages}"))
            .map_err(|e| LogFileError::sqlite(&self.path, "setting its bound", e))
    }
}
