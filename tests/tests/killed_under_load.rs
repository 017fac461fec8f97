//! The node is killed again and again under load, and nothing that was acknowledged is missing.
//!
//! A thousand instances take mixed commands, a signal and timers while the real binary is ended with `kill -9` at
//! random moments and started again on the same data. Clients repeat what was cut off with the same key. Then the
//! judge, who shares no code with the server, reads the history of clients and log.
//!
//! Absent on purpose: any assertion about time. How long a restart takes is measured by the benchmarks.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use statehouse_judge::{Demands, History, judge};
use statehouse_lab::{
    BenchOptions, Length, Mode, Pace, Progress, Recorder, Workload, bench_into, finish,
};
use statehouse_sdk::{Client, Options};
use statehouse_tests::{patience::until, stage::Stage};

const INSTANCES: u64 = 1_000;
const KILLS_MIN: u32 = 20;
/// Start, two commands that are taken, a signal, a command that is kept for later, and one that is refused.
const REQUESTS: u64 = INSTANCES * 6;

/// A small generator (Marsaglia, "Xorshift RNGs", 2003): the schedule of kills follows from its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn seed() -> u64 {
    let given = std::env::var("STATEHOUSE_SEED").ok().and_then(|text| text.parse().ok());
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = given.unwrap_or_else(fresh).max(1);
    println!("seed {seed}; repeat the schedule with STATEHOUSE_SEED={seed}");
    seed
}

fn load(stage: &Stage, progress: &Arc<Progress>) -> BenchOptions {
    let steps = ["add={\"n\": 3}", "ping", "later", "work", "add={\"n\": 2}"];
    let document = include_str!("../definitions/kill-drill.yaml").to_owned();
    let input = r#"{"orderId": "$id"}"#;
    BenchOptions {
        servers: vec![stage.server.url()],
        token: Some(stage.token().to_owned()),
        authority_pem: None,
        tenant: "default".to_owned(),
        workload: Workload::parse(document, input, &steps.map(str::to_owned)).unwrap(),
        mode: Mode::Commands,
        pace: Pace::Open { rate: 250.0 },
        clients: 48,
        warm_up: Duration::ZERO,
        length: Length::Count(REQUESTS),
        deadline: Duration::from_secs(5),
        attempts_max: 500,
        patience: Duration::from_secs(600),
        history: None,
        progress: Some(Arc::clone(progress)),
    }
}

/// Kills and starts the node until every request has ended; returns it with the number of kills.
fn torment(
    mut stage: Stage,
    chance: &mut Chance,
    progress: &Progress,
    recorder: &Recorder,
) -> (Stage, u32) {
    let mut kills = 0;
    while progress.ended() < REQUESTS {
        // Not a wait in hope: the moment of the next kill, anywhere in the life of the node.
        std::thread::sleep(Duration::from_millis(100 + chance.below(900)));
        recorder.fault_begins("kill -9", None, &[]);
        stage = stage.kill_and_start().unwrap();
        recorder.fault_ends("kill -9");
        kills += 1;
    }
    (stage, kills)
}

/// Waits until no instance is on its way any more: every timer has fired.
fn settle(stage: &Stage) {
    until("no instance is on its way", || {
        let open = stage.ask("GET /v1/tenants/default/instances?limit=500", "", "");
        assert_eq!(open.status, 200, "{}", open.body);
        let open: serde_json::Value = serde_json::from_str(&open.body).unwrap();
        let left = open["items"].as_array().unwrap();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// Adds what the node holds to the history, and its end.
fn complete(stage: &Stage, recorder: &Recorder) {
    let mut options = Options::new([stage.server.url()]);
    options.token = Some(stage.token().to_owned());
    "default".clone_into(&mut options.tenant);
    let node = Client::new(options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(finish(recorder, &[node], 10_000, 500)).unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_when_the_node_is_killed_under_load() {
    let mut chance = Chance(seed());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.jsonl");
    let recorder = Arc::new(Recorder::create(&file).unwrap());
    let stage = Stage::open(folder.path()).unwrap();
    let progress = Arc::new(Progress::default());
    let options = load(&stage, &progress);
    let shared = Arc::clone(&recorder);
    let load = std::thread::spawn(move || bench_into(options, shared));
    let (stage, kills) = torment(stage, &mut chance, &progress, &recorder);
    let report = load.join().unwrap().unwrap();
    println!("{report}\nkilled {kills} times");
    assert!(kills >= KILLS_MIN, "the load was over after {kills} kills");
    settle(&stage);
    complete(&stage, &recorder);

    let history = History::parse(std::fs::read_to_string(&file).unwrap());
    let demands =
        Demands { ok: 4_000, retries: 20, timers_fired: 2_000, faults: 20, ..Demands::LEAST };
    let verdict = judge(&history, &demands);
    println!("{verdict}");
    if !verdict.is_valid() {
        let kept = std::env::temp_dir().join("statehouse-killed-under-load.jsonl");
        std::fs::copy(&file, &kept).unwrap();
        panic!("the history is kept in {}: {verdict}", kept.display());
    }
    assert!(verdict.counts.instances >= INSTANCES, "{} instances", verdict.counts.instances);
}
