//! What the harness writes while it runs: attempts, answers, faults, clocks, the end (format 1).
//!
//! Names are those of the file, because the file is the contract. Unknown fields are ignored, so that a harness may
//! write more than we judge; an unknown *value* of a closed list (an operation, an outcome) is a malformed line,
//! because silently skipping it would turn a violation into silence.
//!
//! Ids, digests and replies are compared, never interpreted: each may be any JSON value and is kept as text.
//! Deliberately absent: times other than integers of nanoseconds.

use serde::Deserialize;

use crate::text::{maybe_text, text, texts};

/// A client begins an attempt.
#[derive(Clone, Debug, Deserialize)]
pub struct Inv {
    /// Harness clock, nanoseconds.
    pub t: i64,
    /// Unique name of the attempt.
    #[serde(deserialize_with = "text")]
    pub id: String,
    /// The client; it has one attempt at a time.
    #[serde(default, deserialize_with = "text")]
    pub c: String,
    /// The tenant in whose name the client asks.
    #[serde(default, deserialize_with = "text")]
    pub tenant: String,
    /// The instance, where there is one.
    #[serde(default, deserialize_with = "maybe_text")]
    pub wf: Option<String>,
    /// What is asked.
    pub op: Op,
    /// The idempotency key, the same on every retry.
    #[serde(default, deserialize_with = "maybe_text")]
    pub key: Option<String>,
    /// The command's name.
    #[serde(default, deserialize_with = "maybe_text")]
    pub cmd: Option<String>,
    /// The version the client expects.
    #[serde(default)]
    pub exp: Option<u64>,
    /// How fresh a read must be.
    #[serde(default)]
    pub lvl: Option<Level>,
    /// The lowest version a reader accepts (`min_version`).
    #[serde(default)]
    pub min: Option<u64>,
    /// The task a worker speaks of.
    #[serde(default, deserialize_with = "maybe_text")]
    pub task: Option<String>,
    /// The lease token a worker holds.
    #[serde(default)]
    pub tok: Option<u64>,
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// A command, a signal or an operator verb; a start is the command `start`.
    Cmd,
    /// A read of one instance.
    Read,
    /// A worker asks for a task.
    Lease,
    /// A worker completes or fails a task.
    Done,
    /// A list of instances.
    List,
    /// A watch of an instance or a tenant.
    Watch,
    /// A definition is deployed.
    Deploy,
    /// A key is revoked.
    Revoke,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Sees everything acknowledged before it began.
    #[serde(alias = "linearizable")]
    Lin,
    /// Read on a leader under its lease: fresh within a bound.
    Leader,
    /// Never older than what this client has seen.
    Session,
    /// Some committed prefix, with its age.
    Stale,
}

/// The answer to an attempt; at most one, and none means unknown.
#[derive(Clone, Debug, Deserialize)]
pub struct Ret {
    /// Harness clock, nanoseconds.
    pub t: i64,
    /// The attempt.
    #[serde(deserialize_with = "text")]
    pub id: String,
    /// What the client knows now.
    pub out: Out,
    /// The version in the answer.
    #[serde(default)]
    pub ver: Option<u64>,
    /// The life of the instance that `ver` counts in.
    #[serde(default)]
    pub born: Option<u64>,
    /// The answer's bytes, or a digest of them.
    #[serde(default, deserialize_with = "maybe_text")]
    pub reply: Option<String>,
    /// Digest of the state that a read saw.
    #[serde(default, deserialize_with = "maybe_text")]
    pub state: Option<String>,
    /// The rejection's code.
    #[serde(default, deserialize_with = "maybe_text")]
    pub reason: Option<String>,
    /// How old the answer says it may be.
    #[serde(default)]
    pub age_ms: Option<i64>,
    /// The tenants whose canaries occur anywhere in the answer.
    #[serde(default, deserialize_with = "texts")]
    pub see: Vec<String>,
    /// The task a worker was given.
    #[serde(default, deserialize_with = "maybe_text")]
    pub task: Option<String>,
    /// The token a worker was given.
    #[serde(default)]
    pub tok: Option<u64>,
    /// The server said that this answer was stored by an earlier attempt.
    #[serde(default)]
    pub replayed: bool,
}

/// What a client knows after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Out {
    /// Applied, now or by an earlier attempt.
    Ok,
    /// Judged against state and refused.
    Rejected,
    /// This attempt was certainly neither applied nor judged.
    Fail,
    /// It may take effect at any time after it began, or never.
    Unknown,
    /// Accepted and kept for later.
    Postponed,
}

/// A node's wall clock against the harness's clock.
#[derive(Clone, Debug, Deserialize)]
pub struct Anchor {
    /// The node.
    #[serde(default, deserialize_with = "text")]
    pub node: String,
    /// Its wall clock, UTC nanoseconds.
    pub wall: i64,
    /// The harness clock at that moment.
    pub t: i64,
}

/// Something that still waits at the end.
#[derive(Clone, Debug, Deserialize)]
pub struct Open {
    /// `task`, `timer`, `queue` or `outbox`.
    #[serde(deserialize_with = "text")]
    pub what: String,
    /// Its id.
    #[serde(deserialize_with = "text")]
    pub id: String,
    /// The tenant, where the line names it.
    #[serde(default, deserialize_with = "maybe_text")]
    pub tenant: Option<String>,
    /// The instance, where the line names it: timer ids repeat between instances.
    #[serde(default, deserialize_with = "maybe_text")]
    pub wf: Option<String>,
    /// The generation, where the line names it.
    #[serde(default, rename = "gen")]
    pub generation: Option<u64>,
}

/// A fault begins or ends.
#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    /// Harness clock, nanoseconds.
    pub t: i64,
    /// Its name.
    #[serde(deserialize_with = "text")]
    pub fault: String,
    /// Begin or end.
    pub ph: Phase,
    /// How long the shards may go without an answer.
    #[serde(default)]
    pub budget_ms: Option<i64>,
    /// The shards it concerns; empty means all.
    #[serde(default, deserialize_with = "texts")]
    pub shards: Vec<String>,
    /// Where the line stands in the file, from 1.
    #[serde(skip)]
    pub line: usize,
}

/// Which side of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The fault begins.
    Begin,
    /// The fault ends.
    End,
}

/// The dump is complete.
#[derive(Clone, Debug, Deserialize)]
pub struct End {
    /// Harness clock, nanoseconds.
    pub t: i64,
    /// How late a timer may be.
    #[serde(default)]
    pub grace_ms: i64,
    /// How early a timer may be in real time.
    #[serde(default)]
    pub skew_ms: i64,
}
