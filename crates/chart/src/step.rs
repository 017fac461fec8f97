//! One step: what an instance becomes when a trigger meets it.
//!
//! `step` is the whole chart as one function: same chart, snapshot, trigger and time, same result, byte for byte, on every
//! node and in every release that reads the snapshot's schema. It judges payloads, runs one macrostep, and says what is to
//! be written: the next snapshot, the effects, the answer. Nothing of it is true before it is committed.
//!
//! Deliberately absent: keys, receipts, expected versions and roles; the caller has judged them.
//!
//! Invariants: a refusal changes nothing; a step either raises the version by one or changes nothing.

mod call;
mod due;
mod end;
mod verb;

use statehouse_contract::time::Timestamp;

use crate::{
    changes,
    definition::Chart,
    draft::Draft,
    effect::Effect,
    refusal::{Refusal, RefusalKind},
    snapshot::{Fault, Snapshot, Status},
    trigger::Trigger,
    value::Value,
};

/// How a trigger ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Accepted,
    /// It is kept for a later state.
    Postponed,
    /// Nothing takes it.
    Ignored,
    /// It could not be kept and is gone; `Step::cause` says why.
    Dropped,
    /// The instance is paused or faulted; it is kept in the inbox.
    Held,
    /// It could not be taken; the instance is faulted, `Step::cause` says why.
    Faulted,
    /// A postponed command was refused on its ticket.
    Settled,
    /// The last failure of a task that no transition names: the task stays open for an operator.
    Parked,
}

impl Outcome {
    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Postponed => "postponed",
            Self::Ignored => "ignored",
            Self::Dropped => "dropped",
            Self::Held => "held",
            Self::Faulted => "faulted",
            Self::Settled => "settled",
            Self::Parked => "parked",
        }
    }
}

/// A postponed command that was settled by a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// Its ticket.
    pub ticket: String,
    /// Its reply, or why it was refused.
    pub answer: Result<Option<Value>, RefusalKind>,
}

/// What a step makes of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The instance afterwards.
    pub next: Snapshot,
    /// How the trigger ended.
    pub outcome: Outcome,
    /// The name of the event that was taken, for history.
    pub event: String,
    /// The reply to the command.
    pub reply: Option<Value>,
    /// Why it was dropped, ignored by a `reject`, or faulted.
    pub cause: Option<RefusalKind>,
    /// What is to be done, in order.
    pub effects: Vec<Effect>,
    /// Postponed commands that are settled by it.
    pub settled: Vec<Settled>,
}

impl Step {
    /// Returns whether anything changed: only then is there something to commit as a transition.
    #[must_use]
    pub fn is_transition(&self, before: &Snapshot) -> bool {
        self.next.version != before.version
    }

    /// A step that changes nothing.
    fn still(now: &Snapshot, outcome: Outcome, event: &str) -> Self {
        Self {
            next: now.clone(),
            outcome,
            event: event.to_owned(),
            reply: None,
            cause: None,
            effects: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// A step out of a finished draft.
    pub(crate) fn of(draft: Draft<'_>, outcome: Outcome, event: &str) -> Self {
        let reply = match draft.reply {
            crate::draft::Reply::Given(value) => Some(value),
            crate::draft::Reply::Void | crate::draft::Reply::Open(_) => None,
        };
        let mut next = draft.next;
        let is_undoing = next.undoing.is_some();
        if next.status.is_live() {
            next.status = if is_undoing { Status::Compensating } else { Status::Running };
        }
        if next.queue.is_empty() && next.inbox.is_empty() {
            next.queue_run = 0;
        }
        Self {
            next,
            outcome,
            event: event.to_owned(),
            reply,
            cause: None,
            effects: draft.effects,
            settled: draft.settled,
        }
    }

    fn because(mut self, cause: RefusalKind) -> Self {
        self.cause = Some(cause);
        self
    }
}

/// Takes one macrostep: every enabled transition until the chart is stable again.
///
/// # Errors
/// A refusal: nothing moved. Commands and verbs are refused with a reason for the caller; a timer or a result of work that
/// is no longer open is [`RefusalKind::Stale`].
pub fn step(
    chart: &Chart,
    now: &Snapshot,
    trigger: &Trigger,
    at: Timestamp,
) -> Result<Step, Refusal> {
    // Durable time never runs backwards for one instance.
    let at = at.max(now.updated_at);
    match decide(chart, now, trigger, at) {
        Ok(mut step) => {
            if step.is_transition(now) {
                let (mut effects, last) = changes::between(chart, now, &step.next, trigger);
                effects.append(&mut step.effects);
                effects.extend(last);
                step.effects = effects;
            }
            Ok(step)
        }
        Err(RefusalKind::Stale) => Err(Refusal { kind: RefusalKind::Stale, accepts: Vec::new() }),
        Err(kind) => Err(Refusal { kind, accepts: chart.accepts(&now.configuration) }),
    }
}

/// Decides without the rows: also for a trigger that waited in the inbox.
fn decide(
    chart: &Chart,
    now: &Snapshot,
    trigger: &Trigger,
    at: Timestamp,
) -> Result<Step, RefusalKind> {
    match trigger {
        Trigger::Start { input, actor, tenant } => {
            call::start(chart, now, input, (actor, tenant), at)
        }
        Trigger::Command { call, ticket, postpone_until } => {
            call::command(chart, now, call, (ticket, *postpone_until), at)
        }
        Trigger::Signal(call) => call::signal(chart, now, call, trigger, at),
        Trigger::Timer { id, generation } => due::timer(chart, now, (id, *generation), trigger, at),
        Trigger::Queue => due::queue(chart, now, at),
        Trigger::PostponeExpired { ticket } => due::expired(chart, now, ticket, at),
        Trigger::WorkStarted { work } => end::started(chart, now, *work, at),
        Trigger::WorkDone { work, output } => end::done(chart, now, (*work, output), trigger, at),
        Trigger::WorkFailed { work, error } => end::failed(chart, now, (*work, error), trigger, at),
        Trigger::WorkReleased { work } => end::released(chart, now, *work, at),
        Trigger::Cancel { actor } => verb::cancel(chart, now, actor, at),
        Trigger::Terminate { .. } => verb::terminate(chart, now, at),
        Trigger::Pause => verb::pause(chart, now, at),
        Trigger::Resume => verb::resume(chart, now, at),
        Trigger::Retry => verb::retry(chart, now, at),
        Trigger::Skip => verb::skip(chart, now, at),
    }
}

/// Keeps what could not be taken and waits for an operator.
fn fault(
    chart: &Chart,
    now: &Snapshot,
    trigger: &Trigger,
    cause: RefusalKind,
    at: Timestamp,
) -> Step {
    let mut draft = Draft::new(chart, now, at);
    mark(&mut draft.next, trigger, Row::Gone);
    if draft.next.status.is_live() {
        draft.next.held_status = draft.next.status;
    }
    draft.next.status = Status::Faulted;
    draft.next.fault = Some(Fault { trigger: trigger.clone(), cause: cause.clone(), at });
    Step::of(draft, Outcome::Faulted, "").because(cause)
}

/// Keeps a trigger until the instance takes events again.
fn hold(chart: &Chart, now: &Snapshot, trigger: &Trigger, at: Timestamp) -> Step {
    let mut draft = Draft::new(chart, now, at);
    mark(&mut draft.next, trigger, Row::Gone);
    draft.next.inbox.push(trigger.clone());
    Step::of(draft, Outcome::Held, "")
}

/// Whether the row of a timer or task is gone while its entry in the snapshot stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Live,
    Gone,
}

/// Marks what a trigger is about that is kept, or that is taken up again.
fn mark(next: &mut Snapshot, trigger: &Trigger, row: Row) {
    let is_gone = row == Row::Gone;
    match trigger {
        Trigger::Timer { id, generation } => {
            let own = next
                .timers
                .iter_mut()
                .find(|timer| timer.id == *id && timer.generation == *generation);
            if let Some(timer) = own {
                timer.fired = is_gone;
            }
        }
        Trigger::WorkDone { work, .. } | Trigger::WorkFailed { work, .. } => {
            if let Some(own) = next.works.iter_mut().find(|own| own.key == *work) {
                own.is_closed = is_gone;
            }
        }
        Trigger::Start { .. }
        | Trigger::Command { .. }
        | Trigger::Signal(_)
        | Trigger::Queue
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
}
