//! Node links: every node of the cluster joined with every other, through ractor_cluster, over connections of our own.
//!
//! ractor_cluster brings the groups and the calls; what it lacks stands here: certificates, a hello that is checked before
//! any actor hears of it (`hello`), a pulse that finds the dead (`link`), one dialer for each pair that tries again
//! (`dialer`), and the rule of one link for each peer (`book`). Its own listener cannot be switched off, so it is
//! bound to loopback and asks for a handshake that nobody can complete.
//!
//! Deliberately absent: messages between actors, and whatever follows from a state. A state is a hint.

mod book;
mod dialer;
mod hello;
mod link;
mod server;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ractor::ActorRef;
use ractor_cluster::NodeServerMessage;
use statehouse_contract::NodeId;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{error, info, warn};

use self::{
    book::Book,
    hello::{Hello, HelloError, Verdict},
    link::{End, PIPE_BYTES},
    server::{Pipe, Server},
};
use crate::{
    SecurityError,
    cookie::Cookie,
    line::Limits,
    socket::{Socket, Wire},
};

/// How often the states are looked at when nothing rings.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a session may take to become ready.
const READY_MAX: Duration = Duration::from_secs(10);
/// How long a new link waits for the one before it to be taken down.
const TAKE_OVER_MAX: Duration = Duration::from_secs(2);
/// How long the goodbyes may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// The pause after the listener failed, or the node server did.
const TROUBLE_PAUSE: Duration = Duration::from_millis(200);

/// What is known of a peer. A hint for readiness and routing, never a reason to lead or to vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// Its session is ready and it was heard a moment ago.
    Up,
    /// It is silent, or was lost a moment ago.
    Suspect,
    /// It is gone, or was never there, or said goodbye.
    Down,
}

/// A node that may have a link with us, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress {
    pub node: NodeId,
    pub address: String,
}

/// The times of the links.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timings {
    /// After so long without a word a pulse is sent.
    pub pulse: Duration,
    /// Silent for longer, a peer is suspect.
    pub suspect_after: Duration,
    /// How long a lost peer is suspect before it is down.
    pub lost_for: Duration,
    /// When a link that stands still is ended.
    pub limits: Limits,
    /// The first pause between two dials.
    pub redial_min: Duration,
    /// The longest pause between two dials.
    pub redial_max: Duration,
}

impl Timings {
    /// What a node uses.
    pub(crate) const STANDARD: Self = Self {
        pulse: Duration::from_millis(500),
        suspect_after: Duration::from_secs(1),
        lost_for: Duration::from_secs(3),
        limits: Limits {
            read_idle: Duration::from_millis(2_500),
            write: Duration::from_millis(2_500),
        },
        redial_min: Duration::from_millis(50),
        redial_max: Duration::from_secs(2),
    };
}

/// How to start the links.
#[derive(Debug)]
pub(crate) struct PeersConfig {
    /// Who we are.
    pub own: NodeId,
    /// The cluster to which we belong.
    pub cluster: [u8; 16],
    /// Where others dial us.
    pub listener: TcpListener,
    /// The cluster's name tag.
    pub cookie: Cookie,
    /// What makes the connections.
    pub wire: Arc<Wire>,
    /// The times.
    pub timings: Timings,
}

/// Why the links do not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeersError {
    /// The certificate is not this node's.
    #[error("the links between nodes cannot be secured")]
    Security(#[source] SecurityError),
    /// ractor_cluster does not start.
    #[error("the server of the node links does not start; it needs a free port on 127.0.0.1")]
    Server(#[source] ractor::SpawnErr),
}

/// Who made the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Dialled,
    Accepted,
}

/// What every task of the links shares.
struct Shared {
    own: NodeId,
    cluster: [u8; 16],
    wire: Arc<Wire>,
    timings: Timings,
    book: Arc<Book>,
    server: Mutex<ActorRef<NodeServerMessage>>,
    known: watch::Receiver<Vec<PeerAddress>>,
    is_leaving: watch::Receiver<bool>,
}

/// The links of a running node.
pub(crate) struct Peers {
    states: watch::Receiver<BTreeMap<NodeId, PeerState>>,
    leaving: watch::Sender<bool>,
    keeper: JoinHandle<()>,
    #[cfg(test)]
    shared: Arc<Shared>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("states", &*self.states.borrow()).finish_non_exhaustive()
    }
}

impl Peers {
    /// Starts the listener, the dialers and ractor_cluster's server.
    ///
    /// # Errors
    /// When the certificate is another node's, or the server does not start.
    pub(crate) async fn start(
        config: PeersConfig,
        known: watch::Receiver<Vec<PeerAddress>>,
    ) -> Result<Self, PeersError> {
        let PeersConfig { own, cluster, listener, cookie, wire, timings } = config;
        wire.security().check_own(own.number).map_err(PeersError::Security)?;
        let book = Arc::new(Book::default());
        let server = Server { own, cookie, book: Arc::clone(&book) };
        let (actor, running) = server.spawn().await.map_err(PeersError::Server)?;
        let (leaving, is_leaving) = watch::channel(false);
        let server_ref = Mutex::new(actor);
        let shared =
            Shared { own, cluster, wire, timings, book, server: server_ref, known, is_leaving };
        let shared = Arc::new(shared);
        let (publish, states) = watch::channel(BTreeMap::new());
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            server,
            publish,
            known: BTreeMap::new(),
            dialers: BTreeMap::new(),
        };
        let keeper = tokio::spawn(keeper.run(listener, running));
        Ok(Self {
            states,
            leaving,
            keeper,
            #[cfg(test)]
            shared,
        })
    }

    /// What is known of every known node but this one.
    pub(crate) fn states(&self) -> watch::Receiver<BTreeMap<NodeId, PeerState>> {
        self.states.clone()
    }

    /// Says goodbye on every link, then closes everything.
    pub(crate) async fn stop(self) {
        self.leaving.send_replace(true);
        if let Err(error) = self.keeper.await {
            error!(%error, "the keeper of the node links broke");
        }
    }
}

/// A task that ends with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The one loop that follows the list of nodes and publishes their states.
struct Keeper {
    shared: Arc<Shared>,
    server: Server,
    publish: watch::Sender<BTreeMap<NodeId, PeerState>>,
    known: BTreeMap<NodeId, String>,
    dialers: BTreeMap<NodeId, Owned>,
}

impl Keeper {
    async fn run(mut self, listener: TcpListener, mut running: JoinHandle<()>) {
        let shared = Arc::clone(&self.shared);
        let door = Owned(tokio::spawn(accept(Arc::clone(&shared), listener)));
        let mut known = shared.known.clone();
        let mut is_leaving = shared.is_leaving.clone();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow(&known.borrow_and_update().clone());
        let mut is_fed = true;
        loop {
            tokio::select! {
                // Also when `Peers` was dropped: nobody else could end it.
                _ = async { is_leaving.wait_for(|leaving| *leaving).await.is_ok() } => break,
                changed = known.changed(), if is_fed => {
                    // Whoever fed the list has gone; the last one stays.
                    is_fed = changed.is_ok();
                    let list = known.borrow_and_update().clone();
                    self.follow(&list);
                }
                () = shared.book.changed.notified() => {}
                _ = look.tick() => {}
                _ = &mut running => running = self.restart().await,
            }
            for peer in shared.book.cut_unready(Instant::now(), READY_MAX) {
                warn!(%peer, limit = ?READY_MAX, "a link was cut because its session was not ready");
            }
            self.tell();
        }
        drop(door);
        self.dialers.clear();
        shared.book.leave();
        if timeout(GOODBYE_MAX, shared.book.silent()).await.is_err() {
            shared.book.cut_all();
        }
        let server = shared.server();
        // It has nothing left to lose: every stream has ended.
        server.stop(None);
        let _ = timeout(GOODBYE_MAX, running).await;
    }

    fn follow(&mut self, list: &[PeerAddress]) {
        let shared = &self.shared;
        let others = list.iter().filter(|peer| peer.node.number != shared.own.number);
        let known: BTreeMap<_, _> = others.map(|peer| (peer.node, peer.address.clone())).collect();
        let before = std::mem::replace(&mut self.known, known);
        self.dialers.retain(|node, _| before.get(node) == self.known.get(node));
        for (node, address) in self.known.iter().filter(|(node, _)| shared.own < **node) {
            self.dialers.entry(*node).or_insert_with(|| {
                let dialing = dialer::keep(Arc::clone(shared), *node, address.clone());
                Owned(tokio::spawn(dialing))
            });
        }
        shared.book.cut_others(&self.known);
    }

    fn tell(&self) {
        let (now, timings) = (Instant::now(), &self.shared.timings);
        let states = self.shared.book.states(self.known.keys(), now, timings);
        self.publish.send_if_modified(|before| {
            for (node, state) in &states {
                if before.get(node) != Some(state) {
                    info!(%node, ?state, "a peer's state");
                }
            }
            let is_new = *before != states;
            *before = states;
            is_new
        });
    }

    async fn restart(&self) -> JoinHandle<()> {
        error!("the server of the node links ended; it is started again and every link with it");
        self.shared.book.cut_all();
        self.shared.book.all_closed();
        loop {
            match self.server.spawn().await {
                Ok((actor, running)) => {
                    *self.shared.server.lock().unwrap_or_else(PoisonError::into_inner) = actor;
                    return running;
                }
                Err(error) => error!(%error, "the server of the node links does not start"),
            }
            sleep(TROUBLE_PAUSE).await;
        }
    }
}

impl Shared {
    fn server(&self) -> ActorRef<NodeServerMessage> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn knows(&self, node: NodeId) -> bool {
        self.known.borrow().iter().any(|peer| peer.node == node)
    }

    /// Gives a checked connection to the session server; no if the peer has a link.
    fn hand_over(self: &Arc<Self>, mut socket: Socket, peer: NodeId, side: Side) -> bool {
        let Some(place) = self.book.enter(peer) else { return false };
        socket.set_limits(self.timings.limits);
        let remote = socket.remote();
        let (inside, outside) = tokio::io::duplex(PIPE_BYTES);
        let carrying = Carrying { book: Arc::clone(&self.book), serial: place.serial };
        let shared = Arc::clone(self);
        let task = tokio::spawn(async move {
            let pulse = shared.timings.pulse;
            let end = link::carry(socket, inside, pulse, &place.heard, place.goodbye).await;
            let was_ready = carrying.end(matches!(end, End::PeerLeft | End::Parted));
            match end {
                End::Broken(error) if error.kind() == io::ErrorKind::InvalidData => {
                    shared.wire.refuse(remote, "frame", &error);
                }
                End::SessionClosed | End::PeerClosed if !was_ready => {
                    let reason = "the session ended before it was ready; \
                                  the cookie must be the same on every node";
                    shared.wire.refuse(remote, "session", &reason);
                }
                End::Broken(error) => info!(%peer, %error, "a link broke"),
                other => info!(%peer, end = ?other, "a link ended"),
            }
        });
        self.book.started(place.serial, task.abort_handle());
        let stream = Box::new(Pipe::new(outside, peer, place.serial));
        let opened = NodeServerMessage::ConnectionOpenedExternal {
            stream,
            is_server: side == Side::Accepted,
        };
        if self.server().cast(opened).is_err() {
            task.abort();
        }
        true
    }
}

/// Tells the book that a stream has ended, even when its task was aborted.
struct Carrying {
    book: Arc<Book>,
    serial: u64,
}

impl Carrying {
    fn end(self, has_left: bool) -> bool {
        self.book.carried(self.serial, has_left)
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        // The second time changes nothing.
        self.book.carried(self.serial, false);
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => {
                    guests.spawn(receive(Arc::clone(&shared), tcp));
                }
                Err(error) => {
                    warn!(%error, "the listener of the node links cannot take a connection");
                    sleep(TROUBLE_PAUSE).await;
                }
            },
            Some(_) = guests.join_next() => {}
        }
    }
}

async fn receive(shared: Arc<Shared>, tcp: TcpStream) {
    // What goes wrong before the hello was logged at the door.
    let Ok(socket) = shared.wire.accept(tcp).await else { return };
    let remote = socket.remote();
    if let Err(error) = welcome(&shared, socket).await {
        shared.wire.refuse(remote, "hello", &error);
    }
}

async fn welcome(shared: &Arc<Shared>, mut socket: Socket) -> Result<(), HelloError> {
    let hello = hello::listen(&mut socket).await?;
    let own = Hello::new(shared.cluster, shared.own, hello.own);
    let mut verdict = hello.judge(&own, |node| shared.knows(node), |number| socket.proves(number));
    if verdict == Verdict::Welcome {
        verdict = make_room(shared, hello.own.number).await;
        socket.set_peer(hello.own.number);
    }
    hello::answer(&mut socket, Hello { verdict, ..own }).await?;
    match verdict {
        Verdict::Welcome if shared.hand_over(socket, hello.own, Side::Accepted) => Ok(()),
        Verdict::Welcome => Err(HelloError::Refused(Verdict::Occupied)),
        Verdict::Leaving => Ok(()),
        refused => Err(HelloError::Refused(refused)),
    }
}

// A node dials only when it has no link, so one that we still have with it is dead.
async fn make_room(shared: &Shared, number: u32) -> Verdict {
    if *shared.is_leaving.borrow() {
        return Verdict::Leaving;
    }
    shared.book.cut(number);
    match timeout(TAKE_OVER_MAX, shared.book.gone(number)).await {
        Ok(()) => Verdict::Welcome,
        Err(_) => Verdict::Occupied,
    }
}

#[cfg(test)]
mod tests;
