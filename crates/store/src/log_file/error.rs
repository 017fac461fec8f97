//! What can go wrong with the log file, told apart by what has to happen next.
//!
//! `Full` heals when there is room again. `Damaged`, `Hole` and `Doubtful` mean that something that
//! was acknowledged may be gone: the replica must not speak again on this file. `Fatal` ends the
//! process: after a failed sync nobody knows what the disk holds, and asking again would lie.

use std::path::PathBuf;

use statehouse_contract::{ShardId, codec::CodecError};

/// Why the log file could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// Another process has the file.
    #[error("log file {path} is in use by another process")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full. Nothing of the batch was written.
    #[error("no room to write log file {path}")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A record is not what was written.
    #[error("log file {path} is damaged: shard {shard}, index {index}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The shard, as the record claims.
        shard: ShardId,
        /// The index, as the record claims.
        index: u64,
        /// What does not fit.
        what: String,
    },
    /// The file itself is not what was written.
    #[error("log file {path} is damaged: {what}")]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What SQLite or a mark says.
        what: String,
    },
    /// A record is missing between two others, or does not follow the last one.
    #[error("log file {path} has a hole: shard {shard}: expected index {expected}, found {found}")]
    Hole {
        /// The file.
        path: PathBuf,
        /// The shard.
        shard: ShardId,
        /// The index that should come next.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// Writes that were synced may be lost: the write-ahead file goes on after a bad frame.
    #[error(
        "write-ahead file {path} is damaged at frame {frame} and goes on after it: acknowledged \
         entries may be lost; restore this node with `statehouse cluster restore`"
    )]
    Doubtful {
        /// The write-ahead file.
        path: PathBuf,
        /// The first bad frame, from 1; 0 is the header.
        frame: u64,
    },
    /// The format is newer than this build.
    #[error("log file {path} has format {found}, this build knows format {expected}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What this build knows.
        expected: i64,
        /// What the file says.
        found: i64,
    },
    /// The outcome of the last write is unknown, and so is every later one. The process must end.
    #[error("log file {path} failed while it was {doing}")]
    Fatal {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The operating system refused.
    #[error("cannot {doing} {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

impl LogFileError {
    /// Returns the error for a record whose frame is not whole.
    pub(super) fn frame(
        path: &std::path::Path,
        shard: ShardId,
        index: u64,
        why: &CodecError,
    ) -> Self {
        Self::Damaged { path: path.to_owned(), shard, index, what: why.to_string() }
    }

    /// Sorts an error of SQLite by what has to happen next.
    pub(super) fn sqlite(
        path: &std::path::Path,
        doing: &'static str,
        source: rusqlite::Error,
    ) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full { path },
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                Self::Locked { path }
            }
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::DamagedFile { path, what: source.to_string() }
            }
            _ => Self::Fatal { path, doing, source },
        }
    }
}
