//! Load runs against a small honest server, and against the same server with its answers cut off.
//!
//! The honest server keeps receipts by key and tells its entries in a dump, so that the histories written here can be
//! judged. Absent on purpose: figures. How fast a run is depends on the machine; only orders of magnitude are asserted.

use std::collections::HashMap;

use serde_json::{Value, json};
use statehouse_judge::{Demands, History, judge};

use super::*;
use crate::fake::{Fake, Reply};

mod several;

/// A server of one shard that keeps its promises: receipts by key, versions in order, a dump of all entries.
#[derive(Default)]
struct Honest {
    position: u64,
    instances: HashMap<String, (u64, u64)>,
    receipts: HashMap<String, (u16, String, String)>,
    entries: String,
}

impl Honest {
    fn answer(&mut self, request: &str) -> Reply {
        let line = request.lines().next().unwrap_or_default();
        let path = line.split(' ').nth(1).unwrap_or_default();
        let body: Value =
            serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap_or_default();
        let parts: Vec<&str> = path.split(['/', '?']).filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["v1", "tenants", _, "definitions"] => {
                Reply::new(201, "", json!({"name": "bench-order", "version": 1}).to_string())
            }
            ["v1", "cluster"] => {
                Reply::new(200, "", json!({"node": "a", "shards": [{"shard": 0}]}).to_string())
            }
            ["v1", "cluster", "shards", "0", "dump"] => {
                let end = json!({"e": "shard", "node": "a", "shard": 0, "pos": self.position});
                Reply::new(200, "", format!("{}{end}\n", self.entries))
            }
            ["v1", "tenants", tenant, "instances"] => {
                let id = body["id"].as_str().unwrap_or_default().to_owned();
                self.apply(request, tenant, &id, "start")
            }
            ["v1", "tenants", tenant, "instances", id, "events", name] => {
                self.apply(request, tenant, id, name)
            }
            ["v1", "tenants", _, "instances", id, _] => match self.instances.get(*id) {
                Some((born, version)) => {
                    let tag = format!("etag: \"{born}.{version}\"\r\n");
                    Reply::new(200, &tag, json!({"version": version, "age_ms": 0}).to_string())
                }
                None => Reply::new(404, "", json!({"code": "unknown_instance"}).to_string()),
            },
            _ => Reply::new(404, "", json!({"code": "invalid_request"}).to_string()),
        }
    }

    fn apply(&mut self, request: &str, tenant: &str, id: &str, name: &str) -> Reply {
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("idempotency-key: "))
            .unwrap()
            .to_owned();
        if let Some((status, tag, body)) = self.receipts.get(&key) {
            let headers = format!("{tag}idempotency-replayed: true\r\n");
            return Reply::new(*status, &headers, body.clone());
        }
        self.position += 1;
        let (position, is_start) = (self.position, name == "start");
        let (born, version) = *self
            .instances
            .entry(id.to_owned())
            .and_modify(|(_, version)| *version += 1)
            .or_insert((position, 1));
        let body = json!({"version": version}).to_string();
        let entry = json!({
            "e": "entry", "node": "a", "tenant": tenant, "wf": id, "shard": 0, "pos": position, "born": born,
            "ver": version, "exp": version - 1, "kind": if is_start { "start" } else { "cmd" }, "key": key,
            "cmd": name, "reply": statehouse_contract::Digest::of(body.as_bytes()).to_string(), "at": position,
            "actor": "bench", "term": 1, "leader": "a", "def": "d",
        });
        self.entries.push_str(&format!("{entry}\n"));
        let (status, tag) =
            (if is_start { 201 } else { 200 }, format!("etag: \"{born}.{version}\"\r\n"));
        self.receipts.insert(key, (status, tag.clone(), body.clone()));
        Reply::new(status, &tag, body)
    }
}

fn options(fake: &Fake) -> BenchOptions {
    BenchOptions {
        servers: vec![format!("http://{}", fake.address)],
        token: Some("secret".to_owned()),
        authority_pem: None,
        tenant: "default".to_owned(),
        workload: Workload::order(),
        mode: Mode::Commands,
        pace: Pace::Closed,
        clients: 4,
        warm_up: Duration::ZERO,
        length: Length::Count(200),
        deadline: Duration::from_secs(10),
        attempts_max: 20,
        patience: Duration::from_secs(600),
        history: None,
        progress: None,
    }
}

async fn run_against(
    fake: &Fake,
    change: impl FnOnce(&mut BenchOptions),
) -> Result<Report, BenchError> {
    let mut options = options(fake);
    change(&mut options);
    tokio::task::spawn_blocking(move || bench(options)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_counts_every_request_by_its_step() {
    let mut server = Honest::default();
    let fake = Fake::start(move |_, request| server.answer(request)).await;
    let progress = Arc::new(Progress::default());
    let report =
        run_against(&fake, |options| options.progress = Some(Arc::clone(&progress))).await.unwrap();
    assert_eq!(
        (report.requests, report.classes["ok"], progress.ended()),
        (200, 200, 200),
        "{report}"
    );
    let names: Vec<&str> = report.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["start", "add_item", "pay", "ship", "deliver"]);
    assert_eq!(report.steps.iter().map(|step| step.latency_ms.count).sum::<u64>(), 200);
    assert!(report.throughput > 0.0 && report.notes.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_answers_are_cut_off_counts_each_request_once_and_its_history_is_valid() {
    let mut server = Honest::default();
    let fake = Fake::start(move |number, request| {
        let reply = server.answer(request);
        let is_command = request.contains("idempotency-key") && !request.contains("/definitions");
        if is_command && number % 7 == 3 { Reply::Cut } else { reply }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let report = run_against(&fake, |options| options.history = Some(path.clone())).await.unwrap();
    assert_eq!((report.requests, report.classes.get("ok")), (200, Some(&200)), "{report}");
    assert!(report.repeated > 0 && report.codes["cut"] > 0, "{report}");
    assert_eq!(report.notes, Vec::<String>::new());
    let history = History::parse(std::fs::read_to_string(&path).unwrap());
    let demands =
        Demands { ok: 200, unknown: 10, retries: 10, dedupe_hits: 10, faults: 0, ..Demands::DRILL };
    let verdict = judge(&history, &demands);
    assert!(verdict.is_valid(), "{verdict}");
    assert_eq!(verdict.counts.unclaimed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_ends_when_its_time_is_up_however_many_attempts_it_has() {
    let mut server = Honest::default();
    let fake = Fake::start(move |_, request| {
        if !request.contains("/events/") {
            return server.answer(request);
        }
        let no = r#"{"code":"no_leader","retry_after_ms":3600000}"#;
        Reply::new(503, "", no.to_owned())
    })
    .await;
    let report = run_against(&fake, |options| {
        options.attempts_max = u32::MAX;
        options.patience = Duration::from_secs(60);
        options.length = Length::Count(8);
    });
    let report = report.await.unwrap();
    assert_eq!((report.requests, report.repeated), (8, 0), "{report}");
    assert!(report.classes["failed"] > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_of_a_server_that_forgets_is_invalid() {
    let mut server = Honest::default();
    let fake = Fake::start(move |_, request| {
        let reply = server.answer(request);
        // Of every command `ship`, the log keeps nothing.
        let kept: Vec<&str> =
            server.entries.lines().filter(|line| !line.contains("\"cmd\":\"ship\"")).collect();
        server.entries = kept.iter().map(|line| format!("{line}\n")).collect();
        reply
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    run_against(&fake, |options| options.history = Some(path.clone())).await.unwrap();
    let verdict = judge(&History::parse(std::fs::read_to_string(&path).unwrap()), &Demands::LEAST);
    assert!(verdict.violations().iter().any(|found| found.rule.code() == "S1"), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_round_the_instances_that_were_started_first() {
    let mut server = Honest::default();
    let fake = Fake::start(move |_, request| server.answer(request)).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let report = run_against(&fake, |options| {
        options.mode = Mode::Reads { consistency: "linearizable", instances: 10 };
        options.history = Some(path.clone());
    })
    .await
    .unwrap();
    assert_eq!(
        (report.requests, report.steps.len(), report.classes["ok"]),
        (200, 1, 200),
        "{report}"
    );
    let verdict = judge(&History::parse(std::fs::read_to_string(&path).unwrap()), &Demands::LEAST);
    assert!(verdict.is_valid(), "{verdict}");
    assert_eq!((verdict.counts.reads, verdict.counts.instances), (200, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_counts_the_time_that_requests_waited_for_a_slow_server() {
    let mut server = Honest::default();
    let fake = Fake::start(move |_, request| {
        // 20 ms for each answer, one at a time: fifty a second at most.
        std::thread::sleep(Duration::from_millis(20));
        server.answer(request)
    })
    .await;
    let report = run_against(&fake, |options| {
        options.pace = Pace::Open { rate: 1000.0 };
        options.length = Length::Count(50);
        options.clients = 1;
    })
    .await
    .unwrap();
    assert_eq!(report.offered, Some(1000.0));
    // The last of fifty was due after 50 ms and was served after 1,000.
    assert!(report.latency_ms.max > 500.0 && report.latency_ms.p50 > 200.0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_counted_by_their_code_and_not_as_throughput() {
    let mut server = Honest::default();
    let fake = Fake::start(move |_, request| {
        if request.contains("/events/pay") {
            return Reply::new(
                409,
                "",
                json!({"code": "guard_refused", "source": "instance"}).to_string(),
            );
        }
        server.answer(request)
    })
    .await;
    let report = run_against(&fake, |options| options.length = Length::Count(30)).await.unwrap();
    assert_eq!(report.classes["rejected"], report.codes["guard_refused"], "{report}");
    assert_eq!(report.classes["ok"] + report.classes["rejected"], 30, "{report}");
    assert_eq!(report.others_ms.count, report.classes["rejected"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_cannot_begin_says_why() {
    let fake = Fake::start(|_, _| {
        Reply::new(422, "", json!({"code": "invalid_definition", "detail": "no"}).to_string())
    })
    .await;
    let refused = run_against(&fake, |_| ()).await.unwrap_err();
    assert!(matches!(refused, BenchError::Deploy(_)), "{refused}");
    let wrong = |change: fn(&mut BenchOptions)| run_against(&fake, change);
    assert!(matches!(wrong(|options| options.servers.clear()).await, Err(BenchError::Options(_))));
    assert!(matches!(wrong(|options| options.clients = 0).await, Err(BenchError::Options(_))));
    assert!(matches!(
        wrong(|options| options.pace = Pace::Open { rate: 0.0 }).await,
        Err(BenchError::Options(_))
    ));
    assert!(matches!(
        wrong(|options| options.servers = vec!["https://x".to_owned()]).await,
        Err(BenchError::Options(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_that_is_refused_leaves_the_history_without_its_end() {
    let mut server = Honest::default();
    let fake = Fake::start(move |_, request| {
        if request.contains("/dump") {
            return Reply::new(
                403,
                "",
                json!({"code": "forbidden", "detail": "admin only"}).to_string(),
            );
        }
        server.answer(request)
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let report = run_against(&fake, |options| options.history = Some(path.clone())).await.unwrap();
    assert!(report.notes[0].contains("forbidden: admin only"), "{report}");
    assert!(!std::fs::read_to_string(&path).unwrap().contains("\"e\":\"end\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_recorder_is_completed_by_its_owner() {
    let mut server = Honest::default();
    let mut dumps = 0;
    let fake = Fake::start(move |_, request| {
        if request.contains("/dump") {
            dumps += 1;
            if dumps == 1 {
                // The node dies within its first dump; what came of it must not count.
                return Reply::Partial(
                    "HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\n{}\n".to_owned(),
                );
            }
        }
        server.answer(request)
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let recorder = Arc::new(Recorder::create(&path).unwrap());
    let (options, shared) = (options(&fake), Arc::clone(&recorder));
    let nodes = nodes(&options).unwrap();
    tokio::task::spawn_blocking(move || bench_into(options, shared)).await.unwrap().unwrap();
    let dumped = Dumped { lines: 201, ..Dumped::default() };
    assert_eq!(finish(&recorder, &nodes, 1, 1).await.unwrap(), dumped);
    let verdict = judge(&History::parse(std::fs::read_to_string(&path).unwrap()), &Demands::LEAST);
    assert!(verdict.is_valid(), "{verdict}");
}
