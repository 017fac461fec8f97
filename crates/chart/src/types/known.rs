//! What a condition makes sure of: the fields that are there when it is true, and when it is false.
//!
//! `has(context.x) && context.x > 1` reads `x` only where it is there. CEL's `&&` and `||` absorb an error on either side,
//! so the order of the two sides does not matter, and each side counts for the other.
//!
//! Deliberately absent: values. Only presence is followed.

use std::collections::BTreeSet;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators},
};

/// Paths such as `context.failure.code` that are surely there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(BTreeSet<String>);

impl Known {
    /// Returns whether a path is surely there.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    /// Adds what another condition makes sure of.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// Forgets everything about a name that is given another meaning.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|path| path.split('.').next() != Some(name));
        self
    }

    fn both(mut self, other: &Self) -> Self {
        self.0.retain(|path| other.0.contains(path));
        self
    }

    /// Returns what is sure when a condition is true.
    pub(crate) fn if_true(condition: &IdedExpr) -> Self {
        Self::when(condition, true)
    }

    /// Returns what is sure when a condition is false.
    pub(crate) fn if_false(condition: &IdedExpr) -> Self {
        Self::when(condition, false)
    }

    fn when(condition: &IdedExpr, truth: bool) -> Self {
        match &condition.expr {
            Expr::Select(select) if select.test && truth => match path(&select.operand) {
                // `has(a.b.c)` is an error without `a.b`, so that is there too.
                Some(above) => Self(prefixes(&format!("{above}.{}", select.field))),
                None => Self::default(),
            },
            Expr::Call(call) => Self::when_call(call, truth),
            _ => Self::default(),
        }
    }

    fn when_call(call: &CallExpr, truth: bool) -> Self {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, [part]) => Self::when(part, !truth),
            (operators::LOGICAL_AND, [left, right]) | (operators::LOGICAL_OR, [left, right]) => {
                let is_and = call.func_name == operators::LOGICAL_AND;
                let (left, right) = (Self::when(left, truth), Self::when(right, truth));
                if is_and == truth { left.and(&right) } else { left.both(&right) }
            }
            _ => Self::default(),
        }
    }
}

fn prefixes(path: &str) -> BTreeSet<String> {
    let ends = path.match_indices('.').map(|(end, _)| end).chain([path.len()]);
    ends.filter_map(|end| path.get(..end)).map(str::to_owned).collect()
}

/// Returns the dotted path that an expression spells, if it does.
pub(super) fn path(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", path(&select.operand)?, select.field))
        }
        Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [target, index] => Some(format!("{}.{}", path(target)?, literal_text(index)?)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the text of a text literal.
pub(super) fn literal_text(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}
