//! Links that are cut: both ways, one way, a bridge, a ring.
//!
//! A node stalls what it sends to, or hears of, a peer, as with a cable that was pulled: nothing is refused or reset. The
//! clients reach every node all the time, so those of the lonely side are there to be refused.
//!
//! Deliberately absent: cuts between clients and nodes. A client that cannot connect asks the next node.

use std::time::Duration;

use crate::drill::{
    DrillError,
    processes::{NODES, others},
    scenario::{HARSH, MILD, NO_BUDGET, Row, Scenario, Set},
    stage::Stage,
    view::Leads,
};

const NIGHTLY: &[Set] = &[Set::Nightly];
const BOTH: &[Set] = &[Set::Short, Set::Nightly];
/// How long a cut lasts at least.
const LASTS: Duration = Duration::from_secs(6);
/// New terms of a shard that an asymmetric cut may cost.
const TERMS_MAX: u64 = 3;
const SYMMETRIC: Row = Row {
    median_ms: Some(2_000.0),
    p99_ms: Some(2_000.0),
    others_ms: Some(1_000.0),
    whole_ms: Some(30_000.0),
    again_ms: None,
};
const ASYMMETRIC: Row = Row {
    median_ms: Some(5_000.0),
    p99_ms: Some(5_000.0),
    others_ms: Some(5_000.0),
    whole_ms: Some(30_000.0),
    again_ms: None,
};

/// What a node is cut from: whom it does not reach, whom it does not hear.
type Cut = (u32, Vec<u32>, Vec<u32>);

pub(crate) const LEADER_CUT: Scenario = Scenario {
    name: "leader-cut",
    about: "a node that leads is cut off from both others; its clients are not",
    expected: "the old side refuses, the others go on",
    row: SYMMETRIC,
    sets: BOTH,
    times: 2,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            let (node, led) = stage.some_leader()?;
            let what = format!("node {node} is cut off; it leads {led:?}");
            cut(stage, &what, &led, &[(node, others(node), others(node))])?;
        }
        Ok(())
    },
};

pub(crate) const ONE_WAY_CUT: Scenario = Scenario {
    name: "one-way-cut",
    about: "a node that leads hears the others and is not heard, then the other way round",
    expected: "it gives way; no storm of terms",
    row: ASYMMETRIC,
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            let (node, led) = stage.some_leader()?;
            cut(
                stage,
                &format!("node {node} is not heard"),
                &led,
                &[(node, others(node), vec![])],
            )?;
            let (node, led) = stage.some_leader()?;
            cut(
                stage,
                &format!("node {node} hears nobody"),
                &led,
                &[(node, vec![], others(node))],
            )?;
        }
        Ok(())
    },
};

pub(crate) const BRIDGE_CUT: Scenario = Scenario {
    name: "bridge-cut",
    about: "two nodes reach the third, but not each other",
    expected: "every shard is led by somebody who reaches a majority; no storm of terms",
    row: ASYMMETRIC,
    sets: NIGHTLY,
    times: 2,
    arguments: &[],
    demands: MILD,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            let bridge = u32::try_from(stage.dice.between(1, u64::from(NODES))).unwrap_or(1);
            let ends = others(bridge);
            let shards: Vec<u32> = stage.leads()?.keys().copied().collect();
            let [one, two] = ends[..] else { continue };
            let cuts = [(one, vec![two], vec![two]), (two, vec![one], vec![one])];
            cut(stage, &format!("nodes {one} and {two} see node {bridge} only"), &shards, &cuts)?;
        }
        Ok(())
    },
};

pub(crate) const RING_CUT: Scenario = Scenario {
    name: "ring-cut",
    about: "each node is heard by the next one only",
    expected: "what cannot be led is refused; whole again after healing; no storm of terms",
    row: Row { whole_ms: Some(30_000.0), ..NO_BUDGET },
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: MILD,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            let shards: Vec<u32> = stage.leads()?.keys().copied().collect();
            // 1 -> 2 -> 3 -> 1: nobody sends to the one before it.
            let before = |node: u32| if node == 1 { NODES } else { node - 1 };
            let cuts: Vec<Cut> =
                (1..=NODES).map(|node| (node, vec![before(node)], vec![])).collect();
            cut(stage, "each node is heard by the next one only", &shards, &cuts)?;
        }
        Ok(())
    },
};

/// Makes cuts, lets them last, heals them, and checks by how much terms have risen.
fn cut(stage: &mut Stage<'_>, what: &str, shards: &[u32], cuts: &[Cut]) -> Result<(), DrillError> {
    let before = stage.cluster.balanced()?;
    let nodes: Vec<u32> = cuts.iter().map(|(node, ..)| *node).collect();
    let begun = stage.begins(what, &nodes, shards);
    for (node, to, from) in cuts {
        stage.cluster.cut(*node, to, from)?;
    }
    stage.run_on(LASTS);
    stage.run_on_between(0, 2_000);
    for (node, ..) in cuts {
        stage.cluster.heal(*node)?;
    }
    stage.ends(begun);
    let healed = stage.cluster.whole()?;
    let rise = rise(&before, &healed);
    let budget = format!("at most {TERMS_MAX} for a shard");
    stage.check(&format!("new terms: {what}"), &budget, rise.to_string(), rise <= TERMS_MAX);
    let _ = stage.cluster.balanced()?;
    stage.more(100)
}

/// By how much the term of any shard has risen at most.
fn rise(before: &Leads, after: &Leads) -> u64 {
    let of = |(shard, lead): (&u32, &crate::drill::view::Lead)| {
        lead.term.saturating_sub(before.get(shard).map_or(lead.term, |before| before.term))
    };
    after.iter().map(of).max().unwrap_or(0)
}
