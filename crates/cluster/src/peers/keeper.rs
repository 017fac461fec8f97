//! The one loop that keeps the node links: it follows the list of known nodes and publishes their states.
//!
//! It owns the listener, a dialer for each peer that sorts after us, and the session server, which it starts again when it
//! ends. When the node leaves, it ends them in the order in which nobody loses a goodbye.
//!
//! Deliberately absent: what a state means, and the streams, which end by the book.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use statehouse_contract::NodeId;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{error, info, warn};

use super::{PeerAddress, PeerState, Shared, TROUBLE_PAUSE, dialer, door, server::Server};

/// How often the states are looked at when nothing rings.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a session may take to become ready.
const READY_MAX: Duration = Duration::from_secs(10);
/// How long the goodbyes may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// A task that ends with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The one loop that follows the list of nodes and publishes their states.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    server: Server,
    publish: watch::Sender<BTreeMap<NodeId, PeerState>>,
    known: BTreeMap<NodeId, String>,
    dialers: BTreeMap<NodeId, Owned>,
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        server: Server,
        publish: watch::Sender<BTreeMap<NodeId, PeerState>>,
    ) -> Self {
        Self { shared, server, publish, known: BTreeMap::new(), dialers: BTreeMap::new() }
    }

    /// Runs until the node leaves, then says goodbye on every link.
    pub(super) async fn run(mut self, listener: TcpListener, mut running: JoinHandle<()>) {
        let shared = Arc::clone(&self.shared);
        let door = Owned(tokio::spawn(door::accept(Arc::clone(&shared), listener)));
        let mut known = shared.known.clone();
        let mut is_leaving = shared.is_leaving.clone();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let list = known.borrow_and_update().clone();
        self.follow(&list.unwrap_or_default());
        let mut is_fed = true;
        loop {
            tokio::select! {
                // Also when `Peers` was dropped: nobody else could end it.
                _ = async { is_leaving.wait_for(|leaving| *leaving).await.is_ok() } => break,
                changed = known.changed(), if is_fed => {
                    // Whoever fed the list has gone; the last one stays.
                    is_fed = changed.is_ok();
                    let list = known.borrow_and_update().clone();
                    self.follow(&list.unwrap_or_default());
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
