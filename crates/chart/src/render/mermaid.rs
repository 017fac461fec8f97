//! Mermaid's `stateDiagram-v2`.
//!
//! An arrow stands in the innermost state that holds both its ends, since Mermaid wants the arrows of a composite state
//! inside it; regions are divided by `--`; a history state is a small state called `H`, for which Mermaid has no sign.
//!
//! Deliberately absent: what composite states do on entry and exit, which Mermaid cannot show.

use std::fmt::Write;

use super::{Names, label};
use crate::{
    source::{Depth, Kind, Source, Text},
    validate::model::{Model, StateNumber},
};

/// Words that Mermaid reads as its own.
const WORDS: [&str; 12] = [
    "end",
    "state",
    "note",
    "class",
    "classDef",
    "style",
    "direction",
    "default",
    "left",
    "right",
    "of",
    "as",
];

/// Draws a definition as Mermaid's `stateDiagram-v2`.
pub fn mermaid(source: &Source) -> String {
    let model = Model::new(source);
    let names = Names::new(&model, &WORDS);
    let mut drawing = Drawing { model: &model, names, text: "stateDiagram-v2\n".to_owned() };
    drawing.inside(0, 1);
    drawing.text
}

struct Drawing<'m, 's> {
    model: &'m Model<'s>,
    names: Names,
    text: String,
}

impl Drawing<'_, '_> {
    fn line(&mut self, depth: usize, line: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.text, "{}{line}", "    ".repeat(depth));
    }

    /// Draws what a state holds: where it begins, its children, the arrows that stay inside it.
    fn inside(&mut self, state: StateNumber, depth: usize) {
        let is_parallel = self.model.kind(state) == Kind::Parallel;
        if !is_parallel {
            for initial in self.model.initial(state) {
                self.line(depth, &format!("[*] --> {}", self.names.of(initial)));
            }
        }
        for (position, child) in self.model.at(state).children.iter().copied().enumerate() {
            if is_parallel && position > 0 {
                self.line(depth, "--");
            }
            self.state(child, depth);
        }
        self.arrows(state, depth);
        self.history_defaults(state, depth);
    }

    fn state(&mut self, state: StateNumber, depth: usize) {
        let name = self.names.of(state).to_owned();
        let id = escaped(self.model.id(state));
        let source = self.model.at(state).source;
        match self.model.kind(state) {
            Kind::Compound | Kind::Parallel => {
                self.line(depth, &format!("state \"{id}\" as {name} {{"));
                self.inside(state, depth + 1);
                self.line(depth, "}");
            }
            Kind::History => {
                let sign =
                    if matches!(source.history, Some((Depth::Deep, _))) { "H*" } else { "H" };
                self.line(depth, &format!("state \"{sign}\" as {name}"));
            }
            Kind::Final => {
                self.line(depth, &format!("state \"{id}\" as {name}"));
                self.line(depth, &format!("{name} --> [*]"));
            }
            Kind::Atomic => {
                self.line(depth, &format!("state \"{id}\" as {name}"));
                for line in label::of_state(source) {
                    self.line(depth, &format!("{name} : {}", escaped(&line)));
                }
            }
        }
    }

    /// Draws the arrows whose innermost common holder is this state.
    fn arrows(&mut self, holder: StateNumber, depth: usize) {
        let model = self.model;
        for movement in &model.moves {
            let label = escaped(&label::of_move(movement));
            for target in self.targets(movement.state, &movement.of.targets) {
                if self.holder(movement.state, target) != holder {
                    continue;
                }
                let from = self.end(movement.state);
                let to = self.end(target);
                let line = if label.is_empty() {
                    format!("{from} --> {to}")
                } else {
                    format!("{from} --> {to} : {label}")
                };
                self.line(depth, &line);
            }
        }
    }

    /// Returns the state in which an arrow is drawn: the innermost that holds both ends, or the outer end's holder.
    fn holder(&self, source: StateNumber, target: StateNumber) -> StateNumber {
        let above = |state: StateNumber| self.model.at(state).parent.unwrap_or(0);
        if source == target || self.model.is_below(target, source) {
            above(source)
        } else if self.model.is_below(source, target) {
            above(target)
        } else {
            self.model.common(source, target)
        }
    }

    /// What the whole definition does is drawn from the edge of the picture.
    fn end(&self, state: StateNumber) -> &str {
        if state == 0 { "[*]" } else { self.names.of(state) }
    }

    fn history_defaults(&mut self, holder: StateNumber, depth: usize) {
        let model = self.model;
        for state in model
            .at(holder)
            .children
            .iter()
            .copied()
            .filter(|state| model.kind(*state) == Kind::History)
        {
            for target in self.targets(state, &model.at(state).source.default) {
                if target != state {
                    let line = format!("{} --> {}", self.names.of(state), self.names.of(target));
                    self.line(depth, &line);
                }
            }
        }
    }

    /// Returns the states an arrow ends at; its own, if it has no target.
    fn targets(&self, source: StateNumber, targets: &[Text]) -> Vec<StateNumber> {
        if targets.is_empty() {
            return vec![source];
        }
        targets.iter().filter_map(|target| self.model.resolve(source, &target.text).ok()).collect()
    }
}

/// Writes letters that Mermaid reads as signs by their numbers.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '#' | ':' | ';' | '"' | '<' | '>' | '{' | '}' => {
                // Writing to a text cannot fail.
                let _ = write!(safe, "#{};", u32::from(letter));
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}
