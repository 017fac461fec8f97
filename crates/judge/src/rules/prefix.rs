//! S7: a read shows a committed prefix, and never goes back where it promised not to.
//!
//! Every read names a version that exists in the end, with that version's state. A session read is at or above all
//! that its client has seen of the instance; a read with a minimum is at or above it; a read that says how old it may
//! be shows everything that was acknowledged before that age began.
//!
//! Deliberately absent: monotony of stale reads without a minimum. Two nodes may lag differently, and may say so.

use std::collections::BTreeMap;

use super::{Proof, Report};
use crate::{
    event::{Level, Op, Out, Ret},
    history::Attempt,
    index::{Instance, Place, is_judged},
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        let acknowledged = acknowledged(instance);
        for attempt in &instance.attempts {
            if let (Op::Read, Out::Ok, Some(ret)) = (attempt.inv.op, attempt.out(), &attempt.ret) {
                exists(report, instance, attempt, ret);
                is_above_minimum(report, instance, attempt, ret);
                is_as_young_as_it_says(report, instance, attempt, ret, &acknowledged);
            }
        }
        sessions(report, instance);
    }
}

fn exists(report: &mut Report<'_, '_>, instance: &Instance<'_>, attempt: &Attempt, ret: &Ret) {
    let Some((born, ver)) = instance.place(ret) else { return };
    let life = instance.lives.get(&born);
    if life.is_none_or(|life| life.last() < ver) {
        let can_tell = report.index.is_dumped() && !report.index.is_purged(instance.shard());
        if can_tell {
            let what = format!("a read saw version {ver} of life {born}, which no node holds");
            report.violate(Rule::Prefix, instance.name(), what, Proof::attempt(attempt));
        }
        return;
    }
    if let Some(record) = instance.record_of(ret)
        && let (Some(seen), Some(held)) = (&ret.state, &record.entry.state)
        && seen != held
    {
        let what = format!("a read saw a state at version {ver} that no entry made");
        report.violate(
            Rule::Prefix,
            instance.name(),
            what,
            Proof::attempt(attempt).and(record.entry),
        );
    }
}

fn is_above_minimum(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    attempt: &Attempt,
    ret: &Ret,
) {
    if let (Some(min), Some(ver)) = (attempt.inv.min, ret.ver)
        && ver < min
    {
        let what = format!("a read that asked for version {min} or above saw {ver}");
        report.violate(Rule::Prefix, instance.name(), what, Proof::attempt(attempt));
    }
}

/// Returns (time, newest place acknowledged until then), by time.
fn acknowledged<'h>(instance: &Instance<'h>) -> Vec<(i64, Place, &'h Attempt)> {
    let answers = instance.attempts.iter().copied().filter_map(|attempt| {
        let ret = attempt.ret.as_ref()?;
        let is_seen = attempt.inv.op == Op::Cmd && (ret.out == Out::Ok || is_judged(ret));
        Some((ret.t, instance.place(ret).filter(|_| is_seen)?, attempt))
    });
    let mut steps: Vec<_> = answers.collect();
    steps.sort_by_key(|(t, place, _)| (*t, *place));
    for at in 1..steps.len() {
        let (_, before, witness) = steps[at - 1];
        if before > steps[at].1 {
            steps[at] = (steps[at].0, before, witness);
        }
    }
    steps
}

fn is_as_young_as_it_says(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    attempt: &Attempt,
    ret: &Ret,
    acknowledged: &[(i64, Place, &Attempt)],
) {
    let (Some(age_ms), Some(place)) = (ret.age_ms, instance.place(ret)) else { return };
    // The age is rounded down to a millisecond and counts from some moment after the read began.
    let since = attempt.inv.t.saturating_sub(age_ms.saturating_add(1).saturating_mul(1_000_000));
    let upto = acknowledged.partition_point(|(t, _, _)| *t < since);
    let Some((_, newest, witness)) = upto.checked_sub(1).and_then(|at| acknowledged.get(at)) else {
        return;
    };
    if place < *newest {
        let what = format!(
            "a read of age {age_ms} ms saw version {}, version {} was acknowledged before that",
            place.1, newest.1
        );
        report.violate(
            Rule::Prefix,
            instance.name(),
            what,
            Proof::attempt(witness).and_attempt(attempt),
        );
    }
}

fn sessions(report: &mut Report<'_, '_>, instance: &Instance<'_>) {
    let mut answers: Vec<(i64, &Attempt, &Ret)> = instance
        .attempts
        .iter()
        .filter_map(|attempt| Some((attempt.ret.as_ref()?.t, *attempt, attempt.ret.as_ref()?)))
        .collect();
    answers.sort_by_key(|(t, attempt, _)| (*t, attempt.ret_line));
    let mut seen: BTreeMap<&str, (Place, &Attempt)> = BTreeMap::new();
    for (_, attempt, ret) in answers {
        if !(ret.out == Out::Ok || is_judged(ret)) {
            continue;
        }
        let Some(place) = instance.place(ret) else { continue };
        let client = attempt.inv.c.as_str();
        if attempt.inv.op == Op::Read
            && attempt.inv.lvl == Some(Level::Session)
            && let Some((newest, witness)) = seen.get(client)
            && place < *newest
        {
            let what = format!(
                "client {client} saw version {}, then version {} in the same session",
                newest.1, place.1
            );
            report.violate(
                Rule::Prefix,
                instance.name(),
                what,
                Proof::attempt(witness).and_attempt(attempt),
            );
        }
        let newest = seen.entry(client).or_insert((place, attempt));
        if newest.0 < place {
            *newest = (place, attempt);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn a_read_of_a_version_that_nobody_holds_is_found() {
        Script::clean()
            .with("read.ret", "ver", "9")
            .finds("S7", "saw version 9 of life 11, which no node holds");
    }

    #[test]
    fn a_read_of_a_state_that_no_entry_made_is_found() {
        Script::clean()
            .with("read.ret", "state", "\"s9\"")
            .finds("S7", "saw a state at version 3 that no entry made");
    }

    #[test]
    fn a_session_that_goes_back_is_found() {
        let script =
            Script::clean().with("read.inv", "lvl", "\"session\"").with("read.ret", "ver", "2");
        script
            .with("read.ret", "state", "null")
            .finds("S7", "saw version 3, then version 2 in the same session");
    }

    #[test]
    fn a_minimum_that_is_not_kept_is_found() {
        let script = Script::clean().with("stale.inv", "min", "2");
        script.finds("S7", "asked for version 2 or above saw 1");
    }

    #[test]
    fn a_stale_read_that_is_older_than_it_says_is_found() {
        let script =
            Script::clean().with("stale.inv", "t", "3100000").with("stale.ret", "t", "3200000");
        let script = script.with("stale.ret", "age_ms", "0");
        script.finds("S7", "a read of age 0 ms saw version 1, version 2 was acknowledged");
    }
}
