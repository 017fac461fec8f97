//! The outbox of a led shard: it delivers what instances send to others, until each has its definite answer.
//!
//! Rows were written with the transition that wanted them, so nothing is sent that did not happen and nothing that happened
//! is forgotten. To one target a sender's rows leave in order: the next one only when the one before has its answer and is
//! gone. Whatever cannot be said now is said again, under the same key, for ever.
//!
//! A cancelled child that may not have been started yet is cancelled by a row of its own behind the start. Taking the start
//! back instead would lose a child whose start was on its way.
//!
//! A start that is refused for good is told to the parent before its row goes: the parent waits for that child.
//!
//! Absent on purpose: where a target lives; the carrier knows.
//!
//! Invariants: at least once, applied once (the receiver knows the key); in order per sender and target; `BOUND`: at most
//! `DELIVERIES_MAX` are under way.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use statehouse_contract::{
    Actor as Who, ChildEnding, Command, CommandEnvelope, Digest, InstanceKey, Json, Key, Receipt,
    ReceiptKind, Rejection, Target,
    limits::{DEADLINE_MS_DEFAULT, DELIVERIES_MAX},
};
use statehouse_store::{Body, Entry, OutboxRow, entry::OutboxDone};
use tokio::{task::JoinSet, time::Instant};
use tracing::{debug, warn};

use crate::{
    Door,
    message::OutboxMessage,
    metrics::one,
    reading::RowsError,
    reign::{Proposed, Reign},
};

/// How often the outbox is looked at without a hint.
const EVERY: Duration = Duration::from_secs(1);
/// Rows of one look.
const LOOK: u32 = 1_024;
/// First and longest pause before a delivery without a definite answer is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Most pairs of sender and target whose pauses are remembered; past it everybody is tried again.
const PAUSES_MAX: usize = 10_000;

/// The outbox of a led shard.
#[derive(Debug)]
pub(crate) struct Outbox;

/// A sender, by its birth, and where it sends.
type Pair = (u64, Target);

/// What the outbox knows.
pub(crate) struct OutboxState {
    reign: Arc<Reign>,
    busy: HashSet<Pair>,
    pauses: HashMap<Pair, (Instant, Duration)>,
    running: JoinSet<()>,
}

impl Actor for Outbox {
    type Msg = OutboxMessage;
    type State = OutboxState;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        reign.seat().hints().outbox.heard_by(myself.clone());
        // What was left behind by the leader before leaves promptly.
        reign.seat().hints().outbox.give(OutboxMessage::Look);
        drop(myself.send_interval(EVERY, || OutboxMessage::Look));
        let (busy, pauses, running) = (HashSet::new(), HashMap::new(), JoinSet::new());
        Ok(OutboxState { reign, busy, pauses, running })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while state.running.try_join_next().is_some() {}
        match message {
            OutboxMessage::Look => {
                state.reign.seat().hints().outbox.taken();
            }
            OutboxMessage::Ended { born, to, is_done } => state.ended((born, to), is_done),
        }
        if let Err(why) = state.look(&myself) {
            warn!(shard = %state.reign.shard(), %why, "the outbox cannot be read");
        }
        Ok(())
    }
}

impl OutboxState {
    fn ended(&mut self, pair: Pair, is_done: bool) {
        self.busy.remove(&pair);
        if is_done {
            self.pauses.remove(&pair);
            return;
        }
        if self.pauses.len() >= PAUSES_MAX {
            self.pauses.clear();
        }
        let before = self.pauses.get(&pair).map_or(AGAIN.0 / 2, |(_, pause)| *pause);
        let pause = (2 * before).min(AGAIN.1);
        self.pauses.insert(pair, (Instant::now() + pause, pause));
    }

    /// Sends on what is first in its line and not held up.
    fn look(&mut self, myself: &ActorRef<OutboxMessage>) -> Result<(), RowsError> {
        let (view, now) = (self.reign.seat().log().view(), Instant::now());
        let mut after = (0, 0, 0);
        let mut seen: HashSet<Pair> = HashSet::new();
        let mut soonest: Option<Instant> = None;
        while self.busy.len() < DELIVERIES_MAX {
            let rows = view.outbox(after, LOOK)?;
            let Some(last) = rows.last() else { break };
            after = (last.born, last.version, last.n);
            let is_end = rows.len() < LOOK as usize;
            for row in rows {
                let pair = (row.born, row.to.clone());
                // Only the first row of a line may leave.
                if !seen.insert(pair.clone()) || self.busy.contains(&pair) {
                    continue;
                }
                if let Some((until, _)) = self.pauses.get(&pair).filter(|(until, _)| *until > now) {
                    soonest = Some(soonest.map_or(*until, |before| before.min(*until)));
                    continue;
                }
                if self.busy.len() >= DELIVERIES_MAX {
                    break;
                }
                self.send(myself, row, pair);
            }
            if is_end {
                break;
            }
        }
        if let Some(soonest) = soonest {
            drop(myself.send_after(soonest - now, || OutboxMessage::Look));
        }
        Ok(())
    }

    fn send(&mut self, myself: &ActorRef<OutboxMessage>, row: OutboxRow, pair: Pair) {
        self.busy.insert(pair.clone());
        let (reign, myself) = (Arc::clone(&self.reign), myself.clone());
        self.running.spawn(async move {
            let is_done = deliver(&reign, row).await;
            let (born, to) = pair;
            // An outbox that has ended delivers nothing more; the next one reads the rows.
            let _ = myself.send_message(OutboxMessage::Ended { born, to, is_done });
        });
    }
}

/// Delivers a row and strikes it out; returns whether it is gone.
async fn deliver(reign: &Reign, row: OutboxRow) -> bool {
    let answer = match reign.seat().ground().carried.submit(envelope(reign, &row)).await {
        Ok(receipt) => Answered::of(&receipt),
        Err(no) => match Answered::refused(&no) {
            Some(answer) => answer,
            None => {
                debug!(sender = %row.sender, code = %no.code, "a delivery waits");
                return false;
            }
        },
    };
    if let (Answered::No { code, message }, Command::StartChild { .. }) = (&answer, &*row.command)
        && !tell_parent(reign, &row, code, message).await
    {
        return false;
    }
    if matches!(answer, Answered::No { .. }) {
        one(&reign.metrics().undeliverable);
    }
    strike_out(reign, row, answer).await
}

/// A definite answer.
enum Answered {
    Yes,
    No { code: String, message: String },
}

impl Answered {
    fn of(receipt: &Receipt) -> Self {
        let ReceiptKind::Refused(code) = receipt.kind else { return Self::Yes };
        let body: serde_json::Value =
            serde_json::from_str(receipt.body.as_str()).unwrap_or_default();
        let message = body["detail"].as_str().unwrap_or_default().to_owned();
        Self::No { code: code.code().to_owned(), message }
    }

    /// Reads a refusal that is not written down: definite where the same request can never succeed.
    fn refused(no: &Rejection) -> Option<Self> {
        match no.code.status() {
            429 | 500.. => None,
            _ => Some(Self::No { code: no.code.code().to_owned(), message: no.detail.to_string() }),
        }
    }
}

fn envelope(reign: &Reign, row: &OutboxRow) -> CommandEnvelope {
    let mut command = (*row.command).clone();
    if let Command::StartChild { parent, .. } = &mut command {
        // Not known when the row was decided, if the parent was born by the same entry.
        parent.born = row.born;
    }
    let reason = matches!(command, Command::Operate(_)).then(|| "its parent has left".into());
    let (trace, correlation) = written_under(reign, row);
    CommandEnvelope {
        target: row.to.clone(),
        fingerprint: Digest::of(&statehouse_contract::codec::bare(&*row.command)),
        command,
        key: Key::Outbox { sender: row.sender.clone(), version: row.version, n: row.n },
        correlation,
        trace,
        remaining_ms: DEADLINE_MS_DEFAULT,
        expected: None,
        actor: Who::system(),
        reason,
        attempt: 1,
    }
}

/// Returns trace and conversation of the entry that wrote a row.
fn written_under(
    reign: &Reign,
    row: &OutboxRow,
) -> (statehouse_contract::TraceContext, Option<statehouse_contract::CorrelationId>) {
    let page = reign.seat().log().view().history(&row.sender, row.version.saturating_sub(1), 1);
    let written = page.ok().flatten().and_then(|page| page.rows.into_iter().next());
    let header = written.map(|placed| placed.record.entry.header);
    header.map(|header| (header.trace, header.correlation)).unwrap_or_default()
}

/// Tells a parent that its child was not started; returns whether it has heard.
async fn tell_parent(reign: &Reign, row: &OutboxRow, code: &str, message: &str) -> bool {
    let Command::StartChild { parent, .. } = &*row.command else { return true };
    let mut work = parent.clone();
    work.born = row.born;
    let ending = ChildEnding::Failed { code: code.into(), message: message.into() };
    let told = CommandEnvelope {
        target: Target::Instance(row.sender.clone()),
        command: Command::ChildEnded { work, ending },
        ..envelope(reign, row)
    };
    heard(Door::of(reign).deliver(&row.sender, told).await)
}

fn heard(answer: Result<Receipt, Rejection>) -> bool {
    match answer {
        Ok(_) => true,
        Err(no) => Answered::refused(&no).is_some(),
    }
}

/// Writes down that a row has its answer.
async fn strike_out(reign: &Reign, row: OutboxRow, answer: Answered) -> bool {
    let Some(bucket_epoch) = epoch(reign, &row.sender) else { return false };
    let answer = match answer {
        Answered::Yes => serde_json::json!({ "done": true }),
        Answered::No { code, message } => {
            serde_json::json!({ "done": false, "code": code, "message": message })
        }
    };
    let done = OutboxDone {
        sender: row.sender,
        bucket_epoch,
        born: row.born,
        version: row.version,
        n: row.n,
        answer: Json::from_value(&answer),
    };
    let entry = Entry { header: reign.system_header(), body: Body::OutboxDone(Box::new(done)) };
    match reign.propose_healing(entry).await {
        Proposed::Applied(_) => {
            one(&reign.metrics().delivered);
            true
        }
        // Struck out before, or not now: the rows say which.
        Proposed::Known(_)
        | Proposed::KeyReused
        | Proposed::Fenced
        | Proposed::Refused(_)
        | Proposed::Unknown => false,
    }
}

fn epoch(reign: &Reign, sender: &InstanceKey) -> Option<u32> {
    Some(reign.seat().log().view().bucket(sender.bucket()).ok()?.epoch)
}
