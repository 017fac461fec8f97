//! A node whose leaders are led by hand, and gates that say what they are told to say.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, pg};
use statehouse_contract::{
    CommandEnvelope, Digest, InstanceFilter, InstanceId, InstanceKey, Json, NodeId, Receipt,
    ReceiptKind, ShardId, StoredReceipt, TenantId, codec,
};
use statehouse_log::{
    Lane, Leadership, LogRequest, LogResponse, Origin, Peer, Reserve, Transport, TransportError,
    transport::{Answering, LogPosition, StoredVote},
};
use statehouse_runtime::{HostConfig, Profile, ShardHost, Tuning};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    Router, ShardMap,
    forward::{Asked, Told},
    gate::GateMessage,
    roll::Roll,
    shard_map::REGISTRY,
    testing::{self, Stopped},
};

/// Groups of actors belong to the process: every test has nodes of its own.
static NODES: AtomicU32 = AtomicU32::new(1_000);
const MAP: ShardMap = ShardMap::even(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// The way to leaders of whom only shard 0's says where a read may begin.
struct Leaders;

impl Transport for Leaders {
    fn ask<'a>(
        &'a self,
        to: NodeId,
        _peer: &'a Peer,
        shard: ShardId,
        _lane: Lane,
        request: LogRequest,
        _patience: Duration,
    ) -> Answering<'a> {
        let said = match request {
            LogRequest::ReadIndex { .. } if shard == REGISTRY => Ok(LogResponse::ReadIndex(Ok(0))),
            _ => Err(TransportError::Unreachable { to, what: "a puppet".to_owned() }),
        };
        Box::pin(std::future::ready(said))
    }
}

/// Whom a shard follows.
#[derive(Clone, Copy)]
struct Led {
    by: NodeId,
    term: u64,
    is_vouched: bool,
    echo: u64,
}

type Leads = Arc<Mutex<BTreeMap<ShardId, Led>>>;

/// A node of three that never leads.
pub(super) struct House {
    pub(super) router: Router,
    others: [NodeId; 2],
    host: ShardHost,
    leads: Leads,
    feeder: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl House {
    /// Opens a node that follows a leader of shard 0, as its copy says.
    pub(super) async fn open() -> Self {
        let house = Self::open_unled().await;
        house.follow(REGISTRY, house.other(0), 5).await;
        house
    }

    /// Opens a node that follows nobody yet.
    pub(super) async fn open_unled() -> Self {
        let first = NODES.fetch_add(3, Ordering::Relaxed);
        let [own, one, two] = [0, 1, 2].map(|n| NodeId { number: first + n, incarnation: 1 });
        let directory = tempfile::tempdir().unwrap();
        let voters = [own, one, two].map(|node| (node, Peer::default()));
        let host = ShardHost::start(HostConfig {
            data: directory.path().to_owned(),
            node: own,
            shards: MAP.shards(),
            profile: Profile::Local,
            reserve: Reserve::Bytes(0),
            origin: Origin::Found(voters.into()),
            transport: Arc::new(Leaders),
            builds: statehouse_runtime::Builds::default(),
            clock: Arc::new(Stopped),
            tuning: Tuning::standard(),
        });
        let host = host.await.unwrap();
        let who = crate::who::Who {
            node: own,
            cluster: None,
            api: String::new(),
            roll: Roll::default(),
            build: statehouse_contract::Build::THIS,
            builds: statehouse_runtime::Builds::default(),
        };
        let router = Router::new(MAP, &host, who, Profile::Local);
        let leads = Leads::default();
        let logs: Vec<_> = host.seats().iter().map(|seat| seat.log().clone()).collect();
        let feeder = tokio::spawn(feed(logs, Arc::clone(&leads)));
        Self { router, others: [one, two], host, leads, feeder, _directory: directory }
    }

    pub(super) fn other(&self, place: usize) -> NodeId {
        self.others[place]
    }

    /// Lets a node lead a shard in a term, and its follower here know that its copy is fresh.
    pub(super) async fn follow(&self, shard: ShardId, by: NodeId, term: u64) {
        self.led(shard, Led { by, term, is_vouched: true, echo: 0 }).await;
    }

    /// Lets a node lead a shard in a term that never answers what it hears from here.
    pub(super) async fn follow_unvouched(&self, shard: ShardId, by: NodeId, term: u64) {
        self.led(shard, Led { by, term, is_vouched: false, echo: 0 }).await;
    }

    async fn led(&self, shard: ShardId, led: Led) {
        self.leads.lock().unwrap().insert(shard, led);
        let log = self.host.seat(shard).unwrap().log();
        let begun = std::time::Instant::now();
        loop {
            let follows = *log.leadership().borrow()
                == Leadership::Following { leader: Some(led.by) }
                && log.numbers().term == led.term;
            if follows && (log.age().is_some() || !led.is_vouched) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "shard {shard} does not follow {}", led.by);
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn close(self) {
        self.feeder.abort();
        self.router.close();
        self.host.drain(Duration::from_secs(5)).await;
    }
}

/// Sends each shard the heartbeats of whoever leads it.
async fn feed(logs: Vec<statehouse_log::ShardLog>, leads: Leads) {
    loop {
        for log in &logs {
            let Some(led) = leads.lock().unwrap().get(&log.shard()).copied() else { continue };
            let founded = Some(LogPosition { term: 0, index: 0 });
            let request = LogRequest::Append {
                vote: StoredVote { term: led.term, node: led.by.raft(), is_granted: true },
                previous: founded,
                records: Vec::new(),
                committed: founded,
                echo: led.echo,
            };
            if let Ok(LogResponse::Append { echo, .. }) = log.receive(request).await
                && let Some(now) = leads.lock().unwrap().get_mut(&log.shard())
                && now.is_vouched
            {
                now.echo = echo;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

type Script = dyn Fn(usize, &CommandEnvelope) -> Option<Told> + Send + Sync;
type Heard = Arc<Mutex<Vec<CommandEnvelope>>>;

/// A gate that answers as its script says; nothing means silence.
pub(super) struct Puppet {
    heard: Heard,
    actor: ActorRef<GateMessage>,
}

struct Mouth(Arc<Script>);

impl Actor for Mouth {
    type Msg = GateMessage;
    /// What was heard, and the replies that are owed for ever.
    type State = (Heard, Vec<RpcReplyPort<Vec<u8>>>);
    type Arguments = Heard;

    async fn pre_start(
        &self,
        _: ActorRef<GateMessage>,
        heard: Heard,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok((heard, Vec::new()))
    }

    async fn handle(
        &self,
        _: ActorRef<GateMessage>,
        GateMessage::Rpc(question, reply): GateMessage,
        (heard, owed): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Asked::Submit { envelope, .. } = codec::decode(&question)? else {
            return Ok(());
        };
        let calls = {
            let mut heard = heard.lock().unwrap();
            heard.push((*envelope).clone());
            heard.iter().filter(|before| before.key == envelope.key).count() - 1
        };
        match (self.0)(calls, &envelope) {
            Some(told) => drop(reply.send(codec::encode(&told)?)),
            None => owed.push(reply),
        }
        Ok(())
    }
}

impl Puppet {
    pub(super) async fn put_up(
        shard: ShardId,
        node: NodeId,
        script: impl Fn(usize, &CommandEnvelope) -> Option<Told> + Send + Sync + 'static,
    ) -> Self {
        let heard = Heard::default();
        let spawned = Actor::spawn(None, Mouth(Arc::new(script)), Arc::clone(&heard)).await;
        let (actor, _) = spawned.unwrap();
        pg::join(format!("shard/{shard}/{node}"), vec![actor.get_cell()]);
        Self { heard, actor }
    }

    /// Ends it, and returns once it is gone.
    pub(super) async fn end(self) {
        self.actor.stop_and_wait(None, None).await.unwrap();
    }

    pub(super) fn heard(&self) -> Vec<CommandEnvelope> {
        self.heard.lock().unwrap().clone()
    }

    pub(super) async fn until_heard(&self, count: usize) {
        let begun = std::time::Instant::now();
        while self.heard.lock().unwrap().len() < count {
            assert!(begun.elapsed() < PATIENCE, "nothing is heard");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.actor.stop(None);
    }
}

fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

/// An instance of a shard.
pub(super) fn key_in(shard: ShardId) -> InstanceKey {
    let named = |n: u32| InstanceKey {
        tenant: tenant(),
        instance: InstanceId::parse(&format!("i-{n}")).unwrap(),
    };
    (0..).map(named).find(|key| MAP.of_instance(key) == shard).unwrap()
}

pub(super) fn press(shard: ShardId, name: &str) -> CommandEnvelope {
    testing::press(key_in(shard).instance.as_str(), name)
}

/// An answer that is known by its position.
pub(super) fn receipt(position: u64) -> Receipt {
    let stored = StoredReceipt {
        kind: ReceiptKind::Accepted,
        fingerprint: Digest::of(b"x"),
        version: None,
        body: Json::empty_object(),
    };
    stored.at(position)
}

pub(super) fn filter(complete: bool) -> InstanceFilter {
    InstanceFilter { all: true, limit: 10, complete, ..InstanceFilter::of(tenant()) }
}
