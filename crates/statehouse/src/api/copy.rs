//! A copy of a shard, sent part by part: what a backup is made of.
//!
//! The headers say how many bytes come and what their fingerprint is. The length stands in front, so that an answer that
//! ends too early is a broken connection for everybody on the way, and never looks like a shorter shard. One part is in
//! memory at a time; a slow reader slows nobody but itself, and its place among the copies ends with the answer.
//!
//! Absent on purpose: parts of a shard, and going on where an answer broke. A copy is asked for again.

use std::{
    fs::File,
    io::{self, Read as _},
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use bytes::Bytes;
use futures::stream;

use statehouse_contract::{ShardId, limits};

use super::{
    backend::ShardCopy,
    call::Call,
    problem::{Outcome, reply},
};

/// The cluster's name, if it has one.
pub(crate) const CLUSTER: HeaderName = HeaderName::from_static("x-statehouse-cluster");
/// How many shards the cluster has.
pub(crate) const SHARDS: HeaderName = HeaderName::from_static("x-statehouse-shards");
/// The position up to which everything is in the copy.
pub(crate) const POSITION: HeaderName = HeaderName::from_static("x-statehouse-position");
/// The term of that entry.
pub(crate) const TERM: HeaderName = HeaderName::from_static("x-statehouse-term");
/// The feature level of its entries.
pub(crate) const LEVEL: HeaderName = HeaderName::from_static("x-statehouse-level");
/// The fingerprint of all bytes.
pub(crate) const DIGEST: HeaderName = HeaderName::from_static("x-statehouse-digest");

/// What a copy says of itself, for the contract.
pub(super) const HEADERS: [(HeaderName, &str); 6] = [
    (CLUSTER, "the cluster's name, if it has one"),
    (SHARDS, "how many shards the cluster has"),
    (POSITION, "the position up to which everything is in the copy"),
    (TERM, "the term of that entry"),
    (LEVEL, "the feature level of the copy's entries"),
    (DIGEST, "the BLAKE3 of all bytes, hexadecimal"),
];

/// What is still to be sent.
struct Rest {
    file: File,
    left: u64,
}

/// Sends a copy of a shard.
pub(super) async fn send(call: Call) -> Outcome {
    let shard = ShardId(call.number("s")?);
    let copy = call.state.backend().copy(shard).await?;
    let ShardCopy { cluster, shards, position, term, level, bytes, digest, file, place } = copy;
    // The call's permit and the copy's place live as long as the answer.
    let held = (call, place);
    let rest = Rest { file, left: bytes };
    let parts = stream::try_unfold((held, rest), |(held, rest)| async move {
        match rest.next().await? {
            Some((part, rest)) => Ok::<_, io::Error>(Some((part, (held, rest)))),
            None => Ok(None),
        }
    });
    let media = HeaderValue::from_static("application/octet-stream");
    let mut reply = reply(StatusCode::OK, media, Body::from_stream(parts));
    let headers = reply.response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, bytes.into());
    headers.insert(SHARDS, shards.into());
    headers.insert(POSITION, position.into());
    headers.insert(TERM, term.into());
    headers.insert(LEVEL, level.into());
    let texts = [(CLUSTER, cluster), (DIGEST, Some(digest.to_string()))];
    for (name, text) in texts {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(name, value);
        }
    }
    Ok(reply)
}

impl Rest {
    /// Reads the next part where it holds up nobody; nothing after the last.
    async fn next(self) -> io::Result<Option<(Bytes, Self)>> {
        if self.left == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let Self { mut file, left } = self;
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(limits::COPY_PART_BYTES);
            let mut part = vec![0; size];
            file.read_exact(&mut part)?;
            Ok(Some((Bytes::from(part), Self { file, left: left - size as u64 })))
        });
        read.await.map_err(io::Error::other)?
    }
}
