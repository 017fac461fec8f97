//! The one row that says where the rows of this file stand.
//!
//! It is written in the transaction of every batch, so position, chain, sums and rows always agree. It is one framed
//! blob: a flipped byte fails its checksum and the file is not opened.
//!
//! Deliberately absent: votes, log ids, members. What the consensus engine wants to find again comes in as `mark`, opaque.

use bincode::{Decode, Encode};
use rusqlite::{Connection, OptionalExtension, params};

use statehouse_contract::{ShardId, Timestamp, codec};

use crate::{chain::Chain, entry::Status, error::Fault, sum::Sum};

const TABLE: &str = "meta";

/// Where the rows of a shard stand.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Meta {
    /// Whose rows these are.
    pub shard: ShardId,
    /// The last applied position; nothing before the first.
    pub applied: Option<u64>,
    /// The log term of that entry.
    pub term: u64,
    /// Shard time: the running maximum of `decided_at`.
    pub time: Timestamp,
    /// The running hash over everything applied.
    pub chain: Chain,
    /// The feature level up to which entries may be read.
    pub level: u16,
    /// What the log wants to find again with this position: its own id of it, the membership. Opaque.
    pub mark: Vec<u8>,
    /// The highest position whose row of history was swept; 0 if none was.
    pub purged: u64,
    /// How many instances there are, by status number.
    pub instances: [u64; 8],
    /// What tells when rows are missing.
    pub sums: Sums,
}

/// The sums of every set of rows that is small enough to be compared when the file is opened, and of the instances'
/// digests, which together name the state of the shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Sums {
    /// The digests of all instance rows.
    pub instances: Sum,
    /// The rows of `buckets`.
    pub buckets: Sum,
    /// The keys of receipts that belong to no instance.
    pub loose: Sum,
    /// The rows of `due`.
    pub due: Sum,
    /// The rows of `tasks`.
    pub tasks: Sum,
    /// The rows of `outbox`.
    pub outbox: Sum,
    /// The rows of `catalog`.
    pub catalog: Sum,
}

impl Meta {
    /// Returns where an empty shard stands.
    pub(crate) fn empty(shard: ShardId) -> Self {
        Self {
            shard,
            applied: None,
            term: 0,
            time: Timestamp(0),
            chain: Chain::default(),
            level: 1,
            mark: Vec::new(),
            purged: 0,
            instances: [0; 8],
            sums: Sums::default(),
        }
    }

    /// Reads the row; nothing in a new file.
    pub(crate) fn load(connection: &Connection) -> Result<Option<Self>, Fault> {
        let mut read = connection.prepare_cached("SELECT body FROM meta WHERE id = 1")?;
        let body: Option<Vec<u8>> = read.query_row([], |row| row.get(0)).optional()?;
        body.map(|body| codec::decode(&body).map_err(|error| Fault::frame(TABLE, 1, &error)))
            .transpose()
    }

    /// Reads the row of a file that has been opened before.
    pub(crate) fn read(connection: &Connection) -> Result<Self, Fault> {
        Self::load(connection)?.ok_or_else(|| Fault::row(TABLE, 1, "is missing"))
    }

    /// Writes the row.
    pub(crate) fn save(&self, connection: &Connection) -> Result<(), Fault> {
        let body = codec::encode(self).map_err(|error| Fault::frame(TABLE, 1, &error))?;
        let mut write =
            connection.prepare_cached("INSERT OR REPLACE INTO meta (id, body) VALUES (1, ?1)")?;
        write.execute(params![body])?;
        Ok(())
    }

    /// Counts an instance's change of status.
    pub(crate) fn count(&mut self, before: Option<Status>, after: Option<Status>) {
        let place = |status: Status| usize::from(status.number());
        if let Some(number) = before.and_then(|status| self.instances.get_mut(place(status))) {
            *number = number.saturating_sub(1);
        }
        if let Some(number) = after.and_then(|status| self.instances.get_mut(place(status))) {
            *number += 1;
        }
    }

    /// Returns the digest of the shard's logical rows, which every replica has at the same position.
    #[must_use]
    pub fn state_digest(&self) -> Chain {
        let sums = codec::bare(&(&self.sums, &self.instances, self.time, self.level));
        Chain::default().next(
            self.applied.unwrap_or(0),
            self.term,
            crate::chain::Mark::Written,
            &sums,
        )
    }
}
