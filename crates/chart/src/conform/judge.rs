//! Judging one step of a case: only what it asserts, with a readable difference.
//!
//! Deliberately absent: order of the configuration (cases list it in any).

use serde_json::Value as Json;

use super::{Play, Told};
use crate::{snapshot::Status, value::Value};

/// Judges the active states without active children.
pub(super) fn configuration(play: &Play<'_>, expected: Option<&Json>) -> Result<(), String> {
    let Some(expected) = expected.and_then(Json::as_array) else { return Ok(()) };
    let mut expected: Vec<&str> = expected.iter().filter_map(Json::as_str).collect();
    let mut found = play.chart.leaves(&play.snapshot.configuration);
    expected.sort_unstable();
    found.sort_unstable();
    same("the configuration", &expected, &found)
}

/// Judges everything that a step asserts.
pub(super) fn step(play: &Play<'_>, said: &Json, told: &Told) -> Result<(), String> {
    let snapshot = &play.snapshot;
    let text = |word: &str| said.get(word).and_then(Json::as_str);
    if let Some(outcome) = text("outcome") {
        same("the outcome", outcome, told.outcome.as_str())
            .map_err(|why| format!("{why} {:?} {:?}", told.code, told.message))?;
    }
    if let Some(code) = text("code") {
        same("the code", Some(code), told.code.as_deref())?;
    }
    if let Some(message) = text("message") {
        same("the message", Some(message), told.message.as_deref())?;
    }
    if let Some(reply) = said.get("reply") {
        includes("the reply", reply, &told.reply.clone().unwrap_or(Value::Null))?;
    }
    configuration(play, said.get("nextConfiguration"))?;
    if let Some(versions) = said.get("versions").and_then(Json::as_u64) {
        same("the number of versions", versions, snapshot.version - told.version)?;
    }
    if let Some(tickets) = said.get("tickets").and_then(Json::as_object) {
        judge_tickets(play, tickets)?;
    }
    if let Some(deferred) = said.get("deferred").and_then(Json::as_array) {
        let expected: Vec<&str> = deferred.iter().filter_map(Json::as_str).collect();
        let found: Vec<&str> =
            snapshot.postponed.iter().map(|kept| kept.event.name.as_str()).collect();
        same("the deferred events", &expected, &found)?;
    }
    if let Some(tasks) = said.get("tasks").and_then(Json::as_array) {
        judge_tasks(play, tasks)?;
    }
    if let Some(emitted) = said.get("emitted").and_then(Json::as_array) {
        let expected: Vec<&str> = emitted.iter().filter_map(Json::as_str).collect();
        let found: Vec<&str> = play.emitted.iter().map(String::as_str).collect();
        same("the emitted events", &expected, &found)?;
    }
    if let Some(context) = said.get("context") {
        includes("the context", context, &snapshot.context)?;
    }
    if let Some(status) = text("status") {
        // Undoing is one way of running.
        let is_running = status == "running" && snapshot.status == Status::Compensating;
        if !is_running {
            same("the status", status, snapshot.status.name())?;
        }
    }
    if let Some(output) = said.get("finalOutput") {
        includes("the final output", output, snapshot.output.as_ref().unwrap_or(&Value::Null))?;
    }
    if let Some(saga) = said.get("saga").and_then(Json::as_array) {
        let expected: Vec<&str> = saga.iter().filter_map(Json::as_str).collect();
        let found: Vec<&str> = snapshot.saga.iter().map(|step| step.src.as_str()).collect();
        same("the saga's stack", &expected, &found)?;
    }
    Ok(())
}

fn judge_tickets(play: &Play<'_>, expected: &serde_json::Map<String, Json>) -> Result<(), String> {
    // Commands without a key have a ticket with a tilde; nobody asks for them.
    let settled: Vec<_> = play.tickets.iter().filter(|(key, _)| !key.starts_with('~')).collect();
    let mut names: Vec<&str> = settled.iter().map(|(key, _)| key.as_str()).collect();
    names.sort_unstable();
    let mut wanted: Vec<&str> = expected.keys().map(String::as_str).collect();
    wanted.sort_unstable();
    same("the settled tickets", &wanted, &names)?;
    for (key, answer) in settled {
        let Some(wanted) = expected.get(key) else { continue };
        let (outcome, code, reply) = match answer {
            Ok(reply) => ("accepted", None, reply.clone()),
            Err(kind) => ("rejected", Some(kind.reason().unwrap_or_else(|| kind.code())), None),
        };
        if let Some(expected) = wanted.get("outcome").and_then(Json::as_str) {
            same(&format!("the outcome of ticket {key}"), expected, outcome)?;
        }
        if let Some(expected) = wanted.get("code").and_then(Json::as_str) {
            same(&format!("the code of ticket {key}"), Some(expected), code)?;
        }
        if let Some(expected) = wanted.get("reply") {
            includes(
                &format!("the reply of ticket {key}"),
                expected,
                &reply.unwrap_or(Value::Null),
            )?;
        }
    }
    Ok(())
}

fn judge_tasks(play: &Play<'_>, expected: &[Json]) -> Result<(), String> {
    let open: Vec<_> = play.snapshot.works.iter().filter(|work| !work.is_closed).collect();
    let sources: Vec<&str> = open.iter().map(|work| work.src.as_str()).collect();
    if expected.len() != open.len() {
        return Err(format!("expected {} open tasks, found {sources:?}", expected.len()));
    }
    for (wanted, work) in expected.iter().zip(open) {
        let found = Value::object([("src", Value::text(&work.src)), ("input", work.input.clone())]);
        includes("an open task", wanted, &found)?;
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, found: T) -> Result<(), String> {
    if expected == found {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?}, found {found:?}"))
    }
}

/// Judges that everything expected is there: of an object at least these fields, anything else as it is.
fn includes(what: &str, expected: &Json, found: &Value) -> Result<(), String> {
    if is_in(expected, found) {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected}, found {found}"))
    }
}

fn is_in(expected: &Json, found: &Value) -> bool {
    match (expected, found) {
        (Json::Object(fields), Value::Map(map)) => fields
            .iter()
            .all(|(name, field)| map.get(name).is_some_and(|found| is_in(field, found))),
        (Json::Array(items), Value::List(list)) => {
            items.len() == list.len()
                && items.iter().zip(list.iter()).all(|(item, found)| is_in(item, found))
        }
        (Json::Number(number), Value::Int(_) | Value::Double(_)) => {
            number.as_f64() == found.to_json().as_f64()
        }
        _ => *expected == found.to_json(),
    }
}
