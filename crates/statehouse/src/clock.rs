//! The node's own clock, behind the contract's trait.
//!
//! Wall time is read once, at the start; from there the boot clock counts, which steps of the wall clock do not enter
//! and which goes on while the machine is suspended. It is read again only where others have found this clock wrong. What is decided is never earlier than what a shard has applied:
//! the runtime sees to that.
//!
//! Absent on purpose: the cluster's clock, the middle of the voters' own ones. It stands behind this same trait, in the
//! cluster's crate; a node alone decides by this one.
//!
//! Invariant: what `now` returns never goes back within one process.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use statehouse_contract::{Clock, Timestamp};

/// Wall time at the start, moved on by the boot clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock {
    base: Timestamp,
    since_ms: i64,
}

impl SystemClock {
    /// Reads the wall clock.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { base: wall(), since_ms: boot_ms() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.base.after_ms(boot_ms() - self.since_ms)
    }

    fn wall(&self) -> Timestamp {
        wall()
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Milliseconds since the machine was started, suspended or not.
fn boot_ms() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
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

    #[test]
    fn the_wall_clock_is_read_once_and_its_steps_do_not_enter() {
        // As after a step of the wall clock by decades: only the time since the start counts.
        let clock = SystemClock { base: Timestamp(1_000), since_ms: boot_ms() - 5_000 };
        let now = clock.now().0;
        assert!((6_000..66_000).contains(&now), "{now}");
    }
}
