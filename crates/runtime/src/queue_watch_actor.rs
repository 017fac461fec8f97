//! Queues whose tasks wait too long: nobody works there, or too few do.
//!
//! A task may wait for a worker as long as it likes; nothing grows meanwhile, and nothing is lost. But somebody should
//! know. This organ of each led shard looks every few seconds which queue's oldest ready task has waited longer than
//! `queue_late_ms`, says it once in the log, again when it is over, and shows it as a number all the time.
//!
//! Absent on purpose: who polls a queue. A poll reaches one node, and a worker that polls and takes nothing helps nobody.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use statehouse_contract::{
    TenantId,
    limits::{QUEUE_LATE_MS, QUEUES_WATCHED_MAX},
};
use tracing::{info, warn};

use crate::{message::QueueWatchMessage, reading::RowsError, reign::Reign};

/// How often queues are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// The actor that watches queues.
#[derive(Debug)]
pub(crate) struct QueueWatch;

/// A queue of a tenant.
type Queue = (TenantId, Box<str>);

/// What it knows.
pub(crate) struct QueueWatchState {
    reign: Arc<Reign>,
    late: BTreeSet<Queue>,
}

impl Actor for QueueWatch {
    type Msg = QueueWatchMessage;
    type State = QueueWatchState;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        drop(myself.send_interval(EVERY, || QueueWatchMessage::Look));
        Ok(QueueWatchState::new(reign))
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let QueueWatchMessage::Look = message;
        if let Err(why) = state.look() {
            warn!(%why, "queues cannot be read");
        }
        Ok(())
    }
}

impl QueueWatchState {
    /// Returns a state that has looked at nothing.
    pub(crate) const fn new(reign: Arc<Reign>) -> Self {
        Self { reign, late: BTreeSet::new() }
    }

    /// Looks at the oldest ready task of each queue: one probe of an index a queue.
    pub(crate) fn look(&mut self) -> Result<(), RowsError> {
        let now = self.reign.now();
        let view = self.reign.seat().log().view();
        let mut late = BTreeSet::new();
        let mut after = None;
        for _ in 0..QUEUES_WATCHED_MAX {
            let Some((tenant, queue, ready)) = view.oldest_ready(after.as_ref())? else { break };
            let waited_ms = now.since_ms(ready);
            let key = (tenant, queue);
            if u64::try_from(waited_ms).is_ok_and(|waited| waited >= QUEUE_LATE_MS) {
                if !self.late.contains(&key) {
                    let (tenant, queue) = &key;
                    warn!(%tenant, %queue, waited_ms, "tasks of a queue wait and nobody takes them");
                }
                late.insert(key.clone());
            }
            after = Some(key);
        }
        for (tenant, queue) in self.late.difference(&late) {
            info!(%tenant, %queue, "the tasks of a queue are taken again");
        }
        self.show(late);
        Ok(())
    }

    fn show(&mut self, late: BTreeSet<Queue>) {
        let count = |queues: &BTreeSet<Queue>| i64::try_from(queues.len()).unwrap_or(i64::MAX);
        let more = count(&late) - count(&self.late);
        self.reign.metrics().late_queues.fetch_add(more, Ordering::Relaxed);
        self.late = late;
    }
}

impl Drop for QueueWatchState {
    fn drop(&mut self) {
        // Another node leads the shard now, and watches.
        self.show(BTreeSet::new());
    }
}
