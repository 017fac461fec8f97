//! What an expression may name where it stands, and what is known of it there.
//!
//! Deliberately absent: how the validator finds out which events can lead to a place (`validate/events.rs`).

use std::{collections::BTreeSet, sync::Arc};

use super::{Known, Member, OneOf, Type};

/// One of the events that can be `event` somewhere.
#[derive(Clone, Debug)]
pub struct EventKind {
    /// Its name, such as `pay` or `done.invoke.charge`.
    pub name: Box<str>,
    /// What is known of `event.data`.
    pub data: Type,
    /// What is known of `event.output`; only where an end has one.
    pub output: Option<Type>,
    /// Whether it carries `event.error`.
    pub has_error: bool,
    /// Whether it carries `event.lateMs`.
    pub is_timer: bool,
}

/// All events that can be `event` somewhere; cloning shares.
#[derive(Clone, Debug)]
pub struct EventScope(Arc<Fields>);

/// The fields that depend on the event: what they can be, or which events do not have them.
#[derive(Debug)]
struct Fields {
    data: Result<Type, Vec<Box<str>>>,
    output: Result<Type, Vec<Box<str>>>,
    error: Result<Type, Vec<Box<str>>>,
    late: Result<Type, Vec<Box<str>>>,
}

impl EventScope {
    /// Takes the events that can lead here.
    pub fn new(kinds: &[EventKind]) -> Self {
        Self(Arc::new(Fields {
            data: one_of(kinds, |kind| Some(kind.data.clone())),
            output: one_of(kinds, |kind| kind.output.clone()),
            error: one_of(kinds, |kind| kind.has_error.then(error_type)),
            late: one_of(kinds, |kind| kind.is_timer.then_some(Type::Int)),
        }))
    }

    /// Returns the type of a field of `event`; an error names the events that do not have it.
    pub(super) fn field(&self, field: &str) -> Option<Result<Type, &[Box<str>]>> {
        let found = match field {
            "type" | "actor" | "tenant" => return Some(Ok(Type::TEXT)),
            "data" => &self.0.data,
            "output" => &self.0.output,
            "error" => &self.0.error,
            "lateMs" => &self.0.late,
            _ => return None,
        };
        Some(match found {
            Ok(value) => Ok(value.clone()),
            Err(without) => Err(without),
        })
    }
}

fn one_of(
    kinds: &[EventKind],
    value: impl Fn(&EventKind) -> Option<Type>,
) -> Result<Type, Vec<Box<str>>> {
    let mut members: Vec<Member> = Vec::new();
    let mut without = Vec::new();
    for kind in kinds {
        match value(kind) {
            Some(value) => members.push(Member { event: kind.name.clone(), value }),
            None => without.push(kind.name.clone()),
        }
    }
    match (without.is_empty(), members.is_empty()) {
        (false, _) => Err(without),
        (true, true) => Ok(Type::Dyn),
        (true, false) => Ok(Type::OneOf(Arc::new(OneOf::new(members)))),
    }
}

/// `event.error` of a task that has failed for good.
fn error_type() -> Type {
    Type::record([("code", Type::TEXT), ("message", Type::TEXT), ("attempts", Type::Int)])
}

/// What an expression may name.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// `context`; nothing where it is being made.
    pub context: Option<Type>,
    /// `input`; only where the context is made.
    pub input: Option<Type>,
    /// `event`; nothing where there is none.
    pub event: Option<EventScope>,
    /// The item of a `forEach`.
    pub item: Option<(&'a str, Type)>,
    /// Every state's id.
    pub states: &'a BTreeSet<&'a str>,
    /// Optional fields of the context that are surely there.
    pub assigned: BTreeSet<&'a str>,
    /// What a guard before has made sure of.
    pub known: Known,
}
