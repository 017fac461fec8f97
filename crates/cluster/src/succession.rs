//! Finds out quickly that a leader's process is gone, and lets one of the others lead in its place.
//!
//! When a process dies its system closes its connections at once, hundreds of milliseconds before a heartbeat is late.
//! So an established connection of the log that ends suddenly is looked into: a fresh connection to that node that is
//! refused, or taken and closed at once, confirms it. Then every shard that the node led is campaigned for, by one
//! of the followers at once and by the next a moment later, in an order that spreads the shards over them. Only those
//! with the longest log stand in line: a vote asked for in vain would keep the better one from being elected.
//!
//! The engine stays safe when the evidence is wrong: the worst is a needless election.
//!
//! Absent on purpose: silence as evidence, that of the network too. A node that is stopped or cut off is noticed by the
//! engine's own timeouts.

use std::{collections::BTreeMap, io, time::Duration};

use statehouse_contract::NodeId;
use statehouse_log::ShardLog;
use statehouse_runtime::Profile;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tracing::info;

use crate::{log_wire::desk::Shelf, roll::Roll};

/// How long each step may take. In one place the evidence is there within microseconds; between regions a connection
/// alone takes a round trip, and who is asked too briefly hears nobody but itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    /// For how long the confirming connection is watched. Nothing within that time is no evidence.
    probe: Duration,
    /// How long the other followers may take to say where their logs end.
    heirs: Duration,
    /// How long the next in line waits for the one before it.
    turn: Duration,
    /// How long after one confirmation the same node is not looked at again.
    quiet: Duration,
}

impl Times {
    const LOCAL: Self = Self {
        probe: Duration::from_millis(100),
        heirs: Duration::from_millis(60),
        turn: Duration::from_millis(80),
        quiet: Duration::from_millis(300),
    };

    /// As much longer as the engine's own timeouts are.
    const REGIONS: Self = Self {
        probe: Duration::from_millis(400),
        heirs: Duration::from_millis(240),
        turn: Duration::from_millis(320),
        quiet: Duration::from_millis(1_200),
    };

    const fn of(profile: Profile) -> Self {
        match profile {
            Profile::Local => Self::LOCAL,
            Profile::Regions => Self::REGIONS,
        }
    }
}

/// Starts to listen for broken connections.
pub(crate) fn watch(
    mut lost: mpsc::Receiver<NodeId>,
    roll: Roll,
    shelf: Shelf,
    profile: Profile,
) -> JoinHandle<()> {
    let times = Times::of(profile);
    tokio::spawn(async move {
        let mut looked: BTreeMap<NodeId, Instant> = BTreeMap::new();
        while let Some(node) = lost.recv().await {
            if looked.get(&node).is_some_and(|at| at.elapsed() < times.quiet) {
                continue;
            }
            let members = roll.members();
            let Some(document) = members.0.get(&node) else { continue };
            if !is_gone(&document.log, times.probe).await {
                continue;
            }
            looked.insert(node, Instant::now());
            info!(%node, "its process is gone");
            let mut campaigns = JoinSet::new();
            for log in shelf.all() {
                campaigns.spawn(succeed(log, node, times));
            }
            campaigns.detach_all();
        }
    })
}

/// Looks whether nobody listens there, or nobody who stays: while the system tears a dead process down, its listener may
/// still take a connection, and closes it a moment later. Whoever is silent may be alive and far away.
async fn is_gone(address: &str, within: Duration) -> bool {
    let looked = async {
        let mut connection = TcpStream::connect(address).await?;
        // What comes does not matter: who speaks is there.
        connection.read_u8().await
    };
    matches!(timeout(within, looked).await, Ok(Err(error)) if is_evidence(error.kind()))
}

/// Only the system on the other side can answer with these. Everything else may be the network's fault.
fn is_evidence(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::UnexpectedEof
    )
}

async fn succeed(log: ShardLog, dead: NodeId, times: Times) {
    let heirs = log.heirs(dead, times.heirs).await;
    let Some(turn) = turn_of(log.node(), log.shard().0, &heirs) else { return };
    sleep(times.turn * turn).await;
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
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpSocket},
    };

    const PROBE: Duration = Times::LOCAL.probe;

    async fn gone(address: &str) -> bool {
        is_gone(address, PROBE).await
    }

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
        assert!(!gone(&address).await, "it listens and says nothing: it may be stopped");
        drop(listener.accept().await.unwrap());
        let asked = address.clone();
        let probed = tokio::spawn(async move { gone(&asked).await });
        let (mut speaking, _) = listener.accept().await.unwrap();
        speaking.write_all(b"challenge").await.unwrap();
        assert!(!probed.await.unwrap(), "it speaks");
        drop((speaking, listener));
        assert!(gone(&address).await);
    }

    #[tokio::test]
    async fn a_node_that_the_network_does_not_reach_is_not_known_to_be_gone() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Its queue is filled, and then the system drops what asks for a connection: nobody answers at all.
        let mut queued = Vec::new();
        while let Ok(connection) = timeout(PROBE, TcpStream::connect(&address)).await {
            queued.push(connection.unwrap());
        }
        assert!(!gone(&address).await);
    }

    #[test]
    fn only_what_the_other_system_says_is_evidence() {
        use io::ErrorKind as Kind;
        for kind in [Kind::ConnectionRefused, Kind::ConnectionReset, Kind::UnexpectedEof] {
            assert!(is_evidence(kind), "{kind}");
        }
        for kind in [Kind::TimedOut, Kind::HostUnreachable, Kind::NetworkUnreachable, Kind::Other] {
            assert!(!is_evidence(kind), "{kind}");
        }
    }

    #[test]
    fn succession_between_regions_has_four_times_as_long() {
        let (local, regions) = (Times::of(Profile::Local), Times::of(Profile::Regions));
        let Times { probe, heirs, turn, quiet } = local;
        let expected =
            Times { probe: 4 * probe, heirs: 4 * heirs, turn: 4 * turn, quiet: 4 * quiet };
        assert_eq!(regions, expected);
        assert_eq!((turn, heirs), (Duration::from_millis(80), Duration::from_millis(60)));
    }

    #[tokio::test]
    async fn a_listener_that_closes_what_it_has_taken_belongs_to_a_dead_process() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let probed = tokio::spawn(async move { gone(&address).await });
        drop(listener.accept().await.unwrap());
        assert!(probed.await.unwrap());
    }
}
