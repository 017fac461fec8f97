//! Types: what the validator knows of a value before there is one.
//!
//! CEL has a parser here and an evaluator, but nothing that says beforehand that `context.amount * 1.1` will fail on the
//! first order. This is that: types come from the schemas, expressions are walked with them, and what is made is compared
//! with the schema of the place it goes to. Where nothing is known the type is `Dyn`, which fits everywhere and is said aloud.
//!
//! Deliberately absent: run time. Nothing here changes what an expression does; it only refuses the ones that would fail.
//!
//! Invariant: every walk is bounded, by the size of the expression or by a budget, whatever the schemas are.

mod check;
mod functions;
mod known;
mod one_of;
mod scope;
mod secrets;

use std::{collections::BTreeMap, fmt, sync::Arc};

use statehouse_contract::limits::CONTEXT_BYTES_MAX;

pub use check::{Checked, Trouble, WHOLE, check};
pub use known::Known;
pub use one_of::OneOf;
pub use scope::{EventKind, EventScope, Scope};
pub use secrets::SecretRead;

use crate::schema::{Additional, Kind, Schema};

/// Items that a list without `maxItems` can have: each takes two bytes of a bounded context.
pub(crate) const ITEMS_MAX: u64 = (CONTEXT_BYTES_MAX / 2) as u64;

/// What is known of a value.
#[derive(Clone, Debug)]
pub enum Type {
    /// Nothing is known.
    Dyn,
    /// No value at all: the item of an empty list.
    Never,
    /// `null`.
    Null,
    /// True or false.
    Bool,
    /// A 64-bit integer.
    Int,
    /// A double.
    Double,
    /// A text; if its values are known, one of them.
    Text(Option<Arc<[Box<str>]>>),
    /// A timestamp.
    Moment,
    /// A duration.
    Span,
    /// A list of values of one type, and the most it can hold.
    List(Arc<Type>, u64),
    /// An object with a schema.
    Object(Schema),
    /// An object whose fields are known one by one.
    Record(Arc<Record>),
    /// The payload of one of several events.
    OneOf(Arc<OneOf>),
}

/// An object made by an expression, a template or the platform.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The fields by name.
    pub fields: BTreeMap<Box<str>, Type>,
}

/// One of the values that a name can stand for.
#[derive(Clone, Debug)]
pub struct Member {
    /// The event it comes with.
    pub event: Box<str>,
    /// What is known of it then.
    pub value: Type,
}

impl Type {
    /// A text of unknown value.
    pub const TEXT: Self = Self::Text(None);

    /// Returns the type of values that fit a schema.
    pub fn of(schema: &Schema) -> Self {
        match schema.kind() {
            Kind::Any => Self::Dyn,
            Kind::Null => Self::Null,
            Kind::Boolean => Self::Bool,
            Kind::Integer => Self::Int,
            Kind::Number => Self::Double,
            Kind::Text => {
                let words = schema
                    .choices()
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|choice| choice.as_str());
                let words: Vec<Box<str>> = words.map(Box::from).collect();
                Self::Text((!words.is_empty()).then(|| words.into()))
            }
            Kind::List => {
                let items = schema.items().map_or(Self::Dyn, Self::of);
                Self::List(Arc::new(items), schema.items_max().unwrap_or(ITEMS_MAX).min(ITEMS_MAX))
            }
            Kind::Object => Self::Object(schema.clone()),
        }
    }

    /// Returns an object with these fields.
    pub fn record<const N: usize>(fields: [(&str, Self); N]) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (Box::from(name), value)).collect();
        Self::Record(Arc::new(Record { fields }))
    }

    /// Returns what is known of a value that has one type or another.
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, known) | (known, Self::Never) => known,
            (Self::Null, Self::Null) => Self::Null,
            (Self::Bool, Self::Bool) => Self::Bool,
            (Self::Int, Self::Int) => Self::Int,
            (Self::Double, Self::Double) => Self::Double,
            (Self::Moment, Self::Moment) => Self::Moment,
            (Self::Span, Self::Span) => Self::Span,
            (Self::Text(left), Self::Text(right)) => {
                Self::Text(left.zip(right).map(|(left, right)| {
                    let more = right.iter().filter(|word| !left.contains(word));
                    left.iter().chain(more).cloned().collect()
                }))
            }
            (Self::List(left, left_max), Self::List(right, right_max)) => Self::List(
                Arc::new((*left).clone().join((*right).clone())),
                left_max.max(right_max),
            ),
            (Self::Object(left), Self::Object(right)) if left.is_same(&right) => Self::Object(left),
            (Self::Record(left), Self::Record(right))
                if left.fields.keys().eq(right.fields.keys()) =>
            {
                let both = left.fields.iter().zip(right.fields.values());
                let fields = both
                    .map(|((name, left), right)| (name.clone(), left.clone().join(right.clone())));
                Self::Record(Arc::new(Record { fields: fields.collect() }))
            }
            _ => Self::Dyn,
        }
    }

    /// Returns whether nothing is known.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    /// Returns whether a value can be of both types.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn | Self::Never | Self::OneOf(_), _)
            | (_, Self::Dyn | Self::Never | Self::OneOf(_)) => true,
            (Self::Null, Self::Null)
            | (Self::Bool, Self::Bool)
            | (Self::Moment, Self::Moment)
            | (Self::Span, Self::Span)
            | (Self::Int | Self::Double, Self::Int | Self::Double)
            | (Self::Object(_) | Self::Record(_), Self::Object(_) | Self::Record(_)) => true,
            (Self::Text(left), Self::Text(right)) => match (left, right) {
                (Some(left), Some(right)) => left.iter().any(|word| right.contains(word)),
                (None, _) | (_, None) => true,
            },
            (Self::List(left, _), Self::List(right, _)) => left.meets(right),
            _ => false,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => out.write_str("unknown"),
            Self::Never => out.write_str("nothing"),
            Self::Null => out.write_str("null"),
            Self::Bool => out.write_str("bool"),
            Self::Int => out.write_str("int"),
            Self::Double => out.write_str("double"),
            Self::Text(None) => out.write_str("string"),
            Self::Text(Some(words)) => match words.as_ref() {
                [word] => write!(out, "'{word}'"),
                words => write!(out, "one of '{}'", words.join("', '")),
            },
            Self::Moment => out.write_str("timestamp"),
            Self::Span => out.write_str("duration"),
            Self::List(items, _) => write!(out, "list of {items}"),
            Self::Object(_) | Self::Record(_) | Self::OneOf(_) => out.write_str("object"),
        }
    }
}

/// Says why values of a type do not fit a schema; nothing, where they do or may.
pub fn misfit(found: &Type, wanted: &Schema) -> Option<String> {
    // Schemas may share parts, so two of them can have more pairs of parts than anyone can walk.
    let mut budget = 2_000;
    misfit_within(found, wanted, "", &mut budget)
}

fn misfit_within(found: &Type, wanted: &Schema, path: &str, budget: &mut u32) -> Option<String> {
    *budget = budget.checked_sub(1)?;
    let kind = wanted.kind();
    let fits = match (found, kind) {
        (Type::Dyn | Type::Never, _) | (_, Kind::Any) => true,
        (Type::OneOf(members), _) => {
            return members
                .iter()
                .find_map(|member| misfit_within(&member.value, wanted, path, budget));
        }
        (Type::Null, Kind::Null)
        | (Type::Bool, Kind::Boolean)
        | (Type::Int, Kind::Integer | Kind::Number) => true,
        (Type::Double, Kind::Number) | (Type::Moment | Type::Span, Kind::Text) => true,
        (Type::Text(words), Kind::Text) => return misfit_words(words.as_deref(), wanted, path),
        (Type::List(items, _), Kind::List) => {
            let wanted = wanted.items()?;
            return misfit_within(items, wanted, &format!("{path}[]"), budget);
        }
        (Type::Object(_) | Type::Record(_), Kind::Object) => {
            return misfit_fields(found, wanted, path, budget);
        }
        _ => false,
    };
    (!fits).then(|| format!("{}expected {}, found {found}", prefix(path), kind.word()))
}

fn prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("`{}`: ", path.trim_start_matches('.')) }
}

fn misfit_words(words: Option<&[Box<str>]>, wanted: &Schema, path: &str) -> Option<String> {
    let choices = wanted.choices()?;
    let is_choice = |word: &str| choices.iter().any(|choice| choice.as_str() == Some(word));
    let stray = words?.iter().find(|word| !is_choice(word.as_ref()))?;
    Some(format!("{}'{stray}' is no value of its `enum`", prefix(path)))
}

fn misfit_fields(found: &Type, wanted: &Schema, path: &str, budget: &mut u32) -> Option<String> {
    if let Type::Object(own) = found {
        if own.is_same(wanted) {
            return None;
        }
        // Of an object without declared fields nothing is known.
        if own.properties().is_empty() && !matches!(own.additional(), Additional::Closed) {
            return None;
        }
    }
    for property in wanted.properties() {
        let inner = format!("{path}.{}", property.name);
        match found.known_field(&property.name) {
            Some((value, is_there)) => {
                if property.required && !is_there {
                    return Some(format!("{}may be missing and is required", prefix(&inner)));
                }
                if let Some(why) = misfit_within(&value, &property.schema, &inner, budget) {
                    return Some(why);
                }
            }
            None if property.required => {
                return Some(format!("{}is missing and is required", prefix(&inner)));
            }
            None => {}
        }
    }
    let stray = |name: &str| {
        wanted.field(name).is_none() && matches!(wanted.additional(), Additional::Closed)
    };
    let names: Vec<&str> = match found {
        Type::Object(own) => own.properties().iter().map(|property| &*property.name).collect(),
        Type::Record(record) => record.fields.keys().map(|name| &**name).collect(),
        _ => Vec::new(),
    };
    let stray = names.into_iter().find(|name| stray(name))?;
    Some(format!("{}there is no field `{stray}` there", prefix(path)))
}

impl Type {
    /// Returns what is known of a field, and whether it is surely there.
    fn known_field(&self, name: &str) -> Option<(Self, bool)> {
        match self {
            Self::Object(schema) => {
                let property = schema.property(name)?;
                Some((Self::of(&property.schema), property.required))
            }
            Self::Record(record) => Some((record.fields.get(name)?.clone(), true)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
