//! What an operator should hear of before it hurts: certificates that end, a clock that was set.
//!
//! The node has a clock of its own that steps of the wall clock do not enter (`clock.rs`); but schedules and people go by the
//! wall clock, and a node that is started again takes it over. So a step is counted and told.
//!
//! Absent on purpose: renewing anything, and reading a certificate again: what counts is what the process uses, and that is
//! what it read at its start.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use statehouse_contract::Clock;
use statehouse_telemetry::Meters;

/// A difference between two looks that counts as a step of the wall clock.
const STEP_MS: i64 = 1_000;

/// Watches the wall clock against the node's own.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    offset_ms: AtomicI64,
    steps: AtomicU64,
}

impl WallClock {
    /// Shows it as instruments.
    pub(crate) fn register(self: &Arc<Self>, meters: &Meters) {
        let own = Arc::clone(self);
        meters.watch(
            "statehouse.clock.offset",
            "s",
            "How far the wall clock is ahead of the node's own clock",
            move || own.offset_ms.load(Ordering::Relaxed) as f64 / 1_000.0,
        );
        let own = Arc::clone(self);
        meters.watch_count(
            "statehouse.clock.steps",
            "{step}",
            "Steps of the wall clock by more than a second",
            move || own.steps.load(Ordering::Relaxed),
        );
    }

    /// Looks at both clocks.
    pub(crate) fn look(&self, clock: &dyn Clock) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.compare(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX), clock.now().0);
    }

    fn compare(&self, wall_ms: i64, own_ms: i64) {
        let offset = wall_ms - own_ms;
        let before = self.offset_ms.swap(offset, Ordering::Relaxed);
        if (offset - before).abs() > STEP_MS {
            self.steps.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                by_ms = offset - before,
                "the wall clock was set; the node goes on by its own"
            );
        }
    }
}

/// Shows when the first of some certificates ends; those that cannot be read are left out, whoever uses them says so.
pub(crate) fn register_certificates<'p>(meters: &Meters, files: impl Iterator<Item = &'p Path>) {
    let ends = files.filter_map(|path| std::fs::read(path).ok()).filter_map(|pem| first_end(&pem));
    if let Some(first) = ends.min() {
        watch_end(meters, first);
    }
}

/// Shows how far away an end is, in seconds since 1970.
pub(crate) fn watch_end(meters: &Meters, end: i64) {
    meters.watch(
        "statehouse.certificates.expiry",
        "s",
        "Time until the first certificate of this node ends; not there where it has none",
        move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            end as f64 - now as f64
        },
    );
}

/// Returns when the first certificate of a file ends, in seconds since 1970.
fn first_end(pem: &[u8]) -> Option<i64> {
    let parts = x509_parser::pem::Pem::iter_from_buffer(pem).flatten();
    let ends =
        parts.filter_map(|part| Some(part.parse_x509().ok()?.validity().not_after.timestamp()));
    ends.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_is_counted_and_drift_is_not() {
        let clock = WallClock::default();
        for n in 0..100 {
            // It drifts by ten milliseconds between two looks.
            clock.compare(n * 10_010, n * 10_000);
        }
        assert_eq!(clock.steps.load(Ordering::Relaxed), 0);
        clock.compare(5_000_000, 1_000_000);
        clock.compare(5_010_000, 1_010_000);
        assert_eq!(clock.steps.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_end_of_a_certificate_is_read_and_what_is_none_is_left_out() {
        let mut params = rcgen::CertificateParams::new(vec!["n".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        assert_eq!(first_end(pem.as_bytes()), Some(1_935_792_000));
        assert_eq!(first_end(b"nothing"), None);
    }
}
