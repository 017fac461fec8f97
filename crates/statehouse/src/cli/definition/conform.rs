//! `statehouse definition conform`: runs a folder of cases and counts.
//!
//! One line a failing case, then `N passed, M failed` alone on a line. Any folder in the format of the carried
//! cases will do; files that are not `*.json` (a README, a NOTICE) are passed over.
//!
//! Deliberately absent: validation. A case says what a chart does, not whether it is a good one.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::{
    exit::{Exit, Failure},
    output::Output,
};

/// Runs every case of a folder.
pub(super) fn run(folder: &Path, output: Output) -> Result<Exit, Failure> {
    let files = files(folder)?;
    if files.is_empty() {
        return Err(Failure::usage(
            format!("{} holds no *.json files", folder.display()),
            "give a folder of conformance cases",
        ));
    }
    let mut failures = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let outcome = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot be read: {error}"))
            .and_then(|text| statehouse_chart::conform::run_case(&text));
        if let Err(why) = outcome {
            failures.push((name, why));
        }
    }
    let passed = files.len() - failures.len();
    let document = json!({
        "passed": passed,
        "failed": failures.iter().map(|(name, why)| json!({"case": name, "why": why})).collect::<Vec<_>>(),
    });
    output.show(&document, |_| {
        // One line each, whatever the reason holds.
        let mut lines: Vec<String> = failures
            .iter()
            .map(|(name, why)| format!("{name}: {}", why.replace('\n', "; ")))
            .collect();
        lines.push(format!("{passed} passed, {} failed", failures.len()));
        lines.join("\n")
    })?;
    Ok(if failures.is_empty() { Exit::Ok } else { Exit::Rejected })
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::file("read the folder", folder, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
