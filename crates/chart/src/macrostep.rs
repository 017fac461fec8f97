//! One macrostep: an event, then everything that follows from it, until nothing more is enabled.
//!
//! Eventless transitions come before raised events; raised events are taken one by one. Only then does work start, and only
//! if the set of active states has changed do postponed events get another chance.
//!
//! Deliberately absent: what kind of trigger made the event, and what is answered (`step.rs`).
//!
//! Invariant: it ends: every microstep is counted and every raised event too.

use std::sync::Arc;

use crate::{
    configuration::StateSet,
    draft::{Draft, Stop},
    microstep,
    select::{Selected, Wanted, select},
    snapshot::{Event, EventClass, Origin, Queued},
    value::Value,
};

/// What became of the event.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Transitions were taken.
    Moved,
    /// It is kept for a later state.
    Postponed,
    /// It should be kept, and there is no room.
    NoRoom,
    /// The author refuses it.
    Rejected { code: String, message: Option<String> },
    /// Nothing takes it; `is_matched` = guards said no.
    Nothing { is_matched: bool },
}

/// Runs the macrostep of an event. Where nothing was taken the draft is as before, but for `event`.
pub(crate) fn run(draft: &mut Draft<'_>, event: &Event) -> Result<Taken, Stop> {
    let before = Before::of(draft);
    draft.event = Some(event.value.clone());
    match select(draft, Wanted::Event(&event.name, &event.class))? {
        Selected::Nothing { is_matched } => Ok(Taken::Nothing { is_matched }),
        Selected::Reject { code, message } => Ok(Taken::Rejected { code, message }),
        Selected::Postpone => {
            Ok(if draft.postpone(event) { Taken::Postponed } else { Taken::NoRoom })
        }
        Selected::Take(plans) => {
            microstep::take(draft, &plans)?;
            finish(draft, &before)?;
            let is_external =
                matches!(event.class, EventClass::Command { .. } | EventClass::Signal);
            if is_external && !draft.next.status.is_finished() {
                draft.event = Some(event.value.clone());
                draft.restart_idle()?;
            }
            Ok(Taken::Moved)
        }
    }
}

/// Runs the first macrostep of an instance; its context is there, nothing is active yet.
pub(crate) fn run_start(draft: &mut Draft<'_>) -> Result<(), Stop> {
    let before = Before::of(draft);
    microstep::take_start(draft)?;
    finish(draft, &before)
}

/// Runs the first macrostep of an instance in another version: what was carried over is active, the rest is entered.
///
/// An instance that is held moves no further than that; what was raised waits in its queue until it goes on.
pub(crate) fn run_migrated(
    draft: &mut Draft<'_>,
    placed: &microstep::Entering,
    is_same: bool,
) -> Result<(), Stop> {
    let configuration = if is_same { placed.states } else { StateSet::new() };
    let before = Before { configuration, context: Value::Null };
    microstep::take_placed(draft, placed)?;
    if draft.next.status.is_live() || draft.next.status.is_finished() {
        return finish(draft, &before);
    }
    let raised = std::mem::take(&mut draft.raised).into_iter();
    draft.next.queue.extend(raised.map(|event| Queued { event, origin: Origin::Retried }));
    judge_context(draft, &before)?;
    draft.start_noted()?;
    draft.judge_size()
}

/// What a macrostep is compared with at its end.
struct Before {
    configuration: StateSet,
    context: Value,
}

impl Before {
    fn of(draft: &Draft<'_>) -> Self {
        Self { configuration: draft.next.configuration, context: draft.next.context.clone() }
    }
}

/// Goes on until nothing is enabled, then starts work and frees what was postponed.
fn finish(draft: &mut Draft<'_>, before: &Before) -> Result<(), Stop> {
    settle(draft)?;
    judge_context(draft, before)?;
    if draft.next.status.is_finished() {
        close(draft);
        return Ok(());
    }
    draft.start_noted()?;
    if draft.next.configuration != before.configuration {
        draft.retry_postponed();
    }
    draft.judge_size()
}

fn settle(draft: &mut Draft<'_>) -> Result<(), Stop> {
    while !draft.next.status.is_finished() {
        if let Selected::Take(plans) = select(draft, Wanted::Nothing)? {
            microstep::take(draft, &plans)?;
            continue;
        }
        let Some(event) = draft.raised.pop_front() else { return Ok(()) };
        draft.event = Some(event.value.clone());
        if let Selected::Take(plans) = select(draft, wanted(&event))? {
            microstep::take(draft, &plans)?;
        }
    }
    Ok(())
}

fn wanted(event: &Event) -> Wanted<'_> {
    match event.class {
        // `done.state.*`: wildcards do not match it.
        EventClass::Platform => Wanted::Event(&event.name, &event.class),
        EventClass::Raised | EventClass::Signal | EventClass::Command { .. } => {
            Wanted::Raised(&event.name)
        }
    }
}

// Measured only where it changed: most contexts did not.
fn judge_context(draft: &Draft<'_>, before: &Before) -> Result<(), Stop> {
    if let (Value::Map(old), Value::Map(new)) = (&before.context, &draft.next.context)
        && Arc::ptr_eq(old, new)
    {
        return Ok(());
    }
    let bytes = draft.next.context.to_text().len();
    if bytes > draft.chart.limits.context_bytes { Err(Stop::Limit("context")) } else { Ok(()) }
}

/// Leaves nothing open behind an instance that is over.
pub(crate) fn close(draft: &mut Draft<'_>) {
    draft.raised.clear();
    draft.noted.clear();
    draft.next.timers.clear();
    draft.next.works.clear();
    draft.next.groups.clear();
    draft.next.releasing.clear();
    draft.next.inbox.clear();
    draft.next.undoing = None;
    draft.next.fault = None;
    draft.next.queue_run = 0;
    draft.next.saga.clear();
    draft.refuse_waiting();
}
