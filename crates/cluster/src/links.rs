//! Everything by which a node reaches the others and is reached, started and stopped in order.
//!
//! The log's wire is there before the shards are opened, because the engine asks through it; what answers on it, the
//! node links, the gates and the keepers of membership come after. Stopping goes backwards: first nothing new comes in,
//! then nothing goes out.
//!
//! Absent on purpose: the API, and what a node alone does not need. A node that was started without addresses for its
//! links has none of this.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ractor::{Actor, ActorRef};
use statehouse_contract::{Build, Clock, MemberDocument, Members, NodeId};
use statehouse_log::Transport;
use statehouse_runtime::{Builds, Profile, ShardHost};
use statehouse_telemetry::Meters;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    NodeError,
    clock::{self, ClusterClock},
    cookie::Cookie,
    faults::{Faults, FaultsFile},
    gate::{Agent, GateMessage},
    identity::Identity,
    line::Traffic,
    log_wire::{
        Ground, LogWire,
        desk::{self, Desk, Shelf},
    },
    peers::{Known, PeerAddress, PeerState, Peers, PeersConfig, Timings},
    rebalance::{self, Keeper},
    roll::Roll,
    security::LinkSecurity,
    socket::Wire,
    succession,
};

/// Broken connections that wait to be looked into.
const LOST_MAX: usize = 64;
/// How often the tenants' quotas are taken over from shard 0.
const QUOTAS_EVERY: Duration = Duration::from_secs(1);

/// One of the two addresses at which other nodes reach this one.
#[derive(Debug)]
pub struct Listen {
    /// The bound socket.
    pub listener: TcpListener,
    /// `host:port` as the others write it.
    pub advertise: String,
}

/// How a node is part of a cluster.
#[derive(Debug)]
pub struct ClusterConfig {
    /// The node links.
    pub links: Listen,
    /// The log's wire.
    pub log: Listen,
    /// The name tag of the cluster.
    pub cookie: Cookie,
    /// How connections are secured.
    pub security: LinkSecurity,
    /// A file with faults to inject, for tests and the lab.
    pub faults: Option<PathBuf>,
    /// How far apart the nodes are.
    pub profile: Profile,
}

/// What stands before the shards are opened.
pub(crate) struct Wires {
    pub(crate) transport: Arc<LogWire>,
    pub(crate) roll: Roll,
    ground: Arc<Ground>,
    link_wire: Arc<Wire>,
    listeners: (TcpListener, TcpListener),
    profile: Profile,
    faults_file: Option<FaultsFile>,
}

/// The bytes that went over a node's two wires.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes {
    links: Arc<Traffic>,
    log: Arc<Traffic>,
}

impl Bytes {
    /// Shows them as instruments.
    pub(crate) fn register(&self, meters: &Meters) {
        let count = |name, help, of: &Arc<Traffic>, read: fn(&Traffic) -> u64| {
            let of = Arc::clone(of);
            meters.watch_count(name, "By", help, move || read(&of));
        };
        count(
            "statehouse.links.sent",
            "Bytes sent over the node links",
            &self.links,
            Traffic::bytes_out,
        );
        count(
            "statehouse.links.heard",
            "Bytes heard over the node links",
            &self.links,
            Traffic::bytes_in,
        );
        count(
            "statehouse.log.sent",
            "Bytes sent over the log's wire",
            &self.log,
            Traffic::bytes_out,
        );
        count(
            "statehouse.log.heard",
            "Bytes heard over the log's wire",
            &self.log,
            Traffic::bytes_in,
        );
    }
}

/// What runs while the node runs.
pub(crate) struct Links {
    peers: Peers,
    agent: ActorRef<GateMessage>,
    shelf: Shelf,
    tasks: Vec<JoinHandle<()>>,
    transport: Arc<LogWire>,
    _faults_file: Option<FaultsFile>,
}

impl Wires {
    /// Makes the wires of a node.
    ///
    /// # Errors
    /// The directory was made before clusters had names.
    pub(crate) fn new(
        config: ClusterConfig,
        identity: Identity,
        build: Build,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NodeError> {
        let Some(cluster) = identity.cluster else {
            return Err(NodeError::NoCluster { node: identity.node });
        };
        let ClusterConfig { links, log, cookie, security, faults: path, profile } = config;
        let faults = Arc::new(Faults::default());
        let faults_file = path.map(|path| Arc::clone(&faults).follow(path));
        let wire = |faults: &Arc<Faults>| {
            let traffic = Arc::new(Traffic::default());
            Arc::new(Wire::new(security.clone(), Arc::clone(faults), traffic))
        };
        let (link_wire, log_wire) = (wire(&faults), wire(&faults));
        let clock = ClusterClock::new(identity.node, clock, faults);
        let roll = Roll::default();
        let ground = Arc::new(Ground {
            own: identity.node,
            cluster,
            cookie,
            wire: log_wire,
            roll: roll.clone(),
            build,
            builds: Builds::default(),
            clock,
        });
        let transport = LogWire::new(Arc::clone(&ground));
        let listeners = (links.listener, log.listener);
        Ok(Self { transport, roll, ground, link_wire, listeners, profile, faults_file })
    }

    /// Returns the counts of bytes.
    pub(crate) fn bytes(&self) -> Bytes {
        let of = |wire: &Wire| Arc::clone(wire.traffic());
        Bytes { links: of(&self.link_wire), log: of(&self.ground.wire) }
    }

    /// Returns what the builds of the other nodes know.
    pub(crate) fn builds(&self) -> Builds {
        self.ground.builds.clone()
    }

    /// Returns the cluster's clock.
    pub(crate) fn clock(&self) -> Arc<ClusterClock> {
        Arc::clone(&self.ground.clock)
    }

    /// Returns the way of the log to other nodes.
    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        Arc::clone(&self.transport) as Arc<dyn Transport>
    }

    /// Starts everything else, once the shards are open.
    pub(crate) async fn start(
        self,
        host: &ShardHost,
        joins: Arc<dyn crate::log_wire::join::JoinDesk>,
    ) -> Result<(Links, watch::Receiver<BTreeMap<NodeId, PeerState>>), NodeError> {
        let Self { transport, roll, ground, link_wire, listeners, profile, faults_file } = self;
        let (link_listener, log_listener) = listeners;
        let own = ground.own;
        let shelf = Shelf::default();
        shelf.fill(host.seats().iter().map(|seat| seat.log().clone()).collect());
        let (lost, found) = mpsc::channel(LOST_MAX);
        let mut tasks = Vec::new();
        if let Some(registry) = host.seats().first() {
            // What the rows say already is known before anybody can ask.
            roll.look(registry);
            let (quotas, next) = (Arc::clone(registry), Mutex::new(Instant::now()));
            tasks.push(roll.follow(Arc::clone(registry), move || {
                let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                if Instant::now() >= *next {
                    *next = Instant::now() + QUOTAS_EVERY;
                    quotas.refresh_quotas();
                }
            }));
        }
        tasks.push(transport.follow());
        tasks.push(clock::keep(Arc::clone(&ground.clock), host.seats().to_vec(), shelf.clone()));
        tasks.push(succession::watch(found, roll.clone(), shelf.clone(), profile));
        let desk = Desk { ground: Arc::clone(&ground), shelf: shelf.clone(), joins, lost };
        tasks.push(desk::serve(desk, log_listener));
        let (known, addresses) = watch::channel(others(own, &roll.members()));
        tasks.push(follow_addresses(own, roll.clone(), known));
        let config = PeersConfig {
            own,
            cluster: ground.cluster.0,
            listener: link_listener,
            cookie: ground.cookie.clone(),
            wire: link_wire,
            timings: Timings::STANDARD,
        };
        let part = |what: &str, source: Box<dyn std::error::Error + Send + Sync>| NodeError::Part {
            what: what.to_owned(),
            source,
        };
        let peers = Peers::start(config, addresses).await;
        let peers = peers.map_err(|error| part("the node links did not start", error.into()))?;
        let states = peers.states();
        let agent = Actor::spawn(None, Agent, (own, host.seats().to_vec())).await;
        let (agent, _) = agent.map_err(|error| part("the gates did not start", error.into()))?;
        for seat in host.seats() {
            let keeper = Keeper {
                log: seat.log().clone(),
                registry: seat.registry().clone(),
                roll: roll.clone(),
                peers: states.clone(),
                clock: Arc::clone(&ground.clock),
            };
            tasks.push(rebalance::keep(keeper));
        }
        let links = Links { peers, agent, shelf, tasks, transport, _faults_file: faults_file };
        Ok((links, states))
    }
}

/// Tells the node links whom there is to reach.
fn follow_addresses(own: NodeId, roll: Roll, known: watch::Sender<Known>) -> JoinHandle<()> {
    let mut members = roll.subscribe();
    members.mark_changed();
    tokio::spawn(async move {
        while members.changed().await.is_ok() {
            let list = Arc::clone(&members.borrow_and_update());
            known.send_replace(others(own, &list));
        }
    })
}

/// Whom there is to reach. A list in which this node is not, is one that it has not read to the end, or one that it has left.
fn others(own: NodeId, list: &Members) -> Known {
    let others = list.present().filter(|(node, _)| *node != own);
    let address = |(node, document): (NodeId, &MemberDocument)| PeerAddress {
        node,
        address: document.links.clone(),
    };
    list.has(own).then(|| others.map(address).collect())
}

impl Links {
    /// Adds a task that ends with the links.
    pub(crate) fn own(&mut self, task: JoinHandle<()>) {
        self.tasks.push(task);
    }

    /// Lets no leader hand this node anything any more.
    pub(crate) fn leave(&self) {
        self.shelf.leave();
    }

    /// Stops everything, in the order in which nobody is surprised.
    pub(crate) async fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.agent.stop(None);
        self.peers.stop().await;
        // The shards close when nobody holds them any more.
        self.shelf.fill(Vec::new());
        drop(self.transport);
    }
}

/// Returns the document by which a node is known.
pub(crate) fn document(config: &ClusterConfig, api: &str, region: Option<&str>) -> MemberDocument {
    MemberDocument {
        links: config.links.advertise.clone(),
        log: config.log.advertise.clone(),
        api: api.to_owned(),
        region: region.map(ToOwned::to_owned),
        standing: None,
    }
}

/// Binds an address of a node.
///
/// # Errors
/// What the system says.
pub async fn listen(address: SocketAddr, advertise: Option<&str>) -> std::io::Result<Listen> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?.to_string();
    Ok(Listen { listener, advertise: advertise.map_or(bound, ToOwned::to_owned) })
}
