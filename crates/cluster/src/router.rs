//! The way to an instance: from any command or question to the shard that answers it.
//!
//! A router is cheap to clone. A command goes to the node that leads its shard: here, or over one hop to the gate of
//! another node. Who leads is a belief, the one of the highest term among this node's replica, a gate's hint, and the
//! process group; a wrong one costs a retry. What the router answers is final for this attempt: a receipt, a stored
//! rejection, a certain "not done" (503, 429), or "not known yet" (504). An attempt whose outcome is unknown is repeated
//! with the same key, and from then on no later "not done" is certain.
//!
//! Questions are answered here, from this node's rows: the log gives the position from which they may be read.
//!
//! Absent on purpose: credentials and tenants; the edge has granted them.
//!
//! Invariant `BOUND`: no more commands are let in at once than `INGRESS_PERMITS`. A permit never crosses a node.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use ractor::ActorRef;
use statehouse_contract::{
    Answer, Command, CommandEnvelope, Consistency, Credential, Digest, InstanceKey, Key, NodeId,
    Query, Receipt, Rejection, RejectionCode, ShardId, Target, codec,
    limits::{
        COPIES_MAX, DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX, INGRESS_PERMITS, REGISTRY_AGE_MS_MAX,
        STALE_AGE_MS_MAX,
    },
    view::PlaceView,
};
use statehouse_log::{Leadership, Part, ShardCopy};
use statehouse_runtime::{Door, Seat, ShardHost, admission::draining, reading::resolve, reject};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::{
    forward::{Asked, Told},
    gate::{self, GateMessage},
    lists,
    shard_map::{REGISTRY, ShardMap},
    watch,
    who::{States, Who},
};

/// How long a command waits for a leader before it is refused: an election and the opening of the shard.
const LEADER_WAIT: Duration = Duration::from_millis(800);
/// Longest pause between two looks for a leader.
const LOOK: Duration = Duration::from_millis(10);
/// After how long without an answer a forwarded command is taken for unknown and repeated; it doubles each time, so that
/// a slow leader is not flooded by repeats.
const SILENCE: Duration = Duration::from_millis(300);
const SILENCE_MAX: Duration = Duration::from_millis(2_400);

/// After how long a caller who found no place for a copy may come back.
const COPY_AGAIN_MS: u64 = 1_000;

/// A copy of a shard that this node gives away, with its place among those on their way.
#[derive(Debug)]
pub struct Outgoing {
    /// The copy.
    pub copy: ShardCopy,
    /// The cluster's name, if it has one.
    pub cluster: Option<String>,
    /// How many shards the cluster has.
    pub shards: u32,
    /// Whoever keeps this keeps others out.
    pub place: OwnedSemaphorePermit,
}

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
    ingress: Semaphore,
    copies: Arc<Semaphore>,
    who: Who,
    /// For each shard, the term and leader that a gate told last.
    hints: Mutex<Vec<Option<(u64, NodeId)>>>,
    /// How the other nodes are; nothing for a node alone.
    states: OnceLock<States>,
}

/// Where a command goes.
enum Route {
    /// This node leads.
    Here,
    /// Another node may lead.
    There(ActorRef<GateMessage>),
    /// Nobody is known to lead, or there is no way to them.
    Nobody,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("map", &self.inner.map).finish_non_exhaustive()
    }
}

impl Router {
    pub(crate) fn new(map: ShardMap, host: &ShardHost, who: Who) -> Self {
        let seats = RwLock::new(host.seats().into());
        let ingress = Semaphore::new(INGRESS_PERMITS);
        let hints = Mutex::new(vec![None; host.seats().len()]);
        let states = OnceLock::new();
        let copies = Arc::new(Semaphore::new(COPIES_MAX));
        Self { inner: Arc::new(Inner { map, seats, ingress, copies, who, hints, states }) }
    }

    /// Learns how the other nodes are, once the links stand.
    pub(crate) fn meet(&self, states: States) {
        // Met once: a router belongs to one node.
        let _ = self.inner.states.set(states);
    }

    /// Lets go of every shard; whoever asks from now on hears that the node is shutting down.
    pub(crate) fn close(&self) {
        *self.inner.seats.write().unwrap_or_else(PoisonError::into_inner) = Arc::new([]);
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
        let _permit = self.inner.ingress.try_acquire().map_err(|_| {
            let detail = "this node works on as many commands as it may";
            Rejection::gateway(RejectionCode::Overloaded, detail).after_ms(100)
        })?;
        if let Some(tenant) = envelope.target.tenant() {
            self.registry()?.charge(tenant)?;
        }
        let shard = self.inner.map.of_target(&envelope.target).ok_or_else(|| {
            Rejection::gateway(RejectionCode::InvalidRequest, "there is no such shard")
        })?;
        let seat = self.seat(shard)?;
        if matches!(envelope.target, Target::Shard(_)) {
            return Err(not_in_this_release("a command to a shard"));
        }
        self.decided(&seat, envelope).await
    }

    /// Tries until there is a definite answer, or the deadline, or nobody leads for too long.
    async fn decided(
        &self,
        seat: &Arc<Seat>,
        envelope: CommandEnvelope,
    ) -> Result<Receipt, Rejection> {
        let began = Instant::now();
        let deadline = began + Duration::from_millis(wait_ms(&envelope));
        let patience = deadline.min(began + LEADER_WAIT);
        let mut resolved: Option<CommandEnvelope> = None;
        let (mut in_doubt, mut silence) = (false, SILENCE);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = match self.prepared(seat, &envelope, &mut resolved, left).await {
                Ok(attempt) => self.attempt(seat, attempt, silence).await,
                Err(no) => Err(no),
            };
            let no = match outcome {
                Ok(receipt) => return Ok(receipt),
                Err(no) => no,
            };
            match no.code {
                RejectionCode::DeadlineExceeded => {
                    in_doubt = true;
                    silence = (2 * silence).min(SILENCE_MAX);
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
        silence: Duration,
    ) -> Result<Receipt, Rejection> {
        match self.route(seat) {
            Route::Here => gate::decide(&Door::new(Arc::clone(seat)), envelope).await,
            Route::There(gate) => self.forwarded(seat, &gate, envelope, silence).await,
            Route::Nobody => Err(seat.why_closed()),
        }
    }

    fn route(&self, seat: &Seat) -> Route {
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

    fn hint<T>(&self, shard: ShardId, look: impl FnOnce(&mut Option<(u64, NodeId)>) -> T) -> T {
        let mut hints = self.inner.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(shard.0).unwrap_or(usize::MAX);
        match hints.get_mut(place) {
            Some(hint) => look(hint),
            None => look(&mut None),
        }
    }

    /// Sends a command over the one hop.
    async fn forwarded(
        &self,
        seat: &Seat,
        gate: &ActorRef<GateMessage>,
        envelope: CommandEnvelope,
        silence: Duration,
    ) -> Result<Receipt, Rejection> {
        let (shard, left) = (seat.shard(), Duration::from_millis(envelope.remaining_ms));
        let asked = Asked::Submit { shard, envelope: Box::new(envelope) };
        let frame = codec::encode(&asked).map_err(|error| {
            Rejection::gateway(RejectionCode::PayloadTooLarge, error.to_string())
        })?;
        let mut leadership = seat.log().leadership();
        leadership.mark_unchanged();
        let asking = gate.call(|reply| GateMessage::Rpc(frame, reply), Some(silence.min(left)));
        let told = tokio::select! {
            told = asking => told,
            // Another leader: the old one may have written it or not, and will perhaps never say.
            _ = leadership.changed() => return Err(reject::unknown()),
        };
        let bytes = match told {
            Ok(ractor::rpc::CallResult::Success(bytes)) => bytes,
            // Nothing was sent: the gate is known to be gone.
            Err(ractor::MessagingErr::ChannelClosed) => return Err(seat.why_closed()),
            // It may have arrived.
            Ok(_) | Err(_) => return Err(reject::unknown()),
        };
        match codec::decode(&bytes) {
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
            Err(_) => Err(reject::unknown()),
        }
    }

    /// Hands leadership of a shard over: to a node, or to whoever should lead it. Returns whom it was offered to; whether
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
                let question = codec::encode(&Asked::HandOver { shard, to });
                let question = question.map_err(|error| bad(error.to_string()))?;
                let asked = gate.call(|reply| GateMessage::Rpc(question, reply), Some(SILENCE));
                let told = match asked.await {
                    Ok(ractor::rpc::CallResult::Success(bytes)) => codec::decode(&bytes).ok(),
                    Ok(_) | Err(_) => None,
                };
                match told {
                    Some(Told::HandedOver { to }) => to.ok_or_else(nobody),
                    _ => Err(reject::not_proposed_here()),
                }
            }
        }
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
            Command::Start { definition, .. } if definition.digest.is_none() => {
                *definition = resolve(seat, &key.tenant, definition).await?;
            }
            Command::LeaseTasks { .. }
            | Command::ExtendLease { .. }
            | Command::CompleteTask { .. }
            | Command::FailTask { .. } => return Err(not_in_this_release("leasing tasks")),
            _ => {}
        }
        // Only the system's own parts make what is due, and their keys cannot be chosen.
        match &envelope.key {
            Key::Client(_) | Key::Operator(_) => Ok(envelope),
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

    /// Answers a question from applied rows.
    ///
    /// # Errors
    /// The rejection that the caller gets.
    pub async fn query(&self, query: Query) -> Result<Answer, Rejection> {
        match &query {
            // These must be answered by a node that is cut off, too: they are how one finds out that it is.
            Query::Cluster { .. } | Query::Dump { .. } | Query::Credential { .. } => {}
            Query::Instance { consistency: Consistency::Stale, .. } => {
                self.registry()?.age_within(STALE_AGE_MS_MAX)?;
            }
            _ => self.fresh().await?,
        }
        match query {
            Query::Instance { key, consistency, min_version, remaining_ms } => {
                let seat = self.of(&key)?;
                let view = seat.instance(&key, consistency, min_version, remaining_ms).await?;
                Ok(Answer::Instance(Box::new(view)))
            }
            Query::Instances(filter) => {
                lists::page(&self.seats()?, &filter).await.map(Answer::Instances)
            }
            Query::History { key, after, limit } => {
                self.of(&key)?.history(&key, after, limit).await.map(Answer::History)
            }
            Query::Explain { key } => self.of(&key)?.explain(&key).await.map(Answer::Explain),
            Query::DryRun(envelope) => {
                let shard = self.inner.map.of_target(&envelope.target).unwrap_or(REGISTRY);
                let receipt = self.seat(shard)?.dry_run(&envelope).await?;
                Ok(Answer::Receipt(Box::new(receipt)))
            }
            Query::Receipt { key, idempotency, wait_ms } => {
                let receipt = self.of(&key)?.stored_receipt(&key, &idempotency, wait_ms).await?;
                Ok(Answer::Receipt(Box::new(receipt)))
            }
            Query::Changes { scope, after, limit, wait_ms } => {
                let asked = watch::Asked { after: after.as_deref(), limit, wait_ms };
                watch::changes(&self.seats()?, self.inner.map, &scope, asked)
                    .await
                    .map(Answer::Changes)
            }
            Query::Definitions { tenant } => {
                self.registry()?.definitions(&tenant).await.map(Answer::Definitions)
            }
            Query::Definition { tenant, name, version } => {
                let found = self.registry()?.definition(&tenant, &name, version).await?;
                Ok(Answer::Definition(Box::new(found)))
            }
            Query::Tenants => self.registry()?.tenants().await.map(Answer::Tenants),
            Query::Tenant { tenant } => {
                let found = self.registry()?.tenant(&tenant).await?;
                Ok(Answer::Tenant(Box::new(found)))
            }
            Query::Credential { hash } => self.credential(hash).await.map(Answer::Credential),
            Query::Cluster { instance } => {
                let place = match &instance {
                    Some(key) => Some(self.place(key).await?),
                    None => None,
                };
                let states = self.inner.states.get();
                let view = self.inner.who.view(states, &self.seats()?, place);
                Ok(Answer::Cluster(Box::new(view)))
            }
            Query::Dump { shard, after, limit } => {
                self.seat(shard)?.dump(after, limit).await.map(Answer::Dump)
            }
        }
    }

    /// Makes a copy of a shard, with everything in it that was acknowledged before. It takes a place until it is dropped.
    ///
    /// # Errors
    /// The rejection that the caller gets; `overloaded` when every place is taken.
    pub async fn copy(&self, shard: ShardId) -> Result<Outgoing, Rejection> {
        let seat = self.seat(shard)?;
        let Ok(place) = Arc::clone(&self.inner.copies).try_acquire_owned() else {
            let detail = "this node sends as many copies as it may; nothing was done";
            let no = Rejection::gateway(RejectionCode::Overloaded, detail);
            return Err(no.after_ms(COPY_AGAIN_MS));
        };
        let copy = seat.copy().await?;
        let Who { cluster, .. } = &self.inner.who;
        let cluster = cluster.map(|cluster| cluster.to_string());
        Ok(Outgoing { copy, cluster, shards: self.inner.map.shards(), place })
    }

    /// Finds the holder of a key. A key that this node's copy does not know may have been made a moment ago: before it is
    /// said to be unknown, the copy catches up with its leader.
    async fn credential(&self, hash: Digest) -> Result<Option<Credential>, Rejection> {
        let registry = self.registry()?;
        if let Some(known) = registry.credential(hash)? {
            return Ok(Some(known));
        }
        registry.catch_up().await?;
        registry.credential(hash)
    }

    /// Waits a moment for this node's copy of shard 0 to be vouched for.
    async fn fresh(&self) -> Result<(), Rejection> {
        let patience = Instant::now() + LEADER_WAIT;
        loop {
            match self.vouched() {
                Ok(()) => return Ok(()),
                Err(no) if Instant::now() >= patience => return Err(no),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Refuses while nobody has vouched for this node's copy of shard 0 for too long: it may not know that a key was
    /// revoked. What is missing is a leader, or the leader's majority.
    fn vouched(&self) -> Result<(), Rejection> {
        let registry = self.registry()?;
        let code = if registry.leads() { RejectionCode::NoQuorum } else { RejectionCode::NoLeader };
        let fresh = registry.age_within(REGISTRY_AGE_MS_MAX);
        fresh.map(|_| ()).map_err(|no| Rejection { code, ..no })
    }

    async fn place(&self, key: &InstanceKey) -> Result<PlaceView, Rejection> {
        let shard = self.inner.map.of_instance(key);
        let seat = self.seat(shard)?;
        let (node, awake) = match *seat.log().leadership().borrow() {
            Leadership::Leading { .. } => (Some(seat.log().node()), Some(seat.is_awake(key))),
            Leadership::Following { leader } => (leader, None),
            Leadership::Stopped => (None, None),
        };
        let awake = match (awake, node) {
            (Some(awake), _) => Some(awake),
            (None, Some(node)) => awake_at(node, key).await,
            (None, None) => None,
        };
        let node = node.map(|node| node.to_string());
        Ok(PlaceView { bucket: key.bucket().number(), shard: shard.0, node, awake })
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

fn wait_ms(envelope: &CommandEnvelope) -> u64 {
    match envelope.remaining_ms {
        0 => DEADLINE_MS_DEFAULT,
        ms => ms.min(DEADLINE_MS_MAX),
    }
}

/// Asks a node whether an actor is awake there; nothing if it does not say.
async fn awake_at(node: NodeId, key: &InstanceKey) -> Option<bool> {
    let question = codec::encode(&Asked::Place { key: key.clone() }).ok()?;
    let agent = gate::agent(node)?;
    let asked = agent.call(|reply| GateMessage::Rpc(question, reply), Some(SILENCE)).await;
    let Ok(ractor::rpc::CallResult::Success(bytes)) = asked else { return None };
    match codec::decode(&bytes) {
        Ok(Told::Place { awake }) => Some(awake),
        Ok(_) | Err(_) => None,
    }
}

fn not_in_this_release(what: &str) -> Rejection {
    let detail = format!("{what} is not in this release");
    Rejection::gateway(RejectionCode::InvalidRequest, detail)
}
