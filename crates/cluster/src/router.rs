//! The way to an instance: from any command or question to the shard that answers it.
//!
//! A router is cheap to clone and holds no state of its own but the map. It sends a command to the gateway of its shard,
//! here if this node leads it. What it answers is final for this attempt: a receipt, a stored rejection, a certain "not
//! done" (503, 429), or "not known yet" (504).
//!
//! Absent on purpose: credentials and tenants; the edge has granted them. Another node; that comes with the links.
//!
//! Invariant `BOUND`: no more commands are let in at once than `INGRESS_PERMITS`.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use statehouse_contract::{
    Answer, Command, CommandEnvelope, InstanceKey, Key, Query, Receipt, Rejection, RejectionCode,
    ShardId, Target, limits::INGRESS_PERMITS, view::PlaceView,
};
use statehouse_runtime::{Door, Seat, ShardHost, admission::draining, reading::resolve};
use tokio::sync::Semaphore;

use crate::{
    lists,
    node::Who,
    shard_map::{REGISTRY, ShardMap},
    watch,
};

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
    who: Who,
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
        Self { inner: Arc::new(Inner { map, seats, ingress, who }) }
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
        let door = Door::new(self.seat(shard)?);
        match envelope.target.clone() {
            Target::Instance(key) => {
                let envelope = self.resolved(&door, &key, envelope).await?;
                door.deliver(&key, envelope).await
            }
            Target::Tenant(_) | Target::Cluster => door.register(envelope).await,
            Target::Shard(_) => Err(not_in_this_release("a command to a shard")),
        }
    }

    /// Gives a start the version and digest that it takes; they stand in its entry and receipt.
    async fn resolved(
        &self,
        door: &Door,
        key: &InstanceKey,
        mut envelope: CommandEnvelope,
    ) -> Result<CommandEnvelope, Rejection> {
        match &mut envelope.command {
            Command::Start { definition, .. } if definition.digest.is_none() => {
                *definition = resolve(door.seat(), &key.tenant, definition).await?;
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
            Query::Credential { hash } => self.registry()?.credential(hash).map(Answer::Credential),
            Query::Cluster { instance } => {
                let place = instance.as_ref().map(|key| self.place(key)).transpose()?;
                let view = self.inner.who.view(&self.seats()?, place);
                Ok(Answer::Cluster(Box::new(view)))
            }
            Query::Dump { shard, after, limit } => {
                self.seat(shard)?.dump(after, limit).await.map(Answer::Dump)
            }
        }
    }

    fn place(&self, key: &InstanceKey) -> Result<PlaceView, Rejection> {
        let shard = self.inner.map.of_instance(key);
        let awake = self.seat(shard)?.is_awake(key);
        Ok(PlaceView { bucket: key.bucket().number(), shard: shard.0, awake })
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

fn not_in_this_release(what: &str) -> Rejection {
    let detail = format!("{what} is not in this release");
    Rejection::gateway(RejectionCode::InvalidRequest, detail)
}
