//! An upgrade of a cluster: an older and a newer build side by side under load, then a new feature level for all.
//!
//! There is one build, so the newer one is the same binary that claims to know level 2 (`STATEHOUSE_BUILD_LEVEL`, a hook
//! of debug builds); it also speaks a newer version of the log's wire with its like.
//!
//! Absent on purpose: what a level allows. There is no entry behind level 2 yet.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::fs;

use serde_json::Value;
use statehouse_contract::Build;
use statehouse_judge::Demands;
use statehouse_tests::{
    cluster::{Cluster, NODES},
    load::Load,
    trial::Trial,
};

const CLIENTS: u32 = 8;
/// The newer build also says what it agrees on with whom it dials.
const NEWER: &[(&str, &str)] = &[
    ("STATEHOUSE_BUILD_LEVEL", "2"),
    (
        "STATEHOUSE__TELEMETRY__LEVEL",
        "warn,openraft=error,statehouse_log=info,statehouse_cluster::log_wire::lane=debug",
    ),
];
/// The exit code of something else being there already, or having moved on.
const CONFLICT: i32 = 5;
/// The exit code of a refusal.
const REJECTED: i32 = 3;

/// Runs a verb of `cluster` against all nodes.
fn verb(cluster: &Cluster, token: &str, arguments: &[&str]) -> (i32, String) {
    let servers = cluster.urls().join(",");
    let line = ["--servers", &servers, "--token-file", token, "cluster"];
    let line: Vec<&str> = line.into_iter().chain(arguments.iter().copied()).collect();
    let (code, told) = cluster.run(&line);
    println!("cluster {}: {code}\n{told}", arguments.join(" "));
    (code, told)
}

/// What one node sees of a list: a member of each of its items, nothing where an item has none.
fn seen(view: &Value, list: &str, member: &str) -> Vec<Option<u64>> {
    let items = view[list].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item[member].as_u64()).collect()
}

/// Waits until every node knows these levels of the builds of all nodes, in the order of their numbers.
fn builds_are_known(cluster: &Cluster, levels: [u64; NODES as usize]) {
    let expected: Vec<Option<u64>> = levels.into_iter().map(Some).collect();
    cluster.until("every node knows every build", || {
        for node in 1..=NODES {
            let view = cluster.view(node).ok_or_else(|| format!("node {node} says nothing"))?;
            let found = seen(&view, "members", "build_level");
            if found != expected {
                return Err(format!("node {node} sees {found:?}"));
            }
        }
        Ok(())
    });
}

/// Waits until a node of the newer build has said on which version of the log's wire it agreed with another node, and
/// which level that one told.
fn agreed(cluster: &Cluster, node: u32, with: u32, level: u16) {
    let version = Build::rehearsed(level).wire;
    let (to, end) =
        (format!("connected to=n{with}.1 "), format!("version={version} level={level}"));
    cluster.until(&format!("node {node} agrees with node {with} on version {version}"), || {
        let lines = cluster.lines(node);
        let said: Vec<&String> = lines.iter().filter(|line| line.contains(&to)).collect();
        if said.iter().any(|line| line.contains(&end)) { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

/// Ends a node and starts it again as the newer build, under load.
fn upgrade(cluster: &mut Cluster, trial: &Trial, load: &Load, node: u32) {
    trial.fault("upgrade");
    cluster.end(node);
    load.more(cluster, 50);
    cluster.start_with(node, NEWER);
    trial.whole_after(cluster, "upgrade");
    load.more(cluster, 50);
}

/// Writes the configuration of a fourth node beside that of the third.
fn fourth(cluster: &Cluster, folder: &std::path::Path) -> String {
    let text = fs::read_to_string(cluster.directory(3).join("node.toml")).unwrap();
    let data = folder.join("fourth").display().to_string();
    let other = [
        ("node.number", "4".to_owned()),
        ("node.data", format!("{data:?}")),
        ("api.listen", r#""127.0.0.1:0""#.to_owned()),
        ("cluster.links", r#""127.0.0.1:0""#.to_owned()),
        ("cluster.log", r#""127.0.0.1:0""#.to_owned()),
    ];
    let line = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        let found = other.iter().find(|(name, _)| *name == key);
        found.map_or_else(|| line.to_owned(), |(name, value)| format!("{name} = {value}"))
    };
    let path = folder.join("fourth.toml");
    fs::write(&path, text.lines().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    path.display().to_string()
}

#[test]
fn builds_are_changed_one_by_one_under_load_and_the_level_is_raised_when_all_know_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let token = folder.path().join("data/dev-token").display().to_string();
    let (trial, load) = Trial::under_load(&cluster, CLIENTS, 100);
    builds_are_known(&cluster, [1, 1, 1]);

    upgrade(&mut cluster, &trial, &load, 1);
    builds_are_known(&cluster, [2, 1, 1]);
    agreed(&cluster, 1, 2, 1);
    agreed(&cluster, 1, 3, 1);
    let (code, told) = verb(&cluster, &token, &["raise", "2"]);
    let older = "level 2 is beyond the builds of n2.1 (level 1), n3.1 (level 1)";
    assert!(code == REJECTED && told.contains(older), "{code} {told}");

    upgrade(&mut cluster, &trial, &load, 2);
    builds_are_known(&cluster, [2, 2, 1]);
    agreed(&cluster, 2, 1, 2);
    agreed(&cluster, 2, 3, 1);
    let (code, told) = verb(&cluster, &token, &["raise", "2"]);
    let older = "level 2 is beyond the builds of n3.1 (level 1)";
    assert!(code == REJECTED && told.contains(older), "{code} {told}");

    // While the last one is away nobody knows which build it comes back as.
    trial.fault("upgrade");
    cluster.end(3);
    cluster.until("the others forget the build of node 3", || {
        for node in [1, 2] {
            let view = cluster.view(node).ok_or_else(|| format!("node {node} says nothing"))?;
            match seen(&view, "members", "build_level").as_slice() {
                [Some(2), Some(2), None] => {}
                other => return Err(format!("node {node} sees {other:?}")),
            }
        }
        Ok(())
    });
    let (code, told) = verb(&cluster, &token, &["raise", "2"]);
    let unknown = "nobody knows what the builds of n3.1 know while there is no connection";
    assert!(code == REJECTED && told.contains(unknown), "{code} {told}");
    load.more(&cluster, 50);
    cluster.start_with(3, NEWER);
    trial.whole_after(&cluster, "upgrade");
    builds_are_known(&cluster, [2, 2, 2]);

    let (code, told) = verb(&cluster, &token, &["raise", "2"]);
    assert!(code == 0 && told.matches("raised").count() == 4, "{code} {told}");
    let (code, told) = verb(&cluster, &token, &["raise", "2"]);
    assert!(code == 0 && told.matches("had it already").count() == 4, "{code} {told}");
    cluster.until("every copy of every shard has the level", || {
        for node in 1..=NODES {
            let view = cluster.view(node).ok_or_else(|| format!("node {node} says nothing"))?;
            let levels = seen(&view, "shards", "level");
            if levels != [Some(2); 4] {
                return Err(format!("node {node} sees {levels:?}"));
            }
        }
        Ok(())
    });
    cluster.until("node 1 sees everybody up", || {
        let view = cluster.view(1).ok_or("it says nothing")?;
        let members = view["members"].as_array().cloned().unwrap_or_default();
        let is_up = members.len() == 3 && members.iter().all(|member| member["state"] == "up");
        if is_up { Ok(()) } else { Err(view["members"].to_string()) }
    });
    let (code, told) = verb(&cluster, &token, &["status"]);
    let row = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = told.lines().map(row).collect();
    let has = |shard: u32| rows.contains(&format!("{shard} 2"));
    assert!(code == 0 && (0..4).all(has), "{code} {told}");
    load.more(&cluster, 50);

    // There is no way back: the older build does not open what the newer ones have raised, and the others go on.
    trial.fault("an older build");
    cluster.end(3);
    let settings = cluster.directory(3).join("node.toml").display().to_string();
    let (code, told) = cluster.run(&["serve", "--config", &settings]);
    println!("older: {code} {told}");
    let why = "is at feature level 2, and this build knows levels up to 1";
    assert!(
        code == CONFLICT && told.contains(why) && told.contains("nothing was changed"),
        "{told}"
    );
    let (code, told) =
        cluster.run(&["cluster", "join", "--config", &fourth(&cluster, folder.path())]);
    println!("older, joins: {code} {told}");
    assert!(code == REJECTED && told.contains("a shard of it is at feature level 2"), "{told}");
    load.more(&cluster, 50);
    cluster.start_with(3, NEWER);
    trial.whole_after(&cluster, "an older build");
    builds_are_known(&cluster, [2, 2, 2]);
    load.more(&cluster, 50);

    load.end_unrefused();
    let demands = Demands { ok: 500, leader_changes: 3, faults: 4, ..Demands::LEAST };
    trial.judged(&cluster, &demands);
}
