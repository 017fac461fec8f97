//! JSON from outside, read more strictly than serde_json does.
//!
//! A key twice in one object is refused, because two readers would understand two things; nesting is
//! bounded while reading; key order is kept. Whatever is wrong is told with line and column.
//!
//! Absent on purpose: numbers of any size. What does not fit 64 bits becomes a double, as everywhere in
//! Statehouse; what does not fit a double is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use statehouse_contract::{Rejection, limits};

use super::problem::invalid;

/// Reads a body that has to be one JSON object; no bytes at all mean `{}`.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Rejection> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read =
        Strict { depth: 0 }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match read {
        Ok(Value::Object(members)) => Ok(members),
        Ok(other) => {
            Err(invalid(format!("the body has to be a JSON object; it is {}", kind(&other))))
        }
        Err(error) => Err(malformed(&error)),
    }
}

/// Returns a value's kind, with its article.
pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn malformed(error: &serde_json::Error) -> Rejection {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = text.strip_suffix(&place).unwrap_or(&text);
    invalid(format!(
        "the body cannot be read as JSON: line {}, column {}: {what}",
        error.line(),
        error.column()
    ))
}

/// Reads one value below `depth` containers.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth < limits::DOCUMENT_DEPTH_MAX {
            Ok(Self { depth: self.depth + 1 })
        } else {
            Err(E::custom(format!(
                "lists and objects are nested deeper than document_depth_max, {}",
                limits::DOCUMENT_DEPTH_MAX
            )))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut members = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} comes twice")));
            }
            let value = from.next_value_seed(below)?;
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &[u8]) -> String {
        match object(text) {
            Ok(members) => Value::Object(members).to_string(),
            Err(rejection) => rejection.detail.into(),
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let bomb = "[".repeat(100_000);
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64));
        let table: [&[u8]; 15] = [
            b"{\"a\": 1,\n  \"b\": }",
            b"{\"a\": 1",
            b"{\"a\": 1} x",
            b"{\"a\": 1, \"b\": {\"c\": 1,\n \"c\": 2}}",
            b"[1]",
            b"7",
            b"null",
            b"{\"a\": 1e999}",
            b"{\"a\": NaN}",
            b"{\"a\": \"\xff\"}",
            b"{\"a\": \"\\ud800\"}",
            b"\xef\xbb\xbf{}",
            b"{'a': 1}",
            bomb.as_bytes(),
            deep.as_bytes(),
        ];
        let text: String = table.map(|body| said(body) + "\n").concat();
        expect_test::expect![[r#"
            the body cannot be read as JSON: line 2, column 8: expected value
            the body cannot be read as JSON: line 1, column 7: EOF while parsing an object
            the body cannot be read as JSON: line 1, column 10: trailing characters
            the body cannot be read as JSON: line 2, column 4: the key "c" comes twice
            the body has to be a JSON object; it is a list
            the body has to be a JSON object; it is a number
            the body has to be a JSON object; it is null
            the body cannot be read as JSON: line 1, column 11: number out of range
            the body cannot be read as JSON: line 1, column 7: expected value
            the body cannot be read as JSON: line 1, column 8: invalid unicode code point
            the body cannot be read as JSON: line 1, column 14: unexpected end of hex escape
            the body cannot be read as JSON: line 1, column 1: expected value
            the body cannot be read as JSON: line 1, column 2: key must be a string
            the body cannot be read as JSON: line 1, column 65: lists and objects are nested deeper than document_depth_max, 64
            the body cannot be read as JSON: line 1, column 69: lists and objects are nested deeper than document_depth_max, 64
        "#]].assert_eq(&text);
    }

    #[test]
    fn a_good_object_keeps_its_key_order() {
        assert_eq!(said(b""), "{}");
        assert_eq!(said(b" \n"), "{}");
        assert_eq!(
            said(br#"{"z": [1, -2, 2.5, true, null], "a": {"b": "c"}}"#),
            r#"{"z":[1,-2,2.5,true,null],"a":{"b":"c"}}"#
        );
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(63), "]".repeat(63));
        assert_eq!(said(deep.as_bytes()), deep);
    }
}
