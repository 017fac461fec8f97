//! Snapshots let the log be purged; a replica without rows starts from one.

use std::{fs, sync::Arc};

use statehouse_contract::Digest;
use statehouse_log::{LogOptions, NoPeers, NodeLog, Origin};
use statehouse_store::log_file::{Installing, LogFile, LogFileOptions, LogOperation, LogPosition};

use crate::bed::{SHARD, found, killed, leading, open, options, present, put, start, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_purged_below_a_snapshot_and_rows_come_back_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let (node, shard) = start(folder.path()).await;
    for number in 0..200 {
        put(&shard, number).await.unwrap();
    }
    let position = shard.snapshot().await.unwrap();
    assert!(position >= 200);
    until("the log is purged", || shard.numbers().purged == Some(position)).await;
    for number in 200..250 {
        put(&shard, number).await.unwrap();
    }
    let copy = killed(folder.path());
    node.stop().await;
    for name in ["state-1.db", "state-1.db-wal"] {
        let _ = fs::remove_file(copy.path().join(name));
    }
    let node = open(copy.path()).await.unwrap();
    let shard = node.open_shard(SHARD, Origin::Resume).await.unwrap();
    leading(&shard).await;
    shard.read_index().await.unwrap();
    assert_eq!(present(&shard, 300), (0..250).collect::<Vec<_>>());
    assert_eq!(shard.numbers().purged, Some(position));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_log_and_snapshot_below_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (node, shard) = start(folder.path()).await;
    for number in 0..50 {
        put(&shard, number).await.unwrap();
    }
    let position = shard.snapshot().await.unwrap();
    until("the log is purged", || shard.numbers().purged == Some(position)).await;
    let copy = killed(folder.path());
    node.stop().await;
    for name in ["state-1.db", "state-1.db-wal"] {
        let _ = fs::remove_file(copy.path().join(name));
    }
    fs::remove_dir_all(copy.path().join("snapshots")).unwrap();
    let node = open(copy.path()).await.unwrap();
    let error = node.open_shard(SHARD, Origin::Resume).await.err().expect("nothing to start from");
    assert!(error.to_string().contains("no snapshot is between"), "{error}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_made_after_so_many_entries_and_only_the_newest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { snapshot_every: 40, ..options(folder.path()) };
    let node = NodeLog::open(options, Arc::new(NoPeers)).await.unwrap();
    let shard = node.open_shard(SHARD, found()).await.unwrap();
    leading(&shard).await;
    let mut number = 0;
    for _ in 0..3 {
        let before = shard.numbers().snapshot;
        for _ in 0..60 {
            put(&shard, number).await.unwrap();
            number += 1;
        }
        until("a snapshot is made", || shard.numbers().snapshot > before).await;
    }
    until("the log is purged", || shard.numbers().purged == shard.numbers().snapshot).await;
    node.stop().await;
    let files = fs::read_dir(folder.path().join("snapshots")).unwrap();
    let names: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 2, "one file and its seal: {names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_does_not_put_the_next_snapshot_off() {
    let folder = tempfile::tempdir().unwrap();
    let every = || LogOptions { snapshot_every: 40, ..options(folder.path()) };
    // Neither life makes so many entries by itself.
    for life in 0..2 {
        let node = NodeLog::open(every(), Arc::new(NoPeers)).await.unwrap();
        let shard = node.open_shard(SHARD, found()).await.unwrap();
        leading(&shard).await;
        assert_eq!(shard.numbers().snapshot, None);
        for number in 0..25 {
            put(&shard, life * 25 + number).await.unwrap();
        }
        if life == 1 {
            until("a snapshot is made", || shard.numbers().snapshot.is_some()).await;
        }
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_being_put_in_place_is_put_in_place_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (node, shard) = start(folder.path()).await;
    for number in 0..30 {
        put(&shard, number).await.unwrap();
    }
    let older = killed(folder.path());
    for number in 30..60 {
        put(&shard, number).await.unwrap();
    }
    let position = shard.snapshot().await.unwrap();
    until("the log is purged", || shard.numbers().purged == Some(position)).await;
    let copy = killed(folder.path());
    let term = leading(&shard).await;
    node.stop().await;

    // What a crash leaves between the note and the exchange of the files.
    for name in ["state-1.db", "state-1.db-wal"] {
        let _ = fs::remove_file(copy.path().join(name));
        if older.path().join(name).exists() {
            fs::copy(older.path().join(name), copy.path().join(name)).unwrap();
        }
    }
    let snapshot = copy.path().join(format!("snapshots/state-1-{position}.db"));
    let hash = Digest::of(&fs::read(snapshot).unwrap());
    let installing = Some(Installing { upto: LogPosition { term, index: position }, hash });
    let mut file = LogFile::open(&LogFileOptions {
        path: copy.path().join("log.db"),
        wal_bytes_max: 1 << 20,
        pages_max: None,
    })
    .unwrap();
    file.write(&[LogOperation::Installing { shard: SHARD, installing }]).unwrap();
    drop(file);

    for _ in 0..2 {
        let node = open(copy.path()).await.unwrap();
        let shard = node.open_shard(SHARD, Origin::Resume).await.unwrap();
        assert!(shard.view().applied() >= Some(position));
        leading(&shard).await;
        shard.read_index().await.unwrap();
        assert_eq!(present(&shard, 100), (0..60).collect::<Vec<_>>());
        node.stop().await;
    }
}
