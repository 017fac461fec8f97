//! Watches: changes as they happen, as server-sent events or as one long poll.
//!
//! Every change carries an opaque cursor as its event id. A client that comes back with `Last-Event-ID` (or
//! `after`) gets what it missed, or 410 when that is no longer kept. A comment goes out every 15 seconds,
//! so that the line is known to be alive. When a shard cannot answer, or can again, an event `shards` names
//! those that are missing; what happens there comes later.
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
    view::{Page, TransitionView},
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
/// What passes: a shard is changing its leader.
const NOT_NOW: [RejectionCode; 2] = [RejectionCode::NoLeader, RejectionCode::NoQuorum];
/// Pause before such a question is asked again.
const LOOK: Duration = Duration::from_millis(50);
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
    let round = Round { scope, after, limit, wait_ms: 0, complete: call.query.flag("complete") };
    if let Some(wait_ms) = call.query.wait_ms("wait")? {
        let changes = ask(&call, Round { wait_ms, ..round }).await?;
        return json(StatusCode::OK, &changes);
    }
    // The first round does not wait: what is wrong with the cursor is still a plain answer.
    let first = Some(ask(&call, round.clone()).await?);
    let round = Round { wait_ms: COMMENT_MS, ..round };
    let line = Line { call, round, first, missing: Vec::new(), ended: false };
    let body = Body::from_stream(stream::unfold(line, |line| async move {
        line.next().await.map(|(text, line)| (Ok::<_, Infallible>(text), line))
    }));
    Ok(reply(StatusCode::OK, HeaderValue::from_static("text/event-stream"), body))
}

/// One question of a watch.
#[derive(Clone)]
struct Round {
    scope: WatchScope,
    after: Option<Box<str>>,
    limit: u32,
    wait_ms: u64,
    complete: bool,
}

async fn ask(call: &Call, round: Round) -> Result<Page<TransitionView>, Rejection> {
    let Round { scope, after, limit, wait_ms, complete } = round;
    let query = Query::Changes { scope, after, limit, wait_ms, complete };
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
    /// The next question.
    round: Round,
    first: Option<Page<TransitionView>>,
    /// The shards that the reader knows to be missing.
    missing: Vec<u32>,
    ended: bool,
}

impl Line {
    /// Returns the next piece of text, or nothing at the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        if let Some(first) = self.first.take() {
            let text = format!("retry: {RETRY_MS}\n\n{}", self.told(first));
            return Some((text.into(), self));
        }
        match self.round().await {
            Ok(changes) => {
                let mut text = self.told(changes);
                if text.is_empty() {
                    text.push_str(": nothing yet\n\n");
                }
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

    /// Takes what a round has brought; returns it as events.
    fn told(&mut self, changes: Page<TransitionView>) -> String {
        let mut text = events(&changes.items);
        let missing = changes.page.missing_shards;
        if missing != self.missing {
            text.push_str(&format!("event: shards\ndata: {{\"missing_shards\":{missing:?}}}\n\n"));
            self.missing = missing;
        }
        self.round.after = changes.page.end_cursor.map(Into::into);
        text
    }

    async fn round(&self) -> Result<Page<TransitionView>, Rejection> {
        auth::renew(&self.call.state, self.call.route, self.call.grant()).await?;
        let began = Instant::now();
        let changes = ask(&self.call, self.round.clone()).await?;
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

fn events(changes: &[TransitionView]) -> String {
    let mut text = String::new();
    for change in changes {
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

/// Waits until an instance has ended, at most so long. While its shard has no leader the wait goes on; whatever else goes
/// wrong, it is over.
pub(super) async fn until_ended(call: &Call, key: &InstanceKey, wait_ms: u64) {
    let end = Instant::now() + Duration::from_millis(wait_ms);
    let mut after = None;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait_ms = u64::try_from(left.as_millis()).unwrap_or(0);
        let scope = WatchScope::Instance(key.clone());
        let round =
            Round { scope, after: after.clone(), limit: limits::PAGE_MAX, wait_ms, complete: true };
        match ask(call, round).await {
            Ok(changes) if wait_ms > 0 && !changes.items.last().is_some_and(has_ended) => {
                after = changes.page.end_cursor.map(Into::into);
            }
            Err(no) if wait_ms > 0 && NOT_NOW.contains(&no.code) => {
                tokio::time::sleep(LOOK.min(left)).await;
            }
            Ok(_) | Err(_) => return,
        }
    }
}

fn has_ended(change: &TransitionView) -> bool {
    matches!(change.status.as_str(), "done" | "failed" | "cancelled" | "terminated")
}
