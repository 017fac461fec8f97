//! S11: a task has at most one holder per token, tokens rise, and a stale token completes nothing.
//!
//! Judged twice: in the log, where every lease raises the task's token and the end carries the newest one; and among
//! the answers, where no two workers were given one token and no completion with another token was acknowledged.

use std::collections::BTreeMap;

use super::{Proof, Report};
use crate::{
    dump::{Entry, TaskAct, TaskMark},
    event::{Op, Out},
    history::Attempt,
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for ((tenant, task), marks) in &index.tasks {
        in_log(report, &format!("{tenant}, task {task}"), marks);
    }
    among_answers(report);
}

fn in_log(report: &mut Report<'_, '_>, subject: &str, marks: &[(&Entry, &TaskMark)]) {
    let mut holder: Option<(&Entry, &TaskMark)> = None;
    let mut ended: Option<&Entry> = None;
    let mut scheduled: Option<&Entry> = None;
    for (entry, mark) in marks.iter().copied() {
        if let Some(end) = ended.filter(|end| end.pos != entry.pos) {
            let what = "it was touched after its end";
            report.violate(Rule::Lease, subject, what, Proof::default().and(end).and(entry));
        }
        match mark.a {
            TaskAct::Sched => {
                if let Some(first) = scheduled.replace(entry) {
                    let what = "it was scheduled twice";
                    report.violate(
                        Rule::Lease,
                        subject,
                        what,
                        Proof::default().and(first).and(entry),
                    );
                }
            }
            TaskAct::Lease => {
                if let Some((before, old)) = holder
                    && mark.tok <= old.tok
                    && !(mark.tok == old.tok && mark.who == old.who)
                {
                    let what = "a lease did not raise the token";
                    report.violate(
                        Rule::Lease,
                        subject,
                        what,
                        Proof::default().and(before).and(entry),
                    );
                }
                holder = Some((entry, mark));
            }
            TaskAct::Done => {
                if let Some((before, held)) = holder
                    && mark.tok.is_some()
                    && mark.tok != held.tok
                {
                    let what = "it was ended with a stale token";
                    report.violate(
                        Rule::Lease,
                        subject,
                        what,
                        Proof::default().and(before).and(entry),
                    );
                }
                ended = Some(entry);
            }
            TaskAct::Cancel => ended = Some(entry),
        }
    }
}

fn among_answers(report: &mut Report<'_, '_>) {
    let index = report.index;
    let mut given: BTreeMap<(&str, &str, u64), &Attempt> = BTreeMap::new();
    for attempt in &index.history.attempts {
        let Some(ret) = attempt.ret.as_ref().filter(|ret| ret.out == Out::Ok) else { continue };
        let tenant = attempt.inv.tenant.as_str();
        match attempt.inv.op {
            Op::Lease => {
                let (Some(task), Some(tok)) = (ret.task.as_deref(), ret.tok) else { continue };
                let first = *given.entry((tenant, task, tok)).or_insert(attempt);
                let is_repeat = first.inv.c == attempt.inv.c
                    || (first.inv.key.is_some() && first.inv.key == attempt.inv.key);
                if !is_repeat {
                    let what = format!(
                        "token {tok} was given to clients {} and {}",
                        first.inv.c, attempt.inv.c
                    );
                    let proof = Proof::attempt(first).and_attempt(attempt);
                    report.violate(Rule::Lease, format!("{tenant}, task {task}"), what, proof);
                }
            }
            Op::Done => completed(report, attempt),
            Op::Cmd | Op::Read | Op::List | Op::Watch | Op::Deploy | Op::Revoke => (),
        }
    }
}

/// Holds an acknowledged completion against the entry that ended the task.
fn completed(report: &mut Report<'_, '_>, attempt: &Attempt) {
    let (Some(task), Some(tok)) = (attempt.inv.task.as_deref(), attempt.inv.tok) else { return };
    let tenant = attempt.inv.tenant.as_str();
    let marks = report.index.tasks.get(&(tenant, task)).into_iter().flatten();
    let ends: Vec<_> = marks.filter(|(_, mark)| mark.a == TaskAct::Done).collect();
    if let Some((entry, _)) = ends.first()
        && !ends.iter().any(|(_, mark)| mark.tok.is_none() || mark.tok == Some(tok))
    {
        let what =
            format!("a completion with token {tok} was acknowledged, but another token ended it");
        report.violate(
            Rule::Lease,
            format!("{tenant}, task {task}"),
            what,
            Proof::attempt(attempt).and(entry),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    const SECOND_LEASE: &str = r#"[{"a":"lease","id":"job","tok":1,"who":"w2"}]"#;

    #[test]
    fn two_holders_of_one_token_are_found() {
        Script::clean()
            .both("fire", "tasks", SECOND_LEASE)
            .finds("S11", "a lease did not raise the token");
    }

    #[test]
    fn a_stale_token_that_ends_a_task_is_found() {
        let script = Script::clean().both(
            "lease",
            "tasks",
            r#"[{"a":"lease","id":"job","tok":2,"who":"w1"}]"#,
        );
        script.finds("S11", "it was ended with a stale token");
    }

    #[test]
    fn a_task_that_is_touched_after_its_end_is_found() {
        Script::clean()
            .both("pay", "tasks", r#"[{"a":"done","id":"job","tok":1}]"#)
            .finds("S11", "touched after its end");
    }

    #[test]
    fn a_task_that_is_scheduled_twice_is_found() {
        Script::clean()
            .both("pay", "tasks", r#"[{"a":"sched","id":"job"}]"#)
            .finds("S11", "it was scheduled twice");
    }

    #[test]
    fn one_token_for_two_workers_is_found() {
        let script = Script::clean()
            .add(r#"{"e":"inv","t":5100000,"id":"l2","c":"w2","tenant":"t","op":"lease"}"#)
            .add(r#"{"e":"ret","t":5200000,"id":"l2","out":"ok","task":"job","tok":1}"#);
        script.finds("S11", "token 1 was given to clients w1 and w2");
    }

    #[test]
    fn an_acknowledged_completion_with_another_token_is_found() {
        Script::clean()
            .with("done.inv", "tok", "7")
            .finds("S11", "a completion with token 7 was acknowledged");
    }
}
