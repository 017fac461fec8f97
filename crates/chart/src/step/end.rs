//! What work tells: its first attempt began, it ended well, it failed for good, its lease is gone.
//!
//! Deliberately absent: attempts that will be tried again.
//!
//! Invariant: work that is not open in the snapshot changes nothing.

use statehouse_contract::time::Timestamp;

use super::{Outcome, Step, call::judge, fault, hold};
use crate::{
    definition::Chart,
    draft::{Draft, Stop},
    macrostep::{self, Taken},
    refusal::RefusalKind,
    saga::Undone,
    snapshot::{Event, Failure, Snapshot, Status, Work, WorkKind},
    trigger::{Trigger, WorkError, WorkKey},
    value::Value,
};

fn open(now: &Snapshot, key: WorkKey) -> Result<&Work, RefusalKind> {
    now.work(key).filter(|work| !work.is_closed).ok_or(RefusalKind::Stale)
}

pub(super) fn started(
    chart: &Chart,
    now: &Snapshot,
    key: WorkKey,
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    let work = open(now, key)?;
    // Nobody asked to be told, or it was told before.
    if work.is_started || work.undo_input.is_none() {
        return Err(RefusalKind::Stale);
    }
    let mut draft = Draft::new(chart, now, at);
    draft.register_started(work)?;
    Ok(Step::of(draft, Outcome::Accepted, ""))
}

pub(super) fn released(
    chart: &Chart,
    now: &Snapshot,
    key: WorkKey,
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    if !now.releasing.contains(&key) {
        return Err(RefusalKind::Stale);
    }
    let mut draft = Draft::new(chart, now, at);
    draft.next.releasing.retain(|other| *other != key);
    Ok(match draft.undo_next()? {
        Undone::Waiting => Step::of(draft, Outcome::Accepted, ""),
        Undone::Empty => finish_undoing(draft),
    })
}

pub(super) fn done(
    chart: &Chart,
    now: &Snapshot,
    (key, output): (WorkKey, &Value),
    trigger: &Trigger,
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    let work = open(now, key)?;
    let schema = if work.kind == WorkKind::Compensation {
        None
    } else {
        chart.invoke(work.invoke).output_schema.as_ref()
    };
    let output = judge(schema, output)?;
    Draft::new(chart, now, at).judge_payload(&output)?;
    if !now.status.is_live() {
        return Ok(hold(chart, now, trigger, at));
    }
    let made = match work.kind {
        WorkKind::Compensation => undone(chart, now, work, at),
        WorkKind::Task | WorkKind::Child => succeeded(chart, now, work, output, at),
    };
    Ok(made.unwrap_or_else(|stop| fault(chart, now, trigger, stop.into(), at)))
}

fn succeeded(
    chart: &Chart,
    now: &Snapshot,
    work: &Work,
    output: Value,
    at: Timestamp,
) -> Result<Step, Stop> {
    let invoke = chart.invoke(work.invoke);
    let mut draft = Draft::new(chart, now, at);
    let own = draft.platform_event(&invoke.done_event, Some(("output", output.clone())));
    draft.register_done(work, &own.value)?;
    let Some(output) = draft.close_done(work, output)? else {
        draft.judge_size()?;
        return Ok(Step::of(draft, Outcome::Accepted, &invoke.done_event));
    };
    let event = draft.platform_event(&invoke.done_event, Some(("output", output)));
    take(draft, &event)
}

fn take(mut draft: Draft<'_>, event: &Event) -> Result<Step, Stop> {
    let outcome = match macrostep::run(&mut draft, event)? {
        Taken::Moved => Outcome::Accepted,
        Taken::Postponed | Taken::NoRoom | Taken::Rejected { .. } | Taken::Nothing { .. } => {
            Outcome::Ignored
        }
    };
    Ok(Step::of(draft, outcome, &event.name))
}

/// The open compensation succeeded.
fn undone(chart: &Chart, now: &Snapshot, work: &Work, at: Timestamp) -> Result<Step, Stop> {
    let mut draft = Draft::new(chart, now, at);
    match (draft.undone(work.key)?, work.state) {
        (Undone::Waiting, _) => Ok(Step::of(draft, Outcome::Accepted, "")),
        (Undone::Empty, None) => Ok(finish_undoing(draft)),
        (Undone::Empty, Some(_)) => {
            draft.next.undoing = None;
            let event = draft.platform_event(
                &chart.invoke(work.invoke).done_event,
                Some(("output", Value::Null)),
            );
            take(draft, &event)
        }
    }
}

/// The stack is empty: a saga's invoke is done, a cancelled instance is over.
pub(super) fn finish_undoing(mut draft: Draft<'_>) -> Step {
    let owner = draft.next.undoing.take().and_then(|undoing| undoing.invoke);
    match owner {
        Some(index) => {
            let invoke = draft.chart.invoke(index);
            let event = draft.platform_event(&invoke.done_event, Some(("output", Value::Null)));
            let origin = crate::snapshot::Origin::State(invoke.state);
            draft.next.queue.push(crate::snapshot::Queued { event, origin });
        }
        None => {
            draft.next.status = Status::Cancelled;
            draft.next.error = Some(Failure {
                code: "cancelled".to_owned(),
                message: "the instance was cancelled".to_owned(),
            });
            macrostep::close(&mut draft);
        }
    }
    Step::of(draft, Outcome::Accepted, "")
}

pub(super) fn failed(
    chart: &Chart,
    now: &Snapshot,
    (key, error): (WorkKey, &WorkError),
    trigger: &Trigger,
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    let work = open(now, key)?;
    let invoke = chart.invoke(work.invoke);
    let is_cancelling = work.kind == WorkKind::Compensation && work.state.is_none();
    if !invoke.error_is_named && !is_cancelling && work.kind != WorkKind::Child {
        return Ok(Step::still(now, Outcome::Parked, &invoke.error_event));
    }
    if !now.status.is_live() {
        return Ok(hold(chart, now, trigger, at));
    }
    if is_cancelling {
        // Nobody is left to handle it but an operator.
        let cause = RefusalKind::Rejected {
            code: error.code.clone(),
            message: Some(error.message.clone()),
        };
        return Ok(fault(chart, now, trigger, cause, at));
    }
    let mut draft = Draft::new(chart, now, at);
    // What was under way may have happened in part: it counts as begun.
    if let Err(stop) = draft.register_started(work) {
        return Ok(fault(chart, now, trigger, stop.into(), at));
    }
    draft.close_failed(work);
    if work.kind == WorkKind::Compensation {
        draft.next.undoing = None;
    }
    let told = Value::object([
        ("code", Value::text(&error.code)),
        ("message", Value::text(&error.message)),
        ("attempts", Value::Int(i64::from(error.attempts))),
    ]);
    let event = draft.platform_event(&invoke.error_event, Some(("error", told)));
    Ok(take(draft, &event).unwrap_or_else(|stop| fault(chart, now, trigger, stop.into(), at)))
}
