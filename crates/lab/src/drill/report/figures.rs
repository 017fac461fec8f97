//! From a history to figures: latency and answers over time, and how long each shard gave none around each fault.
//!
//! One pass over the lines, reading only what is needed; all times are the clients'. What a gap is says `gaps`.
//!
//! Deliberately absent: whether anything was lost. The judge reads the same lines. A line that cannot be read is passed
//! over here, because the judge names it.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use statehouse_contract::{InstanceId, InstanceKey, TenantId, limits::BUCKETS};

use super::{
    Bucket, FaultGap, Window,
    gaps::{Line as ShardLine, gaps},
};

/// The width of a bucket, in milliseconds.
pub(super) const BUCKET_MS: f64 = 100.0;
/// Buckets of a report: an hour and a half.
const BUCKETS_MAX: usize = 54_000;
/// How the lines of dumps begin that our own nodes write: most of a history, and nothing that is read here.
const ENTRY: &[u8] = br#"{"e":"entry""#;

/// What a history shows besides its verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// How it went, tenth of a second by tenth of a second.
    pub series: Vec<Bucket>,
    /// How long shards went without an acknowledged command, by fault.
    pub gaps: Vec<FaultGap>,
    /// How many shards there are.
    pub shards: u32,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    e: &'a str,
    #[serde(default)]
    t: Option<i64>,
    #[serde(default)]
    id: Option<Id<'a>>,
    #[serde(borrow, default)]
    op: Option<&'a str>,
    #[serde(borrow, default)]
    out: Option<&'a str>,
    #[serde(borrow, default)]
    tenant: Option<&'a str>,
    #[serde(borrow, default)]
    wf: Option<&'a str>,
    #[serde(default)]
    shard: Option<u32>,
}

/// Names of attempts are numbers in our own histories, and may be texts in others.
#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(untagged)]
enum Id<'a> {
    Number(u64),
    Text(#[serde(borrow)] &'a str),
}

/// When an attempt began; of a command, the tenant and the instance.
type Begun<'a> = (f64, Option<(&'a str, &'a str)>);

/// Reads the figures of a history, given its faults.
pub fn figures(history: &[u8], faults: &[Window]) -> Figures {
    let lines = history.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(ENTRY));
    let lines = lines.filter_map(|line| serde_json::from_slice::<Line<'_>>(line).ok());
    // When each attempt began, and of whose instance a command is.
    let mut asked: HashMap<Id<'_>, Begun<'_>> = HashMap::new();
    let mut answers: Vec<(f64, f64, &str)> = Vec::new();
    let mut commands: Vec<Command<'_>> = Vec::new();
    let mut shards = 0;
    for line in lines {
        let ms = line.t.map(|t| t as f64 / 1e6);
        match (line.e, line.id, ms) {
            ("inv", Some(id), Some(at)) => {
                let is_command = line.op == Some("cmd");
                let of = line.tenant.zip(line.wf).filter(|_| is_command);
                asked.insert(id, (at, of));
            }
            ("ret", Some(id), Some(at)) => {
                let (Some((from, of)), Some(out)) = (asked.remove(&id), line.out) else { continue };
                answers.push((at, at - from, out));
                commands.extend(of.map(|of| Command { of, from, at, end: End::of(out) }));
            }
            ("shard", ..) => shards = shards.max(line.shard.map_or(0, |shard| shard + 1)),
            _ => {}
        }
    }
    // What was asked and never answered counts when it was sent: there is no other time.
    commands.extend(
        asked
            .into_values()
            .filter_map(|(from, of)| Some(Command { of: of?, from, at: from, end: End::Silent })),
    );
    Figures { series: series(&answers), gaps: gaps(by_shard(&commands, shards), faults), shards }
}

/// A command of an instance, and what became of it.
struct Command<'a> {
    of: (&'a str, &'a str),
    from: f64,
    at: f64,
    end: End,
}

/// What an answer says of the shard.
#[derive(Clone, Copy)]
enum End {
    /// It acknowledged.
    Done,
    /// It judged, or will later: it works, but acknowledged nothing.
    Judged,
    /// It did not answer.
    Silent,
}

impl End {
    fn of(out: &str) -> Self {
        match out {
            "ok" => Self::Done,
            "rejected" | "postponed" => Self::Judged,
            _ => Self::Silent,
        }
    }
}

fn by_shard(commands: &[Command<'_>], shards: u32) -> BTreeMap<u32, ShardLine> {
    // Most commands are of instances that were met before, and to find a bucket costs a hash.
    let mut known: HashMap<(&str, &str), Option<u32>> = HashMap::new();
    let mut lines: BTreeMap<u32, ShardLine> = BTreeMap::new();
    for Command { of, from, at, end } in commands {
        let shard = known.entry(*of).or_insert_with(|| shard_of(of.0, of.1, shards));
        let Some(line) = shard.map(|shard| lines.entry(shard).or_default()) else { continue };
        line.asked.push(*from);
        match end {
            End::Done => line.done.push(*at),
            End::Silent => line.silent.push(*at),
            End::Judged => {}
        }
    }
    lines
}

/// Returns the value below which a share of sorted values lies; nothing of none.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1).min(last)).copied()
}

fn shard_of(tenant: &str, wf: &str, shards: u32) -> Option<u32> {
    let (tenant, instance) = (TenantId::parse(tenant).ok()?, InstanceId::parse(wf).ok()?);
    let bucket = InstanceKey { tenant, instance }.bucket().number();
    Some(u32::from(bucket) * shards / u32::from(BUCKETS)).filter(|_| shards > 0)
}

fn series(answers: &[(f64, f64, &str)]) -> Vec<Bucket> {
    let place = |at: f64| (at / BUCKET_MS) as usize;
    let count = answers.iter().map(|(at, ..)| place(*at) + 1).max().unwrap_or(0).min(BUCKETS_MAX);
    let mut series: Vec<(Bucket, Vec<f64>)> = (0..count)
        .map(|number| {
            let at_ms = number as f64 * BUCKET_MS;
            (Bucket { at_ms, ..Bucket::default() }, Vec::new())
        })
        .collect();
    for (at, took, out) in answers {
        let Some((bucket, latencies)) = series.get_mut(place(*at)) else { continue };
        match *out {
            "ok" | "postponed" => {
                bucket.ok += 1;
                latencies.push(*took);
            }
            "rejected" => bucket.rejected += 1,
            "fail" => bucket.failed += 1,
            _ => bucket.unknown += 1,
        }
    }
    let fill = |(mut bucket, mut latencies): (Bucket, Vec<f64>)| {
        latencies.sort_by(f64::total_cmp);
        let at = |share| quantile(&latencies, share).unwrap_or(0.0);
        (bucket.p50_ms, bucket.p99_ms, bucket.max_ms) = (at(0.5), at(0.99), at(1.0));
        bucket
    };
    series.into_iter().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> Vec<u8> {
        let mut text = String::from("{\"format\":1}\n");
        // Ten commands of one instance, 100 ms apart, one of them a second late; then one unknown.
        for n in 0..10_i64 {
            let late = if n == 5 { 1_000 } else { 0 };
            let (inv, ret) = (n * 100, n * 100 + 10 + late);
            let (inv, ret) = (inv * 1_000_000, ret * 1_000_000);
            text.push_str(&format!(
                "{{\"e\":\"inv\",\"t\":{inv},\"id\":{n},\"op\":\"cmd\",\"tenant\":\"default\",\"wf\":\"a\"}}\n\
                 {{\"e\":\"ret\",\"t\":{ret},\"id\":{n},\"out\":\"ok\"}}\n"
            ));
        }
        text.push_str("{\"e\":\"inv\",\"t\":1,\"id\":\"x\",\"op\":\"read\"}\nnot a line\n");
        text.push_str("{\"e\":\"ret\",\"t\":2,\"id\":\"x\",\"out\":\"unknown\"}\n");
        text.push_str("{\"e\":\"shard\",\"shard\":3}\n");
        text.into_bytes()
    }

    fn window(begin_ms: f64, end_ms: Option<f64>, shards: &[u32]) -> Window {
        Window { name: "kill".into(), begin_ms, end_ms, nodes: vec![1], shards: shards.to_vec() }
    }

    #[test]
    fn answers_are_counted_by_tenths_of_a_second_and_a_gap_is_found() {
        let all = [0, 1, 2, 3];
        let found = figures(&history(), &[window(850.0, None, &all)]);
        assert_eq!(found.shards, 4);
        assert_eq!((found.series[0].ok, found.series[0].unknown), (1, 1));
        assert_eq!((found.series[15].ok, found.series[15].max_ms), (1, 1_010.0));
        assert_eq!(found.gaps.len(), 1);
        assert!(found.gaps[0].hit);
        assert_eq!((found.gaps[0].from_ms, found.gaps[0].ms), (910.0, 600.0));
    }

    #[test]
    fn a_fault_sees_nothing_of_the_next_one_and_an_empty_history_has_no_figures() {
        let two = [window(0.0, Some(100.0), &[]), window(850.0, None, &[])];
        let found = figures(&history(), &two);
        let first = found.gaps.iter().find(|gap| gap.fault == 0).unwrap();
        assert!(!first.hit && first.ms < 250.0, "{first:?}");
        assert_eq!(figures(b"", &two), Figures::default());
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&values, 0.5), Some(2.0));
        assert_eq!((quantile(&values, 0.99), quantile(&values, 1.0)), (Some(4.0), Some(4.0)));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
