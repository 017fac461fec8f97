//! The cluster as this node sees it, what an operator does to its nodes, and the dump that a history checker reads.
//!
//! Absent on purpose: taking a node in. It asks for itself, over the log's wire, with the cluster's papers
//! (`statehouse cluster join`): an API token does not make a machine a member.

use std::io;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode},
};
use bytes::Bytes;
use futures::stream;

use serde::Serialize;
use statehouse_contract::{
    Answer, Command, InstanceId, InstanceKey, MemberDocument, NodeId, Query, Rejection, ShardId,
    Standing, Target, limits,
    view::{DumpPage, MemberView},
};

use super::{
    admin::submit,
    answer,
    call::Call,
    canonical::fingerprint,
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

/// Takes a node out for good.
pub(super) async fn remove(call: Call) -> Outcome {
    // An id needs no look at the list: repeated after the node is gone, it is answered as before.
    let node = match call.param("n").parse() {
        Ok(node) => node,
        Err(_) => member(&call).await?.0,
    };
    let print = fingerprint("remove_node", call.param("n"), &call.members);
    let receipt = submit(&call, Target::Cluster, Command::RemoveMember { node }, print).await?;
    Ok(answer::receipt(&receipt))
}

/// Lets a node lead no shard, or lead again.
pub(super) async fn drain(call: Call) -> Outcome {
    let (node, view) = member(&call).await?;
    let is_draining = call.members.get("draining").and_then(serde_json::Value::as_bool);
    let standing = match is_draining {
        Some(false) => Standing::Active,
        Some(true) | None => Standing::Draining,
    };
    let document = MemberDocument {
        links: view.links,
        log: view.log,
        api: view.api,
        region: view.region,
        standing: Some(standing),
    };
    let print = fingerprint("drain_node", call.param("n"), &call.members);
    let command = Command::PutMember { node, document, replace: false };
    let receipt = submit(&call, Target::Cluster, command, print).await?;
    Ok(answer::receipt(&receipt))
}

/// Finds the member that the path names, by its id (`n2.1`) or its number (`2`).
async fn member(call: &Call) -> Result<(NodeId, MemberView), Rejection> {
    let name = call.param("n");
    let Answer::Cluster(view) = call.ask(Query::Cluster { instance: None }, 0).await? else {
        return Err(misanswered("cluster"));
    };
    let known: Vec<String> = view.members.iter().map(|member| member.node.clone()).collect();
    let is_meant = |member: &MemberView| {
        let node = member.node.parse::<NodeId>();
        member.node == name || node.is_ok_and(|node| node.number.to_string() == name)
    };
    let found = view.members.into_iter().find(is_meant);
    let found = found.and_then(|member| Some((member.node.parse().ok()?, member)));
    found.ok_or_else(|| {
        invalid(format!(
            "path, segment {{n}}: {name:?} is no member; there are {}",
            known.join(", ")
        ))
    })
}

/// Hands leadership of a shard over.
pub(super) async fn transfer(call: Call) -> Outcome {
    let shard = ShardId(call.number("s")?);
    let to = call.members.get("to").and_then(serde_json::Value::as_str);
    let to = to.map(str::parse::<NodeId>).transpose();
    let to = to.map_err(|error| invalid(format!("body member to: {error}")))?;
    let offered = call.state.backend().hand_over(shard, to).await?;
    json(StatusCode::OK, &HandedOver { shard: shard.0, to: offered.to_string() })
}

/// Raises a shard's feature level.
pub(super) async fn raise(call: Call) -> Outcome {
    let shard = ShardId(call.number("s")?);
    let level = call.members.get("level").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let level = u16::try_from(level).ok().filter(|level| *level > 0);
    let level = level.ok_or_else(|| {
        invalid(format!("body member level: feature levels are 1 to {}", u16::MAX))
    })?;
    let print = fingerprint("raise_shard", call.param("s"), &call.members);
    let command = Command::RaiseFeature { level };
    let receipt = submit(&call, Target::Shard(shard), command, print).await?;
    Ok(answer::receipt(&receipt))
}

#[derive(Serialize)]
struct HandedOver {
    shard: u32,
    to: String,
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
