//! The one place where a rejection becomes bytes, and where inner texts stop.
//!
//! A rejection of the gateway is rendered here, with the path it was about. A stored refusal is not: its
//! bytes were rendered when it was judged and are sent as they are.
//!
//! Absent on purpose: any text of an error of ours. What broke stands in the log, next to the correlation
//! id that the client gets.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};

use statehouse_contract::{ErrorSource, OutcomeClass, Rejection, RejectionCode};

use super::head::Head;

/// Who said no.
pub(super) const ERROR_SOURCE: HeaderName = HeaderName::from_static("x-statehouse-error-source");
/// The media type of a "no".
pub(super) const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// The media type of everything else that is JSON.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer that is no rejection: what is sent, and how it is counted.
pub(super) struct Reply {
    /// What is sent.
    pub(super) response: Response,
    /// How it is counted.
    pub(super) class: OutcomeClass,
}

/// How a call ends.
pub(super) type Outcome = Result<Reply, Rejection>;

/// Returns a reply with a body of a media type.
pub(super) fn reply(status: StatusCode, media: HeaderValue, body: impl Into<Body>) -> Reply {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    Reply { response, class: OutcomeClass::Ok }
}

/// Returns a reply with a value as JSON.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Outcome {
    match serde_json::to_vec(value) {
        Ok(body) => Ok(reply(status, JSON, body)),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            Err(internal())
        }
    }
}

/// Returns the rejection of a request that cannot be read.
pub(super) fn invalid(detail: impl Into<Box<str>>) -> Rejection {
    Rejection::gateway(RejectionCode::InvalidRequest, detail)
}

/// Returns the rejection that says nothing but that we are at fault.
pub(super) fn internal() -> Rejection {
    Rejection::gateway(
        RejectionCode::Internal,
        "Something is broken in this node; its log says what, next to this correlation id.",
    )
}

/// Returns the rejection of an answer of a kind that the question cannot have.
pub(super) fn misanswered(question: &'static str) -> Rejection {
    tracing::error!(question, "the house gave an answer of another kind");
    internal()
}

/// Returns the status of a code.
pub(super) fn status(code: RejectionCode) -> StatusCode {
    StatusCode::from_u16(code.status()).expect("the table of codes holds HTTP statuses")
}

/// Writes a rejection as problem+json.
pub(super) fn response(rejection: &Rejection, place: &str, head: &Head) -> Response {
    let text = rejection.render(place, head.correlation.as_ref(), &head.trace);
    let mut response = Response::new(Body::from(text.as_str().to_owned()));
    *response.status_mut() = status(rejection.code);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PROBLEM);
    headers.insert(ERROR_SOURCE, HeaderValue::from_static(rejection.source.name()));
    if let Some(ms) = rejection.retry_after_ms {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)));
    }
    if let Some(version) = rejection.version {
        headers.insert(header::ETAG, super::answer::tag(version));
    }
    if rejection.code == RejectionCode::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Writes a rejection with another status than its code's: what HTTP itself has a status for (404 and 405 of
/// paths), the table of codes has not.
pub(super) fn with_status(
    rejection: &Rejection,
    status: StatusCode,
    place: &str,
    head: &Head,
) -> Response {
    let mut response = response(rejection, place, head);
    let text = rejection.render(place, head.correlation.as_ref(), &head.trace);
    let mut document = text.to_value();
    if let Some(member) = document.get_mut("status") {
        *member = status.as_u16().into();
    }
    *response.status_mut() = status;
    *response.body_mut() = Body::from(document.to_string());
    response
}

/// Returns the header value for who said no.
pub(super) const fn source(source: ErrorSource) -> HeaderValue {
    HeaderValue::from_static(source.name())
}
