//! Gaps: what must not be said of a definition because the part that would say otherwise could not be read.
//!
//! Every check runs whatever the parser had to leave out. Some findings, though, say that something is nowhere: no arrow
//! leads here, nobody handles this. They are held back where the missing thing may stand in an unreadable part, and only
//! there.
//!
//! Deliberately absent: the finding about the part itself; the loader or the parser has given it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bits::Bits,
    model::{Model, StateNumber},
};
use crate::{
    finding::{Finding, FindingCode},
    lost::LOST_MAX,
    source::Kind,
};

/// Keywords of a state in which nothing moves.
const STILL: [&str; 12] = [
    "id",
    "tags",
    "meta",
    "entry",
    "exit",
    "postpone",
    "history",
    "output",
    "error",
    "description",
    "context",
    "delays",
];

/// What could not be read, as the checks ask for it.
#[derive(Default)]
pub(super) struct Gaps {
    words: BTreeSet<String>,
    /// States of which some way out, or some work, is unknown.
    open: Bits,
    /// States to which an unreadable part may lead.
    pub(super) named: Bits,
    is_full: bool,
}

impl Gaps {
    pub(super) fn of(model: &Model<'_>) -> Self {
        let lost = &model.source.lost;
        let mut gaps = Self { is_full: lost.len() >= LOST_MAX, ..Self::default() };
        if lost.is_empty() {
            return gaps;
        }
        let states: BTreeMap<&str, StateNumber> =
            (0..model.states.len()).map(|state| (&*model.spot(state).pointer, state)).collect();
        for part in lost {
            gaps.words.extend(part.words.iter().cloned());
            if let Some((state, keyword)) = owner(&states, &part.pointer).filter(|_| !part.is_stray)
            {
                gaps.note_owner(model, state, keyword, &part.pointer);
            }
        }
        for (state, placed) in model.states.iter().enumerate() {
            if gaps.words.contains(&placed.source.key) || gaps.words.contains(placed.source.id()) {
                gaps.named.insert(state);
            }
        }
        gaps
    }

    fn note_owner(&mut self, model: &Model<'_>, state: StateNumber, keyword: &str, pointer: &str) {
        let is_of_definition = state == 0 && crate::source::is_root_only(keyword);
        if is_of_definition || STILL.contains(&keyword) || pointer.contains("/actions") {
            return;
        }
        self.open.insert(state);
        // Where a state begins, or whether its children are regions, is unknown.
        if matches!(keyword, "initial" | "type") && model.kind(state) != Kind::Atomic {
            model.real_children(state).for_each(|child| self.named.insert(child));
        }
    }

    /// Returns whether some way out of a state, or some work of it, could not be read.
    pub(super) fn is_open(&self, state: StateNumber) -> bool {
        self.is_full || self.open.has(state)
    }

    /// Returns whether a finding says of something that it is nowhere, and an unreadable part may be that place.
    pub(super) fn excuse(&self, finding: &Finding) -> bool {
        if !says_nowhere(finding) {
            return false;
        }
        let last = finding.pointer.rsplit('/').next().unwrap_or_default();
        let mut quoted = finding.message.split('`').skip(1).step_by(2);
        self.is_full || self.words.contains(last) || quoted.any(|word| self.words.contains(word))
    }
}

/// Returns the innermost state that a pointer lies in, and the keyword of it.
fn owner<'p>(
    states: &BTreeMap<&str, StateNumber>,
    pointer: &'p str,
) -> Option<(StateNumber, &'p str)> {
    let ends = pointer.rmatch_indices('/').map(|(end, _)| end);
    for end in ends {
        let (above, below) = pointer.split_at(end);
        if let Some(state) = states.get(above) {
            return Some((*state, below.split('/').nth(1).unwrap_or_default()));
        }
    }
    None
}

/// Returns whether a finding says that something is nowhere in the definition.
fn says_nowhere(finding: &Finding) -> bool {
    match finding.code {
        FindingCode::UnreachableState
        | FindingCode::UndefinedEvent
        | FindingCode::CommandUnhandled
        | FindingCode::PostponeNeverHandled
        | FindingCode::TimerNeverHandled
        | FindingCode::UnusedSchema
        | FindingCode::UnusedDelay
        | FindingCode::UnusedName
        | FindingCode::UnusedContextField
        | FindingCode::UndefinedGuard
        | FindingCode::UndefinedAction
        | FindingCode::UndefinedDelay
        | FindingCode::UndefinedRetry
        | FindingCode::UndefinedTarget
        | FindingCode::UndefinedState
        | FindingCode::StateKind => true,
        FindingCode::MissingKeyword => finding.pointer.is_empty(),
        _ => false,
    }
}
