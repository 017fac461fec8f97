//! The examples on three nodes, while a leader dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;
use statehouse_judge::Demands;
use statehouse_sdk::With;
use statehouse_tests::{
    cluster::{Cluster, others},
    trial::{Trial, client},
};

use crate::{
    DRILL, ORDER,
    asks::{client_at, ended, in_state, order, sent, start},
    hands::Hands,
    quick_rollout,
};

/// Runs what belongs to a cluster of processes, whose helpers wait in their own way.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_survive_the_death_of_a_leader_and_every_effect_keeps_its_name() {
    const ORDERS: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = blocking(|| Cluster::open(folder.path()));
    let all = client(&cluster, cluster.urls());
    all.deploy(ORDER, With::default()).await.done().unwrap();
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("order-{number}")).collect();
    let hands = Hands::at(all.clone());
    let (first, rest) = ids.split_at(ORDERS / 2);
    for id in first {
        start(&all, "order-fulfilment", id, order(id, "flaky", "good")).await;
    }
    let leader = blocking(|| cluster.agreed(&[1, 2, 3])[&1].node);
    blocking(|| cluster.kill(leader));
    for id in rest {
        start(&all, "order-fulfilment", id, order(id, "a", "good")).await;
    }
    let _ = blocking(|| cluster.agreed(&others(leader)));
    blocking(|| cluster.start(leader));
    for id in &ids {
        in_state(&all, id, "inTransit").await;
        let tracking = json!({"trackingId": format!("t-{id}")});
        sent(&all, id, "carrier.delivered", tracking).await;
        assert_eq!(ended(&all, id).await["outcome"], "delivered");
    }
    // An attempt may have been made twice; the name of its effect is the same then, and three effects are all there are.
    let mut effects: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (of, what, name) in hands.ledger.lock().unwrap().iter() {
        effects.entry((of.clone(), what.clone())).or_default().insert(name.clone());
    }
    assert_eq!(effects.len(), 3 * ORDERS);
    assert!(effects.values().all(|names| names.len() == 1), "{effects:?}");
    println!("{:?}", hands.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_and_drills_survive_the_death_of_a_leader() {
    const EACH: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = blocking(|| Cluster::open(folder.path()));
    let all = client(&cluster, cluster.urls());
    for document in [&quick_rollout(), DRILL] {
        all.deploy(document, With::default()).await.done().unwrap();
    }
    let roles = ["approver", "caller"];
    let key = all.put_key("a second person", &roles, With::default()).await.done().unwrap().json();
    let second = client_at(cluster.urls(), key["token"].as_str().unwrap());
    let hands = Hands::at(all.clone());
    let ids: Vec<String> = (0..EACH).map(|number| number.to_string()).collect();
    let elected = json!({"node": "n1.1", "term": 1});
    let begin = async |number: &String| {
        // Every second rollout fails half-way and is rolled back.
        let tenant = if number.parse::<usize>().unwrap() % 2 == 0 { "good" } else { "nodns" };
        let (rollout, drill) = (format!("rollout-{number}"), format!("drill-{number}"));
        let input = json!({"tenantName": tenant, "release": "r2"});
        start(&all, "tenant-rollout", &rollout, input).await;
        sent(&second, &rollout, "approve", json!({})).await;
        let input = json!({"cluster": "c", "checks": ["kill", "cut"]});
        start(&all, "maintenance-drill", &drill, input).await;
        sent(&all, &drill, "start", json!({})).await;
        sent(&all, &drill, "leader.elected", elected.clone()).await;
    };
    let (first, rest) = ids.split_at(EACH / 2);
    for number in first {
        begin(number).await;
    }
    let leader = blocking(|| cluster.agreed(&[1, 2, 3])[&1].node);
    blocking(|| cluster.kill(leader));
    for number in rest {
        begin(number).await;
    }
    let _ = blocking(|| cluster.agreed(&others(leader)));
    blocking(|| cluster.start(leader));
    for (number, id) in ids.iter().enumerate() {
        let outcome = if number % 2 == 0 { "live" } else { "rolledBack" };
        assert_eq!(ended(&all, &format!("rollout-{id}")).await, json!({"outcome": outcome}));
        assert_eq!(ended(&all, &format!("drill-{id}")).await, json!({"verdict": "pass"}));
        // Whatever was made was undone: the database last, because it was made first.
        let done = hands.done_for(&format!("rollout-{id}"));
        let last = done.last().map(String::as_str);
        assert_eq!(last == Some("drop-database"), number % 2 == 1, "{done:?}");
    }
    println!("{:?}", hands.end().await);
}

#[test]
fn tasks_are_held_by_one_worker_at_a_time_although_a_leader_dies() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let trial = Trial::begin(&cluster);
    let before = cluster.agreed(&[1, 2, 3]);
    let leader = before[&1].node;
    let workers = trial.tasks(&cluster, 16, Duration::from_secs(12));
    cluster.until("tasks are scheduled", || {
        let path = "GET /v1/tenants/default/queues";
        let told =
            cluster.ask(others(leader)[0], path, &[], "").map_err(|error| error.to_string())?;
        if told.body.contains("\"queue\":\"bench\"") { Ok(()) } else { Err(told.body) }
    });
    trial.fault("kill -9 of a leader");
    cluster.kill(leader);
    let _ = cluster.agreed(&others(leader));
    cluster.start(leader);
    trial.whole_after(&cluster, "kill -9 of a leader");
    let report = workers.join().unwrap();
    println!("{report}");
    let demands = Demands { ok: 200, leader_changes: 1, faults: 1, ..Demands::LEAST };
    trial.judged(&cluster, &demands);
}
