//! Whether this node can serve, in numbers and in one sentence.
//!
//! Absent on purpose: what an operator should do; the runbooks say that.

use statehouse_contract::view::ShardView;

/// Whether this node can serve.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Whether every shard that this node leads or follows can answer.
    pub ready: bool,
    /// Each shard as this node sees it.
    pub shards: Vec<ShardView>,
    /// Why it cannot serve; nothing when it can.
    pub reason: Option<String>,
}

/// Judges a node by its shards.
#[must_use]
pub(crate) fn of(shards: Vec<ShardView>) -> Readiness {
    let reason = shards.iter().find_map(|shard| {
        let is_open = matches!(shard.role.as_str(), "leader" | "follower" | "learner");
        let closed = (!is_open).then_some("it is not open");
        let why = shard.trouble.as_deref().or(closed);
        why.map(|why| format!("shard {}: {why}", shard.shard))
    });
    Readiness { ready: reason.is_none(), shards, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(number: u32, role: &str, trouble: Option<&str>) -> ShardView {
        ShardView {
            shard: number,
            role: role.to_owned(),
            leader: None,
            term: 1,
            committed: 0,
            applied: 0,
            snapshot: 0,
            live: 0,
            trouble: trouble.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn a_node_is_ready_when_every_shard_can_answer() {
        assert!(of(vec![shard(0, "leader", None), shard(1, "follower", None)]).ready);
        let full = of(vec![shard(0, "leader", None), shard(1, "leader", Some("the disk is full"))]);
        assert_eq!(full.reason.as_deref(), Some("shard 1: the disk is full"));
        let opening = of(vec![shard(0, "stopped", None)]);
        assert_eq!(
            (opening.ready, opening.reason.as_deref()),
            (false, Some("shard 0: it is not open"))
        );
    }
}
