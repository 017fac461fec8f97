//! From a history to gaps: when each shard acknowledged something, and for how long it did not.
//!
//! Absent on purpose: a verdict. The judge reads the same history and says whether anything was lost.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use statehouse_contract::{InstanceId, InstanceKey, TenantId};

use crate::cluster::SHARDS;

/// The load's clock begins a moment after ours, when it has looked at the cluster: so much earlier a fault may be there.
pub(crate) const BEFORE: Duration = Duration::from_millis(500);
/// Buckets of the cluster; each shard of `dev` holds a range of them.
const BUCKETS: u64 = 4_096;

/// One fault: when it could be felt, by the load's clock, and by which shards.
pub(crate) struct Window {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) shards: Vec<u64>,
}

/// When each shard acknowledged something, and how the requests ended.
pub(crate) struct Answers {
    times: BTreeMap<u64, Vec<Duration>>,
    ends: BTreeMap<String, u64>,
}

impl Answers {
    pub(crate) fn read(history: &Path) -> Self {
        let mut asked: BTreeMap<u64, u64> = BTreeMap::new();
        let mut answers = Self { times: BTreeMap::new(), ends: BTreeMap::new() };
        for line in BufReader::new(fs::File::open(history).unwrap()).lines() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let Some(t) = event["t"].as_u64() else { continue };
            let id = event["id"].as_u64().unwrap_or_default();
            match (event["e"].as_str(), event["out"].as_str()) {
                (Some("inv"), _) => {
                    if let Some(shard) = shard_of(&event) {
                        asked.insert(id, shard);
                    }
                }
                (Some("ret"), Some(out)) => {
                    *answers.ends.entry(out.to_owned()).or_default() += 1;
                    let Some(shard) = asked.remove(&id).filter(|_| out == "ok") else { continue };
                    answers.times.entry(shard).or_default().push(Duration::from_nanos(t));
                }
                _ => {}
            }
        }
        answers.times.values_mut().for_each(|times| times.sort_unstable());
        answers
    }

    pub(crate) fn report(&self, windows: &[Window]) {
        let (mut affected, mut others) = (Vec::new(), Vec::new());
        for window in windows {
            for (shard, times) in &self.times {
                let gap = gap(times, window);
                let list = if window.shards.contains(shard) { &mut affected } else { &mut others };
                list.push((gap, window.from, *shard));
            }
        }
        tell("shards that it should hit", &mut affected);
        tell("other shards", &mut others);
        println!("attempts by end: {:?}", self.ends);
    }
}

fn shard_of(event: &Value) -> Option<u64> {
    let name = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let tenant = TenantId::parse(&name("tenant")).ok()?;
    let instance = InstanceId::parse(&name("wf")).ok()?;
    let bucket = InstanceKey { tenant, instance }.bucket().number();
    Some(u64::from(bucket) * SHARDS / BUCKETS)
}

/// The longest time between two answers of a shard around a fault.
fn gap(times: &[Duration], window: &Window) -> Duration {
    let from = window.from.saturating_sub(BEFORE);
    let near: Vec<Duration> =
        times.iter().copied().filter(|t| *t >= from && *t <= window.to).collect();
    let between = near.windows(2).map(|pair| pair[1] - pair[0]);
    between.max().unwrap_or(window.to - from)
}

fn tell(what: &str, gaps: &mut [(Duration, Duration, u64)]) {
    gaps.sort_unstable();
    let at = |share: f64| {
        // A few hundred gaps: the place is a small number.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let place = ((gaps.len() as f64 * share) as usize).min(gaps.len().saturating_sub(1));
        gaps.get(place).map_or(0, |(gap, ..)| gap.as_millis())
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
        let low = |gap: u128| if step == 25 { true } else { gap >= step / 2 };
        let count = gaps.iter().filter(|(gap, ..)| gap.as_millis() < step && low(gap.as_millis()));
        let count = count.count();
        if count > 0 {
            println!("  below {step:>4} ms  {:>4}  {}", count, "#".repeat(count.min(60)));
        }
    }
    for (gap, from, shard) in gaps.iter().rev().take(5) {
        println!(
            "  long: {} ms, shard {shard}, fault at {:.3} s",
            gap.as_millis(),
            from.as_secs_f64()
        );
    }
}
