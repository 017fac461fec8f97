//! The reign of one term over a shard: what is decided under it, proposed under it, and counted by it.
//!
//! Whatever is decided carries the reign's term, so that a decision which comes late meets the fence. The time of a decision
//! comes from here too. The rows are read in `reading.rs`.
//!
//! Absent on purpose: leadership itself. The log says who leads, and `seat_actor.rs` follows.
//!
//! Invariant: the time of a decision is never below the last applied time of the shard, nor below the instance's own.

use std::sync::{Arc, atomic::Ordering};

use statehouse_chart::BUILT_IN_QUEUE;
use statehouse_contract::{Build, Due, NodeId, Receipt, Rejection, ShardId, Timestamp, Version};
use statehouse_log::{Leadership, ProposeError, Urgency};
use statehouse_store::{
    Body, Entry, Outcome,
    entry::{DueChange, LeaseGiven, Parent, Pin, RowDigest, TaskChange},
};
use tracing::debug;

use crate::{
    admission::Admission,
    cache::Caches,
    directory::Directory,
    message::{OutboxMessage, WorkerMessage},
    metrics::{Counts, Metrics, one},
    quota::Quotas,
    reject,
    seat::Seat,
    shard_host::Tuning,
    timer_actor::TimerHint,
};

/// What became of a proposal.
#[derive(Debug)]
pub enum Proposed {
    /// It changed rows.
    Applied(Box<AppliedHere>),
    /// Its key was known; here is the stored receipt.
    Known(Box<Receipt>),
    /// Its key was known for another request.
    KeyReused,
    /// It changed nothing: the rows had moved on.
    Fenced,
    /// It was certainly not written.
    Refused(Box<Rejection>),
    /// Nobody knows yet.
    Unknown,
}

/// What an applied entry has made true.
#[derive(Debug, Default)]
pub struct AppliedHere {
    /// How the instance stands now.
    pub version: Option<Version>,
    /// The fingerprint of its row.
    pub digest: Option<RowDigest>,
    /// The definition to which it is pinned.
    pub pin: Option<Pin>,
    /// Who started it, where the entry has.
    pub parent: Option<Parent>,
    /// The answer that is stored under the command's key.
    pub receipt: Option<Receipt>,
}

/// One term of this node's leadership over a shard.
#[derive(Debug)]
pub struct Reign {
    seat: Arc<Seat>,
    /// The term.
    pub term: u64,
}

impl Reign {
    /// Returns a reign that has not begun yet.
    #[must_use]
    pub fn new(seat: Arc<Seat>, term: u64) -> Self {
        Self { seat, term }
    }

    /// Returns the seat.
    #[must_use]
    pub fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// Returns the shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.seat.shard()
    }

    /// Returns this node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.seat.ground().node
    }

    /// Returns what this node's build knows.
    #[must_use]
    pub fn build(&self) -> Build {
        self.seat.ground().tuning.build
    }

    /// Returns the process groups.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        self.seat.directory()
    }

    /// Returns the shard's admission.
    #[must_use]
    pub fn admission(&self) -> &Arc<Admission> {
        self.seat.admission()
    }

    /// Returns the tenants' rates.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.seat.ground().quotas
    }

    /// Returns the caches.
    #[must_use]
    pub fn caches(&self) -> &Caches {
        &self.seat.ground().caches
    }

    /// Returns the numbers.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.seat.ground().metrics
    }

    /// Returns the hint to the timer actor.
    #[must_use]
    pub fn timer_hint(&self) -> &TimerHint {
        self.seat.timer_hint()
    }

    /// Returns whether the log still believes in this reign.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        matches!(*self.seat.log().leadership().borrow(), Leadership::Leading { term } if term == self.term)
    }

    /// Returns the milliseconds since the node began.
    #[must_use]
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.seat.ground().began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the time that a decision gets: `max(instance's last, shard's applied, clock)`.
    #[must_use]
    pub fn decide_at(&self, last: Timestamp) -> Timestamp {
        last.max(self.now())
    }

    /// Returns the shard's time now: `max(applied, clock)`, where a clock that was set back goes on from what was applied.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.seat.now()
    }

    /// Starts the time of this reign from what is applied.
    pub(crate) fn begin_time(&self, applied: Timestamp) {
        self.seat.begin_time(applied);
    }

    /// Takes note of a time that is applied.
    pub(crate) fn learn_time(&self, at: Timestamp) {
        self.seat.learn_time(at);
    }

    /// Proposes a client's entry.
    pub async fn propose(&self, entry: Entry) -> Proposed {
        let urgency = urgency(&entry);
        self.propose_as(entry, urgency).await
    }

    /// Proposes an entry that may use the reserve of a full disk, so that the shard can heal.
    pub async fn propose_healing(&self, entry: Entry) -> Proposed {
        self.propose_as(entry, Urgency::Healing).await
    }

    async fn propose_as(&self, entry: Entry, urgency: Urgency) -> Proposed {
        let at = entry.header.decided_at;
        let is_for_us = is_for_own_workers(&entry.body);
        let counts = Counts::of(&entry);
        let (pin, parent, armed, sends) = match &entry.body {
            Body::Transitioned(moved) => (
                Some(moved.definition.clone()),
                moved.parent.clone(),
                earliest_timer(&moved.due),
                !moved.outbox.is_empty(),
            ),
            // A lease that nobody extends ends by itself, also where nothing else is pending.
            Body::TaskLeased(leased) => (None, None, earliest_lease(&leased.leases), false),
            Body::LeaseExtended(extended) => (None, None, Some(extended.until), false),
            _ => (None, None, None, false),
        };
        let applied = match self.seat.log().propose(entry, urgency).await {
            Ok(applied) => applied,
            Err(why) => return refused(why),
        };
        self.learn_time(at);
        match applied.outcome {
            Outcome::Written(written) => {
                self.metrics().wrote(counts);
                if let Some(due) = armed {
                    self.seat.timer_hint().armed(due);
                }
                if sends {
                    self.seat.hints().outbox.give(OutboxMessage::Look);
                }
                if is_for_us {
                    self.seat.hints().worker.give(WorkerMessage::Look);
                }
                Proposed::Applied(Box::new(AppliedHere {
                    version: written.version,
                    digest: written.digest,
                    pin,
                    parent,
                    receipt: written.receipt,
                }))
            }
            Outcome::Known(receipt) => {
                one(&self.metrics().replayed);
                Proposed::Known(receipt)
            }
            Outcome::KeyReused => Proposed::KeyReused,
            Outcome::Fenced(fence) => {
                one(&self.metrics().fenced);
                debug!(shard = %self.shard(), %fence, "an entry met a fence");
                Proposed::Fenced
            }
            // It was applied in another life of these rows, so how it ended stands there.
            Outcome::Skipped | Outcome::Blank => Proposed::Unknown,
        }
    }

    /// Counts an instance that was woken.
    pub(crate) fn count_live(&self) {
        self.seat.ground().live.fetch_add(1, Ordering::Relaxed);
        self.seat.count_live(1);
        self.metrics().live.fetch_add(1, Ordering::Relaxed);
        one(&self.metrics().woken);
    }

    /// Takes back the count of instances that sleep or died.
    pub(crate) fn forget_live(&self, count: usize) {
        self.seat.ground().live.fetch_sub(count, Ordering::Relaxed);
        self.seat.forget_live(count);
        let signed = i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics().live.fetch_sub(signed, Ordering::Relaxed);
    }

    /// Takes note of a change in the number of instances that are set aside.
    pub(crate) fn count_quarantined(&self, change: i64) {
        self.metrics().quarantined.fetch_add(change, Ordering::Relaxed);
    }

    /// Returns whether the node holds as many live instances as it may.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.live() >= self.seat.ground().tuning.live_instances_max
    }

    /// Returns after how long without work an instance goes to sleep: the more are awake, the sooner.
    #[must_use]
    pub fn idle_max_ms(&self) -> u64 {
        let Tuning { passivate_ms, live_instances_max, .. } = self.seat.ground().tuning;
        let live = self.live();
        if live >= live_instances_max {
            0
        } else if live >= ROOMY_MAX.min(live_instances_max / 2) {
            passivate_ms.min(CROWDED_IDLE_MS)
        } else {
            passivate_ms
        }
    }

    fn live(&self) -> usize {
        self.seat.ground().live.load(Ordering::Relaxed)
    }
}

/// Live instances up to which each may idle for its whole time: an idle actor costs some 11 KB, so this is 40 MB.
const ROOMY_MAX: usize = 4_000;
/// The time that an instance may idle when there are more.
const CROWDED_IDLE_MS: u64 = 1_000;

/// How long an instance has for the next step of its own queue before the timer actor looks after it.
const QUEUE_PATIENCE_MS: i64 = 1_000;

/// Returns whether an entry orders a task that this node's own workers can do.
fn is_for_own_workers(body: &Body) -> bool {
    let Body::Transitioned(moved) = body else { return false };
    moved.tasks.iter().any(|change| match change {
        TaskChange::Schedule { queue, .. } => queue.starts_with(BUILT_IN_QUEUE),
        TaskChange::Unpark { .. } => true,
        TaskChange::Close { .. } | TaskChange::Cancel { .. } => false,
    })
}

/// Returns the time of the earliest row that the timer actor has to hear about.
fn earliest_timer(changes: &[DueChange]) -> Option<Timestamp> {
    let armed = changes.iter().filter_map(|change| match change {
        // The instance runs its own queue at once; its row is for the case that it cannot.
        DueChange::Arm { at, what: Due::Queue } => Some(at.after_ms(QUEUE_PATIENCE_MS)),
        DueChange::Disarm { .. } | DueChange::Hold { .. } => None,
        DueChange::Arm { at, .. } | DueChange::Release { at, .. } => Some(*at),
    });
    armed.min()
}

fn earliest_lease(leases: &[LeaseGiven]) -> Option<Timestamp> {
    let ends =
        |lease: &LeaseGiven| lease.attempt_until.map_or(lease.until, |at| at.min(lease.until));
    leases.iter().map(ends).min()
}

/// Turns the log's no into ours. Every variant but `Unknown` says that nothing was written.
fn refused(why: ProposeError) -> Proposed {
    reject::from_propose(why).map_or(Proposed::Unknown, |no| Proposed::Refused(Box::new(no)))
}

/// Returns what a client's entry is when the disk fills: what makes a new instance waits first.
const fn urgency(entry: &Entry) -> Urgency {
    match &entry.body {
        Body::Transitioned(moved) if moved.version == 1 => Urgency::Start,
        _ => Urgency::Client,
    }
}
