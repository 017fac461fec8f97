//! A cluster is backed up while it works, and a new one begins with the backup.
//!
//! The real binary serves a load; every shard is copied meanwhile, the backup is verified, and restored into a new
//! directory. Everything that was acknowledged before the backup began is there at the same version; a key repeats the
//! byte-identical answer; a timer that was waiting fires; a second node joins under an incarnation that the old cluster
//! never gave. Then a backup is damaged in every way that a disk knows, and none of them passes.
//!
//! Absent on purpose: how fast it is. What a backup takes is said by the backup.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;

use statehouse_lab::{BenchOptions, Launch, Length, Mode, Pace, Server, Workload, bench};
use statehouse_tests::{
    binary::binary,
    node::{Answer, ask, token},
    patience::until,
    stage::START_WITHIN,
};

/// Instances that are compared one by one.
const KNOWN: usize = 24;
const TENANT: &str = "/v1/tenants/default";
/// How long the load runs: longer than a backup of it.
const LOAD: Duration = Duration::from_secs(6);

/// A state that is left by its timer alone, later than the backup and soon after the restore.
const SLEEPER: &str = "\
format: statehouse/1
id: sleeper
version: 1
initial: asleep
states:
  asleep: {after: {15s: awake}}
  awake: {type: final}
";

/// A cluster of `dev`.
struct Old {
    folder: PathBuf,
    server: Server,
    servers: Vec<String>,
    token: String,
}

/// Returns a port such that it, and so many after it, are free 0, 100 and 200 above: `dev` takes these.
fn free_ports(nodes: u16) -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = probe.local_addr().unwrap().port();
        drop(probe);
        let mut wanted = (0..nodes).flat_map(|node| [0, 100, 200].map(|above| node + above));
        if first < u16::MAX - 300 && wanted.all(|more| is_free(first + more)) {
            return first;
        }
    }
}

impl Old {
    fn start(folder: &Path, nodes: u16) -> Self {
        let first = free_ports(nodes);
        let address = format!("127.0.0.1:{first}");
        let data = folder.join("old").display().to_string();
        let count = nodes.to_string();
        let arguments = ["dev", "--nodes", &count, "--data", &data, "--listen", &address];
        let launch = Launch {
            binary: binary().to_owned(),
            arguments: arguments.map(str::to_owned).into(),
            environment: Vec::new(),
            logs: folder.join("old-logs"),
            address: Some(address),
        };
        let server = Server::start(launch, START_WITHIN).unwrap();
        let servers: Vec<String> =
            (0..nodes).map(|node| format!("http://127.0.0.1:{}", first + node)).collect();
        let old =
            Self { folder: folder.to_owned(), server, servers, token: token(&folder.join("old")) };
        // The first node is ready before the last one; a backup asks them all.
        for server in &old.servers {
            let address = server.trim_start_matches("http://").to_owned();
            until("every node is ready", || match ask(&address, "GET /readyz", &[], "") {
                Ok(said) if said.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
        old
    }

    fn ask(&self, request: &str, key: &str, body: &str) -> Answer {
        send(self.server.address(), &self.token, request, key, body)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let servers = self.servers.join(",");
        let file = self.folder.join("old/dev-token").display().to_string();
        let global = ["--servers", &servers, "--token-file", &file];
        run(&[arguments, &global].concat())
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}

fn send(address: &str, token: &str, request: &str, key: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str())];
    if !key.is_empty() {
        headers.push(("idempotency-key", key));
    }
    ask(address, request, &headers, body).unwrap_or_else(|error| panic!("{request}: {error}"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A start and, for every second instance, a command, with the keys under which they were sent.
fn requests(number: usize) -> Vec<(String, String, String)> {
    let id = format!("known-{number}");
    let start = format!(r#"{{"definition":"approval","id":"{id}","input":{{"amount":12}}}}"#);
    let mut all = vec![(format!("POST {TENANT}/instances"), format!("start-{id}"), start)];
    if number.is_multiple_of(2) {
        let path = format!("POST {TENANT}/instances/{id}/events/decline");
        all.push((path, format!("decline-{id}"), r#"{"why":"too much"}"#.to_owned()));
    }
    all
}

/// What was acknowledged before the backup: each request with its answer, and how each instance stands.
struct Known {
    answers: Vec<((String, String, String), Answer)>,
    standing: Vec<(String, Value)>,
}

fn known(old: &Old) -> Known {
    let mut answers = Vec::new();
    for request in (0..KNOWN).flat_map(requests) {
        let answer = old.ask(&request.0, &request.1, &request.2);
        assert!(matches!(answer.status, 200 | 201), "{}: {}", request.0, answer.body);
        answers.push((request, answer));
    }
    let standing = (0..KNOWN).map(|number| {
        let path = format!("{TENANT}/instances/known-{number}");
        let read = old.ask(&format!("GET {path}"), "", "");
        (path, json(&read.body))
    });
    Known { answers, standing: standing.collect() }
}

fn load(old: &Old) -> BenchOptions {
    let document = include_str!("../definitions/kill-drill.yaml").to_owned();
    let steps = ["add={\"n\": 3}", "ping"].map(str::to_owned);
    BenchOptions {
        servers: old.servers.clone(),
        token: Some(old.token.clone()),
        authority_pem: None,
        tenant: "default".to_owned(),
        workload: Workload::parse(document, r#"{"orderId": "$id"}"#, &steps).unwrap(),
        mode: Mode::Commands,
        pace: Pace::Open { rate: 100.0 },
        clients: 16,
        warm_up: Duration::ZERO,
        length: Length::For(LOAD),
        deadline: Duration::from_secs(5),
        attempts_max: 20,
        patience: Duration::from_secs(600),
        history: None,
        progress: None,
    }
}

/// The configuration of a node of the new cluster.
fn settings(folder: &Path, number: u32, seeds: Option<&str>) -> (PathBuf, String, String) {
    let places: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [api, links, log] = [0, 1, 2].map(|n| places[n].local_addr().unwrap().to_string());
    let cookie = folder.join("old/new-cookie");
    fs::write(&cookie, "a-cookie-for-the-new-cluster\n").unwrap();
    fs::set_permissions(&cookie, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let data = folder.join("new").display().to_string();
    let seeds = seeds.map(|seeds| format!("seeds = \"{seeds}\"\n")).unwrap_or_default();
    let text = format!(
        "[node]\nnumber = {number}\ndata = \"{data}\"\n[api]\nlisten = \"{api}\"\n[cluster]\nlinks = \"{links}\"\n\
         log = \"{log}\"\ncookie_file = \"{}\"\ninsecure_loopback = true\n{seeds}",
        cookie.display()
    );
    let path = folder.join(format!("new-{number}.toml"));
    fs::write(&path, text).unwrap();
    (path, api, log)
}

fn serve(folder: &Path, config: &Path, api: &str, more: &[&str]) -> Server {
    let config = config.display().to_string();
    let arguments = [&["serve", "--config", &config], more].concat();
    let launch = Launch {
        binary: binary().to_owned(),
        arguments: arguments.into_iter().map(str::to_owned).collect(),
        environment: Vec::new(),
        logs: folder.join(format!("logs-{}", api.replace(':', "-"))),
        address: Some(api.to_owned()),
    };
    Server::start(launch, START_WITHIN).unwrap()
}

/// Asks until the answer is definite: a shard that changes its leader, or is on its way to a new node, says "not now".
fn settled(api: &str, token: &str, request: &str, key: &str, body: &str) -> Answer {
    until(request, || {
        let answer = send(api, token, request, key, body);
        if matches!(answer.status, 503 | 504) { Err(answer.body) } else { Ok(answer) }
    })
}

/// Everything that was known of the old cluster is true of the new one.
fn compare(known: &Known, api: &str, token: &str) {
    for (path, before) in &known.standing {
        let read = settled(api, token, &format!("GET {path}"), "", "");
        assert_eq!(read.status, 200, "{path}: {}", read.body);
        let after = json(&read.body);
        for member in ["born", "version", "configuration", "status", "context"] {
            assert_eq!(after[member], before[member], "{path}: {member}");
        }
    }
    for ((request, key, body), before) in &known.answers {
        let again = settled(api, token, request, key, body);
        assert_eq!((again.status, &again.body), (before.status, &before.body), "{request} {key}");
        assert!(again.head.contains("idempotency-replayed"), "{request} {key}: {}", again.head);
    }
}

/// Waits until a node tells these members of its cluster.
fn has_members(api: &str, token: &str, expected: &[&str]) {
    until(&format!("{expected:?} are the members"), || {
        // A node that has just begun says 503 until it has caught up.
        let said = settled(api, token, "GET /v1/cluster", "", "");
        let told = json(&said.body);
        let Some(list) = told["members"].as_array() else {
            panic!("{} {}", said.status, said.body);
        };
        let list: Vec<_> = list.iter().map(|member| member["node"].as_str().unwrap()).collect();
        if list == expected { Ok(()) } else { Err(format!("{list:?}")) }
    });
}

fn story(nodes: u16, first: &str, second: &str) {
    let folder = tempfile::tempdir().unwrap();
    let old = Old::start(folder.path(), nodes);
    let sleeper = folder.path().join("sleeper.yaml");
    fs::write(&sleeper, SLEEPER).unwrap();
    let deployed = old.run(&["definition", "deploy", sleeper.to_str().unwrap()]);
    assert!(deployed.status.success(), "{}", said(&deployed));
    let options = load(&old);
    let work = std::thread::spawn(move || bench(options));

    let known = known(&old);
    let start = r#"{"definition":"sleeper","id":"sleeper-1"}"#;
    let began = old.ask(&format!("POST {TENANT}/instances"), "sleeper-1", start);
    assert_eq!(began.status, 201, "{}", began.body);

    let backup = folder.path().join("backup");
    let dir = backup.to_str().unwrap();
    let made = old.run(&["cluster", "backup", dir]);
    assert!(made.status.success(), "{}", said(&made));
    println!("{}", said(&made));
    let asleep = old.ask(&format!("GET {TENANT}/instances/sleeper-1"), "", "");
    assert_eq!(json(&asleep.body)["status"], "running", "its timer was waiting: {}", asleep.body);
    let again = old.run(&["cluster", "backup", dir]);
    assert_eq!(again.status.code(), Some(5), "{}", said(&again));
    let checked = run(&["cluster", "verify", dir]);
    assert!(checked.status.success(), "{}", said(&checked));
    println!("{}", said(&checked));
    let report = work.join().unwrap().unwrap();
    println!("{report}");
    let token = old.token.clone();
    drop(old);

    let (config, api, log) = settings(folder.path(), 1, None);
    let restore = ["cluster", "restore", dir, "--config", config.to_str().unwrap()];
    let restored = run(&restore);
    assert!(restored.status.success(), "{}", said(&restored));
    println!("{}", said(&restored));
    let again = run(&restore);
    assert_eq!(again.status.code(), Some(5), "{}", said(&again));
    assert!(said(&again).contains("is not empty"), "{}", said(&again));

    let _one = serve(folder.path(), &config, &api, &[]);
    has_members(&api, &token, &[first]);
    compare(&known, &api, &token);
    let (config, other, _) = settings(folder.path(), 2, Some(&format!("1={log}")));
    let _two = serve(folder.path(), &config, &other, &["--join"]);
    has_members(&other, &token, &[first, second]);
    compare(&known, &other, &token);
    until("the timer fires", || {
        let read = send(&api, &token, &format!("GET {TENANT}/instances/sleeper-1"), "", "");
        if json(&read.body)["status"] == "done" { Ok(()) } else { Err(read.body) }
    });
    damage(&backup);
}

/// A backup that is not what it was does not pass, and neither is it restored.
fn damage(backup: &Path) {
    let shard = backup.join("shard-1.db");
    let page = backup.join("manifest.json");
    let (bytes, text) = (fs::read(&shard).unwrap(), fs::read_to_string(&page).unwrap());
    let refused = |expected: &str| {
        let checked = run(&["cluster", "verify", backup.to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(3), "{}", said(&checked));
        assert!(said(&checked).contains(expected), "{expected}: {}", said(&checked));
    };
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    fs::write(&shard, &flipped).unwrap();
    refused("damaged_backup");
    // Whoever changes the bytes and the fingerprint too still meets the rows' own sums, or a page that does not fit.
    fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    refused("bytes, the manifest says");
    fs::remove_file(&shard).unwrap();
    refused("is missing");
    fs::write(&shard, &bytes).unwrap();
    fs::write(&page, text.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
    refused("other_format");
    let position = json(&text)["shards"][1]["position"].as_u64().unwrap();
    let moved = text.replace(
        &format!("\"position\": {position},"),
        &format!("\"position\": {},", position + 1),
    );
    fs::write(&page, moved).unwrap();
    refused("the manifest says");
    fs::remove_file(&page).unwrap();
    refused("no_backup");
}

#[test]
fn a_node_alone_is_backed_up_under_load_and_comes_back_as_a_new_cluster() {
    story(1, "n1.2", "n2.1");
}

#[test]
fn a_cluster_of_three_comes_back_without_its_old_members() {
    story(3, "n1.2", "n2.2");
}
