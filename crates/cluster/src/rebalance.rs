//! Carries out the plan for one shard, from its leader's seat, one move at a time.
//!
//! The list of members says what should be; the shard's own membership says what is. The leader compares the two: a new
//! member comes in as a learner, is caught up, and then votes; one that is no member any more leaves the voters and then
//! the shard; and where another voter should lead, leadership is handed over once that one has everything. A replaced
//! member leaves and its successor comes in by the same change, so that the number of voters never falls below.
//!
//! Absent on purpose: haste. Right after a change of leader, or to a node that has just come back, nothing is moved for
//! balance; draining does not wait, nor does a leader whose clock is off.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use statehouse_contract::{Members, NodeId, ShardId, Standing, limits::REGISTRY_AGE_MS_MAX};
use statehouse_log::{Leadership, Part, Peer, ShardLog};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{clock::ClusterClock, peers::PeerState, placement, roll::Roll};

/// How often a led shard is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Entries by which a learner may be behind and still become a voter, or a voter and still be handed the lead.
const BEHIND_MAX: u64 = 256;
/// How long this leader must have seen a voter answer before leadership moves to it for balance alone: longer than a node
/// takes to dial another one again, so that everybody reaches the new leader.
const SETTLED: Duration = Duration::from_secs(3);
/// How old the list of members may be that is acted on.
const LIST_AGE_MAX: Duration = Duration::from_millis(REGISTRY_AGE_MS_MAX);
/// How long one change of the membership may take.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// How a shard stands, seen by its leader.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) shard: ShardId,
    pub(crate) own: NodeId,
    pub(crate) members: &'a Members,
    pub(crate) current: &'a BTreeMap<NodeId, Part>,
    /// Whether a change of the voters has stopped half-way.
    pub(crate) is_joint: bool,
    /// How far each other replica is known to be.
    pub(crate) progress: &'a BTreeMap<NodeId, Option<u64>>,
    /// Where the log ends.
    pub(crate) last: u64,
    /// The other members that answer now.
    pub(crate) up: &'a BTreeSet<NodeId>,
    /// Those that have room on their disks: only they are handed leadership.
    pub(crate) roomy: &'a BTreeSet<NodeId>,
    /// Those that have answered for a while.
    pub(crate) settled: &'a BTreeSet<NodeId>,
    /// Those whose clocks are off: they should not lead.
    pub(crate) off: &'a BTreeSet<NodeId>,
}

/// The next thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Take a member in.
    Learn(NodeId),
    /// Make these the voters.
    Vote(BTreeSet<NodeId>),
    /// Take a learner out.
    Forget(NodeId),
    /// Hand leadership over.
    HandOver(NodeId),
}

impl Situation<'_> {
    fn is_close(&self, node: NodeId) -> bool {
        node == self.own
            || self
                .progress
                .get(&node)
                .copied()
                .flatten()
                .is_some_and(|at| at + BEHIND_MAX >= self.last)
    }

    /// Returns the next move; nothing when everything is as it should be.
    pub(crate) fn next(&self) -> Option<Move> {
        // Before the list is there, nobody is missing from it.
        if !self.members.has(self.own) && self.members.present().next().is_none() {
            return None;
        }
        let wanted = placement::voters(self.members);
        let present: BTreeSet<NodeId> = self.members.present().map(|(node, _)| node).collect();
        if let Some(new) = present.iter().find(|node| !self.current.contains_key(node)) {
            return Some(Move::Learn(*new));
        }
        let votes = |part: &Part| *part == Part::Voter;
        let voters: BTreeSet<NodeId> =
            self.current.iter().filter(|(_, part)| votes(part)).map(|(node, _)| *node).collect();
        let is_ready = |node: NodeId| voters.contains(&node) || self.can_go_on(node);
        let ready: BTreeSet<NodeId> =
            wanted.iter().copied().filter(|node| is_ready(*node)).collect();
        // One that makes place for another stays a voter until that one can be one.
        let awaits = |node: &NodeId| {
            if present.contains(node) {
                return ready.len() < wanted.len();
            }
            let successor = self.members.newest(node.number).filter(|newest| newest != node);
            successor.is_some_and(|next| wanted.contains(&next) && !ready.contains(&next))
        };
        let target: BTreeSet<NodeId> =
            ready.iter().chain(voters.iter().filter(|node| awaits(node))).copied().collect();
        if !target.contains(&self.own) && !target.is_empty() {
            // A leader does not vote itself out: it makes sure that there is an heir, and hands over.
            let both: BTreeSet<NodeId> = target.iter().copied().chain([self.own]).collect();
            return match self.heir(target.intersection(&voters)) {
                Some(heir) => Some(Move::HandOver(heir)),
                None if both.is_subset(&voters) && !self.is_joint => None,
                None => self.vote(both),
            };
        }
        if (target != voters || self.is_joint)
            && let Some(vote) = self.vote(target)
        {
            return Some(vote);
        }
        if let Some((gone, _)) =
            self.current.iter().find(|(node, part)| !present.contains(node) && !votes(part))
        {
            return Some(Move::Forget(*gone));
        }
        self.balance(&voters)
    }

    /// Makes these the voters, if so many of them can go on that a majority does: a change that nobody can commit could
    /// not be taken back.
    fn vote(&self, voters: BTreeSet<NodeId>) -> Option<Move> {
        let able = voters.iter().filter(|node| self.can_go_on(**node)).count();
        (2 * able > voters.len()).then_some(Move::Vote(voters))
    }

    /// Returns whether a node answers and is close behind.
    fn can_go_on(&self, node: NodeId) -> bool {
        // The links of one that was removed are cut by the others; how far they are, the log's wire still tells.
        let is_removed = !self.members.has(self.own);
        node == self.own || ((is_removed || self.up.contains(&node)) && self.is_close(node))
    }

    fn balance(&self, voters: &BTreeSet<NodeId>) -> Option<Move> {
        let own = self.members.0.get(&self.own);
        let drains = own.is_some_and(|document| document.standing == Some(Standing::Draining));
        let wanted = placement::leader(self.shard, self.members)?;
        let is_able = |node: NodeId| {
            node != self.own
                && voters.contains(&node)
                && self.can_go_on(node)
                && self.may_lead(node)
        };
        if drains || self.off.contains(&self.own) {
            let willing = |node: &&NodeId| {
                let known = self.members.0.get(node);
                known.is_some_and(|document| document.standing == Some(Standing::Active))
            };
            let other = voters.iter().filter(willing).find(|node| is_able(**node)).copied();
            return Some(wanted).filter(|node| is_able(*node)).or(other).map(Move::HandOver);
        }
        let is_due = self.settled.contains(&wanted) && is_able(wanted);
        is_due.then_some(Move::HandOver(wanted))
    }

    fn heir<'a>(&self, mut among: impl Iterator<Item = &'a NodeId>) -> Option<NodeId> {
        among.find(|node| self.can_go_on(**node) && self.may_lead(**node)).copied()
    }

    fn may_lead(&self, node: NodeId) -> bool {
        self.roomy.contains(&node) && !self.off.contains(&node)
    }
}

/// What a led shard's keeper looks at.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) log: ShardLog,
    /// Shard 0's log: how old the list of members may be.
    pub(crate) registry: ShardLog,
    pub(crate) roll: Roll,
    pub(crate) peers: watch::Receiver<BTreeMap<NodeId, PeerState>>,
    /// Whose clocks are off.
    pub(crate) clock: Arc<ClusterClock>,
}

/// Keeps one shard as it should be, whenever it is led here.
pub(crate) fn keep(keeper: Keeper) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut leadership = keeper.log.leadership();
        let mut seen = (0, Seen::default());
        loop {
            let now = *leadership.borrow_and_update();
            match now {
                Leadership::Leading { term } => {
                    if seen.0 != term {
                        seen = (term, Seen::default());
                    }
                    keeper.step(&mut seen.1).await;
                    sleep(LOOK).await;
                }
                Leadership::Stopped => return,
                Leadership::Following { .. } => {
                    if leadership.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    })
}

/// Since when the others have answered, at every look of one reign.
#[derive(Default)]
struct Seen(BTreeMap<NodeId, Instant>);

impl Seen {
    /// Takes who answers now; returns those that have for a while.
    fn look(&mut self, up: &BTreeSet<NodeId>, now: Instant) -> BTreeSet<NodeId> {
        self.0.retain(|node, _| up.contains(node));
        for node in up {
            self.0.entry(*node).or_insert(now);
        }
        let settled = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= SETTLED);
        settled.map(|(node, _)| *node).collect()
    }
}

impl Keeper {
    fn up(&self) -> BTreeSet<NodeId> {
        let states = self.peers.borrow();
        let up = states.iter().filter(|(_, state)| **state == PeerState::Up);
        up.map(|(node, _)| *node).collect()
    }

    async fn step(&self, seen: &mut Seen) {
        let log = &self.log;
        let members: Arc<Members> = self.roll.members();
        // Who was away may still hold an old list. What says that this node was removed stays true at any age.
        let is_fresh = self.registry.age().is_some_and(|age| age <= LIST_AGE_MAX);
        if !is_fresh && members.has(log.node()) {
            return;
        }
        let current = log.members().into_iter().map(|(node, member)| (node, member.part)).collect();
        let up = self.up();
        let settled = seen.look(&up, Instant::now());
        let progress = log.progress();
        let roomy = progress.keys().copied().filter(|node| log.has_room(*node)).collect();
        let situation = Situation {
            shard: log.shard(),
            own: log.node(),
            members: &members,
            current: &current,
            is_joint: log.is_joint(),
            progress: &progress,
            last: log.numbers().last.unwrap_or(0),
            up: &up,
            roomy: &roomy,
            settled: &settled,
            off: &self.clock.off(),
        };
        let Some(next) = situation.next() else { return };
        info!(shard = %log.shard(), ?next, "the shard's members change");
        let change = async {
            match &next {
                Move::Learn(node) => {
                    let address = members.0.get(node).map(|known| known.log.as_str());
                    let peer = Peer { address: address.unwrap_or_default().into() };
                    log.add_learner(*node, peer).await
                }
                Move::Vote(voters) => {
                    log.set_voters(&voters.iter().copied().collect::<Vec<_>>()).await
                }
                Move::Forget(node) => log.remove(*node).await,
                Move::HandOver(node) => {
                    log.transfer(Some(*node)).await;
                    // Whether it was taken shows in the leadership; asking again at once would only disturb it.
                    sleep(LOOK).await;
                    Ok(())
                }
            }
        };
        match timeout(CHANGE_MAX, change).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => warn!(shard = %log.shard(), %why, "the members did not change"),
            Err(_) => warn!(shard = %log.shard(), "a change of the members takes long"),
        }
    }
}

#[cfg(test)]
mod tests;
