//! The sweep actor: rows whose time of keeping is over are named to the log, and apply removes them.
//!
//! It looks once a minute, names a bounded batch, and goes on at once while there is more. What is old is judged by shard
//! time, which never goes back. On the same round it sets a marker where anything has changed since the last one, and
//! tells when a replica's rows there are others than this leader's.
//!
//! Absent on purpose: deleting. Only an entry deletes.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use statehouse_store::{Body, Entry};
use tracing::{error, warn};

use crate::{
    message::SweepMessage,
    metrics::one,
    reign::{Proposed, Reign},
};

const EVERY: Duration = Duration::from_secs(60);
/// How long the other replicas have to apply a marker before they are compared.
const SETTLE: Duration = Duration::from_millis(500);
/// Most rows of one entry.
const BATCH_MAX: u32 = 1_024;
/// Most entries of one look.
const BATCHES_MAX: usize = 64;

/// The sweep actor of a led shard.
#[derive(Debug)]
pub(crate) struct SweepActor;

/// What the sweep actor knows.
pub(crate) struct SweepState {
    reign: Arc<Reign>,
    /// The position and the birth after which to look on.
    after: (u64, u64),
    /// The position up to which a marker was set.
    marked: Option<u64>,
}

/// Whether there may be more to sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Now,
    Later,
}

impl Actor for SweepActor {
    type Msg = SweepMessage;
    type State = SweepState;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        drop(myself.send_interval(EVERY, || SweepMessage::Look));
        Ok(SweepState::new(reign))
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let SweepMessage::Look = message;
        for _ in 0..BATCHES_MAX {
            if state.sweep().await == More::Later {
                break;
            }
        }
        state.mark().await;
        Ok(())
    }
}

impl SweepState {
    /// Returns a state that has looked at nothing.
    pub(crate) fn new(reign: Arc<Reign>) -> Self {
        Self { reign, after: (0, 0), marked: None }
    }

    /// Sets a marker if anything has changed, and compares the replicas there.
    pub(crate) async fn mark(&mut self) {
        let log = self.reign.seat().log();
        let applied = *log.applied().borrow();
        if applied <= self.marked {
            return;
        }
        let entry = Entry { header: self.reign.system_header(), body: Body::DigestAt };
        if !matches!(self.reign.propose_healing(entry).await, Proposed::Applied(_)) {
            return;
        }
        self.marked = *log.applied().borrow();
        // The others apply it a moment later; who is further behind is compared another time.
        tokio::time::sleep(SETTLE).await;
        for node in log.differing().await {
            error!(shard = %self.reign.shard(), %node, "the rows of a replica differ from the leader's");
            one(&self.reign.metrics().divergences);
        }
    }

    /// Looks at one bounded stretch of rows and names what is old to the log.
    pub(crate) async fn sweep(&mut self) -> More {
        let (reign, after) = (Arc::clone(&self.reign), self.after);
        let looked = tokio::task::spawn_blocking(move || reign.sweepable(after, BATCH_MAX)).await;
        let page = match looked {
            Ok(Ok(page)) => page,
            Ok(Err(why)) => {
                warn!(shard = %self.reign.shard(), %why, "cannot look for rows to sweep");
                return More::Later;
            }
            Err(panic) => {
                warn!(shard = %self.reign.shard(), %panic, "looking for rows to sweep panicked");
                return More::Later;
            }
        };
        let is_empty = page.swept.keys.is_empty()
            && page.swept.loose.is_empty()
            && page.swept.instances.is_empty();
        if !is_empty {
            let entry = Entry { header: self.reign.system_header(), body: Body::Swept(page.swept) };
            if !matches!(self.reign.propose_healing(entry).await, Proposed::Applied(_)) {
                return More::Later;
            }
        }
        // Receipts grow old in the order of the log: behind the first young ones nothing is old, but finished instances
        // and postponed answers lie scattered, so each round walks to the end once.
        self.after = if page.is_end { (0, 0) } else { (page.next_position, page.next_born) };
        if page.is_end { More::Later } else { More::Now }
    }
}
