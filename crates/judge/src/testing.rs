//! A small healthy run, and the means to break one thing in it.
//!
//! Two nodes, one shard, one order: it starts (and arms a timer and schedules a task), is paid twice with one key,
//! shipped, refused once, read, its timer fires, its task is leased and done. Every line has a name under `#`, which
//! the judge ignores; a test changes one field and asks for the rule that must notice.

use serde_json::Value;

use crate::{Demands, Finding, History, Verdict, judge};

/// A run as named lines.
pub(crate) struct Script(Vec<Value>);

/// What a client did and was told. The wall clock is the harness clock plus one second.
const CLIENTS: &str = r##"
{"#":"start.inv","e":"inv","t":1000,"id":"1","c":"c1","tenant":"t","wf":"o-1","op":"cmd","key":"k-start","cmd":"start"}
{"#":"start.ret","e":"ret","t":1001000,"id":"1","out":"ok","ver":1,"born":11,"reply":"r1","see":["t"]}
{"#":"pay.inv","e":"inv","t":1002000,"id":"2","c":"c1","tenant":"t","wf":"o-1","op":"cmd","key":"k-pay","cmd":"pay","exp":1}
{"#":"pay.ret","e":"ret","t":2002000,"id":"2","out":"ok","ver":2,"born":11,"reply":"r2"}
{"#":"pay.again.inv","e":"inv","t":2003000,"id":"3","c":"c1","tenant":"t","wf":"o-1","op":"cmd","key":"k-pay","cmd":"pay","exp":1}
{"#":"pay.again.ret","e":"ret","t":2004000,"id":"3","out":"ok","ver":2,"born":11,"reply":"r2"}
{"#":"ship.inv","e":"inv","t":2005000,"id":"4","c":"c1","tenant":"t","wf":"o-1","op":"cmd","key":"k-ship","cmd":"ship"}
{"#":"ship.ret","e":"ret","t":3000000,"id":"4","out":"ok","ver":3,"born":11,"reply":"r3"}
{"#":"stale.inv","e":"inv","t":3001000,"id":"5","c":"c2","tenant":"t","wf":"o-1","op":"read","lvl":"stale"}
{"#":"stale.ret","e":"ret","t":3002000,"id":"5","out":"ok","ver":1,"born":11,"state":"s1","age_ms":5}
{"#":"read.inv","e":"inv","t":3003000,"id":"6","c":"c1","tenant":"t","wf":"o-1","op":"read","lvl":"lin"}
{"#":"read.ret","e":"ret","t":3004000,"id":"6","out":"ok","ver":3,"born":11,"state":"s3"}
{"#":"kill.begin","e":"nem","t":3004500,"fault":"kill","ph":"begin","budget_ms":1000}
{"#":"late.inv","e":"inv","t":3005000,"id":"7","c":"c1","tenant":"t","wf":"o-1","op":"cmd","key":"k-late","cmd":"pay","exp":1}
{"#":"late.ret","e":"ret","t":3400000,"id":"7","out":"rejected","ver":3,"born":11,"reason":"version_conflict"}
{"#":"kill.end","e":"nem","t":3405000,"fault":"kill","ph":"end"}
{"#":"lease.inv","e":"inv","t":3600000,"id":"8","c":"w1","tenant":"t","op":"lease"}
{"#":"lease.ret","e":"ret","t":3700000,"id":"8","out":"ok","task":"job","tok":1}
{"#":"done.inv","e":"inv","t":3800000,"id":"9","c":"w1","tenant":"t","op":"done","task":"job","tok":1}
{"#":"done.ret","e":"ret","t":4900000,"id":"9","out":"ok"}
{"#":"last.inv","e":"inv","t":4950000,"id":"10","c":"c1","tenant":"t","wf":"o-1","op":"read","lvl":"lin"}
{"#":"last.ret","e":"ret","t":5000000,"id":"10","out":"ok","ver":5,"born":11}
{"#":"anchor","e":"anchor","node":"a","wall":1000000000,"t":0}
{"#":"end","e":"end","t":10000000,"grace_ms":1,"skew_ms":0}
"##;

/// What a node holds; `N` becomes its name.
const NODE: &str = r##"
{"#":"start.N","pos":11,"ver":1,"exp":0,"kind":"start","key":"k-start","cmd":"start","state":"s1","reply":"r1","at":1000500000,"arm":[{"id":"t","gen":1,"due":1003500000}],"tasks":[{"a":"sched","id":"job"}],"chain":"h11"}
{"#":"pay.N","pos":13,"ver":2,"exp":1,"kind":"cmd","key":"k-pay","cmd":"pay","state":"s2","reply":"r2","at":1001500000,"chain":"h13"}
{"#":"ship.N","pos":14,"ver":3,"exp":2,"kind":"cmd","key":"k-ship","cmd":"ship","state":"s3","reply":"r3","at":1002500000,"chain":"h14"}
{"#":"fire.N","pos":15,"ver":4,"exp":3,"kind":"timer","fire":{"id":"t","gen":1},"state":"s4","at":1003500000,"chain":"h15"}
{"#":"late.N","pos":16,"ver":3,"kind":"refused","key":"k-late","cmd":"pay","reason":"version_conflict","at":1003500000,"chain":"h16"}
{"#":"lease.N","pos":17,"ver":4,"kind":"lease","tasks":[{"a":"lease","id":"job","tok":1,"who":"w1"}],"at":1003600000,"chain":"h17"}
{"#":"done.N","pos":18,"ver":5,"exp":4,"kind":"task","tasks":[{"a":"done","id":"job","tok":1}],"state":"s5","at":1003900000,"chain":"h18"}
"##;

impl Script {
    /// Returns the healthy run.
    pub(crate) fn clean() -> Self {
        let read = |text: &str| {
            text.trim()
                .lines()
                .map(|row| serde_json::from_str(row).unwrap())
                .collect::<Vec<Value>>()
        };
        let mut lines = read(CLIENTS);
        for node in ["a", "b"] {
            for mut line in read(&NODE.replace(".N", &format!(".{node}"))) {
                let common = format!(
                    r#"{{"e":"entry","node":"{node}","n":1,"tenant":"t","wf":"o-1","shard":0,"born":11,"bepoch":0,"term":1,"leader":"a","def":"d1","actor":"ann"}}"#
                );
                let common: Value = serde_json::from_str(&common).unwrap();
                for (key, value) in common.as_object().unwrap() {
                    line[key.as_str()] = value.clone();
                }
                lines.push(line);
            }
            let end = format!(
                r##"{{"#":"shard.{node}","e":"shard","node":"{node}","n":1,"shard":0,"pos":18,"chain":"h18"}}"##
            );
            lines.push(serde_json::from_str(&end).unwrap());
        }
        Self(lines)
    }

    fn at(&mut self, name: &str) -> &mut Value {
        self.0
            .iter_mut()
            .find(|line| line["#"] == name)
            .unwrap_or_else(|| panic!("no line is called {name}"))
    }

    /// Changes one field of one line; `value` is JSON.
    pub(crate) fn with(mut self, name: &str, field: &str, value: &str) -> Self {
        self.at(name)[field] = serde_json::from_str(value).unwrap();
        self
    }

    /// Changes one field of an entry on both nodes.
    pub(crate) fn both(self, name: &str, field: &str, value: &str) -> Self {
        self.with(&format!("{name}.a"), field, value).with(&format!("{name}.b"), field, value)
    }

    /// Removes a line.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.at(name);
        self.0.retain(|line| line["#"] != name);
        self
    }

    /// Adds a line.
    pub(crate) fn add(mut self, line: &str) -> Self {
        self.0.push(serde_json::from_str(line).unwrap());
        self
    }

    /// Repeats a line.
    pub(crate) fn twice(mut self, name: &str) -> Self {
        let line = self.at(name).clone();
        self.0.push(line);
        self
    }

    /// Returns the file.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Returns the verdict.
    pub(crate) fn verdict(&self) -> Verdict {
        judge(&History::parse(self.text()), &Demands::LEAST)
    }

    /// Asserts that a rule is broken in these words, with proof.
    pub(crate) fn finds(&self, code: &str, words: &str) {
        let verdict = self.verdict();
        let found = verdict
            .violations()
            .iter()
            .find(|found| found.rule.code() == code && found.what.contains(words));
        let found =
            found.unwrap_or_else(|| panic!("{code} `{words}` was not found in:\n{verdict}"));
        assert!(!found.evidence.is_empty(), "no proof for {found}");
    }

    /// Asserts that a rule is not broken.
    pub(crate) fn lacks(&self, code: &str) {
        let verdict = self.verdict();
        assert!(verdict.violations().iter().all(|found| found.rule.code() != code), "{verdict}");
    }

    /// Asserts that nothing is broken and nothing is in doubt.
    pub(crate) fn is_valid(&self) {
        let verdict = self.verdict();
        assert!(verdict.is_valid(), "{verdict}");
    }

    /// Asserts that nothing is broken, but something is in doubt.
    pub(crate) fn is_undecided(&self, words: &str) {
        let verdict = self.verdict();
        let Finding::Undecided { why } = &verdict.finding else { panic!("decided: {verdict}") };
        assert!(why.iter().any(|why| why.contains(words)), "{verdict}");
    }
}
