//! Mutated definitions: whatever is done to a text, the validator answers, and what it lets pass compiles.
//!
//! Each round takes a worked example or a broken file and changes a few lines of it: drops, repeats, swaps, moves them
//! left or right, or puts another word in. The seed is printed; a failing round is repeated with `STATEHOUSE_SEED`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it does")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use statehouse_chart::{Chart, load::load_bytes, render, validate::validate_bytes};

const ROUNDS: u64 = 300;

/// Words that mean something somewhere.
const WORDS: [&str; 24] = [
    "null",
    "true",
    "on",
    "[]",
    "{}",
    "{target: a}",
    "parallel",
    "final",
    "history",
    "\"#a\"",
    "\".a\"",
    "0",
    "-1",
    "1.5",
    "1h",
    "\"${context}\"",
    "\"${event.data.x}\"",
    "\"${1/0}\"",
    "none",
    "\"*\"",
    "always:",
    "invoke:",
    "{$ref: \"#/schemas/a\"}",
    "\"saga:compensate\"",
];

/// A small generator of numbers: the same seed gives the same rounds.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }
}

/// Returns the definitions of some folders, in the order of their names.
fn texts(folders: &[&str]) -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = Vec::new();
    for folder in folders {
        paths.extend(
            fs::read_dir(manifest.join(folder)).unwrap().map(|entry| entry.unwrap().path()),
        );
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn mutate(text: &str, chance: &mut Chance) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=chance.next(2) {
        if lines.is_empty() {
            break;
        }
        let at = chance.next(lines.len());
        match chance.next(6) {
            0 => {
                lines.remove(at);
            }
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = chance.next(lines.len());
                lines.swap(at, other);
            }
            3 => lines[at].insert_str(0, "  "),
            4 => lines[at] = lines[at].strip_prefix("  ").unwrap_or(&lines[at]).to_owned(),
            _ => {
                let word = WORDS[chance.next(WORDS.len())];
                let words: Vec<&str> = lines[at].split(' ').collect();
                let replaced = chance.next(words.len());
                let changed: Vec<&str> = words
                    .iter()
                    .enumerate()
                    .map(|(n, old)| if n == replaced { word } else { old })
                    .collect();
                lines[at] = changed.join(" ");
            }
        }
    }
    lines.join("\n")
}

#[test]
fn whatever_is_done_to_a_definition_it_is_answered_and_what_passes_compiles() {
    let seed = std::env::var("STATEHOUSE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_260_101);
    println!("seed {seed}");
    let mut chance = Chance(seed);
    // Most rounds begin with a correct definition, because what is broken twice seldom passes.
    let pools = [texts(&["../../config/definitions", "tests/golden"]), texts(&["tests/broken"])];
    let mut passed = 0;
    for round in 0..ROUNDS {
        let pool = &pools[usize::from(chance.next(4) == 0)];
        let text = mutate(&pool[chance.next(pool.len())], &mut chance);
        let report = validate_bytes(text.as_bytes());
        let again = validate_bytes(text.as_bytes());
        assert_eq!(report.to_string(), again.to_string(), "round {round} of seed {seed}\n{text}");
        let Some(source) = &report.source else { continue };
        let pictures = [render::mermaid(source), render::dot(source)];
        assert!(pictures.iter().all(|picture| !picture.is_empty()));
        if !report.has_errors() {
            assert!(load_bytes(text.as_bytes()).is_ok());
            passed += 1;
            let chart = Chart::compile(source);
            assert!(
                chart.is_ok(),
                "round {round} of seed {seed}: {:?}\n{report}\n{text}",
                chart.err()
            );
        }
    }
    assert!(passed > 10, "only {passed} mutated definitions passed");
}
