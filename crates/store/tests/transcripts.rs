//! Scripts of plain commands with the full transcript of what the rows answer.
//!
//! `term N` opens a term; `start I K`, `go I K`, `refuse I K` decide at the present state of I; `late I K` decides as if
//! the last move of I had not happened; `old I K` decides under the term before; `other I K` sends another request under
//! the key; `fire I T G AT` fires a timer; `arm I T G AT` moves and arms one; `end I K` finishes; `at MS` sets the time.
#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

mod common;

use std::collections::BTreeMap;

use common::{Shard, arm, disarm, refusal, transition};
use expect_test::{Expect as Golden, expect};
use statehouse_contract::{Digest, Key, NodeId, Receipt};
use statehouse_store::{
    Body, Entry, Outcome,
    entry::{Expect, Status},
};

fn told(receipt: &Receipt) -> String {
    format!("{} at {}", receipt.body.as_str(), receipt.position)
}

fn say(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Written(written) => {
            let version =
                written.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
            let answer = written.receipt.as_ref().map_or_else(|| "no receipt".to_owned(), told);
            format!("written {version}: {answer}")
        }
        Outcome::Known(receipt) => format!("known: {}", told(receipt)),
        Outcome::Fenced(fence) => format!("fenced {}: {fence}", fence.name()),
        Outcome::KeyReused => "key reused".to_owned(),
        Outcome::Skipped => "skipped".to_owned(),
        Outcome::Blank => "blank".to_owned(),
    }
}

fn check(script: &str, golden: &Golden) {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::new(dir.path());
    let mut before: BTreeMap<String, Expect> = BTreeMap::new();
    let mut transcript = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| words[place].parse::<i64>().unwrap();
        let outcome = match words[0] {
            "at" => {
                shard.now = number(1);
                continue;
            }
            "term" => {
                shard.term = u64::try_from(number(1)).unwrap();
                shard.apply(Body::TermOpened { lease_floor_ms: 5_000 })
            }
            verb => {
                let name = words[1];
                let now = shard.store.view().instance(&common::instance(name)).unwrap();
                let now = now.map_or(Expect::Absent, |row| Expect::At {
                    version: row.version,
                    digest: row.digest,
                });
                let known = before.insert(name.to_owned(), now).unwrap_or(Expect::Absent);
                let t = |expect, key| transition(name, expect, key);
                match verb {
                    "start" => shard.moved(t(Expect::Absent, Some(words[2]))),
                    "go" => shard.moved(t(now, Some(words[2]))),
                    "late" => {
                        before.insert(name.to_owned(), known);
                        shard.moved(t(known, Some(words[2])))
                    }
                    "refuse" => shard.refused(refusal(name, now, words[2])),
                    "old" => {
                        let body = Body::Transitioned(Box::new(t(now, Some(words[2]))));
                        let header = common::header(shard.term - 1, shard.now);
                        shard.apply_entry(&Entry { header, body })
                    }
                    "other" => {
                        let mut other = t(now, Some(words[2]));
                        other.receipt.as_mut().unwrap().fingerprint = Digest::of(b"other");
                        shard.moved(other)
                    }
                    "end" => {
                        let mut end = t(now, Some(words[2]));
                        end.status = Status::Done;
                        shard.moved(end)
                    }
                    "arm" => {
                        let mut arms = t(now, None);
                        arms.due = vec![arm(number(4), words[2], number(3).unsigned_abs())];
                        shard.moved(arms)
                    }
                    "fire" => {
                        let generation = number(3).unsigned_abs();
                        let mut fires = t(now, None);
                        fires.key = Some(Key::Timer { id: words[2].into(), generation });
                        fires.cause.kind = statehouse_store::entry::CauseKind::Timer;
                        fires.due = vec![disarm(number(4), words[2], generation)];
                        shard.moved(fires)
                    }
                    other => panic!("no command {other}"),
                }
            }
        };
        transcript += &format!("{line} -> {}\n", say(&outcome));
    }
    let node = NodeId { number: 1, incarnation: 1 };
    let dump = shard.store.view().dump(node, None, 1_000).unwrap();
    assert_eq!(dump.next, None);
    for line in dump.lines {
        let value = line.to_value();
        let shown = [
            "e", "wf", "pos", "kind", "born", "ver", "exp", "key", "term", "reason", "arm",
            "cancel", "fire", "what", "id",
        ];
        let parts = shown.iter().filter_map(|name| {
            let member = value.get(name)?;
            let text = member.as_str().map_or_else(|| member.to_string(), str::to_owned);
            Some(format!("{name}={text}"))
        });
        transcript += &format!("{}\n", parts.collect::<Vec<_>>().join(" "));
    }
    assert_eq!(shard.store.view().audit().unwrap(), []);
    golden.assert_eq(&transcript);
}

#[test]
fn a_retry_gets_its_answer_and_a_late_decision_changes_nothing() {
    check(
        "term 1
         start a k-1
         start a k-1
         start a k-2
         go a k-3
         late a k-4
         late a k-3
         refuse a k-5
         go a k-5
         other a k-3",
        &expect![[r#"
            term 1 -> written -: no receipt
            start a k-1 -> written 2.1: {"version":1,"position":2} at 2
            start a k-1 -> known: {"version":1,"position":2} at 2
            start a k-2 -> fenced exists: instance exists at version 2.1
            go a k-3 -> written 2.2: {"version":2,"position":5} at 5
            late a k-4 -> fenced version: version: expected 2.1, found 2.2
            late a k-3 -> known: {"version":2,"position":5} at 5
            refuse a k-5 -> written 2.2: {"code":"not_handled","position":8} at 8
            go a k-5 -> known: {"code":"not_handled","position":8} at 8
            other a k-3 -> key reused
            e=entry wf=a pos=2 kind=start born=2 ver=1 exp=0 key=k-1 term=1
            e=entry wf=a pos=5 kind=cmd born=2 ver=2 exp=1 key=k-3 term=1
            e=entry wf=a pos=8 kind=refused born=2 ver=2 key=k-5 term=1 reason=not_handled
            e=shard pos=10
        "#]],
    );
}

#[test]
fn what_an_old_term_decided_is_fenced_unless_its_key_is_known() {
    check(
        "term 1
         start a k-1
         term 2
         old a k-2
         old a k-1
         go a k-2
         end a k-3
         go b k-1",
        &expect![[r#"
            term 1 -> written -: no receipt
            start a k-1 -> written 2.1: {"version":1,"position":2} at 2
            term 2 -> written -: no receipt
            old a k-2 -> fenced term: decided under term 1, its log term is 2
            old a k-1 -> known: {"version":1,"position":2} at 2
            go a k-2 -> written 2.2: {"version":2,"position":6} at 6
            end a k-3 -> written 2.3: {"version":3,"position":7} at 7
            go b k-1 -> written 8.1: {"version":1,"position":8} at 8
            e=entry wf=a pos=2 kind=start born=2 ver=1 exp=0 key=k-1 term=1
            e=entry wf=a pos=6 kind=cmd born=2 ver=2 exp=1 key=k-2 term=2
            e=entry wf=a pos=7 kind=cmd born=2 ver=3 exp=2 key=k-3 term=2
            e=entry wf=b pos=8 kind=start born=8 ver=1 exp=0 key=k-1 term=2
            e=shard pos=8
        "#]],
    );
}

#[test]
fn a_timer_fires_once_and_not_after_it_was_armed_again() {
    check(
        "term 1
         start a k-1
         arm a t 2 5000
         at 5000
         fire a t 2 5000
         fire a t 2 5000
         arm a t 5 9000
         fire a t 2 5000
         refuse nobody k-9",
        &expect![[r#"
            term 1 -> written -: no receipt
            start a k-1 -> written 2.1: {"version":1,"position":2} at 2
            arm a t 2 5000 -> written 2.2: no receipt
            fire a t 2 5000 -> written 2.3: no receipt
            fire a t 2 5000 -> fenced due_missing: no due row at 1970-01-01T00:00:05.000Z
            arm a t 5 9000 -> written 2.4: no receipt
            fire a t 2 5000 -> fenced due_missing: no due row at 1970-01-01T00:00:05.000Z
            refuse nobody k-9 -> written -: {"code":"not_handled","position":8} at 8
            e=entry wf=a pos=2 kind=start born=2 ver=1 exp=0 key=k-1 term=1
            e=entry wf=a pos=3 kind=cmd born=2 ver=2 exp=1 term=1 arm=[{"id":"t","gen":2,"due":5000000000}]
            e=entry wf=a pos=4 kind=timer born=2 ver=3 exp=2 term=1 fire={"id":"t","gen":2}
            e=entry wf=a pos=6 kind=cmd born=2 ver=4 exp=3 term=1 arm=[{"id":"t","gen":5,"due":9000000000}]
            e=entry wf=nobody pos=8 kind=refused key=k-9 term=1 reason=not_handled
            e=open wf=a what=timer id=t
            e=shard pos=8
        "#]],
    );
}
