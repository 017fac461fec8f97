//! What a definition declares about its data, read once: schemas of payloads, inputs, outputs and the context.
//!
//! Deliberately absent: values. An event's types follow from its declaration or, for a raised one without, from what is
//! raised with it.

use std::{cell::RefCell, collections::BTreeMap};

use crate::{
    finding::{Finding, FindingCode},
    schema::{Kind, Schema, Schemas},
    source::{Named, Raw, Shape, Src, Template},
    types::{EventKind, EventScope, Record, Type},
    validate::{bits::Bits, events::Events, expressions::type_of, model::Model, walk},
};

/// The declared types of a definition.
pub(in crate::validate) struct Declared {
    pub(in crate::validate) context: Option<Schema>,
    pub(in crate::validate) input: Option<Schema>,
    pub(in crate::validate) output: Option<Schema>,
    /// Payloads of events, by name.
    payloads: BTreeMap<String, Schema>,
    /// Replies of commands, by name.
    replies: BTreeMap<String, Schema>,
    task_inputs: BTreeMap<String, Schema>,
    /// What is known of each event, by its number.
    kinds: Vec<Vec<EventKind>>,
    // Many places share one set of events.
    scopes: RefCell<BTreeMap<Bits, EventScope>>,
}

impl Declared {
    pub(in crate::validate) fn read(
        model: &Model<'_>,
        events: &Events<'_>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let source = model.source;
        let mut schemas = Schemas::read(&source.document, findings);
        let mut parse = |raw: &Option<Raw>| -> Option<Schema> {
            let raw = raw.as_ref()?;
            Some(schemas.parse(&raw.node, &raw.spot.pointer, findings))
        };
        let mut payloads = BTreeMap::new();
        let mut replies = BTreeMap::new();
        for Named { name, value } in &source.commands {
            payloads.extend(parse(&value.schema).map(|schema| (name.text.clone(), schema)));
            replies.extend(parse(&value.reply).map(|schema| (name.text.clone(), schema)));
        }
        for Named { name, value } in source.events.iter().chain(&source.signals) {
            payloads.extend(parse(&value.schema).map(|schema| (name.text.clone(), schema)));
        }
        let mut task_inputs = BTreeMap::new();
        let mut task_outputs = BTreeMap::new();
        for Named { name, value } in &source.tasks {
            task_inputs.extend(parse(&value.input).map(|schema| (name.text.clone(), schema)));
            task_outputs.extend(parse(&value.output).map(|schema| (name.text.clone(), schema)));
        }
        let start = source.start.as_ref().and_then(|start| parse(&start.schema));
        let context = schemas.get("context").cloned();
        let mut declared = Self {
            input: start.or_else(|| schemas.get("input").cloned()),
            output: schemas.get("output").cloned(),
            context: context.filter(|context| is_object(context, source, findings)),
            payloads,
            replies,
            task_inputs,
            kinds: Vec::new(),
            scopes: RefCell::default(),
        };
        declared.find_kinds(model, events, &task_outputs);
        declared
    }

    /// Returns the type of `context`.
    pub(in crate::validate) fn context_type(&self) -> Type {
        self.context.as_ref().map_or(Type::Dyn, Type::of)
    }

    /// Returns the payload that an event declares.
    pub(super) fn payload(&self, event: &str) -> Option<&Schema> {
        self.payloads.get(event)
    }

    /// Returns the reply that a command declares.
    pub(super) fn reply(&self, command: &str) -> Option<&Schema> {
        self.replies.get(command)
    }

    /// Returns what a task asks for.
    pub(super) fn task_input(&self, src: &Src) -> Option<Schema> {
        match src {
            Src::Task(kind) => self.task_inputs.get(kind).cloned(),
            Src::Workflow { .. } | Src::Saga | Src::BuiltIn { .. } | Src::Unknown(_) => None,
        }
    }

    /// Returns what is known of `event` where it is one of these.
    pub(super) fn event_scope(&self, events: &Bits) -> EventScope {
        let make = || {
            let kinds =
                events.iter().filter_map(|number| self.kinds.get(number)).flatten().cloned();
            EventScope::new(&kinds.collect::<Vec<_>>())
        };
        self.scopes.borrow_mut().entry(events.clone()).or_insert_with(make).clone()
    }

    fn find_kinds(
        &mut self,
        model: &Model<'_>,
        events: &Events<'_>,
        task_outputs: &BTreeMap<String, Schema>,
    ) {
        let mut raised: BTreeMap<&str, Vec<Type>> = BTreeMap::new();
        for (_, raise) in walk::raises(model) {
            let data = raise.data.as_ref().map_or_else(nothing, shape_type);
            raised.entry(raise.event.as_str()).or_default().push(data);
        }
        let mut outputs: BTreeMap<String, Type> = BTreeMap::new();
        for (number, placed) in model.states.iter().enumerate() {
            outputs
                .insert(format!("done.state.{}", placed.source.id()), state_output(model, number));
        }
        for (_, invoke) in model.invokes() {
            let output = match &invoke.src {
                Src::Task(kind) => task_outputs.get(kind).map_or(Type::Dyn, Type::of),
                Src::Saga => Type::Null,
                Src::Workflow { .. } | Src::BuiltIn { .. } | Src::Unknown(_) => Type::Dyn,
            };
            let output = if invoke.for_each.is_some() {
                Type::List(output.into(), u64::MAX)
            } else {
                output
            };
            outputs.insert(format!("done.invoke.{}", invoke.id.text), output);
        }
        for event in &events.list {
            let declared = self.payloads.get(&event.name).map(Type::of);
            let untold = raised.remove(event.name.as_str()).filter(|_| declared.is_none());
            let mut data: Vec<Type> = untold.unwrap_or_default();
            if data.is_empty() || event.origin.is_signal {
                data.push(declared.unwrap_or_else(nothing));
            }
            let kind = |data: Type| EventKind {
                name: event.name.as_str().into(),
                data,
                output: event
                    .has_output
                    .then(|| outputs.get(&event.name).cloned().unwrap_or(Type::Dyn)),
                has_error: event.has_error,
                is_timer: event.is_timer,
            };
            self.kinds.push(data.into_iter().map(kind).collect());
        }
    }
}

/// The payload of an event that declares none.
fn nothing() -> Type {
    Type::record([])
}

fn is_object(
    context: &Schema,
    source: &crate::source::Source,
    findings: &mut Vec<Finding>,
) -> bool {
    let is_object = context.kind() == Kind::Object;
    if !is_object {
        let place = source.document.place("/schemas/context");
        let message = "the context is an object";
        let finding = Finding::new(
            FindingCode::BadSchema,
            "/schemas/context",
            place,
            message,
            "write `type: object`",
        );
        findings.push(finding);
    }
    is_object
}

/// Returns what is known of a template by its shape alone.
fn shape_type(template: &Template) -> Type {
    match &template.shape {
        Shape::Constant(value) => type_of(value),
        Shape::Expression(_) => Type::Dyn,
        Shape::List(items) => {
            let joined = items.iter().map(shape_type).fold(Type::Never, Type::join);
            Type::List(joined.into(), items.len() as u64)
        }
        Shape::Object(fields) => {
            let fields = fields
                .iter()
                .map(|field| (field.name.text.as_str().into(), shape_type(&field.value)));
            Type::Record(Record { fields: fields.collect() }.into())
        }
    }
}

/// Returns what is known of the output that the end of a state carries.
fn state_output(model: &Model<'_>, state: usize) -> Type {
    let finals =
        model.real_children(state).filter(|child| model.kind(*child) == crate::source::Kind::Final);
    let outputs =
        finals.map(|child| model.at(child).source.output.as_ref().map_or(Type::Null, shape_type));
    match outputs.reduce(Type::join) {
        Some(output) => output,
        None => Type::Null,
    }
}
