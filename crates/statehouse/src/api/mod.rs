//! The HTTP face: from a request to an envelope or a query, and from an answer back to bytes.
//!
//! Read `table` first: every route is a row there, with its roles, parameters and answers. Then `gate`: what
//! each request passes. The handlers are short, because what they get was checked and what they give is
//! rendered elsewhere.
//!
//! Absent on purpose: any decision about an instance, any knowledge of shards or files.
#![expect(
    clippy::result_large_err,
    reason = "a rejection is moved a few times at the end of a call; a box would cost an allocation and a word at every use"
)]

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::HeaderValue,
    routing::{MethodFilter, MethodRouter, on},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use statehouse_contract::{Clock, TenantId, limits};
use statehouse_telemetry::Meters;

mod admin;
mod answer;
mod auth;
mod backend;
mod batches;
mod body;
mod call;
mod canonical;
mod check;
mod cluster;
mod copy;
mod definitions;
mod fields;
mod gate;
mod head;
mod instances;
mod json;
mod lists;
mod metrics;
mod openapi;
mod pages;
mod plain;
mod problem;
mod routes;
mod schedules;
mod schemas;
mod server;
mod shapes;
mod slo;
mod table;
mod tasks;
#[cfg(test)]
mod tests;
mod tls;
mod watch;

pub(crate) use auth::{new_token, token_hash};
pub(crate) use backend::{Backend, Readiness, ShardCopy};
pub(crate) use copy::{CLUSTER, DIGEST, LEVEL, POSITION, SHARDS, TERM};
pub(crate) use server::serve;
pub(crate) use tls::acceptor;

use metrics::Metrics;

use crate::slo::{Objectives, Slo};

use routes::{Method, Route};

/// Everything a request may use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApiState(Arc<Shared>);

struct Shared {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    node: HeaderValue,
    home: TenantId,
    meters: Meters,
    metrics: Metrics,
    slo: Slo,
    remembered: auth::Remembered,
    ingress: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    checking: Semaphore,
    draining: CancellationToken,
}

/// Definitions that are checked at once: checking is work for a processor, not waiting.
const CHECKS_MAX: usize = 2;

impl ApiState {
    /// Returns the service levels.
    pub(crate) fn slo(&self) -> &Slo {
        &self.0.slo
    }

    /// Puts the face in front of a house. `node` is the answering node's name (`n1.1`); what is not
    /// visible ASCII in it is left out.
    #[must_use]
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        node: &str,
        home: TenantId,
        meters: &Meters,
        objectives: Objectives,
    ) -> Self {
        let ingress = Arc::new(Semaphore::new(limits::INGRESS_PERMITS));
        let waiting = Arc::new(Semaphore::new(limits::WATCHES_MAX));
        let visible: String = node.chars().filter(char::is_ascii_graphic).collect();
        Self(Arc::new(Shared {
            backend,
            clock,
            node: HeaderValue::try_from(visible).expect("visible ASCII"),
            home,
            meters: meters.clone(),
            metrics: Metrics::new(meters, &ingress, &waiting),
            slo: Slo::new(objectives, meters),
            remembered: auth::Remembered::default(),
            ingress,
            waiting,
            checking: Semaphore::new(CHECKS_MAX),
            draining: CancellationToken::new(),
        }))
    }

    fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }

    fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    fn node(&self) -> &HeaderValue {
        &self.0.node
    }

    /// Returns the first tenant, whose administrators run the cluster.
    fn home(&self) -> &TenantId {
        &self.0.home
    }

    fn meters(&self) -> &Meters {
        &self.0.meters
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn remembered(&self) -> &auth::Remembered {
        &self.0.remembered
    }

    fn ingress(&self) -> &Arc<Semaphore> {
        &self.0.ingress
    }

    fn waiting(&self) -> &Arc<Semaphore> {
        &self.0.waiting
    }

    fn checking(&self) -> &Semaphore {
        &self.0.checking
    }

    /// Ends when the node begins to drain: open watches end, new requests are refused.
    fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }
}

/// Returns the routes of the face.
pub(crate) fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in table::ROUTES {
        router = router.route(route.path, method_router(route));
    }
    router
        .fallback(|State(state): State<ApiState>, request: Request| async move {
            plain::no_such_route(&state, &request)
        })
        .method_not_allowed_fallback(|State(state): State<ApiState>, request: Request| async move {
            plain::wrong_method(&state, &request)
        })
        .with_state(state)
}

fn method_router(route: &'static Route) -> MethodRouter<ApiState> {
    let filter = match route.method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
    };
    on(filter, move |State(state): State<ApiState>, request: Request| {
        gate::enter(state, route, request)
    })
}

/// Makes every instrument of the face, without a face.
pub(crate) fn describe(meters: &Meters) {
    let empty = Arc::new(Semaphore::new(0));
    let _ = Metrics::new(meters, &empty, &empty);
}
