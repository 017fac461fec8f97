//! Schedules: when something is started, and what follows when a start was missed or the one before still runs. Pure.
//!
//! A schedule is a document: what its owner wants (`spec`) and how far it has come (`state`). Whoever leads shard 0 works
//! out the next time and writes it down; no replica evaluates a cron expression, so two builds with two time zone
//! databases cannot disagree about what happened.
//!
//! Cron has five fields (minute, hour, day of month, month, day of week) in the schedule's time zone. Around a change of
//! daylight saving a fixed time that does not exist runs right after the gap, and one that exists twice runs once; patterns
//! with `*` or steps follow the wall clock (Vixie cron's rules, as `croner` has them). `every` counts from the epoch, so it
//! knows no time zone.
//!
//! Absent on purpose: clocks, starting anything. `schedule_actor.rs` does that.

use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp as Instant, Zoned, tz::TimeZone, tz::TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use statehouse_contract::{
    InstanceId, Timestamp,
    limits::{PAYLOAD_BYTES_MAX, SCHEDULE_PENDING_MAX},
};

/// How late a start may be and still count as in time: an election and a busy minute.
const IN_TIME_MS: i64 = 60_000;
/// Shortest interval.
const EVERY_MS_MIN: u64 = 1_000;

/// What follows when the start before still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Nothing is started.
    #[default]
    Skip,
    /// It waits until that one has ended.
    Queue,
    /// That one is cancelled.
    CancelOther,
}

/// What follows when starts were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// Each is made up for.
    All,
    /// The last one is.
    #[default]
    Last,
    /// None is.
    None,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// What an owner wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The definition that is started.
    pub definition: String,
    /// Its version; none is the current one at each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The input of each start.
    #[serde(default)]
    pub input: Value,
    /// Five fields: minute, hour, day of month, month, day of week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// An interval, such as `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// The time zone of `cron`, by its IANA name.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// What follows when the start before still runs.
    #[serde(default)]
    pub overlap: Overlap,
    /// What follows when starts were missed.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Whether it is held.
    #[serde(default)]
    pub paused: bool,
}

/// How far a schedule has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Who made it last; starts have this one's roles.
    pub by: String,
    /// The roles of that one.
    pub roles: Vec<String>,
    /// Due times that wait for their start, in milliseconds, oldest first.
    #[serde(default)]
    pub pending: Vec<i64>,
    /// The instance that was started last.
    #[serde(default)]
    pub last_instance: Option<String>,
    /// The time for which it was started, in milliseconds.
    #[serde(default)]
    pub last_due: Option<i64>,
    /// Why the last start was refused.
    #[serde(default)]
    pub last_error: Option<String>,
    /// Starts so far.
    #[serde(default)]
    pub started: u64,
    /// Starts that were left out: missed, or behind one that still ran.
    #[serde(default)]
    pub skipped: u64,
    /// Starts that were refused.
    #[serde(default)]
    pub refused: u64,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What its owner wants.
    pub spec: Spec,
    /// How far it has come.
    pub state: State,
}

impl Spec {
    /// Reads what an owner wants.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn read(document: &str) -> Result<Self, String> {
        let spec: Self = serde_json::from_str(document).map_err(|error| error.to_string())?;
        if spec.input.to_string().len() > PAYLOAD_BYTES_MAX {
            return Err(format!(
                "/input is larger than payload_bytes_max, {PAYLOAD_BYTES_MAX} bytes"
            ));
        }
        if !(spec.input.is_object() || spec.input.is_null()) {
            return Err("/input is no object".to_owned());
        }
        spec.rhythm().map(|_| spec.clone())
    }

    fn rhythm(&self) -> Result<Rhythm, String> {
        // An interval needs no zone; a name that is none is a mistake there, too.
        let zone = TimeZoneDatabase::bundled().get(&self.time_zone).map_err(|_| {
            let zone = &self.time_zone;
            format!("/time_zone {zone:?} is not known; write a name such as Europe/Berlin")
        })?;
        match (&self.cron, &self.every) {
            (Some(cron), None) => {
                let parser = CronParser::builder()
                    .seconds(Seconds::Disallowed)
                    .year(Year::Disallowed)
                    .build();
                let cron = parser.parse(cron).map_err(|error| {
                    format!("/cron {cron:?}: {error}; write minute, hour, day of month, month, day of week")
                })?;
                Ok(Rhythm::Cron(Box::new(cron), zone))
            }
            (None, Some(every)) => match statehouse_chart::duration::parse_ms(every) {
                Some(ms) if ms >= EVERY_MS_MIN => Ok(Rhythm::Every(ms)),
                Some(_) => Err(format!("/every {every:?} is shorter than {EVERY_MS_MIN} ms")),
                None => {
                    Err(format!("/every {every:?} is no duration; write a number and s, m, h or d"))
                }
            },
            (Some(_), Some(_)) => Err("both /cron and /every; write one of them".to_owned()),
            (None, None) => Err("neither /cron nor /every; write one of them".to_owned()),
        }
    }

    /// Returns the first time after another one at which something is started; nothing if there is none, or while held.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        if self.paused {
            return None;
        }
        self.rhythm().ok()?.next_after(after)
    }

    /// Returns the next times, whether held or not.
    #[must_use]
    pub fn upcoming(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        let Ok(rhythm) = self.rhythm() else { return Vec::new() };
        let next = |at: &Timestamp| rhythm.next_after(*at);
        std::iter::successors(rhythm.next_after(after), next).take(count).collect()
    }
}

enum Rhythm {
    Cron(Box<croner::Cron>, TimeZone),
    Every(u64),
}

impl Rhythm {
    fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(ms) => {
                let ms = i64::try_from(*ms).ok()?;
                Some(Timestamp((after.0.div_euclid(ms) + 1).checked_mul(ms)?))
            }
            Self::Cron(cron, zone) => {
                let from: Zoned = Instant::from_millisecond(after.0).ok()?.to_zoned(zone.clone());
                let found = cron.find_next_occurrence(&from, false).ok()?;
                Some(Timestamp(found.timestamp().as_millisecond()))
            }
        }
    }
}

impl Schedule {
    /// Reads a stored schedule.
    #[must_use]
    pub fn read(document: &str) -> Option<Self> {
        serde_json::from_str(document).ok()
    }

    /// Takes in what has become due: from `due` on up to now. What the catch-up leaves out is counted.
    pub fn take_in(&mut self, due: Timestamp, now: Timestamp) {
        let mut times = vec![due];
        let mut missed = 0;
        while let Some(next) = times.last().and_then(|last| self.spec.next_after(*last)) {
            if next > now {
                break;
            }
            if times.len() > SCHEDULE_PENDING_MAX {
                times.remove(0);
                missed += 1;
            }
            times.push(next);
        }
        let is_in_time = |at: &Timestamp| now.since_ms(*at) <= IN_TIME_MS;
        let all = times.len();
        let taken: Vec<Timestamp> = match self.spec.catch_up {
            CatchUp::All => times,
            CatchUp::Last => times.into_iter().rev().take(1).collect(),
            CatchUp::None => times.into_iter().rev().take(1).filter(is_in_time).collect(),
        };
        missed += (all - taken.len()) as u64;
        let room = SCHEDULE_PENDING_MAX.saturating_sub(self.state.pending.len());
        missed += taken.len().saturating_sub(room) as u64;
        self.state.pending.extend(taken.into_iter().take(room).map(|at| at.0));
        self.state.skipped += missed;
    }
}

/// Returns the id of the instance that a schedule starts for a due time: readable, and the same for every try.
#[must_use]
pub fn instance_id(name: &str, due: Timestamp) -> Option<InstanceId> {
    let stamp = due.to_rfc3339().replace([':', '-'], "");
    let stamp = stamp.split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned();
    InstanceId::parse(&format!("{name}-{stamp}Z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Spec {
        Spec::read(text).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<Instant>().unwrap().as_millisecond())
    }

    fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let text = format!(r#"{{"definition": "d", "cron": "{cron}", "time_zone": "{zone}"}}"#);
        let found = spec(&text).upcoming(at(after), count);
        found.into_iter().map(|at| at.to_rfc3339()[..16].to_owned()).collect()
    }

    #[test]
    fn a_fixed_time_that_does_not_exist_runs_right_after_the_gap_and_once() {
        // Berlin, 29 March 2026: 02:00 becomes 03:00 (01:00 UTC).
        let found = times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(found, ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]);
        let found = times("30 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", 2);
        assert_eq!(found, ["2026-03-08T07:00", "2026-03-09T06:30"]);
    }

    #[test]
    fn a_fixed_time_that_exists_twice_runs_once() {
        // Berlin, 25 October 2026: 03:00 becomes 02:00 (01:00 UTC).
        let found = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(found, ["2026-10-25T00:30", "2026-10-26T01:30"]);
    }

    #[test]
    fn a_pattern_with_steps_follows_the_wall_clock() {
        let found = times("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:29:00Z", 3);
        assert_eq!(found, ["2026-03-29T00:30", "2026-03-29T01:00", "2026-03-29T01:30"]);
        let found = times("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 3);
        assert_eq!(found, ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"]);
    }

    #[test]
    fn an_interval_counts_from_the_epoch_and_knows_no_time_zone() {
        let every = spec(r#"{"definition": "d", "every": "15m"}"#);
        assert_eq!(every.next_after(at("2026-03-29T00:59:59Z")), Some(at("2026-03-29T01:00:00Z")));
        assert_eq!(every.next_after(at("2026-03-29T01:00:00Z")), Some(at("2026-03-29T01:15:00Z")));
        let held = Spec { paused: true, ..every };
        assert_eq!(held.next_after(Timestamp(0)), None);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (text, said) in [
            (r#"{"definition": "d"}"#, "neither /cron nor /every"),
            (r#"{"definition": "d", "cron": "* * * * *", "every": "1m"}"#, "both"),
            (r#"{"definition": "d", "cron": "61 * * * *"}"#, "minute, hour"),
            (r#"{"definition": "d", "cron": "0 0 * * * *"}"#, "minute, hour"),
            (
                r#"{"definition": "d", "cron": "0 0 * * *", "time_zone": "Mars/Olympus"}"#,
                "Europe/Berlin",
            ),
            (r#"{"definition": "d", "every": "1m", "time_zone": "Mars/One"}"#, "Europe/Berlin"),
            (r#"{"definition": "d", "every": "often"}"#, "number and s, m, h or d"),
            (r#"{"definition": "d", "every": "10ms"}"#, "shorter than 1000 ms"),
            (r#"{"definition": "d", "every": "1m", "overlap": "both"}"#, "cancel_other"),
            (r#"{"definition": "d", "every": "1m", "colour": 1}"#, "colour"),
            (r#"{"definition": "d", "every": "1m", "input": 7}"#, "/input is no object"),
        ] {
            let error = Spec::read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    fn taken(catch_up: &str, due: &str, now: &str) -> (usize, u64) {
        let text = format!(r#"{{"definition": "d", "every": "1h", "catch_up": "{catch_up}"}}"#);
        let mut schedule = Schedule { spec: spec(&text), state: State::default() };
        schedule.take_in(at(due), at(now));
        (schedule.state.pending.len(), schedule.state.skipped)
    }

    #[test]
    fn after_an_outage_all_or_the_last_or_none_is_made_up_for() {
        let (due, now) = ("2026-01-01T00:00:00Z", "2026-01-01T05:30:00Z");
        assert_eq!(taken("all", due, now), (6, 0));
        assert_eq!(taken("last", due, now), (1, 5));
        assert_eq!(taken("none", due, now), (0, 6));
        // In time: nothing was missed, whatever the policy.
        for policy in ["all", "last", "none"] {
            assert_eq!(taken(policy, due, "2026-01-01T00:00:20Z"), (1, 0), "{policy}");
        }
    }

    #[test]
    fn a_year_of_missed_minutes_is_bounded_and_the_rest_counted() {
        let text = r#"{"definition": "d", "every": "1m", "catch_up": "all"}"#;
        let mut schedule = Schedule { spec: spec(text), state: State::default() };
        schedule.take_in(at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"));
        assert_eq!(schedule.state.pending.len(), SCHEDULE_PENDING_MAX);
        let all = 31 * 24 * 60 + 1;
        assert_eq!(schedule.state.skipped, all - SCHEDULE_PENDING_MAX as u64);
    }

    #[test]
    fn instances_are_called_by_the_schedule_and_its_time() {
        let id = instance_id("nightly", at("2026-11-26T03:00:00Z")).unwrap();
        assert_eq!(id.as_str(), "nightly-20261126T030000Z");
    }
}
