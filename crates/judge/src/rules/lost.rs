//! S1: an acknowledged command is never lost.
//!
//! Every command answered `ok` or `postponed` has its entry, found by its key, on every complete copy of its shard.
//! Rows that were purged before the dump make it undecided; a copy that ends before the entry is lagging, which is
//! undecided too: it may still catch up, and only the copy's keeper can say.
//!
//! Deliberately absent: whether the answer names the right version (`answer`), and whether copies agree (`replica`).

use super::{Proof, Report};
use crate::{
    event::{Op, Out},
    history::Attempt,
    index::{Instance, Record},
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    if !report.index.is_dumped() {
        return;
    }
    let index = report.index;
    for instance in &index.instances {
        for (key, attempts) in &instance.keys {
            if let Some(attempt) = attempts.iter().find(|attempt| is_acknowledged(attempt)) {
                command(report, instance, key, attempt);
            }
        }
    }
    for attempt in &index.history.attempts {
        if attempt.inv.op == Op::Done && attempt.out() == Out::Ok {
            completion(report, attempt);
        }
    }
}

fn is_acknowledged(attempt: &Attempt) -> bool {
    matches!(attempt.out(), Out::Ok | Out::Postponed)
}

fn command(report: &mut Report<'_, '_>, instance: &Instance<'_>, key: &str, attempt: &Attempt) {
    let by_key = instance
        .by_key
        .get(key)
        .and_then(|records| records.iter().find(|record| record.entry.is_change()));
    let unkeyed = || {
        let record = attempt.ret.as_ref().and_then(|ret| instance.record_of(ret))?;
        record.entry.key.is_none().then_some(record)
    };
    match by_key.copied().or_else(unkeyed) {
        Some(record) => held_everywhere(report, instance, attempt, record),
        None if report.index.is_purged(instance.shard()) => {
            report.doubt(format!(
                "{}: rows were purged, so key {key} cannot be looked up",
                instance.name()
            ));
        }
        None => {
            let what = format!("key {key} was acknowledged, but no node holds an entry for it");
            report.violate(Rule::Lost, instance.name(), what, Proof::attempt(attempt));
        }
    }
}

fn held_everywhere(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    attempt: &Attempt,
    record: Record<'_>,
) {
    let entry = record.entry;
    let index = report.index;
    for copy in index.copies.get(entry.shard.as_str()).into_iter().flatten() {
        let is_held =
            index.lines_of(record).iter().any(|line| (&line.node, line.n) == (&copy.node, copy.n));
        let is_purged = copy.purged.iter().any(|(from, upto)| (*from..=*upto).contains(&entry.pos));
        if is_held {
            continue;
        }
        if copy.pos < entry.pos {
            report.doubt(format!(
                "node {} ends shard {} at {}, before acknowledged entries",
                copy.node, copy.shard, copy.pos
            ));
        } else if is_purged {
            report.doubt(format!("node {} purged rows of shard {}", copy.node, copy.shard));
        } else {
            let what = format!(
                "node {} lacks the acknowledged entry at position {}",
                copy.node, entry.pos
            );
            report.violate(Rule::Lost, instance.name(), what, Proof::attempt(attempt).and(entry));
        }
    }
}

fn completion(report: &mut Report<'_, '_>, attempt: &Attempt) {
    let Some(task) = attempt.inv.task.as_deref() else { return };
    let marks = report.index.tasks.get(&(attempt.inv.tenant.as_str(), task));
    let is_held = marks
        .is_some_and(|marks| marks.iter().any(|(_, mark)| mark.a == crate::dump::TaskAct::Done));
    if is_held {
        return;
    }
    if report.index.is_purged(None) {
        report.doubt(format!("rows were purged, so the end of task {task} cannot be looked up"));
    } else {
        let what = "its completion was acknowledged, but no node holds an entry for it";
        report.violate(Rule::Lost, format!("task {task}"), what, Proof::attempt(attempt));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn an_acknowledged_command_without_any_entry_is_lost() {
        let script = Script::clean().without("pay.a").without("pay.b");
        script.finds("S1", "key k-pay was acknowledged, but no node holds an entry for it");
    }

    #[test]
    fn an_acknowledged_command_that_one_copy_lacks_is_lost_there() {
        Script::clean()
            .without("pay.b")
            .finds("S1", "node b lacks the acknowledged entry at position 13");
    }

    #[test]
    fn a_purged_range_makes_a_missing_entry_undecided() {
        let script = Script::clean().without("ship.b").with("shard.b", "purged", "[[14,14]]");
        script.is_undecided("node b purged rows of shard 0");
    }

    #[test]
    fn a_copy_that_lags_makes_it_undecided() {
        let mut script =
            Script::clean().with("shard.b", "pos", "13").with("shard.b", "chain", "null");
        for name in ["ship.b", "fire.b", "late.b", "lease.b", "done.b"] {
            script = script.without(name);
        }
        script.is_undecided("node b ends shard 0 at 13");
    }

    #[test]
    fn an_acknowledged_completion_without_an_entry_is_lost() {
        let script = Script::clean().with("done.a", "tasks", "[]").with("done.b", "tasks", "[]");
        script.finds("S1", "its completion was acknowledged");
    }

    #[test]
    fn without_a_dump_nothing_is_called_lost() {
        Script::clean().without("end").is_undecided("no `end` line");
    }
}
