//! Processes that die, stand still, leave in good order, and come back.
//!
//! Kills are SIGKILL, stops SIGSTOP, departures SIGTERM; nothing is flushed that the node did not flush itself. What only a
//! power cut can take away is taken in `storage.rs`.
//!
//! Deliberately absent: waits that prove nothing. Between faults the cluster is whole again.

use std::time::Duration;

use serde_json::Value;

use crate::drill::{
    DrillError,
    processes::{NODES, others},
    scenario::{HARSH, MILD, NO_BUDGET, Row, Scenario, Set},
    view::led_by,
};

const BOTH: &[Set] = &[Set::Short, Set::Nightly];
const NIGHTLY: &[Set] = &[Set::Nightly];
/// From a leader's death to the next answer of its shards; all others do not notice.
const FAILOVER: Row = Row {
    median_ms: Some(1_000.0),
    p99_ms: Some(2_000.0),
    others_ms: Some(500.0),
    whole_ms: Some(30_000.0),
    again_ms: None,
};
/// How long a node stands still.
const STANDSTILL: Duration = Duration::from_secs(10);

pub(crate) const LEADER_KILL: Scenario = Scenario {
    name: "leader-kill",
    about: "SIGKILL of a node that leads, again and again",
    expected: "another leads; retries are answered from their receipts",
    row: FAILOVER,
    sets: BOTH,
    times: 5,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for turn in 1..=stage.times {
            let (node, led) = stage.some_leader()?;
            let of = stage.times;
            let fault = format!("kill {turn} of {of}: node {node} leads {led:?}");
            let begun = stage.begins(&fault, &[node], &led);
            stage.cluster.kill(node)?;
            let _ = stage.cluster.agreed(&others(node))?;
            stage.more(50)?;
            stage.run_on_between(200, 1_500);
            stage.back(node)?;
            stage.ends(begun);
            stage.run_on_between(300, 1_500);
        }
        Ok(())
    },
};

pub(crate) const FOLLOWER_KILL: Scenario = Scenario {
    name: "follower-kill",
    about: "SIGKILL of a node that leads nothing",
    expected: "nothing is visible",
    row: Row { others_ms: Some(500.0), whole_ms: Some(30_000.0), ..NO_BUDGET },
    sets: NIGHTLY,
    times: 3,
    // Two shards for three nodes: the third leads nothing.
    arguments: &["--shards", "2"],
    demands: MILD,
    is_shimmed: false,
    play: |stage| {
        for turn in 1..=stage.times {
            let leads = stage.leads()?;
            let idle = (1..=NODES).find(|node| led_by(&leads, *node).is_empty());
            let idle = idle.ok_or_else(|| DrillError::Node("every node leads".to_owned()))?;
            let fault = format!("kill {turn} of {}: node {idle} leads nothing", stage.times);
            let begun = stage.begins(&fault, &[idle], &[]);
            stage.cluster.kill(idle)?;
            stage.more(200)?;
            stage.back(idle)?;
            stage.ends(begun);
            stage.run_on_between(300, 1_000);
        }
        Ok(())
    },
};

pub(crate) const TRANSFER: Scenario = Scenario {
    name: "transfer",
    about: "a shard's leader is asked to hand over, shard by shard",
    expected: "it hands over first; nobody is refused",
    row: Row { p99_ms: Some(300.0), others_ms: Some(300.0), ..NO_BUDGET },
    sets: NIGHTLY,
    times: 12,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for turn in 0..stage.times {
            let leads = stage.leads()?;
            let shards: Vec<u32> = leads.keys().copied().collect();
            let shard = stage.dice.one(&shards).copied().unwrap_or(0);
            let node = leads.get(&shard).map_or(1, |lead| lead.node);
            let fault =
                format!("transfer {} of {}: shard {shard} of node {node}", turn + 1, stage.times);
            let begun = stage.begins(&fault, &[node], &[shard]);
            let asked = format!("POST /v1/cluster/shards/{shard}/transfer");
            let told = stage.cluster.node(node)?.ask(&asked, "{}").map_err(DrillError::Node)?;
            if !(200..300).contains(&told.0) {
                return Err(DrillError::Node(format!("the transfer is refused: {told:?}")));
            }
            stage.run_on_between(1_200, 2_000);
            stage.ends(begun);
        }
        Ok(())
    },
};

pub(crate) const ROLLING_RESTART: Scenario = Scenario {
    name: "rolling-restart",
    about: "each node is asked to end (SIGTERM) and started again, one after another",
    expected: "leaders are handed over first, what is under way is drained",
    row: Row { p99_ms: Some(300.0), others_ms: Some(300.0), whole_ms: Some(30_000.0), ..NO_BUDGET },
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            for node in 1..=NODES {
                let led = led_by(&stage.leads()?, node);
                let fault = format!("node {node} ends in good order; it leads {led:?}");
                let begun = stage.begins(&fault, &[node], &led);
                stage.cluster.node(node)?.end("TERM")?;
                stage.more(50)?;
                stage.back(node)?;
                stage.ends(begun);
            }
        }
        Ok(())
    },
};

pub(crate) const QUORUM_LOSS: Scenario = Scenario {
    name: "quorum-loss",
    about: "two of three nodes are killed",
    expected: "commands are refused with a reason, stale reads go on with their age",
    row: Row { whole_ms: Some(30_000.0), ..NO_BUDGET },
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            let alone = u32::try_from(stage.dice.between(1, u64::from(NODES))).unwrap_or(1);
            let gone = others(alone);
            let shards: Vec<u32> = stage.leads()?.keys().copied().collect();
            let begun = stage.begins(&format!("nodes {gone:?} die"), &gone, &shards);
            stage.cluster.kill_all(&gone)?;
            let node = &*stage.cluster.node(alone)?;
            let start = r#"{"definition":"drill-probe"}"#;
            let refused = crate::drill::until("a start is refused", STANDSTILL, || {
                match node.ask("POST /v1/tenants/default/instances", start)? {
                    (503, body) => Ok(body["code"].as_str().unwrap_or_default().to_owned()),
                    (status, body) => Err(format!("{status}: {body}")),
                }
            })?;
            let is_named = matches!(&*refused, "no_quorum" | "no_leader");
            stage.check("a start without a majority", "503 with a reason", refused, is_named);
            let stale = stage
                .cluster
                .node(alone)?
                .ask("GET /v1/tenants/default/instances/probe-0-1?consistency=stale", "")
                .map_err(DrillError::Node)?;
            let age = stale.1.get("age_ms").and_then(Value::as_u64);
            let told = format!("{}, {} ms old", stale.0, age.unwrap_or_default());
            stage.check("a stale read meanwhile", "200 with its age", told, age.is_some());
            stage.run_on_between(1_000, 3_000);
            for node in gone {
                stage.cluster.start(node)?;
            }
            let _ = stage.cluster.balanced()?;
            stage.ends(begun);
        }
        stage.more(100)
    },
};

pub(crate) const ALL_KILL: Scenario = Scenario {
    name: "all-kill",
    about: "SIGKILL of all nodes at once",
    expected: "they come back alone with everything",
    row: Row { whole_ms: Some(30_000.0), ..NO_BUDGET },
    sets: NIGHTLY,
    times: 2,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            let shards: Vec<u32> = stage.leads()?.keys().copied().collect();
            let begun = stage.begins("all nodes die", &[1, 2, 3], &shards);
            stage.cluster.kill_all(&[1, 2, 3])?;
            (1..=NODES).try_for_each(|node| stage.cluster.start(node))?;
            let _ = stage.cluster.balanced()?;
            stage.ends(begun);
            stage.more(200)?;
        }
        Ok(())
    },
};

pub(crate) const LEADER_STOP: Scenario = Scenario {
    name: "leader-stop",
    about: "SIGSTOP of a node that leads, for ten seconds",
    expected: "another leads; the woken one steps down before it answers",
    row: FAILOVER,
    sets: BOTH,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            let (node, led) = stage.some_leader()?;
            let begun = stage.begins(&format!("node {node} stands still"), &[node], &led);
            stage.cluster.node(node)?.hold(true)?;
            stage.run_on(STANDSTILL);
            stage.cluster.node(node)?.hold(false)?;
            let _ = stage.cluster.balanced()?;
            stage.ends(begun);
            stage.more(100)?;
        }
        Ok(())
    },
};
