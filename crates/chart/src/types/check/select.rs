//! Fields and indexes: where undefined, optional and event-dependent fields are found out.
//!
//! Deliberately absent: assignments that reach a place (`Scope::assigned` holds what the data flow found).

use std::sync::Arc;

use cel::{
    IdedExpr,
    common::ast::{Expr, SelectExpr},
};

use super::{Type, Walk, literal_text, path, schemas_of};
use crate::{
    finding::FindingCode,
    schema::{Additional, Kind, Schema},
    types::OneOf,
};

/// A field that is asked for: how it is spelled, and whether only its presence is in question.
struct Asked<'e> {
    field: &'e str,
    spelled: Option<String>,
    is_test: bool,
}

impl Asked<'_> {
    /// Returns the text that a message shows.
    fn shown(&self) -> &str {
        self.spelled.as_deref().unwrap_or(self.field)
    }
}

impl Walk<'_> {
    pub(super) fn select(&mut self, select: &SelectExpr, spelled: Option<String>) -> Type {
        let spelled = if select.test {
            path(&select.operand).map(|above| format!("{above}.{}", select.field))
        } else {
            spelled
        };
        let asked = Asked { field: &select.field, spelled, is_test: select.test };
        let value = self.field_of(&select.operand, &asked);
        if select.test { Type::Bool } else { value }
    }

    pub(super) fn index(
        &mut self,
        target: &IdedExpr,
        index: &IdedExpr,
        spelled: Option<String>,
    ) -> Type {
        if let Some(field) = literal_text(index) {
            return self.field_of(target, &Asked { field, spelled, is_test: false });
        }
        let key = self.value(index);
        match self.value(target) {
            Type::List(items, _) => {
                self.expect(&key, &Type::Int, "the index of a list");
                (*items).clone()
            }
            Type::Object(schema) => {
                self.expect(&key, &Type::TEXT, "the key of an object");
                match schema.additional() {
                    Additional::Of(values) if schema.properties().is_empty() => Type::of(values),
                    Additional::Of(_)
                    | Additional::Unsaid
                    | Additional::Open
                    | Additional::Closed => Type::Dyn,
                }
            }
            Type::Record(record) => {
                self.expect(&key, &Type::TEXT, "the key of an object");
                record.fields.values().cloned().fold(Type::Never, Type::join)
            }
            Type::Dyn | Type::Never | Type::OneOf(_) => Type::Dyn,
            found @ (Type::Null
            | Type::Bool
            | Type::Int
            | Type::Double
            | Type::Text(_)
            | Type::Moment
            | Type::Span) => {
                let message = format!("a value of type {found} has no items");
                self.note(FindingCode::TypeError, message, "only lists and objects are indexed");
                Type::Dyn
            }
        }
    }

    fn field_of(&mut self, target: &IdedExpr, asked: &Asked<'_>) -> Type {
        if let Expr::Ident(name) = &target.expr
            && !self.locals.iter().any(|(own, _)| own == name)
        {
            if name == "context"
                && let Some(Type::Object(schema)) = &self.scope.context
            {
                self.reads.insert(asked.field.to_owned());
                return self.declared_field(schema, asked);
            }
            if name == "event" && self.scope.event.is_some() {
                return self.event_field(asked);
            }
        }
        match self.value_on_the_way(target) {
            Type::Object(schema) => self.declared_field(&schema, asked),
            Type::Record(record) => match record.fields.get(asked.field) {
                Some(value) => {
                    self.read_inside(asked, value);
                    value.clone()
                }
                None => self.undefined(asked, record.fields.keys().map(|name| &**name).collect()),
            },
            Type::OneOf(members) => self.member_field(&members, asked),
            Type::Dyn | Type::Never => Type::Dyn,
            found @ (Type::Null
            | Type::Bool
            | Type::Int
            | Type::Double
            | Type::Text(_)
            | Type::Moment
            | Type::Span
            | Type::List(..)) => {
                let message = format!("`{}`: a value of type {found} has no fields", asked.shown());
                self.note(FindingCode::TypeError, message, "only objects have fields");
                Type::Dyn
            }
        }
    }

    fn event_field(&mut self, asked: &Asked<'_>) -> Type {
        self.reads_more = true;
        let scope = self.scope;
        let answer = scope.event.as_ref().and_then(|event| event.field(asked.field));
        match answer {
            None => {
                self.undefined(asked, vec!["type", "actor", "tenant", "data", "output", "error"])
            }
            Some(Ok(value)) => {
                self.read_inside(asked, &value);
                value
            }
            // `has(event.error)` asks just this.
            Some(Err(_)) if asked.is_test || self.is_sure(asked) => Type::Dyn,
            Some(Err(without)) => {
                let message = format!(
                    "`{}` does not exist for {}",
                    asked.shown(),
                    list_some(&without.iter().map(|name| &**name).collect::<Vec<_>>())
                );
                let advice = match asked.field {
                    "output" => "only `done.*` events have an output",
                    _ => "only `error.*` events have an error",
                };
                self.note(FindingCode::EventFieldMissing, message, advice);
                Type::Dyn
            }
        }
    }

    fn declared_field(&mut self, schema: &Schema, asked: &Asked<'_>) -> Type {
        if let Some(property) = schema.property(asked.field) {
            if !property.required {
                self.check_presence(asked);
            }
            if property.schema.kind() == Kind::Any && !asked.is_test {
                self.note_untyped(asked);
            }
            self.read_field(asked, &property.schema);
            return Type::of(&property.schema);
        }
        match schema.additional() {
            Additional::Of(values) => {
                self.read_field(asked, values);
                self.check_presence(asked);
                Type::of(values)
            }
            Additional::Open => Type::Dyn,
            Additional::Unsaid if schema.properties().is_empty() => {
                self.note_untyped(asked);
                Type::Dyn
            }
            Additional::Unsaid | Additional::Closed => self.undefined(
                asked,
                schema.properties().iter().map(|property| &*property.name).collect(),
            ),
        }
    }

    /// The field of a payload that belongs to one of several events.
    fn member_field(&mut self, members: &OneOf, asked: &Asked<'_>) -> Type {
        let merged = members.field(asked.field);
        if merged.is_optional {
            self.check_presence(asked);
        }
        for event in merged.untyped.iter().filter(|_| !asked.is_test) {
            self.note_untyped_event(asked, event);
        }
        if !asked.is_test {
            self.read_secret(asked.shown(), Arc::clone(&merged.secrets));
        }
        let nobody_has_it = merged.without_count == members.len();
        let is_missing = merged.without_count > 0 && !asked.is_test && !self.is_sure(asked);
        if nobody_has_it || is_missing {
            let without: Vec<&str> = merged.without.iter().map(|name| &**name).collect();
            let more = merged.without_count - without.len();
            let message = format!("`{}` is no field of {}", asked.shown(), list(&without, more));
            let advice = if nobody_has_it {
                "declare the field in the event's schema"
            } else {
                "declare it for every event that can lead here, or ask `has()` first"
            };
            self.note(FindingCode::EventFieldMissing, message, advice);
            return Type::Dyn;
        }
        merged.value.clone()
    }

    /// Writes down that a field is read, if it is a secret or has one inside; its presence is none.
    fn read_field(&mut self, asked: &Asked<'_>, schema: &Schema) {
        if schema.holds_secret() && !asked.is_test {
            self.read_secret(asked.shown(), [schema.clone()].into());
        }
    }

    fn read_inside(&mut self, asked: &Asked<'_>, value: &Type) {
        if !asked.is_test {
            self.read_secret(asked.shown(), schemas_of(value));
        }
    }

    /// Warns if an optional field is read and nothing makes sure that it is there.
    fn check_presence(&mut self, asked: &Asked<'_>) {
        if asked.is_test || self.is_sure(asked) {
            return;
        }
        let message = format!("`{}` is optional and may be missing", asked.shown());
        let advice = match &asked.spelled {
            Some(path) => format!("ask `has({path})` first, or make it required"),
            None => "make it required".to_owned(),
        };
        self.note(FindingCode::OptionalRead, message, advice);
    }

    fn is_sure(&self, asked: &Asked<'_>) -> bool {
        let Some(path) = asked.spelled.as_deref() else { return false };
        let is_assigned =
            path.strip_prefix("context.").is_some_and(|field| self.scope.assigned.contains(field));
        is_assigned || self.known.has(path)
    }

    fn undefined(&mut self, asked: &Asked<'_>, known: Vec<&str>) -> Type {
        let advice = match crate::finding::nearest(asked.field, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "declare it in the schema".to_owned(),
        };
        self.note(
            FindingCode::UndefinedField,
            format!("there is no field `{}`", asked.shown()),
            advice,
        );
        Type::Dyn
    }

    fn note_untyped(&mut self, asked: &Asked<'_>) {
        let message = format!("`{}` has no type and is not checked", asked.shown());
        self.note(FindingCode::UntypedValue, message, "give its schema a `type`");
    }

    fn note_untyped_event(&mut self, asked: &Asked<'_>, event: &str) {
        let from = asked
            .spelled
            .as_deref()
            .and_then(|path| path.rsplit_once('.'))
            .map_or("event", |(above, _)| above);
        let message = format!("`{from}` of `{event}` has no type and is not checked");
        let advice = match event.strip_prefix("done.invoke.") {
            Some(_) => "declare the task's `output` under `tasks`",
            None => "declare the event's schema",
        };
        self.note(FindingCode::UntypedValue, message, advice);
    }
}

/// Lists at most three names.
fn list_some(names: &[&str]) -> String {
    let first = names.get(..3).unwrap_or(names);
    list(first, names.len() - first.len())
}

fn list(names: &[&str], more: usize) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}
