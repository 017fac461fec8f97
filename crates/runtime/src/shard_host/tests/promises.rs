//! What a caller may believe, shown by the order of events that would break it: deadlines, terms that end, permits, time.

use std::{sync::Arc, time::Duration};

use statehouse_contract::{
    Command, CommandEnvelope, DefinitionRef, Digest, InstanceKey, Json, Quota, ReceiptKind,
    RejectionCode, Target, TenantId,
    limits::{SHARD_PERMITS, SHARD_PERMITS_RESERVED},
};
use tokio::sync::Semaphore;

use super::{
    chorus::{Chorus, Hears, replace_last},
    fixture::{DOOR, Fixture, envelope, key, tenant},
};
use crate::{Door, Tuning, admission::Pool};

const NO_QUOTA: Quota = Quota { commands_per_s: None, instances: None, refusals_per_s: None };

async fn house_and_chorus() -> (Fixture, Chorus) {
    let chorus = Chorus::default();
    let transport = Arc::new(chorus.clone());
    (Fixture::among(Tuning::standard(), transport, Chorus::origin()).await, chorus)
}

fn last(house: &Fixture) -> Option<u64> {
    house.seat().log().numbers().last
}

async fn until_open(house: &Fixture) {
    house.until("it leads", async |house| house.seat().leads()).await;
    house.until("it serves", async |house| house.seat().trouble().is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_the_wait_and_neither_the_proposal_nor_its_permit() {
    let (house, chorus) = house_and_chorus().await;
    house.start("a", "s").await.unwrap();
    house.until("every permit came back", async |house| house.seat().admission().used() == 0).await;
    let before = last(&house);
    chorus.hears(Hears::NoEntry);
    let late = house.send_as("a", "open", "k", (200, None)).await.unwrap_err();
    assert_eq!(late.code, RejectionCode::DeadlineExceeded, "unknown, and never \"not done\"");
    assert!(last(&house) > before, "it was proposed");
    assert_eq!(house.seat().admission().used(), 1, "the work goes on, so does its permit");
    let again = house.send_as("a", "open", "k", (50, None)).await.unwrap_err();
    assert_eq!(again.code, RejectionCode::DeadlineExceeded);
    assert_eq!(house.seat().admission().used(), 2);
    chorus.hears(Hears::All);
    house.until("every permit came back", async |house| house.seat().admission().used() == 0).await;
    let told = house.send("a", "open", "k").await.unwrap();
    assert_eq!((told.kind, told.replayed), (ReceiptKind::Accepted, true));
    assert_eq!(house.read("a").await.version, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_dies_with_its_proposal_leaves_no_certain_no_behind() {
    let (house, chorus) = house_and_chorus().await;
    house.start("a", "s").await.unwrap();
    let before = last(&house);
    chorus.hears(Hears::NoEntry);
    let sent = house.send_as("a", "open", "k", (5_000, None));
    let dies = async {
        house.until("it is in the log", async |house| last(house) > before).await;
        // Whoever comes from now on is refused for certain; this command has been proposed.
        house.seat().admission().begin_drain();
        house.seat().directory().find_instance(&key("a")).unwrap().kill();
    };
    let (told, ()) = tokio::join!(sent, dies);
    assert_eq!(told.unwrap_err().code, RejectionCode::DeadlineExceeded);
    let other = house.send("a", "close", "new").await.unwrap_err();
    assert_eq!(other.code, RejectionCode::Draining);
    chorus.hears(Hears::All);
    house.until("it was done", async |house| house.read("a").await.version == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_dies_with_its_proposal_leaves_no_certain_no_behind() {
    let (house, chorus) = house_and_chorus().await;
    let before = last(&house);
    chorus.hears(Hears::NoEntry);
    let sent = house.register("quota", Command::SetQuota(NO_QUOTA));
    let dies = async {
        house.until("it is in the log", async |house| last(house) > before).await;
        house.seat().admission().begin_drain();
        let shard = house.seat().shard();
        house.seat().directory().find_registry(shard).unwrap().kill();
    };
    let (told, ()) = tokio::join!(sent, dies);
    assert_eq!(told.unwrap_err().code, RejectionCode::DeadlineExceeded);
    let other = house.register("new", Command::SetQuota(NO_QUOTA)).await.unwrap_err();
    assert_eq!(other.code, RejectionCode::Draining);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permit_of_the_edge_stays_with_the_work_when_the_caller_goes() {
    let (house, chorus) = house_and_chorus().await;
    house.start("a", "s").await.unwrap();
    let edge = Arc::new(Semaphore::new(2));
    let enter = || {
        let permit = Arc::clone(&edge).try_acquire_owned().unwrap();
        Door::for_admitted(Arc::clone(house.seat()), Arc::new(permit))
    };
    let in_brief = |name: &str, command| {
        let sent = envelope(&key("a"), name, command);
        CommandEnvelope { remaining_ms: 200, ..sent }
    };
    chorus.hears(Hears::NoEntry);
    let open =
        Command::Send { event: "open".into(), data: Json::empty_object(), postpone_ms: None };
    let late = enter().deliver(&key("a"), in_brief("k", open)).await.unwrap_err();
    assert_eq!(late.code, RejectionCode::DeadlineExceeded);
    assert_eq!(edge.available_permits(), 1, "the caller has gone, the proposal has not");
    let quota = in_brief("quota", Command::SetQuota(NO_QUOTA));
    let quota = CommandEnvelope { target: Target::Tenant(tenant()), ..quota };
    let late = enter().register(quota).await.unwrap_err();
    assert_eq!(late.code, RejectionCode::DeadlineExceeded);
    assert_eq!(edge.available_permits(), 0);
    chorus.hears(Hears::All);
    house.until("both came back", async |_| edge.available_permits() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_certainly_not_proposed_is_said_and_leaves_no_trace() {
    let (house, chorus) = house_and_chorus().await;
    house.start("a", "s").await.unwrap();
    chorus.hears(Hears::Nothing);
    let is_alone = async |house: &Fixture| {
        house.seat().log().age().is_some_and(|age| age > Duration::from_secs(1))
    };
    house.until("nobody is heard", is_alone).await;
    let before = last(&house);
    let refused = house.send_as("a", "open", "k", (2_000, None)).await.unwrap_err();
    assert_eq!(refused.code, RejectionCode::NoQuorum, "{refused}");
    assert_eq!(last(&house), before);
    chorus.hears(Hears::All);
    house.until("somebody is heard", async |house| !is_alone(house).await).await;
    until_open(&house).await;
    let first = house.send("a", "open", "k").await.unwrap();
    assert_eq!((first.kind, first.replayed), (ReceiptKind::Accepted, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_that_another_leader_discards_ends_its_actor_normally_and_as_unknown() {
    let (house, chorus) = house_and_chorus().await;
    house.start("a", "s").await.unwrap();
    house.start("idle", "s").await.unwrap();
    // One more than the failures after which an instance is set aside.
    for round in 0..4_u64 {
        house
            .until("idle is awake", async |house| {
                let _ = house.send("idle", "close", &format!("wake-{round}")).await;
                house.seat().directory().find_instance(&key("idle")).is_some()
            })
            .await;
        let idle = house.seat().directory().find_instance(&key("idle")).unwrap().get_id();
        let (event, name) = (if round % 2 == 0 { "open" } else { "close" }, format!("k{round}"));
        let before = last(&house);
        chorus.hears(Hears::NoEntry);
        let sent = async {
            let told = house.send_as("a", event, &name, (5_000, None)).await;
            assert_eq!(told.unwrap_err().code, RejectionCode::DeadlineExceeded, "round {round}");
        };
        let deposed = async {
            house.until("it is in the log", async |house| last(house) > before).await;
            replace_last(house.seat().log()).await;
            chorus.hears(Hears::All);
        };
        tokio::join!(sent, deposed);
        house
            .until("a term has actors of its own", async |house| {
                let found = house.seat().directory().find_instance(&key("idle"));
                found.is_none_or(|actor| actor.get_id() != idle)
            })
            .await;
        until_open(&house).await;
        let told = house.send("a", event, &name).await.unwrap();
        assert_eq!((told.kind, told.replayed), (ReceiptKind::Accepted, false), "round {round}");
        assert_eq!(told.version.map(|version| version.version), Some(round + 2));
    }
    let metrics = house.host.metrics();
    let count = |of: &std::sync::atomic::AtomicU64| of.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(count(&metrics.failures), 0, "unknown is no failure");
    assert_eq!(metrics.quarantined.load(std::sync::atomic::Ordering::Relaxed), 0);
    house.until("every permit came back", async |house| house.seat().admission().used() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_answered_before_its_version_is_looked_at_and_writes_nothing() {
    let house = Fixture::new().await;
    let born = house.start("a", "s").await.unwrap().version.unwrap();
    let first = house.send_as("a", "open", "k1", (5_000, Some(born))).await.unwrap();
    assert_eq!(first.kind, ReceiptKind::Accepted);
    house.send("a", "close", "k2").await.unwrap();
    let before = last(&house);
    let again = house.send_as("a", "open", "k1", (5_000, Some(born))).await.unwrap();
    assert_eq!((again.body.as_str(), again.replayed), (first.body.as_str(), true));
    assert_eq!(last(&house), before);
    let late = house.send_as("a", "open", "k3", (5_000, Some(born))).await.unwrap();
    assert_eq!(late.kind, ReceiptKind::Refused(RejectionCode::VersionConflict));
    assert!(last(&house) > before, "what was judged is written down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_repeated_after_a_newer_version_runs_what_it_ran() {
    let house = Fixture::new().await;
    let wanted = || DefinitionRef {
        name: statehouse_contract::DefinitionName::parse("door").unwrap(),
        version: None,
        digest: None,
    };
    let start = async || {
        let definition =
            crate::reading::resolve(house.seat(), &key("a").tenant, &wanted()).await.unwrap();
        let command = Command::Start { definition, input: Json::empty_object() };
        // The fingerprint is of what the client has sent: it named no version.
        let fingerprint = Digest::of(b"start door");
        let sent = envelope(&key("a"), "s", command);
        let sent = statehouse_contract::CommandEnvelope { fingerprint, ..sent };
        house.door().deliver(&key("a"), sent).await.unwrap()
    };
    let first = start().await;
    assert!(first.body.as_str().contains(r#""definition_version":1"#), "{first:?}");
    house.deploy_as(&DOOR.replace("version: 1", "version: 2"), "deploy-2").await;
    let again = start().await;
    assert_eq!((again.body.as_str(), again.replayed), (first.body.as_str(), true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_fires_although_clients_hold_everything_that_they_may() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.send("a", "wind", "w").await.unwrap();
    house.until("every permit came back", async |house| house.seat().admission().used() == 0).await;
    let names = (0..).map(|n: usize| InstanceKey {
        tenant: TenantId::parse(&format!("t-{}", n % 4)).unwrap(),
        ..key(&format!("i-{}", n % 100))
    });
    let shares = SHARD_PERMITS - SHARD_PERMITS_RESERVED;
    let held: Vec<_> = names
        .take(shares)
        .map(|name| house.seat().admission().admit(&name, Pool::Client).unwrap())
        .collect();
    let refused = house.send("a", "close", "c").await.unwrap_err();
    assert_eq!(refused.code, RejectionCode::Overloaded, "{refused}");
    house.clock.advance(30_000);
    house.until("the timer fires", async |house| house.read("a").await.version == 3).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_decision_is_earlier_than_what_the_shard_has_applied() {
    let house = Fixture::new().await;
    house.clock.advance(10_000);
    house.start("a", "s").await.unwrap();
    let first = house.read("a").await.updated_at;
    // The clock is set back while the leader goes on.
    house.clock.advance(-8_000);
    house.start("b", "s").await.unwrap();
    let second = house.read("b").await.created_at;
    assert!(second >= first, "{second} after {first}");
    house.send("a", "open", "k").await.unwrap();
    let third = house.read("a").await.updated_at;
    assert!(third >= second, "{third} after {second}");
    house.clock.advance(20_000);
    house.send("a", "close", "k2").await.unwrap();
    let fourth = house.read("a").await.updated_at;
    assert!(fourth > third, "and it goes on with the clock: {fourth} after {third}");
}
