//! `ShardLog`: one shard of this node, for every floor above. Cheap to clone.
//!
//! An entry goes in by [`ShardLog::propose`] and comes back as what the rows said when it was applied.
//! A read asks [`ShardLog::begin_read`] first and opens its transaction afterwards. Who may propose is a
//! value to watch, [`ShardLog::leadership`], never a promise.
//!
//! Dropping a future of this page ends the wait, never the proposal.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::{Semaphore, watch};

use statehouse_contract::{Consistency, NodeId, ShardId};
use statehouse_store::{Applied, Entry, View};

use crate::{
    engine::{self, Peer},
    error::{LogError, ProposeError, ReadError},
    leadership::{self, Leadership},
    markers,
    membership::{self, Members},
    proposal::{self, Urgency},
    read,
    replica::{self, Ground, Origin, Replica},
    store_rows::StoreRows,
};

/// One shard of this node.
#[derive(Clone)]
pub struct ShardLog {
    pub(crate) replica: Arc<Replica>,
}

/// How a shard's log stands, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogNumbers {
    /// The term.
    pub term: u64,
    /// The last position here.
    pub last: Option<u64>,
    /// The last position that this replica knows to be committed.
    pub committed: Option<u64>,
    /// The last position whose rows can be read.
    pub applied: Option<u64>,
    /// The position of the newest snapshot.
    pub snapshot: Option<u64>,
    /// The last position that is no longer here.
    pub purged: Option<u64>,
    /// Proposals on their way.
    pub proposals: usize,
    /// Whether the watchdog refuses new work.
    pub is_stalled: bool,
}

impl ShardLog {
    pub(crate) async fn open(
        ground: &Ground,
        shard: ShardId,
        origin: Origin,
    ) -> Result<Self, LogError> {
        let (data, build) = (ground.options.data.clone(), ground.options.build);
        let opened =
            tokio::task::spawn_blocking(move || StoreRows::open(&data, shard, build)).await;
        let rows = opened
            .map_err(|_| LogError::Stopped)?
            .map_err(|source| LogError::Rows { shard, source })?;
        let replica = replica::open(ground, shard, Box::new(rows), origin).await?;
        Ok(Self { replica })
    }

    /// Returns the shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.replica.shard
    }

    /// Returns this node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.replica.node
    }

    /// Proposes an entry in the term that decided it and waits until it is applied.
    ///
    /// # Errors
    /// Every [`ProposeError`] but `Unknown` is certain that nothing was written. A fenced entry is not an
    /// error of the log: it stands in what was applied.
    pub async fn propose(&self, entry: Entry, urgency: Urgency) -> Result<Applied, ProposeError> {
        proposal::propose(&self.replica, entry, urgency).await
    }

    /// Waits until a read of this consistency may begin; returns the position that is applied by then.
    ///
    /// # Contract
    /// The read transaction begins after this has returned.
    ///
    /// # Errors
    /// Says why there is no such position here.
    pub async fn begin_read(&self, consistency: Consistency) -> Result<u64, ReadError> {
        read::begin(&self.replica, consistency).await
    }

    /// Waits for the ReadIndex and until it is applied here.
    ///
    /// # Errors
    /// Says why there is no such position here.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        self.begin_read(Consistency::Linearizable).await
    }

    /// Returns who leads, as a value to watch.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.replica.leadership.clone()
    }

    /// Returns the last position whose rows can be read, as a value to watch.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<u64>> {
        self.replica.applied.clone()
    }

    /// Waits until a position is applied here.
    ///
    /// # Errors
    /// [`ReadError::Stopped`] when the replica ends before.
    pub async fn wait_applied(&self, position: u64) -> Result<(), ReadError> {
        let mut applied = self.applied();
        let reached = applied.wait_for(|applied| *applied >= Some(position)).await;
        reached.map(|_| ()).map_err(|_| ReadError::Stopped)
    }

    /// Returns the right to read the rows. It ends when a snapshot is installed; ask again then.
    ///
    /// # Panics
    /// Never for a shard that was opened through [`NodeLog`](crate::NodeLog).
    #[must_use]
    pub fn view(&self) -> View {
        self.replica.applier.view().expect("the rows of an opened shard can be read")
    }

    /// Returns how the log stands.
    #[must_use]
    pub fn numbers(&self) -> LogNumbers {
        let metrics = self.replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        LogNumbers {
            term: metrics.current_term,
            last: metrics.last_log_index,
            committed: index(&metrics.cluster_committed),
            applied: *self.replica.applied.borrow(),
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            proposals: self.replica.slots.taken(),
            is_stalled: self.replica.is_stalled.load(Ordering::Relaxed),
        }
    }

    /// Tells whether this node's disk is too slow to lead anything.
    pub fn is_disk_slow(&self) -> bool {
        self.replica.measures.is_slow()
    }

    /// Returns whether client commands are refused for lack of room on the disk.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        self.replica.room.is_full()
    }

    /// Returns what ended this replica's rows, if something has.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<LogError>> {
        self.replica.applier.failure().get()
    }

    /// Makes a snapshot now, purges the log below it, and returns its position.
    ///
    /// # Errors
    /// Says why there is none; the shard goes on without.
    pub async fn snapshot(&self) -> Result<u64, LogError> {
        let made = self.replica.snapshot().await;
        made.map_err(|error| LogError::Engine { shard: self.shard(), what: error.to_string() })
    }

    pub(crate) fn snapshot_turn(&self) -> &Arc<Semaphore> {
        &self.replica.snapshot_turn
    }

    /// Returns whether a voter has told, since this replica leads, that there is room on its disk.
    #[must_use]
    pub fn has_room(&self, node: NodeId) -> bool {
        self.replica.told.has_room(node.raft())
    }

    /// Hands leadership to a node, or to the most advanced follower that has room on its disk. Returns whom it asked;
    /// nobody where there is nobody. A named node is not asked whether it has room: whoever names it has a reason.
    pub async fn transfer(&self, to: Option<NodeId>) -> Option<NodeId> {
        if to == Some(self.replica.node) {
            // The engine would stop writing and wait for itself.
            return to;
        }
        let to = to.map(NodeId::raft).or_else(|| leadership::most_advanced(&self.replica))?;
        self.replica.raft.trigger().transfer_leader(to).await.ok()?;
        Some(proposal::node(to))
    }

    /// Returns who may follow a leader that is gone: of all voters that answer within `patience`, this one included, those
    /// whose log is longest. Nobody else can be elected while they live.
    pub async fn heirs(&self, leader: NodeId, patience: Duration) -> Vec<NodeId> {
        leadership::heirs(&self.replica, leader, patience).await
    }

    /// Stands for election at once because the leader's process is known to be gone.
    ///
    /// A connection that the system of a dead process has reset is better evidence than a heartbeat that is late. The
    /// votes are asked for as after a handing over, so that they are given although the leader's lease still runs. Wrong
    /// evidence costs a needless election and, for lease reads, freshness; never more. Does nothing and returns `false`
    /// unless this replica votes and believes in that leader.
    pub async fn leader_is_gone(&self, leader: NodeId) -> bool {
        leadership::succeed(&self.replica, leader).await
    }

    /// Returns how old this copy may be: what was acknowledged before that is in it. Nothing if nobody knows.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        match *self.replica.leadership.borrow() {
            Leadership::Leading { .. } => leadership::age_of_leader(&self.replica),
            Leadership::Following { .. } => {
                self.replica.freshness.age(*self.replica.applied.borrow(), Instant::now())
            }
            Leadership::Stopped => None,
        }
    }

    /// Returns how far the log of each other member is known to agree with this one; empty unless this replica leads.
    #[must_use]
    pub fn progress(&self) -> BTreeMap<NodeId, Option<u64>> {
        let metrics = self.replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        let own = self.replica.node.raft();
        let others = metrics.replication.iter().flatten().filter(|(id, _)| **id != own);
        others.map(|(id, at)| (proposal::node(*id), index(at))).collect()
    }

    /// Compares the rows at the last marker with those of every other member that has applied the same one, and returns
    /// those whose rows are others. Compares and tells, nothing more: a row's own digest sets a damaged replica aside.
    pub async fn differing(&self) -> Vec<NodeId> {
        markers::differing(&self.replica).await
    }

    /// Returns the members of the shard, as this replica knows them.
    #[must_use]
    pub fn members(&self) -> Members {
        membership::members(&self.replica)
    }

    /// Returns whether a change of the voters has stopped half-way and is to be asked for again.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        membership::is_joint(&self.replica)
    }

    /// Takes a node in as a learner.
    ///
    /// # Errors
    /// As [`ShardLog::propose`].
    pub async fn add_learner(&self, node: NodeId, peer: Peer) -> Result<(), ProposeError> {
        membership::add_learner(&self.replica, node, peer).await
    }

    /// Makes these nodes the voters.
    ///
    /// # Errors
    /// As [`ShardLog::propose`].
    pub async fn set_voters(&self, voters: &[NodeId]) -> Result<(), ProposeError> {
        membership::set_voters(&self.replica, voters).await
    }

    /// Takes a learner out.
    ///
    /// # Errors
    /// As [`ShardLog::propose`].
    pub async fn remove(&self, node: NodeId) -> Result<(), ProposeError> {
        membership::remove(&self.replica, node).await
    }

    /// Ends this replica: the engine first, then what is queued for the rows is applied.
    pub async fn stop(&self) {
        self.replica.stop().await;
    }
}

pub(crate) fn index(id: &Option<engine::LogId>) -> Option<u64> {
    id.as_ref().map(|id| id.index)
}
