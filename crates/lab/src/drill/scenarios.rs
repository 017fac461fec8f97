//! Every scenario, grouped by what breaks.
//!
//! Each file has the plays of one kind and the rows that go with them; here they are put in the order of the fault matrix.
//!
//! Deliberately absent: what all have in common. The stage has it.

mod cuts;
mod damage;
mod hot;
mod members;
mod network;
mod overload;
mod processes;
mod storage;

use super::scenario::Scenario;

/// The list.
pub(crate) const ALL: &[Scenario] = &[
    processes::LEADER_KILL,
    processes::FOLLOWER_KILL,
    processes::TRANSFER,
    processes::ROLLING_RESTART,
    members::ROLLING_UPGRADE,
    processes::QUORUM_LOSS,
    processes::ALL_KILL,
    storage::POWER_LOSS,
    processes::LEADER_STOP,
    cuts::LEADER_CUT,
    cuts::ONE_WAY_CUT,
    cuts::BRIDGE_CUT,
    cuts::RING_CUT,
    storage::SLOW_SYNC,
    storage::SYNC_ERROR,
    storage::DISK_FULL,
    storage::TORN_WRITES,
    damage::FLIPPED_LOG,
    damage::FLIPPED_STATE,
    damage::FLIPPED_SNAPSHOT,
    damage::LOST_DIRECTORY,
    damage::SNAPSHOT_INSTALL,
    storage::CLOCK_AHEAD,
    storage::CLOCK_BEHIND,
    members::MEMBERSHIP,
    network::REGIONS,
    network::PACKET_LOSS,
    overload::BURST,
    overload::RAMP,
    overload::HOT_KEY,
    overload::NOISY_TENANT,
    overload::SLOW_CLIENTS_DRILL,
    overload::RETRY_STORM,
];
