//! Traces as a collector sees them: one command through a cluster of three and a worker, and a collector on a bad day.
//!
//! The collector of these tests decodes what arrives with the published definitions. The tree is compared part by part; then
//! the picture that Jaeger would draw is computed from it: who calls whom.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::json;
use statehouse_tests::{
    binary::binary,
    cluster::{Cluster, others},
    collector::{Collector, Mood, Seen},
    patience::until,
    stage::Stage,
};

const JOB: &str = r#"
format: statehouse/1
id: job
version: 1
initial: going
states:
  going: {invoke: {id: dig, src: "task:dig", onDone: done, onError: failed}}
  done: {type: final}
  failed: {type: final, error: {code: failed, message: "it did not work"}}
"#;

/// A worker that is ended with its test.
struct Hand(Child);

impl Drop for Hand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hand(cluster: &Cluster, folder: &Path, node: u32, collector: &str) -> Hand {
    let token = folder.join("token");
    std::fs::write(&token, cluster.token()).unwrap();
    let mut command = Command::new(binary());
    command.args(["--servers", cluster.api(node), "--token-file"]).arg(&token);
    command.args(["worker", "run", "--queue", "dig", "--worker", "hand", "--exec", "sh", "-c"]);
    command.arg("cat > /dev/null; printf '{}'");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    Hand(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// The spans of a trace with their paths from the root.
struct Tree {
    spans: Vec<Seen>,
}

impl Tree {
    fn of(spans: &[Seen], trace: &str) -> Self {
        let spans = spans.iter().filter(|span| span.trace == trace).cloned().collect();
        Self { spans }
    }

    fn above(&self, span: &Seen) -> Option<&Seen> {
        self.spans.iter().find(|other| other.id == span.parent)
    }

    /// Every span as `path service kind`, sorted, with how often it is there.
    fn told(&self) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for span in &self.spans {
            let mut path = vec![span.name.clone()];
            let mut at = span;
            while let Some(above) = self.above(at) {
                path.push(above.name.clone());
                at = above;
            }
            path.reverse();
            *told
                .entry(format!("{} ({} {})", path.join(" > "), span.service, span.kind))
                .or_default() += 1;
        }
        told
    }

    /// Who calls whom: the edges of the picture.
    fn edges(&self) -> BTreeSet<(String, String)> {
        let edge = |span: &Seen| {
            let above = self.above(span)?;
            (above.service != span.service).then(|| (above.service.clone(), span.service.clone()))
        };
        self.spans.iter().filter_map(edge).collect()
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Seen> + 'a {
        self.spans.iter().filter(move |span| span.name == name)
    }
}

fn spans_as_json(tree: &Tree) -> serde_json::Value {
    let span = |span: &Seen| {
        json!({
            "name": span.name, "service": span.service, "node": span.instance, "kind": span.kind,
            "id": span.id, "parent": span.parent, "from": span.time.0, "until": span.time.1,
        })
    };
    tree.spans.iter().map(span).collect()
}

#[test]
fn one_command_is_one_trace_across_three_nodes_and_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::open(Mood::Good);
    let url = collector.url();
    let environment = [
        ("STATEHOUSE__TELEMETRY__OTLP", url.as_str()),
        ("STATEHOUSE__TELEMETRY__TRACE_PER_MILLION", "0"),
        ("STATEHOUSE__TELEMETRY__SPLIT_SERVICES", "true"),
    ];
    let cluster = Cluster::open_with(folder.path(), &[], &environment);
    let shard = cluster.shard_of(1, "i");
    let leader = cluster.agreed(&[1, 2, 3])[&shard].node;
    let entry = others(leader)[0];
    let deployed = cluster.ask(
        entry,
        "POST /v1/tenants/default/definitions",
        &[("idempotency-key", "deploy")],
        JOB,
    );
    assert_eq!(deployed.unwrap().status, 201);

    let body = json!({"definition": "job", "id": "i"}).to_string();
    let headers =
        [("idempotency-key", "start"), ("x-statehouse-trace", "1"), ("x-correlation-id", "c-1")];
    let started =
        cluster.ask(entry, "POST /v1/tenants/default/instances", &headers, &body).unwrap();
    assert_eq!(started.status, 201, "{started:?}");
    let parent = started.head.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap();
    let trace = parent.split('-').nth(1).unwrap().to_owned();
    let _hand = hand(&cluster, folder.path(), entry, &url);

    let path = "GET /v1/tenants/default/instances/i";
    cluster.until("the job is done", || {
        let told = cluster.ask(entry, path, &[], "").map_err(|error| error.to_string())?;
        if told.field("status") == "done" { Ok(()) } else { Err(told.body) }
    });
    let start = "POST /v1/tenants/{t}/instances";
    let complete = "POST /v1/tenants/{t}/tasks/{id}/complete";
    let decide = format!("{start} > cluster.forward > cluster.gate > runtime.decide");
    let told =
        format!("{decide} > task > {complete} > cluster.forward > cluster.gate > runtime.decide");
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    let mut say =
        |path: String, who: &str, times| expected.insert(format!("{path} ({who})"), times);
    for (at, under) in
        [(start.to_owned(), &decide), (format!("{decide} > task > {complete}"), &told)]
    {
        say(at.clone(), "statehouse-ingress server", 1);
        say(format!("{at} > cluster.forward"), "statehouse-ingress client", 1);
        say(format!("{at} > cluster.forward > cluster.gate"), "statehouse-shard server", 1);
        say(under.clone(), "statehouse-shard internal", 1);
        say(format!("{under} > log.propose"), "statehouse-shard internal", 1);
        say(format!("{under} > log.propose > log.replicate"), "statehouse-shard client", 2);
        say(format!("{under} > store.apply"), "statehouse-store internal", 3);
    }
    say(format!("{decide} > task"), "statehouse-worker consumer", 1);
    let tree = until("the whole tree arrives", || {
        let tree = Tree::of(&collector.spans(), &trace);
        if tree.told() == expected { Ok(tree) } else { Err(format!("{:#?}", tree.told())) }
    });

    if let Some(path) = std::env::var_os("STATEHOUSE_SPANS") {
        // For the picture in the pages: `runbooks/operate/picture.py` draws it.
        std::fs::write(path, spans_as_json(&tree).to_string()).unwrap();
    }
    let edges = [
        ("statehouse-ingress", "statehouse-shard"),
        ("statehouse-shard", "statehouse-store"),
        ("statehouse-shard", "statehouse-worker"),
        ("statehouse-worker", "statehouse-ingress"),
    ];
    let edges = edges.map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(tree.edges(), BTreeSet::from(edges), "what Jaeger would draw");

    let applied: BTreeSet<&str> =
        tree.named("store.apply").map(|span| span.instance.as_str()).collect();
    assert_eq!(applied, BTreeSet::from(["n1", "n2", "n3"]), "on every node");
    let decided: Vec<&Seen> = tree.named("runtime.decide").collect();
    let leader = format!("n{leader}");
    assert!(decided.iter().all(|span| span.instance == leader), "{decided:?}");
    assert!(
        decided.iter().all(|span| span.attributes["statehouse.instance"] == "i"),
        "{decided:?}"
    );
    let first = decided.iter().find(|span| span.attributes["statehouse.version"] == "1").unwrap();
    let second = decided.iter().find(|span| span.attributes["statehouse.version"] == "2").unwrap();
    assert_eq!(second.links, std::slice::from_ref(&first.id), "a move links to the one before");
    let task = tree.named("task").next().unwrap();
    assert_eq!(
        task.links,
        std::slice::from_ref(&first.id),
        "a task links to the step that ordered it"
    );
    let ingress = tree.named(start).next().unwrap();
    assert_eq!(ingress.attributes["statehouse.correlation"], "c-1");
    assert_eq!(ingress.attributes["http.response.status_code"], "201");
    assert_eq!(ingress.parent, "", "the trace begins at the door");
    for span in &tree.spans {
        assert!(!span.is_error, "{span:?}");
        assert!(span.time.0 <= span.time.1, "{span:?}");
        let is_clean = !["default", "job", "c-1"].iter().any(|id| span.name.contains(id));
        assert!(is_clean, "no id in a name: {}", span.name);
    }
    let history =
        cluster.ask(entry, "GET /v1/tenants/default/instances/i/history", &[], "").unwrap();
    let moves = history.field("items");
    for row in moves.as_array().unwrap() {
        assert_eq!(row["trace_id"], trace, "the entry keeps its trace: {row}");
    }
}

const WINDS: &str = r#"
format: statehouse/1
id: winds
version: 1
initial: wound
endless: true
states:
  wound: {after: {300ms: {target: wound, reenter: true}}}
"#;

#[test]
fn a_timer_begins_a_trace_of_its_own_that_follows_the_move_which_set_it() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::open(Mood::Good);
    let url = collector.url();
    let stage = Stage::open_with(
        folder.path(),
        &[
            ("STATEHOUSE__TELEMETRY__OTLP", url.as_str()),
            ("STATEHOUSE__TELEMETRY__TRACE_PER_MILLION", "0"),
            ("STATEHOUSE__TELEMETRY__TRACE_INSTANCES", "default/watched"),
        ],
    );
    let stage = stage.unwrap();
    assert_eq!(stage.ask("POST /v1/tenants/default/definitions", "d", WINDS).status, 201);
    for id in ["watched", "ignored"] {
        let body = json!({"definition": "winds", "id": id}).to_string();
        assert_eq!(stage.ask("POST /v1/tenants/default/instances", id, &body).status, 201);
    }
    let fired = until("three timers have fired in sight", || {
        let spans = collector.spans();
        let fired: Vec<Seen> =
            spans.into_iter().filter(|span| span.name == "runtime.fire").collect();
        if fired.len() >= 3 { Ok(fired) } else { Err(format!("{fired:#?}")) }
    });
    assert!(fired.iter().all(|span| span.attributes["statehouse.instance"] == "watched"));
    assert!(fired.iter().all(|span| span.parent.is_empty()), "each is the root of its trace");
    let version = |span: &Seen| span.attributes["statehouse.version"].parse::<u64>().unwrap();
    for (before, after) in fired.iter().zip(&fired[1..]) {
        assert_eq!(version(after), version(before) + 1);
        assert_ne!(after.trace, before.trace);
        assert_eq!(
            after.links,
            std::slice::from_ref(&before.id),
            "it links to the move that set it"
        );
    }
}

#[test]
fn a_bad_collector_costs_nobody_anything_but_the_spans() {
    let moods = [
        ("absent", None),
        ("refuses", Some(Mood::Refuses)),
        ("hangs", Some(Mood::Hangs)),
        ("slow", Some(Mood::Slow(std::time::Duration::from_millis(400)))),
    ];
    for (what, mood) in moods {
        let folder = tempfile::tempdir().unwrap();
        let collector = mood.map(Collector::open);
        // Nobody listens on the discard port.
        let url =
            collector.as_ref().map_or_else(|| "http://127.0.0.1:9".to_owned(), Collector::url);
        let environment = [
            ("STATEHOUSE__TELEMETRY__OTLP", url.as_str()),
            ("STATEHOUSE__TELEMETRY__TRACE_PER_MILLION", "1000000"),
        ];
        let mut stage = Stage::open_with(folder.path(), &environment).unwrap();
        for n in 0..200 {
            assert_eq!(stage.start_sample(&format!("a-{n}")).status, 201, "{what}");
        }
        let lost = || {
            let text = stage.ask("GET /metrics", "", "").body;
            let value = |name: &str| {
                let line = text.lines().find(|line| line.starts_with(name));
                line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
            };
            value("statehouse_telemetry_spans_failed_total")
        };
        if matches!(mood, None | Some(Mood::Refuses)) {
            until(&format!("{what}: what is lost is counted"), || {
                if lost() > 0.0 { Ok(()) } else { Err("nothing is counted".to_owned()) }
            });
        }
        let status = stage.server.stop(std::time::Duration::from_secs(10)).unwrap();
        assert_eq!(status.code(), Some(0), "{what}: it ends in time and well");
        if mood == Some(Mood::Slow(std::time::Duration::from_millis(400))) {
            assert!(!collector.unwrap().spans().is_empty(), "what it could take it has");
        }
    }
}
