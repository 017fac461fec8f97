//! Selection: which transitions an event enables, in document order, without conflicts.
//!
//! From each active leaf towards the root the first state with a candidate whose guard is true gives its transition. A real
//! transition anywhere beats postponing; a `reject` anywhere refuses. Where two transitions would leave the same state, the
//! one from further inside wins, else the one that was found first.
//!
//! Deliberately absent: taking them (`microstep.rs`).
//!
//! Invariant: the exit sets of the transitions that are given back do not meet.

use crate::{
    configuration::{StateIndex, StateSet},
    definition::{Chart, TransitionIndex, TransitionKind},
    draft::{Draft, Stop},
    refusal::EvaluationError,
    snapshot::{EventClass, Memory},
    source::Kind,
};

/// What is to be matched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'e> {
    /// Eventless transitions.
    Nothing,
    /// An event that was raised within this macrostep: `reject` and `postpone` are as if absent.
    Raised(&'e str),
    /// Any other event.
    Event(&'e str, &'e EventClass),
}

/// A transition about to be taken.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) transition: TransitionIndex,
    /// Everything active below it is left; nothing for a transition without targets.
    pub(crate) domain: Option<StateIndex>,
    pub(crate) exits: StateSet,
}

/// What was selected.
#[derive(Debug)]
pub(crate) enum Selected {
    /// Nothing; `is_matched` = something had a candidate, and its guards said no.
    Nothing { is_matched: bool },
    /// A `reject`: the first one found.
    Reject { code: String, message: Option<String> },
    /// The event is to be kept.
    Postpone,
    /// These, in order.
    Take(Vec<Plan>),
}

/// Selects.
pub(crate) fn select(draft: &Draft<'_>, wanted: Wanted<'_>) -> Result<Selected, Stop> {
    let picked = pick(draft, wanted)?;
    let chart = draft.chart;
    let mut taken = Vec::new();
    let mut postpones = false;
    for index in &picked {
        match &chart.transition(*index).kind {
            TransitionKind::Move => taken.push(*index),
            TransitionKind::Postpone => postpones = true,
            TransitionKind::Reject { code, message } => {
                return Ok(Selected::Reject { code: code.clone(), message: message.clone() });
            }
        }
    }
    if taken.is_empty() {
        return Ok(match (postpones, wanted) {
            (true, _) => Selected::Postpone,
            (false, Wanted::Nothing) => Selected::Nothing { is_matched: false },
            (false, Wanted::Raised(_) | Wanted::Event(..)) => {
                Selected::Nothing { is_matched: is_matched(draft, wanted) }
            }
        });
    }
    let plans = taken.into_iter().map(|index| plan(draft, index)).collect();
    Ok(Selected::Take(without_conflicts(chart, plans)))
}

fn pick(draft: &Draft<'_>, wanted: Wanted<'_>) -> Result<Vec<TransitionIndex>, Stop> {
    let configuration = &draft.next.configuration;
    let mut picked = Vec::new();
    if matches!(wanted, Wanted::Nothing) && !configuration.meets(&draft.chart.eventless) {
        return Ok(picked);
    }
    let mut asked = StateSet::new();
    for leaf in configuration.iter().filter(|state| draft.chart.def(*state).children.is_empty()) {
        let path = std::iter::once(leaf).chain(draft.chart.ancestors(leaf));
        for state in path {
            // A state that was asked before has said no, or was picked and ends this path too.
            if !asked.insert(state) {
                if picked.iter().any(|index| draft.chart.transition(*index).source == state) {
                    break;
                }
                continue;
            }
            if let Some(index) = candidate(draft, state, wanted)? {
                picked.push(index);
                break;
            }
        }
    }
    Ok(picked)
}

/// Returns the first candidate of a state whose guard is true.
fn candidate(
    draft: &Draft<'_>,
    state: StateIndex,
    wanted: Wanted<'_>,
) -> Result<Option<TransitionIndex>, Stop> {
    let def = draft.chart.def(state);
    let judge = |index: TransitionIndex| match is_enabled(draft, index, wanted) {
        Ok(true) => Some(Ok(index)),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    };
    let found = match wanted {
        Wanted::Nothing => def.always.iter().find_map(|index| judge(*index)),
        Wanted::Raised(name) => def.candidates.find(name, false, judge),
        Wanted::Event(name, class) => {
            def.candidates.find(name, *class == EventClass::Platform, judge)
        }
    };
    found.transpose().map_err(Stop::from)
}

fn is_enabled(
    draft: &Draft<'_>,
    index: TransitionIndex,
    wanted: Wanted<'_>,
) -> Result<bool, EvaluationError> {
    let transition = draft.chart.transition(index);
    if !is_present(&transition.kind, wanted) {
        return Ok(false);
    }
    transition.guard.as_ref().map_or(Ok(true), |guard| guard.truth(&draft.scope()))
}

/// Only what waits outside can be told to wait; only the outside can be refused.
fn is_present(kind: &TransitionKind, wanted: Wanted<'_>) -> bool {
    match (kind, wanted) {
        (TransitionKind::Move, _) => true,
        (
            TransitionKind::Postpone | TransitionKind::Reject { .. },
            Wanted::Nothing | Wanted::Raised(_),
        ) => false,
        (TransitionKind::Postpone, Wanted::Event(_, class)) => *class != EventClass::Platform,
        (TransitionKind::Reject { .. }, Wanted::Event(..)) => true,
    }
}

/// Returns whether something active has a candidate at all.
fn is_matched(draft: &Draft<'_>, wanted: Wanted<'_>) -> bool {
    let (name, is_platform) = match wanted {
        Wanted::Nothing => return false,
        Wanted::Raised(name) => (name, false),
        Wanted::Event(name, class) => (name, *class == EventClass::Platform),
    };
    draft.next.configuration.iter().any(|state| {
        let candidates = &draft.chart.def(state).candidates;
        candidates
            .find(name, is_platform, |index| {
                is_present(&draft.chart.transition(index).kind, wanted).then_some(())
            })
            .is_some()
    })
}

fn plan(draft: &Draft<'_>, index: TransitionIndex) -> Plan {
    let transition = draft.chart.transition(index);
    let targets: Vec<StateIndex> = transition
        .targets
        .iter()
        .flat_map(|target| effective(draft.chart, &draft.next.history, *target))
        .collect();
    let domain = domain(draft.chart, transition.source, transition.reenter, &targets);
    let exits = domain.map_or_else(StateSet::new, |domain| below(draft, domain));
    Plan { transition: index, domain, exits }
}

fn below(draft: &Draft<'_>, domain: StateIndex) -> StateSet {
    let last = draft.chart.def(domain).last;
    if domain == last { StateSet::new() } else { draft.next.configuration.within(domain + 1, last) }
}

/// Returns what a target stands for: itself, or what a history state remembers.
pub(crate) fn effective(chart: &Chart, history: &[Memory], target: StateIndex) -> Vec<StateIndex> {
    let def = chart.def(target);
    if def.kind != Kind::History {
        return vec![target];
    }
    if let Some(memory) = history.iter().find(|memory| memory.state == target) {
        return memory.remembered.clone();
    }
    if !def.initial.is_empty() {
        return def.initial.clone();
    }
    let Some(parent) = def.parent else { return Vec::new() };
    match chart.def(parent).kind {
        Kind::Parallel => chart.def(parent).children.clone(),
        Kind::Atomic | Kind::Compound | Kind::Final | Kind::History => {
            chart.def(parent).initial.clone()
        }
    }
}

fn domain(
    chart: &Chart,
    source: StateIndex,
    reenter: bool,
    targets: &[StateIndex],
) -> Option<StateIndex> {
    if targets.is_empty() {
        return None;
    }
    if !reenter && targets.iter().all(|target| chart.is_within(*target, source)) {
        return Some(source);
    }
    let holds_all = |above: &StateIndex| {
        targets.iter().all(|target| target != above && chart.is_within(*target, *above))
    };
    Some(chart.ancestors(source).find(holds_all).unwrap_or(0))
}

fn without_conflicts(chart: &Chart, plans: Vec<Plan>) -> Vec<Plan> {
    let mut kept: Vec<Plan> = Vec::with_capacity(plans.len());
    for plan in plans {
        let source = chart.transition(plan.transition).source;
        let is_inner = |other: &Plan| {
            let theirs = chart.transition(other.transition).source;
            source != theirs && chart.is_within(source, theirs)
        };
        let conflicts = |other: &Plan| other.exits.meets(&plan.exits);
        if kept.iter().filter(|other| conflicts(other)).all(is_inner) {
            kept.retain(|other| !conflicts(other));
            kept.push(plan);
        }
    }
    kept
}
