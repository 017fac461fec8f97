//! The value of one of several events: what is known of each field, found out once for all expressions that ask.
//!
//! A wildcard can stand for two thousand events, and two thousand guards can ask the same field of them. So the members
//! are compared once for a field, and equal schemas count once.
//!
//! Deliberately absent: findings. `types/check/select.rs` says what is wrong, for the place where it is asked.
//!
//! Invariant: what is kept for one field is bounded by a few names and the schemas that differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{Member, Type, secrets::schemas_of};
use crate::schema::{Additional, Schema};

/// Most names that a message lists, and one to tell that there are more.
const NAMES_MAX: usize = 3;

/// The members, and what was asked of them so far.
#[derive(Debug, Default)]
pub struct OneOf {
    members: Vec<Member>,
    fields: Mutex<BTreeMap<Box<str>, Arc<Merged>>>,
    secrets: OnceLock<Arc<[Schema]>>,
}

/// What is known of one field of all members.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) value: Type,
    /// Events that do not have it: the first few, and how many there are.
    pub(super) without: Vec<Box<str>>,
    pub(super) without_count: usize,
    /// Events of whose payload nothing is known: the first few.
    pub(super) untyped: Vec<Box<str>>,
    /// Whether some event has it only sometimes.
    pub(super) is_optional: bool,
    /// Schemas of it with a secret inside.
    pub(super) secrets: Arc<[Schema]>,
}

impl OneOf {
    /// Takes the members; of several with one schema the first counts.
    pub(super) fn new(members: Vec<Member>) -> Self {
        let mut seen = BTreeSet::new();
        let mut members = members;
        members.retain(|member| match &member.value {
            Type::Object(schema) => seen.insert(schema.identity()),
            _ => true,
        });
        Self { members, ..Self::default() }
    }

    /// Returns the schemas with a secret inside that the value can have.
    pub(super) fn secrets(&self) -> Arc<[Schema]> {
        let find =
            || distinct(self.members.iter().flat_map(|member| schemas_of(&member.value).to_vec()));
        Arc::clone(self.secrets.get_or_init(find))
    }

    /// Returns what is known of a field.
    pub(super) fn field(&self, field: &str) -> Arc<Merged> {
        let mut fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = fields.get(field) {
            return Arc::clone(known);
        }
        let merged = Arc::new(self.merge(field));
        fields.insert(field.into(), Arc::clone(&merged));
        merged
    }

    fn merge(&self, field: &str) -> Merged {
        let mut merged = Merged {
            value: Type::Never,
            without: Vec::new(),
            without_count: 0,
            untyped: Vec::new(),
            is_optional: false,
            secrets: Arc::default(),
        };
        let mut secrets: Vec<Schema> = Vec::new();
        for member in &self.members {
            let found = match &member.value {
                Type::Object(schema) => {
                    let property = schema.property(field);
                    merged.is_optional |= property.is_some_and(|property| !property.required);
                    let is_untold = schema.properties().is_empty()
                        && !matches!(schema.additional(), Additional::Closed);
                    let values = schema.field(field);
                    secrets.extend(values.filter(|values| values.holds_secret()).cloned());
                    values.map(Type::of).or(is_untold.then_some(Type::Dyn))
                }
                Type::Record(record) => {
                    let value = record.fields.get(field).cloned();
                    secrets.extend(value.iter().flat_map(|value| schemas_of(value).to_vec()));
                    value
                }
                Type::Dyn => {
                    if merged.untyped.len() <= NAMES_MAX {
                        merged.untyped.push(member.event.clone());
                    }
                    Some(Type::Dyn)
                }
                _ => None,
            };
            match found {
                Some(found) => {
                    merged.value = std::mem::replace(&mut merged.value, Type::Never).join(found)
                }
                None => {
                    merged.without_count += 1;
                    if merged.without.len() < NAMES_MAX {
                        merged.without.push(member.event.clone());
                    }
                }
            }
        }
        merged.secrets = distinct(secrets.into_iter());
        merged
    }
}

impl Deref for OneOf {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        &self.members
    }
}

/// Returns schemas without repeats.
pub(super) fn distinct(schemas: impl Iterator<Item = Schema>) -> Arc<[Schema]> {
    let mut seen = BTreeSet::new();
    schemas.filter(|schema| seen.insert(schema.identity())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Property;

    #[test]
    fn a_field_of_many_events_is_looked_at_once_and_equal_schemas_count_once() {
        let property = Property { name: "x".into(), schema: Schema::any(), required: false };
        let shared = Schema::object(vec![property]);
        let member = |number: usize, schema: &Schema| Member {
            event: format!("e{number}").into(),
            value: Type::Object(schema.clone()),
        };
        let mut members: Vec<Member> = (0..100).map(|number| member(number, &shared)).collect();
        members.extend((100..110).map(|number| member(number, &Schema::object(Vec::new()))));
        let one_of = OneOf::new(members);
        assert_eq!(one_of.len(), 11);
        let merged = one_of.field("x");
        assert!(Arc::ptr_eq(&merged, &one_of.field("x")));
        assert_eq!((merged.without.len(), merged.without_count, merged.is_optional), (3, 10, true));
    }
}
