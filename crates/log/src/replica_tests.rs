//! A replica over rows that can be stopped, slowed and broken: what the disk does not do on demand.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;

use statehouse_contract::{Actor, Consistency, NodeId, ShardId, Timestamp, TraceContext};
use statehouse_store::{
    Applied, Body, Committed, Entry, Header, NodeDir, Outcome, StoreError, View,
    log_file::{LogPosition, StoredVote},
};

use crate::{
    Leadership, LogError, LogOptions, NoPeers, NodeLog, Origin, Peer, Profile, ProposeError,
    ReadError, Reserve, Transport, Urgency, engine, leadership, proposal, read,
    replica::{self, Replica},
    rows::{Rows, SnapshotFile, Snapshots, Standing},
};

pub(crate) const NODE: NodeId = NodeId { number: 1, incarnation: 1 };
pub(crate) const SHARD: ShardId = ShardId(9);
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that a test does within the rows.
type Act = Box<dyn FnMut() + Send>;

/// Counts what is applied; waits while it is held, and fails from a position on.
#[derive(Clone, Default)]
pub(crate) struct Counted {
    standing: Arc<Mutex<Standing>>,
    terms: Arc<Mutex<Vec<(u64, u64)>>>,
    pub(crate) held: Arc<Mutex<()>>,
    pub(crate) fails: Arc<AtomicU64>,
    /// One above the position that is synced.
    pub(crate) synced: Arc<AtomicU64>,
    pub(crate) has_snapshots: Arc<AtomicBool>,
    /// What is done when a copy takes the place of the rows.
    pub(crate) at_install: Arc<Mutex<Option<Act>>>,
}

pub(crate) const FULL: u64 = 1;
const BROKEN: u64 = 2;
pub(crate) const UNSYNCED: u64 = 3;

impl Rows for Counted {
    fn standing(&self) -> Result<Standing, StoreError> {
        Ok(self.standing.lock().unwrap().clone())
    }

    fn apply(&mut self, batch: &[Committed<'_>], mark: &[u8]) -> Result<Vec<Applied>, StoreError> {
        let _held = self.held.lock().unwrap();
        match self.fails.load(Ordering::Relaxed) {
            FULL => return Err(StoreError::StorageFull { path: "rows".into() }),
            BROKEN => {
                let source = std::io::Error::other("broken for the test");
                return Err(StoreError::Io { doing: "syncing", path: "rows".into(), source });
            }
            UNSYNCED => return Err(StoreError::failed_sync("rows".into())),
            _ => {}
        }
        let mut standing = self.standing.lock().unwrap();
        standing.applied = batch.last().map(|last| last.position);
        standing.mark = mark.to_vec();
        let mut terms = self.terms.lock().unwrap();
        terms.extend(batch.iter().map(|committed| (committed.position, committed.term)));
        let outcome = |c: &Committed<'_>| Applied { position: c.position, outcome: Outcome::Blank };
        Ok(batch.iter().map(outcome).collect())
    }

    fn snapshots(&self) -> Box<dyn Snapshots> {
        if self.has_snapshots.load(Ordering::Relaxed) {
            return Box::new(Copies(self.clone()));
        }
        Box::new(NoSnapshots)
    }

    fn install(&mut self, snapshot: &SnapshotFile) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) == FULL {
            return Err(StoreError::StorageFull { path: "rows".into() });
        }
        if let Some(act) = &mut *self.at_install.lock().unwrap() {
            act();
        }
        *self.standing.lock().unwrap() = snapshot.standing.clone();
        Ok(())
    }

    fn synced(&self) -> Option<u64> {
        self.synced.load(Ordering::Relaxed).checked_sub(1)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn view(&self) -> Option<View> {
        None
    }
}

/// Copies that hold nothing but where they stand.
struct Copies(Counted);

impl Snapshots for Copies {
    fn build(&self) -> Result<SnapshotFile, StoreError> {
        let standing = self.0.standing()?;
        let hash = statehouse_contract::Digest::of(b"a copy");
        Ok(SnapshotFile { path: "copy".into(), bytes: 0, hash, standing })
    }

    fn newest(&self) -> Result<Option<SnapshotFile>, StoreError> {
        self.build().map(Some)
    }
}

struct NoSnapshots;

impl Snapshots for NoSnapshots {
    fn build(&self) -> Result<SnapshotFile, StoreError> {
        Err(StoreError::StorageFull { path: "snapshots".into() })
    }

    fn newest(&self) -> Result<Option<SnapshotFile>, StoreError> {
        Ok(None)
    }
}

pub(crate) async fn start(rows: &Counted) -> (TempDir, NodeLog, Arc<Replica>) {
    start_with(rows, Arc::new(NoPeers), &[NODE]).await
}

/// Starts a replica whose fellow voters are behind `transport`.
pub(crate) async fn start_with(
    rows: &Counted,
    transport: Arc<dyn Transport>,
    voters: &[NodeId],
) -> (TempDir, NodeLog, Arc<Replica>) {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        reserve_bytes: Reserve::Bytes(0),
        ..LogOptions::service(NodeDir::open(folder.path()).unwrap(), NODE, Profile::Local)
    };
    let node = NodeLog::open(options, transport).await.unwrap();
    let origin = Origin::Found(voters.iter().map(|id| (*id, Peer::default())).collect());
    let opened = replica::open(&node.ground, SHARD, Box::new(rows.clone()), origin).await;
    let replica = opened.unwrap();
    leading(&replica).await;
    (folder, node, replica)
}

pub(crate) async fn leading(replica: &Replica) -> u64 {
    let mut leadership = replica.leadership.clone();
    let leads = leadership.wait_for(|now| matches!(now, Leadership::Leading { .. }));
    match *tokio::time::timeout(PATIENCE, leads).await.unwrap().unwrap() {
        Leadership::Leading { term } => term,
        other => panic!("{other:?}"),
    }
}

/// Asks for a vote in a later term, as another node's candidate would, and gets it.
async fn depose(replica: &Replica, term: u64) {
    let far = LogPosition { term, index: 1_000_000 };
    let candidate = StoredVote { term, node: 2 << 32 | 1, is_granted: false };
    let mut request =
        openraft::raft::VoteRequest::new(engine::engine_vote(candidate), Some(engine::log_id(far)));
    request.leadership_transfer = true;
    let answer = replica.raft.vote(request).await.unwrap();
    assert!(answer.vote_granted, "{answer}");
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn marker(term: u64) -> Entry {
    let header = Header {
        decided_term: term,
        decided_by: NODE,
        decided_at: Timestamp(1),
        actor: Actor::system(),
        reason: None,
        trace: TraceContext::default(),
        correlation: None,
    };
    Entry { header, body: Body::DigestAt }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_entry_of_an_ended_reign_is_written_into_the_next_one() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let first = leading(&replica).await;
    let mut asked = Vec::new();
    for round in 0..400 {
        // All of them are decided in the first reign; half-way it ends.
        if round == 200 {
            depose(&replica, first + 5).await;
        }
        let replica = Arc::clone(&replica);
        asked.push(tokio::spawn(async move {
            proposal::propose(&replica, marker(first), Urgency::Client).await
        }));
        tokio::task::yield_now().await;
    }
    let mut written = Vec::new();
    for answer in asked {
        match answer.await.unwrap() {
            Ok(applied) => written.push(applied.position),
            Err(ProposeError::NotLeader { hint }) => assert!(hint.is_none_or(|id| id == NODE)),
            Err(other) => panic!("{other}"),
        }
    }
    until(
        "the next reign begins",
        || matches!(*replica.leadership.borrow(), Leadership::Leading { term } if term > first),
    )
    .await;
    let terms: BTreeMap<u64, u64> = rows.terms.lock().unwrap().iter().copied().collect();
    for position in &written {
        assert_eq!(terms[position], first, "position {position}");
    }
    let next = leading(&replica).await;
    let late = proposal::propose(&replica, marker(first), Urgency::Client).await.unwrap_err();
    assert_eq!(late, ProposeError::NotLeader { hint: Some(NODE) });
    let now = proposal::propose(&replica, marker(next), Urgency::Client).await.unwrap();
    assert!(now.position > written.iter().copied().max().unwrap_or_default());
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_applies_nothing_refuses_new_work_until_it_moves() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await;
    let dog = leadership::watchdog(Arc::clone(&replica), Duration::from_millis(200));
    let dog = tokio::spawn(dog);
    let gate = Arc::clone(&rows.held);
    let (held, is_held) = std::sync::mpsc::sync_channel(1);
    let (release, is_released) = std::sync::mpsc::sync_channel::<()>(1);
    let holder = std::thread::spawn(move || {
        let _guard = gate.lock().unwrap();
        held.send(()).unwrap();
        let _ = is_released.recv();
    });
    is_held.recv().unwrap();
    let waits = {
        let replica = Arc::clone(&replica);
        tokio::spawn(
            async move { proposal::propose(&replica, marker(term), Urgency::Client).await },
        )
    };
    until("it is stalled", || replica.is_stalled.load(Ordering::Relaxed)).await;
    let proposed = proposal::propose(&replica, marker(term), Urgency::Client);
    let refused = tokio::time::timeout(PATIENCE, proposed).await.expect("it is refused at once");
    assert_eq!(refused.unwrap_err(), ProposeError::Overloaded);
    drop(release);
    holder.join().unwrap();
    waits.await.unwrap().unwrap();
    until("it moves", || !replica.is_stalled.load(Ordering::Relaxed)).await;
    proposal::propose(&replica, marker(term), Urgency::Client).await.unwrap();
    dog.abort();
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_room_wait_and_answer_when_there_is_some() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await;
    // Nothing else is on its way to the rows: the next entry is the one that meets the full disk.
    proposal::propose(&replica, marker(term), Urgency::Client).await.unwrap();
    rows.fails.store(FULL, Ordering::Relaxed);
    let waits = {
        let replica = Arc::clone(&replica);
        tokio::spawn(
            async move { proposal::propose(&replica, marker(term), Urgency::Client).await },
        )
    };
    until("the rows say that they are full", || replica.room.is_full()).await;
    let refused = proposal::propose(&replica, marker(term), Urgency::Client).await.unwrap_err();
    assert_eq!(refused, ProposeError::StorageFull);
    rows.fails.store(0, Ordering::Relaxed);
    waits.await.unwrap().unwrap();
    assert!(!replica.room.is_full());
    let failed = replica.snapshot().await.unwrap_err();
    assert!(failed.to_string().contains("no room"), "{failed}");
    proposal::propose(&replica, marker(term), Urgency::Client).await.unwrap();
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_fail_end_their_replica_and_leave_the_outcome_unknown() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await;
    rows.fails.store(BROKEN, Ordering::Relaxed);
    let unknown = proposal::propose(&replica, marker(term), Urgency::Client).await.unwrap_err();
    assert_eq!(unknown, ProposeError::Unknown);
    until("it has stopped", || *replica.leadership.borrow() == Leadership::Stopped).await;
    let failure = replica.applier.failure().get().unwrap();
    assert!(matches!(&*failure, LogError::Rows { shard: SHARD, .. }), "{failure}");
    let refused = proposal::propose(&replica, marker(term), Urgency::Client).await.unwrap_err();
    assert_eq!(refused, ProposeError::Stopped);
    let refused = read::begin(&replica, Consistency::Linearizable).await.unwrap_err();
    assert_eq!(refused, ReadError::Stopped);
    replica.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_log_that_disagree_are_not_opened() {
    let rows = Counted::default();
    let (_folder, node, replica) = start(&rows).await;
    let term = leading(&replica).await;
    for _ in 0..5 {
        proposal::propose(&replica, marker(term), Urgency::Client).await.unwrap();
    }
    replica.stop().await;
    let whole = rows.standing.lock().unwrap().clone();
    for (standing, said) in [
        (Standing { applied: Some(3), ..whole.clone() }, "their mark says"),
        (Standing { mark: b"nonsense".to_vec(), ..whole.clone() }, "the mark of the rows"),
    ] {
        *rows.standing.lock().unwrap() = standing;
        let opened =
            replica::open(&node.ground, SHARD, Box::new(rows.clone()), Origin::Resume).await;
        let error = opened.err().unwrap();
        assert!(error.to_string().contains(said), "{error}");
    }
    *rows.standing.lock().unwrap() = whole;
    let opened = replica::open(&node.ground, SHARD, Box::new(rows.clone()), Origin::Resume).await;
    let replica = opened.unwrap();
    assert!(leading(&replica).await > term, "the shard is opened again in the same node");
    replica.stop().await;
    node.stop().await;
}
