//! What an entry says about one instance: its birth, its moves, its refusals.
//!
//! A move carries the whole instance afterwards and the deltas of what others read. How the instance stood when it was
//! decided is its fence ([`Expect`]).
//!
//! Deliberately absent: leases and attempts (`work.rs`); they make no version.

use bincode::{Decode, Encode};

use statehouse_contract::{
    Command, DefinitionName, Digest, Due, InstanceKey, Json, Key, KeyHash, StoredReceipt, Target,
    Timestamp, Version,
};

use super::Status;

/// The fingerprint of an instance row's state; an entry is decided at one and fenced at any other.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct RowDigest(pub [u8; 16]);

impl std::fmt::Display for RowDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for RowDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// How the instance stood when an entry was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Expect {
    /// There was none.
    Absent,
    /// It stood here.
    At {
        /// Its birth and version.
        version: Version,
        /// The fingerprint of its row.
        digest: RowDigest,
    },
}

/// The definition to which an instance is pinned.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pin {
    /// Its name.
    pub name: DefinitionName,
    /// Its version.
    pub version: u32,
    /// The fingerprint of its document.
    pub digest: Digest,
}

/// What kind of trigger caused an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum CauseKind {
    /// The start.
    Start,
    /// A command.
    Cmd,
    /// A signal.
    Signal,
    /// A timer.
    Timer,
    /// A task's report.
    Task,
    /// The instance's own queue, or a postponed event.
    Queue,
    /// The settling of a delivery to another instance.
    Outbox,
    /// The end of a child.
    Child,
    /// An operator's verb.
    Operator,
    /// The move to another version of the definition.
    Migrate,
}

impl CauseKind {
    /// Returns the word of the history format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Cmd => "cmd",
            Self::Signal => "signal",
            Self::Timer => "timer",
            Self::Task => "task",
            Self::Queue => "queue",
            Self::Outbox => "outbox",
            Self::Child => "child",
            Self::Operator => "operator",
            Self::Migrate => "migrate",
        }
    }
}

/// What caused an entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Cause {
    /// What kind of trigger.
    pub kind: CauseKind,
    /// The event, timer or verb; the command's name in the history format.
    pub event: Box<str>,
    /// Its payload, secrets masked.
    pub data: Option<Json>,
}

/// The instance that started a child, and the piece of work that the child is there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Parent {
    /// The parent.
    pub instance: InstanceKey,
    /// Position of the parent's Start entry.
    pub born: u64,
    /// The piece of work within the parent.
    pub work: TaskKey,
    /// How many parents there are above.
    pub depth: u32,
}

/// A birth or a move of an instance: one version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transitioned {
    /// Which instance.
    pub instance: InstanceKey,
    /// The epoch of its bucket when it was decided.
    pub bucket_epoch: u32,
    /// The definition that decided.
    pub definition: Pin,
    /// How the instance stood.
    pub expect: Expect,
    /// Its version afterwards.
    pub version: u64,
    /// Under which name the command is repeated.
    pub key: Option<Key>,
    /// The version at which the client wanted it judged (`If-Match`).
    pub expected: Option<Version>,
    /// What caused it.
    pub cause: Cause,
    /// Where the instance is in its life afterwards.
    pub status: Status,
    /// The active atomic states before, in document order.
    pub from: Vec<Box<str>>,
    /// The active atomic states after.
    pub to: Vec<Box<str>>,
    /// Tags of the active states after.
    pub tags: Vec<Box<str>>,
    /// The whole instance afterwards.
    pub snapshot: Box<[u8]>,
    /// Who started it; given at the start only and kept by the row.
    pub parent: Option<Parent>,
    /// Changes of its due work.
    pub due: Vec<DueChange>,
    /// Changes of its tasks.
    pub tasks: Vec<TaskChange>,
    /// Changes of its outbox.
    pub outbox: Vec<OutboxChange>,
    /// What the step emitted for watchers: `{event, data}` each.
    pub emitted: Vec<Json>,
    /// The answer that is stored under `key`; nothing for what nobody repeats (timers, the queue).
    pub receipt: Option<StoredReceipt>,
    /// Final answers of commands that were postponed before; their keys are known already.
    pub settled: Vec<(KeyHash, StoredReceipt)>,
    /// How long the receipts are kept, in milliseconds of shard time; nothing means the usual time.
    pub receipt_keep_ms: Option<u64>,
}

/// One change of the due table. A row is named by its time and what is due, so that no index is needed to find it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DueChange {
    /// A row appears.
    Arm {
        /// When it is due.
        at: Timestamp,
        /// What is due.
        what: Due,
    },
    /// A row, held or not, is gone: cancelled or fired.
    Disarm {
        /// When it was due.
        at: Timestamp,
        /// What was due.
        what: Due,
    },
    /// A row does not fire until it is released: the instance was paused.
    Hold {
        /// When it is due.
        at: Timestamp,
        /// What is due.
        what: Due,
    },
    /// A held row fires again when it is due.
    Release {
        /// When it is due.
        at: Timestamp,
        /// What is due.
        what: Due,
    },
}

/// A piece of outside work within its instance: the version that scheduled it and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct TaskKey {
    /// The version that scheduled it.
    pub version: u64,
    /// Its number among that version's tasks.
    pub n: u32,
}

impl TaskKey {
    /// Returns the number by which `Due` names the task; nothing if it has none (more than 65,536 tasks of one version).
    #[must_use]
    pub fn number(self) -> Option<u64> {
        let n = u16::try_from(self.n).ok()?;
        let high = self.version.checked_mul(1 << 16)?;
        Some(high | u64::from(n))
    }

    /// Reads the number by which `Due` names a task.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self { version: number >> 16, n: (number & 0xffff) as u32 }
    }
}

/// One change of an instance's tasks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TaskChange {
    /// A task may be leased.
    Schedule {
        /// Its name.
        task: TaskKey,
        /// The queue that workers poll.
        queue: Box<str>,
        /// The order, encoded by the runtime: input, time limits, retry policy.
        order: Box<[u8]>,
        /// When it may be leased first.
        ready_at: Timestamp,
    },
    /// A task has ended.
    Close {
        /// Its name.
        task: TaskKey,
        /// The token that its row must have.
        token: u64,
    },
    /// A task was taken back because its state was left.
    Cancel {
        /// Its name.
        task: TaskKey,
        /// The token that its row must have.
        token: u64,
    },
    /// A parked task may be leased again.
    Unpark {
        /// Its name.
        task: TaskKey,
        /// The token that its row must have.
        token: u64,
        /// When it may be leased.
        ready_at: Timestamp,
    },
}

/// One change of an instance's outbox.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum OutboxChange {
    /// A command is to leave; its key is `Outbox { sender, version, n }`.
    Add {
        /// Its number within the version.
        n: u32,
        /// Where it goes; rows to one target leave in order.
        to: Target,
        /// The command.
        command: Box<Command>,
    },
    /// A row that has not been delivered is taken back.
    Remove {
        /// The version that wrote it.
        version: u64,
        /// Its number within that version.
        n: u32,
    },
}

/// A command that was judged against state and refused: no version, but a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refused {
    /// What the command was aimed at.
    pub target: Target,
    /// The epoch of the instance's bucket when it was decided; 0 for other targets.
    pub bucket_epoch: u32,
    /// How the instance stood; nothing for other targets.
    pub expect: Option<Expect>,
    /// The definition that decided, if one did.
    pub definition: Option<Pin>,
    /// Under which name the command is repeated.
    pub key: Key,
    /// The version at which the client wanted it judged (`If-Match`).
    pub expected: Option<Version>,
    /// What was refused.
    pub cause: Cause,
    /// The stored answer.
    pub receipt: StoredReceipt,
    /// How long the receipt is kept, in milliseconds of shard time; nothing means the usual time.
    pub receipt_keep_ms: Option<u64>,
}
