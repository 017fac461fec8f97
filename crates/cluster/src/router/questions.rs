//! Questions: answered here, from this node's rows, once its copy of shard 0 is vouched for.
//!
//! Absent on purpose: forwarding. The log tells from which position this node's rows may be read; only whether an actor
//! is awake is asked elsewhere.

use std::sync::Arc;

use statehouse_contract::{
    Answer, Consistency, Credential, Digest, InstanceKey, Query, Rejection, RejectionCode, ShardId,
    limits::{REGISTRY_AGE_MS_MAX, STALE_AGE_MS_MAX},
    mutant::{self, Mutant},
    view::PlaceView,
};
use statehouse_log::{Leadership, ShardCopy};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{LEADER_WAIT, LOOK, Router, hop::awake_at};
use crate::{gate, lists, shard_map::REGISTRY, watch, who::Who};

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

impl Router {
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
                // A deliberate bug: who is in the leader's group need not ask whether it leads.
                let consistency = match mutant::is(Mutant::StaleGroupTrusted)
                    && gate::is_in_leaders_group(seat.shard())
                {
                    true => Consistency::Stale,
                    false => consistency,
                };
                let view = seat.instance(&key, consistency, min_version, remaining_ms).await?;
                Ok(Answer::Instance(Box::new(view)))
            }
            Query::Instances(filter) => {
                lists::page(&self.seats()?, self.inner.map, &filter).await.map(Answer::Instances)
            }
            Query::History { key, after, limit } => {
                let epoch = self.inner.map.epoch(self.inner.map.of_instance(&key));
                self.of(&key)?.history(&key, epoch, after, limit).await.map(Answer::History)
            }
            Query::Explain { key } => self.of(&key)?.explain(&key).await.map(Answer::Explain),
            Query::DryRun(envelope) => {
                let envelope = self.reset(*envelope).await?;
                let shard = self.inner.map.of_target(&envelope.target).unwrap_or(REGISTRY);
                let receipt = self.seat(shard)?.dry_run(&envelope).await?;
                Ok(Answer::Receipt(Box::new(receipt)))
            }
            Query::Receipt { key, idempotency, wait_ms } => {
                let receipt = self.of(&key)?.stored_receipt(&key, &idempotency, wait_ms).await?;
                Ok(Answer::Receipt(Box::new(receipt)))
            }
            Query::Changes { scope, after, limit, wait_ms, complete } => {
                let asked = watch::Asked { after: after.as_deref(), limit, wait_ms, complete };
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
            Query::Tasks(filter) => self.tasks(&filter).await,
            Query::Queues { tenant } => self.queues(&tenant).await,
            Query::Schedules { tenant } => {
                self.registry()?.schedules(&tenant).await.map(Answer::Documents)
            }
            Query::Schedule { tenant, name } => {
                self.registry()?.schedule(&tenant, &name).await.map(Answer::Document)
            }
            Query::Batches { tenant } => {
                self.registry()?.batches(&tenant).await.map(Answer::Documents)
            }
            Query::Batch { tenant, name } => {
                self.registry()?.batch(&tenant, &name).await.map(Answer::Document)
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
    pub(super) fn vouched(&self) -> Result<(), Rejection> {
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
            (None, Some(node)) => awake_at(node, key, self.inner.silence).await,
            (None, None) => None,
        };
        let node = node.map(|node| node.to_string());
        Ok(PlaceView { bucket: key.bucket().number(), shard: shard.0, node, awake })
    }
}
