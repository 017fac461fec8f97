//! Broken definitions, one trap a file, each with the findings it must give and their places.
//!
//! A file says what it expects in its own comments: `# expect: code /pointer line:column`, one line a finding, and with
//! `# earlier: file` which earlier version it follows. JSON knows no comments; such a file has them in a neighbour with
//! `.expect` at the end of its name. Findings are compared whole: a file that gives one more than expected fails too.
#![allow(clippy::unwrap_used, reason = "a test says what it does")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use statehouse_chart::{
    Chart, Finding, FindingCode, Severity, Source,
    load::{load, load_bytes},
    validate::{validate_bytes, validate_with},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

struct Broken {
    name: String,
    bytes: Vec<u8>,
    expected: Vec<String>,
    earlier: Option<PathBuf>,
}

/// Reads every broken file, in the order of their names.
fn files() -> Vec<Broken> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension().is_some_and(|extension| extension == "yaml" || extension == "json")
    });
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Broken {
    let bytes = fs::read(path).unwrap();
    let neighbour = path.with_extension("json.expect");
    let notes = if path.extension().is_some_and(|extension| extension == "json") {
        fs::read_to_string(neighbour).unwrap()
    } else {
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let said = |what: &str| -> Vec<String> {
        notes
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("# {what}: ")))
            .map(str::to_owned)
            .collect()
    };
    Broken {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        bytes,
        expected: said("expect"),
        earlier: said("earlier").first().map(|file| folder().join("earlier").join(file)),
    }
}

fn findings(broken: &Broken) -> Vec<Finding> {
    let Some(path) = &broken.earlier else { return validate_bytes(&broken.bytes).findings };
    let earlier = load(&fs::read_to_string(path).unwrap()).unwrap();
    let (earlier, troubles) = Source::parse(&earlier);
    assert_eq!(troubles, [], "{}", path.display());
    validate_with(&load_bytes(&broken.bytes).unwrap(), &[earlier.unwrap()]).findings
}

/// Prints a finding as a file expects it.
fn told(finding: &Finding) -> String {
    let pointer = if finding.pointer.is_empty() { "/" } else { &finding.pointer };
    format!("{} {pointer} {}", finding.code, finding.place)
}

#[test]
fn every_broken_file_gives_its_findings_at_their_places_and_no_others() {
    let files = files();
    assert!(files.len() >= 100, "{} files", files.len());
    let mut wrong = Vec::new();
    for broken in &files {
        let found: Vec<String> = findings(broken).iter().map(told).collect();
        if found != broken.expected || found.is_empty() {
            wrong.push(format!(
                "{}\n  expected {:?}\n  found    {found:?}",
                broken.name, broken.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_is_given_by_some_broken_file() {
    let mut given: BTreeSet<FindingCode> =
        files().iter().flat_map(findings).map(|finding| finding.code).collect();
    // Too large to be kept as a file.
    let large = format!("description: \"{}\"\n", "x".repeat(300 * 1024));
    given.extend(validate_bytes(large.as_bytes()).findings.iter().map(|finding| finding.code));
    let missing: Vec<&str> = FindingCode::ALL
        .iter()
        .filter(|code| !given.contains(code))
        .map(|code| code.name())
        .collect();
    assert!(missing.is_empty(), "no file gives {missing:?}");
}

#[test]
fn every_finding_says_what_is_wrong_and_what_to_do() {
    for broken in files() {
        for finding in findings(&broken) {
            assert!(!finding.message.is_empty(), "{}: {finding}", broken.name);
            assert!(!finding.advice.is_empty(), "{}: {finding}", broken.name);
            assert_eq!(finding.severity, finding.code.severity(), "{}", broken.name);
        }
    }
}

#[test]
fn the_worked_examples_give_no_error_and_few_warnings() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/definitions");
    let paths: Vec<PathBuf> =
        fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(paths.len() >= 3);
    for path in paths {
        let report = validate_bytes(&fs::read(&path).unwrap());
        assert!(!report.has_errors(), "{}\n{report}", path.display());
        // Types of tasks that are not declared, and states of which a client is the only clock.
        let allowed = [FindingCode::UntypedValue, FindingCode::RestsWithoutDeadline];
        for finding in
            report.findings.iter().filter(|finding| finding.severity == Severity::Warning)
        {
            assert!(allowed.contains(&finding.code), "{}: {finding}", path.display());
        }
        assert!(!report.table.is_empty(), "{}", path.display());
    }
}

#[test]
fn a_report_reads_like_this() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bytes = fs::read(golden.join("report.yaml")).unwrap();
    let report = validate_bytes(&bytes);
    let rows: String = report.table.iter().map(|row| format!("{row}\n")).collect();
    let text = format!("{report}\n{rows}");
    let path = golden.join("report.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        text,
        fs::read_to_string(&path).unwrap(),
        "UPDATE_GOLDEN=1 writes it anew; read the difference"
    );
}

#[test]
fn what_gives_no_error_compiles() {
    let mut compiled = 0;
    for broken in files().iter().filter(|broken| broken.earlier.is_none()) {
        let report = validate_bytes(&broken.bytes);
        if !report.has_errors() {
            let source = report.source.unwrap();
            let chart = Chart::compile(&source);
            assert!(chart.is_ok(), "{}: {:?}", broken.name, chart.err());
            compiled += 1;
        }
    }
    assert!(compiled > 20, "{compiled}");
}
