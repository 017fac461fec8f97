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

#[test]
fn a_page_escapes_what_it_shows_and_says_the_result_in_words() {
    let page = to_html(&report("leader-kill"));
    assert!(
        page.contains("it &lt;breaks&gt; &amp; &quot;heals&quot;")
            && page.contains("kill &lt;1&gt;")
    );
    assert!(!page.contains("<breaks>") && !page.contains("<1>") && !page.contains("<script"));
    assert!(page.contains("FAIL") && page.contains("UNDECIDED") && page.contains("700 ms"));
    assert_eq!(page.matches("<svg").count(), 4);
}

#[test]
fn a_report_without_anything_is_still_a_page() {
    let mut empty = report("nothing");
    (empty.faults, empty.gaps, empty.series, empty.checks) = Default::default();
    assert_eq!(to_html(&empty).matches("<svg").count(), 3, "no histogram of nothing");
    assert!(to_text(&empty).ends_with("FAIL\n"));
}

#[test]
fn what_was_saved_is_loaded_and_a_broken_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let one = report("one");
    save(&one, &folder.path().join("one-7")).unwrap();
    fs::create_dir(folder.path().join("no-report")).unwrap();
    assert_eq!(load(folder.path()).unwrap(), [one]);
    fs::write(folder.path().join("one-7/report.json"), "{").unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("one-7/report.json"), "{error}");
}

#[test]
fn a_table_has_a_line_for_each_and_links_to_its_page() {
    let both = [report("one"), report("two")];
    let page = index_html(&both);
    assert!(page.contains("href=\"two-7/index.html\"") && page.contains("0 of 2 pass"));
    let table = index_markdown(&both);
    assert_eq!(table.lines().count(), 4);
    assert!(
        table.contains("| `one` | 1 | hit: median 700, longest 700 ms | UNDECIDED | FAIL | 7 |"),
        "{table}"
    );
}
