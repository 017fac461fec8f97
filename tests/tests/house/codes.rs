//! Every rejection code has a page, stands in the table, and every page has a code.

use std::collections::BTreeSet;

use statehouse_contract::{RejectionCode, rejection};

use super::place;

#[test]
fn every_rejection_code_has_a_page_that_names_status_and_advice() {
    let mut findings = Vec::new();
    for code in RejectionCode::ALL {
        let path = place::root().join(format!("runbooks/operate/errors/{code}.md"));
        match std::fs::read_to_string(&path) {
            Err(_) => {
                findings.push(format!("{code}: runbooks/operate/errors/{code}.md is missing"))
            }
            Ok(text) => {
                let needs = [
                    format!("# `{code}`"),
                    code.status().to_string(),
                    code.advice().text().to_owned(),
                ];
                findings.extend(
                    needs
                        .iter()
                        .filter(|need| !text.contains(*need))
                        .map(|need| format!("{code}: the page does not say {need:?}")),
                );
                for part in ["## What happened", "## What to do"] {
                    if !text.contains(part) {
                        findings.push(format!("{code}: the page has no {part:?}"));
                    }
                }
            }
        }
    }
    place::none(findings);
}

#[test]
fn every_page_belongs_to_a_code() {
    let codes: BTreeSet<&str> = RejectionCode::ALL.iter().map(|code| code.code()).collect();
    let extra = place::files("runbooks/operate/errors", "md")
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "README" && !codes.contains(name.as_str()))
        .collect();
    place::none(extra);
}

#[test]
fn the_table_of_codes_is_the_one_in_the_code() {
    let page = place::root().join("runbooks/operate/errors/README.md");
    let text = place::read(&page);
    let table = rejection::table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !text.contains(&table) {
        let head = text.split("| code |").next().unwrap();
        std::fs::write(&page, format!("{head}{table}")).unwrap();
        return;
    }
    assert!(text.contains(&table), "run with UPDATE_GOLDEN=1 and read the difference:\n{table}");
}
