//! What the terminal shows at the end of a drill: the gaps as a histogram, the checks, the verdict, PASS or FAIL.
//!
//! Here stands, too, how times and steps of a histogram are written, for the page as well.
//!
//! Deliberately absent: anything that the page does not say, too. The last line is the one that a script may read.

use std::fmt::Write as _;

use statehouse_judge::Finding;

use super::{Check, DrillReport, FaultGap, quantile};

/// The end of a histogram's first step; each further one is twice as wide.
const STEP_MS: f64 = 25.0;
const BAR_MAX: usize = 50;
/// The longest gaps that are named one by one.
const LONG_MAX: usize = 5;
/// How checks begin that say how long shards that were hit may go without an acknowledged command.
const OF_HIT: &str = "shards that were hit";

/// Writes a report as text.
pub fn to_text(report: &DrillReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{}: {}", report.scenario, report.about);
    let _ = writeln!(
        text,
        "seed {}, {}, {}",
        report.seed,
        count(report.faults.len(), "fault"),
        report.machine
    );
    for (what, is_hit) in [("shards that were hit", true), ("other shards", false)] {
        histogram(&mut text, report, what, is_hit);
    }
    let _ = writeln!(text);
    for check in &report.checks {
        let mark = if check.pass { "ok  " } else { "FAIL" };
        let budget = check.budget.as_deref().map(|budget| format!(" (budget {budget})"));
        let measured = check.measured.replace('\n', "\n     ");
        let _ = writeln!(text, "{mark} {}: {measured}{}", check.name, budget.unwrap_or_default());
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

/// Returns what the gaps of shards that were hit were held against: of what, and how many milliseconds.
pub(super) fn budgets(report: &DrillReport) -> Vec<(String, f64)> {
    let mut budgets: Vec<(String, f64)> = Vec::new();
    for check in &report.checks {
        let Some((of, ms)) = budget(check) else { continue };
        match budgets.iter_mut().find(|(_, known)| *known == ms) {
            Some((known, _)) => *known = format!("{known} and {of}"),
            None => budgets.push((of.to_owned(), ms)),
        }
    }
    budgets
}

fn budget(check: &Check) -> Option<(&str, f64)> {
    let of = check.name.strip_prefix(OF_HIT)?.rsplit_once(": ")?.1;
    let of = of.split(" (").next().unwrap_or(of);
    let ms: f64 = check.budget.as_deref()?.strip_suffix(" ms")?.parse().ok()?;
    Some((of, ms)).filter(|(_, ms)| ms.is_finite() && *ms > 0.0)
}

/// Writes a time with its unit.
pub(super) fn time(ms: f64) -> String {
    let trimmed = |value: f64, places: usize| {
        let text = format!("{value:.places$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    };
    match ms {
        ms if ms < 9.95 => format!("{} ms", trimmed(ms, 1)),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{} s", trimmed(ms / 1e3, 2)),
    }
}

/// Writes a number of things.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Where a time stands among a histogram's steps: the whole part is the step.
pub(super) fn place(ms: f64) -> f64 {
    if ms < STEP_MS { ms.max(0.0) / STEP_MS } else { 1.0 + (ms / STEP_MS).log2() }
}

/// The time at which a step begins.
pub(super) fn edge(step: f64) -> f64 {
    if step < 1.0 { 0.0 } else { STEP_MS * (step - 1.0).exp2() }
}

/// Counts gaps by steps, from the first that is needed to the last, of other times as well: where each step begins and how
/// many are in it, the first step's number, and the number after the last.
pub(super) fn shown(
    gaps: &[f64],
    others: impl Iterator<Item = f64>,
) -> (Vec<(f64, usize)>, f64, f64) {
    let places: Vec<f64> = gaps.iter().map(|ms| place(*ms).floor()).collect();
    let all = || places.iter().copied();
    let needed: Vec<f64> = all().chain(others.map(|ms| place(ms).floor())).collect();
    let low = needed.iter().copied().fold(f64::INFINITY, f64::min);
    let high = needed.iter().copied().fold(low, f64::max) + 1.0;
    let mut steps = Vec::new();
    let mut step = low;
    while step < high {
        steps.push((edge(step), all().filter(|place| *place == step).count()));
        step += 1.0;
    }
    (steps, low, high)
}

fn histogram(text: &mut String, report: &DrillReport, what: &str, is_hit: bool) {
    let gaps = gaps(report, is_hit);
    if gaps.is_empty() {
        return;
    }
    let at = |share| quantile(&gaps, share).unwrap_or(0.0);
    let _ = writeln!(
        text,
        "\nno acknowledged command, {what}: {}, ms: median {:.0}, p90 {:.0}, p99 {:.0}, longest {:.0}",
        count(gaps.len(), "gap"),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    let (steps, low, _) = shown(&gaps, std::iter::empty());
    let most = steps.iter().map(|(_, count)| *count).max().unwrap_or(1);
    for (number, (_, count)) in steps.iter().enumerate() {
        let bar = "#".repeat((count * BAR_MAX).div_ceil(most.max(BAR_MAX)));
        let line =
            format!("  below {:>7}  {count:>5}  {bar}", time(edge(low + number as f64 + 1.0)));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let mut long: Vec<&FaultGap> = report.gaps.iter().filter(|gap| gap.hit == is_hit).collect();
    long.sort_by(|one, two| two.ms.total_cmp(&one.ms));
    for gap in long.into_iter().take(LONG_MAX) {
        let fault = report.faults.get(gap.fault).map_or("unknown", |fault| fault.name.as_str());
        let _ = writeln!(
            text,
            "  long: {}, shard {}, from {:.3} s, fault {}: {fault}",
            time(gap.ms),
            gap.shard,
            gap.from_ms / 1e3,
            gap.fault + 1
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gap_stands_in_one_step() {
        let gaps = [0.0, 24.9, 25.0, 49.0, 4_999.0, 90_000.0];
        let (steps, low, high) = shown(&gaps, [400_000.0].into_iter());
        assert_eq!((low, high), (0.0, 15.0));
        assert_eq!(steps.iter().map(|(_, count)| count).sum::<usize>(), gaps.len());
        assert_eq!((steps[0], steps[1], steps[8]), ((0.0, 2), (25.0, 2), (3_200.0, 1)));
        assert_eq!(shown(&[], std::iter::empty()).0, []);
    }

    #[test]
    fn times_are_written_with_their_unit() {
        let all = [0.0, 0.1, 5.0, 163.4, 999.9, 1_250.0, 10_000.0, 400_000.0].map(time);
        assert_eq!(all, ["0 ms", "0.1 ms", "5 ms", "163 ms", "1 s", "1.25 s", "10 s", "400 s"]);
    }

    #[test]
    fn a_budget_of_gaps_is_read_from_its_check_and_nothing_else_is() {
        let check = |name: &str, budget: &str| Check {
            name: name.to_owned(),
            budget: Some(budget.to_owned()),
            measured: String::new(),
            pass: true,
        };
        let of = |name, budget| {
            let check = check(name, budget);
            self::budget(&check).map(|(of, ms)| (of.to_owned(), ms))
        };
        let name = "shards that were hit, no acknowledged command: median (8 gaps)";
        assert_eq!(of(name, "1000 ms"), Some(("median".to_owned(), 1_000.0)));
        assert_eq!(of(name, "ok alone"), None);
        assert_eq!(of("other shards, no acknowledged command: longest (2 gaps)", "5 ms"), None);
    }
}
