//! The engine's network trait over our transport, and the receiving side of it.
//!
//! Every message is turned into plain types and back; nothing of the engine crosses a wire.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use openraft::{
    AnyError, EntryPayload, RaftNetworkFactory, RaftNetworkV2,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{Backoff, RPCOption, RPCTypes},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};

use statehouse_contract::{NodeId, ShardId, TraceContext};
use statehouse_telemetry::{Leg, Span};

use crate::{
    catch_up,
    engine::{self, Engine, EngineEntry, EngineVote, Peer, Reign},
    proposal::node,
    rows::SnapshotFile,
    transport::{Appended, Lane, LogRequest, LogResponse, Transport, TransportError},
};

pub(crate) type EngineSnapshot = openraft::Snapshot<Reign, u64, Peer, SnapshotFile>;

/// Makes the ways to other replicas of one shard.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) shard: ShardId,
    pub(crate) own: NodeId,
    pub(crate) transport: Arc<dyn Transport>,
    /// What the other replicas have told, whichever way it came.
    pub(crate) told: Told,
}

/// What the other replicas have told with their answers, and whether a majority of them still answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    words: Arc<Mutex<BTreeMap<u64, Arc<Word>>>>,
    is_confirmed: Arc<AtomicBool>,
}

/// What one replica told last.
#[derive(Debug, Default)]
pub(crate) struct Word(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// The number of its answer, for the freshness of its copy.
    echo: u64,
    /// How many entries it has applied, if it has told.
    applied: Option<u64>,
    /// When it last told that there is room on its disk, if that was the last it told.
    roomy_at: Option<Instant>,
}

/// How long the word counts that there is room on a disk. Who is silent for longer may be gone.
const ROOM_WORD_MAX: Duration = Duration::from_secs(1);

impl Word {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an answer says.
    pub(crate) fn hear(&self, echo: u64, applied: u64, has_room: bool) {
        let roomy_at = has_room.then(Instant::now);
        *self.heard() = Heard { echo, applied: Some(applied), roomy_at };
    }
}

impl Told {
    fn words(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Word>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, id: u64) -> Arc<Word> {
        Arc::clone(self.words().entry(id).or_default())
    }

    /// Returns how many entries a replica has applied, if it has told.
    pub(crate) fn applied(&self, id: u64) -> Option<u64> {
        self.words().get(&id).and_then(|word| word.heard().applied)
    }

    /// Returns whether a replica has told, a moment ago, that there is room on its disk.
    pub(crate) fn has_room(&self, id: u64) -> bool {
        let told_at = self.words().get(&id).and_then(|word| word.heard().roomy_at);
        told_at.is_some_and(|at| at.elapsed() <= ROOM_WORD_MAX)
    }

    /// Forgets how the others were: what an earlier reign was told is old in the next one, and would look like lag.
    pub(crate) fn forget(&self) {
        for word in self.words().values() {
            let mut heard = word.heard();
            (heard.applied, heard.roomy_at) = (None, None);
        }
    }

    /// Notes whether a majority has answered this leader a moment ago.
    pub(crate) fn confirm(&self, is_confirmed: bool) {
        self.is_confirmed.store(is_confirmed, Ordering::Relaxed);
    }

    /// Returns the echo to send to a replica. A leader that no majority answers vouches for nobody's copy: the others may
    /// have another leader by now.
    pub(crate) fn echo(&self, word: &Word) -> u64 {
        if self.is_confirmed.load(Ordering::Relaxed) { word.heard().echo } else { 0 }
    }
}

/// Pauses before a replica that was not reachable is tried again; the last one stays.
const PAUSES_MS: [u64; 4] = [20, 50, 100, 200];

/// Most spans of one append.
const SPANS_MAX: usize = 32;

/// How long a follower may take to make entries durable.
pub(crate) const APPEND_PATIENCE: Duration = Duration::from_secs(3);

/// The way to one other replica.
pub(crate) struct Way {
    told: Told,
    word: Arc<Word>,
    shard: ShardId,
    own: NodeId,
    to: NodeId,
    peer: Peer,
    transport: Arc<dyn Transport>,
}

impl RaftNetworkFactory<Engine> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Way {
        Way {
            told: self.told.clone(),
            word: self.told.of(target),
            shard: self.shard,
            own: self.own,
            to: node(target),
            peer: peer.clone(),
            transport: Arc::clone(&self.transport),
        }
    }
}

impl Way {
    pub(crate) async fn ask(
        &self,
        lane: Lane,
        request: LogRequest,
        option: &RPCOption,
    ) -> Result<LogResponse, TransportError> {
        let patience = option.soft_ttl();
        self.transport.ask(self.to, &self.peer, self.shard, lane, request, patience).await
    }

    fn error(
        &self,
        error: &TransportError,
        action: RPCTypes,
        option: &RPCOption,
    ) -> RPCError<Engine> {
        match error {
            TransportError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(error)),
            TransportError::Broken { .. } => RPCError::Network(NetworkError::new(error)),
            TransportError::Late { .. } => RPCError::Timeout(Timeout {
                action,
                id: self.own.raft(),
                target: self.to.raft(),
                timeout: option.soft_ttl(),
            }),
        }
    }

    /// What is to be sent cannot be read here.
    pub(crate) fn broken(&self, why: &dyn std::error::Error) -> TransportError {
        TransportError::Broken { to: self.to, what: why.to_string() }
    }

    /// The other side answered another question.
    pub(crate) fn astray(&self) -> TransportError {
        TransportError::Broken { to: self.to, what: "the answer is of another kind".to_owned() }
    }

    /// Opens a span for each entry on its way whose trace is sampled.
    fn spans(&self, entries: &[EngineEntry]) -> Vec<Span> {
        let traced = entries.iter().filter_map(|entry| match &entry.payload {
            EntryPayload::Normal(proposed) => proposed.trace.as_deref(),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        });
        let open = |trace: &TraceContext| {
            let span = Span::open(Leg::Replicate, trace);
            span.set("statehouse.peer", self.to.to_string());
            span.set("statehouse.shard", i64::from(self.shard.0));
            span
        };
        traced.take(SPANS_MAX).map(open).collect()
    }

    async fn vote_of(
        &self,
        request: LogRequest,
        option: RPCOption,
    ) -> Result<VoteResponse<Engine>, RPCError<Engine>> {
        match self.ask(Lane::Urgent, request, &option).await {
            Ok(LogResponse::Vote { vote, last, is_granted }) => Ok(VoteResponse {
                vote: engine::engine_vote(vote),
                vote_granted: is_granted,
                last_log_id: last.map(engine::log_id),
            }),
            Ok(_) => Err(self.error(&self.astray(), RPCTypes::Vote, &option)),
            Err(error) => Err(self.error(&error, RPCTypes::Vote, &option)),
        }
    }
}

impl RaftNetworkV2<Engine> for Way {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Engine>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Engine>, RPCError<Engine>> {
        let (lane, option) = if rpc.entries.is_empty() {
            (Lane::Urgent, option)
        } else {
            // The engine gives an append no longer than a heartbeat, but this answer waits for a sync.
            (Lane::Append, RPCOption::new(APPEND_PATIENCE))
        };
        let request = LogRequest::Append {
            vote: engine::stored_vote(&rpc.vote),
            previous: rpc.prev_log_id.as_ref().map(engine::position),
            records: rpc.entries.iter().map(engine::record).collect(),
            committed: rpc.leader_commit.as_ref().map(engine::position),
            echo: self.told.echo(&self.word),
        };
        let spans = self.spans(&rpc.entries);
        let answer = self.ask(lane, request, &option).await;
        drop(spans);
        let has_room = matches!(answer, Ok(LogResponse::Append { .. }));
        match answer {
            Ok(
                LogResponse::Append { ended, echo, applied }
                | LogResponse::AppendWithoutRoom { ended, echo, applied },
            ) => {
                self.word.hear(echo, applied, has_room);
                Ok(match ended {
                    Appended::Whole => AppendEntriesResponse::Success,
                    Appended::Part(upto) => {
                        AppendEntriesResponse::PartialSuccess(upto.map(engine::log_id))
                    }
                    Appended::Conflict => AppendEntriesResponse::Conflict,
                    Appended::HigherVote(vote) => {
                        AppendEntriesResponse::HigherVote(engine::engine_vote(vote))
                    }
                })
            }
            Ok(_) => Err(self.error(&self.astray(), RPCTypes::AppendEntries, &option)),
            Err(error) => Err(self.error(&error, RPCTypes::AppendEntries, &option)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Engine>,
        option: RPCOption,
    ) -> Result<VoteResponse<Engine>, RPCError<Engine>> {
        let request = LogRequest::Vote {
            vote: engine::stored_vote(&rpc.vote),
            last: rpc.last_log_id.as_ref().map(engine::position),
            is_transfer: rpc.leadership_transfer,
        };
        self.vote_of(request, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Engine>,
        option: RPCOption,
    ) -> Result<VoteResponse<Engine>, RPCError<Engine>> {
        let request = LogRequest::PreVote {
            vote: engine::stored_vote(&rpc.vote),
            last: rpc.last_log_id.as_ref().map(engine::position),
        };
        self.vote_of(request, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: EngineVote,
        snapshot: EngineSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Engine>, StreamingError<Engine>> {
        let sent = catch_up::send(self, &vote, &snapshot.snapshot, &option);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sent => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(engine::engine_vote(vote))),
                Err(error @ TransportError::Unreachable { .. }) => {
                    Err(StreamingError::Unreachable(Unreachable::new(&error)))
                }
                Err(error) => Err(StreamingError::Network(NetworkError::new(&error))),
            },
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let last = PAUSES_MS.last().copied().unwrap_or_default();
        let pauses = PAUSES_MS.into_iter().chain(std::iter::repeat(last));
        Some(Backoff::new(pauses.map(Duration::from_millis)))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Engine>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Engine>, RPCError<Engine>> {
        let request = LogRequest::Transfer {
            from: engine::stored_vote(req.from_leader()),
            to: *req.to_node_id(),
            last: req.last_log_id().map(engine::position),
        };
        match self.ask(Lane::Urgent, request, &option).await {
            Ok(LogResponse::Transferred { is_accepted: true }) => Ok(Ok(())),
            Ok(LogResponse::Transferred { is_accepted: false }) => {
                let refused = AnyError::error("the successor refused");
                Err(RPCError::Network(NetworkError::new(&refused)))
            }
            Ok(_) => Err(self.error(&self.astray(), RPCTypes::TransferLeader, &option)),
            Err(error) => Err(self.error(&error, RPCTypes::TransferLeader, &option)),
        }
    }
}
