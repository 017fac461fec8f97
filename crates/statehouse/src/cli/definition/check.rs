//! The check report: every finding of a definition, with place and advice.
//!
//! `file:line:column` stands first in each line, so that editors and terminals can jump to it. All findings of
//! all files are shown; the exit code says whether any of them refuses its definition.
//!
//! Deliberately absent: switching findings off. A warning that is right is fixed, one that is wrong is a bug.

use std::path::Path;

use serde_json::{Value, json};

use statehouse_chart::{
    Finding, Severity,
    validate::{self, Answer, validate_bytes},
};

use crate::cli::{
    exit::{Exit, Failure},
    output::{Output, text},
};

/// The findings of one file.
#[derive(Debug)]
pub(crate) struct Report {
    file: String,
    name: String,
    found: validate::Report,
}

/// Whether the table of commands and states is printed, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overview {
    /// Findings alone.
    None,
    /// What every command meets in every state in which an instance can rest.
    Table,
}

/// Checks files and prints a report of each.
pub(super) fn run(
    files: &[std::path::PathBuf],
    overview: Overview,
    output: Output,
) -> Result<Exit, Failure> {
    let (mut reports, mut unread) = (Vec::new(), None);
    for file in files {
        match super::read(file) {
            Ok(bytes) => reports.push(report(file, &bytes)),
            // The other files are checked all the same.
            Err(failure) => unread = unread.or(Some(failure)),
        }
    }
    let documents: Vec<Value> = reports.iter().map(Report::to_json).collect();
    let mut texts = Vec::new();
    for report in &reports {
        texts.push(report.text());
        if overview == Overview::Table && !report.found.table.is_empty() {
            texts.push(report.table(output));
        }
    }
    if !reports.is_empty() {
        output.show(&Value::Array(documents), |_| texts.join("\n"))?;
    }
    if let Some(failure) = unread {
        return Err(failure);
    }
    let refused = reports.iter().any(Report::has_errors);
    Ok(if refused { Exit::Rejected } else { Exit::Ok })
}

/// Checks the bytes of a definition.
pub(super) fn report(file: &Path, bytes: &[u8]) -> Report {
    let found = validate_bytes(bytes);
    let name = found.source.as_ref().map(|source| source.root.id().to_owned()).unwrap_or_default();
    Report { file: file.display().to_string(), name, found }
}

impl Report {
    /// Returns whether the definition would be refused.
    pub(super) fn has_errors(&self) -> bool {
        self.found.has_errors()
    }

    /// Returns the failure of a definition with errors, once its report was shown.
    pub(super) fn failure(&self) -> Failure {
        Failure::new(
            Exit::Rejected,
            "invalid_definition",
            format!("{} has {}", self.file, counted(self.found.count(Severity::Error), "error")),
            "correct the places above and check again",
        )
    }

    /// Prints the findings beside the result.
    pub(super) fn print_to_stderr(&self, output: Output) {
        output.note(&self.text());
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        for finding in &self.found.findings {
            let pointer = if finding.pointer.is_empty() { "/" } else { &finding.pointer };
            let severity = finding.severity.name();
            let Finding { code, place, message, .. } = finding;
            lines.push(format!("{}:{place}: {severity} {code} {pointer}: {message}", self.file));
            if !finding.advice.is_empty() {
                lines.push(format!("    advice: {}", finding.advice));
            }
        }
        if self.found.omitted > 0 {
            lines.push(format!("{}: {} more are left out", self.file, self.found.omitted));
        }
        let name = if self.name.is_empty() { String::new() } else { format!(" {}:", self.name) };
        lines.push(format!(
            "{}:{name} {}, {}, {}",
            self.file,
            counted(self.found.count(Severity::Error), "error"),
            counted(self.found.count(Severity::Warning), "warning"),
            counted(self.found.count(Severity::Info), "remark"),
        ));
        lines.join("\n")
    }

    fn table(&self, output: Output) -> String {
        let row = |row: &validate::Row| {
            let answer = match &row.answer {
                Answer::Accepted => "accepted".to_owned(),
                Answer::Guarded => "guarded".to_owned(),
                Answer::Postponed => "postponed".to_owned(),
                Answer::Rejected(code) => format!("rejected ({code})"),
                Answer::NotHandled => "not handled".to_owned(),
            };
            [row.state.clone(), row.command.clone(), answer]
        };
        output.table(["state", "command", "answer"], self.found.table.iter().map(row).collect())
    }

    fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "name": self.name,
            "errors": self.found.count(Severity::Error),
            "warnings": self.found.count(Severity::Warning),
            "omitted": self.found.omitted,
            "findings": self.found.findings,
            "table": self.found.table,
        })
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Returns a finding of a server's answer as one line.
pub(crate) fn line_of(finding: &Value) -> String {
    let pointer = Some(text(finding, "pointer")).filter(|text| !text.is_empty());
    format!(
        "{}:{} {} {} {}: {}; {}",
        text(finding, "line"),
        text(finding, "column"),
        text(finding, "severity"),
        text(finding, "code"),
        pointer.as_deref().unwrap_or("/"),
        text(finding, "message"),
        text(finding, "advice"),
    )
}
