//! Children that live on other shards than their parents, led by other nodes, while a leader is killed.
//!
//! What an instance starts is written with its own move and carried until the other shard has it; what the child comes to
//! is carried back the same way. So each parent has exactly its own children, once, however often a message went.
#![allow(clippy::unwrap_used, reason = "a test stops, and says why")]

use std::collections::BTreeSet;

use statehouse_judge::Demands;
use statehouse_tests::{
    cluster::{Cluster, others},
    trial::Trial,
};

/// Starts a child for each of three numbers and adds up what they answer.
const PARENT: &str = r#"
format: statehouse/1
version: 1
id: parent
initial: waiting
schemas: {context: {type: object, required: [sum], properties: {sum: {type: integer}}}}
context: {sum: 0}
states:
  waiting:
    invoke:
      id: kids
      src: "workflow:child"
      forEach: {items: "${[1, 2, 3]}", as: item, limit: 2}
      input: {n: "${item}"}
      onDone: {target: done, actions: [{assign: {sum: "${event.output[0].twice + event.output[1].twice + event.output[2].twice}"}}]}
      onError: failed
  done: {type: final, output: {sum: "${context.sum}"}}
  failed: {type: final, error: {code: child_failed, message: "a child failed"}}
"#;

/// Doubles its input after a moment.
const CHILD: &str = r#"
format: statehouse/1
version: 1
id: child
initial: resting
schemas: {input: {type: object, required: [n], properties: {n: {type: integer}}}, context: {type: object, required: [n], properties: {n: {type: integer}}}}
context: {n: "${input.n}"}
states:
  resting:
    after: {200ms: doubled}
  doubled: {type: final, output: {twice: "${context.n * 2}"}}
"#;

const PARENTS: usize = 16;

#[test]
fn parents_get_each_child_once_across_shards_although_a_leader_dies() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let trial = Trial::begin(&cluster);
    let leads = cluster.agreed(&[1, 2, 3]);
    let leader = leads[&1].node;
    let safe = others(leader)[0];
    let sent = |cluster: &Cluster, what: &str, key: &str, body: &str| {
        cluster.until(&format!("node {safe} does {what}"), || {
            let headers = [("idempotency-key", key)];
            let told =
                cluster.ask(safe, what, &headers, body).map_err(|error| error.to_string())?;
            if told.status < 300 { Ok(()) } else { Err(told.body) }
        });
    };
    for (key, document) in [("child", CHILD), ("parent", PARENT)] {
        sent(&cluster, "POST /v1/tenants/default/definitions", key, document);
    }
    let ids: Vec<String> = (0..PARENTS).map(|number| format!("p-{number}")).collect();
    let shards: BTreeSet<u32> = ids.iter().map(|id| cluster.shard_of(safe, id)).collect();
    assert!(shards.len() > 1, "{shards:?}");
    for id in &ids {
        let body = format!(r#"{{"definition": "parent", "id": "{id}"}}"#);
        sent(&cluster, "POST /v1/tenants/default/instances", id, &body);
    }
    trial.fault("kill -9 of a leader");
    cluster.kill(leader);
    let _ = cluster.agreed(&others(leader));
    cluster.start(leader);
    trial.whole_after(&cluster, "kill -9 of a leader");
    for id in &ids {
        cluster.until(&format!("{id} is done"), || {
            let path = format!("GET /v1/tenants/default/instances/{id}");
            let told = cluster.ask(safe, &path, &[], "").map_err(|error| error.to_string())?;
            if told.field("status") == "done" {
                assert_eq!(told.field("output")["sum"], 12, "{told:?}");
                return Ok(());
            }
            Err(told.body)
        });
    }
    let path = "GET /v1/tenants/default/instances?definition=child&all=true&limit=500";
    let told = cluster.ask(safe, path, &[], "").unwrap();
    let children = told.field("items").as_array().map_or(0, Vec::len);
    assert_eq!(children, 3 * PARENTS, "{told:?}");
    trial.judged(&cluster, &Demands { ok: 0, leader_changes: 1, faults: 1, ..Demands::LEAST });
}
