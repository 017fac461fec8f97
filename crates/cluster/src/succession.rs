//! Finds out quickly that a leader's process is gone, and lets one of the others lead in its place.
//!
//! When a process dies its system closes its connections at once, hundreds of milliseconds before a heartbeat is late.
//! So an established connection of the log that ends suddenly is looked into: a fresh connection to that node that is
//! refused, or not answered within a moment, confirms it. Then every shard that the node led is campaigned for, by one
//! of the followers at once and by the next a moment later, in an order that spreads the shards over them. Only those
//! with the longest log stand in line: a vote asked for in vain would keep the better one from being elected.
//!
//! The engine stays safe when the evidence is wrong: the worst is a needless election.
//!
//! Absent on purpose: silence as evidence. A node that is stopped or cut off is noticed by the engine's own timeouts.

use std::{collections::BTreeMap, time::Duration};

use statehouse_contract::NodeId;
use statehouse_log::ShardLog;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tracing::info;

use crate::{log_wire::desk::Shelf, roll::Roll};

/// How long the confirming connection may take to be there, and then for how long it is watched. On one machine or in one
/// place both are over within microseconds: the other side speaks first, or closes.
const PROBE_MAX: Duration = Duration::from_millis(50);
/// How long the next in line waits for the one before it.
const TURN: Duration = Duration::from_millis(80);
/// How long after one confirmation the same node is not looked at again.
const QUIET: Duration = Duration::from_millis(300);

/// Starts to listen for broken connections.
pub(crate) fn watch(mut lost: mpsc::Receiver<NodeId>, roll: Roll, shelf: Shelf) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut looked: BTreeMap<NodeId, Instant> = BTreeMap::new();
        while let Some(node) = lost.recv().await {
            if looked.get(&node).is_some_and(|at| at.elapsed() < QUIET) {
                continue;
            }
            let members = roll.members();
            let Some(document) = members.0.get(&node) else { continue };
            if is_alive(&document.log).await {
                continue;
            }
            looked.insert(node, Instant::now());
            info!(%node, "its process is gone");
            let mut campaigns = JoinSet::new();
            for log in shelf.all() {
                campaigns.spawn(succeed(log, node));
            }
            campaigns.detach_all();
        }
    })
}

/// Looks whether somebody listens there who stays: while the system tears a dead process down, its listener may still take
/// a connection, and closes it a moment later.
async fn is_alive(address: &str) -> bool {
    let looked = async {
        let mut connection = TcpStream::connect(address).await?;
        // What comes does not matter, only that the connection is there: silence within the time is no evidence.
        timeout(PROBE_MAX, connection.read_u8()).await.unwrap_or(Ok(0))
    };
    matches!(timeout(2 * PROBE_MAX, looked).await, Ok(Ok(_)))
}

async fn succeed(log: ShardLog, dead: NodeId) {
    let heirs = log.heirs(dead).await;
    let Some(turn) = turn_of(log.node(), log.shard().0, &heirs) else { return };
    sleep(TURN * turn).await;
    // Whoever was before us may lead by now; then this does nothing.
    log.leader_is_gone(dead).await;
}

/// Returns how many stand before a node in the line for a shard.
fn turn_of(own: NodeId, shard: u32, heirs: &[NodeId]) -> Option<u32> {
    let place = heirs.iter().position(|node| *node == own)?;
    let first = usize::try_from(shard).unwrap_or(0) % heirs.len();
    u32::try_from((place + heirs.len() - first) % heirs.len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    #[test]
    fn each_heir_has_its_own_turn_and_shards_are_spread() {
        let node = |number| NodeId { number, incarnation: 1 };
        let heirs = [node(1), node(3)];
        for shard in 0..8 {
            let turns: Vec<_> = heirs.iter().map(|heir| turn_of(*heir, shard, &heirs)).collect();
            let expected = if shard % 2 == 0 { [Some(0), Some(1)] } else { [Some(1), Some(0)] };
            assert_eq!(turns, expected, "shard {shard}");
        }
        assert_eq!(
            turn_of(node(2), 0, &heirs),
            None,
            "who has less, or does not vote, does not stand"
        );
    }

    #[tokio::test]
    async fn a_node_that_listens_is_alive_and_one_that_does_not_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(is_alive(&address).await, "it listens and says nothing: it may be stopped");
        drop(listener.accept().await.unwrap());
        let asked = address.clone();
        let probed = tokio::spawn(async move { is_alive(&asked).await });
        let (mut speaking, _) = listener.accept().await.unwrap();
        speaking.write_all(b"challenge").await.unwrap();
        assert!(probed.await.unwrap(), "it speaks");
        drop((speaking, listener));
        assert!(!is_alive(&address).await);
    }

    #[tokio::test]
    async fn a_listener_that_closes_what_it_has_taken_belongs_to_a_dead_process() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let probed = tokio::spawn(async move { is_alive(&address).await });
        drop(listener.accept().await.unwrap());
        assert!(!probed.await.unwrap());
    }
}
