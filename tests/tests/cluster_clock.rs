//! One of three nodes has a clock that is an hour wrong: while it runs, and when all three start anew.
//!
//! The cluster's clock is the middle of the three, so no timer fires early and no time is moved; the node with the wrong
//! clock leads nothing until it is right, and goes on serving. The judge reads the history at the end.
//!
//! Absent on purpose: any assertion about how fast something is. A timer has a time before which it must not fire, by the
//! clock of this process; that is its meaning, not its speed.
#![allow(clippy::unwrap_used, reason = "a test stops, and says why")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use statehouse_contract::Timestamp;
use statehouse_judge::Demands;
use statehouse_tests::{
    cluster::{Cluster, NODES, others},
    trial::{Order, Trial},
};

const CLIENTS: u32 = 4;
const HOUR_MS: i64 = 3_600_000;
/// The node whose clock is wrong; it leads shard 1 by the plan.
const WRONG: u32 = 2;
const SHARD: u32 = 1;
/// It sleeps for two seconds by the cluster's clock, which runs at most a twentieth too fast.
const NAP_MIN: Duration = Duration::from_millis(1_900);
const NAP: &str = r"
format: statehouse/1
version: 1
id: nap
initial: asleep
states:
  asleep: {after: {2s: awake}}
  awake: {type: final}
";

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Asks a node for something until it is done.
fn sent(cluster: &Cluster, node: u32, what: &str, key: &str, body: &str) {
    cluster.until(&format!("node {node} does {what}"), || {
        let told = cluster.ask(node, what, &[("idempotency-key", key)], body);
        let told = told.map_err(|error| error.to_string())?;
        if told.status < 300 { Ok(()) } else { Err(told.body) }
    });
}

/// A name of an instance that belongs to the shard of the wrong node.
fn name(cluster: &Cluster, what: &str) -> String {
    let names = (0..1_000).map(|number| format!("{what}-{number}"));
    let mut fitting = names.filter(|name| cluster.shard_of(1, name) == SHARD);
    fitting.next().expect("one of a thousand names belongs there")
}

/// An instance that sleeps, and when it was asked to.
struct Sleeper {
    name: String,
    begun: Instant,
}

impl Sleeper {
    /// Starts it at a node.
    fn begin(cluster: &Cluster, node: u32, name: &str) -> Self {
        let (name, begun) = (name.to_owned(), Instant::now());
        let body = format!(r#"{{"definition": "nap", "id": "{name}"}}"#);
        sent(cluster, node, "POST /v1/tenants/default/instances", &name, &body);
        Self { name, begun }
    }

    /// It wakes, and neither too early nor at a time that only the wrong clock has.
    fn wakes(&self, cluster: &Cluster) {
        let path = format!("GET /v1/tenants/default/instances/{}", self.name);
        let told = cluster.until(&format!("{} is awake", self.name), || {
            let told = cluster.ask(1, &path, &[], "").map_err(|error| error.to_string())?;
            if told.field("status") == "done" { Ok(told) } else { Err(told.body) }
        });
        let slept = self.begun.elapsed();
        assert!(slept >= NAP_MIN, "{} slept for {slept:?}: {told:?}", self.name);
        let woke = told.field("updated_at").as_str().unwrap().to_owned();
        let minute = 60_000;
        let bounds =
            [now_ms() - 10 * minute, now_ms() + minute].map(|ms| Timestamp(ms).to_rfc3339());
        assert!(bounds[0] < woke && woke < bounds[1], "{woke} is not within {bounds:?}");
    }
}

#[test]
fn a_node_whose_clock_is_an_hour_wrong_fires_nothing_early_and_leads_nothing_until_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    sent(&cluster, 1, "POST /v1/tenants/default/definitions", "nap", NAP);
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 50);
    assert_eq!(cluster.balanced()[&SHARD].node, WRONG);

    trial.fault("a clock is an hour ahead");
    let [before, during, through, anew] =
        ["before", "during", "through", "anew"].map(|what| name(&cluster, what));
    let before = Sleeper::begin(&cluster, WRONG, &before);
    cluster.turn_clock(WRONG, HOUR_MS);
    let during = Sleeper::begin(&cluster, WRONG, &during);
    let _ = cluster.agreed(&others(WRONG));
    load.more(&cluster, 100);
    before.wakes(&cluster);
    during.wakes(&cluster);
    assert_eq!(cluster.ask(WRONG, "GET /readyz", &[], "").unwrap().status, 200, "it serves");
    trial.done(&cluster, WRONG, &Order::start("by-the-wrong-one"));
    load.end_well();

    // All start anew, and nobody has the cluster's clock: the middle of the three counts, not the first to speak.
    let through = Sleeper::begin(&cluster, 1, &through);
    (1..=NODES).for_each(|node| cluster.kill(node));
    (1..=NODES).for_each(|node| cluster.start(node));
    let anew = Sleeper::begin(&cluster, WRONG, &anew);
    let _ = cluster.agreed(&others(WRONG));
    through.wakes(&cluster);
    anew.wakes(&cluster);
    trial.done(&cluster, WRONG, &Order::approve("by-the-wrong-one"));

    cluster.heal(WRONG);
    let _ = cluster.balanced();
    trial.healed("a clock is an hour ahead");
    trial.judged(&cluster, &Demands { ok: 150, leader_changes: 1, faults: 1, ..Demands::LEAST });
}
