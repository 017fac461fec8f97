//! A claim: which tasks a worker gets, and the entry that gives them.
//!
//! Oldest first, but one of each instance before a second one of any: an instance with many tasks does not make its
//! neighbours wait. What a worker is told of each task is everything that it needs, so that it asks nobody else.
//!
//! Invariant: a task leaves the shard only with the receipt of the entry that gave its lease.

use std::collections::{HashMap, HashSet};

use futures::future::join_all;
use serde::Serialize;
use statehouse_chart::TaskOrder;
use statehouse_contract::{
    Actor, Command, CommandEnvelope, Digest, InstanceKey, Json, Key, ReceiptKind, RejectionCode,
    StoredReceipt, Target, TaskId, TenantId, Timestamp, TraceContext,
    limits::{
        DEADLINE_MS_DEFAULT, LEASE_BYTES_MAX, LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN,
        LEASE_TASKS_MAX,
    },
};
use statehouse_store::{
    Body, Entry, TaskRow,
    entry::{Asked, Header, LeaseGiven, TaskKey, TaskLeased, TaskRef},
    next_token,
};

use tracing::error;

use super::rejected;
use crate::{
    Door,
    decide::task_id,
    message::{Ask, Reply},
    metrics::one,
    order::Ordered,
    reading::RowsError,
    reign::{Proposed, Reign},
    reject,
};

/// How many more ready tasks are looked at than are wanted: some are reserved, and neighbours come first.
const LOOK_FACTOR: usize = 4;
const LOOK_MORE: usize = 64;

/// A task that a claim is about to take.
#[derive(Debug)]
pub(super) struct Picked {
    row: TaskRow,
    ordered: Ordered,
    bucket_epoch: u32,
}

impl Picked {
    pub(super) fn name(&self) -> (u64, TaskKey) {
        (self.row.born, self.row.task)
    }

    fn id(&self) -> TaskId {
        task_id(&self.row.instance, self.ordered.order.work)
    }
}

/// Picks tasks for a claim among those that nobody else is about to take.
pub(super) fn pick(
    reign: &Reign,
    envelope: &CommandEnvelope,
    reserved: &HashSet<(u64, TaskKey)>,
) -> Result<Vec<Picked>, RowsError> {
    let Command::LeaseTasks { queues, max, .. } = &envelope.command else { return Ok(Vec::new()) };
    let Some(tenant) = envelope.target.tenant() else { return Ok(Vec::new()) };
    let max = usize::try_from((*max).clamp(1, LEASE_TASKS_MAX)).unwrap_or(usize::MAX);
    let rows = ready(reign, tenant, queues, max, reserved)?;
    let (view, mut bytes) = (reign.seat().log().view(), 0);
    let mut picked = Vec::new();
    for row in in_turn(rows).into_iter().take(max) {
        bytes += row.order.len();
        if bytes > LEASE_BYTES_MAX && !picked.is_empty() {
            break;
        }
        let ordered = match Ordered::decode(&row.order) {
            Ok(ordered) => ordered,
            // One order that cannot be read must not stop its neighbours.
            Err(why) => {
                error!(instance = %row.instance, %why, "a task cannot be given");
                continue;
            }
        };
        let bucket_epoch = view.bucket(row.instance.bucket())?.epoch;
        picked.push(Picked { row, ordered, bucket_epoch });
    }
    Ok(picked)
}

fn ready(
    reign: &Reign,
    tenant: &TenantId,
    queues: &[Box<str>],
    max: usize,
    reserved: &HashSet<(u64, TaskKey)>,
) -> Result<Vec<TaskRow>, RowsError> {
    let (view, now) = (reign.seat().log().view(), reign.now());
    let look = u32::try_from(LOOK_FACTOR * max + LOOK_MORE + reserved.len()).unwrap_or(u32::MAX);
    let mut rows = Vec::new();
    for queue in queues {
        let found = view.ready_tasks(tenant, queue, now, look)?;
        rows.extend(found.into_iter().filter(|row| !reserved.contains(&(row.born, row.task))));
    }
    rows.sort_by_key(|row| (since(row), row.born, row.task.version, row.task.n));
    Ok(rows)
}

const fn since(row: &TaskRow) -> i64 {
    match row.state {
        statehouse_store::TaskState::Ready { at, .. } => at.0,
        statehouse_store::TaskState::Leased { .. } | statehouse_store::TaskState::Parked => {
            i64::MAX
        }
    }
}

/// Orders tasks by turns: the first of each instance, then the second of each, the oldest first within a turn.
fn in_turn(rows: Vec<TaskRow>) -> Vec<TaskRow> {
    let mut turns: HashMap<u64, usize> = HashMap::new();
    let mut numbered: Vec<(usize, TaskRow)> = rows
        .into_iter()
        .map(|row| {
            let turn = turns.entry(row.born).or_default();
            *turn += 1;
            (*turn, row)
        })
        .collect();
    // Stable: within a turn they stay in the order in which they came.
    numbered.sort_by_key(|(turn, _)| *turn);
    numbered.into_iter().map(|(_, row)| row).collect()
}

/// Writes the leases of a claim and answers it.
pub(super) async fn claim(reign: &Reign, ask: &Ask, picked: Vec<Picked>) -> Reply {
    let picked = started(reign, picked).await;
    let Command::LeaseTasks { worker, lease_ms, .. } = &ask.envelope.command else {
        return rejected(RejectionCode::InvalidRequest, "this is no claim");
    };
    if picked.is_empty() {
        return super::nothing(reign, &ask.envelope, &body_of(&[]));
    }
    let at = reign.decide_at(Timestamp(0));
    let given: Vec<LeaseGiven> = picked.iter().map(|task| lease(task, at, *lease_ms)).collect();
    let shown: Vec<TaskShown<'_>> =
        picked.iter().zip(&given).map(|(p, g)| show(p, g, at, reign.term)).collect();
    let receipt = StoredReceipt {
        kind: ReceiptKind::Accepted,
        fingerprint: ask.envelope.fingerprint,
        version: None,
        body: body_of(&shown),
    };
    let (target, key) = (ask.envelope.target.clone(), ask.envelope.key.clone());
    let asked = Some(Asked { target, key, receipt });
    let count = given.len();
    let leased = TaskLeased { worker: worker.clone(), leases: given, asked };
    let entry = Entry {
        header: header(reign, &ask.envelope, at),
        body: Body::TaskLeased(Box::new(leased)),
    };
    let before = ask.mark_proposed();
    match reign.propose(entry).await {
        Proposed::Applied(applied) => match applied.receipt {
            Some(receipt) => {
                let given = &reign.metrics().leased;
                given.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
                Reply::Receipt(Box::new(receipt))
            }
            None => Reply::Rejected(Box::new(reject::unknown())),
        },
        Proposed::Known(receipt) => crate::instance_actor::replayed(ask, *receipt),
        Proposed::KeyReused => Reply::Rejected(Box::new(reject::key_reused(None))),
        // One of the tasks has moved on; whoever still wants some asks again.
        Proposed::Fenced => {
            ask.not_proposed(before);
            super::nothing(reign, &ask.envelope, &body_of(&[]))
        }
        Proposed::Refused(no) => {
            ask.not_proposed(before);
            Reply::Rejected(no)
        }
        Proposed::Unknown => Reply::Rejected(Box::new(reject::unknown())),
    }
}

/// Tells instances that first attempts are about to begin where they want to know; leaves out what they do not let begin.
async fn started(reign: &Reign, picked: Vec<Picked>) -> Vec<Picked> {
    let telling = picked.into_iter().map(|task| async move {
        if !task.ordered.order.report_start || task.row.attempts > 0 {
            return Some(task);
        }
        let envelope = start_envelope(&task);
        match Door::of(reign).deliver(&task.row.instance, envelope).await {
            Ok(_) => Some(task),
            // Noted before: a claim that was cut short had told it already.
            Err(no) if no.code == RejectionCode::StaleLease => Some(task),
            Err(_) => {
                one(&reign.metrics().unstarted);
                None
            }
        }
    });
    join_all(telling).await.into_iter().flatten().collect()
}

fn start_envelope(task: &Picked) -> CommandEnvelope {
    let id = task.id();
    CommandEnvelope {
        target: Target::Instance(task.row.instance.clone()),
        fingerprint: Digest::of(id.to_string().as_bytes()),
        key: Key::Task { task: id.clone(), token: 0, verb: "start".into() },
        command: Command::StartTask { task: id },
        correlation: task.ordered.correlation.clone(),
        trace: task.ordered.trace.clone(),
        remaining_ms: DEADLINE_MS_DEFAULT,
        expected: None,
        actor: Actor::system(),
        reason: None,
        attempt: 1,
    }
}

fn lease(task: &Picked, at: Timestamp, wanted_ms: u64) -> LeaseGiven {
    let row = &task.row;
    let after = |ms: u64| at.after_ms(i64::try_from(ms).unwrap_or(i64::MAX));
    LeaseGiven {
        task: TaskRef {
            instance: row.instance.clone(),
            bucket_epoch: task.bucket_epoch,
            born: row.born,
            task: row.task,
            token: row.token,
        },
        attempt: row.attempts + 1,
        until: after(lease_ms(&task.ordered.order, wanted_ms)),
        attempt_until: task.ordered.order.timeout_ms.map(after),
    }
}

/// Returns how long a lease lives: as the definition says, else as the worker wants, within bounds.
pub(super) fn lease_ms(order: &TaskOrder, wanted_ms: u64) -> u64 {
    let wanted = if wanted_ms == 0 { LEASE_MS_DEFAULT } else { wanted_ms };
    order.heartbeat_ms.unwrap_or(wanted).clamp(LEASE_MS_MIN, LEASE_MS_MAX)
}

pub(super) fn header(reign: &Reign, envelope: &CommandEnvelope, at: Timestamp) -> Header {
    Header {
        decided_term: reign.term,
        decided_by: reign.node(),
        decided_at: at,
        actor: envelope.actor.clone(),
        reason: None,
        trace: envelope.trace.clone(),
        correlation: envelope.correlation.clone(),
    }
}

/// A task as its worker gets it.
#[derive(Serialize)]
pub(super) struct TaskShown<'a> {
    id: String,
    queue: &'a str,
    src: &'a str,
    invoke: &'a str,
    instance: &'a str,
    definition: &'a str,
    definition_version: u32,
    input: Json,
    attempt: u32,
    token: u64,
    lease_until: String,
    lease_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    compensation: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// The same for every attempt: what a worker hands on to the outside world.
    idempotency_key: String,
}

fn show<'a>(task: &'a Picked, given: &LeaseGiven, at: Timestamp, term: u64) -> TaskShown<'a> {
    let Picked { row, ordered, .. } = task;
    let order = &ordered.order;
    let id = task.id().to_string();
    TaskShown {
        idempotency_key: id.clone(),
        id,
        queue: &row.queue,
        src: &order.src,
        invoke: &order.invoke,
        instance: row.instance.instance.as_str(),
        definition: ordered.definition.as_str(),
        definition_version: ordered.definition_version,
        input: Json::from_trusted(order.input.to_text()),
        attempt: given.attempt,
        token: next_token(row.token, term),
        lease_until: given.until.to_rfc3339(),
        lease_ms: given.until.since_ms(at),
        timeout_at: given.attempt_until.map(Timestamp::to_rfc3339),
        item: order.item,
        compensation: order.compensation,
        correlation_id: ordered.correlation.as_ref().map(|id| id.as_str()),
        traceparent: traceparent(&ordered.trace),
    }
}

fn traceparent(trace: &TraceContext) -> Option<String> {
    trace.is_some().then(|| trace.to_string())
}

#[derive(Serialize)]
struct LeasedBody<'a> {
    tasks: &'a [TaskShown<'a>],
}

pub(super) fn body_of(tasks: &[TaskShown<'_>]) -> Json {
    let text = serde_json::to_string(&LeasedBody { tasks });
    Json::from_trusted(text.expect("numbers, texts and JSON always serialize"))
}

/// Names the instance of a task by its tenant.
pub(super) fn instance_of(tenant: &TenantId, task: &TaskId) -> InstanceKey {
    InstanceKey { tenant: tenant.clone(), instance: task.instance.clone() }
}
