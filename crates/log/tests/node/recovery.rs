//! The process dies at any moment; what was acknowledged is there afterwards, or the node says why not.

use std::{fs, os::unix::fs::FileExt, path::Path};

use statehouse_log::{LogError, Origin, ShardLog};
use statehouse_store::log_file::LogFileError;

use crate::bed::{SHARD, copy_all, killed, leading, open, present, put, put_large, start};

async fn resumed(folder: &Path) -> (statehouse_log::NodeLog, ShardLog) {
    let node = open(folder).await.unwrap();
    let shard = node.open_shard(SHARD, Origin::Resume).await.unwrap();
    leading(&shard).await;
    shard.read_index().await.unwrap();
    (node, shard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_entry_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (node, shard) = start(folder.path()).await;
    let mut acknowledged = 0;
    for round in 0..5 {
        for _ in 0..30 {
            put(&shard, acknowledged).await.unwrap();
            acknowledged += 1;
        }
        let copy = killed(folder.path());
        let (again, there) = resumed(copy.path()).await;
        let expected: Vec<u64> = (0..acknowledged).collect();
        assert_eq!(present(&there, acknowledged + 50), expected, "round {round}");
        put(&there, acknowledged + 10).await.unwrap();
        again.stop().await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_behind_or_gone_walk_forward_again_from_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (node, shard) = start(folder.path()).await;
    for number in 0..40 {
        put(&shard, number).await.unwrap();
    }
    let older = killed(folder.path());
    for number in 40..90 {
        put(&shard, number).await.unwrap();
    }
    let chain = shard.view().meta().unwrap().chain;
    let applied = shard.view().applied().unwrap();

    // An older state file beside the newer log.
    let behind = killed(folder.path());
    remove_state(behind.path());
    for name in ["state-1.db", "state-1.db-wal"] {
        if older.path().join(name).exists() {
            fs::copy(older.path().join(name), behind.path().join(name)).unwrap();
        }
    }
    // No state file at all.
    let gone = killed(folder.path());
    remove_state(gone.path());
    for copy in [behind, gone] {
        let (again, there) = resumed(copy.path()).await;
        assert_eq!(present(&there, 100), (0..90).collect::<Vec<_>>());
        let meta = there.view().meta().unwrap();
        assert!(meta.applied.unwrap() > applied, "the new reign has an entry of its own");
        again.stop().await;
        let _ = chain;
    }
    node.stop().await;
}

fn remove_state(folder: &Path) {
    for name in ["state-1.db", "state-1.db-wal", "state-1.db-shm"] {
        let _ = fs::remove_file(folder.join(name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_what_the_rows_have_applied_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (node, shard) = start(folder.path()).await;
    for number in 0..10 {
        put(&shard, number).await.unwrap();
    }
    let early = killed(folder.path());
    for number in 10..20 {
        put(&shard, number).await.unwrap();
    }
    let copy = killed(folder.path());
    node.stop().await;
    for name in ["log.db", "log.db-wal"] {
        let _ = fs::remove_file(copy.path().join(name));
        if early.path().join(name).exists() {
            fs::copy(early.path().join(name), copy.path().join(name)).unwrap();
        }
    }
    let node = open(copy.path()).await.unwrap();
    let error = node.open_shard(SHARD, Origin::Resume).await.err().expect("the log is behind");
    assert!(matches!(error, LogError::Behind { shard: SHARD, .. }), "{error}");
    assert!(error.to_string().contains("cluster restore"), "{error}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_of_the_log_is_named_and_never_applied() {
    let folder = tempfile::tempdir().unwrap();
    let (node, shard) = start(folder.path()).await;
    let mut place = 0;
    for number in 0..10 {
        place = put_large(&shard, number, 500).await.unwrap().position;
    }
    node.stop().await;
    drop((node, shard));
    let log = folder.path().join("log.db");
    let bytes = fs::read(&log).unwrap();
    let file = fs::File::options().write(true).open(&log).unwrap();
    let name = b"t-9";
    for at in (0..bytes.len() - 3).filter(|at| &bytes[*at..*at + 3] == name) {
        file.write_all_at(b"t-8", at as u64).unwrap();
    }
    let error = open(folder.path()).await.err().expect("the record is damaged");
    let LogError::File(LogFileError::Damaged { shard, index, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*shard, *index), (SHARD, place));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_write_ahead_file_stops_the_start_and_names_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let (node, shard) = start(folder.path()).await;
    for number in 0..30 {
        put(&shard, number).await.unwrap();
    }
    let copy = killed(folder.path());
    node.stop().await;
    let wal = copy.path().join("log.db-wal");
    let file = fs::File::options().write(true).open(&wal).unwrap();
    file.write_all_at(b"damage", 32 + 5 * (24 + 4_096) + 2_000).unwrap();
    let error = open(copy.path()).await.err().expect("frames follow the bad one");
    let LogError::File(source) = &error else { panic!("{error:?}") };
    assert!(matches!(source, LogFileError::Doubtful { .. }), "{source}");
    assert!(source.to_string().contains("cluster restore"), "{source}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_on_the_same_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (node, _shard) = start(folder.path()).await;
    let copy = tempfile::tempdir().unwrap();
    copy_all(folder.path(), copy.path());
    let error = statehouse_store::NodeDir::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    node.stop().await;
}
