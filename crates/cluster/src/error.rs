//! Why a node does not start or run.
//!
//! Each variant names the file or the rule and what an operator can do about it. Absent on purpose: anything that a client
//! meets; that is a `Rejection`.

use std::path::PathBuf;

use statehouse_contract::NodeId;

use crate::log_wire::join::JoinError;

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Another process holds the data directory.
    #[error(
        "the data directory {path} is in use by another process; stop it first, or choose another directory"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is empty and nobody asked to bootstrap it.
    #[error(
        "the data directory {path} holds no identity; `statehouse cluster init` makes a new cluster, once"
    )]
    NotInitialised {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another node, or was made with other settings.
    #[error("the data directory {path} {problem}")]
    Mismatch {
        /// The directory.
        path: PathBuf,
        /// What differs: expected and found.
        problem: String,
    },
    /// The directory's log is gone: the node has forgotten what it promised.
    #[error(
        "the data directory {path} belongs to {node} but its log.db is gone, and with it every vote and entry that the \
         node has acknowledged; `statehouse cluster join --replace` brings it back as a new member, or \
         `statehouse cluster restore` from a backup"
    )]
    LogLost {
        /// The directory.
        path: PathBuf,
        /// The node that it was.
        node: NodeId,
    },
    /// The directory was made before clusters had names.
    #[error(
        "{node} was made by an earlier release, for a cluster of one; back it up and restore it into a new cluster"
    )]
    NoCluster {
        /// The node.
        node: NodeId,
    },
    /// A shard of the directory is at a feature level above what this build knows. Nothing was changed.
    #[error("{path} is at feature level {found}, and this build knows levels up to {expected}")]
    Level {
        /// The file of the shard.
        path: PathBuf,
        /// The newest level that this build knows.
        expected: u16,
        /// The shard's level.
        found: u16,
    },
    /// The node could not join its cluster.
    #[error("the node cannot join")]
    Join(#[source] JoinError),
    /// The disk said no.
    #[error("{what} {path}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part of the node could not start.
    #[error("{what}")]
    Part {
        /// Which part, and what it could not do.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
