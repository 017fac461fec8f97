//! Schemas: what a context, a payload, an input or an output may look like.
//!
//! A small subset of JSON Schema, read once into a tree that three readers walk together with something else: the run-time
//! check with a value, the type checker with an expression, the conversion of numbers with a value on its way into CEL.
//! Small, because each keyword here is a promise that all three keep.
//!
//! Deliberately absent: `oneOf` and its kin, remote references, defaults, formats, recursion (a schema that contains itself
//! is refused, so every walk ends).
//!
//! Invariants: a schema has no cycle and is at most `DOCUMENT_DEPTH_MAX` deep; its patterns are compiled and of bounded size.

mod check;
mod read;

use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

pub use check::{Datum, SECRET_MASK, Violation};
pub use read::Schemas;
pub(crate) use read::compile_pattern;

/// The kind of value that a schema asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No type given: anything.
    Any,
    /// `null`.
    Null,
    /// `boolean`.
    Boolean,
    /// `integer`: becomes CEL's int.
    Integer,
    /// `number`: becomes CEL's double, even for `2`.
    Number,
    /// `string`.
    Text,
    /// `array`.
    List,
    /// `object`.
    Object,
}

impl Kind {
    /// Returns the word that `type` takes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Text => "string",
            Self::List => "array",
            Self::Object => "object",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [
            Self::Null,
            Self::Boolean,
            Self::Integer,
            Self::Number,
            Self::Text,
            Self::List,
            Self::Object,
        ]
        .into_iter()
        .find(|kind| kind.word() == word)
    }
}

/// What an object may have besides its properties.
#[derive(Clone, Debug)]
pub enum Additional {
    /// `additionalProperties` was not written: allowed at run time, but nothing is known of them.
    Unsaid,
    /// `true`: anything.
    Open,
    /// `false`: nothing.
    Closed,
    /// Values of this schema.
    Of(Schema),
}

/// One property of an object.
#[derive(Clone, Debug)]
pub struct Property {
    /// Its name.
    pub name: Box<str>,
    /// What it holds.
    pub schema: Schema,
    /// Whether it must be there.
    pub required: bool,
}

/// A schema; cloning shares.
#[derive(Clone, Debug)]
pub struct Schema(Arc<Body>);

#[derive(Clone, Debug)]
struct Body {
    kind: Kind,
    choices: Option<Vec<Value>>,
    // Sorted by name.
    properties: Vec<Property>,
    additional: Additional,
    items: Option<Schema>,
    facets: Facets,
    secret: bool,
    // Whether a secret is here or below: most values are never walked for masking.
    holds_secret: bool,
    height: usize,
}

/// The keywords that only run time checks.
#[derive(Clone, Debug, Default)]
struct Facets {
    pattern: Option<Regex>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    length_min: Option<u64>,
    length_max: Option<u64>,
    items_min: Option<u64>,
    items_max: Option<u64>,
}

impl Body {
    fn plain(kind: Kind) -> Self {
        Self {
            kind,
            choices: None,
            properties: Vec::new(),
            additional: Additional::Unsaid,
            items: None,
            facets: Facets::default(),
            secret: false,
            holds_secret: false,
            height: 1,
        }
    }
}

impl Schema {
    /// Returns the schema that takes anything.
    pub fn any() -> Self {
        Self::plain(Kind::Any)
    }

    /// Returns a schema that asks for a kind and nothing more.
    pub fn plain(kind: Kind) -> Self {
        Self::from_body(Body::plain(kind))
    }

    /// Returns an object schema with exactly these properties.
    pub fn object(properties: Vec<Property>) -> Self {
        Self::from_body(Body {
            kind: Kind::Object,
            choices: None,
            properties,
            additional: Additional::Closed,
            items: None,
            facets: Facets::default(),
            secret: false,
            holds_secret: false,
            height: 1,
        })
    }

    /// Returns a list schema whose items fit this schema.
    pub fn list_of(items: Self) -> Self {
        Self::from_body(Body { items: Some(items), ..Body::plain(Kind::List) })
    }

    fn from_body(mut body: Body) -> Self {
        body.properties.sort_by(|left, right| left.name.cmp(&right.name));
        let mut height = 0;
        let mut holds_secret = body.secret;
        let extra = match &body.additional {
            Additional::Of(schema) => Some(schema),
            Additional::Unsaid | Additional::Open | Additional::Closed => None,
        };
        let parts = body.properties.iter().map(|property| &property.schema);
        for part in parts.chain(body.items.as_ref()).chain(extra) {
            height = height.max(part.0.height);
            holds_secret |= part.0.holds_secret;
        }
        body.height = height + 1;
        body.holds_secret = holds_secret;
        Self(Arc::new(body))
    }

    /// Returns the same schema for a value that must be masked.
    fn as_secret(&self) -> Self {
        Self::from_body(Body { secret: true, ..(*self.0).clone() })
    }

    /// Returns whether both are the same schema, not only equal ones.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns a number that differs for schemas that are not the same, for as long as they live.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// Returns what kind of value this is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the values that `enum` allows.
    pub fn choices(&self) -> Option<&[Value]> {
        self.0.choices.as_deref()
    }

    /// Returns the declared properties, sorted by name.
    pub fn properties(&self) -> &[Property] {
        &self.0.properties
    }

    /// Returns a declared property.
    pub fn property(&self, name: &str) -> Option<&Property> {
        let properties = &self.0.properties;
        let found = properties.binary_search_by(|property| (*property.name).cmp(name));
        found.ok().and_then(|position| properties.get(position))
    }

    /// Returns what an object may have besides its declared properties.
    pub fn additional(&self) -> &Additional {
        &self.0.additional
    }

    /// Returns the schema of a field: of the declared property, or of all the others; `None` where nothing is known.
    ///
    /// This is the step by which a value and its schema are walked together.
    pub fn field(&self, name: &str) -> Option<&Self> {
        match (self.property(name), &self.0.additional) {
            (Some(property), _) => Some(&property.schema),
            (None, Additional::Of(schema)) => Some(schema),
            (None, Additional::Unsaid | Additional::Open | Additional::Closed) => None,
        }
    }

    /// Returns the schema of a list's items; `None` where nothing is known.
    pub fn items(&self) -> Option<&Self> {
        self.0.items.as_ref()
    }

    /// Returns the most items that a list may have, if that is said.
    pub fn items_max(&self) -> Option<u64> {
        self.0.facets.items_max
    }

    /// Returns whether answers, histories and traces must mask this value.
    pub fn is_secret(&self) -> bool {
        self.0.secret
    }

    /// Returns whether this value or one inside it is a secret.
    pub fn holds_secret(&self) -> bool {
        self.0.holds_secret
    }
}

#[cfg(test)]
mod tests;
