//! What the log needs of a shard's rows, and nothing more.
//!
//! In service the rows are the store's. The log's own tests also run over rows that are only counted, so
//! that what they show is the log's doing.
//!
//! # Contract
//! `apply` is one transaction: all of the batch and its mark, or nothing. What was applied before is
//! skipped. A snapshot that was returned is complete, verified and synced.

use std::path::PathBuf;

use statehouse_contract::Digest;
use statehouse_store::{Applied, Committed, StoreError, View};

/// The rows of one shard.
pub(crate) trait Rows: Send + 'static {
    /// Returns the last applied position and the mark that was written with it.
    fn standing(&self) -> Result<Standing, StoreError>;

    /// Applies a batch with its mark.
    fn apply(&mut self, batch: &[Committed<'_>], mark: &[u8]) -> Result<Vec<Applied>, StoreError>;

    /// Returns what makes snapshots of these rows while they are written.
    fn snapshots(&self) -> Box<dyn Snapshots>;

    /// Replaces all rows by those of a snapshot.
    fn install(&mut self, snapshot: &SnapshotFile) -> Result<(), StoreError>;

    /// Returns the position up to which a power cut cannot take anything back.
    fn synced(&self) -> Option<u64>;

    /// Writes everything back and syncs it. Slow.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Returns the right to read these rows; nothing where they can only be counted.
    fn view(&self) -> Option<View>;
}

/// Makes and finds snapshots, beside the thread that writes the rows.
pub(crate) trait Snapshots: Send + Sync + 'static {
    /// Makes a snapshot.
    fn build(&self) -> Result<SnapshotFile, StoreError>;

    /// Returns the newest snapshot that is whole.
    fn newest(&self) -> Result<Option<SnapshotFile>, StoreError>;
}

/// Where rows stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) applied: Option<u64>,
    pub(crate) mark: Vec<u8>,
}

/// A whole shard in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) hash: Digest,
    pub(crate) standing: Standing,
}
