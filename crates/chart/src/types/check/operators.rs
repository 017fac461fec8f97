//! Operators: what they take and give, and the truths that need no data.
//!
//! Deliberately absent: conversions. CEL has none between int and double, and that is the mistake most often made.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};

use super::{Known, Type, Walk};
use crate::{finding::FindingCode, types::ITEMS_MAX};

impl Walk<'_> {
    /// Returns the type of an operator's value; nothing, if there is no such operator.
    pub(super) fn operator(&mut self, name: &str, parts: &[IdedExpr]) -> Option<Type> {
        Some(match (name, parts) {
            (operators::LOGICAL_NOT, [part]) => {
                let found = self.value(part);
                self.expect(&found, &Type::Bool, "what `!` takes");
                Type::Bool
            }
            (operators::NEGATE, [part]) => self.negate(part),
            (operators::NOT_STRICTLY_FALSE, [_]) => Type::Bool,
            (operators::LOGICAL_AND, [left, right]) => self.both_sides("&&", left, right),
            (operators::LOGICAL_OR, [left, right]) => self.both_sides("||", left, right),
            (operators::CONDITIONAL, [condition, yes, no]) => self.conditional(condition, yes, no),
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => {
                let (left, right) = (self.value(left), self.value(right));
                self.check_comparable(&left, &right);
                Type::Bool
            }
            (
                operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS,
                [left, right],
            ) => {
                let (left, right) = (self.value(left), self.value(right));
                self.check_ordered(&left, &right);
                Type::Bool
            }
            (operators::IN, [item, range]) => {
                let (item, range) = (self.value(item), self.value(range));
                self.check_in(&item, &range);
                Type::Bool
            }
            (operators::ADD, [left, right]) => self.arithmetic("+", left, right),
            (operators::SUBSTRACT, [left, right]) => self.arithmetic("-", left, right),
            (operators::MULTIPLY, [left, right]) => self.arithmetic("*", left, right),
            (operators::DIVIDE, [left, right]) => self.arithmetic("/", left, right),
            (operators::MODULO, [left, right]) => self.arithmetic("%", left, right),
            _ => return None,
        })
    }

    fn negate(&mut self, part: &IdedExpr) -> Type {
        match self.value(part) {
            found @ (Type::Int | Type::Double | Type::Dyn) => found,
            Type::Never | Type::OneOf(_) => Type::Dyn,
            found => {
                self.note(
                    FindingCode::TypeError,
                    format!("`-` takes a number, found {found}"),
                    "use a number",
                );
                Type::Dyn
            }
        }
    }

    /// Checks both sides of `&&` or `||`, each with what the other makes sure of.
    fn both_sides(&mut self, shown: &str, left: &IdedExpr, right: &IdedExpr) -> Type {
        let sure: fn(&IdedExpr) -> Known =
            if shown == "&&" { Known::if_true } else { Known::if_false };
        let before = self.known.clone();
        for (side, other) in [(left, right), (right, left)] {
            self.known = before.clone().and(&sure(other));
            let found = self.value(side);
            self.expect(&found, &Type::Bool, &format!("a side of `{shown}`"));
        }
        self.known = before;
        Type::Bool
    }

    fn conditional(&mut self, condition: &IdedExpr, yes: &IdedExpr, no: &IdedExpr) -> Type {
        let found = self.value(condition);
        self.expect(&found, &Type::Bool, "the condition of `?:`");
        let before = self.known.clone();
        self.known = before.clone().and(&Known::if_true(condition));
        let yes = self.value(yes);
        self.known = before.clone().and(&Known::if_false(condition));
        let no = self.value(no);
        self.known = before;
        yes.join(no)
    }

    fn check_comparable(&mut self, left: &Type, right: &Type) {
        if left.meets(right) {
            return;
        }
        let message = format!("{left} and {right} are never equal");
        let advice = match (left, right) {
            (Type::Null, _) | (_, Type::Null) => {
                "an optional field is missing, not null: ask `has()`"
            }
            (Type::Text(_), Type::Text(_)) => {
                "mind the spelling; the `enum` of the schema has no such value"
            }
            _ => "convert one of them first",
        };
        self.note(FindingCode::TypeError, message, advice);
    }

    fn check_ordered(&mut self, left: &Type, right: &Type) {
        let is_ordered = |found: &Type| {
            !matches!(found, Type::Null | Type::List(..) | Type::Object(_) | Type::Record(_))
        };
        let words_meet = matches!((left, right), (Type::Text(_), Type::Text(_)));
        if !(is_ordered(left) && is_ordered(right) && (left.meets(right) || words_meet)) {
            let message = format!("{left} and {right} have no order");
            self.note(
                FindingCode::TypeError,
                message,
                "compare two numbers, two strings, two timestamps or two durations",
            );
        }
    }

    fn check_in(&mut self, item: &Type, range: &Type) {
        let trouble = match range {
            Type::List(items, _) if item.meets(items) => return,
            Type::List(items, _) => format!("{item} is never in a list of {items}"),
            Type::Object(_) | Type::Record(_) if item.meets(&Type::TEXT) => return,
            Type::Object(_) | Type::Record(_) => format!("{item} is never a key of an object"),
            Type::Dyn | Type::Never | Type::OneOf(_) => return,
            other => format!("`in` looks into a list or an object, found {other}"),
        };
        self.note(FindingCode::TypeError, trouble, "mind the types of both sides");
    }

    fn arithmetic(&mut self, shown: &str, left: &IdedExpr, right: &IdedExpr) -> Type {
        let (left, right) = (self.value(left), self.value(right));
        match (shown, &left, &right) {
            (_, Type::Dyn | Type::Never | Type::OneOf(_), _)
            | (_, _, Type::Dyn | Type::Never | Type::OneOf(_)) => Type::Dyn,
            (_, Type::Int, Type::Int) => Type::Int,
            ("+" | "-" | "*" | "/", Type::Double, Type::Double) => Type::Double,
            ("+", Type::Text(_), Type::Text(_)) => Type::TEXT,
            ("+", Type::List(left, left_max), Type::List(right, right_max)) => {
                let items = (**left).clone().join((**right).clone());
                Type::List(items.into(), left_max.saturating_add(*right_max).min(ITEMS_MAX))
            }
            ("+", Type::Moment, Type::Span)
            | ("+", Type::Span, Type::Moment)
            | ("-", Type::Moment, Type::Span) => Type::Moment,
            ("+" | "-", Type::Span, Type::Span) | ("-", Type::Moment, Type::Moment) => Type::Span,
            _ => {
                let message = format!("`{shown}` does not take {left} and {right}");
                let advice = match (&left, &right) {
                    (Type::Int, Type::Double) | (Type::Double, Type::Int) => {
                        "CEL does not mix them: write `double(…)` around the int, or `2.0` for `2`"
                    }
                    (Type::Text(_), _) | (_, Type::Text(_)) if shown == "+" => {
                        "write `string(…)` around the other side"
                    }
                    _ => "convert one of them first",
                };
                self.note(FindingCode::TypeError, message, advice);
                Type::Dyn
            }
        }
    }
}

/// A value that is written out.
#[derive(PartialEq)]
enum Constant<'e> {
    Truth(bool),
    Int(i64),
    Text(&'e str),
}

/// Returns the truth value of an expression that is the same whatever the data.
pub(super) fn constant_truth(expression: &IdedExpr) -> Option<bool> {
    match constant(expression)? {
        Constant::Truth(truth) => Some(truth),
        Constant::Int(_) | Constant::Text(_) => None,
    }
}

fn constant(expression: &IdedExpr) -> Option<Constant<'_>> {
    match &expression.expr {
        Expr::Literal(LiteralValue::Boolean(truth)) => Some(Constant::Truth(*truth.inner())),
        Expr::Literal(LiteralValue::Int(number)) => Some(Constant::Int(*number.inner())),
        Expr::Literal(LiteralValue::String(text)) => Some(Constant::Text(text.inner())),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, [part]) => {
                constant_truth(part).map(|truth| Constant::Truth(!truth))
            }
            (operators::CONDITIONAL, [condition, yes, no]) => {
                constant(if constant_truth(condition)? { yes } else { no })
            }
            (operator, [left, right]) => constant_pair(operator, left, right).map(Constant::Truth),
            _ => None,
        },
        _ => None,
    }
}

fn constant_pair(operator: &str, left: &IdedExpr, right: &IdedExpr) -> Option<bool> {
    // One side is enough where it decides.
    let sides = || (constant_truth(left), constant_truth(right));
    match operator {
        operators::LOGICAL_AND => {
            return match sides() {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                (Some(true) | None, None) | (None, Some(true)) => None,
            };
        }
        operators::LOGICAL_OR => {
            return match sides() {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                (Some(false) | None, None) | (None, Some(false)) => None,
            };
        }
        _ => {}
    }
    let (left, right) = (constant(left)?, constant(right)?);
    match (operator, &left, &right) {
        (operators::EQUALS, ..) => Some(left == right),
        (operators::NOT_EQUALS, ..) => Some(left != right),
        (operators::LESS, Constant::Int(left), Constant::Int(right)) => Some(left < right),
        (operators::LESS_EQUALS, Constant::Int(left), Constant::Int(right)) => Some(left <= right),
        (operators::GREATER, Constant::Int(left), Constant::Int(right)) => Some(left > right),
        (operators::GREATER_EQUALS, Constant::Int(left), Constant::Int(right)) => {
            Some(left >= right)
        }
        _ => None,
    }
}
