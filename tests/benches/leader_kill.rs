//! How long does a shard give no answer when its leader is killed? Many kills, one histogram.
//!
//! A cluster of three processes on loopback (`statehouse dev --nodes 3 --restart`) under steady load from the load tool,
//! which records its history. Again and again the node that leads most shards gets SIGKILL. For each kill and each shard
//! that the node led, the gap is the longest time around the kill without an acknowledged command of that shard, by the
//! clients' clock; the load's own spacing is part of it. At the end the judge says whether anything was lost, and the
//! whole is void unless it says VALID.
//!
//! ```text
//! cargo build --release -p statehouse
//! cargo bench -p statehouse-tests --bench leader_kill -- 50
//! ```
//!
//! Deliberately absent: any budget to pass or fail. `drill` will have those.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a report is for standard output")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use statehouse_contract::{InstanceId, InstanceKey, TenantId};

/// Kills unless told otherwise.
const KILLS: usize = 50;
/// Commands a second: some milliseconds between two of one shard.
const RATE: u32 = 1_000;
/// Time for a killed node to be back and the leaders to be spread again.
const PAUSE: Duration = Duration::from_secs(6);
/// How far around a kill its gap is looked for.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(4);
/// Patience for a cluster to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster; it ends with this value.
struct Cluster {
    dev: Child,
    data: PathBuf,
    servers: Vec<String>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.dev.id().to_string()]).status();
        let _ = self.dev.wait();
    }
}

/// One kill: when, by the load's clock, and what the node led.
struct Kill {
    at: Duration,
    led: Vec<u64>,
}

fn main() {
    let kills = env::args().find_map(|text| text.parse().ok()).unwrap_or(KILLS);
    let binary = env::current_exe().unwrap();
    let binary = binary.ancestors().nth(2).unwrap().join("statehouse");
    assert!(binary.exists(), "no {}: cargo build --release -p statehouse", binary.display());
    let folder = tempfile::tempdir().unwrap();
    let cluster = start(&binary, folder.path());
    let history = folder.path().join("history.jsonl");
    let time = PAUSE * u32::try_from(kills + 1).unwrap();
    let mut load = Command::new(&binary)
        .args(["bench", "--servers", &cluster.servers.join(","), "--clients", "64"])
        .args(["--rate", &RATE.to_string(), "--time", &format!("{}s", time.as_secs())])
        .args(["--warm-up", "0s", "--history"])
        .arg(&history)
        .env("STATEHOUSE_TOKEN", "kill")
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let mut done = Vec::new();
    for _ in 0..kills {
        sleep(PAUSE);
        let (node, led) = busiest(&binary, &cluster);
        let pid = fs::read_to_string(cluster.data.join(format!("node-{node}/statehouse.pid")));
        done.push(Kill { at: begin.elapsed(), led });
        Command::new("kill").args(["-KILL", pid.unwrap().trim()]).status().unwrap();
    }
    let loaded = load.wait().unwrap();
    assert!(loaded.success(), "the load ended with {loaded}");
    let judged = Command::new(&binary).args(["drill", "judge"]).arg(&history).output().unwrap();
    let verdict = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "{verdict}");
    report(&done, &answers(&history), &verdict);
}

fn start(binary: &Path, folder: &Path) -> Cluster {
    let data = folder.join("data");
    let dev = Command::new(binary)
        .args(["dev", "--nodes", "3", "--restart", "--token", "kill", "--listen", "127.0.0.1:0"])
        .args(["--log", "error", "--data"])
        .arg(&data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut cluster = Cluster { dev, data, servers: Vec::new() };
    let begin = Instant::now();
    while cluster.servers.len() < 3 {
        assert!(begin.elapsed() < PATIENCE, "the cluster did not start");
        sleep(Duration::from_millis(50));
        let address = |n| fs::read_to_string(cluster.data.join(format!("node-{n}/api-address")));
        let found: Vec<String> = (1..=3).filter_map(|n| address(n).ok()).collect();
        cluster.servers = found.iter().map(|text| text.trim().to_owned()).collect();
    }
    // The leaders are spread a few seconds after the last node came in.
    sleep(PAUSE);
    cluster
}

/// Finds the node that leads most shards, and those shards.
fn busiest(binary: &Path, cluster: &Cluster) -> (u32, Vec<u64>) {
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < PATIENCE, "nobody leads");
        let asked = Command::new(binary)
            .args(["cluster", "status", "-o", "json", "--servers", &cluster.servers.join(",")])
            .env("STATEHOUSE_TOKEN", "kill")
            .output()
            .unwrap();
        let body: Value = serde_json::from_slice(&asked.stdout).unwrap_or_default();
        let mut led: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for shard in body["shards"].as_array().into_iter().flatten() {
            let leader = shard["leader"].as_str().unwrap_or_default();
            led.entry(leader).or_default().push(shard["shard"].as_u64().unwrap_or_default());
        }
        let most = led.iter().max_by_key(|(_, shards)| shards.len());
        let number =
            most.and_then(|(node, _)| node.strip_prefix('n')?.split('.').next()?.parse().ok());
        if let (Some(number), Some((_, shards))) = (number, most) {
            return (number, shards.clone());
        }
        sleep(Duration::from_millis(50));
    }
}

/// Reads when each shard acknowledged something, by the load's clock from its first event.
fn answers(history: &Path) -> BTreeMap<u64, Vec<Duration>> {
    let mut asked: BTreeMap<u64, u64> = BTreeMap::new();
    let mut answered: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
    let mut first = None;
    for line in BufReader::new(fs::File::open(history).unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let Some(t) = event["t"].as_u64() else { continue };
        let begin = *first.get_or_insert(t);
        let id = event["id"].as_u64().unwrap_or_default();
        match (event["e"].as_str(), event["out"].as_str()) {
            (Some("inv"), _) => {
                let name = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                let (Ok(tenant), Ok(instance)) =
                    (TenantId::parse(&name("tenant")), InstanceId::parse(&name("wf")))
                else {
                    continue;
                };
                let bucket = InstanceKey { tenant, instance }.bucket().number();
                // Four shards of `dev`, each a range of the 4,096 buckets.
                asked.insert(id, u64::from(bucket) * 4 / 4_096);
            }
            (Some("ret"), Some("ok")) => {
                let Some(shard) = asked.get(&id) else { continue };
                let at = Duration::from_nanos(t.saturating_sub(begin));
                answered.entry(*shard).or_default().push(at);
            }
            _ => {}
        }
    }
    answered.values_mut().for_each(|times| times.sort_unstable());
    answered
}

/// The longest time between two answers of a shard around a moment.
fn gap(times: &[Duration], at: Duration) -> Duration {
    let (from, to) = (at.saturating_sub(BEFORE), at + AFTER);
    let near: Vec<Duration> = times.iter().copied().filter(|t| *t >= from && *t <= to).collect();
    let between = near.windows(2).map(|pair| pair[1] - pair[0]);
    between.max().unwrap_or(BEFORE + AFTER)
}

fn report(kills: &[Kill], answered: &BTreeMap<u64, Vec<Duration>>, verdict: &str) {
    let (mut affected, mut others) = (Vec::new(), Vec::new());
    for kill in kills {
        for (shard, times) in answered {
            let gap = gap(times, kill.at);
            if kill.led.contains(shard) { affected.push(gap) } else { others.push(gap) }
        }
    }
    println!("{} kills of the node that led most shards, {RATE} commands/s offered", kills.len());
    tell("shards that it led", &mut affected);
    tell("other shards", &mut others);
    println!("\n{verdict}");
}

fn tell(what: &str, gaps: &mut [Duration]) {
    gaps.sort_unstable();
    let at = |share: f64| {
        // A few hundred gaps: the place is a small number.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let place = ((gaps.len() as f64 * share) as usize).min(gaps.len().saturating_sub(1));
        gaps.get(place).map_or(0, Duration::as_millis)
    };
    println!(
        "{what}: {} gaps, ms: median {}, p90 {}, p99 {}, longest {}",
        gaps.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    for step in [25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400_u128] {
        let within = |gap: &&Duration| gap.as_millis() < step && gap.as_millis() >= step / 2;
        let low = |gap: &&Duration| gap.as_millis() < step;
        let count = gaps.iter().filter(|g| if step == 25 { low(g) } else { within(g) }).count();
        if count > 0 {
            println!("  below {step:>4} ms  {:>4}  {}", count, "#".repeat(count.min(60)));
        }
    }
}
