//! What the log file holds: records in order, and a few marks beside them.
//!
//! A record is a position, a kind and a frame of the contract's codec. The file does not know what a
//! frame means; it checks that it is whole. The consensus engine's own things (votes, positions) are
//! plain numbers here and are encoded by hand, so that no foreign serialization reaches the disk.
//!
//! Absent on purpose: the bucket, the instance, the command. That is `entry`.

use std::sync::Arc;

use bincode::{Decode, Encode};

use statehouse_contract::{Digest, ShardId};

/// A place in a shard's log, with the term of the leader that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LogPosition {
    /// The term of the leader that appended it.
    pub term: u64,
    /// Place in the log, from 0.
    pub index: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum RecordKind {
    /// Nothing: a new leader's first record.
    Blank,
    /// An entry of the closed list, for the rows.
    Entry,
    /// The members of the shard from here on.
    Membership,
}

impl RecordKind {
    /// Returns the number that stands in the file.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Blank => 0,
            Self::Entry => 1,
            Self::Membership => 2,
        }
    }

    /// Reads the number that stands in the file.
    #[must_use]
    pub const fn parse(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Blank),
            1 => Some(Self::Entry),
            2 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// One record of a shard's log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogRecord {
    /// Where it stands.
    pub position: LogPosition,
    /// What it is.
    pub kind: RecordKind,
    /// The frame, checksum included; empty for a blank record.
    pub frame: Arc<[u8]>,
}

/// Whom this replica has voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StoredVote {
    /// The term.
    pub term: u64,
    /// The engine's id of the node that got the vote.
    pub node: u64,
    /// Whether a majority has granted it.
    pub is_granted: bool,
}

/// A copy of the whole shard that is being put in place; finished at the next start if interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Installing {
    /// The position that the copy has reached.
    pub upto: LogPosition,
    /// The fingerprint of the copy's file.
    pub hash: Digest,
}

/// What is kept of a shard beside its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ShardMarks {
    /// The last vote.
    pub vote: Option<StoredVote>,
    /// A position known to be committed; the truth may be ahead of it.
    pub committed: Option<LogPosition>,
    /// The last position that was purged.
    pub purged: Option<LogPosition>,
    /// A copy of the shard that is being put in place.
    pub installing: Option<Installing>,
}

/// What the file knows of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The marks.
    pub marks: ShardMarks,
    /// Index of the first record that is there.
    pub first: Option<u64>,
    /// Position of the last record, or of the last purged one when there is none.
    pub last: Option<LogPosition>,
}

/// One thing to write. A batch of them, of any shards, is one transaction and one sync.
#[derive(Clone, Debug)]
pub enum LogOperation {
    /// Adds records at the end; the first must follow the last one there.
    Append {
        /// The shard.
        shard: ShardId,
        /// The records, in order.
        records: Vec<LogRecord>,
    },
    /// Replaces the vote.
    Vote {
        /// The shard.
        shard: ShardId,
        /// The new vote.
        vote: StoredVote,
    },
    /// Removes every record after `last`; all of them for `None`.
    Truncate {
        /// The shard.
        shard: ShardId,
        /// The last record that stays.
        last: Option<u64>,
    },
    /// Forgets every record up to `upto`. The rows are taken out later, a few with each write.
    Purge {
        /// The shard.
        shard: ShardId,
        /// The last record that goes.
        upto: LogPosition,
    },
    /// Says that a copy of the shard is being put in place, or no longer.
    Installing {
        /// The shard.
        shard: ShardId,
        /// The copy.
        installing: Option<Installing>,
    },
}

impl LogOperation {
    /// Returns about how many bytes it writes, for the bound of a batch.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Append { records, .. } => records.iter().map(|r| r.frame.len() + 32).sum(),
            Self::Vote { .. }
            | Self::Truncate { .. }
            | Self::Purge { .. }
            | Self::Installing { .. } => 128,
        }
    }
}
