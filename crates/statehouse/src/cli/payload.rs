//! Payloads and inputs on the command line: JSON as a text, from a file, or from standard input.
//!
//! Deliberately absent: any look at what the data means; a server judges payloads against their schemas.

use std::{io::Read as _, path::Path};

use serde_json::Value;

use super::exit::Failure;

/// Reads the value of a flag that carries a JSON object: the text itself, `@FILE`, or `-`.
pub(crate) fn object(flag: &str, text: &str) -> Result<Value, Failure> {
    let value = value(flag, text)?;
    if value.is_object() {
        return Ok(value);
    }
    let reason = format!("{flag} is not a JSON object");
    Err(Failure::usage(reason, format!("write an object, for example {flag} '{{\"amount\": 12}}'")))
}

/// Reads the value of a flag that carries JSON.
pub(crate) fn value(flag: &str, text: &str) -> Result<Value, Failure> {
    let text = read(text)?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(
            format!("{flag} is not JSON: {error}"),
            "put the JSON between single quotes, or give @FILE",
        )
    })
}

fn read(text: &str) -> Result<String, Failure> {
    if let Some(path) = text.strip_prefix('@') {
        let path = Path::new(path);
        return std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error));
    }
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut input = String::new();
    match std::io::stdin().lock().read_to_string(&mut input) {
        Ok(_) => Ok(input),
        Err(error) => Err(Failure::file("read", Path::new("standard input"), &error)),
    }
}
