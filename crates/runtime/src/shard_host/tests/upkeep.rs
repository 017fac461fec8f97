//! What a house does for itself: it sleeps, forgets in time, drains, and refuses what would cost it its data.
//!
//! Absent on purpose: what callers are promised while it does so; that is `promises.rs`.

use std::{sync::Arc, time::Duration};

use statehouse_contract::{Command, ReceiptKind, RejectionCode, Timestamp, Verb};
use statehouse_log::Leadership;

use super::fixture::{Fixture, TestClock, alone, config, key, tenant};
use crate::{
    Builds, HostConfig, HostError, Profile, Reserve, ShardHost, Tuning,
    reign::Reign,
    sweep_actor::{More, SweepState},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_instance_goes_to_sleep_and_wakes_where_it_was() {
    let house =
        Fixture::with(Tuning { passivate_ms: 20, live_instances_max: 1_000, ..Tuning::standard() })
            .await;
    for n in 0..20 {
        house.start(&format!("i{n}"), &format!("s{n}")).await.unwrap();
    }
    house.until("all are asleep", async |house| house.seat().live() == 0).await;
    assert!(house.seat().directory().find_instance(&key("i3")).is_none());
    let woken = house.send("i3", "open", "k").await.unwrap();
    assert_eq!(woken.version.map(|version| version.version), Some(2));
    assert!(house.send("i3", "open", "k").await.unwrap().replayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_commands_with_its_own_code_and_serves_reads() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    let house = house.restart_full().await;
    let refused = house.send("a", "open", "k").await.unwrap_err();
    assert_eq!(refused.code, RejectionCode::StorageFull, "{refused}");
    assert_eq!(house.read("a").await.version, 1);
    let house = house.restart().await;
    assert_eq!(house.send("a", "open", "k").await.unwrap().kind, ReceiptKind::Accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_answers_what_was_admitted_and_refuses_the_rest() {
    let house = Arc::new(Fixture::new().await);
    house.start("a", "s").await.unwrap();
    let mut admitted = tokio::task::JoinSet::new();
    for n in 0..30 {
        let house = Arc::clone(&house);
        admitted.spawn(async move { house.send("a", "open", &format!("k{n}")).await });
    }
    house.until("some are in", async |house| house.seat().admission().used() > 0).await;
    house.seat().admission().begin_drain();
    for answer in admitted.join_all().await {
        match answer {
            Ok(_) => {}
            Err(no) => assert_eq!(no.code, RejectionCode::Draining, "{no}"),
        }
    }
    let refused = house.send("a", "open", "late").await.unwrap_err();
    assert_eq!(refused.code, RejectionCode::Draining);
    let house = Arc::into_inner(house).unwrap();
    house.host.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_host_on_the_same_directory_is_refused() {
    let house = Fixture::new().await;
    let config = HostConfig {
        data: house.directory.path().to_owned(),
        node: statehouse_contract::NodeId { number: 1, incarnation: 1 },
        shards: 1,
        profile: Profile::Local,
        reserve: Reserve::Bytes(0),
        origin: alone(),
        transport: Arc::new(statehouse_log::NoPeers),
        builds: Builds::default(),
        clock: house.clock.clone(),
        tuning: house.tuning,
    };
    let refused = ShardHost::start(config).await.unwrap_err();
    assert!(matches!(refused, HostError::Locked { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_set_back_between_two_starts_holds_no_timer_back() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.send("a", "wind", "w").await.unwrap();
    let day_ms = 86_400_000;
    house.clock.advance(-day_ms);
    let house = house.restart().await;
    assert_eq!(house.read("a").await.configuration, ["wound"]);
    house.clock.advance(30_000);
    house.until("the timer fires", async |house| house.read("a").await.version == 3).await;
    assert_eq!(house.read("a").await.configuration, ["closed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_the_time_decides_nothing() {
    let clock = Arc::new(TestClock::default());
    clock.advance(-1_000_000);
    clock.unset(true);
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory, &clock, Tuning::standard(), Reserve::Bytes(0));
    let host = ShardHost::start(config).await.unwrap();
    let seat = Arc::clone(&host.seats()[0]);
    let mut leadership = seat.log().leadership();
    // Held no longer than this line: a value that is looked at cannot be changed.
    assert!(leadership.wait_for(|now| matches!(now, Leadership::Leading { .. })).await.is_ok());
    assert!(seat.trouble().is_some(), "it leads, and is not open");
    let founded = seat.rows_time().unwrap();
    // The time that it is given is another one than its own.
    clock.advance(3_000_000);
    clock.unset(false);
    while seat.trouble().is_some() {
        tokio::task::yield_now().await;
    }
    assert!(founded < seat.rows_time().unwrap());
    assert_eq!(seat.rows_time().unwrap(), Timestamp(2_000_000));
    drop(seat);
    host.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_are_forgotten_after_a_day_and_finished_instances_after_a_week() {
    let house = Fixture::new().await;
    house.start("a", "s").await.unwrap();
    house.send("a", "open", "k").await.unwrap();
    house.start("b", "s").await.unwrap();
    house.operate("b", Verb::Terminate).await.unwrap();
    let term = house.seat().log().numbers().term;
    let mut sweeper = SweepState::new(Arc::new(Reign::new(Arc::clone(house.seat()), term)));
    let day = 24 * 3_600_000;
    house.clock.advance(day - 60_000);
    while sweeper.sweep().await == More::Now {}
    assert!(house.send("a", "open", "k").await.unwrap().replayed, "a minute is missing");
    house.clock.advance(120_000);
    while sweeper.sweep().await == More::Now {}
    let anew = house.send("a", "open", "k").await.unwrap();
    assert_eq!(
        (anew.replayed, anew.kind),
        (false, ReceiptKind::Refused(RejectionCode::NotHandled))
    );
    assert_eq!(house.read("b").await.status, "terminated");
    house.clock.advance(7 * day);
    while sweeper.sweep().await == More::Now {}
    let gone = house.send("b", "open", "k").await.unwrap();
    assert_eq!(gone.kind, ReceiptKind::Refused(RejectionCode::UnknownInstance));
    assert_eq!(house.read("a").await.version, 2, "what has not ended stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_past_its_quota_is_told_when_to_come_back() {
    let house = Fixture::new().await;
    let quota = statehouse_contract::Quota {
        commands_per_s: Some(2),
        instances: None,
        refusals_per_s: Some(0),
    };
    house.register("quota", Command::SetQuota(quota)).await.unwrap();
    let seat = house.seat();
    let taken: Vec<_> = (0..3).map(|_| seat.charge(&tenant())).collect();
    assert!(taken[0].is_ok() && taken[1].is_ok());
    let no = taken[2].as_ref().unwrap_err();
    assert_eq!(no.code, RejectionCode::QuotaExceeded);
    assert!(no.retry_after_ms.is_some_and(|ms| ms <= 500));
    // A refusal that would have to be written down counts against a quota of its own.
    let refused = house.send("nobody", "open", "k").await.unwrap_err();
    assert_eq!(refused.code, RejectionCode::QuotaExceeded);
}
