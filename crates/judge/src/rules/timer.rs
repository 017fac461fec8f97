//! S10: a timer generation fires at most once, never after its cancellation, never early.
//!
//! Arming an id again replaces the generation before it. Early is judged twice: by shard time, where the firing
//! entry's own time must have reached the due time; and by real time, where nobody may *see* the firing's version
//! before the due time less the allowed skew, by wall clocks anchored to the harness's clock.
//!
//! Here too: an instance's time never goes back. Timers that never end are the business of `pending`.

use std::collections::BTreeMap;

use super::{Proof, Report};
use crate::{
    dump::{Arm, Entry, TimerMark},
    event::Out,
    history::Attempt,
    index::{Index, Instance, Life, is_judged},
    verdict::Rule,
};

/// What became of one generation.
pub(crate) struct Generation<'h> {
    pub(crate) arm: &'h Arm,
    pub(crate) armed_by: &'h Entry,
    pub(crate) fired_by: Option<&'h Entry>,
    pub(crate) cancelled_by: Option<&'h Entry>,
}

/// Timer id and generation.
type Name<'h> = (&'h str, u64);

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for instance in &index.instances {
        for (born, life) in &instance.lives {
            let mut problems = Vec::new();
            let generations = follow(life, &mut problems);
            for (what, proof) in problems {
                report.violate(Rule::Timer, instance.name(), what, proof);
            }
            let seen = first_seen(instance, *born);
            for generation in generations.values() {
                early(report, instance, generation, &seen);
            }
            time_never_goes_back(report, instance, life);
            unarmed(report, instance, life, &generations);
        }
    }
}

/// Follows every generation of a life through its entries.
pub(crate) fn follow<'h>(
    life: &Life<'h>,
    problems: &mut Vec<(String, Proof)>,
) -> BTreeMap<Name<'h>, Generation<'h>> {
    let mut generations: BTreeMap<Name<'h>, Generation<'h>> = BTreeMap::new();
    let mut current: BTreeMap<&'h str, u64> = BTreeMap::new();
    for entry in life.records.iter().map(|record| record.entry) {
        if let Some(mark) = &entry.fire
            && let Some(generation) = generations.get_mut(&name(mark))
        {
            let title = format!("timer {} generation {}", mark.id, mark.generation);
            if let Some(first) = generation.fired_by {
                problems
                    .push((format!("{title} fired twice"), Proof::default().and(first).and(entry)));
            } else if let Some(end) = generation.cancelled_by {
                problems.push((
                    format!("{title} fired after its cancellation"),
                    Proof::default().and(end).and(entry),
                ));
            }
            generation.fired_by.get_or_insert(entry);
        }
        for mark in &entry.cancel {
            if let Some(generation) = generations.get_mut(&name(mark)) {
                generation.cancelled_by.get_or_insert(entry);
            }
        }
        for arm in &entry.arm {
            if let Some(old) = current.insert(&arm.id, arm.generation)
                && old != arm.generation
                && let Some(generation) = generations.get_mut(&(arm.id.as_str(), old))
            {
                generation.cancelled_by.get_or_insert(entry);
            }
            let fresh = Generation { arm, armed_by: entry, fired_by: None, cancelled_by: None };
            if let Some(first) = generations.insert((&arm.id, arm.generation), fresh) {
                let what =
                    format!("timer {} generation {} was armed twice", arm.id, arm.generation);
                problems.push((what, Proof::default().and(first.armed_by).and(entry)));
            }
        }
    }
    generations
}

fn name(mark: &TimerMark) -> Name<'_> {
    (&mark.id, mark.generation)
}

fn unarmed(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    life: &Life<'_>,
    generations: &BTreeMap<Name<'_>, Generation<'_>>,
) {
    for entry in life.records.iter().map(|record| record.entry) {
        let Some(mark) = entry.fire.as_ref().filter(|mark| !generations.contains_key(&name(mark)))
        else {
            continue;
        };
        if report.index.is_purged(Some(&entry.shard)) {
            report.doubt(format!(
                "{}: the entry that armed timer {} was purged",
                instance.name(),
                mark.id
            ));
        } else {
            let what = format!(
                "timer {} generation {} fired, but was never armed",
                mark.id, mark.generation
            );
            report.violate(Rule::Timer, instance.name(), what, Proof::default().and(entry));
        }
    }
}

/// Returns, by version, when anybody first saw that version or a later one.
fn first_seen<'h>(instance: &Instance<'h>, born: u64) -> Vec<(u64, i64, &'h Attempt)> {
    let answers = instance.attempts.iter().copied().filter_map(|attempt| {
        let ret = attempt.ret.as_ref()?;
        let (life, ver) = instance.place(ret).filter(|_| ret.out == Out::Ok || is_judged(ret))?;
        (life == born).then_some((ver, ret.t, attempt))
    });
    let mut seen: Vec<_> = answers.collect();
    seen.sort_by_key(|(ver, t, _)| (*ver, *t));
    for at in (1..seen.len()).rev() {
        let (_, later, witness) = seen[at];
        if later < seen[at - 1].1 {
            seen[at - 1] = (seen[at - 1].0, later, witness);
        }
    }
    seen
}

fn early(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    generation: &Generation<'_>,
    seen: &[(u64, i64, &Attempt)],
) {
    let Some(fired) = generation.fired_by else { return };
    let arm = generation.arm;
    let title = format!("timer {} generation {}", arm.id, arm.generation);
    let proof = || Proof::default().and(generation.armed_by).and(fired);
    if let Some(at) = fired.at
        && at < arm.due
    {
        let what = format!("{title} fired {} ns before it was due", arm.due - at);
        report.violate(Rule::Timer, instance.name(), what, proof());
    }
    let first = seen.partition_point(|(ver, _, _)| *ver < fired.place().1);
    if let (Some((_, t, witness)), Some(earliest)) =
        (seen.get(first), earliest_on_harness_clock(report.index, arm.due))
        && *t < earliest
    {
        let what = format!(
            "the firing of {title} was seen {} ns before it may happen in real time",
            earliest - t
        );
        report.violate(Rule::Timer, instance.name(), what, proof().and_attempt(witness));
    }
}

fn earliest_on_harness_clock(index: &Index<'_>, due: i64) -> Option<i64> {
    let skew = index.history.end.as_ref()?.skew_ms.saturating_mul(1_000_000);
    due.checked_sub(index.wall_offset?)?.checked_sub(skew)
}

fn time_never_goes_back(report: &mut Report<'_, '_>, instance: &Instance<'_>, life: &Life<'_>) {
    let mut latest: Option<&Entry> = None;
    for entry in life.changes.iter().map(|record| record.entry).filter(|entry| entry.at.is_some()) {
        if let Some(before) = latest
            && entry.at < before.at
        {
            let what = format!("time goes back at version {}", entry.place().1);
            report.violate(
                Rule::Timer,
                instance.name(),
                what,
                Proof::default().and(before).and(entry),
            );
        }
        latest = Some(entry);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn a_timer_that_fires_twice_is_found() {
        let script = Script::clean().both("done", "fire", r#"{"id":"t","gen":1}"#);
        script.finds("S10", "timer t generation 1 fired twice");
    }

    #[test]
    fn a_timer_that_fires_after_its_cancellation_is_found() {
        let script = Script::clean().both("ship", "cancel", r#"[{"id":"t","gen":1}]"#);
        script.finds("S10", "timer t generation 1 fired after its cancellation");
    }

    #[test]
    fn a_generation_that_was_replaced_must_not_fire() {
        let script = Script::clean().both("ship", "arm", r#"[{"id":"t","gen":3,"due":9000000}]"#);
        script.finds("S10", "timer t generation 1 fired after its cancellation");
    }

    #[test]
    fn a_timer_that_fires_early_by_shard_time_is_found() {
        Script::clean()
            .both("fire", "at", "1003499999")
            .finds("S10", "fired 1 ns before it was due");
    }

    #[test]
    fn a_timer_that_fires_early_in_real_time_is_found() {
        let script =
            Script::clean().both("start", "arm", r#"[{"id":"t","gen":1,"due":1005500000}]"#);
        script
            .both("fire", "at", "1005500000")
            .both("done", "at", "1005500000")
            .finds("S10", "was seen 500000 ns before it may happen");
    }

    #[test]
    fn a_timer_that_was_never_armed_is_found() {
        Script::clean()
            .both("start", "arm", "[]")
            .finds("S10", "timer t generation 1 fired, but was never armed");
    }

    #[test]
    fn a_generation_armed_twice_is_found() {
        let script = Script::clean().both("pay", "arm", r#"[{"id":"t","gen":1,"due":1003500000}]"#);
        script.finds("S10", "timer t generation 1 was armed twice");
    }

    #[test]
    fn an_instance_whose_time_goes_back_is_found() {
        Script::clean().both("ship", "at", "1").finds("S10", "time goes back at version 3");
    }
}
