//! The door: the one way by which anything enters an instance.
//!
//! Clients' commands, timers and the instances' own queues come in here. The door takes a permit, finds the live instance
//! through its process group or asks the gateway to wake it, and waits for the answer. When the actor ends before it
//! answers, the door sends the same command again: the key makes that harmless.
//!
//! What the caller hears is certain only as far as the log is: an attempt that may have been proposed and was not answered
//! turns every later "not now" into "not known yet".
//!
//! Absent on purpose: deciding. Following a leader elsewhere; that is the router's.
//!
//! Invariant `ANSWER`: every admitted command is answered by its deadline.

use std::{sync::Arc, time::Duration};

use statehouse_contract::{
    Command, CommandEnvelope, Due, InstanceId, InstanceKey, Receipt, Rejection, RejectionCode,
    Target, TenantId, Timestamp,
    limits::{DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    admission::{Admitted, Permit, Pool},
    fire,
    message::{Ask, Delivery, DeskMessage, GatewayMessage, RegistryMessage, Reply},
    reign::Reign,
    reject,
    seat::Seat,
    shard_actor::pass_on,
};

/// How long a command waits for a leader to open the shard before it is refused.
const OPENING_WAIT: Duration = Duration::from_millis(800);
/// Pause between two looks for a gateway, or before a command is sent again.
const AGAIN: Duration = Duration::from_millis(10);

/// The way into the instances of one shard.
#[derive(Clone, Debug)]
pub struct Door {
    seat: Arc<Seat>,
    admitted: Option<Admitted>,
}

/// Why a delivery did not reach an instance, or came back without an answer.
enum Miss {
    /// No gateway is here.
    Closed,
    /// The actor or the gateway ended before it answered.
    Gone,
}

impl Door {
    /// Returns the door of a shard.
    #[must_use]
    pub fn new(seat: Arc<Seat>) -> Self {
        Self { seat, admitted: None }
    }

    /// Returns the door of a shard for work that a permit of this node has let in. The permit stays with the work: it is
    /// given back when the caller has gone and no actor has the command any more.
    #[must_use]
    pub fn for_admitted(seat: Arc<Seat>, permit: Admitted) -> Self {
        Self { seat, admitted: Some(permit) }
    }

    /// Returns the door of the shard that is led under this reign.
    #[must_use]
    pub fn of(reign: &Reign) -> Self {
        Self::new(Arc::clone(reign.seat()))
    }

    /// Returns the shard behind the door.
    #[must_use]
    pub fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// Delivers a client's command to its instance and waits for the answer.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn deliver(
        &self,
        key: &InstanceKey,
        envelope: CommandEnvelope,
    ) -> Result<Receipt, Rejection> {
        let deadline = Instant::now() + Duration::from_millis(wait_ms(&envelope));
        let ask = Arc::new(Ask::admitted(envelope, self.admitted.clone()));
        let reply = self.take_through(key, &ask, pool_of(&ask.envelope.command), deadline).await?;
        answered(reply, &ask)
    }

    /// Fires what is due at an instance; nothing if nobody could take it now.
    pub async fn fire(&self, key: &InstanceKey, what: Due, due: Timestamp) -> Option<Reply> {
        let ask = Arc::new(Ask::new(fire::envelope(key, what, due)));
        let deadline = Instant::now() + Duration::from_millis(DEADLINE_MS_DEFAULT);
        self.take_through(key, &ask, Pool::Reserved, deadline).await.ok()
    }

    /// Delivers a command that belongs to no instance to the registry of the shard and waits for the answer.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn register(&self, envelope: CommandEnvelope) -> Result<Receipt, Rejection> {
        self.organ(envelope, Pool::Client, |seat, delivery| {
            let registry = seat.directory().find_registry(seat.shard());
            registry.is_some_and(|to| to.send_message(RegistryMessage::Deliver(delivery)).is_ok())
        })
        .await
    }

    /// Asks the desk of the shard for tasks, or for more time for one, and waits for the answer.
    ///
    /// # Errors
    /// The rejection that the worker gets.
    pub async fn desk(&self, envelope: CommandEnvelope) -> Result<Receipt, Rejection> {
        self.organ(envelope, Pool::Reserved, |seat, delivery| {
            let desk = seat.directory().find_desk(seat.shard());
            desk.is_some_and(|to| to.send_message(DeskMessage::Deliver(delivery)).is_ok())
        })
        .await
    }

    /// Delivers a command to an organ of the shard and waits for the answer; `send` says whether there was one to take it.
    async fn organ(
        &self,
        envelope: CommandEnvelope,
        pool: Pool,
        send: impl Fn(&Seat, Box<Delivery>) -> bool,
    ) -> Result<Receipt, Rejection> {
        let deadline = Instant::now() + Duration::from_millis(wait_ms(&envelope));
        let closed_at = deadline.min(Instant::now() + OPENING_WAIT);
        let ask = Arc::new(Ask::admitted(envelope, self.admitted.clone()));
        let place = organ_place(&ask.envelope.target);
        loop {
            let permit = self.admit(&place, &ask, pool)?;
            let (reply, answer) = oneshot::channel();
            let delivery = Box::new(Delivery { ask: Arc::clone(&ask), permit, reply });
            if send(&self.seat, delivery) {
                match timeout_at(deadline, answer).await {
                    Ok(Ok(reply)) => return answered(reply, &ask),
                    Ok(Err(_)) => {}
                    Err(_) => return Err(reject::unknown()),
                }
            }
            if let Some(end) = self.given_up(&ask, closed_at) {
                return Err(end);
            }
            if Instant::now() + AGAIN >= deadline {
                return Err(reject::unknown());
            }
            sleep(AGAIN).await;
        }
    }

    /// Tries until there is an answer, or the deadline, or a certain no.
    async fn take_through(
        &self,
        key: &InstanceKey,
        ask: &Arc<Ask>,
        pool: Pool,
        deadline: Instant,
    ) -> Result<Reply, Rejection> {
        let closed_at = deadline.min(Instant::now() + OPENING_WAIT);
        loop {
            match self.attempt(key, ask, pool, deadline).await? {
                Ok(reply) => return Ok(reply),
                Err(Miss::Closed) => {
                    if let Some(end) = self.given_up(ask, closed_at) {
                        return Err(end);
                    }
                }
                Err(Miss::Gone) => {}
            }
            if Instant::now() + AGAIN >= deadline {
                return Err(reject::unknown());
            }
            sleep(AGAIN).await;
        }
    }

    /// Sends the command once. The outer error ends the matter.
    async fn attempt(
        &self,
        key: &InstanceKey,
        ask: &Arc<Ask>,
        pool: Pool,
        deadline: Instant,
    ) -> Result<Result<Reply, Miss>, Rejection> {
        let permit = self.admit(key, ask, pool)?;
        let (reply, answer) = oneshot::channel();
        let delivery = Box::new(Delivery { ask: Arc::clone(ask), permit, reply });
        let unsent = match self.seat.directory().find_instance(key) {
            Some(actor) => pass_on(&actor, delivery).err(),
            None => Some(delivery),
        };
        if let Some(delivery) = unsent {
            let Some(gateway) = self.seat.directory().find_gateway(self.seat.shard()) else {
                return Ok(Err(Miss::Closed));
            };
            let wake = GatewayMessage::Wake { key: key.clone(), delivery };
            if gateway.send_message(wake).is_err() {
                return Ok(Err(Miss::Gone));
            }
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(reply)) => Ok(Ok(reply)),
            Ok(Err(_)) => Ok(Err(Miss::Gone)),
            // The message may still be in a mailbox: nobody can take it back.
            Err(_) => Err(reject::unknown()),
        }
    }

    /// Takes a permit for one attempt. Where one before it may have been proposed, a full or a draining shard says nothing
    /// about the command.
    fn admit(&self, place: &InstanceKey, ask: &Ask, pool: Pool) -> Result<Permit, Rejection> {
        self.seat.admission().admit(place, pool).map_err(|no| match ask.may_be_proposed() {
            true => reject::after_unknown(no),
            false => no,
        })
    }

    /// Says how it ends for a command that finds nobody here; nothing if it is worth waiting for.
    fn given_up(&self, ask: &Ask, closed_at: Instant) -> Option<Rejection> {
        match (ask.may_be_proposed(), self.seat.leads()) {
            // Whoever leads now knows; the same key finds out there.
            (true, false) => Some(reject::unknown()),
            // After a possible proposal only the log's answer counts, so the wait goes on.
            (true, true) => None,
            (false, false) => Some(self.seat.why_closed()),
            (false, true) => (Instant::now() >= closed_at).then(|| self.seat.why_closed()),
        }
    }
}

/// Returns how long whoever sends a command waits for its answer.
#[must_use]
pub fn wait_ms(envelope: &CommandEnvelope) -> u64 {
    match envelope.remaining_ms {
        0 => DEADLINE_MS_DEFAULT,
        ms => ms.min(DEADLINE_MS_MAX),
    }
}

/// Returns from which share of the shard's permits a command takes its own: what was accepted already, and frees others by
/// ending, is let in where new work is not.
const fn pool_of(command: &Command) -> Pool {
    match command {
        Command::CompleteTask { .. }
        | Command::FailTask { .. }
        | Command::StartTask { .. }
        | Command::StartChild { .. }
        | Command::ChildEnded { .. }
        | Command::Adopt { .. } => Pool::Reserved,
        _ => Pool::Client,
    }
}

fn answered(reply: Reply, ask: &Ask) -> Result<Receipt, Rejection> {
    match reply {
        Reply::Receipt(receipt) => Ok(*receipt),
        Reply::Rejected(no) if ask.may_be_proposed() => Err(reject::after_unknown(*no)),
        Reply::Rejected(no) => Err(*no),
        // Only what is due can be stale; a command always has an answer.
        Reply::Fired | Reply::Stale => Err(Rejection::gateway(
            RejectionCode::Internal,
            "the instance gave no answer to a command",
        )),
    }
}

/// The place in the admission's counts for commands that belong to no instance: one for each tenant.
fn organ_place(target: &Target) -> InstanceKey {
    let none = || TenantId::parse("cluster").expect("a constant that fits");
    InstanceKey {
        tenant: target.tenant().cloned().unwrap_or_else(none),
        instance: InstanceId::parse("-registry-").expect("a constant that fits"),
    }
}

#[cfg(test)]
mod tests {
    use statehouse_contract::Verb;

    use super::*;

    #[test]
    fn a_command_waits_ten_seconds_unless_it_says_otherwise_and_never_more_than_a_minute() {
        let place = organ_place(&Target::Cluster);
        let waits = |remaining_ms| {
            let due = fire::envelope(&place, Due::Queue, Timestamp(0));
            let command = Command::Operate(Verb::Skip);
            wait_ms(&CommandEnvelope { command, remaining_ms, ..due })
        };
        assert_eq!((waits(0), waits(1), waits(60_000), waits(60_001)), (10_000, 1, 60_000, 60_000));
    }
}
