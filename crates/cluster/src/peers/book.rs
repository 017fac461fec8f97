//! The book of links: at most one for each peer, and what is known of it.
//!
//! ractor_cluster tells two sessions with one peer apart by a contest that may end the healthy one with the calls in
//! flight. So a link enters the book before its stream reaches the session, and only while no other link of that peer
//! stands in it; a link leaves the book once both its stream and its session have ended.
//!
//! Deliberately absent: any decision about who leads or votes. A state here is a hint: it may be late or wrong.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use statehouse_contract::NodeId;
use tokio::{
    sync::{Notify, oneshot},
    task::AbortHandle,
    time::Instant,
};

use super::{PeerState, Timings, link::Heard};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Session {
    /// The node server has not seen the stream yet.
    #[default]
    Unseen,
    Open,
    Ready,
    Closed,
}

#[derive(Debug)]
struct Entry {
    peer: NodeId,
    since: Instant,
    session: Session,
    is_carried: bool,
    was_ready: bool,
    heard: Arc<Heard>,
    goodbye: Option<oneshot::Sender<()>>,
    abort: Option<AbortHandle>,
}

impl Entry {
    fn is_over(&self) -> bool {
        !self.is_carried && matches!(self.session, Session::Unseen | Session::Closed)
    }
}

#[derive(Debug, Default)]
struct Inside {
    links: BTreeMap<u64, Entry>,
    // When a peer's last ready link was lost; a goodbye is no loss.
    lost: BTreeMap<NodeId, Instant>,
    serial: u64,
}

/// A link's place in the book, handed to whoever carries it.
#[derive(Debug)]
pub(super) struct Place {
    pub serial: u64,
    pub heard: Arc<Heard>,
    pub goodbye: oneshot::Receiver<()>,
}

/// All links of this node.
#[derive(Debug, Default)]
pub(super) struct Book {
    inside: Mutex<Inside>,
    /// Rung by every change.
    pub changed: Notify,
}

impl Book {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a new link, unless one with that peer stands in the book.
    pub(super) fn enter(&self, peer: NodeId) -> Option<Place> {
        let mut inside = self.inside();
        if inside.links.values().any(|entry| entry.peer.number == peer.number) {
            return None;
        }
        inside.serial += 1;
        let serial = inside.serial;
        let heard = Arc::new(Heard::now());
        let (leave, goodbye) = oneshot::channel();
        let entry = Entry {
            peer,
            since: Instant::now(),
            session: Session::Unseen,
            is_carried: true,
            was_ready: false,
            heard: Arc::clone(&heard),
            goodbye: Some(leave),
            abort: None,
        };
        inside.links.insert(serial, entry);
        Some(Place { serial, heard, goodbye })
    }

    /// Says which task carries a link.
    pub(super) fn started(&self, serial: u64, task: AbortHandle) {
        if let Some(entry) = self.inside().links.get_mut(&serial) {
            entry.abort = Some(task);
        }
    }

    /// The session behind a link was opened.
    pub(super) fn opened(&self, serial: u64) {
        self.turn(serial, Session::Open);
    }

    /// The session behind a link has finished its first exchange.
    pub(super) fn ready(&self, serial: u64) {
        self.turn(serial, Session::Ready);
    }

    /// The session behind a link has ended.
    pub(super) fn closed(&self, serial: u64) {
        self.turn(serial, Session::Closed);
    }

    /// Every session has ended, because whoever kept them has.
    pub(super) fn all_closed(&self) {
        let serials: Vec<_> = self.inside().links.keys().copied().collect();
        serials.into_iter().for_each(|serial| self.closed(serial));
    }

    fn turn(&self, serial: u64, session: Session) {
        let mut inside = self.inside();
        let Some(entry) = inside.links.get_mut(&serial) else { return };
        // A late word about an ended session revives nothing.
        if entry.session == Session::Closed {
            return;
        }
        entry.session = session;
        entry.was_ready |= session == Session::Ready;
        if session == Session::Closed && entry.was_ready && entry.is_carried {
            let peer = entry.peer;
            inside.lost.insert(peer, Instant::now());
        }
        self.sweep(inside, serial);
    }

    /// The stream of a link has ended; returns whether its session had ever been ready.
    pub(super) fn carried(&self, serial: u64, has_left: bool) -> bool {
        let mut inside = self.inside();
        let Some(entry) = inside.links.get_mut(&serial) else { return false };
        if !std::mem::take(&mut entry.is_carried) {
            return entry.was_ready;
        }
        let (peer, was_ready) = (entry.peer, entry.was_ready);
        if has_left {
            inside.lost.remove(&peer);
        } else if was_ready {
            inside.lost.insert(peer, Instant::now());
        }
        self.sweep(inside, serial);
        was_ready
    }

    // Strikes the link out if it is over, and rings.
    fn sweep(&self, mut inside: MutexGuard<'_, Inside>, serial: u64) {
        if inside.links.get(&serial).is_some_and(Entry::is_over) {
            inside.links.remove(&serial);
        }
        drop(inside);
        self.changed.notify_waiters();
    }

    /// Waits until no link with this node's number stands in the book.
    pub(super) async fn gone(&self, number: u32) {
        self.until(|inside| inside.links.values().all(|entry| entry.peer.number != number)).await;
    }

    /// Waits until no stream is carried any more.
    pub(super) async fn silent(&self) {
        self.until(|inside| inside.links.values().all(|entry| !entry.is_carried)).await;
    }

    async fn until(&self, holds: impl Fn(&Inside) -> bool) {
        loop {
            let mut changed = Box::pin(self.changed.notified());
            // Listen first, look then: a change between the two is not missed.
            changed.as_mut().enable();
            if holds(&self.inside()) {
                return;
            }
            changed.await;
        }
    }

    /// Cuts the link with this node's number, if there is one, without a word.
    pub(super) fn cut(&self, number: u32) {
        self.cut_if(|entry| entry.peer.number == number);
    }

    /// Cuts every link with a node that is not in the list.
    pub(super) fn cut_others(&self, known: &BTreeMap<NodeId, String>) {
        self.cut_if(|entry| !known.contains_key(&entry.peer));
    }

    /// Cuts and names the links whose sessions are still not ready.
    pub(super) fn cut_unready(&self, now: Instant, limit: Duration) -> Vec<NodeId> {
        let is_late = |entry: &Entry| {
            matches!(entry.session, Session::Unseen | Session::Open)
                && entry.is_carried
                && now.duration_since(entry.since) > limit
        };
        self.cut_if(is_late)
    }

    fn cut_if(&self, matches: impl Fn(&Entry) -> bool) -> Vec<NodeId> {
        let inside = self.inside();
        let cut = inside.links.values().filter(|entry| matches(entry));
        let aborts: Vec<_> = cut.clone().filter_map(|entry| entry.abort.clone()).collect();
        let peers = cut.map(|entry| entry.peer).collect();
        drop(inside);
        aborts.iter().for_each(AbortHandle::abort);
        peers
    }

    /// Asks every link to say goodbye.
    pub(super) fn leave(&self) {
        for entry in self.inside().links.values_mut() {
            if let Some(goodbye) = entry.goodbye.take() {
                // A link that has just ended says nothing any more.
                let _ = goodbye.send(());
            }
        }
    }

    /// Cuts every link.
    pub(super) fn cut_all(&self) {
        self.cut_if(|_| true);
    }

    /// Returns what is known of each node.
    pub(super) fn states<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeId>,
        now: Instant,
        timings: &Timings,
    ) -> BTreeMap<NodeId, PeerState> {
        let inside = self.inside();
        let state = |node: &NodeId| {
            let ready = inside.links.values().find(|entry| {
                entry.peer == *node && entry.is_carried && entry.session == Session::Ready
            });
            let lost = inside.lost.get(node).map(|at| now.saturating_duration_since(*at));
            match (ready, lost) {
                (Some(entry), _) if entry.heard.silence(now) <= timings.suspect_after => {
                    PeerState::Up
                }
                (Some(_), _) => PeerState::Suspect,
                (None, Some(ago)) if ago < timings.lost_for => PeerState::Suspect,
                (None, _) => PeerState::Down,
            }
        };
        nodes.map(|node| (*node, state(node))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NodeId = NodeId { number: 2, incarnation: 1 };

    fn state(book: &Book) -> PeerState {
        book.states([TWO].iter(), Instant::now(), &Timings::STANDARD)[&TWO]
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_is_up_suspect_and_down() {
        let book = Book::default();
        let place = book.enter(TWO).unwrap();
        assert_eq!(state(&book), PeerState::Down);
        book.opened(place.serial);
        book.ready(place.serial);
        assert_eq!(state(&book), PeerState::Up);
        tokio::time::advance(Duration::from_millis(1_001)).await;
        assert_eq!(state(&book), PeerState::Suspect);
        assert!(book.carried(place.serial, false));
        assert_eq!(state(&book), PeerState::Suspect);
        tokio::time::advance(Duration::from_millis(3_001)).await;
        assert_eq!(state(&book), PeerState::Down);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_goodbye_is_down_at_once() {
        let book = Book::default();
        let place = book.enter(TWO).unwrap();
        book.opened(place.serial);
        book.ready(place.serial);
        book.carried(place.serial, true);
        book.closed(place.serial);
        assert_eq!(state(&book), PeerState::Down);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_link_waits_until_stream_and_session_of_the_first_have_ended() {
        let book = Book::default();
        let place = book.enter(TWO).unwrap();
        let again = NodeId { number: 2, incarnation: 2 };
        assert!(book.enter(again).is_none());
        book.opened(place.serial);
        book.carried(place.serial, false);
        assert!(book.enter(again).is_none());
        let gone = book.gone(2);
        book.closed(place.serial);
        gone.await;
        assert!(book.enter(again).is_some());
        // What is said late about the first changes nothing.
        book.ready(place.serial);
        assert_eq!(state(&book), PeerState::Down);
    }
}
