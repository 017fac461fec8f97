//! From rows to answers: the views that the contract promises, with states by name and secrets masked.
//!
//! Everything here is pure and works on what one read transaction has returned.
//!
//! Absent on purpose: reading. JSON of the wire; the views serialize themselves.

use statehouse_chart::{
    Chart, Snapshot, Status, TaskOrder, Value, WorkKey, explain as explain_events, schema::Schema,
    snapshot::EventClass,
};
use statehouse_contract::{
    Json, ReceiptKind, Timestamp,
    view::{InstanceRow as ListRow, InstanceView, TaskView, TimerView, TransitionView},
};
use statehouse_store::{Body, InstanceRow, Placed, TaskState, entry::Transitioned};

use crate::decide::task_id;

/// An open task as its row tells it.
#[derive(Clone, Debug)]
pub(crate) struct TaskShown {
    /// What the step ordered.
    pub order: TaskOrder,
    /// Which attempt comes next or runs, from 1.
    pub attempt: u32,
    /// The worker that has it, or had it last.
    pub worker: Option<Box<str>>,
    /// What it waits for.
    pub state: TaskState,
    /// How its last attempt failed.
    pub error: Option<Json>,
    /// The time by which "ready" is told from "waiting".
    pub now: Timestamp,
}

/// Returns how an instance stands. Position and age are those of the read, not of the row.
#[must_use]
pub(crate) fn instance(
    row: &InstanceRow,
    chart: &Chart,
    snapshot: &Snapshot,
    tasks: &[TaskShown],
) -> InstanceView {
    InstanceView {
        id: row.key.instance.clone(),
        definition: row.definition.name.clone(),
        definition_version: row.definition.version,
        born: row.version.born,
        version: row.version.version,
        configuration: texts(&row.configuration),
        status: row.status.name().to_owned(),
        tags: texts(&row.tags),
        context: masked(chart.context_schema(), &snapshot.context),
        output: snapshot.output.as_ref().map(|output| masked(chart.output_schema(), output)),
        error: error_of(snapshot),
        timers: timers(snapshot),
        tasks: self::tasks(row, chart, tasks),
        postponed: snapshot.postponed.iter().map(|kept| kept.event.name.clone()).collect(),
        created_at: row.created_at.to_rfc3339(),
        updated_at: row.updated_at.to_rfc3339(),
        position: 0,
        age_ms: 0,
    }
}

/// Returns a row of a list.
#[must_use]
pub(crate) fn list_row(row: &InstanceRow) -> ListRow {
    ListRow {
        id: row.key.instance.clone(),
        definition: row.definition.name.clone(),
        definition_version: row.definition.version,
        version: row.version.version,
        configuration: texts(&row.configuration),
        status: row.status.name().to_owned(),
        tags: texts(&row.tags),
        created_at: row.created_at.to_rfc3339(),
        updated_at: row.updated_at.to_rfc3339(),
    }
}

/// Returns a transition as history and watch tell it; nothing for an entry that made no version.
#[must_use]
pub(crate) fn transition(placed: &Placed, cursor: String) -> Option<TransitionView> {
    let record = &placed.record;
    let Body::Transitioned(moved) = &record.entry.body else { return None };
    let Transitioned { instance, version, cause, status, from, to, emitted, .. } = &**moved;
    let header = &record.entry.header;
    Some(TransitionView {
        instance: instance.instance.clone(),
        born: record.born,
        version: *version,
        position: record.position,
        at: header.decided_at.to_rfc3339(),
        cause: cause.kind.name().to_owned(),
        event: cause.event.to_string(),
        from: texts(from),
        to: texts(to),
        status: status.name().to_owned(),
        actor: header.actor.name.to_string(),
        reason: header.reason.as_ref().map(ToString::to_string),
        data: cause.data.clone(),
        emitted: emitted.clone(),
        correlation_id: header.correlation.as_ref().map(ToString::to_string),
        trace_id: header.trace.trace_id(),
        cursor,
    })
}

fn timers(snapshot: &Snapshot) -> Vec<TimerView> {
    let held = snapshot.status == Status::Paused;
    let running = snapshot.timers.iter().filter(|timer| !timer.fired);
    running
        .map(|timer| TimerView {
            id: timer.id.clone(),
            due: timer.due.to_rfc3339(),
            generation: timer.generation,
            held,
        })
        .collect()
}

/// Returns the open tasks of an instance.
#[must_use]
pub(crate) fn tasks(row: &InstanceRow, chart: &Chart, tasks: &[TaskShown]) -> Vec<TaskView> {
    tasks.iter().map(|task| task_view(row, chart, task)).collect()
}

fn task_view(row: &InstanceRow, chart: &Chart, task: &TaskShown) -> TaskView {
    let TaskShown { order, attempt, .. } = task;
    TaskView {
        id: task_id(&row.key, order.work).to_string(),
        invoke: order.invoke.clone(),
        src: order.src.clone(),
        input: masked(task_schema(chart, &order.src), &order.input),
        attempt: *attempt,
        queue: order.queue.clone(),
        state: state_name(task).to_owned(),
        instance: None,
        worker: task.worker.as_deref().map(str::to_owned),
        ready_at: match task.state {
            TaskState::Ready { at, .. } => Some(at.to_rfc3339()),
            TaskState::Leased { .. } | TaskState::Parked => None,
        },
        lease_until: match task.state {
            TaskState::Leased { until, .. } => Some(until.to_rfc3339()),
            TaskState::Ready { .. } | TaskState::Parked => None,
        },
        error: task.error.clone(),
        compensation: order.compensation,
        item: order.item,
    }
}

/// Returns the word for what a task waits for.
fn state_name(task: &TaskShown) -> &'static str {
    match task.state {
        TaskState::Ready { at, .. } if at <= task.now => "ready",
        TaskState::Ready { .. } => "waiting",
        TaskState::Leased { .. } => "leased",
        TaskState::Parked => "parked",
    }
}

/// Returns the schema of a task's input, by what stands after `task:`.
fn task_schema<'a>(chart: &'a Chart, src: &str) -> Option<&'a Schema> {
    let kind = src.strip_prefix("task:")?;
    let (_, found) = chart.task_types().find(|(name, _)| *name == kind)?;
    found.input.as_ref()
}

/// Returns `{code, message}` of a failure, or of the fault that holds the instance.
fn error_of(snapshot: &Snapshot) -> Option<Json> {
    let of = |code: &str, message: &str| {
        Some(Json::from_value(&serde_json::json!({ "code": code, "message": message })))
    };
    if let Some(failure) = &snapshot.error {
        return of(&failure.code, &failure.message);
    }
    let fault = snapshot.fault.as_ref()?;
    of(fault.cause.code(), &fault.cause.message())
}

/// Returns why an instance rests where it rests.
#[must_use]
pub(crate) fn explain(
    row: &InstanceRow,
    chart: &Chart,
    snapshot: &Snapshot,
    tasks: &[TaskShown],
    refused: Option<&Placed>,
    at: Timestamp,
) -> Json {
    let view = instance(row, chart, snapshot, tasks);
    let document = serde_json::json!({
        "id": view.id,
        "definition": view.definition,
        "definition_version": view.definition_version,
        "version": view.version,
        "status": view.status,
        "configuration": view.configuration,
        // Whatever the states would take: an instance that does not run takes nothing.
        "accepts": match snapshot.status {
            Status::Running => explain_events(chart, snapshot, at),
            _ => Vec::new(),
        },
        "timers": view.timers,
        "tasks": tasks.iter().map(|task| plan(row, task)).collect::<Vec<_>>(),
        "saga": saga(row, snapshot),
        "postponed": postponed(snapshot),
        "queued": snapshot.queue.len(),
        "held": snapshot.inbox.len(),
        "fault": fault(snapshot),
        "last_refusal": refused.and_then(refusal),
    });
    Json::from_value(&document)
}

/// Tells what would be undone, last first, and how far undoing has come; nothing where there is nothing to tell.
fn saga(row: &InstanceRow, snapshot: &Snapshot) -> Option<serde_json::Value> {
    if snapshot.saga.is_empty() && snapshot.undoing.is_none() {
        return None;
    }
    let id = |work: &WorkKey| task_id(&row.key, *work).to_string();
    let steps = snapshot.saga.iter().rev();
    let steps: Vec<_> = steps
        .map(|step| serde_json::json!({ "undoes": id(&step.work), "src": step.src }))
        .collect();
    let undoing = snapshot.undoing.as_ref().map(|undoing| {
        serde_json::json!({
            "running": undoing.open.as_ref().map(id),
            "waits_for": snapshot.releasing.iter().map(id).collect::<Vec<_>>(),
        })
    });
    Some(serde_json::json!({ "to_undo": steps, "undoing": undoing }))
}

fn postponed(snapshot: &Snapshot) -> Vec<serde_json::Value> {
    let kept = snapshot.postponed.iter().map(|kept| {
        let until = match &kept.event.class {
            EventClass::Command { until, .. } => Some(until.to_rfc3339()),
            EventClass::Signal | EventClass::Raised | EventClass::Platform => None,
        };
        let arrived = kept.arrived.to_rfc3339();
        serde_json::json!({ "event": kept.event.name, "arrived": arrived, "until": until })
    });
    kept.collect()
}

/// What follows a failed attempt of a task.
fn plan(row: &InstanceRow, task: &TaskShown) -> serde_json::Value {
    let TaskShown { order, attempt, .. } = task;
    serde_json::json!({
        "id": task_id(&row.key, order.work).to_string(),
        "invoke": order.invoke,
        "src": order.src,
        "queue": order.queue,
        "attempt": attempt,
        "attempts_max": order.retry.max_attempts,
        "wait_ms_after_failure": order.retry.wait_ms(*attempt),
        "timeout_ms": order.timeout_ms,
        "state": state_name(task),
        "why": why_it_waits(row, task),
        "error": task.error,
        "compensation": order.compensation,
    })
}

/// Tells in words what an open task waits for, and who can do something about it.
fn why_it_waits(row: &InstanceRow, task: &TaskShown) -> String {
    let queue = &task.order.queue;
    match task.state {
        TaskState::Ready { at, .. } if at <= task.now => format!(
            "no worker has leased it since {}; workers of queue {queue} can",
            at.to_rfc3339()
        ),
        TaskState::Ready { at, .. } => {
            format!("attempt {} begins at {}", task.attempt, at.to_rfc3339())
        }
        TaskState::Leased { until, .. } => {
            let worker = task.worker.as_deref().unwrap_or("a worker");
            format!("{worker} has it until {}, or longer with a heartbeat", until.to_rfc3339())
        }
        TaskState::Parked => {
            let id = task_id(&row.key, task.order.work);
            format!(
                "every attempt failed and no transition expects that; an operator can `retry` it, or `skip` it with an output (task {id})"
            )
        }
    }
}

/// Tells what was refused last, why, to whom, and at which version.
fn refusal(placed: &Placed) -> Option<serde_json::Value> {
    let record = &placed.record;
    let Body::Refused(refused) = &record.entry.body else { return None };
    let ReceiptKind::Refused(code) = refused.receipt.kind else { return None };
    let problem = refused.receipt.body.to_value();
    Some(serde_json::json!({
        "event": refused.cause.event,
        "code": problem.get("code").cloned().unwrap_or_else(|| code.code().into()),
        "detail": problem.get("detail"),
        "at": record.entry.header.decided_at.to_rfc3339(),
        "version": record.version.map(|version| version.version),
        "actor": record.entry.header.actor.name,
    }))
}

fn fault(snapshot: &Snapshot) -> Option<serde_json::Value> {
    let fault = snapshot.fault.as_ref()?;
    Some(serde_json::json!({
        "code": fault.cause.code(),
        "message": fault.cause.message(),
        "at": fault.at.to_rfc3339(),
        "advice": "retry runs the kept event again, skip drops it",
    }))
}

fn masked(schema: Option<&Schema>, value: &Value) -> Json {
    match schema.filter(|schema| schema.holds_secret()) {
        Some(schema) => Json::from_value(&schema.mask(&value.to_json())),
        None => Json::from_trusted(value.to_text()),
    }
}

fn texts(names: &[Box<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
