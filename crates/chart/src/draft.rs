//! The draft: the next snapshot while a step is making it.
//!
//! A step works on a copy. Whatever fails, the copy is dropped and nothing has happened: not to the context, not to timers,
//! not to what was emitted. So every error, at any depth, undoes the whole macrostep without any code that undoes.
//!
//! Deliberately absent: decisions. `step.rs` decides, the other files each do one thing to a draft.

use std::collections::VecDeque;

use statehouse_contract::{
    limits::{ENTRY_BYTES_MAX, PAYLOAD_BYTES_MAX},
    time::Timestamp,
};

use crate::{
    definition::{Chart, DelayDef},
    effect::Effect,
    guard::{Evaluate, Scope},
    refusal::{EvaluationError, RefusalKind},
    schema::Schema,
    snapshot::{Event, EventClass, Snapshot},
    step::Settled,
    value::Value,
};

/// Largest snapshot: an entry carries more than that.
const SNAPSHOT_BYTES_MAX: usize = ENTRY_BYTES_MAX / 2;

/// Why a macrostep cannot be finished.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stop {
    /// An expression or a schema.
    Evaluation(EvaluationError),
    /// A limit, by its name.
    Limit(&'static str),
}

impl From<EvaluationError> for Stop {
    fn from(error: EvaluationError) -> Self {
        Self::Evaluation(error)
    }
}

impl From<Stop> for RefusalKind {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Evaluation(error) => Self::EvaluationError(error),
            Stop::Limit(limit) => Self::LimitExceeded { limit: limit.to_owned() },
        }
    }
}

/// What `reply` does in this macrostep.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nothing: the trigger is no command.
    Void,
    /// It answers a command whose reply looks like this.
    Open(Option<Schema>),
    /// It has answered.
    Given(Value),
}

/// A step in the making.
pub(crate) struct Draft<'c> {
    pub(crate) chart: &'c Chart,
    pub(crate) at: Timestamp,
    pub(crate) next: Snapshot,
    /// `event` as expressions see it now.
    pub(crate) event: Option<Value>,
    /// Raised events of this macrostep that were not taken yet.
    pub(crate) raised: VecDeque<Event>,
    pub(crate) raised_count: u32,
    pub(crate) microsteps: u32,
    /// Invokes of states that were entered and may not be active at the end.
    pub(crate) noted: Vec<u16>,
    pub(crate) works_started: u32,
    pub(crate) effects: Vec<Effect>,
    pub(crate) settled: Vec<Settled>,
    pub(crate) reply: Reply,
}

impl<'c> Draft<'c> {
    /// Opens a draft: a copy of the snapshot with the next version.
    pub(crate) fn new(chart: &'c Chart, now: &Snapshot, at: Timestamp) -> Self {
        let mut next = now.clone();
        next.version += 1;
        next.updated_at = at;
        Self {
            chart,
            at,
            next,
            event: None,
            raised: VecDeque::new(),
            raised_count: 0,
            microsteps: 0,
            noted: Vec::new(),
            works_started: 0,
            effects: Vec::new(),
            settled: Vec::new(),
            reply: Reply::Void,
        }
    }

    /// Returns what expressions see now.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope {
            context: &self.next.context,
            event: self.event.as_ref(),
            input: None,
            item: None,
            now: self.at,
            active: &self.next.configuration,
            states: &self.chart.names,
        }
    }

    /// Returns the actor of the event in scope: raised events are its doing too.
    pub(crate) fn actor(&self) -> Value {
        let actor = self.event.as_ref().and_then(|event| event.get("actor"));
        actor.cloned().unwrap_or_else(|| Value::text(""))
    }

    /// Returns an event of the platform with one more field, such as `output`.
    pub(crate) fn platform_event(&self, name: &str, extra: Option<(&str, Value)>) -> Event {
        let (field, value) = extra.unwrap_or_else(|| ("data", Value::empty()));
        let value = Value::object([
            ("type", Value::text(name)),
            ("data", Value::empty()),
            ("actor", Value::text("")),
            ("tenant", Value::text(&self.next.tenant)),
            (field, value),
        ]);
        Event { name: name.to_owned(), value, class: EventClass::Platform }
    }

    /// Returns how many milliseconds from now a delay ends; what is past ends now.
    pub(crate) fn delay_ms(&self, delay: &DelayDef) -> Result<u64, Stop> {
        let program = match delay {
            DelayDef::Fixed(ms) => return Ok(*ms),
            DelayDef::Expression(program) => program,
        };
        let ms = match program.evaluate(&self.scope())? {
            Value::Span(us) => us.max(0) as u64 / 1_000,
            // Rounded up: a timer is never early.
            Value::Moment(us) => (us.div_euclid(1_000) + i64::from(us.rem_euclid(1_000) > 0)
                - self.at.0)
                .max(0) as u64,
            Value::Text(text) => {
                match crate::duration::parse_ms(&text).or_else(|| span_ms(&text)) {
                    Some(ms) => ms,
                    None => return Err(program.error("the text is no duration").into()),
                }
            }
            other => {
                return Err(program.error(format!("{} is no delay", other.type_name())).into());
            }
        };
        if ms > crate::duration::MAX_MS {
            return Err(program.error("the delay is longer than three hundred years").into());
        }
        Ok(ms)
    }

    /// Judges the size of a payload.
    pub(crate) fn judge_payload(&self, data: &Value) -> Result<(), Stop> {
        if data.to_text().len() > self.chart.limits.event_bytes {
            Err(Stop::Limit("event"))
        } else {
            Ok(())
        }
    }

    /// Judges the size of the whole: it has to fit into an entry of the log with room for the rest.
    pub(crate) fn judge_size(&self) -> Result<(), Stop> {
        let next = &self.next;
        let groups = next.groups.iter().map(|group| group.waiting.len() + 2 * group.items.len());
        let parts = next.timers.len()
            + next.queue.len()
            + next.works.len()
            + next.saga.len()
            + next.postponed.len()
            + groups.sum::<usize>();
        // Measuring costs as much as writing: only where it might not fit.
        if parts * PAYLOAD_BYTES_MAX <= SNAPSHOT_BYTES_MAX
            || next.encode().len() <= SNAPSHOT_BYTES_MAX
        {
            Ok(())
        } else {
            Err(Stop::Limit("snapshot"))
        }
    }
}

// What CEL's own durations become when they are kept.
fn span_ms(text: &str) -> Option<u64> {
    crate::guard::parse_span(text).map(|us| us.max(0) as u64 / 1_000)
}
