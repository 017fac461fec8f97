//! What operators do to many instances at once, and to one at another time: migrations, resets, batches.
//!
//! On one node the whole round: try, a few, all, and what refuses. On three nodes a leader is killed in the middle: each
//! instance is told once, and the judge finds every move with its reason.
#![allow(clippy::unwrap_used, reason = "a test stops, and says why")]

use serde_json::{Value, json};
use statehouse_judge::Demands;
use statehouse_tests::{
    cluster::{Cluster, others},
    node::Answer,
    patience::until,
    stage::Stage,
    trial::Trial,
};

/// A parcel that is scanned on its way.
const ONE: &str = r#"
format: statehouse/1
id: parcel
version: 1
initial: moving
commands: {scan: {}, deliver: {}}
schemas: {context: {type: object, required: [scans], properties: {scans: {type: integer}}}}
context: {scans: 0}
states:
  moving:
    on: {scan: {actions: [{assign: {scans: "${context.scans + 1}"}}]}, deliver: delivered}
    after: {1h: lost}
  lost: {on: {deliver: delivered}}
  delivered: {type: final, output: {scans: "${context.scans}"}}
"#;

/// The same under another name, with an owner; what was scanned twice stays where it is.
const TWO: &str = r#"
format: statehouse/1
id: parcel
version: 2
initial: travelling
commands: {scan: {}, deliver: {}}
migrations:
  - from: 1
    states: {moving: travelling}
    when: "context.scans < 2"
    context: {scans: "${context.scans}", owner: unknown, limit: "${10 / (context.scans - 1)}"}
schemas: {context: {type: object, required: [scans, owner, limit], properties: {scans: {type: integer}, owner: {type: string}, limit: {type: integer}}}}
context: {scans: 0, owner: none, limit: 1}
states:
  travelling:
    on: {scan: {actions: [{assign: {scans: "${context.scans + 1}"}}]}, deliver: delivered}
    after: {1h: lost}
  lost: {on: {deliver: delivered}}
  delivered: {type: final, output: {scans: "${context.scans}"}}
"#;

struct Office(Stage);

impl Office {
    fn open(folder: &std::path::Path) -> Self {
        let office = Self(Stage::open(folder).unwrap());
        for (key, document) in [("one", ONE), ("two", TWO)] {
            let told = office.post("definitions", key, document);
            assert_eq!(told.status, 201, "{told:?}");
        }
        office
    }

    fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        self.0.ask(&format!("POST /v1/tenants/default/{path}"), key, body)
    }

    fn start(&self, id: &str, scans: usize) {
        let body = json!({"definition": "parcel", "version": 1, "id": id}).to_string();
        assert_eq!(self.post("instances", id, &body).status, 201);
        for n in 0..scans {
            let told =
                self.post(&format!("instances/{id}/events/scan"), &format!("{id}-{n}"), "{}");
            assert_eq!(told.status, 200, "{told:?}");
        }
    }

    fn batch(&self, name: &str, body: Value) -> Value {
        let mut body = body;
        body["name"] = name.into();
        body["reason"] = "the test says so".into();
        let told = self.post("batches", &format!("begin-{name}"), &body.to_string());
        assert_eq!(told.status, 201, "{told:?}");
        self.ended(name)
    }

    fn look(&self, name: &str) -> Value {
        let told = self.0.ask(&format!("GET /v1/tenants/default/batches/{name}"), "", "");
        assert_eq!(told.status, 200, "{told:?}");
        serde_json::from_str(&told.body).unwrap()
    }

    fn ended(&self, name: &str) -> Value {
        until(&format!("batch {name} ends"), || {
            let told = self.look(name);
            if told["state"]["phase"] == "running" { Err(told.to_string()) } else { Ok(told) }
        })
    }

    fn version(&self, id: &str) -> (String, u64) {
        let told = self.0.read(id);
        (told.field("definition_version").to_string(), told.field("version").as_u64().unwrap())
    }
}

fn counts(told: &Value) -> Value {
    let state = &told["state"];
    json!({"phase": state["phase"], "accepted": state["accepted"], "refused": state["refused"], "left": state["left"]})
}

#[test]
fn a_migration_is_tried_then_a_few_go_then_all_and_the_first_surprise_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let office = Office::open(folder.path());
    for n in 0..20 {
        office.start(&format!("p-{n}"), 0);
    }
    office.start("scanned-twice", 2);
    let migrate = |more: Value| {
        let mut body =
            json!({"verb": "migrate", "to": 2, "filter": {"definition": "parcel"}, "rate": 500});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };

    let tried = office.batch("try", migrate(json!({"dry_run": true})));
    assert_eq!(counts(&tried), json!({"phase": "done", "accepted": 20, "refused": 0, "left": 1}));
    assert_eq!(tried["state"]["moves"], json!({"moving -> travelling": 20}));
    assert_eq!(tried["state"]["codes"], json!({"guard_refused": 1}));
    assert_eq!(office.version("p-3"), ("1".to_owned(), 1), "nothing was written");

    let few = office.batch("few", migrate(json!({"percent": 30})));
    let gone = few["state"]["accepted"].as_u64().unwrap();
    assert!((1..20).contains(&gone), "{few}");
    assert_eq!(
        few["state"]["not_drawn"].as_u64().unwrap() + gone + few["state"]["left"].as_u64().unwrap(),
        21
    );

    // Its new context divides by nothing: this one refuses, and nobody behind it is told.
    office.start("surprise", 1);
    let stopped = office.batch("all", migrate(json!({})));
    assert_eq!(stopped["state"]["phase"], "stopped", "{stopped}");
    assert_eq!(stopped["state"]["refused"], 1);
    let example = &stopped["state"]["examples"][0];
    assert_eq!(
        (&example["instance"], &example["code"]),
        (&json!("surprise"), &json!("evaluation_error"))
    );
    assert!(
        example["detail"].as_str().unwrap().contains("/migrations/0/context/limit"),
        "{example}"
    );

    let rest = office.batch("rest", migrate(json!({"stop_on_refusal": false})));
    assert_eq!(rest["state"]["phase"], "done");
    for n in 0..20 {
        assert_eq!(office.version(&format!("p-{n}")), ("2".to_owned(), 2), "each one moved once");
    }
    assert_eq!(office.version("scanned-twice").0, "1");
    let history = office.0.ask("GET /v1/tenants/default/instances/p-3/history", "", "");
    let moved = &history.field("items")[1];
    assert_eq!((&moved["cause"], &moved["actor"]), (&json!("migrate"), &json!("dev")), "{moved}");
    assert!(moved["reason"].as_str().unwrap().ends_with(": the test says so"), "{moved}");
    // It lives on by the new version.
    let told = office.post("instances/p-3/events/deliver", "end", "{}");
    assert_eq!((told.status, &told.field("to")[0]), (200, &json!("delivered")));
}

#[test]
fn a_batch_is_stopped_keeps_what_it_did_and_its_name_is_free_once_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let office = Office::open(folder.path());
    for n in 0..12 {
        office.start(&format!("p-{n}"), 0);
    }
    let body = r#"{"name": "slow", "verb": "pause", "rate": 2, "reason": "x"}"#;
    assert_eq!(office.post("batches", "slow", body).status, 201);
    assert_eq!(office.post("batches", "slow", body).status, 201, "a repeat is the same batch");
    assert_eq!(office.post("batches", "slow-2", body).status, 409, "another one is not");
    until("it has begun", || {
        let told = office.look("slow");
        if told["state"]["accepted"].as_u64() > Some(0) { Ok(()) } else { Err(told.to_string()) }
    });
    let remove = |key: &str| office.0.ask("DELETE /v1/tenants/default/batches/slow", key, "");
    assert_eq!(remove("too-early").status, 409);
    let told = office.post("batches/slow/stop", "stop", r#"{"reason": "enough"}"#);
    assert_eq!((told.status, told.field("phase")), (200, json!("stopped")), "{told:?}");
    let paused = |office: &Office| {
        let told = office.0.ask("GET /v1/tenants/default/instances?status=paused", "", "");
        told.field("items").as_array().unwrap().len() as u64
    };
    // What was on its way when it was stopped is counted, and after that nobody is told.
    let stands = until("counts and instances agree", || {
        let (told, there) = (office.look("slow"), paused(&office));
        if told["state"]["accepted"].as_u64() == Some(there) {
            Ok(told)
        } else {
            Err(format!("{told} {there}"))
        }
    });
    assert_eq!(stands["state"]["stopped"], "dev stopped it");
    assert!(paused(&office) < 12);
    assert_eq!(remove("now").status, 200);
    let everyone = office
        .batch("slow", json!({"verb": "resume", "rate": 500, "filter": {"status": "paused"}}));
    assert_eq!(everyone["state"]["refused"], 0, "{everyone}");
    assert_eq!(paused(&office), 0);
}

#[test]
fn a_reset_begins_a_new_instance_where_the_old_one_stood() {
    let folder = tempfile::tempdir().unwrap();
    let office = Office::open(folder.path());
    office.start("p", 3);
    assert_eq!(office.post("instances/p/events/deliver", "end", "{}").status, 200);
    let body = r#"{"version": 3, "instance": "p-again", "reason": "delivered by mistake"}"#;
    let made = office.post("instances/p/reset", "reset", body);
    assert_eq!(made.status, 201, "{made:?}");
    assert!(made.head.contains("location: /v1/tenants/default/instances/p-again"), "{}", made.head);
    let again = office.post("instances/p/reset", "reset", body);
    assert_eq!((again.status, &again.body), (201, &made.body), "a repeat makes no second one");
    let told = office.0.read("p-again");
    assert_eq!(
        (told.field("status"), told.field("context")),
        (json!("running"), json!({"scans": 2}))
    );
    assert_eq!(office.0.read("p").field("status"), "done", "the old one does not move");
    let history = office.0.ask("GET /v1/tenants/default/instances/p-again/history", "", "");
    let first = &history.field("items")[0];
    assert_eq!(
        (&first["event"], &first["reason"]),
        (&json!("reset"), &json!("delivered by mistake"))
    );
    let refused = [
        (r#"{"version": 5, "instance": "q", "reason": "x"}"#, 409, "the instance has ended"),
        (r#"{"version": 9, "instance": "q", "reason": "x"}"#, 400, "the last one is 5"),
        (r#"{"version": 0, "instance": "q", "reason": "x"}"#, 400, "there is no version 0"),
        (r#"{"version": 2, "instance": "p", "reason": "x"}"#, 400, "another id"),
        (r#"{"version": 2, "instance": "p-again", "reason": "x"}"#, 409, "already"),
    ];
    for (n, (body, status, why)) in refused.into_iter().enumerate() {
        let told = office.post("instances/p/reset", &format!("no-{n}"), body);
        assert_eq!(told.status, status, "{body}: {told:?}");
        assert!(told.body.contains(why), "{body}: {told:?}");
    }
    let of_done = |name: &str| {
        office.batch(name, json!({"verb": "reset", "version": 1, "filter": {"status": "done"}}))
    };
    let one = |accepted: u64, refused: u64| json!({"phase": "done", "accepted": accepted, "refused": refused, "left": 0});
    assert_eq!(counts(&of_done("once-more")), one(1, 0));
    assert_eq!(office.0.read("p-once-more").field("context"), json!({"scans": 0}));
    let taken = of_done("again");
    assert_eq!(counts(&taken), one(0, 1));
    assert_eq!(taken["state"]["examples"][0]["code"], "already_exists");
    assert_eq!(office.0.read("p-again").field("context"), json!({"scans": 2}));
}

const FLOCK: usize = 60;

#[test]
fn a_batch_tells_each_instance_once_although_the_leader_that_carries_it_out_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let trial = Trial::begin(&cluster);
    let leads = cluster.agreed(&[1, 2, 3]);
    // Shard 0 carries batches out.
    let leader = leads[&0].node;
    let safe = others(leader)[0];
    let ask = |cluster: &Cluster, what: &str, key: &str, body: &str| {
        cluster.until(&format!("node {safe} does {what}"), || {
            let headers = [("idempotency-key", key)];
            let headers = if key.is_empty() { &[][..] } else { &headers[..] };
            let told = cluster.ask(safe, what, headers, body).map_err(|error| error.to_string())?;
            if told.status < 300 { Ok(told) } else { Err(told.body) }
        })
    };
    for (key, document) in [("one", ONE), ("two", TWO)] {
        ask(&cluster, "POST /v1/tenants/default/definitions", key, document);
    }
    for n in 0..FLOCK {
        let body =
            json!({"definition": "parcel", "version": 1, "id": format!("p-{n}")}).to_string();
        ask(&cluster, "POST /v1/tenants/default/instances", &format!("p-{n}"), &body);
    }
    let body = json!({"name": "move", "verb": "migrate", "to": 2, "rate": 15,
        "filter": {"definition": "parcel"}, "reason": "a new version"});
    ask(&cluster, "POST /v1/tenants/default/batches", "move", &body.to_string());
    let look = |cluster: &Cluster| {
        let told = ask(cluster, "GET /v1/tenants/default/batches/move", "", "");
        serde_json::from_str::<Value>(&told.body).unwrap()
    };
    cluster.until("it is under way", || {
        let told = look(&cluster);
        if told["state"]["accepted"].as_u64() > Some(10) { Ok(()) } else { Err(told.to_string()) }
    });
    trial.fault("kill -9 of the leader of shard 0");
    cluster.kill(leader);
    let _ = cluster.agreed(&others(leader));
    assert_eq!(look(&cluster)["state"]["phase"], "running", "it was killed in the middle");
    cluster.start(leader);
    trial.whole_after(&cluster, "kill -9 of the leader of shard 0");
    let ended = cluster.until("the batch ends", || {
        let told = look(&cluster);
        if told["state"]["phase"] == "running" { Err(told.to_string()) } else { Ok(told) }
    });
    assert_eq!(
        counts(&ended),
        json!({"phase": "done", "accepted": FLOCK, "refused": 0, "left": 0})
    );
    for n in 0..FLOCK {
        let path = format!("GET /v1/tenants/default/instances/p-{n}");
        let told = ask(&cluster, &path, "", "");
        assert_eq!(told.field("definition_version"), 2, "{told:?}");
        assert_eq!(told.field("version"), 2, "it was told once: {told:?}");
    }
    trial.judged(&cluster, &Demands { ok: 0, leader_changes: 1, faults: 1, ..Demands::LEAST });
}
