//! Conformance cases: a definition, a script of steps in virtual time, and what must be true after each.
//!
//! A case is a JSON text, so that other implementations can be held to the same ones; the form is described beside the
//! cases (`tests/cases/README.md`). The runner plays the part of everything around the chart: it fires what is due at its
//! own due time, drains the queue after each step, and settles tickets.
//!
//! Deliberately absent: files and folders (the command line reads them), and validation: most cases have no final state.
//!
//! Invariant: a case that passes has met every assertion it makes; an unknown word in a case is a failure.

mod judge;
mod script;

use serde_json::Value as Json;
use statehouse_contract::time::Timestamp;

use crate::{
    definition::Chart,
    load::load,
    refusal::{Refusal, RefusalKind},
    snapshot::{EventClass, Snapshot},
    source::Source,
    step::{Outcome, Step, step},
    trigger::Trigger,
    value::Value,
};

/// Words that a case may have.
const CASE: [&str; 7] =
    ["name", "source", "machine", "initialConfiguration", "steps", "input", "actor"];

/// Runs one case.
///
/// # Errors
/// Why it does not pass: one or more lines for a person.
pub fn run_case(text: &str) -> Result<(), String> {
    let case: Json =
        serde_json::from_str(text).map_err(|error| format!("the case is no JSON: {error}"))?;
    known("the case", &case, &CASE)?;
    let machine = case.get("machine").ok_or("the case has no `machine`")?;
    let chart = compile(machine)?;
    let mut play = Play::new(&chart);
    let input = case.get("input").map_or_else(Value::empty, Value::from_json);
    let actor = case.get("actor").and_then(Json::as_str).unwrap_or_default().to_owned();
    let started = play.take(&Trigger::Start { input, actor, tenant: "default".to_owned() });
    started.map_err(|refusal| format!("the start is refused: {refusal}"))?;
    play.drain()?;
    judge::configuration(&play, case.get("initialConfiguration"))
        .map_err(|why| format!("after the start: {why}"))?;
    let steps = case.get("steps").and_then(Json::as_array).ok_or("the case has no `steps`")?;
    for (index, said) in steps.iter().enumerate() {
        script::perform(&mut play, said)
            .and_then(|told| judge::step(&play, said, &told))
            .map_err(|why| format!("step {} {}: {why}", index + 1, script::title(said)))?;
    }
    Ok(())
}

fn compile(machine: &Json) -> Result<Chart, String> {
    let document = load(&machine.to_string()).map_err(|findings| listed(&findings))?;
    let (source, findings) = Source::parse(&document);
    if findings.iter().any(crate::finding::Finding::is_error) {
        return Err(listed(&findings));
    }
    let source = source.ok_or("the machine is no object")?;
    Chart::compile_case(&source).map_err(|findings| listed(&findings))
}

fn listed(findings: &[crate::finding::Finding]) -> String {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    format!("the machine does not compile:\n{}", lines.join("\n"))
}

fn known(what: &str, object: &Json, words: &[&str]) -> Result<(), String> {
    let fields = object.as_object().ok_or_else(|| format!("{what} is no object"))?;
    match fields.keys().find(|key| !words.contains(&key.as_str())) {
        Some(unknown) => Err(format!("{what} has the unknown word `{unknown}`")),
        None => Ok(()),
    }
}

/// A command that was settled on its ticket: how, with which code, reply and message.
type Ticket = (String, Result<Option<Value>, RefusalKind>);

/// One instance and the time around it.
struct Play<'c> {
    chart: &'c Chart,
    snapshot: Snapshot,
    at: Timestamp,
    /// What was emitted since the last look.
    emitted: Vec<String>,
    /// What was settled since the last look.
    tickets: Vec<Ticket>,
    commands: u32,
}

impl<'c> Play<'c> {
    fn new(chart: &'c Chart) -> Self {
        Self {
            chart,
            snapshot: Snapshot::unborn(),
            at: Timestamp(0),
            emitted: Vec::new(),
            tickets: Vec::new(),
            commands: 0,
        }
    }

    fn take(&mut self, trigger: &Trigger) -> Result<Step, Refusal> {
        let taken = step(self.chart, &self.snapshot, trigger, self.at)?;
        self.snapshot = taken.next.clone();
        for effect in &taken.effects {
            if let crate::effect::Effect::Emit { event, .. } = effect {
                self.emitted.push(event.clone());
            }
        }
        for settled in &taken.settled {
            self.tickets.push((settled.ticket.clone(), settled.answer.clone()));
        }
        Ok(taken)
    }

    /// Drains the instance's own queue.
    fn drain(&mut self) -> Result<(), String> {
        while self.snapshot.has_queued() {
            self.take(&Trigger::Queue)
                .map_err(|refusal| format!("draining the queue: {refusal}"))?;
        }
        Ok(())
    }

    /// Lets time pass; everything due is fired at its own due time.
    fn advance(&mut self, ms: i64) -> Result<(), String> {
        let until = self.at.after_ms(ms);
        while let Some((due, trigger)) = self.next_due(until) {
            self.at = self.at.max(due);
            match self.take(&trigger) {
                Ok(_) => self.drain()?,
                Err(refusal) => return Err(format!("what is due was refused: {refusal}")),
            }
        }
        self.at = until;
        Ok(())
    }

    fn next_due(&self, until: Timestamp) -> Option<(Timestamp, Trigger)> {
        let is_held = self.snapshot.status == crate::snapshot::Status::Paused;
        let timer = self.snapshot.first_due(until).filter(|_| !is_held).map(|timer| {
            (timer.due, Trigger::Timer { id: timer.id.clone(), generation: timer.generation })
        });
        let kept = self.snapshot.postponed.iter().map(|kept| &kept.event);
        let waiting = kept.chain(self.snapshot.queue.iter().map(|queued| &queued.event));
        let deadline = waiting
            .filter_map(|event| match &event.class {
                EventClass::Command { ticket, until } => Some((*until, ticket)),
                EventClass::Signal | EventClass::Raised | EventClass::Platform => None,
            })
            .filter(|(due, _)| *due <= until)
            .min_by_key(|(due, _)| *due)
            .map(|(due, ticket)| (due, Trigger::PostponeExpired { ticket: ticket.clone() }));
        match (timer, deadline) {
            (Some(timer), Some(deadline)) if deadline.0 < timer.0 => Some(deadline),
            (Some(timer), _) => Some(timer),
            (None, deadline) => deadline,
        }
    }
}

/// What a step's own event came to.
#[derive(Debug, Default)]
struct Told {
    version: u64,
    outcome: String,
    code: Option<String>,
    message: Option<String>,
    reply: Option<Value>,
}

impl Told {
    fn hear(&mut self, answer: Result<Step, Refusal>) {
        let refused = |told: &mut Self, kind: &RefusalKind| {
            told.code = Some(kind.reason().unwrap_or_else(|| kind.code()).to_owned());
            told.message = match kind {
                RefusalKind::Rejected { message, .. } => message.clone(),
                other => Some(other.message()),
            };
        };
        match answer {
            Ok(step) => {
                let outcome =
                    if step.outcome == Outcome::Settled { Outcome::Accepted } else { step.outcome };
                self.outcome = outcome.name().to_owned();
                self.reply = step.reply;
                if let Some(cause) = &step.cause {
                    refused(self, cause);
                }
            }
            Err(refusal) if refusal.kind == RefusalKind::Stale => self.outcome = "stale".to_owned(),
            Err(refusal) => {
                self.outcome = "rejected".to_owned();
                refused(self, &refusal.kind);
            }
        }
    }
}
