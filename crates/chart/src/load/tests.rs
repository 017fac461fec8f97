//! What the loader takes, what it refuses, and where it says so.

use super::*;

/// Loads and prints: the canonical text, or one line a finding without its advice.
fn told(text: &str) -> String {
    match load(text) {
        Ok(document) => document.canonical(),
        Err(findings) => findings
            .iter()
            .map(|finding| format!("{} {} {}", finding.place, finding.code, finding.pointer))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

#[test]
fn scalars_are_typed_by_the_core_schema() {
    let yaml = "[on, off, yes, no, y, n, true, False, ~, null, 12, -3, +4, 0x1f, 0o17, 1_000, 12:30, 1.5, 1e3, .5, 1., 0.5e-2, 2026-01-01, '7', \"true\"]";
    assert_eq!(
        told(yaml),
        r#"["on","off","yes","no","y","n",true,false,null,null,12,-3,4,31,15,"1_000","12:30",1.5,1000.0,0.5,1.0,0.005,"2026-01-01","7","true"]"#
    );
}

#[test]
fn the_keyword_on_is_a_key_like_any_other() {
    assert_eq!(told("on: {off: no}\nno: 1"), r#"{"on":{"off":"no"},"no":1}"#);
}

#[test]
fn a_boolean_key_is_refused_with_the_reason_in_words() {
    let findings = load("states:\n  a:\n    true: {go: b}\n").unwrap_err();
    let text = findings[0].to_string();
    assert!(text.starts_with("3:5 error non-string-key /states/a/true:"), "{text}");
    assert!(text.contains("YAML 1.1"), "{text}");
}

#[test]
fn what_two_readers_may_read_differently_is_refused_at_its_place() {
    let cases = [
        ("a: 1\nb: 2\na: 3", "3:1 duplicate-key /a"),
        ("a: &x 1\nb: *x", "1:7 alias /a; 2:4 alias /b"),
        ("a: *nowhere", "1:4 alias /a"),
        ("a: {<<: {b: 1}}", "1:5 alias /a"),
        ("a: !!str 1", "1:10 tag /a"),
        ("1: a", "1:1 non-string-key /1"),
        ("{[a]: b}", "1:2 non-string-key "),
        ("? {a: 1}\n: b", "1:3 non-string-key "),
        ("a: 1\n---\nb: 2", "2:1 several-documents "),
        ("a: 9223372036854775808", "1:4 number-out-of-range /a"),
        (
            "a: [1e999, .nan, -.inf]",
            "1:5 number-out-of-range /a/0; 1:12 number-out-of-range /a/1; 1:18 number-out-of-range /a/2",
        ),
        ("a:\n\tb: 1", "2:2 malformed /a"),
        ("", "1:1 malformed "),
        ("# only a comment\n", "1:1 malformed "),
        ("{\"a\": [1, 2}", "1:7 malformed "),
    ];
    let told: Vec<_> = cases.iter().map(|(text, _)| (*text, told(text))).collect();
    let expected: Vec<_> =
        cases.iter().map(|(text, finding)| (*text, (*finding).to_owned())).collect();
    assert_eq!(told, expected);
}

#[test]
fn json_is_read_with_its_tabs_its_long_keys_and_its_escapes() {
    let key = "k".repeat(3_000);
    let json = format!(
        "{{\n\t\"{key}\" : 1,\n\t\"b\"\n: [\"\\/\\u00e9\\ud83d\\ude00\\n\", -0.0, 1E5, [], {{}}]\n}}\n"
    );
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told(&json), value.to_string());
}

#[test]
fn size_and_depth_are_refused_by_name_before_they_cost_anything() {
    let large = "a".repeat(DEFINITION_BYTES_MAX + 1);
    assert_eq!(told(&large), "1:1 document-too-large ");
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let deep =
            format!("{}1{}", open.repeat(100_000 / open.len()), close.repeat(100_000 / open.len()));
        assert!(told(&deep).contains("nesting-too-deep"), "{open}");
    }
    let block: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(told(&block).contains("nesting-too-deep"));
    let mixed = format!("{}a: {}{}", "- ".repeat(40), "[".repeat(40), "]".repeat(40));
    assert!(told(&mixed).contains("nesting-too-deep"));
}

#[test]
fn bytes_that_are_no_utf8_are_refused_where_they_stand() {
    let findings = load_bytes(b"a: 1\nb: \xff\n").unwrap_err();
    assert_eq!(findings[0].place.to_string(), "2:4");
}
