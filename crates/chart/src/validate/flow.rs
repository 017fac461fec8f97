//! Data flow: which optional fields of the context are surely there in which state.
//!
//! A field is there if every way into the state sets it: the initialiser, actions, entries on the way, or a guard that
//! asked for it. Fields only come, never go, except through `unset`; a field that is unset anywhere is therefore never
//! sure. That makes the facts of a state hold as long as it is active, whatever other regions do.
//!
//! Deliberately absent: values, and fields inside fields.
//!
//! Invariant: what is said to be there is there; the other way round this file may know too little.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bits::Bits,
    expressions::Expressions,
    model::{Model, StateNumber},
    walk,
};
use crate::{
    schema::Schema,
    source::{Act, Action, Guard, Shape},
    types::Known,
};

/// Which optional fields are surely there, by state.
pub(super) struct Flow<'s> {
    names: Vec<&'s str>,
    numbers: BTreeMap<&'s str, usize>,
    named: BTreeMap<&'s str, Bits>,
    /// When the state's entry actions have run.
    inside: Vec<Option<Bits>>,
    /// Before they run.
    before: Vec<Option<Bits>>,
    unset: Bits,
    start: Bits,
}

impl<'s> Flow<'s> {
    pub(super) fn new(
        model: &Model<'s>,
        context: Option<&'s Schema>,
        expressions: &mut Expressions<'s>,
    ) -> Self {
        let optional = context
            .into_iter()
            .flat_map(|schema| schema.properties())
            .filter(|property| !property.required);
        let names: Vec<&'s str> = optional.map(|property| &*property.name).collect();
        let numbers = names.iter().enumerate().map(|(number, name)| (*name, number)).collect();
        let mut flow = Self {
            names,
            numbers,
            named: BTreeMap::new(),
            inside: vec![None; model.states.len()],
            before: vec![None; model.states.len()],
            unset: Bits::default(),
            start: Bits::default(),
        };
        let mut unset = Bits::default();
        walk::each_of(model, |_, action| {
            if let Act::Unset(names) = &action.act {
                names
                    .iter()
                    .filter_map(|name| flow.number(&name.text))
                    .for_each(|number| unset.insert(number));
            }
        });
        flow.unset = unset;
        for named in &model.source.actions {
            flow.name_actions(model, &named.name.text, 0);
        }
        if let Some(Shape::Object(fields)) =
            model.source.context.as_ref().map(|template| &template.shape)
        {
            let made =
                fields.iter().filter_map(|field| flow.sure(&field.name.text)).collect::<Vec<_>>();
            made.into_iter().for_each(|number| flow.start.insert(number));
        }
        flow.run(model, expressions);
        flow
    }

    /// Returns the fields that are there while a state is active.
    pub(super) fn inside(&self, state: StateNumber) -> BTreeSet<&'s str> {
        self.names_of(self.inside.get(state).and_then(Option::as_ref))
    }

    /// Returns the fields that are there before the entry actions of a state.
    pub(super) fn before(&self, state: StateNumber) -> BTreeSet<&'s str> {
        self.names_of(self.before.get(state).and_then(Option::as_ref))
    }

    /// Returns the fields that are always there.
    pub(super) fn always(&self) -> BTreeSet<&'s str> {
        self.names_of(Some(&self.start))
    }

    /// Returns the fields that a list of actions surely sets.
    pub(super) fn set_by(&self, actions: &[Action]) -> BTreeSet<&'s str> {
        self.names_of(Some(&self.assigned(actions)))
    }

    fn names_of(&self, fields: Option<&Bits>) -> BTreeSet<&'s str> {
        fields
            .into_iter()
            .flat_map(Bits::iter)
            .filter_map(|number| self.names.get(number).copied())
            .collect()
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// Returns the number of a field that nothing unsets.
    fn sure(&self, name: &str) -> Option<usize> {
        self.number(name).filter(|number| !self.unset.has(*number))
    }

    fn assigned(&self, actions: &[Action]) -> Bits {
        let mut fields = Bits::default();
        for action in actions {
            match &action.act {
                Act::Assign(assigned) => {
                    assigned
                        .iter()
                        .filter_map(|field| self.sure(&field.name.text))
                        .for_each(|number| fields.insert(number));
                }
                Act::Choose(branches)
                    if branches.last().is_some_and(|last| last.guard.is_none()) =>
                {
                    let common = branches
                        .iter()
                        .map(|branch| self.assigned(&branch.actions))
                        .reduce(|mut left, right| {
                            left.keep(&right);
                            left
                        });
                    fields.add(&common.unwrap_or_default());
                }
                Act::Do(name) => {
                    if let Some(named) = self.named.get(name.as_str()) {
                        fields.add(named);
                    }
                }
                Act::Choose(_)
                | Act::Unset(_)
                | Act::Raise(_)
                | Act::Cancel(_)
                | Act::SendTo { .. }
                | Act::SendParent(_)
                | Act::Emit(_)
                | Act::Log(_)
                | Act::Reply(_) => {}
            }
        }
        fields
    }

    /// Finds out what a named list sets; the lists that it uses come first.
    fn name_actions(&mut self, model: &Model<'s>, name: &'s str, depth: usize) {
        const DEPTH_MAX: usize = 100;
        if self.named.contains_key(name) || depth > DEPTH_MAX {
            return;
        }
        let Some(list) = model.source.actions.iter().find(|named| named.name.text == name) else {
            return;
        };
        // A list that meets itself sets nothing for sure.
        self.named.insert(name, Bits::default());
        let mut used = Vec::new();
        walk::each(&list.value, &mut |action| {
            if let Act::Do(other) = &action.act {
                used.push(other.as_str());
            }
        });
        for other in used {
            self.name_actions(model, other, depth + 1);
        }
        let fields = self.assigned(&list.value);
        self.named.insert(name, fields);
    }

    fn run(&mut self, model: &Model<'s>, expressions: &mut Expressions<'s>) {
        let entries: Vec<Bits> =
            model.states.iter().map(|placed| self.assigned(&placed.source.entry)).collect();
        let gains: Vec<Bits> = model
            .moves
            .iter()
            .map(|movement| {
                let mut gain = self.assigned(&movement.of.actions);
                if let Some(Guard::Expression(expression)) = &movement.of.guard
                    && let Ok(parsed) = expressions.parse(&expression.text)
                {
                    self.asked(&Known::if_true(&parsed))
                        .into_iter()
                        .for_each(|number| gain.insert(number));
                }
                gain
            })
            .collect();
        let mut open: BTreeSet<StateNumber> = BTreeSet::new();
        let start = self.start.clone();
        self.enter(&model.start, start, &entries, &mut open);
        // What is surely there on each way in. Entries only add fields, so what is common to all who take a way can be
        // found first and carried into its states once.
        let mut by_way: Vec<Option<Bits>> = vec![None; model.ways.len()];
        while !open.is_empty() {
            let mut narrowed: BTreeSet<usize> = BTreeSet::new();
            for state in std::mem::take(&mut open) {
                for index in model.moves_of.get(state).into_iter().flatten() {
                    let mut fields = self.inside.get(state).cloned().flatten().unwrap_or_default();
                    if let Some(gain) = gains.get(*index) {
                        fields.add(gain);
                    }
                    let way = model.movement(*index).way;
                    if narrow(&mut by_way, way, &fields) {
                        narrowed.insert(way);
                    }
                }
            }
            for number in narrowed {
                let fields = by_way.get(number).cloned().flatten().unwrap_or_default();
                if let Some(way) = model.ways.get(number) {
                    self.enter(&way.enters, fields, &entries, &mut open);
                }
            }
        }
    }

    fn asked(&self, known: &Known) -> Vec<usize> {
        let is_known = |name: &&&str| known.has(&format!("context.{name}"));
        self.names.iter().filter(is_known).filter_map(|name| self.sure(name)).collect()
    }

    /// Enters states in document order, each after the entry actions of those before it.
    fn enter(
        &mut self,
        states: &[StateNumber],
        mut fields: Bits,
        entries: &[Bits],
        open: &mut BTreeSet<StateNumber>,
    ) {
        for state in states {
            let mut has_changed = narrow(&mut self.before, *state, &fields);
            if let Some(entry) = entries.get(*state) {
                fields.add(entry);
            }
            has_changed |= narrow(&mut self.inside, *state, &fields);
            if has_changed {
                open.insert(*state);
            }
        }
    }
}

/// Keeps what is there on this way in too; returns whether that is less than before.
fn narrow(facts: &mut [Option<Bits>], state: StateNumber, fields: &Bits) -> bool {
    match facts.get_mut(state) {
        Some(Some(known)) => known.keep(fields),
        Some(unknown @ None) => {
            *unknown = Some(fields.clone());
            true
        }
        None => false,
    }
}
