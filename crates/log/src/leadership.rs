//! Who leads the shard, as a value that can be watched; and the watchdog over a leader that does not move.
//!
//! What stands here is this replica's belief. It may be late: an entry is fenced by its term whatever
//! anybody believed, so the worst that a late belief costs is a refused proposal.
//!
//! The watchdog: a leader that has proposals on their way and applies nothing for a bound of time hands
//! its place to the most advanced follower; if there is none it refuses new work until it moves again.
//! The engine has no step-down call, so handing over is all that can be done.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use openraft::{ServerState, async_runtime::WatchReceiver as _};
use tokio::sync::watch;
use tracing::{info, warn};

use statehouse_contract::NodeId;

use crate::{proposal::node, replica::Replica};

/// This replica's part in the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It may propose, in this term only.
    Leading {
        /// The term.
        term: u64,
    },
    /// Another replica may lead.
    Following {
        /// Who, if anybody is known.
        leader: Option<NodeId>,
    },
    /// It has stopped for good.
    Stopped,
}

/// Follows the engine and announces who leads, until the engine stops.
pub(crate) async fn follow(replica: Arc<Replica>, announced: watch::Sender<Leadership>) {
    let mut seen = replica.raft.server_metrics();
    loop {
        let now = {
            let metrics = seen.borrow_watched();
            match metrics.state {
                ServerState::Shutdown => Leadership::Stopped,
                ServerState::Leader => Leadership::Leading { term: metrics.vote.leader_id.term },
                ServerState::Learner | ServerState::Follower | ServerState::Candidate => {
                    let leader = metrics.current_leader.map(node);
                    Leadership::Following { leader: leader.filter(|id| *id != replica.node) }
                }
            }
        };
        announce(&replica, &announced, now);
        let failure = replica.applier.failure();
        let is_running = tokio::select! {
            changed = seen.changed() => changed.is_ok(),
            _ = failure.wait() => {
                // Rows that failed answer nothing: the engine ends too, and the others elect a leader.
                let _ = replica.raft.shutdown().await;
                false
            }
        };
        if !is_running {
            return announce(&replica, &announced, Leadership::Stopped);
        }
    }
}

fn announce(replica: &Replica, announced: &watch::Sender<Leadership>, now: Leadership) {
    let is_news = announced.send_if_modified(|before| {
        let is_news = *before != now;
        *before = now;
        is_news
    });
    if is_news {
        info!(shard = %replica.shard, leadership = ?now, "leadership changed");
    }
}

/// Watches that a leader with work to do moves.
pub(crate) async fn watchdog(replica: Arc<Replica>, patience: Duration) {
    let mut ticks = tokio::time::interval(patience / 8);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut moved_at = Instant::now();
    let mut position = None;
    loop {
        ticks.tick().await;
        let applied = *replica.applied.borrow();
        let is_idle = replica.slots.taken() == 0;
        let is_leading = matches!(*replica.leadership.borrow(), Leadership::Leading { .. });
        if applied != position || is_idle || !is_leading {
            position = applied;
            moved_at = Instant::now();
            if replica.is_stalled.swap(false, Ordering::Relaxed) {
                info!(shard = %replica.shard, "the log moves again");
            }
            continue;
        }
        if moved_at.elapsed() < patience {
            continue;
        }
        if !replica.is_stalled.swap(true, Ordering::Relaxed) {
            warn!(shard = %replica.shard, ?applied, "the log does not move");
        }
        if let Some(successor) = most_advanced(&replica) {
            // An engine that has stopped needs no successor: the others elect one.
            let _ = replica.raft.trigger().transfer_leader(successor).await;
            moved_at = Instant::now();
        }
    }
}

/// Returns the voter, other than this replica, whose log is longest.
pub(crate) fn most_advanced(replica: &Replica) -> Option<u64> {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let own = replica.node.raft();
    let matched = |id: &u64| {
        let progress = metrics.replication.as_ref()?.get(id)?;
        progress.as_ref().map(|log_id| log_id.index)
    };
    let voters = metrics.membership_config.membership().voter_ids();
    let candidates = voters.filter(|id| *id != own).filter_map(|id| Some((matched(&id)?, id)));
    candidates.max().map(|(_, id)| id)
}
