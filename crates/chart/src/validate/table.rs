//! The table: what every command meets in every state in which an instance can rest.
//!
//! It is no judgement but an overview: the first thing to read when a definition is new, and the quickest way to see that a
//! command is forgotten somewhere.
//!
//! Deliberately absent: combinations of regions. A row speaks of one leaf and of what stands above it.

use std::fmt;

use serde::Serialize;

use super::{
    events::{Events, is_unguarded},
    model::{Cause, Model, Move, StateNumber},
    reach::Reached,
    values::Facts,
};
use crate::source::Text;

/// Most rows of a table.
const ROWS_MAX: usize = 5_000;

/// What a command meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A transition takes it.
    Accepted,
    /// It depends on guards.
    Guarded,
    /// It is kept for a later state.
    Postponed,
    /// It is refused with the author's own code.
    Rejected(String),
    /// No transition knows it.
    NotHandled,
}

/// One row: a command in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The leaf in which the instance rests.
    pub state: String,
    /// The command.
    pub command: String,
    /// What happens.
    pub answer: Answer,
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => out.write_str("accepted"),
            Self::Guarded => out.write_str("guarded"),
            Self::Postponed => out.write_str("postponed"),
            Self::Rejected(code) => write!(out, "rejected {code}"),
            Self::NotHandled => out.write_str("not handled"),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}: {}", self.state, self.command, self.answer)
    }
}

pub(super) fn rows(
    model: &Model<'_>,
    events: &Events<'_>,
    reached: &Reached,
    facts: &Facts<'_>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for leaf in (0..model.states.len()).filter(|state| facts.can_rest(model, reached, *state)) {
        let path: Vec<(StateNumber, Vec<usize>)> =
            model.upwards(leaf).map(|state| (state, ordered(model, state))).collect();
        for named in &model.source.commands {
            if rows.len() >= ROWS_MAX {
                return rows;
            }
            let Some(number) = events.number(named.name.as_str()) else { continue };
            rows.push(Row {
                state: model.id(leaf).to_owned(),
                command: named.name.text.clone(),
                answer: answer(model, events, facts, &path, number),
            });
        }
    }
    rows
}

fn answer(
    model: &Model<'_>,
    events: &Events<'_>,
    facts: &Facts<'_>,
    path: &[(StateNumber, Vec<usize>)],
    number: usize,
) -> Answer {
    for (state, moves) in path {
        for index in moves.iter().copied().filter(|index| events.of(*index).has(number)) {
            let movement = model.movement(index);
            match facts.truth(index) {
                Some(false) => continue,
                Some(true) => {}
                None if is_unguarded(movement) => {}
                // Whatever comes after it, this guard has a say.
                None => return Answer::Guarded,
            }
            return of_move(movement);
        }
        let is_meant = |name: &Text| {
            let name = name.as_str();
            name == events.event(number).name
                || name.ends_with('*') && events.matching(name).has(number)
        };
        if model.at(*state).source.postpone.iter().any(is_meant) {
            return Answer::Postponed;
        }
    }
    Answer::NotHandled
}

fn of_move(movement: &Move<'_>) -> Answer {
    match &movement.of.reject {
        Some(reject) => Answer::Rejected(reject.code.text.clone()),
        None if movement.of.postpone => Answer::Postponed,
        None => Answer::Accepted,
    }
}

/// Returns the moves of a state that take events, in the order in which they are asked: exact, longest prefix, `*`.
fn ordered(model: &Model<'_>, state: StateNumber) -> Vec<usize> {
    let mut found: Vec<(std::cmp::Reverse<usize>, usize)> = Vec::new();
    for index in model.moves_of.get(state).into_iter().flatten().copied() {
        if let Cause::On(descriptor) = &model.movement(index).cause {
            let is_exact = descriptor.strip_suffix('*').is_none();
            let weight = if is_exact { usize::MAX } else { descriptor.len() };
            found.push((std::cmp::Reverse(weight), index));
        }
    }
    found.sort();
    found.into_iter().map(|(_, index)| index).collect()
}
