//! What must be confirmed before it is answered: by the shard's leader, by shard 0, or by the rows of a later version.

use std::{sync::Arc, time::Duration};

use statehouse_contract::{
    Command, Consistency, DefinitionName, DefinitionRef, InstanceFilter, Json, KeyText,
    ReceiptKind, Rejection, RejectionCode, ShardId, limits,
};

use super::{
    chorus::{Chorus, Hears},
    fixture::{Fixture, TestClock, config, envelope, key, start, tenant},
};
use crate::{HostConfig, Reserve, ShardHost, Tuning, questions::shard::within, reading::resolve};

/// Starts a shard whose two other voters hear nothing: nobody ever leads it.
async fn nobody_leads() -> (tempfile::TempDir, ShardHost) {
    let directory = tempfile::tempdir().unwrap();
    let chorus = Chorus::default();
    chorus.hears(Hears::Nothing);
    let clock = Arc::new(TestClock::default());
    let config = config(&directory, &clock, Tuning::standard(), Reserve::Bytes(0));
    let (origin, transport) = (Chorus::origin(), Arc::new(chorus));
    let host = ShardHost::start(HostConfig { origin, transport, ..config }).await.unwrap();
    (directory, host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_leader_has_confirmed_is_not_answered() {
    let (_directory, host) = nobody_leads().await;
    let seat = host.seat(ShardId(0)).unwrap();
    let open =
        Command::Send { event: "open".into(), data: Json::empty_object(), postpone_ms: None };
    let filter = InstanceFilter { all: true, limit: 10, ..InstanceFilter::of(tenant()) };
    let name = KeyText::parse("k").unwrap();
    let read = async |how| seat.instance(&key("a"), how, None, 2_000).await.map(drop);
    // Without a confirmation each would answer from the empty rows that are here.
    let said: [(&str, Result<(), Rejection>); 10] = [
        ("dry run", seat.dry_run(&envelope(&key("a"), "k", open)).await.map(drop)),
        ("explain", seat.explain(&key("a")).await.map(drop)),
        ("history", seat.history(&key("a"), 0, 0, 10).await.map(drop)),
        ("receipt", seat.stored_receipt(&key("a"), &name, 0).await.map(drop)),
        ("list", seat.list(&filter, None, 10).await.map(drop)),
        ("definitions", seat.definitions(&tenant()).await.map(drop)),
        ("tenants", seat.tenants().await.map(drop)),
        ("read", read(Consistency::Linearizable).await),
        ("lease read", read(Consistency::Leader).await),
        ("catch up", seat.catch_up().await),
    ];
    for (what, answer) in said {
        assert_eq!(answer.unwrap_err().code, RejectionCode::NoLeader, "{what}");
    }
    // A stale read asks nobody, but a copy of which nobody knows the age is too old.
    let known = read(Consistency::Stale).await.unwrap_err();
    assert_eq!(known.code, RejectionCode::UnknownInstance, "the rows are there");
    assert_eq!(seat.age_within(limits::STALE_AGE_MS_MAX).unwrap_err().code, RejectionCode::Behind);
    host.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_on_which_a_damaged_row_was_read_is_set_aside() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.start("b", "s").await.unwrap();
    let row = house.seat().log().view().instance(&key("a")).unwrap().unwrap();
    // A start moves everything from the write-ahead file into the file.
    let Fixture { host, clock, directory, tuning } = house.restart().await;
    host.drain(Duration::from_secs(5)).await;
    let file = directory.path().join("state-0.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - 16).filter(|place| bytes[*place..*place + 16] == row.digest.0).collect();
    assert!(!places.is_empty(), "the row is in the file");
    places.iter().for_each(|place| bytes[*place] ^= 1);
    std::fs::write(&file, bytes).unwrap();
    let host = start(&directory, &clock, tuning, Reserve::Bytes(0)).await;
    let house = Fixture { host, clock, directory, tuning };
    assert_eq!(house.read("b").await.version, 1, "nobody has met the damage yet");
    let asked = house.seat().instance(&key("a"), Consistency::Linearizable, None, 2_000).await;
    assert_eq!(asked.unwrap_err().code, RejectionCode::Internal);
    let is_aside = async |house: &Fixture| {
        *house.seat().log().leadership().borrow() == statehouse_log::Leadership::Stopped
    };
    house.until("the replica is set aside", is_aside).await;
    let why = house.seat().log().failure().unwrap();
    assert!(matches!(&*why, statehouse_log::LogError::Rows { .. }), "{why}");
    let refused = house.send("b", "open", "k").await.unwrap_err();
    assert_eq!(refused.code, RejectionCode::NoLeader, "another one has to lead: {refused}");
}

#[test]
fn a_copy_counts_only_within_its_limit_and_one_of_unknown_age_never() {
    let at = |ms| within(ShardId(0), Some(Duration::from_millis(ms)), 5_000);
    assert_eq!(at(0).unwrap(), 0);
    assert_eq!(at(5_000).unwrap(), 5_000);
    assert_eq!(at(5_001).unwrap_err().code, RejectionCode::Behind);
    let unknown = within(ShardId(0), None, u64::MAX).unwrap_err();
    assert_eq!(unknown.code, RejectionCode::Behind);
    assert_eq!((limits::REGISTRY_AGE_MS_MAX, limits::STALE_AGE_MS_MAX), (5_000, 60_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_current_version_and_an_unknown_one_are_confirmed_and_a_known_one_needs_nobody() {
    let chorus = Chorus::default();
    let transport = Arc::new(chorus.clone());
    let house = Fixture::among(Tuning::standard(), transport, Chorus::origin()).await;
    house.start("a", "s").await.unwrap();
    let wanted = |version| DefinitionRef {
        name: DefinitionName::parse("door").unwrap(),
        version,
        digest: None,
    };
    let asked = async |version| {
        let (tenant, wanted) = (tenant(), wanted(version));
        let resolved = resolve(house.seat(), &tenant, &wanted);
        tokio::time::timeout(Duration::from_secs(2), resolved).await
    };
    let current = asked(None).await.unwrap().unwrap();
    assert_eq!(current.version, Some(1));
    assert!(current.digest.is_some());
    assert_eq!(asked(Some(7)).await.unwrap().unwrap().digest, None, "there is no version 7");
    chorus.hears(Hears::Nothing);
    let is_alone = async |house: &Fixture| {
        house.seat().log().age().is_some_and(|age| age > Duration::from_secs(1))
    };
    house.until("nobody is heard", is_alone).await;
    assert_eq!(asked(Some(1)).await.unwrap().unwrap(), current);
    for unconfirmed in [None, Some(7)] {
        let told = asked(unconfirmed).await;
        assert!(!matches!(told, Ok(Ok(_))), "nobody has confirmed {unconfirmed:?}: {told:?}");
    }
    chorus.hears(Hears::All);
    house.until("somebody is heard", async |house| !is_alone(house).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_for_its_minimum_version_and_says_behind_at_its_deadline() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    let at_least = async |version, ms| {
        house.seat().instance(&key("a"), Consistency::Linearizable, Some(version), ms).await
    };
    let behind = at_least(2, 50).await.unwrap_err();
    assert_eq!((behind.code, behind.code.status()), (RejectionCode::Behind, 503));
    let waits = at_least(2, 10_000);
    let moves = async {
        // The read is on its way first: it is asked before this branch.
        tokio::task::yield_now().await;
        house.send("a", "open", "k").await.unwrap();
    };
    let (read, ()) = tokio::join!(waits, moves);
    assert_eq!(read.unwrap().version, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_the_answer_of_a_postponed_command_gets_the_final_one() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.send("a", "later", "k").await.unwrap();
    let name = KeyText::parse("k").unwrap();
    let place = key("a");
    let at_once = house.seat().stored_receipt(&place, &name, 0).await.unwrap();
    assert_eq!(at_once.kind, ReceiptKind::Postponed);
    let moves = async {
        // The question is on its way first: it is asked before this branch.
        tokio::task::yield_now().await;
        house.send("a", "open", "o").await.unwrap();
    };
    let (told, ()) = tokio::join!(house.seat().stored_receipt(&place, &name, 10_000), moves);
    assert_eq!(told.unwrap().kind, ReceiptKind::Accepted);
}
