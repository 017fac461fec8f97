//! What a load run found, as data, as text, as JSON.
//!
//! Throughput counts requests that ended well within the measured time; percentiles are over those alone, because a
//! fast refusal would make a slow server look quick. Everything else is counted by its code beside them.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    gaps::{self, Gap},
    tally::Tally,
};

/// The result of a load run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `open` or `closed`, `commands` or the consistency of reads.
    pub kind: String,
    /// The rate that was offered, requests a second; none in a closed loop.
    pub offered: Option<f64>,
    /// Clients, each with one connection.
    pub clients: u32,
    /// How long was measured.
    pub seconds: f64,
    /// Requests that ended within the measured time.
    pub requests: u64,
    /// Requests that ended well, a second.
    pub throughput: f64,
    /// Latency of requests that ended well, in milliseconds.
    pub latency_ms: Latency,
    /// The same by command.
    pub steps: Vec<StepReport>,
    /// Latency of requests that ended otherwise.
    pub others_ms: Latency,
    /// Requests by the class of their last answer.
    pub classes: BTreeMap<String, u64>,
    /// Answers by code, each attempt of a request counted.
    pub codes: BTreeMap<String, u64>,
    /// Requests that were sent more than once.
    pub repeated: u64,
    /// The longest time without an acknowledged command of each shard that was asked; none for reads.
    pub gaps: Vec<Gap>,
    /// CPU time of all nodes together for a request, in microseconds; none when a node did not tell or was started again.
    pub cpu_us: Option<f64>,
    /// By how much the terms of all shards rose during the run; none when the nodes did not tell.
    pub leader_changes: Option<u64>,
    /// What went wrong besides, such as a dump that was refused.
    pub notes: Vec<String>,
}

/// One command's share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The command.
    pub name: String,
    /// Its latency in milliseconds.
    pub latency_ms: Latency,
}

/// A distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half were quicker.
    pub p50: f64,
    /// Nine of ten were quicker.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let ms = |us: u64| us as f64 / 1000.0;
        Self {
            count: histogram.len(),
            mean: (histogram.mean() / 10.0).round() / 100.0,
            p50: ms(histogram.value_at_quantile(0.5)),
            p90: ms(histogram.value_at_quantile(0.9)),
            p99: ms(histogram.value_at_quantile(0.99)),
            p999: ms(histogram.value_at_quantile(0.999)),
            max: ms(histogram.max()),
        }
    }
}

/// What a report is made of besides the counts.
pub(crate) struct Frame {
    pub(crate) kind: String,
    pub(crate) offered: Option<f64>,
    pub(crate) clients: u32,
    pub(crate) measured: Duration,
    pub(crate) names: Vec<String>,
}

impl Report {
    pub(crate) fn new(frame: Frame, tally: &Tally) -> Self {
        let Frame { kind, offered, clients, measured, names } = frame;
        let good = tally.good();
        let seconds = measured.as_secs_f64();
        let latencies = tally.steps.iter().map(Latency::of);
        Self {
            kind,
            offered,
            clients,
            seconds: (seconds * 1000.0).round() / 1000.0,
            requests: tally.ended.values().sum(),
            throughput: if seconds > 0.0 {
                (good.len() as f64 / seconds * 10.0).round() / 10.0
            } else {
                0.0
            },
            latency_ms: Latency::of(&good),
            steps: names
                .into_iter()
                .zip(latencies)
                .map(|(name, latency_ms)| StepReport { name, latency_ms })
                .collect(),
            others_ms: Latency::of(&tally.others),
            classes: tally
                .ended
                .iter()
                .map(|(class, count)| ((*class).to_owned(), *count))
                .collect(),
            codes: tally.codes.clone(),
            repeated: tally.repeated,
            gaps: Vec::new(),
            cpu_us: None,
            leader_changes: None,
            notes: Vec::new(),
        }
    }
}

impl Report {
    /// Notes the CPU time that the nodes took for all requests.
    pub(crate) fn spend(&mut self, cpu_us: Option<u64>) {
        let requests = Some(self.requests).filter(|requests| *requests > 0);
        // Microseconds and requests of one run are far below the numbers that a float cannot hold.
        #[allow(clippy::cast_precision_loss)]
        let each = |(cpu, requests): (u64, u64)| cpu as f64 / requests as f64;
        self.cpu_us = cpu_us.zip(requests).map(each);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered = self.offered.map(|rate| format!(", {rate:.0}/s offered")).unwrap_or_default();
        writeln!(
            f,
            "{}: {} clients{offered}, {:.1} s measured",
            self.kind, self.clients, self.seconds
        )?;
        writeln!(
            f,
            "{:.0} requests/s ended well, {} requests in all",
            self.throughput, self.requests
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<14} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "latency, ms", "count", "mean", "p50", "p90", "p99", "p99.9", "max"
        )?;
        row(f, "all", &self.latency_ms)?;
        if self.steps.len() > 1 {
            self.steps.iter().try_for_each(|step| row(f, &step.name, &step.latency_ms))?;
        }
        if self.others_ms.count > 0 {
            row(f, "not well", &self.others_ms)?;
        }
        gaps::table(f, &self.gaps)?;
        writeln!(f)?;
        if let Some(cpu) = self.cpu_us {
            writeln!(f, "CPU of all nodes: {cpu:.0} us a request")?;
        }
        if let Some(changes) = self.leader_changes.filter(|changes| *changes > 0) {
            writeln!(f, "leader changes: {changes}")?;
        }
        writeln!(f, "requests: {}; sent again: {}", list(&self.classes), self.repeated)?;
        write!(f, "answers: {}", list(&self.codes))?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, latency: &Latency) -> fmt::Result {
    let Latency { count, mean, p50, p90, p99, p999, max } = latency;
    writeln!(
        f,
        "{name:<14} {count:>10} {mean:>9.2} {p50:>9.2} {p90:>9.2} {p99:>9.2} {p999:>9.2} {max:>9.2}"
    )
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Answer, Out};

    #[test]
    fn a_report_survives_json_and_reads_well() {
        let mut tally = Tally::new(2);
        let mut other = Tally::new(2);
        let ok = Answer { out: Out::Ok, code: "ok".into(), retry_after: None };
        let busy = Answer { out: Out::Fail, code: "overloaded".into(), retry_after: None };
        for ms in 1..=100 {
            tally.answered(&ok);
            tally.ended(0, Out::Ok, 1, Duration::from_millis(ms));
        }
        other.answered(&busy);
        other.ended(1, Out::Fail, 3, Duration::from_secs(500));
        tally.merge(&other);
        let frame = Frame {
            kind: "closed loop, commands".to_owned(),
            offered: None,
            clients: 4,
            measured: Duration::from_secs(10),
            names: vec!["start".to_owned(), "pay".to_owned()],
        };
        let mut report = Report::new(frame, &tally);
        assert!(!report.to_string().contains("no answer"), "{report}");
        let gap = |shard, ms| Gap { shard, from: 20.5, ms };
        report.gaps = vec![gap(0, 99.9), gap(1, 812.3)];
        report.leader_changes = Some(2);
        report.spend(Some(3 * report.requests));
        assert_eq!((report.requests, report.throughput, report.repeated), (101, 10.0, 1));
        assert!((report.latency_ms.p99 - 99.0).abs() < 0.2, "{:?}", report.latency_ms);
        assert!(
            report.others_ms.max > 119_000.0,
            "what takes longer than the range counts as its end"
        );
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        let text = report.to_string();
        assert!(
            text.contains("shard 1              20.5     812.3\n") && !text.contains("shard 0"),
            "only a gap that is worth a look is shown: {text}"
        );
        assert!(text.contains("leader changes: 2\n"), "{text}");
        assert!(text.contains("CPU of all nodes: 3 us a request\n"), "{text}");
        assert!(
            text.contains("10 requests/s ended well")
                && text.contains("answers: ok 100, overloaded 1"),
            "{text}"
        );
    }
}
