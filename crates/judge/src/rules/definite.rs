//! S9: definite answers are true.
//!
//! `rejected` means judged and not applied: no entry of that key ever applies. `fail` means that this attempt did
//! nothing: an applied entry of its key needs another attempt that may have caused it. `ok` means applied: an entry
//! that only refuses contradicts it.
//!
//! A postponed command makes an entry and may be refused later: the entry that settled it is of kind `queue`.

use super::{Proof, Report};
use crate::{
    dump::{Entry, Kind},
    event::{Out, Ret},
    history::Attempt,
    index::{Instance, is_judged},
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        for (key, attempts) in &instance.keys {
            let entries =
                || instance.by_key.get(key).into_iter().flatten().map(|record| record.entry);
            let applied = entries().find(|entry| entry.is_change());
            let refused = entries().find(|entry| entry.kind == Kind::Refused);
            match (applied, refused) {
                (Some(applied), Some(refused)) => both(report, instance, key, applied, refused),
                (Some(applied), None) => only_applied(report, instance, key, attempts, applied),
                (None, Some(refused)) => only_refused(report, instance, key, attempts, refused),
                (None, None) => (),
            }
        }
    }
}

fn both(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    key: &str,
    applied: &Entry,
    refused: &Entry,
) {
    let what = format!("key {key} was refused and also applied");
    report.violate(
        Rule::Definite,
        instance.name(),
        what,
        Proof::default().and(applied).and(refused),
    );
}

fn only_applied(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    key: &str,
    attempts: &[&Attempt],
    applied: &Entry,
) {
    let was_postponed = attempts.iter().any(|attempt| attempt.out() == Out::Postponed);
    for attempt in attempts {
        let Some(ret) = attempt.ret.as_ref().filter(|ret| is_judged(ret)) else { continue };
        let was_settled =
            instance.record_of(ret).is_some_and(|record| record.entry.kind == Kind::Queue);
        if !was_postponed && !was_settled {
            let what = format!("key {key} was answered `rejected`, but it was applied");
            report.violate(
                Rule::Definite,
                instance.name(),
                what,
                Proof::attempt(attempt).and(applied),
            );
        }
    }
    if !attempts.iter().any(|attempt| may_apply(attempt)) {
        let what = format!("every attempt of key {key} certainly failed, but it was applied");
        let proof =
            attempts.iter().fold(Proof::default(), |proof, attempt| proof.and_attempt(attempt));
        report.violate(Rule::Definite, instance.name(), what, proof.and(applied));
    }
}

fn may_apply(attempt: &Attempt) -> bool {
    match attempt.out() {
        Out::Ok | Out::Unknown | Out::Postponed => true,
        // A judged rejection of an applied key has been named above.
        Out::Rejected => attempt.ret.as_ref().is_some_and(is_judged),
        Out::Fail => false,
    }
}

fn only_refused(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    key: &str,
    attempts: &[&Attempt],
    refused: &Entry,
) {
    let is_contradicted = |ret: &Ret| matches!(ret.out, Out::Ok | Out::Postponed);
    if let Some(attempt) =
        attempts.iter().find(|attempt| attempt.ret.as_ref().is_some_and(is_contradicted))
    {
        let what = format!("key {key} was acknowledged, but its only entry is a refusal");
        report.violate(Rule::Definite, instance.name(), what, Proof::attempt(attempt).and(refused));
    }
    if attempts.iter().all(|attempt| attempt.out() == Out::Fail) {
        let what = format!("every attempt of key {key} certainly failed, but it was judged");
        let proof =
            attempts.iter().fold(Proof::default(), |proof, attempt| proof.and_attempt(attempt));
        report.violate(Rule::Definite, instance.name(), what, proof.and(refused));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn a_rejected_command_that_was_applied_is_found() {
        let script = Script::clean().with("ship.ret", "out", "\"rejected\"").with(
            "ship.ret",
            "reason",
            "\"not_handled\"",
        );
        script.finds("S9", "key k-ship was answered `rejected`, but it was applied");
    }

    #[test]
    fn a_command_that_certainly_failed_and_was_applied_is_found() {
        Script::clean()
            .with("ship.ret", "out", "\"fail\"")
            .finds("S9", "every attempt of key k-ship certainly failed");
    }

    #[test]
    fn a_failed_attempt_beside_an_unknown_one_is_no_lie() {
        let script = Script::clean().with("pay.ret", "out", "\"unknown\"").with(
            "pay.again.ret",
            "out",
            "\"fail\"",
        );
        script.is_valid();
    }

    #[test]
    fn an_acknowledged_command_that_was_only_refused_is_found() {
        let script = Script::clean().with("late.ret", "out", "\"ok\"");
        script.finds("S9", "key k-late was acknowledged, but its only entry is a refusal");
    }

    #[test]
    fn a_key_that_was_refused_and_also_applied_is_found() {
        Script::clean()
            .both("late", "key", "\"k-ship\"")
            .finds("S9", "key k-ship was refused and also applied");
    }

    #[test]
    fn a_judged_command_whose_every_attempt_failed_is_found() {
        Script::clean()
            .with("late.ret", "out", "\"fail\"")
            .finds("S9", "certainly failed, but it was judged");
    }
}
