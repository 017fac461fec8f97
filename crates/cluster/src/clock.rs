//! The cluster's clock: the middle of the voters' clocks, moved on by this node's boot clock.
//!
//! Each node asks the others for their time on the log's wire (`log_wire/lane.rs`), keeps what they say (`window.rs`), and
//! several times a second turns it into where the cluster's clock should be (`council.rs`), towards which its own line is
//! steered (`steering.rs`). A node without a line yet takes it from a majority first. Until then it decides nothing: whoever
//! begins to lead waits for [`Clock::is_set`]. A node whose own clock is far from the middle is off: the line is right all
//! the same, but it hands leadership over and is offered none.
//!
//! A voter whose build knows no echoes is left out of the count; among such voters a node has its own clock alone.
//!
//! Absent on purpose: steps of the wall clock. It comes in once, with the node's own clock; again only where that one was
//! found wrong and the wall clock agrees with the others.
//!
//! Invariant: once it is set it does not go back, and runs within 5 % of the boot clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use statehouse_contract::{Clock, NodeId, Timestamp};
use statehouse_log::Part;
use statehouse_runtime::Seat;
use statehouse_telemetry::Meters;
use tokio::{task::JoinHandle, time::sleep};
use tracing::{info, warn};

use crate::{faults::Faults, log_wire::desk::Shelf};

mod council;
mod steering;
mod window;

use council::{Opinion, Voter};
use steering::Steering;
use window::Sample;
pub(crate) use window::{Told, Window};

/// From this version of the log's wire on a node answers when it is asked for its time.
pub(crate) const ECHOES_SINCE: u16 = 3;
/// How often the clocks are looked at, before the clock is set and after.
const LOOK_UNSET: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(100);

/// What is known of another node's clock.
#[derive(Debug, Default)]
struct Heard {
    window: Window,
    /// Its build knows no echoes.
    is_mute: bool,
}

#[derive(Debug, Default)]
struct Inside {
    heard: BTreeMap<NodeId, Heard>,
    /// Since when a majority has been known without the clock being set, by the node's own clock.
    waits_since: Option<i64>,
    off: BTreeSet<NodeId>,
}

/// The cluster's clock, as one node has it.
pub(crate) struct ClusterClock {
    node: NodeId,
    own: Arc<dyn Clock>,
    faults: Arc<Faults>,
    inside: Mutex<Inside>,
    line: RwLock<Option<Steering>>,
    /// How far the node's own clock, as it counts among the voters', is ahead of the one that it was given: nothing, until
    /// that one was found wrong and the machine's was set right.
    taken_ms: AtomicI64,
    reading: Arc<Reading>,
}

/// What the instruments show.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    ahead_ms: AtomicI64,
    left_ms: AtomicI64,
}

impl Reading {
    /// Shows it as instruments.
    pub(crate) fn register(self: &Arc<Self>, meters: &Meters) {
        let watch = |name, help, read: fn(&Self) -> &AtomicI64| {
            let own = Arc::clone(self);
            meters.watch(name, "s", help, move || {
                read(&own).load(Ordering::Relaxed) as f64 / 1_000.0
            });
        };
        watch(
            "statehouse.clock.cluster.offset",
            "How far the node's own clock is ahead of the middle of the voters' clocks",
            |own| &own.ahead_ms,
        );
        watch(
            "statehouse.clock.cluster.slew",
            "How far the cluster's clock, as this node has it, still has to be moved",
            |own| &own.left_ms,
        );
    }
}

impl fmt::Debug for ClusterClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterClock").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Clock for ClusterClock {
    /// Before the clock is set this is the node's own, by which nothing is decided.
    fn now(&self) -> Timestamp {
        let own = self.own_ms();
        Timestamp(match self.line() {
            Some(line) => line.at(own),
            None => own.saturating_add(self.ahead_ms()),
        })
    }

    fn is_set(&self) -> bool {
        self.line().is_some()
    }
}

impl ClusterClock {
    /// Returns the clock of a node, from the node's own, which must not go back; faults may put that one wrong.
    pub(crate) fn new(node: NodeId, own: Arc<dyn Clock>, faults: Arc<Faults>) -> Arc<Self> {
        let (inside, line, reading) = (Mutex::default(), RwLock::default(), Arc::default());
        let taken_ms = AtomicI64::new(0);
        Arc::new(Self { node, own, faults, inside, line, taken_ms, reading })
    }

    fn line(&self) -> Option<Steering> {
        *self.line.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the node's own clock without faults, by which round trips are measured.
    pub(crate) fn own_ms(&self) -> i64 {
        self.own.now().0
    }

    /// Returns how far the node's own clock is ahead of the one by which round trips are measured.
    fn ahead_ms(&self) -> i64 {
        self.taken_ms.load(Ordering::Relaxed).saturating_add(self.faults.clock_ms())
    }

    /// Where the node's own clock is off and the machine's wall clock, set right meanwhile, is not: takes that one over. It
    /// is one voice of several, and near the middle; the cluster's clock does not step with it.
    fn look_at_wall(&self, opinion: &Opinion) {
        if !opinion.own.is_off(self.ahead_ms()) {
            return;
        }
        let shown_ms = self.own.wall().0.saturating_sub(self.own_ms());
        if !opinion.own.is_off(shown_ms.saturating_add(self.faults.clock_ms())) {
            let before_ms = self.taken_ms.swap(shown_ms, Ordering::Relaxed);
            info!(
                by_ms = shown_ms - before_ms,
                "the wall clock was set right, and the node's own by it"
            );
        }
    }

    /// Returns what this node tells others about its clocks.
    pub(crate) fn tell(&self) -> Told {
        let own = self.own_ms();
        let cluster = self.line().map(|line| line.at(own));
        Told { own: own.saturating_add(self.ahead_ms()), cluster }
    }

    /// Takes note that a node is reached, and which version of the log's wire is spoken with it.
    pub(crate) fn meet(&self, node: NodeId, version: u16) {
        self.inside().heard.entry(node).or_default().is_mute = version < ECHOES_SINCE;
    }

    /// Takes an echo in: `sent` is when this node asked, by its own clock.
    pub(crate) fn hear(&self, from: NodeId, sent: i64, told: Told) {
        let sample = Sample { sent, heard: self.own_ms(), told };
        self.inside().heard.entry(from).or_default().window.take(sample);
    }

    /// Returns whether a node has answered with its time.
    #[cfg(test)]
    pub(crate) fn has_heard(&self, node: NodeId) -> bool {
        let now = self.own_ms();
        self.inside().heard.get(&node).is_some_and(|heard| heard.window.estimate(now).is_some())
    }

    /// Returns whether this node's own clock is off: it should not lead.
    pub(crate) fn is_off(&self) -> bool {
        self.inside().off.contains(&self.node)
    }

    /// Returns the voters whose clocks are off.
    pub(crate) fn off(&self) -> BTreeSet<NodeId> {
        self.inside().off.clone()
    }

    /// Returns what the instruments show.
    pub(crate) fn reading(&self) -> Arc<Reading> {
        Arc::clone(&self.reading)
    }

    /// Looks at what the voters have told and steers the clock, or sets it for the first time, never below `applied`.
    pub(crate) fn turn(
        &self,
        voters: &BTreeSet<NodeId>,
        applied: impl FnOnce() -> Option<Timestamp>,
    ) {
        let (now, own_ms) = (self.own_ms(), self.ahead_ms());
        let line = self.line();
        let mut inside = self.inside();
        inside.heard.retain(|node, heard| {
            voters.contains(node) || heard.is_mute || heard.window.estimate(now).is_some()
        });
        let own = Voter {
            own_ms: Some(own_ms),
            cluster_ms: line.map(|line| line.at(now).saturating_sub(now)),
        };
        let seen: Vec<(NodeId, Voter)> = voters
            .iter()
            .filter_map(|node| match inside.heard.get(node) {
                _ if *node == self.node => Some((*node, own)),
                Some(heard) if heard.is_mute => None,
                Some(heard) => Some((*node, heard.voter(now))),
                None => Some((*node, Voter::default())),
            })
            .collect();
        let said: Vec<Voter> = seen.iter().map(|(_, voter)| *voter).collect();
        let Some(opinion) = council::hear(&said) else {
            inside.waits_since = None;
            return;
        };
        let next = match line {
            Some(mut line) => {
                let shows = line.at(now).saturating_sub(now);
                line.steer(now, now.saturating_add(opinion.own.nearest(shows)));
                Some(line)
            }
            None => {
                let waited_ms = now.saturating_sub(*inside.waits_since.get_or_insert(now));
                opinion.first(waited_ms).map(|ahead| self.begin(now, ahead, applied()))
            }
        };
        let off = seen.iter().filter(|(_, voter)| is_off(&opinion, voter)).map(|(node, _)| *node);
        let off: BTreeSet<NodeId> = off.collect();
        let (was_off, is_off) = (inside.off.contains(&self.node), off.contains(&self.node));
        inside.off = off;
        *self.line.write().unwrap_or_else(PoisonError::into_inner) = next;
        drop(inside);
        self.look_at_wall(&opinion);
        let ahead_ms = opinion.own.ahead(own_ms);
        self.reading.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        let left_ms = next.map_or(0, |line| line.left_ms(now));
        self.reading.left_ms.store(left_ms, Ordering::Relaxed);
        match (was_off, is_off) {
            (false, true) => {
                warn!(ahead_ms, "this node's clock is off; it leads no shard until it is right")
            }
            (true, false) => info!(ahead_ms, "this node's clock is right again"),
            (false, false) | (true, true) => {}
        }
    }

    fn begin(&self, now: i64, ahead_ms: i64, applied: Option<Timestamp>) -> Steering {
        let taken = now.saturating_add(ahead_ms);
        let shows = applied.map_or(taken, |applied| taken.max(applied.0));
        info!(ahead_ms, raised_ms = shows - taken, "the cluster's clock is set");
        Steering::start(now, shows)
    }
}

impl Heard {
    fn voter(&self, now: i64) -> Voter {
        let own_ms = self.window.estimate(now).map(|estimate| estimate.offset_ms);
        Voter { own_ms, cluster_ms: own_ms.and_then(|_| self.window.cluster_ms()) }
    }
}

/// Off is whose own clock is far from the voters', and whose line is far from theirs.
fn is_off(opinion: &Opinion, voter: &Voter) -> bool {
    let line = opinion.cluster.zip(voter.cluster_ms);
    voter.own_ms.is_some_and(|own| opinion.own.is_off(own))
        || line.is_some_and(|(middle, line)| middle.is_off(line))
}

/// Keeps the clock as the voters of shard 0 say; while it is off, or the disk is slow, no leader hands this node anything.
pub(crate) fn keep(
    clock: Arc<ClusterClock>,
    seats: Vec<Arc<Seat>>,
    shelf: Shelf,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let Some(registry) = seats.first() else { return };
        loop {
            let members = registry.log().members().into_iter();
            let voters = members.filter(|(_, member)| member.part == Part::Voter);
            let voters = voters.map(|(node, _)| node).collect();
            // A shard whose rows cannot be read begins its own reign no earlier than them once they can.
            clock.turn(&voters, || seats.iter().filter_map(|seat| seat.rows_time().ok()).max());
            // Neither a clock that is off nor a slow disk makes a good leader.
            shelf.doubt(clock.is_off() || registry.log().is_disk_slow());
            sleep(if clock.is_set() { LOOK } else { LOOK_UNSET }).await;
        }
    })
}

#[cfg(test)]
mod tests;
