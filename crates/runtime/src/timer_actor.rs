//! The timer actor: it reads the `due` table and fires what is due through the same door as everybody.
//!
//! It reads bounded pages, earliest first, from a cursor. What was refused is left alone for a while, so that one instance
//! that cannot take its timer does not hold up the others. Between two looks it sleeps until the next row is due, or until
//! a hint says that an earlier one was written.
//!
//! Firing twice is harmless: the row with its generation is the fence. Firing early is not: the decision's time must have
//! reached the row's, and `decide` checks it again.
//!
//! Absent on purpose: a wheel in memory. The table is the wheel; a restart loses nothing.
//!
//! Invariant `TIMER`: a timer fires at most once, never early, never after its state was left.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef, concurrency::JoinHandle};
use statehouse_contract::{Due, InstanceKey, Timestamp, mutant};
use statehouse_store::DueCursor;
use tokio::task::JoinSet;
use tracing::warn;

use crate::{
    door::Door,
    message::{Reply, TimerMessage},
    metrics::one,
    reading::{DueFound, RowsError},
    reign::Reign,
};

/// Timers of one shard that are under way at once: less than half of its permits.
const FIRING_MAX: usize = 128;
/// Most pages of one look; the next look goes on behind them.
const PAGES_MAX: usize = 8;
/// Longest sleep while something is pending: the clock may be set, and hints may be lost.
const SLEEP_MAX_MS: i64 = 1_000;
/// First and longest time for which a refused row is left alone.
const LEAVE_MS: (i64, i64) = (200, 30_000);
/// Most rows that are left alone by name.
const LEFT_MAX: usize = 4_096;

/// Tells the timer actor of a shard that something may be due earlier than it thinks.
#[derive(Debug)]
pub struct TimerHint {
    next: AtomicI64,
    is_queued: AtomicBool,
    actor: Mutex<Option<ActorRef<TimerMessage>>>,
}

impl TimerHint {
    /// Returns a hint that nobody hears yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            next: AtomicI64::new(i64::MAX),
            is_queued: AtomicBool::new(false),
            actor: Mutex::new(None),
        }
    }

    /// Says that a row was armed. At most one look is queued at a time.
    pub fn armed(&self, at: Timestamp) {
        if at.0 < self.next.load(Ordering::Acquire) {
            self.next.fetch_min(at.0, Ordering::AcqRel);
            self.look();
        }
    }

    fn look(&self) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let actor = self.actor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(actor) = actor.as_ref() {
            let _ = actor.send_message(TimerMessage::Look);
        }
    }
}

impl Default for TimerHint {
    fn default() -> Self {
        Self::new()
    }
}

/// The timer actor of a led shard.
#[derive(Debug)]
pub(crate) struct TimerActor;

/// A row that was refused.
#[derive(Clone, Copy, Debug)]
struct Left {
    until: Timestamp,
    wait_ms: i64,
}

/// What the timer actor knows.
pub(crate) struct TimerState {
    reign: Arc<Reign>,
    left: HashMap<(InstanceKey, Due), Left>,
    after: Option<DueCursor>,
    alarm: Option<JoinHandle<Result<(), ractor::MessagingErr<TimerMessage>>>>,
}

impl Actor for TimerActor {
    type Msg = TimerMessage;
    type State = TimerState;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let hint = reign.timer_hint();
        *hint.actor.lock().unwrap_or_else(PoisonError::into_inner) = Some(myself);
        hint.is_queued.store(false, Ordering::Release);
        // What became due while nobody led fires promptly.
        hint.look();
        Ok(TimerState { reign, left: HashMap::new(), after: None, alarm: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let TimerMessage::Look = message;
        let reign = Arc::clone(&state.reign);
        let hint = reign.timer_hint();
        // A hint that comes from here on queues another look.
        hint.is_queued.store(false, Ordering::Release);
        hint.next.store(i64::MAX, Ordering::Release);
        match state.look().await {
            Ok(Some(next)) => {
                hint.next.fetch_min(next.0, Ordering::AcqRel);
                state.sleep_until(&myself, next);
            }
            Ok(None) => {}
            Err(why) => {
                warn!(shard = %state.reign.shard(), %why, "the due table cannot be read");
                state.sleep_until(&myself, state.reign.now().after_ms(SLEEP_MAX_MS));
            }
        }
        Ok(())
    }
}

impl TimerState {
    /// Fires what is due now; returns when to look again, if anything is pending.
    async fn look(&mut self) -> Result<Option<Timestamp>, RowsError> {
        let now = mutant::ripe_at(self.reign.now());
        // A row that is refused again soon is left alone for longer.
        self.left.retain(|_, left| left.until.after_ms(2 * LEAVE_MS.1) > now);
        let mut fired = 0;
        for _ in 0..PAGES_MAX {
            let page = self.reign.due(now, self.after.as_ref())?;
            self.after = page.next;
            let mut ripe = page.rows;
            ripe.retain(|row| !self.is_left(row, now));
            fired += ripe.len();
            self.fire(ripe).await;
            if self.after.is_none() {
                break;
            }
        }
        // What was fired may have been another timer of the same instance, or there is a page more: look once more.
        if fired > 0 || self.after.is_some() {
            return Ok(Some(now));
        }
        let waiting = self.left.values().map(|left| left.until).filter(|until| *until > now).min();
        // Every row up to now was fired or is left alone.
        Ok(waiting.into_iter().chain(self.reign.next_due(now)?).min())
    }

    fn is_left(&self, row: &DueFound, now: Timestamp) -> bool {
        let left = self.left.get(&(row.key.clone(), row.what.clone()));
        left.is_some_and(|left| left.until > now)
    }

    /// Fires rows through the door, a bounded number at a time.
    async fn fire(&mut self, rows: Vec<DueFound>) {
        let mut firing = JoinSet::new();
        for row in rows {
            if firing.len() >= FIRING_MAX
                && let Some(done) = firing.join_next().await
            {
                self.fired(done);
            }
            let door = Door::of(&self.reign);
            firing.spawn(async move {
                let reply = door.fire(&row.key, row.what.clone(), row.at).await;
                (row, reply)
            });
        }
        while let Some(done) = firing.join_next().await {
            self.fired(done);
        }
    }

    fn fired(&mut self, done: Result<(DueFound, Option<Reply>), tokio::task::JoinError>) {
        let Ok((row, reply)) = done else { return };
        let name = (row.key, row.what);
        match reply {
            Some(Reply::Fired | Reply::Receipt(_)) => {
                one(&self.reign.metrics().fired);
                self.left.remove(&name);
            }
            // Not open any more, or another timer of the instance came first: its row says so soon.
            Some(Reply::Stale | Reply::Rejected(_)) | None => {
                let before = self.left.get(&name).map_or(LEAVE_MS.0 / 2, |left| left.wait_ms);
                let wait_ms = (2 * before).min(LEAVE_MS.1);
                if self.left.len() < LEFT_MAX {
                    let until = self.reign.now().after_ms(wait_ms);
                    self.left.insert(name, Left { until, wait_ms });
                }
            }
        }
    }

    fn sleep_until(&mut self, myself: &ActorRef<TimerMessage>, next: Timestamp) {
        let sleep_ms = next.since_ms(mutant::ripe_at(self.reign.now())).clamp(0, SLEEP_MAX_MS);
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
        let sleep = Duration::from_millis(u64::try_from(sleep_ms).unwrap_or(0));
        self.alarm = Some(myself.send_after(sleep, || TimerMessage::Look));
    }
}
