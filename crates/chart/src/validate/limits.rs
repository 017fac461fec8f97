//! Limits: the sizes that a definition may have, and those that it may set.
//!
//! Sizes are counted on the bare document, before anything is built from it: what is over a limit is refused by name and
//! looked at no further, so a hostile definition costs no more than reading it.
//!
//! Deliberately absent: the size and the nesting of the text (`load.rs`), and of single expressions (`guard.rs`).

use statehouse_contract::limits::{
    CONTEXT_BYTES_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, POSTPONED_MAX, QUEUE_RUN_MAX,
    STATE_DEPTH_MAX, STATES_MAX, STEP_CEILING, TASKS_MAX, TIMERS_MAX, TRANSITIONS_MAX,
};

use super::{Desk, model::Model};
use crate::{
    document::{Content, Document, Node},
    finding::{Finding, FindingCode},
    source::Source,
};

/// Most CEL expressions in a definition: parsing is what costs most in judging one.
const EXPRESSIONS_MAX: usize = 4_000;
/// Most events that a definition declares and raises.
const EVENTS_MAX: usize = 2_000;
/// Most regular expressions in a definition, in schemas and in `matches`.
const PATTERNS_MAX: usize = 64;
/// Most bytes of CEL in a definition.
const EXPRESSIONS_BYTES_MAX: usize = 96 * 1024;

/// What was counted.
#[derive(Default)]
struct Count {
    states: usize,
    depth: usize,
    transitions: usize,
    events: usize,
    patterns: usize,
    expressions: usize,
    expression_bytes: usize,
}

/// Returns a finding for each size that is over its limit.
pub(super) fn check_document(document: &Document) -> Vec<Finding> {
    let mut count = Count::default();
    count.state(document.root(), 0);
    count.texts(document.root(), false);
    for keyword in ["commands", "signals", "events"] {
        let declared = document.root().as_object().and_then(|root| root.get(keyword)?.as_object());
        count.events += declared.map_or(0, |declared| declared.len());
    }
    let rows = [
        (
            "states",
            "states_max",
            count.states,
            STATES_MAX,
            "/states",
            "move parts into child workflows",
        ),
        (
            "levels of states",
            "state_depth_max",
            count.depth,
            STATE_DEPTH_MAX,
            "/states",
            "nest less",
        ),
        (
            "transitions",
            "transitions_max",
            count.transitions,
            TRANSITIONS_MAX,
            "",
            "move parts into child workflows",
        ),
        (
            "events",
            "events_max",
            count.events,
            EVENTS_MAX,
            "",
            "group them: one event with a field that tells them apart",
        ),
        (
            "regular expressions",
            "patterns_max",
            count.patterns,
            PATTERNS_MAX,
            "",
            "name schemas and refer to them",
        ),
        (
            "expressions",
            "expressions_max",
            count.expressions,
            EXPRESSIONS_MAX,
            "",
            "name guards and actions",
        ),
        (
            "bytes of expressions",
            "expressions_bytes_max",
            count.expression_bytes,
            EXPRESSIONS_BYTES_MAX,
            "",
            "name guards and actions, and use them by name",
        ),
    ];
    let over = rows.into_iter().filter(|row| row.2 > row.3);
    over.map(|(what, name, found, most, pointer, advice)| {
        let message = format!("{found} {what}; {name} is {most}");
        Finding::new(FindingCode::LimitExceeded, pointer, document.place(pointer), message, advice)
    })
    .collect()
}

/// Returns a finding if more states or transitions were read than were counted: under keywords that were mistyped.
pub(super) fn check_source(source: &Source) -> Vec<Finding> {
    let (mut states, mut transitions) = (0, 0);
    let mut open = vec![&source.root];
    while let Some(state) = open.pop() {
        let on = state.on.iter().map(|on| on.value.len());
        let timed = state.after.iter().chain(&state.idle).map(|timeout| timeout.transitions.len());
        let work = state
            .invokes
            .iter()
            .map(|invoke| invoke.on_done.len() + invoke.on_error.as_ref().map_or(0, Vec::len));
        states += 1;
        transitions += state.always.len() + state.on_done.len();
        transitions += on.chain(timed).chain(work).sum::<usize>();
        open.extend(&state.states);
    }
    let rows = [("states", states, STATES_MAX), ("transitions", transitions, TRANSITIONS_MAX)];
    let over = rows.into_iter().filter(|(_, found, most)| found > most);
    over.map(|(what, found, most)| {
        let message = format!("{found} {what}; {what}_max is {most}");
        let advice = "move parts into child workflows";
        Finding::new(FindingCode::LimitExceeded, "", source.root.spot.place, message, advice)
    })
    .collect()
}

impl Count {
    fn state(&mut self, node: &Node, depth: usize) {
        let Some(object) = node.as_object() else { return };
        self.states += 1;
        self.depth = self.depth.max(depth);
        for keyword in ["on", "after", "idle"] {
            for entry in object
                .get(keyword)
                .and_then(Node::as_object)
                .into_iter()
                .flat_map(|of| of.entries())
            {
                self.transitions += items(&entry.node).len();
            }
        }
        for keyword in ["always", "onDone"] {
            self.transitions += object.get(keyword).map_or(0, |node| items(node).len());
        }
        for invoke in object.get("invoke").map(items).unwrap_or_default() {
            let invoke = invoke.as_object();
            for keyword in ["onDone", "onError"] {
                self.transitions +=
                    invoke.and_then(|of| of.get(keyword)).map_or(0, |node| items(node).len());
            }
        }
        for child in
            object.get("states").and_then(Node::as_object).into_iter().flat_map(|of| of.entries())
        {
            self.state(&child.node, depth + 1);
        }
    }

    fn texts(&mut self, node: &Node, is_guard: bool) {
        match &node.content {
            Content::Text(text) if is_guard || text.starts_with("${") => {
                self.expressions += 1;
                self.patterns += text.matches("matches(").count();
                self.expression_bytes += text.len();
            }
            Content::List(items) => items.iter().for_each(|item| self.texts(item, false)),
            Content::Object(object) => {
                self.events += usize::from(object.get("raise").is_some());
                self.patterns += usize::from(object.get("pattern").is_some());
                for entry in object.entries() {
                    self.texts(&entry.node, matches!(&*entry.key, "guard" | "when"));
                    if &*entry.key == "guards"
                        && let Some(named) = entry.node.as_object()
                    {
                        named.entries().iter().for_each(|guard| self.texts(&guard.node, true));
                    }
                }
            }
            Content::Null
            | Content::Bool(_)
            | Content::Integer(_)
            | Content::Number(_)
            | Content::Text(_) => {}
        }
    }
}

/// Returns the items of a list; a lone value is a list of one.
fn items(node: &Node) -> &[Node] {
    node.as_list().unwrap_or_else(|| std::slice::from_ref(node))
}

/// Judges the limits that the definition sets for itself, and the length of its names.
pub(super) fn check(model: &Model<'_>, desk: &mut Desk) {
    for limit in &model.source.limits {
        let ceiling = match limit.name.text.as_str() {
            "microsteps" | "raised" => u64::from(STEP_CEILING),
            "postponed" => u64::from(POSTPONED_MAX),
            "queue" => u64::from(QUEUE_RUN_MAX),
            "timers" => u64::from(TIMERS_MAX),
            "tasks" => u64::from(TASKS_MAX),
            "context" => CONTEXT_BYTES_MAX as u64,
            "event" => PAYLOAD_BYTES_MAX as u64,
            _ => continue,
        };
        if limit.value.value > ceiling {
            let message = format!(
                "`{}` is {}; it can be {ceiling} at most",
                limit.name.text, limit.value.value
            );
            desk.note(
                FindingCode::LimitExceeded,
                &limit.value.spot,
                message,
                "write a smaller number",
            );
        }
    }
    let source = model.source;
    let names = model.states.iter().map(|placed| (placed.source.id(), &placed.source.spot));
    let commands = source.commands.iter().map(|named| (named.name.as_str(), &named.name.spot));
    let signals = source.signals.iter().map(|named| (named.name.as_str(), &named.name.spot));
    let invokes = model.invokes().map(|(_, invoke)| (invoke.id.as_str(), &invoke.id.spot));
    for (name, spot) in names.chain(commands).chain(signals).chain(invokes) {
        if name.len() > NAME_BYTES_MAX {
            let message =
                format!("a name of {} bytes; name_bytes_max is {NAME_BYTES_MAX}", name.len());
            desk.note(FindingCode::LimitExceeded, spot, message, "shorten it");
        }
    }
}
