//! Reading everything that stands in the log file, and judging it.
//!
//! At open each row is read once: its seal over the columns, its frame's checksum, its place right
//! behind the record before it. That costs one pass over the file, which the index needs anyway, and
//! means that nothing that was damaged while nobody looked is ever handed to the engine.
//!
//! Invariant: rows of a shard rise in number as in index, because rows are only added at the end and a
//! truncation takes the end away.

use bincode::{Decode, Encode};
use rusqlite::types::ValueRef;

use statehouse_contract::{ShardId, codec};

use super::{
    LogFile, LogFileError, LogPosition, LogRecord, RecordKind, Shard, ShardMarks, index::Row,
};

const SELECT_ALL: &str =
    "SELECT seq, shard, idx, term, kind, seal, frame FROM entries ORDER BY seq";

/// The form of a mark row: it names its shard, so that rows cannot change places.
#[derive(Encode, Decode)]
pub(super) struct MarkRow {
    /// The shard.
    pub(super) shard: ShardId,
    /// Its marks.
    pub(super) marks: ShardMarks,
}

/// The columns of a row but for its frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    /// The row's number.
    pub(super) seq: i64,
    /// The shard.
    pub(super) shard: ShardId,
    /// The place in its log.
    pub(super) position: LogPosition,
    /// The kind's number.
    pub(super) kind: i64,
}

impl Columns {
    /// Returns the checksum over all columns.
    pub(super) fn seal(&self) -> i64 {
        let mut bytes = [0; 36];
        let words = [
            self.seq.to_be_bytes(),
            self.position.index.to_be_bytes(),
            self.position.term.to_be_bytes(),
            self.kind.to_be_bytes(),
        ];
        let (head, tail) = bytes.split_at_mut(32);
        head.copy_from_slice(words.as_flattened());
        tail.copy_from_slice(&self.shard.0.to_be_bytes());
        i64::from(crc32c::crc32c(&bytes))
    }
}

impl LogFile {
    /// Builds the index and the marks from the rows.
    pub(super) fn load(&mut self) -> Result<(), LogFileError> {
        self.shards.clear();
        self.garbage.clear();
        self.next_seq = 1;
        self.load_marks()?;
        let path = self.path.clone();
        let failed = |e| LogFileError::sqlite(&path, "reading", e);
        let mut loaded = Vec::new();
        {
            let mut select = self.connection.prepare(SELECT_ALL).map_err(failed)?;
            let mut rows = select.query([]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                loaded.push(self.check(row)?.0);
            }
        }
        for columns in loaded {
            self.index(columns)?;
        }
        Ok(())
    }

    fn load_marks(&mut self) -> Result<(), LogFileError> {
        let failed = |e| LogFileError::sqlite(&self.path, "reading marks", e);
        let mut select =
            self.connection.prepare("SELECT shard, frame FROM marks").map_err(failed)?;
        let mut rows = select.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let claimed: i64 = row.get(0).map_err(failed)?;
            let frame = row.get_ref(1).map_err(failed)?.as_blob().unwrap_or_default();
            let damaged = |what: String| LogFileError::DamagedFile {
                path: self.path.clone(),
                what: format!("marks of shard {claimed}: {what}"),
            };
            let MarkRow { shard, marks } =
                codec::decode(frame).map_err(|why| damaged(why.to_string()))?;
            if i64::from(shard.0) != claimed {
                return Err(damaged(format!("they belong to shard {shard}")));
            }
            self.shards.insert(shard, Shard { marks, ..Shard::default() });
        }
        Ok(())
    }

    fn index(&mut self, columns: Columns) -> Result<(), LogFileError> {
        let Columns { seq, shard, position, .. } = columns;
        self.next_seq = seq + 1;
        let known = self.shards.entry(shard).or_default();
        let purged = known.marks.purged.map(|purged| purged.index);
        if purged.is_some_and(|purged| position.index <= purged) {
            self.garbage.push_back(seq);
            return Ok(());
        }
        let expected = known.index.next().or_else(|| purged.map(|purged| purged + 1));
        if let Some(expected) = expected.filter(|expected| *expected != position.index) {
            let found = position.index;
            return Err(LogFileError::Hole { path: self.path.clone(), shard, expected, found });
        }
        known.index.push(position.index, Row { seq, term: position.term });
        Ok(())
    }

    /// Checks a row and returns it as a record.
    pub(super) fn parse(
        &self,
        row: &rusqlite::Row<'_>,
    ) -> Result<(Columns, LogRecord), LogFileError> {
        let (columns, kind, frame) = self.check(row)?;
        let record = LogRecord { position: columns.position, kind, frame: frame.into() };
        Ok((columns, record))
    }

    fn check<'r>(
        &self,
        row: &'r rusqlite::Row<'_>,
    ) -> Result<(Columns, RecordKind, &'r [u8]), LogFileError> {
        let number = |column: usize| match row.get_ref(column) {
            Ok(ValueRef::Integer(number)) => number,
            // Another type there is damage, and fails the seal.
            Ok(_) | Err(_) => -1,
        };
        let index = number(2).cast_unsigned();
        let shard = ShardId(u32::try_from(number(1)).unwrap_or(u32::MAX));
        let columns = Columns {
            seq: number(0),
            shard,
            position: LogPosition { term: number(3).cast_unsigned(), index },
            kind: number(4),
        };
        let damaged = |what: &str| LogFileError::Damaged {
            path: self.path.clone(),
            shard,
            index,
            what: what.to_owned(),
        };
        if columns.seal() != number(5) {
            return Err(damaged("the seal over its columns does not match"));
        }
        let kind = RecordKind::parse(columns.kind).ok_or_else(|| damaged("unknown kind"))?;
        let Ok(ValueRef::Blob(frame)) = row.get_ref(6) else {
            return Err(damaged("its frame is no blob"));
        };
        match kind {
            RecordKind::Blank if frame.is_empty() => {}
            RecordKind::Blank => return Err(damaged("a blank record has a frame")),
            RecordKind::Entry | RecordKind::Membership => {
                codec::check(frame)
                    .map_err(|why| LogFileError::frame(&self.path, shard, index, &why))?;
            }
        }
        Ok((columns, kind, frame))
    }
}
