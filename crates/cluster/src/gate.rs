//! The gates: the few actors of a node that other nodes can see, and the groups in which they are found.
//!
//! Each node has one agent, in the group `node/<node>`, and one gate for each shard it holds, in `shard/<shard>` and
//! `shard/<shard>/<node>`, and in `shard-leader/<shard>` while it leads. The agent is their supervisor. Every remotable
//! actor becomes a proxy on every other node, so there are these and no more: instances are found through their shard's
//! gate, in the process groups of the node where they live.
//!
//! A gate takes a command that was admitted elsewhere, with a permit of its own, and answers in a task: its mailbox is
//! never held up by a wait.
//!
//! Absent on purpose: names. When a peer dies the library unregisters our own actor of the same name.
//!
//! Invariant `BOUND`: at most `FORWARDED_PERMITS` forwarded commands are worked on at once; one more is refused.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent, pg,
};
use ractor_cluster::RactorClusterMessage;
use statehouse_contract::{
    Command, InstanceKey, NodeId, Rejection, RejectionCode, ShardId, Target, codec,
    limits::FORWARDED_PERMITS,
    mutant::{self, Mutant},
};
use statehouse_log::Leadership;
use statehouse_runtime::{Door, Seat};
use statehouse_telemetry::{Leg, Span};
use tokio::{sync::Semaphore, task::JoinHandle};
use tracing::warn;

use crate::forward::{Asked, Told};

/// Pause before a gate that died is put up again.
const AGAIN: Duration = Duration::from_millis(50);

/// What a gate hears from another node: a framed question, to be answered with a framed answer.
#[derive(Debug, RactorClusterMessage)]
pub(crate) enum GateMessage {
    /// The one variant, stable for ever; what it holds is versioned inside.
    #[rpc]
    Rpc(Vec<u8>, RpcReplyPort<Vec<u8>>),
}

/// Finds the gate of a shard on the node that is believed to lead it.
#[must_use]
pub(crate) fn of_node(shard: ShardId, node: NodeId) -> Option<ActorRef<GateMessage>> {
    pg::get_members(&format!("shard/{shard}/{node}")).pop().map(Into::into)
}

/// Finds the gate of whoever says of itself that it leads a shard, other than this node.
#[must_use]
pub(crate) fn of_leader(shard: ShardId) -> Option<ActorRef<GateMessage>> {
    let members = pg::get_members(&format!("shard-leader/{shard}"));
    members.into_iter().find(|cell| !cell.get_id().is_local()).map(Into::into)
}

/// Whether this node is in the group of those who say that they lead a shard. A hint; only a deliberate bug believes it.
pub(crate) fn is_in_leaders_group(shard: ShardId) -> bool {
    let members = pg::get_members(&format!("shard-leader/{shard}"));
    members.iter().any(|cell| cell.get_id().is_local())
}

/// Finds the agent of a node.
#[must_use]
pub(crate) fn agent(node: NodeId) -> Option<ActorRef<GateMessage>> {
    pg::get_members(&format!("node/{node}")).pop().map(Into::into)
}

/// The agent of a node: the parent of its gates.
pub(crate) struct Agent;

/// What the agent knows.
pub(crate) struct AgentState {
    node: NodeId,
    seats: Vec<Arc<Seat>>,
    permits: Arc<Semaphore>,
    gates: BTreeMap<ActorId, usize>,
}

impl Actor for Agent {
    type Msg = GateMessage;
    type State = AgentState;
    type Arguments = (NodeId, Vec<Arc<Seat>>);

    async fn pre_start(
        &self,
        myself: ActorRef<GateMessage>,
        (node, seats): Self::Arguments,
    ) -> Result<AgentState, ActorProcessingErr> {
        pg::join(format!("node/{node}"), vec![myself.get_cell()]);
        let permits = Arc::new(Semaphore::new(FORWARDED_PERMITS));
        let mut state = AgentState { node, seats, permits, gates: BTreeMap::new() };
        for place in 0..state.seats.len() {
            state.put_up(&myself, place).await?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<GateMessage>,
        GateMessage::Rpc(question, reply): GateMessage,
        state: &mut AgentState,
    ) -> Result<(), ActorProcessingErr> {
        let told = match codec::decode::<Asked>(&question) {
            Ok(Asked::Place { key }) => Told::Place { awake: is_awake(&state.seats, &key) },
            Ok(Asked::Submit { .. } | Asked::HandOver { .. }) | Err(_) => Told::Unreadable,
        };
        answer(reply, &told);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<GateMessage>,
        event: SupervisionEvent,
        state: &mut AgentState,
    ) -> Result<(), ActorProcessingErr> {
        // The event type grows with the library's features, hence the wildcard.
        let who = match &event {
            SupervisionEvent::ActorFailed(who, why) => {
                warn!(%why, "a gate failed");
                who.get_id()
            }
            SupervisionEvent::ActorTerminated(who, _, _) => who.get_id(),
            _ => return Ok(()),
        };
        if let Some(place) = state.gates.remove(&who) {
            tokio::time::sleep(AGAIN).await;
            state.put_up(&myself, place).await?;
        }
        Ok(())
    }
}

fn is_awake(seats: &[Arc<Seat>], key: &InstanceKey) -> bool {
    // The groups of live instances are the node's, whichever seat is asked.
    seats.first().is_some_and(|seat| seat.is_awake(key))
}

impl AgentState {
    async fn put_up(
        &mut self,
        myself: &ActorRef<GateMessage>,
        place: usize,
    ) -> Result<(), ActorProcessingErr> {
        let arguments = (self.node, Arc::clone(&self.seats[place]), Arc::clone(&self.permits));
        let (gate, _) = Actor::spawn_linked(None, Gate, arguments, myself.get_cell()).await?;
        self.gates.insert(gate.get_id(), place);
        Ok(())
    }
}

/// The gate of one shard.
struct Gate;

struct GateState {
    seat: Arc<Seat>,
    permits: Arc<Semaphore>,
    follower: JoinHandle<()>,
}

impl Drop for GateState {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Actor for Gate {
    type Msg = GateMessage;
    type State = GateState;
    type Arguments = (NodeId, Arc<Seat>, Arc<Semaphore>);

    async fn pre_start(
        &self,
        myself: ActorRef<GateMessage>,
        (node, seat, permits): Self::Arguments,
    ) -> Result<GateState, ActorProcessingErr> {
        let (shard, cell) = (seat.shard(), myself.get_cell());
        pg::join(format!("shard/{shard}"), vec![cell.clone()]);
        pg::join(format!("shard/{shard}/{node}"), vec![cell.clone()]);
        let follower = tokio::spawn(announce(Arc::clone(&seat), cell));
        Ok(GateState { seat, permits, follower })
    }

    async fn handle(
        &self,
        _: ActorRef<GateMessage>,
        GateMessage::Rpc(question, reply): GateMessage,
        state: &mut GateState,
    ) -> Result<(), ActorProcessingErr> {
        let (shard, envelope) = match codec::decode::<Asked>(&question) {
            Ok(Asked::Submit { shard, envelope }) => (shard, envelope),
            Ok(Asked::HandOver { shard, to }) if shard == state.seat.shard() => {
                let seat = Arc::clone(&state.seat);
                tokio::spawn(async move {
                    let told = match seat.leads() {
                        true => Told::HandedOver { to: seat.log().transfer(to).await },
                        false => belief(&seat),
                    };
                    answer(reply, &told);
                });
                return Ok(());
            }
            Ok(Asked::HandOver { .. } | Asked::Place { .. }) | Err(_) => {
                answer(reply, &Told::Unreadable);
                return Ok(());
            }
        };
        if shard != state.seat.shard() || !state.seat.leads() {
            answer(reply, &belief(&state.seat));
            return Ok(());
        }
        let Ok(permit) = Arc::clone(&state.permits).try_acquire_owned() else {
            let no = Rejection::gateway(
                RejectionCode::Overloaded,
                "the leader works on as many forwarded commands as it may",
            );
            answer(reply, &Told::Rejected(Box::new(no.after_ms(100))));
            return Ok(());
        };
        // The permit stays with the work, however long the other side waits.
        let door = Door::for_admitted(Arc::clone(&state.seat), Arc::new(permit));
        tokio::spawn(async move {
            let mut envelope = *envelope;
            let span = Span::open(Leg::Gate, &envelope.trace);
            span.set("statehouse.shard", i64::from(shard.0));
            envelope.trace = span.context().clone();
            let told = match decide(&door, envelope).await {
                Ok(receipt) => Told::Receipt(Box::new(receipt)),
                Err(no) => Told::Rejected(Box::new(no)),
            };
            answer(reply, &told);
        });
        Ok(())
    }
}

/// Lets a command in at this node's own door.
pub(crate) async fn decide(
    door: &Door,
    envelope: statehouse_contract::CommandEnvelope,
) -> Result<statehouse_contract::Receipt, Rejection> {
    if let Command::LeaseTasks { .. } | Command::ExtendLease { .. } = &envelope.command {
        return door.desk(envelope).await;
    }
    match envelope.target.clone() {
        Target::Instance(key) => door.deliver(&key, envelope).await,
        Target::Tenant(_) | Target::Cluster | Target::Shard(_) => door.register(envelope).await,
    }
}

fn belief(seat: &Seat) -> Told {
    let leader = match *seat.log().leadership().borrow() {
        Leadership::Following { leader } => leader,
        Leadership::Leading { .. } | Leadership::Stopped => None,
    };
    Told::NotLeader { term: seat.log().numbers().term, leader }
}

fn answer(reply: RpcReplyPort<Vec<u8>>, told: &Told) {
    match codec::encode(told) {
        // Whoever asked may have stopped waiting.
        Ok(frame) => drop(reply.send(frame)),
        // Not answered: the other side takes it for unknown, which is what it is.
        Err(error) => warn!(%error, "an answer to another node cannot be sent"),
    }
}

/// Joins and leaves the leader's group as the log says.
async fn announce(seat: Arc<Seat>, cell: ActorCell) {
    let group = format!("shard-leader/{}", seat.shard());
    let mut leadership = seat.log().leadership();
    loop {
        if matches!(*leadership.borrow_and_update(), Leadership::Leading { .. }) {
            pg::join(group.clone(), vec![cell.clone()]);
        } else if !mutant::is(Mutant::StaleGroupTrusted) {
            pg::leave(group.clone(), vec![cell.clone()]);
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use statehouse_contract::RejectionCode;
    use statehouse_log::{NoPeers, Origin, Peer, Reserve};
    use statehouse_runtime::{HostConfig, Profile, ShardHost, Tuning};

    use super::*;
    use crate::testing::{Stopped, press};

    async fn asked(gate: &ActorRef<GateMessage>, shard: ShardId, name: &str) -> Told {
        let envelope = Box::new(press("i-1", name));
        let question = codec::encode(&Asked::Submit { shard, envelope }).unwrap();
        let patience = Some(Duration::from_secs(20));
        let answer = gate.call(|reply| GateMessage::Rpc(question, reply), patience).await.unwrap();
        codec::decode(&answer.unwrap()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn forwarded_work_has_permits_of_its_own_and_gives_them_back() {
        let directory = tempfile::tempdir().unwrap();
        // Groups of actors belong to the process, so this node is nobody else's.
        let node = NodeId { number: 900, incarnation: 1 };
        let host = ShardHost::start(HostConfig {
            data: directory.path().to_owned(),
            node,
            shards: 1,
            profile: Profile::Local,
            reserve: Reserve::Bytes(0),
            origin: Origin::Found([(node, Peer::default())].into()),
            transport: Arc::new(NoPeers),
            builds: statehouse_runtime::Builds::default(),
            clock: Arc::new(Stopped),
            tuning: Tuning::standard(),
        });
        let host = host.await.unwrap();
        let (shard, permits) = (ShardId(0), Arc::new(Semaphore::new(1)));
        let seat = Arc::clone(host.seat(shard).unwrap());
        let begun = std::time::Instant::now();
        while seat.trouble().is_some() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not lead");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let arguments = (node, seat, Arc::clone(&permits));
        let (gate, _) = Actor::spawn(None, Gate, arguments).await.unwrap();
        let taken = Arc::clone(&permits).try_acquire_owned().unwrap();
        let Told::Rejected(no) = asked(&gate, shard, "k").await else { panic!("not refused") };
        assert_eq!(no.code, RejectionCode::Overloaded);
        assert!(no.retry_after_ms.is_some());
        drop(taken);
        for name in ["k1", "k2"] {
            let told = asked(&gate, shard, name).await;
            assert!(matches!(told, Told::Receipt(_)), "there is no such instance: {told:?}");
            let begun = std::time::Instant::now();
            while permits.available_permits() == 0 {
                assert!(begun.elapsed() < Duration::from_secs(20), "the permit is kept");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        assert!(matches!(asked(&gate, ShardId(1), "k").await, Told::NotLeader { .. }));
        gate.stop(None);
        host.drain(Duration::from_secs(5)).await;
    }
}
