//! The closed list of what anyone may ask to be changed.
//!
//! A command is a request; only an entry of the log is a fact. Commands cross processes, so the order
//! of the variants and their fields is part of the wire format: new ones go to the end.
//!
//! Absent on purpose: who asks, under which key and until when. That is the envelope.

use bincode::{Decode, Encode};

use crate::{
    Bucket, DefinitionName, Digest, InstanceId, InstanceKey, Json, MemberDocument, NodeId,
    RoleName, ShardId, TaskId, TenantId, Timestamp,
};

/// Which definition a start asks for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DefinitionRef {
    /// Its name.
    pub name: DefinitionName,
    /// A version, or the current one.
    pub version: Option<u32>,
    /// The content, once resolved by the router; it stands in entry and receipt.
    pub digest: Option<Digest>,
}

/// What an operator may do to an instance. Each carries its reason in the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Verb {
    /// Ask the chart to end; if it has no answer, leave all states and compensate.
    Cancel,
    /// End now: no actions, no compensation.
    Terminate,
    /// Hold timers and refuse commands.
    Pause,
    /// Take up where it was paused.
    Resume,
    /// Run the event again that made the instance faulted, or a parked task.
    Retry {
        /// The parked task; nothing means the kept event.
        task: Option<TaskId>,
    },
    /// Drop the event that made the instance faulted.
    Skip,
    /// Move to another version of the definition.
    Migrate {
        /// The version to move to.
        to: u32,
    },
    /// Start a new instance from a point of this one's history.
    Reset {
        /// The version from which to start.
        version: u64,
        /// The id of the new instance.
        instance: InstanceId,
    },
    /// Complete an open task in its worker's stead, so that a parked one does not hold its instance for ever.
    Settle {
        /// The task.
        task: TaskId,
        /// What the instance gets as its output.
        output: Json,
    },
}

impl Verb {
    /// Returns the word that stands in routes, history and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry { .. } => "retry",
            Self::Skip => "skip",
            Self::Migrate { .. } => "migrate",
            Self::Reset { .. } => "reset",
            Self::Settle { .. } => "skip",
        }
    }
}

/// The piece of work within a parent that a child is there to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct ParentRef {
    /// The parent.
    pub instance: InstanceKey,
    /// Position of the parent's Start entry.
    pub born: u64,
    /// The version of the parent that started the child.
    pub version: u64,
    /// The number of the piece of work among those of that version.
    pub n: u32,
    /// How many parents there are above the child.
    pub depth: u32,
}

/// How a child ended, as its parent hears it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ChildEnding {
    /// Done, with its output.
    Done {
        /// The output.
        output: Json,
    },
    /// Failed, cancelled, terminated, or never started.
    Failed {
        /// The code.
        code: Box<str>,
        /// What a person reads.
        message: Box<str>,
    },
}

/// What a tenant may use.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Commands a second that this tenant may send to one node; nothing means no bound of its own.
    pub commands_per_s: Option<u32>,
    /// Unfinished instances.
    pub instances: Option<u64>,
    /// Logged refusals a second.
    pub refusals_per_s: Option<u32>,
}

/// A pending piece of work whose time has come, as the `due` table names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Due {
    /// A timer of the chart: `after`, `idle` or a delayed raise.
    Timer {
        /// The timer's id within the instance.
        id: Box<str>,
        /// The version that armed it.
        generation: u64,
    },
    /// The instance's own queue is not empty.
    Queue,
    /// A postponed command has reached its deadline.
    PostponeDeadline {
        /// The command's ticket.
        ticket: Box<str>,
    },
    /// A task's lease has run out.
    Lease {
        /// The task's number within the instance.
        task: u64,
    },
    /// A task's attempt has run out of time.
    Attempt {
        /// The task's number within the instance.
        task: u64,
    },
    /// A task may be tried again.
    Retry {
        /// The task's number within the instance.
        task: u64,
    },
    /// A schedule's next start.
    Schedule {
        /// The schedule's name.
        name: Box<str>,
    },
}

/// A request to change something. The list is closed; `contract.md`, section 2.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Make an instance.
    Start {
        /// What it runs.
        definition: DefinitionRef,
        /// What it starts with.
        input: Json,
    },
    /// Send a declared command to an instance; synchronous.
    Send {
        /// The event's name.
        event: Box<str>,
        /// The event's payload, a JSON object.
        data: Json,
        /// How long it may stay postponed, in milliseconds.
        postpone_ms: Option<u64>,
    },
    /// Send a signal to an instance.
    Signal {
        /// The event's name.
        event: Box<str>,
        /// The event's payload, a JSON object.
        data: Json,
    },
    /// An operator's act on an instance.
    Operate(Verb),
    /// Work whose time has come. Only the timer actor makes it; it needs no receipt, because its fence
    /// is the row of the `due` table.
    Fire {
        /// What is due.
        what: Due,
        /// The time that its row holds.
        due: Timestamp,
    },
    /// Give a worker tasks.
    LeaseTasks {
        /// The queues it serves.
        queues: Vec<Box<str>>,
        /// At most so many tasks.
        max: u32,
        /// For so long, in milliseconds.
        lease_ms: u64,
        /// The worker's name.
        worker: Box<str>,
    },
    /// Keep a lease alive.
    ExtendLease {
        /// The task.
        task: TaskId,
        /// The holder's token.
        token: u64,
        /// For so long from now, in milliseconds.
        lease_ms: u64,
    },
    /// Report a task's result.
    CompleteTask {
        /// The task.
        task: TaskId,
        /// The holder's token.
        token: u64,
        /// What came out.
        output: Json,
    },
    /// Report that an attempt failed.
    FailTask {
        /// The task.
        task: TaskId,
        /// The holder's token.
        token: u64,
        /// The error's code.
        code: Box<str>,
        /// The error in words.
        message: Box<str>,
        /// Whether another attempt may help.
        retryable: bool,
    },
    /// Store a version of a definition.
    Deploy {
        /// Its name.
        name: DefinitionName,
        /// Its version; nothing means the latest plus one.
        version: Option<u32>,
        /// The fingerprint of the canonical document.
        digest: Digest,
        /// The document as authored, as canonical JSON with its key order.
        document: Json,
    },
    /// Choose the version that new instances take.
    SetCurrent {
        /// The definition.
        name: DefinitionName,
        /// The version.
        version: u32,
    },
    /// Make a tenant.
    PutTenant {
        /// Its name.
        tenant: TenantId,
    },
    /// Store an API key by its hash; the secret never reaches the log.
    PutKey {
        /// The key's public id.
        id: Box<str>,
        /// The hash of its secret.
        hash: Digest,
        /// What people call its holder; becomes the actor of its commands.
        name: Box<str>,
        /// What it may do.
        roles: Vec<RoleName>,
    },
    /// Make an API key useless.
    RevokeKey {
        /// The key's public id.
        id: Box<str>,
    },
    /// Set what a tenant may use.
    SetQuota(Quota),
    /// Make or change a schedule.
    PutSchedule {
        /// Its name.
        name: Box<str>,
        /// Its document.
        document: Json,
    },
    /// Start a batch of operator verbs.
    PutBatch {
        /// Its name.
        name: Box<str>,
        /// Its document.
        document: Json,
    },
    /// Stop a batch.
    StopBatch {
        /// Its name.
        name: Box<str>,
    },
    /// Add a node, or change what is known of one.
    PutMember {
        /// The node. Incarnation 0 asks for a new one: the answer names it.
        node: NodeId,
        /// What is known of it.
        document: MemberDocument,
        /// Whether a new incarnation may take the place of one that is a member: its data is gone for good.
        replace: bool,
    },
    /// Remove a node.
    RemoveMember {
        /// The node.
        node: NodeId,
    },
    /// Move a bucket to another shard. Answers "not in this release".
    MoveBucket {
        /// The bucket.
        bucket: Bucket,
        /// Where it goes.
        to: ShardId,
    },
    /// Allow entries of a newer feature level in a shard's log.
    RaiseFeature {
        /// The level. A shard that has it, or a higher one, stays as it is.
        level: u16,
    },
    /// Tell an instance that the first attempt of a task is about to begin. Only the shard's desk makes it, right before
    /// it gives the lease, so that a compensation with `from: start` is registered whatever becomes of the attempt.
    StartTask {
        /// The task.
        task: TaskId,
    },
    /// Make a child. Only an outbox makes it.
    StartChild {
        /// What it runs.
        definition: DefinitionRef,
        /// What it starts with.
        input: Json,
        /// Whose piece of work it is.
        parent: ParentRef,
    },
    /// Tell a parent how its child ended. Only an outbox makes it.
    ChildEnded {
        /// Which piece of its work that was.
        work: ParentRef,
        /// How it ended.
        ending: ChildEnding,
    },
    /// Make an instance that goes on from a point of another one's history. Only the router makes it, of a reset.
    Adopt {
        /// What it runs: a version and its digest.
        definition: DefinitionRef,
        /// The instance as it stood there, encoded by the runtime.
        snapshot: Box<[u8]>,
        /// The instance from whose history it comes.
        from: InstanceKey,
        /// The version of that instance.
        version: u64,
    },
    /// Remove a schedule.
    RemoveSchedule {
        /// Its name.
        name: Box<str>,
    },
    /// Hold a schedule, or let it go on.
    PauseSchedule {
        /// Its name.
        name: Box<str>,
        /// Whether it is held from now on.
        paused: bool,
    },
    /// Write down how far a schedule has come. Only the schedules' actor makes it.
    AdvanceSchedule {
        /// Its name.
        name: Box<str>,
        /// The fingerprint of the document that it was worked out from; at any other it changes nothing.
        was: Digest,
        /// The document from now on.
        document: Json,
        /// When it starts something next.
        next: Option<Timestamp>,
    },
    /// Start what a schedule would have started within a time.
    BackfillSchedule {
        /// Its name.
        name: Box<str>,
        /// From when on.
        from: Timestamp,
        /// Until when, exclusive.
        until: Timestamp,
    },
    /// Write down how far a batch has come. Only the batches' actor makes it.
    AdvanceBatch {
        /// Its name.
        name: Box<str>,
        /// The fingerprint of the document that it was worked out from; at any other it changes nothing.
        was: Digest,
        /// The document from now on.
        document: Json,
    },
    /// Remove a batch that has ended.
    RemoveBatch {
        /// Its name.
        name: Box<str>,
    },
}
