//! Who is in the cluster, for those who ask: members, their state as this node sees it, where their APIs are.
//!
//! Absent on purpose: deciding anything by it. States are suspicion and addresses may be old.

use std::{collections::BTreeMap, sync::Arc};

use statehouse_contract::{
    Build, MemberDocument, NodeId, Standing,
    view::{ClusterView, MemberView, PlaceView},
};
use statehouse_runtime::{Builds, Seat};
use tokio::sync::watch;

use crate::{identity::ClusterId, peers::PeerState, roll::Roll};

/// What this node knows about the others.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) node: NodeId,
    /// The cluster; nothing for a node that was made before clusters had names.
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) api: String,
    pub(crate) roll: Roll,
    /// What this node's build knows.
    pub(crate) build: Build,
    /// What the builds of the others know.
    pub(crate) builds: Builds,
}

/// The states of the other nodes, as this one sees them.
pub(crate) type States = watch::Receiver<BTreeMap<NodeId, PeerState>>;

impl Who {
    /// Returns the cluster as this node sees it.
    pub(crate) fn view(
        &self,
        states: Option<&States>,
        seats: &[Arc<Seat>],
        instance: Option<PlaceView>,
    ) -> ClusterView {
        let members = self.roll.members();
        let state = |node: NodeId| {
            let states = states.map(watch::Receiver::borrow);
            states.and_then(|states| states.get(&node).copied()).unwrap_or(PeerState::Down)
        };
        let mut views: Vec<MemberView> = members
            .present()
            .map(|(node, document)| {
                let seen = if node == self.node { PeerState::Up } else { state(node) };
                MemberView { build_level: self.level_of(node), ..member(node, document, seen) }
            })
            .collect();
        if views.is_empty() {
            views.push(MemberView {
                node: self.node.to_string(),
                state: "up".to_owned(),
                standing: "active".to_owned(),
                api: self.api.clone(),
                links: String::new(),
                log: String::new(),
                region: None,
                build_level: Some(self.build.level),
            });
        }
        let shards = seats.iter().map(|seat| seat.shard_view()).collect();
        let (node, cpu_us) = (self.node.to_string(), cpu_us());
        ClusterView { node, cpu_us, members: views, shards, instance }
    }

    fn level_of(&self, node: NodeId) -> Option<u16> {
        if node == self.node { Some(self.build.level) } else { self.builds.level_of(node) }
    }

    /// Returns where a node's API is.
    pub(crate) fn api_of(&self, node: NodeId) -> Option<Box<str>> {
        self.roll.members().0.get(&node).map(|document| document.api.as_str().into())
    }
}

/// Returns the CPU time of this process.
fn cpu_us() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let whole = u64::try_from(spent.tv_sec).unwrap_or(0) * 1_000_000;
    whole + u64::try_from(spent.tv_nsec).unwrap_or(0) / 1_000
}

fn member(node: NodeId, document: &MemberDocument, state: PeerState) -> MemberView {
    let word = match state {
        PeerState::Up => "up",
        PeerState::Suspect => "suspect",
        PeerState::Down => "down",
    };
    let standing = match document.standing {
        Some(Standing::Draining) => "draining",
        Some(Standing::Removed) => "removed",
        Some(Standing::Active) | None => "active",
    };
    MemberView {
        node: node.to_string(),
        state: word.to_owned(),
        standing: standing.to_owned(),
        api: document.api.clone(),
        links: document.links.clone(),
        log: document.log.clone(),
        region: document.region.clone(),
        build_level: None,
    }
}
