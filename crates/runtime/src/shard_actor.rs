//! The gateway of a led shard: it wakes instances, keeps them alive, sets the failing ones aside, and sends the idle to sleep.
//!
//! A delivery finds its live instance through the process group and never comes here. Only when there is none does the
//! gateway look again, start an actor, and pass the delivery on. It is the instances' supervisor: their policy is dynamic,
//! each on its own.
//!
//! An instance that keeps failing is quarantined: its commands are refused at once, its neighbours do not notice. An
//! operator's verb lets it out again. Quarantine is this leader's own and is not stored.
//!
//! Absent on purpose: deciding, reading rows. A gateway that blocks would stop a whole shard.
//!
//! Invariant `BOUND`: no more instances are awake than the node may hold, but for those with work.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use statehouse_contract::{Command, InstanceKey, RejectionCode};
use tracing::{info, warn};

use crate::{
    instance_actor::{InstanceActor, InstanceArguments},
    message::{Delivery, GatewayMessage, InstanceMessage, Reply},
    metrics::one,
    reign::Reign,
    reject,
    restart::{Death, Deaths, Exit, Lifetime, Verdict, judge},
    tree::{INSTANCES, death_of},
};

/// How often idle instances are looked for.
const TIDY: Duration = Duration::from_millis(500);
/// Most instances whose deaths are remembered.
const DEATHS_MAX: usize = 10_000;

/// The gateway of a led shard.
#[derive(Debug)]
pub(crate) struct Gateway;

/// A live instance as its gateway knows it.
#[derive(Debug)]
struct Live {
    key: InstanceKey,
    actor: ActorRef<InstanceMessage>,
    used_ms: Arc<AtomicU64>,
}

/// What a gateway knows.
#[derive(Debug)]
pub(crate) struct GatewayState {
    reign: Arc<Reign>,
    live: HashMap<ActorId, Live>,
    deaths: HashMap<InstanceKey, Deaths>,
    quarantined: HashSet<InstanceKey>,
}

impl Actor for Gateway {
    type Msg = GatewayMessage;
    type State = GatewayState;
    type Arguments = Arc<Reign>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        reign: Arc<Reign>,
    ) -> Result<Self::State, ActorProcessingErr> {
        drop(myself.send_interval(TIDY, || GatewayMessage::Tidy));
        reign.directory().announce_leader(reign.shard(), &myself.get_cell());
        Ok(GatewayState {
            reign,
            live: HashMap::new(),
            deaths: HashMap::new(),
            quarantined: HashSet::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GatewayMessage::Wake { key, delivery } => state.wake(&myself, key, delivery).await,
            GatewayMessage::Tidy => state.tidy(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((who, exit)) = death_of(&event) {
            state.died(who, exit);
        }
        Ok(())
    }
}

/// The library stops the children with their gateway, however that ends; their counts end here.
impl Drop for GatewayState {
    fn drop(&mut self) {
        self.reign.forget_live(self.live.len());
        let quarantined = i64::try_from(self.quarantined.len()).unwrap_or(i64::MAX);
        self.reign.count_quarantined(-quarantined);
    }
}

impl GatewayState {
    async fn wake(
        &mut self,
        myself: &ActorRef<GatewayMessage>,
        key: InstanceKey,
        delivery: Box<Delivery>,
    ) {
        if self.is_refused(&key, &delivery) {
            let detail =
                "the instance kept failing and was set aside; an operator has to look at it";
            let no = reject::by_instance(RejectionCode::Quarantined, detail);
            let _ = delivery.reply.send(Reply::Rejected(Box::new(no)));
            return;
        }
        // Two deliveries may have missed each other; the second finds the actor that the first has woken.
        let delivery = match self.reign.directory().find_instance(&key) {
            Some(actor) => match pass_on(&actor, delivery) {
                Ok(()) => return,
                Err(back) => back,
            },
            None => delivery,
        };
        match self.start(myself, &key).await {
            // Whoever waits finds the reply port closed and sends the command again.
            Some(actor) => drop(pass_on(&actor, delivery)),
            None => drop(delivery),
        }
    }

    /// Only an operator reaches an instance that was set aside, and lets it out by that.
    fn is_refused(&mut self, key: &InstanceKey, delivery: &Delivery) -> bool {
        if !self.quarantined.contains(key) {
            return false;
        }
        if !matches!(delivery.ask.envelope.command, Command::Operate(_)) {
            return true;
        }
        info!(instance = %key, "an operator takes the instance out of quarantine");
        self.quarantined.remove(key);
        self.deaths.remove(key);
        self.reign.count_quarantined(-1);
        false
    }

    async fn start(
        &mut self,
        myself: &ActorRef<GatewayMessage>,
        key: &InstanceKey,
    ) -> Option<ActorRef<InstanceMessage>> {
        if self.reign.is_crowded() {
            self.tidy();
        }
        let used_ms = Arc::new(AtomicU64::new(self.reign.uptime_ms()));
        let arguments = InstanceArguments {
            key: key.clone(),
            reign: Arc::clone(&self.reign),
            used_ms: Arc::clone(&used_ms),
        };
        match Actor::spawn_linked(None, InstanceActor, arguments, myself.get_cell()).await {
            Ok((actor, _)) => {
                self.reign.directory().join_instance(key, actor.get_cell());
                let live = Live { key: key.clone(), actor: actor.clone(), used_ms };
                self.live.insert(actor.get_id(), live);
                self.reign.count_live();
                Some(actor)
            }
            Err(why) => {
                warn!(instance = %key, %why, "the instance's actor did not start");
                self.judge_death(key.clone(), Exit::Failed);
                None
            }
        }
    }

    fn died(&mut self, who: ActorId, exit: Exit) {
        let Some(live) = self.live.remove(&who) else { return };
        self.reign.forget_live(1);
        self.judge_death(live.key, exit);
    }

    /// A dead instance is not started again at once: the next delivery wakes it from its rows.
    fn judge_death(&mut self, key: InstanceKey, exit: Exit) {
        let now_ms = self.reign.uptime_ms();
        if exit == Exit::Failed && self.deaths.len() >= DEATHS_MAX {
            self.deaths.retain(|_, deaths| !deaths.forget(now_ms, INSTANCES.intensity));
        }
        let death = Death { child: 0, lifetime: Lifetime::Transient, exit, now_ms };
        let verdict = match exit {
            Exit::Normal => judge(INSTANCES, &mut Deaths::default(), 1, death),
            Exit::Failed => {
                one(&self.reign.metrics().failures);
                judge(INSTANCES, self.deaths.entry(key.clone()).or_default(), 1, death)
            }
        };
        match verdict {
            Verdict::Leave | Verdict::Restart { .. } => {}
            Verdict::Quarantine | Verdict::Escalate => {
                warn!(instance = %key, "the instance kept failing and is set aside");
                if self.quarantined.insert(key) {
                    self.reign.count_quarantined(1);
                }
            }
        }
    }

    /// Sends instances without work to sleep: those that were idle for long, and under pressure those idle for longest.
    fn tidy(&mut self) {
        let now_ms = self.reign.uptime_ms();
        let idle_max_ms = self.reign.idle_max_ms();
        let idle_ms = |live: &Live| now_ms.saturating_sub(live.used_ms.load(Ordering::Relaxed));
        let mut idle: BTreeMap<(u64, ActorId), ()> = BTreeMap::new();
        for (id, live) in &self.live {
            if idle_ms(live) >= idle_max_ms && self.reign.admission().is_idle(&live.key) {
                idle.insert((u64::MAX - idle_ms(live), *id), ());
            }
        }
        for (_, id) in idle.into_keys() {
            let Some(live) = self.live.get(&id) else { continue };
            // First nobody finds it any more, then it works off what it has and ends.
            self.reign.directory().leave_instance(&live.key, live.actor.get_cell());
            let _ = live.actor.get_cell().drain();
            one(&self.reign.metrics().passivated);
        }
    }
}

/// Hands a delivery to an actor, or gives it back when the actor has ended.
pub(crate) fn pass_on(
    actor: &ActorRef<InstanceMessage>,
    delivery: Box<Delivery>,
) -> Result<(), Box<Delivery>> {
    match actor.send_message(InstanceMessage::Deliver(delivery)) {
        Ok(()) => Ok(()),
        Err(ractor::MessagingErr::SendErr(InstanceMessage::Deliver(back))) => Err(back),
        // The group holds only instance actors, and a closed channel gives the message back above.
        Err(ractor::MessagingErr::InvalidActorType | ractor::MessagingErr::ChannelClosed) => {
            unreachable!("an instance's group holds instance actors alone")
        }
    }
}
