//! Which node holds what, and how to reach it.
//!
//! Read `router` first: it is what the front house talks to. `node` starts and stops everything in order, `shard_map` says
//! which shard owns a key, `identity` says who this node is, `health` says whether it can serve.
//!
//! Two wires lead to other nodes (`links` starts both): the node links (`peers`, `gate`, `forward`) carry membership, process
//! groups and forwarded commands; the log has its own (`log_wire`). `roll` is the list of members, `placement` and
//! `rebalance` make each shard follow it, `succession` replaces a dead leader, `joining` is how a node comes in, `restore` how a cluster comes back, `clock` what time it is.
//!
//! Absent on purpose: HTTP, SQL, charts, and any decision about who leads. The log decides that.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![expect(
    clippy::result_large_err,
    reason = "a rejection is an answer, not an accident: it is made once a request, and boxing it would be paid by all"
)]

mod board;
mod clock;
pub mod cookie;
pub mod error;
mod faults;
mod forward;
mod gate;
pub mod health;
mod identity;
pub mod joining;
mod line;
pub mod links;
mod lists;
mod log_wire;
pub mod node;
mod peers;
mod placement;
mod porter;
mod rebalance;
mod refusals;
pub mod restore;
mod roll;
pub mod router;
pub mod security;
pub mod shard_map;
mod socket;
mod succession;
#[cfg(test)]
mod testing;
mod watch;
mod who;

pub use cookie::{Cookie, CookieError};
pub use error::NodeError;
pub use health::Readiness;
pub use identity::found_unless_there;
pub use joining::{Joining, join};
pub use links::{ClusterConfig, Listen};
pub use log_wire::join::JoinError;
pub use node::{Bootstrap, Node, NodeConfig};
pub use restore::{Restore, Restored, restore};
pub use router::{KeyChoice, Outgoing, Router};
pub use security::{LinkSecurity, MutualTls, SecurityError};
pub use shard_map::ShardMap;
pub use statehouse_log::{Examined, examine};
pub use statehouse_runtime::{Failed, Kind, Profile, Tuning, Work};

/// Makes every instrument of a node, without a node.
pub fn describe(meters: &statehouse_telemetry::Meters) {
    statehouse_runtime::describe(meters);
    links::Bytes::default().register(meters);
    std::sync::Arc::new(clock::Reading::default()).register(meters);
}
