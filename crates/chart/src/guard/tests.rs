//! Guards as people write them, and every way in which one can fail.

use std::sync::Arc;

use super::*;
use crate::finding::Place;

fn evaluate(text: &str, context: &str) -> String {
    let names = StateNames::new([(Arc::from("open"), 1), (Arc::from("shut"), 2)]);
    let spot = Spot { pointer: "/guard".to_owned(), place: Place::START };
    let compiled =
        on_big_stack(|| Program::compile(text, &spot, Names { states: &names, item: None }));
    let program = match compiled {
        Ok(program) => program,
        Err(trouble) => return format!("does not compile: {trouble}"),
    };
    let context = Value::parse(context).unwrap();
    let event = Value::parse(r#"{"type":"go","data":{"n":3}}"#).unwrap();
    let active = [1].into_iter().collect();
    let scope = Scope {
        context: &context,
        event: Some(&event),
        input: None,
        item: None,
        now: Timestamp(1_700_000_000_123),
        active: &active,
        states: &names,
    };
    program
        .evaluate(&scope)
        .map_or_else(|error| format!("error: {}", error.why), |value| format!("{value:?}"))
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let context = r#"{"n":2,"d":2.0,"list":[1,2,3],"name":"ann","nest":{"a":{"b":7}},"flag":true,"items":[{"q":1},{"q":5}]}"#;
    assert_eq!(evaluate(text, context), expected, "{text}");
}

#[test]
fn arithmetic_keeps_whole_numbers_and_doubles_apart() {
    check("context.n + 1", "3");
    check("context.n / 4", "0");
    check("-7 % 3", "-1");
    check("context.d * 1.5", "3.0");
    check("context.n * 1.5", "error: `*` does not work on int and double");
    check("9223372036854775807 + 1", "error: the result does not fit its type");
    check("1 / 0", "error: division by zero");
    check("1 == 1.0 && 2 < 2.5 && 3.0 >= 3", "true");
    check("9007199254740993 == 9007199254740992.0", "false");
}

#[test]
fn fields_are_found_or_an_error() {
    check("context.nest.a.b", "7");
    check("has(context.nest.a) && !has(context.nest.x)", "true");
    check("context.missing", "error: there is no field `missing`");
    check("context.missing == 1 || true", "true");
    check("false && context.missing == 1", "false");
    check("context.missing == 1 && true", "error: there is no field `missing`");
    check("context.list[1] + context.items[1].q", "7");
    check("context.list[3]", "error: the index is outside a list of 3 items");
    check("{'a': 1}['a']", "1");
    check("'n' in context && 3 in context.list", "true");
}

#[test]
fn comprehensions_work_on_lists() {
    check("context.list.map(x, x * 2)", "[2,4,6]");
    check("context.list.filter(x, x > 1)", "[2,3]");
    check("context.items.map(i, i.q > 1, i.q)", "[5]");
    check(
        "context.list.all(x, x > 0) && context.list.exists(x, x == 3) && context.list.exists_one(x, x == 2)",
        "true",
    );
    check("context.items.exists(i, i.missing || i.q == 5)", "true");
    check("context.list.map(x, context.list.filter(y, y < x))", "[[],[1],[1,2]]");
    check("context.nest.all(k, true)", "error: comprehensions work on lists, not on maps");
    check(
        "context.list.all(a, context.list.all(b, context.list.all(c, true)))",
        "does not compile: comprehensions nest at most 2 deep, here 3",
    );
}

#[test]
fn functions_and_times() {
    check("size('añb') + size(context.list) + context.name.size()", "9");
    check(
        "context.name.startsWith('a') && context.name.matches('^a.n$') && matches('x', context.name) == false",
        "true",
    );
    check("string(1.5) + string(2) + string(true)", "\"1.52true\"");
    check("int('12') + int(2.9) + int(timestamp('1970-01-01T00:00:05Z'))", "19");
    check("duration('1h30m') > duration('80m') && string(duration('90s')) == '90s'", "true");
    check("now", "timestamp(2023-11-14T22:13:20.123Z)");
    check("now + duration('1s') - timestamp('2023-11-14T22:13:20Z')", "duration(1.123s)");
    check("now.getFullYear() * 100 + now.getMonth() + now.getMilliseconds()", "202433");
    check("active('open') && !active('shut')", "true");
    check("active('nowhere')", "does not compile: there is no state `nowhere`");
    check("event.data.n > 2 ? 'big' : 'small'", "\"big\"");
    check("context.list + [4]", "[1,2,3,4]");
}

#[test]
fn bombs_are_refused_before_they_are_parsed_and_stopped_while_they_run() {
    let long = vec!["1"; 20_000].join(" + ");
    assert!(
        evaluate(&long, "{}").starts_with("does not compile: an expression has at most 1024 bytes")
    );
    let flat = vec!["1"; 250].join("+");
    assert!(
        evaluate(&flat, "{}").starts_with("does not compile: an expression is at most 32 deep")
    );
    let deep = format!("{}1{}", "(".repeat(400), ")".repeat(400));
    assert!(evaluate(&deep, "{}").starts_with("does not compile"));
    let list: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
    let context = format!("{{\"l\":[{}]}}", list.join(","));
    assert_eq!(
        evaluate("context.l.all(x, context.l.all(y, x + y >= 0))", &context),
        "error: the expression takes too many steps"
    );
}

#[test]
fn what_is_not_ours_is_refused() {
    check("1u", "does not compile: unsigned integers are not part of these expressions");
    check("b'x'", "does not compile: bytes are not part of these expressions");
    check("other.x", "does not compile: the name `other` is not in scope");
    check("random()", "does not compile: there is no function `random` with 0 arguments");
    check("context.", "does not compile: Syntax error: no viable alternative at input '.'");
}

// The parser's own interpreter is the second opinion where both speak.
#[test]
fn the_foreign_interpreter_agrees() {
    let expressions = [
        "1 + 2 * 3 - 4 / 3 % 2",
        "1.5 * 2.0 / 4.0 - 1.0",
        "'a' + 'b' < 'b' && 'x' in ['x']",
        "[1, 2, 3].map(x, x * x).filter(x, x > 1)",
        "[1, 2] + [3] == [1, 2, 3]",
        "{'a': 1, 'b': {'c': [1.0]}}.b.c[0] == 1",
        "[1, 2, 3].exists_one(x, x > 2) || [1/0].all(x, false)",
        "has({'a': 1}.a) ? size('abc') : -1",
        "duration('90m') == duration('1h30m')",
        "timestamp('2024-02-29T12:00:00Z').getDayOfYear()",
        "timestamp('2024-02-29T12:00:00Z') + duration('24h') > timestamp('2024-03-01T00:00:00Z')",
        "[true, false].exists(x, x) && ![true, false].all(x, x)",
        "string(12) + string(true)",
        "int('7') + int(2.9)",
        "'abcd'.contains('bc') && 'abcd'.endsWith('cd')",
    ];
    for text in expressions {
        let theirs =
            cel::Program::compile(text).unwrap().execute(&cel::Context::default()).unwrap();
        assert_eq!(evaluate(text, "{}"), format!("{:?}", converted(&theirs)), "{text}");
    }
}

fn converted(value: &cel::Value) -> Value {
    match value {
        cel::Value::Int(number) => Value::Int(*number),
        cel::Value::Float(number) => Value::Double(*number),
        cel::Value::Bool(truth) => Value::Bool(*truth),
        cel::Value::String(text) => Value::text(text),
        cel::Value::List(items) => Value::list(items.iter().map(converted).collect()),
        other => panic!("no expression above gives {other:?}"),
    }
}
