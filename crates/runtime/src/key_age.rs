//! The age that a key may carry: a UUID of version 7 says when it was made.
//!
//! Receipts are kept for a day at least. A client that repeats a command under a key older than that must not run it a
//! second time just because the receipt has gone; if the key itself tells its age, it is refused for good.
//!
//! Absent on purpose: keys of any other form. They tell nothing, and a repeat after a day is a new command.

use statehouse_contract::{Key, Rejection, RejectionCode, Timestamp, limits::RECEIPT_KEEP_MS_MIN};

/// Returns the refusal of a key that is older than receipts are kept. Asked only when the key is not known.
#[must_use]
pub(crate) fn expired(key: &Key, at: Timestamp) -> Option<Rejection> {
    let (Key::Client(text) | Key::Operator(text)) = key else { return None };
    let made = made_at(text.as_str())?;
    let age_ms = u64::try_from(at.since_ms(made)).ok()?;
    (age_ms >= RECEIPT_KEEP_MS_MIN).then(|| {
        let detail =
            format!("this key was made at {made}; answers are kept for a day: use a new key");
        Rejection::gateway(RejectionCode::KeyExpired, detail)
    })
}

/// Reads the time of a UUID of version 7 in its usual form of 36 characters.
fn made_at(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let is_dash = |place: &usize| bytes.get(*place) == Some(&b'-');
    let is_uuid = bytes.len() == 36
        && [8, 13, 18, 23].iter().all(is_dash)
        && bytes.iter().filter(|byte| **byte == b'-').count() == 4
        && bytes.iter().all(|byte| *byte == b'-' || byte.is_ascii_hexdigit());
    if !is_uuid || bytes.get(14) != Some(&b'7') {
        return None;
    }
    let ms = i64::from_str_radix(&format!("{}{}", text.get(..8)?, text.get(9..13)?), 16).ok()?;
    Some(Timestamp(ms))
}

#[cfg(test)]
mod tests {
    use statehouse_contract::KeyText;

    use super::*;

    #[test]
    fn a_key_that_tells_its_age_expires_with_the_receipts() {
        // 2022-02-22T19:22:22.000Z, the example of RFC 9562.
        let made = 0x017F_22E2_79B0;
        let key = Key::Client(KeyText::parse("017F22E2-79B0-7CC3-98C4-DC0C0C07398F").unwrap());
        let day = 24 * 3_600_000;
        assert_eq!(expired(&key, Timestamp(made + day - 1)), None);
        let no = expired(&key, Timestamp(made + day)).unwrap();
        assert_eq!(no.code, RejectionCode::KeyExpired);
        assert_eq!(expired(&key, Timestamp(made - day)), None, "made on another node's clock");
    }

    #[test]
    fn any_other_text_tells_nothing() {
        for text in [
            "k-1",
            "017F22E2-79B0-4CC3-98C4-DC0C0C07398F",
            "017F22E2x79B0-7CC3-98C4-DC0C0C07398F",
            "017F22E2-79B0-7CC3-98C4-DC0C0C07398",
            "-17F22E2-79B0-7CC3-98C4DDC0C0C07398F",
        ] {
            let key = Key::Client(KeyText::parse(text).unwrap());
            assert_eq!(expired(&key, Timestamp(i64::MAX)), None, "{text}");
        }
    }
}
