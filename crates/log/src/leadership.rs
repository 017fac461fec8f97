//! Who leads the shard, as a value that can be watched; and the watchdog over a leader that does not move.
//!
//! What stands here is this replica's belief. It may be late: an entry is fenced by its term whatever
//! anybody believed, so the worst that a late belief costs is a refused proposal.
//!
//! The watchdog: a leader that has proposals on their way and applies nothing for a bound of time hands
//! its place to the most advanced follower; if there is none it refuses new work until it moves again. A leader whose
//! disk stays full for as long, or is slow (`pace.rs`), does the same. Nobody is handed anything who does not say that there is room on its disk.
//! The engine has no step-down call, so handing over is all that can be done.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::future::join_all;
use openraft::{
    ServerState,
    async_runtime::{Instant as _, WatchReceiver as _},
    raft::TransferLeaderRequest,
};
use tokio::sync::watch;
use tracing::{info, warn};

use statehouse_contract::NodeId;
use statehouse_store::log_file::{LogPosition, StoredVote};

use crate::{
    engine,
    membership::{self, Part},
    proposal::node,
    replica::Replica,
    transport::{Lane, LogRequest, LogResponse},
};

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
        replica.told.forget();
        replica.measures.leaders.fetch_add(1, Ordering::Relaxed);
        info!(shard = %replica.shard, leadership = ?now, "leadership changed");
    }
}

/// Watches that a leader with work to do moves, and that nobody has met damage in the rows.
pub(crate) async fn watchdog(replica: Arc<Replica>, patience: Duration) {
    let mut ticks = tokio::time::interval(patience / 8);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut moved_at = Instant::now();
    let mut position = None;
    let mut full_since = None;
    loop {
        ticks.tick().await;
        // Damage that a reader has met: the others have good rows, and one of them shall lead.
        if let Some(damage) = replica.applier.view().and_then(|view| view.damage()) {
            return replica.applier.set_aside(replica.shard, damage);
        }
        let applied = *replica.applied.borrow();
        let is_idle = replica.slots.taken() == 0;
        let is_leading = matches!(*replica.leadership.borrow(), Leadership::Leading { .. });
        let is_full = is_leading && replica.room.is_full();
        full_since = is_full.then(|| full_since.unwrap_or_else(Instant::now));
        if full_since.is_some_and(|since| since.elapsed() >= patience)
            && let Some(successor) = most_advanced(&replica)
        {
            warn!(shard = %replica.shard, "the disk is full, handing over to a node that has room");
            let _ = replica.raft.trigger().transfer_leader(successor).await;
            full_since = None;
        }
        if is_leading
            && replica.measures.is_slow()
            && let Some(successor) = most_advanced(&replica)
        {
            warn!(shard = %replica.shard, "the disk is slow, handing over to a node whose is not");
            let _ = replica.raft.trigger().transfer_leader(successor).await;
        }
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

/// Returns who may follow a leader that is gone: of all voters that answer within `patience`, those whose log is longest,
/// by their ids.
pub(crate) async fn heirs(replica: &Replica, leader: NodeId, patience: Duration) -> Vec<NodeId> {
    let (_, own) = replica.tail.extent();
    let term = replica.raft.server_metrics().borrow_watched().vote.leader_id.term;
    // A question that changes nothing at the other side and is answered with the end of its log.
    let vote = StoredVote { term: term + 1, node: replica.node.raft(), is_granted: false };
    let voters = membership::members(replica).into_iter().filter(|(_, m)| m.part == Part::Voter);
    let asked = voters.filter(|(node, _)| *node != leader).map(async |(node, member)| {
        if node == replica.node {
            return Some((own, node));
        }
        let request = LogRequest::PreVote { vote, last: own };
        let (lane, shard) = (Lane::Urgent, replica.shard);
        match replica.transport.ask(node, &member.peer, shard, lane, request, patience).await {
            Ok(LogResponse::Vote { last, .. }) => Some((last, node)),
            _ => None,
        }
    });
    longest(join_all(asked).await.into_iter().flatten().collect())
}

/// Returns those with the longest log, by their ids. Who has less cannot be voted for by who has more, and a vote that
/// was asked for in vain keeps the better one from being elected in the same term.
fn longest(mut ends: Vec<(Option<LogPosition>, NodeId)>) -> Vec<NodeId> {
    let Some(most) = ends.iter().map(|(end, _)| *end).max() else { return Vec::new() };
    ends.retain(|(end, _)| *end == most);
    let mut heirs: Vec<NodeId> = ends.into_iter().map(|(_, node)| node).collect();
    heirs.sort_unstable();
    heirs
}

/// Campaigns in place of a leader that is gone. The engine checks that the vote is still that leader's.
pub(crate) async fn succeed(replica: &Replica, leader: NodeId) -> bool {
    if *replica.leadership.borrow() != (Leadership::Following { leader: Some(leader) }) {
        return false;
    }
    let own = replica.node.raft();
    let found = replica.raft.with_raft_state(move |state| {
        let votes = state.membership_state.effective().membership().voter_ids().any(|id| id == own);
        (votes, *state.vote_ref())
    });
    let Ok((true, vote)) = found.await else { return false };
    let (_, last) = replica.tail.extent();
    if !vote.committed || vote.leader_id.voted_for != leader.raft() {
        return false;
    }
    info!(shard = %replica.shard, %leader, "the leader is gone, standing for election");
    let request = TransferLeaderRequest::new(vote, own, last.map(engine::log_id));
    matches!(replica.raft.handle_transfer_leader(request).await, Ok(Ok(())))
}

/// Returns for how long a leader has not heard from a majority.
pub(crate) fn age_of_leader(replica: &Replica) -> Option<Duration> {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let own = replica.node.raft();
    if metrics.membership_config.membership().voter_ids().eq([own]) {
        return Some(Duration::ZERO);
    }
    let acked = metrics.last_quorum_acked.as_ref()?;
    Some(acked.into_inner().elapsed())
}

/// Returns the voter, other than this replica, whose log is longest among those that have room on their disks.
pub(crate) fn most_advanced(replica: &Replica) -> Option<u64> {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let own = replica.node.raft();
    let matched = |id: &u64| {
        let progress = metrics.replication.as_ref()?.get(id)?;
        progress.as_ref().map(|log_id| log_id.index)
    };
    let voters = metrics.membership_config.membership().voter_ids();
    let candidates = voters
        .filter(|id| *id != own && replica.told.has_room(*id))
        .filter_map(|id| Some((matched(&id)?, id)));
    candidates.max().map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica_tests::{Counted, leading, start};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_others_have_applied_is_forgotten_with_the_reign_that_was_told() {
        let (_folder, node, replica) = start(&Counted::default()).await;
        let term = leading(&replica).await;
        let leads = Leadership::Leading { term };
        let (announced, _kept) = watch::channel(leads);
        replica.told.of(7).hear(1, 500, true);
        announce(&replica, &announced, leads);
        assert_eq!(replica.told.applied(7), Some(500), "nothing has changed");
        announce(&replica, &announced, Leadership::Following { leader: None });
        assert_eq!((replica.told.applied(7), replica.told.has_room(7)), (None, false));
        replica.told.of(7).hear(2, 900, true);
        assert_eq!(replica.told.applied(7), Some(900));
        replica.stop().await;
        node.stop().await;
    }

    #[test]
    fn only_the_longest_log_inherits_and_a_later_term_is_longer_than_many_entries() {
        let node = |number| NodeId { number, incarnation: 1 };
        let at = |term, index| Some(LogPosition { term, index });
        assert_eq!(longest(vec![(at(1, 8), node(3)), (at(1, 9), node(2))]), [node(2)]);
        assert_eq!(longest(vec![(at(1, 900), node(1)), (at(2, 3), node(2))]), [node(2)]);
        assert_eq!(longest(vec![(at(1, 9), node(3)), (at(1, 9), node(1))]), [node(1), node(3)]);
        assert_eq!(longest(vec![(None, node(3)), (at(1, 0), node(1))]), [node(1)]);
        assert_eq!(longest(Vec::new()), []);
    }
}
