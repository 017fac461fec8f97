//! How fast proposals are answered: four shards of one voter, entries of about 1 KB, real files.
//!
//! Budget: 25,000 proposals a second at concurrency 256 with p99 below 10 ms on the reference machine,
//! for entries whose rows cost nothing (`marker`). With `start`, each entry makes an instance: then the
//! rows decide. A closed loop: the next proposal of a caller begins when the last one was answered.
//!
//! Run with `cargo bench -p statehouse-log --bench propose -- [marker|start] [seconds]`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark may stop where it fails, and tells what it found"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use statehouse_contract::{
    Actor, DefinitionName, Digest, InstanceId, InstanceKey, Json, Key, KeyText, NodeId,
    ReceiptKind, ShardId, StoredReceipt, TenantId, Timestamp, TraceContext, Version,
};
use statehouse_log::{
    Leadership, LogOptions, NoPeers, NodeLog, Origin, Peer, Profile, Reserve, ShardLog, Urgency,
};
use statehouse_store::{
    Body, Entry, Header, NodeDir,
    entry::{Cause, CauseKind, Expect, Pin, Status, Transitioned},
};

const NODE: NodeId = NodeId { number: 1, incarnation: 1 };

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Marker,
    Start,
}

fn main() {
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is = |word: &str| words.iter().any(|given| given == word);
    let seconds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("work    callers  proposals/s   p50 ms   p99 ms  p99.9 ms   max ms  CPU us each");
    for work in [Work::Marker, Work::Start] {
        let name = if work == Work::Marker { "marker" } else { "start" };
        let other = if work == Work::Marker { "start" } else { "marker" };
        if is(other) && !is(name) {
            continue;
        }
        for callers in [1, 16, 64, 256] {
            let line = runtime.block_on(run(work, callers, Duration::from_secs(seconds)));
            println!("{name:<7} {callers:>7} {line}");
        }
    }
}

async fn run(work: Work, callers: usize, length: Duration) -> String {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        reserve_bytes: Reserve::Bytes(0),
        ..LogOptions::service(NodeDir::open(folder.path()).unwrap(), NODE, Profile::Local)
    };
    let node = NodeLog::open(options, Arc::new(NoPeers)).await.unwrap();
    let mut shards = Vec::new();
    for id in 0..4 {
        let origin = Origin::Found(BTreeMap::from([(NODE, Peer::default())]));
        let shard = node.open_shard(ShardId(id), origin).await.unwrap();
        let mut leadership = shard.leadership();
        leadership.wait_for(|now| matches!(now, Leadership::Leading { .. })).await.unwrap();
        shards.push(shard);
    }
    let numbers = Arc::new(AtomicU64::new(0));
    let (begun, cpu) = (Instant::now(), cpu());
    let tasks = (0..callers).map(|caller| {
        let shard = shards[caller % shards.len()].clone();
        tokio::spawn(call(shard, work, Arc::clone(&numbers), begun + length))
    });
    let mut latencies = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        latencies.extend(task.await.unwrap());
    }
    let (took, cpu) = (begun.elapsed(), self::cpu() - cpu);
    node.stop().await;
    latencies.sort_unstable();
    let at = |part: f64| {
        let place = (latencies.len() as f64 * part) as usize;
        latencies[place.min(latencies.len() - 1)].as_secs_f64() * 1e3
    };
    let count = latencies.len() as f64;
    format!(
        "{:>12.0} {:>8.2} {:>8.2} {:>9.2} {:>8.2} {:>12.1}",
        count / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        cpu.as_secs_f64() * 1e6 / count,
    )
}

async fn call(
    shard: ShardLog,
    work: Work,
    numbers: Arc<AtomicU64>,
    until: Instant,
) -> Vec<Duration> {
    let Leadership::Leading { term } = *shard.leadership().borrow() else { panic!("it leads") };
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let entry = entry(work, term, number);
        let asked = Instant::now();
        shard.propose(entry, Urgency::Client).await.unwrap();
        latencies.push(asked.elapsed());
    }
    latencies
}

fn entry(work: Work, term: u64, number: u64) -> Entry {
    let header = Header {
        decided_term: term,
        decided_by: NODE,
        decided_at: Timestamp(1_000),
        actor: Actor::system(),
        reason: (work == Work::Marker).then(|| "x".repeat(900).into()),
        trace: TraceContext::default(),
        correlation: None,
    };
    let body = match work {
        Work::Marker => Body::DigestAt,
        Work::Start => Body::Transitioned(Box::new(start(number))),
    };
    Entry { header, body }
}

fn start(number: u64) -> Transitioned {
    let version = Version { born: 0, version: 1 };
    Transitioned {
        instance: InstanceKey {
            tenant: TenantId::parse("acme").unwrap(),
            instance: InstanceId::parse(&format!("order-{number}")).unwrap(),
        },
        bucket_epoch: 0,
        definition: Pin {
            name: DefinitionName::parse("order").unwrap(),
            version: 1,
            digest: Digest::of(b"order"),
        },
        expect: Expect::Absent,
        version: 1,
        key: Some(Key::Client(KeyText::parse(&format!("k-{number}")).unwrap())),
        expected: None,
        cause: Cause { kind: CauseKind::Start, event: "start".into(), data: None },
        status: Status::Running,
        from: Vec::new(),
        to: vec!["open".into()],
        tags: Vec::new(),
        snapshot: vec![7; 600].into(),
        parent: None,
        due: Vec::new(),
        tasks: Vec::new(),
        outbox: Vec::new(),
        emitted: Vec::new(),
        receipt: Some(StoredReceipt {
            kind: ReceiptKind::Created,
            fingerprint: Digest::of(b"request"),
            version: Some(version),
            body: Json::parse(br#"{"version":1,"configuration":["open"]}"#).unwrap(),
        }),
        settled: Vec::new(),
        receipt_keep_ms: None,
    }
}

/// Returns the CPU time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|w| w.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
