//! Long and lossy lines between the nodes.
//!
//! What a node sends is late by its file of faults: by the way between regions, by jitter, by the retransmissions that
//! lost packets cost. It is the node that waits, chunk by chunk, so a long line is also a narrow one here: a harder test than
//! a network that keeps many packets under way.
//!
//! Deliberately absent: lost packets themselves, which need a network of one's own, and clients far away.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::drill::{
    DrillError,
    processes::{NODES, others},
    scenario::{MILD, NO_BUDGET, Row, Scenario, Set},
    stage::Stage,
    view::Leads,
};

const NIGHTLY: &[Set] = &[Set::Nightly];
const ROW: Row = Row { whole_ms: Some(60_000.0), ..NO_BUDGET };
const LASTS: Duration = Duration::from_secs(10);
/// How much of what was served before must be served over a line that loses.
const GOODPUT: f64 = 0.5;

pub(crate) const REGIONS: Scenario = Scenario {
    name: "regions",
    about: "the nodes are 40, 80, then 150 ms apart, there and back, with a tenth of jitter",
    expected: "no needless election; every command takes its way",
    row: ROW,
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: MILD,
    is_shimmed: false,
    play: |stage| {
        far(stage)?;
        for _ in 0..stage.times {
            for apart in [40_u64, 80, 150] {
                let line = json!({ "delay_ms": apart / 2, "jitter_ms": apart / 20, "seed": stage.dice.draw() });
                let _ = rough(stage, &format!("{apart} ms between the nodes"), &line)?;
            }
        }
        Ok(())
    },
};

pub(crate) const PACKET_LOSS: Scenario = Scenario {
    name: "packet-loss",
    about: "a fifth of what nodes send to each other is lost and sent again",
    expected: "no needless election; half of what was served before is served",
    row: ROW,
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: MILD,
    is_shimmed: false,
    play: |stage| {
        far(stage)?;
        for _ in 0..stage.times {
            let before = served(stage, LASTS);
            let line = json!({ "delay_ms": 1, "loss_percent": 20, "seed": stage.dice.draw() });
            let during = rough(stage, "20 % loss", &line)?;
            let told = format!("{during:.0}/s of {before:.0}/s without loss");
            stage.check("goodput at 20 % loss", "at least 50 %", told, during >= GOODPUT * before);
        }
        Ok(())
    },
};

/// Gives the nodes the patience of nodes that are far apart.
fn far(stage: &mut Stage<'_>) -> Result<(), DrillError> {
    for node in 1..=NODES {
        stage.cluster.set_variable(node, "STATEHOUSE__CLUSTER__PROFILE", "regions");
        stage.cluster.node(node)?.end("TERM")?;
        stage.back(node)?;
    }
    Ok(())
}

/// Makes every line between nodes rough for a while; returns what was served a second, and holds it against needless
/// elections.
fn rough(stage: &mut Stage<'_>, what: &str, line: &Value) -> Result<f64, DrillError> {
    let before = stage.cluster.whole()?;
    let nodes = stage.cluster.numbers();
    let begun = stage.begins(what, &nodes, &[]);
    for node in &nodes {
        let to: serde_json::Map<String, Value> = others(*node)
            .into_iter()
            .map(|peer| (peer.to_string(), json!({ "rough": line })))
            .collect();
        stage.cluster.node(*node)?.faults(&json!({ "to": to }))?;
    }
    let during = served(stage, LASTS);
    for node in &nodes {
        stage.cluster.heal(*node)?;
    }
    stage.ends(begun);
    let after = stage.cluster.whole()?;
    let rise = terms(&after).saturating_sub(terms(&before));
    stage.check(&format!("new terms: {what}"), "0", rise.to_string(), rise == 0);
    stage.notes.push(format!("{what}: {during:.0} requests/s"));
    Ok(during)
}

fn terms(leads: &Leads) -> u64 {
    leads.values().map(|lead| lead.term).sum()
}

fn served(stage: &Stage<'_>, time: Duration) -> f64 {
    let (begun, ended) = (Instant::now(), stage.load.ended());
    stage.run_on(time);
    (stage.load.ended() - ended) as f64 / begun.elapsed().as_secs_f64()
}
