//! Many reports on one page, and as a table for the runbooks.
//!
//! Deliberately absent: a verdict over all. Each drill stands for itself.

use std::fmt::Write as _;

use super::{DrillReport, page, quantile, text};

/// Writes the table of many reports as a page; each links to the page beside it.
pub fn index_html(reports: &[DrillReport]) -> String {
    let mut rows = String::new();
    for report in reports {
        let link = format!("{}-{}/index.html", report.scenario, report.seed);
        // Writing to a string cannot fail.
        let _ = write!(
            rows,
            "<tr><td><a href=\"{}\">{}</a></td><td>{}</td><td class=\"{}\">{}</td><td>{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            page::escape(&link),
            page::escape(&report.scenario),
            page::escape(&report.about),
            if report.pass { "ok" } else { "bad" },
            if report.pass { "&#10003; PASS" } else { "&#10007; FAIL" },
            text::verdict(report),
            report.faults.len(),
            page::escape(&measured(report)),
        );
    }
    let passed = reports.iter().filter(|report| report.pass).count();
    let body = format!(
        "<h1>Drills</h1><p class=\"lead\">{passed} of {} pass.</p><div class=\"wide\"><table><thead><tr><th>drill</th><th>what broke</th>\
         <th>result</th><th>history</th><th class=\"n\">faults</th><th>measured</th></tr></thead><tbody>{rows}</tbody></table></div>",
        reports.len()
    );
    page::document("Drills", &body)
}

/// Writes the table of many reports in Markdown.
pub fn index_markdown(reports: &[DrillReport]) -> String {
    let mut text = String::from(
        "| drill | faults | measured | history | result | seed |\n|---|---|---|---|---|---|\n",
    );
    for report in reports {
        let result = if report.pass { "PASS" } else { "FAIL" };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {result} | {} |",
            report.scenario,
            report.faults.len(),
            measured(report).replace('|', "/"),
            text::verdict(report),
            report.seed
        );
    }
    text
}

/// What was held against budgets, in short; of a drill that failed, what failed.
fn measured(report: &DrillReport) -> String {
    let mut parts = Vec::new();
    for (what, is_hit) in [("hit", true), ("others", false)] {
        let gaps = text::gaps(report, is_hit);
        let at = |share| quantile(&gaps, share).unwrap_or(0.0);
        if !gaps.is_empty() {
            parts.push(format!("{what}: median {:.0}, longest {:.0} ms", at(0.5), at(1.0)));
        }
    }
    let failed = report.checks.iter().filter(|check| !check.pass);
    parts.extend(failed.map(|check| {
        let what = check.measured.lines().next().unwrap_or_default();
        let short: String = what.chars().take(160).collect();
        format!("missed: {} {short}", check.name)
    }));
    parts.join("; ")
}
