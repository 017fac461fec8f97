//! Where a command goes, how long it waits there, and what may be believed of what comes back.
//!
//! The other nodes are puppets: a leader whose appends the test sends by hand, and gates that answer as the test says.

mod puppets;

use puppets::{House, Puppet, filter, key_in, press, receipt};

use statehouse_contract::{Answer, Consistency, Query, WatchScope};

use super::*;
use crate::forward::Told;

const SHARD: ShardId = ShardId(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_of_the_highest_term_that_is_known_gets_the_command() {
    let house = House::open().await;
    let (first, second) = (house.other(0), house.other(1));
    let one = Puppet::put_up(SHARD, first, |_, _| Some(Told::Receipt(Box::new(receipt(1)))));
    let two = Puppet::put_up(SHARD, second, |_, _| Some(Told::Receipt(Box::new(receipt(2)))));
    let (one, two) = (one.await, two.await);
    house.follow(SHARD, first, 5).await;
    let submit = async |name: &str| house.router.submit(press(SHARD, name)).await.unwrap().position;
    assert_eq!(submit("k1").await, 1, "its own replica's belief");
    house.router.hint(SHARD, |hint| *hint = Some((4, second)));
    assert_eq!(submit("k2").await, 1, "a hint of an older term is none");
    house.router.hint(SHARD, |hint| *hint = Some((6, second)));
    assert_eq!(submit("k3").await, 2, "a hint of a later one is better than the belief");
    house.follow(SHARD, first, 7).await;
    assert_eq!(submit("k4").await, 1, "until the belief is of a later one still");
    drop((one, two));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_without_an_answer_is_abandoned_and_repeated_under_its_key() {
    let house = House::open().await;
    let other = house.other(0);
    let gate = Puppet::put_up(SHARD, other, |call, _| {
        (call > 0).then(|| Told::Receipt(Box::new(receipt(9))))
    });
    let gate = gate.await;
    house.follow(SHARD, other, 5).await;
    let began = Instant::now();
    let told = house.router.submit(press(SHARD, "k")).await.unwrap();
    assert_eq!(told.position, 9);
    assert!(began.elapsed() >= silence(Profile::Local), "it was given its time");
    let heard = gate.heard();
    assert_eq!(heard.len(), 2);
    assert_eq!((&heard[0].key, &heard[0].command), (&heard[1].key, &heard[1].command));
    assert_eq!(heard[0].fingerprint, heard[1].fingerprint);
    assert!(heard[1].remaining_ms < heard[0].remaining_ms, "it carries the time that is left");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_is_abandoned_when_a_higher_term_is_seen() {
    let house = House::open().await;
    let (old, new) = (house.other(0), house.other(1));
    let gate = Puppet::put_up(SHARD, old, |_, _| None).await;
    house.follow(SHARD, old, 5).await;
    let seat = house.router.seat(SHARD).unwrap();
    let way = gate::of_node(SHARD, old).unwrap();
    let long = Duration::from_secs(300);
    let envelope = CommandEnvelope { remaining_ms: 300_000, ..press(SHARD, "k") };
    let waits = house.router.forwarded(&seat, &way, envelope, long);
    let deposed = async {
        gate.until_heard(1).await;
        house.follow(SHARD, new, 6).await;
    };
    let ended =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(waits, deposed).0 });
    let no = ended.await.expect("it does not wait for the old leader").unwrap_err();
    assert_eq!(no.code, RejectionCode::DeadlineExceeded, "the old one may have written it");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_sent_is_certainly_not_done() {
    let house = House::open().await;
    let other = house.other(0);
    let gate = Puppet::put_up(SHARD, other, |_, _| Some(Told::Receipt(Box::new(receipt(1)))));
    let gate = gate.await;
    house.follow(SHARD, other, 5).await;
    let seat = house.router.seat(SHARD).unwrap();
    // Found while it lived, asked after its end: as when a node's links close between the two.
    let way = gate::of_node(SHARD, other).unwrap();
    gate.end().await;
    let silence = silence(Profile::Local);
    let no = house.router.forwarded(&seat, &way, press(SHARD, "k"), silence).await.unwrap_err();
    assert_eq!((no.code, no.code.status()), (RejectionCode::NoLeader, 503), "{no}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_in_doubt_once_is_never_certainly_undone() {
    let house = House::open().await;
    let other = house.other(0);
    let full = || Rejection::gateway(RejectionCode::Overloaded, "full");
    let gate = Puppet::put_up(SHARD, other, move |call, envelope| {
        let is_doubtful = envelope.key == press(SHARD, "doubtful").key;
        (call > 0 || !is_doubtful).then(|| Told::Rejected(Box::new(full())))
    });
    let gate = gate.await;
    house.follow(SHARD, other, 5).await;
    let no = house.router.submit(press(SHARD, "doubtful")).await.unwrap_err();
    assert_eq!(no.code, RejectionCode::DeadlineExceeded);
    assert!(gate.heard().len() >= 2);
    let no = house.router.submit(press(SHARD, "plain")).await.unwrap_err();
    assert_eq!(no.code, RejectionCode::Overloaded, "nothing of this one was in doubt");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typed_not_here_is_certain_and_its_hint_is_kept() {
    let house = House::open().await;
    let (other, named) = (house.other(0), house.other(1));
    let gate = Puppet::put_up(SHARD, other, move |_, _| {
        Some(Told::NotLeader { term: 8, leader: Some(named) })
    });
    let gate = gate.await;
    house.follow(SHARD, other, 5).await;
    // Nobody answers for the one that is named.
    let no = house.router.submit(press(SHARD, "k")).await.unwrap_err();
    assert_eq!((no.code, no.code.status()), (RejectionCode::NoLeader, 503));
    assert!(!gate.heard().is_empty());
    assert_eq!(house.router.hint(SHARD, |hint| *hint), Some((8, named)));
    let gate = Puppet::put_up(SHARD, named, |_, _| Some(Told::Receipt(Box::new(receipt(3)))));
    let gate = gate.await;
    assert_eq!(house.router.submit(press(SHARD, "k")).await.unwrap().position, 3);
    assert_eq!(gate.heard().len(), 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_in_beside_a_copy_of_shard_0_that_nobody_vouches_for() {
    let house = House::open_unled().await;
    let other = house.other(0);
    let gate = Puppet::put_up(SHARD, other, |_, _| Some(Told::Receipt(Box::new(receipt(1)))));
    let gate = gate.await;
    house.follow(SHARD, other, 5).await;
    let read = |consistency| {
        let (key, min_version, remaining_ms) = (key_in(REGISTRY), None, 1_000);
        house.router.query(Query::Instance { key, consistency, min_version, remaining_ms })
    };
    // It follows a leader and hears from it, but no answer of its own has come back.
    house.follow_unvouched(REGISTRY, other, 5).await;
    let no = house.router.submit(press(SHARD, "k1")).await.unwrap_err();
    assert_eq!(no.code, RejectionCode::NoLeader);
    assert!(gate.heard().is_empty(), "it did not leave the node");
    assert_eq!(read(Consistency::Linearizable).await.unwrap_err().code, RejectionCode::NoLeader);
    assert_eq!(read(Consistency::Stale).await.unwrap_err().code, RejectionCode::Behind);
    house.follow(REGISTRY, other, 5).await;
    assert_eq!(house.router.submit(press(SHARD, "k1")).await.unwrap().position, 1);
    let known = read(Consistency::Stale).await.unwrap_err();
    assert_eq!(known.code, RejectionCode::UnknownInstance);
    let known = read(Consistency::Linearizable).await.unwrap_err();
    assert_eq!(known.code, RejectionCode::UnknownInstance);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_cannot_answer_is_missing_in_a_list_or_ends_it() {
    let house = House::open().await;
    let other = house.other(0);
    house.follow(REGISTRY, other, 5).await;
    let listed = house.router.query(Query::Instances(filter(false))).await.unwrap();
    let Answer::Instances(page) = listed else { panic!("another answer") };
    assert_eq!((page.items.len(), &*page.page.missing_shards), (0, &[SHARD.0][..]));
    let whole = house.router.query(Query::Instances(filter(true))).await.unwrap_err();
    assert_eq!(whole.code.status(), 503, "{whole}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_cannot_answer_is_missing_in_a_watch_or_ends_it() {
    let house = House::open().await;
    let other = house.other(0);
    house.follow(REGISTRY, other, 5).await;
    let watch = async |scope: WatchScope, complete| {
        let query = Query::Changes { scope, after: None, limit: 10, wait_ms: 0, complete };
        match house.router.query(query).await {
            Ok(Answer::Changes(page)) => Ok(page.page.missing_shards),
            Ok(_) => panic!("another answer"),
            Err(no) => Err(no.code),
        }
    };
    let tenant = || WatchScope::Tenant(filter(false).tenant);
    assert_eq!(watch(tenant(), false).await, Ok(vec![SHARD.0]));
    assert_eq!(watch(tenant(), true).await, Err(RejectionCode::NoLeader));
    // One instance is in one shard: nothing can be told without it.
    let instance = |shard| WatchScope::Instance(key_in(shard));
    assert_eq!(watch(instance(SHARD), false).await, Err(RejectionCode::NoLeader));
    assert_eq!(watch(instance(REGISTRY), false).await, Err(RejectionCode::UnknownInstance));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_house_refuses_at_the_door_and_takes_in_again_what_it_may() {
    let house = House::open().await;
    let other = house.other(0);
    let gate = Puppet::put_up(SHARD, other, |_, _| Some(Told::Receipt(Box::new(receipt(1)))));
    let gate = gate.await;
    house.follow(SHARD, other, 5).await;
    let all = u32::try_from(INGRESS_PERMITS).unwrap();
    let taken = house.router.inner.ingress.try_acquire_many(all).unwrap();
    let no = house.router.submit(press(SHARD, "k")).await.unwrap_err();
    assert_eq!(no.code, RejectionCode::Overloaded);
    assert!(no.retry_after_ms.is_some() && gate.heard().is_empty());
    drop(taken);
    house.router.submit(press(SHARD, "k")).await.unwrap();
    assert_eq!(house.router.inner.ingress.available_permits(), INGRESS_PERMITS);
    house.close().await;
}
