//! The engine's log trait over the one writer and the tail in memory.
//!
//! `append` returns as soon as the entries can be read, and reports through the callback when they are on
//! the disk. Votes, truncations and purges are awaited. What is committed is only remembered; it reaches
//! the disk with the next write and is never synced for.
//!
//! Absent on purpose: a copy of the file's contents. What the tail does not hold is read by the writer,
//! between two batches, with its checksum verified.

use std::{fmt::Debug, io, ops::Bound, ops::RangeBounds, sync::Arc};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};

use statehouse_contract::{
    ShardId, limits,
    mutant::{self, Mutant},
};
use statehouse_store::log_file::LogOperation;

use crate::{
    engine::{self, Engine, EngineEntry, EngineVote, LogId},
    tail::{Lookup, Tail},
    writer::{Done, WriterHandle},
};

/// One shard's part of the log, as the engine sees it. Also its reader.
#[derive(Clone)]
pub(crate) struct ShardStorage {
    shard: ShardId,
    tail: Arc<Tail>,
    writer: WriterHandle,
}

impl ShardStorage {
    pub(crate) fn new(shard: ShardId, tail: Arc<Tail>, writer: WriterHandle) -> Self {
        Self { shard, tail, writer }
    }

    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<EngineEntry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let (mut missing, here) = match self.tail.read(start..end) {
            Lookup::Here(here) => return Ok(first_bytes(here, bytes_max)),
            Lookup::File(missing, here) => (missing, here),
        };
        let mut entries = Vec::new();
        let mut bytes_left = bytes_max;
        while !missing.is_empty() && bytes_left > 0 {
            let part = bytes_left.min(limits::LOG_BATCH_BYTES_MAX);
            let found = self.writer.read(self.shard, missing.clone(), part).await;
            let found = found.map_err(io::Error::other)?;
            let Some(last) = found.last() else {
                // Nothing stands there: the log begins later.
                missing.start = missing.end;
                break;
            };
            missing.start = last.position.index + 1;
            for record in found {
                bytes_left = bytes_left.saturating_sub(record.frame.len() + 1);
                entries.push(engine::entry(record).map_err(io::Error::other)?);
            }
        }
        if missing.is_empty() {
            entries.extend(here);
        }
        Ok(entries)
    }
}

/// Keeps entries from the front until they weigh so much; at least one.
fn first_bytes(mut entries: Vec<EngineEntry>, bytes_max: usize) -> Vec<EngineEntry> {
    let mut bytes = 0_usize;
    let fit = entries.iter().position(|entry| {
        bytes = bytes.saturating_add(engine::weight(entry));
        bytes > bytes_max
    });
    entries.truncate(fit.unwrap_or(entries.len()).max(1));
    entries
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Engine> for ShardStorage {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EngineEntry>, io::Error> {
        let (start, end) = bounds(&range);
        self.read(start, end, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<EngineVote>, io::Error> {
        Ok(self.tail.vote().map(engine::engine_vote))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<EngineEntry>, io::Error> {
        self.read(start, end, limits::LOG_BATCH_BYTES_MAX / 4).await
    }
}

impl RaftLogStorage<Engine> for ShardStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Engine>, io::Error> {
        let (purged, last) = self.tail.extent();
        Ok(LogState {
            last_purged_log_id: purged.map(engine::log_id),
            last_log_id: last.map(engine::log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &EngineVote) -> Result<(), io::Error> {
        let vote = engine::stored_vote(vote);
        // A deliberate bug: what is on the disk is always the vote of the term before.
        if mutant::is(Mutant::VoteNotSynced) {
            let before = self.tail.vote().filter(|before| before.term < vote.term);
            if let Some(vote) = before {
                let operation = LogOperation::Vote { shard: self.shard, vote };
                self.writer.write_through(self.shard, operation).await?;
            }
            self.tail.set_vote(vote);
            return Ok(());
        }
        self.writer
            .write_through(self.shard, LogOperation::Vote { shard: self.shard, vote })
            .await?;
        self.tail.set_vote(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let committed = committed.as_ref().map(engine::position);
        self.tail.set_committed(committed);
        self.writer.note_committed(self.shard, committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        // Beyond the end it says nothing: what was truncated or never flushed cannot be applied.
        let (_, last) = self.tail.extent();
        let committed = self.tail.committed().map(engine::log_id);
        Ok(committed.min(last.map(engine::log_id)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Engine>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EngineEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<EngineEntry> = entries.into_iter().collect();
        let records: Vec<_> = entries.iter().map(engine::record).collect();
        let last = records.last().map_or(0, |record| record.position.index);
        self.tail.push(entries);
        let operation = LogOperation::Append { shard: self.shard, records };
        self.writer.write(self.shard, operation, Done::Engine { callback, last });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let last = last.as_ref().map(engine::position);
        self.tail.truncate(last);
        let last = last.map(|last| last.index);
        let operation = LogOperation::Truncate { shard: self.shard, last };
        self.writer.write_through(self.shard, operation).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let upto = engine::position(&upto);
        self.tail.purge(upto);
        self.writer.write_through(self.shard, LogOperation::Purge { shard: self.shard, upto }).await
    }
}
