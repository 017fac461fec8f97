//! Query parameters and body members, compared with the row of the route table.
//!
//! What a row does not name is refused, with the names that it does: a filter that is misspelt must not
//! list everything, and a member that is misspelt must not be silently lost.
//!
//! Invariant: after [`Fields::of_query`] or [`check_members`], every value has the kind of its field.

use serde_json::{Map, Value};

use statehouse_contract::{Rejection, limits};

use super::{
    json,
    problem::invalid,
    routes::{Field, Kind},
};

/// The query parameters of a request, decoded.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(Box<str>, Box<str>)>);

impl Fields {
    /// Reads a query and compares it with the row.
    pub(super) fn of_query(query: Option<&str>, allowed: &[Field]) -> Result<Self, Rejection> {
        let Some(query) = query.filter(|text| !text.is_empty()) else {
            return Ok(Self::default());
        };
        let mut found: Vec<(Box<str>, Box<str>)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let Some(field) = allowed.iter().find(|field| *field.name == *name) else {
                return Err(unknown("query parameter", &name, allowed));
            };
            if found.iter().any(|(held, _)| *held == name) {
                return Err(invalid(format!("query parameter {name} comes more than once")));
            }
            if !fits_text(field.kind, &value) {
                return Err(invalid(format!(
                    "query parameter {name} is {value:?}; it takes {}",
                    field.kind.words()
                )));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// Returns a parameter's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(held, _)| **held == *name).map(|(_, value)| &**value)
    }

    /// Returns a parameter's number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|text| text.parse().ok())
    }

    /// Returns whether a flag is set.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text == "true" || text.is_empty())
    }

    /// Returns a wait in milliseconds; longer ones than allowed are refused.
    pub(super) fn wait_ms(&self, name: &str) -> Result<Option<u64>, Rejection> {
        let Some(text) = self.text(name) else { return Ok(None) };
        bounded_wait(name, text).map(Some)
    }
}

/// Reads a wait, at most [`limits::WAIT_MS_MAX`].
pub(super) fn bounded_wait(name: &str, text: &str) -> Result<u64, Rejection> {
    duration_ms(text).filter(|ms| *ms <= limits::WAIT_MS_MAX).ok_or_else(|| {
        invalid(format!(
            "{name} is {text:?}; it takes at most wait_ms_max, {} ms",
            limits::WAIT_MS_MAX
        ))
    })
}

/// Compares the members of a body with the row.
pub(super) fn check_members(
    members: &Map<String, Value>,
    allowed: &[Field],
) -> Result<(), Rejection> {
    for (name, value) in members {
        let Some(field) = allowed.iter().find(|field| field.name == name) else {
            return Err(unknown("body member", name, allowed));
        };
        // A member that may be left out may also be null.
        if !(fits_value(field.kind, value) || value.is_null() && !field.needed) {
            return Err(invalid(format!(
                "body member {name} is {}; it takes {}",
                json::kind(value),
                field.kind.words()
            )));
        }
    }
    match allowed.iter().find(|field| field.needed && !members.contains_key(field.name)) {
        Some(field) => Err(invalid(format!(
            "the body lacks the member {}: {} ({})",
            field.name,
            field.kind.words(),
            field.about
        ))),
        None => Ok(()),
    }
}

/// Returns a member's text, when it is there.
pub(super) fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m str> {
    members.get(name).and_then(Value::as_str)
}

fn unknown(what: &str, name: &str, allowed: &[Field]) -> Rejection {
    let names: Vec<&str> = allowed.iter().map(|field| field.name).collect();
    let advice = if names.is_empty() {
        "none are taken here".to_owned()
    } else {
        format!("allowed are {}", names.join(", "))
    };
    let mut shown: String = name.chars().take(100).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    invalid(format!("there is no {what} {shown:?}; {advice}"))
}

fn fits_text(kind: Kind, text: &str) -> bool {
    match kind {
        Kind::Text => !text.is_empty(),
        Kind::Position => true,
        Kind::Number => {
            text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok()
        }
        // `?dry_run` alone means true.
        Kind::Flag => matches!(text, "true" | "false" | ""),
        Kind::Duration => duration_ms(text).is_some(),
        // Not in a query.
        Kind::Object | Kind::Texts | Kind::Any => false,
    }
}

fn fits_value(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Text | Kind::Position => value.is_string(),
        Kind::Number => value.is_u64(),
        Kind::Flag => value.is_boolean(),
        Kind::Duration => value.as_str().is_some_and(|text| duration_ms(text).is_some()),
        Kind::Object => value.is_object(),
        Kind::Any => true,
        Kind::Texts => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
    }
}

/// Reads `500ms`, `30s`, `2m`.
fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(factor)
}

/// Decodes `%xx` and `+` of a query.
fn decode(text: &str) -> Result<Box<str>, Rejection> {
    if !text.contains(['%', '+']) {
        return Ok(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => {
                let (Some(high), Some(low)) = (nibble(*high), nibble(*low)) else {
                    return Err(broken(text));
                };
                bytes.push(high << 4 | low);
                rest = after;
            }
            (b'%', _) => return Err(broken(text)),
            (other, _) => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map(String::into_boxed_str).map_err(|_| broken(text))
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn broken(text: &str) -> Rejection {
    let shown: String = text.chars().take(100).collect();
    invalid(format!("the query holds {shown:?}, which is not percent-encoded UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::super::routes::{may, must};
    use super::*;

    const FIELDS: &[Field] = &[
        may("limit", Kind::Number, "rows"),
        may("tag", Kind::Text, "tag"),
        may("dry_run", Kind::Flag, "only look"),
        may("wait", Kind::Duration, "wait"),
    ];

    fn query(text: &str) -> String {
        match Fields::of_query(Some(text), FIELDS) {
            Ok(fields) => format!("{:?}", fields.0),
            Err(rejection) => rejection.detail.into(),
        }
    }

    #[test]
    fn a_query_is_decoded_and_compared() {
        let table = [
            "",
            "limit=5&tag=a%20b+c%C3%A9",
            "dry_run",
            "dry_run=yes",
            "limits=5",
            "limit=-1",
            "limit=99999999999999999999",
            "limit=1&limit=2",
            "tag=",
            "tag=%zz",
            "tag=%f",
            "tag=%ff",
            "wait=30s",
            "wait=30",
            "wait=1h",
        ];
        let text: String = table.map(|text| format!("{text} -> {}\n", query(text))).concat();
        expect_test::expect![[r#"
             -> []
            limit=5&tag=a%20b+c%C3%A9 -> [("limit", "5"), ("tag", "a b cé")]
            dry_run -> [("dry_run", "")]
            dry_run=yes -> query parameter dry_run is "yes"; it takes true or false
            limits=5 -> there is no query parameter "limits"; allowed are limit, tag, dry_run, wait
            limit=-1 -> query parameter limit is "-1"; it takes a non-negative integer
            limit=99999999999999999999 -> query parameter limit is "99999999999999999999"; it takes a non-negative integer
            limit=1&limit=2 -> query parameter limit comes more than once
            tag= -> query parameter tag is ""; it takes a text
            tag=%zz -> the query holds "%zz", which is not percent-encoded UTF-8
            tag=%f -> the query holds "%f", which is not percent-encoded UTF-8
            tag=%ff -> the query holds "%ff", which is not percent-encoded UTF-8
            wait=30s -> [("wait", "30s")]
            wait=30 -> query parameter wait is "30"; it takes a duration such as 30s or 500ms
            wait=1h -> query parameter wait is "1h"; it takes a duration such as 30s or 500ms
        "#]].assert_eq(&text);
    }

    #[test]
    fn members_are_compared() {
        const MEMBERS: &[Field] = &[
            must("reason", Kind::Text, "why"),
            may("input", Kind::Object, "input"),
            may("roles", Kind::Texts, "roles"),
        ];
        let said = |text: &str| match serde_json::from_str(text).unwrap() {
            Value::Object(members) => match check_members(&members, MEMBERS) {
                Ok(()) => "fine".to_owned(),
                Err(rejection) => rejection.detail.into(),
            },
            other => panic!("{other}"),
        };
        let table = [
            r#"{"reason": "x", "input": {}, "roles": ["a"]}"#,
            r#"{}"#,
            r#"{"reason": 7}"#,
            r#"{"reason": "x", "roles": ["a", 1]}"#,
            r#"{"reason": "x", "resaon": 1}"#,
        ];
        let text: String = table.map(|text| format!("{text} -> {}\n", said(text))).concat();
        expect_test::expect![[r#"
            {"reason": "x", "input": {}, "roles": ["a"]} -> fine
            {} -> the body lacks the member reason: a text (why)
            {"reason": 7} -> body member reason is a number; it takes a text
            {"reason": "x", "roles": ["a", 1]} -> body member roles is a list; it takes a list of texts
            {"reason": "x", "resaon": 1} -> there is no body member "resaon"; allowed are reason, input, roles
        "#]].assert_eq(&text);
    }

    #[test]
    fn a_wait_has_an_end() {
        assert_eq!(bounded_wait("wait", "60s").unwrap(), 60_000);
        assert!(bounded_wait("wait", "61s").is_err());
        assert!(bounded_wait("wait", "99999999999999999999m").is_err());
    }
}
