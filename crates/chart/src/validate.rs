//! The validator: everything that can be said about a definition before it runs.
//!
//! One call reads a document and answers with all findings at once, each with code, place and advice, and with one table:
//! what every command meets in every state in which an instance can rest. The families of checks stand in one file each;
//! all of them look at the same `model::Model`.
//!
//! Deliberately absent: other definitions (a migration is judged with [`validate_with`], to which the caller gives the
//! earlier versions) and the compiled chart.
//!
//! Invariants: whatever the document, the answer comes in bounded time: sizes are judged first, and a definition over a
//! limit is refused without looking further. Findings are sorted by place.

mod bits;
mod conflicts;
mod event_names;
mod events;
mod expressions;
mod flow;
mod gaps;
mod graph;
mod limits;
mod migrations;
pub(crate) mod model;
mod names;
mod reach;
mod structure;
mod table;
mod tasks;
mod unused;
mod values;
mod waiting;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

pub use table::{Answer, Row};

use crate::{
    document::Document,
    finding::{Finding, FindingCode, Severity, sort},
    guard::on_big_stack,
    load,
    source::{Source, Spot},
};

/// Most findings of one report.
const FINDINGS_MAX: usize = 500;

/// Everything the validator has to say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// All findings, sorted by place.
    pub findings: Vec<Finding>,
    /// How many more there were than a report holds.
    pub omitted: usize,
    /// What every command meets in every resting state; empty where the definition has errors of shape.
    pub table: Vec<Row>,
    /// The definition as read; nothing, where the text is no document or no object.
    #[serde(skip)]
    pub source: Option<Source>,
}

impl Report {
    /// Returns whether the definition is refused.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }

    /// Returns how many findings have a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    fn of(mut findings: Vec<Finding>, source: Option<Source>) -> Self {
        sort(&mut findings);
        let omitted = findings.len().saturating_sub(FINDINGS_MAX);
        if omitted > 0 {
            // Errors stay, whatever their place.
            findings.sort_by_key(|finding| finding.severity);
            findings.truncate(FINDINGS_MAX);
            sort(&mut findings);
        }
        Self { findings, omitted, table: Vec::new(), source }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(out, "{finding}")?;
        }
        if self.omitted > 0 {
            writeln!(out, "{} more findings are left out", self.omitted)?;
        }
        let count = |severity, one, many| {
            let count = self.count(severity);
            format!("{count} {}", if count == 1 { one } else { many })
        };
        let errors = count(Severity::Error, "error", "errors");
        writeln!(out, "{errors}, {}", count(Severity::Warning, "warning", "warnings"))
    }
}

/// Reads and judges the bytes of a definition.
pub fn validate_bytes(bytes: &[u8]) -> Report {
    match load::read_bytes(bytes) {
        (Some(document), findings) => validate_read(&document, findings, &[]),
        (None, findings) => Report::of(findings, None),
    }
}

/// Judges a document.
pub fn validate(document: &Document) -> Report {
    validate_with(document, &[])
}

/// Judges a document that follows earlier versions, whose instances its migrations have to carry over.
pub fn validate_with(document: &Document, earlier: &[Source]) -> Report {
    validate_read(document, Vec::new(), earlier)
}

/// Judges what the loader could read of a text, after what it had to say.
fn validate_read(document: &Document, mut findings: Vec<Finding>, earlier: &[Source]) -> Report {
    let early = limits::check_document(document);
    if !early.is_empty() {
        findings.extend(early);
        return Report::of(findings, None);
    }
    // Expressions are parsed by a parser that recurses.
    on_big_stack(|| judge(document, findings, earlier))
}

fn judge(document: &Document, mut findings: Vec<Finding>, earlier: &[Source]) -> Report {
    // What stands where the loader left something out is not judged a second time.
    let told: BTreeSet<String> = findings.iter().map(|finding| finding.pointer.clone()).collect();
    let (source, shape) = Source::parse(document);
    findings.extend(shape.into_iter().filter(|finding| !told.contains(&finding.pointer)));
    let Some(source) = source else { return Report::of(findings, None) };
    let early = limits::check_source(&source);
    if !early.is_empty() {
        findings.extend(early);
        return Report::of(findings, Some(source));
    }
    let is_well_formed = !findings.iter().any(Finding::is_error);
    let looked = look(&source, earlier);
    findings.extend(looked.findings.into_iter().filter(|finding| !told.contains(&finding.pointer)));
    let mut report = Report::of(findings, Some(source));
    report.omitted += looked.omitted;
    if is_well_formed {
        report.table = looked.table;
    }
    report
}

/// What a look at a source gives.
struct Looked {
    findings: Vec<Finding>,
    omitted: usize,
    table: Vec<Row>,
}

/// Looks at a source from all sides.
fn look(source: &Source, earlier: &[Source]) -> Looked {
    let model = model::Model::new(source);
    let mut desk = Desk {
        document: &source.document,
        findings: Vec::new(),
        omitted: 0,
        kept: BTreeMap::new(),
    };
    let gaps = gaps::Gaps::of(&model);
    names::check(&model, &mut desk);
    event_names::check(&model, &mut desk);
    structure::check(&model, &mut desk);
    limits::check(&model, &mut desk);
    tasks::check(&model, &mut desk);
    let events = events::Events::new(&model);
    events.check(&model, &mut desk);
    let reached = reach::check(&model, &gaps, &mut desk);
    let declared = values::Declared::read(&model, &events, &mut desk.findings);
    let mut facts = values::check(&model, &events, &declared, &reached, &mut desk);
    conflicts::check(&model, &events, &reached, &facts, &mut desk);
    reach::check_loops(&model, &reached, &facts, &mut desk);
    waiting::check(&model, &events, &reached, &facts, &gaps, &mut desk);
    migrations::check(&model, earlier, &mut facts, &mut desk);
    unused::check(&model, &facts, &mut desk);
    let table = table::rows(&model, &events, &reached, &facts);
    let Desk { mut findings, omitted, .. } = desk;
    findings.retain(|finding| !gaps.excuse(finding));
    Looked { findings, omitted, table }
}

/// Where findings are put down.
struct Desk<'d> {
    document: &'d Document,
    findings: Vec<Finding>,
    /// How many findings of the talkative kinds there are.
    kept: BTreeMap<FindingCode, usize>,
    /// Findings that were not even written down.
    omitted: usize,
}

impl Desk<'_> {
    /// Returns whether one more finding of a kind is worth its words, and counts it if not.
    ///
    /// For the checks that a definition within its limits can make say the same thing thousands of times.
    fn has_room(&mut self, code: FindingCode) -> bool {
        let kept = self.kept.entry(code).or_default();
        let has_room = *kept < FINDINGS_MAX;
        *kept += usize::from(has_room);
        self.omitted += usize::from(!has_room);
        has_room
    }

    /// Notes a finding about a name, which stands at its key.
    fn note_name(
        &mut self,
        code: FindingCode,
        spot: &Spot,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let place = self.document.key_place(&spot.pointer);
        self.findings.push(Finding::new(code, spot.pointer.as_str(), place, message, advice));
    }

    fn note(
        &mut self,
        code: FindingCode,
        spot: &Spot,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.findings.push(Finding::new(code, spot.pointer.as_str(), spot.place, message, advice));
    }
}
