//! The numbers of this house, counted in plain atomics and read whenever somebody collects.
//!
//! Absent on purpose: labels. What would be one (tenant, instance, key) is never a label.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use statehouse_contract::{Timestamp, limits::TIMER_LATE_MS_MAX};
use statehouse_store::{
    Body, Entry,
    entry::{AttemptNext, TaskChange},
};
use statehouse_telemetry::{Histogram, Meters, SECONDS};

use crate::tree::RESTARTS;

/// The numbers of one node.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Instance actors awake now.
    pub live: AtomicI64,
    /// Instances set aside now.
    pub quarantined: AtomicI64,
    /// Instance actors that failed.
    pub failures: AtomicU64,
    /// Instances sent to sleep.
    pub passivated: AtomicU64,
    /// Instances woken.
    pub woken: AtomicU64,
    /// Timers and other due work fired.
    pub fired: AtomicU64,
    /// Entries that met a fence.
    pub fenced: AtomicU64,
    /// How late timers fired, once somebody collects.
    pub late: OnceLock<Histogram<()>>,
    /// Timers that have fired.
    pub timers: AtomicU64,
    /// Those of them that fired later than they should.
    pub timers_late: AtomicU64,
    /// Tasks that have ended, well or badly.
    pub ended: AtomicU64,
    /// Attempts after which another one follows.
    pub retried: AtomicU64,
    /// Tasks that wait for an operator, counted when they began to.
    pub parked: AtomicU64,
    /// Leases that ran out: their worker was silent.
    pub expired: AtomicU64,
    /// Leases given.
    pub leased: AtomicU64,
    /// Tasks that were not leased because their instance did not let them begin.
    pub unstarted: AtomicU64,
    /// Deliveries to other instances with a definite answer.
    pub delivered: AtomicU64,
    /// Deliveries that were refused for good.
    pub undeliverable: AtomicU64,
    /// Commands answered by a stored receipt.
    pub replayed: AtomicU64,
    /// Replicas whose rows differed from their leader's at a marker.
    pub divergences: AtomicU64,
    /// Queues whose oldest ready task has waited too long, by the shards that this node leads.
    pub late_queues: AtomicI64,
    /// Broken laws.
    pub violations: AtomicU64,
}

/// What an entry that was written counts as.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    ended: u64,
    retried: u64,
    parked: u64,
    expired: u64,
}

impl Counts {
    pub(crate) fn of(entry: &Entry) -> Self {
        match &entry.body {
            Body::Transitioned(moved) => {
                let closed = |change: &&TaskChange| matches!(change, TaskChange::Close { .. });
                let ended = moved.tasks.iter().filter(closed).count();
                Self { ended: u64::try_from(ended).unwrap_or(u64::MAX), ..Self::default() }
            }
            Body::AttemptEnded(ended) => Self {
                retried: u64::from(matches!(ended.next, AttemptNext::At(_))),
                parked: u64::from(matches!(ended.next, AttemptNext::Parked)),
                expired: u64::from(&*ended.code == crate::decide::LEASE_EXPIRED),
                ended: 0,
            },
            _ => Self::default(),
        }
    }
}

impl Metrics {
    /// Returns how many timers have fired, and how many of them late.
    #[must_use]
    pub fn timers(&self) -> (u64, u64) {
        (self.timers.load(Ordering::Relaxed), self.timers_late.load(Ordering::Relaxed))
    }

    /// Takes in an entry that was written.
    pub(crate) fn wrote(&self, counts: Counts) {
        let add = |to: &AtomicU64, by: u64| {
            if by > 0 {
                to.fetch_add(by, Ordering::Relaxed);
            }
        };
        add(&self.ended, counts.ended);
        add(&self.retried, counts.retried);
        add(&self.parked, counts.parked);
        add(&self.expired, counts.expired);
    }

    /// Takes in a timer that was due at a time and fired at another one.
    pub(crate) fn fired_late(&self, due: Timestamp, at: Timestamp) {
        one(&self.timers);
        if u64::try_from(at.since_ms(due)).is_ok_and(|late| late > TIMER_LATE_MS_MAX) {
            one(&self.timers_late);
        }
        if let Some(late) = self.late.get() {
            late.record(at.since_ms(due).max(0) as f64 / 1_000.0, ());
        }
    }

    /// Shows the numbers as instruments.
    pub fn register(self: &Arc<Self>, meters: &Meters) {
        let level = |name, unit, help, of: fn(&Self) -> &AtomicI64| {
            let own = Arc::clone(self);
            meters.watch(name, unit, help, move || of(&own).load(Ordering::Relaxed) as f64);
        };
        let count = |name, unit, help, of: fn(&Self) -> &AtomicU64| {
            let own = Arc::clone(self);
            meters.watch_count(name, unit, help, move || of(&own).load(Ordering::Relaxed));
        };
        level("statehouse.instances.live", "{instance}", "Instance actors awake now", |m| &m.live);
        level("statehouse.instances.quarantined", "{instance}", "Instances set aside now", |m| {
            &m.quarantined
        });
        level(
            "statehouse.queues.late",
            "{queue}",
            "Queues whose oldest ready task has waited longer than queue_late_ms",
            |m| &m.late_queues,
        );
        count("statehouse.instance.failures", "{failure}", "Instance actors that failed", |m| {
            &m.failures
        });
        count("statehouse.instances.passivated", "{instance}", "Instances sent to sleep", |m| {
            &m.passivated
        });
        count("statehouse.instances.woken", "{instance}", "Instances woken", |m| &m.woken);
        count("statehouse.due.fired", "{row}", "Timers and other due work fired", |m| &m.fired);
        let late = meters.histogram(
            "statehouse.timers.late",
            "s",
            "how long after its time a timer fired",
            SECONDS,
        );
        let _ = self.late.set(late);
        meters.watch_count(
            "statehouse.actors.restarts",
            "{restart}",
            "Restarts by a supervisor",
            || RESTARTS.load(Ordering::Relaxed),
        );
        count("statehouse.tasks.ended", "{task}", "Tasks that have ended", |m| &m.ended);
        count("statehouse.tasks.retried", "{attempt}", "Attempts that another one follows", |m| {
            &m.retried
        });
        count(
            "statehouse.tasks.parked",
            "{task}",
            "Tasks that began to wait for an operator",
            |m| &m.parked,
        );
        count("statehouse.leases.expired", "{lease}", "Leases whose worker was silent", |m| {
            &m.expired
        });
        count("statehouse.tasks.leased", "{lease}", "Leases given to workers", |m| &m.leased);
        count(
            "statehouse.tasks.unstarted",
            "{task}",
            "Tasks not leased because their instance did not let them begin",
            |m| &m.unstarted,
        );
        count(
            "statehouse.outbox.delivered",
            "{delivery}",
            "Deliveries to other instances that have their answer",
            |m| &m.delivered,
        );
        count(
            "statehouse.outbox.refused",
            "{delivery}",
            "Deliveries to other instances that were refused for good",
            |m| &m.undeliverable,
        );
        count("statehouse.entries.fenced", "{entry}", "Entries that met a fence", |m| &m.fenced);
        count(
            "statehouse.receipts.found",
            "{command}",
            "Commands answered by a stored receipt",
            |m| &m.replayed,
        );
        count(
            "statehouse.replica.divergences",
            "{replica}",
            "Replicas whose rows differed from their leader's",
            |m| &m.divergences,
        );
        count("statehouse.invariant.violations", "{violation}", "Broken laws", |m| &m.violations);
    }
}

/// Counts one.
pub(crate) fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
