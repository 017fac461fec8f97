//! Where a read may begin.
//!
//! A linearizable read takes the leader's commit position after a majority has confirmed that it leads
//! (ReadIndex), waits until that position is applied here, and only *then* may its transaction begin.
//! All reads of a shard that wait at the same time share one round. A follower asks its leader for the
//! position and reads its own rows, so every node answers every read and the leader's share of one is a number.
//!
//! A lease read trusts the leader's lease instead of asking; it is bounded-stale and never used for
//! fencing. A stale read takes what is applied.

use std::{sync::Arc, time::Duration};

use openraft::{
    ReadPolicy,
    errors::{LinearizableReadError, RaftError},
};
use tokio::sync::{mpsc, oneshot};

use statehouse_contract::{
    Consistency, NodeId, ShardId, limits,
    mutant::{self, Mutant},
};

use crate::{
    error::ReadError,
    leadership::Leadership,
    membership,
    proposal::node,
    replica::Replica,
    transport::{Lane, LogRequest, LogResponse, ReadRefused},
};

/// How long a follower waits for its leader's word. A leader that is silent for so long is about to be replaced.
const LEADER_PATIENCE: Duration = Duration::from_millis(500);

/// Somebody who waits for a position to read at.
pub(crate) struct Waiting {
    consistency: Consistency,
    /// Whether a follower may ask its leader. A question that came from a follower goes no further.
    may_ask: bool,
    answer: oneshot::Sender<Result<u64, ReadError>>,
}

/// Makes the queue of waiting reads: as long as a node lets commands in.
pub(crate) fn queue() -> (mpsc::Sender<Waiting>, mpsc::Receiver<Waiting>) {
    mpsc::channel(limits::INGRESS_PERMITS)
}

/// Waits until a read may begin; returns the position that is applied by then.
pub(crate) async fn begin(replica: &Replica, consistency: Consistency) -> Result<u64, ReadError> {
    // Not of the registry: without it nothing would work from the start, and nothing would be found.
    let is_unchecked = consistency == Consistency::Linearizable
        && replica.shard != ShardId(0)
        && mutant::is(Mutant::LeaseReadsWithoutCheck);
    if consistency == Consistency::Stale || is_unchecked {
        return Ok(replica.applied.borrow().unwrap_or_default());
    }
    let index = wait(replica, consistency, true).await?;
    let mut applied = replica.applied.clone();
    let reached = applied.wait_for(|applied| *applied >= Some(index)).await;
    let position = reached.map_err(|_| ReadError::Stopped)?.unwrap_or_default();
    Ok(position)
}

/// Answers a follower's question: the position that a majority, or the lease, vouches for.
pub(crate) async fn vouched(replica: &Replica, is_strict: bool) -> Result<u64, ReadRefused> {
    let consistency = if is_strict { Consistency::Linearizable } else { Consistency::Leader };
    wait(replica, consistency, false).await.map_err(|why| match why {
        ReadError::NotLeader { .. } | ReadError::Stopped => ReadRefused::NotLeader,
        ReadError::NoQuorum => ReadRefused::NoQuorum,
    })
}

async fn wait(
    replica: &Replica,
    consistency: Consistency,
    may_ask: bool,
) -> Result<u64, ReadError> {
    let (answer, is_answered) = oneshot::channel();
    let waiting = Waiting { consistency, may_ask, answer };
    replica.reads.send(waiting).await.map_err(|_| ReadError::Stopped)?;
    is_answered.await.unwrap_or(Err(ReadError::Stopped))
}

/// Answers waiting reads, one round for all that wait, until the replica is gone.
pub(crate) async fn serve(replica: Arc<Replica>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut round = Vec::new();
    while waiting.recv_many(&mut round, limits::INGRESS_PERMITS).await > 0 {
        let is_strict = round.iter().any(|w| w.consistency == Consistency::Linearizable);
        let leadership = *replica.leadership.borrow();
        if let Leadership::Following { leader } = leadership {
            for stuck in round.extract_if(.., |waiting| !waiting.may_ask) {
                let _ = stuck.answer.send(Err(ReadError::NotLeader { hint: leader }));
            }
        }
        if round.is_empty() {
            continue;
        }
        let index = match leadership {
            Leadership::Following { leader: Some(leader) } => {
                ask_leader(&replica, leader, is_strict).await
            }
            Leadership::Following { leader: None } => Err(ReadError::NotLeader { hint: None }),
            Leadership::Leading { .. } | Leadership::Stopped => confirm(&replica, is_strict).await,
        };
        for Waiting { answer, .. } in round.drain(..) {
            // Whoever asked may have gone.
            let _ = answer.send(index);
        }
    }
}

async fn ask_leader(replica: &Replica, leader: NodeId, is_strict: bool) -> Result<u64, ReadError> {
    let unknown = ReadError::NotLeader { hint: Some(leader) };
    let members = membership::members(replica);
    let peer = members.get(&leader).map(|member| member.peer.clone()).ok_or(unknown)?;
    let request = LogRequest::ReadIndex { is_strict };
    let asked =
        replica.transport.ask(leader, &peer, replica.shard, Lane::Urgent, request, LEADER_PATIENCE);
    match asked.await {
        Ok(LogResponse::ReadIndex(Ok(index))) => Ok(index),
        Ok(LogResponse::ReadIndex(Err(ReadRefused::NoQuorum))) => Err(ReadError::NoQuorum),
        // A read has changed nothing: whatever went wrong, it can be asked again.
        Ok(_) | Err(_) => Err(unknown),
    }
}

async fn confirm(replica: &Replica, is_strict: bool) -> Result<u64, ReadError> {
    let policy = if is_strict { ReadPolicy::ReadIndex } else { ReadPolicy::LeaseRead };
    match replica.raft.get_read_log_id(policy).await {
        Ok((read, _)) => Ok(read.index()),
        Err(RaftError::Fatal(_)) => Err(ReadError::Stopped),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            let hint = forward.leader_id.map(node).filter(|hint| *hint != replica.node);
            Err(ReadError::NotLeader { hint })
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            Err(ReadError::NoQuorum)
        }
    }
}
