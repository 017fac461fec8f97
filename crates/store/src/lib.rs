//! One shard's rows on one disk.
//!
//! Read `entry` first: it is what the log can say. Then `apply`, which turns entries into rows, each once, and `view`,
//! through which every upper floor asks. The tables follow, one file each; then what proves that rows are whole.
//!
//! Absent on purpose: tokio, clocks, sockets, guards. Time comes in with the entries; whatever takes long is a function
//! that its caller runs where it likes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
mod audit;
mod backup;
mod dump;
pub mod entry;
mod fence;
mod lean;
mod shard_snapshot;
mod view;

pub mod log_file;

mod checkpoint;
mod meta;
mod node_dir;
mod opening;
mod schema;
mod state_file;

mod buckets;
mod catalog;
mod due;
mod history;
mod instances;
mod outbox;
mod tasks;

mod chain;
mod error;
mod proof;
mod rebuilt;
mod sum;

pub use apply::{Applied, Committed, Outcome, Written};
pub use audit::AuditFinding;
pub use backup::{Examined, LooseCopy, adopt, examine_copy};
pub use buckets::BucketRow;
pub use catalog::{DefinitionRow, DocumentRow, KeyRow, TenantRow};
pub use chain::Chain;
pub use entry::{Body, Entry, Header};
pub use error::{Corruption, StoreError};
pub use fence::Fence;
pub use history::{Placed, Record};
pub use instances::InstanceRow;
pub use meta::{Meta, Sums};
pub use node_dir::{NodeDir, Release};
pub use opening::Verify;
pub use outbox::OutboxRow;
pub use rebuilt::Origin;
pub use shard_snapshot::{SnapshotFile, check_snapshot, hash_file, install_closed};
pub use state_file::Store;
pub use sum::Sum;
pub use tasks::{TaskRow, TaskState, next_token};
pub use view::{
    DueCursor, DueItem, DueOwner, DuePage, HistoryPage, InstancePage, Keys, ListFilter,
    SweepLimits, SweepPage, View,
};
