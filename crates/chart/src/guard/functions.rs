//! The functions and methods of expressions: the closed list.
//!
//! Deliberately absent: everything that reads a clock, a file or chance, time zones (their rules change between releases),
//! and CEL's extensions.
//!
//! Invariant: a function's answer depends on its arguments alone.

use chrono::{DateTime, Datelike, Timelike};

use super::evaluate::{Answer, Trouble};
use crate::{
    schema,
    value::{Value, moment_text, span_text},
};

/// A function or method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `active(id)`.
    Active,
    /// `size(x)`, `x.size()`.
    Size,
    /// `text.contains(text)`.
    Contains,
    /// `text.startsWith(text)`.
    StartsWith,
    /// `text.endsWith(text)`.
    EndsWith,
    /// `text.matches(pattern)`, `matches(text, pattern)`.
    Matches,
    /// `string(x)`.
    String,
    /// `int(x)`.
    Int,
    /// `double(x)`.
    Double,
    /// `bool(x)`.
    Bool,
    /// `dyn(x)`.
    Dyn,
    /// `duration(text)`.
    Duration,
    /// `timestamp(text)`.
    Timestamp,
    /// A part of a timestamp or duration.
    Part(Part),
}

/// A part of a timestamp, in UTC, or of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `getFullYear`.
    FullYear,
    /// `getMonth`, from 0.
    Month,
    /// `getDate`, the day of the month from 1.
    Date,
    /// `getDayOfMonth`, from 0.
    DayOfMonth,
    /// `getDayOfWeek`, Sunday is 0.
    DayOfWeek,
    /// `getDayOfYear`, from 0.
    DayOfYear,
    /// `getHours`; of a duration: all of them.
    Hours,
    /// `getMinutes`; of a duration: all of them.
    Minutes,
    /// `getSeconds`; of a duration: all of them.
    Seconds,
    /// `getMilliseconds`, those beyond the second.
    Milliseconds,
}

/// Name, whether it is a method, number of arguments with the target, function.
const FUNCTIONS: [(&str, bool, usize, Function); 25] = [
    ("active", false, 1, Function::Active),
    ("size", false, 1, Function::Size),
    ("size", true, 1, Function::Size),
    ("contains", true, 2, Function::Contains),
    ("startsWith", true, 2, Function::StartsWith),
    ("endsWith", true, 2, Function::EndsWith),
    ("matches", true, 2, Function::Matches),
    ("matches", false, 2, Function::Matches),
    ("string", false, 1, Function::String),
    ("int", false, 1, Function::Int),
    ("double", false, 1, Function::Double),
    ("bool", false, 1, Function::Bool),
    ("dyn", false, 1, Function::Dyn),
    ("duration", false, 1, Function::Duration),
    ("timestamp", false, 1, Function::Timestamp),
    ("getFullYear", true, 1, Function::Part(Part::FullYear)),
    ("getMonth", true, 1, Function::Part(Part::Month)),
    ("getDate", true, 1, Function::Part(Part::Date)),
    ("getDayOfMonth", true, 1, Function::Part(Part::DayOfMonth)),
    ("getDayOfWeek", true, 1, Function::Part(Part::DayOfWeek)),
    ("getDayOfYear", true, 1, Function::Part(Part::DayOfYear)),
    ("getHours", true, 1, Function::Part(Part::Hours)),
    ("getMinutes", true, 1, Function::Part(Part::Minutes)),
    ("getSeconds", true, 1, Function::Part(Part::Seconds)),
    ("getMilliseconds", true, 1, Function::Part(Part::Milliseconds)),
];

/// Returns the names of all functions and methods; one that is both comes twice.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|row| row.0)
}

/// Returns the function of that name and shape.
pub(super) fn find(name: &str, is_method: bool, parts: usize) -> Option<Function> {
    let matching =
        |row: &&(&str, bool, usize, Function)| (row.0, row.1, row.2) == (name, is_method, parts);
    FUNCTIONS.iter().find(matching).map(|row| row.3)
}

pub(super) fn call(function: Function, values: &[Value]) -> Answer {
    match (function, values) {
        (Function::Size, [value]) => size(value),
        (Function::Contains, [Value::Text(text), Value::Text(part)]) => {
            Ok(text.contains(part.as_ref()).into())
        }
        (Function::StartsWith, [Value::Text(text), Value::Text(part)]) => {
            Ok(text.starts_with(part.as_ref()).into())
        }
        (Function::EndsWith, [Value::Text(text), Value::Text(part)]) => {
            Ok(text.ends_with(part.as_ref()).into())
        }
        (Function::Matches, [Value::Text(text), Value::Text(pattern)]) => {
            let pattern = schema::compile_pattern(pattern)
                .map_err(|_| Trouble::new("the pattern does not parse"))?;
            Ok(pattern.is_match(text).into())
        }
        (Function::String, [value]) => string(value),
        (Function::Int, [value]) => int(value),
        (Function::Double, [value]) => double(value),
        (Function::Bool, [Value::Bool(truth)]) => Ok((*truth).into()),
        (Function::Bool, [Value::Text(text)]) => match text.as_ref() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(Trouble::new("the text is neither true nor false")),
        },
        (Function::Dyn, [value]) => Ok(value.clone()),
        (Function::Duration, [Value::Span(us)]) => Ok(Value::Span(*us)),
        (Function::Duration, [Value::Text(text)]) => {
            parse_span(text).map(Value::Span).ok_or_else(|| Trouble::new("the text is no duration"))
        }
        (Function::Timestamp, [Value::Moment(us)]) => Ok(Value::Moment(*us)),
        (Function::Timestamp, [Value::Int(seconds)]) => {
            let us = seconds
                .checked_mul(1_000_000)
                .filter(|us| DateTime::from_timestamp_micros(*us).is_some());
            us.map(Value::Moment).ok_or_else(|| Trouble::new("the timestamp is out of range"))
        }
        (Function::Timestamp, [Value::Text(text)]) => {
            let moment = DateTime::parse_from_rfc3339(text)
                .map_err(|_| Trouble::new("the text is no timestamp"))?;
            Ok(Value::Moment(moment.timestamp_micros()))
        }
        (Function::Part(part), [Value::Moment(us)]) => moment_part(part, *us),
        (Function::Part(part), [Value::Span(us)]) => span_part(part, *us),
        _ => {
            let types: Vec<&str> = values.iter().map(Value::type_name).collect();
            Err(Trouble::new(format!("this function does not take ({})", types.join(", "))))
        }
    }
}

fn size(value: &Value) -> Answer {
    let size = match value {
        Value::Text(text) => text.chars().count(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        other => return Err(Trouble::new(format!("{} has no size", other.type_name()))),
    };
    Ok(Value::Int(i64::try_from(size).expect("memory is smaller than 2^63")))
}

fn string(value: &Value) -> Answer {
    Ok(match value {
        Value::Text(_) => value.clone(),
        Value::Bool(truth) => Value::from(truth.to_string()),
        Value::Int(number) => Value::from(number.to_string()),
        Value::Double(number) => Value::from(number.to_string()),
        Value::Moment(us) => Value::from(moment_text(*us)),
        Value::Span(us) => Value::from(span_text(*us)),
        other => {
            return Err(Trouble::new(format!("{} does not become a string", other.type_name())));
        }
    })
}

fn int(value: &Value) -> Answer {
    match value {
        Value::Int(_) => Ok(value.clone()),
        Value::Double(number) if number.abs() < 9_223_372_036_854_775_808.0 => {
            Ok(Value::Int(number.trunc() as i64))
        }
        Value::Double(_) => Err(Trouble::new("the number does not fit an int")),
        Value::Text(text) => {
            text.parse().map(Value::Int).map_err(|_| Trouble::new("the text is no int"))
        }
        Value::Moment(us) => Ok(Value::Int(us.div_euclid(1_000_000))),
        other => Err(Trouble::new(format!("{} does not become an int", other.type_name()))),
    }
}

fn double(value: &Value) -> Answer {
    match value {
        Value::Double(_) => Ok(value.clone()),
        Value::Int(number) => Ok(Value::Double(*number as f64)),
        Value::Text(text) => {
            text.parse().map(Value::Double).map_err(|_| Trouble::new("the text is no double"))
        }
        other => Err(Trouble::new(format!("{} does not become a double", other.type_name()))),
    }
}

fn moment_part(part: Part, us: i64) -> Answer {
    let moment = DateTime::from_timestamp_micros(us)
        .ok_or_else(|| Trouble::new("the timestamp is out of range"))?;
    Ok(Value::Int(match part {
        Part::FullYear => i64::from(moment.year()),
        Part::Month => i64::from(moment.month0()),
        Part::Date => i64::from(moment.day()),
        Part::DayOfMonth => i64::from(moment.day0()),
        Part::DayOfWeek => i64::from(moment.weekday().num_days_from_sunday()),
        Part::DayOfYear => i64::from(moment.ordinal0()),
        Part::Hours => i64::from(moment.hour()),
        Part::Minutes => i64::from(moment.minute()),
        Part::Seconds => i64::from(moment.second()),
        Part::Milliseconds => us.rem_euclid(1_000_000) / 1_000,
    }))
}

fn span_part(part: Part, us: i64) -> Answer {
    Ok(Value::Int(match part {
        Part::Hours => us / 3_600_000_000,
        Part::Minutes => us / 60_000_000,
        Part::Seconds => us / 1_000_000,
        Part::Milliseconds => us % 1_000_000 / 1_000,
        Part::FullYear
        | Part::Month
        | Part::Date
        | Part::DayOfMonth
        | Part::DayOfWeek
        | Part::DayOfYear => {
            return Err(Trouble::new("a duration has no date"));
        }
    }))
}

/// Returns the microseconds of a CEL duration text such as `1h30m`, `-1.5s` or `250us`.
pub(crate) fn parse_span(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let units = [
            ("ms", 1_000_000_i128),
            ("us", 1_000),
            ("ns", 1),
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
        ];
        let (unit, ns) = units.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() > 18 || fraction.len() > 18 || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        total += whole * ns + part * ns / scale;
        rest = &tail[unit.len()..];
    }
    (!text.is_empty()).then(|| i64::try_from(sign * total / 1_000).ok()).flatten()
}
