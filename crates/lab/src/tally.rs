//! What one client counted: latencies and outcomes, merged at the end.
//!
//! Each client has its own, so that counting costs no lock. Latencies are microseconds with three significant digits,
//! up to two minutes; what takes longer counts as two minutes.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use crate::answer::{Answer, Out};

const LATENCY_US_MAX: u64 = 120_000_000;

/// Counts of one client.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Answers by code.
    pub(crate) codes: BTreeMap<String, u64>,
    /// Requests by the class of their last answer.
    pub(crate) ended: BTreeMap<&'static str, u64>,
    /// Requests that were sent more than once.
    pub(crate) repeated: u64,
    /// Latency of requests that ended well, by step.
    pub(crate) steps: Vec<Histogram<u64>>,
    /// Latency of requests that ended otherwise.
    pub(crate) others: Histogram<u64>,
}

impl Tally {
    /// Begins with nothing counted, for so many steps.
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            codes: BTreeMap::new(),
            ended: BTreeMap::new(),
            repeated: 0,
            steps: vec![histogram(); steps],
            others: histogram(),
        }
    }

    /// Counts an answer to one attempt.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        match self.codes.get_mut(&*answer.code) {
            Some(count) => *count += 1,
            None => drop(self.codes.insert(answer.code.clone().into_owned(), 1)),
        }
    }

    /// Counts the end of a request.
    pub(crate) fn ended(&mut self, step: usize, out: Out, attempts: u32, took: Duration) {
        *self.ended.entry(class(out)).or_insert(0) += 1;
        self.repeated += u64::from(attempts > 1);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let is_good = matches!(out, Out::Ok | Out::Postponed);
        match self.steps.get_mut(step).filter(|_| is_good) {
            Some(histogram) => histogram.saturating_record(us),
            None => self.others.saturating_record(us),
        }
    }

    /// Adds what another client counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (code, count) in &other.codes {
            *self.codes.entry(code.clone()).or_insert(0) += count;
        }
        for (class, count) in &other.ended {
            *self.ended.entry(class).or_insert(0) += count;
        }
        self.repeated += other.repeated;
        for (mine, theirs) in self.steps.iter_mut().zip(&other.steps) {
            mine.add(theirs).expect("all histograms have one range");
        }
        self.others.add(&other.others).expect("all histograms have one range");
    }

    /// Returns the latencies of all requests that ended well.
    pub(crate) fn good(&self) -> Histogram<u64> {
        let mut all = histogram();
        for step in &self.steps {
            all.add(step).expect("all histograms have one range");
        }
        all
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order")
}

fn class(out: Out) -> &'static str {
    match out {
        Out::Ok => "ok",
        Out::Rejected => "rejected",
        Out::Fail => "failed",
        Out::Unknown => "unknown",
        Out::Postponed => "postponed",
    }
}
