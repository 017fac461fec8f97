//! The living part as a whole: real files, real actors, a clock that the test sets.

mod answers;
mod children;
mod chorus;
mod fixture;
mod own_worker;
mod promises;
mod schedules;
mod tasks;
mod upkeep;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fixture::{Fixture, envelope, key};
use ractor::Actor;
use statehouse_contract::{Command, Json, KeyText, ReceiptKind, RejectionCode, Verb};

use super::Tuning;
use crate::{
    admission::Pool,
    instance_actor::{InstanceActor, InstanceArguments},
    message::{Ask, Delivery, InstanceMessage, Reply},
    reign::Reign,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_gets_the_stored_answer_byte_for_byte() {
    let house = Fixture::new().await;
    let born = house.start("a", "s").await.unwrap();
    let first = house.send("a", "open", "k1").await.unwrap();
    assert_eq!((born.kind, first.kind), (ReceiptKind::Created, ReceiptKind::Accepted));
    house.send("a", "close", "k2").await.unwrap();
    for (event, name, expected) in [("open", "k1", &first)] {
        let again = house.send("a", event, name).await.unwrap();
        assert!(again.replayed && !expected.replayed);
        assert_eq!(again.body.as_str(), expected.body.as_str());
    }
    let reborn = house.start("a", "s").await.unwrap();
    assert_eq!((reborn.body.as_str(), reborn.replayed), (born.body.as_str(), true));
    assert_eq!(house.host.metrics().replayed.load(Ordering::Relaxed), 2);
    let reused = house.send("a", "close", "k1").await.unwrap_err();
    assert_eq!(reused.code, RejectionCode::KeyReused);
    let taken = house.start("a", "other").await.unwrap();
    assert_eq!(taken.kind, ReceiptKind::Refused(RejectionCode::AlreadyExists));
    assert_eq!(house.read("a").await.version, 3);

    let house = house.restart().await;
    let after = house.send("a", "open", "k1").await.unwrap();
    assert_eq!((after.body.as_str(), after.replayed), (first.body.as_str(), true));
    assert_eq!(house.read("a").await.version, 3);
    house.until("every permit came back", async |house| house.seat().admission().used() == 0).await;
    house.host.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_under_one_key_make_one_transition() {
    let house = Arc::new(Fixture::new().await);
    house.start("a", "s").await.unwrap();
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let house = Arc::clone(&house);
        tries.spawn(async move { house.send("a", "open", "same").await.unwrap() });
    }
    let answers = tries.join_all().await;
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(house.read("a").await.version, 2);
    house.until("every permit came back", async |house| house.seat().admission().used() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_stored_and_no_other_attempt_of_its_key_is_applied() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    let refused = house.send("a", "close", "k").await.unwrap();
    assert_eq!(refused.kind, ReceiptKind::Refused(RejectionCode::NotHandled));
    house.send("a", "open", "o").await.unwrap();
    let again = house.send("a", "close", "k").await.unwrap();
    assert_eq!((again.body.as_str(), again.replayed), (refused.body.as_str(), true));
    assert_eq!(house.read("a").await.configuration, ["opened"]);
    let nobody = house.send("nobody", "open", "k").await.unwrap();
    assert_eq!(nobody.kind, ReceiptKind::Refused(RejectionCode::UnknownInstance));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_fires_when_it_is_due_and_never_before() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.send("a", "wind", "w").await.unwrap();
    house.clock.advance(29_999);
    for _ in 0..20 {
        house.poke();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(house.read("a").await.configuration, ["wound"], "a millisecond is missing");
    house.clock.advance(1);
    house.until("the timer fires", async |house| house.read("a").await.version == 3).await;
    let fired = |house: &Fixture| house.host.metrics().fired.load(Ordering::Relaxed);
    house.until("it is counted", async |house| fired(house) > 0).await;
    assert_eq!(fired(&house), 1);
    let page = house.seat().history(&key("a"), 0, 0, 10).await.unwrap();
    let last = page.items.last().unwrap();
    assert_eq!((last.cause.as_str(), last.event.as_str()), ("timer", "after.30s.wound"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_that_became_due_while_nobody_ran_fires_promptly_and_once() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.send("a", "wind", "w").await.unwrap();
    let Fixture { host, clock, directory, tuning } = house;
    host.drain(Duration::from_secs(5)).await;
    clock.advance(3_600_000);
    let stopped =
        Fixture { host: fixture_host(&directory, &clock, tuning).await, clock, directory, tuning };
    stopped.until("the timer fires", async |house| house.read("a").await.version == 3).await;
    assert_eq!(stopped.read("a").await.configuration, ["closed"]);
    let stopped = stopped.restart().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stopped.read("a").await.version, 3);
}

async fn fixture_host(
    directory: &tempfile::TempDir,
    clock: &Arc<fixture::TestClock>,
    tuning: Tuning,
) -> super::ShardHost {
    fixture::start(directory, clock, tuning, crate::Reserve::Bytes(0)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_keeps_panicking_is_set_aside_and_its_neighbours_do_not_notice() {
    let house = Fixture::new().await;
    house.start("bad", "s1").await.unwrap();
    house.start("good", "s2").await.unwrap();
    // Each reading of the clock by the instance's actor panics; the door sends the command again.
    house.clock.break_for(3);
    let refused = house.send("bad", "open", "k").await.unwrap_err();
    assert!(house.clock.is_whole());
    assert_eq!(refused.code, RejectionCode::Quarantined, "{refused}");
    assert_eq!(house.host.metrics().quarantined.load(std::sync::atomic::Ordering::Relaxed), 1);
    let neighbour = house.send("good", "open", "k").await.unwrap();
    assert_eq!(neighbour.kind, ReceiptKind::Accepted);
    let still = house.send("bad", "open", "k2").await.unwrap_err();
    assert_eq!(still.code, RejectionCode::Quarantined);
    assert_eq!(house.read("bad").await.version, 1, "reads are served");
    // An operator's verb lets it out.
    house.operate("bad", Verb::Pause).await.unwrap();
    house.operate("bad", Verb::Resume).await.unwrap();
    assert_eq!(house.send("bad", "open", "k").await.unwrap().kind, ReceiptKind::Accepted);
    house.until("every permit came back", async |house| house.seat().admission().used() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_actor_comes_back_from_its_rows_and_the_caller_does_not_notice() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.send("a", "open", "k1").await.unwrap();
    let actor = house.seat().directory().find_instance(&key("a")).unwrap();
    actor.kill();
    let next = house.send("a", "close", "k2").await.unwrap();
    assert_eq!(next.version.map(|version| version.version), Some(3));
    house.until("every permit came back", async |house| house.seat().admission().used() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_actors_of_one_instance_cannot_both_move_it() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    // A second actor that nobody finds, as after a race: it reads the rows now, and acts on them later.
    let term = house.seat().log().numbers().term;
    let reign = Arc::new(Reign::new(Arc::clone(house.seat()), term));
    let arguments = InstanceArguments { key: key("a"), reign, used_ms: Arc::default() };
    let (second, _) = Actor::spawn(None, InstanceActor, arguments).await.unwrap();
    let through_second = async |event: &str, name: &str| {
        let command =
            Command::Send { event: event.into(), data: Json::empty_object(), postpone_ms: None };
        let ask = Arc::new(Ask::new(envelope(&key("a"), name, command)));
        let permit = house.seat().admission().admit(&key("a"), Pool::Client).unwrap();
        let (reply, answer) = tokio::sync::oneshot::channel();
        let delivery = Box::new(Delivery { ask, permit, reply });
        second.send_message(InstanceMessage::Deliver(delivery)).unwrap();
        match answer.await.unwrap() {
            Reply::Receipt(receipt) => *receipt,
            other => panic!("no receipt: {other:?}"),
        }
    };
    for round in 0..5 {
        let opened = house.send("a", "open", &format!("open-{round}")).await.unwrap();
        let closed = through_second("close", &format!("close-{round}")).await;
        assert_eq!((opened.kind, closed.kind), (ReceiptKind::Accepted, ReceiptKind::Accepted));
    }
    assert_eq!(house.read("a").await.version, 11);
    assert!(house.host.metrics().fenced.load(std::sync::atomic::Ordering::Relaxed) > 0);
    let page = house.seat().history(&key("a"), 0, 0, 50).await.unwrap();
    let versions: Vec<u64> = page.items.iter().map(|item| item.version).collect();
    assert_eq!(versions, (1..=11).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_sees_every_write_before_it_however_warm_the_caches_are() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    for round in 0..50_u64 {
        let event = if round % 2 == 0 { "open" } else { "close" };
        let moved = house.send("a", event, &format!("k{round}")).await.unwrap();
        let (first, second) = (house.read("a").await, house.read("a").await);
        assert_eq!(Some(first.version), moved.version.map(|version| version.version));
        assert_eq!(first, second);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postponed_command_gets_its_final_answer_under_its_own_key() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    let later = house.send("a", "later", "k").await.unwrap();
    assert_eq!(later.kind, ReceiptKind::Postponed);
    let again = house.send("a", "later", "k").await.unwrap();
    assert_eq!((again.body.as_str(), again.replayed), (later.body.as_str(), true));
    house.send("a", "open", "o").await.unwrap();
    let name = KeyText::parse("k").unwrap();
    let settled = house.seat().stored_receipt(&key("a"), &name, 5_000).await.unwrap();
    assert_eq!(settled.kind, ReceiptKind::Accepted);
    assert!(
        settled.body.as_str().contains(r#""reply":{"at":"opened"}"#),
        "{}",
        settled.body.as_str()
    );
    let repeat = house.send("a", "later", "k").await.unwrap();
    assert_eq!(repeat.body, settled.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_gateway_costs_a_moment_and_no_answer() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    let gateway = house.seat().directory().find_gateway(house.seat().shard()).unwrap();
    gateway.kill();
    let answered = house.send("a", "open", "k").await.unwrap();
    assert_eq!(answered.version.map(|version| version.version), Some(2));
    house.until("the shard serves", async |house| house.seat().trouble().is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_answers_and_writes_nothing() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    let command =
        Command::Send { event: "open".into(), data: Json::empty_object(), postpone_ms: None };
    let tried = house.seat().dry_run(&envelope(&key("a"), "k", command)).await.unwrap();
    assert_eq!(tried.kind, ReceiptKind::Accepted);
    assert_eq!(house.read("a").await.version, 1);
    let real = house.send("a", "open", "k").await.unwrap();
    assert!(!real.replayed);
    let asked = house.seat().explain(&key("a")).await.unwrap();
    assert!(asked.as_str().contains(r#""event":"close""#), "{}", asked.as_str());
    assert!(asked.as_str().contains(r#""last_refusal":null"#), "{}", asked.as_str());
    let refused = house.send("a", "open", "again").await.unwrap();
    assert_eq!(refused.kind, ReceiptKind::Refused(RejectionCode::NotHandled));
    let asked = house.seat().explain(&key("a")).await.unwrap().to_value();
    let last = &asked["last_refusal"];
    assert_eq!((&last["event"], &last["code"]), (&"open".into(), &"not_handled".into()), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_declared_as_a_signal_is_one_whatever_it_was_sent_as() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    let taken = house.send("a", "ping", "p").await.unwrap();
    assert!(taken.body.as_str().contains(r#""outcome":"applied","version":2"#), "{taken:?}");
    house.send("a", "wind", "w").await.unwrap();
    let ignored = house.send("a", "ping", "p2").await.unwrap();
    assert_eq!(ignored.kind, ReceiptKind::Accepted);
    assert!(ignored.body.as_str().contains(r#""outcome":"ignored","version":3"#), "{ignored:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_history_promises_no_more_when_only_refusals_follow() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.send("a", "open", "k1").await.unwrap();
    house.send("a", "open", "k2").await.unwrap();
    let more =
        async |limit| house.seat().history(&key("a"), 0, 0, limit).await.unwrap().page.has_more;
    assert_eq!((more(1).await, more(2).await, more(3).await), (true, false, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_tells_every_entry_of_every_instance() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.send("a", "wind", "w").await.unwrap();
    house.send("a", "close", "c").await.unwrap();
    let page = house.seat().dump(0, 1_000).await.unwrap();
    let kinds: Vec<String> = page
        .lines
        .iter()
        .map(|line| {
            let line = line.to_value();
            let word = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", word("e"), word("kind"), word("cmd"))
        })
        .collect();
    assert_eq!(
        kinds,
        ["entry start start", "entry cmd wind", "entry refused close", "open - -", "shard - -"]
    );
    assert_eq!(page.next, None);
}
