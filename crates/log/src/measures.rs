//! What the log measures of itself: its disk, its leaders, its distance to the rows and to the other replicas.
//!
//! Histograms are given once, when somebody collects; until then nothing is recorded. The rest are plain counts.
//!
//! Absent on purpose: labels. A node has few shards, but what an operator asks first is "how bad is the worst".

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use statehouse_telemetry::{Histogram, Meters, SECONDS};

use tracing::{info, warn};

use crate::{handle::ShardLog, leadership::Leadership, pace::Pace, room::Room};

/// Operations of one write of the log file.
const BATCHES: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0];

/// The numbers of a node's log.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    writes: OnceLock<(Histogram<()>, Histogram<()>)>,
    /// How often a replica has changed its belief about who leads.
    pub(crate) leaders: AtomicU64,
    /// Of the one writer; nobody waits for it.
    pace: Mutex<Pace>,
    is_slow: AtomicBool,
}

impl Measures {
    /// Takes in a write that is on the disk.
    pub(crate) fn wrote(&self, seconds: f64, operations: usize) {
        let took = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let is_slow =
            self.pace.lock().unwrap_or_else(PoisonError::into_inner).see(took, Instant::now());
        if self.is_slow.swap(is_slow, Ordering::Relaxed) != is_slow {
            match is_slow {
                true => warn!(?took, "the log's disk is too slow to lead"),
                false => info!("the log's disk is quick again"),
            }
        }
        if let Some((took, held)) = self.writes.get() {
            took.record(seconds, ());
            held.record(u32::try_from(operations).map_or(f64::MAX, f64::from), ());
        }
    }

    /// Tells whether the disk is too slow to lead.
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    pub(crate) fn register(self: &Arc<Self>, meters: &Meters, room: &Arc<Room>) {
        let took = meters.histogram(
            "statehouse.log.write.duration",
            "s",
            "time to write a batch of the log and sync it",
            SECONDS,
        );
        let held = meters.histogram(
            "statehouse.log.write.operations",
            "{operation}",
            "operations of a batch of the log",
            BATCHES,
        );
        let _ = self.writes.set((took, held));
        let own = Arc::clone(self);
        meters.watch_count(
            "statehouse.leadership.changes",
            "{change}",
            "Changes of belief about who leads a shard",
            move || own.leaders.load(Ordering::Relaxed),
        );
        let own = Arc::clone(room);
        meters.watch("statehouse.disk.free", "By", "free space above the reserve", move || {
            own.free_above() as f64
        });
        let own = Arc::clone(room);
        meters.watch(
            "statehouse.disk.stage",
            "{stage}",
            "How full the disk is: 1 no snapshots, 2 no starts, 3 no commands",
            move || f64::from(own.stage_now()),
        );
    }
}

/// Shows how a node's shards stand.
pub(crate) fn register_shards(meters: &Meters, logs: &[ShardLog]) {
    // Weak: instruments outlive the node, and whoever holds a shard holds its files open.
    let held: Arc<[_]> = logs.iter().map(|log| Arc::downgrade(&log.replica)).collect();
    let watch = |name, unit, help, of: fn(&[ShardLog]) -> f64| {
        let held = Arc::clone(&held);
        meters.watch(name, unit, help, move || {
            let living = held.iter().filter_map(Weak::upgrade);
            of(&living.map(|replica| ShardLog { replica }).collect::<Vec<_>>())
        });
    };
    watch("statehouse.shards.held", "{shard}", "Shards of which this node has a copy", |logs| {
        count(logs, |_| true)
    });
    watch("statehouse.shards.led", "{shard}", "Shards that this node leads", |logs| {
        count(logs, |log| matches!(*log.leadership().borrow(), Leadership::Leading { .. }))
    });
    watch(
        "statehouse.shards.leaderless",
        "{shard}",
        "Shards of which this node knows no leader",
        |logs| {
            count(logs, |log| {
                matches!(
                    *log.leadership().borrow(),
                    Leadership::Following { leader: None } | Leadership::Stopped
                )
            })
        },
    );
    watch(
        "statehouse.apply.lag",
        "{entry}",
        "Committed entries that are not applied yet, of the worst shard",
        |logs| {
            worst(logs, |log| {
                let numbers = log.numbers();
                let (committed, applied) =
                    (numbers.committed.unwrap_or(0), numbers.applied.unwrap_or(0));
                committed.saturating_sub(applied)
            })
        },
    );
    watch(
        "statehouse.replication.lag",
        "{entry}",
        "Entries that a replica lacks of the log of a shard led here, of the worst one",
        |logs| {
            worst(logs, |log| {
                let last = log.numbers().last.unwrap_or(0);
                let behind = |there: &Option<u64>| last.saturating_sub(there.unwrap_or(0));
                log.progress().values().map(behind).max().unwrap_or(0)
            })
        },
    );
    watch("statehouse.log.proposals", "{proposal}", "Proposals on their way", |logs| {
        logs.iter().map(|log| log.numbers().proposals as f64).sum()
    });
    watch("statehouse.shards.stalled", "{shard}", "Shards led here that apply nothing", |logs| {
        count(logs, |log| log.numbers().is_stalled)
    });
}

fn count(logs: &[ShardLog], is_it: impl Fn(&ShardLog) -> bool) -> f64 {
    logs.iter().filter(|log| is_it(log)).count() as f64
}

fn worst(logs: &[ShardLog], of: impl Fn(&ShardLog) -> u64) -> f64 {
    logs.iter().map(of).max().unwrap_or(0) as f64
}
