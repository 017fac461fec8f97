//! Waiting: what rests for ever, what is postponed in vain, and timers that nobody hears or that never stop.
//!
//! Deliberately absent: errors. Waiting for ever is allowed; it should be meant.

use std::collections::BTreeSet;

use super::{
    Desk,
    bits::Bits,
    events::Events,
    gaps::Gaps,
    model::{Cause, Model, Move, StateNumber},
    names,
    reach::{Reached, reached_from_set},
    values::Facts,
    walk,
};
use crate::{
    finding::FindingCode,
    source::{Act, Action, Kind, Length, Spot, Text},
};

/// A timer shorter than this that starts itself again is busy.
const BUSY_MS: u64 = 60_000;

pub(super) fn check<'s>(
    model: &Model<'s>,
    events: &Events<'s>,
    reached: &Reached,
    facts: &Facts<'s>,
    gaps: &Gaps,
    desk: &mut Desk,
) {
    let timers = timer_events(model, events);
    let handled = who_handles(model, events);
    for state in (0..model.states.len()).filter(|state| reached.has(*state)) {
        let is_unsure = model.upwards(state).any(|above| gaps.is_open(above));
        if !is_unsure && facts.can_rest(model, reached, state) {
            check_rest(model, events, state, &timers, desk);
        }
        check_postponed(model, events, state, &handled, desk);
        check_busy(model, state, desk);
    }
    for (index, movement) in model.moves.iter().enumerate() {
        let reads_context = facts.reads_context.get(index).copied().unwrap_or_default();
        if movement.of.postpone && reads_context {
            let message = "this postponement depends on the context";
            let advice = "a postponed event is tried again when the active states change, not when only data changes";
            desk.note(
                FindingCode::PostponeGuardOnContext,
                movement.of.keyword("guard"),
                message,
                advice,
            );
        }
    }
    check_timers(model, events, desk);
}

/// Returns the events that named and delayed `raise`s bring.
fn timer_events(model: &Model<'_>, events: &Events<'_>) -> BTreeSet<usize> {
    let raises = walk::raises(model);
    raises
        .iter()
        .filter(|(_, raise)| raise.delay.is_some())
        .filter_map(|(_, raise)| events.number(&raise.event.text))
        .collect()
}

/// A state in which an instance can stay for ever: no task and no timer here, above, or beside it.
fn check_rest(
    model: &Model<'_>,
    events: &Events<'_>,
    state: StateNumber,
    timers: &BTreeSet<usize>,
    desk: &mut Desk,
) {
    let is_endless = model.upwards(state).any(|above| model.at(above).source.endless);
    let hears_timer = |movement: &Move<'_>, index: usize| {
        matches!(movement.cause, Cause::On(_))
            && timers.iter().any(|timer| events.of(index).has(*timer))
    };
    let is_driven = |state: StateNumber| {
        let source = model.at(state).source;
        let hears = model
            .moves_of
            .get(state)
            .into_iter()
            .flatten()
            .any(|index| hears_timer(model.movement(*index), *index));
        !source.after.is_empty() || !source.idle.is_empty() || !source.invokes.is_empty() || hears
    };
    let is_driven_here = model.upwards(state).any(is_driven);
    let is_driven_beside = model
        .upwards(state)
        .filter_map(|above| Some((above, model.at(above).parent?)))
        .filter(|(_, parent)| model.kind(*parent) == Kind::Parallel)
        .flat_map(|(above, parent)| {
            model.real_children(parent).filter(move |region| *region != above)
        })
        .any(|region| (region..=model.at(region).last).any(is_driven));
    if !is_endless && !is_driven_here && !is_driven_beside {
        let message = format!(
            "an instance can stay in `{}` for ever: no task and no timer here or around",
            model.id(state)
        );
        let advice = "add `after`, or `endless: true` if that is meant";
        desk.note_name(FindingCode::RestsWithoutDeadline, model.spot(state), message, advice);
    }
}

/// What a state postpones: it should be handled later, and a command should not wait for ever.
fn check_postponed(
    model: &Model<'_>,
    events: &Events<'_>,
    state: StateNumber,
    handled: &[Bits],
    desk: &mut Desk,
) {
    let by_state =
        model.at(state).source.postpone.iter().map(|name| (name.as_str(), &name.spot, name));
    let mut postponed: Vec<(&str, &Spot)> =
        by_state.map(|(name, spot, _): (&str, &Spot, &Text)| (name, spot)).collect();
    for movement in model.moves_at(state).filter(|movement| movement.of.postpone) {
        if let Cause::On(descriptor) = &movement.cause {
            postponed.push((descriptor, movement.of.keyword("postpone")));
        }
    }
    postponed.retain(|(descriptor, _)| !names::is_platform(descriptor));
    if postponed.is_empty() {
        return;
    }
    let later = later(model, state);
    let has_timer = model.upwards(state).any(|above| !model.at(above).source.after.is_empty());
    for (descriptor, spot) in postponed {
        let numbers: Vec<usize> = match events.number(descriptor) {
            Some(number) => vec![number],
            None => events.matching(descriptor).iter().collect(),
        };
        let is_heard =
            |number: &&usize| handled.get(**number).is_some_and(|states| later.meets(states));
        if let Some(number) = numbers
            .iter()
            .find(|number| !is_heard(number))
            .filter(|_| desk.has_room(FindingCode::PostponeNeverHandled))
        {
            let message = format!(
                "no state after `{}` handles `{}`",
                model.id(state),
                events.event(*number).name
            );
            desk.note(
                FindingCode::PostponeNeverHandled,
                spot,
                message,
                "handle it in a later state, or do not postpone it",
            );
        }
        let is_unbounded = |number: &&usize| {
            // The commands are the first events, in their order.
            let declared = model.source.commands.get(**number);
            !has_timer && declared.is_some_and(|named| named.value.deadline.is_none())
        };
        if let Some(number) = numbers
            .iter()
            .find(is_unbounded)
            .filter(|_| desk.has_room(FindingCode::PostponeWithoutDeadline))
        {
            let message = format!(
                "the command `{}` may wait here with no deadline of its own",
                events.event(*number).name
            );
            let advice = "give it a `deadline`, or this state an `after`";
            desk.note(FindingCode::PostponeWithoutDeadline, spot, message, advice);
        }
    }
}

/// Returns the states that can become active once something has moved an instance out of a state.
fn later(model: &Model<'_>, state: StateNumber) -> Reached {
    let mut start = Bits::default();
    for above in model.upwards(state) {
        for way in model.moves_at(above).filter_map(|movement| model.ways.get(movement.way)) {
            start.add(&way.set);
        }
        // What stands beside it moves on by itself.
        if let Some(parent) =
            model.at(above).parent.filter(|parent| model.kind(*parent) == Kind::Parallel)
        {
            model
                .real_children(parent)
                .filter(|region| *region != above)
                .flat_map(|region| region..=model.at(region).last)
                .for_each(|beside| start.insert(beside));
        }
    }
    reached_from_set(model, &start)
}

/// Returns, for each event, the states that handle it: with a candidate that does not postpone it.
fn who_handles(model: &Model<'_>, events: &Events<'_>) -> Vec<Bits> {
    let mut handled = vec![Bits::default(); events.list.len()];
    for (index, movement) in model.moves.iter().enumerate() {
        if !matches!(movement.cause, Cause::On(_)) || movement.of.postpone {
            continue;
        }
        for number in events.of(index).iter() {
            if let Some(states) = handled.get_mut(number) {
                states.insert(movement.state);
            }
        }
    }
    handled
}

/// A short timer that sends something and starts itself again.
fn check_busy(model: &Model<'_>, state: StateNumber, desk: &mut Desk) {
    let source = model.at(state).source;
    for timeout in &source.after {
        let is_short = match &timeout.delay.length {
            Length::Fixed(ms) => *ms < BUSY_MS,
            Length::Ref(name) => model.source.delays.iter().any(|named| {
                named.name.text == *name
                    && matches!(named.value.length, Length::Fixed(ms) if ms < BUSY_MS)
            }),
            Length::Expression(_) => false,
        };
        let cause = Cause::After(timeout.key.as_str());
        for movement in model.moves_at(state).filter(|movement| is_short && movement.cause == cause)
        {
            let starts_again = movement.enters.contains(&state);
            if starts_again && (sends(model, &movement.of.actions) || sends(model, &source.entry)) {
                let message = format!(
                    "`{}` sends something every {} for as long as it is active",
                    source.id(),
                    timeout.key.text
                );
                let advice = "wait at least a minute, or stop after a number of times";
                desk.note(FindingCode::BusyTimer, movement.spot(), message, advice);
            }
        }
    }
}

fn sends(model: &Model<'_>, actions: &[Action]) -> bool {
    let mut found = false;
    let mut visit = |action: &Action| {
        let by_name = |name: &Text| {
            let named = model.source.actions.iter().find(|named| named.name.text == name.text);
            named.is_some_and(|named| {
                named
                    .value
                    .iter()
                    .any(|action| matches!(action.act, Act::Emit(_) | Act::SendTo { .. }))
            })
        };
        found |= match &action.act {
            Act::Emit(_) | Act::SendTo { .. } => true,
            Act::Do(name) => by_name(name),
            _ => false,
        };
    };
    for action in actions {
        visit(action);
        if let Act::Choose(branches) = &action.act {
            branches.iter().flat_map(|branch| &branch.actions).for_each(&mut visit);
        }
    }
    found
}

/// A named timer that is never cancelled and whose event nobody handles.
fn check_timers(model: &Model<'_>, events: &Events<'_>, desk: &mut Desk) {
    let mut cancelled = BTreeSet::new();
    walk::each_of(model, |_, action| {
        if let Act::Cancel(id) = &action.act {
            cancelled.insert(id.as_str());
        }
    });
    for (_, raise) in walk::raises(model) {
        let (Some(id), Some(_)) = (&raise.id, &raise.delay) else { continue };
        let number = events.number(&raise.event.text);
        let is_handled = number.is_some_and(|number| {
            (0..model.moves.len()).any(|index| {
                matches!(model.movement(index).cause, Cause::On(_)) && events.of(index).has(number)
            })
        });
        if !is_handled && !cancelled.contains(id.as_str()) {
            let message = format!(
                "the timer `{}` is never cancelled, and nobody handles `{}`",
                id.text, raise.event.text
            );
            desk.note(
                FindingCode::TimerNeverHandled,
                &id.spot,
                message,
                "handle its event, or remove it",
            );
        }
    }
}
