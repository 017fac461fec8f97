//! The shards of a node: a replica for each shard that it holds, a subtree of actors for each that it leads.
//!
//! Starting opens the log, then every shard, then the tree that follows their leaderships. Stopping goes backwards: refuse
//! new work, let what was admitted end, stop the actors, close the files.
//!
//! Absent on purpose: which node holds which shard, and the way to another node.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Weak, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use ractor::{Actor, ActorRef};
use statehouse_contract::{
    Build, Clock, NodeId, ShardId, invariant,
    limits::{LIVE_INSTANCES_MAX, PASSIVATE_MS, SNAPSHOT_EVERY_ENTRIES},
    view::ShardView,
};
use statehouse_log::{
    LogError, LogOptions, NodeLog, Origin, Profile, Reserve, ShardLog, Transport,
};
use statehouse_store::{NodeDir, Release, StoreError};
use statehouse_telemetry::Meters;
use tokio::{task::JoinHandle, time::timeout};
use tracing::warn;

use crate::{
    admission::{Admission, Capacity},
    builds::Builds,
    cache::Caches,
    carrier::Carried,
    directory::Directory,
    door::Door,
    kinds::Kinds,
    message::SupervisorMessage,
    metrics::Metrics,
    quota::Quotas,
    restart::Lifetime,
    seat::{Ground, Seat},
    seat_actor::SeatActor,
    tree::{Child, Level, NODE, Supervisor, stop_or_kill},
};

/// How long a start that has failed waits until the directory is free again.
const RELEASE_MAX: Duration = Duration::from_secs(10);

/// What may be set to measure or to test; the values of a normal node come from [`Tuning::standard`].
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Time after which an instance without work is passivated.
    pub passivate_ms: u64,
    /// Instance actors kept awake by this node.
    pub live_instances_max: usize,
    /// Entries of a shard after which a snapshot is made.
    pub snapshot_every: u64,
    /// What this build knows; anything but [`Build::THIS`] rehearses another one.
    pub build: Build,
}

impl Tuning {
    /// Returns the values of `limits`.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            passivate_ms: PASSIVATE_MS,
            live_instances_max: LIVE_INSTANCES_MAX,
            snapshot_every: SNAPSHOT_EVERY_ENTRIES,
            build: Build::THIS,
        }
    }
}

/// How to start the shards of a node.
#[derive(Clone)]
pub struct HostConfig {
    /// The node's own directory.
    pub data: PathBuf,
    /// Who it is.
    pub node: NodeId,
    /// How many shards it holds.
    pub shards: u32,
    /// How far apart the replicas are.
    pub profile: Profile,
    /// How much disk space is kept back.
    pub reserve: Reserve,
    /// Whether the shards are founded here, or exist already.
    pub origin: Origin,
    /// The way to the other replicas.
    pub transport: Arc<dyn Transport>,
    /// What the builds of the other nodes know.
    pub builds: Builds,
    /// The clock that decides.
    pub clock: Arc<dyn Clock>,
    /// What may be set.
    pub tuning: Tuning,
}

impl fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConfig")
            .field("data", &self.data)
            .field("node", &self.node)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

/// Why the shards of a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Another process works in the directory.
    #[error("the data directory {} is in use by another process", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be worked in.
    #[error("the data directory cannot be opened")]
    Directory(#[source] StoreError),
    /// A shard is at a feature level above what this build knows. Nothing was changed.
    #[error("{} is at feature level {found}, and this build knows levels up to {expected}", .path.display())]
    Level {
        /// The file of the shard.
        path: PathBuf,
        /// The newest level that this build knows.
        expected: u16,
        /// The shard's level.
        found: u16,
    },
    /// The log or the rows of a shard cannot be trusted or opened.
    #[error("the log cannot be opened")]
    Log(#[source] LogError),
    /// The actors did not start.
    #[error("the supervision tree did not start: {0}")]
    Tree(String),
}

/// The shards of a node.
pub struct ShardHost {
    log: NodeLog,
    seats: Vec<Arc<Seat>>,
    ground: Ground,
    root: ActorRef<SupervisorMessage>,
    root_ended: JoinHandle<()>,
    release: Release,
}

impl fmt::Debug for ShardHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHost").field("shards", &self.seats.len()).finish_non_exhaustive()
    }
}

impl ShardHost {
    /// Opens the log and every shard, founding those that are new, and starts to follow their leaderships.
    ///
    /// # Errors
    /// Nothing keeps running then.
    pub async fn start(config: HostConfig) -> Result<Self, HostError> {
        let path = config.data.clone();
        let opened = tokio::task::spawn_blocking(move || NodeDir::lock(&path)).await;
        let (data, release) = match opened.map_err(|panic| HostError::Tree(panic.to_string()))? {
            Ok(locked) => locked,
            Err(StoreError::Locked { path }) => return Err(HostError::Locked { path }),
            Err(error) => return Err(HostError::Directory(error)),
        };
        let mut options = LogOptions::service(data, config.node, config.profile);
        options.reserve_bytes = config.reserve;
        options.snapshot_every = config.tuning.snapshot_every;
        options.build = config.tuning.build;
        match Self::start_on(&config, options).await {
            Ok((log, seats, ground, (root, root_ended))) => {
                Ok(Self { log, seats, ground, root, root_ended, release })
            }
            Err(error) => {
                // Whoever hears of the failure finds the directory free.
                released(release, RELEASE_MAX).await;
                Err(error)
            }
        }
    }

    /// Opens the log, the shards and the tree of actors; what was opened is closed when something cannot be.
    async fn start_on(
        config: &HostConfig,
        options: LogOptions,
    ) -> Result<(NodeLog, Vec<Arc<Seat>>, Ground, Tree), HostError> {
        let log =
            NodeLog::open(options, Arc::clone(&config.transport)).await.map_err(HostError::Log)?;
        let opened = async {
            let (seats, ground) = Self::open_all(config, &log).await?;
            let tree = start_tree(&seats).await?;
            Ok((seats, ground, tree))
        };
        match opened.await {
            Ok((seats, ground, tree)) => Ok((log, seats, ground, tree)),
            Err(error) => {
                log.stop().await;
                Err(error)
            }
        }
    }

    async fn open_all(
        config: &HostConfig,
        log: &NodeLog,
    ) -> Result<(Vec<Arc<Seat>>, Ground), HostError> {
        let metrics = Arc::new(Metrics::default());
        let ground = Ground {
            node: config.node,
            clock: Arc::clone(&config.clock),
            directory: Directory::of_node(&config.data.to_string_lossy()),
            caches: Arc::new(Caches::new()),
            quotas: Arc::new(Quotas::new()),
            metrics,
            live: Arc::new(AtomicUsize::new(0)),
            tuning: config.tuning,
            builds: config.builds.clone(),
            carried: Carried::default(),
            kinds: Kinds::default(),
            began: Instant::now(),
        };
        let mut logs: Vec<ShardLog> = Vec::new();
        for shard in (0..config.shards).map(ShardId) {
            logs.push(log.open_shard(shard, config.origin.clone()).await.map_err(not_opened)?);
        }
        let Some(registry) = logs.first().cloned() else {
            return Err(HostError::Tree("a node holds at least one shard".to_owned()));
        };
        let seats = logs.into_iter().map(|own| {
            let admission = Admission::new(Capacity::standard());
            Seat::new(ground.clone(), own, registry.clone(), admission)
        });
        Ok((seats.collect(), ground))
    }

    /// Returns a shard that this node holds.
    #[must_use]
    pub fn seat(&self, shard: ShardId) -> Option<&Arc<Seat>> {
        self.seats.get(usize::try_from(shard.0).ok()?)
    }

    /// Returns every shard that this node holds, in order.
    #[must_use]
    pub fn seats(&self) -> &[Arc<Seat>] {
        &self.seats
    }

    /// Returns the door of a shard.
    #[must_use]
    pub fn door(&self, shard: ShardId) -> Option<Door> {
        self.seat(shard).map(|seat| Door::new(Arc::clone(seat)))
    }

    /// Returns the way by which the organs of this node reach other shards; somebody has to name its carrier.
    #[must_use]
    pub fn carried(&self) -> &Carried {
        &self.ground.carried
    }

    /// Returns what this node's own workers can do; somebody has to offer it.
    #[must_use]
    pub fn kinds(&self) -> &Kinds {
        &self.ground.kinds
    }

    /// Shows every number of this node's living part and of its log as instruments.
    pub fn register(&self, meters: &Meters) {
        self.ground.metrics.register(meters);
        self.log.register(meters);
        register_seats(meters, &self.seats);
    }

    /// Returns the numbers of this node.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.ground.metrics
    }

    /// Waits for what must end the process, perhaps for ever; returns it in words.
    pub async fn failed(&self) -> String {
        tokio::select! {
            why = self.log.failed() => why.to_string(),
            why = self.tree_gone() => why,
        }
    }

    async fn tree_gone(&self) -> String {
        // The root has no supervisor: its end is everybody's.
        let _ = self.root.get_cell().wait(None).await;
        "the supervision tree has given up".to_owned()
    }

    /// Returns every shard as this node sees it.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardView> {
        self.seats.iter().map(|seat| seat.shard_view()).collect()
    }

    /// Refuses new work from now on.
    pub fn begin_drain(&self) {
        self.seats.iter().for_each(|seat| seat.admission().begin_drain());
    }

    /// Waits until what was admitted has ended, at most so long.
    pub async fn settle(&self, limit: Duration) {
        let end = Instant::now() + limit;
        for seat in &self.seats {
            let left = end.saturating_duration_since(Instant::now());
            if timeout(left, seat.admission().empty()).await.is_err() {
                warn!(shard = %seat.shard(), "work was still under way when the node stopped");
            }
        }
    }

    /// Stops the actors, closes the files and gives the directory back; waits at most so long for the log, and once
    /// more so long for the readers that still look at a file.
    pub async fn stop(self, limit: Duration) {
        let Self { log, seats, ground, root, root_ended, release } = self;
        stop_or_kill(&root.get_cell()).await;
        root_ended.abort();
        if timeout(limit, log.stop()).await.is_err() {
            warn!("the log did not close in time");
        }
        drop((log, seats, ground));
        released(release, limit).await;
    }

    /// Refuses new work, lets what was admitted end, stops the actors and closes the files.
    pub async fn drain(self, limit: Duration) {
        self.begin_drain();
        self.settle(limit).await;
        self.stop(limit).await;
    }
}

/// Waits until nothing of this process uses the data directory.
async fn released(release: Release, limit: Duration) {
    let released = tokio::task::spawn_blocking(move || release.wait(limit)).await;
    if !matches!(released, Ok(true)) {
        warn!("the data directory is still in use by a part of this process");
    }
}

fn not_opened(error: LogError) -> HostError {
    match error {
        LogError::Rows { source: StoreError::Level { path, expected, found }, .. } => {
            HostError::Level { path, expected, found }
        }
        other => HostError::Log(other),
    }
}

/// The root of the tree of actors, and its end.
type Tree = (ActorRef<SupervisorMessage>, JoinHandle<()>);

async fn start_tree(seats: &[Arc<Seat>]) -> Result<Tree, HostError> {
    let children = seats.iter().map(|seat| {
        let seat = Arc::clone(seat);
        Child {
            name: "seat",
            lifetime: Lifetime::Permanent,
            start: Box::new(move |parent| {
                let seat = Arc::clone(&seat);
                Box::pin(async move {
                    let (actor, _) = Actor::spawn_linked(None, SeatActor, seat, parent).await?;
                    Ok(actor.get_cell())
                })
            }),
        }
    });
    let level = Level { name: "node".to_owned(), policy: NODE, children: children.collect() };
    let started = Actor::spawn(None, Supervisor, level).await;
    started.map_err(|error| HostError::Tree(error.to_string()))
}

/// Shows how busy a node's seats are.
pub(crate) fn register_seats(meters: &Meters, seats: &[Arc<Seat>]) {
    // Weak: instruments outlive the node, and whoever holds a seat holds the node's files open.
    let held: Vec<Weak<Seat>> = seats.iter().map(Arc::downgrade).collect();
    meters.watch("statehouse.permits.used", "{permit}", "Permits out, of all shards", move || {
        held.iter().filter_map(Weak::upgrade).map(|seat| seat.permits_used() as f64).sum()
    });
}

/// Counts broken laws of this process in a node's numbers; the first node of a process wins.
pub fn count_violations(metrics: &Arc<Metrics>) {
    static COUNTED: std::sync::OnceLock<Arc<Metrics>> = std::sync::OnceLock::new();
    if COUNTED.set(Arc::clone(metrics)).is_ok() {
        invariant::on_violation(|_| {
            if let Some(metrics) = COUNTED.get() {
                crate::metrics::one(&metrics.violations);
            }
        });
    }
}

#[cfg(test)]
mod tests;
