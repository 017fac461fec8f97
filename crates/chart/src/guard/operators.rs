//! The operators, by the types of their sides.
//!
//! Whole numbers and doubles are compared by value but never mixed in arithmetic; overflow and division by zero are errors.
//!
//! Deliberately absent: any conversion that an author did not write.

use std::cmp::Ordering;

use super::{
    evaluate::{Answer, Trouble},
    lower::Operator,
};
use crate::value::Value;

/// Returns what an operator costs beyond its node.
pub(super) fn cost(operator: Operator, left: &Value, right: &Value) -> usize {
    let size = |value: &Value| match value {
        Value::Text(text) => text.len() / 16,
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Double(_)
        | Value::Moment(_)
        | Value::Span(_) => 0,
    };
    match operator {
        // Equality may have to walk the whole of both.
        Operator::Equal | Operator::NotEqual | Operator::In => {
            weight(left).saturating_add(weight(right))
        }
        _ => size(left) + size(right),
    }
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() / 16,
        Value::List(items) => {
            items.iter().fold(items.len(), |sum, item| sum.saturating_add(weight(item)))
        }
        Value::Map(map) => {
            map.iter().fold(map.len(), |sum, (_, item)| sum.saturating_add(weight(item)))
        }
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Double(_)
        | Value::Moment(_)
        | Value::Span(_) => 0,
    }
}

pub(super) fn binary(operator: Operator, left: &Value, right: &Value) -> Answer {
    match operator {
        Operator::Equal => Ok(Value::Bool(equal(left, right))),
        Operator::NotEqual => Ok(Value::Bool(!equal(left, right))),
        Operator::Less => order(left, right, Ordering::is_lt),
        Operator::LessEqual => order(left, right, Ordering::is_le),
        Operator::Greater => order(left, right, Ordering::is_gt),
        Operator::GreaterEqual => order(left, right, Ordering::is_ge),
        Operator::In => contains(right, left),
        Operator::Add => add(left, right),
        Operator::Subtract => subtract(left, right),
        Operator::Multiply => {
            arithmetic("*", left, right, i64::checked_mul, |left, right| left * right)
        }
        Operator::Divide => divide(left, right),
        Operator::Modulo => match (left, right) {
            (Value::Int(_), Value::Int(0)) => Err(Trouble::new("remainder by zero")),
            (Value::Int(left), Value::Int(right)) => {
                left.checked_rem(*right).map(Value::Int).ok_or_else(overflow)
            }
            _ => Err(mismatch("%", left, right)),
        },
    }
}

pub(super) fn negate(value: &Value) -> Answer {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(overflow),
        Value::Double(number) => Ok(Value::Double(-number)),
        other => Err(Trouble::new(format!("`-` does not work on {}", other.type_name()))),
    }
}

/// CEL's `==`: numbers by value, everything else by kind and parts.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Int(left), Value::Double(right)) | (Value::Double(right), Value::Int(left)) => {
            compare_mixed(*left, *right) == Some(Ordering::Equal)
        }
        (Value::Double(left), Value::Double(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len()
                && left.iter().zip(right.iter()).all(|(left, right)| equal(left, right))
        }
        (Value::Map(left), Value::Map(right)) => {
            let mut pairs = left.iter().zip(right.iter());
            left.len() == right.len()
                && pairs
                    .all(|((name, value), (other, theirs))| name == other && equal(value, theirs))
        }
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value, holds: impl Fn(Ordering) -> bool) -> Answer {
    let ordering = match (left, right) {
        (Value::Int(left), Value::Int(right))
        | (Value::Moment(left), Value::Moment(right))
        | (Value::Span(left), Value::Span(right)) => Some(left.cmp(right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Double(right)) => compare_mixed(*left, *right),
        (Value::Double(left), Value::Int(right)) => {
            compare_mixed(*right, *left).map(Ordering::reverse)
        }
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => {
            let message = format!("{} and {} have no order", left.type_name(), right.type_name());
            return Err(Trouble::new(message));
        }
    };
    // Against no number at all every comparison is false.
    Ok(Value::Bool(ordering.is_some_and(holds)))
}

// Exact: turning the integer into a double would lose its last digits.
fn compare_mixed(left: i64, right: f64) -> Option<Ordering> {
    if right.is_nan() {
        return None;
    }
    if right >= 9_223_372_036_854_775_808.0 {
        return Some(Ordering::Less);
    }
    if right < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    let whole = right.trunc();
    let by_whole = left.cmp(&(whole as i64));
    Some(by_whole.then_with(|| 0.0_f64.partial_cmp(&(right - whole)).unwrap_or(Ordering::Equal)))
}

fn contains(container: &Value, part: &Value) -> Answer {
    match (container, part) {
        (Value::List(items), part) => Ok(Value::Bool(items.iter().any(|item| equal(item, part)))),
        (Value::Map(map), Value::Text(name)) => Ok(Value::Bool(map.get(name).is_some())),
        (Value::Map(_), _) => Ok(Value::Bool(false)),
        (other, _) => Err(Trouble::new(format!(
            "`in` looks into lists and maps, not into {}",
            other.type_name()
        ))),
    }
}

/// `container[index]`.
pub(super) fn index<'v>(container: &'v Value, index: &Value) -> Answer<&'v Value> {
    match (container, index) {
        (Value::List(items), Value::Int(place)) => {
            usize::try_from(*place).ok().and_then(|place| items.get(place)).ok_or_else(|| {
                Trouble::new(format!("the index is outside a list of {} items", items.len()))
            })
        }
        (Value::List(items), Value::Double(place)) if place.fract() == 0.0 && *place >= 0.0 => {
            items.get(*place as usize).ok_or_else(|| {
                Trouble::new(format!("the index is outside a list of {} items", items.len()))
            })
        }
        (Value::Map(map), Value::Text(name)) => {
            map.get(name).ok_or_else(|| Trouble::new("there is no such key"))
        }
        _ => Err(Trouble::new(format!(
            "{} has no index of type {}",
            container.type_name(),
            index.type_name()
        ))),
    }
}

fn add(left: &Value, right: &Value) -> Answer {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => {
            Ok(Value::from([left.as_ref(), right.as_ref()].concat()))
        }
        (Value::List(left), Value::List(right)) => {
            Ok(Value::list(left.iter().chain(right.iter()).cloned().collect()))
        }
        (Value::Moment(moment), Value::Span(span)) | (Value::Span(span), Value::Moment(moment)) => {
            moment.checked_add(*span).map(Value::Moment).ok_or_else(overflow)
        }
        (Value::Span(left), Value::Span(right)) => {
            left.checked_add(*right).map(Value::Span).ok_or_else(overflow)
        }
        _ => arithmetic("+", left, right, i64::checked_add, |left, right| left + right),
    }
}

fn subtract(left: &Value, right: &Value) -> Answer {
    match (left, right) {
        (Value::Moment(moment), Value::Span(span)) => {
            moment.checked_sub(*span).map(Value::Moment).ok_or_else(overflow)
        }
        (Value::Moment(left), Value::Moment(right)) | (Value::Span(left), Value::Span(right)) => {
            left.checked_sub(*right).map(Value::Span).ok_or_else(overflow)
        }
        _ => arithmetic("-", left, right, i64::checked_sub, |left, right| left - right),
    }
}

fn divide(left: &Value, right: &Value) -> Answer {
    if let (Value::Int(_), Value::Int(0)) = (left, right) {
        return Err(Trouble::new("division by zero"));
    }
    arithmetic("/", left, right, i64::checked_div, |left, right| left / right)
}

fn arithmetic(
    sign: &str,
    left: &Value,
    right: &Value,
    whole: impl Fn(i64, i64) -> Option<i64>,
    double: impl Fn(f64, f64) -> f64,
) -> Answer {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            whole(*left, *right).map(Value::Int).ok_or_else(overflow)
        }
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(double(*left, *right))),
        _ => Err(mismatch(sign, left, right)),
    }
}

fn overflow() -> Trouble {
    Trouble::new("the result does not fit its type")
}

fn mismatch(sign: &str, left: &Value, right: &Value) -> Trouble {
    Trouble::new(format!(
        "`{sign}` does not work on {} and {}",
        left.type_name(),
        right.type_name()
    ))
}
