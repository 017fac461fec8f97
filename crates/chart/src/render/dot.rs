//! Graphviz' DOT.
//!
//! A state with children is a cluster; an arrow to or from a cluster is tied to a point inside it and cut at its edge
//! (`lhead`, `ltail`). Regions of a parallel state are clusters with a dashed edge.
//!
//! Deliberately absent: sizes and fonts; Graphviz' own are good.

use std::fmt::Write;

use super::{Names, label};
use crate::{
    source::{Depth, Kind, Source, Text},
    validate::model::{Model, Move, StateNumber},
};

/// Words that DOT reads as its own.
const WORDS: [&str; 6] = ["graph", "digraph", "node", "edge", "subgraph", "strict"];

/// Draws a definition as Graphviz' DOT.
pub fn dot(source: &Source) -> String {
    let model = Model::new(source);
    let names = Names::new(&model, &WORDS);
    let mut drawing = Drawing { model: &model, names, text: String::new() };
    drawing.line(0, &format!("digraph {} {{", quoted(model.id(0))));
    drawing.line(1, "compound=true;");
    drawing.line(1, "node [shape=box, style=rounded];");
    drawing.inside(0, 1);
    for movement in &model.moves {
        drawing.arrow(movement);
    }
    drawing.history_defaults();
    drawing.line(0, "}");
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
        let _ = writeln!(self.text, "{}{line}", "  ".repeat(depth));
    }

    fn inside(&mut self, state: StateNumber, depth: usize) {
        let point = self.point(state);
        self.line(depth, &format!("{point} [shape=point];"));
        let model = self.model;
        for child in model.at(state).children.iter().copied() {
            self.state(child, depth);
        }
        if model.kind(state) != Kind::Parallel {
            for initial in model.initial(state) {
                let (node, cluster) = self.end(initial);
                let cut = cluster.map_or_else(String::new, |cluster| format!(" [lhead={cluster}]"));
                self.line(depth, &format!("{point} -> {node}{cut};"));
            }
        }
    }

    fn state(&mut self, state: StateNumber, depth: usize) {
        let source = self.model.at(state).source;
        let name = self.names.of(state).to_owned();
        let id = std::iter::once(self.model.id(state).to_owned());
        let lines: Vec<String> = id.chain(label::of_state(source)).collect();
        let text = quoted(&lines.join("\n"));
        match self.model.kind(state) {
            Kind::Compound | Kind::Parallel => {
                let parent = self.model.at(state).parent.unwrap_or(0);
                let is_region = self.model.kind(parent) == Kind::Parallel;
                let style = if is_region { "\"rounded,dashed\"" } else { "rounded" };
                self.line(depth, &format!("subgraph cluster_{name} {{"));
                self.line(depth + 1, &format!("label={text}; style={style};"));
                self.inside(state, depth + 1);
                self.line(depth, "}");
            }
            Kind::History => {
                let sign =
                    if matches!(source.history, Some((Depth::Deep, _))) { "H*" } else { "H" };
                self.line(depth, &format!("{name} [shape=circle, label=\"{sign}\"];"));
            }
            Kind::Final => self.line(depth, &format!("{name} [peripheries=2, label={text}];")),
            Kind::Atomic => self.line(depth, &format!("{name} [label={text}];")),
        }
    }

    /// Returns the name of the point inside a cluster; the blank keeps it apart from every state's name.
    fn point(&self, state: StateNumber) -> String {
        quoted(&format!("in {}", self.names.of(state)))
    }

    /// Returns the node that an arrow is tied to, and the cluster at whose edge it is cut.
    fn end(&self, state: StateNumber) -> (String, Option<String>) {
        let name = self.names.of(state);
        match self.model.kind(state) {
            Kind::Compound | Kind::Parallel if state == 0 => (self.point(state), None),
            Kind::Compound | Kind::Parallel => (self.point(state), Some(format!("cluster_{name}"))),
            Kind::Atomic | Kind::Final | Kind::History => (name.to_owned(), None),
        }
    }

    fn arrow(&mut self, movement: &Move<'_>) {
        let written = &movement.of.targets;
        let resolve = |target: &Text| self.model.resolve(movement.state, &target.text).ok();
        let targets: Vec<StateNumber> = if written.is_empty() {
            vec![movement.state]
        } else {
            written.iter().filter_map(resolve).collect()
        };
        let label = quoted(&label::of_move(movement));
        for target in targets {
            let (from, left) = self.end(movement.state);
            let (to, entered) = self.end(target);
            let mut attributes = vec![format!("label={label}")];
            // An arrow that stays inside a cluster is not cut at its edge.
            let stays = movement.state == target || self.model.is_below(target, movement.state);
            attributes.extend(left.filter(|_| !stays).map(|cluster| format!("ltail={cluster}")));
            let is_inside = movement.state == target || self.model.is_below(movement.state, target);
            attributes
                .extend(entered.filter(|_| !is_inside).map(|cluster| format!("lhead={cluster}")));
            if movement.is_refusal() {
                attributes.push("style=dotted".to_owned());
            }
            self.line(1, &format!("{from} -> {to} [{}];", attributes.join(", ")));
        }
    }

    fn history_defaults(&mut self) {
        let model = self.model;
        for state in (0..model.states.len()).filter(|state| model.kind(*state) == Kind::History) {
            if model.at(state).source.default.is_empty() {
                continue;
            }
            for target in model.history_default(state) {
                let (to, _) = self.end(target);
                let line = format!("{} -> {to} [style=dashed];", self.names.of(state));
                self.line(1, &line);
            }
        }
    }
}

/// Puts a text in quotes as DOT wants it.
fn quoted(text: &str) -> String {
    let mut safe = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => safe.push_str("\\\""),
            '\\' => safe.push_str("\\\\"),
            '\n' => safe.push_str("\\n"),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe.push('"');
    safe
}
