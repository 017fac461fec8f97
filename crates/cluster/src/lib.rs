//! Which node holds what, and how to reach it.
//!
//! Read `router` first: it is what the front house talks to. `node` starts and stops everything in order, `shard_map` says
//! which shard owns a key, `identity` says who this node is, `health` says whether it can serve.
//!
//! Absent on purpose: HTTP, SQL, charts, and any decision about who leads. The log decides that.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![expect(
    clippy::result_large_err,
    reason = "a rejection is an answer, not an accident: it is made once a request, and boxing it would be paid by all"
)]

pub mod error;
pub mod health;
mod identity;
mod lists;
pub mod node;
pub mod router;
pub mod shard_map;
mod watch;

pub use error::NodeError;
pub use health::Readiness;
pub use node::{Bootstrap, Node, NodeConfig};
pub use router::Router;
pub use shard_map::ShardMap;
pub use statehouse_runtime::Tuning;
