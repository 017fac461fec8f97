//! Pages that lead somewhere: every relative link exists, and nothing names the place where we build.

use std::path::Path;

use super::place;

/// The targets of Markdown links that are neither addresses nor anchors.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        if code {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or("").split('#').next().unwrap_or("");
            if !target.is_empty() && !target.contains("://") && !target.starts_with('/') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

fn pages() -> Vec<std::path::PathBuf> {
    let mut pages = place::files("runbooks", "md");
    pages.push(place::root().join("README.md"));
    pages
}

#[test]
fn every_link_leads_to_a_page() {
    let mut findings = Vec::new();
    for page in pages() {
        let folder = page.parent().unwrap_or_else(|| Path::new("."));
        for target in links(&place::read(&page)) {
            if !folder.join(&target).exists() {
                findings.push(format!("{}: {target} does not exist", place::short(&page)));
            }
        }
    }
    place::none(findings);
    assert_eq!(links("see [a](b.md#c) and [d](https://e.f)"), ["b.md"]);
}

#[test]
fn the_develop_pages_and_first_decisions_are_there() {
    let wanted = [
        "develop/house.md",
        "develop/style.md",
        "develop/glossary.md",
        "develop/contract.md",
        "develop/chart.md",
    ];
    let missing = wanted
        .iter()
        .filter(|name| !place::root().join("runbooks").join(name).exists())
        .map(|name| (*name).to_owned());
    place::none(missing.collect());
    assert!(
        place::files("runbooks/decisions", "md").len() >= 8,
        "the first eight decisions have a page each"
    );
}
