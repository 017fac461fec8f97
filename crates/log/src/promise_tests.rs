//! What the log promises about reads, room, copies and majorities, each shown by the order of events that would break it.
//!
//! The fellow voters here are a chorus: it says yes to everything it hears, and hears as much as the test lets it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use openraft::{
    async_runtime::WatchReceiver as _,
    errors::{ClientWriteError, ForwardReason, ForwardToLeader},
};

use statehouse_contract::{Consistency, Digest, NodeId};
use statehouse_store::log_file::{Installing, LogPosition, LogRecord, RecordKind, StoredVote};

use crate::{
    Leadership, LogError, LogRequest, Peer, ProposeError, Urgency,
    chorus::{Chorus, FULL, HEARD, SILENT, VOTERS, id},
    engine::{self, AppliedMark},
    leadership,
    network::EngineSnapshot,
    proposal, read,
    replica_tests::{
        Counted, FULL as NO_ROOM, NODE, SHARD, UNSYNCED, leading, marker, start, start_with, until,
    },
    rows::{SnapshotFile, Standing},
};

/// Holds the rows until the returned sender is dropped.
fn hold(rows: &Counted) -> std::sync::mpsc::SyncSender<()> {
    let gate = Arc::clone(&rows.held);
    let (held, is_held) = std::sync::mpsc::sync_channel(1);
    let (release, is_released) = std::sync::mpsc::sync_channel::<()>(1);
    std::thread::spawn(move || {
        let _guard = gate.lock().unwrap();
        held.send(()).unwrap();
        let _ = is_released.recv();
    });
    is_held.recv().unwrap();
    release
}

/// Proposes until it is applied: a leader that has just begun may not have heard from a majority yet.
async fn put(replica: &crate::replica::Replica, term: u64) {
    let begun = std::time::Instant::now();
    while let Err(no) = proposal::propose(replica, marker(term), Urgency::Client).await {
        assert_eq!(no, ProposeError::NoQuorum);
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody is heard");
    }
}

/// Proposes what must be answered now, whoever holds the rows.
async fn at_once(replica: &crate::replica::Replica, term: u64) -> Result<u64, ProposeError> {
    let proposed = proposal::propose(replica, marker(term), Urgency::Client);
    let answer = tokio::time::timeout(Duration::from_secs(20), proposed).await;
    answer.expect("it is answered at once").map(|applied| applied.position)
}

/// A copy that stands at a position.
fn copy(upto: LogPosition) -> EngineSnapshot {
    let mark = AppliedMark::alone(upto, NODE.raft(), Peer::default());
    let standing = Standing { applied: Some(upto.index), mark: mark.encode() };
    EngineSnapshot {
        meta: openraft::SnapshotMeta {
            last_log_id: Some(engine::log_id(upto)),
            last_membership: mark.membership().unwrap(),
        },
        snapshot: SnapshotFile {
            path: "copy".into(),
            bytes: 0,
            hash: Digest::of(b"a copy"),
            standing,
        },
    }
}

fn committed(replica: &crate::replica::Replica) -> Option<u64> {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    crate::handle::index(&metrics.cluster_committed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_begins_only_after_its_position_is_applied() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await;
    let release = hold(&rows);
    let before = committed(&replica);
    let waits = {
        let replica = Arc::clone(&replica);
        tokio::spawn(
            async move { proposal::propose(&replica, marker(term), Urgency::Client).await },
        )
    };
    until("it is committed", || committed(&replica) > before).await;
    let index = committed(&replica).unwrap();
    let begins = {
        let replica = Arc::clone(&replica);
        tokio::spawn(async move { read::begin(&replica, Consistency::Linearizable).await })
    };
    // Questions are answered in turn: when this one is, the read before it has its position too.
    for _ in 0..20 {
        assert!(read::vouched(&replica, true).await.unwrap() >= index);
        assert!(!begins.is_finished(), "what it should see is not applied");
    }
    assert!(*replica.applied.borrow() < Some(index));
    drop(release);
    assert!(begins.await.unwrap().unwrap() >= index);
    waits.await.unwrap().unwrap();
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_more_than_is_allowed_lets_no_new_command_in_and_healing_goes_on() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await;
    let release = hold(&rows);
    let backlog = (0..1_500).map(|_| {
        let replica = Arc::clone(&replica);
        tokio::spawn(
            async move { proposal::propose(&replica, marker(term), Urgency::Healing).await },
        )
    });
    let backlog: Vec<_> = backlog.collect();
    until("it lags", || replica.is_lagging.load(Ordering::Relaxed)).await;
    assert_eq!(at_once(&replica, term).await, Err(ProposeError::Overloaded));
    let heals = {
        let replica = Arc::clone(&replica);
        tokio::spawn(
            async move { proposal::propose(&replica, marker(term), Urgency::Healing).await },
        )
    };
    drop(release);
    for done in backlog.into_iter().chain([heals]) {
        done.await.unwrap().unwrap();
    }
    until("it keeps up", || !replica.is_lagging.load(Ordering::Relaxed)).await;
    proposal::propose(&replica, marker(term), Urgency::Client).await.unwrap();
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_purged_before_the_rows_are_synced_up_to_the_snapshot() {
    let rows = Counted::default();
    rows.has_snapshots.store(true, Ordering::Relaxed);
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await;
    let mut last = 0;
    for _ in 0..10 {
        let put = proposal::propose(&replica, marker(term), Urgency::Client).await;
        last = put.unwrap().position;
    }
    // The snapshot is whole; what a power cut would leave of the rows is one entry older.
    rows.synced.store(last, Ordering::Relaxed);
    let failed = replica.snapshot().await.unwrap_err();
    assert!(failed.to_string().contains("could not be synced"), "{failed}");
    assert_eq!(replica.tail.extent().0, None, "the log is whole");
    rows.synced.store(last + 1, Ordering::Relaxed);
    assert_eq!(replica.snapshot().await.unwrap(), last);
    until("the log is purged", || replica.tail.extent().0.is_some()).await;
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_noted_in_the_log_file_before_it_takes_the_place_of_the_rows() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await + 5;
    let upto = LogPosition { term, index: 500 };
    let hash = Digest::of(b"a copy");
    let noted = Arc::new(Mutex::new(None));
    let (runtime, writer) = (tokio::runtime::Handle::current(), node.ground.writer.clone());
    let notes = Arc::clone(&noted);
    *rows.at_install.lock().unwrap() = Some(Box::new(move || {
        let state = runtime.block_on(writer.state(SHARD)).unwrap();
        *notes.lock().unwrap() = Some(state.marks.installing);
    }));
    let snapshot = copy(upto);
    let leader = StoredVote { term, node: id(2).raft(), is_granted: true };
    let installed = replica.raft.install_full_snapshot(engine::engine_vote(leader), snapshot);
    installed.await.unwrap();
    until("the rows are exchanged", || *replica.applied.borrow() == Some(500)).await;
    let noted = noted.lock().unwrap().take().expect("the rows were exchanged");
    assert_eq!(noted, Some(Installing { upto, hash }));
    let begun = std::time::Instant::now();
    loop {
        let marks = node.ground.writer.state(SHARD).await.unwrap().marks;
        if marks.installing.is_none() {
            // A start in between would find rows without a log, and take it for a log that has lost something.
            assert_eq!(marks.purged, Some(upto), "the note goes with the purge");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the note stays when it is done");
    }
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_for_which_there_is_no_room_waits_for_some() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await + 5;
    rows.fails.store(NO_ROOM, Ordering::Relaxed);
    let leader = StoredVote { term, node: id(2).raft(), is_granted: true };
    let snapshot = copy(LogPosition { term, index: 500 });
    let installed = replica.raft.install_full_snapshot(engine::engine_vote(leader), snapshot);
    let later = async {
        until("it has met the full disk", || replica.room.is_full()).await;
        assert!(*replica.applied.borrow() < Some(500));
        rows.fails.store(0, Ordering::Relaxed);
    };
    let both = async { tokio::join!(installed, later).0 };
    tokio::time::timeout(Duration::from_secs(20), both).await.unwrap().unwrap();
    until("the rows are exchanged", || *replica.applied.borrow() == Some(500)).await;
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_no_majority_answers_vouches_for_nobody() {
    let (rows, chorus) = (Counted::default(), Chorus::default());
    let (_folder, node, replica) = start_with(&rows, Arc::new(chorus.clone()), &VOTERS).await;
    leading(&replica).await;
    let word = replica.told.of(id(2).raft());
    let echoes = || {
        word.hear(7, 0, true);
        replica.told.echo(&word) == 7
    };
    until("a majority answers", echoes).await;
    chorus.hears.store(SILENT, Ordering::Relaxed);
    until("nobody has answered for the length of a lease", || !echoes()).await;
    until("nor has anybody told of room", || !replica.told.has_room(id(3).raft())).await;
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_handed_what_it_leads_goes_on_leading() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await;
    let log = crate::ShardLog { replica: Arc::clone(&replica) };
    assert_eq!(log.transfer(Some(NODE)).await, Some(NODE));
    put(&replica, term).await;
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_do_not_follow_or_are_not_what_was_sent_are_not_written() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await + 5;
    let log = crate::ShardLog { replica: Arc::clone(&replica) };
    let (_, last) = replica.tail.extent();
    let last = last.unwrap();
    let vote = StoredVote { term, node: id(2).raft(), is_granted: true };
    let record = |index, frame: &[u8]| LogRecord {
        position: LogPosition { term, index },
        kind: RecordKind::Entry,
        frame: frame.into(),
    };
    let good = statehouse_contract::codec::encode(&marker(term)).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let next = last.index + 1;
    for (records, what) in [
        (vec![record(next, &good), record(next + 2, &good)], "came where"),
        (vec![record(next + 1, &good)], "came where"),
        (vec![record(next, &bad)], "checksum"),
    ] {
        let (previous, committed) = (Some(last), Some(last));
        let request = LogRequest::Append { vote, previous, records, committed, echo: 0 };
        let why = log.receive(request).await.unwrap_err().to_string();
        assert!(why.contains(what), "{why}");
        assert_eq!(replica.tail.extent().1, Some(last));
    }
    assert!(node.ground.failure.get().is_none(), "the node goes on");
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_could_not_be_synced_end_the_whole_node() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await;
    assert!(node.ground.failure.get().is_none());
    rows.fails.store(UNSYNCED, Ordering::Relaxed);
    let unknown = proposal::propose(&replica, marker(term), Urgency::Client).await.unwrap_err();
    assert_eq!(unknown, ProposeError::Unknown);
    let why = tokio::time::timeout(Duration::from_secs(20), node.failed()).await.unwrap();
    assert!(matches!(&*why, LogError::Rows { shard: SHARD, .. }), "{why}");
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_writes_nothing_of_another_term_whatever_was_believed_when_it_was_given() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let now = leading(&replica).await;
    // As if the reign had ended between the look at who leads and the writing.
    for (term, is_taken) in [(now - 1, false), (now + 1, false), (now, true)] {
        let before = replica.tail.extent().1;
        let entry = marker(term);
        let frame = statehouse_contract::codec::encode(&entry).unwrap().into();
        let proposed = engine::Proposed { frame, entry: Some(Arc::new(entry)), trace: None };
        let slot = replica.slots.take().unwrap();
        let ended = proposal::write(&replica, proposed, term, slot).await;
        match ended {
            Ok(_) => assert!(is_taken, "term {term}"),
            Err(no) => {
                assert!(!is_taken && matches!(no, ProposeError::NotLeader { .. }), "{no}");
                assert_eq!(replica.tail.extent().1, before, "nothing was written");
            }
        }
    }
    assert_eq!(replica.slots.taken(), 0, "each place was given back");
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_of_the_engine_is_definite_or_unknown() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let forward = |reason, leader: Option<NodeId>| ForwardToLeader::<engine::Engine> {
        leader_id: leader.map(NodeId::raft),
        leader_node: None,
        reason,
    };
    let said = |error| proposal::committed(&replica, Err(error)).unwrap_err();
    let other = Some(id(2));
    let refused = |reason| said(ClientWriteError::ForwardToLeader(forward(reason, other)));
    assert_eq!(refused(ForwardReason::NotLeader), ProposeError::NotLeader { hint: other });
    assert_eq!(refused(ForwardReason::LeadershipTransfer), ProposeError::NotLeader { hint: other });
    assert_eq!(refused(ForwardReason::LeaseExpired), ProposeError::NoQuorum);
    // It names a leader like the others, but the entry was in the log and may be committed yet.
    let discarded = ClientWriteError::LogEntryDiscarded(forward(ForwardReason::NotLeader, other));
    assert_eq!(said(discarded), ProposeError::Unknown);
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_what_is_proposed_stays_open_and_what_is_not_is_refused_for_certain() {
    let (rows, chorus) = (Counted::default(), Chorus::default());
    let (_folder, node, replica) = start_with(&rows, Arc::new(chorus.clone()), &VOTERS).await;
    let term = leading(&replica).await;
    put(&replica, term).await;
    chorus.hears.store(FULL, Ordering::Relaxed);
    let open = {
        let replica = Arc::clone(&replica);
        tokio::spawn(
            async move { proposal::propose(&replica, marker(term), Urgency::Client).await },
        )
    };
    let (_, before) = replica.tail.extent();
    until("it is in the log", || replica.tail.extent().1 > before || open.is_finished()).await;
    let (_, last) = replica.tail.extent();
    chorus.hears.store(SILENT, Ordering::Relaxed);
    let alone = Duration::from_millis(1_000);
    // The lease may run yet; a confirmation needs voices of now.
    let read = read::vouched(&replica, true);
    assert!(!matches!(tokio::time::timeout(alone, read).await, Ok(Ok(_))), "no read is confirmed");
    until("nobody is heard", || leadership::age_of_leader(&replica).is_some_and(|age| age > alone))
        .await;
    assert_eq!(*replica.leadership.borrow(), Leadership::Leading { term }, "it believes so");
    assert_eq!(at_once(&replica, term).await, Err(ProposeError::NoQuorum));
    assert_eq!(replica.tail.extent().1, last, "nothing was written for it");
    assert!(!open.is_finished(), "nobody knows about the other");
    chorus.hears.store(HEARD, Ordering::Relaxed);
    open.await.unwrap().unwrap();
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_applies_nothing_hands_over_to_whoever_is_furthest() {
    let (rows, chorus) = (Counted::default(), Chorus::default());
    let (_folder, node, replica) = start_with(&rows, Arc::new(chorus.clone()), &VOTERS).await;
    let term = leading(&replica).await;
    put(&replica, term).await;
    // The higher id has less: neither the first nor the last of the list will do.
    for (late, furthest) in [(id(3), id(2)), (id(2), id(3))] {
        *chorus.late.lock().unwrap() = Some(late);
        put(&replica, term).await;
        let at = committed(&replica);
        until("the other has it", || {
            let metrics = replica.raft.metrics();
            let metrics = metrics.borrow_watched();
            let known: BTreeMap<u64, _> =
                metrics.replication.clone().into_iter().flatten().collect();
            let has = |id: NodeId| known.get(&id.raft()).and_then(crate::handle::index);
            has(furthest) >= at && has(late) < has(furthest)
        })
        .await;
        assert_eq!(leadership::most_advanced(&replica), Some(furthest.raft()));
    }
    let release = hold(&rows);
    let waits = {
        let replica = Arc::clone(&replica);
        tokio::spawn(
            async move { proposal::propose(&replica, marker(term), Urgency::Client).await },
        )
    };
    let dog = leadership::watchdog(Arc::clone(&replica), Duration::from_millis(200));
    let dog = tokio::spawn(dog);
    until("it hands over", || !chorus.heirs.lock().unwrap().is_empty()).await;
    assert_eq!(chorus.heirs.lock().unwrap().first(), Some(&id(3).raft()));
    drop(release);
    // Applied, or unknown because somebody else leads; never refused.
    let ended = waits.await.unwrap();
    assert!(matches!(ended, Ok(_) | Err(ProposeError::Unknown)), "{ended:?}");
    dog.abort();
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_refuses_and_hands_over_only_to_a_voter_that_has_some() {
    let (rows, chorus) = (Counted::default(), Chorus::default());
    let (_folder, node, replica) = start_with(&rows, Arc::new(chorus.clone()), &VOTERS).await;
    let term = leading(&replica).await;
    put(&replica, term).await;
    // The second is further, and has no room either.
    *chorus.late.lock().unwrap() = Some(id(3));
    chorus.without_room.lock().unwrap().push(id(2));
    put(&replica, term).await;
    until("both have told", || replica.told.has_room(id(3).raft())).await;
    until("the second has none", || !replica.told.has_room(id(2).raft())).await;
    assert_eq!(leadership::most_advanced(&replica), Some(id(3).raft()));
    replica.room.write_was_refused();
    assert_eq!(at_once(&replica, term).await, Err(ProposeError::StorageFull));
    let dog = leadership::watchdog(Arc::clone(&replica), Duration::from_millis(200));
    let dog = tokio::spawn(dog);
    until("it hands over", || !chorus.heirs.lock().unwrap().is_empty()).await;
    // Every voter is told who the heir is.
    let heirs = chorus.heirs.lock().unwrap().clone();
    assert!(heirs.iter().all(|heir| *heir == id(3).raft()), "{heirs:?}");
    dog.abort();
    replica.stop().await;
    node.stop().await;
}
