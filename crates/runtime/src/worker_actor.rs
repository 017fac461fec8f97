//! This node's own worker for a shard that it leads: it leases the tasks of built-in kinds like any worker, and runs them.
//!
//! It asks the desk of its own shard, tenant by tenant in turn, so that one with many tasks does not make the others wait. A
//! task runs under a lease that is kept alive; when the reign is over the worker ends with it, its leases run out, and the
//! next leader's worker gets the tasks again: at least once, like everywhere.
//!
//! Absent on purpose: what a kind does; `kinds.rs` has the shape, the front house the rest.
//!
//! Invariant `BOUND`: of each kind at most as many run as it allows.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::Deserialize;
use statehouse_chart::BUILT_IN_QUEUE;
use statehouse_contract::{
    Actor as Who, Command, CommandEnvelope, Digest, InstanceId, InstanceKey, Json, Key, KeyText,
    Target, TaskId, TenantId, TraceContext,
    limits::{DEADLINE_MS_DEFAULT, ERROR_MESSAGE_BYTES_MAX, OUTPUT_BYTES_MAX},
};
use statehouse_telemetry::{Leg, Span};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until},
};
use tracing::warn;

use crate::{
    Door,
    kinds::{Failed, Kind, Work},
    message::WorkerMessage,
    reading::RowsError,
    reign::Reign,
};

/// How often tasks are looked for without a hint: one may have become ready by the clock.
const EVERY: Duration = Duration::from_millis(250);
/// Length of a lease unless the task says its own.
const LEASE_MS: u64 = 15_000;
/// The share of a lease after which it is kept alive.
const HEARTBEAT_SHARE: u32 = 3;
/// Most tasks of one tenant in one claim: the others have their turn.
const CLAIM_MAX: usize = 16;
/// Pause between two tries of a report.
const AGAIN: Duration = Duration::from_millis(100);

/// The own worker of a led shard.
#[derive(Debug)]
pub(crate) struct OwnWorker;

/// What it knows.
pub(crate) struct OwnWorkerState {
    reign: Arc<Reign>,
    /// Tasks under way, by kind.
    busy: BTreeMap<&'static str, usize>,
    running: JoinSet<&'static str>,
    /// The tenant that had its turn last.
    last: Option<TenantId>,
    claims: AtomicU64,
}

/// A task as the desk tells it.
#[derive(Debug, Deserialize)]
struct Leased {
    id: String,
    queue: String,
    instance: String,
    input: serde_json::Value,
    attempt: u32,
    token: u64,
    lease_ms: u64,
    idempotency_key: String,
    traceparent: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LeasedBody {
    tasks: Vec<Leased>,
}

impl Actor for OwnWorker {
    type Msg = WorkerMessage;
    type State = OwnWorkerState;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        reign.seat().hints().worker.heard_by(myself.clone());
        drop(myself.send_interval(EVERY, || WorkerMessage::Look));
        Ok(OwnWorkerState {
            reign,
            busy: BTreeMap::new(),
            running: JoinSet::new(),
            last: None,
            claims: AtomicU64::new(0),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        _: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.reign.seat().hints().worker.taken();
        while let Some(ended) = state.running.try_join_next() {
            state.ended(ended);
        }
        if let Err(why) = state.look(&myself).await {
            warn!(shard = %state.reign.shard(), %why, "tasks of built-in kinds cannot be read");
        }
        Ok(())
    }
}

impl OwnWorkerState {
    fn ended(&mut self, ended: Result<&'static str, JoinError>) {
        // A panic of a kind is caught where it runs; here only the kind's count matters.
        if let Ok(kind) = ended
            && let Some(count) = self.busy.get_mut(kind)
        {
            *count = count.saturating_sub(1);
        }
    }

    /// Leases tasks of every kind that has room, the tenants in turn.
    async fn look(&mut self, myself: &ActorRef<WorkerMessage>) -> Result<(), RowsError> {
        let kinds = self.reign.seat().ground().kinds.all();
        if kinds.is_empty() {
            return Ok(());
        }
        let view = self.reign.seat().log().view();
        let first = view.tenant_with_tasks(self.last.as_ref())?;
        // Behind the last one it begins anew.
        let Some(first) = first.map_or_else(|| view.tenant_with_tasks(None), |t| Ok(Some(t)))?
        else {
            return Ok(());
        };
        let mut tenant = first.clone();
        loop {
            for kind in &kinds {
                self.claim(myself, &tenant, kind).await?;
            }
            self.last = Some(tenant.clone());
            let view = self.reign.seat().log().view();
            let next = match view.tenant_with_tasks(Some(&tenant))? {
                Some(next) => Some(next),
                None => view.tenant_with_tasks(None)?,
            };
            match next {
                Some(next) if next != first && next != tenant => tenant = next,
                Some(_) | None => return Ok(()),
            }
        }
    }

    async fn claim(
        &mut self,
        myself: &ActorRef<WorkerMessage>,
        tenant: &TenantId,
        kind: &Arc<dyn Kind>,
    ) -> Result<(), RowsError> {
        let busy = self.busy.get(kind.name()).copied().unwrap_or(0);
        let room = kind.at_once().saturating_sub(busy).min(CLAIM_MAX);
        let queue = format!("{BUILT_IN_QUEUE}{}", kind.name());
        if room == 0 || self.reign.seat().count_ready(tenant, &queue, 1) == 0 {
            return Ok(());
        }
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        let envelope = self.claim_envelope(tenant, queue, room, number);
        // Whoever cannot be asked now is asked again by the next look.
        let Ok(receipt) = Door::of(&self.reign).desk(envelope).await else { return Ok(()) };
        let body: LeasedBody = serde_json::from_str(receipt.body.as_str())
            .map_err(|error| RowsError::Unreadable(format!("leases: {error}")))?;
        for task in body.tasks {
            *self.busy.entry(kind.name()).or_default() += 1;
            let (reign, kind, tenant) = (Arc::clone(&self.reign), Arc::clone(kind), tenant.clone());
            let myself = myself.clone();
            self.running.spawn(async move {
                work(&reign, &kind, tenant, task).await;
                let _ = myself.send_message(WorkerMessage::Ended);
                kind.name()
            });
        }
        Ok(())
    }

    fn claim_envelope(
        &self,
        tenant: &TenantId,
        queue: String,
        room: usize,
        number: u64,
    ) -> CommandEnvelope {
        let name = format!("node-{}-{}-{number}", self.reign.node(), self.reign.term);
        let command = Command::LeaseTasks {
            queues: vec![queue.into()],
            max: u32::try_from(room).unwrap_or(1),
            lease_ms: LEASE_MS,
            worker: format!("node:{}", self.reign.node()).into(),
        };
        CommandEnvelope {
            target: Target::Tenant(tenant.clone()),
            fingerprint: Digest::of(name.as_bytes()),
            key: Key::Client(KeyText::parse(&name).expect("letters, digits, dots and dashes")),
            command,
            ..blank(Target::Tenant(tenant.clone()))
        }
    }
}

/// The envelope of what the node itself says; command and key are still to come.
fn blank(target: Target) -> CommandEnvelope {
    CommandEnvelope {
        target,
        command: Command::Operate(statehouse_contract::Verb::Skip),
        key: Key::Queue { ticket: "".into() },
        fingerprint: Digest([0; 32]),
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: DEADLINE_MS_DEFAULT,
        expected: None,
        actor: Who::system(),
        reason: None,
        attempt: 1,
    }
}

/// Runs a task to its end and reports it.
async fn work(reign: &Reign, kind: &Arc<dyn Kind>, tenant: TenantId, task: Leased) {
    let (Ok(instance), Ok(id)) = (InstanceId::parse(&task.instance), TaskId::parse(&task.id))
    else {
        return;
    };
    let key = InstanceKey { tenant, instance };
    let mut until = Instant::now() + Duration::from_millis(task.lease_ms);
    let ordered = task.traceparent.as_deref().and_then(|text| TraceContext::parse(text, None));
    let ordered = ordered.unwrap_or_default();
    let span = Span::open(Leg::Task, &ordered);
    span.link(&ordered);
    span.set_with("messaging.destination.name", || task.queue.clone());
    span.set_with("statehouse.task", || task.id.clone());
    span.set("statehouse.attempt", i64::from(task.attempt));
    let trace = span.context().clone();
    let given = Work {
        instance: key.clone(),
        task: task.id.clone(),
        input: task.input,
        attempt: task.attempt,
        idempotency_key: task.idempotency_key,
        traceparent: trace.is_some().then(|| trace.to_string()),
    };
    // A task of its own, so that a panic ends this attempt alone; aborted when this future is dropped.
    let mut running = tokio::task::JoinSet::new();
    running.spawn(kind.run(given));
    let beat = Duration::from_millis(task.lease_ms) / HEARTBEAT_SHARE;
    let mut next = Instant::now() + beat;
    let report = Report { reign, key: &key, task: &id, token: task.token, trace };
    let ended = loop {
        tokio::select! {
            Some(ended) = running.join_next() => break ended,
            () = sleep_until(next) => {}
        }
        let asked = Instant::now();
        match report.heartbeat().await {
            Heard::Goes => until = asked + Duration::from_millis(task.lease_ms),
            Heard::Stop | Heard::Nothing if Instant::now() >= until => return,
            Heard::Nothing => {}
            Heard::Stop => {
                running.abort_all();
                let stopped = Failed::retryable("cancelled", "the work was cancelled");
                return report.fail(&stopped, until).await;
            }
            Heard::Over => return,
        }
        next = Instant::now() + beat;
    };
    match ended {
        Ok(Ok(output)) if output.as_str().len() > OUTPUT_BYTES_MAX => {
            let message =
                format!("the output is larger than output_bytes_max, {OUTPUT_BYTES_MAX} bytes");
            report.fail(&Failed::fatal("output_too_large", message), until).await;
        }
        Ok(Ok(output)) => report.complete(output, until).await,
        Ok(Err(failed)) => report.fail(&failed, until).await,
        Err(error) => {
            let failed = Failed::retryable("worker_panic", error.to_string());
            report.fail(&failed, until).await;
        }
    }
}

/// What a heartbeat was told.
enum Heard {
    Goes,
    Stop,
    Over,
    Nothing,
}

/// Says how a task went.
struct Report<'a> {
    reign: &'a Reign,
    key: &'a InstanceKey,
    task: &'a TaskId,
    token: u64,
    trace: TraceContext,
}

impl Report<'_> {
    fn envelope(&self, verb: &str, command: Command) -> CommandEnvelope {
        CommandEnvelope {
            fingerprint: Digest::of(&statehouse_contract::codec::bare(&command)),
            command,
            key: Key::Task { task: self.task.clone(), token: self.token, verb: verb.into() },
            trace: self.trace.clone(),
            ..blank(Target::Instance(self.key.clone()))
        }
    }

    async fn heartbeat(&self) -> Heard {
        let (task, token) = (self.task.clone(), self.token);
        let command = Command::ExtendLease { task, token, lease_ms: LEASE_MS };
        match Door::of(self.reign).desk(self.envelope("heartbeat", command)).await {
            Ok(receipt) if receipt.body.as_str().contains("\"cancelled\":true") => Heard::Stop,
            Ok(_) => Heard::Goes,
            Err(no) if no.code.status() < 500 => Heard::Over,
            Err(_) => Heard::Nothing,
        }
    }

    async fn complete(&self, output: Json, until: Instant) {
        let (task, token) = (self.task.clone(), self.token);
        self.send("complete", Command::CompleteTask { task, token, output }, until).await;
    }

    async fn fail(&self, failed: &Failed, until: Instant) {
        let mut message = failed.message.clone();
        while message.len() > ERROR_MESSAGE_BYTES_MAX {
            message.pop();
        }
        let command = Command::FailTask {
            task: self.task.clone(),
            token: self.token,
            code: failed.code.as_str().into(),
            message: message.into(),
            retryable: failed.retryable,
        };
        self.send("fail", command, until).await;
    }

    /// Reports until there is a definite answer, or the lease is over.
    async fn send(&self, verb: &str, command: Command, until: Instant) {
        let envelope = self.envelope(verb, command);
        loop {
            match Door::of(self.reign).deliver(self.key, envelope.clone()).await {
                Ok(_) => return,
                Err(no) if no.code.status() < 500 && no.code.status() != 429 => return,
                Err(_) if Instant::now() >= until => return,
                Err(_) => sleep(AGAIN).await,
            }
        }
    }
}
