//! What the terminal shows at the end of a drill: the gaps as a histogram, the checks, the verdict, PASS or FAIL.
//!
//! Deliberately absent: anything that the page does not say, too. The last line is the one that a script may read.

use std::fmt::Write as _;

use statehouse_judge::Finding;

use super::{DrillReport, quantile};

/// The upper ends of a histogram's steps.
pub(super) const STEPS_MS: [f64; 10] =
    [50.0, 100.0, 200.0, 400.0, 600.0, 800.0, 1_000.0, 1_500.0, 2_000.0, 5_000.0];
const BAR_MAX: usize = 50;

/// Writes a report as text.
pub fn to_text(report: &DrillReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{}: {}", report.scenario, report.about);
    let _ =
        writeln!(text, "seed {}, {} faults, {}", report.seed, report.faults.len(), report.machine);
    histogram(&mut text, report);
    let _ = writeln!(text);
    for check in &report.checks {
        let budget = check.budget.as_deref().map(|budget| format!(" (budget {budget})"));
        let mark = if check.pass { "ok  " } else { "FAIL" };
        let _ = writeln!(
            text,
            "{mark} {}: {}{}",
            check.name,
            check.measured,
            budget.unwrap_or_default()
        );
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let _ = writeln!(text, "\n{}", report.verdict);
    let _ = writeln!(text, "repeat: {}", report.repeat);
    let _ = writeln!(text, "{}", if report.pass { "PASS" } else { "FAIL" });
    text
}

/// Returns a verdict in one word.
pub(super) fn verdict(report: &DrillReport) -> &'static str {
    match report.verdict.finding {
        Finding::Valid => "VALID",
        Finding::Invalid { .. } => "INVALID",
        Finding::Undecided { .. } => "UNDECIDED",
    }
}

/// Returns the gaps of the shards that were hit, or of the others, sorted.
pub(super) fn gaps(report: &DrillReport, is_hit: bool) -> Vec<f64> {
    let of = report.gaps.iter().filter(|gap| gap.hit == is_hit);
    let mut gaps: Vec<f64> = of.map(|gap| gap.ms).collect();
    gaps.sort_by(f64::total_cmp);
    gaps
}

/// Counts gaps by steps; the last count is of those above all.
pub(super) fn steps(gaps: &[f64]) -> Vec<(f64, usize)> {
    let mut low = 0.0;
    let mut steps = Vec::new();
    for high in STEPS_MS.into_iter().chain([f64::INFINITY]) {
        let count = gaps.iter().filter(|gap| **gap >= low && **gap < high).count();
        steps.push((high, count));
        low = high;
    }
    steps
}

fn histogram(text: &mut String, report: &DrillReport) {
    for (what, is_hit) in [("shards that were hit", true), ("other shards", false)] {
        let gaps = gaps(report, is_hit);
        let at = |share| quantile(&gaps, share).unwrap_or(0.0);
        if gaps.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "\nno acknowledged command, {what}: {} gaps, ms: median {:.0}, p90 {:.0}, p99 {:.0}, longest {:.0}",
            gaps.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
        let most = steps(&gaps).iter().map(|(_, count)| *count).max().unwrap_or(1);
        for (high, count) in steps(&gaps).into_iter().filter(|(_, count)| *count > 0) {
            let bar = "#".repeat((count * BAR_MAX).div_ceil(most.max(BAR_MAX)));
            let name = if high.is_finite() { format!("below {high}") } else { "above".to_owned() };
            let _ = writeln!(text, "  {name:>12} ms {count:>5}  {bar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gap_stands_in_one_step() {
        let gaps = [0.0, 49.9, 50.0, 4_999.0, 5_000.0, 90_000.0];
        let steps = steps(&gaps);
        assert_eq!(steps.iter().map(|(_, count)| count).sum::<usize>(), gaps.len());
        assert_eq!((steps[0].1, steps[1].1, steps[10].1), (2, 1, 2));
    }
}
