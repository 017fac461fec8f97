//! `log.db`: the entries and votes of all shards of a node, in one file that must never forget.
//!
//! One thread writes it (in `log`), so one sync serves every shard. Rows are only ever added at the end;
//! an index in memory says which row holds which record of which shard, so that the file needs no
//! second tree. Settings and measurements: `runbooks/develop/engine.md`, "The log file".
//!
//! Before SQLite opens the write-ahead file it is judged, and every start rewrites it before a vote can
//! be given. Row columns carry a seal, frames their own checksum; both are checked at open and the frame
//! again at each read.
//!
//! Absent on purpose: threads, retries, any meaning of a frame, and mercy: what cannot be trusted is an
//! error that names file, shard and index.
//!
//! Invariant `DURABLE`: when [`LogFile::write`] returns, the batch survives a power cut.

mod error;
mod index;
mod load;
mod record;
mod settings;
mod undo;
mod wal;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use rusqlite::{Connection, params};

use statehouse_contract::{ShardId, codec};

pub use self::{
    error::LogFileError,
    record::{
        Installing, LogOperation, LogPosition, LogRecord, LogState, RecordKind, ShardMarks,
        StoredVote,
    },
};
use self::{
    index::{Row, ShardIndex},
    load::{Columns, MarkRow},
    settings::Checkpoint,
    undo::Undo,
};

/// Purged rows that one write takes out: few enough not to be felt by the write.
const SWEEP_ROWS: usize = 512;

const INSERT: &str = "INSERT INTO entries (seq, shard, idx, term, kind, seal, frame) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const DELETE: &str = "DELETE FROM entries WHERE seq = ?1";
const SELECT: &str = "SELECT seq, shard, idx, term, kind, seal, frame FROM entries \
                      WHERE seq = ?1";
const MARK: &str = "INSERT INTO marks (shard, frame) VALUES (?1, ?2) \
                    ON CONFLICT (shard) DO UPDATE SET frame = excluded.frame";

/// How the file is opened.
#[derive(Clone, Debug)]
pub struct LogFileOptions {
    /// Where the file is; it is made when absent.
    pub path: PathBuf,
    /// Size of the write-ahead file at which it is written back.
    pub wal_bytes_max: u64,
    /// Most pages the file may have. Tests use it to fill a disk.
    pub pages_max: Option<u32>,
}

/// The open log file of a node.
pub struct LogFile {
    path: PathBuf,
    connection: Connection,
    shards: BTreeMap<ShardId, Shard>,
    garbage: VecDeque<i64>,
    next_seq: i64,
    wal_bytes_max: u64,
    wal_pages: Arc<AtomicU64>,
    page_bytes: u64,
    /// What the batch under way has changed in memory.
    undo: Undo,
    /// A write failed half-way: its frames must not stand behind later ones.
    is_restart_due: bool,
}

#[derive(Default)]
struct Shard {
    marks: ShardMarks,
    is_marks_dirty: bool,
    index: ShardIndex,
}

impl LogFile {
    /// Opens the file, judges everything in it, and rewrites the write-ahead file.
    ///
    /// # Errors
    /// Every variant of [`LogFileError`]; a file that cannot be trusted is not opened.
    pub fn open(options: &LogFileOptions) -> Result<Self, LogFileError> {
        let path = options.path.clone();
        settings::judge_wal(&path)?;
        let (connection, page_bytes) = settings::connect(options)?;
        let mut file = Self {
            path,
            connection,
            shards: BTreeMap::new(),
            garbage: VecDeque::new(),
            next_seq: 1,
            wal_bytes_max: options.wal_bytes_max,
            wal_pages: Arc::default(),
            page_bytes,
            undo: Undo::default(),
            is_restart_due: false,
        };
        file.check_format()?;
        file.count_wal_pages()?;
        file.load()?;
        file.checkpoint(Checkpoint::Truncate)?;
        Ok(file)
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the shards of which the file knows anything.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.shards.keys().copied()
    }

    /// Returns marks and extent of a shard.
    #[must_use]
    pub fn state(&self, shard: ShardId) -> LogState {
        let Some(shard) = self.shards.get(&shard) else { return LogState::default() };
        let last = shard.index.last().map(|(index, term)| LogPosition { term, index });
        LogState {
            marks: shard.marks,
            first: shard.index.first(),
            last: last.or(shard.marks.purged),
        }
    }

    /// Remembers a committed position; it is written with the next batch, never for itself.
    pub fn note_committed(&mut self, shard: ShardId, committed: Option<LogPosition>) {
        let shard = self.shards.entry(shard).or_default();
        shard.is_marks_dirty |= shard.marks.committed != committed;
        shard.marks.committed = committed;
    }

    /// Writes a batch of operations in order: one transaction, one sync.
    ///
    /// # Errors
    /// After [`LogFileError::Full`] nothing of the batch was written and it may be tried again. After
    /// [`LogFileError::Hole`] nothing was written either. After any other error nobody knows: the
    /// process must end.
    pub fn write(&mut self, batch: &[LogOperation]) -> Result<(), LogFileError> {
        let outcome = self.try_write(batch);
        if outcome.is_err() {
            // A failed statement may have ended the transaction already; then there is nothing to undo.
            let rolled_back = self.connection.execute_batch("ROLLBACK");
            self.is_restart_due = true;
            let undo = std::mem::take(&mut self.undo);
            if matches!(outcome, Err(LogFileError::Full { .. } | LogFileError::Hole { .. })) {
                if let (Err(source), false) = (rolled_back, self.connection.is_autocommit()) {
                    let (path, doing) = (self.path.clone(), "rolling a write back");
                    return Err(LogFileError::Fatal { path, doing, source });
                }
                undo.take_back(&mut self.shards, &mut self.garbage);
            }
        }
        outcome
    }

    fn try_write(&mut self, batch: &[LogOperation]) -> Result<(), LogFileError> {
        if self.is_restart_due {
            self.checkpoint(Checkpoint::Truncate)?;
            self.is_restart_due = false;
        }
        self.run("beginning a write", "BEGIN IMMEDIATE")?;
        for operation in batch {
            self.put(operation)?;
        }
        self.sweep_rows()?;
        self.put_marks()?;
        self.run("committing", "COMMIT")?;
        self.undo = Undo::default();
        if self.wal_bytes() >= self.wal_bytes_max {
            match self.checkpoint(Checkpoint::Passive) {
                // The batch is safe; the write-ahead file grows until there is room to write it back.
                Ok(()) | Err(LogFileError::Full { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes out some rows that were purged; returns whether more are left.
    ///
    /// # Errors
    /// Like [`LogFile::write`].
    pub fn sweep(&mut self) -> Result<bool, LogFileError> {
        if !self.garbage.is_empty() {
            self.write(&[])?;
        }
        Ok(!self.garbage.is_empty())
    }

    /// Reads records of a shard, at least one if there is one, and no more than about `bytes_max`.
    ///
    /// # Errors
    /// [`LogFileError::Damaged`] names the record whose bytes are not what was written.
    pub fn read(
        &self,
        shard: ShardId,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, LogFileError> {
        let failed = |e| LogFileError::sqlite(&self.path, "reading", e);
        let Some(known) = self.shards.get(&shard) else { return Ok(Vec::new()) };
        let mut select = self.connection.prepare_cached(SELECT).map_err(failed)?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        for index in range {
            let Some(row) = known.index.row(index) else { continue };
            if bytes >= bytes_max {
                break;
            }
            let mut rows = select.query(params![row.seq]).map_err(failed)?;
            let damaged = |what: &str| LogFileError::Damaged {
                path: self.path.clone(),
                shard,
                index,
                what: what.to_owned(),
            };
            let found = rows.next().map_err(failed)?.ok_or_else(|| damaged("its row is gone"))?;
            let (columns, record) = self.parse(found)?;
            let position = LogPosition { term: row.term, index };
            if columns.shard != shard || record.position != position {
                return Err(damaged("its row holds another record"));
            }
            bytes += record.frame.len();
            records.push(record);
        }
        Ok(records)
    }

    /// Returns the term of a record that is there.
    #[must_use]
    pub fn term(&self, shard: ShardId, index: u64) -> Option<u64> {
        self.shards.get(&shard)?.index.row(index).map(|row| row.term)
    }

    fn put(&mut self, operation: &LogOperation) -> Result<(), LogFileError> {
        match operation {
            LogOperation::Append { shard, records } => return self.append(*shard, records),
            LogOperation::Vote { shard, vote } => self.mark(*shard).vote = Some(*vote),
            LogOperation::Truncate { shard, last } => {
                let index = &mut self.shards.entry(*shard).or_default().index;
                let (first, gone) = (index.beginning(), index.truncate(*last));
                let deleted = self.delete(gone.iter().map(|row| row.seq));
                self.undo.cut(*shard, first, gone);
                deleted?;
            }
            LogOperation::Purge { shard, upto } => {
                let index = &mut self.shards.entry(*shard).or_default().index;
                let (first, gone) = (index.beginning(), index.purge(upto.index));
                self.garbage.extend(gone.iter().map(|row| row.seq));
                self.undo.purged(*shard, first, gone);
                let marks = self.mark(*shard);
                marks.purged = Some(*upto);
                // The log begins where the copy ends: it is in place, and no start has to finish anything.
                marks.installing = marks.installing.filter(|copy| copy.upto.index > upto.index);
            }
            LogOperation::Installing { shard, installing } => {
                self.mark(*shard).installing = *installing;
            }
        }
        Ok(())
    }

    fn append(&mut self, shard: ShardId, records: &[LogRecord]) -> Result<(), LogFileError> {
        let failed = |e| LogFileError::sqlite(&self.path, "appending", e);
        let known = self.shards.entry(shard).or_default();
        let mut insert = self.connection.prepare_cached(INSERT).map_err(failed)?;
        for LogRecord { position, kind, frame } in records {
            let expected = known.index.next().or_else(|| known.marks.purged.map(|p| p.index + 1));
            if expected.is_some_and(|expected| expected != position.index) {
                let (expected, found) = (expected.unwrap_or_default(), position.index);
                return Err(LogFileError::Hole { path: self.path.clone(), shard, expected, found });
            }
            let columns =
                Columns { seq: self.next_seq, shard, position: *position, kind: kind.number() };
            let (idx, term) = (position.index.cast_signed(), position.term.cast_signed());
            insert
                .execute(params![
                    columns.seq,
                    shard.0,
                    idx,
                    term,
                    columns.kind,
                    columns.seal(),
                    &**frame
                ])
                .map_err(failed)?;
            self.undo.pushed(shard, known.index.beginning());
            known.index.push(position.index, Row { seq: self.next_seq, term: position.term });
            self.next_seq += 1;
        }
        Ok(())
    }

    fn mark(&mut self, shard: ShardId) -> &mut ShardMarks {
        let known = self.shards.entry(shard).or_default();
        self.undo.marked(shard, known);
        known.is_marks_dirty = true;
        &mut known.marks
    }

    fn put_marks(&mut self) -> Result<(), LogFileError> {
        let failed = |e| LogFileError::sqlite(&self.path, "writing marks", e);
        let mut put = self.connection.prepare_cached(MARK).map_err(failed)?;
        for (id, shard) in self.shards.iter_mut().filter(|(_, shard)| shard.is_marks_dirty) {
            let frame = codec::encode(&MarkRow { shard: *id, marks: shard.marks })
                .expect("marks are a few dozen bytes");
            put.execute(params![id.0, frame]).map_err(failed)?;
            self.undo.marked(*id, shard);
            shard.is_marks_dirty = false;
        }
        Ok(())
    }

    fn sweep_rows(&mut self) -> Result<(), LogFileError> {
        let rest = self.garbage.split_off(SWEEP_ROWS.min(self.garbage.len()));
        let gone = std::mem::replace(&mut self.garbage, rest);
        let deleted = self.delete(gone.iter().copied());
        self.undo.swept(gone);
        deleted
    }

    fn delete(&self, rows: impl IntoIterator<Item = i64>) -> Result<(), LogFileError> {
        let failed = |e| LogFileError::sqlite(&self.path, "removing rows", e);
        let mut delete = self.connection.prepare_cached(DELETE).map_err(failed)?;
        for seq in rows {
            delete.execute(params![seq]).map_err(failed)?;
        }
        Ok(())
    }

    fn run(&self, doing: &'static str, sql: &str) -> Result<(), LogFileError> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(|e| LogFileError::sqlite(&self.path, doing, e))?;
        statement.execute([]).map_err(|e| LogFileError::sqlite(&self.path, doing, e))?;
        Ok(())
    }
}
