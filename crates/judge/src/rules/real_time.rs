//! S6: what was acknowledged before something began is seen by it.
//!
//! A command whose first attempt began after version v was seen makes a version above v; a judgement is made at v or
//! above; a linearizable read sees v or above. The harness has one clock, so "before" is a comparison of numbers. An
//! answer that was itself stored earlier (a retry) counts from the first attempt of its key.
//!
//! Invariant: at equal times a begin goes first: what cannot be told apart is no violation.

use std::collections::BTreeMap;

use super::{Proof, Report};
use crate::{
    event::{Level, Op, Out, Ret},
    history::Attempt,
    index::{Instance, Place, is_judged},
    verdict::Rule,
};

/// The newest place that somebody had seen, and who.
type Bound<'h> = Option<(Place, &'h Attempt)>;

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        sweep(report, instance);
    }
}

fn sweep(report: &mut Report<'_, '_>, instance: &Instance<'_>) {
    let mut moments = Vec::with_capacity(2 * instance.attempts.len());
    for (number, attempt) in instance.attempts.iter().enumerate() {
        moments.push((attempt.inv.t, false, number));
        if let Some(ret) = &attempt.ret {
            moments.push((ret.t, true, number));
        }
    }
    moments.sort_unstable();
    let mut newest: Bound<'_> = None;
    let mut bounds: Vec<Bound<'_>> = vec![None; instance.attempts.len()];
    let mut by_key: BTreeMap<&str, Bound<'_>> = BTreeMap::new();
    for (_, is_answer, number) in moments {
        let attempt = instance.attempts[number];
        if !is_answer {
            let key = attempt.inv.key.as_deref().filter(|_| attempt.inv.op == Op::Cmd);
            bounds[number] = match key {
                Some(key) => *by_key.entry(key).or_insert(newest),
                None => newest,
            };
            continue;
        }
        let Some(ret) = &attempt.ret else { continue };
        if let Some(bound) = bounds[number] {
            held_against(report, instance, attempt, ret, bound);
        }
        let is_seen = matches!(ret.out, Out::Ok | Out::Postponed) || is_judged(ret);
        if let Some(place) = instance.place(ret).filter(|_| is_seen)
            && newest.is_none_or(|(old, _)| old < place)
        {
            newest = Some((place, attempt));
        }
    }
}

fn held_against(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    attempt: &Attempt,
    ret: &Ret,
    (bound, witness): (Place, &Attempt),
) {
    let is_fresh = attempt.inv.op == Op::Cmd || matches!(attempt.inv.lvl, None | Some(Level::Lin));
    if !matches!(attempt.inv.op, Op::Cmd | Op::Read) || !is_fresh {
        return;
    }
    let proof = || Proof::attempt(witness).and_attempt(attempt);
    let is_missing = ret.out == Out::Rejected && ret.reason.as_deref() == Some("unknown_instance");
    if is_missing {
        report.violate(
            Rule::RealTime,
            instance.name(),
            "it was seen, then called unknown",
            proof(),
        );
        return;
    }
    let Some(place) = instance.place(ret) else { return };
    let (seen, made) = (bound.1, place.1);
    let is_change = attempt.inv.op == Op::Cmd && matches!(ret.out, Out::Ok | Out::Postponed);
    if is_change && place <= bound {
        let what = format!(
            "version {made} was made by a command that began after version {seen} was seen"
        );
        report.violate(Rule::RealTime, instance.name(), what, proof());
    } else if attempt.inv.op == Op::Cmd && is_judged(ret) && place < bound {
        let what = format!(
            "a command that began after version {seen} was seen was judged at version {made}"
        );
        report.violate(Rule::RealTime, instance.name(), what, proof());
    } else if attempt.inv.op == Op::Read && ret.out == Out::Ok && place < bound {
        let what = format!(
            "a linearizable read that began after version {seen} was seen saw version {made}"
        );
        report.violate(Rule::RealTime, instance.name(), what, proof());
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn a_linearizable_read_of_the_past_is_found() {
        let script = Script::clean().with("read.ret", "ver", "2").with("read.ret", "state", "null");
        script.finds("S6", "a linearizable read that began after version 3 was seen saw version 2");
    }

    #[test]
    fn commands_in_the_wrong_order_are_found() {
        let script = Script::clean().with("start.ret", "ver", "3").with("ship.ret", "ver", "1");
        script.finds("S6", "version 1 was made by a command that began after version 3 was seen");
    }

    #[test]
    fn a_rejection_judged_in_the_past_is_found() {
        Script::clean().with("late.ret", "ver", "1").finds("S6", "was judged at version 1");
    }

    #[test]
    fn an_instance_that_is_forgotten_is_found() {
        let script =
            Script::clean().with("read.ret", "out", "\"rejected\"").with("read.ret", "ver", "null");
        script
            .with("read.ret", "reason", "\"unknown_instance\"")
            .finds("S6", "it was seen, then called unknown");
    }

    #[test]
    fn concurrent_commands_may_come_in_any_order() {
        // `ship` begins before `pay` is answered, so either may be first.
        Script::clean().with("ship.inv", "t", "2005").is_valid();
    }
}
