//! Events: which ones there are, who handles them, and which can be `event` where.
//!
//! What an expression may read of `event` depends on how an instance got there. For each move, each entry and each exit
//! this file keeps the set of events that can be the last one taken then; it is found by walking all moves until nothing
//! changes, with any guard taken as possible.
//!
//! Deliberately absent: schemas (`data.rs` turns the sets into types), and events that leave the instance.
//!
//! Invariant: a set never misses an event that can occur; it may hold one that cannot.

mod check;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    bits::Bits,
    model::{Cause, Model, Move, StateNumber},
    names,
    walk::{self, Where},
};
use crate::source::{Act, Guard, Kind};

/// What an event is; a signal can be raised too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) is_command: bool,
    pub(super) is_signal: bool,
    pub(super) is_raised: bool,
}

/// One event of the definition.
pub(super) struct Event {
    pub(super) name: String,
    pub(super) origin: Origin,
    /// Whether it carries `event.output`: the end of a state or of an invoke.
    pub(super) has_output: bool,
    /// Whether it carries `event.error`.
    pub(super) has_error: bool,
    /// Whether it carries `event.lateMs`: the time of a state is over.
    pub(super) is_timer: bool,
}

/// All events and where they lead.
pub(super) struct Events<'s> {
    pub(super) list: Vec<Event>,
    index: BTreeMap<String, usize>,
    // Many places ask for the same descriptor; filled once all events are known.
    matched: RefCell<BTreeMap<String, Bits>>,
    pub(super) of_move: Vec<Bits>,
    pub(super) of_entry: Vec<Bits>,
    pub(super) of_exit: Vec<Bits>,
    pub(super) of_action: BTreeMap<&'s str, Bits>,
    pub(super) of_guard: BTreeMap<&'s str, Bits>,
    /// Every event that some move takes, and the start.
    pub(super) any: Bits,
    /// The start alone.
    pub(super) start: Bits,
}

impl<'s> Events<'s> {
    pub(super) fn new(model: &Model<'s>) -> Self {
        let mut events = Self {
            list: Vec::new(),
            index: BTreeMap::new(),
            matched: RefCell::default(),
            of_move: Vec::new(),
            of_entry: vec![Bits::default(); model.states.len()],
            of_exit: vec![Bits::default(); model.states.len()],
            of_action: BTreeMap::new(),
            of_guard: BTreeMap::new(),
            any: Bits::default(),
            start: Bits::default(),
        };
        events.collect(model);
        events.find_moves(model);
        events.spread(model);
        events.find_uses(model);
        events
    }

    /// Returns the number of an event.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(super) fn event(&self, number: usize) -> &Event {
        self.list.get(number).expect("event numbers come from this list")
    }

    /// Returns the events that can be `event` where a list of actions runs.
    pub(super) fn at(&self, place: Where<'_>) -> Bits {
        let found = match place {
            Where::Entry(state) | Where::Initial(state) => self.of_entry.get(state),
            Where::Exit(state) => self.of_exit.get(state),
            Where::Move(index) => self.of_move.get(index),
            Where::Named(name) => self.of_action.get(name),
        };
        found.cloned().unwrap_or_default()
    }

    /// Returns the events that a descriptor matches; a wildcard never matches an event of the platform.
    pub(super) fn matching(&self, descriptor: &str) -> Bits {
        if descriptor != "*" && !descriptor.ends_with(".*") {
            // One event at most: looking it up costs no more than remembering it.
            return self.find_matching(descriptor);
        }
        if let Some(known) = self.matched.borrow().get(descriptor) {
            return known.clone();
        }
        let set = self.find_matching(descriptor);
        self.matched.borrow_mut().insert(descriptor.to_owned(), set.clone());
        set
    }

    fn find_matching(&self, descriptor: &str) -> Bits {
        let mut set = Bits::default();
        if descriptor == "*" || descriptor.ends_with(".*") {
            let prefix = descriptor.strip_suffix(".*");
            for (number, event) in
                self.list.iter().enumerate().filter(|(_, event)| !names::is_platform(&event.name))
            {
                let is_matched = prefix.is_none_or(|prefix| {
                    event
                        .name
                        .strip_prefix(prefix)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                });
                if is_matched {
                    set.insert(number);
                }
            }
        } else if let Some(number) = self.number(descriptor) {
            set.insert(number);
        }
        set
    }

    fn add(&mut self, name: String) -> &mut Event {
        let next = self.list.len();
        let number = *self.index.entry(name.clone()).or_insert(next);
        if number == next {
            self.list.push(Event {
                name,
                origin: Origin::default(),
                has_output: false,
                has_error: false,
                is_timer: false,
            });
        }
        self.list.get_mut(number).expect("just found or pushed")
    }

    fn collect(&mut self, model: &Model<'s>) {
        for named in &model.source.commands {
            self.add(named.name.text.clone()).origin.is_command = true;
        }
        for named in &model.source.signals {
            self.add(named.name.text.clone()).origin.is_signal = true;
        }
        for (_, raise) in walk::raises(model) {
            self.add(raise.event.text.clone()).origin.is_raised = true;
        }
        for (number, placed) in model.states.iter().enumerate() {
            let id = placed.source.id();
            if matches!(model.kind(number), Kind::Compound | Kind::Parallel) {
                self.add(format!("done.state.{id}")).has_output = true;
            }
            for timeout in &placed.source.after {
                self.add(format!("after.{}.{id}", timeout.key.text)).is_timer = true;
            }
            for timeout in &placed.source.idle {
                self.add(format!("idle.{}.{id}", timeout.key.text)).is_timer = true;
            }
            for invoke in &placed.source.invokes {
                self.add(format!("done.invoke.{}", invoke.id.text)).has_output = true;
                self.add(format!("error.invoke.{}", invoke.id.text)).has_error = true;
            }
        }
        self.add("instance.cancel".to_owned());
        self.add("init".to_owned());
        if let Some(number) = self.number("init") {
            self.start.insert(number);
        }
    }

    fn find_moves(&mut self, model: &Model<'s>) {
        self.any = self.start.clone();
        for movement in &model.moves {
            let id = model.id(movement.state);
            let set = match &movement.cause {
                Cause::On(descriptor) => self.matching(descriptor),
                Cause::Always => Bits::default(),
                Cause::After(key) => self.matching(&format!("after.{key}.{id}")),
                Cause::Idle(key) => self.matching(&format!("idle.{key}.{id}")),
                Cause::Done => self.matching(&format!("done.state.{id}")),
                Cause::InvokeDone(invoke) => self.matching(&format!("done.invoke.{invoke}")),
                Cause::InvokeError(invoke) => self.matching(&format!("error.invoke.{invoke}")),
            };
            self.any.add(&set);
            self.of_move.push(set);
        }
    }

    /// Carries the events along the moves until nothing changes.
    fn spread(&mut self, model: &Model<'s>) {
        let mut open: BTreeSet<StateNumber> = BTreeSet::new();
        for state in &model.start {
            add_to(&mut self.of_entry, *state, &self.start);
            open.insert(*state);
        }
        for index in 0..model.moves.len() {
            let movement = model.movement(index);
            if movement.cause == Cause::Always && !is_passing(model, movement.state) {
                // The state can rest, so the guard can come true after any event taken elsewhere.
                let any = self.any.clone();
                add_to(&mut self.of_move, index, &any);
            }
        }
        // Many moves share a way in: what comes by it is joined before it is carried to each state.
        let mut by_way: Vec<Bits> = vec![Bits::default(); model.ways.len()];
        let mut by_domain: Vec<Bits> = vec![Bits::default(); model.states.len()];
        for (movement, set) in model.moves.iter().zip(&self.of_move) {
            add_to(&mut by_way, movement.way, set);
        }
        for (way, set) in model.ways.iter().zip(&by_way) {
            self.enter(&way.enters, set, &mut open);
        }
        // What leads into a state that never rests is what its eventless moves happen with.
        while let Some(state) = open.pop_first() {
            if !is_passing(model, state) {
                continue;
            }
            let set = self.of_entry.get(state).cloned().unwrap_or_default();
            for index in model.moves_of.get(state).into_iter().flatten().copied() {
                if model.movement(index).cause == Cause::Always
                    && add_to(&mut self.of_move, index, &set)
                {
                    let movement = model.movement(index);
                    self.enter(&movement.enters, &set, &mut open);
                }
            }
        }
        for (movement, set) in model.moves.iter().zip(&self.of_move) {
            if let Some(domain) = movement.domain {
                add_to(&mut by_domain, domain, set);
            }
        }
        // Outer states come first, so each hands on to its children what it was handed.
        for (state, placed) in model.states.iter().enumerate() {
            let Some(parent) = placed.parent else { continue };
            let mut set = by_domain.get(parent).cloned().unwrap_or_default();
            set.add(&self.of_exit.get(parent).cloned().unwrap_or_default());
            add_to(&mut self.of_exit, state, &set);
        }
    }

    fn enter(&mut self, states: &[StateNumber], set: &Bits, open: &mut BTreeSet<StateNumber>) {
        for entered in states {
            if add_to(&mut self.of_entry, *entered, set) {
                open.insert(*entered);
            }
        }
    }

    /// Finds out which events can be `event` where a named guard or action is used.
    fn find_uses(&mut self, model: &Model<'s>) {
        let mut edges: Vec<(&'s str, &'s str)> = Vec::new();
        walk::each_of(model, |place, action| match (&action.act, place) {
            (Act::Do(name), Where::Named(user)) => edges.push((user, name.as_str())),
            (Act::Do(name), _) => {
                let set = self.at(place);
                self.of_action.entry(name.as_str()).or_default().add(&set);
            }
            _ => {}
        });
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for (user, used) in &edges {
                let set = self.of_action.get(user).cloned().unwrap_or_default();
                has_changed |= self.of_action.entry(used).or_default().add(&set);
            }
        }
        for (movement, set) in model.moves.iter().zip(&self.of_move) {
            if let Some(Guard::Ref(name)) = &movement.of.guard {
                self.of_guard.entry(name.as_str()).or_default().add(set);
            }
        }
        walk::each_of(model, |place, action| {
            if let Act::Choose(branches) = &action.act {
                for name in branches.iter().filter_map(|branch| match &branch.guard {
                    Some(Guard::Ref(name)) => Some(name),
                    Some(Guard::Expression(_)) | None => None,
                }) {
                    let set = self.at(place);
                    self.of_guard.entry(name.as_str()).or_default().add(&set);
                }
            }
        });
    }

    /// Returns the events of a move.
    pub(super) fn of(&self, index: usize) -> &Bits {
        self.of_move.get(index).expect("move numbers come from the model")
    }
}

fn add_to(sets: &mut [Bits], position: usize, more: &Bits) -> bool {
    sets.get_mut(position).is_some_and(|set| set.add(more))
}

/// Returns whether a state is left at once: one of its eventless candidates has no guard.
pub(super) fn is_passing(model: &Model<'_>, state: StateNumber) -> bool {
    let is_sure = |movement: &Move<'_>| movement.cause == Cause::Always && is_unguarded(movement);
    model.moves_at(state).any(is_sure)
}

/// Returns whether a move is taken whenever it is looked at.
pub(super) fn is_unguarded(movement: &Move<'_>) -> bool {
    match &movement.of.guard {
        None => true,
        Some(Guard::Expression(expression)) => expression.text.trim() == "true",
        Some(Guard::Ref(_)) => false,
    }
}
