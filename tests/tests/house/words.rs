//! The glossary is law (house, section 11): words that are not in this house name no type and no file.

use super::place;

/// Words with no meaning or two; `message` only for what a mailbox holds.
const BANNED: &[&str] = &[
    "job", "activity", "process", "service", "manager", "handler", "util", "utils", "common",
    "data", "info", "helper", "misc",
];

/// Splits `CamelCase` and `snake_case` into lower-case words.
fn parts(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for character in name.chars() {
        if character == '_' || character.is_uppercase() {
            words.push(String::new());
        }
        if character.is_alphanumeric() {
            words.last_mut().expect("one word at least").push(character.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The names of types that a line declares.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim_start();
    let rest =
        rest.strip_prefix("pub ").or_else(|| rest.strip_prefix("pub(crate) ")).unwrap_or(rest);
    let rest = ["struct ", "enum ", "trait "].iter().find_map(|kind| rest.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

fn wrong_types(path: &str, text: &str) -> Vec<String> {
    text.lines()
        .enumerate()
        .filter_map(|(number, line)| declared(line).map(|name| (number + 1, name)))
        .filter(|(_, name)| parts(name).iter().any(|word| BANNED.contains(&word.as_str())))
        .map(|(number, name)| {
            format!("{path}:{number}: {name} has a word that is not in this house")
        })
        .collect()
}

#[test]
fn no_type_is_named_with_a_banned_word() {
    let findings = place::files("crates", "rs")
        .iter()
        .flat_map(|path| wrong_types(&place::short(path), &place::read(path)))
        .collect();
    place::none(findings);
    assert_eq!(wrong_types("x.rs", "pub struct ShardManager {").len(), 1);
    assert!(wrong_types("x.rs", "pub struct Database {").is_empty());
}

#[test]
fn no_file_is_named_with_a_banned_word() {
    let findings = place::files("crates", "rs")
        .iter()
        .filter(|path| {
            parts(&path.file_stem().unwrap().to_string_lossy())
                .iter()
                .any(|w| BANNED.contains(&w.as_str()))
        })
        // The harness starts real operating system processes: there the word means just that.
        .filter(|path| !path.ends_with("lab/src/process.rs"))
        .map(|path| place::short(path))
        .collect();
    place::none(findings);
}
