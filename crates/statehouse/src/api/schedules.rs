//! Schedules: make, look, hold, make up for, remove.
//!
//! Absent on purpose: when something is due. The house behind the face knows cron and time zones.

use axum::http::StatusCode;
use serde_json::{Value, json as object};

use statehouse_contract::{Answer, Command, Json, Key, Query, Rejection, Target, Timestamp};

use super::{
    answer,
    call::Call,
    canonical::fingerprint,
    fields::text,
    problem::{JSON, Outcome, invalid, json, misanswered, reply},
};

/// Makes a schedule, or changes it.
pub(super) async fn put(mut call: Call) -> Outcome {
    let print = fingerprint("put-schedule", "", &call.members);
    let Some(Value::String(name)) = call.members.remove("name") else {
        return Err(invalid("body member name is missing"));
    };
    // A member that may be left out may also be null.
    call.members.retain(|_, value| !value.is_null());
    let document = Json::from_value(&Value::Object(call.members.clone()));
    submit(&call, Command::PutSchedule { name: name.into(), document }, print).await
}

/// Lists schedules.
pub(super) async fn list(call: Call) -> Outcome {
    let tenant = call.tenant().clone();
    let Answer::Documents(found) = call.ask(Query::Schedules { tenant }, 0).await? else {
        return Err(misanswered("schedules"));
    };
    let items: Vec<Value> = found.iter().map(Json::to_value).collect();
    json(StatusCode::OK, &object!({ "items": items }))
}

/// Tells how a schedule stands, and its next times.
pub(super) async fn get(call: Call) -> Outcome {
    let query = Query::Schedule { tenant: call.tenant().clone(), name: call.param("name").into() };
    let Answer::Document(found) = call.ask(query, 0).await? else {
        return Err(misanswered("schedule"));
    };
    Ok(reply(StatusCode::OK, JSON, found.as_str().to_owned()))
}

/// Holds a schedule, or lets it go on.
pub(super) async fn pause(call: Call, paused: bool) -> Outcome {
    let print =
        fingerprint(if paused { "pause" } else { "resume" }, call.param("name"), &call.members);
    let command = Command::PauseSchedule { name: call.param("name").into(), paused };
    submit(&call, command, print).await
}

/// Starts what would have been started within a time.
pub(super) async fn backfill(call: Call) -> Outcome {
    let print = fingerprint("backfill", call.param("name"), &call.members);
    let (from, until) = (time(&call, "from")?, time(&call, "until")?);
    let command = Command::BackfillSchedule { name: call.param("name").into(), from, until };
    submit(&call, command, print).await
}

/// Removes a schedule.
pub(super) async fn remove(call: Call) -> Outcome {
    let print = fingerprint("remove-schedule", call.param("name"), &call.members);
    submit(&call, Command::RemoveSchedule { name: call.param("name").into() }, print).await
}

fn time(call: &Call, name: &str) -> Result<Timestamp, Rejection> {
    let said = text(&call.members, name).unwrap_or_default();
    let read: Result<jiff::Timestamp, _> = said.parse();
    read.map(|at| Timestamp(at.as_millisecond())).map_err(|_| {
        invalid(format!(
            "body member {name} is {said:?}; it takes a time such as 2026-01-01T00:00:00Z"
        ))
    })
}

async fn submit(call: &Call, command: Command, print: statehouse_contract::Digest) -> Outcome {
    let target = Target::Tenant(call.tenant().clone());
    let mut envelope = call.envelope(target, command, Key::Operator(call.key()), print);
    envelope.expected = None;
    envelope.reason = text(&call.members, "reason").map(Into::into);
    let receipt = call.submit(envelope).await?;
    Ok(answer::receipt(&receipt))
}
