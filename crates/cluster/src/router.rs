//! The way to an instance: from any command or question to the shard that answers it.
//!
//! A router is cheap to clone. A command goes to the node that leads its shard: here, or over one hop to the gate of
//! another node. Who leads is a belief, the one of the highest term among this node's replica, a gate's hint, and the
//! process group; a wrong one costs a retry. What the router answers is final for this attempt: a receipt, a stored
//! rejection, a certain "not done" (503, 429), or "not known yet" (504). An attempt whose outcome is unknown is repeated
//! with the same key, and from then on no later "not done" is certain.
//!
//! Four rooms: here a command is tried until its outcome is certain; `hop` knows to whom it goes; `leases` finds a shard
//! that has a task; `questions` are answered from this node's rows, at the position that the log gives.
//!
//! Absent on purpose: credentials and tenants; the edge has granted them.
//!
//! Invariant `BOUND`: no more commands are let in at once than `INGRESS_PERMITS`. A permit never crosses a node.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, atomic::AtomicUsize},
    time::Duration,
};

use statehouse_contract::{
    Command, CommandEnvelope, InstanceKey, Key, NodeId, Receipt, Rejection, RejectionCode, ShardId,
    Target,
    limits::{COPIES_MAX, INGRESS_PERMITS},
};
use statehouse_log::Leadership;
use statehouse_runtime::{
    Door, Profile, Seat, ShardHost,
    admission::{Admitted, draining},
    door::wait_ms,
    reading::resolve,
    reject,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use self::hop::{Route, SILENCE_DOUBLED_MAX, silence};
use crate::{
    board::Board,
    gate,
    shard_map::{REGISTRY, ShardMap},
    who::{States, Who},
};

mod hop;
mod leases;
mod questions;
mod reset;

pub use leases::KeyChoice;
pub use questions::Outgoing;

/// How long a command waits for a leader before it is refused: an election and the opening of the shard.
const LEADER_WAIT: Duration = Duration::from_millis(800);
/// Longest pause between two looks for a leader.
const LOOK: Duration = Duration::from_millis(10);

/// The way to every shard. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

type Seats = Arc<[Arc<Seat>]>;

struct Inner {
    map: ShardMap,
    /// The shards that this node holds; nothing once it has stopped, so that a forgotten router keeps no file open.
    seats: RwLock<Seats>,
    ingress: Arc<Semaphore>,
    copies: Arc<Semaphore>,
    who: Who,
    /// How long a forward may take before it is repeated.
    silence: Duration,
    /// For each shard, the term and leader that a gate told last.
    hints: Mutex<Vec<Option<(u64, NodeId)>>>,
    /// Where lease calls wait.
    board: Board,
    /// Counts lease calls: each begins at another shard.
    turn: AtomicUsize,
    /// How the other nodes are; nothing for a node alone.
    states: OnceLock<States>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("map", &self.inner.map).finish_non_exhaustive()
    }
}

impl Router {
    pub(crate) fn new(map: ShardMap, host: &ShardHost, who: Who, profile: Profile) -> Self {
        let seats = RwLock::new(host.seats().into());
        let ingress = Arc::new(Semaphore::new(INGRESS_PERMITS));
        let hints = Mutex::new(vec![None; host.seats().len()]);
        let states = OnceLock::new();
        let copies = Arc::new(Semaphore::new(COPIES_MAX));
        Self {
            inner: Arc::new(Inner {
                map,
                seats,
                ingress,
                copies,
                who,
                silence: silence(profile),
                hints,
                board: Board::default(),
                turn: AtomicUsize::new(0),
                states,
            }),
        }
    }

    /// Learns how the other nodes are, once the links stand.
    pub(crate) fn meet(&self, states: States) {
        // Met once: a router belongs to one node.
        let _ = self.inner.states.set(states);
    }

    /// Lets go of every shard; whoever asks from now on hears that the node is shutting down.
    pub(crate) fn close(&self) {
        self.send_polls_away();
        *self.inner.seats.write().unwrap_or_else(PoisonError::into_inner) = Arc::new([]);
    }

    /// Answers every lease call that waits, and every later one at once: the node is about to stop.
    pub(crate) fn send_polls_away(&self) {
        self.inner.board.close();
    }

    fn seats(&self) -> Result<Seats, Rejection> {
        let seats = Arc::clone(&self.inner.seats.read().unwrap_or_else(PoisonError::into_inner));
        if seats.is_empty() {
            return Err(draining());
        }
        Ok(seats)
    }

    /// Hands a command to whoever decides it and waits for the answer, at most as long as the caller waits.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn submit(&self, envelope: CommandEnvelope) -> Result<Receipt, Rejection> {
        let permit = self.enter()?;
        Self::reports(&envelope)?;
        if let Some(tenant) = envelope.target.tenant() {
            self.registry()?.charge(tenant)?;
        }
        self.carry(envelope, Arc::new(permit)).await
    }

    /// Takes a permit of this node's door.
    fn enter(&self) -> Result<OwnedSemaphorePermit, Rejection> {
        Arc::clone(&self.inner.ingress).try_acquire_owned().map_err(|_| {
            let detail = "this node works on as many commands as it may";
            Rejection::gateway(RejectionCode::Overloaded, detail).after_ms(100)
        })
    }

    /// Hands a command in that was let in with a permit: as [`Self::submit`], for a key of any origin.
    ///
    /// # Errors
    /// The rejection that the sender gets.
    pub(crate) async fn carry(
        &self,
        envelope: CommandEnvelope,
        permit: Admitted,
    ) -> Result<Receipt, Rejection> {
        let envelope = self.reset(envelope).await?;
        let shard = self.inner.map.of_target(&envelope.target).ok_or_else(|| {
            Rejection::gateway(RejectionCode::InvalidRequest, "there is no such shard")
        })?;
        let seat = self.seat(shard)?;
        self.decided(&seat, envelope, permit).await
    }

    /// Tries until there is a definite answer, or the deadline, or nobody leads for too long.
    async fn decided(
        &self,
        seat: &Arc<Seat>,
        envelope: CommandEnvelope,
        permit: Admitted,
    ) -> Result<Receipt, Rejection> {
        let began = Instant::now();
        let deadline = began + Duration::from_millis(wait_ms(&envelope));
        let patience = deadline.min(began + LEADER_WAIT);
        let mut resolved: Option<CommandEnvelope> = None;
        let (mut in_doubt, mut silence) = (false, self.inner.silence);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = match self.prepared(seat, &envelope, &mut resolved, left).await {
                Ok(attempt) => self.attempt(seat, attempt, &permit, silence).await,
                Err(no) => Err(no),
            };
            let no = match outcome {
                Ok(receipt) => return Ok(receipt),
                Err(no) => no,
            };
            match no.code {
                RejectionCode::DeadlineExceeded => {
                    in_doubt = true;
                    silence = (2 * silence).min(SILENCE_DOUBLED_MAX * self.inner.silence);
                }
                RejectionCode::NoLeader | RejectionCode::NoQuorum | RejectionCode::Behind => {}
                _ if in_doubt => return Err(reject::after_unknown(no)),
                _ => return Err(no),
            }
            let now = Instant::now();
            if in_doubt && now + LOOK >= deadline {
                return Err(reject::unknown());
            }
            if !in_doubt && now + LOOK >= patience {
                return Err(no);
            }
            let mut leadership = seat.log().leadership();
            leadership.mark_unchanged();
            // News or not: what matters is looked at again.
            let _ = timeout(LOOK, leadership.changed()).await;
        }
    }

    /// Returns the command as it is sent now: resolved once, with the time that is left.
    async fn prepared(
        &self,
        seat: &Arc<Seat>,
        envelope: &CommandEnvelope,
        resolved: &mut Option<CommandEnvelope>,
        left: Duration,
    ) -> Result<CommandEnvelope, Rejection> {
        // A copy of shard 0 that nobody vouches for may not know that a key was revoked.
        self.vouched()?;
        let mut attempt = match resolved {
            Some(known) => known.clone(),
            None => {
                let known = match &envelope.target {
                    Target::Instance(key) => self.resolved(seat, key, envelope.clone()).await?,
                    Target::Tenant(_) | Target::Cluster | Target::Shard(_) => envelope.clone(),
                };
                resolved.insert(known).clone()
            }
        };
        attempt.remaining_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        Ok(attempt)
    }

    async fn attempt(
        &self,
        seat: &Arc<Seat>,
        envelope: CommandEnvelope,
        permit: &Admitted,
        silence: Duration,
    ) -> Result<Receipt, Rejection> {
        match self.route(seat) {
            // The permit stays with the work here, however long the caller waits.
            Route::Here => {
                let door = Door::for_admitted(Arc::clone(seat), Arc::clone(permit));
                gate::decide(&door, envelope).await
            }
            Route::There(gate) => self.forwarded(seat, &gate, envelope, silence).await,
            Route::Nobody => Err(seat.why_closed()),
        }
    }

    /// Returns the highest feature level that a shard has, as this node's copies know it.
    pub(crate) fn level(&self) -> u16 {
        let seats = self.seats().unwrap_or_default();
        seats.iter().filter_map(|seat| seat.level()).max().unwrap_or(0)
    }

    /// Returns the address of the API of the node that leads an instance's shard, if it is another one.
    #[must_use]
    pub fn leader_api(&self, key: &InstanceKey) -> Option<Box<str>> {
        let seat = self.of(key).ok()?;
        let leadership = *seat.log().leadership().borrow();
        let Leadership::Following { leader: Some(leader) } = leadership else { return None };
        self.inner.who.api_of(leader)
    }

    /// Gives a start the version and digest that it takes; they stand in its entry and receipt.
    async fn resolved(
        &self,
        seat: &Seat,
        key: &InstanceKey,
        mut envelope: CommandEnvelope,
    ) -> Result<CommandEnvelope, Rejection> {
        match &mut envelope.command {
            Command::Start { definition, .. } | Command::StartChild { definition, .. }
                if definition.digest.is_none() =>
            {
                *definition = resolve(seat, &key.tenant, definition).await?;
            }
            _ => {}
        }
        Ok(envelope)
    }

    fn of(&self, key: &InstanceKey) -> Result<Arc<Seat>, Rejection> {
        self.seat(self.inner.map.of_instance(key))
    }

    fn registry(&self) -> Result<Arc<Seat>, Rejection> {
        self.seat(REGISTRY)
    }

    fn seat(&self, shard: ShardId) -> Result<Arc<Seat>, Rejection> {
        let place = usize::try_from(shard.0).unwrap_or(usize::MAX);
        self.seats()?.get(place).cloned().ok_or_else(|| {
            let detail = format!("there is no shard {shard}");
            Rejection::gateway(RejectionCode::InvalidRequest, detail)
        })
    }
}

/// Refuses keys that only the system's own parts may make.
fn from_outside(key: &Key) -> Result<(), Rejection> {
    match key {
        Key::Client(_) | Key::Operator(_) => Ok(()),
        Key::Timer { .. }
        | Key::Task { .. }
        | Key::Outbox { .. }
        | Key::Schedule { .. }
        | Key::Queue { .. } => Err(Rejection::gateway(
            RejectionCode::InvalidRequest,
            "a command from outside carries a client's or an operator's key",
        )),
    }
}
