//! The schemas of the answers, as the contract publishes them.
//!
//! One line an object: `name: kind`, a `?` after the name for a member that may be missing, `[kind]` for a
//! list, `kind?` for a value that may be null, a capital for another object. The tests hold real answers
//! against these lines, so a view that gains a member fails until it is written down here.
//!
//! Absent on purpose: what a member means in words; the types in `contract` say it.

use serde_json::{Map, Value, json};

/// Name, what it is, members. No members means: any value.
const SCHEMAS: &[(&str, &str, &str)] = &[
    (
        "Receipt",
        "The stored answer of a command, the same for every repeat.",
        "version?: integer, position: integer, id?: text, definition?: text, definition_version?: integer, \
         digest?: text, configuration?: [text], status?: text, from?: [text], to?: [text], reply?: any, \
         tasks?: [any], timers?: [any], output?: any, error?: any, outcome?: text, ...",
    ),
    (
        "Postponed",
        "The command is kept for a later state; its receipt comes under the same key.",
        "postponed: boolean, ticket: text, version: integer, position: integer, ...",
    ),
    ("Acknowledgement", "What was set.", "position: integer, ..."),
    (
        "Deployed",
        "What was checked and stored.",
        "name: text, version: integer?, digest: text, findings: [Finding], position?: integer, \
         dry_run?: boolean, ...",
    ),
    (
        "Finding",
        "One thing to say about a definition.",
        "code: text, severity: text, pointer: text, line: integer, column: integer, message: text, \
         advice: text",
    ),
    (
        "PageEnd",
        "Where a page ends.",
        "end_cursor: text?, has_more: boolean, missing_shards: [integer]",
    ),
    ("DefinitionPage", "A page of definitions.", "items: [DefinitionRow], page: PageEnd"),
    (
        "DefinitionRow",
        "A definition with its versions.",
        "name: text, current: integer?, versions: [DefinitionVersion]",
    ),
    (
        "DefinitionVersion",
        "A stored version.",
        "version: integer, digest: text, deployed_at: text, deployed_by: text",
    ),
    (
        "Definition",
        "One version with its document.",
        "name: text, version: integer, current: boolean, digest: text, document: any",
    ),
    (
        "Instance",
        "How an instance stands.",
        "id: text, definition: text, definition_version: integer, born: integer, version: integer, \
         configuration: [text], status: text, tags: [text], context: any, output?: any, error?: any, \
         timers: [Timer], tasks: [Task], postponed?: [text], created_at: text, updated_at: text, \
         position: integer, age_ms: integer",
    ),
    ("Timer", "A running timer.", "id: text, due: text, generation: integer, held?: boolean"),
    (
        "Task",
        "An open task.",
        "id: text, invoke: text, src: text, input: any, attempt: integer, queue: text, state: text, \
         instance?: text, worker?: text, ready_at?: text, lease_until?: text, error?: any, \
         compensation?: boolean, item?: integer",
    ),
    (
        "Scheduled",
        "What became of a schedule.",
        "name: text, next: any, pending: integer, position?: integer",
    ),
    ("Schedules", "A tenant's schedules.", "items: [Schedule]"),
    (
        "Schedule",
        "A schedule, how far it has come, and its next times.",
        "name: text, spec: any, next: any, upcoming: [text], state: any",
    ),
    ("Slo", "Service levels.", "items: [Objective]"),
    (
        "Objective",
        "An objective, and how fast its budget burns.",
        "objective: text, target_percent: any, good: integer, total: integer, alarm: text, windows: any",
    ),
    ("Batched", "What became of a batch.", "name: text, phase: text, position?: integer"),
    ("Batches", "A tenant's batches.", "items: [Batch]"),
    ("Batch", "A batch, and how far it has come.", "name: text, spec: any, state: any"),
    ("TaskPage", "A page of open tasks.", "items: [Task], page: PageEnd"),
    ("Queues", "What waits in each queue.", "items: [Queue], page: any"),
    (
        "Queue",
        "What waits in a queue.",
        "queue: text, ready: integer, waiting: integer, leased: integer, parked: integer, \
         oldest_ready_ms?: integer, polled_ms?: integer",
    ),
    ("Leases", "The tasks that a worker got.", "tasks: [Lease], position?: integer"),
    (
        "Lease",
        "A task with the right to do it until a time.",
        "id: text, queue: text, src: text, invoke: text, instance: text, definition: text, \
         definition_version: integer, input: any, attempt: integer, token: integer, lease_until: text, \
         lease_ms: integer, timeout_at?: text, item?: integer, compensation?: boolean, \
         correlation_id?: text, traceparent?: text, idempotency_key: text",
    ),
    ("Heartbeat", "How long a lease lives now.", "lease_until: text, cancelled: boolean"),
    (
        "TaskReport",
        "What became of a report.",
        "outcome: text, task: text, version?: integer, retry_at?: text, position?: integer",
    ),
    ("InstancePage", "A page of instances.", "items: [InstanceRow], page: PageEnd"),
    (
        "InstanceRow",
        "One row of a list.",
        "id: text, definition: text, definition_version: integer, version: integer, \
         configuration: [text], status: text, tags: [text], created_at: text, updated_at: text",
    ),
    ("TransitionPage", "A page of transitions.", "items: [Transition], page: PageEnd"),
    (
        "Transition",
        "One transition of an instance.",
        "instance: text, born: integer, version: integer, position: integer, at: text, cause: text, \
         event: text, from: [text], to: [text], status: text, actor: text, reason?: text, data?: any, \
         emitted?: [any], correlation_id?: text, trace_id?: text, cursor: text",
    ),
    ("Changes", "Changes, oldest first.", "items: [Transition], page: PageEnd"),
    ("Explanation", "Why an instance rests where it rests.", "..."),
    ("TenantPage", "A page of tenants.", "items: [TenantRow], page: PageEnd"),
    ("TenantRow", "A tenant in a list.", "tenant: text"),
    ("Tenant", "A tenant's quota and keys.", "tenant: text, quota: Quota, keys: [Key]"),
    (
        "Quota",
        "What a tenant may use.",
        "commands_per_s: integer?, instances: integer?, refusals_per_s: integer?",
    ),
    (
        "Key",
        "An API key, without its secret.",
        "id: text, name: text, roles: [text], revoked: boolean",
    ),
    (
        "NewKey",
        "A new API key. A repeat has a note instead of the token.",
        "token?: text, note?: text, position: integer, ...",
    ),
    (
        "Cluster",
        "Members and shards as the answering node sees them.",
        "node: text, cpu_us: integer, members: [Member], shards: [Shard], instance?: Place",
    ),
    (
        "Member",
        "A node of the cluster.",
        "node: text, state: text, standing: text, api: text, links?: text, log?: text, region?: text, \
         build_level?: integer",
    ),
    (
        "Shard",
        "A shard as a node sees it.",
        "shard: integer, role: text, leader: text?, term: integer, committed: integer, applied: integer, \
         snapshot: integer, lag: integer, age_ms?: integer, live: integer, level?: integer, replicas?: [Replica], \
         trouble?: text",
    ),
    (
        "Replica",
        "A replica of a shard, as another one knows it.",
        "node: text, part: text, behind?: integer",
    ),
    (
        "Place",
        "Where an instance lives.",
        "bucket: integer, shard: integer, node?: text, awake?: boolean",
    ),
    ("HandedOver", "To whom leadership was offered.", "shard: integer, to: text"),
    (
        "Raised",
        "The level that the shard has now, and whether this has raised it.",
        "shard: integer, level: integer, raised: boolean, ...",
    ),
    ("HistoryLine", "A line of the history format, version 1.", "..."),
    ("Alive", "The process lives.", "alive: boolean"),
    (
        "Readiness",
        "Whether a node can serve.",
        "ready: boolean, waiting_for: [text], apply_lag: integer",
    ),
    ("OpenApi", "An OpenAPI 3.1 document.", "openapi: text, ..."),
    (
        "Problem",
        "A rejection (RFC 9457).",
        "type: text, title: text, status: integer, detail: text, instance: text, code: text, \
         source: text, retryable: boolean, advice: text, retry_after_ms?: integer, \
         correlation_id?: text, trace_id?: text, version?: integer, configuration?: [text], \
         accepts?: [text], reason?: text, violations?: [Violation], findings?: [Finding], ...",
    ),
    ("Violation", "One place where a payload does not fit.", "pointer: text, message: text"),
];

/// Returns what a schema is, in words.
pub(super) fn about(name: &str) -> &'static str {
    if name == "ShardCopy" {
        return "A shard's rows in one file; its headers say what has to come.";
    }
    SCHEMAS.iter().find(|(held, _, _)| *held == name).map_or("Text.", |(_, about, _)| about)
}

/// Returns every schema.
pub(super) fn all() -> Value {
    let mut schemas = Map::new();
    for (name, about, members) in SCHEMAS {
        schemas.insert((*name).to_owned(), object(about, members));
    }
    for name in ["Text", "Page"] {
        schemas.insert(name.to_owned(), json!({"type": "string"}));
    }
    schemas.insert("ShardCopy".to_owned(), json!({"type": "string", "format": "binary"}));
    Value::Object(schemas)
}

fn object(about: &str, members: &str) -> Value {
    let (mut properties, mut required, mut open) = (Map::new(), Vec::new(), false);
    for member in members.split(',').map(str::trim) {
        let Some((name, kind)) = member.split_once(": ") else {
            open = member == "...";
            continue;
        };
        let optional = name.strip_suffix('?');
        properties.insert(optional.unwrap_or(name).to_owned(), value(kind));
        if optional.is_none() {
            required.push(name);
        }
    }
    json!({
        "type": "object",
        "description": about,
        "properties": properties,
        "required": required,
        "additionalProperties": open,
    })
}

fn value(kind: &str) -> Value {
    if let Some(items) = kind.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return json!({"type": "array", "items": value(items)});
    }
    let (kind, nullable) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
    let plain = match kind {
        "text" => "string",
        "integer" => "integer",
        "boolean" => "boolean",
        "any" => return json!({}),
        other => return json!({"$ref": format!("#/components/schemas/{other}")}),
    };
    if nullable { json!({"type": [plain, "null"]}) } else { json!({"type": plain}) }
}
