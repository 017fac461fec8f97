//! The kinds of tasks that a node runs itself: `http`, `wait`, `log`, `echo`, `emit`.
//!
//! They make small workflows possible without any worker, and they are the cheapest way to call what already has an HTTP
//! interface. They are given to the node's own workers, which lease and report like any other.
//!
//! Deliberately absent: a way to add kinds. Whoever needs another one writes a worker (`statehouse worker run`, the SDK).

mod address;
mod emit;
mod http;
mod quiet;

use std::sync::Arc;

use statehouse_cluster::{Failed, Kind};

pub(crate) use address::{Allowed, parse_allowed};
pub(crate) use emit::{Webhooks, parse_webhooks};

/// Returns every kind, as a configuration allows it.
pub(crate) fn kinds(allowed: &Allowed, webhooks: Webhooks) -> Vec<Arc<dyn Kind>> {
    let caller = http::Caller::new(allowed.clone());
    vec![
        Arc::new(quiet::Echo),
        Arc::new(quiet::Log),
        Arc::new(quiet::Wait),
        Arc::new(http::Http::new(caller.clone())),
        Arc::new(emit::Emit::new(caller, webhooks)),
    ]
}

/// The failure of a task whose input says something else than its kind understands.
fn invalid(what: impl std::fmt::Display) -> Failed {
    Failed::fatal("invalid_input", what.to_string())
}
