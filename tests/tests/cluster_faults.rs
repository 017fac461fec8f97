//! Bad days of a cluster of three real processes: killed, stopped, cut off, under load, and each judged by its history.
//!
//! Every test ends with the judge, who reads what clients asked and were told and what all three nodes hold: nothing
//! that was acknowledged is lost, repeated or reordered. Minimums say that enough happened for this to mean something.
//!
//! Absent on purpose: any assertion about time. How long service was gone is measured by the benchmarks.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::time::{Duration, Instant};

use statehouse_contract::limits::REGISTRY_AGE_MS_MAX;
use statehouse_judge::Demands;
use statehouse_tests::{
    cluster::{Cluster, NODES, others},
    member::Leads,
    node::Answer,
    trial::{Order, Trial},
};

const CLIENTS: u32 = 8;

/// A shard other than the registry, and who leads it.
fn shard_and_leader(leads: &Leads) -> (u32, u32) {
    (1, leads[&1].node)
}

fn is_without_leader(answer: &Answer) -> bool {
    answer.field("code") == "no_quorum" || answer.field("code") == "no_leader"
}

/// The shards that a lost node led are led by others, in a later term. On a busy machine a heartbeat may come late
/// elsewhere, too: that is told and no failure, because nothing here is about time.
fn only_its_shards_moved(before: &Leads, after: &Leads, lost: u32) {
    for (shard, lead) in before {
        if lead.node == lost {
            assert_ne!(after[shard].node, lost, "shard {shard}: {before:?}, then {after:?}");
            assert!(after[shard].term > lead.term, "shard {shard}: {before:?}, then {after:?}");
        } else if after[shard] != *lead {
            println!("shard {shard} has moved besides: {lead:?}, then {:?}", after[shard]);
        }
    }
}

#[test]
fn a_leader_killed_under_load_is_followed_by_another_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 100);
    let before = cluster.agreed(&[1, 2, 3]);
    let (shard, leader) = shard_and_leader(&before);
    trial.fault("kill -9 of a leader");
    cluster.kill(leader);
    let after = cluster.agreed(&others(leader));
    only_its_shards_moved(&before, &after, leader);
    assert_ne!(after[&shard].node, leader);
    load.more(&cluster, 200);
    cluster.start(leader);
    trial.whole_after(&cluster, "kill -9 of a leader");
    load.more(&cluster, 100);
    let demands = Demands { ok: 400, retries: 1, leader_changes: 1, faults: 1, ..Demands::LEAST };
    trial.all_well(&cluster, load, &demands);
}

#[test]
fn a_follower_killed_under_load_changes_no_leader() {
    let folder = tempfile::tempdir().unwrap();
    // Two shards for three nodes: the third leads nothing.
    let mut cluster = Cluster::open_with(folder.path(), &["--shards", "2"], &[]);
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 100);
    let before = cluster.agreed(&[1, 2, 3]);
    assert!(before.values().all(|lead| lead.node != 3), "{before:?}");
    trial.fault("kill -9 of a follower");
    cluster.kill(3);
    load.more(&cluster, 200);
    only_its_shards_moved(&before, &cluster.agreed(&[1, 2]), 3);
    cluster.start(3);
    only_its_shards_moved(&before, &trial.whole_after(&cluster, "kill -9 of a follower"), 3);
    load.more(&cluster, 100);
    let demands = Demands { ok: 400, faults: 1, ..Demands::LEAST };
    trial.all_well(&cluster, load, &demands);
}

#[test]
fn a_leader_that_stands_still_for_ten_seconds_is_deposed_and_harms_nobody_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 100);
    let before = cluster.agreed(&[1, 2, 3]);
    let (_, leader) = shard_and_leader(&before);
    trial.fault("SIGSTOP of a leader");
    cluster.stop(leader);
    let stopped = Instant::now();
    let after = cluster.agreed(&others(leader));
    only_its_shards_moved(&before, &after, leader);
    while stopped.elapsed() < Duration::from_secs(10) {
        load.more(&cluster, 20);
    }
    cluster.go_on(leader);
    trial.whole_after(&cluster, "SIGSTOP of a leader");
    load.more(&cluster, 100);
    let demands =
        Demands { ok: 300, unknown: 1, retries: 1, leader_changes: 1, faults: 1, ..Demands::LEAST };
    trial.all_well(&cluster, load, &demands);
}

#[test]
fn with_two_of_three_dead_commands_are_refused_and_stale_reads_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let trial = Trial::begin(&cluster);
    // One instance of each shard, on all nodes.
    let names: Vec<String> = (0..24).map(|number| format!("a-{number}")).collect();
    for name in &names {
        assert_eq!(trial.command(&cluster, 1, &Order::start(name)).unwrap().status, 201);
    }
    let of =
        |shard: u32| names.iter().find(|name| cluster.shard_of(1, name) == shard).unwrap().clone();
    let four: Vec<String> = (0..4).map(of).collect();
    let _ = cluster.whole();
    trial.fault("two of three are dead");
    cluster.kill(2);
    cluster.kill(3);
    let refused = |name: &String| {
        let order = Order::approve(name).within_ms(1_500);
        let told = cluster.until("a command is refused", || {
            let told = trial.command(&cluster, 1, &order).ok_or("no answer")?;
            match told.status {
                503 => Ok(told),
                // Until it knows that it is alone, a leader may have written it.
                504 => Err(told.body),
                _ => panic!("it cannot have been done: {told:?}"),
            }
        });
        assert!(is_without_leader(&told), "{told:?}");
        let stale = trial.read(&cluster, 1, name, "stale").unwrap();
        assert_eq!(stale.status, 200, "{stale:?}");
        assert!(stale.field("age_ms").is_u64(), "{stale:?}");
        let strict = trial.read(&cluster, 1, name, "linearizable").unwrap();
        assert!(matches!(strict.status, 503 | 504), "{strict:?}");
    };
    four.iter().for_each(&refused);
    // Later still the node does not even know any more who may ask; it says the same.
    cluster.until("nobody has vouched for shard 0 for long", || {
        let view = cluster.view(1).ok_or("it says nothing")?;
        let age = view["shards"][0]["age_ms"].as_u64();
        if age.is_some_and(|age| age > REGISTRY_AGE_MS_MAX) {
            Ok(())
        } else {
            Err(format!("{age:?}"))
        }
    });
    four.iter().for_each(&refused);
    cluster.start(2);
    let _ = cluster.agreed(&[1, 2]);
    for name in &four {
        assert_eq!(trial.done(&cluster, 1, &Order::approve(name)).status, 200);
        // A read may meet a change of leader like anything else; it says 503 then and is asked again.
        cluster.until("it is read", || match trial.read(&cluster, 1, name, "linearizable") {
            Some(told) if told.status == 200 => Ok(()),
            told => Err(format!("{told:?}")),
        });
    }
    cluster.start(3);
    trial.healed("two of three are dead");
    let demands = Demands { ok: 28, retries: 4, faults: 1, ..Demands::LEAST };
    trial.judged(&cluster, &demands);
}

#[test]
fn all_three_are_killed_at_once_under_load_and_come_back_with_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 150);
    trial.fault("kill -9 of all");
    (1..=NODES).for_each(|node| cluster.kill(node));
    (1..=NODES).for_each(|node| cluster.start(node));
    trial.whole_after(&cluster, "kill -9 of all");
    load.more(&cluster, 150);
    let demands =
        Demands { ok: 300, unknown: 1, retries: 1, leader_changes: 4, faults: 1, ..Demands::LEAST };
    trial.all_well(&cluster, load, &demands);
}

#[test]
fn a_leader_cut_off_with_its_clients_refuses_while_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(folder.path());
    let trial = Trial::begin(&cluster);
    let before = cluster.agreed(&[1, 2, 3]);
    let (shard, leader) = shard_and_leader(&before);
    let rest = others(leader);
    let its_own = trial.load_on(&cluster, &[leader], 4);
    let load = trial.load_on(&cluster, &rest, 4);
    its_own.more(&cluster, 50);
    load.more(&cluster, 50);
    trial.fault("a leader is cut off");
    cluster.cut(leader, &rest, &rest);
    let after = cluster.agreed(&rest);
    assert_ne!(after[&shard].node, leader);
    load.more(&cluster, 200);
    // Its own clients are refused: it believes that it leads, or knows nobody who does.
    let name = (0..)
        .map(|number| format!("c-{number}"))
        .find(|name| cluster.shard_of(rest[0], name) == shard);
    let order = Order::start(&name.unwrap()).within_ms(1_500);
    let refused = cluster.until("a command at the cut-off leader is refused", || {
        let told = trial.command(&cluster, leader, &order).ok_or("no answer")?;
        if told.status == 503 { Ok(told) } else { Err(format!("{told:?}")) }
    });
    assert!(is_without_leader(&refused), "{refused:?}");
    cluster.heal(leader);
    trial.whole_after(&cluster, "a leader is cut off");
    its_own.more(&cluster, 50);
    load.more(&cluster, 50);
    its_own.end_well();
    let demands = Demands { ok: 400, leader_changes: 1, faults: 1, ..Demands::LEAST };
    trial.all_well(&cluster, load, &demands);
}

#[test]
fn a_leader_that_is_heard_by_nobody_gives_way_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(folder.path());
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 100);
    let before = cluster.agreed(&[1, 2, 3]);
    let (shard, leader) = shard_and_leader(&before);
    let rest = others(leader);
    trial.fault("a leader is not heard");
    cluster.cut(leader, &rest, &[]);
    let after = cluster.agreed(&rest);
    assert_ne!(after[&shard].node, leader);
    load.more(&cluster, 200);
    cluster.heal(leader);
    trial.whole_after(&cluster, "a leader is not heard");
    load.more(&cluster, 100);
    let demands = Demands { ok: 400, leader_changes: 1, faults: 1, ..Demands::LEAST };
    trial.all_well(&cluster, load, &demands);
}
