//! What the HTTP face needs from the house behind it: submit, query, readiness.
//!
//! The cluster's router is the real one; the tests have a fake. Behind this trait nobody knows HTTP, and in
//! front of it nobody knows shards.
//!
//! Absent on purpose: anything that would need a second call for one request.

use futures::future::BoxFuture;

use statehouse_contract::{Answer, CommandEnvelope, InstanceKey, Query, Receipt, Rejection};

/// The house behind the face.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Hands a command in and waits for its stored answer, at most as long as the envelope says.
    fn submit(&self, envelope: CommandEnvelope) -> BoxFuture<'_, Result<Receipt, Rejection>>;

    /// Asks a question.
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, Rejection>>;

    /// Returns whether this node can serve now. Quick: it is asked every second.
    fn readiness(&self) -> Readiness;

    /// Returns the node that leads the shard of an instance, as far as this node knows (a hint for clients).
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
