//! A report as one page that needs nothing else: no script, no font, no picture of another file.
//!
//! The result first, in words and signs and not by colour alone; then what was held against which budget, then the plots,
//! then the faults one by one. Light or dark as the reader's system is, readable on a telephone and on paper.
//!
//! Deliberately absent: anything that is not in the report. Invariant: every text of the report is escaped.

use std::fmt::Write as _;

use super::{DrillReport, plot, quantile, text};

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fbfaf7;--ink:#22252b;--soft:#6a6f7a;--line:#dcd9d0;--ok:#1c7a4a;--bad:#b3261e;\
--a:#2f6fb0;--b:#c26a12;--c:#8b8f99;--fault:#e9c46a55}\
@media(prefers-color-scheme:dark){:root{--bg:#16181d;--ink:#e6e4df;--soft:#9aa0ab;--line:#33373f;--ok:#5fc58f;--bad:#ff8a80;\
--a:#7db4ea;--b:#f0a95b;--c:#7d828d;--fault:#e9c46a33}}\
*{box-sizing:border-box}body{margin:0 auto;max-width:64rem;padding:1.5rem 1rem 4rem;background:var(--bg);color:var(--ink);\
font:16px/1.5 system-ui,sans-serif}h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.1rem;margin:2.2rem 0 .4rem}\
.lead{color:var(--soft);margin:.2rem 0 1rem}.result{font-size:1.3rem;font-weight:700}.ok{color:var(--ok)}.bad{color:var(--bad)}\
table{border-collapse:collapse;width:100%;font-size:.92rem}th,td{text-align:left;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);\
vertical-align:top}th{color:var(--soft);font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}\
.wide{overflow-x:auto}svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font:11px system-ui,sans-serif}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:color-mix(in srgb,var(--ink) 5%,transparent);padding:.8rem;border-radius:.4rem;font-size:.85rem}\
a{color:var(--a)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;font-size:.92rem}dt{color:var(--soft)}dd{margin:0}\
.key span{margin-right:1.2rem;white-space:nowrap}.key i{display:inline-block;width:.9rem;height:.25rem;margin-right:.4rem;vertical-align:middle}\
@media print{body{max-width:none}}";

/// Writes a report as a page.
pub fn to_html(report: &DrillReport) -> String {
    let mut body = String::new();
    let (class, word) =
        if report.pass { ("ok", "&#10003; PASS") } else { ("bad", "&#10007; FAIL") };
    // Writing to a string cannot fail.
    let _ = write!(
        body,
        "<h1>{}</h1><p class=\"lead\">{}</p><p class=\"result {class}\">{word} <span class=\"lead\">history {}</span></p>",
        escape(&report.scenario),
        escape(&report.about),
        text::verdict(report)
    );
    checks(&mut body, report);
    let _ = write!(
        body,
        "<h2>Latency of acknowledged attempts</h2><p class=\"key lead\"><span><i style=\"background:var(--a)\"></i>median</span>\
         <span><i style=\"background:var(--b)\"></i>99th percentile</span><span><i style=\"background:var(--c)\"></i>longest</span>\
         <span><i style=\"background:var(--fault);height:.8rem\"></i>fault</span></p>{}",
        plot::latency(report)
    );
    let _ = write!(
        body,
        "<h2>Answers a second</h2><p class=\"key lead\"><span><i style=\"background:var(--a)\"></i>done</span>\
         <span><i style=\"background:var(--b)\"></i>refused or not done</span><span><i style=\"background:var(--bad)\"></i>unknown</span></p>{}",
        plot::answers(report)
    );
    let _ = write!(
        body,
        "<h2>Shards without an acknowledged command</h2><p class=\"lead\">The longest time around each fault; thick where the fault was meant to hit.</p>{}",
        plot::lanes(report)
    );
    let hit = text::gaps(report, true);
    if !hit.is_empty() {
        let at = |share| quantile(&hit, share).unwrap_or(0.0);
        let _ = write!(
            body,
            "<h2>How long, on the shards that were hit</h2><p class=\"lead\">{} gaps: median {:.0} ms, 99th percentile {:.0} ms, longest {:.0} ms</p>{}",
            hit.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            plot::histogram(&hit)
        );
    }
    faults(&mut body, report);
    let _ = write!(
        body,
        "<h2>What the judge said</h2><pre>{}</pre><h2>Where, and how to repeat it</h2><dl>",
        escape(&report.verdict.to_string())
    );
    for (name, value) in [
        ("repeat", &report.repeat),
        ("begun", &report.begun),
        ("build", &report.build),
        ("machine", &report.machine),
        ("cluster", &report.target),
    ] {
        let _ = write!(body, "<dt>{name}</dt><dd>{}</dd>", escape(value));
    }
    body.push_str("</dl>");
    for note in &report.notes {
        let _ = write!(body, "<p class=\"lead\">{}</p>", escape(note));
    }
    document(&format!("Drill {}", report.scenario), &body)
}

fn checks(body: &mut String, report: &DrillReport) {
    body.push_str(
        "<div class=\"wide\"><table><thead><tr><th></th><th>what</th><th>measured</th><th>budget</th></tr></thead><tbody>",
    );
    for check in &report.checks {
        let (class, sign) = if check.pass { ("ok", "&#10003;") } else { ("bad", "&#10007;") };
        let _ = write!(
            body,
            "<tr><td class=\"{class}\">{sign}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&check.name),
            escape(&check.measured),
            escape(check.budget.as_deref().unwrap_or("none"))
        );
    }
    body.push_str("</tbody></table></div>");
}

fn faults(body: &mut String, report: &DrillReport) {
    body.push_str(
        "<h2>The faults</h2><div class=\"wide\"><table><thead><tr><th class=\"n\">at</th><th class=\"n\">until</th><th>what</th>\
         <th class=\"n\">longest gap, hit</th><th class=\"n\">others</th></tr></thead><tbody>",
    );
    for (number, fault) in report.faults.iter().enumerate() {
        let longest = |is_hit: bool| {
            let of = report.gaps.iter().filter(|gap| gap.fault == number && gap.hit == is_hit);
            let longest = of.map(|gap| gap.ms).max_by(f64::total_cmp);
            longest.map_or_else(|| "none".to_owned(), |ms| format!("{ms:.0} ms"))
        };
        let end =
            fault.end_ms.map_or_else(|| "the end".to_owned(), |end| format!("{:.1} s", end / 1e3));
        let _ = write!(
            body,
            "<tr><td class=\"n\">{:.1} s</td><td class=\"n\">{end}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            fault.begin_ms / 1e3,
            escape(&fault.name),
            longest(true),
            longest(false)
        );
    }
    body.push_str("</tbody></table></div>");
}

/// Puts a body into a page.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body>{body}</body></html>\n",
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
