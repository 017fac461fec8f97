//! Points in time and the clock that tells them.
//!
//! Durable time is UTC milliseconds since 1970. Durations are plain millisecond counts and a different
//! type, so that the two are never added to the wrong thing.
//!
//! Absent on purpose: any implementation of [`Clock`] that reads the machine. That belongs to the
//! binary; everything below it takes the time as an argument.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A point in time: UTC milliseconds since 1970-01-01.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns this time moved forward by `duration_ms`, saturating at the ends of the range.
    #[must_use]
    pub const fn after_ms(self, duration_ms: i64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }

    /// Returns the milliseconds from `earlier` to this time; negative when `earlier` is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the time as RFC 3339 text with milliseconds, for people and JSON answers.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let (days, ms) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            ms % 1_000
        )
    }
}

/// Turns days since 1970-01-01 into year, month, day of the Gregorian calendar.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Tells the time. Read at the door, once a command; never below it.
pub trait Clock: Send + Sync + 'static {
    /// Returns the present time. Monotone within one process, once it is set.
    fn now(&self) -> Timestamp;

    /// Returns what the machine's wall clock shows at this moment, steps and all. Nothing is decided by it: a node that knows
    /// its own clock to be wrong looks whether the machine's has been set right.
    fn wall(&self) -> Timestamp {
        self.now()
    }

    /// Returns whether decisions may be made by it. A clock that has to ask others first is not set at its start, and may
    /// be set back once when it is.
    fn is_set(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339() {
        let texts: Vec<String> = [0, 951_782_400_123, -1, 4_107_542_399_999]
            .iter()
            .map(|ms| Timestamp(*ms).to_rfc3339())
            .collect();
        assert_eq!(
            texts,
            [
                "1970-01-01T00:00:00.000Z",
                "2000-02-29T00:00:00.123Z",
                "1969-12-31T23:59:59.999Z",
                "2100-02-28T23:59:59.999Z"
            ]
        );
    }
}
