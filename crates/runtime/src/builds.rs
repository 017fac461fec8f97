//! What the builds of other nodes know, for as long as those nodes are connected.
//!
//! Whoever greets another node writes the feature level down that it told, and takes it back when the connection ends. A
//! node without a connection is unknown: its process may be gone, and the next one may be of an older build. A node with
//! several connections knows the least that any of them says, because one of them may be older than its last restart.
//!
//! Absent on purpose: this node's own build (`Tuning`), and any decision by it (`decide_registry/levels.rs`).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use statehouse_contract::NodeId;

/// For each level how many connections have told it.
type Told = BTreeMap<u16, usize>;

/// The levels of the nodes that are connected. Cheap to clone; all clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Builds(Arc<Mutex<BTreeMap<NodeId, Told>>>);

/// A connection over which a node has told its level. What it told is forgotten when this is dropped.
#[derive(Debug)]
#[must_use = "what a node told is forgotten with this"]
pub struct Acquaintance {
    builds: Builds,
    node: NodeId,
    level: u16,
}

impl Builds {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down which feature level the build of a node knows, until the connection ends.
    pub fn meet(&self, node: NodeId, level: u16) -> Acquaintance {
        *self.nodes().entry(node).or_default().entry(level).or_default() += 1;
        Acquaintance { builds: self.clone(), node, level }
    }

    /// Returns the newest feature level that the build of another node knows; nothing while it is not connected.
    #[must_use]
    pub fn level_of(&self, node: NodeId) -> Option<u16> {
        self.nodes().get(&node).and_then(|told| told.keys().next().copied())
    }
}

impl Drop for Acquaintance {
    fn drop(&mut self) {
        let mut nodes = self.builds.nodes();
        let Some(told) = nodes.get_mut(&self.node) else { return };
        if let Some(count) = told.get_mut(&self.level) {
            *count -= 1;
        }
        told.retain(|_, count| *count > 0);
        if told.is_empty() {
            nodes.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_while_it_is_connected_and_by_the_least_that_it_says() {
        let (builds, node) = (Builds::default(), NodeId { number: 2, incarnation: 1 });
        assert_eq!(builds.level_of(node), None);
        let old = builds.meet(node, 1);
        let (new, again) = (builds.meet(node, 2), builds.meet(node, 2));
        assert_eq!(builds.level_of(node), Some(1));
        drop(old);
        assert_eq!(builds.level_of(node), Some(2));
        drop(new);
        assert_eq!(builds.level_of(node), Some(2));
        drop(again);
        assert_eq!(builds.level_of(node), None);
        assert_eq!(builds.level_of(NodeId { number: 2, incarnation: 2 }), None);
    }
}
