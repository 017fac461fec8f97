//! What is due: timers, the instance's own queue, deadlines of postponed commands.
//!
//! Deliberately absent: the order of due work between instances.
//!
//! Invariant: a timer that is not in the snapshot with that generation, or not due yet, changes nothing.

use std::sync::Arc;

use statehouse_contract::{mutant, time::Timestamp};

use super::{Outcome, Row, Settled, Step, decide, fault, hold, mark};
use crate::{
    definition::Chart,
    draft::{Draft, Reply},
    macrostep::{self, Taken},
    refusal::RefusalKind,
    snapshot::{Event, EventClass, Snapshot, Status},
    trigger::Trigger,
    value::Value,
};

pub(super) fn timer(
    chart: &Chart,
    now: &Snapshot,
    (id, generation): (&str, u64),
    trigger: &Trigger,
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    let own = |timer: &&crate::snapshot::Timer| {
        timer.id == id && timer.generation == generation && !timer.fired
    };
    let timer = now.timers.iter().find(own).ok_or(RefusalKind::Stale)?;
    if timer.due > mutant::ripe_at(at) || now.status == Status::Paused {
        return Err(RefusalKind::Stale);
    }
    if !now.status.is_live() {
        return Ok(hold(chart, now, trigger, at));
    }
    let mut draft = Draft::new(chart, now, at);
    draft.next.timers.retain(|other| other.number != timer.number);
    let event = late(&timer.event, timer.due, at);
    let taken = match macrostep::run(&mut draft, &event) {
        Ok(taken) => taken,
        Err(stop) => return Ok(fault(chart, now, trigger, stop.into(), at)),
    };
    let name = &timer.event.name;
    Ok(match taken {
        Taken::Moved => Step::of(draft, Outcome::Accepted, name),
        Taken::Postponed => Step::of(draft, Outcome::Postponed, name),
        Taken::NoRoom => {
            Step::of(draft, Outcome::Dropped, name).because(RefusalKind::PostponeOverflow)
        }
        Taken::Rejected { .. } | Taken::Nothing { .. } => Step::of(draft, Outcome::Ignored, name),
    })
}

/// Returns a timer's event that says how many milliseconds after its time it fires: an outage may lie between.
fn late(event: &Event, due: Timestamp, at: Timestamp) -> Event {
    let mut event = event.clone();
    if let Some(fields) = event.value.as_map() {
        let mut fields = fields.clone();
        fields.insert("lateMs", Value::Int(at.0 - due.0));
        event.value = Value::Map(Arc::new(fields));
    }
    event
}

pub(super) fn queue(chart: &Chart, now: &Snapshot, at: Timestamp) -> Result<Step, RefusalKind> {
    if !now.has_queued() {
        return Err(RefusalKind::Stale);
    }
    if now.queue_run >= chart.limits.queue {
        let cause = RefusalKind::LimitExceeded { limit: "queue".to_owned() };
        return Ok(fault(chart, now, &Trigger::Queue, cause, at));
    }
    let mut step =
        if now.queue.is_empty() { from_inbox(chart, now, at) } else { from_queue(chart, now, at) };
    if step.next.has_queued() {
        step.next.queue_run = now.queue_run + 1;
    }
    Ok(step)
}

fn from_queue(chart: &Chart, now: &Snapshot, at: Timestamp) -> Step {
    let mut draft = Draft::new(chart, now, at);
    let event = draft.next.queue.remove(0).event;
    if let EventClass::Command { .. } = event.class {
        let reply = chart.commands.get(&event.name).and_then(|command| command.reply.clone());
        draft.reply = Reply::Open(reply);
    }
    let taken = match macrostep::run(&mut draft, &event) {
        Ok(taken) => taken,
        Err(stop) => {
            return match &event.class {
                EventClass::Command { ticket, .. } => refuse(chart, now, ticket, stop.into(), at),
                EventClass::Signal | EventClass::Raised | EventClass::Platform => {
                    fault(chart, now, &Trigger::Queue, stop.into(), at)
                }
            };
        }
    };
    let EventClass::Command { ticket, .. } = &event.class else {
        return match taken {
            Taken::Moved => Step::of(draft, Outcome::Accepted, &event.name),
            Taken::Postponed => Step::of(draft, Outcome::Postponed, &event.name),
            Taken::NoRoom => Step::of(draft, Outcome::Dropped, &event.name)
                .because(RefusalKind::PostponeOverflow),
            Taken::Rejected { .. } | Taken::Nothing { .. } => {
                Step::of(draft, Outcome::Ignored, &event.name)
            }
        };
    };
    let cause = match taken {
        Taken::Moved => {
            let mut step = Step::of(draft, Outcome::Accepted, &event.name);
            let answer = Ok(step.reply.take());
            step.settled.insert(0, Settled { ticket: ticket.clone(), answer });
            return step;
        }
        Taken::Postponed => return Step::of(draft, Outcome::Postponed, &event.name),
        Taken::NoRoom => RefusalKind::PostponeOverflow,
        Taken::Rejected { code, message } => RefusalKind::Rejected { code, message },
        Taken::Nothing { is_matched: true } => RefusalKind::GuardRefused,
        Taken::Nothing { is_matched: false } => RefusalKind::NotHandled,
    };
    refuse(chart, now, ticket, cause, at)
}

/// Refuses the command at the front of the queue on its ticket; everything else stays.
fn refuse(chart: &Chart, now: &Snapshot, ticket: &str, cause: RefusalKind, at: Timestamp) -> Step {
    let mut draft = Draft::new(chart, now, at);
    let event = draft.next.queue.remove(0).event;
    draft.settled.push(Settled { ticket: ticket.to_owned(), answer: Err(cause.clone()) });
    Step::of(draft, Outcome::Settled, &event.name).because(cause)
}

/// Takes the first trigger that waited while the instance was paused or faulted.
fn from_inbox(chart: &Chart, now: &Snapshot, at: Timestamp) -> Step {
    let mut base = now.clone();
    let trigger = base.inbox.remove(0);
    mark(&mut base, &trigger, Row::Live);
    match decide(chart, &base, &trigger, at) {
        Ok(step) if step.is_transition(now) => step,
        // What nobody takes any more still leaves the inbox.
        Ok(step) => {
            let mut left = Step::of(Draft::new(chart, &base, at), step.outcome, &step.event);
            left.cause = step.cause;
            left
        }
        Err(cause) => Step::of(Draft::new(chart, &base, at), Outcome::Ignored, "").because(cause),
    }
}

pub(super) fn expired(
    chart: &Chart,
    now: &Snapshot,
    ticket: &str,
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    let mut draft = Draft::new(chart, now, at);
    if draft.expire(ticket) {
        Ok(Step::of(draft, Outcome::Settled, ""))
    } else {
        Err(RefusalKind::Stale)
    }
}
