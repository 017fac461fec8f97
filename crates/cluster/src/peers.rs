//! Node links: every node of the cluster joined with every other, through ractor_cluster, over connections of our own.
//!
//! ractor_cluster brings the groups and the calls; what it lacks stands here: certificates, a hello that is checked before
//! any actor hears of it (`hello`), a pulse that finds the dead (`link`), one dialer for each pair that tries again
//! (`dialer`, at whose other end is a `door`), and the rule of one link for each peer (`book`). The `keeper` owns the tasks. Its own listener cannot be switched off, so it is
//! bound to loopback and asks for a handshake that nobody can complete.
//!
//! Deliberately absent: messages between actors, and whatever follows from a state. A state is a hint.

mod book;
mod dialer;
mod door;
mod hello;
mod keeper;
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
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tracing::{error, info};

use self::{
    book::Book,
    keeper::Keeper,
    link::{End, PIPE_BYTES},
    server::{Pipe, Server},
};
use crate::{
    SecurityError,
    cookie::Cookie,
    line::Limits,
    socket::{Socket, Wire},
};

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

/// Whom there is to reach besides this node; nothing before it has read who is a member.
pub(crate) type Known = Option<Vec<PeerAddress>>;

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
    known: watch::Receiver<Known>,
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
        known: watch::Receiver<Known>,
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
        let keeper = Keeper::new(Arc::clone(&shared), server, publish);
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

impl Shared {
    fn server(&self) -> ActorRef<NodeServerMessage> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn knows(&self, node: NodeId) -> Option<bool> {
        let known = self.known.borrow();
        known.as_ref().map(|peers| peers.iter().any(|peer| peer.node == node))
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

#[cfg(test)]
mod tests;
