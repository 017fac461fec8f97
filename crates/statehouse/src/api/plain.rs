//! The routes that need no house: health, metrics, the contract, the pages of the codes, and every "no such
//! route".
//!
//! Absent on purpose: a start page. The console has its own delivery.

use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode},
    response::Response,
};

use statehouse_contract::{OutcomeClass, RejectionCode};

use super::{
    ApiState,
    call::Call,
    gate, openapi, pages,
    problem::{self, JSON, Outcome, Reply, invalid, json, reply},
};

/// Says that the process lives.
pub(super) async fn healthz(_call: Call) -> Outcome {
    Ok(reply(StatusCode::OK, JSON, "{\"alive\":true}"))
}

/// Says whether this node can serve now.
pub(super) async fn readyz(call: Call) -> Outcome {
    let mut readiness = call.state.backend().readiness();
    if call.state.draining().is_cancelled() {
        readiness.ready = false;
        readiness.waiting_for.push("the node is shutting down".to_owned());
    }
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness)
}

/// Writes every instrument.
pub(super) async fn metrics(call: Call) -> Outcome {
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(reply(StatusCode::OK, media, call.state.meters().render()))
}

/// Gives the contract.
pub(super) async fn contract(_call: Call) -> Outcome {
    Ok(reply(StatusCode::OK, JSON, openapi::text()))
}

/// Gives the page of a rejection's code.
pub(super) async fn error_page(call: Call) -> Outcome {
    let Some(code) = RejectionCode::parse(call.param("code")) else {
        let rejection = invalid("there is no rejection of this name");
        let status = StatusCode::NOT_FOUND;
        let response = problem::with_status(&rejection, status, &call.path, &call.head);
        return Ok(Reply { response, class: OutcomeClass::Missing });
    };
    let media = HeaderValue::from_static("text/markdown; charset=utf-8");
    Ok(reply(StatusCode::OK, media, pages::page(code)))
}

/// Answers a path that no row has.
pub(super) fn no_such_route(state: &ApiState, request: &Request) -> Response {
    let rejection =
        invalid("there is no such route; /openapi.json lists them all, and no name holds a slash");
    gate::stray(state, request, &rejection, StatusCode::NOT_FOUND)
}

/// Answers a path that is there, but not with this method.
pub(super) fn wrong_method(state: &ApiState, request: &Request) -> Response {
    let rejection =
        invalid("this path does not take this method; the header Allow says which it takes");
    gate::stray(state, request, &rejection, StatusCode::METHOD_NOT_ALLOWED)
}
