//! From a document's nodes to schemas, with every trouble found on the way.
//!
//! Named schemas are read when they are first referred to, so their order does not matter; one that is asked for while it
//! is being read contains itself and is refused. After a finding the reader goes on with "anything", so that one mistake
//! does not hide the next.
//!
//! Deliberately absent: the question who uses a schema (the validator asks it).
//!
//! Invariant: whatever the schemas, reading ends; references are followed at most as deep as a document may nest.

mod facets;

use std::collections::BTreeMap;

use serde_json::Value;

use statehouse_contract::limits::DOCUMENT_DEPTH_MAX;

use super::{Additional, Body, Kind, Property, Schema};
use crate::{
    document::{Content, Document, Node, Object},
    finding::{Finding, FindingCode, join},
};

/// Findings after which schemas are no longer looked at: nobody reads more.
const FINDINGS_MAX: usize = 1_000;

const KEYWORDS: &str = "type, properties, required, items, enum, additionalProperties, $ref, pattern, minimum, \
    maximum, minLength, maxLength, minItems, maxItems, description and x-*";

pub(crate) use facets::compile_pattern;

/// The schemas of one definition, by name.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    named: BTreeMap<Box<str>, Reading>,
    patterns: usize,
    failures: usize,
}

/// What is known of a name; after [`Schemas::read`] every name is done.
#[derive(Clone, Debug)]
enum Reading {
    Open,
    Done(Schema),
}

impl Schemas {
    /// Reads everything under `schemas`.
    pub fn read(document: &Document, findings: &mut Vec<Finding>) -> Self {
        let Some(object) =
            document.root().as_object().and_then(|root| root.get("schemas")?.as_object())
        else {
            return Self::default();
        };
        let mut schemas = Self::default();
        let mut reader = Reader { schemas: &mut schemas, source: Some(object), findings };
        for entry in object.entries() {
            reader.named(&entry.key, 0);
        }
        schemas
    }

    /// Returns the schema of that name.
    pub fn get(&self, name: &str) -> Option<&Schema> {
        match self.named.get(name)? {
            Reading::Done(schema) => Some(schema),
            Reading::Open => None,
        }
    }

    /// Reads a schema that stands elsewhere in the document; its `$ref`s mean these schemas.
    pub fn parse(&mut self, node: &Node, pointer: &str, findings: &mut Vec<Finding>) -> Schema {
        Reader { schemas: self, source: None, findings }.schema(node, pointer, 0)
    }
}

struct Reader<'a> {
    schemas: &'a mut Schemas,
    source: Option<&'a Object>,
    findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    /// Returns the named schema; `None` if there is none or it contains itself.
    fn named(&mut self, name: &str, depth: usize) -> Option<Schema> {
        match self.schemas.named.get(name) {
            Some(Reading::Done(schema)) => return Some(schema.clone()),
            Some(Reading::Open) => return None,
            None => {}
        }
        let node = self.source?.get(name)?;
        self.schemas.named.insert(name.into(), Reading::Open);
        let schema = self.schema(node, &join("/schemas", name), depth);
        self.schemas.named.insert(name.into(), Reading::Done(schema.clone()));
        Some(schema)
    }

    fn schema(&mut self, node: &Node, pointer: &str, depth: usize) -> Schema {
        if self.findings.len() > FINDINGS_MAX {
            return Schema::any();
        }
        let Some(object) = node.as_object() else {
            let message = format!("a schema is an object; this is {}", node.kind());
            self.note(node, pointer, message, "write `{type: string}` or the like");
            return Schema::any();
        };
        if depth > DOCUMENT_DEPTH_MAX {
            self.note(node, pointer, "schemas are nested too deep", "make the nested part flatter");
            return Schema::any();
        }
        self.check_keywords(object, pointer);
        if let Some(reference) = object.get("$ref") {
            return self.reference(object, reference, pointer, depth);
        }
        let choices = self.choices(object, pointer);
        let kind = self.kind(object, pointer, choices.as_deref());
        let properties = self.properties(object, pointer, depth);
        let additional = self.additional(object, pointer, depth);
        let items =
            object.get("items").map(|items| self.schema(items, &join(pointer, "items"), depth + 1));
        let facets = self.facets(object, pointer);
        self.check_applicable(object, pointer, kind);
        let secret = self.secret(object, pointer);
        let body = Body {
            kind,
            choices,
            properties,
            additional,
            items,
            facets,
            secret,
            holds_secret: false,
            height: 1,
        };
        let schema = Schema::from_body(body);
        if schema.0.height > DOCUMENT_DEPTH_MAX {
            self.note(node, pointer, "schemas are nested too deep", "make the nested part flatter");
            return Schema::any();
        }
        schema
    }

    fn check_keywords(&mut self, object: &Object, pointer: &str) {
        for entry in object.entries() {
            let known = matches!(
                &*entry.key,
                "type"
                    | "properties"
                    | "required"
                    | "items"
                    | "enum"
                    | "additionalProperties"
                    | "$ref"
                    | "pattern"
                    | "minimum"
                    | "maximum"
                    | "minLength"
                    | "maxLength"
                    | "minItems"
                    | "maxItems"
                    | "description"
            );
            if !known && !entry.key.starts_with("x-") {
                self.findings.push(Finding::new(
                    FindingCode::BadSchema,
                    join(pointer, &entry.key),
                    entry.key_place,
                    format!("the schema keyword `{}` does not exist here", entry.key),
                    format!("a schema knows {KEYWORDS}"),
                ));
            }
        }
    }

    fn reference(
        &mut self,
        object: &Object,
        reference: &Node,
        pointer: &str,
        depth: usize,
    ) -> Schema {
        let spot = join(pointer, "$ref");
        for entry in object.entries() {
            if !matches!(&*entry.key, "$ref" | "description") && !entry.key.starts_with("x-") {
                let beside = join(pointer, &entry.key);
                self.note(
                    &entry.node,
                    &beside,
                    "nothing else may stand beside `$ref`",
                    "put it into the named schema",
                );
            }
        }
        let secret = self.secret(object, pointer);
        let Some(name) = reference.as_text().and_then(|text| text.strip_prefix("#/schemas/"))
        else {
            self.note(reference, &spot, "a `$ref` is local", "write `#/schemas/<name>`");
            return Schema::any();
        };
        let is_open = matches!(self.schemas.named.get(name), Some(Reading::Open));
        match self.named(name, depth + 1) {
            Some(schema) if secret => schema.as_secret(),
            Some(schema) => schema,
            None if is_open => {
                let message = format!("the schema `{name}` contains itself");
                self.note(
                    reference,
                    &spot,
                    message,
                    "recursive values have no bounded size; flatten them",
                );
                Schema::any()
            }
            None => {
                self.findings.push(Finding::new(
                    FindingCode::UndefinedSchema,
                    spot,
                    reference.place,
                    format!("there is no schema `{name}`"),
                    "declare it under `schemas`",
                ));
                Schema::any()
            }
        }
    }

    fn secret(&mut self, object: &Object, pointer: &str) -> bool {
        let Some(node) = object.get("x-secret") else { return false };
        node.as_bool().unwrap_or_else(|| {
            // Rather masked than shown.
            self.note(
                node,
                &join(pointer, "x-secret"),
                "`x-secret` is true or false",
                "write `x-secret: true`",
            );
            true
        })
    }

    fn choices(&mut self, object: &Object, pointer: &str) -> Option<Vec<Value>> {
        let node = object.get("enum")?;
        let spot = join(pointer, "enum");
        let items = match node.as_list() {
            Some(items) if !items.is_empty() => items,
            Some(_) | None => {
                self.note(node, &spot, "`enum` is a list of at least one value", "write `[a, b]`");
                return None;
            }
        };
        let mut choices = Vec::new();
        for (position, item) in items.iter().enumerate() {
            match &item.content {
                Content::List(_) | Content::Object(_) => {
                    let spot = join(&spot, &position.to_string());
                    self.note(
                        item,
                        &spot,
                        "`enum` holds plain values only",
                        "use `properties` or `items`",
                    );
                }
                Content::Null
                | Content::Bool(_)
                | Content::Integer(_)
                | Content::Number(_)
                | Content::Text(_) => choices.push(item.to_json()),
            }
        }
        Some(choices)
    }

    /// Returns the kind that `type` says, or that all choices share.
    fn kind(&mut self, object: &Object, pointer: &str, choices: Option<&[Value]>) -> Kind {
        let mut kinds = choices.unwrap_or_default().iter().map(kind_of);
        let first = kinds.next().unwrap_or(Kind::Any);
        let shared = if kinds.all(|kind| kind == first) { first } else { Kind::Any };
        let Some(node) = object.get("type") else { return shared };
        let spot = join(pointer, "type");
        let Some(kind) = node.as_text().and_then(Kind::of_word) else {
            self.note(
                node,
                &spot,
                "`type` is one of string, integer, number, boolean, object, array, null",
                "name one type; leave a property out of `required` instead of allowing null",
            );
            return shared;
        };
        let fits = |choice: &Value| {
            let own = kind_of(choice);
            own == kind || (kind == Kind::Number && own == Kind::Integer)
        };
        if !choices.unwrap_or_default().iter().all(fits) {
            self.note(node, &spot, "a value of `enum` is not of this type", "make them agree");
        }
        kind
    }

    fn properties(&mut self, object: &Object, pointer: &str, depth: usize) -> Vec<Property> {
        let required = self.required(object, pointer);
        let declared = match object.get("properties") {
            None => None,
            Some(node) => {
                let found = node.as_object();
                if found.is_none() {
                    let spot = join(pointer, "properties");
                    self.note(
                        node,
                        &spot,
                        "`properties` is an object of schemas",
                        "write `{name: {type: string}}`",
                    );
                }
                found
            }
        };
        let spot = join(pointer, "properties");
        let mut properties = Vec::new();
        for entry in declared.map(Object::entries).unwrap_or_default() {
            let schema = self.schema(&entry.node, &join(&spot, &entry.key), depth + 1);
            let required = required.contains_key(&*entry.key);
            properties.push(Property { name: entry.key.clone(), schema, required });
        }
        for (name, (spot, node)) in required {
            if declared.and_then(|declared| declared.entry(name)).is_none() {
                let message = format!("`required` names `{name}`, which is no property");
                self.note(node, &spot, message, "declare it under `properties`");
            }
        }
        properties
    }

    fn required<'d>(
        &mut self,
        object: &'d Object,
        pointer: &str,
    ) -> BTreeMap<&'d str, (String, &'d Node)> {
        let mut required = BTreeMap::new();
        let Some(node) = object.get("required") else { return required };
        let spot = join(pointer, "required");
        let Some(items) = node.as_list() else {
            self.note(node, &spot, "`required` is a list of property names", "write `[name]`");
            return required;
        };
        for (position, item) in items.iter().enumerate() {
            let spot = join(&spot, &position.to_string());
            match item.as_text() {
                Some(name) => {
                    required.entry(name).or_insert((spot, item));
                }
                None => self.note(
                    item,
                    &spot,
                    "`required` is a list of property names",
                    "write `[name]`",
                ),
            }
        }
        required
    }

    fn additional(&mut self, object: &Object, pointer: &str, depth: usize) -> Additional {
        let Some(node) = object.get("additionalProperties") else { return Additional::Unsaid };
        match node.as_bool() {
            Some(true) => Additional::Open,
            Some(false) => Additional::Closed,
            None => {
                Additional::Of(self.schema(node, &join(pointer, "additionalProperties"), depth + 1))
            }
        }
    }

    fn note(&mut self, node: &Node, pointer: &str, message: impl Into<String>, advice: &str) {
        self.findings.push(Finding::new(
            FindingCode::BadSchema,
            pointer,
            node.place,
            message,
            advice,
        ));
    }
}

fn kind_of(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Boolean,
        Value::Number(number) if number.is_f64() => Kind::Number,
        Value::Number(_) => Kind::Integer,
        Value::String(_) => Kind::Text,
        Value::Array(_) => Kind::List,
        Value::Object(_) => Kind::Object,
    }
}
