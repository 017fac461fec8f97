//! What operators do: cancel, terminate, pause, resume, retry, skip.
//!
//! Deliberately absent: migration, which changes the chart under an instance and has its own page.

use statehouse_contract::time::Timestamp;

use super::{Outcome, Row, Step, decide, end::finish_undoing, mark};
use crate::{
    definition::Chart,
    draft::{Draft, Stop},
    macrostep::{self, Taken},
    microstep,
    refusal::RefusalKind,
    saga::Undone,
    snapshot::{Failure, Snapshot, Status},
    trigger::Trigger,
    value::Value,
};

/// The event that a parent's leaving or an operator's cancel sends.
const CANCEL: &str = "instance.cancel";

pub(super) fn cancel(
    chart: &Chart,
    now: &Snapshot,
    actor: &str,
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    if now.status.is_finished() || now.version == 0 {
        return Err(RefusalKind::InstanceFinished);
    }
    let mut draft = Draft::new(chart, now, at);
    if !draft.next.status.is_live() {
        draft.next.status = draft.next.held_status;
        draft.next.fault = None;
    }
    let event = draft.platform_event(CANCEL, Some(("actor", Value::text(actor))));
    match macrostep::run(&mut draft, &event)? {
        Taken::Moved => return Ok(Step::of(draft, Outcome::Accepted, CANCEL)),
        Taken::Postponed | Taken::NoRoom | Taken::Rejected { .. } | Taken::Nothing { .. } => {}
    }
    leave_all(&mut draft)?;
    draft.start_undoing(None)?;
    let is_waiting = !draft.next.saga.is_empty() || !draft.next.releasing.is_empty();
    Ok(if is_waiting { Step::of(draft, Outcome::Accepted, CANCEL) } else { finish_undoing(draft) })
}

/// Leaves every state; nothing is left that could take an event.
fn leave_all(draft: &mut Draft<'_>) -> Result<(), Stop> {
    let all = draft.next.configuration;
    microstep::leave(draft, &all)?;
    draft.raised.clear();
    draft.next.timers.clear();
    draft.next.inbox.clear();
    draft.next.undoing = None;
    draft.refuse_waiting();
    Ok(())
}

pub(super) fn terminate(chart: &Chart, now: &Snapshot, at: Timestamp) -> Result<Step, RefusalKind> {
    if now.status.is_finished() || now.version == 0 {
        return Err(RefusalKind::InstanceFinished);
    }
    let mut draft = Draft::new(chart, now, at);
    draft.next.status = Status::Terminated;
    draft.next.error = Some(Failure {
        code: "terminated".to_owned(),
        message: "the instance was terminated".to_owned(),
    });
    macrostep::close(&mut draft);
    Ok(Step::of(draft, Outcome::Accepted, "instance.terminate"))
}

pub(super) fn pause(chart: &Chart, now: &Snapshot, at: Timestamp) -> Result<Step, RefusalKind> {
    if !now.status.is_live() {
        return Err(refused(now));
    }
    let mut draft = Draft::new(chart, now, at);
    draft.next.held_status = now.status;
    draft.next.status = Status::Paused;
    Ok(Step::of(draft, Outcome::Accepted, "instance.pause"))
}

pub(super) fn resume(chart: &Chart, now: &Snapshot, at: Timestamp) -> Result<Step, RefusalKind> {
    if now.status != Status::Paused {
        return Err(refused(now));
    }
    let mut draft = Draft::new(chart, now, at);
    draft.next.status = now.held_status;
    Ok(Step::of(draft, Outcome::Accepted, "instance.resume"))
}

fn refused(now: &Snapshot) -> RefusalKind {
    if now.status.is_finished() { RefusalKind::InstanceFinished } else { RefusalKind::WrongStatus }
}

/// Returns the instance as if it were not faulted, and what it could not take.
fn revived(now: &Snapshot) -> Result<(Snapshot, Trigger), RefusalKind> {
    let Some(fault) = now.fault.as_ref().filter(|_| now.status == Status::Faulted) else {
        return Err(refused(now));
    };
    let mut base = now.clone();
    base.status = now.held_status;
    base.fault = None;
    base.queue_run = 0;
    mark(&mut base, &fault.trigger, Row::Live);
    Ok((base, fault.trigger.clone()))
}

pub(super) fn retry(chart: &Chart, now: &Snapshot, at: Timestamp) -> Result<Step, RefusalKind> {
    let (base, trigger) = revived(now)?;
    if is_cancelling(&base) {
        // The failed compensation runs once more.
        let mut draft = Draft::new(chart, &base, at);
        drop_compensation(&mut draft);
        draft.undo_next()?;
        return Ok(Step::of(draft, Outcome::Accepted, "instance.retry"));
    }
    match decide(chart, &base, &trigger, at) {
        Ok(step) if step.is_transition(now) => Ok(step),
        // What it waited for is gone: there is nothing to take any more.
        Ok(_) | Err(_) => skip(chart, now, at),
    }
}

pub(super) fn skip(chart: &Chart, now: &Snapshot, at: Timestamp) -> Result<Step, RefusalKind> {
    let (base, trigger) = revived(now)?;
    let mut draft = Draft::new(chart, &base, at);
    if is_cancelling(&base) {
        drop_compensation(&mut draft);
        draft.next.saga.pop();
        return Ok(match draft.undo_next()? {
            Undone::Waiting => Step::of(draft, Outcome::Accepted, "instance.skip"),
            Undone::Empty => finish_undoing(draft),
        });
    }
    match &trigger {
        Trigger::Queue => skip_queued(&mut draft),
        Trigger::Timer { id, generation } => {
            draft.next.timers.retain(|timer| !(timer.id == *id && timer.generation == *generation));
        }
        Trigger::WorkDone { work, .. } | Trigger::WorkFailed { work, .. } => {
            draft.next.works.retain(|own| own.key != *work);
        }
        Trigger::Start { .. }
        | Trigger::Command { .. }
        | Trigger::Signal(_)
        | Trigger::PostponeExpired { .. }
        | Trigger::WorkStarted { .. }
        | Trigger::WorkReleased { .. }
        | Trigger::Cancel { .. }
        | Trigger::Terminate { .. }
        | Trigger::Pause
        | Trigger::Resume
        | Trigger::Retry
        | Trigger::Skip => {}
    }
    Ok(Step::of(draft, Outcome::Accepted, "instance.skip"))
}

fn skip_queued(draft: &mut Draft<'_>) {
    use crate::{snapshot::EventClass, step::Settled};
    if draft.next.queue.is_empty() {
        if !draft.next.inbox.is_empty() {
            draft.next.inbox.remove(0);
        }
        return;
    }
    if let EventClass::Command { ticket, .. } = draft.next.queue.remove(0).event.class {
        let cause = RefusalKind::LimitExceeded { limit: "queue".to_owned() };
        draft.settled.push(Settled { ticket, answer: Err(cause) });
    }
}

fn is_cancelling(now: &Snapshot) -> bool {
    now.undoing.as_ref().is_some_and(|undoing| undoing.invoke.is_none())
}

fn drop_compensation(draft: &mut Draft<'_>) {
    if let Some(undoing) = &mut draft.next.undoing {
        let open = undoing.open.take();
        draft.next.works.retain(|work| Some(work.key) != open);
    }
}
