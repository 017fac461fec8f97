//! Whether this node can serve, in numbers and in one sentence.
//!
//! Absent on purpose: what an operator should do; the runbooks say that.

use statehouse_contract::{limits::REGISTRY_AGE_MS_MAX, view::ShardView};

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
        let cut_off = shard.age_ms.filter(|age| *age > REGISTRY_AGE_MS_MAX);
        let why = why.map(ToOwned::to_owned).or_else(|| cut_off.map(old));
        why.map(|why| format!("shard {}: {why}", shard.shard))
    });
    Readiness { ready: reason.is_none(), shards, reason }
}

// Past this age nothing is let in that changes anything, and nothing that must be fresh is read.
fn old(age_ms: u64) -> String {
    format!("it has heard of no majority for {age_ms} ms, at most {REGISTRY_AGE_MS_MAX} are served")
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
            lag: 0,
            age_ms: None,
            live: 0,
            level: Some(1),
            replicas: Vec::new(),
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

    #[test]
    fn a_node_that_is_cut_off_is_not_ready() {
        let aged = |age_ms| ShardView { age_ms, ..shard(2, "leader", None) };
        assert!(of(vec![aged(None), aged(Some(REGISTRY_AGE_MS_MAX))]).ready);
        let cut_off = of(vec![shard(0, "follower", None), aged(Some(REGISTRY_AGE_MS_MAX + 1))]);
        let reason = "shard 2: it has heard of no majority for 5001 ms, at most 5000 are served";
        assert_eq!((cut_off.ready, cut_off.reason.as_deref()), (false, Some(reason)));
    }
}
