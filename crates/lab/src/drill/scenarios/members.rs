//! Members that come and go, and builds that change, with a kill in the middle.
//!
//! A fourth node joins with an empty directory and is taken out again; or each node in turn is ended and started as
//! another build. In between a leader dies, because nothing waits for an operator to be done.
//!
//! Deliberately absent: what a newer build may do that an older one may not. The tests of upgrades have it.

use std::path::Path;

use crate::drill::{
    DrillError,
    processes::NODES,
    scenario::{HARSH, Row, Scenario, Set},
    stage::Stage,
    view::led_by,
};

const NIGHTLY: &[Set] = &[Set::Nightly];
const FAILOVER: Row = Row {
    median_ms: Some(1_000.0),
    p99_ms: Some(2_000.0),
    others_ms: Some(1_000.0),
    whole_ms: Some(30_000.0),
    again_ms: None,
};

pub(crate) const MEMBERSHIP: Scenario = Scenario {
    name: "membership",
    about: "a fourth node joins, a leader is killed, the fourth is taken out again",
    expected: "nobody is refused for it; the kill costs what a kill costs",
    row: FAILOVER,
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            let begun = stage.begins("node 4 joins", &[4], &[]);
            let settings = stage.cluster.prepare(4)?;
            let path = settings.display().to_string();
            done(stage, &["cluster", "join", "--config", &path])?;
            stage.cluster.adopt(4)?;
            stage.ends(begun);
            stage.more(150)?;
            kill(stage)?;
            let begun = stage.begins("node 4 is taken out", &[4], &[]);
            let servers = stage.cluster.urls().join(",");
            let token = stage.cluster.token_file().display().to_string();
            let line = ["--servers", &servers, "--token-file", &token, "cluster", "remove", "4"];
            let line: Vec<&str> = line.into_iter().chain(["--reason", "the drill"]).collect();
            done(stage, &line)?;
            stage.cluster.dismiss(4)?;
            let _ = stage.cluster.balanced()?;
            stage.ends(begun);
            stage.more(150)?;
        }
        Ok(())
    },
};

pub(crate) const ROLLING_UPGRADE: Scenario = Scenario {
    name: "rolling-upgrade",
    about: "each node is ended and started as a newer build, with a kill in between, and back again",
    expected: "mixed builds work; leaders are handed over first",
    row: FAILOVER,
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        let own = stage.cluster.binary().to_owned();
        let older = stage.older.clone();
        if older.is_none() {
            stage.notes.push("one build plays both; --older FILE names another".to_owned());
        }
        let older = older.unwrap_or_else(|| own.clone());
        roll(stage, "older", &older)?;
        for _ in 0..stage.times {
            change(stage, 1, "newer", &own)?;
            kill(stage)?;
            change(stage, 2, "newer", &own)?;
            change(stage, 3, "newer", &own)?;
            roll(stage, "older", &older)?;
            kill(stage)?;
        }
        roll(stage, "newer", &own)
    },
};

fn roll(stage: &mut Stage<'_>, what: &str, binary: &Path) -> Result<(), DrillError> {
    (1..=NODES).try_for_each(|node| change(stage, node, what, binary))
}

/// Ends a node in good order and starts it as another build.
fn change(stage: &mut Stage<'_>, node: u32, what: &str, binary: &Path) -> Result<(), DrillError> {
    let led = led_by(&stage.leads()?, node);
    let begun = stage.begins(&format!("node {node} becomes the {what} build"), &[node], &led);
    stage.cluster.node(node)?.end("TERM")?;
    stage.more(30)?;
    stage.cluster.set_binary(binary);
    stage.back(node)?;
    stage.ends(begun);
    stage.more(50)
}

fn kill(stage: &mut Stage<'_>) -> Result<(), DrillError> {
    let (node, led) = stage.some_leader()?;
    let begun = stage.begins(&format!("node {node} is killed; it leads {led:?}"), &[node], &led);
    stage.cluster.kill(node)?;
    let rest: Vec<u32> = stage.cluster.numbers().into_iter().filter(|one| *one != node).collect();
    let _ = stage.cluster.agreed(&rest)?;
    stage.more(50)?;
    stage.back(node)?;
    stage.ends(begun);
    Ok(())
}

fn done(stage: &mut Stage<'_>, line: &[&str]) -> Result<(), DrillError> {
    match stage.cluster.run(line)? {
        (0, _) => Ok(()),
        (code, told) => Err(DrillError::Node(format!("{line:?} ends with {code}: {told}"))),
    }
}
