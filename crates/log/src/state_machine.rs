//! The engine's apply trait over the applier of a shard.
//!
//! `apply` hands the entries over and returns: SQLite never runs on an executor thread, and the applier
//! makes one transaction of whatever has queued.
//!
//! The engine would end the replica if it were told that a snapshot failed, and a full disk is no reason to
//! end. So snapshots are made by `keep`, on our own account; the engine is asked to "make" one when it is
//! finished, gets that one, and purges the log below it.
//!
//! A snapshot is announced only when it is synced *and* the state file is synced up to it, so whatever the
//! engine purges is held twice.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use openraft::{
    OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    storage::{EntryResponder, RaftStateMachine},
};
use statehouse_contract::ShardId;
use statehouse_store::log_file::{Installing, LogOperation};
use tracing::info;

use crate::{
    applier::{ApplierHandle, Effort, Item},
    engine::{self, AppliedMark, Engine, EngineStoredMembership, LogId, Peer, Reign},
    rows::SnapshotFile,
    tail::Tail,
    writer::WriterHandle,
};

/// How often, and how far apart, a state file is looked at before it is pushed.
const SYNC_LOOKS: usize = 10;
const SYNC_PAUSE: Duration = Duration::from_millis(50);

type Meta = SnapshotMeta<Reign, u64, Peer>;
type Taken = Snapshot<Reign, u64, Peer, SnapshotFile>;

/// One shard's rows, as the engine sees them.
pub(crate) struct ShardMachine {
    shard: ShardId,
    applier: ApplierHandle,
    writer: WriterHandle,
    tail: Arc<Tail>,
    finished: Finished,
}

/// A snapshot that is finished and of which the engine does not know yet.
pub(crate) type Finished = Arc<Mutex<Option<SnapshotFile>>>;

impl ShardMachine {
    pub(crate) fn new(
        shard: ShardId,
        applier: ApplierHandle,
        writer: WriterHandle,
        tail: Arc<Tail>,
        finished: Finished,
    ) -> Self {
        Self { shard, applier, writer, tail, finished }
    }

    /// Waits until an entry is on this node's disk. A majority may have it while this disk is slow or full, and the engine
    /// hands it over then; rows ahead of their own log would be taken for a log that has lost something.
    async fn on_own_disk(&self, index: u64) -> io::Result<()> {
        if self.tail.is_flushed(index) {
            return Ok(());
        }
        // The writer answers after everything that was queued before.
        let state = self.writer.state(self.shard).await.map_err(io::Error::other)?;
        match state.last {
            Some(last) if last.index >= index => Ok(()),
            _ => Err(io::Error::other("the log ended before it had what is committed")),
        }
    }

    /// Says in the log file that a copy is being put in place, so that a start finishes what a crash
    /// interrupted.
    async fn note(&self, installing: Option<Installing>) -> io::Result<()> {
        let operation = LogOperation::Installing { shard: self.shard, installing };
        self.writer.write_through(self.shard, operation).await
    }
}

fn taken(file: SnapshotFile) -> io::Result<Taken> {
    let mark = AppliedMark::decode(&file.standing.mark).map_err(io::Error::other)?;
    let last_membership = mark.membership().map_err(io::Error::other)?;
    let meta = Meta { last_log_id: mark.position.map(engine::log_id), last_membership };
    Ok(Snapshot { meta, snapshot: file })
}

impl RaftStateMachine<Engine> for ShardMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, EngineStoredMembership), io::Error> {
        let mark = self.applier.mark().await?;
        let members = mark.membership().map_err(io::Error::other)?;
        Ok((mark.position.map(engine::log_id), members))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Engine>, io::Error>> + Unpin + OptionalSend,
    {
        let mut items: Vec<Item> = Vec::with_capacity(entries.size_hint().0);
        while let Some(item) = entries.next().await {
            items.push(item?);
        }
        if let Some((last, _)) = items.last() {
            self.on_own_disk(last.log_id.index).await?;
        }
        self.applier.apply(items).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { applier: self.applier.clone(), finished: Arc::clone(&self.finished) }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &Meta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let mark = AppliedMark::decode(&snapshot.standing.mark).map_err(io::Error::other)?;
        let installing = mark.position.map(|upto| Installing { upto, hash: snapshot.hash });
        self.note(installing).await?;
        let (position, bytes) = (snapshot.standing.applied, snapshot.bytes);
        self.applier.install(snapshot).await?;
        // The note goes with the purge that the engine asks for now: until the log begins where the rows end, a start
        // would take it for a log that has lost something.
        info!(shard = %self.shard, position, bytes, "a copy of the leader's rows was put in place");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Taken>, io::Error> {
        let snapshots = self.applier.snapshots().await?;
        let newest = blocking(move || snapshots.newest()).await?;
        newest.map(taken).transpose()
    }
}

/// Hands the engine a finished snapshot, or makes one.
pub(crate) struct Builder {
    applier: ApplierHandle,
    finished: Finished,
}

impl RaftSnapshotBuilder<Engine> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Taken, io::Error> {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(finished) = finished {
            return taken(finished);
        }
        // The engine believes applied what was handed over: the mark waits until it is.
        let _ = self.applier.mark().await?;
        let snapshots = self.applier.snapshots().await?;
        taken(blocking(move || snapshots.build()).await?)
    }
}

/// Makes a snapshot and waits until the state file is synced up to it; what goes wrong is told to whoever
/// asked and to nobody else.
pub(crate) async fn keep(applier: &ApplierHandle) -> io::Result<SnapshotFile> {
    let snapshots = applier.snapshots().await?;
    let made = blocking(move || snapshots.build()).await?;
    // The checkpoints of a busy file get there by themselves; an idle one is pushed.
    for _ in 0..SYNC_LOOKS {
        if applier.synced(Effort::Look).await? >= made.standing.applied {
            return Ok(made);
        }
        tokio::time::sleep(SYNC_PAUSE).await;
    }
    if applier.synced(Effort::Force).await? >= made.standing.applied {
        return Ok(made);
    }
    Err(io::Error::other("the state file could not be synced up to its snapshot"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, statehouse_store::StoreError> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(io::Error::other),
        Err(panic) => Err(io::Error::other(panic)),
    }
}
