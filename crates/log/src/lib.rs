//! Agreement of a shard's replicas on one order.
//!
//! Read `handle` first: `ShardLog` is the whole face that the upper floors need. Then `proposal`, how an
//! entry gets in and which errors are certain; `leadership`, who may speak; `read`, what a linearizable
//! read waits for. Below that stand the replica, the one writer of the log file, and the two traits
//! through which the consensus engine sees our storage.
//!
//! Absent on purpose: what an entry means beyond its bytes and its position, actors, HTTP, sockets (a
//! transport is given), and the engine's own types in any public signature: it can be replaced.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backup;
pub mod error;
pub mod handle;
pub mod leadership;
pub mod measures;
mod membership;
pub mod node_log;
pub mod options;
pub mod proposal;
pub mod read;
pub mod transport;

mod answering;
mod applier;
mod catch_up;
mod engine;
mod freshness;
mod lag;
mod log_storage;
mod markers;
mod network;
mod pace;
mod replica;
mod room;
mod rows;
mod state_machine;
mod store_rows;
mod tail;
mod writer;

#[cfg(test)]
mod chorus;
#[cfg(test)]
mod promise_tests;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod suite_tests;

pub use self::{
    backup::{Examined, ShardCopy, examine, plant},
    engine::Peer,
    error::{LogError, ProposeError, ReadError},
    handle::{LogNumbers, ShardLog},
    leadership::Leadership,
    membership::{Member, Members, Part},
    node_log::NodeLog,
    options::{LogOptions, Profile, Reserve},
    proposal::Urgency,
    replica::Origin,
    transport::{Lane, LogRequest, LogResponse, NoPeers, ReadRefused, Transport, TransportError},
};

/// Makes every instrument of a log, without a log.
pub fn describe(meters: &statehouse_telemetry::Meters) {
    let (measures, room) = (std::sync::Arc::default(), std::sync::Arc::default());
    measures::Measures::register(&measures, meters, &room);
    measures::register_shards(meters, &[]);
}
