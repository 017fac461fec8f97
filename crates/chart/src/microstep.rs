//! One microstep: leave, act, enter.
//!
//! States are left from the inside out and entered from the outside in; between the two the transitions act, in the order
//! of selection. Actions see each other's context. What a state remembers is recorded before anything is left.
//!
//! Deliberately absent: the choice of transitions (`select.rs`), and starting work: it is only noted here, because a state
//! that is left again within the macrostep starts nothing.
//!
//! Invariant: after a microstep the configuration is legal.

use crate::{
    configuration::{StateIndex, StateSet},
    definition::Chart,
    draft::{Draft, Stop},
    select::{Plan, effective},
    snapshot::{Failure, Memory, Status},
    source::{Depth, Kind},
    value::Value,
};

/// The states to be entered, and those of them that are entered by their `initial`.
#[derive(Debug, Default)]
pub(crate) struct Entering {
    pub(crate) states: StateSet,
    pub(crate) by_default: StateSet,
}

/// Takes transitions that do not conflict.
pub(crate) fn take(draft: &mut Draft<'_>, plans: &[Plan]) -> Result<(), Stop> {
    count(draft)?;
    let mut exits = StateSet::new();
    for plan in plans {
        exits.extend_set(&plan.exits);
    }
    remember(draft, &exits);
    let entering = entry_set(draft, plans, &exits);
    leave(draft, &exits)?;
    for plan in plans {
        let chart = draft.chart;
        draft.act(&chart.transition(plan.transition).actions)?;
    }
    enter(draft, &entering)
}

/// Enters the root: the first microstep of an instance.
pub(crate) fn take_start(draft: &mut Draft<'_>) -> Result<(), Stop> {
    count(draft)?;
    let mut entering = Entering::default();
    down(draft.chart, &draft.next.history, 0, &mut entering);
    enter(draft, &entering)
}

/// Enters what of a placed configuration is not active yet: the first microstep in another version.
pub(crate) fn take_placed(draft: &mut Draft<'_>, placed: &Entering) -> Result<(), Stop> {
    count(draft)?;
    enter(draft, placed)
}

/// Returns the configuration in which the given states are active, with whatever stands above them and is entered with them.
pub(crate) fn placed(chart: &Chart, wanted: &[StateIndex]) -> Entering {
    let mut placed = Entering::default();
    for state in wanted {
        down(chart, &[], *state, &mut placed);
    }
    for state in wanted {
        up(chart, &[], *state, StateIndex::MAX, &mut placed);
    }
    placed
}

/// Returns an active state that has not as many active children as it should.
pub(crate) fn unlawful(chart: &Chart, active: &StateSet) -> Option<StateIndex> {
    active.iter().find(|state| {
        let def = chart.def(*state);
        let children = def.children.iter().filter(|child| active.contains(**child)).count();
        match def.kind {
            Kind::Compound => children != 1,
            Kind::Parallel => children != def.children.len(),
            Kind::Atomic | Kind::Final => false,
            Kind::History => true,
        }
    })
}

fn count(draft: &mut Draft<'_>) -> Result<(), Stop> {
    draft.microsteps += 1;
    if draft.microsteps > draft.chart.limits.microsteps {
        Err(Stop::Limit("microsteps"))
    } else {
        Ok(())
    }
}

fn remember(draft: &mut Draft<'_>, exits: &StateSet) {
    let chart = draft.chart;
    for parent in exits.iter() {
        for history in &chart.def(parent).histories {
            let inner = draft.next.configuration.within(parent + 1, chart.def(parent).last);
            let is_remembered = |state: &StateIndex| match chart.def(*history).depth {
                Some(Depth::Deep) => chart.def(*state).children.is_empty(),
                Some(Depth::Shallow) | None => chart.def(*state).parent == Some(parent),
            };
            let remembered: Vec<StateIndex> = inner.iter().filter(is_remembered).collect();
            let memories = &mut draft.next.history;
            match memories.binary_search_by_key(history, |memory| memory.state) {
                Ok(place) => memories[place].remembered = remembered,
                Err(place) => memories.insert(place, Memory { state: *history, remembered }),
            }
        }
    }
}

fn entry_set(draft: &Draft<'_>, plans: &[Plan], exits: &StateSet) -> Entering {
    let chart = draft.chart;
    let history = &draft.next.history;
    let mut entering = Entering::default();
    for plan in plans {
        let Some(domain) = plan.domain else { continue };
        // A state that goes to itself leaves nothing and so conflicts with nobody; when another transition leaves that
        // state, it is not entered again.
        if exits.contains(domain) {
            continue;
        }
        let targets = &chart.transition(plan.transition).targets;
        // The history that counts is the one that was just recorded.
        for target in targets {
            down(chart, history, *target, &mut entering);
        }
        let stand_for = targets.iter().flat_map(|target| effective(chart, history, *target));
        for target in stand_for.filter(|target| *target != domain) {
            up(chart, history, target, domain, &mut entering);
        }
        if chart.def(domain).kind == Kind::Parallel {
            fill(chart, history, domain, &mut entering);
        }
    }
    entering
}

/// Adds a state and what is entered with it.
fn down(chart: &Chart, history: &[Memory], state: StateIndex, entering: &mut Entering) {
    let def = chart.def(state);
    match def.kind {
        Kind::History => {
            let Some(parent) = def.parent else { return };
            let targets = effective(chart, history, state);
            for target in &targets {
                down(chart, history, *target, entering);
            }
            for target in &targets {
                up(chart, history, *target, parent, entering);
            }
        }
        Kind::Atomic | Kind::Final => {
            entering.states.insert(state);
        }
        Kind::Compound => {
            entering.states.insert(state);
            entering.by_default.insert(state);
            for target in &def.initial {
                down(chart, history, *target, entering);
            }
            for target in &def.initial {
                for stands_for in effective(chart, history, *target) {
                    up(chart, history, stands_for, state, entering);
                }
            }
        }
        Kind::Parallel => {
            entering.states.insert(state);
            fill(chart, history, state, entering);
        }
    }
}

/// Adds the states between one and a state above it.
fn up(
    chart: &Chart,
    history: &[Memory],
    state: StateIndex,
    top: StateIndex,
    entering: &mut Entering,
) {
    for above in chart.ancestors(state).take_while(|above| *above != top) {
        entering.states.insert(above);
        if chart.def(above).kind == Kind::Parallel {
            fill(chart, history, above, entering);
        }
    }
}

/// Adds every region of a parallel state that has no member yet.
fn fill(chart: &Chart, history: &[Memory], parallel: StateIndex, entering: &mut Entering) {
    for region in &chart.def(parallel).children {
        if entering.states.within(*region, chart.def(*region).last).is_empty() {
            down(chart, history, *region, entering);
        }
    }
}

/// Leaves states, the last in document order first.
pub(crate) fn leave(draft: &mut Draft<'_>, exits: &StateSet) -> Result<(), Stop> {
    let chart = draft.chart;
    for state in exits.iter_inward_out() {
        draft.act(&chart.def(state).exit)?;
        draft.drop_timeouts(state);
        draft.drop_works(state);
        draft.noted.retain(|invoke| chart.invoke(*invoke).state != state);
        draft.next.configuration.remove(state);
    }
    Ok(())
}

fn enter(draft: &mut Draft<'_>, entering: &Entering) -> Result<(), Stop> {
    let chart = draft.chart;
    for state in entering.states.iter() {
        if !draft.next.configuration.insert(state) {
            continue;
        }
        let def = chart.def(state);
        draft.act(&def.entry)?;
        if entering.by_default.contains(state) {
            draft.act(&def.initial_actions)?;
        }
        draft.start_timeouts(state)?;
        draft.noted.extend(&def.invokes);
        if def.kind == Kind::Final {
            enter_final(draft, state)?;
        }
    }
    Ok(())
}

fn enter_final(draft: &mut Draft<'_>, state: StateIndex) -> Result<(), Stop> {
    let chart = draft.chart;
    let Some(parent) = chart.def(state).parent else { return Ok(()) };
    let mut next = parent;
    if chart.def(parent).kind == Kind::Compound {
        if parent == 0 {
            return finish(draft, Some(state));
        }
        let output = match &chart.def(state).output {
            Some(output) => output.render(&draft.scope())?,
            None => Value::Null,
        };
        let event = draft.platform_event(&chart.def(parent).done_event, Some(("output", output)));
        draft.raised.push_back(event);
        let Some(above) = chart.def(parent).parent else { return Ok(()) };
        next = above;
    }
    while chart.def(next).kind == Kind::Parallel && is_over(chart, &draft.next.configuration, next)
    {
        if next == 0 {
            return finish(draft, None);
        }
        let event =
            draft.platform_event(&chart.def(next).done_event, Some(("output", Value::Null)));
        draft.raised.push_back(event);
        let Some(above) = chart.def(next).parent else { return Ok(()) };
        next = above;
    }
    Ok(())
}

/// Returns whether a state has come to its end.
fn is_over(chart: &Chart, active: &StateSet, state: StateIndex) -> bool {
    let def = chart.def(state);
    match def.kind {
        Kind::Final => active.contains(state),
        Kind::Compound => def
            .children
            .iter()
            .any(|child| chart.def(*child).kind == Kind::Final && active.contains(*child)),
        Kind::Parallel => def.children.iter().all(|region| is_over(chart, active, *region)),
        Kind::Atomic | Kind::History => false,
    }
}

/// Ends the instance at a final state of the root, or with all regions of a parallel root.
fn finish(draft: &mut Draft<'_>, state: Option<StateIndex>) -> Result<(), Stop> {
    let chart = draft.chart;
    let own = state.and_then(|state| chart.def(state).output.as_ref());
    let output = match chart.def(0).output.as_ref().or(own) {
        Some(output) => output.render_as(chart.output_schema.as_ref(), &draft.scope())?,
        None => Value::Null,
    };
    draft.next.status = Status::Done;
    if let Some(failure) = state.and_then(|state| chart.def(state).failure.as_ref()) {
        let text = |value: Value| value.as_text().map_or_else(|| value.to_text(), str::to_owned);
        let code = text(failure.code.render(&draft.scope())?);
        let message = match &failure.message {
            Some(message) => text(message.render(&draft.scope())?),
            None => String::new(),
        };
        draft.next.status = Status::Failed;
        draft.next.error = Some(Failure { code, message });
    }
    draft.next.output = Some(output);
    Ok(())
}
