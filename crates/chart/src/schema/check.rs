//! A schema at run time: does a value fit, and what of it may be shown.
//!
//! Both walk a value and its schema together. Values come in two shapes, JSON from outside and [`crate::value::Value`]
//! from inside, so the walk asks for the little it needs through one small trait.
//!
//! Deliberately absent: conversion and defaults; a check changes nothing.
//!
//! Invariant: the answer has at most [`VIOLATIONS_MAX`] violations, in the order of the value's own fields.

use serde::Serialize;
use serde_json::Value as Json;

use super::{Additional, Kind, Schema};
use crate::{
    finding::join,
    value::{Map, Value},
};

/// What stands in an answer where a secret would be.
pub const SECRET_MASK: &str = "***";

/// Most violations told about one value.
const VIOLATIONS_MAX: usize = 20;

/// One way in which a value does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Where in the value, as a JSON pointer.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

/// A value as a schema sees it.
pub trait Datum: Sized {
    /// Returns the value's kind; a number is an integer if it is whole and fits 64 bits.
    fn kind(&self) -> Kind;
    /// Returns the truth value, if this is one.
    fn truth(&self) -> Option<bool>;
    /// Returns the number, if this is one.
    fn number(&self) -> Option<f64>;
    /// Returns the text, if this is one.
    fn text(&self) -> Option<&str>;
    /// Returns the items, if this is a list.
    fn items(&self) -> Option<&[Self]>;
    /// Returns the field, if this is an object that has it.
    fn field(&self, name: &str) -> Option<&Self>;
    /// Returns the fields; none, if this is no object.
    fn fields(&self) -> Vec<(&str, &Self)>;
}

impl Datum for Json {
    fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Boolean,
            Self::Number(number) if number.is_i64() => Kind::Integer,
            Self::Number(number) => whole(number.as_f64()),
            Self::String(_) => Kind::Text,
            Self::Array(_) => Kind::List,
            Self::Object(_) => Kind::Object,
        }
    }

    fn truth(&self) -> Option<bool> {
        self.as_bool()
    }

    fn number(&self) -> Option<f64> {
        self.as_f64()
    }

    fn text(&self) -> Option<&str> {
        self.as_str()
    }

    fn items(&self) -> Option<&[Self]> {
        self.as_array().map(Vec::as_slice)
    }

    fn field(&self, name: &str) -> Option<&Self> {
        self.as_object().and_then(|fields| fields.get(name))
    }

    fn fields(&self) -> Vec<(&str, &Self)> {
        let fields = self.as_object().into_iter().flatten();
        fields.map(|(name, value)| (name.as_str(), value)).collect()
    }
}

impl Datum for Value {
    fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Boolean,
            Self::Int(_) => Kind::Integer,
            Self::Double(number) => whole(Some(*number)),
            // Moments and spans are texts once they are kept.
            Self::Text(_) | Self::Moment(_) | Self::Span(_) => Kind::Text,
            Self::List(_) => Kind::List,
            Self::Map(_) => Kind::Object,
        }
    }

    fn truth(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            Self::Null
            | Self::Int(_)
            | Self::Double(_)
            | Self::Text(_)
            | Self::Moment(_)
            | Self::Span(_)
            | Self::List(_)
            | Self::Map(_) => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            Self::Null
            | Self::Bool(_)
            | Self::Text(_)
            | Self::Moment(_)
            | Self::Span(_)
            | Self::List(_)
            | Self::Map(_) => None,
        }
    }

    fn text(&self) -> Option<&str> {
        self.as_text()
    }

    fn items(&self) -> Option<&[Self]> {
        self.as_list()
    }

    fn field(&self, name: &str) -> Option<&Self> {
        self.get(name)
    }

    fn fields(&self) -> Vec<(&str, &Self)> {
        let fields = self.as_map().into_iter().flat_map(Map::iter);
        fields.map(|(name, value)| (name.as_ref(), value)).collect()
    }
}

// Beyond 2^53 a double no longer tells whole numbers apart.
fn whole(number: Option<f64>) -> Kind {
    let is_whole = number
        .is_some_and(|number| number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0);
    if is_whole { Kind::Integer } else { Kind::Number }
}

impl Schema {
    /// Returns every way in which a value does not fit, up to a limit; an empty list means that it fits.
    pub fn check<D: Datum>(&self, value: &D) -> Vec<Violation> {
        let mut violations = Vec::new();
        self.check_into(value, "", &mut violations);
        violations
    }

    fn check_into<D: Datum>(&self, value: &D, pointer: &str, violations: &mut Vec<Violation>) {
        if violations.len() >= VIOLATIONS_MAX {
            return;
        }
        if !self.takes(value.kind()) {
            note(
                violations,
                pointer,
                format!("expected {}, found {}", self.0.kind.word(), value.kind().word()),
            );
            return;
        }
        self.check_choice(value, pointer, violations);
        self.check_facets(value, pointer, violations);
        if let (Some(schema), Some(items)) = (&self.0.items, value.items()) {
            for (position, item) in items.iter().enumerate() {
                schema.check_into(item, &join(pointer, &position.to_string()), violations);
            }
        }
        if self.0.kind == Kind::Object {
            self.check_fields(value, pointer, violations);
        }
    }

    fn takes(&self, kind: Kind) -> bool {
        match self.0.kind {
            Kind::Any => true,
            Kind::Number => matches!(kind, Kind::Number | Kind::Integer),
            own @ (Kind::Null
            | Kind::Boolean
            | Kind::Integer
            | Kind::Text
            | Kind::List
            | Kind::Object) => own == kind,
        }
    }

    fn check_choice<D: Datum>(&self, value: &D, pointer: &str, violations: &mut Vec<Violation>) {
        let Some(choices) = &self.0.choices else { return };
        let is_same = |choice: &Json| match Datum::kind(choice) {
            Kind::Null => value.kind() == Kind::Null,
            Kind::Text => value.text() == choice.as_str(),
            Kind::Integer | Kind::Number => {
                value.number().is_some() && value.number() == choice.as_f64()
            }
            Kind::Boolean => value.truth() == choice.as_bool(),
            // The reader lets no list and no object in.
            Kind::Any | Kind::List | Kind::Object => false,
        };
        if !choices.iter().any(is_same) {
            let words: Vec<_> = choices.iter().map(Json::to_string).collect();
            note(violations, pointer, format!("expected one of {}", words.join(", ")));
        }
    }

    fn check_facets<D: Datum>(&self, value: &D, pointer: &str, violations: &mut Vec<Violation>) {
        let facets = &self.0.facets;
        if let Some(number) = value.number() {
            if let Some(minimum) = facets.minimum.filter(|minimum| number < *minimum) {
                note(violations, pointer, format!("expected at least {minimum}, found {number}"));
            }
            if let Some(maximum) = facets.maximum.filter(|maximum| number > *maximum) {
                note(violations, pointer, format!("expected at most {maximum}, found {number}"));
            }
        }
        if let Some(text) = value.text() {
            if facets.length_min.is_some() || facets.length_max.is_some() {
                let length = text.chars().count() as u64;
                check_count(
                    length,
                    facets.length_min,
                    facets.length_max,
                    "characters",
                    pointer,
                    violations,
                );
            }
            if let Some(pattern) = facets.pattern.as_ref().filter(|pattern| !pattern.is_match(text))
            {
                note(
                    violations,
                    pointer,
                    format!("does not match the pattern {}", pattern.as_str()),
                );
            }
        }
        if let Some(items) = value.items() {
            check_count(
                items.len() as u64,
                facets.items_min,
                facets.items_max,
                "items",
                pointer,
                violations,
            );
        }
    }

    fn check_fields<D: Datum>(&self, value: &D, pointer: &str, violations: &mut Vec<Violation>) {
        for property in self.0.properties.iter().filter(|property| property.required) {
            if value.field(&property.name).is_none() {
                note(violations, pointer, format!("the field `{}` is missing", property.name));
            }
        }
        for (name, field) in value.fields() {
            match (self.property(name), &self.0.additional) {
                (Some(property), _) => {
                    property.schema.check_into(field, &join(pointer, name), violations)
                }
                (None, Additional::Of(schema)) => {
                    schema.check_into(field, &join(pointer, name), violations)
                }
                (None, Additional::Closed) => {
                    note(
                        violations,
                        &join(pointer, name),
                        format!("there is no field `{name}` here"),
                    );
                }
                (None, Additional::Unsaid | Additional::Open) => {}
            }
        }
    }

    /// Returns the value with every secret replaced by [`SECRET_MASK`].
    pub fn mask(&self, value: &Json) -> Json {
        if !self.0.holds_secret {
            return value.clone();
        }
        if self.0.secret {
            return Json::from(SECRET_MASK);
        }
        match value {
            Json::Object(fields) => Json::Object(
                fields
                    .iter()
                    .map(|(name, field)| {
                        let shown = self
                            .field(name)
                            .map_or_else(|| field.clone(), |schema| schema.mask(field));
                        (name.clone(), shown)
                    })
                    .collect(),
            ),
            Json::Array(items) => {
                let shown = |item| {
                    self.0
                        .items
                        .as_ref()
                        .map_or_else(|| Json::clone(item), |schema| schema.mask(item))
                };
                Json::Array(items.iter().map(shown).collect())
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => value.clone(),
        }
    }
}

fn check_count(
    count: u64,
    min: Option<u64>,
    max: Option<u64>,
    unit: &str,
    pointer: &str,
    violations: &mut Vec<Violation>,
) {
    if let Some(min) = min.filter(|min| count < *min) {
        note(violations, pointer, format!("expected at least {min} {unit}, found {count}"));
    }
    if let Some(max) = max.filter(|max| count > *max) {
        note(violations, pointer, format!("expected at most {max} {unit}, found {count}"));
    }
}

fn note(violations: &mut Vec<Violation>, pointer: &str, message: String) {
    if violations.len() < VIOLATIONS_MAX {
        violations.push(Violation { pointer: pointer.to_owned(), message });
    }
}
