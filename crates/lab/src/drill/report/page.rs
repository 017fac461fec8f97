//! A report as one page that needs nothing else: no script, no font, no picture of another file.
//!
//! The result first, in words and signs and not by colour alone; if it is FAIL, why; then what was held against which
//! budget, the drawings, the faults one by one, the judge's words, and how to repeat it. Light or dark as the reader's
//! system is, readable on a telephone and on paper.
//!
//! Deliberately absent: anything that is not in the report. Invariant: every text of the report is escaped.

use std::fmt::Write as _;

use super::{DrillReport, plot, quantile, text};

const STYLE: &str = include_str!("style.css");

/// Writes a report as a page.
pub fn to_html(report: &DrillReport) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        body,
        "<header><div><h1>{}</h1><p class=\"soft\">{}</p></div>{}</header>",
        escape(&report.scenario),
        escape(&report.about),
        result(report.pass)
    );
    why(&mut body, report);
    facts(&mut body, report);
    checks(&mut body, report);
    drawings(&mut body, report);
    faults(&mut body, report);
    let _ = write!(
        body,
        "<h2>What the judge said</h2><pre>{}</pre>",
        escape(&report.verdict.to_string())
    );
    place(&mut body, report);
    document(&format!("{} {}", if report.pass { "PASS" } else { "FAIL" }, report.scenario), &body)
}

/// The result as a badge: framed if it passed, filled if it failed.
fn result(pass: bool) -> &'static str {
    if pass {
        "<div class=\"result ok\">&#10003; PASS</div>"
    } else {
        "<div class=\"result bad\">&#10007; FAIL</div>"
    }
}

/// A check's or a drill's result in a table.
pub(super) fn mark(pass: bool) -> &'static str {
    if pass {
        "<td class=\"mark ok\">&#10003; pass</td>"
    } else {
        "<td class=\"mark bad\">&#10007; FAIL</td>"
    }
}

/// A value in a table; a short one stays on its line.
pub(super) fn value(text: &str) -> String {
    const SHORT_MAX: usize = 12;
    let class = if text.chars().count() <= SHORT_MAX { " class=\"short\"" } else { "" };
    format!("<td{class}>{}</td>", escape(text))
}

fn why(body: &mut String, report: &DrillReport) {
    let mut reasons: Vec<String> = Vec::new();
    if !report.verdict.is_valid() {
        reasons.push(format!("the judge calls the history {}", text::verdict(report)));
    }
    for check in report.checks.iter().filter(|check| !check.pass) {
        let budget = check.budget.as_ref().map(|budget| format!(", allowed {budget}"));
        let measured = check.measured.lines().next().unwrap_or_default();
        reasons.push(format!("{}: {measured}{}", check.name, budget.unwrap_or_default()));
    }
    if report.pass || reasons.is_empty() {
        return;
    }
    body.push_str("<div class=\"why\"><strong>Why</strong><ul>");
    for reason in reasons {
        let _ = write!(body, "<li>{}</li>", escape(&reason));
    }
    body.push_str("</ul></div>");
}

fn facts(body: &mut String, report: &DrillReport) {
    let counts = &report.verdict.counts;
    let longest = |is_hit| text::gaps(report, is_hit).last().map(|ms| text::time(*ms));
    let kept = report.checks.iter().filter(|check| check.pass).count();
    let facts = [
        ("history", Some(text::verdict(report).to_owned())),
        ("checks kept", Some(format!("{kept} of {}", report.checks.len()))),
        ("faults", Some(report.faults.len().to_string())),
        ("longest gap, shards hit", longest(true)),
        ("longest gap, others", longest(false)),
        ("attempts", Some(counts.attempts.to_string())),
        ("answers ok", Some(counts.ok.to_string())),
        ("rejected", Some(counts.rejected.to_string())),
        ("not done", Some(counts.failed.to_string())),
        ("unknown", Some(counts.unknown.to_string())),
        ("retries", Some(counts.retries.to_string())),
        ("leader changes", Some(counts.leader_changes.to_string())),
    ];
    body.push_str("<dl class=\"facts\">");
    for (name, value) in facts {
        let value = value.unwrap_or_else(|| "none".to_owned());
        let _ = write!(body, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    body.push_str("</dl>");
}

fn checks(body: &mut String, report: &DrillReport) {
    body.push_str(
        "<h2>What was checked</h2><div class=\"wide\"><table><thead><tr><th>result</th><th>what</th><th>measured</th><th>budget</th>\
         </tr></thead><tbody>",
    );
    let _ = write!(
        body,
        "<tr>{}<td class=\"what\">the history, judged</td><td>{}</td><td>VALID</td></tr>",
        mark(report.verdict.is_valid()),
        text::verdict(report)
    );
    for check in &report.checks {
        let _ = write!(
            body,
            "<tr>{}<td class=\"what\">{}</td>{}{}</tr>",
            mark(check.pass),
            escape(&check.name),
            value(&check.measured),
            value(check.budget.as_deref().unwrap_or("none"))
        );
    }
    body.push_str("</tbody></table></div>");
}

/// One entry of a key: how it is drawn, and what it is.
fn key(entries: &[(&str, &str)]) -> String {
    let mut text = String::from("<p class=\"key\">");
    for (class, name) in entries {
        let shape = match *class {
            "one" | "two" | "three" => format!("<path class=\"{class}\" d=\"M1 6H29\"/>"),
            "other" => "<rect class=\"other\" y=\"3\" width=\"30\" height=\"5\"/>".to_owned(),
            _ => format!("<rect class=\"{class}\" width=\"30\" height=\"12\"/>"),
        };
        let _ = write!(
            text,
            "<span><svg class=\"swatch\" viewBox=\"0 0 30 12\" aria-hidden=\"true\">{shape}</svg>{name}</span>"
        );
    }
    text.push_str("</p>");
    text
}

fn drawings(body: &mut String, report: &DrillReport) {
    let fault = ("fault", "a fault, numbered as below");
    let _ = write!(
        body,
        "<h2>Latency of acknowledged attempts</h2><p class=\"soft\">Logarithmic; a point is {}.</p>{}{}",
        text::time(plot::point_ms(report)),
        key(&[("one", "median"), ("two", "99th percentile"), ("cloud", "longest"), fault]),
        plot::latency(report)
    );
    let _ = write!(
        body,
        "<h2>Answers a second</h2>{}{}",
        key(&[
            ("one", "done"),
            ("two", "rejected or certainly not done"),
            ("three", "unknown"),
            fault
        ]),
        plot::answers(report)
    );
    let _ = write!(
        body,
        "<h2>Shards without an acknowledged command</h2><p class=\"soft\">Of each shard, the longest time around each fault.</p>{}{}",
        key(&[("hit", "the fault was meant to hit it"), ("other", "it was not"), fault]),
        plot::lanes(report)
    );
    let (hit, others) = (text::gaps(report, true), text::gaps(report, false));
    if !hit.is_empty() {
        let _ = write!(
            body,
            "<h2>How long, on the shards that were hit</h2><p class=\"soft\">{}</p>{}",
            summary(&hit),
            plot::histogram(&hit, &text::budgets(report))
        );
    }
    if !others.is_empty() {
        let _ = write!(body, "<p class=\"soft\">Other shards: {}</p>", summary(&others));
    }
}

fn summary(gaps: &[f64]) -> String {
    let at = |share| text::time(quantile(gaps, share).unwrap_or(0.0));
    format!(
        "{}: median {}, 90th percentile {}, 99th {}, longest {}.",
        text::count(gaps.len(), "gap"),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}

fn faults(body: &mut String, report: &DrillReport) {
    body.push_str(
        "<h2>The faults</h2><div class=\"wide\"><table><thead><tr><th class=\"n\">no.</th><th>what</th><th class=\"n\">from</th>\
         <th class=\"n\">to</th><th>nodes</th><th>shards hit</th><th class=\"n\">longest gap, hit</th>\
         <th class=\"n\">others</th></tr></thead><tbody>",
    );
    for (number, fault) in report.faults.iter().enumerate() {
        let longest = |is_hit: bool| {
            let of = report.gaps.iter().filter(|gap| gap.fault == number && gap.hit == is_hit);
            of.map(|gap| gap.ms)
                .max_by(f64::total_cmp)
                .map_or_else(|| "none".to_owned(), text::time)
        };
        let end = fault.end_ms.map_or_else(|| "the end".to_owned(), seconds);
        let _ = write!(
            body,
            "<tr><td class=\"n\">{}</td><td class=\"what\">{}</td><td class=\"n\">{}</td><td class=\"n\">{end}</td><td>{}</td><td>{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            number + 1,
            escape(&fault.name),
            seconds(fault.begin_ms),
            numbers(&fault.nodes),
            numbers(&fault.shards),
            longest(true),
            longest(false)
        );
    }
    if report.faults.is_empty() {
        body.push_str("<tr><td colspan=\"8\">none was made</td></tr>");
    }
    body.push_str("</tbody></table></div>");
}

fn seconds(ms: f64) -> String {
    format!("{:.1} s", ms / 1e3)
}

fn numbers(all: &[u32]) -> String {
    let all: Vec<String> = all.iter().map(u32::to_string).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn place(body: &mut String, report: &DrillReport) {
    let _ = write!(
        body,
        "<h2>How to repeat it</h2><pre>{}</pre><p class=\"soft\">The seed decides what is done to whom and in which order; how long it takes is \
         the machine's.</p><dl class=\"where\">",
        escape(&report.repeat)
    );
    for (name, value) in [
        ("seed", &report.seed.to_string()),
        ("begun", &report.begun),
        ("build", &report.build),
        ("machine", &report.machine),
        ("cluster", &report.target),
    ] {
        let _ = write!(body, "<dt>{name}</dt><dd>{}</dd>", escape(value));
    }
    body.push_str("</dl>");
    for note in &report.notes {
        let _ = write!(body, "<p>Note: {}</p>", escape(note));
    }
}

/// Puts a body into a page, which forbids itself everything but its own style.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{}</title><style>\n{STYLE}</style></head><body>{body}</body></html>\n",
        escape(title)
    )
}

/// Escapes text for elements and attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
