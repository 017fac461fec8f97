//! The judge as its callers meet it: text in, verdict out, at the size of a real drill.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;

use statehouse_judge::{Demands, Finding, History, Verdict, judge};

/// Writes a healthy run of `instances` orders with a start and four commands each, dumped by one node.
fn healthy(instances: u64) -> String {
    let mut text = String::from("{\"format\":1}\n");
    let (mut t, mut pos) = (0, 0);
    for number in 0..instances {
        let born = pos + 1;
        for ver in 1..=5_u64 {
            pos += 1;
            t += 1000;
            let (id, kind) = (number * 10 + ver, if ver == 1 { "start" } else { "cmd" });
            writeln!(
                text,
                r#"{{"e":"inv","t":{t},"id":{id},"c":{},"tenant":"t","wf":"o-{number}","op":"cmd","key":"k{id}","cmd":"c{ver}"}}"#,
                number % 64
            )
            .unwrap();
            writeln!(
                text,
                r#"{{"e":"ret","t":{},"id":{id},"out":"ok","ver":{ver},"born":{born}}}"#,
                t + 500
            )
            .unwrap();
            writeln!(
                text,
                r#"{{"e":"entry","node":"a","tenant":"t","wf":"o-{number}","shard":0,"pos":{pos},"born":{born},"ver":{ver},"kind":"{kind}","key":"k{id}","exp":{},"at":{t},"actor":"ann","term":1,"leader":"a","def":"d"}}"#,
                ver - 1
            )
            .unwrap();
        }
    }
    writeln!(text, r#"{{"e":"shard","node":"a","shard":0,"pos":{pos}}}"#).unwrap();
    writeln!(text, r#"{{"e":"end","t":{t},"grace_ms":1000,"skew_ms":500}}"#).unwrap();
    text
}

#[test]
fn a_hundred_thousand_healthy_commands_are_valid() {
    let verdict = judge(&History::parse(healthy(20_000)), &Demands::LEAST);
    assert!(verdict.is_valid(), "{verdict}");
    assert_eq!(
        (verdict.counts.ok, verdict.counts.instances, verdict.counts.unclaimed),
        (100_000, 20_000, 0)
    );
}

#[test]
fn one_lost_command_among_many_is_found_with_its_lines() {
    let text = healthy(200);
    let kept: String = text
        .lines()
        .filter(|row| !(row.contains("\"entry\"") && row.contains("\"key\":\"k1003\"")))
        .map(|row| format!("{row}\n"))
        .collect();
    let verdict = judge(&History::parse(kept), &Demands::LEAST);
    let lost = verdict.violations().iter().find(|found| found.rule.code() == "S1").unwrap();
    assert_eq!(lost.subject, "t/o-100");
    assert!(lost.evidence[0].text.contains("\"id\":1003"), "{verdict}");
}

#[test]
fn a_run_that_shows_too_little_is_undecided() {
    let verdict = judge(&History::parse(healthy(30)), &Demands::DRILL);
    let Finding::Undecided { why } = &verdict.finding else { panic!("{verdict}") };
    assert_eq!(why.len(), 4, "{verdict}");
    assert!(why.iter().all(|why| why.starts_with("the run is vacuous")), "{verdict}");
}

#[test]
fn a_malformed_line_makes_a_healthy_run_undecided_and_is_named() {
    let verdict = judge(&History::parse(format!("{}{{\n", healthy(1))), &Demands::LEAST);
    let Finding::Undecided { why } = &verdict.finding else { panic!("{verdict}") };
    assert!(why[0].starts_with("line 19 is malformed"), "{verdict}");
}

#[test]
fn a_verdict_survives_json() {
    let broken = healthy(2).replace("\"ver\":3,\"kind\"", "\"ver\":4,\"kind\"");
    let verdict = judge(&History::parse(broken), &Demands::LEAST);
    let json = serde_json::to_string(&verdict).unwrap();
    assert!(json.starts_with("{\"verdict\":\"invalid\""), "{json}");
    assert_eq!(serde_json::from_str::<Verdict>(&json).unwrap(), verdict);
}
