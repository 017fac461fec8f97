//! A request's body: bounded before it is read, whole before it is parsed.
//!
//! A body that is too large is refused by its announced length, or as soon as the bytes pass the limit.
//! What is still on its way is then read and thrown away for a moment, because a client that is cut while
//! it sends may never see the answer.
//!
//! Absent on purpose: decompression. A body that says it is compressed is refused, so a small body cannot
//! become a large one.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use statehouse_contract::{Rejection, RejectionCode, limits};

use super::{problem::invalid, routes::BodyShape};

/// Bytes of a refused body that are read and thrown away.
const DISCARD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Time for that.
const DISCARD: Duration = Duration::from_secs(2);
/// Time within which a body has to arrive.
const ARRIVE: Duration = Duration::from_millis(limits::HEADER_READ_MS_MAX);

/// Returns the limit of a body and the limit's name.
const fn limit(shape: BodyShape) -> (&'static str, usize) {
    match shape {
        BodyShape::Definition => ("definition_bytes_max", limits::DEFINITION_BYTES_MAX),
        BodyShape::None | BodyShape::Members(_) | BodyShape::Payload => {
            ("body_bytes_max", limits::BODY_BYTES_MAX)
        }
    }
}

/// Reads a body of a shape.
pub(super) async fn read(
    shape: BodyShape,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Rejection> {
    if matches!(shape, BodyShape::None) {
        return Ok(Bytes::new());
    }
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(invalid(
            "header Content-Encoding: compressed bodies are not taken; send it as identity",
        ));
    }
    let (name, bytes_max) = limit(shape);
    if announced(headers).is_some_and(|bytes| bytes > bytes_max as u64) {
        if !headers.contains_key(header::EXPECT) {
            discard(body).await;
        }
        return Err(too_large("the body", name, bytes_max));
    }
    let mut limited = Limited::new(body, bytes_max);
    let collected = tokio::time::timeout(ARRIVE, (&mut limited).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            // Without an announced length nobody knows how much is still to come: the client is cut.
            Err(too_large("the body", name, bytes_max))
        }
        Ok(Err(_)) => Err(invalid("the body broke off before its end")),
        Err(_) => Err(invalid(format!(
            "the body did not arrive within {} ms",
            limits::HEADER_READ_MS_MAX
        ))),
    }
}

/// Returns the rejection of something past a limit, with the limit's name.
pub(super) fn too_large(what: &str, name: &str, bytes_max: usize) -> Rejection {
    Rejection::gateway(
        RejectionCode::PayloadTooLarge,
        format!("{what} is larger than {name}, {bytes_max} bytes"),
    )
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn discard(mut body: Body) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    // However it ends, the answer goes out next.
    let _ = tokio::time::timeout(DISCARD, reading).await;
}
