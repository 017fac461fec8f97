//! A node from start to end: directory, log, shards, router, and the same backwards.
//!
//! Starting an empty directory makes a new cluster only when the configuration says so. Stopping refuses new work, answers
//! what was admitted, stops the actors and closes the files, in this order.
//!
//! Absent on purpose: signals, HTTP, printing. Whoever runs the process does that.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use statehouse_contract::{
    Clock, NodeId,
    view::{ClusterView, MemberView, PlaceView},
};
use statehouse_runtime::{
    HostConfig, HostError, Profile, Reserve, Seat, ShardHost, Tuning, count_violations,
};
use statehouse_telemetry::Meters;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::{NodeError, Readiness, Router, ShardMap, health, identity};

/// How long a start waits for every shard to open.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// What to do with an empty data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// Refuse: it may be a disk that lost its data.
    Never,
    /// Make a new cluster of one.
    SingleNode,
}

/// How to start a node.
#[derive(Clone)]
pub struct NodeConfig {
    /// The node's own directory, `DATA/node-K`.
    pub data: PathBuf,
    /// Who it is.
    pub node: NodeId,
    /// How many shards a new cluster gets; an existing one keeps its number and another one is refused.
    pub shards: u32,
    /// The address of its API, as others may see it.
    pub api: String,
    /// The region in which it stands, if that matters.
    pub region: Option<String>,
    /// What to do with an empty directory.
    pub bootstrap: Bootstrap,
    /// The clock that decides.
    pub clock: Arc<dyn Clock>,
    /// What may be set to measure or to test.
    pub tuning: Tuning,
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfig")
            .field("data", &self.data)
            .field("node", &self.node)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    host: ShardHost,
    router: Router,
}

/// Who this node is, for those who ask about the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    node: NodeId,
    api: String,
}

impl Who {
    /// Returns the cluster as this node sees it: one node, for now.
    pub(crate) fn view(&self, seats: &[Arc<Seat>], instance: Option<PlaceView>) -> ClusterView {
        let (node, api) = (self.node.to_string(), self.api.clone());
        let member = MemberView { node: node.clone(), state: "up".to_owned(), api };
        let shards = seats.iter().map(|seat| seat.shard_view()).collect();
        ClusterView { node, members: vec![member], shards, instance }
    }
}

impl Node {
    /// Opens the data directory, starts every shard and returns once each is open, or after 10 s.
    ///
    /// # Errors
    /// Says which part could not start and why; nothing keeps running then.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let found = identity::open(&config.data, config.node, config.shards, config.bootstrap)?;
        let host = ShardHost::start(HostConfig {
            data: config.data.clone(),
            node: found.node,
            shards: found.shards,
            profile: Profile::Local,
            reserve: Reserve::Contract,
            clock: config.clock,
            tuning: config.tuning,
        });
        let host = host.await.map_err(started_badly)?;
        count_violations(host.metrics());
        let who = Who { node: found.node, api: config.api };
        let router = Router::new(ShardMap::even(found.shards), &host, who);
        let node = Self { host, router };
        let began = Instant::now();
        while !node.is_open() && began.elapsed() < OPENING_MAX {
            sleep(Duration::from_millis(1)).await;
        }
        info!(node = %found.node, shards = found.shards, "the node is up");
        Ok(node)
    }

    fn is_open(&self) -> bool {
        self.host.seats().iter().all(|seat| seat.trouble().is_none())
    }

    /// Returns the way to every shard.
    #[must_use]
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Returns whether the node can serve now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        health::of(self.host.shards())
    }

    /// Shows the node's numbers as instruments.
    pub fn register(&self, meters: &Meters) {
        self.host.metrics().register(meters);
    }

    /// Waits for what must end this process, perhaps for ever; returns it in words.
    pub async fn failed(&self) -> String {
        self.host.failed().await
    }

    /// Refuses new work, answers what was admitted, stops the actors and closes the files; after `limit` it stops waiting.
    pub async fn drain(self, limit: Duration) {
        let Self { host, router } = self;
        // Reads are served until the end; new commands are refused at once.
        host.begin_drain();
        host.settle(limit).await;
        router.close();
        host.stop(limit).await;
    }
}

fn started_badly(error: HostError) -> NodeError {
    match error {
        HostError::Locked { path } => NodeError::Locked { path },
        other => NodeError::Part { what: other.to_string(), source: Box::new(other) },
    }
}
