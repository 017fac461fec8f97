//! S12: nothing that was scheduled disappears.
//!
//! A timer that was armed fires, is cancelled, or stands open at the end; past its due time and the grace it must have
//! done one of the three. A task that was scheduled ended, was taken back (`cancel`), or stands open.
//!
//! Deliberately absent: an open timer that is overdue. It may be held, because its instance is paused or faulted; it
//! has not disappeared.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Proof, Report,
    timer::{Generation, follow},
};
use crate::{
    dump::TaskAct,
    event::Open,
    index::{Index, Instance},
    verdict::Rule,
};

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    if !index.is_dumped() {
        return;
    }
    let timers = open_timers(index);
    let tasks: BTreeSet<&str> = open_ids(index, "task").collect();
    if let Some(end) = index.wall_end() {
        let grace =
            index.history.end.as_ref().map_or(0, |end| end.grace_ms).saturating_mul(1_000_000);
        for instance in &index.instances {
            for life in instance.lives.values() {
                for generation in follow(life, &mut Vec::new()).values() {
                    timer(report, instance, generation, (&timers, end.saturating_sub(grace)));
                }
            }
        }
    }
    for ((tenant, task), marks) in &index.tasks {
        let has_ended =
            marks.iter().any(|(_, mark)| matches!(mark.a, TaskAct::Done | TaskAct::Cancel));
        let scheduled = marks.iter().find(|(_, mark)| mark.a == TaskAct::Sched);
        let Some((entry, _)) = scheduled.filter(|_| !has_ended && !tasks.contains(task)) else {
            continue;
        };
        if index.is_purged(Some(&entry.shard)) {
            report
                .doubt(format!("rows were purged, so the end of task {task} cannot be looked up"));
            continue;
        }
        let what = "it was scheduled, never ended, and is not open";
        report.violate(
            Rule::Pending,
            format!("{tenant}, task {task}"),
            what,
            Proof::default().and(entry),
        );
    }
}

fn open_ids<'h>(index: &Index<'h>, what: &'static str) -> impl Iterator<Item = &'h str> {
    index.history.opens.iter().filter(move |open| open.what == what).map(|open| open.id.as_str())
}

fn timer(
    report: &mut Report<'_, '_>,
    instance: &Instance<'_>,
    generation: &Generation<'_>,
    (open, overdue_before): (&OpenTimers<'_>, i64),
) {
    let arm = generation.arm;
    let has_ended = generation.fired_by.is_some() || generation.cancelled_by.is_some();
    if has_ended || arm.due >= overdue_before || is_open(open, instance, generation) {
        return;
    }
    if report.index.is_purged(Some(&generation.armed_by.shard)) {
        report.doubt(format!(
            "{}: rows were purged, so the end of timer {} is not known",
            instance.name(),
            arm.id
        ));
        return;
    }
    let what = format!(
        "timer {} generation {} was due, never fired, and is not open",
        arm.id, arm.generation
    );
    report.violate(Rule::Pending, instance.name(), what, Proof::default().and(generation.armed_by));
}

/// Timers that stand open, by id and, where the line names it, instance.
type OpenTimers<'h> = BTreeMap<(&'h str, Option<&'h str>), Vec<&'h Open>>;

fn open_timers<'h>(index: &Index<'h>) -> OpenTimers<'h> {
    let mut timers = OpenTimers::new();
    for open in index.history.opens.iter().filter(|open| open.what == "timer") {
        timers.entry((&open.id, open.wf.as_deref())).or_default().push(open);
    }
    timers
}

fn is_open(timers: &OpenTimers<'_>, instance: &Instance<'_>, generation: &Generation<'_>) -> bool {
    let id = generation.arm.id.as_str();
    [Some(instance.wf), None].into_iter().filter_map(|wf| timers.get(&(id, wf))).flatten().any(
        |open| {
            open.tenant.as_deref().is_none_or(|tenant| tenant == instance.tenant)
                && open.generation.is_none_or(|named| named == generation.arm.generation)
        },
    )
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    fn never_fired() -> Script {
        Script::clean().both("fire", "fire", "null").both("fire", "kind", "\"signal\"")
    }

    #[test]
    fn a_timer_that_disappears_is_found() {
        never_fired().finds("S12", "timer t generation 1 was due, never fired, and is not open");
    }

    #[test]
    fn a_timer_that_stands_open_has_not_disappeared() {
        never_fired().add(r#"{"e":"open","what":"timer","id":"t","wf":"o-1","gen":1}"#).is_valid();
    }

    #[test]
    fn a_timer_of_another_instance_does_not_stand_for_this_one() {
        never_fired()
            .add(r#"{"e":"open","what":"timer","id":"t","wf":"o-2"}"#)
            .finds("S12", "timer t generation 1");
    }

    #[test]
    fn a_timer_within_its_grace_is_not_missed_yet() {
        never_fired().with("end", "grace_ms", "60000").is_valid();
    }

    #[test]
    fn a_task_that_disappears_is_found() {
        let script =
            Script::clean().both("done", "tasks", "[]").without("done.inv").without("done.ret");
        script.finds("S12", "it was scheduled, never ended, and is not open");
    }

    #[test]
    fn a_task_that_was_taken_back_has_not_disappeared() {
        let script = Script::clean().both("done", "tasks", r#"[{"a":"cancel","id":"job"}]"#);
        script.without("done.inv").without("done.ret").is_valid();
    }
}
