//! A shard's entries as this node holds them, as lines of the history format, for the checker that trusts nobody.
//!
//! One line for each entry of an instance, oldest first; then where this copy of the shard ends and what is still open.
//! Names and units are the format's (`reliability.md`, section 3): times are nanoseconds, the born version is a pair.
//!
//! Absent on purpose: judging, and everything that belongs to no instance.

use serde_json::{Map, Value, json};
use statehouse_contract::{Due, Json, Key, NodeId, ShardId};
use statehouse_store::{
    Body, DueItem, DueOwner, Meta, Placed,
    entry::{DueChange, Expect, TaskChange, TaskKey},
};

use crate::decide::task_id;

/// Returns the line of an entry; nothing for one that belongs to no instance.
#[must_use]
pub(crate) fn entry(placed: &Placed, shard: ShardId, node: NodeId) -> Option<Json> {
    let record = &placed.record;
    let header = &record.entry.header;
    let mut line = Map::new();
    let mut put = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
    put("e", "entry".into());
    put("node", node.number.to_string().into());
    put("n", node.incarnation.into());
    put("shard", shard.0.into());
    put("pos", record.position.into());
    put("actor", (*header.actor.name).into());
    put("term", header.decided_term.into());
    put("leader", header.decided_by.number.to_string().into());
    put("at", nanos(header.decided_at.0));
    put("chain", hex(&placed.chain.0).into());
    put("level", 1.into());
    if record.born > 0 {
        put("born", record.born.into());
    }
    if let Some(digest) = record.digest {
        put("state", digest.to_string().into());
    }
    if let Some((_, receipt)) = record.receipt() {
        let body = receipt.at(record.position).body;
        put("reply", hex(&statehouse_contract::Digest::of(body.as_str().as_bytes()).0).into());
    }
    match &record.entry.body {
        Body::Transitioned(moved) => {
            put("tenant", moved.instance.tenant.as_str().into());
            put("wf", moved.instance.instance.as_str().into());
            put("bepoch", moved.bucket_epoch.into());
            put("ver", moved.version.into());
            put("kind", moved.cause.kind.name().into());
            put("cmd", (*moved.cause.event).into());
            put("def", moved.definition.digest.to_string().into());
            put("exp", expected(moved.expect).into());
            if let Some(key) = moved.key.as_ref().and_then(key_text) {
                put("key", key.into());
            }
            if let Some(reason) = &header.reason {
                put("reason", (**reason).into());
            }
            let fired = moved.key.as_ref().and_then(fired);
            put("arm", armed(&moved.due));
            put("cancel", cancelled(&moved.due, fired));
            if let Some((id, generation)) = fired {
                put("fire", json!({ "id": id, "gen": generation }));
            }
            put(
                "tasks",
                tasks(&moved.tasks, |task| {
                    let work = statehouse_chart::WorkKey { version: task.version, number: task.n };
                    task_id(&moved.instance, work).to_string()
                }),
            );
        }
        Body::Refused(refused) => {
            let statehouse_contract::Target::Instance(key) = &refused.target else { return None };
            put("tenant", key.tenant.as_str().into());
            put("wf", key.instance.as_str().into());
            put("bepoch", refused.bucket_epoch.into());
            put("kind", "refused".into());
            put("cmd", (*refused.cause.event).into());
            if let Some(version) = record.version {
                put("ver", version.version.into());
            }
            if let Some(key) = key_text(&refused.key) {
                put("key", key.into());
            }
            if let statehouse_contract::ReceiptKind::Refused(code) = refused.receipt.kind {
                put("reason", code.code().into());
            }
        }
        // Leases and the rest belong to a later release or to no instance.
        _ => return None,
    }
    Some(Json::from_value(&line.into()))
}

/// Returns the line that says where this copy of the shard ends.
#[must_use]
pub(crate) fn end(meta: &Meta, node: NodeId) -> Json {
    let mut purged = Vec::new();
    if meta.purged > 0 {
        purged.push(json!([1, meta.purged]));
    }
    Json::from_value(&json!({
        "e": "shard",
        "node": node.number.to_string(),
        "n": node.incarnation,
        "shard": meta.shard.0,
        "pos": meta.applied.unwrap_or(0),
        "chain": hex(&meta.chain.0),
        "purged": purged,
    }))
}

/// Returns the line of a piece of work that is still open.
#[must_use]
pub(crate) fn open(item: &DueItem) -> Option<Json> {
    let DueOwner::Instance { key, .. } = &item.owner else { return None };
    let (what, id, generation) = match &item.what {
        Due::Timer { id, generation } => ("timer", id.to_string(), Some(*generation)),
        Due::Queue => ("queue", key.instance.to_string(), None),
        Due::PostponeDeadline { ticket } => {
            ("queue", crate::ticket::shown(ticket).to_owned(), None)
        }
        Due::Lease { .. } | Due::Attempt { .. } | Due::Retry { .. } | Due::Schedule { .. } => {
            return None;
        }
    };
    let mut line = json!({
        "e": "open", "what": what, "id": id,
        "tenant": key.tenant.as_str(), "wf": key.instance.as_str(),
    });
    if let (Some(generation), Some(members)) = (generation, line.as_object_mut()) {
        members.insert("gen".to_owned(), generation.into());
    }
    Some(Json::from_value(&line))
}

fn nanos(ms: i64) -> Value {
    ms.saturating_mul(1_000_000).into()
}

const fn expected(expect: Expect) -> u64 {
    match expect {
        Expect::Absent => 0,
        Expect::At { version, .. } => version.version,
    }
}

/// A client's name for a command. What the system does by itself has no name that anybody could repeat.
fn key_text(key: &Key) -> Option<&str> {
    match key {
        Key::Client(text) | Key::Operator(text) => Some(text.as_str()),
        Key::Timer { .. }
        | Key::Task { .. }
        | Key::Outbox { .. }
        | Key::Schedule { .. }
        | Key::Queue { .. } => None,
    }
}

fn fired(key: &Key) -> Option<(&str, u64)> {
    match key {
        Key::Timer { id, generation } => Some((id, *generation)),
        _ => None,
    }
}

fn armed(changes: &[DueChange]) -> Value {
    let armed = changes.iter().filter_map(|change| match change {
        DueChange::Arm { at, what: Due::Timer { id, generation } } => {
            Some(json!({ "id": id, "gen": generation, "due": nanos(at.0) }))
        }
        _ => None,
    });
    armed.collect()
}

fn cancelled(changes: &[DueChange], fired: Option<(&str, u64)>) -> Value {
    let cancelled = changes.iter().filter_map(|change| match change {
        DueChange::Disarm { what: Due::Timer { id, generation }, .. } => {
            let is_fired = fired == Some((id, *generation));
            (!is_fired).then(|| json!({ "id": id, "gen": generation }))
        }
        _ => None,
    });
    cancelled.collect()
}

fn tasks(changes: &[TaskChange], name: impl Fn(TaskKey) -> String) -> Value {
    let marks = changes.iter().filter_map(|change| {
        let (act, task, token) = match change {
            TaskChange::Schedule { task, .. } => ("sched", task, None),
            TaskChange::Close { task, token } => ("done", task, Some(*token)),
            TaskChange::Cancel { task, token } => ("cancel", task, Some(*token)),
            TaskChange::Unpark { .. } => return None,
        };
        let mut mark = json!({ "a": act, "id": name(*task) });
        if let (Some(token), Some(members)) = (token, mark.as_object_mut()) {
            members.insert("tok".to_owned(), token.into());
        }
        Some(mark)
    });
    marks.collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
