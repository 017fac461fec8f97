//! S3: a retry gets the stored answer, byte for byte, and the answer is that of its entry.
//!
//! All definite answers to one key are equal in outcome, version, life and bytes. A postponed command answers twice:
//! with its ticket until it is settled, then with the final answer; each of the two repeats exactly.
//!
//! Answers that depend on the request alone (`key_reused`, a bad body) are not stored and not compared.

use super::{Proof, Report};
use crate::{
    dump::Kind,
    event::{Out, Ret},
    history::Attempt,
    index::{Instance, is_judged},
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        for (key, attempts) in &instance.keys {
            let with = |wanted: fn(&Ret) -> bool| -> Vec<&Attempt> {
                let answered = attempts.iter().copied();
                answered.filter(|attempt| attempt.ret.as_ref().is_some_and(wanted)).collect()
            };
            let finals = with(|ret| ret.out == Out::Ok || is_judged(ret));
            equal(report, instance, key, &finals);
            equal(report, instance, key, &with(|ret| ret.out == Out::Postponed));
            if let Some(attempt) = finals.iter().find(|attempt| attempt.out() == Out::Ok) {
                names_its_entry(report, instance, key, attempt);
            }
        }
    }
}

fn equal(report: &mut Report<'_, '_>, instance: &Instance<'_>, key: &str, answers: &[&Attempt]) {
    let Some((first, others)) = answers.split_first() else { return };
    for other in others {
        if let (Some(a), Some(b)) = (&first.ret, &other.ret)
            && let Some(field) = difference(a, b)
        {
            let what = format!("two answers to key {key} differ in {field}");
            report.violate(
                Rule::Answer,
                instance.name(),
                what,
                Proof::attempt(first).and_attempt(other),
            );
        }
    }
}

fn difference(a: &Ret, b: &Ret) -> Option<&'static str> {
    let differs = |a: Option<u64>, b: Option<u64>| a.is_some() && b.is_some() && a != b;
    if a.out != b.out {
        Some("their outcome")
    } else if a.ver != b.ver {
        Some("their version")
    } else if differs(a.born, b.born) {
        Some("the life they name")
    } else if a.reason != b.reason {
        Some("their reason")
    } else if a.reply != b.reply {
        Some("their bytes")
    } else {
        None
    }
}

fn names_its_entry(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    key: &str,
    attempt: &Attempt,
) {
    let Some(ret) = &attempt.ret else { return };
    let applied =
        instance.by_key.get(key).into_iter().flatten().find(|record| record.entry.is_change());
    let (Some(applied), Some(place)) = (applied, instance.place(ret)) else { return };
    let named = instance.record_of(ret);
    let was_settled_later = named.is_some_and(|record| record.entry.kind == Kind::Queue);
    if applied.entry.place() != place && !was_settled_later {
        let found = applied.entry.place().1;
        let what = format!(
            "the answer to key {key} names version {}, its entry made version {found}",
            place.1
        );
        report.violate(
            Rule::Answer,
            instance.name(),
            what,
            Proof::attempt(attempt).and(applied.entry),
        );
        return;
    }
    let record = if was_settled_later { named } else { Some(*applied) };
    if let Some(entry) = record.map(|record| record.entry)
        && let (Some(told), Some(stored)) = (&ret.reply, &entry.reply)
        && told != stored
    {
        let what = format!("the answer to key {key} is not the one that its entry stored");
        report.violate(Rule::Answer, instance.name(), what, Proof::attempt(attempt).and(entry));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn a_retry_that_gets_another_version_is_found() {
        Script::clean()
            .with("pay.again.ret", "ver", "4")
            .finds("S3", "two answers to key k-pay differ in their version");
    }

    #[test]
    fn a_retry_that_gets_other_bytes_is_found() {
        Script::clean()
            .with("pay.again.ret", "reply", "\"zz\"")
            .finds("S3", "differ in their bytes");
    }

    #[test]
    fn a_retry_that_meets_version_conflict_instead_of_its_receipt_is_found() {
        let script = Script::clean().with("pay.again.ret", "out", "\"rejected\"");
        script
            .with("pay.again.ret", "reason", "\"version_conflict\"")
            .finds("S3", "differ in their outcome");
    }

    #[test]
    fn an_answer_that_names_a_version_its_entry_did_not_make_is_found() {
        let script = Script::clean().with("pay.ret", "ver", "3").with("pay.again.ret", "ver", "3");
        script.finds("S3", "names version 3, its entry made version 2");
    }

    #[test]
    fn an_answer_whose_bytes_are_not_the_stored_ones_is_found() {
        let script =
            Script::clean().with("pay.a", "reply", "\"other\"").with("pay.b", "reply", "\"other\"");
        script.finds("S3", "is not the one that its entry stored");
    }

    #[test]
    fn a_postponed_command_may_answer_its_ticket_and_later_its_end() {
        let script = Script::clean()
            .with("pay.ret", "out", "\"postponed\"")
            .with("pay.ret", "reply", "null")
            .with("pay.again.ret", "ver", "3")
            .with("pay.again.ret", "reply", "null")
            .with("ship.a", "kind", "\"queue\"")
            .with("ship.b", "kind", "\"queue\"");
        script.lacks("S3");
    }

    #[test]
    fn a_reused_key_is_no_second_answer() {
        let script = Script::clean().with("pay.again.ret", "out", "\"rejected\"");
        script.with("pay.again.ret", "reason", "\"key_reused\"").is_valid();
    }
}
