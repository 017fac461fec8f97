//! What is drawn and written of reports that were made up: nothing unescaped, nothing lost, nothing that breaks on little.

use statehouse_judge::{Demands, History, judge};

use super::*;

fn report(name: &str) -> DrillReport {
    let verdict = judge(&History::parse(String::new()), &Demands::LEAST);
    DrillReport {
        format: FORMAT,
        scenario: name.to_owned(),
        about: "it <breaks> & \"heals\"".to_owned(),
        seed: 7,
        target: "processes".to_owned(),
        begun: "2026-01-01T00:00:00.000Z".to_owned(),
        build: "1".to_owned(),
        machine: "2 cores".to_owned(),
        repeat: "statehouse drill run x --seed 7".to_owned(),
        pass: false,
        checks: vec![Check {
            name: "median".to_owned(),
            budget: None,
            measured: "12 <ms>".to_owned(),
            pass: true,
        }],
        verdict,
        faults: vec![Window {
            name: "kill <1>".to_owned(),
            begin_ms: 100.0,
            end_ms: None,
            nodes: vec![1],
            shards: vec![0],
        }],
        gaps: vec![FaultGap { fault: 0, shard: 0, hit: true, from_ms: 90.0, ms: 700.0 }],
        series: vec![Bucket {
            at_ms: 0.0,
            ok: 3,
            p50_ms: 2.0,
            p99_ms: 5.0,
            max_ms: 5.0,
            ..Bucket::default()
        }],
        shards: 2,
        notes: Vec::new(),
    }
}

/// A report in which every text wants to be markup.
fn hostile() -> DrillReport {
    let mut report = report("<b>&'\"");
    let bad = || "<script>alert(1)</script>".to_owned();
    (report.about, report.target, report.begun) = (bad(), bad(), bad());
    (report.build, report.machine, report.repeat) = (bad(), bad(), bad());
    report.faults[0].name = bad();
    report.checks = vec![Check { name: bad(), budget: Some(bad()), measured: bad(), pass: false }];
    report.notes.push(bad());
    report
}

#[test]
fn a_page_escapes_what_it_shows_and_says_the_result_in_words() {
    let page = to_html(&report("leader-kill"));
    assert!(page.contains("it &lt;breaks&gt; &amp; &quot;heals&quot;"));
    assert!(page.contains("kill &lt;1&gt;"));
    assert!(page.contains("&#10007; FAIL") && page.contains("UNDECIDED"));
    assert!(page.contains("<title>FAIL leader-kill</title>") && page.contains("700 ms"));
    for page in [to_html(&hostile()), index_html(&[hostile()])] {
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    }
}

#[test]
fn every_element_that_is_opened_is_closed() {
    let reports = [report("one"), hostile()];
    for page in [to_html(&reports[0]), to_html(&reports[1]), index_html(&reports)] {
        for name in ["svg", "figure", "table", "tr", "td", "th", "p", "dl", "dd", "ul", "li", "pre"]
        {
            let opened = page.matches(&format!("<{name}>")).count();
            let opened = opened + page.matches(&format!("<{name} ")).count();
            assert_eq!(opened, page.matches(&format!("</{name}>")).count(), "{name}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf\""));
    }
}

#[test]
fn a_report_without_anything_is_still_a_page() {
    let mut empty = report("nothing");
    (empty.faults, empty.gaps, empty.series, empty.checks) = Default::default();
    (empty.shards, empty.pass) = (0, true);
    let page = to_html(&empty);
    assert_eq!(page.matches("<figure").count(), 3, "no histogram of nothing");
    assert!(page.contains("none was made") && !page.contains("NaN"));
    assert!(to_text(&empty).ends_with("PASS\n"));
}

#[test]
fn a_fault_without_end_lasts_until_the_end() {
    let page = to_html(&report("endless"));
    assert!(page.contains("<td class=\"n\">0.1 s</td><td class=\"n\">the end</td>"));
    // It begins at 100 of 1,000 ms of a drawing whose time axis goes from 66 to 856.
    assert!(page.contains("class=\"fault\" x=\"145.0\" y=\"24\" width=\"711.0\""), "{page}");
}

#[test]
fn a_histogram_shows_median_p99_and_budgets() {
    let mut report = report("leader-kill");
    let check = |of: &str, budget: &str| Check {
        name: format!("shards that were hit, no acknowledged command: {of} (1 gaps)"),
        budget: Some(budget.to_owned()),
        measured: "700 ms".to_owned(),
        pass: true,
    };
    report.checks = vec![check("median", "1000 ms"), check("p99", "2000 ms")];
    let page = to_html(&report);
    for text in ["median 700 ms", "p99 700 ms", "budget, median: 1 s", "budget, p99: 2 s"] {
        assert!(page.contains(text), "{text}");
    }
    report.checks = vec![check("median", "5000 ms"), check("p99", "5000 ms")];
    assert!(to_html(&report).contains("budget, median and p99: 5 s"));
}

#[test]
fn the_text_ends_with_the_result_and_names_the_longest_gaps() {
    let text = to_text(&report("leader-kill"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1..3], ["leader-kill: it <breaks> & \"heals\"", "seed 7, 1 fault, 2 cores"]);
    let gaps = lines.iter().position(|line| line.starts_with("no acknowledged")).unwrap();
    assert_eq!(
        lines[gaps..gaps + 3],
        [
            "no acknowledged command, shards that were hit: 1 gap, ms: median 700, p90 700, p99 700, longest 700",
            "  below  800 ms      1  #",
            "  long: 700 ms, shard 0, from 0.090 s, fault 1: kill <1>",
        ]
    );
    assert!(text.contains("\nok   median: 12 <ms>\n") && text.contains("\nUNDECIDED\n"));
    assert!(text.ends_with("repeat: statehouse drill run x --seed 7\nFAIL\n"), "{text}");
}

#[test]
fn what_was_saved_is_loaded_and_a_broken_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (report("one"), report("two"));
    save(&one, &folder.path().join("one-7")).unwrap();
    save(&two, &folder.path().join("two-7")).unwrap();
    fs::create_dir(folder.path().join("no-report")).unwrap();
    fs::write(folder.path().join("table.html"), "").unwrap();
    assert_eq!(load(folder.path()).unwrap(), [one.clone(), two]);
    assert_eq!(
        load(&folder.path().join("one-7")).unwrap(),
        std::slice::from_ref(&one),
        "its own directory"
    );
    fs::write(folder.path().join("one-7/report.json"), "{").unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("one-7/report.json"), "{error}");
    save(&DrillReport { format: FORMAT + 1, ..one }, &folder.path().join("one-7")).unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("one-7/report.json: form 1 expected, 2 found"), "{error}");
}

#[test]
fn a_table_has_a_line_for_each_and_links_to_its_page() {
    let mut odd = report("two");
    odd.repeat = "a | b".to_owned();
    odd.checks = vec![Check {
        name: "p|q".to_owned(),
        budget: Some("5 ms".to_owned()),
        measured: "7 ms\nand more".to_owned(),
        pass: false,
    }];
    let both = [report("one"), odd];
    let page = index_html(&both);
    assert!(page.contains("href=\"two-7/index.html\"") && page.contains("0 of 2 pass"));
    assert!(
        page.contains(
            "<td class=\"what\">p|q</td><td class=\"short\">7 ms</td><td class=\"short\">5 ms</td>"
        ),
        "{page}"
    );
    assert!(page.contains("1 fault, seed 7") && page.contains("drill run x --seed 7"));
    let table = index_markdown(&both);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[2..],
        [
            "| [one](one-7/index.html) | 1 |  | UNDECIDED | **FAIL** | 7 | `statehouse drill run x --seed 7` |",
            "| [two](two-7/index.html) | 1 | **missed** p\\|q: 7 ms (5 ms) | UNDECIDED | **FAIL** | 7 | `a \\| b` |",
        ]
    );
}
