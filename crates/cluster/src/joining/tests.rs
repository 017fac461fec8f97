//! Joining and announcing: which question is asked again, what a stored answer is worth later, who corrects an address.
//!
//! The desk that answers is a puppet; the rows that an announcement changes are those of a node alone.
//!
//! Absent on purpose: the wire itself, which `log_wire` tries.

use std::sync::Mutex;

use statehouse_contract::{Json, Standing, StoredReceipt};
use statehouse_runtime::{Builds, Tuning};
use tokio::{net::TcpListener, sync::mpsc};

use super::*;
use crate::{
    Bootstrap, Node, NodeConfig,
    clock::ClusterClock,
    log_wire::{
        Ground,
        desk::{self, Desk, Shelf},
    },
    testing::Stopped,
};

const CLUSTER: ClusterId = ClusterId([7; 16]);

const fn node(number: u32, incarnation: u32) -> NodeId {
    NodeId { number, incarnation }
}

fn document(standing: Standing) -> MemberDocument {
    let text = String::new;
    let (links, log, api) = (text(), text(), text());
    MemberDocument { links, log, api, region: None, standing: Some(standing) }
}

/// Refuses the first question, does not answer the second, and takes in whoever asks the third.
#[derive(Default)]
struct Moody(Mutex<Vec<[u8; 16]>>);

impl JoinDesk for Moody {
    fn serve<'a>(&'a self, socket: &'a mut Socket, number: u32, _level: u16) -> Served<'a> {
        Box::pin(join::serve(socket, number, async move |request| {
            let mut heard = self.0.lock().unwrap();
            heard.push(request.nonce);
            match heard.len() {
                1 => Ok(Err("not today".into())),
                2 => Err(io::Error::other("nobody leads")),
                _ => Ok(Ok(JoinGrant { node: node(number, 1), cluster: CLUSTER, shards: 4 })),
            }
        }))
    }
}

#[tokio::test]
async fn a_join_that_was_refused_is_another_question_next_time_and_one_without_an_answer_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("node-5");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cookie = Cookie::from_text("a-cookie-of-the-tests");
    let ground = Arc::new(Ground {
        own: node(2, 1),
        cluster: CLUSTER,
        cookie: cookie.clone(),
        wire: Arc::new(Wire::new(LinkSecurity::Plain, Arc::default(), Arc::default())),
        roll: Roll::default(),
        build: Build::THIS,
        builds: Builds::default(),
        clock: ClusterClock::new(node(2, 1), Arc::new(Stopped), Arc::default()),
    });
    let desk = Arc::new(Moody::default());
    let joins = Arc::clone(&desk) as Arc<dyn JoinDesk>;
    let (lost, _kept) = mpsc::channel(1);
    let serving = desk::serve(Desk { ground, shelf: Shelf::default(), joins, lost }, listener);
    let seeds = [(2, address)];
    let ask = async || {
        join(Joining {
            data: &data,
            number: 5,
            seeds: &seeds,
            document: document(Standing::Active),
            replace: false,
            cookie: &cookie,
            security: &LinkSecurity::Plain,
            build: Build::THIS,
        })
        .await
    };
    let no = ask().await.unwrap_err();
    assert!(matches!(no, NodeError::Join(JoinError::Refused(_))), "{no}");
    let no = ask().await.unwrap_err();
    assert!(matches!(no, NodeError::Join(JoinError::NobodyThere { .. })), "{no}");
    assert_eq!(ask().await.unwrap(), node(5, 1));
    let heard = desk.0.lock().unwrap().clone();
    assert_ne!(heard[0], heard[1], "the refusal is stored under the first number");
    assert_eq!(heard[1], heard[2], "the second may have been taken in");
    serving.abort();
}

#[test]
fn an_identity_that_was_taken_back_is_not_given_out_again() {
    let body = Json::parse(br#"{"node":"n3.1","standing":"active"}"#).unwrap();
    let (kind, fingerprint) = (ReceiptKind::Created, Digest::of(b"join"));
    let receipt = StoredReceipt { kind, fingerprint, version: None, body }.at(7);
    let told = |members: &[(NodeId, Standing)]| {
        let rows = members.iter().map(|(node, standing)| (*node, document(*standing)));
        minted(&receipt, &Members(rows.collect())).unwrap()
    };
    assert_eq!(told(&[]), Ok(node(3, 1)), "this copy does not know it yet");
    assert_eq!(told(&[(node(3, 1), Standing::Active)]), Ok(node(3, 1)));
    let why = told(&[(node(3, 1), Standing::Removed)]).unwrap_err();
    assert!(why.contains("n3.1") && why.contains("join again"), "{why}");
    assert!(told(&[(node(3, 1), Standing::Active), (node(3, 2), Standing::Active)]).is_err());
}

#[tokio::test]
async fn a_node_corrects_its_own_address_whoever_has_written_an_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let house = Node::start(NodeConfig {
        data: directory.path().to_owned(),
        number: 1,
        api: String::new(),
        region: None,
        bootstrap: Bootstrap::Found { shards: 1 },
        cluster: None,
        clock: Arc::new(Stopped),
        tuning: Tuning::standard(),
    });
    let house = house.await.unwrap();
    let (router, own) = (house.router(), house.id());
    let here = MemberDocument { log: "here:7600".to_owned(), ..document(Standing::Active) };
    let here = MemberDocument { standing: None, ..here };
    let listed = |document: &MemberDocument| Members([(own, document.clone())].into());
    // The list says where it is, and has said so for long.
    let roll = Roll::default();
    roll.set(listed(&here));
    let announcing = announce(router.clone(), &roll, own, here.clone());
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    let standing = Some(Standing::Draining);
    let old = MemberDocument { log: "elsewhere:7600".to_owned(), standing, ..here.clone() };
    let drain = Command::PutMember { node: own, document: old.clone(), replace: false };
    router.submit(envelope(drain, "drain")).await.unwrap();
    roll.set(listed(&old));
    let begun = std::time::Instant::now();
    let known = loop {
        let known = house.members().unwrap().0[&own].clone();
        if known != old {
            break known;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{known:?}");
        sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(known, MemberDocument { standing, ..here }, "the address, and nothing else");
    announcing.abort();
    house.drain(Duration::from_secs(5)).await;
}
