//! Tasks: steps of a saga say how they are undone, and nothing waits for ever for work.
//!
//! Deliberately absent: what a task does, and workflows other than this one.

use std::collections::BTreeSet;

use super::{
    Desk,
    events::is_unguarded,
    model::{Cause, Model, StateNumber},
    names::is_platform,
};
use crate::{
    finding::FindingCode,
    source::{Invoke, Src},
};

pub(super) fn check(model: &Model<'_>, desk: &mut Desk) {
    let has_saga = model.invokes().any(|(_, invoke)| invoke.src == Src::Saga);
    for (state, invoke) in model.invokes() {
        match &invoke.src {
            Src::Saga => check_saga(invoke, desk),
            Src::Task(kind) => {
                check_task(model, state, invoke, kind, desk);
                if has_saga {
                    check_undo(invoke, desk);
                }
            }
            Src::Workflow { .. } if has_saga => check_undo(invoke, desk),
            // Of the platform's own kinds only this one changes something outside.
            Src::BuiltIn { scheme, .. } if has_saga && scheme == "http" => check_undo(invoke, desk),
            Src::Workflow { .. } | Src::BuiltIn { .. } | Src::Unknown(_) => {}
        }
    }
    check_cycle(model, desk);
}

fn check_saga(invoke: &Invoke, desk: &mut Desk) {
    if invoke.on_error.is_none() {
        let message =
            "`saga:compensate` without `onError`: a compensation that fails would be a fault";
        let advice = "lead it to a state in which a person can help";
        desk.note(FindingCode::SagaWithoutOnError, &invoke.src_said.spot, message, advice);
    }
}

fn check_undo(invoke: &Invoke, desk: &mut Desk) {
    if invoke.compensate.is_none() {
        let message = format!(
            "`{}` does not say how it is undone, and this definition has `saga:compensate`",
            invoke.id.text
        );
        let advice = "add `compensate: {src: …}`, or say `compensate: none`";
        desk.note(FindingCode::SagaStepWithoutCompensate, &invoke.spot, message, advice);
    }
}

fn check_task(model: &Model<'_>, state: StateNumber, invoke: &Invoke, kind: &str, desk: &mut Desk) {
    if invoke.timeout.is_none() {
        let message = format!("the task `{kind}` has no `timeout`");
        let advice = "without one, a worker that hangs is noticed only by its lease; add `timeout: 1m` or the like";
        desk.note(FindingCode::TaskWithoutTimeout, &invoke.src_said.spot, message, advice);
    }
    let error = format!("error.invoke.{}", invoke.id.text);
    let mut above = model.upwards(state).flat_map(|state| &model.at(state).source.on);
    if invoke.on_error.is_none() && !above.any(|on| on.name.text == error) {
        let message = format!("nothing here or above takes the failure of `{}`", invoke.id.text);
        let advice =
            "add `onError`; until then a last failure parks the task and waits for an operator";
        desk.note(FindingCode::TaskWithoutOnError, &invoke.src_said.spot, message, advice);
    }
}

/// A workflow that starts itself is bounded by a guard or by an event from outside on the way; without one it never ends.
fn check_cycle(model: &Model<'_>, desk: &mut Desk) {
    let own_id = model.source.root.id();
    let own_version = model.source.version.as_ref().map(|version| version.value);
    let is_self = |invoke: &&Invoke| match &invoke.src {
        // An older version cannot know this one.
        Src::Workflow { definition, version } => {
            definition == own_id
                && version.zip(own_version).is_none_or(|(version, own)| version >= own)
        }
        Src::Task(_) | Src::Saga | Src::BuiltIn { .. } | Src::Unknown(_) => false,
    };
    let starts_itself: Vec<(StateNumber, &Invoke)> =
        model.invokes().filter(|(_, invoke)| is_self(invoke)).collect();
    if starts_itself.is_empty() {
        return;
    }
    let surely = entered_by_itself(model);
    for (_, invoke) in starts_itself.into_iter().filter(|(state, _)| surely.contains(state)) {
        let message = format!(
            "`{own_id}` starts itself again and again: no guard and no outside event stands before it"
        );
        let advice = "put a guard before it that counts, or wait for a command";
        desk.note(FindingCode::ChildCycle, &invoke.src_said.spot, message, advice);
    }
}

/// Returns the states that an instance comes to without any guard or event from outside.
fn entered_by_itself(model: &Model<'_>) -> BTreeSet<StateNumber> {
    let mut seen = BTreeSet::new();
    let mut open = model.start.clone();
    while let Some(state) = open.pop() {
        if !seen.insert(state) {
            continue;
        }
        for movement in model.moves_at(state) {
            let is_inner = match &movement.cause {
                Cause::On(descriptor) => is_platform(descriptor),
                Cause::Always
                | Cause::After(_)
                | Cause::Idle(_)
                | Cause::Done
                | Cause::InvokeDone(_)
                | Cause::InvokeError(_) => true,
            };
            if is_inner && is_unguarded(movement) {
                open.extend(movement.enters.iter());
            }
        }
    }
    seen
}
