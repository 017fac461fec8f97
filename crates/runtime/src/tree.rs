//! The supervision tree as one table, and the actor that keeps one level of it alive.
//!
//! ```text
//! node             one for one    3 restarts in 60 s, then the process ends and the platform restarts it
//!  seat (a shard)  follows the shard's leadership; builds what is below for one term, after `opening.rs`
//!   shard          one for all    none: a broken part ends the subtree, the seat fails and builds it anew
//!    gateway       dynamic        2 restarts of one instance in 60 s, then that instance is quarantined
//!    organs        rest for one   3 restarts in 30 s, then the shard is built anew
//! ```
//!
//! The actor library stops a supervisor when any child ends, and knows no restart. So every level here overrides its
//! handler, knows its children by id, counts starts that fail, and asks `restart.rs` what follows.
//!
//! Absent on purpose: what the children do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent,
    concurrency::Instant,
};
use tracing::{error, warn};

use crate::{
    message::SupervisorMessage,
    restart::{
        Backoff, Death, Deaths, Exit, Intensity, Lifetime, Policy, Strategy, Verdict, judge,
    },
};

/// Restarts by a supervisor of this process.
pub(crate) static RESTARTS: AtomicU64 = AtomicU64::new(0);

/// Whole shards on one node.
pub(crate) const NODE: Policy = Policy {
    strategy: Strategy::OneForOne,
    intensity: Intensity { restarts: 3, window_ms: 60_000 },
    backoff: Backoff { first_ms: 100, max_ms: 2_000 },
};
/// The parts of one led shard.
pub(crate) const SHARD: Policy = Policy {
    strategy: Strategy::OneForAll,
    intensity: Intensity { restarts: 0, window_ms: 60_000 },
    backoff: Backoff { first_ms: 0, max_ms: 0 },
};
/// The organs of one led shard.
pub(crate) const ORGANS: Policy = Policy {
    strategy: Strategy::RestForOne,
    intensity: Intensity { restarts: 3, window_ms: 30_000 },
    backoff: Backoff { first_ms: 50, max_ms: 1_000 },
};
/// The instances below one gateway.
pub(crate) const INSTANCES: Policy = Policy {
    strategy: Strategy::Dynamic,
    intensity: Intensity { restarts: 2, window_ms: 60_000 },
    backoff: Backoff { first_ms: 0, max_ms: 0 },
};

/// How long a child may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// A start that is under way.
pub(crate) type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

/// A child as its supervisor knows it.
pub(crate) struct Child {
    /// What it is, for people.
    pub name: &'static str,
    /// When it is started again.
    pub lifetime: Lifetime,
    /// Starts it, linked to the given supervisor.
    pub start: Box<dyn Fn(ActorCell) -> Starting + Send + Sync>,
}

/// One level of the tree.
pub(crate) struct Level {
    /// What it is, for people.
    pub name: String,
    /// What follows a death.
    pub policy: Policy,
    /// The children in the order of starting.
    pub children: Vec<Child>,
}

/// Keeps one level alive.
pub(crate) struct Supervisor;

/// What a supervisor knows.
pub(crate) struct SupervisorState {
    level: Arc<Level>,
    running: Vec<Option<ActorCell>>,
    deaths: Deaths,
    began: Instant,
}

/// Why a supervisor gave up.
#[derive(Debug, thiserror::Error)]
#[error("{child} of {level} kept failing")]
pub(crate) struct GaveUp {
    /// The level.
    pub level: String,
    /// The child whose death was one too many.
    pub child: &'static str,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = Level;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        level: Level,
    ) -> Result<Self::State, ActorProcessingErr> {
        let children = level.children.len();
        let mut state = SupervisorState {
            level: Arc::new(level),
            running: vec![None; children],
            deaths: Deaths::default(),
            began: Instant::now(),
        };
        state.start(&myself, (0..children).collect()).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Resume { children } => state.start(&myself, children).await,
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some((who, exit)) = death_of(&event) else { return Ok(()) };
        let is_who = |cell: &Option<ActorCell>| cell.as_ref().is_some_and(|c| c.get_id() == who);
        let Some(child) = state.running.iter().position(is_who) else { return Ok(()) };
        state.running[child] = None;
        state.died(&myself, child, exit).await
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let all: Vec<usize> = (0..state.running.len()).collect();
        state.stop(&all).await;
        Ok(())
    }
}

/// Reads a death from an event. The event type grows with the library's features, hence the wildcard.
#[must_use]
pub(crate) fn death_of(event: &SupervisionEvent) -> Option<(ActorId, Exit)> {
    match event {
        SupervisionEvent::ActorFailed(who, why) => {
            warn!(actor = %who.get_id(), %why, "actor failed");
            Some((who.get_id(), Exit::Failed))
        }
        SupervisionEvent::ActorTerminated(who, _, reason) => {
            let is_killed = matches!(reason.as_deref(), Some("killed" | "actor_task_cancelled"));
            Some((who.get_id(), if is_killed { Exit::Failed } else { Exit::Normal }))
        }
        _ => None,
    }
}

impl SupervisorState {
    /// Starts children in order. A start that fails is a death like any other.
    async fn start(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        children: Vec<usize>,
    ) -> Result<(), ActorProcessingErr> {
        for child in children {
            if self.running[child].is_some() {
                continue;
            }
            let level = Arc::clone(&self.level);
            match (level.children[child].start)(myself.get_cell()).await {
                Ok(cell) => self.running[child] = Some(cell),
                Err(why) => {
                    warn!(level = %level.name, child = level.children[child].name, %why, "start failed");
                    // The rest of the order is part of the verdict, or waits for nothing but the pause.
                    return self.died(myself, child, Exit::Failed).await;
                }
            }
        }
        Ok(())
    }

    async fn died(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        child: usize,
        exit: Exit,
    ) -> Result<(), ActorProcessingErr> {
        let spec = &self.level.children[child];
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let death = Death { child, lifetime: spec.lifetime, exit, now_ms };
        match judge(self.level.policy, &mut self.deaths, self.running.len(), death) {
            Verdict::Leave => Ok(()),
            Verdict::Restart { children, after_ms } => {
                RESTARTS.fetch_add(1, Ordering::Relaxed);
                warn!(level = %self.level.name, child = spec.name, after_ms, "restarting");
                self.stop(&children).await;
                // Whatever is missing comes back too: a start that failed left the rest of its order behind.
                let missing =
                    (0..self.running.len()).filter(|n| self.running[*n].is_none()).collect();
                let pause = Duration::from_millis(after_ms);
                drop(
                    myself
                        .send_after(pause, move || SupervisorMessage::Resume { children: missing }),
                );
                Ok(())
            }
            Verdict::Quarantine | Verdict::Escalate => {
                error!(level = %self.level.name, child = spec.name, "gave up restarting");
                Err(Box::new(GaveUp { level: self.level.name.clone(), child: spec.name }))
            }
        }
    }

    /// Stops the running ones of these children, last first; kills what does not stop in time.
    async fn stop(&mut self, children: &[usize]) {
        for child in children.iter().rev() {
            let Some(cell) = self.running[*child].take() else { continue };
            stop_or_kill(&cell).await;
        }
    }
}

/// Asks an actor to stop and waits; kills it when that takes too long.
pub(crate) async fn stop_or_kill(cell: &ActorCell) {
    let limit = Some(ractor::concurrency::Duration::from(STOP_LIMIT));
    if cell.stop_and_wait(None, limit).await.is_err() {
        warn!(actor = %cell.get_id(), "did not stop in time, killed");
        let _ = cell.kill_and_wait(limit).await;
    }
}
