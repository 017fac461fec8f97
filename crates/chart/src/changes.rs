//! Changes: the rows that differ between two snapshots, as effects.
//!
//! Timers, tasks and deadlines of postponed commands have rows elsewhere, written in the same transaction. Comparing the
//! snapshots gives exactly the rows to delete and to write, whatever path a macrostep took between them; a timer that was
//! started and cancelled within one step leaves no trace.
//!
//! Deliberately absent: effects that are no rows (`emit`, messages, new tasks); the draft collects those.
//!
//! Invariant: after carrying these out, the live rows of the instance are those of the new snapshot.

use statehouse_contract::time::Timestamp;

use crate::{
    definition::Chart,
    effect::{Effect, Ending},
    snapshot::{EventClass, Snapshot, Status, Timer, Work, WorkKind},
    trigger::{Trigger, WorkKey},
    value::Value,
};

/// Returns the effects that rows need, in order; the others go between the first and the second part.
pub(crate) fn between(
    chart: &Chart,
    before: &Snapshot,
    after: &Snapshot,
    trigger: &Trigger,
) -> (Vec<Effect>, Vec<Effect>) {
    let mut first = Vec::new();
    timers(before, after, &mut first);
    works(chart, before, after, trigger, &mut first);
    deadlines(before, after, &mut first);
    let mut last = Vec::new();
    match (before.status == Status::Paused, after.status == Status::Paused) {
        (false, true) => last.push(Effect::HoldTimers),
        (true, false) => last.push(Effect::ReleaseTimers),
        (true, true) | (false, false) => {}
    }
    if !before.status.is_finished() && after.status.is_finished() {
        last.push(Effect::TellParent(ending(after)));
    }
    if after.has_queued() {
        last.push(Effect::RunQueue);
    }
    (first, last)
}

fn timers(before: &Snapshot, after: &Snapshot, effects: &mut Vec<Effect>) {
    let is_live_in = |timers: &[Timer], timer: &Timer| {
        timers.iter().any(|other| other.number == timer.number && !other.fired)
    };
    for timer in
        before.timers.iter().filter(|timer| !timer.fired && !is_live_in(&after.timers, timer))
    {
        effects.push(Effect::CancelTimer { id: timer.id.clone(), generation: timer.generation });
    }
    for timer in
        after.timers.iter().filter(|timer| !timer.fired && !is_live_in(&before.timers, timer))
    {
        effects.push(Effect::StartTimer {
            id: timer.id.clone(),
            due: timer.due,
            generation: timer.generation,
            number: timer.number,
        });
    }
}

fn works(
    chart: &Chart,
    before: &Snapshot,
    after: &Snapshot,
    trigger: &Trigger,
    effects: &mut Vec<Effect>,
) {
    for work in before.works.iter().filter(|work| !work.is_closed) {
        let now = after.work(work.key);
        if now.is_some_and(|now| !now.is_closed) {
            continue;
        }
        let has_ended = now.is_some() || ended(trigger) == Some(work.key);
        match (work.kind, has_ended) {
            (WorkKind::Task | WorkKind::Compensation, true) => {
                effects.push(Effect::CloseTask { work: work.key })
            }
            (WorkKind::Task | WorkKind::Compensation, false) => effects.push(Effect::CancelTask {
                work: work.key,
                report_release: after.releasing.contains(&work.key),
            }),
            (WorkKind::Child, true) => {}
            (WorkKind::Child, false) => cancel_child(chart, work, effects),
        }
    }
}

fn cancel_child(chart: &Chart, work: &Work, effects: &mut Vec<Effect>) {
    if !chart.invoke(work.invoke).detached {
        effects.push(Effect::CancelChild { work: work.key });
    }
}

/// Returns the work whose end a trigger tells.
fn ended(trigger: &Trigger) -> Option<WorkKey> {
    match trigger {
        Trigger::WorkDone { work, .. } | Trigger::WorkFailed { work, .. } => Some(*work),
        Trigger::Start { .. }
        | Trigger::Command { .. }
        | Trigger::Signal(_)
        | Trigger::Timer { .. }
        | Trigger::Queue
        | Trigger::PostponeExpired { .. }
        | Trigger::WorkStarted { .. }
        | Trigger::WorkReleased { .. }
        | Trigger::Cancel { .. }
        | Trigger::Terminate { .. }
        | Trigger::Pause
        | Trigger::Resume
        | Trigger::Retry
        | Trigger::Skip => None,
    }
}

fn deadlines(before: &Snapshot, after: &Snapshot, effects: &mut Vec<Effect>) {
    let (old, new) = (waiting(before), waiting(after));
    for (ticket, _) in
        old.iter().filter(|(ticket, _)| !new.iter().any(|(other, _)| other == ticket))
    {
        effects.push(Effect::EndPostpone { ticket: (*ticket).to_owned() });
    }
    for (ticket, due) in
        new.iter().filter(|(ticket, _)| !old.iter().any(|(other, _)| other == ticket))
    {
        effects.push(Effect::StartPostpone { ticket: (*ticket).to_owned(), due: *due });
    }
}

/// Returns the commands that wait, postponed or queued, with their deadlines.
fn waiting(snapshot: &Snapshot) -> Vec<(&str, Timestamp)> {
    let kept = snapshot.postponed.iter().map(|kept| &kept.event);
    let queued = snapshot.queue.iter().map(|queued| &queued.event);
    kept.chain(queued)
        .filter_map(|event| match &event.class {
            EventClass::Command { ticket, until } => Some((ticket.as_str(), *until)),
            EventClass::Signal | EventClass::Raised | EventClass::Platform => None,
        })
        .collect()
}

fn ending(after: &Snapshot) -> Ending {
    let failed = |code: &str, message: &str| Ending::Failed {
        code: code.to_owned(),
        message: message.to_owned(),
    };
    match after.status {
        Status::Failed => match &after.error {
            Some(error) => failed(&error.code, &error.message),
            None => failed("failed", ""),
        },
        Status::Cancelled => failed("cancelled", "the child was cancelled"),
        Status::Terminated => failed("terminated", "the child was terminated"),
        Status::Done
        | Status::Running
        | Status::Paused
        | Status::Faulted
        | Status::Compensating => {
            Ending::Done { output: after.output.clone().unwrap_or(Value::Null) }
        }
    }
}
