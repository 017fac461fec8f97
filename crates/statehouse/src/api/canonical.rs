//! One text for every JSON value: RFC 8785, the JSON Canonicalization Scheme.
//!
//! The fingerprint of a request is taken of this text, so that a repeat may order its keys and write its
//! numbers as it likes. Keys are sorted by UTF-16 code units, numbers are written as ECMAScript writes them.
//!
//! One departure: integers beyond 2^53, which RFC 8785 would round to a double, keep all their digits.
//! Statehouse keeps them exactly, so two of them must not look like one request.
//!
//! Absent on purpose: parsing, and floats that are not finite (JSON has none).

use serde_json::{Map, Number, Value};

use statehouse_contract::Digest;

/// Returns the fingerprint by which `key_reused` tells requests apart.
pub(super) fn fingerprint(verb: &str, event: &str, members: &Map<String, Value>) -> Digest {
    let mut text = Vec::with_capacity(256);
    for word in [verb, event] {
        text.extend_from_slice(word.as_bytes());
        text.push(0);
    }
    write_object(members, &mut text);
    Digest::of(&text)
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => write_object(members, out),
    }
}

fn write_object(members: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| {
        // ASCII sorts alike in both forms, and nearly every key is ASCII.
        if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
    });
    out.push(b'{');
    for (place, (key, value)) in sorted.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_text(key, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\r' => out.extend_from_slice(b"\\r"),
            control if control < ' ' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            other => {
                let mut bytes = [0; 4];
                out.extend_from_slice(other.encode_utf8(&mut bytes).as_bytes());
            }
        }
    }
    out.push(b'"');
}

fn write_number(number: &Number, out: &mut Vec<u8>) {
    let text = match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(whole), _, _) => whole.to_string(),
        (None, Some(whole), _) => whole.to_string(),
        (None, None, Some(double)) => double_text(double),
        // Without arbitrary precision every number is one of the three.
        (None, None, None) => number.to_string(),
    };
    out.extend_from_slice(text.as_bytes());
}

/// Writes a finite double as ECMAScript's `Number::toString` does (ECMA-262, 6.1.6.1.20).
fn double_text(double: f64) -> String {
    if double == 0.0 {
        return "0".to_owned();
    }
    let (digits, exponent) = shortest(double.abs());
    let sign = if double < 0.0 { "-" } else { "" };
    // ECMA-262's names: k digits, and the value is 0.digits times 10 to the n.
    let k = i32::try_from(digits.len()).expect("a double has at most 17 digits");
    let n = exponent + 1;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    if k <= n && n <= 21 {
        return format!("{sign}{digits}{}", zeros(n - k));
    }
    if 0 < n && n <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(n).expect("above zero"));
        return format!("{sign}{whole}.{fraction}");
    }
    if -6 < n && n <= 0 {
        return format!("{sign}0.{}{digits}", zeros(-n));
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let plus = if exponent > 0 { "+" } else { "" };
    format!("{sign}{first}{point}{rest}e{plus}{exponent}")
}

/// Returns the shortest digits that read back as the same double, and the power of ten of the first one.
///
/// They are taken from serde_json's own text: where two are equally short and near, it takes the even one,
/// as ECMAScript does (Rust's formatter does not).
fn shortest(double: f64) -> (String, i32) {
    let text = Number::from_f64(double).map(|number| number.to_string()).unwrap_or_default();
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let zeros = digits.len() - significant.len();
    let power: i32 = power.parse().expect("the exponent is a small integer");
    let places = |count: usize| i32::try_from(count).expect("a double's text is short");
    let exponent = power + places(whole.len()) - 1 - places(zeros);
    (significant.trim_end_matches('0').to_owned(), exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let value: Value = serde_json::from_str(text).unwrap();
        let mut out = Vec::new();
        write(&value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_written_as_ecmascript_writes_them() {
        // Appendix B of RFC 8785: bits of the double, expected text.
        let vectors: [(u64, &str); 25] = [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
            (0x3ff0_0000_0000_0000, "1"),
        ];
        for (bits, expected) in vectors {
            assert_eq!(double_text(f64::from_bits(bits)), expected, "{bits:016x}");
        }
    }

    #[test]
    fn the_example_of_the_rfc_comes_out_byte_for_byte() {
        // Section 3.2.2 and 3.2.3 of RFC 8785.
        let text = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(canonical(text), expected);
    }

    #[test]
    fn keys_are_sorted_by_utf_16_code_units() {
        // Section 3.2.3 of RFC 8785: the emoji's first unit is a surrogate and sorts before U+FB33.
        let text = r#"{"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\ud83d\ude00": 5, "\u0080": 6, "\u00f6": 7}"#;
        let expected = "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}";
        assert_eq!(canonical(text), expected);
    }

    #[test]
    fn integers_beyond_doubles_keep_their_digits() {
        assert_eq!(
            canonical("[9007199254740993, -9007199254740993, 18446744073709551615]"),
            "[9007199254740993,-9007199254740993,18446744073709551615]"
        );
        assert_eq!(canonical("[1, 1.0, 1e0, -0, -0.0, 10e-1]"), "[1,1,1,0,0,1]");
    }

    #[test]
    fn a_fingerprint_tells_verb_event_and_body_apart_but_not_key_order() {
        let of = |verb: &str, event: &str, body: &str| {
            let Value::Object(members) = serde_json::from_str(body).unwrap() else { panic!() };
            fingerprint(verb, event, &members)
        };
        let base = of("send", "pay", r#"{"a": 1, "b": 2.0}"#);
        assert_eq!(base, of("send", "pay", r#"{"b": 2, "a": 1e0}"#));
        assert_ne!(base, of("send", "pa", r#"{"a": 1, "b": 2}"#));
        assert_ne!(base, of("sendp", "ay", r#"{"a": 1, "b": 2}"#));
        assert_ne!(base, of("send", "pay", r#"{"a": 1, "b": "2"}"#));
    }
}
