//! Hostile definitions: each is answered with a finding that names what is too much, and none takes long.
//!
//! The texts are made here because they are large. The time allowed is far above what a release build needs (50 ms), and
//! far below what any of these would take if its limit were gone: hours, a crash, or all memory.
#![allow(clippy::disallowed_methods, reason = "how long it takes is what is tested")]

use std::time::{Duration, Instant};

use statehouse_chart::{FindingCode, Report, validate::validate_bytes};

const HEAD: &str = "format: statehouse/1\nid: t\n";
const FAR_TOO_LONG: Duration = Duration::from_secs(20);

/// Judges a text and asserts that the answer comes in time and holds a code.
fn refused(what: &str, text: &str, code: FindingCode) -> Report {
    let begin = Instant::now();
    let report = validate_bytes(text.as_bytes());
    let took = begin.elapsed();
    assert!(took < FAR_TOO_LONG, "{what}: {took:?}");
    let has_code = report.findings.iter().any(|finding| finding.code == code);
    assert!(has_code, "{what}: {}", report.to_string().chars().take(2_000).collect::<String>());
    assert!(
        report.has_errors() == (code.severity() == statehouse_chart::Severity::Error),
        "{what}"
    );
    report
}

fn many(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn a_text_beyond_its_size_is_not_even_parsed() {
    refused("10 MiB", &"a".repeat(10 * 1024 * 1024), FindingCode::DocumentTooLarge);
}

#[test]
fn depth_is_refused_in_every_notation() {
    for open in ["[", "{a: ", "{\"a\": [", "- ", "? ", "&a [", "!!seq ["] {
        let text = open.repeat(200 * 1024 / open.len());
        let report = validate_bytes(text.as_bytes());
        assert!(report.has_errors(), "{open}");
    }
    let text = many(300, |depth| format!("{}a:\n", " ".repeat(depth)));
    refused("block", &text, FindingCode::NestingTooDeep);
}

#[test]
fn states_transitions_events_and_expressions_beyond_their_number_are_refused_by_name() {
    let states = many(10_000, |n| format!("  s{n}: {{}}\n"));
    refused("states", &format!("{HEAD}states:\n{states}"), FindingCode::LimitExceeded);
    let moves = many(5_000, |n| format!("      e{n}: b\n"));
    refused(
        "transitions",
        &format!("{HEAD}states:\n  a:\n    on:\n{moves}  b: {{type: final}}\n"),
        FindingCode::LimitExceeded,
    );
    let events = many(15_000, |n| format!("  e{n}: {{}}\n"));
    refused(
        "events",
        &format!("{HEAD}signals:\n{events}states: {{a: {{type: final}}}}\n"),
        FindingCode::LimitExceeded,
    );
    let guards = many(8_000, |n| format!("  g{n}: '{n} > 1'\n"));
    refused(
        "guards",
        &format!("{HEAD}guards:\n{guards}states: {{a: {{type: final}}}}\n"),
        FindingCode::LimitExceeded,
    );
}

#[test]
fn bombs_of_cel_are_refused_and_crash_nothing() {
    let define = |guard: &str| {
        format!(
            "{HEAD}signals: {{go: {{}}}}\nstates:\n  a: {{on: {{go: {{guard: \"{guard}\", target: b}}}}, after: {{1h: b}}}}\n  b: {{type: final}}\n"
        )
    };
    let cases = [
        ("flat", "1 + ".repeat(20_000) + "1 > 0", FindingCode::ExpressionLimit),
        ("flat within its length", "1+".repeat(500) + "1>0", FindingCode::ExpressionLimit),
        ("brackets", "(".repeat(500) + "1" + &")".repeat(500), FindingCode::ExpressionLimit),
        ("signs", "!(".repeat(300) + "true" + &")".repeat(300), FindingCode::ExpressionLimit),
        (
            "choices",
            "true ? ".repeat(100) + "true" + &" : true".repeat(100),
            FindingCode::ExpressionLimit,
        ),
        ("lists", "[".repeat(300) + &"]".repeat(300), FindingCode::ExpressionLimit),
        (
            "loops",
            "[1,2].all(a, [1,2].all(b, [1,2].all(c, true)))".to_owned(),
            FindingCode::ComprehensionTooDeep,
        ),
    ];
    for (what, guard, code) in cases {
        let report = validate_bytes(define(&guard).as_bytes());
        let codes: Vec<FindingCode> = report.findings.iter().map(|finding| finding.code).collect();
        assert!(
            codes.contains(&code) || codes.contains(&FindingCode::CelSyntax),
            "{what}: {report}"
        );
    }
}

#[test]
fn large_definitions_within_their_limits_are_judged_in_time() {
    // Each is the worst of its kind: many states that hand each other on, many regions, many guards, many schemas.
    let chain = many(498, |n| {
        format!(
            "  s{n}: {{always: [{{guard: 'false || active(\\'s1\\')', target: s{}}}, s{}]}}\n",
            (n + 7) % 498,
            n + 1
        )
    });
    let chain = format!("{HEAD}states:\n{chain}  s498: {{type: final}}\n");
    let begin = Instant::now();
    let report = validate_bytes(chain.as_bytes());
    assert!(begin.elapsed() < FAR_TOO_LONG, "chain: {:?}\n{report}", begin.elapsed());

    let regions = many(400, |n| {
        format!("      r{n}: {{on: {{go: \"#end\", stop: {{target: r{n}, reenter: true}}}}}}\n")
    });
    let regions = format!(
        "{HEAD}signals: {{go: {{}}, stop: {{}}}}\nstates:\n  p:\n    type: parallel\n    after: {{1h: end}}\n    states:\n{regions}  end: {{type: final}}\n"
    );
    refused("regions", &regions, FindingCode::RegionConflict);

    let doubled = many(60, |n| {
        format!(
            "  s{n}: {{type: object, properties: {{l: {{$ref: \"#/schemas/s{}\"}}, r: {{$ref: \"#/schemas/s{}\"}}}}}}\n",
            n + 1,
            n + 1
        )
    });
    let doubled = format!(
        "{HEAD}schemas:\n  context: {{type: object, required: [x, y], properties: {{x: {{$ref: \"#/schemas/s0\"}}, y: {{$ref: \"#/schemas/s0\"}}}}}}\n{doubled}  s60: {{type: string}}\ncontext: {{x: {{}}, y: {{}}}}\nstates: {{a: {{entry: [{{assign: {{x: \"${{context.y}}\"}}}}], type: final}}}}\n"
    );
    let begin = Instant::now();
    let report = validate_bytes(doubled.as_bytes());
    assert!(begin.elapsed() < FAR_TOO_LONG, "schemas: {:?}\n{report}", begin.elapsed());

    let mistyped = many(1_900, |n| format!("      approve{n}x: b\n"));
    let mistyped = format!(
        "{HEAD}commands: {{approve: {{}}}}\nstates:\n  a:\n    on:\n      approve: b\n{mistyped}  b: {{type: final}}\n"
    );
    refused("mistyped", &mistyped, FindingCode::UndefinedEvent);
}

#[test]
fn actions_that_unfold_without_end_are_refused() {
    let doubling = many(40, |n| format!("  a{n}: [{{do: a{}}}, {{do: a{}}}]\n", n + 1, n + 1));
    let text = format!(
        "{HEAD}actions:\n{doubling}  a40: [{{log: x}}]\nstates: {{a: {{entry: {{do: a0}}, type: final}}}}\n"
    );
    refused("doubling", &text, FindingCode::ActionCycle);
    let chain = many(3_000, |n| format!("  a{n}: [{{do: a{}}}]\n", n + 1));
    let text = format!(
        "{HEAD}actions:\n{chain}  a3000: [{{log: x}}]\nstates: {{a: {{entry: {{do: a0}}, type: final}}}}\n"
    );
    refused("chain", &text, FindingCode::ActionCycle);
}

#[test]
fn what_thousands_of_moves_have_in_common_is_looked_at_once() {
    // Each took far more than the 50 ms of a release build before; `benches/validate.rs` measures them.
    let regions = many(240, |n| {
        let moves = many(8, |c| format!("c{c}: {{target: \"#p\", reenter: true}}, "));
        format!("      r{n}: {{on: {{{moves}}}}}\n")
    });
    let commands = many(8, |c| format!("c{c}: {{}}, "));
    let text = format!(
        "{HEAD}commands: {{{commands}}}\nstates:\n  p:\n    type: parallel\n    endless: true\n    onDone: e\n    states:\n{regions}  e: {{type: final}}\n"
    );
    let report = refused("regions that start all again", &text, FindingCode::RegionConflict);
    assert!(report.omitted > 0);
    // One for each move that loses, not one for each pair.
    let conflicts =
        report.findings.iter().filter(|finding| finding.code == FindingCode::RegionConflict);
    let mut places: Vec<&str> = conflicts.map(|finding| finding.pointer.as_str()).collect();
    let found = places.len();
    places.dedup();
    assert_eq!(places.len(), found);

    let commands = many(1_700, |n| {
        format!(
            "  c{n}: {{schema: {{type: object, properties: {{x: {{type: string, x-secret: true}}}}}}}}\n"
        )
    });
    let guards = many(1_900, |n| format!("        - {{guard: \"event.data.x=='{n}'\"}}\n"));
    let text = format!(
        "{HEAD}commands:\n{commands}states:\n  a:\n    after: {{1h: b}}\n    on:\n      \"*\":\n{guards}  b: {{type: final}}\n"
    );
    refused("a wildcard for many payloads", &text, FindingCode::OptionalRead);

    let junk = many(12_000, |n| format!("    entr{n}: 1\n"));
    let text = format!("{HEAD}states:\n  a:\n    type: final\n{junk}");
    refused("mistyped keywords", &text, FindingCode::UnknownKeyword);
}
