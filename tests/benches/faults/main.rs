//! How long does a shard give no answer when something breaks? Many faults of one kind, one histogram.
//!
//! A cluster of three processes on loopback (`statehouse dev --nodes 3 --restart`) under steady load from the load tool,
//! which records its history. Again and again the fault is made. For each fault and each shard the gap is the longest
//! time around it without an acknowledged command of that shard, by the clients' clock; the load's own spacing is part of
//! it. At the end the judge says whether anything was lost, and the whole is void unless it says VALID.
//!
//! ```text
//! cargo build --release -p statehouse
//! cargo bench -p statehouse-tests --bench faults -- leader-kill 50
//! cargo bench -p statehouse-tests --bench faults -- leader-stop 10
//! cargo bench -p statehouse-tests --bench faults -- transfer 50
//! ```
//!
//! `--keep DIR` leaves data, history and the nodes' logs there. Deliberately absent: any budget to pass or fail; `drill`
//! will have those.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a report is for standard output")]

mod cluster;
mod gaps;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use cluster::Cluster;
use gaps::{Answers, Window};

/// Faults unless told otherwise.
const FAULTS: usize = 50;
/// Commands a second: some milliseconds between two of one shard.
const RATE: u32 = 1_000;
/// More than wait in vain during the longest gap, so that those who wait for one shard do not starve the others.
const CLIENTS: u32 = 1_024;

/// What is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// SIGKILL to the node that leads most shards; it is started again at once.
    LeaderKill,
    /// SIGSTOP to the node that leads most shards, for ten seconds.
    LeaderStop,
    /// A shard's leader is asked to hand over.
    Transfer,
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "leader-kill" => Some(Self::LeaderKill),
            "leader-stop" => Some(Self::LeaderStop),
            "transfer" => Some(Self::Transfer),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::LeaderKill => "SIGKILL of the node that leads most shards",
            Self::LeaderStop => "SIGSTOP for 10 s of the node that leads most shards",
            Self::Transfer => "planned transfer of one shard",
        }
    }

    /// From one fault to the next: time for the node to be back and the leaders to be spread again.
    const fn pause(self) -> Duration {
        match self {
            Self::LeaderKill => Duration::from_secs(8),
            Self::LeaderStop => Duration::from_secs(18),
            Self::Transfer => Duration::from_secs(2),
        }
    }

    /// Makes the fault and returns around when, and which shards should feel it.
    fn make(self, cluster: &Cluster, begin: Instant, turn: usize) -> Window {
        let (shards, at) = match self {
            Self::LeaderKill => {
                let (node, led) = cluster.busiest();
                let at = begin.elapsed();
                cluster.signal(node, "KILL");
                (led, at)
            }
            Self::LeaderStop => {
                let (node, led) = cluster.busiest();
                let at = begin.elapsed();
                cluster.signal(node, "STOP");
                sleep(Duration::from_secs(10));
                cluster.signal(node, "CONT");
                (led, at)
            }
            Self::Transfer => {
                let shard = turn as u64 % cluster::SHARDS;
                let at = begin.elapsed();
                cluster.transfer(shard);
                (vec![shard], at)
            }
        };
        Window { from: at, to: at + self.pause() - gaps::BEFORE, shards }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let fault = arguments.iter().find_map(|text| Fault::parse(text)).unwrap_or(Fault::LeaderKill);
    let count = arguments.iter().find_map(|text| text.parse().ok()).unwrap_or(FAULTS);
    let kept = arguments.iter().skip_while(|text| *text != "--keep").nth(1).map(PathBuf::from);
    let binary = env::current_exe().unwrap();
    let binary = binary.ancestors().nth(2).unwrap().join("statehouse");
    assert!(binary.exists(), "no {}: cargo build --release -p statehouse", binary.display());
    let made = tempfile::tempdir().unwrap();
    let folder = kept.as_deref().unwrap_or_else(|| made.path());
    let cluster = Cluster::start(&binary, folder);
    let history = folder.join("history.jsonl");
    let mut load = load(&cluster, &history, fault.pause() * u32::try_from(count + 1).unwrap());
    let begin = Instant::now();
    let mut windows = Vec::new();
    for turn in 0..count {
        sleep((begin + fault.pause() * u32::try_from(turn + 1).unwrap()) - Instant::now());
        windows.push(fault.make(&cluster, begin, turn));
    }
    let loaded = load.wait().unwrap();
    assert!(loaded.success(), "the load ended with {loaded}");
    let judged = Command::new(&binary).args(["drill", "judge"]).arg(&history).output().unwrap();
    let verdict = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "{verdict}");
    println!("{count} times: {}; {RATE} commands/s offered", fault.name());
    Answers::read(&history).report(&windows);
    println!("\n{verdict}");
}

fn load(cluster: &Cluster, history: &Path, time: Duration) -> Child {
    Command::new(&cluster.binary)
        .args(["bench", "--servers", &cluster.servers.join(",")])
        .args(["--clients", &CLIENTS.to_string(), "--rate", &RATE.to_string()])
        .args(["--time", &format!("{}s", time.as_secs()), "--warm-up", "0s", "--history"])
        .arg(history)
        .env("STATEHOUSE_TOKEN", cluster::TOKEN)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}
