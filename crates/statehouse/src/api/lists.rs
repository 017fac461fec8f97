//! Lists: a tenant's instances, an instance's history.
//!
//! A filter comes as query parameters or, for `search`, as members of a body; both lead to the same
//! [`InstanceFilter`]. Lists hold what was just written, because each shard answers from its own rows.
//!
//! Absent on purpose: counting everything, and any order across shards.

use axum::http::StatusCode;
use serde_json::Value;

use statehouse_contract::{Answer, DefinitionName, InstanceFilter, Query, Rejection, limits};

use super::{
    call::Call,
    fields::text,
    head::cursor,
    problem::{Outcome, invalid, json, misanswered},
};

/// What a list may be asked for: every word of `contract.md`, section 7.
const STATUSES: [&str; 8] =
    ["running", "paused", "faulted", "compensating", "done", "failed", "cancelled", "terminated"];

/// Lists instances by query parameters.
pub(super) async fn instances(call: Call) -> Outcome {
    let parts = Parts {
        state: call.query.text("state"),
        definition: call.query.text("definition"),
        status: call.query.text("status"),
        tag: call.query.text("tag"),
        cursor: call.query.text("cursor"),
        limit: call.query.number("limit"),
        all: call.query.flag("all"),
        complete: call.query.flag("complete"),
    };
    list(&call, &parts).await
}

/// Lists instances by the members of a body.
pub(super) async fn search(call: Call) -> Outcome {
    let members = &call.members;
    let flag = |name: &str| members.get(name).and_then(Value::as_bool).unwrap_or(false);
    let parts = Parts {
        state: text(members, "state"),
        definition: text(members, "definition"),
        status: text(members, "status"),
        tag: text(members, "tag"),
        cursor: text(members, "cursor"),
        limit: members.get("limit").and_then(Value::as_u64),
        all: flag("all"),
        complete: flag("complete"),
    };
    list(&call, &parts).await
}

/// A filter as it came.
struct Parts<'c> {
    state: Option<&'c str>,
    definition: Option<&'c str>,
    status: Option<&'c str>,
    tag: Option<&'c str>,
    cursor: Option<&'c str>,
    limit: Option<u64>,
    all: bool,
    complete: bool,
}

async fn list(call: &Call, parts: &Parts<'_>) -> Outcome {
    if let Some(status) = parts.status.filter(|status| !STATUSES.contains(status)) {
        return Err(invalid(format!("status is {status:?}; allowed are {}", STATUSES.join(", "))));
    }
    let definition = parts.definition.map(DefinitionName::parse).transpose();
    let filter = InstanceFilter {
        tenant: call.tenant().clone(),
        state: name("state", parts.state)?,
        definition: definition.map_err(|error| invalid(format!("definition: {error}")))?,
        status: parts.status.map(Into::into),
        tag: name("tag", parts.tag)?,
        all: parts.all,
        limit: limit(parts.limit)?,
        cursor: parts.cursor.map(|text| cursor("cursor", text)).transpose()?,
        complete: parts.complete,
    };
    let Answer::Instances(page) = call.ask(Query::Instances(filter), 0).await? else {
        return Err(misanswered("instances"));
    };
    json(StatusCode::OK, &page)
}

fn name(what: &str, text: Option<&str>) -> Result<Option<Box<str>>, Rejection> {
    match text {
        Some(text) if text.is_empty() || text.len() > limits::NAME_BYTES_MAX => Err(invalid(
            format!("{what} has {} bytes; 1 to {} are allowed", text.len(), limits::NAME_BYTES_MAX),
        )),
        Some(text) => Ok(Some(text.into())),
        None => Ok(None),
    }
}

/// Reads how many rows a page may have.
pub(super) fn limit(asked: Option<u64>) -> Result<u32, Rejection> {
    match asked {
        None => Ok(limits::PAGE_DEFAULT),
        Some(rows) => u32::try_from(rows)
            .ok()
            .filter(|rows| (1..=limits::PAGE_MAX).contains(rows))
            .ok_or_else(|| {
                invalid(format!("limit is {rows}; it takes 1 to page_max, {}", limits::PAGE_MAX))
            }),
    }
}

/// Lists an instance's transitions.
pub(super) async fn history(call: Call) -> Outcome {
    let query = Query::History {
        key: call.instance()?,
        after: call.query.number("after").unwrap_or(0),
        limit: limit(call.query.number("limit"))?,
    };
    let Answer::History(page) = call.ask(query, 0).await? else {
        return Err(misanswered("history"));
    };
    json(StatusCode::OK, &page)
}
