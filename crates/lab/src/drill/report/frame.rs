//! The frame of a drawing over time: its axes, its levels, and the faults as shaded windows.
//!
//! All drawings share it, so that a dip in one stands above the fault in the others. Classes name what a thing is; how it
//! looks is the page's style. Sizes are in units of the drawing, 880 wide.
//!
//! Deliberately absent: data. Invariant: every text that is not ours is escaped, and no point lies outside of the frame.

use std::fmt::Write as _;

use super::{DrillReport, page::escape};

pub(super) const WIDTH: f64 = 880.0;
pub(super) const LEFT: f64 = 66.0;
pub(super) const RIGHT: f64 = 24.0;
/// Room for the names of faults.
pub(super) const TOP: f64 = 24.0;
const BOTTOM: f64 = 42.0;
/// About how wide a letter is.
pub(super) const LETTER: f64 = 6.8;
/// Most marks of the time axis.
const MARKS_MAX: f64 = 11.0;

/// A drawing with a time axis.
pub(super) struct Frame {
    pub(super) svg: String,
    height: f64,
    upto_ms: f64,
}

impl Frame {
    pub(super) fn new(report: &DrillReport, height: f64, what: &str) -> Self {
        let full = height + TOP + BOTTOM;
        let svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {full}\" role=\"img\" aria-label=\"{}\">",
            escape(what)
        );
        let mut frame = Self { svg, height, upto_ms: upto_ms(report) };
        frame.faults(report);
        frame.time_axis();
        frame
    }

    /// Where a moment stands; those outside of the drawing stand at its edges.
    pub(super) fn x(&self, ms: f64) -> f64 {
        LEFT + (ms / self.upto_ms).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Where the time axis stands.
    pub(super) fn base(&self) -> f64 {
        TOP + self.height
    }

    fn faults(&mut self, report: &DrillReport) {
        let mut free = 0.0;
        for (number, fault) in (1..).zip(&report.faults) {
            let end = fault.end_ms.unwrap_or(self.upto_ms);
            let (from, to) = (self.x(fault.begin_ms), self.x(end));
            let (width, base) = ((to - from).max(1.5), self.base());
            let height = self.height;
            // Writing to a string cannot fail.
            let _ = write!(
                self.svg,
                "<rect class=\"fault\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"><title>{number}: {}</title></rect>\
                 <path class=\"edge\" d=\"M{from:.1} {TOP}V{base}\"/>",
                escape(&fault.name)
            );
            // The name where it ends before the next fault begins, else the number, else nothing.
            let later =
                report.faults.iter().map(|next| self.x(next.begin_ms)).filter(|x| *x > from);
            let room = later.fold(width, |room, next| room.min(next - from));
            let letters = |text: &str| text.chars().count() as f64 * LETTER;
            let whole = format!("{number}: {}", fault.name);
            let name = if letters(&whole) <= room { whole } else { number.to_string() };
            if from >= free {
                free = from + letters(&name) + LETTER;
                self.text(from, TOP - 8.0, "start", &name);
            }
        }
    }

    fn time_axis(&mut self) {
        let seconds = self.upto_ms / 1e3;
        let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1_800.0];
        let step = steps.into_iter().find(|step| seconds / step <= MARKS_MAX).unwrap_or(3_600.0);
        let (base, right) = (self.base(), WIDTH - RIGHT);
        let _ = write!(self.svg, "<path class=\"axis\" d=\"M{LEFT} {base}H{right}\"/>");
        let count = (seconds / step).floor().min(MARKS_MAX) as u32;
        for at in (0..=count).map(|number| f64::from(number) * step) {
            let x = self.x(at * 1e3);
            let _ = write!(self.svg, "<path class=\"axis\" d=\"M{x:.1} {base}v4\"/>");
            let name = if step < 1.0 { format!("{at:.1} s") } else { format!("{at:.0} s") };
            self.text(x, base + 18.0, "middle", &name);
        }
        self.text(right, base + 36.0, "end", "time since the load began");
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let _ = write!(
            self.svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        );
    }

    /// Draws a level across, with its name beside the axis.
    pub(super) fn level(&mut self, y: f64, name: &str) {
        let right = WIDTH - RIGHT;
        let _ = write!(self.svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
        self.text(LEFT - 8.0, y + 4.0, "end", name);
    }

    /// Draws a line through those points that there are; where there is none, it is interrupted.
    pub(super) fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, Option<f64>)>) {
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
        if !path.is_empty() {
            let _ = write!(self.svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }

    /// Fills what is under the points that there are, down to the time axis.
    pub(super) fn area(
        &mut self,
        class: &str,
        width_ms: f64,
        points: impl Iterator<Item = (f64, f64)>,
    ) {
        let mut path = String::new();
        let base = self.base();
        for (ms, y) in points {
            let (from, to) = (self.x(ms), self.x(ms + width_ms));
            let _ = write!(path, "M{from:.1} {base}V{y:.1}H{to:.1}V{base}z");
        }
        if !path.is_empty() {
            let _ = write!(self.svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }

    pub(super) fn done(mut self) -> String {
        self.svg.push_str("</svg>");
        format!("<figure>{}</figure>", self.svg)
    }
}

/// The last moment that anything in a report speaks of.
fn upto_ms(report: &DrillReport) -> f64 {
    let series = report.series.last().map(|bucket| bucket.at_ms + super::figures::BUCKET_MS);
    let faults = report.faults.iter().map(|fault| fault.end_ms.unwrap_or(fault.begin_ms));
    let gaps = report.gaps.iter().map(|gap| gap.from_ms + gap.ms);
    series.into_iter().chain(faults).chain(gaps).fold(1_000.0, f64::max)
}
