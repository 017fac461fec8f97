//! Deaths in, verdicts out: each test is a short story with its full transcript.

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;

/// Runs a story of lines `<ms> <child> <permanent|transient|temporary> <normal|failed>` among three children.
fn check(strategy: Strategy, story: &str, expected: &Expect) {
    let policy = Policy {
        strategy,
        intensity: Intensity { restarts: 3, window_ms: 30_000 },
        backoff: Backoff { first_ms: 100, max_ms: 150 },
    };
    let mut deaths = Deaths::default();
    let mut transcript = String::new();
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let [now_ms, child, lifetime, exit] = words[..] else { panic!("four words: {line}") };
        let death = Death {
            child: child.parse().unwrap(),
            lifetime: match lifetime {
                "permanent" => Lifetime::Permanent,
                "transient" => Lifetime::Transient,
                "temporary" => Lifetime::Temporary,
                other => panic!("no lifetime: {other}"),
            },
            exit: if exit == "failed" { Exit::Failed } else { Exit::Normal },
            now_ms: now_ms.parse().unwrap(),
        };
        let verdict = judge(policy, &mut deaths, 3, death);
        writeln!(transcript, "{line} -> {verdict:?}").unwrap();
    }
    expected.assert_eq(&transcript);
}

#[test]
fn one_for_one_restarts_the_one_that_died() {
    check(
        Strategy::OneForOne,
        "0 1 permanent normal
         10 2 transient failed
         20 0 transient normal
         30 0 temporary failed",
        &expect![[r#"
            0 1 permanent normal -> Restart { children: [1], after_ms: 0 }
            10 2 transient failed -> Restart { children: [2], after_ms: 100 }
            20 0 transient normal -> Leave
            30 0 temporary failed -> Leave
        "#]],
    );
}

#[test]
fn one_for_all_restarts_everyone_in_order() {
    check(
        Strategy::OneForAll,
        "0 2 permanent failed",
        &expect![[r#"
            0 2 permanent failed -> Restart { children: [0, 1, 2], after_ms: 0 }
        "#]],
    );
}

#[test]
fn rest_for_one_leaves_the_earlier_ones_alone() {
    check(
        Strategy::RestForOne,
        "0 1 permanent failed
         5 0 permanent failed",
        &expect![[r#"
            0 1 permanent failed -> Restart { children: [1, 2], after_ms: 0 }
            5 0 permanent failed -> Restart { children: [0, 1, 2], after_ms: 100 }
        "#]],
    );
}

#[test]
fn one_restart_too_many_within_the_window_escalates() {
    check(
        Strategy::RestForOne,
        "0 1 permanent failed
         1000 1 permanent failed
         2000 1 permanent failed
         3000 1 permanent failed",
        &expect![[r#"
            0 1 permanent failed -> Restart { children: [1, 2], after_ms: 0 }
            1000 1 permanent failed -> Restart { children: [1, 2], after_ms: 100 }
            2000 1 permanent failed -> Restart { children: [1, 2], after_ms: 150 }
            3000 1 permanent failed -> Escalate
        "#]],
    );
}

#[test]
fn a_slow_trickle_of_deaths_never_escalates() {
    check(
        Strategy::OneForOne,
        "0 1 permanent failed
         10000 1 permanent failed
         20000 1 permanent failed
         30000 1 permanent failed
         40000 1 permanent failed",
        &expect![[r#"
            0 1 permanent failed -> Restart { children: [1], after_ms: 0 }
            10000 1 permanent failed -> Restart { children: [1], after_ms: 100 }
            20000 1 permanent failed -> Restart { children: [1], after_ms: 150 }
            30000 1 permanent failed -> Restart { children: [1], after_ms: 150 }
            40000 1 permanent failed -> Restart { children: [1], after_ms: 150 }
        "#]],
    );
}

#[test]
fn a_dynamic_child_that_keeps_dying_is_set_aside_alone() {
    check(
        Strategy::Dynamic,
        "0 7 transient failed
         10 7 transient failed
         20 7 transient failed
         30 7 transient failed",
        &expect![[r#"
            0 7 transient failed -> Restart { children: [7], after_ms: 0 }
            10 7 transient failed -> Restart { children: [7], after_ms: 100 }
            20 7 transient failed -> Restart { children: [7], after_ms: 150 }
            30 7 transient failed -> Quarantine
        "#]],
    );
}

#[test]
fn the_memory_of_deaths_is_bounded_and_fades() {
    let intensity = Intensity { restarts: 2, window_ms: 1_000 };
    let mut deaths = Deaths::default();
    for now_ms in 0..100 {
        deaths.count(now_ms, intensity);
    }
    assert_eq!(deaths.times_ms.len(), 3);
    assert!(!deaths.forget(1_098, intensity));
    assert!(deaths.forget(1_099, intensity));
}
