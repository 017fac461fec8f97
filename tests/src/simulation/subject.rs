//! What is simulated with: one definition, the commands that clients send to its instances, and how answers are told.
//!
//! The definition has a bit of everything that a fault could break: a counter with a reply, a short timer, a task that is
//! tried again, an event that is postponed, a signal, and events that are refused in one state and taken in another.
//!
//! Deliberately absent: payloads of any size, children, other shards.

use std::sync::OnceLock;

use statehouse_chart::{Chart, Source, load};
use statehouse_contract::{
    Actor, Command, CommandEnvelope, DefinitionName, DefinitionRef, Digest, Due, InstanceId,
    InstanceKey, Json, Key, KeyText, OutcomeClass, Receipt, ReceiptKind, ShardId, Target, TaskId,
    TenantId, Timestamp, TraceContext, Version,
};

/// The shard that is simulated.
pub const SHARD: ShardId = ShardId(1);
/// The queue of its tasks.
pub const QUEUE: &str = "job";
/// How long a lease lasts, in milliseconds: shorter than some workers hold their task.
pub const LEASE_MS: i64 = 500;

const DEFINITION: &str = r#"{
  "format": "statehouse/1", "version": 1, "id": "lamp", "initial": "idle", "endless": true,
  "context": {"count": 0},
  "schemas": {"context": {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}},
  "commands": {"count": {}, "arm": {}, "work": {}, "later": {}, "back": {}},
  "signals": {"ping": {}},
  "tasks": {"job": {"output": {"type": "object"}}},
  "retries": {"many": {"maxAttempts": 90, "initialInterval": "50ms", "backoff": 1, "maxInterval": "50ms"}},
  "states": {
    "idle": {"on": {
      "count": {"actions": [{"assign": {"count": "${context.count + 1}"}}, {"reply": {"count": "${context.count}"}}]},
      "ping": {"actions": [{"assign": {"count": "${context.count + 100}"}}]},
      "later": {"actions": [{"reply": {"at": "idle"}}]},
      "arm": "armed", "work": "working"}},
    "armed": {"on": {"back": "idle", "later": {"postpone": true}}, "after": {"350ms": "idle"}},
    "working": {
      "on": {"back": "idle", "count": {"actions": [{"assign": {"count": "${context.count + 1}"}}]}},
      "invoke": {"id": "job", "src": "task:job", "retry": "many", "onDone": "idle", "onError": "idle"}}
  }
}"#;

/// Returns the chart of the definition.
///
/// # Panics
/// The definition has findings.
#[must_use]
pub fn chart() -> &'static Chart {
    static CHART: OnceLock<Chart> = OnceLock::new();
    CHART.get_or_init(|| {
        let loaded = load::load(DEFINITION).expect("the definition is read");
        let (source, findings) = Source::parse(&loaded);
        assert!(findings.is_empty(), "{findings:?}");
        Chart::compile(&source.expect("it has a shape")).expect("it compiles")
    })
}

/// Returns the reference by which instances are started.
///
/// # Panics
/// Never: the name is valid.
#[must_use]
pub fn definition() -> DefinitionRef {
    DefinitionRef {
        name: DefinitionName::parse("lamp").expect("a valid name"),
        version: Some(1),
        digest: Some(Digest::of(DEFINITION.as_bytes())),
    }
}

/// Returns a tenant.
///
/// # Panics
/// The name is no tenant's.
#[must_use]
pub fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("a valid tenant")
}

/// Returns an instance's key.
///
/// # Panics
/// The names are not valid.
#[must_use]
pub fn instance(tenant_name: &str, name: &str) -> InstanceKey {
    let instance = InstanceId::parse(name).expect("a valid instance");
    InstanceKey { tenant: tenant(tenant_name), instance }
}

/// Returns the event as a command.
#[must_use]
pub fn send(event: &str) -> Command {
    match event {
        "ping" => Command::Signal { event: event.into(), data: Json::null() },
        _ => Command::Send { event: event.into(), data: Json::null(), postpone_ms: Some(400) },
    }
}

/// Returns the envelope of a client's command.
///
/// # Panics
/// The key is no key.
#[must_use]
pub fn envelope(
    (target, actor): (Target, &str),
    (name, command): (&str, Command),
    expected: Option<Version>,
) -> CommandEnvelope {
    let fingerprint = Digest::of(format!("{command:?}").as_bytes());
    let key = match &command {
        Command::CompleteTask { task, token, .. } => {
            Key::Task { task: task.clone(), token: *token, verb: "complete".into() }
        }
        _ => Key::Client(KeyText::parse(name).expect("a valid key")),
    };
    CommandEnvelope {
        target,
        command,
        key,
        fingerprint,
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: 1_000,
        expected,
        actor: Actor { name: actor.into(), roles: Vec::new() },
        reason: None,
        attempt: 1,
    }
}

/// Returns the envelope that fires what is due, as the runtime makes it.
#[must_use]
pub fn firing(key: &InstanceKey, what: Due, due: Timestamp) -> CommandEnvelope {
    let name = match &what {
        Due::Timer { id, generation } => Key::Timer { id: id.clone(), generation: *generation },
        Due::PostponeDeadline { ticket } => Key::Queue { ticket: ticket.clone() },
        Due::Queue
        | Due::Lease { .. }
        | Due::Attempt { .. }
        | Due::Retry { .. }
        | Due::Schedule { .. } => Key::Queue { ticket: "".into() },
    };
    CommandEnvelope {
        target: Target::Instance(key.clone()),
        command: Command::Fire { what, due },
        key: name,
        fingerprint: Digest([0; 32]),
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: 1_000,
        expected: None,
        actor: Actor::system(),
        reason: None,
        attempt: 1,
    }
}

/// What a client hears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The outcome, in the words of the history format; nothing stands for `fail`.
    pub out: Out,
    /// The version that it names.
    pub version: Option<Version>,
    /// The fingerprint of its bytes.
    pub reply: Option<String>,
    /// The code of a refusal.
    pub reason: Option<&'static str>,
    /// The fingerprint of a row that was read.
    pub state: Option<String>,
    /// The task that was given, with its token.
    pub task: Option<(TaskId, u64)>,
    /// Whether it is a stored answer.
    pub is_replayed: bool,
    /// Where to ask instead.
    pub hint: Option<u32>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Out {
    /// Applied, now or before.
    Ok,
    /// Judged and refused.
    Rejected,
    /// Certainly nothing was done.
    #[default]
    Fail,
    /// Nobody knows.
    Unknown,
    /// Kept for later.
    Postponed,
}

impl Out {
    /// Returns the word in a history.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Rejected => "rejected",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
            Self::Postponed => "postponed",
        }
    }
}

impl Answer {
    /// Returns the answer of a node that did nothing and knows somebody else.
    #[must_use]
    pub fn elsewhere(hint: Option<u32>) -> Self {
        Self { hint, ..Self::default() }
    }

    /// Returns what a receipt says.
    #[must_use]
    pub fn of(receipt: &Receipt) -> Self {
        let (out, reason) = match receipt.kind {
            ReceiptKind::Refused(code) => (Out::Rejected, Some(code.code())),
            ReceiptKind::Postponed => (Out::Postponed, None),
            ReceiptKind::Created | ReceiptKind::Accepted => outcome(&receipt.body),
        };
        Self {
            out,
            version: receipt.version,
            reply: Some(Digest::of(receipt.body.as_str().as_bytes()).to_string()),
            reason,
            task: given(&receipt.body),
            is_replayed: receipt.replayed,
            ..Self::default()
        }
    }

    /// Returns what a refusal says that is not written down.
    #[must_use]
    pub fn no(rejection: &statehouse_contract::Rejection) -> Self {
        let out = match rejection.code.class() {
            OutcomeClass::Unavailable | OutcomeClass::Throttled | OutcomeClass::Failed => Out::Fail,
            OutcomeClass::Unknown => Out::Unknown,
            OutcomeClass::Ok
            | OutcomeClass::Postponed
            | OutcomeClass::Invalid
            | OutcomeClass::Denied
            | OutcomeClass::Missing
            | OutcomeClass::Conflict
            | OutcomeClass::Refused => Out::Rejected,
        };
        let reason = (out == Out::Rejected).then(|| rejection.code.code());
        Self { out, reason, version: rejection.version, ..Self::default() }
    }
}

/// Returns what a signal has come to: it is answered 200 whatever that is.
fn outcome(body: &Json) -> (Out, Option<&'static str>) {
    match body.to_value().get("outcome").and_then(serde_json::Value::as_str) {
        Some("ignored") => (Out::Rejected, Some("ignored")),
        Some("dropped") => (Out::Rejected, Some("dropped")),
        Some("postponed" | "held") => (Out::Postponed, None),
        Some(_) | None => (Out::Ok, None),
    }
}

/// Returns the body of a claim's answer.
#[must_use]
pub fn claimed(task: Option<(&TaskId, u64)>) -> Json {
    Json::from_value(&match task {
        Some((id, token)) => serde_json::json!({"tasks": [{"id": id.to_string(), "token": token}]}),
        None => serde_json::json!({"tasks": []}),
    })
}

fn given(body: &Json) -> Option<(TaskId, u64)> {
    let body = body.to_value();
    let task = body.get("tasks")?.get(0)?;
    Some((TaskId::parse(task.get("id")?.as_str()?).ok()?, task.get("token")?.as_u64()?))
}
