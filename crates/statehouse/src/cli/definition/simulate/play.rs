//! Plays a chart: steps it, drains its queue, fires what is due, and writes down what happened.
//!
//! The order is a server's: one trigger, then the instance's own queue until it is empty, then the next. Timers
//! that are due at the same time fire in the order in which they were started.
//!
//! Deliberately absent: attempts and retries of tasks; a script says how the last one ended.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use statehouse_chart::{
    Call, Chart, Effect, Outcome, Refusal, Snapshot, Step as Taken, Trigger, Value, WorkError,
    WorkKey, snapshot::EventClass, step,
};
use statehouse_contract::Timestamp;

use super::script::{Step, Verb};

/// Virtual time begins here: 2026-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000);

/// Most macrosteps of one script: a definition that never rests must not hang a terminal.
const STEPS_MAX: usize = 10_000;

/// A piece of work that a script may end.
struct Open {
    invoke: String,
    src: String,
    key: WorkKey,
    wants_start: bool,
}

/// A chart being played.
pub(super) struct Play<'c> {
    chart: &'c Chart,
    now: Timestamp,
    actor: String,
    snapshot: Snapshot,
    open: Vec<Open>,
    tickets: u64,
    moves: Vec<Json>,
}

impl<'c> Play<'c> {
    /// Sets a chart up.
    pub(super) fn new(chart: &'c Chart, actor: String) -> Self {
        let snapshot = Snapshot::unborn();
        Self { chart, now: BEGIN, actor, snapshot, open: Vec::new(), tickets: 0, moves: Vec::new() }
    }

    /// Returns what happened.
    pub(super) fn into_moves(self) -> Vec<Json> {
        self.moves
    }

    /// Starts the instance.
    pub(super) fn start(&mut self, input: &Json) {
        let input = Value::from_json(input);
        let trigger =
            Trigger::Start { input, actor: self.actor.clone(), tenant: "default".to_owned() };
        self.run("start", &trigger);
    }

    /// Takes one step of the script.
    pub(super) fn take(&mut self, next: &Step) {
        match next {
            Step::As(name) => self.actor.clone_from(name),
            Step::Advance(time) => self.advance(*time),
            Step::Send(name, data) => {
                self.tickets += 1;
                let ticket = format!("t-{}", self.tickets);
                let trigger =
                    Trigger::Command { call: self.call(name, data), ticket, postpone_until: None };
                self.run(&format!("send {name}"), &trigger);
            }
            Step::Signal(name, data) => {
                self.run(&format!("signal {name}"), &Trigger::Signal(self.call(name, data)));
            }
            Step::Complete(name, output) => {
                let output = Value::from_json(output);
                self.end(&format!("complete {name}"), name, |work| Trigger::WorkDone {
                    work,
                    output,
                });
            }
            Step::Fail(name, code, message) => {
                let error = WorkError { code: code.clone(), message: message.clone(), attempts: 1 };
                self.end(&format!("fail {name}"), name, |work| Trigger::WorkFailed { work, error });
            }
            Step::Operate(verb) => {
                let actor = self.actor.clone();
                let trigger = match verb {
                    Verb::Cancel => Trigger::Cancel { actor },
                    Verb::Terminate => Trigger::Terminate { actor },
                    Verb::Pause => Trigger::Pause,
                    Verb::Resume => Trigger::Resume,
                    Verb::Retry => Trigger::Retry,
                    Verb::Skip => Trigger::Skip,
                };
                self.run(verb.name(), &trigger);
            }
        }
    }

    fn call(&self, name: &str, data: &Json) -> Call {
        Call { name: name.to_owned(), data: Value::from_json(data), actor: self.actor.clone() }
    }

    fn end(&mut self, what: &str, name: &str, trigger: impl FnOnce(WorkKey) -> Trigger) {
        let found = self.open.iter_mut().find(|open| open.invoke == name || open.src == name);
        let Some(open) = found else {
            self.note(what, "no such open task");
            return;
        };
        let key = open.key;
        if std::mem::take(&mut open.wants_start) {
            self.run(&format!("{name} is leased"), &Trigger::WorkStarted { work: key });
        }
        self.run(what, &trigger(key));
    }

    // Everything that is due on the way fires, each at its own time.
    fn advance(&mut self, time: Duration) {
        let until = self.now.after_ms(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let mut fired = 0;
        while let Some((due, what, trigger)) = self.first_due(until) {
            self.now = self.now.max(due);
            self.run(&what, &trigger);
            fired += 1;
            if self.moves.len() >= STEPS_MAX {
                return;
            }
        }
        self.now = until;
        if fired == 0 {
            self.note(&format!("advance {time:?}"), "nothing was due");
        }
    }

    fn first_due(&self, until: Timestamp) -> Option<(Timestamp, String, Trigger)> {
        if !self.snapshot.status.is_live() {
            return None;
        }
        let timers = self.snapshot.timers.iter().filter(|timer| !timer.fired);
        let timer = timers.min_by_key(|timer| (timer.due, timer.number));
        let deadline = self.snapshot.postponed.iter().filter_map(|kept| match &kept.event.class {
            EventClass::Command { ticket, until } => Some((*until, ticket)),
            EventClass::Signal | EventClass::Raised | EventClass::Platform => None,
        });
        let deadline = deadline.min();
        match (timer, deadline) {
            (Some(timer), deadline) if deadline.is_none_or(|(at, _)| timer.due <= at) => {
                let trigger = Trigger::Timer { id: timer.id.clone(), generation: timer.generation };
                (timer.due <= until).then(|| (timer.due, format!("timer {}", timer.id), trigger))
            }
            (_, Some((at, ticket))) => {
                let trigger = Trigger::PostponeExpired { ticket: ticket.clone() };
                (at <= until).then(|| (at, format!("deadline of {ticket}"), trigger))
            }
            (_, None) => None,
        }
    }

    // One trigger, then the queue.
    fn run(&mut self, what: &str, trigger: &Trigger) {
        self.once(what, trigger);
        while self.snapshot.version > 0
            && self.snapshot.has_queued()
            && self.moves.len() < STEPS_MAX
        {
            let before = self.moves.len();
            self.once("queue", &Trigger::Queue);
            if self.moves.last().is_some_and(|last| last.get("code").is_some())
                || self.moves.len() == before
            {
                return;
            }
        }
    }

    fn once(&mut self, what: &str, trigger: &Trigger) {
        match step(self.chart, &self.snapshot, trigger, self.now) {
            Ok(taken) => self.taken(what, taken),
            Err(refusal) => self.refused(what, &refusal),
        }
    }

    fn taken(&mut self, what: &str, taken: Taken) {
        let mut shown = Map::new();
        shown.insert("to".to_owned(), self.chart.leaves(&taken.next.configuration).into());
        if let Some(reply) = &taken.reply {
            shown.insert("reply".to_owned(), reply.to_json());
        }
        if let Some(cause) = &taken.cause {
            shown.insert("code".to_owned(), cause.code().into());
            shown.insert("message".to_owned(), cause.message().into());
        }
        let emitted: Vec<Json> = taken.effects.iter().filter_map(emitted).collect();
        if !emitted.is_empty() {
            shown.insert("emitted".to_owned(), emitted.into());
        }
        let releases = self.follow(&taken.effects);
        let status = taken.next.status.name();
        if status != "running" {
            shown.insert("status".to_owned(), status.into());
        }
        if let Some(output) = &taken.next.output {
            shown.insert("output".to_owned(), output.to_json());
        }
        self.snapshot = taken.next;
        self.push(what, outcome(taken.outcome), shown);
        for work in releases {
            self.once("released", &Trigger::WorkReleased { work });
        }
    }

    fn refused(&mut self, what: &str, refusal: &Refusal) {
        let mut shown = Map::new();
        let code = refusal.kind.reason().unwrap_or_else(|| refusal.kind.code());
        shown.insert("code".to_owned(), code.into());
        shown.insert("message".to_owned(), refusal.kind.message().into());
        self.push(what, "rejected", shown);
    }

    // Keeps the list of open work; returns what has to be told that its lease is over.
    fn follow(&mut self, effects: &[Effect]) -> Vec<WorkKey> {
        let mut releases = Vec::new();
        for effect in effects {
            match effect {
                Effect::ScheduleTask(order) => self.open.push(Open {
                    invoke: order.invoke.clone(),
                    src: order.src.clone(),
                    key: order.work,
                    wants_start: order.report_start,
                }),
                Effect::StartChild(order) => self.open.push(Open {
                    invoke: order.invoke.clone(),
                    src: format!("workflow:{}", order.definition),
                    key: order.work,
                    wants_start: false,
                }),
                Effect::CancelTask { work, report_release } => {
                    self.open.retain(|open| open.key != *work);
                    releases.extend(report_release.then_some(*work));
                }
                Effect::CloseTask { work } | Effect::CancelChild { work } => {
                    self.open.retain(|open| open.key != *work);
                }
                Effect::StartTimer { .. }
                | Effect::CancelTimer { .. }
                | Effect::HoldTimers
                | Effect::ReleaseTimers
                | Effect::StartPostpone { .. }
                | Effect::EndPostpone { .. }
                | Effect::RunQueue
                | Effect::Send { .. }
                | Effect::SendParent { .. }
                | Effect::TellParent(_)
                | Effect::Emit { .. }
                | Effect::Log { .. } => {}
            }
        }
        releases
    }

    fn note(&mut self, what: &str, outcome: &str) {
        self.push(what, outcome, Map::new());
    }

    fn push(&mut self, what: &str, outcome: &str, mut shown: Map<String, Json>) {
        let mut step = Map::new();
        let seconds = self.now.since_ms(BEGIN) as f64 / 1_000.0;
        step.insert("at".to_owned(), format!("+{seconds}s").into());
        step.insert("step".to_owned(), what.into());
        step.insert("outcome".to_owned(), outcome.into());
        step.insert("version".to_owned(), self.snapshot.version.into());
        step.append(&mut shown);
        let tasks: Vec<&str> = self.open.iter().map(|open| open.invoke.as_str()).collect();
        if !tasks.is_empty() {
            step.insert("tasks".to_owned(), json!(tasks));
        }
        let timers: Vec<&str> =
            self.snapshot.timers.iter().map(|timer| timer.id.as_str()).collect();
        if !timers.is_empty() {
            step.insert("timers".to_owned(), json!(timers));
        }
        self.moves.push(Json::Object(step));
    }
}

fn emitted(effect: &Effect) -> Option<Json> {
    match effect {
        Effect::Emit { event, data } => Some(json!({"event": event, "data": data.to_json()})),
        Effect::StartTimer { .. }
        | Effect::CancelTimer { .. }
        | Effect::HoldTimers
        | Effect::ReleaseTimers
        | Effect::StartPostpone { .. }
        | Effect::EndPostpone { .. }
        | Effect::RunQueue
        | Effect::ScheduleTask(_)
        | Effect::CancelTask { .. }
        | Effect::CloseTask { .. }
        | Effect::StartChild(_)
        | Effect::CancelChild { .. }
        | Effect::Send { .. }
        | Effect::SendParent { .. }
        | Effect::TellParent(_)
        | Effect::Log { .. } => None,
    }
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Postponed => "postponed",
        Outcome::Ignored => "ignored",
        Outcome::Dropped => "dropped",
        Outcome::Held => "held",
        Outcome::Faulted => "faulted",
        Outcome::Settled => "settled",
        Outcome::Parked => "parked",
    }
}
