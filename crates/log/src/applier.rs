//! The thread that applies a shard's entries to its rows.
//!
//! The engine hands over what is committed and goes on; whatever has queued meanwhile becomes one
//! transaction. Proposals are answered, and the applied position announced, only when the transaction is
//! over, so the engine's own idea of "applied" may run ahead and is used for nothing.
//!
//! When the disk is full the batch is tried again until there is room. Any other failure ends the
//! replica: nothing more is applied and nobody is answered.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use openraft::{EntryPayload, storage::ApplyResponder};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, warn};

use statehouse_contract::{
    NodeId, ShardId, limits,
    mutant::{self, Mutant},
};
use statehouse_store::{
    Applied, Body, Chain, Committed, Entry, Outcome, StoreError, View, log_file::LogPosition,
};

use statehouse_telemetry::{Leg, Span};

use crate::{
    engine::{self, AppliedMark, Engine, EngineEntry},
    error::{Failure, LogError},
    room::Room,
    rows::{Rows, SnapshotFile, Snapshots},
};

/// Hand-overs of the engine that may wait: enough to fill a transaction while one is written.
const TASKS_MAX: usize = 64;
/// Entries after which a transaction is closed.
const BATCH_ENTRIES_MAX: usize = 512;
const FULL_RETRY: Duration = Duration::from_millis(100);
/// Of so many positions one is left out, under the mutant that leaves some out.
const LEFT_OUT_EVERY: u64 = 16;

/// An entry with whoever waits for it.
pub(crate) type Item = (EngineEntry, Option<ApplyResponder<Engine>>);
type Reply<T> = oneshot::Sender<Result<T, Arc<LogError>>>;

enum Task {
    Apply(Vec<Item>),
    Mark(Reply<AppliedMark>),
    Snapshots(Reply<Arc<dyn Snapshots>>),
    Synced(Effort, Reply<Option<u64>>),
    Install(SnapshotFile, Reply<()>),
    Stop,
}

/// How hard to try to sync the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Only say how far they are.
    Look,
    /// Write everything back now, whoever waits.
    Force,
}

/// The way to the applier. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApplierHandle {
    tasks: mpsc::Sender<Task>,
    applied: watch::Receiver<Option<u64>>,
    view: watch::Receiver<Option<View>>,
    marker: watch::Receiver<Option<Marker>>,
    failed: Failure,
}

/// The last marker that was applied: its position, and the fingerprint of all rows there.
pub(crate) type Marker = (u64, Chain);

impl ApplierHandle {
    /// Announces the last marker.
    pub(crate) fn marker(&self) -> watch::Receiver<Option<Marker>> {
        self.marker.clone()
    }

    /// Hands entries over; they are answered when they are applied.
    pub(crate) async fn apply(&self, items: Vec<Item>) -> io::Result<()> {
        if let Some(failure) = self.failed.get() {
            return Err(io::Error::other(failure));
        }
        self.tasks.send(Task::Apply(items)).await.map_err(|_| io::Error::other(LogError::Stopped))
    }

    /// Returns the mark of what is applied, after everything that was handed over before.
    pub(crate) async fn mark(&self) -> io::Result<AppliedMark> {
        self.ask(Task::Mark).await
    }

    pub(crate) async fn snapshots(&self) -> io::Result<Arc<dyn Snapshots>> {
        self.ask(Task::Snapshots).await
    }

    /// Returns the position up to which a power cut cannot take anything back.
    pub(crate) async fn synced(&self, effort: Effort) -> io::Result<Option<u64>> {
        self.ask(|reply| Task::Synced(effort, reply)).await
    }

    /// Returns the right to read the rows as they are now; another one after a snapshot was installed.
    pub(crate) fn view(&self) -> Option<View> {
        self.view.borrow().clone()
    }

    pub(crate) async fn install(&self, snapshot: SnapshotFile) -> io::Result<()> {
        self.ask(|reply| Task::Install(snapshot, reply)).await
    }

    async fn ask<T>(&self, task: impl FnOnce(Reply<T>) -> Task) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Err(Arc::new(LogError::Stopped));
        let answer = match self.tasks.send(task(reply)).await {
            Ok(()) => answer.await.unwrap_or_else(|_| stopped()),
            Err(_) => stopped(),
        };
        answer.map_err(io::Error::other)
    }

    /// Returns what ended the rows, as soon as something has.
    pub(crate) fn failure(&self) -> Failure {
        self.failed.clone()
    }

    /// Ends the rows because a reader has found them damaged: they answer nothing any more.
    pub(crate) fn set_aside(&self, shard: ShardId, source: StoreError) {
        let damage = LogError::Rows { shard, source };
        error!(
            %shard,
            error = &damage as &dyn std::error::Error,
            "a damaged row was read; this replica is set aside"
        );
        self.failed.set(damage);
    }

    /// Announces the applied position.
    pub(crate) fn applied(&self) -> watch::Receiver<Option<u64>> {
        self.applied.clone()
    }

    /// Asks the thread to end after what is queued.
    pub(crate) async fn stop(&self) {
        let _ = self.tasks.send(Task::Stop).await;
    }
}

struct Applier {
    shard: ShardId,
    node: NodeId,
    rows: Box<dyn Rows>,
    mark: AppliedMark,
    tasks: mpsc::Receiver<Task>,
    applied: watch::Sender<Option<u64>>,
    view: watch::Sender<Option<View>>,
    marker: watch::Sender<Option<Marker>>,
    room: Arc<Room>,
    failure: Failure,
    failed: Failure,
    is_stopping: Arc<AtomicBool>,
}

/// Starts the thread that owns `rows`. It gives up waiting for room once `is_stopping` is set.
pub(crate) fn start(
    (shard, node): (ShardId, NodeId),
    rows: Box<dyn Rows>,
    mark: AppliedMark,
    room: Arc<Room>,
    failure: Failure,
    is_stopping: Arc<AtomicBool>,
) -> io::Result<(ApplierHandle, JoinHandle<()>)> {
    let (sender, tasks) = mpsc::channel(TASKS_MAX);
    let (applied, seen) = watch::channel(mark.position.map(|position| position.index));
    let failed = Failure::new();
    let (view, views) = watch::channel(rows.view());
    let (marker, markers) = watch::channel(None);
    let handle = ApplierHandle {
        tasks: sender,
        applied: seen,
        view: views,
        marker: markers,
        failed: failed.clone(),
    };
    let applier = Applier {
        shard,
        node,
        rows,
        mark,
        tasks,
        applied,
        view,
        marker,
        room,
        failure,
        failed,
        is_stopping,
    };
    let thread = std::thread::Builder::new()
        .name(format!("log-apply-{shard}"))
        .spawn(move || applier.run())?;
    Ok((handle, thread))
}

/// One entry on its way through a transaction.
struct Step {
    position: LogPosition,
    entry: Option<Arc<Entry>>,
    responder: Option<ApplyResponder<Engine>>,
}

impl Applier {
    fn run(mut self) {
        let mut kept = None;
        while let Some(task) = kept.take().or_else(|| self.tasks.blocking_recv()) {
            match task {
                Task::Apply(mut items) => {
                    while items.len() < BATCH_ENTRIES_MAX && kept.is_none() {
                        match self.tasks.try_recv() {
                            Ok(Task::Apply(more)) => items.extend(more),
                            Ok(other) => kept = Some(other),
                            Err(_) => break,
                        }
                    }
                    self.apply(items);
                }
                Task::Mark(reply) => {
                    let _ = reply.send(self.standing().map(|()| self.mark.clone()));
                }
                Task::Snapshots(reply) => {
                    let _ = reply.send(self.standing().map(|()| self.rows.snapshots().into()));
                }
                Task::Synced(effort, reply) => {
                    let _ = reply.send(self.synced(effort));
                }
                Task::Install(snapshot, reply) => {
                    let _ = reply.send(self.install(&snapshot));
                }
                Task::Stop => break,
            }
        }
        debug!(shard = %self.shard, "the applier has stopped");
    }

    fn standing(&self) -> Result<(), Arc<LogError>> {
        self.failed.get().map_or(Ok(()), Err)
    }

    fn apply(&mut self, items: Vec<Item>) {
        if self.failed.get().is_some() {
            return;
        }
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let (mut steps, mut bytes) = (Vec::new(), 0);
            while steps.len() < BATCH_ENTRIES_MAX && bytes < limits::LOG_BATCH_BYTES_MAX {
                let Some((entry, responder)) = items.next() else { break };
                match self.step(entry, responder) {
                    Ok((step, size)) => {
                        steps.push(step);
                        bytes += size;
                    }
                    Err(error) => return self.fail(error),
                }
            }
            if let Err(error) = self.transact(steps) {
                return self.fail(error);
            }
        }
    }

    /// Decodes an entry and takes what concerns the log alone into the mark.
    fn step(
        &mut self,
        entry: EngineEntry,
        responder: Option<ApplyResponder<Engine>>,
    ) -> Result<(Step, usize), LogError> {
        let position = engine::position(&entry.log_id);
        let (entry, bytes) = match &entry.payload {
            EntryPayload::Blank => (None, 0),
            EntryPayload::Membership(members) => {
                self.mark.set_members(position, members);
                (None, 0)
            }
            EntryPayload::Normal(proposed) => {
                let entry = proposed.entry().map_err(|why| LogError::Disagree {
                    shard: self.shard,
                    what: format!("entry {} cannot be read: {why}", position.index),
                })?;
                (Some(entry), proposed.frame.len())
            }
        };
        self.mark.position = Some(position);
        Ok((Step { position, entry, responder }, bytes))
    }

    fn transact(&mut self, steps: Vec<Step>) -> Result<(), LogError> {
        let batch: Vec<Committed<'_>> = steps
            .iter()
            .map(|step| Committed {
                position: step.position.index,
                term: step.position.term,
                entry: step.entry.as_deref().filter(|entry| !self.leaves_out(step, entry)),
            })
            .collect();
        let mark = self.mark.encode();
        let spans = spans(self.shard, &steps);
        let applied = loop {
            match self.rows.apply(&batch, &mark) {
                Ok(applied) => break applied,
                Err(StoreError::StorageFull { .. })
                    if !self.is_stopping.load(Ordering::Relaxed) =>
                {
                    if self.room.write_was_refused() {
                        warn!(shard = %self.shard, "the disk is full: the rows wait for room");
                    }
                    std::thread::sleep(FULL_RETRY);
                }
                Err(source) => return Err(LogError::Rows { shard: self.shard, source }),
            }
        };
        drop(spans);
        self.room.write_succeeded();
        let marked = applied.iter().rev().find_map(|one| match &one.outcome {
            Outcome::Written(written) => Some((one.position, written.state?)),
            _ => None,
        });
        if let Some(last) = marked {
            self.marker.send_replace(Some(last));
        }
        self.applied.send_replace(self.mark.position.map(|position| position.index));
        answer(steps, applied);
        Ok(())
    }

    /// A deliberate bug: node 2 leaves out some of what others have decided.
    fn leaves_out(&self, step: &Step, entry: &Entry) -> bool {
        mutant::is(Mutant::ApplySkipsEntry)
            && self.node.number == 2
            && step.responder.is_none()
            && step.position.index.is_multiple_of(LEFT_OUT_EVERY)
            && matches!(entry.body, Body::Transitioned(_))
    }

    fn synced(&mut self, effort: Effort) -> Result<Option<u64>, Arc<LogError>> {
        self.standing()?;
        if effort == Effort::Force
            && let Err(source) = self.rows.sync()
        {
            // A full disk is no failure here: whoever asked tries again later.
            if !matches!(source, StoreError::StorageFull { .. }) {
                self.fail(LogError::Rows { shard: self.shard, source });
                self.standing()?;
            }
        }
        Ok(self.rows.synced())
    }

    fn install(&mut self, snapshot: &SnapshotFile) -> Result<(), Arc<LogError>> {
        self.standing()?;
        let mark = AppliedMark::decode(&snapshot.standing.mark).map_err(|why| {
            Arc::new(LogError::Disagree {
                shard: self.shard,
                what: format!("snapshot mark: {why}"),
            })
        })?;
        loop {
            match self.rows.install(snapshot) {
                Ok(()) => break,
                // The engine could only die of it: it has given its log up for this copy already.
                Err(StoreError::StorageFull { .. })
                    if !self.is_stopping.load(Ordering::Relaxed) =>
                {
                    if self.room.write_was_refused() {
                        warn!(shard = %self.shard, "the disk is full: a copy waits for room");
                    }
                    std::thread::sleep(FULL_RETRY);
                }
                Err(source) => {
                    self.fail(LogError::Rows { shard: self.shard, source });
                    return self.standing();
                }
            }
        }
        self.mark = mark;
        self.view.send_replace(self.rows.view());
        self.applied.send_replace(self.mark.position.map(|position| position.index));
        Ok(())
    }

    fn fail(&self, failure: LogError) {
        error!(
            shard = %self.shard,
            error = &failure as &dyn std::error::Error,
            "the rows failed; this replica has stopped"
        );
        let ends_process =
            matches!(&failure, LogError::Rows { source: StoreError::Fatal { .. }, .. });
        let failure = self.failed.set(failure);
        if ends_process {
            self.failure.share(failure);
        }
    }
}

/// Opens a span for each entry whose trace is sampled; it is as long as the transaction.
fn spans(shard: ShardId, steps: &[Step]) -> Vec<Span> {
    let open = |step: &Step| {
        let trace = &step.entry.as_ref()?.header.trace;
        let span = Span::open(Leg::Apply, trace);
        if !span.is_real() {
            return None;
        }
        span.set("statehouse.shard", i64::from(shard.0));
        span.set("statehouse.position", i64::try_from(step.position.index).unwrap_or(i64::MAX));
        span.set("statehouse.batch", i64::try_from(steps.len()).unwrap_or(i64::MAX));
        Some(span)
    };
    steps.iter().filter_map(open).collect()
}

fn answer(steps: Vec<Step>, applied: Vec<Applied>) {
    for (step, applied) in steps.into_iter().zip(applied) {
        if let Some(responder) = step.responder {
            responder.send(step.entry.is_some().then_some(applied));
        }
    }
}
