//! Batches: begin, look, stop, remove.
//!
//! Absent on purpose: the rules of a batch. The house behind the face knows which verb takes what.

use axum::http::StatusCode;
use serde_json::{Value, json as object};

use statehouse_contract::{Answer, Command, Digest, Json, Key, Query, Target};

use super::{
    answer,
    call::Call,
    canonical::fingerprint,
    fields::text,
    problem::{JSON, Outcome, invalid, json, misanswered, reply},
};

/// Begins a batch.
pub(super) async fn put(mut call: Call) -> Outcome {
    let print = fingerprint("put-batch", "", &call.members);
    let reason = text(&call.members, "reason").map(str::to_owned);
    let Some(Value::String(name)) = call.members.remove("name") else {
        return Err(invalid("body member name is missing"));
    };
    // A member that may be left out may also be null.
    call.members.retain(|_, value| !value.is_null());
    let document = Json::from_value(&Value::Object(call.members.clone()));
    submit(&call, Command::PutBatch { name: name.into(), document }, reason, print).await
}

/// Lists batches.
pub(super) async fn list(call: Call) -> Outcome {
    let tenant = call.tenant().clone();
    let Answer::Documents(found) = call.ask(Query::Batches { tenant }, 0).await? else {
        return Err(misanswered("batches"));
    };
    let items: Vec<Value> = found.iter().map(Json::to_value).collect();
    json(StatusCode::OK, &object!({ "items": items }))
}

/// Tells how far a batch has come.
pub(super) async fn get(call: Call) -> Outcome {
    let query = Query::Batch { tenant: call.tenant().clone(), name: call.param("name").into() };
    let Answer::Document(found) = call.ask(query, 0).await? else {
        return Err(misanswered("batch"));
    };
    Ok(reply(StatusCode::OK, JSON, found.as_str().to_owned()))
}

/// Stops a batch where it is.
pub(super) async fn stop(call: Call) -> Outcome {
    let print = fingerprint("stop-batch", call.param("name"), &call.members);
    let reason = text(&call.members, "reason").map(str::to_owned);
    submit(&call, Command::StopBatch { name: call.param("name").into() }, reason, print).await
}

/// Removes a batch that has ended.
pub(super) async fn remove(call: Call) -> Outcome {
    let print = fingerprint("remove-batch", call.param("name"), &call.members);
    submit(&call, Command::RemoveBatch { name: call.param("name").into() }, None, print).await
}

async fn submit(call: &Call, command: Command, reason: Option<String>, print: Digest) -> Outcome {
    let target = Target::Tenant(call.tenant().clone());
    let mut envelope = call.envelope(target, command, Key::Operator(call.key()), print);
    envelope.expected = None;
    envelope.reason = reason.map(Into::into);
    let receipt = call.submit(envelope).await?;
    Ok(answer::receipt(&receipt))
}
