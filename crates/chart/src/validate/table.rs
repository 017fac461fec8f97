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
        for named in &model.source.commands {
            if rows.len() >= ROWS_MAX {
                return rows;
            }
            let Some(number) = events.number(named.name.as_str()) else { continue };
            rows.push(Row {
                state: model.id(leaf).to_owned(),
                command: named.name.text.clone(),
                answer: answer(model, events, facts, leaf, number),
            });
        }
    }
    rows
}

fn answer(
    model: &Model<'_>,
    events: &Events<'_>,
    facts: &Facts<'_>,
    leaf: StateNumber,
    number: usize,
) -> Answer {
    let mut is_guarded = false;
    for state in model.upwards(leaf) {
        for index in candidates(model, events, state, number) {
            let movement = model.movement(index);
            match facts.truth(index) {
                Some(false) => continue,
                Some(true) => {}
                None if is_unguarded(movement) => {}
                None => {
                    is_guarded = true;
                    continue;
                }
            }
            return if is_guarded { Answer::Guarded } else { of_move(movement) };
        }
        let postponed = model.at(state).source.postpone.iter();
        if postponed.into_iter().any(|name| events.matching(name.as_str()).has(number)) {
            return if is_guarded { Answer::Guarded } else { Answer::Postponed };
        }
    }
    if is_guarded { Answer::Guarded } else { Answer::NotHandled }
}

fn of_move(movement: &Move<'_>) -> Answer {
    match &movement.of.reject {
        Some(reject) => Answer::Rejected(reject.code.text.clone()),
        None if movement.of.postpone => Answer::Postponed,
        None => Answer::Accepted,
    }
}

/// Returns the moves of a state that an event can take, in the order in which they are asked: exact, longest prefix, `*`.
pub(super) fn candidates(
    model: &Model<'_>,
    events: &Events<'_>,
    state: StateNumber,
    number: usize,
) -> Vec<usize> {
    let mut found: Vec<(std::cmp::Reverse<usize>, usize)> = Vec::new();
    for index in model.moves_of.get(state).into_iter().flatten().copied() {
        if let Cause::On(descriptor) = &model.movement(index).cause
            && events.of(index).has(number)
        {
            let is_exact = descriptor.strip_suffix('*').is_none();
            let weight = if is_exact { usize::MAX } else { descriptor.len() };
            found.push((std::cmp::Reverse(weight), index));
        }
    }
    found.sort();
    found.into_iter().map(|(_, index)| index).collect()
}
