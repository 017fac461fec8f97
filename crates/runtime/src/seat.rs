//! What the parts of one shard share: its log, its admission, its clock.
//!
//! A `Seat` lives as long as the node holds the shard, whoever leads; what belongs to one term of leadership is `reign.rs`.
//!
//! Absent on purpose: leadership itself. The log says who leads, and `seat_actor.rs` follows.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use statehouse_contract::{Clock, NodeId, Rejection, RejectionCode, ShardId, TenantId, Timestamp};
use statehouse_log::{Leadership, Part, ShardLog};
use tracing::{debug, warn};

use crate::{
    admission::Admission,
    builds::Builds,
    cache::{Caches, DefinitionKey},
    carrier::Carried,
    directory::Directory,
    hint::Hint,
    kinds::Kinds,
    message::{BatchMessage, OutboxMessage, ScheduleMessage, WorkerMessage},
    metrics::Metrics,
    quota::{Counted, Quotas},
    reading::RowsError,
    reign::Reign,
    shard_host::Tuning,
    timer_actor::TimerHint,
};

/// What every shard of a node shares.
#[derive(Clone)]
pub struct Ground {
    /// The node.
    pub node: NodeId,
    /// The clock that decides.
    pub clock: Arc<dyn Clock>,
    /// Process groups.
    pub directory: Directory,
    /// Caches.
    pub caches: Arc<Caches>,
    /// Tenants' rates.
    pub quotas: Arc<Quotas>,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Instance actors awake on this node.
    pub live: Arc<AtomicUsize>,
    /// What may be set.
    pub tuning: Tuning,
    /// What the builds of the other nodes know.
    pub builds: Builds,
    /// The way to instances of any shard.
    pub carried: Carried,
    /// What this node's own workers can do.
    pub kinds: Kinds,
    /// When the node began, for everything that is measured in its own time.
    pub began: Instant,
}

/// Hints to the organs of a led shard.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Something waits to leave.
    pub(crate) outbox: Hint<OutboxMessage>,
    /// There is a task for this node's own workers.
    pub(crate) worker: Hint<WorkerMessage>,
    /// A schedule has changed.
    pub(crate) schedules: Hint<ScheduleMessage>,
    /// A batch has changed.
    pub(crate) batches: Hint<BatchMessage>,
}

/// A shard that this node holds.
pub struct Seat {
    ground: Ground,
    log: ShardLog,
    /// The log of shard 0, where definitions and tenants are.
    registry: ShardLog,
    admission: Arc<Admission>,
    hint: TimerHint,
    hints: Hints,
    /// The highest time of which this node knows that it is applied.
    time: AtomicI64,
    /// How far the shard's time ran ahead of the clock when the reign began, in milliseconds.
    lead_ms: AtomicI64,
    live: AtomicUsize,
    /// Definitions whose document is in this shard's rows: nothing ever takes one out again.
    held: Mutex<HashSet<DefinitionKey>>,
    closed: Mutex<Option<String>>,
}

/// A clock that is further behind the log than this is worth a line.
const CLOCK_LEAD_WARN_MS: i64 = 1_000;

/// Most names of definitions that are remembered to be held.
const HELD_MAX: usize = 10_000;

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("shard", &self.log.shard()).finish_non_exhaustive()
    }
}

impl Seat {
    /// Returns how many permits of this shard are out.
    #[must_use]
    pub fn permits_used(&self) -> usize {
        self.admission.used()
    }

    /// Returns the seat of a shard that nobody leads yet.
    #[must_use]
    pub fn new(
        ground: Ground,
        log: ShardLog,
        registry: ShardLog,
        admission: Arc<Admission>,
    ) -> Arc<Self> {
        Arc::new(Self {
            ground,
            log,
            registry,
            admission,
            hint: TimerHint::new(),
            hints: Hints::default(),
            time: AtomicI64::new(i64::MIN),
            lead_ms: AtomicI64::new(0),
            live: AtomicUsize::new(0),
            held: Mutex::default(),
            closed: Mutex::new(Some("the shard is opening".to_owned())),
        })
    }

    /// Returns the shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.log.shard()
    }

    /// Returns the shard's log.
    #[must_use]
    pub fn log(&self) -> &ShardLog {
        &self.log
    }

    /// Returns the log of shard 0.
    #[must_use]
    pub fn registry(&self) -> &ShardLog {
        &self.registry
    }

    /// Returns the hints to the organs of the led shard.
    pub(crate) const fn hints(&self) -> &Hints {
        &self.hints
    }

    /// Returns the shard's admission.
    #[must_use]
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Returns the process groups.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.ground.directory
    }

    /// Returns what every shard shares.
    #[must_use]
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Counts a command against its tenant's quota.
    ///
    /// # Errors
    /// `quota_exceeded` with the delay after which there is room again.
    pub fn charge(&self, tenant: &TenantId) -> Result<(), Rejection> {
        self.ground.quotas.take(tenant, Counted::Command)
    }

    /// Returns the newest feature level that the build of each member of the shard knows; nothing for one that is not
    /// connected to this node.
    pub(crate) fn builds(&self) -> BTreeMap<NodeId, Option<u16>> {
        let Ground { node: own, tuning, builds, .. } = &self.ground;
        let known = |node: NodeId| match node == *own {
            true => Some(tuning.build.level),
            false => builds.level_of(node),
        };
        self.log.members().into_keys().map(|node| (node, known(node))).collect()
    }

    /// Returns the voters of the shard, and whether each is connected to this node.
    pub(crate) fn voters(&self) -> BTreeMap<NodeId, bool> {
        let answers =
            |node| node == self.ground.node || self.ground.builds.level_of(node).is_some();
        let voters = self.log.members().into_iter().filter(|(_, m)| m.part == Part::Voter);
        voters.map(|(node, _)| (node, answers(node))).collect()
    }

    /// Returns whether a definition's document is known to be in this shard's rows.
    pub(crate) fn holds(&self, name: &DefinitionKey) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Takes note that a definition's document is in this shard's rows.
    pub(crate) fn now_holds(&self, name: DefinitionKey) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= HELD_MAX {
            held.clear();
        }
        held.insert(name);
    }

    /// Says that the shard serves now.
    pub(crate) fn open_for(&self, reign: &Reign) {
        debug!(shard = %self.shard(), term = reign.term, "the shard serves");
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the hint to the timer actor.
    #[must_use]
    pub fn timer_hint(&self) -> &TimerHint {
        &self.hint
    }

    /// Says why the shard does not serve.
    pub(crate) fn close(&self, why: &str) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// Returns why the shard does not serve; nothing if it does, here or under a leader elsewhere.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match *self.log.leadership().borrow() {
            Leadership::Following { leader: Some(_) } => None,
            Leadership::Following { leader: None } => Some("no leader is known".to_owned()),
            Leadership::Leading { .. } | Leadership::Stopped => {
                self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    /// Returns whether this node leads the shard, as far as the log knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        matches!(*self.log.leadership().borrow(), Leadership::Leading { .. })
    }

    /// Returns how many instance actors of this shard are awake.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed) as u64
    }

    /// Returns the refusal of a shard that does not serve here: certainly not done.
    #[must_use]
    pub fn why_closed(&self) -> Rejection {
        let why = self.trouble().unwrap_or_else(|| "another node leads it".to_owned());
        let detail = format!("shard {}: {why}", self.shard());
        Rejection::gateway(RejectionCode::NoLeader, detail).after_ms(100)
    }

    pub(crate) fn count_live(&self, count: usize) {
        self.live.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn forget_live(&self, count: usize) {
        self.live.fetch_sub(count, Ordering::Relaxed);
    }

    /// Returns the highest time that is applied in the rows here.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn rows_time(&self) -> Result<Timestamp, RowsError> {
        Ok(self.log.view().meta()?.time)
    }

    /// Returns the highest time of which this node knows that it is applied.
    pub(crate) fn applied_time(&self) -> Timestamp {
        Timestamp(self.time.load(Ordering::Acquire))
    }

    /// Returns the shard's time now: the clock, moved on so that it begins no earlier than what was applied before.
    pub(crate) fn now(&self) -> Timestamp {
        let lead_ms = self.lead_ms.load(Ordering::Acquire);
        self.applied_time().max(self.ground.clock.now().after_ms(lead_ms))
    }

    /// Starts the time of a reign. A clock that was set back since the last entry goes on from that entry: time that
    /// stood still until the clock had caught up would hold back every timer.
    pub(crate) fn begin_time(&self, applied: Timestamp) {
        self.learn_time(applied);
        let lead_ms = applied.since_ms(self.ground.clock.now()).max(0);
        self.lead_ms.store(lead_ms, Ordering::Release);
        if lead_ms >= CLOCK_LEAD_WARN_MS {
            warn!(shard = %self.shard(), lead_ms, "the clock is behind the last entry; time goes on from that entry");
        }
    }

    /// Takes note of a time that is applied.
    pub(crate) fn learn_time(&self, at: Timestamp) {
        self.time.fetch_max(at.0, Ordering::AcqRel);
    }
}
