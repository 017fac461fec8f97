//! Watches: changes as they happen, as server-sent events or as one long poll.
//!
//! Every change carries an opaque cursor as its event id. A client that comes back with `Last-Event-ID` (or
//! `after`) gets what it missed, or 410 when that is no longer kept. A comment goes out every 15 seconds,
//! so that the line is known to be alive.
//!
//! A watch holds one of `watches_max` places and no ingress permit. It asks again who its caller is on every
//! round, so it ends soon after its key was revoked; it ends when the node drains.
//!
//! Absent on purpose: a buffer per watcher. Each round reads rows from the cursor on, so a slow reader costs
//! nothing but its own delay.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode},
};
use bytes::Bytes;
use futures::stream;
use tokio::time::Instant;

use statehouse_contract::{
    Answer, InstanceKey, Query, Rejection, RejectionCode, WatchScope, limits,
    view::{Changes, TransitionView},
};

use super::{
    auth,
    call::Call,
    head::cursor,
    lists::limit,
    problem::{Outcome, json, misanswered, reply},
};

/// Silence after which a comment is sent.
const COMMENT_MS: u64 = 15_000;
/// Shortest time between two empty rounds.
const REST: Duration = Duration::from_secs(1);
/// How soon a client should come back when the line breaks.
const RETRY_MS: u64 = 1_000;

/// Watches one instance.
pub(super) async fn instance(call: Call) -> Outcome {
    let scope = WatchScope::Instance(call.instance()?);
    watch(call, scope).await
}

/// Watches a tenant.
pub(super) async fn tenant(call: Call) -> Outcome {
    let scope = WatchScope::Tenant(call.tenant().clone());
    watch(call, scope).await
}

async fn watch(mut call: Call, scope: WatchScope) -> Outcome {
    let after = match call.query.text("after") {
        Some("") => None,
        Some(text) => Some(cursor("query parameter after", text)?),
        None => call.head.last_event.take(),
    };
    let limit = limit(call.query.number("limit"))?;
    if let Some(wait_ms) = call.query.wait_ms("wait")? {
        let changes = ask(&call, Round { scope, after, limit, wait_ms }).await?;
        return json(StatusCode::OK, &changes);
    }
    // The first round does not wait: what is wrong with the cursor is still a plain answer.
    let first = Round { scope: scope.clone(), after, limit, wait_ms: 0 };
    let changes = ask(&call, first).await?;
    let line = Line { call, scope, limit, after: None, first: Some(changes), ended: false };
    let body = Body::from_stream(stream::unfold(line, |line| async move {
        line.next().await.map(|(text, line)| (Ok::<_, Infallible>(text), line))
    }));
    Ok(reply(StatusCode::OK, HeaderValue::from_static("text/event-stream"), body))
}

/// One question of a watch.
struct Round {
    scope: WatchScope,
    after: Option<Box<str>>,
    limit: u32,
    wait_ms: u64,
}

async fn ask(call: &Call, round: Round) -> Result<Changes, Rejection> {
    let Round { scope, after, limit, wait_ms } = round;
    let query = Query::Changes { scope, after, limit, wait_ms };
    let answer = tokio::select! {
        biased;
        () = call.state.draining().cancelled() => {
            return Err(Rejection::gateway(RejectionCode::Draining, "this node is shutting down"));
        }
        answer = call.ask(query, wait_ms) => answer?,
    };
    let Answer::Changes(changes) = answer else { return Err(misanswered("changes")) };
    Ok(changes)
}

/// An open watch.
struct Line {
    call: Call,
    scope: WatchScope,
    limit: u32,
    after: Option<Box<str>>,
    first: Option<Changes>,
    ended: bool,
}

impl Line {
    /// Returns the next piece of text, or nothing at the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        if let Some(first) = self.first.take() {
            let text = format!("retry: {RETRY_MS}\n\n{}", events(&first));
            self.after = Some(first.cursor.into());
            return Some((text.into(), self));
        }
        match self.round().await {
            Ok(changes) => {
                let text = if changes.items.is_empty() {
                    ": nothing yet\n\n".to_owned()
                } else {
                    events(&changes)
                };
                self.after = Some(changes.cursor.into());
                Some((text.into(), self))
            }
            // The client comes back by itself, and another node may answer.
            Err(rejection) if rejection.code == RejectionCode::Draining => None,
            Err(rejection) => {
                self.ended = true;
                let head = &self.call.head;
                let problem =
                    rejection.render(&self.call.path, head.correlation.as_ref(), &head.trace);
                Some((format!("event: problem\ndata: {}\n\n", problem.as_str()).into(), self))
            }
        }
    }

    async fn round(&self) -> Result<Changes, Rejection> {
        auth::renew(&self.call.state, self.call.route, self.call.grant()).await?;
        let began = Instant::now();
        let scope = self.scope.clone();
        let (after, limit) = (self.after.clone(), self.limit);
        let changes = ask(&self.call, Round { scope, after, limit, wait_ms: COMMENT_MS }).await?;
        if changes.items.is_empty() {
            // A house that does not wait must not make this line spin.
            tokio::select! {
                () = self.call.state.draining().cancelled() => {}
                () = tokio::time::sleep_until(began + REST) => {}
            }
        }
        Ok(changes)
    }
}

fn events(changes: &Changes) -> String {
    let mut text = String::new();
    for change in &changes.items {
        // Both are one line: a cursor is visible ASCII, and JSON escapes line ends.
        let data = serde_json::to_string(change).unwrap_or_default();
        text.push_str("id: ");
        text.push_str(&change.cursor);
        text.push_str("\nevent: transition\ndata: ");
        text.push_str(&data);
        text.push_str("\n\n");
    }
    text
}

/// Waits until an instance has ended, at most so long. Whatever goes wrong, the wait is over.
pub(super) async fn until_ended(call: &Call, key: &InstanceKey, wait_ms: u64) {
    let end = Instant::now() + Duration::from_millis(wait_ms);
    let mut after = None;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait_ms = u64::try_from(left.as_millis()).unwrap_or(0);
        let scope = WatchScope::Instance(key.clone());
        let round = Round { scope, after, limit: limits::PAGE_MAX, wait_ms };
        let Ok(changes) = ask(call, round).await else { return };
        if wait_ms == 0 || changes.items.last().is_some_and(has_ended) {
            return;
        }
        after = Some(changes.cursor.into());
    }
}

fn has_ended(change: &TransitionView) -> bool {
    matches!(change.status.as_str(), "done" | "failed" | "cancelled" | "terminated")
}
