//! What the fake house answers: one plausible value of every kind.

use std::io::{Seek as _, Write as _};

use statehouse_contract::{
    Answer, Command, CommandEnvelope, DefinitionName, Digest, InstanceId, Json, Query, Quota,
    Receipt, ReceiptKind, Rejection, RejectionCode, RoleName, ShardId, TenantId, Version, limits,
    view::{
        ClusterView, DefinitionRow, DefinitionVersion, DefinitionView, DumpPage, InstanceRow,
        InstanceView, KeyView, MemberView, Page, PageEnd, PlaceView, ReplicaView, ShardView,
        TaskView, TenantView, TimerView, TransitionView,
    },
};

use super::ShardCopy;

pub(super) fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// A receipt as the house would store it.
pub(super) fn receipt(kind: ReceiptKind, version: Option<Version>, body: &str) -> Receipt {
    let fingerprint = statehouse_contract::Digest::of(b"");
    Receipt { kind, fingerprint, version, position: 17, body: json(body), replayed: false }
}

/// Accepts everything.
pub(super) fn accept(envelope: &CommandEnvelope) -> Result<Receipt, Rejection> {
    let version = Some(Version { born: 17, version: 1 });
    Ok(match &envelope.command {
        Command::Start { .. } => receipt(
            ReceiptKind::Created,
            version,
            r#"{"version":1,"configuration":["waiting"],"position":17}"#,
        ),
        Command::Send { .. } | Command::Operate(_) => receipt(
            ReceiptKind::Accepted,
            version,
            r#"{"version":1,"from":["waiting"],"to":["done"],"tasks":[],"timers":[],"position":17}"#,
        ),
        Command::Deploy { .. } => receipt(
            ReceiptKind::Created,
            None,
            r#"{"name":"approval","version":1,"digest":"00","position":17}"#,
        ),
        Command::PutKey { .. } => {
            receipt(ReceiptKind::Created, None, r#"{"id":"k-1","name":"ci","position":17}"#)
        }
        _ => receipt(ReceiptKind::Accepted, None, r#"{"position":17}"#),
    })
}

pub(super) fn transition(version: u64) -> TransitionView {
    TransitionView {
        instance: InstanceId::parse("a-1").unwrap(),
        born: 17,
        version,
        position: 16 + version,
        at: "2026-01-01T00:00:00.000Z".to_owned(),
        cause: "cmd".to_owned(),
        event: "approve".to_owned(),
        from: texts(&["waiting"]),
        to: texts(&["done"]),
        status: "done".to_owned(),
        actor: "caller".to_owned(),
        reason: Some("because".to_owned()),
        data: Some(json("{}")),
        emitted: vec![json(r#"{"event":"told","data":{}}"#)],
        correlation_id: Some("c-1".to_owned()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        cursor: format!("v1:{version}"),
    }
}

fn instance() -> InstanceView {
    InstanceView {
        id: InstanceId::parse("a-1").unwrap(),
        definition: DefinitionName::parse("approval").unwrap(),
        definition_version: 1,
        born: 17,
        version: 3,
        configuration: texts(&["waiting"]),
        status: "running".to_owned(),
        tags: texts(&["open"]),
        context: json(r#"{"amount":12}"#),
        output: Some(json("{}")),
        error: Some(json(r#"{"code":"x","message":"y"}"#)),
        timers: vec![TimerView {
            id: "after.30s.waiting".to_owned(),
            due: "2026-01-01T00:00:30.000Z".to_owned(),
            generation: 1,
            held: true,
        }],
        tasks: vec![TaskView {
            id: "0af-a-1-1-1".to_owned(),
            invoke: "pay".to_owned(),
            src: "task:pay".to_owned(),
            input: json("{}"),
            attempt: 1,
            queue: "pay".to_owned(),
            state: "ready".to_owned(),
            instance: None,
            worker: None,
            ready_at: Some("2026-01-01T00:00:00.000Z".to_owned()),
            lease_until: None,
            error: None,
            compensation: false,
            item: None,
        }],
        postponed: texts(&["approve"]),
        created_at: "2026-01-01T00:00:00.000Z".to_owned(),
        updated_at: "2026-01-01T00:00:00.000Z".to_owned(),
        position: 19,
        age_ms: 0,
    }
}

fn row() -> InstanceRow {
    let InstanceView { id, definition, definition_version, version, configuration, status, .. } =
        instance();
    InstanceRow {
        id,
        definition,
        definition_version,
        version,
        configuration,
        status,
        tags: Vec::new(),
        created_at: "2026-01-01T00:00:00.000Z".to_owned(),
        updated_at: "2026-01-01T00:00:00.000Z".to_owned(),
    }
}

fn cluster() -> ClusterView {
    ClusterView {
        node: "n1.1".to_owned(),
        cpu_us: 1_500_000,
        members: vec![MemberView {
            node: "n1.1".to_owned(),
            state: "up".to_owned(),
            standing: "active".to_owned(),
            api: "http://127.0.0.1:7400".to_owned(),
            links: "127.0.0.1:7500".to_owned(),
            log: "127.0.0.1:7600".to_owned(),
            region: Some("north".to_owned()),
            build_level: Some(2),
        }],
        shards: vec![ShardView {
            shard: 0,
            role: "leader".to_owned(),
            leader: Some("n1.1".to_owned()),
            term: 1,
            committed: 19,
            applied: 19,
            snapshot: 0,
            lag: 0,
            age_ms: Some(12),
            live: 1,
            level: Some(1),
            replicas: vec![ReplicaView {
                node: "n2.1".to_owned(),
                part: "voter".to_owned(),
                behind: Some(3),
            }],
            trouble: Some("none really".to_owned()),
        }],
        instance: Some(PlaceView {
            bucket: 7,
            shard: 0,
            node: Some("n1.1".to_owned()),
            awake: Some(true),
        }),
    }
}

fn page<T>(items: Vec<T>) -> Page<T> {
    let end_cursor = Some("v1:end".to_owned());
    Page { items, page: PageEnd { end_cursor, has_more: false, missing_shards: vec![3] } }
}

fn tenant() -> TenantView {
    TenantView {
        tenant: TenantId::parse("acme").unwrap(),
        quota: Quota { commands_per_s: Some(5), instances: None, refusals_per_s: None },
        keys: vec![KeyView {
            id: "k-1".to_owned(),
            name: "ci".to_owned(),
            roles: vec![RoleName::parse("caller").unwrap()],
            revoked: false,
        }],
    }
}

fn definition() -> DefinitionView {
    DefinitionView {
        name: DefinitionName::parse("approval").unwrap(),
        version: 1,
        current: true,
        digest: "00".to_owned(),
        document: json(r#"{"id":"approval"}"#),
    }
}

fn definitions() -> Vec<DefinitionRow> {
    vec![DefinitionRow {
        name: DefinitionName::parse("approval").unwrap(),
        current: Some(1),
        versions: vec![DefinitionVersion {
            version: 1,
            digest: "00".to_owned(),
            deployed_at: "2026-01-01T00:00:00.000Z".to_owned(),
            deployed_by: "deployer".to_owned(),
        }],
    }]
}

/// What a watch tells, and from where it goes on.
pub(super) fn changes(items: Vec<TransitionView>, cursor: &str) -> Page<TransitionView> {
    let end_cursor = Some(cursor.to_owned());
    Page { items, page: PageEnd { end_cursor, ..PageEnd::default() } }
}

const SCHEDULE: &str = r#"{"name":"s","spec":{},"next":null,"upcoming":[],"state":{}}"#;

/// Answers everything.
pub(super) fn answer(query: &Query) -> Result<Answer, Rejection> {
    Ok(match query {
        Query::Instance { .. } => Answer::Instance(Box::new(instance())),
        Query::Instances(_) => Answer::Instances(page(vec![row()])),
        Query::History { .. } => Answer::History(page(vec![transition(1)])),
        Query::Explain { .. } => Answer::Explain(json(r#"{"accepts":[]}"#)),
        Query::DryRun(envelope) => Answer::Receipt(Box::new(accept(envelope)?)),
        Query::Receipt { .. } => {
            let body = r#"{"postponed":true,"ticket":"t","version":2,"position":18}"#;
            let version = Some(Version { born: 17, version: 2 });
            Answer::Receipt(Box::new(receipt(ReceiptKind::Postponed, version, body)))
        }
        Query::Changes { .. } => Answer::Changes(changes(vec![transition(1)], "v1:1")),
        Query::Definitions { .. } => Answer::Definitions(definitions()),
        Query::Definition { .. } => Answer::Definition(Box::new(definition())),
        Query::Tenants => Answer::Tenants(vec![TenantId::parse("acme").unwrap()]),
        Query::Tenant { .. } => Answer::Tenant(Box::new(tenant())),
        Query::Credential { .. } => Answer::Credential(None),
        Query::Cluster { .. } => Answer::Cluster(Box::new(cluster())),
        Query::Dump { after, .. } => Answer::Dump(DumpPage {
            lines: vec![json(&format!(r#"{{"e":"entry","pos":{}}}"#, after + 1))],
            next: (*after < 2).then_some(after + 1),
        }),
        Query::Tasks(_) => Answer::Tasks(page(instance().tasks)),
        Query::Queues { .. } => Answer::Queues { queues: Vec::new(), missing_shards: Vec::new() },
        Query::Schedules { .. } => Answer::Documents(vec![json(SCHEDULE)]),
        Query::Schedule { .. } => Answer::Document(json(SCHEDULE)),
        Query::Batches { .. } => Answer::Documents(vec![json("{}")]),
        Query::Batch { .. } => Answer::Document(json("{}")),
    })
}

/// A copy of a shard: its bytes, and what it says of itself, which may be more than it holds.
pub(super) fn copy(shard: ShardId, short_by: u64) -> Result<ShardCopy, Rejection> {
    if shard.0 > 3 {
        return Err(Rejection::gateway(RejectionCode::InvalidRequest, "there is no such shard"));
    }
    let bytes = vec![7; limits::COPY_PART_BYTES + 1];
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.rewind().unwrap();
    Ok(ShardCopy {
        cluster: Some("c0ffee".to_owned()),
        shards: 4,
        position: 9,
        term: 2,
        level: 1,
        bytes: bytes.len() as u64 + short_by,
        digest: Digest::of(&bytes),
        file,
        place: Box::new(()),
    })
}
