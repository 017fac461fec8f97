//! Is what is committed applied in time? A leader whose majority cannot keep up lets no new client command in.
//!
//! Each follower tells with its answers how far it has applied. The distance between what is committed and what a majority
//! has applied may be half a second of work, at the rate at which this leader applies; beyond that a new leader would have
//! to catch up before it could serve, and the queue would only move from the door into the log.
//!
//! The same look notes whether a majority still answers: a leader that nobody answers vouches for nobody's copy.
//!
//! Absent on purpose: slowing anything down. New work is refused with an explicit reason, what is in the log goes on.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::{
    handle::index,
    leadership::{Leadership, age_of_leader},
    replica::Replica,
};
use openraft::async_runtime::WatchReceiver as _;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The distance that is allowed at any rate: a slow start is no lag.
const DISTANCE_MIN: u64 = 1_000;
/// How much of the highest rate is forgotten at each look: a burst counts for some seconds.
const FADE: f64 = 0.98;

/// Returns the distance that is allowed at a rate of so many entries a second: half a second's work.
fn allowed(rate: f64) -> u64 {
    // A rate is a small positive number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are small and positive"
    )]
    let half = (rate / 2.0) as u64;
    half.max(DISTANCE_MIN)
}

/// Returns what a majority has applied: the highest count that so many reach.
fn majority(mut applied: Vec<u64>) -> u64 {
    applied.sort_unstable_by(|a, b| b.cmp(a));
    applied.get(applied.len() / 2).copied().unwrap_or(0)
}

pub(crate) async fn watch(replica: Arc<Replica>, lease: Duration) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut rate, mut before, mut at) = (0.0_f64, count(&replica), Instant::now());
    loop {
        ticks.tick().await;
        let (now, applied) = (Instant::now(), count(&replica));
        let elapsed = now.duration_since(at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more")]
        let measured = applied.saturating_sub(before) as f64 / elapsed.max(0.001);
        (rate, before, at) = ((rate * FADE).max(measured), applied, now);
        let leads = matches!(*replica.leadership.borrow(), Leadership::Leading { .. });
        replica.told.confirm(leads && age_of_leader(&replica).is_some_and(|age| age <= lease));
        let is_lagging = leads && distance(&replica, applied) > allowed(rate);
        if replica.is_lagging.swap(is_lagging, Ordering::Relaxed) != is_lagging {
            let shard = replica.shard;
            if is_lagging {
                warn!(%shard, rate, "a majority applies too slowly: new commands are refused");
            } else {
                info!(%shard, "a majority keeps up again");
            }
        }
    }
}

fn count(replica: &Replica) -> u64 {
    replica.applied.borrow().map_or(0, |position| position + 1)
}

fn distance(replica: &Replica, own: u64) -> u64 {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let committed = index(&metrics.cluster_committed).map_or(0, |position| position + 1);
    let node = replica.node.raft();
    let voters = metrics.membership_config.membership().voter_ids();
    // A leader that has just begun has heard from nobody: that is no lag.
    let applied = |id: u64| if id == node { own } else { replica.told.applied(id).unwrap_or(own) };
    committed.saturating_sub(majority(voters.map(applied).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        assert_eq!(majority(vec![7]), 7);
        assert_eq!(majority(vec![9, 5]), 5);
        assert_eq!(majority(vec![9, 1, 5]), 5);
        assert_eq!(majority(vec![9, 8, 1, 1]), 1);
        assert_eq!(majority(vec![]), 0);
    }

    #[test]
    fn half_a_second_of_work_is_allowed_and_a_slow_start_is_no_lag() {
        assert_eq!(allowed(0.0), DISTANCE_MIN);
        assert_eq!(allowed(100.0), DISTANCE_MIN);
        assert_eq!(allowed(10_000.0), 5_000);
    }
}
