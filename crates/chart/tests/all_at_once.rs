//! All findings at once: what is wrong in one place hides nothing in another, and nothing is missed twice.
//!
//! Each text has one part that cannot be read, and other mistakes beside it. The part gives its one finding, the other
//! mistakes give theirs, and nothing is said to be missing that stands in the part.
//!
//! Deliberately absent: single mistakes, one a file; they stand in `broken/`.

use statehouse_chart::validate::validate_bytes;

/// Prints the findings of a definition, one `code pointer` each.
fn told(body: &str) -> Vec<String> {
    let text = format!("format: statehouse/1\nid: t\n{body}");
    let findings = validate_bytes(text.as_bytes()).findings;
    findings.iter().map(|finding| format!("{} {}", finding.code, finding.pointer)).collect()
}

/// Two states beside the one with the unreadable part: one rests for ever, one has a guard that is no guard.
fn beside(part: &str) -> Vec<String> {
    told(&format!(
        "signals: {{go: {{}}, no: {{}}}}\nstates:\n  a:\n    on: {{go: b}}\n    after: {{1h: c}}\n{part}  b: {{on: {{no: c}}}}\n  c: {{after: {{1h: {{guard: 1 + 1, target: d}}}}}}\n  d: {{type: final}}\n"
    ))
}

#[test]
fn an_unreadable_part_hides_nothing_of_other_states() {
    let others = ["rests-without-deadline /states/b", "guard-not-boolean /states/c/after/1h/guard"];
    let cases = [
        ("    foo: 1\n", "unknown-keyword /states/a/foo"),
        ("    description: [1]\n", "wrong-shape /states/a/description"),
        ("    idle: {10min: c}\n", "bad-duration /states/a/idle/10min"),
        (
            "    invoke: {src: 'task:x', compensate: none, onError: c, timeout: 1m, retry: {maxAttempts: 0}}\n",
            "wrong-shape /states/a/invoke/retry/maxAttempts",
        ),
        ("    entry: [{raise: {evnt: x}}]\n", "unknown-keyword /states/a/entry/0/raise/evnt"),
        ("    tags: 1\n    tags: 2\n", "duplicate-key /states/a/tags"),
        ("    meta: *other\n", "alias /states/a/meta"),
        ("    meta: !!set {}\n", "tag /states/a/meta"),
        ("    1: x\n", "non-string-key /states/a/1"),
        ("    [x]: 1\n", "non-string-key /states/a"),
    ];
    for (part, own) in cases {
        let found = beside(part);
        for wanted in others.iter().chain([&own]) {
            assert!(
                found.iter().any(|finding| finding == wanted),
                "{part}: no {wanted} in {found:?}"
            );
        }
    }
}

#[test]
fn what_stands_in_an_unreadable_part_is_not_missed_a_second_time() {
    let cases = [
        // The only way to `b`, under a keyword that was mistyped, unknown, of a wrong kind, or no key at all.
        (
            "signals: {go: {}}\nstates:\n  a: {on: {go: {targt: b}}, after: {1h: a}}\n  b: {type: final}\n",
            "unknown-keyword /states/a/on/go/targt",
        ),
        (
            "signals: {go: {}}\nstates:\n  a: {whenever: {go: b}, on: {go: a}, after: {1h: a}, endless: true}\n  b: {type: final}\n",
            "unknown-keyword /states/a/whenever",
        ),
        (
            "signals: {go: {}}\nstates:\n  a: {true: {go: b}}\n  b: {type: final}\n",
            "non-string-key /states/a/true",
        ),
        (
            "signals: {go: {}}\nstates:\n  a: {on: [go, b]}\n  b: {type: final}\n",
            "wrong-shape /states/a/on",
        ),
        (
            "states:\n  a: {after: {10min: b}}\n  b: {type: final}\n",
            "bad-duration /states/a/after/10min",
        ),
        // A command that is handled, a delay and a policy that are declared: as well as anybody can read them.
        (
            "commands: {go: 1}\nstates:\n  a: {on: {go: b}, after: {1h: b}}\n  b: {type: final}\n",
            "wrong-shape /commands/go",
        ),
        (
            "delays: {soon: 5}\nstates:\n  a: {after: {soon: b}}\n  b: {type: final}\n",
            "wrong-shape /delays/soon",
        ),
        (
            "retries: {r: 5}\nstates:\n  a: {invoke: {src: 'task:x', timeout: 1m, retry: r, onDone: b, onError: b}}\n  b: {type: final}\n",
            "wrong-shape /retries/r",
        ),
        (
            "guards: {g: 5}\nstates:\n  a: {always: {guard: {ref: g}, target: b}, after: {1h: b}}\n  b: {type: final}\n",
            "wrong-shape /guards/g",
        ),
        // A guard that cannot be read is still one: the candidate after it is not dead, and nothing loops.
        (
            "signals: {go: {}}\nstates:\n  a: {on: {go: [{guard: 5, target: b}, b]}, after: {1h: b}}\n  b: {type: final}\n",
            "wrong-shape /states/a/on/go/0/guard",
        ),
        (
            "states:\n  a: {type: paralel, states: {x: {type: final}, y: {type: final}}, onDone: b}\n  b: {type: final}\n",
            "wrong-shape /states/a/type",
        ),
        ("states:\n  a: {endles: true}\n", "unknown-keyword /states/a/endles"),
    ];
    for (body, own) in cases {
        assert_eq!(told(body), [own], "{body}");
    }
}

#[test]
fn every_part_of_a_retry_policy_is_read_whatever_is_wrong_with_the_others() {
    let body = "retries: {r: {maxAttempts: 0, initialInterval: 1x, backoff: 0.5, maxInterval: 2y, nonRetryable: a}}\nstates: {a: {invoke: {src: 'task:x', timeout: 1m, retry: r, onDone: b, onError: b}}, b: {type: final}}\n";
    let parts = [
        "wrong-shape /retries/r/maxAttempts",
        "bad-duration /retries/r/initialInterval",
        "wrong-shape /retries/r/backoff",
        "bad-duration /retries/r/maxInterval",
        "wrong-shape /retries/r/nonRetryable",
    ];
    assert_eq!(told(body), parts);
    let text = format!("format: statehouse/1\nid: t\n{body}");
    let first = validate_bytes(text.as_bytes()).findings.swap_remove(0).message;
    assert_eq!(first, "`maxAttempts` must be an integer of at least 1, not 0");
}

#[test]
fn a_mistyped_keyword_does_not_lead_around_a_limit() {
    let states: String = (0..3_000).map(|number| format!("    s{number}: {{}}\n")).collect();
    let found = told(&format!("states:\n  a:\n   statess:\n{states}"));
    assert!(found.contains(&"limit-exceeded ".to_owned()), "{found:?}");
}

#[test]
fn an_endless_state_is_an_end_of_its_own() {
    for body in [
        "states: {a: {endless: true}}\n",
        "signals: {go: {}}\nstates: {a: {on: {go: b}, after: {1h: b}}, b: {endless: true}}\n",
        "states: {p: {type: parallel, states: {x: {endless: true}, y: {endless: true}}}}\n",
    ] {
        assert_eq!(told(body), Vec::<String>::new(), "{body}");
    }
    let found = told(
        "states: {a: {after: {1h: b, 2h: c}}, b: {endless: true}, c: {after: {1h: {target: c, reenter: true}}}}\n",
    );
    assert_eq!(found, ["no-final-reachable /states/c"]);
}
