//! The batches of the cluster: an organ of shard 0's leader that says one verb to many instances.
//!
//! It takes a page of the list, writes down whom it will tell, says the verb to each of them under a key that belongs to the
//! batch, and writes down what became of them. A crash in between tells the same ones again under the same keys, so nobody
//! is told twice; an instance whose answer nobody knows holds the page back until somebody does.
//!
//! Absent on purpose: which instances and what they are told; `batch.rs` says that.
//!
//! Invariants: one verb per batch and instance; progress is written only onto the document from which it was worked out;
//! at most `rate` instances a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use statehouse_contract::{
    Actor as Who, Answer, Command, CommandEnvelope, Digest, InstanceId, InstanceKey, Json, Key,
    KeyText, Query, ReceiptKind, Rejection, RoleName, Target, TenantId, TraceContext,
    limits::{BATCH_AT_ONCE_MAX, DEADLINE_MS_DEFAULT, PAGE_MAX},
};
use tracing::{info, warn};

use crate::{
    Door,
    batch::{Batch, Ending, Endings, NOTHING_TO_DO, Page},
    message::BatchMessage,
    reading::RowsError,
    reign::Reign,
};

/// How often batches are looked at.
const EVERY: Duration = Duration::from_millis(250);
/// How often the same progress is tried to be written onto a document that has changed.
const WRITES_MAX: u32 = 4;

/// The actor that carries batches out.
#[derive(Debug)]
pub(crate) struct Batches;

/// A batch's name.
type Name = (TenantId, Box<str>);

/// What it knows.
pub(crate) struct BatchesState {
    reign: Arc<Reign>,
    /// Batches that run, with how many instances each may be told now, and since when; nothing until the rows were read.
    running: Option<BTreeMap<Name, (f64, Instant)>>,
}

impl Actor for Batches {
    type Msg = BatchMessage;
    type State = BatchesState;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        reign.seat().hints().batches.heard_by(myself.clone());
        drop(myself.send_interval(EVERY, || BatchMessage::Look));
        Ok(BatchesState { reign, running: None })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BatchMessage::Look => {}
            BatchMessage::Changed => {
                state.reign.seat().hints().batches.taken();
                state.find_running();
            }
        }
        if let Err(why) = state.look().await {
            warn!(%why, "batches cannot be read");
        }
        Ok(())
    }
}

impl BatchesState {
    async fn look(&mut self) -> Result<(), RowsError> {
        if self.running.is_none() {
            self.find_running();
        }
        let names: Vec<Name> =
            self.running.iter().flatten().map(|(name, _)| name.clone()).collect();
        for (tenant, name) in names {
            self.step(&tenant, &name).await?;
        }
        Ok(())
    }

    /// Reads which batches run; what each of them may do now is kept.
    fn find_running(&mut self) {
        let found = match self.all_running() {
            Ok(found) => found,
            Err(why) => {
                warn!(%why, "batches cannot be read");
                self.running = None;
                return;
            }
        };
        let before = self.running.take().unwrap_or_default();
        let fresh = (0.0, Instant::now());
        let own = |name: Name| {
            let credit = before.get(&name).copied().unwrap_or(fresh);
            (name, credit)
        };
        self.running = Some(found.into_iter().map(own).collect());
    }

    fn all_running(&self) -> Result<BTreeSet<Name>, RowsError> {
        let view = self.reign.seat().log().view();
        let mut running = BTreeSet::new();
        for tenant in view.tenants()? {
            for row in view.batches(&tenant.tenant)? {
                if Batch::read(row.document.as_str()).is_some_and(|batch| batch.is_running()) {
                    running.insert((tenant.tenant.clone(), row.name));
                }
            }
        }
        Ok(running)
    }

    fn read(&self, tenant: &TenantId, name: &str) -> Result<Option<(Batch, Digest)>, RowsError> {
        let rows = self.reign.seat().log().view().batches(tenant)?;
        let Some(row) = rows.into_iter().find(|row| *row.name == *name) else { return Ok(None) };
        let was = Digest::of(row.document.as_str().as_bytes());
        Ok(Batch::read(row.document.as_str()).map(|batch| (batch, was)))
    }

    /// Takes the next page of a batch.
    async fn step(&mut self, tenant: &TenantId, name: &str) -> Result<(), RowsError> {
        let key = (tenant.clone(), Box::from(name));
        let batch = match self.read(tenant, name)? {
            Some((batch, _)) if batch.is_running() => batch,
            Some(_) | None => {
                if let Some(running) = &mut self.running {
                    running.remove(&key);
                }
                return Ok(());
            }
        };
        let batch = if batch.state.telling.is_empty() {
            let Some(room) = self.room(&key, batch.spec.rate) else { return Ok(()) };
            let Some(page) = self.page(tenant, &batch, room).await else { return Ok(()) };
            self.spend(&key, page.telling.len());
            let now = self.reign.now();
            let taken = |batch: &mut Batch| batch.take(page.clone(), now);
            match self.write(tenant, name, taken).await? {
                Some(batch) => batch,
                None => return Ok(()),
            }
        } else {
            // Somebody before us has planned to tell these, and has perhaps told some.
            batch
        };
        let told = &batch.state.telling;
        if told.is_empty() {
            return Ok(());
        }
        let Some(endings) = self.tell_all(tenant, name, &batch).await else { return Ok(()) };
        let now = self.reign.now();
        self.write(tenant, name, |batch| batch.take_in(told, endings.clone(), now)).await?;
        Ok(())
    }

    /// Returns how many instances a batch may be told now; nothing if none.
    fn room(&mut self, key: &Name, rate: u32) -> Option<u32> {
        let (credit, since) = self.running.as_mut()?.get_mut(key)?;
        let earned = since.elapsed().as_secs_f64() * f64::from(rate);
        // What was not used for a second is not saved up.
        *credit = (*credit + earned).min(f64::from(rate));
        *since = Instant::now();
        (*credit >= 1.0).then_some((*credit as u32).min(PAGE_MAX))
    }

    fn spend(&mut self, key: &Name, told: usize) {
        if let Some((credit, _)) = self.running.as_mut().and_then(|running| running.get_mut(key)) {
            *credit -= u32::try_from(told).map_or(f64::MAX, f64::from);
        }
    }

    /// Finds the next page of instances; nothing while some shard does not answer.
    async fn page(&self, tenant: &TenantId, batch: &Batch, room: u32) -> Option<Page> {
        let filter = batch.spec.page(tenant, batch.state.cursor.as_deref(), room);
        let Ok(Answer::Instances(found)) =
            self.reign.seat().ground().carried.query(Query::Instances(filter)).await
        else {
            return None;
        };
        let next = found.page.has_more.then_some(found.page.end_cursor).flatten();
        Some(batch.plan(&found.items, next))
    }

    /// Says the verb to those who are to be told. Nothing while nobody knows some answer.
    async fn tell_all(&self, tenant: &TenantId, name: &str, batch: &Batch) -> Option<Endings> {
        // One that is to stop at the first refusal must not be told on behind it.
        let at_once = if batch.spec.stops() { 1 } else { BATCH_AT_ONCE_MAX };
        let mut answers = stream::iter(batch.state.telling.clone())
            .map(|instance| async move {
                let ending = self.tell(tenant, name, batch, &instance).await;
                (instance, ending)
            })
            .buffered(at_once);
        let mut endings = Endings::new();
        while let Some((instance, ending)) = answers.next().await {
            let ending = ending?;
            let is_refused = matches!(ending, Ending::Refused { .. });
            endings.push((instance, ending));
            if is_refused && batch.spec.stops() {
                break;
            }
        }
        Some(endings)
    }

    /// Says the verb to one instance; nothing while nobody knows the answer.
    async fn tell(
        &self,
        tenant: &TenantId,
        name: &str,
        batch: &Batch,
        instance: &InstanceId,
    ) -> Option<Ending> {
        let spec = &batch.spec;
        let Some(verb) = spec.verb_for(name, instance) else {
            return Some(Ending::Left { why: NOTHING_TO_DO });
        };
        let key = KeyText::parse(&format!("batch-{name}-{}", batch.state.began)).ok()?;
        let command = Command::Operate(verb);
        let roles = batch.state.roles.iter().filter_map(|role| RoleName::parse(role).ok());
        let envelope = CommandEnvelope {
            target: Target::Instance(InstanceKey {
                tenant: tenant.clone(),
                instance: instance.clone(),
            }),
            fingerprint: Digest::of(&statehouse_contract::codec::bare(&command)),
            command,
            key: Key::Operator(key),
            correlation: None,
            trace: TraceContext::default(),
            remaining_ms: DEADLINE_MS_DEFAULT,
            expected: None,
            actor: Who { name: batch.state.by.as_str().into(), roles: roles.collect() },
            reason: Some(spec.reason_in(name).into()),
            attempt: 1,
        };
        let carried = &self.reign.seat().ground().carried;
        let answer = if spec.dry_run {
            match carried.query(Query::DryRun(Box::new(envelope))).await {
                Ok(Answer::Receipt(receipt)) => Ok(*receipt),
                Ok(_) => return None,
                Err(no) => Err(no),
            }
        } else {
            carried.submit(envelope).await
        };
        let (code, detail) = match answer {
            Ok(receipt) => match receipt.kind {
                ReceiptKind::Refused(code) => {
                    let told: serde_json::Value =
                        serde_json::from_str(receipt.body.as_str()).unwrap_or_default();
                    (code, told["detail"].as_str().unwrap_or_default().to_owned())
                }
                ReceiptKind::Accepted | ReceiptKind::Created | ReceiptKind::Postponed => {
                    return Some(Ending::Accepted { moved: moved(receipt.body.as_str()) });
                }
            },
            Err(no) if is_unsettled(&no) => return None,
            Err(no) => (no.code, no.detail.to_string()),
        };
        Some(if spec.is_nothing_to_do(code) {
            Ending::Left { why: code.code() }
        } else {
            Ending::Refused { code, detail }
        })
    }

    /// Writes progress down and returns the batch with it; nothing where it does not fit any more, or was not written. What an
    /// operator has written meanwhile stands; the progress comes on top of it.
    async fn write(
        &self,
        tenant: &TenantId,
        name: &str,
        progress: impl Fn(&mut Batch) -> bool,
    ) -> Result<Option<Batch>, RowsError> {
        for _ in 0..WRITES_MAX {
            let Some((mut batch, was)) = self.read(tenant, name)? else { return Ok(None) };
            if !progress(&mut batch) {
                return Ok(None);
            }
            let document = serde_json::to_string(&batch).expect("texts and numbers serialize");
            let command = Command::AdvanceBatch {
                name: name.into(),
                was,
                document: Json::from_trusted(document),
            };
            let envelope = CommandEnvelope {
                target: Target::Tenant(tenant.clone()),
                fingerprint: Digest::of(&statehouse_contract::codec::bare(&command)),
                command,
                key: Key::Queue { ticket: format!("{name}-{was}").into() },
                correlation: None,
                trace: TraceContext::default(),
                remaining_ms: DEADLINE_MS_DEFAULT,
                expected: None,
                actor: Who::system(),
                reason: None,
                attempt: 1,
            };
            if Door::of(&self.reign).register(envelope).await.is_ok() {
                if !batch.is_running() {
                    let state = &batch.state;
                    info!(%tenant, batch = name, accepted = state.accepted, refused = state.refused, "a batch has ended");
                }
                return Ok(Some(batch));
            }
        }
        // Whatever it is that was not written: the next look goes on from what is.
        Ok(None)
    }
}

/// Returns what became of an instance's states, as its answer says.
fn moved(body: &str) -> Option<String> {
    let told: serde_json::Value = serde_json::from_str(body).ok()?;
    let states = |name: &str| -> Option<String> {
        let states = told[name].as_array()?.iter().filter_map(serde_json::Value::as_str);
        Some(states.collect::<Vec<_>>().join(" "))
    };
    Some(format!("{} -> {}", states("from")?, states("to")?))
}

/// Whether the same command has to be said again.
const fn is_unsettled(no: &Rejection) -> bool {
    no.code.status() >= 500 || no.code.status() == 429
}
