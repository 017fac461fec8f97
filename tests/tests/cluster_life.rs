//! The life of a cluster's members: restarted one by one under load, slow to stop, away for long, back with an empty disk.
//!
//! A node that lost its data is not who it was: it is refused until an operator says that it takes the old one's place.
//!
//! Absent on purpose: growing and shrinking, which the crate of the cluster tries itself, and any assertion about time.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::fs;

use statehouse_judge::Demands;
use statehouse_tests::{
    cluster::{Cluster, NODES},
    patience::PATIENCE,
    trial::Trial,
};

const CLIENTS: u32 = 8;

#[test]
fn each_node_in_turn_is_restarted_under_load_and_no_client_notices() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 100);
    for node in 1..=NODES {
        trial.fault("restart");
        cluster.end(node);
        load.more(&cluster, 50);
        cluster.start(node);
        trial.whole_after(&cluster, "restart");
        load.more(&cluster, 50);
    }
    load.end_unrefused();
    let demands = Demands { ok: 400, leader_changes: 3, faults: 3, ..Demands::LEAST };
    trial.judged(&cluster, &demands);
}

#[test]
fn a_member_that_is_asked_to_end_is_told_by_all_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let _ = cluster.balanced();
    cluster.end(3);
    let _ = cluster.agreed(&[1, 2]);
    let lines: Vec<String> = (1..=NODES).flat_map(|node| cluster.lines(node)).collect();
    let is_trouble = |line: &&String| line.contains("WARN") || line.contains("ERROR");
    let troubles: Vec<&String> = lines.iter().filter(is_trouble).collect();
    assert!(troubles.is_empty(), "{troubles:#?}");
    assert!(lines.iter().any(|line| line.contains("stopped")), "the lines are there: {lines:#?}");
}

#[test]
fn a_node_that_takes_long_to_stop_is_not_given_its_shards_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let start = r#"{"definition":"approval","id":"held","input":{"amount":12}}"#;
    let path = "POST /v1/tenants/default/instances";
    let started = cluster.ask(2, path, &[("idempotency-key", "start")], start).unwrap();
    assert_eq!(started.status, 201, "{started:?}");
    let _ = cluster.balanced();
    // Somebody waits there for a version that never comes, for longer than a new leader waits before it moves leadership
    // for balance. Whoever was let in gets an answer before the node ends.
    let path = "GET /v1/tenants/default/instances/held?consistency=stale&min_version=99";
    let held = cluster.send(2, path, &[("x-statehouse-deadline-ms", "6000")], "").unwrap();
    // Taken after the other one, so that one was taken as well.
    assert_eq!(cluster.ask(2, "GET /readyz", &[], "").unwrap().status, 200);
    cluster.part(2);
    let handed = cluster.agreed(&[1, 3]);
    let answer = held.answer(PATIENCE).unwrap();
    assert_eq!((answer.status, answer.field("code")), (503, "behind".into()), "{answer:?}");
    cluster.end(2);
    assert_eq!(cluster.agreed(&[1, 3]), handed, "leadership moved once more");
}

#[test]
fn a_follower_that_was_away_for_long_is_given_a_copy_and_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let often = [("STATEHOUSE__CLUSTER__SNAPSHOT_EVERY", "100")];
    let mut cluster = Cluster::open_with(folder.path(), &["--shards", "2"], &often);
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 50);
    trial.fault("a follower is away");
    cluster.kill(3);
    let position = |cluster: &Cluster, what: &str| -> Vec<u64> {
        let view = cluster.view(1).unwrap_or_default();
        let shards = view["shards"].as_array().cloned().unwrap_or_default();
        shards.iter().filter_map(|shard| shard[what].as_u64()).collect()
    };
    let gone = cluster.until("node 1 tells where it is", || {
        Some(position(&cluster, "applied")).filter(|all| all.len() == 2).ok_or_else(String::new)
    });
    // Two snapshots later the first of them is what the log begins with.
    cluster.until("both shards have forgotten what it missed", || {
        let now = position(&cluster, "snapshot");
        let is_past = now.len() == 2 && now.iter().zip(&gone).all(|(now, gone)| *now > gone + 200);
        if is_past { Ok(()) } else { Err(format!("{now:?}, from {gone:?}")) }
    });
    cluster.start(3);
    trial.whole_after(&cluster, "a follower is away");
    load.more(&cluster, 100);
    load.end();
    // Node 1 leads a shard and has forgotten; whether the other leader has as well is its own affair.
    cluster.until("a shard was given a copy", || {
        let lines = cluster.lines(3);
        let has_copy = lines.iter().any(|line| line.contains("copy of the leader's rows"));
        if has_copy { Ok(()) } else { Err(format!("{} lines", lines.len())) }
    });
    let demands = Demands { ok: 400, faults: 1, ..Demands::LEAST };
    trial.judged(&cluster, &demands);
}

#[test]
fn a_node_that_lost_its_disk_is_refused_until_it_takes_its_own_place_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 100);
    trial.fault("a disk is lost");
    cluster.kill(3);
    let directory = cluster.directory(3);
    let settings = folder.path().join("node-3.toml");
    fs::copy(directory.join("node.toml"), &settings).unwrap();
    let settings = settings.display().to_string();

    // The log alone is gone: votes and acknowledged entries with it.
    for file in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().unwrap().to_string_lossy().starts_with("log.db") {
            fs::remove_file(file).unwrap();
        }
    }
    let (code, told) = cluster.run(&["serve", "--config", &settings]);
    println!("without log.db: {code} {told}");
    assert!(code != 0 && told.contains("log.db"), "{code} {told}");

    // Everything is gone.
    fs::remove_dir_all(&directory).unwrap();
    let (code, told) = cluster.run(&["serve", "--config", &settings]);
    println!("empty: {code} {told}");
    assert!(code != 0 && told.contains("join"), "{code} {told}");
    let (code, told) = cluster.run(&["serve", "--join", "--config", &settings]);
    println!("empty, --join: {code} {told}");
    assert!(code != 0 && told.contains("member"), "{code} {told}");
    let (code, told) = cluster.run(&["cluster", "join", "--config", &settings]);
    assert!(code != 0 && told.contains("member"), "{code} {told}");
    load.more(&cluster, 50);

    let (code, told) = cluster.run(&["cluster", "join", "--replace", "--config", &settings]);
    println!("--replace: {code} {told}");
    assert!(code == 0 && told.contains("n3.2"), "{code} {told}");
    fs::copy(&settings, directory.join("node.toml")).unwrap();
    cluster.start(3);
    cluster.until("the new member votes in every shard", || {
        let view = cluster.view(3).ok_or("it says nothing")?;
        let shards = view["shards"].as_array().cloned().unwrap_or_default();
        let votes = |shard: &serde_json::Value| {
            let replicas = shard["replicas"].as_array().cloned().unwrap_or_default();
            let has = |node: &str| {
                replicas.iter().any(|one| one["node"] == node && one["part"] == "voter")
            };
            replicas.len() == 3 && has("n3.2") && !has("n3.1")
        };
        let is_in = shards.len() == 4 && shards.iter().all(votes);
        if is_in { Ok(()) } else { Err(view.to_string()) }
    });
    trial.whole_after(&cluster, "a disk is lost");
    load.more(&cluster, 100);
    let demands = Demands { ok: 250, retries: 1, faults: 1, ..Demands::LEAST };
    trial.all_well(&cluster, load, &demands);
}
