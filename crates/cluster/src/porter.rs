//! The porter: it carries what the organs of this node's shards send to instances of any shard.
//!
//! Outboxes, schedules and batches hand their commands in here. They take the same way as a client's command, with keys
//! that no client can have, and with permits of their own: a node full of clients still delivers what it has promised.
//!
//! Absent on purpose: order and retries; the organs keep those.
//!
//! Invariant `BOUND`: at most `CARRIED_PERMITS` commands are carried at once; one more waits.

use std::sync::Arc;

use futures::future::BoxFuture;
use statehouse_contract::{
    Answer, CommandEnvelope, Query, Receipt, Rejection, limits::CARRIED_PERMITS,
};
use statehouse_runtime::Carrier;
use tokio::sync::Semaphore;

use crate::router::Router;

/// Carries commands and questions of this node's organs. Whoever keeps it keeps them moving.
pub(crate) struct Porter {
    router: Router,
    permits: Arc<Semaphore>,
}

impl Porter {
    pub(crate) fn new(router: Router) -> Arc<Self> {
        Arc::new(Self { router, permits: Arc::new(Semaphore::new(CARRIED_PERMITS)) })
    }
}

impl Carrier for Porter {
    fn submit(&self, envelope: CommandEnvelope) -> BoxFuture<'_, Result<Receipt, Rejection>> {
        Box::pin(async move {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.expect("the porter never closes its permits");
            self.router.carry(envelope, Arc::new(permit)).await
        })
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, Rejection>> {
        Box::pin(self.router.query(query))
    }
}
