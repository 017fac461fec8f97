//! Tasks: lease them, keep a lease alive, report; and look at what waits.
//!
//! A worker needs no key of its own: task and token name each report, so a repeat is harmless. A lease call may carry one;
//! then a repeat gets the leases that the first call got.
//!
//! Absent on purpose: whether a lease is still held. The shard of the task knows.

use axum::http::StatusCode;
use serde_json::Value;

use statehouse_chart::BUILT_IN_QUEUE;
use statehouse_contract::{
    Answer, Command, InstanceKey, Json, Key, Query, Rejection, RejectionCode, Target, TaskFilter,
    TaskId, limits,
};

use super::{
    answer,
    body::too_large,
    call::Call,
    canonical::fingerprint,
    fields::text,
    problem::{Outcome, invalid, json, misanswered},
};

/// The words by which tasks can be filtered.
const STATES: [&str; 4] = ["ready", "waiting", "leased", "parked"];

/// Leases tasks.
pub(super) async fn lease(mut call: Call) -> Outcome {
    // How long the caller waits is no part of what it asks for.
    let wait_ms = call.members.remove("wait_ms").as_ref().and_then(Value::as_u64).unwrap_or(0);
    if wait_ms > limits::WAIT_MS_MAX {
        let max = limits::WAIT_MS_MAX;
        return Err(invalid(format!("body member wait_ms is {wait_ms}; wait_ms_max is {max}")));
    }
    let print = fingerprint("lease", "", &call.members);
    let queues = queues(&call)?;
    let max = bounded(&call, "max", 1, u64::from(limits::LEASE_TASKS_MAX), 1)?;
    let lease_ms = bounded(
        &call,
        "lease_ms",
        limits::LEASE_MS_MIN,
        limits::LEASE_MS_MAX,
        limits::LEASE_MS_DEFAULT,
    )?;
    let worker = worker(&call)?;
    let command = Command::LeaseTasks {
        queues,
        max: u32::try_from(max).unwrap_or(limits::LEASE_TASKS_MAX),
        lease_ms,
        worker,
    };
    let target = Target::Tenant(call.tenant().clone());
    let is_own = call.head.key.is_some();
    let mut envelope = call.envelope(target, command, Key::Client(call.key()), print);
    envelope.expected = None;
    let receipt = call.lease(envelope, wait_ms, is_own).await?;
    Ok(answer::receipt(&receipt))
}

/// Keeps a lease alive.
pub(super) async fn heartbeat(call: Call) -> Outcome {
    let (task, token) = (task(&call)?, token(&call)?);
    let lease_ms = bounded(&call, "lease_ms", limits::LEASE_MS_MIN, limits::LEASE_MS_MAX, 0)?;
    let command = Command::ExtendLease { task: task.clone(), token, lease_ms };
    report(call, "heartbeat", (task, token), command).await
}

/// Reports the result of a task.
pub(super) async fn complete(call: Call) -> Outcome {
    let (task, token) = (task(&call)?, token(&call)?);
    let output = match call.members.get("output") {
        Some(value) => {
            let output = Json::from_value(value);
            if output.as_str().len() > limits::OUTPUT_BYTES_MAX {
                return Err(too_large("the output", "output_bytes_max", limits::OUTPUT_BYTES_MAX));
            }
            output
        }
        None => Json::empty_object(),
    };
    let command = Command::CompleteTask { task: task.clone(), token, output };
    report(call, "complete", (task, token), command).await
}

/// Reports that an attempt failed.
pub(super) async fn fail(call: Call) -> Outcome {
    let (task, token) = (task(&call)?, token(&call)?);
    let code = text(&call.members, "code").unwrap_or_default();
    if code.is_empty()
        || code.len() > limits::ERROR_CODE_BYTES_MAX
        || !code.bytes().all(|byte| byte.is_ascii_graphic())
    {
        let max = limits::ERROR_CODE_BYTES_MAX;
        return Err(invalid(format!(
            "body member code is {code:?}; a code is 1 to {max} visible ASCII characters, such as card_declined"
        )));
    }
    let message = text(&call.members, "message").unwrap_or_default();
    if message.len() > limits::ERROR_MESSAGE_BYTES_MAX {
        let (bytes, max) = (message.len(), limits::ERROR_MESSAGE_BYTES_MAX);
        return Err(invalid(format!(
            "body member message has {bytes} bytes; error_message_bytes_max is {max}"
        )));
    }
    let retryable = call.members.get("retryable").and_then(Value::as_bool).unwrap_or(true);
    let command = Command::FailTask {
        task: task.clone(),
        token,
        code: code.into(),
        message: message.into(),
        retryable,
    };
    report(call, "fail", (task, token), command).await
}

async fn report(call: Call, verb: &str, (task, token): (TaskId, u64), command: Command) -> Outcome {
    let print = fingerprint(verb, "", &call.members);
    let instance = task.instance.clone();
    let key = InstanceKey { tenant: call.tenant().clone(), instance };
    if key.bucket() != task.bucket {
        // Its slice of keys is another one: the id was never given to this tenant.
        return Err(Rejection::gateway(
            RejectionCode::UnknownTask,
            format!("there is no task {task}"),
        ));
    }
    call.concerns(&key);
    let name = Key::Task { task, token, verb: verb.into() };
    let mut envelope = call.envelope(Target::Instance(key), command, name, print);
    envelope.expected = None;
    let receipt = call.submit(envelope).await?;
    Ok(answer::receipt(&receipt))
}

/// Lists open tasks.
pub(super) async fn list(call: Call) -> Outcome {
    let state = call.query.text("state");
    if let Some(state) = state.filter(|state| !STATES.contains(state)) {
        let allowed = STATES.join(", ");
        return Err(invalid(format!("query parameter state is {state:?}; allowed are {allowed}")));
    }
    let filter = TaskFilter {
        tenant: call.tenant().clone(),
        queue: call.query.text("queue").map(Into::into),
        state: state.map(Into::into),
        limit: super::lists::limit(call.query.number("limit"))?,
        cursor: call
            .query
            .text("cursor")
            .map(|text| super::head::cursor("cursor", text))
            .transpose()?,
        complete: call.query.flag("complete"),
    };
    let Answer::Tasks(page) = call.ask(Query::Tasks(filter), 0).await? else {
        return Err(misanswered("tasks"));
    };
    json(StatusCode::OK, &page)
}

/// Tells what waits in each queue.
pub(super) async fn queue_list(call: Call) -> Outcome {
    let tenant = call.tenant().clone();
    let Answer::Queues { queues, missing_shards } = call.ask(Query::Queues { tenant }, 0).await?
    else {
        return Err(misanswered("queues"));
    };
    json(
        StatusCode::OK,
        &serde_json::json!({ "items": queues, "page": { "missing_shards": missing_shards } }),
    )
}

fn task(call: &Call) -> Result<TaskId, Rejection> {
    TaskId::parse(call.param("id"))
        .map_err(|error| invalid(format!("path, segment {{id}}: {error}")))
}

fn token(call: &Call) -> Result<u64, Rejection> {
    let token = call.members.get("token").and_then(Value::as_u64);
    token.ok_or_else(|| invalid("body member token is missing; it came with the lease"))
}

fn queues(call: &Call) -> Result<Vec<Box<str>>, Rejection> {
    let named = call.members.get("queues").and_then(Value::as_array).cloned().unwrap_or_default();
    let named: Vec<Box<str>> = named.iter().filter_map(Value::as_str).map(Into::into).collect();
    if named.is_empty() || named.len() > limits::LEASE_QUEUES_MAX {
        let (count, max) = (named.len(), limits::LEASE_QUEUES_MAX);
        return Err(invalid(format!(
            "body member queues names {count} queues; 1 to {max} are allowed (lease_queues_max)"
        )));
    }
    for queue in &named {
        if queue.is_empty() || queue.len() > limits::NAME_BYTES_MAX {
            let max = limits::NAME_BYTES_MAX;
            return Err(invalid(format!(
                "body member queues names {queue:?}; a queue's name has 1 to {max} bytes"
            )));
        }
        if queue.starts_with(BUILT_IN_QUEUE) {
            let detail = format!("queue {queue:?} is served by the nodes themselves");
            return Err(Rejection::gateway(RejectionCode::Forbidden, detail));
        }
        call.grant().may_work_on(queue)?;
    }
    Ok(named)
}

fn worker(call: &Call) -> Result<Box<str>, Rejection> {
    let name = text(&call.members, "worker").unwrap_or_default();
    let fits = !name.is_empty()
        && name.len() <= limits::ACTOR_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        let max = limits::ACTOR_BYTES_MAX;
        return Err(invalid(format!(
            "body member worker is {name:?}; a worker's name is 1 to {max} visible ASCII characters"
        )));
    }
    Ok(name.into())
}

/// Returns a number within bounds, or what stands for one that is left out.
fn bounded(call: &Call, name: &str, min: u64, max: u64, without: u64) -> Result<u64, Rejection> {
    match call.members.get(name).and_then(Value::as_u64) {
        None => Ok(without),
        Some(number) if (min..=max).contains(&number) => Ok(number),
        Some(number) => {
            Err(invalid(format!("body member {name} is {number}; {min} to {max} are allowed")))
        }
    }
}
