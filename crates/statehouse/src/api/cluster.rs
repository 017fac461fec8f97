//! The cluster as this node sees it, and the dump that a history checker reads.
//!
//! Absent on purpose: changing members and moving leadership; those routes say that they are not in this
//! release (see `plain.rs`).

use std::io;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode},
};
use bytes::Bytes;
use futures::stream;

use statehouse_contract::{
    Answer, InstanceId, InstanceKey, Query, Rejection, ShardId, limits, view::DumpPage,
};

use super::{
    call::Call,
    problem::{Outcome, invalid, json, misanswered, reply},
};

/// Tells members, shards, leaders, terms and lag; where one of the caller's instances lives, if asked.
pub(super) async fn status(call: Call) -> Outcome {
    let instance = match call.query.text("instance") {
        None => None,
        Some(id) => {
            let instance = InstanceId::parse(id)
                .map_err(|error| invalid(format!("query parameter instance: {error}")))?;
            Some(InstanceKey { tenant: call.grant().home().clone(), instance })
        }
    };
    let Answer::Cluster(view) = call.ask(Query::Cluster { instance }, 0).await? else {
        return Err(misanswered("cluster"));
    };
    json(StatusCode::OK, &*view)
}

/// Streams every entry of a shard as this node holds it, one JSON object a line.
pub(super) async fn dump(call: Call) -> Outcome {
    let shard = ShardId(call.number("s")?);
    let after = call.query.number("after").unwrap_or(0);
    // What is wrong with the question is still a plain answer.
    let first = page(&call, shard, after).await?;
    let pages = stream::try_unfold((call, Some(first)), move |(call, page_now)| async move {
        let Some(page_now) = page_now else { return Ok::<_, io::Error>(None) };
        let text = lines(&page_now);
        let next = match page_now.next {
            // A reader must not take a part for the whole: the connection breaks instead.
            Some(after) => Some(
                page(&call, shard, after).await.map_err(|no| io::Error::other(no.to_string()))?,
            ),
            None => None,
        };
        Ok(Some((text, (call, next))))
    });
    let media = HeaderValue::from_static("application/x-ndjson");
    Ok(reply(StatusCode::OK, media, Body::from_stream(pages)))
}

async fn page(call: &Call, shard: ShardId, after: u64) -> Result<DumpPage, Rejection> {
    let query = Query::Dump { shard, after, limit: limits::PAGE_MAX };
    let Answer::Dump(page) = call.ask(query, 0).await? else {
        return Err(misanswered("dump"));
    };
    Ok(page)
}

fn lines(page: &DumpPage) -> Bytes {
    let mut text = String::new();
    for line in &page.lines {
        text.push_str(line.as_str());
        text.push('\n');
    }
    text.into()
}
