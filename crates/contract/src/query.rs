//! The questions anyone may ask.
//!
//! A question never changes anything and is answered from one shard's applied rows (lists ask every
//! shard). What the answers look like stands in [`crate::view`].
//!
//! Absent on purpose: who may ask. The edge has checked the tenant before a question is made.

use bincode::{Decode, Encode};

use crate::{
    CommandEnvelope, DefinitionName, Digest, InstanceKey, KeyText, ShardId, TenantId,
    limits::PAGE_DEFAULT,
};

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Consistency {
    /// Sees everything that was acknowledged before it began (ReadIndex).
    Linearizable,
    /// Asks the node that believes it leads; bounded-stale.
    Leader,
    /// Any copy, with its position and age.
    Stale,
}

/// The filter of a list. Every given part must hold.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct InstanceFilter {
    /// Whose instances.
    pub tenant: TenantId,
    /// An active state's id.
    pub state: Option<Box<str>>,
    /// The definition's name.
    pub definition: Option<DefinitionName>,
    /// One status of `contract.md`, section 7.
    pub status: Option<Box<str>>,
    /// A tag of an active state.
    pub tag: Option<Box<str>>,
    /// Whether finished instances are listed too when no status is given.
    pub all: bool,
    /// Most rows of this page.
    pub limit: u32,
    /// Where the page before ended; opaque to clients.
    pub cursor: Option<Box<str>>,
    /// Refuse instead of leaving out a shard that cannot answer.
    pub complete: bool,
}

impl InstanceFilter {
    /// A first page of the standard length of a tenant's instances, finished ones left out.
    #[must_use]
    pub fn of(tenant: TenantId) -> Self {
        Self {
            tenant,
            state: None,
            definition: None,
            status: None,
            tag: None,
            all: false,
            limit: PAGE_DEFAULT,
            cursor: None,
            complete: false,
        }
    }
}

/// Whose changes are watched.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WatchScope {
    /// One instance's.
    Instance(InstanceKey),
    /// All of a tenant's.
    Tenant(TenantId),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Query {
    /// How an instance stands.
    Instance {
        /// Which one.
        key: InstanceKey,
        /// How fresh.
        consistency: Consistency,
        /// Wait until the copy has reached this version.
        min_version: Option<u64>,
        /// How long the caller waits, in milliseconds.
        remaining_ms: u64,
    },
    /// A page of a tenant's instances.
    Instances(InstanceFilter),
    /// A page of an instance's transitions, oldest first.
    History {
        /// Which instance.
        key: InstanceKey,
        /// Only versions above this one.
        after: u64,
        /// Most rows.
        limit: u32,
    },
    /// Why an instance rests where it rests.
    Explain {
        /// Which instance.
        key: InstanceKey,
    },
    /// What a command would do; nothing is written.
    DryRun(Box<CommandEnvelope>),
    /// The answer stored under a client's key.
    Receipt {
        /// Which instance.
        key: InstanceKey,
        /// The client's key.
        idempotency: KeyText,
        /// Wait so long for a final answer while it is postponed, in milliseconds.
        wait_ms: u64,
    },
    /// Changes after a cursor; waits for the first one.
    Changes {
        /// Whose.
        scope: WatchScope,
        /// Opaque position; nothing means from now on (tenant) or from the beginning (instance).
        after: Option<Box<str>>,
        /// Most rows.
        limit: u32,
        /// Wait so long for the first change, in milliseconds.
        wait_ms: u64,
        /// Refuse rather than leave a shard out.
        complete: bool,
    },
    /// A tenant's definitions with their versions.
    Definitions {
        /// Whose.
        tenant: TenantId,
    },
    /// One definition's document.
    Definition {
        /// Whose.
        tenant: TenantId,
        /// Its name.
        name: DefinitionName,
        /// Its version; nothing means the current one.
        version: Option<u32>,
    },
    /// Every tenant.
    Tenants,
    /// A tenant's quota and keys, without secrets.
    Tenant {
        /// Which one.
        tenant: TenantId,
    },
    /// The holder of an API key, by the hash of its secret.
    Credential {
        /// The hash.
        hash: Digest,
    },
    /// Members, shards, leaders, terms, positions, lag.
    Cluster {
        /// An instance to locate.
        instance: Option<InstanceKey>,
    },
    /// Entries of a shard as this node holds them, as lines of the history format.
    Dump {
        /// Which shard.
        shard: ShardId,
        /// Only positions above this one.
        after: u64,
        /// Most lines.
        limit: u32,
    },
    /// A page of a tenant's open tasks.
    Tasks(TaskFilter),
    /// A tenant's queues with what waits in each.
    Queues {
        /// Whose.
        tenant: TenantId,
    },
    /// A tenant's schedules.
    Schedules {
        /// Whose.
        tenant: TenantId,
    },
    /// One schedule.
    Schedule {
        /// Whose.
        tenant: TenantId,
        /// Its name.
        name: Box<str>,
    },
    /// A tenant's batches.
    Batches {
        /// Whose.
        tenant: TenantId,
    },
    /// One batch.
    Batch {
        /// Whose.
        tenant: TenantId,
        /// Its name.
        name: Box<str>,
    },
}

/// Which open tasks are listed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TaskFilter {
    /// Whose.
    pub tenant: TenantId,
    /// Only of this queue.
    pub queue: Option<Box<str>>,
    /// Only in this state: `ready`, `waiting`, `leased` or `parked`.
    pub state: Option<Box<str>>,
    /// Most rows.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<Box<str>>,
    /// Refuse rather than leave a shard out.
    pub complete: bool,
}
