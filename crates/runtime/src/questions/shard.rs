//! How one shard stands, as this node sees it: who leads, how far the rows are, how old they are.
//!
//! Nothing here waits for anybody: it is this replica's belief and may be late. A leader also tells how far behind the
//! others are, because nobody else knows.
//!
//! Absent on purpose: whether that is good enough. Health, the router and the reads each draw their own line.

use std::time::Duration;

use statehouse_contract::{
    InstanceKey, NodeId, Rejection, RejectionCode, ShardId,
    view::{ReplicaView, ShardView},
};
use statehouse_log::{Leadership, Member, Part};

use crate::seat::Seat;

impl Seat {
    /// Returns how the shard stands, as this node sees it.
    #[must_use]
    pub fn shard_view(&self) -> ShardView {
        let numbers = self.log().numbers();
        let trouble = self.trouble();
        let own = self.log().node();
        let (role, leader) = match *self.log().leadership().borrow() {
            Leadership::Leading { .. } if trouble.is_some() => ("opening", Some(own)),
            Leadership::Leading { .. } => ("leader", Some(own)),
            Leadership::Following { leader } => ("follower", leader),
            Leadership::Stopped => ("stopped", None),
        };
        let trouble = trouble
            .or_else(|| numbers.is_stalled.then(|| "the log does not move".to_owned()))
            .or_else(|| self.log().is_storage_full().then(|| "the disk is full".to_owned()));
        ShardView {
            shard: self.shard().0,
            role: role.to_owned(),
            leader: leader.map(|node| node.to_string()),
            term: numbers.term,
            committed: numbers.committed.unwrap_or(0),
            applied: numbers.applied.unwrap_or(0),
            snapshot: numbers.snapshot.unwrap_or(0),
            lag: numbers.committed.unwrap_or(0).saturating_sub(numbers.applied.unwrap_or(0)),
            age_ms: self.log().age().and_then(|age| u64::try_from(age.as_millis()).ok()),
            live: self.live(),
            level: self.level(),
            replicas: self.replicas(numbers.last.unwrap_or(0)),
            trouble,
        }
    }

    /// Returns the shard's feature level as this node's rows have it; nothing while they cannot be read.
    #[must_use]
    pub fn level(&self) -> Option<u16> {
        self.log().view().meta().ok().map(|meta| meta.level)
    }

    fn replicas(&self, last: u64) -> Vec<ReplicaView> {
        let (own, progress) = (self.log().node(), self.log().progress());
        let members = self.log().members();
        // One node alone has nothing to tell about others.
        let members = members.into_iter().filter(|_| !progress.is_empty() || !self.leads());
        let view = |(node, member): (NodeId, Member)| {
            let known = progress.get(&node).map(|at| last.saturating_sub(at.unwrap_or(0)));
            let part = match member.part {
                Part::Voter => "voter",
                Part::Learner => "learner",
            };
            let behind = if node == own && self.leads() { Some(0) } else { known };
            ReplicaView { node: node.to_string(), part: part.to_owned(), behind }
        };
        members.map(view).collect()
    }

    /// Returns whether an actor is awake for an instance on this node.
    #[must_use]
    pub fn is_awake(&self, key: &InstanceKey) -> bool {
        self.directory().find_instance(key).is_some()
    }

    /// Returns the age of this copy, or the refusal of a copy that is older than a read may be.
    ///
    /// # Errors
    /// `behind`: nobody has vouched for this copy for so long, or ever.
    pub fn age_within(&self, limit_ms: u64) -> Result<u64, Rejection> {
        within(self.shard(), self.log().age(), limit_ms)
    }
}

/// Returns how old a copy is, or the refusal of one that is older than allowed or of unknown age.
pub(crate) fn within(
    shard: ShardId,
    age: Option<Duration>,
    limit_ms: u64,
) -> Result<u64, Rejection> {
    let age_ms = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let detail = match age_ms {
        Some(age_ms) if age_ms <= limit_ms => return Ok(age_ms),
        Some(age_ms) => format!(
            "the copy of shard {shard} on this node is {age_ms} ms old, at most {limit_ms} are allowed"
        ),
        None => format!("no leader has vouched for the copy of shard {shard} yet"),
    };
    Err(Rejection::gateway(RejectionCode::Behind, detail).after_ms(500))
}
