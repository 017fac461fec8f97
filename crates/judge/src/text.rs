//! Lenient readers for fields whose form the format leaves to the writer.
//!
//! An id may be a number in one harness and a string in another; a digest may be hex or an object. They are only ever
//! compared, so each becomes text: a string as it is, everything else as compact JSON.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The one field that tells the kind of a line.
#[derive(Deserialize)]
pub(crate) struct Head {
    /// The kind.
    #[serde(default)]
    pub(crate) e: Option<String>,
    /// The format's number, on a heading line.
    #[serde(default)]
    pub(crate) format: Option<u64>,
}

/// Reads any JSON value as text: a string as it is, everything else as compact JSON.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => text,
        other => other.to_string(),
    })
}

pub(crate) fn maybe_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    })
}

pub(crate) fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Null => Vec::new(),
        Value::Array(items) => items
            .into_iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect(),
        other => vec![other.as_str().map_or_else(|| other.to_string(), str::to_owned)],
    })
}

/// Reads a list; `null` is an empty one.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(from)?.unwrap_or_default())
}
