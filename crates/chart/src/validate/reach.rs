//! Reachability: what leads where, what never ends, and what goes round for ever.
//!
//! Guards are taken as possible throughout: what is unreachable here is unreachable for any data.
//!
//! Deliberately absent: explicit states of the whole instance. Each state is judged by itself with what surrounds it,
//! which costs no more than the number of transitions.

use std::collections::BTreeSet;

use super::{
    Desk,
    bits::Bits,
    events::is_unguarded,
    gaps::Gaps,
    graph,
    model::{Cause, Model, StateNumber},
    values::Facts,
};
use crate::{finding::FindingCode, source::Kind};

/// The states that can be active.
pub(super) struct Reached(Bits);

impl Reached {
    pub(super) fn has(&self, state: StateNumber) -> bool {
        self.0.has(state)
    }

    /// Returns whether one of these states can be active.
    pub(super) fn meets(&self, states: &Bits) -> bool {
        self.0.meets(states)
    }

    /// Returns whether an instance can rest in a state: a leaf that is no end and is not left at once.
    pub(super) fn can_rest(&self, model: &Model<'_>, state: StateNumber) -> bool {
        self.has(state)
            && model.kind(state) == Kind::Atomic
            && !model.upwards(state).any(|above| super::events::is_passing(model, above))
    }
}

pub(super) fn check(model: &Model<'_>, gaps: &Gaps, desk: &mut Desk) -> Reached {
    let mut start = gaps.named.clone();
    model.start.iter().for_each(|state| start.insert(*state));
    let reached = reached_from_set(model, &start);
    for (number, placed) in model.states.iter().enumerate() {
        let is_first = placed.parent.is_some_and(|parent| reached.has(parent));
        if !reached.has(number) && is_first && placed.source.kind != Kind::History {
            let message = format!("nothing leads to the state `{}`", placed.source.id());
            desk.note_name(
                FindingCode::UnreachableState,
                model.spot(number),
                message,
                "give some transition this target, or remove the state",
            );
        }
    }
    check_ends(model, &reached, gaps, desk);
    reached
}

/// Returns every state that can become active once these are.
pub(super) fn reached_from(model: &Model<'_>, start: &[StateNumber]) -> Reached {
    let mut first = Bits::default();
    start.iter().for_each(|state| first.insert(*state));
    reached_from_set(model, &first)
}

/// Returns every state that can become active once these are.
pub(super) fn reached_from_set(model: &Model<'_>, start: &Bits) -> Reached {
    let mut reached = Bits::default();
    let mut open: Vec<StateNumber> = Vec::new();
    reached.add_each(start, |state| open.push(state));
    let mut is_taken = vec![false; model.ways.len()];
    while let Some(state) = open.pop() {
        if let Some(parent) = model.at(state).parent.filter(|parent| !reached.has(*parent)) {
            reached.insert(parent);
            open.push(parent);
        }
        for movement in model.moves_at(state) {
            let Some(taken) = is_taken.get_mut(movement.way).filter(|taken| !**taken) else {
                continue;
            };
            *taken = true;
            if let Some(way) = model.ways.get(movement.way) {
                reached.add_each(&way.set, |state| open.push(state));
            }
        }
    }
    Reached(reached)
}

/// Returns whether a state can be done by itself: its children can come to an end.
fn can_be_done(model: &Model<'_>, state: StateNumber) -> bool {
    match model.kind(state) {
        Kind::Final => true,
        Kind::Compound => model.real_children(state).any(|child| model.kind(child) == Kind::Final),
        Kind::Parallel => model.real_children(state).all(|region| can_be_done(model, region)),
        Kind::Atomic | Kind::History => false,
    }
}

/// Reports the states from which the instance cannot end.
fn check_ends(model: &Model<'_>, reached: &Reached, gaps: &Gaps, desk: &mut Desk) {
    let ends = ends(model, reached, gaps);
    let does_end = |state: StateNumber| ends.get(state).copied().unwrap_or_default();
    for (number, placed) in model.states.iter().enumerate() {
        let is_judged =
            reached.has(number) && !matches!(placed.source.kind, Kind::Final | Kind::History);
        let is_endless = model.upwards(number).any(|above| model.at(above).source.endless);
        let is_first = placed.parent.is_none_or(&does_end);
        if is_judged && !is_endless && !does_end(number) && is_first {
            let message = format!("no end can be reached from `{}`", placed.source.id());
            let advice = match placed.parent {
                Some(_) => {
                    "lead it to a final state, or write `endless: true` in this state or in one that it leads to"
                }
                None => {
                    "add a final state, or write `endless: true` in the state in which instances stay, or at the top for all"
                }
            };
            desk.note_name(FindingCode::NoFinalReachable, model.spot(number), message, advice);
        }
    }
}

/// Finds, backwards from the ends, every state from which one can be reached.
fn ends(model: &Model<'_>, reached: &Reached, gaps: &Gaps) -> Vec<bool> {
    // Ways into each state, and the states that take each way.
    let mut entered_by: Vec<Vec<usize>> = vec![Vec::new(); model.states.len()];
    for (number, way) in model.ways.iter().enumerate() {
        for entered in way.enters.iter() {
            if let Some(ways) = entered_by.get_mut(*entered) {
                ways.push(number);
            }
        }
    }
    let mut taken_by: Vec<Bits> = vec![Bits::default(); model.ways.len()];
    for movement in &model.moves {
        let is_possible = movement.cause != Cause::Done || can_be_done(model, movement.state);
        if let Some(takers) =
            taken_by.get_mut(movement.way).filter(|_| is_possible && reached.has(movement.state))
        {
            takers.insert(movement.state);
        }
    }
    let all_regions_end = model.kind(0) == Kind::Parallel && can_be_done(model, 0);
    let is_end = |number: &StateNumber| {
        let is_top = model.at(*number).parent == Some(0);
        let is_final = model.kind(*number) == Kind::Final && (is_top || all_regions_end);
        // An endless state is an end of its own, and who knows where an unreadable arrow leads.
        is_final || model.at(*number).source.endless || gaps.is_open(*number)
    };
    let mut ends = vec![false; model.states.len()];
    let mut open: Vec<StateNumber> = (0..model.states.len()).filter(is_end).collect();
    while let Some(state) = open.pop() {
        let Some(is_known) =
            ends.get_mut(state).filter(|is_known| !**is_known && reached.has(state))
        else {
            continue;
        };
        *is_known = true;
        // Whoever holds it, whoever can move to it (with all that is inside), whoever stands beside it.
        open.extend(model.at(state).parent);
        for way in entered_by.get_mut(state).map(std::mem::take).unwrap_or_default() {
            // Once one of its states leads to an end, all that take this way do.
            for source in taken_by.get_mut(way).map(std::mem::take).unwrap_or_default().iter() {
                open.extend(source..=model.at(source).last);
            }
        }
        if let Some(parent) =
            model.at(state).parent.filter(|parent| model.kind(*parent) == Kind::Parallel)
        {
            open.extend(parent..=model.at(parent).last);
        }
    }
    ends
}

/// A state that moves without an event, and what follows.
struct Mover {
    state: StateNumber,
    /// The first candidate that can be taken.
    first: usize,
    /// The states whose eventless moves can come next.
    next: BTreeSet<StateNumber>,
    /// Those that come next for certain: no guard has a say.
    next_surely: BTreeSet<StateNumber>,
}

/// Reports eventless loops: those that nothing stops, and those that only a guard stops.
pub(super) fn check_loops(
    model: &Model<'_>,
    reached: &Reached,
    facts: &Facts<'_>,
    desk: &mut Desk,
) {
    let candidates: Vec<Vec<usize>> = (0..model.states.len())
        .map(|state| if reached.has(state) { candidates(model, facts, state) } else { Vec::new() })
        .collect();
    let movers: Vec<Mover> = (0..model.states.len())
        .filter_map(|state| mover(model, facts, &candidates, state))
        .collect();
    let edges = |of: fn(&Mover) -> &BTreeSet<StateNumber>| -> Vec<Vec<usize>> {
        let number =
            |state: &StateNumber| movers.binary_search_by_key(state, |mover| mover.state).ok();
        movers.iter().map(|mover| of(mover).iter().filter_map(number).collect()).collect()
    };
    let mut told = BTreeSet::new();
    for cycle in graph::cycles(&edges(|mover| &mover.next_surely)) {
        told.extend(cycle.iter().copied());
        note_loop(model, &movers, &cycle, FindingCode::EventlessLoop, desk);
    }
    for cycle in graph::cycles(&edges(|mover| &mover.next)) {
        if cycle.iter().all(|member| !told.contains(member)) {
            note_loop(model, &movers, &cycle, FindingCode::EventlessLoopGuarded, desk);
        }
    }
}

fn note_loop(
    model: &Model<'_>,
    movers: &[Mover],
    cycle: &[usize],
    code: FindingCode,
    desk: &mut Desk,
) {
    let members: Vec<&Mover> = cycle.iter().filter_map(|member| movers.get(*member)).collect();
    let Some(first) = members.first() else { return };
    let states = model.named(&members.iter().map(|mover| mover.state).collect());
    let (message, advice) = if code == FindingCode::EventlessLoop {
        (
            format!("the eventless transitions of {states} follow each other for ever"),
            "give one of them a guard, or wait for an event",
        )
    } else {
        (
            format!("only a guard stops the eventless transitions of {states}"),
            "make sure that the guard changes on the way; after `microsteps` steps the event fails",
        )
    };
    desk.note(code, model.movement(first.first).spot(), message, advice);
}

/// Returns the eventless candidates of a state that can be taken, up to the first that always is.
fn candidates(model: &Model<'_>, facts: &Facts<'_>, state: StateNumber) -> Vec<usize> {
    let mut found = Vec::new();
    for index in model.moves_of.get(state).into_iter().flatten().copied() {
        if model.movement(index).cause == Cause::Always && facts.truth(index) != Some(false) {
            found.push(index);
            if is_sure(model, facts, index) {
                break;
            }
        }
    }
    found
}

fn is_sure(model: &Model<'_>, facts: &Facts<'_>, index: usize) -> bool {
    is_unguarded(model.movement(index)) || facts.truth(index) == Some(true)
}

fn mover(
    model: &Model<'_>,
    facts: &Facts<'_>,
    candidates: &[Vec<usize>],
    state: StateNumber,
) -> Option<Mover> {
    let own = candidates.get(state)?;
    let first = *own.first()?;
    let mut mover = Mover { state, first, next: BTreeSet::new(), next_surely: BTreeSet::new() };
    for index in own.iter().copied() {
        let movement = model.movement(index);
        let is_leaf = |state: &&StateNumber| {
            !movement.enters.iter().any(|other| model.at(*other).parent == Some(**state))
        };
        let mut leaves: Vec<StateNumber> =
            movement.enters.iter().filter(is_leaf).copied().collect();
        if leaves.is_empty() {
            // Nothing is entered, so the state stays as it was and moves again.
            leaves.push(state);
        }
        for leaf in leaves {
            let mut is_certain = index == first && is_sure(model, facts, first);
            for above in model.upwards(leaf) {
                let Some(next) = candidates.get(above).and_then(|of| of.first()) else { continue };
                mover.next.insert(above);
                let is_decided = is_sure(model, facts, *next);
                if is_certain && is_decided {
                    mover.next_surely.insert(above);
                }
                // What stands further out gets its turn only where nothing further in is taken.
                if is_decided {
                    break;
                }
                is_certain = false;
            }
        }
    }
    Some(mover)
}
