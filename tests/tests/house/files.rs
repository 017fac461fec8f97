//! Files of a size that one can know, each opened by a page of prose (style, sections 1 and 2).

use super::place;

/// Lines at which a file is too long. From 400 on it is named as a warning.
const LINES_MAX: usize = 600;
/// Lines of prose at the top of a source file.
const PAGE_LINES_MIN: usize = 3;

fn wrong_length(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LINES_MAX).then(|| format!("{path}: {lines} lines, at most {LINES_MAX}"))
}

/// Returns whether a file holds nothing but tests.
fn is_tests(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs")
}

fn wrong_page(path: &str, text: &str) -> Option<String> {
    // A file of tests says what is tried; the tests' names say the rest.
    let least = if is_tests(path) { 1 } else { PAGE_LINES_MIN };
    let page = text.lines().take_while(|line| line.starts_with("//!")).count();
    (page < least).then(|| format!("{path}: opens with {page} lines of `//!`, at least {least}"))
}

/// Words that say "not finished" or "looks away".
fn wrong_words(path: &str, text: &str) -> Vec<String> {
    let words = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ig", "nore"),
        concat!("#[should", "_panic"),
    ];
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in words.iter().filter(|word| line.contains(**word)) {
            findings.push(format!("{path}:{}: {word}", number + 1));
        }
    }
    findings
}

fn all() -> Vec<(String, String)> {
    let mut paths = place::files("crates", "rs");
    paths.extend(place::files("tests", "rs"));
    paths.iter().map(|path| (place::short(path), place::read(path))).collect()
}

#[test]
fn no_file_is_too_long_to_know() {
    let files = all();
    for (path, text) in &files {
        let lines = text.lines().count();
        if lines > 400 {
            println!("warning: {path} has {lines} lines; from {LINES_MAX} on this fails");
        }
    }
    place::none(files.iter().filter_map(|(path, text)| wrong_length(path, text)).collect());
    assert!(wrong_length("x.rs", &"line\n".repeat(LINES_MAX + 1)).is_some());
}

#[test]
fn every_source_file_opens_with_its_page() {
    let files = all();
    let pages =
        files.iter().filter(|(path, _)| path.contains("/src/") || path.starts_with("tests/"));
    place::none(pages.filter_map(|(path, text)| wrong_page(path, text)).collect());
    assert!(wrong_page("x.rs", "//! One line.\nfn f() {}").is_some());
}

#[test]
fn nothing_is_unfinished_and_no_test_looks_away() {
    place::none(all().iter().flat_map(|(path, text)| wrong_words(path, text)).collect());
    assert_eq!(wrong_words("x.rs", concat!("    todo", "!()")).len(), 1);
}

#[test]
fn the_top_level_holds_what_the_plot_says() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "crates",
        "config",
        "deploy",
        "tests",
        "runbooks",
        "README.md",
        "rust-toolchain.toml",
    ];
    let extra: Vec<String> = std::fs::read_dir(place::root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !name.starts_with("LICENSE"))
        .filter(|name| !allowed.contains(&name.as_str()))
        // What a build and a run leave behind; both are ignored by git.
        .filter(|name| name != "target" && name != "statehouse-data")
        .collect();
    place::none(extra);
}
