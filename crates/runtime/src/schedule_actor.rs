//! The schedules of the cluster: an organ of shard 0's leader that starts what is due.
//!
//! It takes what has become due into the schedule's own document first, and starts it from there; so a crash in between
//! only repeats a start under the key of its due time. Each look does one step of each schedule that has something to do.
//!
//! A start that is refused for good is written down and left behind; a schedule never stops by itself.
//!
//! Absent on purpose: when something is due and what is made up for; `schedule.rs` says that.
//!
//! Invariants: one start per schedule and due time; progress is written only onto the document from which it was worked out.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use statehouse_contract::{
    Actor as Who, Answer, Command, CommandEnvelope, Consistency, DefinitionName, DefinitionRef,
    Digest, InstanceId, InstanceKey, Json, Key, KeyText, Query, ReceiptKind, Rejection, RoleName,
    Target, TenantId, Timestamp, TraceContext, Verb, limits::DEADLINE_MS_DEFAULT,
};
use statehouse_store::DueOwner;
use tracing::{info, warn};

use crate::{
    Door,
    message::ScheduleMessage,
    reading::RowsError,
    reign::Reign,
    schedule::{Overlap, Schedule, instance_id},
};

/// How often schedules are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// Due rows of one look.
const LOOK: usize = 256;

/// The actor that starts what is due.
#[derive(Debug)]
pub(crate) struct Schedules;

/// A schedule's name.
type Name = (TenantId, Box<str>);

/// What it knows.
pub(crate) struct SchedulesState {
    reign: Arc<Reign>,
    /// Schedules with starts that wait; nothing until the rows were read once.
    waiting: Option<BTreeSet<Name>>,
}

impl Actor for Schedules {
    type Msg = ScheduleMessage;
    type State = SchedulesState;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        reign.seat().hints().schedules.heard_by(myself.clone());
        drop(myself.send_interval(EVERY, || ScheduleMessage::Look));
        Ok(SchedulesState { reign, waiting: None })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ScheduleMessage::Look => {}
            // Somebody has changed a schedule: a backfill may wait.
            ScheduleMessage::Changed => {
                state.reign.seat().hints().schedules.taken();
                state.waiting = None;
            }
        }
        if let Err(why) = state.look().await {
            warn!(%why, "schedules cannot be read");
        }
        Ok(())
    }
}

impl SchedulesState {
    async fn look(&mut self) -> Result<(), RowsError> {
        if self.waiting.is_none() {
            self.waiting = Some(self.all_waiting()?);
        }
        let now = self.reign.now();
        for (tenant, name, due) in self.due(now)? {
            if let Some(mut found) = self.read(&tenant, &name)? {
                found.schedule.take_in(due, now);
                self.write(&tenant, &name, &found).await;
            }
        }
        for (tenant, name) in self.waiting.clone().unwrap_or_default() {
            self.step(&tenant, &name).await?;
        }
        Ok(())
    }

    fn due(&self, now: Timestamp) -> Result<Vec<(TenantId, Box<str>, Timestamp)>, RowsError> {
        let page = self.reign.seat().log().view().due(now, None, LOOK, LOOK)?;
        let rows = page.items.into_iter().filter_map(|item| match (item.owner, item.what) {
            (DueOwner::Tenant(tenant), statehouse_contract::Due::Schedule { name }) => {
                Some((tenant, name, item.at))
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    fn all_waiting(&self) -> Result<BTreeSet<Name>, RowsError> {
        let view = self.reign.seat().log().view();
        let mut waiting = BTreeSet::new();
        for tenant in view.tenants()? {
            for row in view.schedules(&tenant.tenant)? {
                let schedule = Schedule::read(row.document.as_str());
                if schedule.is_some_and(|schedule| !schedule.state.pending.is_empty()) {
                    waiting.insert((tenant.tenant.clone(), row.name));
                }
            }
        }
        Ok(waiting)
    }

    fn read(&self, tenant: &TenantId, name: &str) -> Result<Option<Found>, RowsError> {
        let rows = self.reign.seat().log().view().schedules(tenant)?;
        let Some(row) = rows.into_iter().find(|row| *row.name == *name) else { return Ok(None) };
        let was = Digest::of(row.document.as_str().as_bytes());
        Ok(Schedule::read(row.document.as_str()).map(|schedule| Found { schedule, was }))
    }

    /// Writes a schedule's progress down. What its owner has changed meanwhile stands; the next look begins from there.
    async fn write(&mut self, tenant: &TenantId, name: &str, found: &Found) {
        let document = serde_json::to_string(&found.schedule).expect("texts and numbers serialize");
        let next = found.schedule.spec.next_after(self.reign.now());
        let has_pending = !found.schedule.state.pending.is_empty();
        let command = Command::AdvanceSchedule {
            name: name.into(),
            was: found.was,
            document: Json::from_trusted(document),
            next,
        };
        let ticket = format!("{name}-{}", found.was).into();
        let envelope = CommandEnvelope {
            key: Key::Queue { ticket },
            ..blank(Target::Tenant(tenant.clone()), command)
        };
        // Whatever it is that was not written: the rows say how it stands.
        let is_written = Door::of(&self.reign).register(envelope).await.is_ok();
        if let Some(waiting) = &mut self.waiting
            && is_written
        {
            let key = (tenant.clone(), Box::from(name));
            if has_pending {
                waiting.insert(key)
            } else {
                waiting.remove(&key)
            };
        }
    }

    /// Does the next thing for a schedule with starts that wait.
    async fn step(&mut self, tenant: &TenantId, name: &str) -> Result<(), RowsError> {
        let Some(mut found) = self.read(tenant, name)? else {
            self.forget(tenant, name);
            return Ok(());
        };
        let Some(due) = found.schedule.state.pending.first().copied().map(Timestamp) else {
            self.forget(tenant, name);
            return Ok(());
        };
        if let Some(running) = self.running(tenant, &found.schedule).await {
            match (running, found.schedule.spec.overlap) {
                // Nobody knows now; the next look asks again.
                (Running::Unknown, _) | (Running::Yes(_), Overlap::Queue) => return Ok(()),
                (Running::Yes(_), Overlap::Skip) => {
                    found.schedule.state.pending.remove(0);
                    found.schedule.state.skipped += 1;
                    self.write(tenant, name, &found).await;
                    return Ok(());
                }
                (Running::Yes(other), Overlap::CancelOther) => {
                    if !self.cancel(tenant, name, &other, due).await {
                        return Ok(());
                    }
                }
            }
        }
        let Some(started) = self.start(tenant, name, &found.schedule, due).await else {
            return Ok(());
        };
        let state = &mut found.schedule.state;
        state.pending.remove(0);
        match started {
            Ok(instance) => {
                info!(%tenant, schedule = name, %instance, "a schedule has started an instance");
                state.started += 1;
                state.last_instance = Some(instance.to_string());
                state.last_due = Some(due.0);
                state.last_error = None;
            }
            Err(why) => {
                state.refused += 1;
                state.last_error = Some(why);
            }
        }
        self.write(tenant, name, &found).await;
        Ok(())
    }

    fn forget(&mut self, tenant: &TenantId, name: &str) {
        if let Some(waiting) = &mut self.waiting {
            waiting.remove(&(tenant.clone(), Box::from(name)));
        }
    }

    /// Returns whether the instance that was started last still runs; nothing if it does not.
    async fn running(&self, tenant: &TenantId, schedule: &Schedule) -> Option<Running> {
        let last = schedule.state.last_instance.as_deref()?;
        let instance = InstanceId::parse(last).ok()?;
        let key = InstanceKey { tenant: tenant.clone(), instance };
        let query = Query::Instance {
            key: key.clone(),
            consistency: Consistency::Linearizable,
            min_version: None,
            remaining_ms: DEADLINE_MS_DEFAULT,
        };
        match self.reign.seat().ground().carried.query(query).await {
            Ok(Answer::Instance(view)) => {
                let is_over =
                    matches!(view.status.as_str(), "done" | "failed" | "cancelled" | "terminated");
                (!is_over).then_some(Running::Yes(key))
            }
            Ok(_) => None,
            Err(no) if no.code.status() == 404 => None,
            Err(_) => Some(Running::Unknown),
        }
    }

    /// Cancels the instance that still runs; returns whether that is settled.
    async fn cancel(
        &self,
        tenant: &TenantId,
        name: &str,
        other: &InstanceKey,
        due: Timestamp,
    ) -> bool {
        let Ok(key) = KeyText::parse(&format!("schedule-{name}-{}", due.0)) else { return true };
        let _ = tenant;
        let command = Command::Operate(Verb::Cancel);
        let envelope = CommandEnvelope {
            key: Key::Operator(key),
            reason: Some(format!("schedule {name} starts the next one").into()),
            ..blank(Target::Instance(other.clone()), command)
        };
        definite(self.reign.seat().ground().carried.submit(envelope).await.map(|_| ())).is_some()
    }

    /// Starts an instance; the outer nothing means that nobody knows yet.
    async fn start(
        &self,
        tenant: &TenantId,
        name: &str,
        schedule: &Schedule,
        due: Timestamp,
    ) -> Option<Result<InstanceId, String>> {
        let spec = &schedule.spec;
        let Some(instance) = instance_id(name, due) else {
            return Some(Err("the instance would have no valid id".to_owned()));
        };
        let Ok(definition) = DefinitionName::parse(&spec.definition) else {
            return Some(Err(format!("{:?} is no definition's name", spec.definition)));
        };
        let input = match &spec.input {
            serde_json::Value::Null => Json::empty_object(),
            value => Json::from_value(value),
        };
        let definition = DefinitionRef { name: definition, version: spec.version, digest: None };
        let command = Command::Start { definition, input };
        let roles = schedule.state.roles.iter().filter_map(|role| RoleName::parse(role).ok());
        let target =
            Target::Instance(InstanceKey { tenant: tenant.clone(), instance: instance.clone() });
        let envelope = CommandEnvelope {
            key: Key::Schedule { name: name.into(), due },
            actor: Who { name: format!("schedule:{name}").into(), roles: roles.collect() },
            ..blank(target, command)
        };
        let answer = self.reign.seat().ground().carried.submit(envelope).await;
        definite(answer.map(|receipt| (receipt.kind, receipt.body))).map(|answer| match answer {
            Ok((ReceiptKind::Refused(code), body)) => {
                let told: serde_json::Value =
                    serde_json::from_str(body.as_str()).unwrap_or_default();
                Err(format!("{code}: {}", told["detail"].as_str().unwrap_or_default()))
            }
            Ok(_) => Ok(instance),
            Err(no) => Err(format!("{}: {}", no.code, no.detail)),
        })
    }
}

/// A schedule with the fingerprint of its document.
struct Found {
    schedule: Schedule,
    was: Digest,
}

/// Whether the start before still runs.
enum Running {
    Yes(InstanceKey),
    Unknown,
}

/// Returns a definite answer; nothing where the same command has to be said again.
fn definite<T>(answer: Result<T, Rejection>) -> Option<Result<T, Rejection>> {
    match answer {
        Err(no) if no.code.status() >= 500 || no.code.status() == 429 => None,
        answer => Some(answer),
    }
}

/// An envelope of what the system does by itself; the key is still to come.
fn blank(target: Target, command: Command) -> CommandEnvelope {
    CommandEnvelope {
        target,
        fingerprint: Digest::of(&statehouse_contract::codec::bare(&command)),
        command,
        key: Key::Queue { ticket: "".into() },
        correlation: None,
        trace: TraceContext::default(),
        remaining_ms: DEADLINE_MS_DEFAULT,
        expected: None,
        actor: Who::system(),
        reason: None,
        attempt: 1,
    }
}
