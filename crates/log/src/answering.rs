//! What other replicas of a shard ask, and what this one answers.
//!
//! Every message is judged before the engine sees it: what is written here is believed at the next start, and an engine
//! that meets nonsense ends its replica.
//!
//! Absent on purpose: sockets and greetings. Who is at the other end is known by then.

use std::{sync::Arc, time::Instant};

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest,
};
use tokio::time::timeout;

use statehouse_contract::codec;
use statehouse_store::log_file::{LogPosition, LogRecord, RecordKind};

use crate::{
    catch_up::{self, Part},
    engine::{self, AppliedMark, EngineEntry},
    error::LogError,
    handle::ShardLog,
    network::{APPEND_PATIENCE, EngineSnapshot},
    proposal::Urgency,
    read,
    transport::{Appended, LogRequest, LogResponse},
};

impl ShardLog {
    /// Takes a message of another replica of this shard and returns the answer.
    ///
    /// # Errors
    /// Nothing is answered when the replica has stopped or the message cannot be.
    pub async fn receive(&self, request: LogRequest) -> Result<LogResponse, LogError> {
        let failed = |what: String| LogError::Engine { shard: self.replica.shard, what };
        let raft = &self.replica.raft;
        match request {
            LogRequest::Append { vote, previous, records, committed, echo } => {
                // The engine answers when everything that it has taken is on the disk, a heartbeat too. While a disk is
                // full that may be never, and whoever asked has gone long ago.
                let patience = match records.is_empty() {
                    true => self.replica.heartbeat,
                    false => APPEND_PATIENCE,
                };
                let request = AppendEntriesRequest {
                    vote: engine::engine_vote(vote),
                    prev_log_id: previous.map(engine::log_id),
                    entries: entries(previous, records).map_err(failed)?,
                    leader_commit: committed.map(engine::log_id),
                };
                let answer = timeout(patience, raft.append_entries(request)).await;
                let answer = answer.map_err(|_| failed("the log waits for its disk".to_owned()))?;
                let ended = appended(answer.map_err(|e| failed(e.to_string()))?);
                let freshness = &self.replica.freshness;
                if ended == Appended::Whole {
                    freshness.vouch(echo, committed.map(|committed| committed.index));
                }
                let applied = self.replica.applied.borrow().map_or(0, |position| position + 1);
                let echo = freshness.echo(Instant::now());
                // A stage before commands are refused here: leadership shall not wander from edge to edge.
                Ok(match self.replica.room.takes(Urgency::Start) {
                    true => LogResponse::Append { ended, echo, applied },
                    false => LogResponse::AppendWithoutRoom { ended, echo, applied },
                })
            }
            LogRequest::Vote { vote, last, is_transfer } => {
                let mut request =
                    VoteRequest::new(engine::engine_vote(vote), last.map(engine::log_id));
                request.leadership_transfer = is_transfer;
                let answer = raft.vote(request).await.map_err(|e| failed(e.to_string()))?;
                Ok(voted(&answer))
            }
            LogRequest::PreVote { vote, last } => {
                let request = VoteRequest::new(engine::engine_vote(vote), last.map(engine::log_id));
                let answer = raft.pre_vote(request).await.map_err(|e| failed(e.to_string()))?;
                Ok(voted(&answer))
            }
            LogRequest::Transfer { from, to, last } => {
                let from = engine::engine_vote(from);
                let request = TransferLeaderRequest::new(from, to, last.map(engine::log_id));
                let answer = raft.handle_transfer_leader(request).await;
                let answer = answer.map_err(|error| failed(error.to_string()))?;
                Ok(LogResponse::Transferred { is_accepted: answer.is_ok() })
            }
            LogRequest::Marker => Ok(LogResponse::Marker(*self.replica.applier.marker().borrow())),
            LogRequest::ReadIndex { is_strict } => {
                Ok(LogResponse::ReadIndex(read::vouched(&self.replica, is_strict).await))
            }
            LogRequest::Snapshot { vote, mark, hash, bytes, offset, part } => {
                let part = Part { mark, hash, bytes, offset, part };
                self.receive_part(engine::engine_vote(vote), part).await
            }
        }
    }

    async fn receive_part(
        &self,
        vote: engine::EngineVote,
        part: Part,
    ) -> Result<LogResponse, LogError> {
        let failed = |what: String| LogError::Engine { shard: self.replica.shard, what };
        let replica = Arc::clone(&self.replica);
        let received = tokio::task::spawn_blocking(move || {
            let mut incoming = replica.incoming.blocking_lock();
            catch_up::receive(&mut incoming, &replica.incoming_path, &replica.room, part)
        });
        let whole = received.await.map_err(|panic| failed(panic.to_string()))?;
        let Some(file) = whole.map_err(|error| failed(error.to_string()))? else {
            return Ok(LogResponse::Snapshot { vote: engine::stored_vote(&vote) });
        };
        let mark =
            AppliedMark::decode(&file.standing.mark).map_err(|error| failed(error.to_string()))?;
        let snapshot = EngineSnapshot {
            meta: openraft::SnapshotMeta {
                last_log_id: mark.position.map(engine::log_id),
                last_membership: mark.membership().map_err(|error| failed(error.to_string()))?,
            },
            snapshot: file,
        };
        let came = snapshot.snapshot.path.clone();
        let answer = self.replica.raft.install_full_snapshot(vote, snapshot).await;
        // An engine that needs no copy leaves it where it is.
        let _ = tokio::fs::remove_file(came).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        Ok(LogResponse::Snapshot { vote: engine::stored_vote(&answer.vote) })
    }
}

/// Turns records into entries. They must follow each other, and each frame must be what was sent: what is written here
/// is believed at the next start.
fn entries(
    previous: Option<LogPosition>,
    records: Vec<LogRecord>,
) -> Result<Vec<EngineEntry>, String> {
    let first = previous.map_or(0, |previous| previous.index + 1);
    let mut entries = Vec::with_capacity(records.len());
    for (next, record) in (first..).zip(records) {
        let found = record.position.index;
        if found != next {
            return Err(format!("entry {found} came where {next} belongs"));
        }
        if record.kind == RecordKind::Entry {
            codec::check(&record.frame).map_err(|error| format!("entry {found}: {error}"))?;
        }
        entries.push(engine::entry(record).map_err(|error| format!("entry {found}: {error}"))?);
    }
    Ok(entries)
}

fn appended(answer: AppendEntriesResponse<engine::Engine>) -> Appended {
    match answer {
        AppendEntriesResponse::Success => Appended::Whole,
        AppendEntriesResponse::PartialSuccess(upto) => {
            Appended::Part(upto.as_ref().map(engine::position))
        }
        AppendEntriesResponse::Conflict => Appended::Conflict,
        AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote(engine::stored_vote(&vote)),
    }
}

fn voted(answer: &openraft::raft::VoteResponse<engine::Engine>) -> LogResponse {
    LogResponse::Vote {
        vote: engine::stored_vote(&answer.vote),
        last: answer.last_log_id.as_ref().map(engine::position),
        is_granted: answer.vote_granted,
    }
}
