//! The page of rules is true: what it names as a keeper is there, and what it names as a test is one.

use std::collections::BTreeSet;

use super::place;

/// The parts of a line between backticks.
fn spans(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

/// The rows of a page's tables of three columns: rule, keepers, tests.
fn rows(page: &str) -> Vec<(String, Vec<String>, Vec<String>)> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule |"));
    let cells = lines.map(|line| line.trim_matches('|').split(" | ").collect::<Vec<_>>());
    let threes = cells.filter(|cells| cells.len() == 3);
    threes.map(|cells| (cells[0].trim().to_owned(), spans(cells[1]), spans(cells[2]))).collect()
}

/// The names of functions that stand right behind an attribute that makes them tests.
fn tests_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = line.split("fn ").nth(1).filter(|_| is_test) {
            found.extend(name.split('(').next().map(ToOwned::to_owned));
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    found
}

fn wrong(page: &str, tests: &BTreeSet<String>, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for (rule, keepers, names) in rows(page) {
        if keepers.is_empty() || names.is_empty() {
            findings.push(format!("{rule}: nobody keeps it, or nothing shows it"));
        }
        for keeper in keepers.iter().filter(|keeper| !exists(keeper)) {
            findings.push(format!("{rule}: {keeper} does not exist"));
        }
        for name in names.iter().filter(|name| !tests.contains(*name)) {
            findings.push(format!("{rule}: {name} is no test"));
        }
    }
    findings
}

#[test]
fn every_rule_names_who_keeps_it_and_a_test_that_is_there() {
    let mut files = place::files("crates", "rs");
    files.extend(place::files("tests", "rs"));
    let tests: BTreeSet<String> =
        files.iter().flat_map(|path| tests_in(&place::read(path))).collect();
    let page = place::read(&place::root().join("runbooks/develop/rules.md"));
    assert!(rows(&page).len() >= 80, "{} rows were found", rows(&page).len());
    place::none(wrong(&page, &tests, |keeper| place::root().join(keeper).is_file()));
}

#[test]
fn a_page_of_rules_that_lies_is_found() {
    let tests =
        tests_in("#[test]\nfn shown() {}\n#[tokio::test]\nasync fn seen() {}\nfn helper() {}");
    assert_eq!(tests, ["shown", "seen"]);
    let tests = tests.into_iter().collect();
    let says = |row: &str| wrong(&format!("{row}\n"), &tests, |keeper| keeper == "a.rs");
    assert_eq!(says("| it holds | `a.rs` | `shown`, `seen` |"), [""; 0]);
    assert_eq!(says("| it holds | `a.rs` | `helper` |"), ["it holds: helper is no test"]);
    assert_eq!(says("| it holds | `b.rs` | `shown` |"), ["it holds: b.rs does not exist"]);
    assert_eq!(says("| it holds | `a.rs` | none |").len(), 1);
}
