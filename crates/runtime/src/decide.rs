//! The only bridge from an envelope to an entry: what the log shall say about a command. Pure.
//!
//! In go the envelope, the instance as it was last applied, its chart, the time and the term. Out comes an entry (the
//! transition, or the refusal that is written down too), or a rejection that depends on the request alone, or nothing.
//! Nothing here is true before it is applied; whoever calls this proposes the entry and believes only what apply returns.
//!
//! The caller has looked the key up: a known key never comes here.
//!
//! Absent on purpose: actors, rows, clocks, the log. `decide_registry.rs` does the same for tenants and definitions.
//!
//! Invariants: an entry stands at exactly the version and digest that were judged; a refusal is judged at a version and
//! says which; time never goes back within an instance.

mod body;
mod child;
mod due;
mod moving;
mod outbox;
mod refusal;
mod rows;
mod task;
mod transition;

#[cfg(test)]
mod tests;

pub(crate) use moving::not_there;
pub(crate) use rows::task_id;
pub(crate) use task::LEASE_EXPIRED;
#[cfg(test)]
pub(crate) use task::jitter_ms;
pub(crate) use task::releasable;

use statehouse_chart::{
    Call, Chart, Refusal, RefusalKind, Snapshot, Step, Trigger, Value, schema::Schema, step,
};
use statehouse_contract::{
    CommandEnvelope, InstanceKey, Json, NodeId, ReceiptKind, Rejection, RejectionCode, Timestamp,
    Verb, Version,
    command::{Command, DefinitionRef},
    limits::POSTPONE_MS_MAX,
};
use statehouse_store::{
    TaskRow,
    entry::{Cause, CauseKind, Entry, Expect, Header, Parent, Pin, RowDigest, TaskChange},
};

use crate::{key_age, reject, ticket::Ticket};

/// An instance as it was last applied.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its birth and version.
    pub version: Version,
    /// The fingerprint of its row.
    pub digest: RowDigest,
    /// The definition to which it is pinned.
    pub pin: Pin,
    /// The instance itself.
    pub snapshot: Snapshot,
    /// Who started it.
    pub parent: Option<Parent>,
    /// The rows of its open tasks. They move without their instance, so they are read anew for each decision.
    pub tasks: Vec<TaskRow>,
}

/// A version of a definition with its chart.
#[derive(Clone, Copy, Debug)]
pub struct Other<'a> {
    /// The version.
    pub pin: &'a Pin,
    /// Its chart.
    pub chart: &'a Chart,
}

/// What a command is judged against.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Which instance.
    pub key: &'a InstanceKey,
    /// The instance; nothing if there is none.
    pub standing: Option<&'a Standing>,
    /// Its chart; for a start the chart that it shall run. Nothing if there is no such definition.
    pub chart: Option<&'a Chart>,
    /// For a migration: the version to which it goes, if there is one.
    pub other: Option<Other<'a>>,
    /// The epoch of its bucket.
    pub bucket_epoch: u32,
    /// The time of the decision: `max(instance's last, shard's applied, clock)`.
    pub at: Timestamp,
    /// The term of this leader.
    pub term: u64,
    /// This node.
    pub node: NodeId,
}

/// What follows from a command.
#[derive(Debug)]
pub enum Decision {
    /// Propose this; its commit is the answer.
    Propose(Box<Draft>),
    /// Say no now; the answer depends on the request alone and is not written down.
    Reject(Box<Rejection>),
    /// Nothing is to be done: what was due is no longer open, or not due yet.
    Nothing,
}

/// An entry, and what the instance becomes by it.
#[derive(Debug)]
pub struct Draft {
    /// The entry.
    pub entry: Entry,
    /// The instance afterwards; nothing if it stays as it is.
    pub next: Option<Snapshot>,
}

/// Decides a command.
#[must_use]
pub fn decide(case: Case<'_>, envelope: &CommandEnvelope) -> Decision {
    let judge = Judge { case, envelope };
    if let Some(no) = key_age::expired(&envelope.key, case.at) {
        return reject_now(no);
    }
    match &envelope.command {
        Command::Start { definition, input } => judge.start(definition, input),
        Command::Send { event, data, postpone_ms } => judge.send(event, data, *postpone_ms),
        Command::Signal { event, data } => judge.signal(event, data),
        Command::Operate(verb) => judge.operate(verb),
        Command::Fire { what, due } => judge.fire(what, *due),
        Command::CompleteTask { task, token, output } => judge.complete(task, *token, output),
        Command::FailTask { task, token, code, message, retryable } => {
            judge.fail((task, *token), (code, message), *retryable)
        }
        Command::StartTask { task } => judge.start_task(task),
        Command::LeaseTasks { .. } | Command::ExtendLease { .. } => {
            reject_now(reject::misdirected("a lease is given by the desk of a shard"))
        }
        Command::StartChild { definition, input, parent } => {
            judge.start_child(definition, input, parent)
        }
        Command::ChildEnded { work, ending } => judge.child_ended(work, ending),
        Command::Adopt { definition, snapshot, from, version } => {
            judge.adopt(definition, snapshot, (from, *version))
        }
        Command::Deploy { .. }
        | Command::SetCurrent { .. }
        | Command::PutTenant { .. }
        | Command::PutKey { .. }
        | Command::RevokeKey { .. }
        | Command::SetQuota(_)
        | Command::PutSchedule { .. }
        | Command::RemoveSchedule { .. }
        | Command::BackfillSchedule { .. }
        | Command::PauseSchedule { .. }
        | Command::AdvanceSchedule { .. }
        | Command::PutBatch { .. }
        | Command::StopBatch { .. }
        | Command::AdvanceBatch { .. }
        | Command::RemoveBatch { .. }
        | Command::PutMember { .. }
        | Command::RemoveMember { .. }
        | Command::MoveBucket { .. }
        | Command::RaiseFeature { .. } => {
            reject_now(reject::not_in_this_release("this command at an instance"))
        }
    }
}

fn reject_now(rejection: Rejection) -> Decision {
    Decision::Reject(Box::new(rejection))
}

/// One command under judgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) case: Case<'a>,
    pub(crate) envelope: &'a CommandEnvelope,
}

/// What a caller gets when a trigger was taken.
enum Answering {
    /// A receipt with the transition.
    Receipt(ReceiptKind),
    /// A signal's outcome.
    Signal,
    /// A worker, with what became of its report.
    Told(Told),
    /// Nobody.
    Nobody,
}

/// What a worker hears of its report.
enum Told {
    /// What became of the task.
    Ended {
        /// The task.
        task: String,
        /// The outcome in one word.
        outcome: &'static str,
    },
    /// The report was refused, and moved the instance all the same: the attempt was the last one.
    No(Box<Rejection>),
}

/// A step that was taken, on its way to become an entry.
struct Moving<'a> {
    standing: Option<&'a Standing>,
    pin: &'a Pin,
    chart: &'a Chart,
    /// The chart by which it stood before, where that is another one.
    was: Option<&'a Chart>,
    taken: Step,
    caused: Cause,
    answering: Answering,
    /// Changes of tasks beside those that the step asks for.
    tasks: Vec<TaskChange>,
}

impl<'a> Judge<'a> {
    fn start(self, definition: &DefinitionRef, input: &Json) -> Decision {
        let data = || Some(self.mask_input(input));
        if let Some(standing) = self.case.standing {
            let detail = format!("there is an instance {} already", self.case.key.instance);
            let no = reject::by_instance(RejectionCode::AlreadyExists, detail);
            return self.refuse(Some(standing), no, cause(CauseKind::Start, "start", data()));
        }
        let (Some(chart), Some(pin)) = (self.case.chart, pin_of(definition)) else {
            let detail = match definition.version {
                Some(version) => format!("there is no version {version} of {}", definition.name),
                None => format!("there is no definition {}, or none is current", definition.name),
            };
            let no = reject::by_instance(RejectionCode::UnknownDefinition, detail);
            return self.refuse(None, no, cause(CauseKind::Start, "start", None));
        };
        let caused = cause(CauseKind::Start, "start", data());
        if let Some(no) = self.lacks_role(self.start_role(chart)) {
            return self.refuse_start(&pin, no, caused);
        }
        let trigger = Trigger::Start {
            input: value_of(input),
            actor: self.actor(),
            tenant: self.case.key.tenant.as_str().to_owned(),
        };
        match step(chart, &Snapshot::unborn(), &trigger, self.case.at) {
            Ok(taken) => self.transition(Moving {
                standing: None,
                pin: &pin,
                chart,
                was: None,
                taken,
                caused,
                answering: Answering::created(),
                tasks: Vec::new(),
            }),
            Err(refusal) => self.refuse_start(&pin, reject::from_refusal(&refusal), caused),
        }
    }

    fn send(self, event: &str, data: &Json, postpone_ms: Option<u64>) -> Decision {
        let (standing, chart) = match self.present() {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        // A client sends events; the definition says which of them are signals.
        let is_signal = || chart.signals().any(|(name, _)| name == event);
        if chart.command(event).is_none() && is_signal() {
            return self.signal(event, data);
        }
        let caused = cause(CauseKind::Cmd, event, Some(mask_event(chart, event, data)));
        if let Some(no) = self.conflict(standing) {
            return self.refuse(Some(standing), no, caused);
        }
        if let Some(no) =
            self.lacks_role(chart.command(event).and_then(|command| command.role.as_deref()))
        {
            return self.refuse(Some(standing), no, caused);
        }
        let until = |ms: u64| self.case.at.after_ms(ms.min(POSTPONE_MS_MAX) as i64);
        let trigger = Trigger::Command {
            call: self.call(event, data),
            ticket: Ticket::of(self.envelope).text(),
            postpone_until: postpone_ms.map(until),
        };
        self.take(standing, chart, &trigger, caused, Answering::accepted())
    }

    fn signal(self, event: &str, data: &Json) -> Decision {
        let (standing, chart) = match self.present() {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        let caused = cause(CauseKind::Signal, event, Some(mask_event(chart, event, data)));
        if let Some(no) = self.conflict(standing) {
            return self.refuse(Some(standing), no, caused);
        }
        let trigger = Trigger::Signal(self.call(event, data));
        self.take(standing, chart, &trigger, caused, Answering::Signal)
    }

    fn operate(self, verb: &Verb) -> Decision {
        let actor = || self.actor();
        let trigger = match verb {
            Verb::Cancel => Trigger::Cancel { actor: actor() },
            Verb::Terminate => Trigger::Terminate { actor: actor() },
            Verb::Pause => Trigger::Pause,
            Verb::Resume => Trigger::Resume,
            Verb::Retry { task: None } => match self.unpark_all() {
                Some(decision) => return decision,
                None => Trigger::Retry,
            },
            Verb::Skip => Trigger::Skip,
            Verb::Settle { task, output } => return self.settle_task(task, output),
            Verb::Retry { task: Some(task) } => return self.unpark(task),
            Verb::Migrate { to } => return self.migrate(*to),
            Verb::Reset { .. } => {
                return reject_now(reject::misdirected(
                    "a reset is carried out by its new instance",
                ));
            }
        };
        let (standing, chart) = match self.present() {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        let caused = cause(CauseKind::Operator, verb.name(), None);
        if let Some(no) = self.conflict(standing) {
            return self.refuse(Some(standing), no, caused);
        }
        self.take(standing, chart, &trigger, caused, Answering::accepted())
    }

    /// Returns the instance and its chart, or the refusal that there is none.
    fn present(self) -> Result<(&'a Standing, &'a Chart), Decision> {
        match (self.case.standing, self.case.chart) {
            (Some(standing), Some(chart)) => Ok((standing, chart)),
            (Some(_), None) => Err(reject_now(Rejection::gateway(
                RejectionCode::Internal,
                "the definition of this instance cannot be read",
            ))),
            (None, _) => {
                let detail = format!("there is no instance {}", self.case.key.instance);
                let no = reject::by_instance(RejectionCode::UnknownInstance, detail);
                Err(self.refuse(None, no, self.cause_of_absent()))
            }
        }
    }

    fn cause_of_absent(self) -> Cause {
        match &self.envelope.command {
            Command::Send { event, .. } => cause(CauseKind::Cmd, event, None),
            Command::Signal { event, .. } => cause(CauseKind::Signal, event, None),
            Command::Operate(verb) => cause(CauseKind::Operator, verb.name(), None),
            // Nothing else is refused for want of an instance.
            _ => cause(CauseKind::Cmd, "", None),
        }
    }

    fn conflict(self, standing: &Standing) -> Option<Rejection> {
        let expected = self.envelope.expected.filter(|expected| *expected != standing.version)?;
        let detail = format!("expected version {expected}, found {}", standing.version);
        Some(reject::by_instance(RejectionCode::VersionConflict, detail))
    }

    fn lacks_role(self, role: Option<&str>) -> Option<Rejection> {
        let role = role.filter(|role| !self.envelope.actor.has_role(role))?;
        Some(reject::from_kind(&RefusalKind::Forbidden { role: role.to_owned() }))
    }

    /// Steps the instance and turns what came out into an entry.
    fn take(
        self,
        standing: &Standing,
        chart: &Chart,
        trigger: &Trigger,
        caused: Cause,
        answering: Answering,
    ) -> Decision {
        match (step(chart, &standing.snapshot, trigger, self.case.at), &answering) {
            (Ok(taken), Answering::Signal) if !taken.is_transition(&standing.snapshot) => {
                self.signal_ignored(standing, &taken, caused)
            }
            (Ok(taken), _) if !taken.is_transition(&standing.snapshot) => Decision::Nothing,
            (Ok(taken), _) => self.transition(Moving {
                standing: Some(standing),
                pin: &standing.pin,
                chart,
                was: None,
                taken,
                caused,
                answering,
                tasks: Vec::new(),
            }),
            (Err(_), Answering::Nobody) => Decision::Nothing,
            (Err(Refusal { kind: RefusalKind::Stale, .. }), Answering::Signal) => Decision::Nothing,
            (Err(refusal), Answering::Signal | Answering::Receipt(_) | Answering::Told(_)) => {
                self.refuse(Some(standing), reject::from_refusal(&refusal), caused)
            }
        }
    }

    fn header(self) -> Header {
        Header {
            decided_term: self.case.term,
            decided_by: self.case.node,
            decided_at: self.case.at,
            actor: self.envelope.actor.clone(),
            reason: self.envelope.reason.clone(),
            trace: self.envelope.trace.clone(),
            correlation: self.envelope.correlation.clone(),
        }
    }

    fn actor(self) -> String {
        self.envelope.actor.name.to_string()
    }

    fn call(self, event: &str, data: &Json) -> Call {
        Call { name: event.to_owned(), data: value_of(data), actor: self.actor() }
    }

    fn mask_input(self, input: &Json) -> Json {
        self.case.chart.map_or_else(|| input.clone(), |chart| masked(chart.input_schema(), input))
    }
}

impl Answering {
    const fn accepted() -> Self {
        Self::Receipt(ReceiptKind::Accepted)
    }

    const fn created() -> Self {
        Self::Receipt(ReceiptKind::Created)
    }
}

/// Returns the path of an instance, as problem documents name it.
#[must_use]
pub fn place(key: &InstanceKey) -> String {
    format!("/v1/tenants/{}/instances/{}", key.tenant, key.instance)
}

fn expect(standing: Option<&Standing>) -> Expect {
    standing.map_or(Expect::Absent, |standing| Expect::At {
        version: standing.version,
        digest: standing.digest,
    })
}

fn cause(kind: CauseKind, event: &str, data: Option<Json>) -> Cause {
    Cause { kind, event: event.into(), data }
}

fn pin_of(definition: &DefinitionRef) -> Option<Pin> {
    Some(Pin {
        name: definition.name.clone(),
        version: definition.version?,
        digest: definition.digest?,
    })
}

/// Returns the payload of an event as history may show it.
fn mask_event(chart: &Chart, event: &str, data: &Json) -> Json {
    let command = chart.command(event).map(|command| command.schema.as_ref());
    let signal = || chart.signals().find(|(name, _)| *name == event).map(|(_, schema)| schema);
    masked(command.or_else(signal).flatten(), data)
}

/// Returns a text with the secrets of its schema masked.
fn masked(schema: Option<&Schema>, data: &Json) -> Json {
    match schema.filter(|schema| schema.holds_secret()) {
        Some(schema) => Json::from_value(&schema.mask(&data.to_value())),
        None => data.clone(),
    }
}

fn value_of(json: &Json) -> Value {
    Value::parse(json.as_str()).expect("the text is one valid JSON value by construction")
}
