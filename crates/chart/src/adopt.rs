//! Reset: an instance begins from a point of another one's history.
//!
//! The new instance stands where the other one stood: same states, context, memory and saga. Nothing that belonged to the
//! other one alone comes along: callers whose commands were postponed have their answers there, and work is ordered anew,
//! under the new instance's own addresses. Timers go on with the time that was left.
//!
//! Deliberately absent: how the other one stood there. Its history says that.
//!
//! Invariant: the new instance is at version 1, and every address in it is of that version.

use std::collections::BTreeMap;

use statehouse_contract::time::Timestamp;

use crate::{
    changes,
    definition::Chart,
    draft::Draft,
    refusal::{Refusal, RefusalKind},
    snapshot::{Event, EventClass, Snapshot, WorkKind},
    step::{Outcome, Step},
    trigger::{Trigger, WorkKey},
};

/// The event that history shows.
const RESET: &str = "instance.reset";

/// Begins an instance as another one stood at a version.
///
/// # Errors
/// Why nothing can begin there.
pub fn adopt(chart: &Chart, stood: &Snapshot, at: Timestamp) -> Result<Step, Refusal> {
    let adopted = || {
        let mut step = begin(chart, stood, at)?;
        let (mut effects, last) =
            changes::between(chart, &Snapshot::unborn(), &step.next, &Trigger::Pause);
        effects.append(&mut step.effects);
        effects.extend(last);
        step.effects = effects;
        Ok(step)
    };
    adopted().map_err(|kind| Refusal { kind, accepts: Vec::new() })
}

fn begin(chart: &Chart, stood: &Snapshot, at: Timestamp) -> Result<Step, RefusalKind> {
    let cannot = |why: &str| RefusalKind::CannotMove { why: why.to_owned() };
    if stood.status.is_finished() || stood.version == 0 {
        return Err(cannot("the instance has ended at that version; take an earlier one"));
    }
    if !stood.releasing.is_empty() {
        return Err(cannot(
            "at that version a cancelled task was still under way; take an earlier or a later one",
        ));
    }
    let mut draft = Draft::new(chart, &Snapshot { version: 0, ..stood.clone() }, at);
    draft.next.started_at = at;
    draft.next.queue_run = 0;
    let is_mine = |event: &Event| !matches!(event.class, EventClass::Command { .. });
    draft.next.queue.retain(|queued| is_mine(&queued.event));
    draft.next.postponed.retain(|kept| is_mine(&kept.event));
    move_timers(&mut draft, at.0 - stood.updated_at.0);
    move_works(&mut draft)?;
    draft.judge_size()?;
    Ok(Step::of(draft, Outcome::Accepted, RESET))
}

/// Gives every timer the time that was left.
fn move_timers(draft: &mut Draft<'_>, later_ms: i64) {
    for timer in &mut draft.next.timers {
        timer.due = timer.due.after_ms(later_ms);
        timer.generation = 1;
    }
    for trigger in kept_triggers(draft) {
        if let Trigger::Timer { generation, .. } = trigger {
            *generation = 1;
        }
    }
}

/// Gives every piece of work an address of its own, and orders what is open.
fn move_works(draft: &mut Draft<'_>) -> Result<(), RefusalKind> {
    let old = draft.next.saga.iter().map(|step| step.work);
    let old: Vec<WorkKey> = old.chain(draft.next.works.iter().map(|work| work.key)).collect();
    let mut keys: BTreeMap<WorkKey, WorkKey> = BTreeMap::new();
    for key in old {
        // A task that is registered from its start stands in both.
        if let std::collections::btree_map::Entry::Vacant(place) = keys.entry(key) {
            place.insert(draft.next_key());
        }
    }
    let new = |key: &mut WorkKey| {
        if let Some(own) = keys.get(key) {
            *key = *own;
        }
    };
    draft.next.saga.iter_mut().for_each(|step| new(&mut step.work));
    draft.next.works.iter_mut().for_each(|work| new(&mut work.key));
    if let Some(open) = draft.next.undoing.as_mut().and_then(|undoing| undoing.open.as_mut()) {
        new(open);
    }
    for trigger in kept_triggers(draft) {
        if let Trigger::WorkDone { work, .. }
        | Trigger::WorkFailed { work, .. }
        | Trigger::WorkStarted { work }
        | Trigger::WorkReleased { work } = trigger
        {
            new(work);
        }
    }
    let open: Vec<_> = draft.next.works.iter().filter(|work| !work.is_closed).cloned().collect();
    for work in open {
        match work.kind {
            WorkKind::Task | WorkKind::Child => draft.order(&work)?,
            WorkKind::Compensation => draft.order_compensation(work.key),
        }
    }
    Ok(())
}

/// Returns the triggers that an instance keeps while it is held.
fn kept_triggers<'a>(draft: &'a mut Draft<'_>) -> impl Iterator<Item = &'a mut Trigger> {
    let fault = draft.next.fault.as_mut().map(|fault| &mut fault.trigger);
    draft.next.inbox.iter_mut().chain(fault)
}
