//! The actor that follows a shard's leadership: it builds the shard's subtree for one term, and takes it down with it.
//!
//! `Leading { term }`: open the reign, then start gateway and organs. Anything else: stop them. When the subtree breaks,
//! this actor fails too; the node's supervisor starts it again, and it opens the same term anew.
//!
//! Absent on purpose: any decision about who leads. The log has made it.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use statehouse_contract::ShardId;
use statehouse_log::Leadership;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::{
    batch_actor::Batches,
    desk_actor::Desk,
    message::SeatMessage,
    opening::{Opened, open},
    outbox_actor::Outbox,
    queue_watch_actor::QueueWatch,
    registry_actor::Registry,
    reign::Reign,
    restart::{Exit, Lifetime},
    schedule_actor::Schedules,
    seat::Seat,
    shard_actor::Gateway,
    sweep_actor::SweepActor,
    timer_actor::TimerActor,
    tree::{Child, Level, ORGANS, SHARD, Supervisor, death_of, stop_or_kill},
    worker_actor::OwnWorker,
};

/// Follows one shard's leadership.
#[derive(Debug)]
pub(crate) struct SeatActor;

/// What a seat's actor knows.
pub(crate) struct SeatState {
    seat: Arc<Seat>,
    subtree: Option<(u64, ActorCell)>,
    follower: JoinHandle<()>,
}

impl Drop for SeatState {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Actor for SeatActor {
    type Msg = SeatMessage;
    type State = SeatState;
    type Arguments = Arc<Seat>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        seat: Arc<Seat>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut leadership = seat.log().leadership();
        leadership.mark_changed();
        let follower = tokio::spawn(async move {
            while leadership.changed().await.is_ok() {
                if myself.send_message(SeatMessage::LeadershipChanged).is_err() {
                    return;
                }
            }
        });
        Ok(SeatState { seat, subtree: None, follower })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let SeatMessage::LeadershipChanged = message;
        let now = *state.seat.log().leadership().borrow();
        match (now, &state.subtree) {
            (Leadership::Leading { term }, Some((built, _))) if term == *built => Ok(()),
            (Leadership::Leading { term }, _) => {
                state.step_down().await;
                state.reign(&myself, term).await
            }
            (Leadership::Following { .. } | Leadership::Stopped, _) => {
                state.step_down().await;
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some((who, exit)) = death_of(&event) else { return Ok(()) };
        let is_own = state.subtree.as_ref().is_some_and(|(_, cell)| cell.get_id() == who);
        if !is_own {
            return Ok(());
        }
        state.subtree = None;
        state.seat.close("the shard is being built anew");
        match exit {
            Exit::Normal => Ok(()),
            Exit::Failed => {
                Err(format!("the subtree of shard {} broke", state.seat.shard()).into())
            }
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.step_down().await;
        Ok(())
    }
}

impl SeatState {
    async fn reign(
        &mut self,
        myself: &ActorRef<SeatMessage>,
        term: u64,
    ) -> Result<(), ActorProcessingErr> {
        let reign = Arc::new(Reign::new(Arc::clone(&self.seat), term));
        if open(&reign).await == Opened::Over {
            warn!(shard = %self.seat.shard(), term, "the reign was over before it began");
            return Ok(());
        }
        if self.seat.shard() == ShardId(0) {
            reign.refresh_quotas();
        }
        let (subtree, _) =
            Actor::spawn_linked(None, Supervisor, shard_level(&reign), myself.get_cell()).await?;
        self.subtree = Some((term, subtree.get_cell()));
        self.seat.open_for(&reign);
        info!(shard = %self.seat.shard(), term, "the shard is open");
        Ok(())
    }

    async fn step_down(&mut self) {
        if let Some((term, cell)) = self.subtree.take() {
            info!(shard = %self.seat.shard(), term, "the reign is over");
            self.seat.close("the shard is changing its leader");
            stop_or_kill(&cell).await;
        }
    }
}

/// The table of one led shard: gateway and organs, in the order of starting.
fn shard_level(reign: &Arc<Reign>) -> Level {
    let (gateway, organs) = (Arc::clone(reign), Arc::clone(reign));
    let children = vec![
        permanent("gateway", move |parent| {
            let reign = Arc::clone(&gateway);
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, Gateway, reign, parent).await?;
                Ok(actor.get_cell())
            })
        }),
        permanent("organs", move |parent| {
            let level = organs_level(&organs);
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, Supervisor, level, parent).await?;
                Ok(actor.get_cell())
            })
        }),
    ];
    Level { name: format!("shard {}", reign.shard()), policy: SHARD, children }
}

/// The organs of a led shard.
fn organs_level(reign: &Arc<Reign>) -> Level {
    let mut children = Vec::new();
    let (registry, timer, sweep) = (Arc::clone(reign), Arc::clone(reign), Arc::clone(reign));
    let (desk, outbox, worker) = (Arc::clone(reign), Arc::clone(reign), Arc::clone(reign));
    children.push(permanent("registry", move |parent| {
        let reign = Arc::clone(&registry);
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, Registry, reign, parent).await?;
            Ok(actor.get_cell())
        })
    }));
    children.push(permanent("desk", move |parent| {
        let reign = Arc::clone(&desk);
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, Desk, reign, parent).await?;
            Ok(actor.get_cell())
        })
    }));
    children.push(permanent("outbox", move |parent| {
        let reign = Arc::clone(&outbox);
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, Outbox, reign, parent).await?;
            Ok(actor.get_cell())
        })
    }));
    children.push(permanent("worker", move |parent| {
        let reign = Arc::clone(&worker);
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, OwnWorker, reign, parent).await?;
            Ok(actor.get_cell())
        })
    }));
    children.push(permanent("timer", move |parent| {
        let reign = Arc::clone(&timer);
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, TimerActor, reign, parent).await?;
            Ok(actor.get_cell())
        })
    }));
    children.push(permanent("sweep", move |parent| {
        let reign = Arc::clone(&sweep);
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, SweepActor, reign, parent).await?;
            Ok(actor.get_cell())
        })
    }));
    let queues = Arc::clone(reign);
    children.push(permanent("queues", move |parent| {
        let reign = Arc::clone(&queues);
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, QueueWatch, reign, parent).await?;
            Ok(actor.get_cell())
        })
    }));
    if reign.shard() == ShardId(0) {
        let schedules = Arc::clone(reign);
        children.push(permanent("schedules", move |parent| {
            let reign = Arc::clone(&schedules);
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, Schedules, reign, parent).await?;
                Ok(actor.get_cell())
            })
        }));
        let batches = Arc::clone(reign);
        children.push(permanent("batches", move |parent| {
            let reign = Arc::clone(&batches);
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, Batches, reign, parent).await?;
                Ok(actor.get_cell())
            })
        }));
    }
    Level { name: format!("organs of shard {}", reign.shard()), policy: ORGANS, children }
}

fn permanent(
    name: &'static str,
    start: impl Fn(ActorCell) -> crate::tree::Starting + Send + Sync + 'static,
) -> Child {
    Child { name, lifetime: Lifetime::Permanent, start: Box::new(start) }
}
