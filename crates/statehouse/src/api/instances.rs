//! Instances: start them, send to them, ask about them, operate them.
//!
//! Each handler makes one envelope or one question. Whether an event is a declared command or a signal is
//! not known here: every event goes in as `Command::Send`, and the definition, which the house looks at
//! anyway, decides which of the two it is.
//!
//! Absent on purpose: the rules. A handler that compared a version or looked at a status would be a second
//! judge.

use std::mem;

use axum::http::{StatusCode, header};
use serde_json::Value;

use statehouse_contract::{
    Answer, Command, CommandEnvelope, Consistency, DefinitionName, DefinitionRef, InstanceId,
    InstanceKey, Json, Key, KeyText, Query, Rejection, Target, TaskId, Verb, Version,
    id::derived_instance, limits,
};

use super::{
    answer,
    call::Call,
    canonical::fingerprint,
    fields::{bounded_wait, text},
    problem::{JSON, Outcome, invalid, json, misanswered, reply},
    watch,
};

/// Starts an instance.
pub(super) async fn start(mut call: Call) -> Outcome {
    // How long the caller waits is no part of what it asks for.
    let wait = call.members.remove("wait");
    let wait = wait.as_ref().and_then(Value::as_str);
    let wait_ms = wait.map(|text| bounded_wait("body member wait", text)).transpose()?;
    let print = fingerprint("start", "", &call.members);
    let key = call.key();
    let instance = match text(&call.members, "id") {
        Some(id) => {
            InstanceId::parse(id).map_err(|error| invalid(format!("body member id: {error}")))?
        }
        None => derived_instance(call.tenant(), &key),
    };
    let name = text(&call.members, "definition").unwrap_or_default();
    let name = DefinitionName::parse(name)
        .map_err(|error| invalid(format!("body member definition: {error}")))?;
    let definition = DefinitionRef { name, version: version(&call)?, digest: None };
    let input = match call.members.get("input") {
        Some(value) => Call::payload(value, "the input")?,
        None => Json::empty_object(),
    };
    let target = InstanceKey { tenant: call.tenant().clone(), instance };
    call.concerns(&target);
    let command = Command::Start { definition, input };
    let mut envelope =
        call.envelope(Target::Instance(target.clone()), command, Key::Client(key), print);
    // There is no version yet at which a start could be judged.
    envelope.expected = None;
    if call.query.flag("dry_run") {
        return dry_run(&call, envelope).await;
    }
    let receipt = call.submit(envelope).await?;
    if let Some(wait_ms) = wait_ms {
        watch::until_ended(&call, &target, wait_ms).await;
    }
    Ok(answer::located(answer::receipt(&receipt), &target))
}

fn version(call: &Call) -> Result<Option<u32>, Rejection> {
    let Some(number) = call.members.get("version").and_then(Value::as_u64) else {
        return Ok(None);
    };
    u32::try_from(number)
        .map(Some)
        .map_err(|_| invalid("body member version: versions are numbers below 4294967296"))
}

/// Sends an event, or asks what it would do.
pub(super) async fn send(mut call: Call) -> Outcome {
    let key = call.instance()?;
    let event = call.param("event");
    if event.len() > limits::NAME_BYTES_MAX {
        return Err(invalid(format!(
            "path, segment {{event}}: has {} bytes, at most {} are allowed",
            event.len(),
            limits::NAME_BYTES_MAX
        )));
    }
    let print = fingerprint("send", event, &call.members);
    let event = event.into();
    let data = Call::payload(&Value::Object(mem::take(&mut call.members)), "the payload")?;
    let command = Command::Send { event, data, postpone_ms: call.head.postpone_ms };
    let envelope = call.envelope(Target::Instance(key), command, Key::Client(call.key()), print);
    if call.query.flag("dry_run") {
        return dry_run(&call, envelope).await;
    }
    let receipt = call.submit(envelope).await?;
    Ok(answer::receipt(&receipt))
}

async fn dry_run(call: &Call, envelope: CommandEnvelope) -> Outcome {
    let Answer::Receipt(receipt) = call.ask(Query::DryRun(Box::new(envelope)), 0).await? else {
        return Err(misanswered("dry run"));
    };
    let mut reply = answer::receipt(&receipt);
    if reply.response.status() == StatusCode::CREATED {
        // Nothing was made.
        *reply.response.status_mut() = StatusCode::OK;
    }
    Ok(reply)
}

/// Carries out one of the operator's verbs.
pub(super) async fn operate(call: Call, verb: Verb) -> Outcome {
    let key = call.instance()?;
    let print = fingerprint(verb.name(), "", &call.members);
    let reason = reason(&call)?;
    let mut envelope = call.envelope(
        Target::Instance(key),
        Command::Operate(verb),
        Key::Operator(call.key()),
        print,
    );
    envelope.reason = Some(reason);
    if call.query.flag("dry_run") {
        return dry_run(&call, envelope).await;
    }
    let receipt = call.submit(envelope).await?;
    Ok(answer::receipt(&receipt))
}

/// Retries a kept event, or a parked task.
pub(super) async fn retry(call: Call) -> Outcome {
    let task = text(&call.members, "task").map(TaskId::parse).transpose();
    let task = task.map_err(|error| invalid(format!("body member task: {error}")))?;
    operate(call, Verb::Retry { task }).await
}

/// Skips a kept event, or completes an open task in its worker's stead.
pub(super) async fn skip(call: Call) -> Outcome {
    let task = text(&call.members, "task").map(TaskId::parse).transpose();
    let task = task.map_err(|error| invalid(format!("body member task: {error}")))?;
    let output = call.members.get("output").filter(|output| !output.is_null());
    let verb = match (task, output) {
        (None, None) => Verb::Skip,
        (None, Some(_)) => {
            return Err(invalid("body member output stands without a task; name the task"));
        }
        (Some(task), output) => {
            let output = output.map(|value| Call::payload(value, "the output")).transpose()?;
            Verb::Settle { task, output: output.unwrap_or_else(Json::empty_object) }
        }
    };
    operate(call, verb).await
}

/// Moves an instance to another version of its definition, or asks whether it could be.
pub(super) async fn migrate(call: Call) -> Outcome {
    let to = call.members.get("to").and_then(Value::as_u64);
    let to = to.and_then(|to| u32::try_from(to).ok());
    let to = to.ok_or_else(|| invalid("body member to: versions are numbers below 4294967296"))?;
    operate(call, Verb::Migrate { to }).await
}

/// Begins a new instance from a version of this one.
pub(super) async fn reset(call: Call) -> Outcome {
    let version = call.members.get("version").and_then(Value::as_u64).unwrap_or_default();
    let id = text(&call.members, "instance").unwrap_or_default();
    let instance =
        InstanceId::parse(id).map_err(|error| invalid(format!("body member instance: {error}")))?;
    let target = InstanceKey { tenant: call.tenant().clone(), instance: instance.clone() };
    let reply = operate(call, Verb::Reset { version, instance }).await?;
    Ok(answer::located(reply, &target))
}

fn reason(call: &Call) -> Result<Box<str>, Rejection> {
    let text = text(&call.members, "reason").unwrap_or_default().trim();
    match text.len() {
        0 => Err(invalid("body member reason is empty; say why, for the audit")),
        bytes if bytes > limits::REASON_BYTES_MAX => Err(invalid(format!(
            "body member reason has {bytes} bytes; reason_bytes_max is {}",
            limits::REASON_BYTES_MAX
        ))),
        _ => Ok(text.into()),
    }
}

/// Tells how an instance stands.
pub(super) async fn get(call: Call) -> Outcome {
    let key = call.instance()?;
    let consistency = match call.query.text("consistency") {
        None | Some("linearizable") => Consistency::Linearizable,
        Some("leader") => Consistency::Leader,
        Some("stale") => Consistency::Stale,
        Some(other) => {
            return Err(invalid(format!(
                "query parameter consistency is {other:?}; allowed are linearizable, leader, stale"
            )));
        }
    };
    let query = Query::Instance {
        key,
        consistency,
        min_version: call.query.number("min_version"),
        remaining_ms: call.head.deadline_ms,
    };
    let Answer::Instance(view) = call.ask(query, 0).await? else {
        return Err(misanswered("instance"));
    };
    let mut reply = json(StatusCode::OK, &*view)?;
    let version = Version { born: view.born, version: view.version };
    reply.response.headers_mut().insert(header::ETAG, answer::tag(version));
    Ok(reply)
}

/// Tells why an instance rests where it rests.
pub(super) async fn explain(call: Call) -> Outcome {
    let key = call.instance()?;
    let Answer::Explain(document) = call.ask(Query::Explain { key }, 0).await? else {
        return Err(misanswered("explain"));
    };
    Ok(reply(StatusCode::OK, JSON, document.as_str().to_owned()))
}

/// Gives the answer that is stored under a client's key.
pub(super) async fn receipt(call: Call) -> Outcome {
    let key = call.instance()?;
    let idempotency = KeyText::parse(call.param("key"))
        .map_err(|error| invalid(format!("path, segment {{key}}: {error}")))?;
    let wait_ms = call.query.wait_ms("wait")?.unwrap_or(0);
    let query = Query::Receipt { key, idempotency, wait_ms };
    let Answer::Receipt(receipt) = call.ask(query, wait_ms).await? else {
        return Err(misanswered("receipt"));
    };
    let mut reply = answer::receipt(&receipt);
    if reply.response.status() == StatusCode::CREATED {
        // The instance was made by the start, not by this question.
        *reply.response.status_mut() = StatusCode::OK;
    }
    Ok(reply)
}
