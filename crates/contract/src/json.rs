//! JSON as it crosses the codec: canonical UTF-8 text, never a tree.
//!
//! bincode cannot read back a `serde_json::Value`; it fails at the first restart. So every JSON value
//! that is stored or sent is a [`Json`]: text that was written by serde_json once and is carried along
//! untouched. Answers embed it as it stands.

use std::sync::Arc;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A JSON value as compact UTF-8 text.
///
/// Invariant: the text is one valid JSON value, because only [`Json::from_value`], [`Json::parse`] and
/// the codec make it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Json(Arc<str>);

impl Json {
    /// Returns the compact text of a value.
    #[must_use]
    pub fn from_value(value: &serde_json::Value) -> Self {
        Self(value.to_string().into())
    }

    /// Takes a text that is one JSON value and writes it compactly, key order kept.
    ///
    /// # Errors
    /// Passes on what serde_json found, with its line and column.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<serde_json::Value>(text).map(|value| Self::from_value(&value))
    }

    /// Returns `{}`.
    #[must_use]
    pub fn empty_object() -> Self {
        Self("{}".into())
    }

    /// Returns `null`.
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Takes a text that was composed from valid JSON texts.
    ///
    /// # Contract
    /// The text is one valid JSON value. Debug builds check it.
    #[must_use]
    pub fn from_trusted(text: String) -> Self {
        debug_assert!(
            serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(),
            "not JSON: {text}"
        );
        Self(text.into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value as a tree.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).expect("the text is one valid JSON value by construction")
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(from).map(|value| Self::from_value(&value))
    }
}
