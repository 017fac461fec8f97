//! A node from start to end: directory, wires, log, shards, links, router, and the same backwards.
//!
//! Starting an empty directory makes a new cluster only when the configuration says so. Stopping hands leadership over,
//! refuses new work, answers what was admitted, stops the actors and closes the files, in this order.
//!
//! Absent on purpose: signals, HTTP, printing. Whoever runs the process does that.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use statehouse_contract::{Clock, Members, NodeId};
use statehouse_log::{Leadership, NoPeers, Origin, Part, Peer, Transport};
use statehouse_runtime::{
    Builds, Carrier, HostConfig, HostError, Kind, Profile, Reserve, Seat, ShardHost, Tuning,
    count_violations, reading::members_in,
};
use statehouse_telemetry::Meters;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    NodeError, Readiness, Router, ShardMap,
    clock::Reading,
    health,
    identity::{self, Identity},
    joining::{self, Registrar},
    links::{Bytes, ClusterConfig, Links, Wires, document},
    placement,
    porter::Porter,
    roll::Roll,
    who::Who,
};

/// How long a start waits for every shard to open.
const OPENING_MAX: Duration = Duration::from_secs(10);
/// How long a start waits for the others: a node that cannot find them serves what it can meanwhile.
const MEETING_MAX: Duration = Duration::from_secs(3);
/// How long a stopping node looks for somebody who could lead a shard, and the pause between two looks.
const HEIR_MAX: Duration = Duration::from_millis(500);
const HEIR_LOOK: Duration = Duration::from_millis(20);
/// How long a stopping node waits for others to lead its shards.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// What to do with an empty data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// Refuse: it may be a disk that lost its data.
    Never,
    /// Make a new cluster, whose first node this is, with so many shards. A directory that is one already stays as it is;
    /// asking for another number of shards is refused.
    Found {
        /// How many shards the cluster gets.
        shards: u32,
    },
}

/// How to start a node.
pub struct NodeConfig {
    /// The node's own directory, `DATA/node-K`.
    pub data: PathBuf,
    /// Its number.
    pub number: u32,
    /// The address of its API, as others may see it.
    pub api: String,
    /// The region in which it stands, if that matters.
    pub region: Option<String>,
    /// What to do with an empty directory.
    pub bootstrap: Bootstrap,
    /// How it is part of a cluster; nothing for a node alone.
    pub cluster: Option<ClusterConfig>,
    /// The node's own clock: the wall clock at its start, moved on by a clock that does not go back. Alone it decides by this
    /// one, in a cluster by the middle of the voters'.
    pub clock: Arc<dyn Clock>,
    /// What may be set to measure or to test.
    pub tuning: Tuning,
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfig")
            .field("data", &self.data)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// A running node.
pub struct Node {
    host: ShardHost,
    router: Router,
    /// Kept, because the organs only look at it.
    _porter: Arc<Porter>,
    /// Looks for tasks for those who wait; ends with the node.
    scout: AbortOnDrop,
    roll: Roll,
    links: Mutex<Option<Links>>,
    bytes: Option<Bytes>,
    clock: Arc<dyn Clock>,
    reading: Option<Arc<Reading>>,
    id: NodeId,
}

/// A task that ends with whoever holds it.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Node {
    /// Opens the data directory, starts every shard and returns once each is open, or after a while.
    ///
    /// # Errors
    /// Says which part could not start and why; nothing keeps running then.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let found = identify(&config)?;
        // Boxed: whoever starts a node should not carry all of it in its own future.
        Box::pin(Self::start_as(config, found)).await
    }

    /// Does as [`start`](Self::start), for a directory whose identity is known.
    pub(crate) async fn start_as(config: NodeConfig, found: Identity) -> Result<Self, NodeError> {
        let NodeConfig { data, api, region, cluster, clock, tuning, .. } = config;
        let own_document = cluster.as_ref().map(|c| document(c, &api, region.as_deref()));
        let profile = cluster.as_ref().map_or(Profile::Local, |cluster| cluster.profile);
        let wires = cluster
            .map(|cluster| Wires::new(cluster, found, tuning.build, Arc::clone(&clock)))
            .transpose()?;
        let shared = wires.as_ref().map(Wires::clock);
        let reading = shared.as_ref().map(|shared| shared.reading());
        let clock = shared.map_or(clock, |shared| shared as Arc<dyn Clock>);
        let transport: Arc<dyn Transport> = match &wires {
            Some(wires) => wires.transport(),
            None => Arc::new(NoPeers),
        };
        let builds = wires.as_ref().map_or_else(Builds::default, Wires::builds);
        let roll = wires.as_ref().map_or_else(Roll::default, |wires| wires.roll.clone());
        let address = own_document.as_ref().map(|own| own.log.as_str()).unwrap_or_default();
        let peer = Peer { address: address.into() };
        let origin = match found.founder {
            true => Origin::Found([(found.node, peer)].into()),
            false => Origin::Resume,
        };
        let host = ShardHost::start(HostConfig {
            data: data.clone(),
            node: found.node,
            shards: found.shards,
            profile,
            reserve: Reserve::Contract,
            origin,
            transport,
            builds: builds.clone(),
            clock: Arc::clone(&clock),
            tuning,
        });
        let host = host.await.map_err(started_badly)?;
        identity::mark_started(&data, found)?;
        count_violations(host.metrics());
        let map = ShardMap::even(found.shards);
        let who = Who {
            node: found.node,
            cluster: found.cluster,
            api,
            roll: roll.clone(),
            build: tuning.build,
            builds,
        };
        let router = Router::new(map, &host, who, profile);
        let bytes = wires.as_ref().map(Wires::bytes);
        let porter = Porter::new(router.clone());
        let carrier: Weak<dyn Carrier> = Arc::<Porter>::downgrade(&porter);
        host.carried().by(carrier);
        let links = Mutex::new(None);
        let scout = AbortOnDrop(tokio::spawn(router.clone().scout()));
        let _porter = porter;
        let id = found.node;
        let node = Self { host, router, _porter, scout, roll, links, bytes, clock, reading, id };
        if let (Some(wires), Some(own)) = (wires, own_document) {
            node.link(wires, found, own).await?;
        }
        let limit = if found.founder { OPENING_MAX } else { MEETING_MAX };
        let began = Instant::now();
        while !node.is_open() && began.elapsed() < limit {
            sleep(Duration::from_millis(1)).await;
        }
        info!(node = %found.node, shards = found.shards, "the node is up");
        Ok(node)
    }

    async fn link(
        &self,
        wires: Wires,
        found: Identity,
        own: statehouse_contract::MemberDocument,
    ) -> Result<(), NodeError> {
        let Some(cluster) = found.cluster else { return Ok(()) };
        let (router, roll, shards) = (self.router.clone(), self.roll.clone(), found.shards);
        let joins = Arc::new(Registrar { router, roll, cluster, shards });
        let (mut links, states) = wires.start(&self.host, joins).await?;
        self.router.meet(states);
        links.own(joining::announce(self.router.clone(), &self.roll, found.node, own));
        *self.links.lock().await = Some(links);
        Ok(())
    }

    /// Returns what the rows of shard 0 say about the members.
    pub(crate) fn members(&self) -> Result<Members, NodeError> {
        let Some(registry) = self.host.seats().first() else { return Ok(Members::default()) };
        members_in(&registry.log().view()).map_err(|why| NodeError::Part {
            what: "the members cannot be read".to_owned(),
            source: why.to_string().into(),
        })
    }

    fn is_open(&self) -> bool {
        self.host.seats().iter().all(|seat| seat.trouble().is_none())
    }

    /// Returns who this node is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Returns the clock that decides here.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Says what kinds of tasks this node's own workers can do.
    pub fn offer(&self, kinds: Vec<Arc<dyn Kind>>) {
        self.host.kinds().offer(kinds);
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
        self.host.register(meters);
        if let Some(bytes) = &self.bytes {
            bytes.register(meters);
        }
        if let Some(reading) = &self.reading {
            reading.register(meters);
        }
    }

    /// Returns how many timers have fired here, and how many of them later than `timer_late_ms_max`.
    #[must_use]
    pub fn timers(&self) -> (u64, u64) {
        self.host.metrics().timers()
    }

    /// Waits for what must end this process, perhaps for ever; returns it in words.
    pub async fn failed(&self) -> String {
        self.host.failed().await
    }

    /// Hands the leadership of every shard to another voter that has everything, and waits until they lead, at most 2 s.
    /// The node goes on serving and forwards from then on, and is offered nothing any more: it is about to stop. Does
    /// nothing where there is nobody to hand over to.
    pub async fn hand_over(&self) {
        if let Some(links) = &*self.links.lock().await {
            links.leave();
        }
        let handing = self.host.seats().iter().map(|seat| hand_over(seat, &self.roll));
        let handing: Vec<_> = handing.collect();
        if timeout(HAND_OVER_MAX, futures::future::join_all(handing)).await.is_err() {
            warn!("not every shard could be handed over; the others will elect a leader");
        }
    }

    /// Hands over what it still leads, refuses new work, answers what was admitted, stops the actors and closes the files;
    /// after `limit` it stops waiting.
    pub async fn drain(self, limit: Duration) {
        let began = Instant::now();
        // A node that has handed everything over may have been elected since.
        if timeout(limit, self.hand_over()).await.is_err() {
            warn!("the node stops while it leads");
        }
        let Self { host, router, links, _porter, scout, .. } = self;
        router.send_polls_away();
        // Reads are served until the end; new commands are refused at once.
        host.begin_drain();
        host.settle(limit.saturating_sub(began.elapsed())).await;
        router.close();
        drop(scout);
        if let Some(links) = links.into_inner()
            && timeout(limit, links.stop()).await.is_err()
        {
            warn!("the links did not close in time");
        }
        host.stop(limit).await;
    }
}

fn identify(config: &NodeConfig) -> Result<Identity, NodeError> {
    let NodeConfig { data, number, bootstrap, .. } = config;
    let Bootstrap::Found { shards } = *bootstrap else { return identity::open(data, *number) };
    match identity::open(data, *number) {
        Err(NodeError::NotInitialised { .. }) => identity::found(data, *number, shards),
        Ok(found) if found.shards != shards => {
            let problem = format!("was made with {} shards, not with {shards}", found.shards);
            Err(NodeError::Mismatch { path: data.clone(), problem })
        }
        other => other,
    }
}

/// Hands one shard over, if it is led here and there is somebody to take it; returns when this node leads it no more.
async fn hand_over(seat: &Arc<Seat>, roll: &Roll) {
    let log = seat.log();
    let own = log.node();
    let has_others =
        log.members().iter().any(|(node, member)| *node != own && member.part == Part::Voter);
    if !has_others || !seat.leads() {
        return;
    }
    let mut leadership = log.leadership();
    let wanted = placement::leader(log.shard(), &roll.members()).filter(|node| *node != own);
    // The one that should lead anyway, if it can take over; else whoever is furthest.
    let close = log.progress();
    let wanted =
        wanted.filter(|node| close.get(node).is_some_and(Option::is_some) && log.has_room(*node));
    let mut to = wanted;
    let began = Instant::now();
    loop {
        let offered = log.transfer(to.take()).await;
        if offered.is_none() {
            // Everybody answers within a heartbeat who could take over.
            if began.elapsed() > HEIR_MAX || !seat.leads() {
                return;
            }
            sleep(HEIR_LOOK).await;
            continue;
        }
        let gone = leadership.wait_for(|now| !matches!(now, Leadership::Leading { .. }));
        if timeout(HAND_OVER_MAX / 4, gone).await.is_ok() {
            return;
        }
    }
}

fn started_badly(error: HostError) -> NodeError {
    match error {
        HostError::Locked { path } => NodeError::Locked { path },
        HostError::Level { path, expected, found } => NodeError::Level { path, expected, found },
        other => NodeError::Part { what: other.to_string(), source: Box::new(other) },
    }
}
