//! Two ends of the log's wire on loopback: who is let in, what is answered, what is heard when one end is gone.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use statehouse_contract::{Build, Clock as _, MemberDocument, Members, NodeId, ShardId, Standing};
use statehouse_log::{
    Lane as LaneName, LogRequest, LogResponse, NoPeers, Origin, Peer, Transport as _,
    TransportError,
    transport::{LogPosition, StoredVote},
};
use statehouse_runtime::{Builds, HostConfig, Profile, Reserve, ShardHost, Tuning};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use super::{
    Asked, Ground, LogWire,
    desk::{self, Desk, Shelf},
    greeting::{self, GreetingError, Hello, Purpose, Welcome},
    join::{self, JoinDesk, JoinGrant, JoinRequest, Served},
};
use crate::{
    clock::ClusterClock,
    cookie::Cookie,
    identity::ClusterId,
    roll::Roll,
    security::LinkSecurity,
    socket::{Socket, Wire},
    testing::Stopped,
};

const SOON: Duration = Duration::from_secs(20);
const CLUSTER: ClusterId = ClusterId([7; 16]);

const fn node(number: u32, incarnation: u32) -> NodeId {
    NodeId { number, incarnation }
}

fn cookie(text: &str) -> Cookie {
    Cookie::from_text(text)
}

fn document(log: &str, standing: Standing) -> MemberDocument {
    let (links, api) = (String::new(), String::new());
    MemberDocument { links, log: log.to_owned(), api, region: None, standing: Some(standing) }
}

fn ground(own: NodeId, cluster: ClusterId, secret: &str, roll: Roll) -> Arc<Ground> {
    let cookie = cookie(secret);
    let (build, builds, clock) = (Build::THIS, Builds::default(), clock(own));
    Arc::new(Ground { own, cluster, cookie, wire: wire(), roll, build, builds, clock })
}

fn clock(own: NodeId) -> Arc<ClusterClock> {
    ClusterClock::new(own, Arc::new(Stopped), Arc::default())
}

fn wire() -> Arc<Wire> {
    Arc::new(Wire::new(LinkSecurity::Plain, Arc::default(), Arc::default()))
}

/// A node of the cluster that runs this build.
fn node_of(own: NodeId, build: Build) -> Arc<Ground> {
    let (cookie, roll, builds) = (cookie(SECRET), Roll::default(), Builds::default());
    let clock = clock(own);
    Arc::new(Ground { own, cluster: CLUSTER, cookie, wire: wire(), roll, build, builds, clock })
}

/// Gives everybody the same identity.
struct Generous;

impl JoinDesk for Generous {
    fn serve<'a>(&'a self, socket: &'a mut Socket, number: u32, _level: u16) -> Served<'a> {
        let grant = JoinGrant { node: node(number, 1), cluster: CLUSTER, shards: 4 };
        Box::pin(join::serve(socket, number, async move |_| Ok(Ok(grant))))
    }
}

/// An answering node 2 with its address, and what it hears of broken connections.
struct Answering {
    address: SocketAddr,
    lost: mpsc::Receiver<NodeId>,
    serving: JoinHandle<()>,
}

const SECRET: &str = "a-cookie-of-the-tests";

async fn answering(roll: Roll) -> Answering {
    answering_as(ground(node(2, 1), CLUSTER, SECRET, roll)).await
}

async fn answering_as(ground: Arc<Ground>) -> Answering {
    answering_with(ground, Shelf::default()).await
}

async fn answering_with(ground: Arc<Ground>, shelf: Shelf) -> Answering {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, lost) = mpsc::channel(8);
    let joins = Arc::new(Generous);
    let serving = desk::serve(Desk { ground, shelf, joins, lost: sender }, listener);
    Answering { address, lost, serving }
}

/// Asks node 2 until it says something else than "connecting".
async fn ask(wire: &LogWire, address: SocketAddr) -> TransportError {
    let peer = Peer { address: address.to_string().into() };
    let asking = async {
        loop {
            let request = LogRequest::ReadIndex { is_strict: true };
            let asked = wire.ask(node(2, 1), &peer, ShardId(3), LaneName::Urgent, request, SOON);
            match asked.await.unwrap_err() {
                TransportError::Unreachable { what, .. } if what == "connecting" => {
                    tokio::task::yield_now().await;
                }
                told => return told,
            }
        }
    };
    timeout(SOON, asking).await.expect("node 2 says something")
}

#[tokio::test]
async fn a_question_reaches_the_other_side_and_its_answer_comes_back() {
    let two = answering(Roll::default()).await;
    let one = LogWire::new(ground(node(1, 1), CLUSTER, SECRET, Roll::default()));
    // No shard is open there, and that is the answer.
    let told = ask(&one, two.address).await.to_string();
    assert_eq!(told, "no answer from node n2.1: shard 3 is not open here");
}

#[tokio::test]
async fn who_does_not_belong_here_is_refused_and_told_why() {
    let roll = Roll::default();
    let gone = document("", Standing::Removed);
    roll.set(Members([(node(3, 1), gone)].into()));
    let two = answering(roll).await;
    let stranger = ClusterId([8; 16]);
    let cases = [
        (node(1, 1), CLUSTER, "another-cookie-altogether", "the cookie is another one"),
        (node(1, 1), stranger, SECRET, "this is cluster 0707"),
        (node(3, 1), CLUSTER, SECRET, "n3.1 is no member any more"),
    ];
    for (own, cluster, secret, why) in cases {
        let wire = LogWire::new(ground(own, cluster, secret, Roll::default()));
        let told = ask(&wire, two.address).await.to_string();
        assert!(told.contains(why), "{own}: {told}");
    }
    // And it goes on serving those who do belong.
    let one = LogWire::new(ground(node(1, 1), CLUSTER, SECRET, Roll::default()));
    assert!(ask(&one, two.address).await.to_string().contains("is not open here"));
}

#[tokio::test]
async fn who_was_removed_is_let_in_as_long_as_a_shard_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let voters = [node(2, 1), node(3, 1)].map(|node| (node, Peer::default()));
    let host = ShardHost::start(HostConfig {
        data: folder.path().to_owned(),
        node: node(2, 1),
        shards: 1,
        profile: Profile::Local,
        reserve: Reserve::Bytes(0),
        origin: Origin::Found(voters.into()),
        transport: Arc::new(NoPeers),
        builds: Builds::default(),
        clock: Arc::new(Stopped),
        tuning: Tuning::standard(),
    });
    let host = host.await.unwrap();
    let roll = Roll::default();
    let gone = || document("", Standing::Removed);
    roll.set(Members([(node(3, 1), gone()), (node(4, 1), gone())].into()));
    let shelf = Shelf::default();
    shelf.fill(host.seats().iter().map(|seat| seat.log().clone()).collect());
    let two = answering_with(ground(node(2, 1), CLUSTER, SECRET, roll), shelf).await;
    let said = async |own| {
        let wire = LogWire::new(ground(own, CLUSTER, SECRET, Roll::default()));
        ask(&wire, two.address).await.to_string()
    };
    let told = said(node(3, 1)).await;
    assert!(told.contains("shard 3 is not open here"), "{told}");
    let told = said(node(4, 1)).await;
    assert!(told.contains("n4.1 is no member any more"), "{told}");
    host.stop(SOON).await;
}

#[tokio::test]
async fn another_node_at_the_address_is_noticed() {
    let two = answering(Roll::default()).await;
    let one = LogWire::new(ground(node(1, 1), CLUSTER, SECRET, Roll::default()));
    let peer = Peer { address: two.address.to_string().into() };
    let told = loop {
        let request = LogRequest::ReadIndex { is_strict: true };
        let asked = one.ask(node(2, 2), &peer, ShardId(3), LaneName::Urgent, request, SOON);
        let told = asked.await.unwrap_err().to_string();
        if !told.contains("connecting") {
            break told;
        }
        tokio::task::yield_now().await;
    };
    assert!(told.contains("this is n2.1, not n2.2"), "{told}");
}

#[tokio::test]
async fn garbage_ends_its_own_connection_and_nothing_else() {
    let two = answering(Roll::default()).await;
    let one = LogWire::new(ground(node(1, 1), CLUSTER, SECRET, Roll::default()));
    assert!(ask(&one, two.address).await.to_string().contains("is not open here"));
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], b"SH\x01\x01\xff\xff\xff\xff\0\0\0\0"]
    {
        let mut stream = TcpStream::connect(two.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        // The challenge, and then the end; or a reset because what we sent was not read.
        let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it is closed");
    }
    assert!(ask(&one, two.address).await.to_string().contains("is not open here"));
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_to_whoever_watches_for_the_dead() {
    let mut two = answering(Roll::default()).await;
    let one = LogWire::new(ground(node(1, 1), CLUSTER, SECRET, Roll::default()));
    assert!(ask(&one, two.address).await.to_string().contains("is not open here"));
    drop(one);
    let lost = timeout(SOON, two.lost.recv()).await.expect("it is noticed");
    assert_eq!(lost, Some(node(1, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_or_whose_clock_is_off_has_no_room_for_leadership() {
    let directory = tempfile::tempdir().unwrap();
    let (leader, own) = (node(1, 1), node(2, 1));
    let host = ShardHost::start(HostConfig {
        data: directory.path().to_owned(),
        node: own,
        shards: 1,
        profile: Profile::Local,
        reserve: Reserve::Bytes(0),
        origin: Origin::Found([leader, own].map(|node| (node, Peer::default())).into()),
        transport: Arc::new(NoPeers),
        builds: Builds::default(),
        clock: Arc::new(Stopped),
        tuning: Tuning::standard(),
    });
    let host = host.await.unwrap();
    let shelf = Shelf::default();
    shelf.fill(host.seats().iter().map(|seat| seat.log().clone()).collect());
    let ground = ground(own, CLUSTER, SECRET, Roll::default());
    let two = answering_with(ground, shelf.clone()).await;
    let one = LogWire::new(self::ground(leader, CLUSTER, SECRET, Roll::default()));
    let peer = Peer { address: two.address.to_string().into() };
    let has_room = async || {
        let founded = Some(LogPosition { term: 0, index: 0 });
        let vote = StoredVote { term: 5, node: leader.raft(), is_granted: true };
        let (records, previous, committed) = (Vec::new(), founded, founded);
        let beat = LogRequest::Append { vote, previous, records, committed, echo: 0 };
        let asking = async {
            loop {
                let lane = LaneName::Append;
                match one.ask(own, &peer, ShardId(0), lane, beat.clone(), SOON).await {
                    Ok(LogResponse::Append { .. }) => return true,
                    Ok(LogResponse::AppendWithoutRoom { .. }) => return false,
                    Ok(other) => panic!("another answer: {other:?}"),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        timeout(SOON, asking).await.expect("it answers a heartbeat")
    };
    assert!(has_room().await);
    shelf.doubt(true);
    assert!(!has_room().await, "a leader would hand over to a node whose clock is off");
    shelf.doubt(false);
    assert!(has_room().await);
    shelf.leave();
    assert!(!has_room().await, "a leader would hand over to a node that is about to stop");
    shelf.fill(Vec::new());
    host.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_lane_to_a_node_that_is_gone_is_closed_when_nobody_asks_any_more() {
    let two = answering(Roll::default()).await;
    let (gone, other) = (node(2, 1), node(3, 1));
    let address = two.address.to_string();
    let roll = Roll::default();
    let row = |node, standing| (node, document(&address, standing));
    roll.set(Members([row(gone, Standing::Removed), row(other, Standing::Active)].into()));
    let one = LogWire::new(ground(node(1, 1), CLUSTER, SECRET, roll));
    let following = one.follow();
    let leads_to = |node: NodeId| one.lanes().keys().any(|(to, _)| *to == node);
    let until = async |is_so: &dyn Fn() -> bool| {
        let waiting = async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, waiting).await
    };
    until(&|| leads_to(other)).await.expect("it follows the list");
    // The engine learns of the removal later than the list.
    let _ = ask(&one, two.address).await;
    assert!(leads_to(gone));
    until(&|| !leads_to(gone)).await.expect("nobody asks any more");
    assert!(leads_to(other), "a member is not closed however quiet it is");
    following.abort();
}

#[tokio::test]
async fn a_lane_to_a_node_that_is_gone_stays_while_it_is_asked() {
    let two = answering(Roll::default()).await;
    let one = LogWire::new(ground(node(1, 1), CLUSTER, SECRET, Roll::default()));
    let gone = Members([(node(2, 1), document("", Standing::Removed))].into());
    let mut known = Asked::new();
    for _ in 0..3 {
        let _ = ask(&one, two.address).await;
        one.close_idle(&gone, &mut known);
        assert_eq!(one.lanes().len(), 1);
    }
    one.close_idle(&gone, &mut known);
    assert!(one.lanes().is_empty());
}

#[tokio::test]
async fn questions_fail_at_once_while_nobody_is_there() {
    let two = answering(Roll::default()).await;
    two.serving.abort();
    let _ = two.serving.await;
    let one = LogWire::new(ground(node(1, 1), CLUSTER, SECRET, Roll::default()));
    let told = ask(&one, two.address).await;
    assert!(matches!(told, TransportError::Unreachable { .. }), "{told}");
    assert!(told.to_string().contains("refused the connection"), "{told}");
}

#[tokio::test]
async fn a_node_that_joins_gets_an_identity_only_for_its_own_number_and_with_the_cookie() {
    let two = answering(Roll::default()).await;
    let wire = wire();
    let request = JoinRequest {
        number: 5,
        nonce: [1; 16],
        document: document("", Standing::Active),
        replace: false,
    };
    let address = two.address.to_string();
    let granted = join::ask(&wire, &cookie(SECRET), Build::THIS, &address, 2, &request)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((granted.node, granted.cluster, granted.shards), (node(5, 1), CLUSTER, 4));
    let why =
        join::ask(&wire, &cookie("another-cookie-altogether"), Build::THIS, &address, 2, &request)
            .await;
    assert!(why.unwrap_err().contains("the cookie is another one"));
}

/// Greets a node 2 of one build in the name of a node 1 of another.
async fn greeted(ours: Build, theirs: Build) -> Result<Welcome, GreetingError> {
    let two = answering_as(node_of(node(2, 1), theirs)).await;
    let mut socket = wire().dial(&two.address.to_string(), 2).await.unwrap();
    let hello = Hello {
        version: 0,
        cluster: Some(CLUSTER),
        from: node(1, 1),
        to: Some(node(2, 1)),
        purpose: Purpose::Lane(0),
        level: ours.level,
    };
    greeting::greet(&mut socket, &cookie(SECRET), ours, hello).await
}

#[tokio::test]
async fn a_newer_build_speaks_the_older_version_to_an_older_one_and_its_own_with_its_like() {
    let (old, new) = (Build::THIS, Build::rehearsed(2));
    for (ours, theirs, version) in [(old, old, 3), (old, new, 3), (new, old, 3), (new, new, 4)] {
        let told = greeted(ours, theirs).await.unwrap();
        assert_eq!(told, Welcome { version, level: theirs.level }, "{ours:?} to {theirs:?}");
    }
    let apart = greeted(Build { wire: 0, ..old }, old).await.unwrap_err().to_string();
    let expected = "it speaks versions 1 to 3 of the log's wire, this build 1 to 0";
    assert_eq!(apart, expected);
}

#[tokio::test]
async fn each_side_knows_the_level_of_the_other_for_as_long_as_they_are_connected() {
    let (first, second) =
        (node_of(node(1, 1), Build::rehearsed(2)), node_of(node(2, 1), Build::THIS));
    let two = answering_as(Arc::clone(&second)).await;
    let known = || (first.builds.level_of(node(2, 1)), second.builds.level_of(node(1, 1)));
    assert_eq!(known(), (None, None));
    let one = LogWire::new(Arc::clone(&first));
    assert!(ask(&one, two.address).await.to_string().contains("is not open here"));
    assert_eq!(known(), (Some(1), Some(2)));
    two.serving.abort();
    let forgotten = async {
        while known() != (None, None) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, forgotten).await.expect("what a node told ends with its connections");
}

#[tokio::test]
async fn a_node_that_joins_is_not_known_by_its_build() {
    let second = node_of(node(2, 1), Build::THIS);
    let two = answering_as(Arc::clone(&second)).await;
    let document = document("", Standing::Active);
    let request = JoinRequest { number: 5, nonce: [1; 16], document, replace: false };
    let build = Build::rehearsed(2);
    let address = two.address.to_string();
    join::ask(&wire(), &cookie(SECRET), build, &address, 2, &request).await.unwrap().unwrap();
    assert_eq!(second.builds.level_of(node(5, 0)), None);
}

/// Connects a node 1 of one build to a node 2 of another, and waits until node 1 has a time that both agree on, as two
/// voters would.
async fn time_of(ours: Build, theirs: Build) -> Arc<Ground> {
    let two = answering_as(node_of(node(2, 1), theirs)).await;
    let first = node_of(node(1, 1), ours);
    let one = LogWire::new(Arc::clone(&first));
    assert!(ask(&one, two.address).await.to_string().contains("is not open here"));
    let voters = [node(1, 1), node(2, 1)].into();
    let set = async {
        while !first.clock.is_set() {
            first.clock.turn(&voters, || None);
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, set).await.expect("the clock is set");
    first
}

#[tokio::test]
async fn a_node_is_asked_for_its_time_and_an_older_build_that_knows_no_echoes_is_not() {
    let (old, new) = (Build { wire: 2, ..Build::THIS }, Build::THIS);
    let asked = async |ours, theirs| time_of(ours, theirs).await.clock.has_heard(node(2, 1));
    assert!(asked(new, new).await);
    assert!(!asked(new, old).await && !asked(old, new).await);
}
