//! When requests are sent.
//!
//! Closed loop: each of a fixed number of clients sends its next request when its last one is answered. Open loop: the
//! n-th request is due at start + n / rate, whatever the server does. Clients take due slots in turn; when all of them
//! wait for answers, slots become late, and the lateness counts into the latency of the requests that take them. That is
//! what makes a stall of the server visible in full (no coordinated omission).
//!
//! A client that was idle when its slot came is woken by a timer whose grain is a millisecond. That delay is ours, not
//! the server's: up to the grain, such a request counts from when it was really sent; beyond it, from its slot.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// The grain of the timer that wakes an idle client.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// How load is offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as a fixed number of clients is answered.
    Closed,
    /// So many requests a second, whatever the answers do.
    Open {
        /// Requests a second.
        rate: f64,
    },
}

/// The slots of one run, shared by its clients.
#[derive(Debug)]
pub(crate) struct Slots {
    pace: Pace,
    start: Instant,
    next: AtomicU64,
}

impl Slots {
    /// Begins a run at `start`.
    pub(crate) fn new(pace: Pace, start: Instant) -> Self {
        Self { pace, start, next: AtomicU64::new(0) }
    }

    /// Waits for the next slot and returns the moment from which its request is measured.
    pub(crate) async fn take(&self) -> Instant {
        let Pace::Open { rate } = self.pace else { return Instant::now() };
        // Relaxed: the numbers only have to differ.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = self.start + offset(number, rate);
        if due <= Instant::now() {
            return due;
        }
        tokio::time::sleep_until(due).await;
        let woken = Instant::now();
        if woken - due <= TIMER_GRAIN { woken } else { due }
    }
}

fn offset(number: u64, rate: f64) -> Duration {
    // A rate that is no positive number would never come due; a slot a second is a visible mistake instead.
    let seconds = number as f64 / if rate > 0.0 { rate } else { 1.0 };
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_the_rate() {
        assert_eq!(offset(0, 1000.0), Duration::ZERO);
        assert_eq!(offset(500, 1000.0), Duration::from_millis(500));
        assert_eq!(offset(3, 0.0), Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_late_slot_counts_from_when_it_was_due() {
        let start = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        let slots = Slots::new(Pace::Open { rate: 10.0 }, start);
        assert_eq!(slots.take().await, start);
        assert_eq!(slots.take().await, start + Duration::from_millis(100));
        let before = Instant::now();
        assert!(Slots::new(Pace::Closed, start).take().await >= before);
    }
}
