//! The log's own wire: `log::Transport` over connections that carry nothing else.
//!
//! A node dials each other member for what it has to ask, on three lanes (urgent, append, snapshot), so that a snapshot
//! cannot delay a heartbeat. A lane is one connection with questions that overtake each other's answers; whatever has
//! queued leaves in one write. The accepting side hands each question to its shard in a task of its own: an answer may
//! wait for a sync, and the reading loop must not.
//!
//! Read `greeting` for what is said first, `lane` for the asking side, `desk` for the answering one.
//!
//! Absent on purpose: retries (the engine's), the node links (`peers.rs`), and any thought about who leads.
//!
//! Invariant `BOUND`: no frame above `FRAME_BYTES_MAX`, no lane with more than `IN_FLIGHT_MAX` open questions.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use statehouse_contract::{Build, Members, NodeId, ShardId, codec};
use statehouse_log::{
    Lane as LaneName, LogRequest, Peer, Transport, TransportError, transport::Answering,
};
use statehouse_runtime::Builds;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{clock::ClusterClock, cookie::Cookie, identity::ClusterId, roll::Roll, socket::Wire};

pub(crate) mod desk;
pub(crate) mod frames;
pub(crate) mod greeting;
pub(crate) mod join;
mod lane;

use lane::Lane;

/// Most open questions of a lane.
pub(crate) const IN_FLIGHT_MAX: usize = 1_024;
/// How often it is looked whether somebody still asks nodes that are gone.
const LOOK: Duration = Duration::from_millis(500);

/// What every connection of this wire needs to know.
#[derive(Debug)]
pub(crate) struct Ground {
    /// This node.
    pub(crate) own: NodeId,
    /// The cluster, which both sides name.
    pub(crate) cluster: ClusterId,
    /// The name tag, which both sides prove.
    pub(crate) cookie: Cookie,
    /// Makes the connections.
    pub(crate) wire: Arc<Wire>,
    /// The members, with their addresses.
    pub(crate) roll: Roll,
    /// What this build knows; every greeting tells it.
    pub(crate) build: Build,
    /// What the others told of theirs.
    pub(crate) builds: Builds,
    /// Hears what the others tell of their clocks, and tells them of this one.
    pub(crate) clock: Arc<ClusterClock>,
}

/// The asking side: a lane to each member.
pub(crate) struct LogWire {
    ground: Arc<Ground>,
    lanes: Mutex<BTreeMap<(NodeId, u8), Arc<Lane>>>,
}

/// How many questions each lane has had.
type Asked = BTreeMap<(NodeId, u8), u64>;

impl fmt::Debug for LogWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWire").field("own", &self.ground.own).finish_non_exhaustive()
    }
}

impl LogWire {
    pub(crate) fn new(ground: Arc<Ground>) -> Arc<Self> {
        Arc::new(Self { ground, lanes: Mutex::default() })
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<(NodeId, u8), Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, to: NodeId, peer: &Peer, name: LaneName) -> Arc<Lane> {
        match self.lanes().entry((to, greeting::lane_number(name))) {
            Entry::Occupied(lane) => Arc::clone(lane.get()),
            Entry::Vacant(place) => {
                let lane = Lane::open(&self.ground, to, peer.address.clone(), name);
                Arc::clone(place.insert(Arc::new(lane)))
            }
        }
    }

    /// Keeps the lanes of every present member open, and closes those of a node that is gone once nobody asks it any more:
    /// the engine does for a while after the list has changed, and every question opens a lane that is not there.
    pub(crate) fn follow(self: &Arc<Self>) -> JoinHandle<()> {
        let (own, wire) = (self.ground.own, Arc::downgrade(self));
        let mut roll = self.ground.roll.subscribe();
        roll.mark_changed();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::spawn(async move {
            let mut asked = Asked::new();
            loop {
                let is_look = tokio::select! {
                    changed = roll.changed() => match changed {
                        Ok(()) => false,
                        Err(_) => return,
                    },
                    _ = looks.tick() => true,
                };
                let members = Arc::clone(&roll.borrow_and_update());
                let Some(wire) = wire.upgrade() else { return };
                for (node, document) in members.present().filter(|(node, _)| *node != own) {
                    let peer = Peer { address: document.log.as_str().into() };
                    for name in [LaneName::Urgent, LaneName::Append] {
                        wire.lane(node, &peer, name);
                    }
                }
                if is_look {
                    wire.close_idle(&members, &mut asked);
                }
            }
        })
    }

    /// Closes the lanes of gone nodes on which nobody has asked since the last look.
    fn close_idle(&self, members: &Members, asked: &mut Asked) {
        let mut lanes = self.lanes();
        lanes.retain(|name, lane| {
            !members.is_gone(name.0) || asked.get(name) != Some(&lane.asked())
        });
        *asked = lanes.iter().map(|(name, lane)| (*name, lane.asked())).collect();
    }
}

impl Transport for LogWire {
    fn ask<'a>(
        &'a self,
        to: NodeId,
        peer: &'a Peer,
        shard: ShardId,
        lane: LaneName,
        request: LogRequest,
        patience: Duration,
    ) -> Answering<'a> {
        Box::pin(async move {
            let lane = self.lane(to, peer, lane);
            lane.ask(shard, request, patience).await
        })
    }
}

/// Encodes a message. All of ours are far below the limit; one that is not would be a broken invariant.
pub(crate) fn frame<T: bincode::Encode>(
    message: &T,
    to: NodeId,
) -> Result<Vec<u8>, TransportError> {
    codec::encode(message).map_err(|error| TransportError::Broken { to, what: error.to_string() })
}

#[cfg(test)]
mod tests;
