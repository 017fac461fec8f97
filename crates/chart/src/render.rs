//! Pictures of a definition: Mermaid for a page, Graphviz for a printer.
//!
//! Both are drawn from the source, so a definition that does not compile yet can be looked at too. A picture shows the
//! tree, where each state begins, every transition with `event [guard] / actions`, work, timers and what is postponed.
//!
//! Deliberately absent: layout, colours with a meaning, data. A transition without target is drawn as an arrow back to its
//! own state; neither language has a better sign for it.
//!
//! Invariant: the same source gives the same text, in document order.

mod dot;
mod label;
mod mermaid;

pub use dot::dot;
pub use mermaid::mermaid;

use std::collections::BTreeSet;

use crate::validate::model::{Model, StateNumber};

/// Names for the states of a picture: their ids, changed where the language could not read them.
struct Names(Vec<String>);

impl Names {
    fn new(model: &Model<'_>, taken: &[&str]) -> Self {
        let mut used: BTreeSet<String> = taken.iter().map(|word| (*word).to_owned()).collect();
        let mut names = Vec::new();
        for number in 0..model.states.len() {
            let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
            let mut name: String = model.id(number).chars().map(plain).collect();
            if name.is_empty() || !used.insert(name.clone()) {
                name = format!("{name}_{number}");
                used.insert(name.clone());
            }
            names.push(name);
        }
        Self(names)
    }

    fn of(&self, state: StateNumber) -> &str {
        self.0.get(state).map_or("", String::as_str)
    }
}
