//! Where a read may begin.
//!
//! A linearizable read takes the leader's commit position after a majority has confirmed that it leads
//! (ReadIndex), waits until that position is applied here, and only *then* may its transaction begin.
//! All reads of a shard that wait at the same time share one round.
//!
//! A lease read trusts the leader's lease instead of asking; it is bounded-stale and never used for
//! fencing. A stale read takes what is applied.

use std::sync::Arc;

use openraft::{
    ReadPolicy,
    errors::{LinearizableReadError, RaftError},
};
use tokio::sync::{mpsc, oneshot};

use statehouse_contract::{Consistency, limits};

use crate::{error::ReadError, leadership::Leadership, proposal::node, replica::Replica};

/// Somebody who waits for a position to read at.
pub(crate) struct Waiting {
    consistency: Consistency,
    answer: oneshot::Sender<Result<u64, ReadError>>,
}

/// Makes the queue of waiting reads: as long as a node lets commands in.
pub(crate) fn queue() -> (mpsc::Sender<Waiting>, mpsc::Receiver<Waiting>) {
    mpsc::channel(limits::INGRESS_PERMITS)
}

/// Waits until a read may begin; returns the position that is applied by then.
pub(crate) async fn begin(replica: &Replica, consistency: Consistency) -> Result<u64, ReadError> {
    if consistency == Consistency::Stale {
        return Ok(replica.applied.borrow().unwrap_or_default());
    }
    let index = confirm(replica, consistency).await?;
    let mut applied = replica.applied.clone();
    let reached = applied.wait_for(|applied| *applied >= Some(index)).await;
    let position = reached.map_err(|_| ReadError::Stopped)?.unwrap_or_default();
    Ok(position)
}

/// Asks for a position that a majority, or the lease, vouches for.
async fn confirm(replica: &Replica, consistency: Consistency) -> Result<u64, ReadError> {
    let (answer, is_answered) = oneshot::channel();
    let waiting = Waiting { consistency, answer };
    replica.reads.send(waiting).await.map_err(|_| ReadError::Stopped)?;
    is_answered.await.unwrap_or(Err(ReadError::Stopped))
}

/// Answers waiting reads, one round for all that wait, until the replica is gone.
pub(crate) async fn serve(replica: Arc<Replica>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut round = Vec::new();
    while waiting.recv_many(&mut round, limits::INGRESS_PERMITS).await > 0 {
        let is_strict = |w: &Waiting| w.consistency == Consistency::Linearizable;
        let policy =
            if round.iter().any(is_strict) { ReadPolicy::ReadIndex } else { ReadPolicy::LeaseRead };
        let index = ask(&replica, policy).await;
        for Waiting { answer, .. } in round.drain(..) {
            // Whoever asked may have gone.
            let _ = answer.send(index);
        }
    }
}

async fn ask(replica: &Replica, policy: ReadPolicy) -> Result<u64, ReadError> {
    if let Leadership::Following { leader } = *replica.leadership.borrow() {
        return Err(ReadError::NotLeader { hint: leader });
    }
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
