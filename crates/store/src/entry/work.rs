//! Leases, attempts, deliveries: what happens to work between two moves of its instance.
//!
//! Every one names the token, or the row, that it expects. None of them makes a version.

use bincode::{Decode, Encode};

use statehouse_contract::{InstanceKey, Json, Timestamp};

use super::{Asked, TaskKey};

/// A task with the token that its row must have.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TaskRef {
    /// The instance.
    pub instance: InstanceKey,
    /// The epoch of its bucket.
    pub bucket_epoch: u32,
    /// Position of the instance's Start entry.
    pub born: u64,
    /// The task.
    pub task: TaskKey,
    /// The expected token; the one that is given is the next.
    pub token: u64,
}

/// Tasks went to a worker; all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TaskLeased {
    /// The worker's name.
    pub worker: Box<str>,
    /// The leases, each with the token before it.
    pub leases: Vec<LeaseGiven>,
    /// The command, if a client asked.
    pub asked: Option<Asked>,
}

/// One lease. Its token is the expected one plus one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LeaseGiven {
    /// The task.
    pub task: TaskRef,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// Until when the lease lives.
    pub until: Timestamp,
    /// When the attempt runs out of time.
    pub attempt_until: Option<Timestamp>,
}

/// A lease lives longer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LeaseExtended {
    /// The task.
    pub task: TaskRef,
    /// Until when the lease lives now.
    pub until: Timestamp,
    /// The command, if a client asked.
    pub asked: Option<Asked>,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AttemptNext {
    /// Another attempt.
    At(Timestamp),
    /// An operator.
    Parked,
}

/// An attempt failed, ran out of time or lost its lease.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AttemptEnded {
    /// The task.
    pub task: TaskRef,
    /// The error's code.
    pub code: Box<str>,
    /// The error in words.
    pub message: Box<str>,
    /// What follows.
    pub next: AttemptNext,
    /// The command, if a worker asked.
    pub asked: Option<Asked>,
}

/// A row of the outbox has its definite answer and is gone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OutboxDone {
    /// The sender.
    pub sender: InstanceKey,
    /// The epoch of its bucket.
    pub bucket_epoch: u32,
    /// Position of the sender's Start entry.
    pub born: u64,
    /// The version that wrote the row.
    pub version: u64,
    /// Its number within that version.
    pub n: u32,
    /// The answer, as the receiver gave it.
    pub answer: Json,
}
