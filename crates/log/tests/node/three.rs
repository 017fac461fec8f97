//! Three replicas of one shard in one process, over a transport that hands messages from one to the other.
//!
//! The cluster's own wire comes later; this shows that the faces it will meet are enough: elections,
//! appends, reads, handing over, and a snapshot for a replica that is too far behind.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use statehouse_contract::{Build, NodeId, ShardId};
use statehouse_log::{
    Lane, Leadership, LogError, LogOptions, LogRequest, LogResponse, NodeLog, Origin, Part, Peer,
    ProposeError, ShardLog, Transport, TransportError, Urgency, transport::Answering,
};
use statehouse_store::{Body, Chain, Entry, StoreError};

use crate::bed::{SHARD, options, present, put, until};

const fn id(number: u32) -> NodeId {
    NodeId { number, incarnation: 1 }
}

/// Every replica by node, and who is cut off.
#[derive(Default)]
struct Room {
    shards: Mutex<BTreeMap<NodeId, ShardLog>>,
    cut: Mutex<Vec<NodeId>>,
    parts: Mutex<u64>,
    /// One whose rows are others than it should have.
    liar: Mutex<Option<NodeId>>,
}

struct Loop {
    own: NodeId,
    room: Arc<Room>,
}

impl Transport for Loop {
    fn ask<'a>(
        &'a self,
        to: NodeId,
        _peer: &'a Peer,
        _shard: ShardId,
        lane: Lane,
        request: LogRequest,
        patience: Duration,
    ) -> Answering<'a> {
        let unreachable = move || TransportError::Unreachable { to, what: "cut".to_owned() };
        Box::pin(async move {
            if lane == Lane::Snapshot {
                *self.room.parts.lock().unwrap() += 1;
            }
            let is_cut = |node: &NodeId| self.room.cut.lock().unwrap().contains(node);
            let target = self.room.shards.lock().unwrap().get(&to).cloned();
            let Some(target) = target.filter(|_| !is_cut(&to) && !is_cut(&self.own)) else {
                return Err(unreachable());
            };
            match tokio::time::timeout(patience, target.receive(request)).await {
                Ok(Ok(LogResponse::Marker(Some((position, _)))))
                    if *self.room.liar.lock().unwrap() == Some(to) =>
                {
                    Ok(LogResponse::Marker(Some((position, Chain([9; 16])))))
                }
                Ok(Ok(answer)) if !is_cut(&to) && !is_cut(&self.own) => Ok(answer),
                Ok(Ok(_)) => Err(unreachable()),
                Ok(Err(error)) => Err(TransportError::Broken { to, what: error.to_string() }),
                Err(_) => Err(TransportError::Late { to }),
            }
        })
    }
}

struct Three {
    room: Arc<Room>,
    nodes: Vec<NodeLog>,
    shards: Vec<ShardLog>,
}

async fn start(folder: &Path, count: u32) -> Three {
    let mut three = Three { room: Arc::default(), nodes: Vec::new(), shards: Vec::new() };
    for number in 1..=count {
        let (node, shard) = open(folder, &three.room, number).await;
        three.nodes.push(node);
        three.shards.push(shard);
    }
    three
}

async fn open(folder: &Path, room: &Arc<Room>, number: u32) -> (NodeLog, ShardLog) {
    open_as(folder, room, number, Build::THIS).await.unwrap()
}

/// Opens a node as a build that knows this.
async fn open_as(
    folder: &Path,
    room: &Arc<Room>,
    number: u32,
    build: Build,
) -> Result<(NodeLog, ShardLog), LogError> {
    let own = id(number);
    let path = folder.join(format!("node-{number}"));
    let options = LogOptions { node: own, build, ..options(&path) };
    let transport = Loop { own, room: Arc::clone(room) };
    let node = NodeLog::open(options, Arc::new(transport)).await?;
    let voters = (1..=3).map(|number| (id(number), Peer::default())).collect();
    let origin = if number == 3 { Origin::Found(voters) } else { Origin::Resume };
    match node.open_shard(SHARD, origin).await {
        Ok(shard) => {
            room.shards.lock().unwrap().insert(own, shard.clone());
            Ok((node, shard))
        }
        Err(error) => {
            node.stop().await;
            Err(error)
        }
    }
}

impl Three {
    async fn leader(&self) -> &ShardLog {
        let leads = |shard: &&ShardLog| {
            let is_cut = self.room.cut.lock().unwrap().contains(&shard.node());
            !is_cut && matches!(*shard.leadership().borrow(), Leadership::Leading { .. })
        };
        until("somebody leads", || self.shards.iter().any(|shard| leads(&shard))).await;
        self.shards.iter().find(leads).unwrap()
    }

    /// Puts a tenant through whoever leads, as often as it takes.
    async fn put(&self, number: u64) {
        for _ in 0..200 {
            let leader = self.leader().await;
            let asked = tokio::time::timeout(Duration::from_secs(2), put(leader, number)).await;
            match asked {
                Ok(Ok(_)) => return,
                Ok(Err(ProposeError::NotLeader { .. } | ProposeError::NoQuorum)) | Err(_) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(Err(ProposeError::Unknown)) => {}
                Ok(Err(other)) => panic!("{other}"),
            }
        }
        panic!("tenant {number} could not be put");
    }

    async fn stop(&self) {
        for node in &self.nodes {
            node.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_majority_has_survives_its_leader() {
    let folder = tempfile::tempdir().unwrap();
    let three = start(folder.path(), 3).await;
    for number in 0..20 {
        three.put(number).await;
    }
    let old = three.leader().await.node();
    three.room.cut.lock().unwrap().push(old);
    for number in 20..40 {
        three.put(number).await;
    }
    let new = three.leader().await;
    assert_ne!(new.node(), old);
    new.read_index().await.unwrap();
    assert_eq!(present(new, 40), (0..40).collect::<Vec<_>>());
    assert!(new.members().values().all(|member| member.part == Part::Voter));

    // The old leader cannot confirm a read, and hears of the new reign when it is back.
    let deposed = three.shards.iter().find(|shard| shard.node() == old).unwrap();
    let patience = Duration::from_secs(2);
    let confirmed = tokio::time::timeout(patience, deposed.read_index()).await;
    assert!(!matches!(confirmed, Ok(Ok(_))), "{confirmed:?}");
    three.room.cut.lock().unwrap().clear();
    until("the old leader follows", || {
        matches!(*deposed.leadership().borrow(), Leadership::Following { leader: Some(_) })
    })
    .await;
    until("it has everything", || deposed.view().applied() >= new.view().applied()).await;
    assert_eq!(present(deposed, 40), (0..40).collect::<Vec<_>>());
    until("all have applied the same", || {
        let metas = three.shards.iter().map(|shard| shard.view().meta().unwrap());
        let metas: Vec<_> = metas.map(|meta| (meta.applied, meta.chain)).collect();
        metas.iter().all(|meta| *meta == metas[0])
    })
    .await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_reads_what_was_acknowledged_and_knows_its_age() {
    let folder = tempfile::tempdir().unwrap();
    let three = start(folder.path(), 3).await;
    for number in 0..50 {
        three.put(number).await;
        for shard in &three.shards {
            // Between two puts the leadership may move; the read is asked again then, like any.
            while shard.read_index().await.is_err() {
                tokio::task::yield_now().await;
            }
            assert_eq!(present(shard, number + 1).len() as u64, number + 1);
        }
    }
    until("every copy knows its age", || three.shards.iter().all(|shard| shard.age().is_some()))
        .await;
    // A copy that hears nothing grows older; the others do not.
    let leader = three.leader().await.node();
    let late = three.shards.iter().find(|shard| shard.node() != leader).unwrap();
    three.room.cut.lock().unwrap().push(late.node());
    let grown = Duration::from_millis(400);
    until("the one that is cut off grows old", || late.age().is_some_and(|age| age > grown)).await;
    assert!(late.read_index().await.is_err(), "and confirms no read");
    let led = three.leader().await;
    until("the leader's copy is fresh", || led.age().is_some_and(|age| age < grown)).await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_knows_its_leader_gone_leads_although_the_lease_runs() {
    let folder = tempfile::tempdir().unwrap();
    let three = start(folder.path(), 3).await;
    three.put(1).await;
    let old = three.leader().await.node();
    let follows = |shard: &&ShardLog| {
        *shard.leadership().borrow() == Leadership::Following { leader: Some(old) }
    };
    until("the others follow", || three.shards.iter().filter(follows).count() == 2).await;
    let heir = three.shards.iter().find(follows).unwrap();
    assert!(!heir.leader_is_gone(heir.node()).await, "it believes in another leader");
    let was = heir.numbers().term;
    three.room.cut.lock().unwrap().push(old);
    assert!(heir.leader_is_gone(old).await);
    until("the heir leads", || matches!(*heir.leadership().borrow(), Leadership::Leading { .. }))
        .await;
    assert!(heir.numbers().term > was);
    three.put(2).await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_less_than_another_follower_is_no_heir() {
    let folder = tempfile::tempdir().unwrap();
    let three = start(folder.path(), 3).await;
    three.put(1).await;
    let old = three.leader().await.node();
    let [late, other] = three.shards.iter().filter(|s| s.node() != old).collect::<Vec<_>>()[..]
    else {
        panic!("two follow")
    };
    let cut = |nodes: &[NodeId]| *three.room.cut.lock().unwrap() = nodes.to_vec();
    cut(&[late.node()]);
    three.put(2).await;
    cut(&[late.node(), old]);
    let patience = Duration::from_millis(60);
    assert_eq!(late.heirs(old, patience).await, [late.node()], "it cannot ask the other");
    cut(&[old]);
    let heirs = [late.heirs(old, patience).await, other.heirs(old, patience).await];
    // If all this took so long that the engine's own election has come first, the other leads and nobody is late.
    let still = *other.leadership().borrow() == Leadership::Following { leader: Some(old) };
    if still {
        assert_eq!(heirs, [[other.node()], [other.node()]]);
        assert!(other.leader_is_gone(old).await);
    }
    until("the other leads", || matches!(*other.leadership().borrow(), Leadership::Leading { .. }))
        .await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_equal_at_a_marker_and_one_that_is_not_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let three = start(folder.path(), 3).await;
    for number in 0..10 {
        three.put(number).await;
    }
    let leader = three.leader().await;
    let Leadership::Leading { term } = *leader.leadership().borrow() else { panic!("it leads") };
    let marker = Entry { body: Body::DigestAt, ..crate::bed::entry(term, 0, 0) };
    let set = leader.propose(marker, Urgency::Healing).await.unwrap();
    let everywhere = || three.shards.iter().all(|s| *s.applied().borrow() >= Some(set.position));
    until("the marker is applied everywhere", everywhere).await;
    assert_eq!(leader.differing().await, []);
    let other = three.shards.iter().find(|shard| shard.node() != leader.node()).unwrap();
    *three.room.liar.lock().unwrap() = Some(other.node());
    assert_eq!(leader.differing().await, [other.node()]);
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let three = start(folder.path(), 3).await;
    three.put(1).await;
    let old = three.leader().await;
    let successor = old.transfer(None).await.expect("there are followers");
    assert_ne!(successor, old.node());
    let is_led_by = |node| {
        let shard = three.shards.iter().find(|shard| shard.node() == node).unwrap();
        matches!(*shard.leadership().borrow(), Leadership::Leading { .. })
    };
    until("the successor leads", || is_led_by(successor)).await;
    three.put(2).await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_too_far_behind_gets_the_whole_shard() {
    let folder = tempfile::tempdir().unwrap();
    let mut three = start(folder.path(), 2).await;
    // The third founds the shard; its voters are all three.
    let (node, shard) = open(folder.path(), &three.room, 3).await;
    three.nodes.push(node);
    three.shards.push(shard);
    three.put(0).await;
    let leader = three.leader().await.node();
    let late = three.shards.iter().map(ShardLog::node).find(|node| *node != leader).unwrap();
    three.room.cut.lock().unwrap().push(late);
    for number in 1..60 {
        three.put(number).await;
    }
    let leader = three.leader().await;
    let position = leader.snapshot().await.unwrap();
    until("the log is purged", || leader.numbers().purged == Some(position)).await;
    three.room.cut.lock().unwrap().clear();
    let behind = three.shards.iter().find(|shard| shard.node() == late).unwrap();
    until("the late one has everything", || behind.view().applied() >= Some(position)).await;
    assert!(*three.room.parts.lock().unwrap() > 0, "it came as a snapshot");
    assert_eq!(present(behind, 60), (0..60).collect::<Vec<_>>());
    three.put(60).await;
    until("it follows again", || present(behind, 61).len() == 61).await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_build_takes_no_copy_above_its_level_and_goes_on_as_a_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut three = Three { room: Arc::default(), nodes: Vec::new(), shards: Vec::new() };
    let newer = Build::rehearsed(2);
    for (number, build) in [(1, newer), (2, newer), (3, Build::THIS)] {
        let (node, shard) = open_as(folder.path(), &three.room, number, build).await.unwrap();
        three.nodes.push(node);
        three.shards.push(shard);
    }
    three.put(0).await;
    until("the older one has it", || present(&three.shards[2], 1).len() == 1).await;
    three.room.cut.lock().unwrap().push(id(3));
    three.put(1).await;
    let leader = three.leader().await;
    let Leadership::Leading { term } = *leader.leadership().borrow() else { panic!("it leads") };
    let raised = Body::FeatureRaised { level: 2, asked: None };
    let raised = Entry { body: raised, ..crate::bed::entry(term, 0, 0) };
    leader.propose(raised, Urgency::Client).await.unwrap();
    let position = leader.snapshot().await.unwrap();
    until("the log is purged", || leader.numbers().purged == Some(position)).await;

    // It stops before anything of its rows has changed, and the others go on.
    three.room.cut.lock().unwrap().clear();
    let older = three.shards.pop().unwrap();
    until("it has stopped", || *older.leadership().borrow() == Leadership::Stopped).await;
    let meta = older.view().meta().unwrap();
    assert!(meta.level == 1 && meta.applied < Some(position), "{meta:?}");
    three.put(2).await;
    three.room.shards.lock().unwrap().remove(&id(3));
    drop(older);
    three.nodes.pop().unwrap().stop().await;

    let error = open_as(folder.path(), &three.room, 3, Build::THIS).await.err();
    let Some(LogError::Rows { source: StoreError::Level { expected: 1, found: 2, .. }, .. }) =
        error
    else {
        panic!("another end: {error:?}");
    };
    let (node, shard) = open_as(folder.path(), &three.room, 3, newer).await.unwrap();
    until("the newer build has everything", || present(&shard, 3).len() == 3).await;
    assert_eq!(shard.view().meta().unwrap().level, 2);
    three.nodes.push(node);
    three.shards.push(shard);
    three.stop().await;
}
