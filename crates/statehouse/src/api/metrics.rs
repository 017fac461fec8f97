//! The instruments of the HTTP face, and nothing else.
//!
//! Tags come from enums: the route as the table writes it and the outcome class. Never a tenant, an id or a text.

use std::sync::Arc;

use tokio::sync::Semaphore;

use statehouse_contract::{Operation, OutcomeClass, limits};
use statehouse_telemetry::{Counter, Histogram, Meters, SECONDS};

use super::routes::RouteTag;

/// What the face measures.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    /// Requests: how many and how long, by route and outcome.
    pub(super) requests: Histogram<(RouteTag, OutcomeClass)>,
    /// Requests by kind of work and outcome.
    pub(super) commands: Counter<(Operation, OutcomeClass)>,
    /// Commands that met their stored answer.
    pub(super) replays: Counter<(Operation,)>,
}

impl Metrics {
    /// Makes the instruments and watches the pools.
    pub(super) fn new(meters: &Meters, ingress: &Arc<Semaphore>, waiting: &Arc<Semaphore>) -> Self {
        taken(
            meters,
            "statehouse.api.requests.active",
            "requests that hold an ingress permit",
            ingress,
            limits::INGRESS_PERMITS,
        );
        taken(
            meters,
            "statehouse.api.waits.active",
            "watches and long polls that are open",
            waiting,
            limits::WATCHES_MAX,
        );
        Self {
            requests: meters.histogram(
                "statehouse.api.request.duration",
                "s",
                "time from a request's head to its answer's head",
                SECONDS,
            ),
            commands: meters.counter(
                "statehouse.commands",
                "{command}",
                "requests answered, by kind of work and outcome",
            ),
            replays: meters.counter(
                "statehouse.replays",
                "{command}",
                "commands answered with the stored answer of an earlier attempt",
            ),
        }
    }
}

fn taken(
    meters: &Meters,
    name: &'static str,
    help: &'static str,
    pool: &Arc<Semaphore>,
    size: usize,
) {
    let pool = Arc::clone(pool);
    meters.watch(name, "{request}", help, move || {
        let taken = size.saturating_sub(pool.available_permits());
        u32::try_from(taken).map_or(f64::MAX, f64::from)
    });
}
