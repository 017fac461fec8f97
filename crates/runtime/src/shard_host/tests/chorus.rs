//! Two fellow voters who say yes to everything that they hear, and hear as much as the test lets them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use statehouse_contract::{NodeId, ShardId};
use statehouse_log::{
    Lane, LogRequest, LogResponse, Origin, Peer, ShardLog, Transport, TransportError,
    transport::{Answering, Appended},
};
use statehouse_store::log_file::{LogPosition, LogRecord, RecordKind, StoredVote};

/// What the voters hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Hears {
    All,
    /// Heartbeats and votes, but no entry.
    NoEntry,
    Nothing,
}

#[derive(Clone, Default)]
pub(super) struct Chorus(Arc<AtomicU8>);

impl Chorus {
    pub(super) fn hears(&self, what: Hears) {
        self.0.store(what as u8, Ordering::SeqCst);
    }

    /// A shard that is founded with this node and the two.
    pub(super) fn origin() -> Origin {
        let voter = |number| (NodeId { number, incarnation: 1 }, Peer::default());
        Origin::Found((1..=3).map(voter).collect())
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
        let hears = self.0.load(Ordering::SeqCst);
        let answer = match request {
            _ if hears == Hears::Nothing as u8 => None,
            LogRequest::Append { records, .. }
                if hears == Hears::NoEntry as u8 && !records.is_empty() =>
            {
                None
            }
            LogRequest::Append { .. } => {
                let applied = u64::MAX - 1;
                Some(LogResponse::Append { ended: Appended::Whole, echo: 0, applied })
            }
            LogRequest::Vote { vote, .. } => {
                Some(LogResponse::Vote { vote, last: None, is_granted: true })
            }
            LogRequest::PreVote { .. } => {
                let vote = StoredVote { term: 0, node: to.raft(), is_granted: false };
                Some(LogResponse::Vote { vote, last: None, is_granted: true })
            }
            LogRequest::Transfer { .. }
            | LogRequest::ReadIndex { .. }
            | LogRequest::Marker
            | LogRequest::Snapshot { .. } => None,
        };
        let unheard = || TransportError::Unreachable { to, what: "it does not listen".to_owned() };
        Box::pin(std::future::ready(answer.ok_or_else(unheard)))
    }
}

/// Lets another node lead for a moment, in a later term, and put a blank entry where this replica's last one stands.
pub(super) async fn replace_last(log: &ShardLog) {
    let numbers = log.numbers();
    let (term, last) = (numbers.term, numbers.last.unwrap());
    let vote = StoredVote { term: term + 5, node: 2 << 32 | 1, is_granted: true };
    let position = LogPosition { term: term + 5, index: last };
    let request = LogRequest::Append {
        vote,
        previous: Some(LogPosition { term, index: last - 1 }),
        records: vec![LogRecord { position, kind: RecordKind::Blank, frame: Arc::from([]) }],
        committed: Some(position),
        echo: 0,
    };
    let answer = log.receive(request).await.unwrap();
    assert!(matches!(answer, LogResponse::Append { ended: Appended::Whole, .. }), "{answer:?}");
}
