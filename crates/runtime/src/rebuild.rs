//! How an instance stood at an earlier version, worked out anew from its history. Pure.
//!
//! History keeps what came in, not what the instance became; the chart gives the second from the first. The rows do not
//! always say which piece of work a report was about, so every open one is tried. Whether the result is right is not a
//! matter of trust: each row keeps the fingerprint that the instance had after it (`statehouse_store::Origin`).
//!
//! What cannot be worked out: payloads with secrets, which history masks, and an instance that itself began by a reset.
//!
//! Absent on purpose: reading rows and charts.
//!
//! Invariant: what comes out is byte for byte what the instance was.

use std::sync::Arc;

use statehouse_chart::{
    Call, Chart, Snapshot, Trigger, Value, WorkError, WorkKey, migrate, snapshot::EventClass, step,
};
use statehouse_contract::{Due, Json, Key, KeyHash, ReceiptKind, Target, Timestamp};
use statehouse_store::{
    Body, Origin, Record,
    entry::{CauseKind, DueChange, Pin, Transitioned},
};

use crate::{reading::RowsError, ticket::Ticket};

/// An instance as it stood once.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    /// The definition to which it was pinned.
    pub(crate) pin: Pin,
    /// The instance.
    pub(crate) snapshot: Snapshot,
}

/// Why it cannot be worked out.
#[derive(Debug)]
pub(crate) enum Unprovable {
    /// A row or a chart cannot be read.
    Rows(RowsError),
    /// What came in at this version gives another instance than the one that was there.
    At(u64),
    /// The instance began by a reset.
    BeganByReset,
    /// A row is missing.
    Gap(u64),
}

/// Works an instance out from its first record on.
pub(crate) struct Rebuilding<C> {
    chart_of: C,
    origin: Option<Origin>,
    standing: Option<(Rebuilt, Arc<Chart>)>,
}

impl<C: FnMut(&Pin) -> Result<Arc<Chart>, RowsError>> Rebuilding<C> {
    pub(crate) const fn new(chart_of: C) -> Self {
        Self { chart_of, origin: None, standing: None }
    }

    /// Takes the record of the next version.
    pub(crate) fn take(&mut self, record: &Record) -> Result<(), Unprovable> {
        let Body::Transitioned(moved) = &record.entry.body else { return Ok(()) };
        let expected = self.standing.as_ref().map_or(0, |(now, _)| now.snapshot.version) + 1;
        if moved.version != expected {
            return Err(Unprovable::Gap(expected));
        }
        let pin = moved.definition.clone();
        let chart = (self.chart_of)(&pin).map_err(Unprovable::Rows)?;
        let Some((now, was)) = &self.standing else {
            if moved.cause.kind == CauseKind::Start && &*moved.cause.event == "reset" {
                return Err(Unprovable::BeganByReset);
            }
            let origin = Origin::of(record).ok_or(Unprovable::Gap(1))?;
            let input = moved.cause.data.as_ref().map_or_else(Value::empty, value);
            let start = Trigger::Start {
                input,
                actor: actor(record),
                tenant: moved.instance.tenant.as_str().to_owned(),
            };
            let next = taken(&chart, &Snapshot::unborn(), &start, record.at());
            let next = next.filter(|next| origin.proves(record, &next.encode()));
            let snapshot = next.ok_or(Unprovable::At(1))?;
            self.origin = Some(origin);
            self.standing = Some((Rebuilt { pin, snapshot }, chart));
            return Ok(());
        };
        let at = record.at();
        let mut candidates: Box<dyn Iterator<Item = Option<Snapshot>> + '_> =
            if moved.cause.kind == CauseKind::Migrate {
                let went =
                    migrate(was, &chart, &now.snapshot, at).ok().map(|step| stamped(step.next, at));
                Box::new(std::iter::once(went))
            } else {
                let own = is_unparking(moved).then(|| Some(unparked(&now.snapshot, at)));
                let triggers = triggers(record, moved, &now.snapshot).into_iter();
                let steps = triggers.map(|trigger| taken(was, &now.snapshot, &trigger, at));
                Box::new(own.into_iter().chain(steps))
            };
        let origin = self.origin.as_ref().ok_or(Unprovable::Gap(1))?;
        let proved = candidates
            .find_map(|next| next.filter(|next| origin.proves(record, &next.encode())))
            .ok_or(Unprovable::At(moved.version))?;
        drop(candidates);
        self.standing = Some((Rebuilt { pin, snapshot: proved }, chart));
        Ok(())
    }

    /// Returns the instance as it stands after the last record.
    pub(crate) fn end(self) -> Option<Rebuilt> {
        self.standing.map(|(rebuilt, _)| rebuilt)
    }
}

fn value(json: &Json) -> Value {
    Value::parse(json.as_str()).unwrap_or(Value::Null)
}

fn actor(record: &Record) -> String {
    record.entry.header.actor.name.to_string()
}

fn taken(chart: &Chart, now: &Snapshot, trigger: &Trigger, at: Timestamp) -> Option<Snapshot> {
    let step = step(chart, now, trigger, at).ok()?;
    step.is_transition(now).then(|| stamped(step.next, at))
}

/// As `decide` leaves it: a snapshot carries the time of its entry.
const fn stamped(mut next: Snapshot, at: Timestamp) -> Snapshot {
    next.updated_at = at;
    next
}

/// A parked task that may be tried again moves nothing but the version.
fn is_unparking(moved: &Transitioned) -> bool {
    moved.cause.kind == CauseKind::Operator && &*moved.cause.event == "retry"
}

fn unparked(now: &Snapshot, at: Timestamp) -> Snapshot {
    stamped(Snapshot { version: now.version + 1, ..now.clone() }, at)
}

/// Returns what may have come in.
fn triggers(record: &Record, moved: &Transitioned, now: &Snapshot) -> Vec<Trigger> {
    let event = moved.cause.event.to_string();
    let data = || moved.cause.data.as_ref().map_or_else(Value::empty, value);
    let call = || Call { name: event.clone(), data: data(), actor: actor(record) };
    let open = || now.works.iter().map(|work| work.key);
    match moved.cause.kind {
        CauseKind::Cmd => vec![Trigger::Command {
            call: call(),
            ticket: ticket(moved).unwrap_or_default(),
            postpone_until: postponed_until(moved),
        }],
        CauseKind::Signal | CauseKind::Outbox => vec![Trigger::Signal(call())],
        CauseKind::Timer => match &moved.key {
            Some(Key::Timer { id, generation }) => {
                vec![Trigger::Timer { id: id.to_string(), generation: *generation }]
            }
            _ => Vec::new(),
        },
        CauseKind::Queue => {
            let expired = now.postponed.iter().filter_map(|kept| match &kept.event.class {
                EventClass::Command { ticket, .. } => {
                    Some(Trigger::PostponeExpired { ticket: ticket.clone() })
                }
                _ => None,
            });
            std::iter::once(Trigger::Queue).chain(expired).collect()
        }
        CauseKind::Task | CauseKind::Child => match event.as_str() {
            "start" => open().map(|work| Trigger::WorkStarted { work }).collect(),
            "release" => {
                now.releasing.iter().map(|work| Trigger::WorkReleased { work: *work }).collect()
            }
            _ => open().flat_map(|work| ended(work, &data())).collect(),
        },
        CauseKind::Operator => {
            let actor = actor(record);
            match event.as_str() {
                "cancel" => vec![Trigger::Cancel { actor }],
                "terminate" => vec![Trigger::Terminate { actor }],
                "pause" => vec![Trigger::Pause],
                "resume" => vec![Trigger::Resume],
                "retry" => vec![Trigger::Retry],
                "skip" => {
                    let output = data().get("output").cloned().unwrap_or(Value::Null);
                    let settled =
                        open().map(|work| Trigger::WorkDone { work, output: output.clone() });
                    std::iter::once(Trigger::Skip).chain(settled).collect()
                }
                _ => Vec::new(),
            }
        }
        CauseKind::Start | CauseKind::Migrate => Vec::new(),
    }
}

/// The two ways in which a piece of work may have ended with this.
fn ended(work: WorkKey, data: &Value) -> [Trigger; 2] {
    let text = |name: &str| data.get(name).and_then(Value::as_text).unwrap_or_default().to_owned();
    let attempts = match data.get("attempts") {
        Some(Value::Int(attempts)) => u32::try_from(*attempts).unwrap_or(1),
        _ => 1,
    };
    let error = WorkError { code: text("code"), message: text("message"), attempts };
    [Trigger::WorkDone { work, output: data.clone() }, Trigger::WorkFailed { work, error }]
}

fn ticket(moved: &Transitioned) -> Option<String> {
    let target = Target::Instance(moved.instance.clone());
    let (key, receipt) = (moved.key.as_ref()?, moved.receipt.as_ref()?);
    let ticket = Ticket { key: KeyHash::of(&target, key), fingerprint: receipt.fingerprint };
    Some(ticket.text())
}

/// Returns until when a command that was postponed may wait: the row that wakes it says so.
fn postponed_until(moved: &Transitioned) -> Option<Timestamp> {
    let receipt = moved.receipt.as_ref()?;
    if receipt.kind != ReceiptKind::Postponed {
        return None;
    }
    moved.due.iter().find_map(|change| match change {
        DueChange::Arm { at, what: Due::PostponeDeadline { .. } } => Some(*at),
        _ => None,
    })
}
