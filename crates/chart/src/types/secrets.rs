//! Secrets: which values marked `x-secret` an expression reads, and whether what takes its value keeps them secret.
//!
//! A secret is masked by the schema of the place where it stands. Copied into a place whose schema does not say so, it is
//! shown to everybody; so the walk over an expression writes down each secret value, and each object or list with a secret
//! inside, that becomes part of the result or decides it.
//!
//! Deliberately absent: the question which places show their values (`validate/values/`). Guards and tasks may read.
//!
//! Invariant: it errs on the side of secrecy; asking for presence with `has()` reads nothing.

use std::sync::Arc;

use cel::{
    IdedExpr,
    common::ast::{Expr, operators},
};

use super::{Type, one_of::distinct};
use crate::schema::{Additional, Kind, Schema};

/// A secret, or something with a secret inside, that an expression reads.
#[derive(Clone, Debug)]
pub struct SecretRead {
    /// How it is spelled.
    pub shown: String,
    /// The schemas that it can have; several, where it depends on the event.
    pub schemas: Arc<[Schema]>,
}

impl SecretRead {
    /// Returns whether a place would show the secret that is copied into it as it is.
    ///
    /// Schemas may share parts, so two of them can have more pairs of parts than anyone can walk: each pair takes one of
    /// the budget, and once it is spent everything is shown.
    pub fn is_shown_by(&self, place: Option<&Schema>, budget: &mut u32) -> bool {
        self.schemas.iter().any(|schema| is_shown(schema, place, budget))
    }

    /// Returns whether only parts of it are secret, and each part is found again when it is read by itself.
    pub(super) fn is_only_around(&self) -> bool {
        self.schemas.iter().all(is_only_around)
    }
}

fn is_only_around(schema: &Schema) -> bool {
    !schema.is_secret()
        && match schema.kind() {
            // The type of a list of texts does not remember that they are secret.
            Kind::List => schema.items().is_none_or(|items| {
                !items.holds_secret()
                    || (matches!(items.kind(), Kind::Object | Kind::List) && is_only_around(items))
            }),
            Kind::Object => true,
            Kind::Any | Kind::Null | Kind::Boolean | Kind::Integer | Kind::Number | Kind::Text => {
                !schema.holds_secret()
            }
        }
}

fn is_shown(found: &Schema, place: Option<&Schema>, budget: &mut u32) -> bool {
    if !found.holds_secret() || place.is_some_and(|place| place.is_secret() || place.is_same(found))
    {
        return false;
    }
    let Some(left) = budget.checked_sub(1) else { return true };
    *budget = left;
    let others = |schema: &Schema| match schema.additional() {
        Additional::Of(values) => Some(values.clone()),
        Additional::Unsaid | Additional::Open | Additional::Closed => None,
    };
    let mut properties = found.properties().iter();
    found.is_secret()
        || properties.any(|property| {
            let place = place.and_then(|place| place.field(&property.name));
            is_shown(&property.schema, place, budget)
        })
        || found.items().is_some_and(|items| is_shown(items, place.and_then(Schema::items), budget))
        || others(found)
            .is_some_and(|values| is_shown(&values, place.and_then(others).as_ref(), budget))
}

/// Returns the schemas with a secret inside that values of a type can have.
pub(super) fn schemas_of(value: &Type) -> Arc<[Schema]> {
    match value {
        Type::Object(schema) => {
            Some(schema).filter(|schema| schema.holds_secret()).cloned().into_iter().collect()
        }
        Type::List(items, _) => schemas_of(items),
        Type::Record(record) => {
            distinct(record.fields.values().flat_map(|field| schemas_of(field).to_vec()))
        }
        Type::OneOf(members) => members.secrets(),
        Type::Dyn
        | Type::Never
        | Type::Null
        | Type::Bool
        | Type::Int
        | Type::Double
        | Type::Text(_)
        | Type::Moment
        | Type::Span => Arc::default(),
    }
}

/// Returns whether an expression only walks down into a value, by fields and indexes.
pub(super) fn is_plain(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Ident(_) => true,
        Expr::Select(select) => !select.test && is_plain(&select.operand),
        Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [target, index] => {
                matches!(index.expr, Expr::Literal(_) | Expr::Ident(_)) && is_plain(target)
            }
            _ => false,
        },
        _ => false,
    }
}
