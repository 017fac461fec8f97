//! The house behind the HTTP face: the node's router, and whether the node is ready.
//!
//! The API asks through its own trait, so that it can be tested without a node; this is the real one. The node
//! itself sits in a slot, because stopping it takes it away while requests may still hold the way to it.
//!
//! Deliberately absent: any decision. Everything is passed on as it is.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;

use statehouse_cluster::{KeyChoice, Node, Outgoing, Router};
use statehouse_contract::{
    Answer, CommandEnvelope, InstanceKey, NodeId, Query, Receipt, Rejection, ShardId,
};

use crate::api::{Backend, Readiness, ShardCopy};

/// A running node. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct House {
    router: Router,
    node: Arc<Mutex<Option<Arc<Node>>>>,
}

impl House {
    /// Takes a node in.
    pub(crate) fn new(node: Node) -> Self {
        Self { router: node.router(), node: Arc::new(Mutex::new(Some(Arc::new(node)))) }
    }

    /// Waits for what must end this process, perhaps for ever; returns it in words.
    pub(crate) async fn failed(&self) -> String {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match node {
            Some(node) => node.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Returns how many timers have fired, and how many of them late.
    pub(crate) fn timers(&self) -> (u64, u64) {
        let slot = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().map_or((0, 0), |node| node.timers())
    }

    /// Hands the leadership of every shard to other nodes, if there are any.
    pub(crate) async fn hand_all_over(&self) {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(node) = node {
            node.hand_over().await;
        }
    }

    /// Stops the node; the second time there is nothing to stop.
    ///
    /// # Contract
    /// Nobody waits in [`House::failed`] any more: whoever waits there holds the node.
    pub(crate) async fn close(&self, limit: Duration) {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
        match node.map(Arc::try_unwrap) {
            Some(Ok(node)) => node.drain(limit).await,
            Some(Err(_)) => tracing::warn!("the node is still in use and ends with the process"),
            None => {}
        }
    }
}

impl Backend for House {
    fn submit(&self, envelope: CommandEnvelope) -> BoxFuture<'_, Result<Receipt, Rejection>> {
        Box::pin(self.router.submit(envelope))
    }

    fn lease(
        &self,
        envelope: CommandEnvelope,
        wait_ms: u64,
        choice: KeyChoice,
    ) -> BoxFuture<'_, Result<Receipt, Rejection>> {
        Box::pin(self.router.lease(envelope, wait_ms, choice))
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, Rejection>> {
        Box::pin(self.router.query(query))
    }

    fn copy(&self, shard: ShardId) -> BoxFuture<'_, Result<ShardCopy, Rejection>> {
        Box::pin(async move {
            let Outgoing { copy, cluster, shards, place } = self.router.copy(shard).await?;
            let (position, term, level) = (copy.position, copy.term, copy.level);
            let (bytes, digest, file) = (copy.bytes, copy.digest, copy.file);
            let place = Box::new(place);
            Ok(ShardCopy { cluster, shards, position, term, level, bytes, digest, file, place })
        })
    }

    fn hand_over(
        &self,
        shard: ShardId,
        to: Option<NodeId>,
    ) -> BoxFuture<'_, Result<NodeId, Rejection>> {
        Box::pin(self.router.hand_over(shard, to))
    }

    fn leader_of(&self, key: &InstanceKey) -> Option<Box<str>> {
        self.router.leader_api(key)
    }

    fn readiness(&self) -> Readiness {
        let slot = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref().map(|node| node.readiness()) {
            Some(found) => Readiness {
                ready: found.ready,
                waiting_for: found.reason.into_iter().collect(),
                apply_lag: found
                    .shards
                    .iter()
                    .map(|shard| shard.committed.saturating_sub(shard.applied))
                    .sum(),
            },
            None => Readiness {
                ready: false,
                waiting_for: vec!["the node is shutting down".to_owned()],
                apply_lag: 0,
            },
        }
    }
}
