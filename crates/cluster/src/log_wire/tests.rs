//! Two ends of the log's wire on loopback: who is let in, what is answered, what is heard when one end is gone.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use statehouse_contract::{MemberDocument, Members, NodeId, ShardId, Standing};
use statehouse_log::{Lane as LaneName, LogRequest, Peer, Transport as _, TransportError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use super::{
    Ground, LogWire,
    desk::{self, Desk, Shelf},
    join::{self, JoinDesk, JoinGrant, JoinRequest, Served},
};
use crate::{
    cookie::Cookie,
    identity::ClusterId,
    roll::Roll,
    security::LinkSecurity,
    socket::{Socket, Wire},
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
    let wire = Arc::new(Wire::new(LinkSecurity::Plain, Arc::default(), Arc::default()));
    Arc::new(Ground { own, cluster, cookie: cookie(secret), wire, roll })
}

/// Gives everybody the same identity.
struct Generous;

impl JoinDesk for Generous {
    fn serve<'a>(&'a self, socket: &'a mut Socket, number: u32) -> Served<'a> {
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, lost) = mpsc::channel(8);
    let ground = ground(node(2, 1), CLUSTER, SECRET, roll);
    let joins = Arc::new(Generous);
    let serving =
        desk::serve(Desk { ground, shelf: Shelf::default(), joins, lost: sender }, listener);
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
    let wire = Wire::new(LinkSecurity::Plain, Arc::default(), Arc::default());
    let request = JoinRequest {
        number: 5,
        nonce: [1; 16],
        document: document("", Standing::Active),
        replace: false,
    };
    let address = two.address.to_string();
    let granted = join::ask(&wire, &cookie(SECRET), &address, 2, &request).await.unwrap().unwrap();
    assert_eq!((granted.node, granted.cluster, granted.shards), (node(5, 1), CLUSTER, 4));
    let why = join::ask(&wire, &cookie("another-cookie-altogether"), &address, 2, &request).await;
    assert!(why.unwrap_err().contains("the cookie is another one"));
}
