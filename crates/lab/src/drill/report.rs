//! What a drill found: the verdict, the budgets, who went without an answer for how long, how the latency went.
//!
//! A report is data first (`report.json`), from which the page and the table are drawn; everything in it was measured or
//! judged, nothing is computed for beauty. Times are milliseconds since the history began.
//!
//! Deliberately absent: whether the figures are good. The checks say so, against budgets that were known before.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use statehouse_judge::Verdict;

mod figures;
mod frame;
mod gaps;
mod index;
mod page;
mod plot;
mod text;

pub use self::{
    figures::{Figures, figures, quantile},
    index::{index_html, index_markdown},
    page::to_html,
    text::to_text,
};

/// The version of the report's form.
pub const FORMAT: u32 = 1;
const DOCUMENT: &str = "report.json";

/// What one drill found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    /// The version of this form.
    pub format: u32,
    /// The drill's name.
    pub scenario: String,
    /// What broke, and what was expected.
    pub about: String,
    /// The seed of its schedule.
    pub seed: u64,
    /// What the cluster was: `processes`, `compose` or `netns`.
    pub target: String,
    /// When it began (RFC 3339, UTC).
    pub begun: String,
    /// The build.
    pub build: String,
    /// Cores, CPU, system.
    pub machine: String,
    /// The command that repeats it.
    pub repeat: String,
    /// Whether the history is valid and every check passed.
    pub pass: bool,
    /// What was held against a budget.
    pub checks: Vec<Check>,
    /// The judge's word.
    pub verdict: Verdict,
    /// The faults.
    pub faults: Vec<Window>,
    /// How long shards went without an acknowledged command, by fault.
    pub gaps: Vec<FaultGap>,
    /// How it went, tenth of a second by tenth of a second.
    pub series: Vec<Bucket>,
    /// How many shards there are.
    pub shards: u32,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Something that was held against a budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// What is allowed.
    pub budget: Option<String>,
    /// What was found.
    pub measured: String,
    /// Whether that is within what is allowed.
    pub pass: bool,
}

/// A fault, from its begin to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// What was done.
    pub name: String,
    /// When it began.
    pub begin_ms: f64,
    /// When it was over; nothing when the drill ended first.
    pub end_ms: Option<f64>,
    /// The nodes it was done to.
    pub nodes: Vec<u32>,
    /// The shards that had to feel it.
    pub shards: Vec<u32>,
}

/// The longest time that a shard went without an acknowledged command around a fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultGap {
    /// The fault's place in the list.
    pub fault: usize,
    /// The shard.
    pub shard: u32,
    /// Whether the fault was meant to hit it.
    pub hit: bool,
    /// When the gap began.
    pub from_ms: f64,
    /// How long it was.
    pub ms: f64,
}

/// A tenth of a second of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// When it began.
    pub at_ms: f64,
    /// Answers by kind.
    pub ok: u32,
    /// Judged and refused.
    pub rejected: u32,
    /// Certainly not done.
    pub failed: u32,
    /// Perhaps done.
    pub unknown: u32,
    /// Latency of the attempts that were answered `ok`: median, 99th percentile, longest; 0 when there were none.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Writes a report as data and as a page.
///
/// # Errors
/// The directory cannot be made or written to.
pub fn save(report: &DrillReport, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let document = serde_json::to_vec_pretty(report).map_err(io::Error::other)?;
    fs::write(directory.join(DOCUMENT), document)?;
    fs::write(directory.join("index.html"), to_html(report))
}

/// Reads the reports in a directory, in the order of their names: `NAME/report.json` and `NAME.json`.
///
/// # Errors
/// A report cannot be read, or is of another form; its file is named.
pub fn load(directory: &Path) -> io::Result<Vec<DrillReport>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let inner = path.join(DOCUMENT);
        if inner.is_file() {
            paths.push(inner);
        } else if path.extension().is_some_and(|end| end == "json") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> io::Result<DrillReport> {
    let named = |why: String| io::Error::other(format!("{}: {why}", path.display()));
    let bytes = fs::read(path).map_err(|error| named(error.to_string()))?;
    let report: DrillReport =
        serde_json::from_slice(&bytes).map_err(|error| named(error.to_string()))?;
    if report.format != FORMAT {
        return Err(named(format!("form {FORMAT} expected, {} found", report.format)));
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
