//! How replicas talk: the trait that the cluster's wire implements, and every message in plain types.
//!
//! A message is behind the contract's codec like anything else that crosses a process. Appends, votes and
//! snapshots go on lanes of their own, so that a snapshot cannot delay a heartbeat. The receiving side
//! hands a request to [`ShardLog::receive`](crate::ShardLog::receive) in a task of its own and never
//! awaits it in a read loop: the answer may wait for a sync.
//!
//! Absent on purpose: sockets, retries and queues. [`NoPeers`] is the whole transport of a single node.

use std::{future::Future, pin::Pin, time::Duration};

use bincode::{Decode, Encode};

use statehouse_contract::{Digest, NodeId, ShardId};
use statehouse_store::Chain;
// The messages below are made of these.
pub use statehouse_store::log_file::{LogPosition, LogRecord, StoredVote};

use crate::engine::Peer;

/// Which connection a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Votes, heartbeats, transfers: small and urgent.
    Urgent,
    /// Entries.
    Append,
    /// Parts of a snapshot.
    Snapshot,
}

/// A question to another replica of the same shard.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LogRequest {
    /// Entries, or none as a heartbeat.
    Append {
        /// The leader's vote.
        vote: StoredVote,
        /// The position before the first entry.
        previous: Option<LogPosition>,
        /// The entries.
        records: Vec<LogRecord>,
        /// What the leader knows to be committed.
        committed: Option<LogPosition>,
        /// The last echo that the leader has got from this replica; 0 for none.
        echo: u64,
    },
    /// Asks for a vote.
    Vote {
        /// The candidate's vote.
        vote: StoredVote,
        /// Where the candidate's log ends.
        last: Option<LogPosition>,
        /// Whether the leader itself asked for this election.
        is_transfer: bool,
    },
    /// Asks whether a vote would be given.
    PreVote {
        /// The vote that would be asked for.
        vote: StoredVote,
        /// Where the candidate's log ends.
        last: Option<LogPosition>,
    },
    /// Tells that the leader hands over.
    Transfer {
        /// The leader's vote.
        from: StoredVote,
        /// The engine's id of the next leader.
        to: u64,
        /// What the next leader must have.
        last: Option<LogPosition>,
    },
    /// Asks a leader where a read may begin.
    ReadIndex {
        /// Whether a majority must confirm that it leads; else its lease does.
        is_strict: bool,
    },
    /// Asks for the last marker that the replica has applied.
    Marker,
    /// A part of a snapshot; the last one installs it.
    Snapshot {
        /// The leader's vote.
        vote: StoredVote,
        /// Where the snapshot stands, with its members, encoded.
        mark: Vec<u8>,
        /// The fingerprint of the whole file.
        hash: Digest,
        /// Size of the whole file.
        bytes: u64,
        /// Where this part begins.
        offset: u64,
        /// The part.
        part: Vec<u8>,
    },
}

/// The answer of another replica.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LogResponse {
    /// To an append.
    Append {
        /// How it ended.
        ended: Appended,
        /// The number of this answer, by which a follower measures how fresh its copy is.
        echo: u64,
        /// How many entries it has applied.
        applied: u64,
    },
    /// To a vote or pre-vote.
    Vote {
        /// The answering replica's vote.
        vote: StoredVote,
        /// Where its log ends.
        last: Option<LogPosition>,
        /// Whether it is granted.
        is_granted: bool,
    },
    /// To a transfer.
    Transferred {
        /// Whether the next leader campaigns.
        is_accepted: bool,
    },
    /// To a read's question: the position, or why there is none.
    ReadIndex(Result<u64, ReadRefused>),
    /// To the question for a marker: its position and the fingerprint of all rows there.
    Marker(Option<(u64, Chain)>),
    /// To a part of a snapshot: the answering replica's vote.
    Snapshot {
        /// Its vote.
        vote: StoredVote,
    },
    /// To an append, when the replica has no room to spare on its disk: it should not lead. From version 2 of the wire on.
    AppendWithoutRoom {
        /// How it ended.
        ended: Appended,
        /// As in [`LogResponse::Append`].
        echo: u64,
        /// How many entries it has applied.
        applied: u64,
    },
}

impl LogResponse {
    /// Returns the answer as a version of the log's wire has it.
    #[must_use]
    pub fn in_version(self, version: u16) -> Self {
        match self {
            Self::AppendWithoutRoom { ended, echo, applied } if version < 2 => {
                Self::Append { ended, echo, applied }
            }
            other => other,
        }
    }
}

/// Why a leader vouches for no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ReadRefused {
    /// It does not lead.
    NotLeader,
    /// No majority has confirmed that it does.
    NoQuorum,
}

/// How an append ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Appended {
    /// All entries are on the disk.
    Whole,
    /// Entries up to this one are.
    Part(Option<LogPosition>),
    /// The position before the first entry does not match.
    Conflict,
    /// The replica has voted for a later reign.
    HigherVote(StoredVote),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Not reachable now; ask again after a pause.
    #[error("node {to} is not reachable: {what}")]
    Unreachable {
        /// Whom.
        to: NodeId,
        /// Why.
        what: String,
    },
    /// The connection broke or the answer made no sense; ask again at once.
    #[error("no answer from node {to}: {what}")]
    Broken {
        /// Whom.
        to: NodeId,
        /// Why.
        what: String,
    },
    /// No answer in time.
    #[error("node {to} did not answer in time")]
    Late {
        /// Whom.
        to: NodeId,
    },
}

/// An answer on its way.
pub type Answering<'a> =
    Pin<Box<dyn Future<Output = Result<LogResponse, TransportError>> + Send + 'a>>;

/// Carries messages between the replicas of all shards of two nodes.
///
/// # Contract
/// Messages of one lane arrive in order or not at all. An answer belongs to its request. Nothing is sent
/// twice. `patience` is the longest that anybody waits; an implementation gives up before it.
pub trait Transport: Send + Sync + 'static {
    /// Sends a question and waits for its answer.
    fn ask<'a>(
        &'a self,
        to: NodeId,
        peer: &'a Peer,
        shard: ShardId,
        lane: Lane,
        request: LogRequest,
        patience: Duration,
    ) -> Answering<'a>;
}

/// The transport of a node that has no peers: it refuses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn ask<'a>(
        &'a self,
        to: NodeId,
        _peer: &'a Peer,
        _shard: ShardId,
        _lane: Lane,
        _request: LogRequest,
        _patience: Duration,
    ) -> Answering<'a> {
        Box::pin(std::future::ready(Err(TransportError::Unreachable {
            to,
            what: "this node has no peers".to_owned(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_single_node_refuses_to_talk() {
        let to = NodeId { number: 2, incarnation: 1 };
        let vote = StoredVote { term: 1, node: 1, is_granted: false };
        let request = LogRequest::PreVote { vote, last: None };
        let peer = Peer::default();
        let asked =
            NoPeers.ask(to, &peer, ShardId(0), Lane::Urgent, request, Duration::from_secs(1));
        let error = asked.await.unwrap_err();
        assert_eq!(error.to_string(), "node n2.1 is not reachable: this node has no peers");
    }

    #[test]
    fn who_speaks_version_1_hears_of_no_room() {
        let full =
            || LogResponse::AppendWithoutRoom { ended: Appended::Whole, echo: 7, applied: 9 };
        let plain = LogResponse::Append { ended: Appended::Whole, echo: 7, applied: 9 };
        assert_eq!(full().in_version(1), plain);
        assert_eq!(full().in_version(2), full());
        assert_eq!(plain.clone().in_version(1), plain);
    }
}
