//! Lease calls: from any node to whichever shard has a task for them.
//!
//! A call claims at one shard at a time, where the rows of this node show something to claim, beginning at another shard
//! each time. Nothing anywhere: it waits on the board. A claim without an answer is unknown, and so is the call: the same
//! key at the same shards finds what it got.
//!
//! A key that the worker chose may be a repeat: then every shard is asked first, at a position for which its leader
//! vouches, whether it has given leases under that key. A key that the edge has drawn cannot be one.
//!
//! Invariant: a call holds a permit only while it claims.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::{join_all, select_all};
use statehouse_contract::{
    Answer, Command, CommandEnvelope, Json, Receipt, ReceiptKind, Rejection, RejectionCode,
    TaskFilter, TenantId, limits::WAIT_MS_MAX, view::QueueView,
};
use tokio::time::{Instant, sleep};

use super::{Router, from_outside};
use crate::{board::Waited, lists};

/// How often the scout looks although nothing was applied: a task may have become ready by the clock.
const SCOUT_LOOK: Duration = Duration::from_millis(50);
/// How long the scout waits after something was applied: more may come with it.
const SCOUT_REST: Duration = Duration::from_millis(2);
/// Pause after a claim that came back empty although there seemed to be tasks, doubled up to a limit.
const EMPTY_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));

/// Who has chosen the key of a lease call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The edge of this node, for this call alone.
    Edge,
    /// The worker: it may repeat the call.
    Worker,
}

impl Router {
    /// Leases tasks of the envelope's tenant, waiting so long for the first one. The answer's body lists them; the list is
    /// empty when the time is over.
    ///
    /// # Errors
    /// The rejection that the worker gets.
    pub async fn lease(
        &self,
        envelope: CommandEnvelope,
        wait_ms: u64,
        choice: KeyChoice,
    ) -> Result<Receipt, Rejection> {
        let until = Instant::now() + Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
        let (Command::LeaseTasks { queues, .. }, Some(tenant)) =
            (&envelope.command, envelope.target.tenant())
        else {
            let detail = "a lease call names a tenant and its queues";
            return Err(Rejection::gateway(RejectionCode::InvalidRequest, detail));
        };
        let (queues, tenant) = (queues.clone(), tenant.clone());
        self.registry()?.charge(&tenant)?;
        self.inner.board.ask(&tenant, &queues);
        if choice == KeyChoice::Worker
            && let Some(known) = self.leased_before(&envelope).await?
        {
            return Ok(known);
        }
        let mut pause = EMPTY_PAUSE.0;
        loop {
            match self.claimed(&envelope, &tenant, &queues).await? {
                Claimed::Some(receipt) => return Ok(receipt),
                Claimed::Nothing => pause = EMPTY_PAUSE.0,
                // Somebody was quicker, or this node's rows are old.
                Claimed::Empty => {
                    sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
                    pause = (2 * pause).min(EMPTY_PAUSE.1);
                }
            }
            if Instant::now() >= until
                || self.inner.board.wait(&tenant, &queues, until).await? == Waited::InVain
            {
                return Ok(nothing(&envelope));
            }
        }
    }

    /// Claims at one shard after the other until one gives something.
    async fn claimed(
        &self,
        envelope: &CommandEnvelope,
        tenant: &TenantId,
        queues: &[Box<str>],
    ) -> Result<Claimed, Rejection> {
        let seats = self.seats()?;
        let first = self.inner.turn.fetch_add(1, Ordering::Relaxed) % seats.len();
        let mut claimed = Claimed::Nothing;
        for place in 0..seats.len() {
            let seat = &seats[(first + place) % seats.len()];
            if !queues.iter().any(|queue| seat.count_ready(tenant, queue, 1) > 0) {
                continue;
            }
            let permit = self.enter()?;
            match self.decided(seat, envelope.clone(), Arc::new(permit)).await {
                Ok(receipt) if has_tasks(&receipt) => return Ok(Claimed::Some(receipt)),
                Ok(_) => claimed = Claimed::Empty,
                // Nothing was given there; another shard may have a leader and a task.
                Err(no) if no.code.status() == 503 => claimed = Claimed::Empty,
                Err(no) => return Err(no),
            }
        }
        Ok(claimed)
    }

    /// Finds the leases that were given under a key before.
    async fn leased_before(
        &self,
        envelope: &CommandEnvelope,
    ) -> Result<Option<Receipt>, Rejection> {
        let (seats, hash) = (self.seats()?, envelope.key_hash());
        let looking = seats.iter().map(|seat| seat.receipt_of(&envelope.target, hash));
        for found in join_all(looking).await {
            if let Some(receipt) = found? {
                if receipt.fingerprint != envelope.fingerprint {
                    return Err(statehouse_runtime::reject::key_reused(None));
                }
                return Ok(Some(Receipt { replayed: true, ..receipt }));
            }
        }
        Ok(None)
    }

    /// Lets a worker's report or heartbeat in: its key is that of its task and token.
    pub(super) fn reports(envelope: &CommandEnvelope) -> Result<(), Rejection> {
        use statehouse_contract::Key;
        match (&envelope.command, &envelope.key) {
            (
                Command::CompleteTask { task, token, .. }
                | Command::FailTask { task, token, .. }
                | Command::ExtendLease { task, token, .. },
                Key::Task { task: named, token: held, .. },
            ) if task == named && token == held => Ok(()),
            (_, key) => from_outside(key),
        }
    }

    /// Looks at this node's rows for waiting calls, until the node stops.
    pub(crate) async fn scout(self) {
        loop {
            self.inner.board.somebody().await;
            let Ok(seats) = self.seats() else { return };
            let mut applied: Vec<_> = seats.iter().map(|seat| seat.log().applied()).collect();
            let changes = applied.iter_mut().map(|watch| {
                watch.mark_unchanged();
                Box::pin(watch.changed())
            });
            // News or not: a look costs little.
            let _ = tokio::time::timeout(SCOUT_LOOK, select_all(changes)).await;
            sleep(SCOUT_REST).await;
            self.inner.board.wake(|tenant, queue, limit| {
                let mut count = 0;
                for seat in seats.iter() {
                    if count < limit {
                        count += seat.count_ready(tenant, queue, limit - count);
                    }
                }
                count
            });
        }
    }

    /// Answers a page of a tenant's open tasks.
    pub(super) async fn tasks(&self, filter: &TaskFilter) -> Result<Answer, Rejection> {
        lists::tasks(&self.seats()?, self.inner.map, filter).await.map(Answer::Tasks)
    }

    /// Answers what waits in a tenant's queues.
    pub(super) async fn queues(&self, tenant: &TenantId) -> Result<Answer, Rejection> {
        let (mut queues, mut missing_shards) = (Vec::<QueueView>::new(), Vec::new());
        for seat in self.seats()?.iter() {
            match seat.queues(tenant).await {
                Ok(found) => found.into_iter().for_each(|queue| add(&mut queues, queue)),
                Err(no) if no.code.status() == 503 => missing_shards.push(seat.shard().0),
                Err(no) => return Err(no),
            }
        }
        queues.sort_by(|one, other| one.queue.cmp(&other.queue));
        for queue in &mut queues {
            let asked = self.inner.board.asked(tenant, &queue.queue);
            queue.polled_ms = asked.and_then(|ago| u64::try_from(ago.as_millis()).ok());
        }
        Ok(Answer::Queues { queues, missing_shards })
    }
}

/// What came of claiming at every shard.
enum Claimed {
    Some(Receipt),
    /// No shard seemed to have anything.
    Nothing,
    /// One seemed to, and had not.
    Empty,
}

fn add(queues: &mut Vec<QueueView>, found: QueueView) {
    match queues.iter_mut().find(|queue| queue.queue == found.queue) {
        Some(queue) => {
            queue.ready += found.ready;
            queue.waiting += found.waiting;
            queue.leased += found.leased;
            queue.parked += found.parked;
            queue.oldest_ready_ms = queue.oldest_ready_ms.max(found.oldest_ready_ms);
        }
        None => queues.push(found),
    }
}

const EMPTY: &str = r#"{"tasks":[]}"#;

fn has_tasks(receipt: &Receipt) -> bool {
    receipt.body.as_str() != EMPTY
}

/// The answer when the time is over: nothing was written.
fn nothing(envelope: &CommandEnvelope) -> Receipt {
    Receipt {
        kind: ReceiptKind::Accepted,
        fingerprint: envelope.fingerprint,
        version: None,
        position: 0,
        body: Json::from_trusted(EMPTY.to_owned()),
        replayed: false,
    }
}
