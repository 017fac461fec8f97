//! The source as a graph: states with numbers, moves with resolved targets.
//!
//! Every family of checks asks the same questions (who is below whom, what does this transition leave and enter), so they
//! are answered once, with the algorithm of the step itself. What does not resolve is left out; `names.rs` reports it.
//!
//! Deliberately absent: findings, guards (any may be true here) and the compiled chart: a definition that does not compile
//! is judged too.
//!
//! Invariants: states are numbered in document order, the root is 0; the descendants of a state are the numbers up to its
//! `last`; no move enters the root.

mod entering;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use entering::Entering;

use super::bits::Bits;
use crate::source::{self, Kind, Source, Spot, Text, Transition};

/// The number of a state.
pub(crate) type StateNumber = usize;

/// One state in the tree.
pub(crate) struct Placed<'s> {
    pub(crate) source: &'s source::State,
    pub(crate) parent: Option<StateNumber>,
    pub(crate) children: Vec<StateNumber>,
    /// The last of its descendants, or itself.
    pub(crate) last: StateNumber,
}

/// What makes a move possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause<'s> {
    /// A descriptor in `on`.
    On(&'s str),
    /// `always`.
    Always,
    /// The key of an `after`.
    After(&'s str),
    /// The key of an `idle`.
    Idle(&'s str),
    /// `onDone` of the state.
    Done,
    /// `onDone` of an invoke, by its id.
    InvokeDone(&'s str),
    /// `onError` of an invoke, by its id.
    InvokeError(&'s str),
}

/// One transition and where it belongs.
pub(crate) struct Move<'s> {
    pub(crate) state: StateNumber,
    pub(crate) cause: Cause<'s>,
    pub(crate) of: &'s Transition,
    /// What it leaves: everything active below this state. Nothing, for a transition without targets.
    pub(crate) domain: Option<StateNumber>,
    /// What it enters, in document order.
    pub(crate) enters: Arc<[StateNumber]>,
    /// The number of its way in.
    pub(crate) way: usize,
}

/// What moves with one domain and the same targets enter.
///
/// In a wide parallel state thousands of moves enter hundreds of states each, but by few different ways; whoever walks
/// all moves and all that they enter walks the ways instead.
pub(crate) struct Way {
    /// In document order.
    pub(crate) enters: Arc<[StateNumber]>,
    /// The same as a set.
    pub(crate) set: Bits,
}

/// The ways that were found so far, by domain and targets.
type Known = BTreeMap<(Option<StateNumber>, Vec<StateNumber>), usize>;

/// Why a target is no state.
pub(crate) enum NoTarget {
    /// There is none of that name there.
    Unknown,
    /// It is the root.
    Root,
}

/// The source as a graph.
pub(crate) struct Model<'s> {
    pub(crate) source: &'s Source,
    pub(crate) states: Vec<Placed<'s>>,
    pub(crate) ids: BTreeMap<&'s str, StateNumber>,
    pub(crate) moves: Vec<Move<'s>>,
    /// The moves of each state, in the order in which they are candidates.
    pub(crate) moves_of: Vec<Vec<usize>>,
    pub(crate) ways: Vec<Way>,
    /// What is entered at the start, in document order.
    pub(crate) start: Vec<StateNumber>,
}

impl<'s> Model<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        let mut model = Self {
            source,
            states: Vec::new(),
            ids: BTreeMap::new(),
            moves: Vec::new(),
            moves_of: Vec::new(),
            ways: Vec::new(),
            start: Vec::new(),
        };
        model.place(&source.root, None);
        for number in 0..model.states.len() {
            let id = model.at(number).source.id();
            model.ids.entry(id).or_insert(number);
        }
        model.moves_of = vec![Vec::new(); model.states.len()];
        let mut known = BTreeMap::new();
        for number in 0..model.states.len() {
            model.add_moves(number, &mut known);
        }
        let mut entering = Entering::new(&model);
        entering.down(0);
        model.start = entering.finish().iter().collect();
        model
    }

    fn place(&mut self, state: &'s source::State, parent: Option<StateNumber>) -> StateNumber {
        let number = self.states.len();
        self.states.push(Placed { source: state, parent, children: Vec::new(), last: number });
        let children: Vec<StateNumber> =
            state.states.iter().map(|child| self.place(child, Some(number))).collect();
        let last = self.states.len() - 1;
        if let Some(placed) = self.states.get_mut(number) {
            placed.children = children;
            placed.last = last;
        }
        number
    }

    /// Returns a state.
    pub(crate) fn at(&self, number: StateNumber) -> &Placed<'s> {
        self.states.get(number).expect("state numbers come from this model")
    }

    /// Returns a move.
    pub(crate) fn movement(&self, index: usize) -> &Move<'s> {
        self.moves.get(index).expect("move numbers come from this model")
    }

    /// Returns the moves of a state.
    pub(crate) fn moves_at(&self, number: StateNumber) -> impl Iterator<Item = &Move<'s>> {
        self.moves_of.get(number).into_iter().flatten().map(|index| self.movement(*index))
    }

    pub(crate) fn kind(&self, number: StateNumber) -> Kind {
        self.at(number).source.kind
    }

    pub(crate) fn id(&self, number: StateNumber) -> &'s str {
        self.at(number).source.id()
    }

    /// Returns whether one state is properly below another.
    pub(crate) fn is_below(&self, inner: StateNumber, outer: StateNumber) -> bool {
        inner > outer && inner <= self.at(outer).last
    }

    /// Returns the state and everything above it, innermost first.
    pub(crate) fn upwards(&self, number: StateNumber) -> impl Iterator<Item = StateNumber> {
        std::iter::successors(Some(number), |number| self.at(*number).parent)
    }

    /// Returns the children that are no history states.
    pub(crate) fn real_children(&self, number: StateNumber) -> impl Iterator<Item = StateNumber> {
        self.at(number).children.iter().copied().filter(|child| self.kind(*child) != Kind::History)
    }

    /// Returns the innermost state that holds both, properly.
    pub(crate) fn common(&self, left: StateNumber, right: StateNumber) -> StateNumber {
        let holds =
            |outer: &StateNumber| self.is_below(left, *outer) && self.is_below(right, *outer);
        self.upwards(left).find(holds).unwrap_or(0)
    }

    /// Returns the child of `outer` that is or holds `inner`.
    pub(crate) fn branch(&self, outer: StateNumber, inner: StateNumber) -> StateNumber {
        self.upwards(inner).find(|number| self.at(*number).parent == Some(outer)).unwrap_or(inner)
    }

    /// Returns whether two states can be active together without one holding the other.
    pub(crate) fn are_orthogonal(&self, left: StateNumber, right: StateNumber) -> bool {
        left != right
            && !self.is_below(left, right)
            && !self.is_below(right, left)
            && self.kind(self.common(left, right)) == Kind::Parallel
    }

    /// Resolves a target as a transition of `from` means it.
    pub(crate) fn resolve(&self, from: StateNumber, target: &str) -> Result<StateNumber, NoTarget> {
        let found = if let Some(id) = target.strip_prefix('#') {
            self.ids.get(id).copied()
        } else if let Some(path) = target.strip_prefix('.') {
            self.walk(from, path)
        } else {
            // The root has no siblings: its targets are its children.
            self.walk(self.at(from).parent.unwrap_or(0), target)
        };
        match found {
            Some(0) => Err(NoTarget::Root),
            Some(number) => Ok(number),
            None => Err(NoTarget::Unknown),
        }
    }

    /// Resolves a target of `initial`: a path of keys from the state, or an id.
    pub(crate) fn resolve_initial(&self, state: StateNumber, target: &str) -> Option<StateNumber> {
        match target.strip_prefix('#') {
            Some(id) => self.ids.get(id).copied(),
            None => self.walk(state, target.strip_prefix('.').unwrap_or(target)),
        }
    }

    fn walk(&self, from: StateNumber, path: &str) -> Option<StateNumber> {
        path.split('.').try_fold(from, |state, key| {
            self.at(state).children.iter().copied().find(|child| self.at(*child).source.key == key)
        })
    }

    /// Returns where a compound state begins: its initial targets, or its first child that is no history.
    pub(crate) fn initial(&self, state: StateNumber) -> Vec<StateNumber> {
        let said = self.at(state).source.initial.iter().flat_map(|initial| &initial.targets);
        let found: Vec<StateNumber> = said
            .filter_map(|target| self.resolve_initial(state, &target.text))
            .filter(|found| self.is_below(*found, state))
            .collect();
        if found.is_empty() { self.real_children(state).take(1).collect() } else { found }
    }

    /// Returns what a history state stands for where nothing was recorded.
    pub(crate) fn history_default(&self, history: StateNumber) -> Vec<StateNumber> {
        let Some(parent) = self.at(history).parent else { return Vec::new() };
        let said = self.at(history).source.default.iter();
        let found: Vec<StateNumber> = said
            .filter_map(|target| self.resolve(history, &target.text).ok())
            .filter(|found| self.is_below(*found, parent) && self.kind(*found) != Kind::History)
            .collect();
        if !found.is_empty() {
            return found;
        }
        if self.kind(parent) == Kind::Parallel {
            self.real_children(parent).collect()
        } else {
            self.initial(parent)
        }
    }

    fn add_moves(&mut self, state: StateNumber, known: &mut Known) {
        let source = self.at(state).source;
        for on in &source.on {
            self.add(state, &Cause::On(&on.name.text), &on.value, known);
        }
        self.add(state, &Cause::Done, &source.on_done, known);
        for invoke in &source.invokes {
            self.add(state, &Cause::InvokeDone(&invoke.id.text), &invoke.on_done, known);
            self.add(
                state,
                &Cause::InvokeError(&invoke.id.text),
                invoke.on_error.as_deref().unwrap_or_default(),
                known,
            );
        }
        for timeout in &source.after {
            self.add(state, &Cause::After(&timeout.key.text), &timeout.transitions, known);
        }
        for timeout in &source.idle {
            self.add(state, &Cause::Idle(&timeout.key.text), &timeout.transitions, known);
        }
        self.add(state, &Cause::Always, &source.always, known);
    }

    fn add(
        &mut self,
        state: StateNumber,
        cause: &Cause<'s>,
        transitions: &'s [Transition],
        known: &mut Known,
    ) {
        for of in transitions {
            let targets: Vec<StateNumber> = of
                .targets
                .iter()
                .filter_map(|target| self.resolve(state, &target.text).ok())
                .collect();
            let domain = self.domain(state, of.reenter, &targets);
            let way = self.way(domain, targets, known);
            let enters = self.ways.get(way).map(|way| Arc::clone(&way.enters)).unwrap_or_default();
            let index = self.moves.len();
            self.moves.push(Move { state, cause: cause.clone(), of, domain, enters, way });
            if let Some(own) = self.moves_of.get_mut(state) {
                own.push(index);
            }
        }
    }

    /// Returns the way of a move, which is found out once for all moves that share it.
    fn way(
        &mut self,
        domain: Option<StateNumber>,
        targets: Vec<StateNumber>,
        known: &mut Known,
    ) -> usize {
        let next = self.ways.len();
        let key = (domain, targets);
        if let Some(way) = known.get(&key) {
            return *way;
        }
        let mut entering = Entering::new(self);
        if let Some(domain) = domain {
            entering.targets(&key.1, domain);
        }
        let set = entering.finish();
        self.ways.push(Way { enters: set.iter().collect(), set });
        known.insert(key, next);
        next
    }

    fn domain(
        &self,
        source: StateNumber,
        reenter: bool,
        targets: &[StateNumber],
    ) -> Option<StateNumber> {
        if targets.is_empty() {
            return None;
        }
        let effective: Vec<StateNumber> = targets
            .iter()
            .flat_map(|target| match self.kind(*target) {
                Kind::History => self.history_default(*target),
                Kind::Atomic | Kind::Compound | Kind::Parallel | Kind::Final => vec![*target],
            })
            .collect();
        let is_inside = |target: &StateNumber| *target == source || self.is_below(*target, source);
        if !reenter && effective.iter().all(is_inside) {
            return Some(source);
        }
        let holds =
            |outer: &StateNumber| effective.iter().all(|target| self.is_below(*target, *outer));
        Some(self.upwards(source).skip(1).find(holds).unwrap_or(0))
    }

    /// Returns the spot at which a state is spoken of: its key.
    pub(crate) fn spot(&self, state: StateNumber) -> &'s Spot {
        &self.at(state).source.spot
    }

    /// Returns the states that a finding should name, `#id` by `#id`.
    pub(crate) fn named(&self, states: &BTreeSet<StateNumber>) -> String {
        let names: Vec<String> =
            states.iter().take(3).map(|state| format!("`{}`", self.id(*state))).collect();
        let rest = states.len().saturating_sub(names.len());
        if rest == 0 { names.join(", ") } else { format!("{} and {rest} more", names.join(", ")) }
    }

    /// Returns every invoke with the state it belongs to.
    pub(crate) fn invokes(&self) -> impl Iterator<Item = (StateNumber, &'s source::Invoke)> {
        let placed = self.states.iter().enumerate();
        placed.flat_map(|(number, placed)| {
            placed.source.invokes.iter().map(move |invoke| (number, invoke))
        })
    }
}

impl Move<'_> {
    /// Returns whether the transition refuses or postpones instead of moving.
    pub(crate) fn is_refusal(&self) -> bool {
        self.of.reject.is_some() || self.of.postpone
    }

    /// Returns the spot of the transition.
    pub(crate) fn spot(&self) -> &Spot {
        &self.of.spot
    }

    /// Returns the words that name the cause.
    pub(crate) fn trigger(&self) -> String {
        match &self.cause {
            Cause::On(descriptor) => format!("`{descriptor}`"),
            Cause::Always => "`always`".to_owned(),
            Cause::After(key) => format!("`after` {key}"),
            Cause::Idle(key) => format!("`idle` {key}"),
            Cause::Done => "`onDone`".to_owned(),
            Cause::InvokeDone(id) => format!("`onDone` of `{id}`"),
            Cause::InvokeError(id) => format!("`onError` of `{id}`"),
        }
    }
}

/// Returns the written targets with their numbers, where they resolve.
pub(crate) fn written<'s>(
    model: &Model<'s>,
    from: StateNumber,
    targets: &'s [Text],
) -> impl Iterator<Item = (&'s Text, StateNumber)> {
    targets.iter().filter_map(move |target| Some((target, model.resolve(from, &target.text).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::load;

    #[test]
    fn moves_with_one_domain_and_the_same_targets_share_their_way_in() {
        // What a move enters was found out for each one: 240 regions with 8 of these took 130 ms to refuse.
        let region = |number: usize| {
            let moves: String =
                (0..8).map(|n| format!("c{n}: {{target: '#p', reenter: true}}, ")).collect();
            format!("      r{number}: {{on: {{{moves}}}}}\n")
        };
        let regions: String = (0..240).map(region).collect();
        let text = format!("id: t\nstates:\n  p:\n    type: parallel\n    states:\n{regions}");
        let source = Source::parse(&load(&text).unwrap()).0.unwrap();
        let model = Model::new(&source);
        assert_eq!((model.moves.len(), model.ways.len()), (1_920, 1));
        assert_eq!(model.movement(1_919).enters.len(), 241);
    }
}
