//! What is looked at from outside exists: every metric that a dashboard, an alert or a page names is one that the binary
//! exports, every alert has its page, and what a running node exports is in the list.
//!
//! Absent on purpose: whether a rule fires; `promtool test rules` shows that, with made-up numbers.
#![allow(clippy::unwrap_used, reason = "a test stops, and says why")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use statehouse_tests::{binary::binary, stage::Stage};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every name that the binary says it exports, as Prometheus has it.
fn listed() -> BTreeSet<String> {
    let told = Command::new(binary()).args(["-o", "json", "metrics", "--list"]).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let mut names = BTreeSet::new();
    for item in told["items"].as_array().unwrap() {
        let name = item["name"].as_str().unwrap().to_owned();
        if item["kind"] == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
        }
        names.insert(name);
    }
    names
}

/// Every word of a text that looks like one of our metrics.
fn named(text: &str) -> BTreeSet<String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_letter(letter));
    words.filter(|word| word.starts_with("statehouse_")).map(str::to_owned).collect()
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

#[test]
fn every_metric_that_is_looked_at_is_exported() {
    let listed = listed();
    let mut looked_at = Vec::new();
    files(&root().join("deploy/observability"), &mut looked_at);
    for page in ["alerts.md", "observability.md", "capacity.md"] {
        looked_at.push(root().join("runbooks/operate").join(page));
    }
    let mut found = 0;
    for path in looked_at {
        for name in named(&fs::read_to_string(&path).unwrap()) {
            assert!(listed.contains(&name), "{}: {name} is exported by nobody", path.display());
            found += 1;
        }
    }
    assert!(found > 50, "only {found} names were found");
}

#[test]
fn every_alert_has_its_page_and_its_test() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let rules = read("deploy/observability/rules.yaml");
    let (tests, page) =
        (read("deploy/observability/rules_test.yaml"), read("runbooks/operate/alerts.md"));
    let after = |line: &str, word: &str| {
        line.trim().strip_prefix(word).map(|rest| rest.trim_matches([' ', '"']).to_owned())
    };
    let alerts: Vec<String> = rules.lines().filter_map(|line| after(line, "- alert:")).collect();
    assert!(alerts.len() >= 20, "{alerts:?}");
    for alert in &alerts {
        assert!(
            tests.contains(&format!("alertname: {alert}\n")),
            "{alert} has no test that it fires"
        );
        assert!(
            tests.contains(&format!("alertname: {alert}, ")),
            "{alert} has no test that it is silent"
        );
        assert!(page.contains(&format!("`{alert}`")), "{alert} is on no page");
    }
    for link in rules.lines().filter_map(|line| after(line, "runbook:")) {
        let (path, place) = link.split_once('#').unwrap();
        let heading = |line: &str| {
            let title = line.strip_prefix("## ")?.to_ascii_lowercase();
            Some(title.replace(' ', "-"))
        };
        let is_there = read(path).lines().filter_map(heading).any(|found| found == place);
        assert!(is_there, "{link} leads nowhere");
    }
}

#[test]
fn what_a_node_exports_is_in_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path()).unwrap();
    assert_eq!(stage.start_sample("a-1").status, 201);
    let text = stage.ask("GET /metrics", "", "").body;
    let listed = listed();
    let exported: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    for name in &exported {
        assert!(listed.contains(*name), "{name} is exported and not listed");
    }
    for name in
        ["statehouse_shards_led", "statehouse_log_write_duration_seconds", "statehouse_slo_burn"]
    {
        assert!(exported.contains(name), "{name} is not exported: {exported:?}");
    }
}
