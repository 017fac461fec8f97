//! How an entry gets into the log.
//!
//! A proposal is encoded where it is made, checked against what is known here (who leads, room on the
//! disk, room in the queue), and given to the engine with the term that decided it: if the reign has
//! changed by then, the engine refuses it before it is written. The engine merges whatever has queued
//! into one append; the answer is what the rows said when the entry was applied.
//!
//! The place in the queue belongs to the proposal, not to the caller: it is given back when the proposal
//! is applied, refused or discarded, whoever has stopped waiting meanwhile.
//!
//! Invariant `BOUND`: at most `PROPOSALS_MAX` proposals of a shard are on their way.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use openraft::{
    errors::{ClientWriteError, ForwardReason, ForwardToLeader},
    raft::{ClientWriteResult, responder::Responder},
};
use tokio::sync::oneshot;

use statehouse_contract::{
    NodeId, codec, limits,
    mutant::{self, Mutant},
};
use statehouse_store::{Applied, Entry};
use statehouse_telemetry::{Leg, Span};

use crate::{
    engine::{Engine, Proposed, Reign},
    error::ProposeError,
    leadership::Leadership,
    replica::Replica,
};

/// Who needs the entry, when room runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A client's command that starts an instance: refused first when the disk fills.
    Start,
    /// Any other command of a client: refused while the disk is nearly full.
    Client,
    /// A new term, a completion, a sweep: may use the reserve, so that the node can heal.
    Healing,
}

/// Counts the proposals of a shard that are on their way.
#[derive(Debug, Default)]
pub(crate) struct Slots(AtomicUsize);

/// A place in the queue, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Slots>);

impl Slots {
    pub(crate) fn take(self: &Arc<Self>) -> Option<Slot> {
        let taken = self.0.fetch_add(1, Ordering::Relaxed);
        // Dropping the slot undoes the count.
        let slot = Slot(Arc::clone(self));
        (taken < limits::PROPOSALS_MAX).then_some(slot)
    }

    pub(crate) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes the engine's answer to its caller and holds the proposal's place meanwhile.
#[derive(Debug)]
pub(crate) struct Waiter<T> {
    answer: oneshot::Sender<T>,
    slot: Slot,
}

impl<T: Send + 'static> Responder<Engine, T> for Waiter<T> {
    fn on_complete(self, result: T) {
        drop(self.slot);
        // The caller may have gone; the log has not.
        let _ = self.answer.send(result);
    }
}

/// Proposes an entry and waits until it is applied.
pub(crate) async fn propose(
    replica: &Replica,
    entry: Entry,
    urgency: Urgency,
) -> Result<Applied, ProposeError> {
    let mut term = entry.header.decided_term;
    // A deliberate bug: whoever leads now takes what was decided in any term.
    if mutant::is(Mutant::NoTermFence)
        && let Leadership::Leading { term: leading } = *replica.leadership.borrow()
    {
        term = leading;
    }
    let frame = codec::encode(&entry).unwrap_or_default();
    if frame.is_empty() || frame.len() > limits::ENTRY_BYTES_MAX {
        return Err(ProposeError::TooLarge { bytes: frame.len() });
    }
    admit(replica, term, urgency)?;
    let slot = replica.slots.take().ok_or(ProposeError::Overloaded)?;
    let span = Span::open(Leg::Propose, &entry.header.trace);
    span.set("statehouse.shard", i64::from(replica.shard.0));
    let trace = span.is_real().then(|| Arc::new(span.context().clone()));
    let proposed = Proposed { frame: frame.into(), entry: Some(Arc::new(entry)), trace };
    write(replica, proposed, term, slot).await
}

/// Gives a proposal to the engine, for this term alone: whatever was believed until now, the engine looks at its own.
pub(crate) async fn write(
    replica: &Replica,
    proposed: Proposed,
    term: u64,
    slot: Slot,
) -> Result<Applied, ProposeError> {
    let (answer, is_answered) = oneshot::channel();
    let written = replica
        .raft
        .write(proposed)
        .with_leader(Reign::new(term))
        .responder(Waiter { answer, slot })
        .await;
    if written.is_err() {
        // The engine's queue is closed: the proposal never entered it.
        return Err(ProposeError::Stopped);
    }
    match is_answered.await {
        Ok(answer) => committed(replica, answer),
        Err(_) => Err(ProposeError::Unknown),
    }
}

/// Refuses at once what the engine would refuse later, or should not be given.
fn admit(replica: &Replica, term: u64, urgency: Urgency) -> Result<(), ProposeError> {
    match *replica.leadership.borrow() {
        Leadership::Leading { term: leading } if leading == term => {}
        Leadership::Leading { .. } => {
            return Err(ProposeError::NotLeader { hint: Some(replica.node) });
        }
        Leadership::Following { leader } => return Err(ProposeError::NotLeader { hint: leader }),
        Leadership::Stopped => return Err(ProposeError::Stopped),
    }
    if !replica.room.takes(urgency) {
        return Err(ProposeError::StorageFull);
    }
    if urgency != Urgency::Healing {
        let is_slow = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if is_slow(&replica.is_stalled) || is_slow(&replica.is_lagging) {
            return Err(ProposeError::Overloaded);
        }
    }
    Ok(())
}

pub(crate) fn committed(
    replica: &Replica,
    answer: ClientWriteResult<Engine>,
) -> Result<Applied, ProposeError> {
    match answer {
        Ok(response) => match response.data {
            Some(applied) => Ok(applied),
            // Only blank and membership entries have no answer, and those are not proposed here.
            None => Err(ProposeError::Unknown),
        },
        Err(ClientWriteError::ForwardToLeader(forward)) => Err(refused(replica, &forward)),
        Err(
            ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_),
        ) => Err(ProposeError::Unknown),
    }
}

/// The engine refused before it wrote anything.
fn refused(replica: &Replica, forward: &ForwardToLeader<Engine>) -> ProposeError {
    match forward.reason {
        ForwardReason::LeaseExpired => ProposeError::NoQuorum,
        ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => {
            let hint = forward.leader_id.map(node).filter(|hint| *hint != replica.node);
            ProposeError::NotLeader { hint }
        }
    }
}

/// Reads the engine's id of a node.
pub(crate) fn node(id: u64) -> NodeId {
    let halves = |id: u64| u32::try_from(id & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    NodeId { number: halves(id >> 32), incarnation: halves(id) }
}
