//! The envelope: a command with everything that is needed to judge it.
//!
//! Made whole at the door and carried unchanged to `decide`. Time left travels as milliseconds, never
//! as an absolute deadline, because two nodes' clocks need not agree.
//!
//! Invariant: an idempotency key is typed by its origin, so a client cannot forge the key of a timer.

use bincode::{Decode, Encode};

use crate::{
    Command, CorrelationId, Digest, InstanceKey, KeyText, RoleName, ShardId, TaskId, TenantId,
    Timestamp, TraceContext, Version,
    mutant::{self, Mutant},
};

/// What a command is aimed at. A receipt's key is (target, origin, key).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Target {
    /// One instance.
    Instance(InstanceKey),
    /// A tenant: its definitions, keys, quota, schedules. Lives in shard 0.
    Tenant(TenantId),
    /// One shard.
    Shard(ShardId),
    /// The cluster itself: members, tenants. Lives in shard 0.
    Cluster,
}

impl Target {
    /// Returns the tenant to whom the target belongs, if it belongs to one.
    #[must_use]
    pub const fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Instance(key) => Some(&key.tenant),
            Self::Tenant(tenant) => Some(tenant),
            Self::Shard(_) | Self::Cluster => None,
        }
    }
}

/// The name under which a command is repeated, by its origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Key {
    /// A client chose it.
    Client(KeyText),
    /// A fired timer.
    Timer {
        /// The timer's id.
        id: Box<str>,
        /// The version that armed it.
        generation: u64,
    },
    /// A task's report.
    Task {
        /// The task.
        task: TaskId,
        /// The holder's token.
        token: u64,
        /// What is reported.
        verb: Box<str>,
    },
    /// A row of another instance's outbox.
    Outbox {
        /// The sender.
        sender: InstanceKey,
        /// The version that wrote the row.
        version: u64,
        /// The row's number within that version.
        n: u32,
    },
    /// A schedule's start.
    Schedule {
        /// The schedule's name.
        name: Box<str>,
        /// The time for which it was due.
        due: Timestamp,
    },
    /// A postponed event that is tried again.
    Queue {
        /// Its ticket.
        ticket: Box<str>,
    },
    /// An operator chose it.
    Operator(KeyText),
}

/// A 16-byte name of (target, origin, key): the column by which receipts are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct KeyHash(pub [u8; 16]);

impl KeyHash {
    /// Returns the name of a key at a target.
    #[must_use]
    pub fn of(target: &Target, key: &Key) -> Self {
        let mut hash = blake3::Hasher::new();
        match target {
            // A deliberate bug: the same key at instances of the same name is one key, whoever's they are.
            Target::Instance(key) if mutant::is(Mutant::DedupeAcrossTenants) => {
                hash.update(&crate::codec::bare(&key.instance));
            }
            _ => {
                hash.update(&crate::codec::bare(target));
            }
        }
        hash.update(&crate::codec::bare(key));
        let mut bytes = [0; 16];
        hash.finalize_xof().fill(&mut bytes);
        Self(bytes)
    }
}

/// Who asks, as the credential says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Actor {
    /// The holder's name; stands in entries, history and guards.
    pub name: Box<str>,
    /// What the holder may do, for definitions that ask for a role.
    pub roles: Vec<RoleName>,
}

impl Actor {
    /// Returns the actor of everything that the system does by itself.
    #[must_use]
    pub fn system() -> Self {
        Self { name: "system".into(), roles: Vec::new() }
    }

    /// Returns whether the holder has a role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held.as_str() == role)
    }
}

/// A command with everything that is needed to judge it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommandEnvelope {
    /// What it is aimed at.
    pub target: Target,
    /// What it asks for.
    pub command: Command,
    /// Under which name it is repeated.
    pub key: Key,
    /// A fingerprint of (verb, event, body), taken before anything was resolved: `key_reused` compares it.
    pub fingerprint: Digest,
    /// The conversation to which it belongs.
    pub correlation: Option<CorrelationId>,
    /// The trace to which it belongs.
    pub trace: TraceContext,
    /// How long the caller still waits, in milliseconds.
    pub remaining_ms: u64,
    /// The version at which the caller wants it judged (`If-Match`).
    pub expected: Option<Version>,
    /// Who asks.
    pub actor: Actor,
    /// Why, if the actor said so. Operator verbs need it.
    pub reason: Option<Box<str>>,
    /// Which try this is, from 1.
    pub attempt: u32,
}

impl CommandEnvelope {
    /// Returns the name by which this command's receipt is found.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        KeyHash::of(&self.target, &self.key)
    }
}
