//! Names: every name means one thing, and what it means exists.
//!
//! Deliberately absent: names inside expressions (`types/`), and names that exist but are not used (`unused.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Desk,
    model::{Model, NoTarget, StateNumber},
    walk,
};
use crate::{
    duration,
    finding::{FindingCode, nearest},
    source::{Act, Action, Delay, Guard, Length, RetryUse, Spot, Text},
};

/// First words of the platform's own event names.
pub(super) const RESERVED: [&str; 6] = ["done", "error", "after", "idle", "instance", "init"];

/// Most actions that a named list may stand for, all told.
const UNFOLDED_MAX: usize = 1_000;

pub(super) fn check(model: &Model<'_>, desk: &mut Desk) {
    check_header(model, desk);
    check_ids(model, desk);
    check_targets(model, desk);
    check_cancels(model, desk);
    check_delays(model, desk);
    check_retries(model, desk);
    check_guards(model, desk);
    check_actions(model, desk);
}

/// Returns whether an event's name belongs to the platform.
pub(super) fn is_platform(name: &str) -> bool {
    RESERVED.contains(&name.split('.').next().unwrap_or_default())
}

fn check_header(model: &Model<'_>, desk: &mut Desk) {
    let source = model.source;
    if source.format.is_none() {
        let message = "a definition needs `format`";
        desk.note(
            FindingCode::MissingKeyword,
            &source.root.spot,
            message,
            "add `format: statehouse/1`",
        );
    }
    if source.root.states.is_empty() {
        desk.note(
            FindingCode::MissingKeyword,
            &source.root.spot,
            "a definition needs `states`",
            "add a state",
        );
    }
}

fn check_ids(model: &Model<'_>, desk: &mut Desk) {
    for (number, placed) in model.states.iter().enumerate() {
        let id = placed.source.id();
        if model.ids.get(id).is_some_and(|first| *first != number) {
            let message = format!("another state has the id `{id}`");
            let advice = "a state's id is its key; give one of the two an explicit `id`";
            match &placed.source.id {
                Some(id) => desk.note(FindingCode::DuplicateId, &id.spot, message, advice),
                None => {
                    desk.note_name(FindingCode::DuplicateId, model.spot(number), message, advice)
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (_, invoke) in model.invokes() {
        if !seen.insert(invoke.id.as_str()) {
            let message = format!("another invoke has the id `{}`", invoke.id.text);
            desk.note(
                FindingCode::DuplicateId,
                &invoke.id.spot,
                message,
                "give each invoke an `id` of its own",
            );
        }
    }
}

fn check_targets(model: &Model<'_>, desk: &mut Desk) {
    for movement in &model.moves {
        for target in &movement.of.targets {
            check_target(model, movement.state, target, desk);
        }
    }
    for (number, placed) in model.states.iter().enumerate() {
        for target in &placed.source.default {
            check_target(model, number, target, desk);
        }
        for target in placed.source.initial.iter().flat_map(|initial| &initial.targets) {
            match model.resolve_initial(number, &target.text) {
                None => undefined_target(model, number, target, desk),
                Some(found) if !model.is_below(found, number) => {
                    let message = format!(
                        "the initial state `{}` is not below `{}`",
                        target.text,
                        model.id(number)
                    );
                    desk.note(
                        FindingCode::InitialOutside,
                        &target.spot,
                        message,
                        "name a child, or `#id` of a state further down",
                    );
                }
                Some(_) => {}
            }
        }
    }
}

fn check_target(model: &Model<'_>, from: StateNumber, target: &Text, desk: &mut Desk) {
    match model.resolve(from, &target.text) {
        Ok(_) => {}
        Err(NoTarget::Root) => {
            let message = format!("`{}` is the definition itself, which is no target", target.text);
            desk.note(
                FindingCode::UndefinedTarget,
                &target.spot,
                message,
                "name one of its states",
            );
        }
        Err(NoTarget::Unknown) => undefined_target(model, from, target, desk),
    }
}

fn undefined_target(model: &Model<'_>, from: StateNumber, target: &Text, desk: &mut Desk) {
    let bare = target.text.trim_start_matches(['#', '.']);
    let elsewhere = model.ids.get(bare).filter(|_| !target.text.starts_with('#'));
    let ids: Vec<&str> = model.ids.keys().copied().collect();
    let advice = match (elsewhere, nearest(bare, &ids)) {
        (Some(_), _) => format!("there is a state `{bare}` elsewhere: write `#{bare}`"),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => "a target is a sibling's key, `.child`, or `#id`".to_owned(),
    };
    let message = format!("there is no state `{}` to go to from `{}`", target.text, model.id(from));
    desk.note(FindingCode::UndefinedTarget, &target.spot, message, advice);
}

fn check_cancels(model: &Model<'_>, desk: &mut Desk) {
    let raises = walk::raises(model);
    let timers: BTreeSet<&str> =
        raises.iter().filter_map(|(_, raise)| raise.id.as_ref().map(Text::as_str)).collect();
    walk::each_of(model, |_, action| {
        if let Act::Cancel(id) = &action.act
            && !timers.contains(id.as_str())
        {
            let known: Vec<&str> = timers.iter().copied().collect();
            let advice = match nearest(&id.text, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "it is the `id` of a `raise` with a `delay`".to_owned(),
            };
            desk.note(
                FindingCode::UndefinedName,
                &id.spot,
                format!("no `raise` has the id `{}`", id.text),
                advice,
            );
        }
    });
}

fn check_delays(model: &Model<'_>, desk: &mut Desk) {
    let names: Vec<&str> = model.source.delays.iter().map(|named| named.name.as_str()).collect();
    for named in &model.source.delays {
        if duration::parse_ms(&named.name.text).is_some() {
            let message = format!("the delay `{}` is named like a duration", named.name.text);
            let advice = "`after` would read it as the duration; give it another name";
            desk.note_name(FindingCode::DelayLikeDuration, &named.name.spot, message, advice);
        }
        if let Length::Ref(other) = &named.value.length {
            let message = format!("the delay `{}` names the delay `{other}`", named.name.text);
            desk.note(
                FindingCode::UndefinedDelay,
                &named.value.spot,
                message,
                "write a duration, or `${…}`",
            );
        }
    }
    for deadline in model.source.commands.iter().filter_map(|named| named.value.deadline.as_ref()) {
        if !matches!(deadline.length, Length::Fixed(_)) {
            let message = "the deadline of a command is known before an instance is";
            desk.note(
                FindingCode::BadDuration,
                &deadline.spot,
                message,
                "write a duration such as `15m`",
            );
        }
    }
    for delay in delays(model) {
        if let Length::Ref(name) = &delay.length
            && !names.contains(&name.as_str())
        {
            let advice = match nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write a duration such as `15m`, or declare it under `delays`".to_owned(),
            };
            desk.note(
                FindingCode::UndefinedDelay,
                &delay.spot,
                format!("there is no delay `{name}`"),
                advice,
            );
        }
    }
}

/// Returns every delay outside `delays`.
pub(super) fn delays<'s>(model: &Model<'s>) -> Vec<&'s Delay> {
    let mut found = Vec::new();
    for placed in &model.states {
        found.extend(
            placed.source.after.iter().chain(&placed.source.idle).map(|timeout| &timeout.delay),
        );
    }
    for (_, invoke) in model.invokes() {
        found.extend(invoke.timeout.iter().chain(&invoke.heartbeat));
        if let Some(crate::source::Compensate::By(undo)) = &invoke.compensate {
            found.extend(undo.timeout.iter().chain(&undo.heartbeat));
        }
    }
    found.extend(walk::raises(model).iter().filter_map(|(_, raise)| raise.delay.as_ref()));
    found
}

fn check_retries(model: &Model<'_>, desk: &mut Desk) {
    let names: Vec<&str> = model.source.retries.iter().map(|named| named.name.as_str()).collect();
    for name in retry_names(model) {
        if !names.contains(&name.as_str()) {
            let advice = match nearest(&name.text, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "declare it under `retries`, or write the policy here".to_owned(),
            };
            let message = format!("there is no retry policy `{}`", name.text);
            desk.note(FindingCode::UndefinedRetry, &name.spot, message, advice);
        }
    }
}

/// Returns every use of a retry policy by name.
pub(super) fn retry_names<'s>(model: &Model<'s>) -> Vec<&'s Text> {
    let mut uses: Vec<&RetryUse> = Vec::new();
    for (_, invoke) in model.invokes() {
        uses.extend(&invoke.retry);
        if let Some(crate::source::Compensate::By(undo)) = &invoke.compensate {
            uses.extend(&undo.retry);
        }
    }
    let name = |used: &'s RetryUse| match used {
        RetryUse::Ref(name) => Some(name),
        RetryUse::Inline(_) => None,
    };
    uses.into_iter().filter_map(name).collect()
}

/// Returns every guard of the definition.
pub(super) fn guards<'s>(model: &Model<'s>) -> Vec<&'s Guard> {
    let mut found: Vec<&Guard> =
        model.moves.iter().filter_map(|movement| movement.of.guard.as_ref()).collect();
    walk::each_of(model, |_, action| {
        if let Act::Choose(branches) = &action.act {
            found.extend(branches.iter().filter_map(|branch| branch.guard.as_ref()));
        }
    });
    found
}

fn check_guards(model: &Model<'_>, desk: &mut Desk) {
    let names: Vec<&str> = model.source.guards.iter().map(|named| named.name.as_str()).collect();
    for guard in guards(model) {
        if let Guard::Ref(name) = guard
            && !names.contains(&name.as_str())
        {
            undefined(FindingCode::UndefinedGuard, "guard", name, &names, desk);
        }
    }
}

fn undefined(code: FindingCode, what: &str, name: &Text, known: &[&str], desk: &mut Desk) {
    let advice = match nearest(&name.text, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it under `{what}s`"),
    };
    desk.note(code, &name.spot, format!("there is no {what} `{}`", name.text), advice);
}

fn check_actions(model: &Model<'_>, desk: &mut Desk) {
    let lists: BTreeMap<&str, &[Action]> = model
        .source
        .actions
        .iter()
        .map(|named| (named.name.as_str(), named.value.as_slice()))
        .collect();
    let names: Vec<&str> = lists.keys().copied().collect();
    walk::each_of(model, |_, action| {
        if let Act::Do(name) = &action.act
            && !lists.contains_key(name.as_str())
        {
            undefined(FindingCode::UndefinedAction, "action", name, &names, desk);
        }
    });
    let mut sizes = BTreeMap::new();
    for named in &model.source.actions {
        let spot = &named.name.spot;
        match unfolded(&named.name.text, &lists, &mut sizes, 0) {
            Unfolded::Cycle => report_unfolding(spot, &named.name.text, "uses itself", desk),
            Unfolded::Size(size) if size > UNFOLDED_MAX => {
                let how = format!("unfolds into more than {UNFOLDED_MAX} actions");
                report_unfolding(spot, &named.name.text, &how, desk);
            }
            Unfolded::Size(_) => {}
        }
    }
}

fn report_unfolding(spot: &Spot, name: &str, how: &str, desk: &mut Desk) {
    let message = format!("the action `{name}` {how}");
    desk.note_name(
        FindingCode::ActionCycle,
        spot,
        message,
        "there are no loops in actions; write the steps out",
    );
}

#[derive(Clone, Copy)]
enum Unfolded {
    Cycle,
    Size(usize),
}

/// Counts the actions that a named list stands for; each name is counted once and remembered.
fn unfolded<'s>(
    name: &'s str,
    lists: &BTreeMap<&'s str, &'s [Action]>,
    sizes: &mut BTreeMap<&'s str, Option<Unfolded>>,
    depth: usize,
) -> Unfolded {
    match sizes.get(name) {
        Some(Some(known)) => return *known,
        // Still being counted: it has met itself.
        Some(None) => return Unfolded::Cycle,
        None => {}
    }
    if depth > UNFOLDED_MAX {
        return Unfolded::Size(usize::MAX);
    }
    sizes.insert(name, None);
    let mut size = 0_usize;
    let mut has_cycle = false;
    walk::each(lists.get(name).copied().unwrap_or_default(), &mut |action| {
        size = size.saturating_add(1);
        if let Act::Do(other) = &action.act {
            match unfolded(other.as_str(), lists, sizes, depth + 1) {
                Unfolded::Cycle => has_cycle = true,
                Unfolded::Size(more) => size = size.saturating_add(more),
            }
        }
    });
    let answer = if has_cycle { Unfolded::Cycle } else { Unfolded::Size(size) };
    sizes.insert(name, Some(answer));
    answer
}
