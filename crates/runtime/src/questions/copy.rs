//! A copy of the whole shard, as this node holds it, for a backup.
//!
//! The copy is made after a linearizable read would have been answered, so everything that was acknowledged before it was
//! asked for is in it. Any replica will do.
//!
//! Absent on purpose: how many copies may be on their way. Whoever sends them counts.

use std::error::Error as _;

use statehouse_contract::{Consistency, Rejection, RejectionCode};
use statehouse_log::{LogError, ShardCopy};
use statehouse_store::StoreError;

use super::{deadline, read_failed};
use crate::seat::Seat;

impl Seat {
    /// Makes a copy of this node's rows.
    ///
    /// # Errors
    /// The rejection that the caller gets; the shard goes on without a copy.
    pub async fn copy(&self) -> Result<ShardCopy, Rejection> {
        self.begin_read(Consistency::Linearizable, deadline(0)).await?;
        self.log().copy().await.map_err(|error| refused(&error))
    }
}

fn refused(error: &LogError) -> Rejection {
    if let LogError::Rows { source: StoreError::StorageFull { .. }, .. } = error {
        let detail = "the disk of this node has no room for a copy; ask another node";
        return Rejection::gateway(RejectionCode::StorageFull, detail).after_ms(2_000);
    }
    if let LogError::Rows { source, .. } = error {
        return read_failed(source);
    }
    tracing::error!(%error, cause = ?error.source(), "no copy could be made");
    Rejection::gateway(RejectionCode::Internal, "no copy could be made")
}
