//! The one hop: to whom a command for a shard goes, and what comes back from there.
//!
//! Invariant: "not done" is answered only where nothing left this node or the other side says so itself; everything else
//! that goes wrong on the way is "not known yet".

use std::{sync::PoisonError, time::Duration};

use ractor::{ActorRef, MessagingErr, rpc::CallResult};
use statehouse_contract::{
    CommandEnvelope, InstanceKey, NodeId, Receipt, Rejection, RejectionCode, ShardId, codec,
    mutant::{self, Mutant},
};
use statehouse_log::{Leadership, Part};
use statehouse_runtime::{Profile, Seat, reject};
use statehouse_telemetry::{Leg, Span};

use super::Router;
use crate::{
    forward::{Asked, Told},
    gate::{self, GateMessage},
};

/// Returns after how long without an answer a forwarded command is taken for unknown and repeated. It doubles each time,
/// up to [`SILENCE_DOUBLED_MAX`] times as long, so that a slow leader is not flooded by repeats.
pub(super) const fn silence(profile: Profile) -> Duration {
    match profile {
        Profile::Local => Duration::from_millis(300),
        Profile::Regions => Duration::from_millis(1_200),
    }
}

pub(super) const SILENCE_DOUBLED_MAX: u32 = 8;

/// Where a command goes.
pub(super) enum Route {
    /// This node leads.
    Here,
    /// Another node may lead.
    There(ActorRef<GateMessage>),
    /// Nobody is known to lead, or there is no way to them.
    Nobody,
}

impl Router {
    pub(super) fn route(&self, seat: &Seat) -> Route {
        let believed = match *seat.log().leadership().borrow() {
            Leadership::Leading { .. } => return Route::Here,
            Leadership::Following { leader } => leader,
            Leadership::Stopped => None,
        };
        let shard = seat.shard();
        let hint = self.hint(shard, |hint| *hint);
        let told = hint.filter(|(term, _)| *term > seat.log().numbers().term).map(|(_, node)| node);
        let node = told.or(believed).filter(|node| *node != seat.log().node());
        let found = match node {
            Some(node) => gate::of_node(shard, node),
            None => gate::of_leader(shard),
        };
        found.map_or(Route::Nobody, Route::There)
    }

    pub(super) fn hint<T>(
        &self,
        shard: ShardId,
        look: impl FnOnce(&mut Option<(u64, NodeId)>) -> T,
    ) -> T {
        let mut hints = self.inner.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(shard.0).unwrap_or(usize::MAX);
        match hints.get_mut(place) {
            Some(hint) => look(hint),
            None => look(&mut None),
        }
    }

    /// Sends a command over the one hop.
    pub(super) async fn forwarded(
        &self,
        seat: &Seat,
        gate: &ActorRef<GateMessage>,
        mut envelope: CommandEnvelope,
        silence: Duration,
    ) -> Result<Receipt, Rejection> {
        let span = Span::open(Leg::Forward, &envelope.trace);
        span.set("statehouse.shard", i64::from(seat.shard().0));
        envelope.trace = span.context().clone();
        let (shard, left) = (seat.shard(), Duration::from_millis(envelope.remaining_ms));
        let asked = Asked::Submit { shard, envelope: Box::new(envelope) };
        let mut leadership = seat.log().leadership();
        leadership.mark_unchanged();
        let told = tokio::select! {
            told = ask(gate, &asked, silence.min(left)) => told,
            // Another leader: the old one may have written it or not, and will perhaps never say.
            _ = leadership.changed() => return Err(lost_reply()),
        };
        match told {
            Ok(Told::Receipt(receipt)) => Ok(*receipt),
            Ok(Told::Rejected(no)) => Err(*no),
            Ok(Told::NotLeader { term, leader }) => {
                self.hint(shard, |hint| {
                    if let Some(leader) = leader
                        && hint.is_none_or(|(known, _)| known < term)
                    {
                        *hint = Some((term, leader));
                    }
                });
                Err(reject::not_proposed_here())
            }
            Ok(Told::Unreadable | Told::Place { .. } | Told::HandedOver { .. }) => {
                Err(Rejection::gateway(
                    RejectionCode::Internal,
                    "the node that leads the shard runs a build that cannot read this command",
                ))
            }
            Err(Unanswered::TooLarge(detail)) => {
                Err(Rejection::gateway(RejectionCode::PayloadTooLarge, detail))
            }
            Err(Unanswered::NotSent) => Err(seat.why_closed()),
            Err(Unanswered::Unknown) => Err(lost_reply()),
        }
    }

    /// Hands leadership of a shard over: to a node, or to the follower that is furthest. Returns whom it was offered to; whether
    /// they took it shows in the cluster's view.
    ///
    /// # Errors
    /// `invalid_request` where there is no such shard, no such voter, or nobody else; `no_leader` while nobody leads.
    pub async fn hand_over(&self, shard: ShardId, to: Option<NodeId>) -> Result<NodeId, Rejection> {
        let seat = self.seat(shard)?;
        let bad = |detail: String| Rejection::gateway(RejectionCode::InvalidRequest, detail);
        let members = seat.log().members();
        let votes = |node: &NodeId| members.get(node).is_some_and(|m| m.part == Part::Voter);
        if let Some(to) = to.filter(|to| !votes(to)) {
            return Err(bad(format!("{to} is no voter of shard {shard}")));
        }
        let nobody = || bad(format!("shard {shard} has no other voter that could lead it"));
        match self.route(&seat) {
            Route::Here => seat.log().transfer(to).await.ok_or_else(nobody),
            Route::Nobody => Err(seat.why_closed()),
            Route::There(gate) => {
                match ask(&gate, &Asked::HandOver { shard, to }, self.inner.silence).await {
                    Ok(Told::HandedOver { to }) => to.ok_or_else(nobody),
                    Ok(_) | Err(_) => Err(reject::not_proposed_here()),
                }
            }
        }
    }
}

/// Returns what a forward is worth that has left and was not answered: nobody knows.
fn lost_reply() -> Rejection {
    // A deliberate bug: it is told as certainly not done, under a code that no client repeats.
    if mutant::is(Mutant::RefusedAfterLostReply) {
        return Rejection::gateway(RejectionCode::Internal, "the node that leads did not answer");
    }
    reject::unknown()
}

/// Asks a node whether an actor is awake there; nothing if it does not say.
pub(super) async fn awake_at(node: NodeId, key: &InstanceKey, silence: Duration) -> Option<bool> {
    match ask(&gate::agent(node)?, &Asked::Place { key: key.clone() }, silence).await {
        Ok(Told::Place { awake }) => Some(awake),
        Ok(_) | Err(_) => None,
    }
}

/// Why a question has no answer.
enum Unanswered {
    /// It does not fit into a frame.
    TooLarge(String),
    /// Nothing left this node: the actor on the other side is known to be gone.
    NotSent,
    /// It may have arrived.
    Unknown,
}

/// Asks an actor of another node and waits for its answer, at most so long.
async fn ask(
    actor: &ActorRef<GateMessage>,
    asked: &Asked,
    patience: Duration,
) -> Result<Told, Unanswered> {
    let frame = codec::encode(asked).map_err(|error| Unanswered::TooLarge(error.to_string()))?;
    match actor.call(|reply| GateMessage::Rpc(frame, reply), Some(patience)).await {
        Ok(CallResult::Success(bytes)) => codec::decode(&bytes).map_err(|_| Unanswered::Unknown),
        // The mailbox of the proxy is closed and has given the message back.
        Err(MessagingErr::SendErr(_) | MessagingErr::ChannelClosed) => Err(Unanswered::NotSent),
        Ok(_) | Err(_) => Err(Unanswered::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_between_regions_has_four_times_as_long() {
        assert_eq!(silence(Profile::Local), Duration::from_millis(300));
        assert_eq!(silence(Profile::Regions), Duration::from_millis(1_200));
    }
}
