//! Golden pictures: what a definition looks like in Mermaid and in DOT.
#![allow(clippy::unwrap_used, reason = "a test says what it does")]

use std::{fs, path::Path};

use statehouse_chart::{Source, load::load, render};

/// Draws a definition and compares both pictures with the kept ones.
fn check(definition: &Path, name: &str) {
    let document = load(&fs::read_to_string(definition).unwrap()).unwrap();
    let source = Source::parse(&document).0.unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (ending, text) in [("mmd", render::mermaid(&source)), ("dot", render::dot(&source))] {
        let path = golden.join(format!("{name}.{ending}"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            kept,
            "{}: UPDATE_GOLDEN=1 writes it anew; read the difference",
            path.display()
        );
        assert_eq!(text.matches('{').count(), text.matches('}').count(), "{}", path.display());
    }
}

#[test]
fn every_kind_of_state_and_arrow_has_its_sign() {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kinds.yaml"), "kinds");
}

#[test]
fn the_worked_example_with_regions_is_drawn() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/definitions");
    check(&examples.join("tenant-rollout.yaml"), "tenant-rollout");
}
