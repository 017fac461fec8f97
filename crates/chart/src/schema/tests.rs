//! Schemas read from text, values checked against them, secrets masked.

use serde_json::json;

use super::*;
use crate::{load::load, value};

fn read(yaml: &str) -> (Schemas, Vec<String>) {
    let document = load(yaml).unwrap();
    let mut findings = Vec::new();
    let schemas = Schemas::read(&document, &mut findings);
    let told = findings
        .iter()
        .map(|finding| format!("{} {} {}", finding.place, finding.code, finding.pointer));
    (schemas, told.collect())
}

#[test]
fn a_value_is_told_everything_that_does_not_fit() {
    let (schemas, findings) = read(
        r##"
schemas:
  order:
    type: object
    required: [lines, amount]
    additionalProperties: false
    properties:
      lines: {type: array, minItems: 1, maxItems: 2, items: {$ref: "#/schemas/line"}}
      amount: {type: integer, minimum: 1}
      rate: {type: number}
      state: {enum: [open, closed]}
  line: {type: object, required: [sku], properties: {sku: {type: string, pattern: "^[a-z]+$", maxLength: 3}}}
"##,
    );
    assert!(findings.is_empty(), "{findings:?}");
    let order = schemas.get("order").unwrap();
    let good =
        json!({"lines": [{"sku": "abc", "more": 1}], "amount": 3.0, "rate": 2, "state": "open"});
    assert_eq!(order.check(&good), []);
    assert_eq!(
        order.check(&value::Value::from_json(&good)),
        [],
        "the inner shape of a value is judged alike"
    );
    let bad = json!({"lines": [{"sku": "ABCD"}, {}, 7], "amount": 0.5, "state": "ajar", "x": 1});
    let told: Vec<_> = order
        .check(&bad)
        .into_iter()
        .map(|violation| format!("{} {}", violation.pointer, violation.message))
        .collect();
    assert_eq!(
        told,
        [
            "/lines expected at most 2 items, found 3",
            "/lines/0/sku expected at most 3 characters, found 4",
            "/lines/0/sku does not match the pattern ^[a-z]+$",
            "/lines/1 the field `sku` is missing",
            "/lines/2 expected object, found integer",
            "/amount expected integer, found number",
            "/state expected one of \"open\", \"closed\"",
            "/x there is no field `x` here",
        ]
    );
}

#[test]
fn troubles_are_all_found_and_none_hides_another() {
    let (_, findings) = read(
        r##"
schemas:
  a: {type: object, properties: {next: {$ref: "#/schemas/b"}}}
  b: {type: array, items: {$ref: "#/schemas/a"}}
  c: {type: text, oneOf: []}
  d: {type: object, required: [x], properties: {y: {$ref: "#/schemas/nowhere"}, z: {$ref: "http://x"}}}
  e: {pattern: "a"}
  f: {type: string, pattern: "(", minLength: 3, maxLength: 2}
  g: {type: integer, enum: [1, b, [2]], minimum: low}
  h: [1]
  i: {type: string, pattern: "((a{1000}){1000}){1000}"}
"##,
    );
    assert_eq!(
        findings,
        [
            "4:34 bad-schema /schemas/b/items/$ref",
            "5:19 bad-schema /schemas/c/oneOf",
            "5:13 bad-schema /schemas/c/type",
            "6:59 undefined-schema /schemas/d/properties/y/$ref",
            "6:91 bad-schema /schemas/d/properties/z/$ref",
            "6:32 bad-schema /schemas/d/required/0",
            "7:16 bad-schema /schemas/e/pattern",
            "8:30 bad-schema /schemas/f/pattern",
            "8:60 bad-schema /schemas/f/maxLength",
            "9:35 bad-schema /schemas/g/enum/2",
            "9:13 bad-schema /schemas/g/type",
            "9:50 bad-schema /schemas/g/minimum",
            "10:6 bad-schema /schemas/h",
            "11:30 bad-schema /schemas/i/pattern",
        ]
    );
}

#[test]
fn a_chain_of_references_and_a_crowd_of_patterns_end_in_a_named_finding() {
    let chain: String =
        (0..3_000).map(|n| format!("  s{n}: {{$ref: \"#/schemas/s{}\"}}\n", n + 1)).collect();
    let (_, findings) = read(&format!("schemas:\n{chain}  s3000: {{type: string}}\n"));
    assert!(findings.iter().all(|finding| finding.contains("bad-schema")), "{findings:?}");
    let crowd: String =
        (0..500).map(|n| format!("  s{n}: {{type: string, pattern: \"a{n}\"}}\n")).collect();
    let (_, findings) = read(&format!("schemas:\n{crowd}"));
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn secrets_are_masked_wherever_they_stand() {
    let (schemas, findings) = read(
        r##"
schemas:
  card: {type: object, properties: {number: {type: string, x-secret: true}, kind: {type: string}}}
  context:
    type: object
    properties:
      cards: {type: array, items: {$ref: "#/schemas/card"}}
      pin: {$ref: "#/schemas/pin", x-secret: true}
      open: {$ref: "#/schemas/pin"}
  pin: {type: integer}
"##,
    );
    assert!(findings.is_empty(), "{findings:?}");
    let value = json!({"cards": [{"number": "4111", "kind": "visa"}], "pin": 7, "open": 8});
    assert_eq!(
        schemas.get("context").unwrap().mask(&value),
        json!({"cards": [{"number": "***", "kind": "visa"}], "pin": "***", "open": 8})
    );
}
