//! The living part: actors, supervision, caches.
//!
//! Read `decide` first: it is pure, and it says what the log shall say about a command. Then `instance_actor`, which
//! proposes it and believes only what apply returns; `door`, the one way in; `shard_actor`, which wakes instances and sets
//! failing ones aside; `timer_actor`; `restart` and `tree`, how all of it stays alive; `opening` and `seat_actor`, how a
//! reign begins and ends; `questions`, what can be asked.
//!
//! Absent on purpose: sockets, node names, HTTP, SQL. A node is made of these parts by `cluster`.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![expect(
    clippy::result_large_err,
    reason = "a rejection is an answer, not an accident: it is made once a request, and boxing it would be paid by all"
)]

pub mod admission;
pub mod batch;
mod batch_actor;
pub mod builds;
pub mod carrier;
pub mod decide;
pub mod decide_registry;
mod desk_actor;
pub mod door;
mod fire;
mod hint;
mod instance_actor;
mod key_age;
pub mod kinds;
mod known_keys;
mod misbehave;
mod outbox_actor;
mod queue_watch_actor;
pub mod quota;
mod registry_actor;
pub mod reject;
pub mod schedule;
mod schedule_actor;
mod shard_actor;
pub mod shard_host;
mod sweep_actor;
mod ticket;
mod timer_actor;
mod worker_actor;

mod answer;
mod cache;
mod opening;
mod order;
pub mod questions;
pub mod reading;
mod rebuild;
pub mod reign;
pub mod seat;
mod seat_actor;

mod directory;
mod message;
mod metrics;
pub mod restart;
mod tree;

pub use builds::{Acquaintance, Builds};
pub use carrier::{Carried, Carrier};
pub use door::Door;
pub use kinds::{Failed, Kind, Kinds, Work};
pub use metrics::Metrics;
pub use seat::Seat;
pub use shard_host::{HostConfig, HostError, ShardHost, Tuning, count_violations};
pub use statehouse_log::{Profile, Reserve};

/// Makes every instrument of a node's living part and its log, without them.
pub fn describe(meters: &statehouse_telemetry::Meters) {
    std::sync::Arc::new(Metrics::default()).register(meters);
    shard_host::register_seats(meters, &[]);
    statehouse_log::describe(meters);
}
