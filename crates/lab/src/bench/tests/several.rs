//! Load runs against several servers: one honest state behind three doors, of which one leads.
//!
//! Every door takes every request, as nodes that forward do, and those that do not lead say who does. What each was
//! asked shows where the clients went. Nothing here measures time.

use std::sync::OnceLock;

use super::*;
use crate::{dump, server::free_address};

/// What a door does with a command beside serving it.
type Trouble = fn(usize, &str) -> Option<Reply>;

struct Cluster {
    doors: Vec<Fake>,
    asked: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Cluster {
    /// Starts three doors; `hint` is what those that do not lead name, the address of the first if none.
    async fn start(hint: Option<String>, trouble: Trouble) -> Self {
        let state = Arc::new(Mutex::new(Honest::default()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let leader = Arc::new(OnceLock::new());
        let mut doors = Vec::new();
        for door in 0..3 {
            let (state, asked) = (Arc::clone(&state), Arc::clone(&asked));
            let leader = Arc::clone(&leader);
            let fake = Fake::start(move |number, request| {
                let line = request.lines().next().unwrap_or_default().to_owned();
                let is_command = request.contains("idempotency-key") && line.contains("/instances");
                if is_command || line.starts_with("GET /v1/tenants") {
                    asked.lock().unwrap().push((door, line));
                }
                let reply = state.lock().unwrap().answer(request);
                match (trouble(number, request).filter(|_| is_command && door > 0), reply) {
                    (Some(instead), _) => instead,
                    (None, Reply::Raw(text)) => Reply::Raw(told_by(door, &text, &leader)),
                    (None, other) => other,
                }
            })
            .await;
            doors.push(fake);
        }
        let named = hint.unwrap_or_else(|| format!("http://{}", doors[0].address));
        leader.set(named).unwrap();
        Self { doors, asked }
    }

    fn servers(&self) -> Vec<String> {
        self.doors.iter().map(|door| format!("http://{}", door.address)).collect()
    }

    /// How many requests with this in their first line each door was asked.
    fn asked(&self, what: &str) -> [usize; 3] {
        let asked = self.asked.lock().unwrap();
        [0, 1, 2].map(|door| {
            asked.iter().filter(|(at, line)| *at == door && line.contains(what)).count()
        })
    }
}

/// Returns an answer as one of the doors gives it: in its own name, with a hint if it does not lead.
fn told_by(door: usize, text: &str, leader: &OnceLock<String>) -> String {
    let name = ["a", "b", "c"][door];
    let text = text.replace("\"node\":\"a\"", &format!("\"node\":\"{name}\""));
    match leader.get() {
        Some(leader) if door > 0 => {
            text.replacen(" x\r\n", &format!(" x\r\nx-statehouse-leader: {leader}\r\n"), 1)
        }
        Some(_) | None => text,
    }
}

fn no_trouble(_: usize, _: &str) -> Option<Reply> {
    None
}

async fn load(
    cluster: &Cluster,
    change: impl FnOnce(&mut BenchOptions),
) -> (Report, statehouse_judge::Verdict, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let report = run_against(&cluster.doors[0], |options| {
        options.servers = cluster.servers();
        options.history = Some(path.clone());
        change(options);
    })
    .await
    .unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let verdict = judge(&History::parse(text.clone()), &Demands::LEAST);
    (report, verdict, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_spread_and_each_instance_goes_where_it_is_led() {
    let cluster = Cluster::start(None, no_trouble).await;
    let (report, verdict, history) = load(&cluster, |_| ()).await;
    assert_eq!((report.classes.get("ok"), report.repeated), (Some(&200), 0), "{report}");
    assert!(cluster.asked("/instances HTTP").iter().all(|starts| *starts > 0), "{report}");
    let [_, second, third] = cluster.asked("/events/");
    assert_eq!((second, third), (0, 0), "after its start an instance has no hop left");
    assert!(verdict.is_valid(), "{verdict}");
    for node in ["a", "b", "c"] {
        let dumped = format!("{{\"e\":\"shard\",\"node\":\"{node}\"");
        assert_eq!(history.matches(&dumped).count(), 1, "{node}");
    }
    assert_eq!(report.notes, Vec::<String>::new());
    assert_eq!(report.gaps.iter().map(|gap| gap.shard).collect::<Vec<_>>(), [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_where_their_instance_is_led() {
    let cluster = Cluster::start(None, no_trouble).await;
    let (report, verdict, _) = load(&cluster, |options| {
        options.mode = Mode::Reads { consistency: "linearizable", instances: 10 };
    })
    .await;
    assert_eq!(report.classes.get("ok"), Some(&200), "{report}");
    let [_, second, third] = cluster.asked("GET /v1/tenants");
    assert_eq!((second, third, report.gaps.len()), (0, 0, 0), "their starts told where");
    assert!(verdict.is_valid(), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_to_an_address_that_nobody_gave_is_ignored() {
    let foreign = Fake::start(|_, _| Reply::new(200, "", "{}".to_owned())).await;
    let cluster = Cluster::start(Some(format!("http://{}", foreign.address)), no_trouble).await;
    let (report, verdict, _) = load(&cluster, |_| ()).await;
    assert_eq!(report.classes.get("ok"), Some(&200), "{report}");
    assert!(cluster.asked("/events/").iter().all(|events| *events > 0), "{report}");
    assert!(verdict.is_valid(), "{verdict}");
    assert_eq!(foreign.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_left_at_once_and_named_at_the_end() {
    let cluster = Cluster::start(None, no_trouble).await;
    let nobody = format!("http://{}", free_address().unwrap());
    let (report, verdict, history) = load(&cluster, |options| {
        options.servers.insert(0, nobody.clone());
        // There is no second attempt: to be refused a connection is none.
        options.attempts_max = 1;
    })
    .await;
    assert_eq!(report.classes.get("ok"), Some(&200), "{report}");
    assert!(report.codes["connect"] > 0, "{report}");
    assert!(verdict.is_valid(), "{verdict}");
    assert_eq!(verdict.counts.unknown, 0, "{verdict}");
    assert!(history.contains("\"out\":\"fail\",\"reason\":\"connect\""));
    assert_eq!(report.notes.len(), 1);
    assert!(report.notes[0].starts_with(&format!("{nobody} does not answer")), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_asked_for_elsewhere_with_the_same_key_and_its_history_is_valid() {
    let cluster =
        Cluster::start(None, |number, _| number.is_multiple_of(3).then_some(Reply::Cut)).await;
    let (report, verdict, _) = load(&cluster, |_| ()).await;
    assert_eq!(report.classes.get("ok"), Some(&200), "{report}");
    assert!(report.codes["cut"] > 0 && report.repeated > 0, "{report}");
    assert!(verdict.is_valid(), "{verdict}");
    assert!(verdict.counts.dedupe_hits > 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_doubt_does_not_end_as_failed() {
    let mut commands = 0;
    let mut server = Honest::default();
    let fake = Fake::start(move |_, request| {
        if !request.contains("idempotency-key") || request.contains("/definitions") {
            return server.answer(request);
        }
        commands += 1;
        match commands {
            1 => Reply::Cut,
            _ => Reply::new(503, "", json!({"code": "no_leader", "retry_after_ms": 1}).to_string()),
        }
    })
    .await;
    let report = run_against(&fake, |options| {
        options.clients = 1;
        options.attempts_max = 3;
        options.length = Length::Count(2);
    })
    .await
    .unwrap();
    assert_eq!(report.classes["unknown"], 1, "{report}");
    assert_eq!(report.classes["failed"], 1, "{report}");
}

#[tokio::test]
async fn a_dump_waits_until_the_nodes_have_applied_equally_far_and_tells_a_node_once() {
    let node = async |name: &'static str, behind: u64| {
        let mut looks = 0;
        Fake::start(move |_, request| {
            if request.contains("/dump") {
                let line = json!({"e": "shard", "node": name, "shard": 0, "pos": 9});
                return Reply::new(200, "", format!("{line}\n"));
            }
            looks += 1;
            let applied = 9 - behind.saturating_sub(looks);
            let shard = json!({"shard": 0, "term": 1, "applied": applied});
            Reply::new(200, "", json!({"node": name, "shards": [shard]}).to_string())
        })
        .await
    };
    let (a, b) = (node("a", 0).await, node("b", 5).await);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let recorder = Recorder::create(&path).unwrap();
    let options = BenchOptions {
        servers: [&a, &b, &a].map(|fake| format!("http://{}", fake.address)).to_vec(),
        ..options(&a)
    };
    let dumped = dump(&recorder, &nodes(&options).unwrap()).await.unwrap();
    assert_eq!(dumped, Dumped { lines: 2, ..Dumped::default() });
    let gone = Options::new([format!("http://{}", free_address().unwrap())]);
    let alone = dump(&recorder, &[Client::new(gone).unwrap()]).await;
    assert!(matches!(alone, Err(crate::DumpError::Cluster(_))), "{alone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_that_rose_during_the_run_are_leader_changes() {
    let mut server = Honest::default();
    let mut term = 4;
    let fake = Fake::start(move |_, request| {
        if request.starts_with("GET /v1/cluster ") {
            let shards = json!([{"shard": 0, "term": term, "applied": 0}]);
            return Reply::new(200, "", json!({"node": "a", "shards": shards}).to_string());
        }
        // However often the cluster is looked at, the term has risen once when the load has begun.
        if request.contains("/instances") {
            term = 5;
        }
        server.answer(request)
    })
    .await;
    let report = run_against(&fake, |_| ()).await.unwrap();
    assert_eq!(report.leader_changes, Some(1), "{report}");
}
