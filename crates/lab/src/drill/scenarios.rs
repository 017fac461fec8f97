//! Every scenario, grouped by what breaks.
//!
//! Each file has the plays of one kind and the rows that go with them; here they are put in the order of the fault matrix.
//!
//! Deliberately absent: what all have in common. The stage has it.

mod cuts;
mod data;
mod members;
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
    data::FLIPPED_LOG,
    data::FLIPPED_STATE,
    data::FLIPPED_SNAPSHOT,
    data::LOST_DIRECTORY,
    data::SNAPSHOT_INSTALL,
    storage::CLOCK_AHEAD,
    storage::CLOCK_BEHIND,
    members::MEMBERSHIP,
];
