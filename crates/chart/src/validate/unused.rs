//! What is declared and has no use: often the other half of a typing mistake.
//!
//! Deliberately absent: events (`events.rs` knows who handles and raises them).

use std::collections::BTreeSet;

use super::{Desk, model::Model, names, values::Facts, walk};
use crate::{
    document::{Content, Node},
    duration,
    finding::FindingCode,
    source::{Act, Guard, Length, Shape, Src, Template, Text},
};

pub(super) fn check(model: &Model<'_>, facts: &Facts<'_>, desk: &mut Desk) {
    let source = model.source;
    let mut references = BTreeSet::new();
    collect_references(source.document.root(), &mut references);
    for named in &source.schemas {
        let name = named.name.as_str();
        if !matches!(name, "input" | "context" | "output") && !references.contains(name) {
            let message = format!("nothing refers to the schema `{name}`");
            desk.note_name(
                FindingCode::UnusedSchema,
                &named.name.spot,
                message,
                "refer to it with `$ref`, or remove it",
            );
        }
    }
    let delays: BTreeSet<&str> = names::delays(model)
        .into_iter()
        .filter_map(|delay| match &delay.length {
            Length::Ref(name) => Some(name.as_str()),
            Length::Fixed(_) | Length::Expression(_) => None,
        })
        .collect();
    // One that is named like a duration cannot be used; that is said elsewhere.
    let can_be_used = |name: &str| duration::parse_ms(name).is_none();
    for named in source.delays.iter().filter(|named| !delays.contains(named.name.as_str())) {
        if !can_be_used(&named.name.text) {
            continue;
        }
        let message = format!("nothing uses the delay `{}`", named.name.text);
        desk.note_name(FindingCode::UnusedDelay, &named.name.spot, message, "use it, or remove it");
    }
    check_named(model, desk);
    check_context(model, facts, desk);
}

fn check_named(model: &Model<'_>, desk: &mut Desk) {
    let source = model.source;
    let mut note = |what: &str, name: &Text| {
        let message = format!("nothing uses the {what} `{}`", name.text);
        desk.note_name(FindingCode::UnusedName, &name.spot, message, "use it, or remove it");
    };
    let retries: BTreeSet<&str> = names::retry_names(model).into_iter().map(Text::as_str).collect();
    for named in source.retries.iter().filter(|named| !retries.contains(named.name.as_str())) {
        note("retry policy", &named.name);
    }
    let guards: BTreeSet<&str> = names::guards(model)
        .into_iter()
        .filter_map(|guard| match guard {
            Guard::Ref(name) => Some(name.as_str()),
            Guard::Expression(_) => None,
        })
        .collect();
    for named in source.guards.iter().filter(|named| !guards.contains(named.name.as_str())) {
        note("guard", &named.name);
    }
    let mut actions = BTreeSet::new();
    walk::each_of(model, |_, action| {
        if let Act::Do(name) = &action.act {
            actions.insert(name.as_str());
        }
    });
    for named in source.actions.iter().filter(|named| !actions.contains(named.name.as_str())) {
        note("action", &named.name);
    }
    let mut kinds = BTreeSet::new();
    for (_, invoke) in model.invokes() {
        kinds.extend(task_kind(&invoke.src));
        if let Some(crate::source::Compensate::By(undo)) = &invoke.compensate {
            kinds.extend(task_kind(&undo.src));
        }
    }
    for named in source.tasks.iter().filter(|named| !kinds.contains(named.name.as_str())) {
        note("task", &named.name);
    }
}

fn task_kind(src: &Src) -> Option<&str> {
    match src {
        Src::Task(kind) => Some(kind),
        Src::Workflow { .. } | Src::Saga | Src::BuiltIn { .. } | Src::Unknown(_) => None,
    }
}

fn check_context(model: &Model<'_>, facts: &Facts<'_>, desk: &mut Desk) {
    let Some(schema) = &facts.declared.context else { return };
    let made: BTreeSet<&str> = match model.source.context.as_ref().map(|context| &context.shape) {
        // What is made of the input is there to be looked at; a constant that nothing reads is not.
        Some(Shape::Object(fields)) => fields
            .iter()
            .filter(|field| is_made(&field.value))
            .map(|field| field.name.as_str())
            .collect(),
        Some(Shape::Constant(_) | Shape::Expression(_) | Shape::List(_)) | None => BTreeSet::new(),
    };
    for property in schema.properties() {
        let is_used =
            facts.assigned.contains(&*property.name) || facts.expressions.reads(&property.name);
        if is_used || made.contains(&*property.name) {
            continue;
        }
        let pointer = crate::finding::join("/schemas/context/properties", &property.name);
        let place = model.source.document.key_place(&pointer);
        let spot = crate::source::Spot { pointer, place };
        let message = format!("the context field `{}` is neither assigned nor read", property.name);
        desk.note(FindingCode::UnusedContextField, &spot, message, "remove it, or use it");
    }
}

/// Returns whether a template has an expression in it.
fn is_made(template: &Template) -> bool {
    match &template.shape {
        Shape::Constant(_) => false,
        Shape::Expression(_) => true,
        Shape::List(items) => items.iter().any(is_made),
        Shape::Object(fields) => fields.iter().any(|field| is_made(&field.value)),
    }
}

/// Collects the names of schemas that some `$ref` means.
fn collect_references<'d>(node: &'d Node, found: &mut BTreeSet<&'d str>) {
    match &node.content {
        Content::List(items) => items.iter().for_each(|item| collect_references(item, found)),
        Content::Object(object) => {
            for entry in object.entries() {
                if &*entry.key == "$ref" {
                    found.extend(
                        entry.node.as_text().and_then(|text| text.strip_prefix("#/schemas/")),
                    );
                }
                collect_references(&entry.node, found);
            }
        }
        Content::Null
        | Content::Bool(_)
        | Content::Integer(_)
        | Content::Number(_)
        | Content::Text(_) => {}
    }
}
