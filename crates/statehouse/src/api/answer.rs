//! From receipts and answers to replies.
//!
//! A receipt's body goes out byte for byte, accepted or refused: a repeat must not differ from the first
//! answer. Whether it is a repeat stands in a header.
//!
//! Absent on purpose: rendering. Whoever decided has rendered.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};

use statehouse_contract::{ErrorSource, InstanceKey, Receipt, ReceiptKind, Version};

use super::problem::{ERROR_SOURCE, JSON, PROBLEM, Reply, source, status};

/// Says that this is the stored answer of an earlier attempt.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The node that answered.
pub(super) const NODE: HeaderName = HeaderName::from_static("x-statehouse-node");
/// The base URL of the node that leads the instance, in the answer of a node that does not.
pub(super) const LEADER: HeaderName = HeaderName::from_static("x-statehouse-leader");

/// Returns the entity tag of a version.
pub(super) fn tag(version: Version) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits, a dot and quotes")
}

/// Sends a receipt.
pub(super) fn receipt(receipt: &Receipt) -> Reply {
    let body = receipt.body.as_str().to_owned();
    with_body(receipt, body)
}

/// Sends a receipt with a body that the face has added to.
pub(super) fn with_body(receipt: &Receipt, body: impl Into<Body>) -> Reply {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    let (status, media) = match receipt.kind {
        ReceiptKind::Created => (StatusCode::CREATED, JSON),
        ReceiptKind::Accepted => (StatusCode::OK, JSON),
        ReceiptKind::Postponed => (StatusCode::ACCEPTED, JSON),
        ReceiptKind::Refused(code) => {
            headers.insert(ERROR_SOURCE, source(said_by(receipt)));
            (status(code), PROBLEM)
        }
    };
    headers.insert(header::CONTENT_TYPE, media);
    if let Some(version) = receipt.version {
        headers.insert(header::ETAG, tag(version));
    }
    if receipt.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    *response.status_mut() = status;
    Reply { response, class: receipt.kind.class() }
}

/// Reads who said a stored "no" from its own bytes. Inside a JSON text these quotes would be escaped.
fn said_by(receipt: &Receipt) -> ErrorSource {
    if receipt.body.as_str().contains("\"source\":\"gateway\"") {
        ErrorSource::Gateway
    } else {
        ErrorSource::Instance
    }
}

/// Returns the text of a receipt's object with one more member at its end.
pub(super) fn spliced(receipt: &Receipt, member: &str, value: &str) -> String {
    let open = receipt.body.as_str().strip_suffix('}').unwrap_or_default();
    let comma = if open.len() > 1 { "," } else { "" };
    format!("{open}{comma}\"{member}\":{value}}}")
}

/// Says where an instance that was made can be read.
pub(super) fn located(mut reply: Reply, key: &InstanceKey) -> Reply {
    if reply.response.status() == StatusCode::CREATED {
        let place = format!("/v1/tenants/{}/instances/{}", key.tenant, key.instance);
        let value = HeaderValue::from_str(&place).expect("names are ASCII without controls");
        reply.response.headers_mut().insert(header::LOCATION, value);
    }
    reply
}
