//! The answers to questions, as typed values that serialize to the API's JSON.
//!
//! Server and SDK share these types. Member names are part of the API (`api.md`, section 1); optional
//! members are left out when they say nothing.
//!
//! Absent on purpose: rendering of text, tables and HTML.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{DefinitionName, InstanceId, Json, Receipt, RoleName, TenantId, command::Quota};

fn is_empty<T>(list: &[T]) -> bool {
    list.is_empty()
}

/// How an instance stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its name within the tenant.
    pub id: InstanceId,
    /// The definition that it runs.
    pub definition: DefinitionName,
    /// The definition's version, to which it is pinned.
    pub definition_version: u32,
    /// Position of its Start entry.
    pub born: u64,
    /// How often it has moved.
    pub version: u64,
    /// The active atomic states, in document order.
    pub configuration: Vec<String>,
    /// `running`, `paused`, `faulted`, `compensating`, `done`, `failed`, `cancelled` or `terminated`.
    pub status: String,
    /// Tags of the active states.
    pub tags: Vec<String>,
    /// Its own data, secrets masked.
    pub context: Json,
    /// Its result, when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// `{code, message}` of a failure, or of the fault that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Json>,
    /// Running timers.
    pub timers: Vec<TimerView>,
    /// Open tasks.
    pub tasks: Vec<TaskView>,
    /// Names of postponed events in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub postponed: Vec<String>,
    /// When it was started (RFC 3339).
    pub created_at: String,
    /// When it last moved (RFC 3339).
    pub updated_at: String,
    /// The position up to which this copy has applied its shard's log.
    pub position: u64,
    /// How old this copy may be, in milliseconds; 0 for a linearizable read.
    pub age_ms: u64,
}

/// A running timer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TimerView {
    /// Its id within the instance.
    pub id: String,
    /// When it is due (RFC 3339).
    pub due: String,
    /// The version that armed it.
    pub generation: u64,
    /// Whether it is held because the instance is paused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

/// An open task.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id, by which it can be routed.
    pub id: String,
    /// The id of the invoke.
    pub invoke: String,
    /// What it runs.
    pub src: String,
    /// Its input, secrets masked.
    pub input: Json,
    /// Which attempt comes next or runs, from 1.
    pub attempt: u32,
    /// The queue that workers poll.
    #[serde(default)]
    pub queue: String,
    /// `ready`, `waiting` (for its next attempt), `leased` or `parked` (for an operator).
    #[serde(default)]
    pub state: String,
    /// The instance that it belongs to; left out where the instance is shown itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The worker that has it, or had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// From when on it may be leased (RFC 3339), while it is ready or waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<String>,
    /// Until when its lease lives (RFC 3339), while it is leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<String>,
    /// How its last attempt failed: `{code, message}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Json>,
    /// Whether it undoes a step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compensation: bool,
    /// Which item of a `forEach` it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
}

/// What waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct QueueView {
    /// Its name.
    pub queue: String,
    /// Tasks that a worker could have now.
    pub ready: u64,
    /// Tasks that wait for their next attempt.
    pub waiting: u64,
    /// Tasks that a worker has.
    pub leased: u64,
    /// Tasks that wait for an operator.
    pub parked: u64,
    /// How long the oldest ready one has been ready, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_ready_ms: Option<u64>,
    /// How long ago a worker last asked the answering node for it, in milliseconds; left out if none ever has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polled_ms: Option<u64>,
}

/// One row of a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct InstanceRow {
    /// Its name within the tenant.
    pub id: InstanceId,
    /// The definition that it runs.
    pub definition: DefinitionName,
    /// The definition's version.
    pub definition_version: u32,
    /// How often it has moved.
    pub version: u64,
    /// The active atomic states.
    pub configuration: Vec<String>,
    /// Its status.
    pub status: String,
    /// Tags of the active states.
    pub tags: Vec<String>,
    /// When it was started (RFC 3339).
    pub created_at: String,
    /// When it last moved (RFC 3339).
    pub updated_at: String,
}

/// Where a page ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct PageEnd {
    /// Give it as `cursor` to get the next page, or as `after` to go on watching.
    pub end_cursor: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
    /// Shards that could not answer.
    pub missing_shards: Vec<u32>,
}

/// A page of anything.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where it ends.
    pub page: PageEnd,
}

/// One transition of an instance, as history and watch tell it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TransitionView {
    /// The instance that moved.
    pub instance: InstanceId,
    /// Position of its Start entry.
    pub born: u64,
    /// Its version after the move.
    pub version: u64,
    /// Place of the entry in the shard's log.
    pub position: u64,
    /// When it was decided (RFC 3339).
    pub at: String,
    /// `start`, `cmd`, `signal`, `timer`, `task`, `queue`, `outbox`, `child`, `operator` or `migrate`.
    pub cause: String,
    /// The event, timer or verb.
    pub event: String,
    /// The active atomic states before; empty at the start.
    pub from: Vec<String>,
    /// The active atomic states after.
    pub to: Vec<String>,
    /// The status after.
    pub status: String,
    /// Who asked.
    pub actor: String,
    /// Why, if said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The payload of the event, secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Json>,
    /// What the step emitted: `{event, data}` each.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub emitted: Vec<Json>,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Opaque position from which a watch goes on after this change.
    pub cursor: String,
}

/// A definition in a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct DefinitionRow {
    /// Its name.
    pub name: DefinitionName,
    /// The version that new instances take.
    pub current: Option<u32>,
    /// Every version.
    pub versions: Vec<DefinitionVersion>,
}

/// A stored version of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct DefinitionVersion {
    /// Its number.
    pub version: u32,
    /// The fingerprint of its canonical document, in hexadecimal.
    pub digest: String,
    /// When it was deployed (RFC 3339).
    pub deployed_at: String,
    /// Who deployed it.
    pub deployed_by: String,
}

/// One definition with its document.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct DefinitionView {
    /// Its name.
    pub name: DefinitionName,
    /// Its version.
    pub version: u32,
    /// Whether new instances take it.
    pub current: bool,
    /// The fingerprint of its canonical document, in hexadecimal.
    pub digest: String,
    /// The document as authored.
    pub document: Json,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TenantView {
    /// Its name.
    pub tenant: TenantId,
    /// What it may use.
    pub quota: Quota,
    /// Its API keys, without secrets.
    pub keys: Vec<KeyView>,
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct KeyView {
    /// Its public id.
    pub id: String,
    /// The holder's name.
    pub name: String,
    /// What it may do.
    pub roles: Vec<RoleName>,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// What a valid credential stands for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Credential {
    /// The tenant to which it belongs.
    pub tenant: TenantId,
    /// The key's public id.
    pub id: Box<str>,
    /// The holder's name.
    pub name: Box<str>,
    /// What it may do.
    pub roles: Vec<RoleName>,
}

/// Members, shards, and where an instance lives.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ClusterView {
    /// The answering node.
    pub node: String,
    /// CPU time that its process has taken since it was started, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
    /// Every member.
    pub members: Vec<MemberView>,
    /// Every shard, as the answering node sees it.
    pub shards: Vec<ShardView>,
    /// Where the asked instance lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<PlaceView>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct MemberView {
    /// Its id, `n<number>.<incarnation>`.
    pub node: String,
    /// `up`, `suspect` or `down`, as the answering node sees it.
    pub state: String,
    /// `active` or `draining`.
    pub standing: String,
    /// The address of its API.
    pub api: String,
    /// Where its node links are reached; empty where there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub links: String,
    /// Where its log is reached; empty where it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// The region in which it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The newest feature level that its build knows; left out while it is not connected to the answering node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_level: Option<u16>,
}

/// A shard as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ShardView {
    /// Its number.
    pub shard: u32,
    /// `leader`, `follower`, `learner`, `candidate`, `opening` or `stopped`.
    pub role: String,
    /// The leader, if one is known.
    pub leader: Option<String>,
    /// Its term.
    pub term: u64,
    /// The last committed position.
    pub committed: u64,
    /// The last applied position.
    pub applied: u64,
    /// The last position of a snapshot.
    pub snapshot: u64,
    /// Entries that are committed but not applied here.
    pub lag: u64,
    /// How old this copy may be, in milliseconds; left out while nobody has vouched for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Instance actors awake here.
    pub live: u64,
    /// Its feature level, as this copy has it; left out while its rows cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u16>,
    /// Every replica, as this one knows them.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub replicas: Vec<ReplicaView>,
    /// Why it does not serve, when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A replica of a shard, as another one knows it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Its node.
    pub node: String,
    /// `voter` or `learner`.
    pub part: String,
    /// Entries that it is behind the leader's log; only the leader knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
}

/// Where an instance lives.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct PlaceView {
    /// Its slice of all keys.
    pub bucket: u16,
    /// Its shard.
    pub shard: u32,
    /// The node that leads its shard, if one is known: its actor lives there when it is awake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether an actor is awake for it there; left out when that node does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awake: Option<bool>,
}

/// Lines of the history format.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DumpPage {
    /// One JSON object each, without line end.
    pub lines: Vec<Json>,
    /// The position after which to go on; nothing at the end.
    pub next: Option<u64>,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Instance`.
    Instance(Box<InstanceView>),
    /// To `Instances`.
    Instances(Page<InstanceRow>),
    /// To `History`.
    History(Page<TransitionView>),
    /// To `Explain`: a document of its own, the chart's.
    Explain(Json),
    /// To `DryRun` and `Receipt`.
    Receipt(Box<Receipt>),
    /// To `Changes`.
    Changes(Page<TransitionView>),
    /// To `Definitions`.
    Definitions(Vec<DefinitionRow>),
    /// To `Definition`.
    Definition(Box<DefinitionView>),
    /// To `Tenants`.
    Tenants(Vec<TenantId>),
    /// To `Tenant`.
    Tenant(Box<TenantView>),
    /// To `Credential`; nothing for an unknown or revoked key.
    Credential(Option<Credential>),
    /// To `Cluster`.
    Cluster(Box<ClusterView>),
    /// To `Dump`.
    Dump(DumpPage),
    /// To `Tasks`.
    Tasks(Page<TaskView>),
    /// To `Queues`, with the shards that could not answer.
    Queues {
        /// The queues, by name.
        queues: Vec<QueueView>,
        /// Shards that could not answer.
        missing_shards: Vec<u32>,
    },
    /// To `Schedules` and `Batches`: their documents.
    Documents(Vec<Json>),
    /// To `Schedule` and `Batch`: its document.
    Document(Json),
}
