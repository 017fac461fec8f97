//! Many reports on one page, and as a table for the runbooks: what broke, what was allowed, what was measured.
//!
//! A page links to the pages of its drills where `drill run --report` puts them: `NAME-SEED/index.html` beside it.
//!
//! Deliberately absent: a verdict over all. Each drill stands for itself.

use std::fmt::Write as _;

use super::{Check, DrillReport, page, text};

/// Longest measurement in a table; the drill's own page has it whole.
const MEASURED_MAX: usize = 90;

/// Writes the table of many reports as a page; each links to the page beside it.
pub fn index_html(reports: &[DrillReport]) -> String {
    let passed = reports.iter().filter(|report| report.pass).count();
    let rows: String = reports.iter().map(rows).collect();
    let mut commands: Vec<&str> = reports.iter().map(|report| report.repeat.as_str()).collect();
    commands.dedup();
    let body = format!(
        "<h1>Drills</h1><p class=\"soft\">{passed} of {} pass. What has no budget is shown where it failed.</p><div class=\"wide\">\
         <table class=\"drills\"><thead><tr><th>result</th><th>drill</th><th></th><th>what was checked</th><th>measured</th><th>budget</th>\
         <th>history</th></tr></thead>{rows}</table></div><h2>How to repeat them</h2><pre>{}</pre>",
        reports.len(),
        page::escape(&commands.join("\n"))
    );
    page::document("Drills", &body)
}

/// The rows of one drill: one for each check, the drill beside all of them.
fn rows(report: &DrillReport) -> String {
    let checks: Vec<&Check> = shown(report).collect();
    let span = checks.len().max(1);
    let before = format!(
        "<td rowspan=\"{span}\" class=\"mark {}\">{}</td><td rowspan=\"{span}\" class=\"what\"><a href=\"{}\">{}</a>\n<span class=\"soft\">{}\n\
         {}, seed {}</span></td>",
        if report.pass { "ok" } else { "bad" },
        if report.pass { "&#10003; PASS" } else { "&#10007; FAIL" },
        page::escape(&link(report)),
        page::escape(&report.scenario),
        page::escape(&report.about),
        text::count(report.faults.len(), "fault"),
        report.seed
    );
    let after = format!("<td rowspan=\"{span}\">{}</td>", text::verdict(report));
    let mut text = String::from("<tbody>");
    for (number, check) in checks.iter().enumerate() {
        let (class, sign) = if check.pass { ("ok", "&#10003;") } else { ("bad", "&#10007;") };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "<tr>{}<td class=\"mark {class}\">{sign}</td><td class=\"what\">{}</td>{}{}{}</tr>",
            if number == 0 { before.as_str() } else { "" },
            page::escape(&check.name),
            page::value(&short(&check.measured)),
            page::value(check.budget.as_deref().unwrap_or("none")),
            if number == 0 { after.as_str() } else { "" }
        );
    }
    if checks.is_empty() {
        let _ = write!(text, "<tr>{before}<td></td><td>nothing</td><td></td><td></td>{after}</tr>");
    }
    text.push_str("</tbody>");
    text
}

/// Writes the table of many reports in Markdown.
pub fn index_markdown(reports: &[DrillReport]) -> String {
    let mut text = String::from(
        "| drill | faults | measured (allowed) | history | result | seed | repeat |\n|---|---|---|---|---|---|---|\n",
    );
    for report in reports {
        let checks = shown(report).map(|check| {
            let missed = if check.pass { "" } else { "**missed** " };
            let said = format!("{}: {}{}", check.name, short(&check.measured), allowed(check));
            format!("{missed}{}", cell(&said))
        });
        let _ = writeln!(
            text,
            "| [{}]({}) | {} | {} | {} | {} | {} | `{}` |",
            cell(&report.scenario),
            cell(&link(report)),
            report.faults.len(),
            checks.collect::<Vec<_>>().join("<br>"),
            text::verdict(report),
            if report.pass { "PASS" } else { "**FAIL**" },
            report.seed,
            code(&report.repeat),
        );
    }
    text
}

/// What a table shows of a report: what was held against a budget, and what failed.
fn shown(report: &DrillReport) -> impl Iterator<Item = &Check> {
    report.checks.iter().filter(|check| check.budget.is_some() || !check.pass)
}

fn link(report: &DrillReport) -> String {
    format!("{}-{}/index.html", report.scenario, report.seed)
}

fn allowed(check: &Check) -> String {
    check.budget.as_ref().map_or_else(String::new, |budget| format!(" ({budget})"))
}

/// The first line of a measurement, cut where it is too long.
fn short(measured: &str) -> String {
    let line = measured.lines().next().unwrap_or_default();
    if line.chars().count() <= MEASURED_MAX {
        return line.to_owned();
    }
    line.chars().take(MEASURED_MAX).chain(['…']).collect()
}

/// Text that stays within its cell of a Markdown table, and is no markup.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => escaped.push(' '),
            '|' | '[' | ']' | '*' | '_' | '`' | '\\' => escaped.extend(['\\', letter]),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A command in a cell, where only the bar and the backtick would be markup.
fn code(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('`', "'").replace('|', "\\|")
}
