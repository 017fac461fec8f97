//! How the promises of this node stand.
//!
//! Absent on purpose: other nodes. Each counts what it answered itself; whoever collects their metrics adds them up.

use axum::http::StatusCode;
use serde_json::json as object;

use super::{
    call::Call,
    problem::{Outcome, json},
};

/// Tells every objective with its burn rates.
pub(super) async fn status(call: Call) -> Outcome {
    json(StatusCode::OK, &object!({ "items": call.state.slo().standing() }))
}
