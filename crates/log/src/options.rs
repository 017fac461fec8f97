//! What an operator, or a test, decides about the log of a node.
//!
//! Absent on purpose: defaults. A default is a decision and belongs to whoever writes `node.toml`.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use statehouse_contract::{Build, NodeId, limits};
use statehouse_store::NodeDir;

use crate::error::LogError;

/// How far apart the replicas of a shard are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// One place: heartbeat 75 ms, election after 250 to 450 ms.
    Local,
    /// Several regions: heartbeat 200 ms, election after 800 to 1,600 ms.
    Regions,
}

/// How the log of a node is opened.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The node's directory, locked.
    pub data: NodeDir,
    /// The node and its incarnation.
    pub node: NodeId,
    /// How far apart the replicas are.
    pub profile: Profile,
    /// What this build knows: no shard above its level is opened, and no copy of one taken.
    pub build: Build,
    /// Disk space that client commands may not use up, beyond what the directory asks for itself.
    pub reserve_bytes: Reserve,
    /// Entries of a shard after which a snapshot is made.
    pub snapshot_every: u64,
    /// Most pages of the log file; tests fill a disk with it.
    pub log_pages_max: Option<u32>,
}

/// How much disk space is kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// As the contract asks for: a fixed part, the write-ahead files, the largest state file.
    Contract,
    /// So many bytes.
    Bytes(u64),
}

impl LogOptions {
    /// Returns what a node in service uses.
    #[must_use]
    pub fn service(data: NodeDir, node: NodeId, profile: Profile) -> Self {
        Self {
            data,
            node,
            profile,
            build: Build::THIS,
            reserve_bytes: Reserve::Contract,
            snapshot_every: limits::SNAPSHOT_EVERY_ENTRIES,
            log_pages_max: None,
        }
    }
}

impl Profile {
    /// Returns after how long without progress a leader gives up its place, or refuses work.
    #[must_use]
    pub const fn stall(self) -> Duration {
        match self {
            Self::Local => Duration::from_secs(3),
            Self::Regions => Duration::from_secs(10),
        }
    }

    /// Returns heartbeat, shortest and longest election timeout, in milliseconds.
    const fn times(self) -> (u64, u64, u64) {
        match self {
            Self::Local => (75, 250, 450),
            Self::Regions => (200, 800, 1_600),
        }
    }

    /// Returns how often a leader is heard of.
    pub(crate) const fn heartbeat(self) -> Duration {
        Duration::from_millis(self.times().0)
    }

    /// Returns for how long a leader may lead without an answer of a majority.
    pub(crate) const fn lease(self) -> Duration {
        Duration::from_millis(self.times().2)
    }

    /// Returns the engine's configuration.
    pub(crate) fn engine(self) -> Result<Config, LogError> {
        let (heartbeat_interval, election_timeout_min, election_timeout_max) = self.times();
        let config = Config {
            cluster_name: "statehouse".to_owned(),
            heartbeat_interval,
            election_timeout_min,
            election_timeout_max,
            enable_pre_vote: Some(true),
            // A restarted leader asks for votes again: its lease did not survive the restart.
            enable_leader_restore: Some(false),
            // Snapshots and purges are ours: they depend on what is synced, which the engine cannot see.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: 0,
            purge_batch_size: 1,
            max_payload_entries: 512,
            max_append_entries: Some(limits::LOG_BATCH_OPERATIONS_MAX as u64),
            api_channel_size: Some(2 * limits::PROPOSALS_MAX as u64),
            install_snapshot_timeout: 60_000,
            removed_leader_step_down: StepDownPolicy::After(election_timeout_max),
            ..Config::default()
        };
        config.validate().map_err(|error| LogError::Config { what: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_has_the_times_that_the_cluster_was_planned_with() {
        let times = |profile: Profile| {
            let config = profile.engine().unwrap();
            (config.heartbeat_interval, config.election_timeout_min, config.election_timeout_max)
        };
        assert_eq!(times(Profile::Local), (75, 250, 450));
        assert_eq!(times(Profile::Regions), (200, 800, 1_600));
        for profile in [Profile::Local, Profile::Regions] {
            let config = profile.engine().unwrap();
            assert_eq!(config.enable_pre_vote, Some(true));
            assert_eq!(config.enable_leader_restore, Some(false), "a lease dies with its process");
        }
    }
}
