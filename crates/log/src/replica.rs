//! One shard on this node: the engine with its storage, its threads and its tasks.
//!
//! Opening judges before the engine sees anything: rows ahead of the log mean that the log has lost what
//! was acknowledged, and a gap between them would be papered over by the engine. A copy of the shard that
//! was being put in place when the process ended is put in place now.
//!
//! Everything that runs for a replica is owned here and ends with it.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use openraft::{Raft, async_runtime::WatchReceiver as _};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
};
use tracing::{info, warn};

use statehouse_contract::{NodeId, ShardId};
use statehouse_store::log_file::{LogOperation, LogState};

use crate::{
    applier::{self, ApplierHandle},
    catch_up::Incoming,
    engine::{AppliedMark, Engine, Peer},
    error::{Failure, LogError},
    freshness::Freshness,
    lag,
    leadership::{self, Leadership},
    log_storage::ShardStorage,
    measures::Measures,
    membership,
    network::{Network, Told},
    options::LogOptions,
    proposal::Slots,
    read::{self, Waiting},
    room::Room,
    rows::Rows,
    state_machine::{self, Finished, ShardMachine},
    tail::Tail,
    transport::Transport,
    writer::{Tails, WriterHandle},
};

/// How long a snapshot that failed is left alone.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(5);

/// How long an engine may take to end.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// What all replicas of a node share.
pub(crate) struct Ground {
    pub(crate) options: LogOptions,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) writer: WriterHandle,
    pub(crate) tails: Tails,
    pub(crate) room: Arc<Room>,
    pub(crate) measures: Arc<Measures>,
    pub(crate) failure: Failure,
    /// Held while a snapshot is made: one at a time on a node.
    pub(crate) snapshot_turn: Arc<Semaphore>,
}

/// Whether a shard is begun here or goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is founded with these voters, unless that was done before.
    Found(BTreeMap<NodeId, Peer>),
    /// It exists, here or elsewhere; an empty log waits for a leader.
    Resume,
}

/// One shard on this node.
pub(crate) struct Replica {
    pub(crate) shard: ShardId,
    pub(crate) node: NodeId,
    pub(crate) raft: Raft<Engine, ShardMachine>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) applied: watch::Receiver<Option<u64>>,
    pub(crate) applier: ApplierHandle,
    pub(crate) slots: Arc<Slots>,
    pub(crate) room: Arc<Room>,
    pub(crate) measures: Arc<Measures>,
    pub(crate) is_stalled: AtomicBool,
    pub(crate) is_lagging: AtomicBool,
    pub(crate) told: Told,
    pub(crate) freshness: Freshness,
    pub(crate) tail: Arc<Tail>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) reads: mpsc::Sender<Waiting>,
    pub(crate) incoming: tokio::sync::Mutex<Option<Incoming>>,
    pub(crate) incoming_path: PathBuf,
    /// How often a leader is heard of.
    pub(crate) heartbeat: Duration,
    finished: Finished,
    pub(crate) snapshot_turn: Arc<Semaphore>,
    is_stopping: Arc<AtomicBool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Opens a shard over its rows.
pub(crate) async fn open(
    ground: &Ground,
    shard: ShardId,
    mut rows: Box<dyn Rows>,
    origin: Origin,
) -> Result<Arc<Replica>, LogError> {
    let state = ground.writer.state(shard).await.map_err(LogError::Shared)?;
    let mark = judge(shard, rows.as_mut(), &state)?;
    let tail = Arc::new(Tail::new(&state));
    ground.tails.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, Arc::clone(&tail));
    let is_stopping = Arc::new(AtomicBool::new(false));
    let node = ground.options.node;
    let (applier, thread) = applier::start(
        (shard, node),
        rows,
        mark,
        Arc::clone(&ground.room),
        ground.failure.clone(),
        Arc::clone(&is_stopping),
    )
    .map_err(|source| LogError::Io {
        doing: "starting a thread for",
        path: "rows".into(),
        source,
    })?;
    let told = Told::default();
    let network =
        Network { shard, own: node, transport: Arc::clone(&ground.transport), told: told.clone() };
    let storage = ShardStorage::new(shard, Arc::clone(&tail), ground.writer.clone());
    let finished = Finished::default();
    let machine = ShardMachine::new(
        shard,
        applier.clone(),
        ground.writer.clone(),
        Arc::clone(&tail),
        Arc::clone(&finished),
    );
    let config = Arc::new(ground.options.profile.engine()?);
    let raft = Raft::new(node.raft(), config, network, storage, machine)
        .await
        .map_err(|error| LogError::Engine { shard, what: error.to_string() })?;
    let (announced, leadership) = watch::channel(Leadership::Following { leader: None });
    let (reads, waiting) = read::queue();
    let (data, profile) = (&ground.options.data, ground.options.profile);
    let replica = Arc::new(Replica {
        shard,
        node,
        raft,
        leadership,
        applied: applier.applied(),
        applier,
        slots: Arc::default(),
        room: Arc::clone(&ground.room),
        measures: Arc::clone(&ground.measures),
        is_stalled: AtomicBool::new(false),
        is_lagging: AtomicBool::new(false),
        told,
        freshness: Freshness::default(),
        tail: Arc::clone(&tail),
        transport: Arc::clone(&ground.transport),
        reads,
        incoming: tokio::sync::Mutex::new(None),
        incoming_path: data.snapshots().join(format!("incoming-{shard}-part")),
        heartbeat: profile.heartbeat(),
        finished,
        snapshot_turn: Arc::clone(&ground.snapshot_turn),
        is_stopping,
        tasks: Mutex::new(Vec::new()),
        thread: Mutex::new(Some(thread)),
    });
    replica.own([
        tokio::spawn(leadership::follow(Arc::clone(&replica), announced)),
        tokio::spawn(leadership::watchdog(Arc::clone(&replica), profile.stall())),
        tokio::spawn(lag::watch(Arc::clone(&replica), profile.lease())),
        tokio::spawn(read::serve(Arc::clone(&replica), waiting)),
        tokio::spawn(keep_snapshots(Arc::clone(&replica), ground.options.snapshot_every)),
    ]);
    let begun = async {
        forget_copy(&ground.writer, shard).await?;
        begin(&replica, origin).await
    };
    if let Err(error) = begun.await {
        // Nobody else knows of this replica, and it holds the directory.
        replica.stop().await;
        return Err(error);
    }
    Ok(replica)
}

/// Takes the note of an interrupted copy away: the engine has moved the log up to the rows by now.
async fn forget_copy(writer: &WriterHandle, shard: ShardId) -> Result<(), LogError> {
    let state = writer.state(shard).await.map_err(LogError::Shared)?;
    if state.marks.installing.is_none() {
        return Ok(());
    }
    let operation = LogOperation::Installing { shard, installing: None };
    let written = writer.write_through(shard, operation).await;
    written.map_err(|error| LogError::Engine { shard, what: error.to_string() })
}

/// Founds the shard, or stands for election at once where nobody else could.
async fn begin(replica: &Replica, origin: Origin) -> Result<(), LogError> {
    if let Origin::Found(voters) = origin {
        membership::found(replica, &voters).await?;
    }
    let own = replica.node.raft();
    let fatal = |error: openraft::errors::Fatal<Engine>| LogError::Engine {
        shard: replica.shard,
        what: error.to_string(),
    };
    let is_alone = replica
        .raft
        .with_raft_state(move |state| {
            let members = state.membership_state.effective();
            members.membership().voter_ids().eq([own]) && !state.vote_ref().is_committed()
        })
        .await
        .map_err(fatal)?;
    if is_alone {
        replica.raft.trigger().elect(false).await.map_err(fatal)?;
    }
    Ok(())
}

/// Compares rows and log, and returns the mark at which the rows stand.
fn judge(shard: ShardId, rows: &mut dyn Rows, state: &LogState) -> Result<AppliedMark, LogError> {
    let failed = |source| LogError::Rows { shard, source };
    let disagree = |what: String| LogError::Disagree { shard, what };
    let mut standing = rows.standing().map_err(failed)?;
    if let Some(installing) = state.marks.installing
        && standing.applied.is_none_or(|applied| applied < installing.upto.index)
    {
        let newest = rows.snapshots().newest().map_err(failed)?;
        // A copy that was not sealed yet has changed nothing; the leader sends it again.
        if let Some(copy) = newest.filter(|file| file.hash == installing.hash) {
            info!(%shard, upto = installing.upto.index, "putting an interrupted copy in place");
            rows.install(&copy).map_err(failed)?;
        }
        standing = rows.standing().map_err(failed)?;
    }
    let mark = AppliedMark::decode(&standing.mark)
        .map_err(|why| disagree(format!("the mark of the rows: {why}")))?;
    let marked = mark.position.map(|position| position.index);
    if marked != standing.applied {
        let applied = standing.applied;
        return Err(disagree(format!("the rows are at {applied:?}, their mark says {marked:?}")));
    }
    let last = state.last.map(|last| last.index);
    if let Some(applied) = marked
        && last < Some(applied)
        && state.marks.installing.is_none()
    {
        return Err(LogError::Behind { shard, last, applied });
    }
    let next = marked.map_or(0, |applied| applied + 1);
    let first = state.marks.purged.map_or(0, |purged| purged.index + 1);
    if next < first {
        // The engine puts a newer snapshot in place by itself; without one the gap cannot be closed.
        let newest = rows.snapshots().newest().map_err(failed)?;
        if newest.and_then(|file| file.standing.applied).is_none_or(|upto| upto + 1 < first) {
            return Err(disagree(format!(
                "the rows need entry {next}, the log begins at {first}, and no snapshot is between"
            )));
        }
    }
    Ok(mark)
}

/// Makes a snapshot after so many entries, as long as the replica lives.
async fn keep_snapshots(replica: Arc<Replica>, every: u64) {
    let mut applied = replica.applied.clone();
    let mut own = 0;
    loop {
        let position = applied.borrow_and_update().unwrap_or_default();
        // The newest one may have been made before this start, or have come from the leader.
        let newest = replica.snapshotted().max(own);
        if position >= newest + every && replica.room.takes_snapshots() {
            match replica.snapshot().await {
                Ok(position) => own = position,
                Err(error) => {
                    warn!(shard = %replica.shard, %error, "no snapshot could be made");
                    tokio::time::sleep(SNAPSHOT_RETRY).await;
                }
            }
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
}

impl Replica {
    fn own(&self, tasks: impl IntoIterator<Item = JoinHandle<()>>) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
    }

    /// Returns the position of the newest snapshot that the engine knows.
    fn snapshotted(&self) -> u64 {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        crate::handle::index(&metrics.snapshot).unwrap_or_default()
    }

    /// Makes a snapshot, lets the engine purge below it, and returns its position.
    pub(crate) async fn snapshot(&self) -> io::Result<u64> {
        let turn = Arc::clone(&self.snapshot_turn);
        let _turn = turn.acquire_owned().await.map_err(io::Error::other)?;
        let file = state_machine::keep(&self.applier).await?;
        let position = file.standing.applied.unwrap_or_default();
        info!(shard = %self.shard, position, bytes = file.bytes, "a snapshot was made");
        *self.finished.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        self.raft.trigger().snapshot().await.map_err(io::Error::other)?;
        Ok(position)
    }

    /// Ends the engine, the applier and every task of this replica.
    pub(crate) async fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        // An engine that waits for a full disk does not hear that it should end; the writer's end wakes it.
        if tokio::time::timeout(SHUTDOWN_PATIENCE, self.raft.shutdown()).await.is_err() {
            warn!(shard = %self.shard, "the engine did not end in time");
        }
        self.applier.stop().await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                warn!(shard = %self.shard, "the applier ended in a panic");
            }
        }
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}
