//! The conformance cases that the project carries, and any further folders that `STATEHOUSE_CASES` names.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it does")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use statehouse_chart::conform::run_case;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name)
}

/// Runs every case of a folder; fails with one line for each that does not pass.
fn run_folder(folder: &Path, at_least: usize) {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(files.len() >= at_least, "{} has only {} cases", folder.display(), files.len());
    let failed: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let why = run_case(&fs::read_to_string(path).unwrap()).err()?;
            Some(format!("{}: {why}", path.file_name().unwrap().to_string_lossy()))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), files.len(), failed.join("\n"));
}

#[test]
fn the_cases_of_the_scxml_suites_pass() {
    run_folder(&folder("scion"), 110);
}

#[test]
fn our_own_cases_pass() {
    run_folder(&folder("own"), 19);
}

#[test]
fn the_cases_of_further_folders_pass() {
    let Ok(folders) = std::env::var("STATEHOUSE_CASES") else { return };
    for further in std::env::split_paths(&folders) {
        run_folder(&further, 1);
    }
}
