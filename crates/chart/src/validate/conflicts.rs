//! Conflicts: transitions that never get their turn, and transitions that take each other's.
//!
//! Deliberately absent: errors. Everything here runs as the semantics say; the author probably thinks it runs otherwise.
//!
//! Invariant: a warning is only given where guards cannot make a difference.

use std::collections::BTreeSet;

use super::{
    Desk,
    bits::Bits,
    events::{Events, is_unguarded},
    model::{Cause, Model, Move, StateNumber},
    reach::Reached,
    values::Facts,
};
use crate::{finding::FindingCode, source::Kind};

/// Most pairs of moves that are compared; a definition within its limits has fewer that matter.
const PAIRS_MAX: usize = 50_000;

pub(super) fn check(
    model: &Model<'_>,
    events: &Events<'_>,
    reached: &Reached,
    facts: &Facts<'_>,
    desk: &mut Desk,
) {
    let look = Look { model, events, reached, facts };
    for state in (0..model.states.len()).filter(|state| reached.has(*state)) {
        look.check_dead(state, desk);
        for index in model.moves_of.get(state).into_iter().flatten().copied() {
            look.check_shadowed(index, desk);
            look.check_siblings(model.movement(index), desk);
        }
    }
    look.check_regions(desk);
}

struct Look<'a, 's> {
    model: &'a Model<'s>,
    events: &'a Events<'s>,
    reached: &'a Reached,
    facts: &'a Facts<'s>,
}

impl Look<'_, '_> {
    /// Returns whether a move is taken whenever it is looked at.
    fn always_wins(&self, index: usize) -> bool {
        is_unguarded(self.model.movement(index)) || self.facts.truth(index) == Some(true)
    }

    /// Candidates of one cause after one that always wins.
    fn check_dead(&self, state: StateNumber, desk: &mut Desk) {
        let mut winner: Option<&Move<'_>> = None;
        for index in self.model.moves_of.get(state).into_iter().flatten().copied() {
            let movement = self.model.movement(index);
            match winner {
                Some(first) if first.cause == movement.cause => {
                    let message = format!(
                        "this candidate for {} comes after one that is always taken",
                        movement.trigger()
                    );
                    desk.note(
                        FindingCode::DeadCandidate,
                        movement.spot(),
                        message,
                        "put it first, or give the one before it a guard",
                    );
                }
                Some(_) | None => winner = self.always_wins(index).then_some(movement),
            }
        }
        self.check_dead_postpone(state, desk);
    }

    /// A state's `postpone` is the last candidate of its descriptor.
    fn check_dead_postpone(&self, state: StateNumber, desk: &mut Desk) {
        for name in &self.model.at(state).source.postpone {
            let is_same = |movement: &Move<'_>| matches!(&movement.cause, Cause::On(descriptor) if *descriptor == name.text);
            let mut own = self.model.moves_of.get(state).into_iter().flatten().copied();
            if own.any(|index| is_same(self.model.movement(index)) && self.always_wins(index)) {
                let message = format!(
                    "`{}` is never postponed: a candidate in `on` is always taken",
                    name.text
                );
                desk.note(
                    FindingCode::DeadCandidate,
                    &name.spot,
                    message,
                    "give that candidate a guard, or remove this",
                );
            }
        }
    }

    /// An outer transition that an inner one wins over in every leaf.
    fn check_shadowed(&self, index: usize, desk: &mut Desk) {
        let movement = self.model.movement(index);
        if !matches!(movement.cause, Cause::On(_))
            || self.model.kind(movement.state) == Kind::Atomic
        {
            return;
        }
        let events: Vec<usize> = self.events.of(index).iter().collect();
        let last = self.model.at(movement.state).last;
        let is_leaf = |state: &StateNumber| {
            self.reached.has(*state)
                && matches!(self.model.kind(*state), Kind::Atomic | Kind::Final)
        };
        let leaves: Vec<StateNumber> = (movement.state + 1..=last).filter(is_leaf).collect();
        let is_shadowed = |leaf: &StateNumber| {
            events.iter().all(|event| self.wins_inside(movement.state, *leaf, *event))
        };
        if !events.is_empty() && !leaves.is_empty() && leaves.iter().all(is_shadowed) {
            let message = format!(
                "{} never reaches this transition: every state inside takes it first",
                movement.trigger()
            );
            desk.note(
                FindingCode::ShadowedTransition,
                movement.spot(),
                message,
                "remove it, or give the inner ones guards",
            );
        }
    }

    /// Returns whether some state from a leaf up to (not including) an outer state always takes an event.
    fn wins_inside(&self, outer: StateNumber, leaf: StateNumber, event: usize) -> bool {
        let is_waited_for = {
            let origin = self.events.event(event).origin;
            !origin.is_raised
        };
        self.model.upwards(leaf).take_while(|state| *state != outer).any(|state| {
            let mut own = self.model.moves_of.get(state).into_iter().flatten().copied();
            let by_move = own.any(|index| {
                let movement = self.model.movement(index);
                matches!(movement.cause, Cause::On(_))
                    && self.events.of(index).has(event)
                    && self.always_wins(index)
                    && (is_waited_for || !movement.is_refusal())
            });
            by_move || (is_waited_for && self.is_postponed(state, event))
        })
    }

    fn is_postponed(&self, state: StateNumber, event: usize) -> bool {
        let name = &self.events.event(event).name;
        let is_matched = |descriptor: &str| {
            descriptor == name
                || descriptor == "*"
                || descriptor.strip_suffix(".*").is_some_and(|prefix| {
                    name.strip_prefix(prefix)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
        };
        self.model
            .at(state)
            .source
            .postpone
            .iter()
            .any(|descriptor| is_matched(descriptor.as_str()))
    }

    /// A transition inside one region that starts the other regions again.
    fn check_siblings(&self, movement: &Move<'_>, desk: &mut Desk) {
        let Some(domain) = movement.domain else { return };
        let model = self.model;
        for parallel in model
            .upwards(movement.state)
            .skip(1)
            .filter(|state| model.kind(*state) == Kind::Parallel)
        {
            let own = model.branch(parallel, movement.state);
            let is_left = domain == parallel || model.is_below(parallel, domain);
            if !is_left {
                continue;
            }
            let is_other =
                |state: &StateNumber| model.at(*state).parent == Some(parallel) && *state != own;
            let others = || movement.enters.iter().copied().filter(is_other);
            if others().next().is_some() {
                if !desk.has_room(FindingCode::RestartsSiblings) {
                    return;
                }
                let others: BTreeSet<StateNumber> = others().collect();
                let message = format!(
                    "this transition of `{}` also starts {} again",
                    model.id(own),
                    model.named(&others)
                );
                let advice = "target a state inside the region, without `reenter`, or say it in words if it is meant";
                desk.note(FindingCode::RestartsSiblings, movement.spot(), message, advice);
                return;
            }
        }
    }

    /// Two regions that react to one event and leave the same states: only one of them gets its way.
    fn check_regions(&self, desk: &mut Desk) {
        let model = self.model;
        // Only a move that leaves its own region can be in another's way.
        let leavers: Vec<usize> =
            (0..model.moves.len()).filter(|index| self.leaves_region(*index)).collect();
        let mut pairs = 0;
        let mut is_told = vec![false; model.moves.len()];
        for leaver in leavers.iter().copied() {
            for other in 0..model.moves.len() {
                pairs += 1;
                if pairs > PAIRS_MAX {
                    return;
                }
                let (first, second) = (leaver.min(other), leaver.max(other));
                // The first that wins over it is enough to say.
                let told = is_told.get(second).copied().unwrap_or_default();
                let both_leave = leavers.binary_search(&other).is_ok();
                if told || (both_leave && other <= leaver) || !self.are_rivals(leaver, other) {
                    continue;
                }
                if let Some(told) = is_told.get_mut(second) {
                    *told = true;
                }
                if !desk.has_room(FindingCode::RegionConflict) {
                    continue;
                }
                let (winner, loser) = (model.movement(first), model.movement(second));
                let message = format!(
                    "{} is also taken in `{}`, and both leave the same states: the one in `{}` wins, this one is dropped",
                    loser.trigger(),
                    model.id(winner.state),
                    model.id(winner.state),
                );
                let advice = "give the two guards that exclude each other, or move the transition to the parallel state";
                desk.note(FindingCode::RegionConflict, loser.spot(), message, advice);
            }
        }
    }

    fn leaves_region(&self, index: usize) -> bool {
        let movement = self.model.movement(index);
        let Some(domain) = movement.domain.filter(|_| self.reached.has(movement.state)) else {
            return false;
        };
        let mut parallels = self
            .model
            .upwards(movement.state)
            .skip(1)
            .filter(|state| self.model.kind(*state) == Kind::Parallel);
        parallels.any(|parallel| domain == parallel || self.model.is_below(parallel, domain))
    }

    fn are_rivals(&self, left: usize, right: usize) -> bool {
        let (one, other) = (self.model.movement(left), self.model.movement(right));
        let (Some(one_domain), Some(other_domain)) = (one.domain, other.domain) else {
            return false;
        };
        let is_possible = |index: usize| self.facts.truth(index) != Some(false);
        let meet = |left: StateNumber, right: StateNumber| {
            left == right || self.model.is_below(left, right) || self.model.is_below(right, left)
        };
        self.reached.has(other.state)
            && is_possible(left)
            && is_possible(right)
            && self.model.are_orthogonal(one.state, other.state)
            && meet(one_domain, other_domain)
            && self.have_one_event(left, right)
    }

    fn have_one_event(&self, left: usize, right: usize) -> bool {
        let is_on = |index: usize| matches!(self.model.movement(index).cause, Cause::On(_));
        let sets: [&Bits; 2] = [self.events.of(left), self.events.of(right)];
        is_on(left) && is_on(right) && sets[0].meets(sets[1])
    }
}
