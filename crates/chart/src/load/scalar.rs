//! Plain scalars, typed by the core schema of YAML 1.2.
//!
//! Deliberately absent: what older YAML knew besides: `yes`, `on`, octals with a bare zero, sexagesimals, dates.

use crate::document::Content;

/// Types a plain scalar by the core schema of YAML 1.2; says why a number cannot be kept.
pub(super) fn plain(text: &str) -> Result<Content, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Content::Null),
        "true" | "True" | "TRUE" => return Ok(Content::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Content::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err("is no finite number");
    }
    if let Some(radix) = radix_of(text) {
        let digits = text.get(2..).unwrap_or_default();
        return i64::from_str_radix(digits, radix)
            .map(Content::Integer)
            .map_err(|_| "does not fit a 64-bit integer");
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(Content::Integer).map_err(|_| "does not fit a 64-bit integer");
    }
    if is_float(unsigned) {
        let value: f64 = text.parse().map_err(|_| "is no number")?;
        return if value.is_finite() {
            Ok(Content::Number(value))
        } else {
            Err("does not fit a double")
        };
    }
    Ok(Content::Text(text.into()))
}

fn radix_of(text: &str) -> Option<u32> {
    let (radix, digits) = match text.get(..2)? {
        "0x" => (16, text.get(2..)?),
        "0o" => (8, text.get(2..)?),
        _ => return None,
    };
    (!digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix))).then_some(radix)
}

// Digits with a point or an exponent; at least one digit before the exponent.
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_fits =
        digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !unsigned.is_empty() && digits(unsigned)
    });
    mantissa_fits && exponent_fits && (mantissa.contains('.') || exponent.is_some())
}
