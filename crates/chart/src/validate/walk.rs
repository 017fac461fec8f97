//! Walks over actions: every list of actions with the place where it runs, and every action in it.
//!
//! Deliberately absent: what `{do: name}` stands for. A named list is a place of its own, so that it is judged once; who
//! uses it is known to `events.rs` and `flow.rs`.

use super::model::{Model, StateNumber};
use crate::source::{Act, Action, Raise, Spot};

/// Where a list of actions runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where<'s> {
    /// When a state is entered.
    Entry(StateNumber),
    /// When a state is left.
    Exit(StateNumber),
    /// When a state begins at its initial child.
    Initial(StateNumber),
    /// With a move.
    Move(usize),
    /// Where its name is used.
    Named(&'s str),
}

/// A list of actions and where it runs.
#[derive(Clone, Copy)]
pub(super) struct Site<'s> {
    pub(super) place: Where<'s>,
    pub(super) actions: &'s [Action],
}

/// Returns every list of actions in the definition that is not empty.
pub(super) fn sites<'s>(model: &Model<'s>) -> Vec<Site<'s>> {
    let mut sites = Vec::new();
    let mut add = |place, actions: &'s [Action]| {
        if !actions.is_empty() {
            sites.push(Site { place, actions });
        }
    };
    for (number, placed) in model.states.iter().enumerate() {
        add(Where::Entry(number), &placed.source.entry);
        add(Where::Exit(number), &placed.source.exit);
        if let Some(initial) = &placed.source.initial {
            add(Where::Initial(number), &initial.actions);
        }
    }
    for (index, movement) in model.moves.iter().enumerate() {
        add(Where::Move(index), &movement.of.actions);
    }
    for named in &model.source.actions {
        add(Where::Named(&named.name.text), &named.value);
    }
    sites
}

/// Visits every action of a list, those inside `choose` too.
pub(super) fn each<'s>(actions: &'s [Action], visit: &mut impl FnMut(&'s Action)) {
    for action in actions {
        visit(action);
        if let Act::Choose(branches) = &action.act {
            for branch in branches {
                each(&branch.actions, visit);
            }
        }
    }
}

/// Visits every action of the definition with the place where it runs.
pub(super) fn each_of<'s>(model: &Model<'s>, mut visit: impl FnMut(Where<'s>, &'s Action)) {
    for site in sites(model) {
        each(site.actions, &mut |action| visit(site.place, action));
    }
}

/// Returns every `raise` of the definition with its spot.
pub(super) fn raises<'s>(model: &Model<'s>) -> Vec<(&'s Spot, &'s Raise)> {
    let mut found = Vec::new();
    each_of(model, |_, action| {
        if let Act::Raise(raise) = &action.act {
            found.push((&action.spot, raise));
        }
    });
    found
}
