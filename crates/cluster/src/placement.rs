//! Which members vote, and which of them should lead a shard. Pure.
//!
//! Every member holds every shard. The first five by number vote; more voters would make every commit wait for more
//! disks and survive no likelier fault. Leaders are spread round robin over the voters that are not draining, so that a
//! node's end stops as few shards as possible.
//!
//! Absent on purpose: load and regions. A plan that follows measurements needs damping, and comes when it is needed.

use std::collections::BTreeSet;

use statehouse_contract::{Members, NodeId, ShardId, Standing};

/// Most voters of a shard.
pub(crate) const VOTERS_MAX: usize = 5;

/// Returns who should vote.
pub(crate) fn voters(members: &Members) -> BTreeSet<NodeId> {
    members.present().map(|(node, _)| node).take(VOTERS_MAX).collect()
}

/// Returns who should lead a shard; nobody where every voter drains.
pub(crate) fn leader(shard: ShardId, members: &Members) -> Option<NodeId> {
    let willing: Vec<NodeId> = members
        .present()
        .take(VOTERS_MAX)
        .filter(|(_, document)| document.standing != Some(Standing::Draining))
        .map(|(node, _)| node)
        .collect();
    let place = usize::try_from(shard.0).unwrap_or(0).checked_rem(willing.len())?;
    willing.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use statehouse_contract::MemberDocument;

    fn members(standings: &[(u32, Standing)]) -> Members {
        let document = |standing| MemberDocument {
            links: String::new(),
            log: String::new(),
            api: String::new(),
            region: None,
            standing: Some(standing),
        };
        let row = |(number, standing): &(u32, Standing)| {
            (NodeId { number: *number, incarnation: 1 }, document(*standing))
        };
        Members(standings.iter().map(row).collect())
    }

    #[test]
    fn leaders_are_spread_over_the_voters_that_stay() {
        let (active, draining) = (Standing::Active, Standing::Draining);
        let led = |list: &Members| -> Vec<u32> {
            (0..6).filter_map(|shard| leader(ShardId(shard), list)).map(|n| n.number).collect()
        };
        let three = members(&[(1, active), (2, active), (3, active)]);
        assert_eq!(led(&three), [1, 2, 3, 1, 2, 3]);
        let two = members(&[(1, active), (2, draining), (3, active)]);
        assert_eq!(led(&two), [1, 3, 1, 3, 1, 3]);
        assert_eq!(voters(&two).len(), 3, "who drains still votes");
        assert_eq!(leader(ShardId(0), &members(&[(1, draining)])), None);
        assert_eq!(leader(ShardId(0), &Members::default()), None);
    }

    #[test]
    fn at_most_five_vote_and_only_voters_lead() {
        let many: Vec<(u32, Standing)> = (1..=8).map(|number| (number, Standing::Active)).collect();
        let eight = members(&many);
        assert_eq!(voters(&eight).len(), VOTERS_MAX);
        for shard in 0..16 {
            assert!(voters(&eight).contains(&leader(ShardId(shard), &eight).unwrap()));
        }
    }
}
