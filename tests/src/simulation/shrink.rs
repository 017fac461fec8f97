//! Making a failing plan small: whatever can be left out while the same promise stays broken is left out.
//!
//! First whole groups (a client, all faults, all weather), then halves of what is left, then single elements, until none can
//! go. Each attempt is a run, so their number is bounded.
//!
//! Deliberately absent: changing an element. What is left is a part of the seed's own plan, and is named by its numbers.

use std::collections::BTreeSet;

use super::{Report, plan::Plan, run};

/// Runs that shrinking may take.
const RUNS_MAX: usize = 400;

/// Returns the smallest plan that was found to break the same promise, with its report.
#[must_use]
pub fn shrink(plan: &Plan, report: Report) -> (Plan, Report) {
    let Some(rule) = report.failure.as_ref().map(|failure| failure.rule.clone()) else {
        return (plan.clone(), report);
    };
    let mut best = (plan.clone(), report);
    let mut runs = 0;
    let mut attempt = |best: &mut (Plan, Report), gone: &BTreeSet<usize>| {
        if runs >= RUNS_MAX || gone.is_empty() {
            return false;
        }
        runs += 1;
        let smaller = best.0.keeping(best.0.kept().difference(gone).copied().collect());
        let report = run(&smaller);
        let is_same = report.failure.as_ref().is_some_and(|failure| failure.rule == rule);
        if is_same {
            *best = (smaller, report);
        }
        is_same
    };
    for group in plan.groups() {
        attempt(&mut best, &group);
    }
    let mut size = best.0.kept().len() / 2;
    while size > 0 {
        let mut is_smaller = false;
        let numbers: Vec<usize> = best.0.kept().iter().copied().collect();
        for part in numbers.chunks(size) {
            is_smaller |= attempt(&mut best, &part.iter().copied().collect());
        }
        if size > 1 || !is_smaller {
            size /= 2;
        }
    }
    best
}
