//! An arrow points down, and each framework has one home (house, section 3).

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

use super::place;

/// A crate and what it may import of ours. `contract` may be imported by everyone above it.
const ARROWS: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("judge", &[]),
    ("chart", &["contract"]),
    ("store", &["contract", "chart"]),
    ("telemetry", &["contract"]),
    ("log", &["contract", "store", "telemetry"]),
    ("sdk", &["contract", "telemetry"]),
    ("runtime", &["contract", "chart", "store", "log", "telemetry"]),
    ("cluster", &["contract", "log", "runtime", "telemetry"]),
    ("lab", &["contract", "judge", "sdk"]),
    ("statehouse", &["contract", "chart", "cluster", "telemetry", "sdk", "lab", "judge"]),
];

/// A framework and the crates that may name it. `tests` may name anything.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["statehouse"]),
    ("bincode", &["contract", "chart", "store", "log", "cluster"]),
    ("cel", &["chart"]),
    ("clap", &["statehouse"]),
    ("comfy-table", &["statehouse"]),
    ("config", &["statehouse"]),
    ("hdrhistogram", &["lab"]),
    ("hyper", &["statehouse"]),
    ("moka", &["runtime"]),
    ("openraft", &["log"]),
    // The SDK makes its workers' spans with the API alone: what sends them is the choice of whoever writes a worker.
    ("opentelemetry", &["telemetry", "sdk"]),
    ("opentelemetry-otlp", &["telemetry"]),
    ("opentelemetry-prometheus", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("prometheus", &["telemetry"]),
    ("ractor", &["runtime", "cluster"]),
    ("ractor_cluster", &["cluster"]),
    // The client of our own API, and the built-in kind `http`, which calls other people's.
    ("reqwest", &["sdk", "statehouse"]),
    ("rusqlite", &["store"]),
    ("serde-saphyr", &["chart", "statehouse"]),
    ("tokio", &["log", "sdk", "runtime", "cluster", "lab", "statehouse"]),
    ("tracing", &["store", "telemetry", "log", "sdk", "runtime", "cluster", "lab", "statehouse"]),
    ("tracing-opentelemetry", &["telemetry"]),
    ("tracing-subscriber", &["telemetry"]),
    ("utoipa", &["statehouse"]),
];

/// Edges of the workspace: crate (without prefix) to the names of what it depends on in a build.
type Edges = BTreeMap<String, BTreeSet<String>>;

fn bare(name: &str) -> &str {
    name.strip_prefix("statehouse-").unwrap_or(name)
}

fn edges() -> Edges {
    let metadata = MetadataCommand::new()
        .manifest_path(place::root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .unwrap();
    let packages = metadata.workspace_packages();
    packages
        .iter()
        .map(|package| {
            let needs =
                package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
            (bare(&package.name).to_owned(), needs.map(|d| d.name.clone()).collect())
        })
        .collect()
}

fn wrong_arrows(edges: &Edges) -> Vec<String> {
    let mut findings = Vec::new();
    for (from, needs) in edges.iter().filter(|(from, _)| *from != "tests") {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == from) else {
            findings.push(format!("{from}: a room that the house does not have"));
            continue;
        };
        for to in needs.iter().filter(|name| name.starts_with("statehouse-")) {
            if !allowed.contains(&bare(to)) {
                findings.push(format!("{from} -> {}: this arrow is not in the house", bare(to)));
            }
        }
    }
    findings
}

fn wrong_homes(edges: &Edges) -> Vec<String> {
    let mut findings = Vec::new();
    for (from, needs) in edges.iter().filter(|(from, _)| *from != "tests") {
        for (framework, homes) in HOMES {
            if needs.contains(*framework) && !homes.contains(&from.as_str()) {
                findings.push(format!(
                    "{from} imports {framework}, whose home is {}",
                    homes.join(", ")
                ));
            }
        }
    }
    findings
}

#[test]
fn every_arrow_points_down() {
    place::none(wrong_arrows(&edges()));
}

#[test]
fn every_framework_stays_at_home() {
    place::none(wrong_homes(&edges()));
}

#[test]
fn a_forbidden_arrow_is_found() {
    let wrong = Edges::from([
        ("chart".to_owned(), BTreeSet::from(["statehouse-store".to_owned(), "serde".to_owned()])),
        ("attic".to_owned(), BTreeSet::new()),
    ]);
    assert_eq!(
        wrong_arrows(&wrong),
        [
            "attic: a room that the house does not have",
            "chart -> store: this arrow is not in the house"
        ]
    );
}

#[test]
fn a_framework_away_from_home_is_found() {
    let wrong = Edges::from([("store".to_owned(), BTreeSet::from(["tokio".to_owned()]))]);
    assert_eq!(wrong_homes(&wrong).len(), 1);
}

/// bincode's traits may stand wherever a type crosses the codec; its functions only in the codec.
fn wrong_codec(path: &str, text: &str) -> Vec<String> {
    let calls = ["bincode::encode", "bincode::decode", "bincode::borrow_decode", "bincode::config"];
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    text.lines()
        .enumerate()
        .filter(|(_, line)| !is_comment(line) && calls.iter().any(|call| line.contains(call)))
        .map(|(number, _)| {
            format!("{path}:{}: only contract/src/codec.rs calls bincode", number + 1)
        })
        .collect()
}

#[test]
fn only_the_codec_calls_bincode() {
    let findings = place::files("crates", "rs")
        .iter()
        .filter(|path| !path.ends_with("contract/src/codec.rs"))
        .flat_map(|path| wrong_codec(&place::short(path), &place::read(path)))
        .collect();
    place::none(findings);
    assert_eq!(wrong_codec("x.rs", "let b = bincode::encode_to_vec(v, c);").len(), 1);
}

/// The lines of a `.clippy.toml` that ban something.
fn bans(text: &str) -> BTreeSet<&str> {
    text.lines().filter(|line| line.trim_start().starts_with('{')).map(str::trim).collect()
}

#[test]
fn a_pure_crate_repeats_the_bans_of_the_root() {
    let root = place::read(&place::root().join(".clippy.toml"));
    for name in ["contract", "chart", "store", "judge"] {
        let own = place::read(&place::root().join(format!("crates/{name}/.clippy.toml")));
        let missing: Vec<_> =
            bans(&root).difference(&bans(&own)).copied().map(str::to_owned).collect();
        place::none(missing);
        assert!(own.contains("SystemTime::now") && own.contains("Instant::now"), "{name}");
    }
}
