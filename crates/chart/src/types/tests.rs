//! Expressions with what is wrong with them, as text.

use std::collections::BTreeSet;

use super::*;
use crate::{guard, load::load, schema::Schemas};

const SCHEMAS: &str = r##"
schemas:
  context:
    type: object
    required: [amount, rate, name, lines, state, tags]
    properties:
      amount: {type: integer}
      rate: {type: number}
      name: {type: string}
      note: {type: string}
      state: {enum: [open, closed]}
      any: {}
      tags: {type: object, additionalProperties: {type: string}}
      lines: {type: array, maxItems: 100, items: {type: object, required: [sku], properties: {sku: {type: string}, qty: {type: integer}}}}
      endless: {type: array, items: {type: array, items: {type: integer}}}
  pay: {type: object, required: [sum], properties: {sum: {type: integer}, why: {type: string}}}
  cancel: {type: object, properties: {why: {type: string}}}
"##;

/// Checks one expression and prints its type and its troubles.
fn told(text: &str) -> String {
    let document = load(SCHEMAS).unwrap();
    let mut findings = Vec::new();
    let schemas = Schemas::read(&document, &mut findings);
    assert!(findings.is_empty(), "{findings:?}");
    let kind = |name: &str, output| EventKind {
        name: name.into(),
        data: Type::of(schemas.get(name).unwrap()),
        output,
        has_error: false,
        is_timer: false,
    };
    let states = BTreeSet::from(["a", "b"]);
    let scope = Scope {
        context: Some(Type::of(schemas.get("context").unwrap())),
        input: None,
        event: Some(EventScope::new(&[kind("pay", None), kind("cancel", None)])),
        item: None,
        states: &states,
        assigned: BTreeSet::new(),
        known: Known::default(),
    };
    let parsed = guard::on_big_stack(|| guard::parse(text)).unwrap();
    let checked = check(&parsed, &scope);
    let troubles =
        checked.troubles.iter().map(|trouble| format!("; {}: {}", trouble.code, trouble.message));
    format!("{}{}", checked.value, troubles.collect::<String>())
}

#[test]
fn what_is_right_has_a_type_and_no_trouble() {
    let cases = [
        ("context.amount + 1", "int"),
        ("context.rate * 1.5", "double"),
        ("double(context.amount) * context.rate", "double"),
        ("context.name + '!'", "string"),
        ("size(context.lines) > 0 && active('a')", "bool"),
        ("context.lines.map(l, l.sku)", "list of string"),
        ("context.lines.filter(l, has(l.qty) && l.qty > 1)", "list of object"),
        ("context.lines.exists(l, l.sku == 'x')", "bool"),
        ("context.lines.all(l, !has(l.qty) || l.qty > 1)", "bool"),
        ("context.lines.exists_one(l, l.sku == 'x')", "bool"),
        ("context.lines.map(l, l.sku) + ['a']", "list of string"),
        ("[1, 2] + [3]", "list of int"),
        ("has(context.note) ? context.note : ''", "string"),
        ("has(event.data.sum) ? event.data.sum : 0", "int"),
        ("event.type + event.actor", "string"),
        ("now + duration('1h')", "timestamp"),
        ("now - now", "duration"),
        ("context.state == 'open' ? 1 : 2", "int"),
        ("context.tags.size()", "int"),
        ("'x' in context.tags", "bool"),
        ("{'a': 1, 'b': context.name}", "object"),
        ("context.amount == 1.0", "bool"),
        ("context.name.matches('^[a-z]+$')", "bool"),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn what_would_fail_is_told_with_its_code() {
    let cases = [
        ("context.amount * 1.1", "unknown; type-error: `*` does not take int and double"),
        ("context.amont", "unknown; undefined-field: there is no field `context.amont`"),
        ("contxt.amount", "unknown; undefined-name: the name `contxt` is not in scope"),
        ("input.x", "unknown; undefined-name: the name `input` is not in scope"),
        ("context.note", "string; optional-read: `context.note` is optional and may be missing"),
        (
            "context.any",
            "unknown; optional-read: `context.any` is optional and may be missing; untyped-value: `context.any` has no type and is not checked",
        ),
        (
            "event.data.sum",
            "unknown; event-field-missing: `event.data.sum` is no field of `cancel`",
        ),
        (
            "event.data.sun",
            "unknown; event-field-missing: `event.data.sun` is no field of `pay`, `cancel`",
        ),
        (
            "event.output.x",
            "unknown; event-field-missing: `event.output` does not exist for `pay`, `cancel`",
        ),
        ("event.datum", "unknown; undefined-field: there is no field `event.datum`"),
        ("context.name > 1", "bool; type-error: string and int have no order"),
        (
            "context.state == 'opn'",
            "bool; type-error: one of 'open', 'closed' and 'opn' are never equal",
        ),
        ("context.name == null", "bool; type-error: string and null are never equal"),
        ("context.amount && true", "bool; type-error: a side of `&&` must be bool, found int"),
        ("active('c')", "bool; undefined-state: there is no state `c`"),
        (
            "context.tags.map(t, t)",
            "list of unknown; comprehension-over-map: a comprehension over a map: the order of its keys is unknown",
        ),
        (
            "{'a': 1}.exists(k, true)",
            "bool; comprehension-over-map: a comprehension over a map: the order of its keys is unknown",
        ),
        (
            "context.endless.map(a, context.endless.map(b, size(b)))",
            "list of list of int; optional-read: `context.endless` is optional and may be missing; comprehension-too-deep: the comprehensions may take 1073774592 steps; comprehension_steps_max is 1000000",
        ),
        (
            "context.lines.map(l, l.skoo)",
            "list of unknown; undefined-field: there is no field `l.skoo`",
        ),
        (
            "context.lines.map(l, l.qty)",
            "list of int; optional-read: `l.qty` is optional and may be missing",
        ),
        (
            "context.name.upperAscii()",
            "unknown; undefined-name: there is no method `upperAscii` with 0 arguments",
        ),
        ("int(true)", "unknown; type-error: `int` takes a number or a string, found bool"),
        (
            "context.name.matches(context.name)",
            "bool; type-error: the pattern of `matches`: it is not written out, so nobody can bound it",
        ),
        (
            "b'x'",
            "unknown; type-error: unsigned integers and bytes are not part of these expressions",
        ),
        ("1 + 'a'", "unknown; type-error: `+` does not take int and 'a'"),
        (
            "context.lines.x",
            "unknown; type-error: `context.lines.x`: a value of type list of object has no fields",
        ),
    ];
    let told: Vec<_> =
        cases.iter().map(|(text, _)| format!("{text}  =>  {}", told(text))).collect();
    let expected: Vec<_> =
        cases.iter().map(|(text, expected)| format!("{text}  =>  {expected}")).collect();
    assert_eq!(told.join("\n"), expected.join("\n"));
}
