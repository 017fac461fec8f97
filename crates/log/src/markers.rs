//! Are the replicas equal? Each tells the fingerprint of its rows at the last marker, and they are compared.
//!
//! A marker is an entry that changes nothing. Every replica takes the fingerprint of all its rows when it applies one, so
//! at one marker all must have the same. What differs is told and counted; nobody is stopped by it yet, because a row
//! that is damaged sets its replica aside by its own digest, and a difference that is not damage is a fault of ours.
//!
//! Absent on purpose: proposing markers; whoever leads does that now and then.

use std::time::Duration;

use statehouse_contract::NodeId;
use statehouse_store::Chain;

use crate::{
    membership,
    replica::Replica,
    transport::{Lane, LogRequest, LogResponse},
};

/// How long a replica may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) async fn differing(replica: &Replica) -> Vec<NodeId> {
    let Some(own) = *replica.applier.marker().borrow() else { return Vec::new() };
    let mut told = Vec::new();
    for (node, member) in membership::members(replica) {
        if node == replica.node {
            continue;
        }
        let (lane, request) = (Lane::Append, LogRequest::Marker);
        let asked =
            replica.transport.ask(node, &member.peer, replica.shard, lane, request, PATIENCE);
        if let Ok(LogResponse::Marker(theirs)) = asked.await {
            told.push((node, theirs));
        }
    }
    judge(own, &told)
}

/// Returns those who have applied the same marker and have other rows there. Who is elsewhere is not judged.
fn judge(own: (u64, Chain), told: &[(NodeId, Option<(u64, Chain)>)]) -> Vec<NodeId> {
    let differs = |theirs: &(u64, Chain)| theirs.0 == own.0 && theirs.1 != own.1;
    told.iter().filter(|(_, theirs)| theirs.as_ref().is_some_and(differs)).map(|t| t.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_rows_at_the_same_marker_differ() {
        let node = |number| NodeId { number, incarnation: 1 };
        let (ours, other) = (Chain([1; 16]), Chain([2; 16]));
        let told = [
            (node(2), Some((7, ours))),
            (node(3), Some((7, other))),
            (node(4), Some((6, other))),
            (node(5), None),
        ];
        assert_eq!(judge((7, ours), &told), [node(3)]);
    }
}
