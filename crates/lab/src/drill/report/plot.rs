//! The plots of a report, as vector drawings without script.
//!
//! All share one time axis, so that a dip in one stands above the fault in the others. Colours come from the page.
//!
//! Deliberately absent: smoothing. A point is a tenth of a second as it was; where nothing was answered there is none.

use std::fmt::Write as _;

use super::{Bucket, DrillReport, text};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// A drawing with a time axis.
struct Plot {
    svg: String,
    height: f64,
    upto_ms: f64,
}

impl Plot {
    fn new(report: &DrillReport, height: f64, what: &str) -> Self {
        let last = report.series.last().map_or(1_000.0, |bucket| bucket.at_ms + 100.0);
        let mut plot = Self { svg: String::new(), height, upto_ms: last };
        let full = height + TOP + BOTTOM;
        let _ = write!(
            plot.svg,
            "<svg viewBox=\"0 0 {WIDTH} {full}\" role=\"img\" aria-label=\"{what}\">"
        );
        for fault in &report.faults {
            let (from, to) = (plot.x(fault.begin_ms), plot.x(fault.end_ms.unwrap_or(last)));
            let width = (to - from).max(1.0);
            let _ = write!(
                plot.svg,
                "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\" fill=\"var(--fault)\"/>"
            );
        }
        plot.time_axis();
        plot
    }

    fn x(&self, ms: f64) -> f64 {
        LEFT + (ms / self.upto_ms).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn time_axis(&mut self) {
        let seconds = self.upto_ms / 1e3;
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1_800.0];
        let step = steps.into_iter().find(|step| seconds / step <= 12.0).unwrap_or(3_600.0);
        let base = TOP + self.height;
        let mut at = 0.0;
        while at <= seconds {
            let x = self.x(at * 1e3);
            let _ = write!(
                self.svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{base}\" y2=\"{}\" stroke=\"var(--line)\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{at} s</text>",
                base + 4.0,
                base + 18.0
            );
            at += step;
        }
        let right = WIDTH - RIGHT;
        let _ = write!(
            self.svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{base}\" y2=\"{base}\" stroke=\"var(--line)\"/>"
        );
    }

    fn level(&mut self, y: f64, name: &str) {
        let right = WIDTH - RIGHT;
        let _ = write!(
            self.svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"var(--line)\" stroke-dasharray=\"2 4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }

    /// Draws a line through those points that there are; a gap interrupts it.
    fn line(&mut self, colour: &str, points: impl Iterator<Item = (f64, Option<f64>)>) {
        let mut path = String::new();
        let mut is_down = false;
        for (ms, y) in points {
            let Some(y) = y else {
                is_down = false;
                continue;
            };
            let _ = write!(path, "{}{:.1} {y:.1}", if is_down { "L" } else { "M" }, self.x(ms));
            // A lonely point is seen as well.
            if !is_down {
                path.push_str("h.1");
            }
            is_down = true;
        }
        let _ = write!(
            self.svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\" stroke-linecap=\"round\" stroke-linejoin=\"round\"/>"
        );
    }

    fn done(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// A line's colour, and its value in a bucket.
type Line<T> = (&'static str, fn(&Bucket) -> T);

/// Median, 99th percentile and longest latency over time, on a logarithmic scale.
pub(super) fn latency(report: &DrillReport) -> String {
    const HEIGHT: f64 = 220.0;
    const DECADES: f64 = 5.0;
    let mut plot = Plot::new(report, HEIGHT, "latency over time");
    // From a tenth of a millisecond to ten seconds.
    let y = |ms: f64| TOP + HEIGHT - ((ms.max(0.1).log10() + 1.0) / DECADES).min(1.0) * HEIGHT;
    for (ms, name) in
        [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1e3, "1 s"), (1e4, "10 s")]
    {
        plot.level(y(ms), name);
    }
    let of: [Line<f64>; 3] = [
        ("var(--c)", |bucket| bucket.max_ms),
        ("var(--b)", |bucket| bucket.p99_ms),
        ("var(--a)", |bucket| bucket.p50_ms),
    ];
    for (colour, value) in of {
        let points = report
            .series
            .iter()
            .map(|bucket| (bucket.at_ms + 50.0, Some(value(bucket)).filter(|ms| *ms > 0.0).map(y)));
        plot.line(colour, points);
    }
    plot.done()
}

/// Answers a second by kind.
pub(super) fn answers(report: &DrillReport) -> String {
    const HEIGHT: f64 = 140.0;
    let mut plot = Plot::new(report, HEIGHT, "answers a second over time");
    let kinds: [Line<u32>; 3] = [
        ("var(--a)", |bucket| bucket.ok),
        ("var(--b)", |bucket| bucket.rejected + bucket.failed),
        ("var(--bad)", |bucket| bucket.unknown),
    ];
    let most = kinds.iter().flat_map(|(_, of)| report.series.iter().map(of)).max().unwrap_or(0);
    let top = nice(f64::from(most) * 10.0);
    let y = |per_s: f64| TOP + HEIGHT - (per_s / top).min(1.0) * HEIGHT;
    for share in [0.5, 1.0] {
        plot.level(y(top * share), &format!("{:.0}", top * share));
    }
    for (colour, of) in kinds {
        let points = report
            .series
            .iter()
            .map(|bucket| (bucket.at_ms + 50.0, Some(y(f64::from(of(bucket)) * 10.0))));
        plot.line(colour, points);
    }
    plot.done()
}

/// The next round number at or above.
fn nice(value: f64) -> f64 {
    let base = 10_f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * base)
        .find(|top| *top >= value)
        .unwrap_or(value)
}

/// One lane for each shard, with a bar where it had no answer.
pub(super) fn lanes(report: &DrillReport) -> String {
    const LANE: f64 = 24.0;
    let shards = report.shards.max(1);
    let mut plot = Plot::new(report, f64::from(shards) * LANE, "gaps of each shard over time");
    let middle = |shard: u32| TOP + (f64::from(shard) + 0.5) * LANE;
    for shard in 0..shards {
        plot.level(middle(shard), &format!("shard {shard}"));
    }
    for gap in &report.gaps {
        let (from, to) = (plot.x(gap.from_ms), plot.x(gap.from_ms + gap.ms));
        let (width, height) = ((to - from).max(1.0), if gap.hit { 14.0 } else { 4.0 });
        let colour = if gap.hit { "var(--b)" } else { "var(--c)" };
        let top = middle(gap.shard) - height / 2.0;
        let _ = write!(
            plot.svg,
            "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"><title>shard {}: {:.0} ms</title></rect>",
            gap.shard, gap.ms
        );
    }
    plot.done()
}

/// How many gaps were how long.
pub(super) fn histogram(gaps: &[f64]) -> String {
    const HEIGHT: f64 = 140.0;
    let steps = text::steps(gaps);
    let most = steps.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1) as f64;
    let width = (WIDTH - LEFT - RIGHT) / steps.len() as f64;
    let full = HEIGHT + TOP + BOTTOM + 10.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {full}\" role=\"img\" aria-label=\"histogram of gaps\">"
    );
    for (place, (high, count)) in steps.iter().enumerate() {
        let height = *count as f64 / most * HEIGHT;
        let (x, y) = (LEFT + place as f64 * width, TOP + 10.0 + HEIGHT - height);
        let name = if high.is_finite() { format!("&lt; {high} ms") } else { "above".to_owned() };
        let middle = x + width / 2.0;
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"var(--a)\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            x + 4.0,
            width - 8.0,
            TOP + 10.0 + HEIGHT + 18.0
        );
        if *count > 0 {
            let _ = write!(
                svg,
                "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{count}</text>",
                y - 4.0
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number() {
        let all: Vec<f64> = [0.0, 1.0, 11.0, 200.0, 201.0, 999.0].into_iter().map(nice).collect();
        assert_eq!(all, [1.0, 1.0, 20.0, 200.0, 500.0, 1_000.0]);
    }
}
