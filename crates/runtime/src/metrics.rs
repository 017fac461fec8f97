//! The numbers of this house, counted in plain atomics and read whenever somebody collects.
//!
//! Absent on purpose: labels. What would be one (tenant, instance, key) is never a label.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use statehouse_telemetry::Meters;

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

impl Metrics {
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
