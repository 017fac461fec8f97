//! The engine's own storage suite over our log file and the store's rows.
//!
//! The suite applies entries with gaps between them, which the store refuses by design; so the rows of
//! this test are padded with blanks where the suite leaves something out.

use std::sync::{Arc, atomic::AtomicBool};

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;

use statehouse_contract::{Build, NodeId, ShardId};
use statehouse_store::{
    Applied, Committed, NodeDir, StoreError, View,
    log_file::{LogFile, LogFileOptions, LogPosition, LogState},
};

use crate::{
    applier,
    engine::{AppliedMark, Engine},
    error::Failure,
    log_storage::ShardStorage,
    room::Room,
    rows::{Rows, SnapshotFile, Snapshots, Standing},
    state_machine::ShardMachine,
    store_rows::StoreRows,
    tail::Tail,
    writer,
};

const SHARD: ShardId = ShardId(3);

/// Rows that take gaps.
struct Padded(StoreRows);

impl Rows for Padded {
    fn standing(&self) -> Result<Standing, StoreError> {
        self.0.standing()
    }

    fn apply(&mut self, batch: &[Committed<'_>], mark: &[u8]) -> Result<Vec<Applied>, StoreError> {
        let mut next = self.0.standing()?.applied.map_or(0, |applied| applied + 1);
        let mut padded = Vec::new();
        for committed in batch {
            while next < committed.position {
                padded.push(Committed { position: next, term: committed.term, entry: None });
                next += 1;
            }
            padded.push(*committed);
            next = next.max(committed.position + 1);
        }
        let wanted = |applied: &Applied| batch.iter().any(|c| c.position == applied.position);
        Ok(self.0.apply(&padded, mark)?.into_iter().filter(wanted).collect())
    }

    fn snapshots(&self) -> Box<dyn Snapshots> {
        self.0.snapshots()
    }

    fn install(&mut self, snapshot: &SnapshotFile) -> Result<(), StoreError> {
        self.0.install(snapshot)
    }

    fn synced(&self) -> Option<u64> {
        self.0.synced()
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.0.sync()
    }

    fn view(&self) -> Option<View> {
        self.0.view()
    }
}

struct Builder;

impl StoreBuilder<Engine, ShardStorage, ShardMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, ShardStorage, ShardMachine), StorageError<Engine>> {
        let folder = tempfile::tempdir().unwrap();
        let data = NodeDir::open(folder.path()).unwrap();
        let file = LogFile::open(&LogFileOptions {
            path: folder.path().join("log.db"),
            wal_bytes_max: 1 << 20,
            pages_max: None,
        })
        .unwrap();
        let tail = Arc::new(Tail::new(&file.state(SHARD)));
        let tails = writer::Tails::default();
        tails.lock().unwrap().insert(SHARD, Arc::clone(&tail));
        let (room, failure) = (Arc::new(Room::default()), Failure::new());
        let (writer, _) =
            writer::start(file, tails, (Arc::clone(&room), Arc::default()), failure.clone())
                .unwrap();
        let rows = Padded(StoreRows::open(&data, SHARD, Build::THIS).unwrap());
        let mark = AppliedMark::default();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let own = (SHARD, NodeId { number: 1, incarnation: 1 });
        let (applier, _) =
            applier::start(own, Box::new(rows), mark, room, failure, is_stopping).unwrap();
        let storage = ShardStorage::new(SHARD, tail, writer.clone());
        // The suite applies what it has not appended.
        let last = Some(LogPosition { term: 0, index: u64::MAX - 1 });
        let whole = Arc::new(Tail::new(&LogState { last, ..LogState::default() }));
        let machine = ShardMachine::new(SHARD, applier, writer, whole, Arc::default());
        Ok((folder, storage, machine))
    }
}

#[test]
fn the_engines_own_storage_suite_passes() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}

#[test]
fn an_engine_id_is_read_back_as_the_node() {
    let node = NodeId { number: 7, incarnation: 3 };
    assert_eq!(crate::proposal::node(node.raft()), node);
}
