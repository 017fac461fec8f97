//! What every node tells after the run: its entries, and where its copy of each shard ends (format 1).
//!
//! One line for each entry and node, also where all nodes say the same: that they do is a promise to be judged.
//!
//! Deliberately absent: any meaning of a digest. `state`, `reply`, `def` and `chain` are compared, never computed.

use serde::Deserialize;

use crate::text::{list, maybe_text, text};

/// One entry of an instance, as one node tells it after healing.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// Who tells it.
    #[serde(deserialize_with = "text")]
    pub node: String,
    /// Which incarnation of that node.
    #[serde(default)]
    pub n: Option<u64>,
    /// The instance's tenant.
    #[serde(deserialize_with = "text")]
    pub tenant: String,
    /// The instance.
    #[serde(deserialize_with = "text")]
    pub wf: String,
    /// The shard whose log holds the entry.
    #[serde(deserialize_with = "text")]
    pub shard: String,
    /// Its position there.
    pub pos: u64,
    /// The bucket's epoch.
    #[serde(default)]
    pub bepoch: Option<u64>,
    /// Position of the start entry of this life; absent where no such instance exists.
    #[serde(default)]
    pub born: Option<u64>,
    /// The version it made; for `refused` and `lease`, the version it met.
    #[serde(default)]
    pub ver: Option<u64>,
    /// What kind of change it is.
    pub kind: Kind,
    /// The idempotency key.
    #[serde(default, deserialize_with = "maybe_text")]
    pub key: Option<String>,
    /// The command's name.
    #[serde(default, deserialize_with = "maybe_text")]
    pub cmd: Option<String>,
    /// The version it was decided at.
    #[serde(default)]
    pub exp: Option<u64>,
    /// Digest of the state after it.
    #[serde(default, deserialize_with = "maybe_text")]
    pub state: Option<String>,
    /// The stored answer's bytes, or a digest of them.
    #[serde(default, deserialize_with = "maybe_text")]
    pub reply: Option<String>,
    /// Who asked.
    #[serde(default, deserialize_with = "maybe_text")]
    pub actor: Option<String>,
    /// Why, as the actor said; for a refusal its code.
    #[serde(default, deserialize_with = "maybe_text")]
    pub reason: Option<String>,
    /// Digest of the definition that decided.
    #[serde(default, deserialize_with = "maybe_text")]
    pub def: Option<String>,
    /// The term it was decided under.
    #[serde(default)]
    pub term: Option<u64>,
    /// The node that decided.
    #[serde(default, deserialize_with = "maybe_text")]
    pub leader: Option<String>,
    /// Shard time, UTC nanoseconds.
    #[serde(default)]
    pub at: Option<i64>,
    /// Timers it armed.
    #[serde(default, deserialize_with = "list")]
    pub arm: Vec<Arm>,
    /// Timers it cancelled.
    #[serde(default, deserialize_with = "list")]
    pub cancel: Vec<TimerMark>,
    /// The timer that fired, if this is a firing.
    #[serde(default)]
    pub fire: Option<TimerMark>,
    /// What it did to tasks.
    #[serde(default, deserialize_with = "list")]
    pub tasks: Vec<TaskMark>,
    /// Running hash of the shard's log up to here.
    #[serde(default, deserialize_with = "maybe_text")]
    pub chain: Option<String>,
    /// Where the line stands in the file, from 1.
    #[serde(skip)]
    pub line: usize,
}

impl Entry {
    /// Tells whether the entry made a new version.
    pub fn is_change(&self) -> bool {
        match self.kind {
            Kind::Start
            | Kind::Cmd
            | Kind::Signal
            | Kind::Timer
            | Kind::Task
            | Kind::Queue
            | Kind::Outbox
            | Kind::Child
            | Kind::Operator
            | Kind::Migrate => true,
            Kind::Refused | Kind::Lease => false,
        }
    }

    /// Returns (born, version), zero where the line names none.
    pub fn place(&self) -> (u64, u64) {
        (self.born.unwrap_or(0), self.ver.unwrap_or(0))
    }
}

/// What kind of change an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The instance begins.
    Start,
    /// A command was accepted.
    Cmd,
    /// A signal was handled.
    Signal,
    /// A timer fired.
    Timer,
    /// A task ended or was scheduled again.
    Task,
    /// A queued or postponed event was handled.
    Queue,
    /// A delivery to another instance was settled.
    Outbox,
    /// A child instance ended.
    Child,
    /// An operator's verb.
    Operator,
    /// The instance moved to another definition version.
    Migrate,
    /// A command was judged and refused; makes no version.
    Refused,
    /// A task was leased or its lease extended; makes no version.
    Lease,
}

/// A timer generation that was armed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Arm {
    /// The timer.
    #[serde(deserialize_with = "text")]
    pub id: String,
    /// Its generation.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// When it is due, UTC nanoseconds.
    pub due: i64,
}

/// A timer generation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TimerMark {
    /// The timer.
    #[serde(deserialize_with = "text")]
    pub id: String,
    /// Its generation.
    #[serde(rename = "gen")]
    pub generation: u64,
}

/// What an entry did to a task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TaskMark {
    /// The act.
    pub a: TaskAct,
    /// The task.
    #[serde(deserialize_with = "text")]
    pub id: String,
    /// The token it was done with, or that was given.
    #[serde(default)]
    pub tok: Option<u64>,
    /// The worker.
    #[serde(default, deserialize_with = "maybe_text")]
    pub who: Option<String>,
}

/// An act upon a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskAct {
    /// It was scheduled.
    Sched,
    /// A worker got it.
    Lease,
    /// It ended.
    Done,
    /// It was taken back because its state was left.
    Cancel,
}

/// Where a node's copy of a shard stands at the end.
#[derive(Clone, Debug, Deserialize)]
pub struct ShardEnd {
    /// The node.
    #[serde(deserialize_with = "text")]
    pub node: String,
    /// Which incarnation of that node.
    #[serde(default)]
    pub n: Option<u64>,
    /// The shard.
    #[serde(deserialize_with = "text")]
    pub shard: String,
    /// The last position applied.
    pub pos: u64,
    /// The running hash there.
    #[serde(default, deserialize_with = "maybe_text")]
    pub chain: Option<String>,
    /// Ranges (both ends included) whose rows are gone.
    #[serde(default, deserialize_with = "list")]
    pub purged: Vec<(u64, u64)>,
    /// Where the line stands in the file, from 1.
    #[serde(skip)]
    pub line: usize,
}
