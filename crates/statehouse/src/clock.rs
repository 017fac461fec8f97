//! The machine's clock, behind the contract's trait.
//!
//! Wall time is read once, at the start; from there the monotonic clock counts, so that a step of the
//! wall clock does not enter. What is decided is never earlier than what a shard has applied: the runtime sees to that.
//!
//! Absent on purpose: the cluster clock (the median over the voters); it will stand behind this same trait.
//!
//! Invariant: what `now` returns never goes back within one process.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use statehouse_contract::{Clock, Timestamp};

/// Wall time at the start, moved on by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock {
    base: Timestamp,
    since: Instant,
}

impl SystemClock {
    /// Reads the wall clock.
    #[must_use]
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let base = Timestamp(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX));
        Self { base, since: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let passed_ms = i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.base.after_ms(passed_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let clock = SystemClock::start();
        let first = clock.now();
        assert!(clock.now() >= first);
    }
}
