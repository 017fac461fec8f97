//! What can go wrong with a state file, told apart by what has to happen next.
//!
//! `StorageFull` heals when there is room again; nothing of the batch was written. `Corrupt`, `Hole` and `Format` set
//! this replica aside: its rows are no longer believed. `Fatal` ends the process: after a failed sync nobody knows what
//! the disk holds. `Replaced` is no damage at all: the file was exchanged by a snapshot, ask with a new view.
//!
//! Invariant: an error never means "perhaps written". A batch is applied whole or not at all.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

use statehouse_contract::{ShardId, codec::CodecError};

/// Why a state file could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works in the directory.
    #[error(
        "data directory {path} is in use by another process (it holds the lock on {path}/LOCK)"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The disk is full. Nothing was written; the same batch may be applied when there is room.
    #[error("no room to write {path}")]
    StorageFull {
        /// The file.
        path: PathBuf,
    },
    /// A row is not what was written. The replica must be set aside.
    #[error("{} is damaged: table {}, row {}: {}", .0.path.display(), .0.table, .0.row, .0.what)]
    Corrupt(Box<Corruption>),
    /// Entries are missing between the last applied one and the next.
    #[error("{path} has applied up to {applied:?}, the next entry has position {found}")]
    Hole {
        /// The file.
        path: PathBuf,
        /// The last applied position.
        applied: Option<u64>,
        /// The position that came.
        found: u64,
    },
    /// The file was written by a newer build, or is no state file of ours.
    #[error("{path} has format {found}, this build knows format {expected}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What this build knows.
        expected: i64,
        /// What the file says.
        found: i64,
    },
    /// The shard's feature level is above what this build knows.
    #[error("{path} is at feature level {found}, this build knows level {expected}")]
    Level {
        /// The file.
        path: PathBuf,
        /// What this build knows.
        expected: u16,
        /// What the shard is at.
        found: u16,
    },
    /// The file belongs to another shard.
    #[error("{path} belongs to shard {found}, not to shard {expected}")]
    OtherShard {
        /// The file.
        path: PathBuf,
        /// Whose it should be.
        expected: ShardId,
        /// Whose it is.
        found: ShardId,
    },
    /// A snapshot file is not the one that was announced.
    #[error("snapshot {path} is not what was announced: {what}")]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The view looks at a file that was exchanged meanwhile.
    #[error("the view belongs to generation {expected}, the shard is at {found}")]
    Replaced {
        /// The view's generation.
        expected: u64,
        /// The present one.
        found: u64,
    },
    /// An install has failed half way; the store answers nothing until the process starts again and finishes it.
    #[error("{path} is closed: an install was not finished")]
    Closed {
        /// The file.
        path: PathBuf,
    },
    /// A directory or file could not be worked with.
    #[error("{doing} {path}")]
    Io {
        /// What was done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A sync or write failed in a way that leaves unknown what the disk holds. The process must end.
    #[error("{path} failed while {doing}")]
    Fatal {
        /// The file.
        path: PathBuf,
        /// What was done.
        doing: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// SQLite refused for another reason.
    #[error("{path} refused while {doing}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was done.
        doing: &'static str,
        /// Why it refused.
        source: rusqlite::Error,
    },
}

/// Which row is damaged and how that was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// The table.
    pub table: &'static str,
    /// The row, in words.
    pub row: String,
    /// What does not fit.
    pub what: String,
}

impl StoreError {
    /// Returns the error of a sync that failed. A rehearsal, for tests of the floors above.
    #[doc(hidden)]
    #[must_use]
    pub const fn failed_sync(path: PathBuf) -> Self {
        Self::Fatal {
            path,
            doing: "rehearsing a failed sync",
            source: rusqlite::Error::InvalidQuery,
        }
    }

    /// Returns whether the rows of this replica are no longer to be believed.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt(_)
            | Self::Hole { .. }
            | Self::Format { .. }
            | Self::OtherShard { .. } => true,
            Self::Locked { .. }
            | Self::StorageFull { .. }
            | Self::Level { .. }
            | Self::Snapshot { .. }
            | Self::Replaced { .. }
            | Self::Closed { .. }
            | Self::Io { .. }
            | Self::Fatal { .. }
            | Self::Sqlite { .. } => false,
        }
    }

    /// Returns what went wrong with a file; a full disk is a case of its own.
    #[must_use]
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            return Self::StorageFull { path: path.to_owned() };
        }
        Self::Io { doing, path: path.to_owned(), source }
    }
}

/// What goes wrong below the files: the same, before anybody has said in which file.
#[derive(Debug)]
pub(crate) enum Fault {
    /// SQLite said so.
    Sqlite(rusqlite::Error),
    /// A row is not what was written.
    Row { table: &'static str, row: String, what: String },
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Fault {
    pub(crate) fn row(table: &'static str, row: impl ToString, what: impl ToString) -> Self {
        Self::Row { table, row: row.to_string(), what: what.to_string() }
    }

    pub(crate) fn frame(table: &'static str, row: impl ToString, error: &CodecError) -> Self {
        Self::row(table, row, error)
    }

    /// Names the file and sorts the fault by what has to happen next.
    pub(crate) fn at(self, path: &Path, doing: &'static str) -> StoreError {
        let corrupt = |table, row, what| {
            StoreError::Corrupt(Box::new(Corruption { path: path.to_owned(), table, row, what }))
        };
        let source = match self {
            Self::Row { table, row, what } => return corrupt(table, row, what),
            Self::Sqlite(source) => source,
        };
        let path = || path.to_owned();
        match kind(&source) {
            Kind::Full => StoreError::StorageFull { path: path() },
            Kind::Damaged => corrupt("(any)", format!("read while {doing}"), source.to_string()),
            // Our statements are constant: one that is refused at the opening has met another schema, or another format.
            Kind::Refused if doing == "open" => {
                corrupt("(schema)", doing.to_owned(), source.to_string())
            }
            Kind::Fatal => StoreError::Fatal { path: path(), doing, source },
            Kind::Refused | Kind::Other => StoreError::Sqlite { path: path(), doing, source },
        }
    }
}

enum Kind {
    Full,
    Damaged,
    Fatal,
    Refused,
    Other,
}

/// Extended result codes of SQLite that matter here; the numbers are part of its stable interface.
const IOERR_SHMSIZE: i32 = 10 | (19 << 8);
/// The statement itself is wrong.
const ERROR: i32 = 1;

fn kind(error: &rusqlite::Error) -> Kind {
    use rusqlite::Error;
    match error {
        Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => Kind::Full,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Kind::Damaged,
            // A key that is there twice, or a null where none may be: the checks before the write saw other rows.
            ErrorCode::ConstraintViolation => Kind::Damaged,
            ErrorCode::SystemIoFailure if failure.extended_code == IOERR_SHMSIZE => Kind::Full,
            ErrorCode::SystemIoFailure => Kind::Fatal,
            ErrorCode::Unknown if failure.extended_code == ERROR => Kind::Refused,
            _ => Kind::Other,
        },
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..)
        | Error::InvalidColumnType(..)
        | Error::InvalidColumnIndex(..)
        | Error::InvalidColumnName(..)
        | Error::QueryReturnedNoRows => Kind::Damaged,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(extended_code: i32) -> Fault {
        let failure = rusqlite::ffi::Error::new(extended_code);
        Fault::Sqlite(rusqlite::Error::SqliteFailure(failure, None))
    }

    fn sorted(fault: Fault) -> StoreError {
        fault.at(Path::new("state-1.db"), "apply")
    }

    #[test]
    fn what_sqlite_says_is_sorted_by_what_has_to_happen_next() {
        use rusqlite::ffi;
        for code in [ffi::SQLITE_FULL, IOERR_SHMSIZE] {
            assert!(matches!(sorted(failure(code)), StoreError::StorageFull { .. }));
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_CONSTRAINT] {
            assert!(sorted(failure(code)).is_damage());
        }
        assert!(matches!(sorted(failure(ffi::SQLITE_IOERR_FSYNC)), StoreError::Fatal { .. }));
        assert!(matches!(sorted(failure(ffi::SQLITE_BUSY)), StoreError::Sqlite { .. }));
        assert!(sorted(Fault::Sqlite(rusqlite::Error::QueryReturnedNoRows)).is_damage());
        let error = sorted(Fault::row("due", 7, "is gone"));
        assert_eq!(error.to_string(), "state-1.db is damaged: table due, row 7: is gone");
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = StoreError::io("rename", Path::new("x"), full);
        assert!(matches!(error, StoreError::StorageFull { .. }));
    }
}
