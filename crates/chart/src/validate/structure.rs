//! Structure: what each kind of state and transition may hold.
//!
//! Deliberately absent: shapes of single values (`source/`), and whether what is allowed makes sense.

use super::{
    Desk,
    model::{Cause, Model, Move, StateNumber, written},
    names,
};
use crate::{
    finding::FindingCode,
    source::{Kind, State, Text},
};

pub(super) fn check(model: &Model<'_>, desk: &mut Desk) {
    for (number, placed) in model.states.iter().enumerate() {
        let state = placed.source;
        match state.kind {
            Kind::Final => check_content(
                state,
                FindingCode::FinalContent,
                "a final state",
                &NOT_IN_FINAL,
                desk,
            ),
            Kind::History => {
                check_content(
                    state,
                    FindingCode::HistoryContent,
                    "a history state",
                    &NOT_IN_HISTORY,
                    desk,
                );
                check_history_default(model, number, desk);
            }
            Kind::Atomic | Kind::Compound | Kind::Parallel => {}
        }
        check_kind(model, number, desk);
        for postponed in state.postpone.iter().filter(|name| names::is_platform(&name.text)) {
            postpone_platform(postponed.as_str(), &postponed.spot, desk);
        }
        check_together(
            model,
            number,
            state.initial.iter().flat_map(|initial| &initial.targets),
            true,
            desk,
        );
    }
    for movement in &model.moves {
        check_move(movement, desk);
        check_together(model, movement.state, &movement.of.targets, false, desk);
    }
}

/// Targets of one list that are compared with each other.
const TARGETS_MAX: usize = 64;

const NOT_IN_FINAL: [&str; 10] = [
    "states", "initial", "on", "after", "idle", "always", "invoke", "onDone", "postpone", "endless",
];
const NOT_IN_HISTORY: [&str; 14] = [
    "states", "initial", "on", "after", "idle", "always", "invoke", "onDone", "postpone", "entry",
    "exit", "output", "error", "tags",
];

fn check_content(state: &State, code: FindingCode, what: &str, refused: &[&str], desk: &mut Desk) {
    for keyword in state.keywords.iter().filter(|keyword| refused.contains(&keyword.as_str())) {
        let message = format!("{what} has no `{}`", keyword.text);
        desk.note(code, &keyword.spot, message, "remove it, or make this an ordinary state");
    }
    if state.output.is_some() && state.error.is_some() {
        let spot = state.keyword("error");
        desk.note(
            code,
            spot,
            "a state ends with `output` or with `error`, not with both",
            "keep one",
        );
    }
}

fn check_history_default(model: &Model<'_>, history: StateNumber, desk: &mut Desk) {
    let Some(parent) = model.at(history).parent else { return };
    for (target, found) in written(model, history, &model.at(history).source.default) {
        let trouble = if model.kind(found) == Kind::History {
            format!("the default `{}` is a history state itself", target.text)
        } else if !model.is_below(found, parent) {
            format!("the default `{}` is not below `{}`", target.text, model.id(parent))
        } else {
            continue;
        };
        let advice = "name a state that the parent of this history state holds";
        desk.note(FindingCode::HistoryDefault, &target.spot, trouble, advice);
    }
}

fn check_kind(model: &Model<'_>, number: StateNumber, desk: &mut Desk) {
    let state = model.at(number).source;
    let mut note = |keyword: &str, message: &str, advice: &str| {
        desk.note(FindingCode::StateKind, state.keyword(keyword), message, advice);
    };
    let has = |keyword: &str| state.keywords.iter().any(|written| written.text == keyword);
    let said = state.kind_said.as_ref().map(Text::as_str);
    if state.kind == Kind::Parallel && state.states.is_empty() {
        note("type", "a parallel state needs regions", "add `states`");
    }
    if said == Some("compound") && state.states.is_empty() {
        note("type", "a compound state needs children", "add `states`, or leave `type` out");
    }
    if said == Some("atomic") && !state.states.is_empty() {
        note("type", "an atomic state has no children", "leave `type` out");
    }
    if has("initial") && state.kind == Kind::Parallel {
        note("initial", "a parallel state has no `initial`: all its regions begin", "remove it");
    }
    if has("initial") && state.kind == Kind::Atomic {
        note("initial", "a state without children has no `initial`", "remove it, or add `states`");
    }
    if state.kind == Kind::Compound && model.real_children(number).next().is_none() {
        note("states", "a compound state needs a child that is no history state", "add one");
    }
    if has("history") && state.kind != Kind::History {
        note("history", "`history` belongs to a state of `type: history`", "add `type: history`");
    }
    if has("target") && state.kind != Kind::History {
        note(
            "target",
            "`target` belongs to a transition, or to a history state",
            "write it under `on`, `after` or `always`",
        );
    }
    let may_end = state.kind == Kind::Final || number == 0;
    for keyword in ["output", "error"] {
        if has(keyword) && !may_end {
            note(
                keyword,
                &format!("`{keyword}` belongs to a final state"),
                "add `type: final`, or move it",
            );
        }
    }
    if !state.on_done.is_empty() && state.kind == Kind::Atomic {
        note(
            "onDone",
            "a state without children is never done",
            "write `onDone` in the `invoke` whose end it takes",
        );
    }
}

fn check_move(movement: &Move<'_>, desk: &mut Desk) {
    let of = movement.of;
    if of.reenter && of.targets.is_empty() {
        let advice = "name the target that is entered again; a state's own key is one";
        desk.note(
            FindingCode::ReenterWithoutTarget,
            of.keyword("reenter"),
            "`reenter` without `target`",
            advice,
        );
    }
    if !movement.is_refusal() {
        return;
    }
    let own = if of.reject.is_some() { "reject" } else { "postpone" };
    for keyword in &of.keywords {
        let is_content = matches!(keyword.as_str(), "target" | "actions" | "reenter")
            || (own == "reject" && keyword.text == "postpone" && of.postpone);
        if is_content {
            let message = format!("`{own}` and `{}` exclude each other", keyword.text);
            let advice = "what is rejected or postponed changes nothing; split it into two candidates with guards";
            desk.note(FindingCode::RefusalContent, &keyword.spot, message, advice);
        }
    }
    match &movement.cause {
        Cause::On(descriptor) if names::is_platform(descriptor) => {
            if of.postpone {
                postpone_platform(descriptor, of.keyword("postpone"), desk);
            } else {
                misplaced(movement, own, desk);
            }
        }
        Cause::On(_) => {}
        Cause::Always
        | Cause::After(_)
        | Cause::Idle(_)
        | Cause::Done
        | Cause::InvokeDone(_)
        | Cause::InvokeError(_) => misplaced(movement, own, desk),
    }
}

fn misplaced(movement: &Move<'_>, own: &str, desk: &mut Desk) {
    let message =
        format!("`{own}` has no meaning for {}: nobody waits for an answer", movement.trigger());
    let advice = "only commands and signals are rejected or postponed; write it under `on`";
    desk.note(FindingCode::RefusalMisplaced, movement.of.keyword(own), message, advice);
}

fn postpone_platform(name: &str, spot: &crate::source::Spot, desk: &mut Desk) {
    let message = format!("`{name}` is an event of the platform, which is never postponed");
    desk.note(FindingCode::PostponePlatform, spot, message, "handle it here, or above");
}

/// Checks that a list of targets can be active together.
fn check_together<'s>(
    model: &Model<'s>,
    from: StateNumber,
    targets: impl IntoIterator<Item = &'s Text>,
    is_initial: bool,
    desk: &mut Desk,
) {
    let resolve = |target: &'s Text| {
        let found = if is_initial {
            model.resolve_initial(from, &target.text)
        } else {
            model.resolve(from, &target.text).ok()
        };
        found.map(|found| (target, found))
    };
    // A list longer than that has two targets in one region anyway, or more regions than states are allowed.
    let found: Vec<(&Text, StateNumber)> =
        targets.into_iter().filter_map(resolve).take(TARGETS_MAX).collect();
    for (position, (target, state)) in found.iter().enumerate() {
        let earlier = found.iter().take(position);
        if let Some((other, _)) =
            earlier.into_iter().find(|(_, other)| !model.are_orthogonal(*state, *other))
        {
            let message =
                format!("`{}` and `{}` cannot be active together", other.text, target.text);
            let advice =
                "a list of targets names states in different regions of one parallel state";
            desk.note(FindingCode::TargetsConflict, &target.spot, message, advice);
        }
    }
}
