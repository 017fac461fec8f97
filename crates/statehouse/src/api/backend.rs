//! What the HTTP face needs from the house behind it: submit, query, readiness.
//!
//! The cluster's router is the real one; the tests have a fake. Behind this trait nobody knows HTTP, and in
//! front of it nobody knows shards.
//!
//! Absent on purpose: anything that would need a second call for one request.

use std::{any::Any, fs::File};

use futures::future::BoxFuture;

use statehouse_cluster::KeyChoice;
use statehouse_contract::{
    Answer, CommandEnvelope, Digest, InstanceKey, NodeId, Query, Receipt, Rejection, ShardId,
};

/// The house behind the face.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Hands a command in and waits for its stored answer, at most as long as the envelope says.
    fn submit(&self, envelope: CommandEnvelope) -> BoxFuture<'_, Result<Receipt, Rejection>>;

    /// Leases tasks, waiting so long for the first one. `choice` says whether the worker may repeat the call.
    fn lease(
        &self,
        envelope: CommandEnvelope,
        wait_ms: u64,
        choice: KeyChoice,
    ) -> BoxFuture<'_, Result<Receipt, Rejection>>;

    /// Asks a question.
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, Rejection>>;

    /// Makes a copy of a shard, with everything in it that was acknowledged before.
    fn copy(&self, shard: ShardId) -> BoxFuture<'_, Result<ShardCopy, Rejection>>;
    /// Hands leadership of a shard over: to a node, or to the follower that is furthest. Returns whom it was offered to.
    fn hand_over(
        &self,
        shard: ShardId,
        to: Option<NodeId>,
    ) -> BoxFuture<'_, Result<NodeId, Rejection>>;

    /// Returns whether this node can serve now. Quick: it is asked every second.
    fn readiness(&self) -> Readiness;

    /// Returns the base URL of the API of the node that leads the shard of an instance, as its configuration advertises
    /// it (`http://127.0.0.1:7401`); nothing while this node leads it or knows no leader.
    ///
    /// A hint that saves clients a hop. It is asked after every answer about an instance, so it must be quick.
    fn leader_of(&self, _key: &InstanceKey) -> Option<Box<str>> {
        None
    }
}

/// Whether a node can serve.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Readiness {
    /// Whether it can.
    pub(crate) ready: bool,
    /// What it waits for, when it cannot.
    pub(crate) waiting_for: Vec<String>,
    /// Entries that are committed but not applied here, over all shards.
    pub(crate) apply_lag: u64,
}

/// A copy of a shard on its way out.
pub(crate) struct ShardCopy {
    /// The cluster's name, if it has one.
    pub(crate) cluster: Option<String>,
    /// How many shards the cluster has.
    pub(crate) shards: u32,
    /// The position up to which everything is in it.
    pub(crate) position: u64,
    /// The term of that entry.
    pub(crate) term: u64,
    /// The feature level of its entries.
    pub(crate) level: u16,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its fingerprint.
    pub(crate) digest: Digest,
    /// Its bytes, from the beginning.
    pub(crate) file: File,
    /// Its place among the copies on their way; it ends with the answer.
    pub(crate) place: Box<dyn Any + Send>,
}
