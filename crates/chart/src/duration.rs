//! Durations as authors write them: `N(ms|s|m|h|d)` with an optional fraction, such as `15m` or `.5s`.
//!
//! Deliberately absent: CEL's own duration texts (`1h30m`), which only exist inside expressions (`cel/`).

/// Returns the milliseconds of an authored duration, rounded down; `None` when the text is none.
///
/// ```
/// assert_eq!(statehouse_chart::duration::parse_ms("1.5s"), Some(1_500));
/// assert_eq!(statehouse_chart::duration::parse_ms("1h30m"), None);
/// ```
#[must_use]
pub fn parse_ms(text: &str) -> Option<u64> {
    let digits = text.len()
        - text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.').len();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.ends_with('.')
    {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Nine digits are a nanosecond of a second: more say nothing.
    let fraction = &fraction[..fraction.len().min(9)];
    let parts: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part_ms = u128::from(parts) * u128::from(unit_ms) / u128::from(scale);
    whole.checked_mul(unit_ms)?.checked_add(u64::try_from(part_ms).ok()?).filter(|ms| *ms <= MAX_MS)
}

/// Longest duration: three hundred years.
pub const MAX_MS: u64 = 300 * 366 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_one_number_and_one_unit() {
        let ok = [
            ("0s", 0),
            (".5s", 500),
            ("10ms", 10),
            ("1.25h", 4_500_000),
            ("30d", 2_592_000_000),
            ("0.1ms", 0),
        ];
        for (text, ms) in ok {
            assert_eq!(parse_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "s",
            ".s",
            "1",
            "1 s",
            "-1s",
            "1h30m",
            "1..5s",
            "5.s",
            "1e3s",
            "999999999999999999d",
            "1S",
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }
}
