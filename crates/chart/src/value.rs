//! Values: the data of an instance, in the one shape that guards, templates and snapshots share.
//!
//! JSON with two additions that only live inside an expression: moments and spans of time. [`Value::settled`] turns those
//! two into text, and everything that is kept (context, payloads, inputs) is settled first; so what a guard sees does not
//! depend on whether the instance was written to disk in between.
//!
//! Integers and doubles stay apart, in memory and in text (`2` and `2.0`), because CEL keeps them apart. Objects are sorted
//! by key, so one value has one text. Large parts are shared, not copied: cloning a context costs one counter.
//!
//! Deliberately absent: unsigned integers, bytes, hash maps.
//!
//! Invariants: an object's keys are sorted and unique; a settled value holds no moment, no span and no number that JSON
//! cannot say, and is nested at most [`DOCUMENT_DEPTH_MAX`] deep.

mod json;

use std::{fmt, sync::Arc};

use statehouse_contract::{limits::DOCUMENT_DEPTH_MAX, time::Timestamp};

/// One value.
#[derive(Clone, Default)]
pub enum Value {
    /// JSON's null.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction, even where the fraction is zero.
    Double(f64),
    /// A text.
    Text(Arc<str>),
    /// A list.
    List(Arc<Vec<Value>>),
    /// An object.
    Map(Arc<Map>),
    /// A point in time, in microseconds since 1970. Only inside expressions.
    Moment(i64),
    /// A length of time, in microseconds. Only inside expressions.
    Span(i64),
}

/// An object: fields sorted by name.
#[derive(Clone, Default, PartialEq)]
pub struct Map(Vec<(Arc<str>, Value)>);

/// Why a value cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Infinity or no number at all: JSON cannot say it.
    #[error("the number is infinite or undefined and cannot be kept")]
    NotFinite,
    /// Nested deeper than a value may be.
    #[error("the value is nested deeper than {DOCUMENT_DEPTH_MAX} levels")]
    TooDeep,
}

impl Map {
    /// Returns an empty object.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the field of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.find(name).ok().map(|index| &self.0[index].1)
    }

    /// Sets a field, in place of an older one of that name.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: Value) {
        let name = name.into();
        match self.find(&name) {
            Ok(index) => self.0[index].1 = value,
            Err(index) => self.0.insert(index, (name, value)),
        }
    }

    /// Removes a field; returns whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        match self.find(name) {
            Ok(index) => {
                self.0.remove(index);
                true
            }
            Err(_) => false,
        }
    }

    /// Returns the fields in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Returns how many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.as_ref().cmp(name))
    }
}

impl FromIterator<(Arc<str>, Value)> for Map {
    /// Collects fields; of two with one name the later one stays.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(fields: I) -> Self {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by(|left, right| left.0.cmp(&right.0));
        fields.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(fields)
    }
}

impl Value {
    /// Returns a text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(Arc::from(text))
    }

    /// Returns a list.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// Returns an object of these fields.
    #[must_use]
    pub fn object<const N: usize>(fields: [(&str, Self); N]) -> Self {
        Self::Map(Arc::new(
            fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect(),
        ))
    }

    /// Returns an empty object.
    #[must_use]
    pub fn empty() -> Self {
        Self::Map(Arc::new(Map::new()))
    }

    /// Returns the moment of a timestamp.
    #[must_use]
    pub fn moment(at: Timestamp) -> Self {
        Self::Moment(at.0.saturating_mul(1_000))
    }

    /// Returns the field of an object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        if let Self::Map(map) = self { map.get(name) } else { None }
    }

    /// Returns the text of a text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Returns the items of a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// Returns the object.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// Returns the CEL name of the value's type.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Moment(_) => "timestamp",
            Self::Span(_) => "duration",
        }
    }

    /// Returns the value as it is kept: moments and spans become text.
    ///
    /// # Errors
    /// When JSON cannot say a number in it, or when it is nested too deep.
    pub fn settled(self) -> Result<Self, Unfit> {
        if self.is_settled(DOCUMENT_DEPTH_MAX)? { Ok(self) } else { self.settle() }
    }

    // Most values are settled already; then nothing is copied.
    fn is_settled(&self, depth: usize) -> Result<bool, Unfit> {
        let inner = || depth.checked_sub(1).ok_or(Unfit::TooDeep);
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Text(_) => Ok(true),
            Self::Double(number) => number.is_finite().then_some(true).ok_or(Unfit::NotFinite),
            Self::Moment(_) | Self::Span(_) => Ok(false),
            Self::List(items) => {
                let depth = inner()?;
                items.iter().try_fold(true, |all, item| Ok(item.is_settled(depth)? && all))
            }
            Self::Map(map) => {
                let depth = inner()?;
                map.iter().try_fold(true, |all, (_, item)| Ok(item.is_settled(depth)? && all))
            }
        }
    }

    fn settle(self) -> Result<Self, Unfit> {
        Ok(match self {
            Self::Moment(us) => Self::text(&moment_text(us)),
            Self::Span(us) => Self::text(&span_text(us)),
            Self::List(items) => Self::list(
                items.iter().map(|item| item.clone().settle()).collect::<Result<_, _>>()?,
            ),
            Self::Map(map) => Self::Map(Arc::new(
                map.iter()
                    .map(|(name, item)| Ok((Arc::clone(name), item.clone().settle()?)))
                    .collect::<Result<_, Unfit>>()?,
            )),
            plain @ (Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Double(_)
            | Self::Text(_)) => plain,
        })
    }
}

/// Returns the RFC 3339 text of a moment, with as many digits of the second as it needs.
#[must_use]
pub fn moment_text(us: i64) -> String {
    let whole = Timestamp(us.div_euclid(1_000_000) * 1_000).to_rfc3339();
    let seconds = whole.trim_end_matches(".000Z");
    match us.rem_euclid(1_000_000) {
        0 => format!("{seconds}Z"),
        rest if rest % 1_000 == 0 => format!("{seconds}.{:03}Z", rest / 1_000),
        rest => format!("{seconds}.{rest:06}Z"),
    }
}

/// Returns the CEL text of a span: seconds with a fraction, such as `90s` or `0.5s`.
#[must_use]
pub fn span_text(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let (whole, rest) = (us.unsigned_abs() / 1_000_000, us.unsigned_abs() % 1_000_000);
    if rest == 0 {
        return format!("{sign}{whole}s");
    }
    let fraction = format!("{rest:06}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

impl PartialEq for Value {
    /// Sameness of representation: `1` is not `1.0`, and a number is itself by its bits. CEL's `==` is in `cel/`.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Int(left), Self::Int(right))
            | (Self::Moment(left), Self::Moment(right))
            | (Self::Span(left), Self::Span(right)) => left == right,
            (Self::Double(left), Self::Double(right)) => left.to_bits() == right.to_bits(),
            (Self::Text(left), Self::Text(right)) => left == right,
            (Self::List(left), Self::List(right)) => Arc::ptr_eq(left, right) || left == right,
            (Self::Map(left), Self::Map(right)) => Arc::ptr_eq(left, right) || left == right,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moment(us) => write!(out, "timestamp({})", moment_text(*us)),
            Self::Span(us) => write!(out, "duration({})", span_text(*us)),
            other => out.write_str(&other.to_text()),
        }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_text())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Arc::from(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_text_and_keeps_integers_and_doubles_apart() {
        let value = Value::parse(r#"{"b":2,"a":2.0,"c":[null,true,"x\n",1e3],"b":3}"#).unwrap();
        assert_eq!(value.to_text(), r#"{"a":2.0,"b":3,"c":[null,true,"x\n",1000.0]}"#);
        assert_eq!(Value::parse(&value.to_text()).unwrap(), value);
    }

    #[test]
    fn moments_and_spans_are_kept_as_text() {
        let value = Value::list(vec![
            Value::Moment(1_500),
            Value::Span(-90_500_000),
            Value::Moment(1_000_000),
        ]);
        let kept = value.settled().unwrap();
        assert_eq!(
            kept.to_text(),
            r#"["1970-01-01T00:00:00.001500Z","-90.5s","1970-01-01T00:00:01Z"]"#
        );
    }

    #[test]
    fn infinity_and_bottomless_nesting_are_not_kept() {
        assert_eq!(Value::Double(f64::INFINITY).settled(), Err(Unfit::NotFinite));
        let mut deep = Value::Null;
        for _ in 0..=DOCUMENT_DEPTH_MAX {
            deep = Value::list(vec![deep]);
        }
        assert_eq!(deep.settled(), Err(Unfit::TooDeep));
    }
}
