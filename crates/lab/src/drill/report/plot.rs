//! The drawings of a report, as vector graphics without script.
//!
//! Lines differ by stroke as well as by colour. Where nothing was answered there is no point. A long drill has more tenths
//! of a second than a drawing has places: then one point stands for several, the worst of them where the worst matters.
//!
//! Deliberately absent: smoothing, and scales that begin elsewhere than the page says.

use std::fmt::Write as _;

use super::{
    Bucket, DrillReport, FaultGap,
    figures::{BUCKET_MS, quantile},
    frame::{Frame, LEFT, LETTER, RIGHT, TOP, WIDTH},
    text,
};

/// Most points of a line: more than the drawing is wide.
const POINTS_MAX: usize = 900;

/// Several buckets as one: counts as means, the median of medians, the worst of all else.
fn coarse(series: &[Bucket]) -> (f64, Vec<Bucket>) {
    let many = series.len().div_ceil(POINTS_MAX).max(1);
    let join = |of: &[Bucket]| {
        let count = u32::try_from(of.len()).unwrap_or(u32::MAX).max(1);
        let mean = |value: fn(&Bucket) -> u32| of.iter().map(value).sum::<u32>().div_ceil(count);
        let worst = |value: fn(&Bucket) -> f64| of.iter().map(value).fold(0.0, f64::max);
        let mut medians: Vec<f64> = of.iter().map(|b| b.p50_ms).filter(|ms| *ms > 0.0).collect();
        medians.sort_by(f64::total_cmp);
        Bucket {
            at_ms: of.first().map_or(0.0, |bucket| bucket.at_ms),
            ok: mean(|bucket| bucket.ok),
            rejected: mean(|bucket| bucket.rejected),
            failed: mean(|bucket| bucket.failed),
            unknown: mean(|bucket| bucket.unknown),
            p50_ms: quantile(&medians, 0.5).unwrap_or(0.0),
            p99_ms: worst(|bucket| bucket.p99_ms),
            max_ms: worst(|bucket| bucket.max_ms),
        }
    };
    (many as f64 * BUCKET_MS, series.chunks(many).map(join).collect())
}

/// How long one point of a drawing is.
pub(super) fn point_ms(report: &DrillReport) -> f64 {
    coarse(&report.series).0
}

/// Median, 99th percentile and longest latency over time, on a logarithmic scale.
pub(super) fn latency(report: &DrillReport) -> String {
    const HEIGHT: f64 = 230.0;
    let mut frame = Frame::new(report, HEIGHT, "latency over time, logarithmic");
    let (width, series) = coarse(&report.series);
    let some = |value: f64| Some(value).filter(|ms| *ms > 0.0);
    let medians = series.iter().filter_map(|bucket| some(bucket.p50_ms));
    let low = medians.fold(10.0, f64::min).log10().floor().clamp(-2.0, 1.0);
    let longest = series.iter().map(|bucket| bucket.max_ms).fold(100.0, f64::max);
    let high = longest.log10().ceil().clamp(2.0, 6.0);
    let y = |ms: f64| TOP + HEIGHT - ((ms.log10() - low) / (high - low)).clamp(0.0, 1.0) * HEIGHT;
    for decade in low as i32..=high as i32 {
        let ms = 10_f64.powi(decade);
        frame.level(y(ms), &text::time(ms));
    }
    frame.area(
        "cloud",
        width,
        series.iter().filter_map(|bucket| Some((bucket.at_ms, y(some(bucket.max_ms)?)))),
    );
    let middle = |bucket: &Bucket| bucket.at_ms + width / 2.0;
    frame.line("two", series.iter().map(|b| (middle(b), some(b.p99_ms).map(y))));
    frame.line("one", series.iter().map(|b| (middle(b), some(b.p50_ms).map(y))));
    frame.done()
}

/// Answers a second by kind.
pub(super) fn answers(report: &DrillReport) -> String {
    const HEIGHT: f64 = 150.0;
    let mut frame = Frame::new(report, HEIGHT, "answers a second over time");
    let (width, series) = coarse(&report.series);
    let per_s = |count: u32| f64::from(count) * 1e3 / BUCKET_MS;
    let refused = |bucket: &Bucket| per_s(bucket.rejected + bucket.failed);
    let most = series.iter().flat_map(|b| [per_s(b.ok), refused(b), per_s(b.unknown)]);
    let top = nice(most.fold(10.0, f64::max));
    let y = |per_s: f64| TOP + HEIGHT - (per_s / top).min(1.0) * HEIGHT;
    for share in [0.0, 0.5, 1.0] {
        frame.level(y(top * share), &format!("{:.0}/s", top * share));
    }
    frame.area(
        "hill",
        width,
        series.iter().filter(|b| b.ok > 0).map(|b| (b.at_ms, y(per_s(b.ok)))),
    );
    let middle = |bucket: &Bucket| bucket.at_ms + width / 2.0;
    frame.line("one", series.iter().map(|b| (middle(b), Some(y(per_s(b.ok))))));
    frame.line("two", series.iter().map(|b| (middle(b), Some(y(refused(b))))));
    let unknown = |b: &Bucket| Some(per_s(b.unknown)).filter(|per_s| *per_s > 0.0).map(y);
    frame.line("three", series.iter().map(|b| (middle(b), unknown(b))));
    frame.done()
}

/// The next round number at or above.
fn nice(value: f64) -> f64 {
    let base = 10_f64.powf(value.max(1.0).log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * base).find(|top| *top >= value).unwrap_or(value)
}

/// One lane for each shard, with a bar where it had no answer.
pub(super) fn lanes(report: &DrillReport) -> String {
    const LANE: f64 = 30.0;
    let shards = report.shards.max(1);
    let mut frame = Frame::new(report, f64::from(shards) * LANE, "gaps of each shard over time");
    let middle = |shard: u32| TOP + (f64::from(shard) + 0.5) * LANE;
    for shard in 0..shards {
        frame.level(middle(shard), &format!("shard {shard}"));
    }
    // Those that were hit last, so that they are seen.
    let mut gaps: Vec<&FaultGap> = report.gaps.iter().filter(|gap| gap.shard < shards).collect();
    gaps.sort_by(|one, two| one.hit.cmp(&two.hit).then(one.from_ms.total_cmp(&two.from_ms)));
    for gap in &gaps {
        let (from, to) = (frame.x(gap.from_ms), frame.x(gap.from_ms + gap.ms));
        let (width, height) = ((to - from).max(2.0), if gap.hit { 18.0 } else { 6.0 });
        let (class, top) =
            (if gap.hit { "hit" } else { "other" }, middle(gap.shard) - height / 2.0);
        let name = text::time(gap.ms);
        let _ = write!(
            frame.svg,
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height}\" rx=\"1.5\">\
             <title>fault {}, shard {}: {name} from {:.2} s</title></rect>",
            gap.fault + 1,
            gap.shard,
            gap.from_ms / 1e3
        );
        // Its length beside it, where nothing else stands.
        let (begin, end) = (from + width, from + width + 6.0 + name.len() as f64 * LETTER);
        let is_taken = |other: &FaultGap| {
            let at = frame.x(other.from_ms);
            other.shard == gap.shard && at > from && at < end
        };
        if gap.hit && end <= WIDTH && !gaps.iter().any(|other| is_taken(other)) {
            frame.text(begin + 4.0, middle(gap.shard) - 4.0, "start", &name);
        }
    }
    frame.done()
}

/// A line of a histogram: its class, what it says, where.
type Mark = (&'static str, String, f64);

/// How many gaps were how long, with their median and 99th percentile and the budgets.
pub(super) fn histogram(gaps: &[f64], budgets: &[(String, f64)]) -> String {
    const HEIGHT: f64 = 150.0;
    // Room on both sides, so that one step is no wall.
    let room = gaps.first().into_iter().flat_map(|least| [least / 2.0, least * 8.0]);
    let room = budgets.iter().map(|(_, ms)| ms * 2.0).chain(room);
    let (steps, low, high) = text::shown(gaps, room);
    let wide = (WIDTH - LEFT - RIGHT) / (high - low);
    let at = |share| quantile(gaps, share).unwrap_or(0.0);
    let mut marks: Vec<Mark> =
        vec![("mark-line", format!("median {}", text::time(at(0.5))), at(0.5))];
    marks.push(("mark-line", format!("p99 {}", text::time(at(0.99))), at(0.99)));
    for (name, ms) in budgets {
        marks.push(("budget", format!("budget, {name}: {}", text::time(*ms)), *ms));
    }
    marks.sort_by(|one, two| one.2.total_cmp(&two.2));
    let above = marks.len() as f64 * 17.0 + 22.0;
    let (base, full) = (above + HEIGHT, above + HEIGHT + 42.0);
    let x = |ms: f64| LEFT + (text::place(ms).clamp(low, high) - low) * wide;
    let most = steps.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1) as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {full}\" role=\"img\" aria-label=\"histogram of gaps\">"
    );
    for (place, (from, count)) in steps.iter().enumerate() {
        let height = *count as f64 / most * HEIGHT;
        let left = LEFT + place as f64 * wide;
        let name = text::time(*from);
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>\
             <path class=\"axis\" d=\"M{left:.1} {base}v4\"/>\
             <text x=\"{left:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            left + 1.5,
            base - height,
            wide - 3.0,
            base + 18.0
        );
        if *count > 0 {
            let (x, y) = (left + wide / 2.0, base - height - 5.0);
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{count}</text>"
            );
        }
    }
    let right = WIDTH - RIGHT;
    let _ = write!(
        svg,
        "<path class=\"axis\" d=\"M{LEFT} {base}H{right}v4\"/>\
         <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">how long a shard acknowledged nothing, logarithmic</text>",
        base + 18.0,
        text::time(text::edge(high)),
        base + 36.0
    );
    for (row, (class, name, ms)) in marks.iter().enumerate() {
        let (x, y) = (x(*ms), row as f64 * 17.0 + 13.0);
        let is_left = x + name.len() as f64 * LETTER > WIDTH - RIGHT;
        let (anchor, at) = if is_left { ("end", x - 5.0) } else { ("start", x + 5.0) };
        let _ = write!(
            svg,
            "<path class=\"{class}\" d=\"M{x:.1} {:.1}V{base}\"/><text class=\"strong\" x=\"{at:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{name}</text>",
            y - 9.0
        );
    }
    svg.push_str("</svg>");
    format!("<figure>{svg}</figure>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number() {
        let all: Vec<f64> = [0.0, 1.0, 11.0, 200.0, 201.0, 999.0].into_iter().map(nice).collect();
        assert_eq!(all, [1.0, 1.0, 15.0, 200.0, 300.0, 1_000.0]);
    }

    #[test]
    fn a_long_series_becomes_coarse_and_keeps_its_worst() {
        let bucket = |number: u32| Bucket {
            at_ms: f64::from(number) * BUCKET_MS,
            ok: 10,
            p50_ms: 5.0,
            max_ms: if number == 77 { 900.0 } else { 9.0 },
            ..Bucket::default()
        };
        let series: Vec<Bucket> = (0..2_000).map(bucket).collect();
        let (width, coarse) = coarse(&series);
        assert_eq!((width, coarse.len()), (3.0 * BUCKET_MS, 667));
        assert_eq!((coarse[25].max_ms, coarse[25].ok, coarse[25].at_ms), (900.0, 10, 7_500.0));
        assert_eq!(super::coarse(&[]), (BUCKET_MS, Vec::new()));
    }
}
