//! What comes from outside: the start, commands, signals.
//!
//! A payload is shaped and judged by its schema here, once, on arrival; a postponed event is not judged again.
//!
//! Deliberately absent: who may send what.

use statehouse_contract::{
    limits::{INBOX_SIGNALS_MAX, POSTPONE_MS_DEFAULT, POSTPONE_MS_MAX, POSTPONED_BYTES_MAX},
    time::Timestamp,
};

use super::{Outcome, Step, fault, hold};
use crate::{
    definition::Chart,
    draft::{Draft, Reply},
    macrostep::{self, Taken},
    refusal::{RefusalKind, Violation},
    schema::Schema,
    snapshot::{Event, EventClass, Snapshot, Status},
    template::shaped,
    trigger::{Call, Trigger},
    value::Value,
};

/// Returns the value with its numbers as the schema wants them, if it fits and can be kept.
pub(super) fn judge(schema: Option<&Schema>, value: &Value) -> Result<Value, RefusalKind> {
    let unfit = |why: crate::value::Unfit| RefusalKind::InvalidPayload {
        violations: vec![Violation { pointer: String::new(), message: why.to_string() }],
    };
    let value = value.clone().settled().map_err(unfit)?;
    let Some(schema) = schema else { return Ok(value) };
    let value = shaped(schema, value);
    let violations = schema.check(&value);
    if violations.is_empty() {
        return Ok(value);
    }
    let told = violations
        .into_iter()
        .map(|found| Violation { pointer: found.pointer, message: found.message });
    Err(RefusalKind::InvalidPayload { violations: told.collect() })
}

fn event_value(name: &str, data: Value, actor: &str, tenant: &str) -> Value {
    Value::object([
        ("type", Value::text(name)),
        ("data", data),
        ("actor", Value::text(actor)),
        ("tenant", Value::text(tenant)),
    ])
}

pub(super) fn start(
    chart: &Chart,
    now: &Snapshot,
    input: &Value,
    (actor, tenant): (&str, &str),
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    if now.version != 0 {
        return Err(RefusalKind::WrongStatus);
    }
    let input = judge(chart.input_schema.as_ref(), input)?;
    let mut draft = Draft::new(chart, now, at);
    draft.next.tenant = tenant.to_owned();
    draft.next.started_at = at;
    draft.event = Some(event_value("init", Value::empty(), actor, tenant));
    draft.initialise(&input)?;
    macrostep::run_start(&mut draft)?;
    Ok(Step::of(draft, Outcome::Accepted, "init"))
}

pub(super) fn command(
    chart: &Chart,
    now: &Snapshot,
    call: &Call,
    (ticket, until): (&str, Option<Timestamp>),
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    let command = chart.commands.get(&call.name).ok_or(RefusalKind::UnknownEvent)?;
    match now.status {
        Status::Done | Status::Failed | Status::Cancelled | Status::Terminated => {
            return Err(RefusalKind::InstanceFinished);
        }
        Status::Faulted => return Err(RefusalKind::InstanceFaulted),
        Status::Paused => return Err(RefusalKind::InstancePaused),
        // A cancelled instance that still undoes its saga has no state that could take anything.
        Status::Compensating if now.configuration.is_empty() => {
            return Err(RefusalKind::InstanceFinished);
        }
        Status::Running | Status::Compensating => {}
    }
    let data = judge(command.schema.as_ref(), &call.data)?;
    let wait_ms = command.deadline_ms.unwrap_or(POSTPONE_MS_DEFAULT).min(POSTPONE_MS_MAX);
    let until = until.unwrap_or_else(|| at.after_ms(i64::try_from(wait_ms).unwrap_or(i64::MAX)));
    let event = Event {
        name: call.name.clone(),
        value: event_value(&call.name, data, &call.actor, &now.tenant),
        class: EventClass::Command { ticket: ticket.to_owned(), until },
    };
    let mut draft = Draft::new(chart, now, at);
    draft.judge_payload(&call.data)?;
    draft.reply = Reply::Open(command.reply.clone());
    match macrostep::run(&mut draft, &event)? {
        Taken::Moved => {
            draft.next.queue_run = 0;
            Ok(Step::of(draft, Outcome::Accepted, &event.name))
        }
        Taken::Postponed => Ok(Step::of(draft, Outcome::Postponed, &event.name)),
        Taken::NoRoom => Err(RefusalKind::PostponeOverflow),
        Taken::Rejected { code, message } => Err(RefusalKind::Rejected { code, message }),
        Taken::Nothing { is_matched: true } => Err(RefusalKind::GuardRefused),
        Taken::Nothing { is_matched: false } => Err(RefusalKind::NotHandled),
    }
}

pub(super) fn signal(
    chart: &Chart,
    now: &Snapshot,
    call: &Call,
    trigger: &Trigger,
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    let declared = chart.signals.get(&call.name);
    if declared.is_none() && (!chart.takes_any_signal || is_platform(&call.name)) {
        return Err(RefusalKind::UnknownEvent);
    }
    let data = judge(declared.and_then(Option::as_ref), &call.data)?;
    if now.status.is_finished() {
        return Ok(
            Step::still(now, Outcome::Ignored, &call.name).because(RefusalKind::InstanceFinished)
        );
    }
    Draft::new(chart, now, at).judge_payload(&data)?;
    if !now.status.is_live() {
        if !has_room(now, &data) {
            let cause = RefusalKind::LimitExceeded { limit: "inbox".to_owned() };
            return Ok(Step::still(now, Outcome::Dropped, &call.name).because(cause));
        }
        return Ok(hold(chart, now, trigger, at));
    }
    let event = Event {
        name: call.name.clone(),
        value: event_value(&call.name, data, &call.actor, &now.tenant),
        class: EventClass::Signal,
    };
    let mut draft = Draft::new(chart, now, at);
    let taken = match macrostep::run(&mut draft, &event) {
        Ok(taken) => taken,
        Err(stop) => return Ok(fault(chart, now, trigger, stop.into(), at)),
    };
    Ok(match taken {
        Taken::Moved => {
            draft.next.queue_run = 0;
            Step::of(draft, Outcome::Accepted, &event.name)
        }
        Taken::Postponed => Step::of(draft, Outcome::Postponed, &event.name),
        Taken::NoRoom => {
            Step::still(now, Outcome::Dropped, &event.name).because(RefusalKind::PostponeOverflow)
        }
        Taken::Rejected { code, message } => Step::still(now, Outcome::Ignored, &event.name)
            .because(RefusalKind::Rejected { code, message }),
        Taken::Nothing { .. } => Step::still(now, Outcome::Ignored, &event.name),
    })
}

/// Returns whether the inbox of a paused or faulted instance takes one more signal.
fn has_room(now: &Snapshot, data: &Value) -> bool {
    let sizes = now.inbox.iter().filter_map(|kept| match kept {
        Trigger::Signal(call) => Some(call.data.to_text().len()),
        _ => None,
    });
    let (count, bytes) = sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size));
    count < INBOX_SIGNALS_MAX && bytes + data.to_text().len() <= POSTPONED_BYTES_MAX
}

/// Returns whether only the platform says such names.
fn is_platform(name: &str) -> bool {
    matches!(
        name.split('.').next(),
        Some("done" | "error" | "after" | "idle" | "instance" | "init")
    )
}
