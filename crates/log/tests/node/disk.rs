//! A full disk refuses and heals; the reserve is for what heals.

use std::{sync::Arc, time::Duration};

use statehouse_contract::codec;
use statehouse_log::{
    LogOptions, LogRequest, LogResponse, NoPeers, NodeLog, Origin, ProposeError, Reserve, Urgency,
    transport::Appended,
};
use statehouse_store::log_file::{LogPosition, LogRecord, RecordKind, StoredVote};

use crate::bed::{
    SHARD, entry, found, is_written, killed, leading, options, present, put, put_large, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_commands_are_refused_below_the_reserve_and_healing_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let reserve_bytes = Reserve::Bytes(u64::MAX);
    let options = LogOptions { reserve_bytes, ..options(folder.path()) };
    let node = NodeLog::open(options, Arc::new(NoPeers)).await.unwrap();
    let shard = node.open_shard(SHARD, found()).await.unwrap();
    let term = leading(&shard).await;
    assert!(node.is_storage_full());
    assert_eq!(put(&shard, 1).await.unwrap_err(), ProposeError::StorageFull);
    let healing = shard.propose(entry(term, 2, 0), Urgency::Healing).await.unwrap();
    assert!(is_written(&healing));
    assert_eq!(present(&shard, 5), [2]);
    shard.read_index().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_is_made_of_its_own_accord_while_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    for (reserve_bytes, is_made) in [(Reserve::Bytes(u64::MAX), false), (Reserve::Bytes(0), true)] {
        let options = LogOptions { reserve_bytes, snapshot_every: 20, ..options(folder.path()) };
        let node = NodeLog::open(options, Arc::new(NoPeers)).await.unwrap();
        let shard = node.open_shard(SHARD, found()).await.unwrap();
        let term = leading(&shard).await;
        for number in 0..300 {
            let healing = shard.propose(entry(term, number, 0), Urgency::Healing).await;
            assert!(is_written(&healing.unwrap()));
        }
        if is_made {
            until("there is room and a snapshot", || shard.numbers().snapshot.is_some()).await;
        }
        let files = std::fs::read_dir(folder.path().join("snapshots")).unwrap().count();
        assert_eq!(files > 0, is_made, "{files} files");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_room_answers_nothing_it_has_not_written_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let options_of = |pages| LogOptions { log_pages_max: pages, ..options(folder.path()) };
    let node = NodeLog::open(options_of(Some(60)), Arc::new(NoPeers)).await.unwrap();
    let shard = node.open_shard(SHARD, found()).await.unwrap();
    leading(&shard).await;
    let mut acknowledged = 0;
    let patience = Duration::from_secs(2);
    loop {
        let put = put_large(&shard, acknowledged, 4_000);
        match tokio::time::timeout(patience, put).await {
            Ok(Ok(_)) => acknowledged += 1,
            // The one that met the full disk is kept by the log; its caller waits.
            Err(_) => break,
            Ok(Err(error)) => panic!("{error}"),
        }
    }
    assert!(acknowledged > 5);
    until("the log says that it is full", || node.is_storage_full()).await;
    assert_eq!(put(&shard, 1_000).await.unwrap_err(), ProposeError::StorageFull);
    assert_eq!(present(&shard, 1_000).len() as u64, acknowledged, "reads are served");
    let copy = killed(folder.path());
    node.stop().await;
    drop((node, shard));

    let roomy = options(copy.path());
    let node = NodeLog::open(roomy, Arc::new(NoPeers)).await.unwrap();
    let shard = node.open_shard(SHARD, Origin::Resume).await.unwrap();
    leading(&shard).await;
    shard.read_index().await.unwrap();
    let there = present(&shard, 1_000);
    assert_eq!(
        there[..usize::try_from(acknowledged).unwrap()],
        (0..acknowledged).collect::<Vec<_>>()
    );
    put(&shard, 2_000).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_committed_is_applied_only_when_it_is_on_the_own_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { log_pages_max: Some(60), ..options(folder.path()) };
    let node = NodeLog::open(options, Arc::new(NoPeers)).await.unwrap();
    let shard = node.open_shard(SHARD, Origin::Resume).await.unwrap();
    let at = |index| LogPosition { term: 5, index };
    let vote = StoredVote { term: 5, node: 2 << 32 | 1, is_granted: true };
    let mut unanswered = None;
    for index in 0..100 {
        let frame = codec::encode(&entry(5, index, 4_000)).unwrap().into();
        let request = LogRequest::Append {
            vote,
            previous: index.checked_sub(1).map(at),
            records: vec![LogRecord { position: at(index), kind: RecordKind::Entry, frame }],
            // A majority has it: the leader and somebody else.
            committed: Some(at(index)),
            echo: 0,
        };
        match tokio::time::timeout(Duration::from_secs(2), shard.receive(request)).await {
            Ok(answer) => {
                let answer = answer.unwrap();
                assert!(
                    matches!(answer, LogResponse::Append { ended: Appended::Whole, .. }),
                    "{answer:?}"
                );
            }
            Err(_) => {
                unanswered = Some(index);
                break;
            }
        }
    }
    let first_lost = unanswered.expect("the disk is full before the last one");
    until("the log says that it is full", || node.is_storage_full()).await;
    let last_kept = first_lost.checked_sub(1);
    until("what is on the disk is applied", || *shard.applied().borrow() == last_kept).await;
    assert_eq!(present(&shard, 100).len() as u64, first_lost, "and nothing else");
    // A heartbeat would be answered when the entries before it are on the disk: nobody waits here for that.
    let previous = last_kept.map(at);
    let heartbeat =
        LogRequest::Append { vote, previous, records: Vec::new(), committed: previous, echo: 0 };
    let answered = tokio::time::timeout(Duration::from_secs(20), shard.receive(heartbeat)).await;
    let why = answered.expect("the question ends by itself").unwrap_err().to_string();
    assert!(why.contains("the log waits for its disk"), "{why}");
    node.stop().await;
}
