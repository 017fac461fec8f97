//! The consensus engine's types, and the bridge between them and ours.
//!
//! One leader a term (standard Raft), so a term alone names a reign: entry, fence and log agree on what
//! "decided under an older term" means. Votes, positions and members cross to disk and wire as our own
//! plain types behind the contract's codec; the engine's serialization is switched off.
//!
//! An entry travels as its frame. On the leader the decoded entry rides along, so that it is not decoded
//! again; everywhere else it is decoded once, when it is applied.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use bincode::{Decode, Encode};
use openraft::{
    EntryPayload, Membership, RaftTypeConfig, StoredMembership,
    impls::{BoxedErrorSource, InlineBatch, TokioRuntime, Vote, leader_id_std::LeaderId},
    vote::RaftLeaderId,
};

use statehouse_contract::{
    TraceContext,
    codec::{self, CodecError},
};
use statehouse_store::{
    Applied, Entry,
    log_file::{LogPosition, LogRecord, RecordKind, StoredVote},
};

use crate::proposal::Waiter;

/// The engine's configuration of types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Engine;

/// The term, as the engine writes it into each log id.
pub(crate) type Reign = <LeaderId<u64, u64> as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<Reign>;
pub(crate) type EngineVote = Vote<LeaderId<u64, u64>>;
pub(crate) type EngineEntry = openraft::Entry<Reign, EnginePayload>;
pub(crate) type EnginePayload = EntryPayload<Proposed, u64, Peer>;
pub(crate) type EngineMembership = Membership<u64, Peer>;
pub(crate) type EngineStoredMembership = StoredMembership<Reign, u64, Peer>;

impl RaftTypeConfig for Engine {
    type D = Proposed;
    type R = Option<Applied>;
    type NodeId = u64;
    type Node = Peer;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = EngineVote;
    type Payload = EnginePayload;
    type Entry = EngineEntry;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = Waiter<T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// A member's address on the log's own wire; empty where there is no wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Peer {
    /// Host and port.
    pub address: Box<str>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// An entry on its way: its frame, and the decoded entry where it was made.
#[derive(Clone)]
pub(crate) struct Proposed {
    pub(crate) frame: Arc<[u8]>,
    pub(crate) entry: Option<Arc<Entry>>,
    /// Where its proposal stands in a trace, on the node that made it; never sent.
    pub(crate) trace: Option<Arc<TraceContext>>,
}

impl Proposed {
    /// Returns the entry, decoding it if need be.
    pub(crate) fn entry(&self) -> Result<Arc<Entry>, CodecError> {
        match &self.entry {
            Some(entry) => Ok(Arc::clone(entry)),
            None => codec::decode(&self.frame).map(Arc::new),
        }
    }
}

impl PartialEq for Proposed {
    fn eq(&self, other: &Self) -> bool {
        self.frame == other.frame
    }
}

impl fmt::Debug for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry of {} bytes", self.frame.len())
    }
}

impl fmt::Display for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The members of a shard in the form in which they are stored.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StoredMembers {
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, Peer>,
}

impl From<&EngineMembership> for StoredMembers {
    fn from(members: &EngineMembership) -> Self {
        Self {
            configs: members.get_joint_config().clone(),
            nodes: members.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
        }
    }
}

impl StoredMembers {
    fn engine(self) -> Result<EngineMembership, CodecError> {
        EngineMembership::new(self.configs, self.nodes)
            .map_err(|error| CodecError::Body { why: error.to_string() })
    }
}

/// What the log wants to find again beside the applied rows, written in the same transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AppliedMark {
    /// The last applied position.
    pub(crate) position: Option<LogPosition>,
    /// Where the last applied members stand.
    pub(crate) members_at: Option<LogPosition>,
    /// The last applied members.
    members: Option<StoredMembers>,
}

impl AppliedMark {
    /// Reads a mark; an empty one is that of a new shard.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.is_empty() { Ok(Self::default()) } else { codec::decode(bytes) }
    }

    /// Returns the mark of a shard whose only member is this node, since this position.
    pub(crate) fn alone(at: LogPosition, node: u64, peer: Peer) -> Self {
        let members =
            StoredMembers { configs: vec![[node].into()], nodes: BTreeMap::from([(node, peer)]) };
        Self { position: Some(at), members_at: Some(at), members: Some(members) }
    }

    /// Returns every member that the mark names.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = u64> {
        self.members.iter().flat_map(|members| members.nodes.keys().copied())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self).expect("the members of a shard are few")
    }

    pub(crate) fn set_members(&mut self, at: LogPosition, members: &EngineMembership) {
        self.members_at = Some(at);
        self.members = Some(members.into());
    }

    pub(crate) fn membership(&self) -> Result<EngineStoredMembership, CodecError> {
        let Some(stored) = self.members.clone() else { return Ok(StoredMembership::default()) };
        Ok(StoredMembership::new(self.members_at.map(log_id), stored.engine()?))
    }
}

pub(crate) fn log_id(position: LogPosition) -> LogId {
    LogId { leader_id: Reign::new(position.term), index: position.index }
}

pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition { term: id.leader_id.term, index: id.index }
}

pub(crate) fn stored_vote(vote: &EngineVote) -> StoredVote {
    StoredVote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        is_granted: vote.committed,
    }
}

pub(crate) fn engine_vote(vote: StoredVote) -> EngineVote {
    Vote { leader_id: LeaderId::new(vote.term, vote.node), committed: vote.is_granted }
}

/// Turns an engine's entry into the record that is stored and sent.
pub(crate) fn record(entry: &EngineEntry) -> LogRecord {
    let (kind, frame) = match &entry.payload {
        EntryPayload::Blank => (RecordKind::Blank, Arc::from([])),
        EntryPayload::Normal(proposed) => (RecordKind::Entry, Arc::clone(&proposed.frame)),
        EntryPayload::Membership(members) => {
            let frame = codec::encode(&StoredMembers::from(members));
            (RecordKind::Membership, frame.expect("the members of a shard are few").into())
        }
    };
    LogRecord { position: position(&entry.log_id), kind, frame }
}

/// Returns how many bytes an entry weighs on its way, about.
pub(crate) fn weight(entry: &EngineEntry) -> usize {
    /// Position, kind and lengths.
    const FRAME: usize = 32;
    match &entry.payload {
        EntryPayload::Normal(proposed) => FRAME + proposed.frame.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => FRAME,
    }
}

/// Turns a stored or received record into an engine's entry. Entries stay encoded.
pub(crate) fn entry(record: LogRecord) -> Result<EngineEntry, CodecError> {
    let payload = match record.kind {
        RecordKind::Blank => EntryPayload::Blank,
        RecordKind::Entry => {
            EntryPayload::Normal(Proposed { frame: record.frame, entry: None, trace: None })
        }
        RecordKind::Membership => {
            let stored: StoredMembers = codec::decode(&record.frame)?;
            EntryPayload::Membership(stored.engine()?)
        }
    };
    Ok(EngineEntry { log_id: log_id(record.position), payload })
}
