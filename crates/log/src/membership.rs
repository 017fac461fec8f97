//! The members of a shard: founding, learners, voters, removal.
//!
//! A node comes in as a learner, is caught up, and only then becomes a voter; it leaves the voters before
//! it leaves the shard. Ids are of one incarnation: a node that has lost its log comes back as another.
//!
//! Founding is an explicit act, once, by whoever makes the cluster. It is never concluded from an empty
//! directory: an empty directory may be a lost one.

use std::collections::BTreeMap;

use openraft::{
    ChangeMembers,
    async_runtime::WatchReceiver as _,
    errors::{ClientWriteError, InitializeError, RaftError},
};

use statehouse_contract::NodeId;

use crate::{
    engine::{Engine, Peer},
    error::{LogError, ProposeError},
    proposal::node,
    replica::Replica,
};

/// One member of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node's address on the log's wire; empty where there is no wire.
    pub peer: Peer,
    /// Whether it votes, or only learns.
    pub part: Part,
}

/// What a member does in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It votes and counts for the majority.
    Voter,
    /// It follows.
    Learner,
}

/// The members of a shard, by node.
pub type Members = BTreeMap<NodeId, Member>;

/// Founds the shard with these voters; does nothing where it exists.
pub(crate) async fn found(
    replica: &Replica,
    voters: &BTreeMap<NodeId, Peer>,
) -> Result<(), LogError> {
    let voters: BTreeMap<u64, Peer> =
        voters.iter().map(|(id, peer)| (id.raft(), peer.clone())).collect();
    match replica.raft.initialize(voters).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(LogError::Engine { shard: replica.shard, what: error.to_string() }),
    }
}

/// Returns the members as this replica knows them.
pub(crate) fn members(replica: &Replica) -> Members {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let members = metrics.membership_config.membership();
    let voters: Vec<u64> = members.voter_ids().collect();
    let part = |id: &u64| if voters.contains(id) { Part::Voter } else { Part::Learner };
    members
        .nodes()
        .map(|(id, peer)| (node(*id), Member { peer: peer.clone(), part: part(id) }))
        .collect()
}

/// Returns whether a change of the voters has stopped half-way: two majorities are needed until somebody finishes it. The
/// engine writes both halves for whoever asked for the change, and nobody when that one has gone.
pub(crate) fn is_joint(replica: &Replica) -> bool {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    metrics.membership_config.membership().get_joint_config().len() > 1
}

/// Takes a node in as a learner and waits until the entry that says so is applied.
pub(crate) async fn add_learner(
    replica: &Replica,
    id: NodeId,
    peer: Peer,
) -> Result<(), ProposeError> {
    let added = replica.raft.add_learner(id.raft(), peer, false).await;
    added.map(|_| ()).map_err(|error| refused(replica, &error))
}

/// Makes these nodes the voters; the others stay as learners. Asked again, it finishes what has stopped half-way.
pub(crate) async fn set_voters(replica: &Replica, voters: &[NodeId]) -> Result<(), ProposeError> {
    let voters = ChangeMembers::ReplaceAllVoters(voters.iter().map(|id| id.raft()).collect());
    let changed = replica.raft.change_membership(voters, true).await;
    changed.map(|_| ()).map_err(|error| match is_joint(replica) {
        // The first half is written: whatever the second one says, this is no "nothing was done".
        true => ProposeError::Unknown,
        false => refused(replica, &error),
    })
}

/// Takes a learner out.
pub(crate) async fn remove(replica: &Replica, id: NodeId) -> Result<(), ProposeError> {
    let gone = ChangeMembers::RemoveNodes([id.raft()].into());
    let changed = replica.raft.change_membership(gone, true).await;
    changed.map(|_| ()).map_err(|error| refused(replica, &error))
}

fn refused(replica: &Replica, error: &RaftError<Engine, ClientWriteError<Engine>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            let hint = forward.leader_id.map(node).filter(|hint| *hint != replica.node);
            ProposeError::NotLeader { hint }
        }
        // Another change is under way, or this one cannot be: nothing was written.
        RaftError::APIError(
            ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
        ) => ProposeError::Overloaded,
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) | RaftError::Fatal(_) => {
            ProposeError::Unknown
        }
    }
}
