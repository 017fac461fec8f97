//! What the log can say: the closed list of facts, as they are replicated, stored and applied.
//!
//! An entry is a fact that a leader has already decided; applying it evaluates nothing. Entries outlive every build, so
//! the order of variants and fields is part of the format: new ones go to the end, behind a feature level, and an
//! unknown one halts the replica. Fields that only a cluster or a later release needs are here from the start.
//!
//! A departure from the first plan, written down: postponed events, timers and the saga travel *inside* the snapshot of
//! a transition (it is bounded by `contract::limits`) instead of as deltas of rows of their own. Lean rows were measured
//! 2.5 times faster. Only what somebody else reads is a delta: due work, tasks, the outbox.
//!
//! Deliberately absent: what a snapshot means. It is the chart's, encoded by the runtime, and opaque here.
//!
//! Invariant: whatever an entry changes follows from its bytes and the rows alone; no clock, no chance, no order of maps.

mod instance;
mod status;
mod work;

use bincode::{Decode, Encode};

use statehouse_contract::{
    Actor, Bucket, CorrelationId, DefinitionName, Digest, InstanceKey, Json, Key, NodeId, Quota,
    RoleName, ShardId, StoredReceipt, Target, TenantId, Timestamp, TraceContext,
};

pub use instance::{
    Cause, CauseKind, DueChange, Expect, OutboxChange, Parent, Pin, Refused, RowDigest, TaskChange,
    TaskKey, Transitioned,
};
pub use status::Status;
pub use work::{
    AttemptEnded, AttemptNext, LeaseExtended, LeaseGiven, OutboxDone, TaskLeased, TaskRef,
};

/// One fact with the circumstances of its decision.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Who decided it, when, for whom.
    pub header: Header,
    /// The fact.
    pub body: Body,
}

/// The circumstances of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// The term of the leader that decided; an entry of another log term changes nothing.
    pub decided_term: u64,
    /// The node that decided.
    pub decided_by: NodeId,
    /// Shard time: `max(instance's last, shard's applied, clock)`.
    pub decided_at: Timestamp,
    /// Who asked; [`Actor::system`] for what the system does by itself.
    pub actor: Actor,
    /// Why, if the actor said so.
    pub reason: Option<Box<str>>,
    /// The trace of the command.
    pub trace: TraceContext,
    /// The conversation of the command.
    pub correlation: Option<CorrelationId>,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// A leader has begun its reign. Lifts every live lease to at least `lease_floor_ms` after its time.
    TermOpened {
        /// How long leases live on at least, in milliseconds.
        lease_floor_ms: u64,
    },
    /// An instance was born or has moved.
    Transitioned(Box<Transitioned>),
    /// A command was judged against state and refused.
    Refused(Box<Refused>),
    /// A worker got tasks.
    TaskLeased(Box<TaskLeased>),
    /// A lease was kept alive.
    LeaseExtended(Box<LeaseExtended>),
    /// An attempt failed; the task is tried again or waits for an operator.
    AttemptEnded(Box<AttemptEnded>),
    /// A row of the outbox has its definite answer.
    OutboxDone(Box<OutboxDone>),
    /// A version of a definition exists.
    DefinitionAdded(Box<DefinitionAdded>),
    /// New instances take this version.
    CurrentSet {
        /// The owner.
        tenant: TenantId,
        /// The definition.
        name: DefinitionName,
        /// The version.
        version: u32,
        /// The command, if a client asked.
        asked: Option<Asked>,
    },
    /// A tenant exists.
    TenantSet {
        /// Its name.
        tenant: TenantId,
        /// The command, if a client asked.
        asked: Option<Asked>,
    },
    /// An API key was made or revoked.
    KeySet {
        /// The owner.
        tenant: TenantId,
        /// The key's public id.
        id: Box<str>,
        /// What it is from now on.
        state: KeyState,
        /// The command, if a client asked.
        asked: Option<Asked>,
    },
    /// What a tenant may use.
    QuotaSet {
        /// The tenant.
        tenant: TenantId,
        /// The quota.
        quota: Quota,
        /// The command, if a client asked.
        asked: Option<Asked>,
    },
    /// A schedule was made, changed or, without a document, removed.
    ScheduleSet {
        /// The owner.
        tenant: TenantId,
        /// Its name.
        name: Box<str>,
        /// Its document.
        document: Option<Json>,
        /// When it starts something next.
        next: Option<Timestamp>,
        /// The command, if a client asked.
        asked: Option<Asked>,
    },
    /// A schedule's start has its definite answer.
    ScheduleFired {
        /// The owner.
        tenant: TenantId,
        /// Its name.
        name: Box<str>,
        /// The time for which it was due; the row of the due table is the fence.
        due: Timestamp,
        /// When it starts something next.
        next: Option<Timestamp>,
    },
    /// A batch of operator verbs was made, has advanced or, without a document, was removed.
    BatchSet {
        /// The owner.
        tenant: TenantId,
        /// Its name.
        name: Box<str>,
        /// Its document with its progress.
        document: Option<Json>,
        /// The command, if a client asked.
        asked: Option<Asked>,
    },
    /// A node was added, has changed or, without a document, was removed.
    MemberSet {
        /// The node.
        node: NodeId,
        /// Its addresses.
        document: Option<Json>,
        /// The command, if a client asked.
        asked: Option<Asked>,
    },
    /// A bucket is about to move: from here on every entry for it is fenced.
    BucketFrozen {
        /// The bucket.
        bucket: Bucket,
        /// Its epoch from now on.
        epoch: u32,
        /// Where it goes.
        to: ShardId,
    },
    /// A bucket has moved.
    BucketMoved {
        /// The bucket.
        bucket: Bucket,
        /// Its epoch from now on.
        epoch: u32,
        /// The shard that holds it from now on.
        to: ShardId,
    },
    /// Entries of a newer feature level may follow.
    FeatureRaised {
        /// The level.
        level: u16,
        /// The command, if a client asked.
        asked: Option<Asked>,
    },
    /// Every replica reports the digest of its rows at this position. Changes nothing.
    DigestAt,
    /// Rows whose time of keeping is over are gone.
    Swept(Swept),
}

/// A client's command that is answered by an entry that belongs to no instance.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Asked {
    /// What it was aimed at.
    pub target: Target,
    /// Under which name it is repeated.
    pub key: Key,
    /// The stored answer.
    pub receipt: StoredReceipt,
}

/// Whether a definition's row is the truth or a copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Authority {
    /// Shard 0: versions only rise, and the same version with other content is fenced.
    Original,
    /// Another shard, before the first instance that uses it.
    Copy,
}

/// A version of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DefinitionAdded {
    /// The owner.
    pub tenant: TenantId,
    /// Its name.
    pub name: DefinitionName,
    /// Its version.
    pub version: u32,
    /// The fingerprint of the document.
    pub digest: Digest,
    /// The document as authored.
    pub document: Json,
    /// Whether this row is the truth or a copy.
    pub authority: Authority,
    /// The command, if a client asked.
    pub asked: Option<Asked>,
}

/// What an API key is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum KeyState {
    /// It opens doors.
    Valid {
        /// The hash of its secret.
        hash: Digest,
        /// What people call its holder.
        name: Box<str>,
        /// What it may do.
        roles: Vec<RoleName>,
    },
    /// It opens none. The row stays, for the audit.
    Revoked,
}

/// Rows whose time of keeping is over. The leader has judged that; here are the facts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Swept {
    /// Positions of instances' entries whose keys are forgotten; their history stays.
    pub keys: Vec<u64>,
    /// Positions of receipts that belong to no instance.
    pub loose: Vec<u64>,
    /// Finished instances, by name and birth, that are gone with their history.
    pub instances: Vec<(InstanceKey, u64)>,
}
