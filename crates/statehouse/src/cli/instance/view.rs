//! How people see receipts, instances, histories and explanations.
//!
//! Pure functions from the server's document to text. Members that a table does not know are not shown;
//! `-o json` shows everything.
//!
//! Deliberately absent: colours and widths (`output.rs`).

use serde_json::Value;

use crate::cli::{
    output::{Output, items, plain, text},
    session::Reply,
};

/// A receipt: one sentence, then what it brought along.
pub(super) fn receipt(output: Output, id: Option<&str>, reply: &Reply, body: &Value) -> String {
    let id = body.get("id").or_else(|| body.get("instance")).and_then(Value::as_str).or(id);
    let id = id.unwrap_or_default();
    let version = text(body, "version");
    let mut lines = Vec::new();
    if body.get("postponed").and_then(Value::as_bool) == Some(true) {
        lines.push(format!("{id} version {version}: postponed until a later state takes it"));
    } else if let Some(outcome) = body.get("outcome").and_then(Value::as_str) {
        lines.push(format!("{id} version {version}: {outcome}"));
    } else {
        // That it runs goes without saying.
        let status = match text(body, "status").as_str() {
            "" | "running" | "done" => String::new(),
            status => format!(" ({status})"),
        };
        lines.push(format!("{id} version {version}: {}{status}", movement(body)));
    }
    if reply.is_replayed {
        lines.push("this is the stored answer of an earlier attempt with the same key".to_owned());
    }
    let mut pairs = Vec::new();
    for name in ["ticket", "reply"] {
        pairs.push((name, text(body, name)));
    }
    pairs.push(("timers", names(body, "timers")));
    pairs.push(("tasks", names(body, "tasks")));
    let rest = output.pairs(&pairs);
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines.join("\n")
}

fn movement(body: &Value) -> String {
    let to = body.get("to").or_else(|| body.get("configuration")).map(plain).unwrap_or_default();
    let from = text(body, "from");
    match (from.is_empty(), to.is_empty()) {
        (_, true) => text(body, "status"),
        (true, false) => to,
        (false, false) if from == to => format!("stays in {to}"),
        (false, false) => format!("{from} -> {to}"),
    }
}

// Timers and tasks stand as objects or as bare names.
fn names(body: &Value, member: &str) -> String {
    let name = |item: &Value| {
        let id = item.get("id").or_else(|| item.get("invoke")).map_or_else(|| plain(item), plain);
        if let Some(due) = item.get("due").and_then(Value::as_str) {
            return format!("{id} due {due}");
        }
        match text(item, "state").as_str() {
            "" => id,
            "leased" => {
                format!(
                    "{id} leased by {} until {}",
                    text(item, "worker"),
                    text(item, "lease_until")
                )
            }
            "waiting" => format!(
                "{id} waiting for attempt {} at {}",
                text(item, "attempt"),
                text(item, "ready_at")
            ),
            state => format!("{id} {state}"),
        }
    };
    items(body, member).iter().map(name).collect::<Vec<_>>().join(", ")
}

/// An instance as `get` shows it.
pub(super) fn instance(output: Output, body: &Value) -> String {
    let version = format!("{}.{}", text(body, "born"), text(body, "version"));
    let definition =
        format!("{} version {}", text(body, "definition"), text(body, "definition_version"));
    output.pairs(&[
        ("id", text(body, "id")),
        ("definition", definition),
        ("status", text(body, "status")),
        ("state", text(body, "configuration")),
        ("version", version),
        ("tags", text(body, "tags")),
        ("context", text(body, "context")),
        ("output", text(body, "output")),
        ("error", text(body, "error")),
        ("timers", names(body, "timers")),
        ("tasks", names(body, "tasks")),
        ("postponed", text(body, "postponed")),
        ("created", text(body, "created_at")),
        ("updated", text(body, "updated_at")),
    ])
}

/// A list of instances.
pub(super) fn rows(output: Output, body: &Value) -> String {
    let row = |item: &Value| {
        [
            text(item, "id"),
            format!("{}@{}", text(item, "definition"), text(item, "definition_version")),
            text(item, "status"),
            text(item, "configuration"),
            text(item, "version"),
            text(item, "updated_at"),
        ]
    };
    let rows = items(body, "items").iter().map(row).collect();
    output.table(["id", "definition", "status", "state", "version", "updated"], rows)
}

/// An instance's transitions.
pub(super) fn history(output: Output, body: &Value) -> String {
    let row = |item: &Value| {
        [
            text(item, "version"),
            text(item, "at"),
            text(item, "cause"),
            text(item, "event"),
            text(item, "from"),
            text(item, "to"),
            text(item, "actor"),
            text(item, "reason"),
        ]
    };
    let rows = items(body, "items").iter().map(row).collect();
    output.table(["version", "at", "cause", "event", "from", "to", "actor", "reason"], rows)
}

/// One change, as `watch` prints it.
pub(super) fn change(item: &Value) -> String {
    format!(
        "{} {} version {} {} {}: {} ({})",
        text(item, "at"),
        text(item, "instance"),
        text(item, "version"),
        text(item, "cause"),
        text(item, "event"),
        movement(item),
        text(item, "status"),
    )
}

/// An explanation: where it rests, what it would take and why, what it waits for.
pub(super) fn explain(body: &Value) -> String {
    let mut lines = vec![format!(
        "{} version {}: {} in [{}] ({} version {})",
        text(body, "id"),
        text(body, "version"),
        text(body, "status"),
        text(body, "configuration"),
        text(body, "definition"),
        text(body, "definition_version"),
    )];
    for event in items(body, "accepts") {
        let role = text(event, "role");
        let role = if role.is_empty() { role } else { format!(", role {role}") };
        lines.push(format!("{} ({}{role})", text(event, "event"), text(event, "kind")));
        lines.extend(items(event, "candidates").iter().map(candidate));
    }
    for timer in items(body, "timers") {
        lines.push(format!("timer {} is due {}", text(timer, "id"), text(timer, "due")));
    }
    if let Some(refused) = body.get("last_refusal").filter(|refused| refused.is_object()) {
        lines.push(format!(
            "last refusal: {} by {} at {}, version {}: {} ({})",
            text(refused, "event"),
            text(refused, "actor"),
            text(refused, "at"),
            text(refused, "version"),
            text(refused, "code"),
            text(refused, "detail"),
        ));
    }
    for (name, words) in
        [("tasks", "open tasks"), ("saga", "saga"), ("postponed", "postponed"), ("fault", "fault")]
    {
        if let Some(value) = body.get(name).filter(|value| !is_nothing(value)) {
            lines.push(format!("{words}:"));
            outline(value, 1, &mut lines);
        }
    }
    for (name, words) in [("queued", "events in its own queue"), ("held", "events held back")] {
        if let Some(count) = body.get(name).and_then(Value::as_u64).filter(|count| *count > 0) {
            lines.push(format!("{words}: {count}"));
        }
    }
    lines.join("\n")
}

fn candidate(candidate: &Value) -> String {
    let goal = match text(candidate, "does").as_str() {
        "moves" => match text(candidate, "targets") {
            none if none.is_empty() => "acts".to_owned(),
            targets => format!("moves to {targets}"),
        },
        "rejects" => format!("rejects ({})", text(candidate, "code")),
        other => other.to_owned(),
    };
    let Some(guard) = candidate.get("guard").filter(|guard| guard.is_object()) else {
        return format!("  {goal}");
    };
    let inputs = guard.get("inputs").and_then(Value::as_object).into_iter().flatten();
    let inputs: Vec<String> =
        inputs.map(|(name, value)| format!("{name} = {value}")).chain(error(guard)).collect();
    let inputs =
        if inputs.is_empty() { String::new() } else { format!(" ({})", inputs.join(", ")) };
    format!("  {goal} if {}: {}{inputs}", text(guard, "text"), text(guard, "says"))
}

fn error(guard: &Value) -> Option<String> {
    guard.get("error").and_then(Value::as_str).map(str::to_owned)
}

fn is_short(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(list) => list.iter().all(|item| !item.is_object() && !item.is_array()),
        Value::Object(_) => false,
    }
}

fn outline(value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(_, value)| !is_nothing(value)) {
                if is_short(value) {
                    lines.push(format!("{indent}{name}: {}", plain(value)));
                } else {
                    lines.push(format!("{indent}{name}:"));
                    outline(value, depth + 1, lines);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|item| bullet(item, depth, lines)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            lines.push(format!("{indent}{}", plain(value)));
        }
    }
}

// The first line of an item carries the dash.
fn bullet(item: &Value, depth: usize, lines: &mut Vec<String>) {
    let begin = lines.len();
    outline(item, depth + 1, lines);
    if let Some(line) = lines.get_mut(begin) {
        let indent = "  ".repeat(depth);
        *line = format!("{indent}- {}", line.trim_start());
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::output::Format;

    fn reply(body: Value) -> Reply {
        Reply { status: 200, body, is_replayed: false }
    }

    fn said(body: Value) -> String {
        let reply = reply(body.clone());
        receipt(Output::new(Format::Table), Some("a-1"), &reply, &body)
    }

    #[test]
    fn a_receipt_is_one_sentence_and_what_it_brought_along() {
        expect_test::expect![[r#"
            a-1 version 2: waiting -> cooling
            reply   {"ok":true}
            timers  after.30s.cooling due 2026-01-01T00:00:30.000Z"#]]
        .assert_eq(&said(json!({
            "version": 2, "position": 9, "from": ["waiting"], "to": ["cooling"], "reply": {"ok": true},
            "timers": [{"id": "after.30s.cooling", "due": "2026-01-01T00:00:30.000Z"}], "tasks": [],
        })));
        assert_eq!(
            said(json!({"version": 3, "from": ["a", "b"], "to": ["a", "b"]})),
            "a-1 version 3: stays in a, b"
        );
        assert_eq!(
            said(json!({"postponed": true, "ticket": "t", "version": 4})),
            "a-1 version 4: postponed until a later state takes it\nticket  t"
        );
        assert_eq!(
            said(json!({"version": 4, "from": ["a"], "to": ["a"], "status": "paused"})),
            "a-1 version 4: stays in a (paused)"
        );
        assert_eq!(said(json!({"outcome": "ignored", "version": 4})), "a-1 version 4: ignored");
    }

    #[test]
    fn an_explanation_says_what_each_event_meets_and_why() {
        let body = json!({
            "id": "a-1", "version": 2, "status": "running", "configuration": ["waiting"],
            "definition": "approval", "definition_version": 1,
            "accepts": [{"event": "approve", "kind": "command", "candidates": [
                {"does": "rejects", "code": "self_approval", "targets": [],
                 "guard": {"text": "context.amount > 1000", "inputs": {"context.amount": 12}, "says": "false"}},
                {"does": "moves", "targets": ["cooling"]},
            ]}],
            "timers": [{"id": "after.7d.waiting", "due": "2026-01-08T00:00:00.000Z"}],
            "tasks": [{"invoke": "charge", "attempt": 2}], "postponed": [], "queued": 0, "held": 1, "fault": null,
            "last_refusal": {"event": "ship", "code": "not_handled", "detail": "no state takes it",
                "at": "2026-01-01T00:00:00.000Z", "version": 1, "actor": "ann"},
        });
        expect_test::expect![[r#"
            a-1 version 2: running in [waiting] (approval version 1)
            approve (command)
              rejects (self_approval) if context.amount > 1000: false (context.amount = 12)
              moves to cooling
            timer after.7d.waiting is due 2026-01-08T00:00:00.000Z
            last refusal: ship by ann at 2026-01-01T00:00:00.000Z, version 1: not_handled (no state takes it)
            open tasks:
              - invoke: charge
                attempt: 2
            events held back: 1"#]]
        .assert_eq(&explain(&body));
    }
}
