//! Fellow voters for tests: a chorus that says yes to everything it hears, and hears as much as the test lets it.
//!
//! Absent on purpose: logs of their own. What they take is gone.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use statehouse_contract::{NodeId, ShardId};
use statehouse_store::log_file::StoredVote;

use crate::{
    Lane, LogRequest, LogResponse, Peer, Transport, TransportError,
    transport::{Answering, Appended},
};

pub(crate) const fn id(number: u32) -> NodeId {
    NodeId { number, incarnation: 1 }
}

pub(crate) const VOTERS: [NodeId; 3] = [id(1), id(2), id(3)];

pub(crate) const HEARD: u8 = 0;
/// It hears heartbeats and votes, but takes no entry.
pub(crate) const FULL: u8 = 1;
pub(crate) const SILENT: u8 = 2;

/// The other voters, who say yes to everything that they hear.
#[derive(Clone, Default)]
pub(crate) struct Chorus {
    /// What they hear: [`HEARD`], [`FULL`] or [`SILENT`].
    pub(crate) hears: Arc<AtomicU8>,
    /// One who takes no more entries than it has.
    pub(crate) late: Arc<Mutex<Option<NodeId>>>,
    /// Those who say that their disks are full.
    pub(crate) without_room: Arc<Mutex<Vec<NodeId>>>,
    /// To whom leadership was handed.
    pub(crate) heirs: Arc<Mutex<Vec<u64>>>,
}

impl Chorus {
    fn says(&self, to: NodeId, request: &LogRequest) -> Option<LogResponse> {
        let hears = self.hears.load(Ordering::Relaxed);
        if hears == SILENT {
            return None;
        }
        match request {
            LogRequest::Append { records, .. } => {
                let is_late = *self.late.lock().unwrap() == Some(to);
                if !records.is_empty() && (hears == FULL || is_late) {
                    return None;
                }
                let applied = u64::MAX - 1;
                let (ended, echo) = (Appended::Whole, 0);
                Some(match self.without_room.lock().unwrap().contains(&to) {
                    true => LogResponse::AppendWithoutRoom { ended, echo, applied },
                    false => LogResponse::Append { ended, echo, applied },
                })
            }
            LogRequest::Vote { vote, .. } => {
                Some(LogResponse::Vote { vote: *vote, last: None, is_granted: true })
            }
            LogRequest::PreVote { .. } => {
                let vote = StoredVote { term: 0, node: to.raft(), is_granted: false };
                Some(LogResponse::Vote { vote, last: None, is_granted: true })
            }
            LogRequest::Transfer { to, .. } => {
                self.heirs.lock().unwrap().push(*to);
                Some(LogResponse::Transferred { is_accepted: true })
            }
            LogRequest::ReadIndex { .. } | LogRequest::Marker | LogRequest::Snapshot { .. } => None,
        }
    }
}

impl Transport for Chorus {
    fn ask<'a>(
        &'a self,
        to: NodeId,
        _peer: &'a Peer,
        _shard: ShardId,
        _lane: Lane,
        request: LogRequest,
        _patience: Duration,
    ) -> Answering<'a> {
        let unheard = || TransportError::Unreachable { to, what: "it does not listen".to_owned() };
        Box::pin(std::future::ready(self.says(to, &request).ok_or_else(unheard)))
    }
}
