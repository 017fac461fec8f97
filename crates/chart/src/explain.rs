//! Explaining: what an instance would take now, and why not.
//!
//! For each command and signal that something active has a candidate for: every candidate in the order in which it is
//! tried, its guard, what the guard reads, and what it says. A guard that reads the event can only be judged when there is
//! one; it says so.
//!
//! Deliberately absent: leases, deadlines and the last refusal, which are not the chart's. Secrets: they are masked here.

use std::collections::BTreeMap;

use serde::Serialize;
use statehouse_contract::time::Timestamp;

use crate::{
    configuration::StateIndex,
    definition::{Chart, TransitionIndex, TransitionKind},
    guard::{Program, Scope},
    schema::SECRET_MASK,
    snapshot::Snapshot,
    value::Value,
};

/// What one event would meet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventExplained {
    /// The event's name.
    pub event: String,
    /// `command` or `signal`.
    pub kind: &'static str,
    /// The role that a sender needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The candidates, in the order in which they are tried: inner states first.
    pub candidates: Vec<CandidateExplained>,
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidateExplained {
    /// The state that it belongs to.
    pub state: String,
    /// The descriptor that matches.
    pub descriptor: String,
    /// Where it stands in the definition, as a JSON pointer.
    pub place: String,
    /// What it does: `moves`, `rejects` or `postpones`.
    pub does: &'static str,
    /// Where it goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// The author's code of a `reject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Its guard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardExplained>,
}

/// A guard and what it says now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GuardExplained {
    /// The CEL.
    pub text: String,
    /// What it reads of the context, by path.
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// What it says: `true`, `false`, `depends on the event`, or `error`.
    pub says: &'static str,
    /// The error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Explains every command and signal that something active has a candidate for, sorted by name.
#[must_use]
pub fn explain(chart: &Chart, now: &Snapshot, at: Timestamp) -> Vec<EventExplained> {
    let commands = chart.commands().map(|(name, command)| (name, "command", command.role.clone()));
    let signals = chart.signals().map(|(name, _)| (name, "signal", None));
    let mut explained: Vec<EventExplained> = commands
        .chain(signals)
        .map(|(event, kind, role)| EventExplained {
            event: event.to_owned(),
            kind,
            role,
            candidates: candidates(chart, now, event, at),
        })
        .filter(|event| !event.candidates.is_empty())
        .collect();
    explained.sort_by(|left, right| left.event.cmp(&right.event));
    explained
}

fn candidates(
    chart: &Chart,
    now: &Snapshot,
    event: &str,
    at: Timestamp,
) -> Vec<CandidateExplained> {
    let mut found = Vec::new();
    // Inner states are asked first; document order keeps parents before children.
    for state in now.configuration.iter_inward_out() {
        let _: Option<()> = chart.def(state).candidates.find(event, false, |index| {
            found.push(candidate(chart, now, index, at));
            None
        });
    }
    found
}

fn candidate(
    chart: &Chart,
    now: &Snapshot,
    index: TransitionIndex,
    at: Timestamp,
) -> CandidateExplained {
    let transition = chart.transition(index);
    let (does, code) = match &transition.kind {
        TransitionKind::Move => ("moves", None),
        TransitionKind::Postpone => ("postpones", None),
        TransitionKind::Reject { code, .. } => ("rejects", Some(code.clone())),
    };
    let id = |state: StateIndex| chart.state_id(state).unwrap_or_default().to_owned();
    CandidateExplained {
        state: id(transition.source),
        descriptor: transition.descriptor.to_string(),
        place: transition.place.to_string(),
        does,
        targets: transition.targets.iter().map(|target| id(*target)).collect(),
        code,
        guard: transition.guard.as_ref().map(|guard| explain_guard(chart, now, guard, at)),
    }
}

fn explain_guard(chart: &Chart, now: &Snapshot, guard: &Program, at: Timestamp) -> GuardExplained {
    let scope = Scope {
        context: &now.context,
        event: None,
        input: None,
        item: None,
        now: at,
        active: &now.configuration,
        states: &chart.names,
    };
    let paths = guard.inputs();
    let reads_event =
        paths.iter().any(|path| path.first().is_some_and(|root| root.as_ref() == "event"));
    let (says, error) = match guard.truth(&scope) {
        Ok(true) => ("true", None),
        Ok(false) => ("false", None),
        Err(_) if reads_event => ("depends on the event", None),
        Err(error) => ("error", Some(error.why)),
    };
    let context_paths = paths.iter().filter(|path| path.len() > 1 && path[0].as_ref() == "context");
    let inputs = context_paths
        .map(|path| (path.join("."), shown(chart, &now.context, &path[1..])))
        .collect();
    GuardExplained { text: guard.text().to_owned(), inputs, says, error }
}

/// Returns the value at a path of the context as it may be shown.
fn shown(chart: &Chart, context: &Value, path: &[std::sync::Arc<str>]) -> serde_json::Value {
    let mut value = context;
    let mut schema = chart.context_schema();
    for step in path {
        let Some(inner) = value.get(step) else { return serde_json::Value::Null };
        value = inner;
        schema = schema.and_then(|schema| schema.field(step));
        if schema.is_some_and(crate::schema::Schema::is_secret) {
            return SECRET_MASK.into();
        }
    }
    match schema {
        Some(schema) => schema.mask(&value.to_json()),
        None => value.to_json(),
    }
}
