//! How long a shard acknowledged nothing around a fault.
//!
//! A gap lies between two acknowledged commands of a shard, the second of them after the fault began; the load's own
//! spacing is part of it. What began long before the fault counts from shortly before it; what was over when the fault
//! began is not the fault's; what lasts into the next fault is told of that one from there on.
//!
//! Deliberately absent: silence that nobody would have noticed. A shard that nobody asked around a fault has no gap.
//! Invariant: a shard that is asked and never acknowledges again has the longest gap of all, not none.

use std::collections::BTreeMap;

use super::{FaultGap, Window};

/// How much before a fault a gap around it may begin.
const BEFORE_MS: f64 = 500.0;
/// How much after a fault's end a gap around it may begin.
const AFTER_MS: f64 = 2_000.0;

/// The commands of one shard; times in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// When commands were sent.
    pub(super) asked: Vec<f64>,
    /// When commands were acknowledged.
    pub(super) done: Vec<f64>,
    /// When it was known that an attempt has no answer; when it was sent, of those that never ended.
    pub(super) silent: Vec<f64>,
}

impl Line {
    fn sort(&mut self) {
        for times in [&mut self.asked, &mut self.done, &mut self.silent] {
            times.sort_by(f64::total_cmp);
        }
    }
}

/// Finds the longest gap of each shard around each fault.
pub(super) fn gaps(mut lines: BTreeMap<u32, Line>, faults: &[Window]) -> Vec<FaultGap> {
    lines.values_mut().for_each(Line::sort);
    let mut gaps = Vec::new();
    for (fault, window) in faults.iter().enumerate() {
        let later = faults.iter().map(|other| other.begin_ms).filter(|at| *at > window.begin_ms);
        let next = later.min_by(f64::total_cmp).unwrap_or(f64::INFINITY);
        for (shard, line) in &lines {
            if let Some((from_ms, ms)) = longest(line, window, next) {
                let hit = window.shards.contains(shard);
                gaps.push(FaultGap { fault, shard: *shard, hit, from_ms, ms });
            }
        }
    }
    gaps
}

/// The longest gap of a shard around a fault, as begin and length, given when the next fault begins.
fn longest(line: &Line, window: &Window, next: f64) -> Option<(f64, f64)> {
    let to = window.end_ms.map_or(f64::INFINITY, |end| end + AFTER_MS).min(next);
    let before = line.done.partition_point(|at| *at <= window.begin_ms);
    let within = line.done.partition_point(|at| *at <= to);
    let head = before.checked_sub(1).and_then(|place| line.done.get(place));
    // Nothing was acknowledged yet: the fault is not to blame for what was before it.
    let head = head.map_or(window.begin_ms, |at| at.max(window.begin_ms - BEFORE_MS));
    let mut points = vec![head];
    points.extend(line.done.get(before..within.max(before)).unwrap_or_default());
    points.extend(open_end(line, points.last().copied().unwrap_or(head), within, to, next));
    let between = points.windows(2).filter_map(|pair| match pair {
        [one, two] => Some((*one, two - one)),
        _ => None,
    });
    between.max_by(|one, two| one.1.total_cmp(&two.1))
}

/// Where a gap ends that lasts beyond what is around the fault; nothing if nobody asked meanwhile.
fn open_end(line: &Line, last: f64, within: usize, to: f64, next: f64) -> Option<f64> {
    let asked = line.asked.get(line.asked.partition_point(|at| *at <= last));
    let is_asked = asked.is_some_and(|at| *at <= to);
    let end = match line.done.get(within) {
        Some(answer) => Some(*answer).filter(|_| is_asked),
        None => line.silent.last().copied().filter(|at| *at > last),
    };
    end.map(|end| end.min(next)).filter(|end| *end > last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(begin_ms: f64, end_ms: Option<f64>) -> Window {
        Window { name: "kill".into(), begin_ms, end_ms, nodes: vec![1], shards: vec![0] }
    }

    /// Gaps of one shard as (fault, begin, length); of each command: when it was sent, when it ended, whether well.
    fn check(commands: &[(f64, f64, bool)], faults: &[Window]) -> Vec<(usize, f64, f64)> {
        let mut line = Line::default();
        for (from, to, is_ok) in commands {
            line.asked.push(*from);
            if *is_ok { line.done.push(*to) } else { line.silent.push(*to) }
        }
        let found = gaps([(0, line)].into(), faults);
        found.iter().map(|gap| (gap.fault, gap.from_ms, gap.ms)).collect()
    }

    #[test]
    fn a_gap_that_was_over_when_the_fault_began_is_not_the_faults() {
        let commands = [(0.0, 5.0, true), (400.0, 405.0, true), (480.0, 490.0, true)];
        let more = [(500.0, 690.0, true), (700.0, 710.0, true)];
        let found = check(&[&commands[..], &more[..]].concat(), &[window(500.0, Some(600.0))]);
        assert_eq!(found, [(0, 490.0, 200.0)]);
    }

    #[test]
    fn a_shard_that_never_comes_back_has_a_gap_until_nobody_asks_any_more() {
        let commands = [(0.0, 90.0, true), (100.0, 3_100.0, false), (3_100.0, 9_000.0, false)];
        assert_eq!(check(&commands, &[window(95.0, None)]), [(0, 90.0, 8_910.0)]);
        assert_eq!(check(&commands, &[window(95.0, Some(200.0))]), [(0, 90.0, 8_910.0)]);
    }

    #[test]
    fn a_gap_that_outlasts_the_fault_ends_with_the_answer_or_where_the_next_fault_begins() {
        let commands = [(0.0, 90.0, true), (100.0, 7_000.0, true), (7_001.0, 7_100.0, true)];
        assert_eq!(check(&commands, &[window(95.0, Some(200.0))]), [(0, 90.0, 6_910.0)]);
        let two = [window(95.0, Some(200.0)), window(4_000.0, Some(5_000.0))];
        assert_eq!(check(&commands, &two), [(0, 90.0, 3_910.0), (1, 3_500.0, 3_500.0)]);
    }

    #[test]
    fn a_shard_that_nobody_asks_has_no_gap() {
        assert_eq!(check(&[], &[window(95.0, None)]), []);
        let once = [(0.0, 10.0, true), (90_000.0, 90_010.0, true)];
        assert_eq!(check(&once, &[window(1_000.0, Some(2_000.0))]), []);
    }
}
