//! Many seeds, on as many threads as there are processors, until one fails.
//!
//! Runs know nothing of each other, so their order does not matter; what is reported is the failing seed that comes first
//! among those that were begun, and every seed below it has been run.
//!
//! Deliberately absent: printing. Whoever hunts says how it went.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use statehouse_judge::Counts;

use super::{Report, plan::Plan, run};

/// What a hunt has come to.
#[derive(Debug, Default)]
pub struct Hunted {
    /// Runs that kept every promise.
    pub kept: u64,
    /// The first plan that did not, with its report.
    pub failed: Option<(Plan, Report)>,
    /// What the runs consisted of, all together.
    pub counts: Counts,
    /// How often things happened that have to happen in some run.
    pub tally: BTreeMap<String, u64>,
}

/// Runs these seeds until one fails.
///
/// # Panics
/// A thread cannot be had.
#[must_use]
pub fn hunt(seeds: &[u64], threads: usize) -> Hunted {
    let next = AtomicU64::new(0);
    let hunted = Mutex::new(Hunted::default());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| hunt_on(seeds, &next, &hunted));
        }
    });
    hunted.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn hunt_on(seeds: &[u64], next: &AtomicU64, hunted: &Mutex<Hunted>) {
    loop {
        // Seeds are taken in order, so none below the first failing one is left out.
        let turn = usize::try_from(next.fetch_add(1, Ordering::SeqCst)).unwrap_or(usize::MAX);
        let Some(seed) = seeds.get(turn) else { return };
        let plan = Plan::of(*seed);
        let report = run(&plan);
        let mut hunted = hunted.lock().unwrap_or_else(PoisonError::into_inner);
        if report.failure.is_none() {
            hunted.kept += 1;
            add(&mut hunted.counts, &report.counts);
            for (what, often) in report.tally {
                *hunted.tally.entry(what).or_default() += often;
            }
            continue;
        }
        next.store(seeds.len() as u64, Ordering::SeqCst);
        if hunted.failed.as_ref().is_none_or(|(first, _)| *seed < first.seed) {
            hunted.failed = Some((plan, report));
        }
        return;
    }
}

fn add(sum: &mut Counts, one: &Counts) {
    sum.attempts += one.attempts;
    sum.reads += one.reads;
    sum.ok += one.ok;
    sum.rejected += one.rejected;
    sum.failed += one.failed;
    sum.unknown += one.unknown;
    sum.postponed += one.postponed;
    sum.retries += one.retries;
    sum.dedupe_hits += one.dedupe_hits;
    sum.entries += one.entries;
    sum.timers_armed += one.timers_armed;
    sum.timers_fired += one.timers_fired;
    sum.tasks += one.tasks;
    sum.leader_changes += one.leader_changes;
    sum.faults += one.faults;
}

/// Returns the seeds that are kept because they have found something once.
///
/// # Panics
/// A line of the file is neither a seed nor a comment.
#[must_use]
pub fn kept_seeds() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines().map(str::trim);
    let seeds = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    seeds
        .map(|line| {
            let seed = line.split_whitespace().next().expect("a line that is not empty has a word");
            seed.parse().expect("a line begins with a seed")
        })
        .collect()
}
