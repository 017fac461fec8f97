//! The entry set: what a transition enters, by the algorithm of the step itself.
//!
//! Where a history state is entered, what stands for it is its default: what it may have recorded was active before, so it
//! adds nothing to what can be reached.
//!
//! Deliberately absent: what is left, which needs a configuration.

use super::{Model, StateNumber};
use crate::{source::Kind, validate::bits::Bits};

/// The entry set of the step semantics, being collected.
pub(super) struct Entering<'m, 's> {
    model: &'m Model<'s>,
    set: Bits,
}

impl<'m, 's> Entering<'m, 's> {
    pub(super) fn new(model: &'m Model<'s>) -> Self {
        Self { model, set: Bits::default() }
    }

    pub(super) fn finish(self) -> Bits {
        self.set
    }

    pub(super) fn targets(&mut self, targets: &[StateNumber], domain: StateNumber) {
        for target in targets {
            self.down(*target);
        }
        for target in targets {
            let effective = match self.model.kind(*target) {
                Kind::History => self.model.history_default(*target),
                Kind::Atomic | Kind::Compound | Kind::Parallel | Kind::Final => vec![*target],
            };
            for state in effective.into_iter().filter(|state| *state != domain) {
                self.up(state, Some(domain));
            }
        }
        if self.model.kind(domain) == Kind::Parallel {
            self.open_regions(domain);
        }
    }

    pub(super) fn down(&mut self, state: StateNumber) {
        if self.model.kind(state) == Kind::History {
            let parent = self.model.at(state).parent;
            for stood_for in self.model.history_default(state) {
                self.down(stood_for);
                self.up(stood_for, parent);
            }
            return;
        }
        if self.set.has(state) {
            return;
        }
        self.set.insert(state);
        match self.model.kind(state) {
            Kind::Compound => {
                for initial in self.model.initial(state) {
                    self.down(initial);
                    self.up(initial, Some(state));
                }
            }
            Kind::Parallel => self.open_regions(state),
            Kind::Atomic | Kind::Final | Kind::History => {}
        }
    }

    fn up(&mut self, state: StateNumber, end: Option<StateNumber>) {
        for above in self.model.upwards(state).skip(1).take_while(|above| Some(*above) != end) {
            self.set.insert(above);
            if self.model.kind(above) == Kind::Parallel {
                self.open_regions(above);
            }
        }
    }

    fn open_regions(&mut self, parallel: StateNumber) {
        let model = self.model;
        for region in model.real_children(parallel) {
            if !self.set.has_within(region, model.at(region).last) {
                self.down(region);
            }
        }
    }
}
