//! `statehouse task …`: look at work that waits, and do it by hand.
//!
//! `lease`, `heartbeat`, `complete` and `fail` are what a worker says; by hand they are for trying things and for the day on
//! which the worker is broken. A worker that runs a program for each task is `statehouse worker run`.
//!
//! Deliberately absent: a loop.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use statehouse_sdk::{Body, Request, escape};

use super::{
    exit::{Exit, Failure},
    output::{items, text},
    payload,
    session::Session,
};

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List open tasks.
    List(List),
    /// Tell what waits in each queue, and whether anybody asks for it.
    Queues,
    /// Lease tasks and print them.
    Lease(Lease),
    /// Keep a lease alive.
    Heartbeat(Held),
    /// Report the result of a task.
    Complete {
        #[command(flatten)]
        held: Held,
        /// What came out, as JSON, `@FILE`, or `-` for standard input.
        #[arg(long, default_value = "{}", value_name = "JSON")]
        output: String,
    },
    /// Report that an attempt failed.
    Fail {
        #[command(flatten)]
        held: Held,
        /// The error's code, such as card_declined.
        #[arg(long)]
        code: String,
        /// The error in words.
        #[arg(long, default_value = "")]
        message: String,
        /// Another attempt is in vain.
        #[arg(long)]
        no_retry: bool,
    },
}

/// `task list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only tasks of this queue.
    #[arg(long)]
    queue: Option<String>,
    /// Only tasks in this state: ready, waiting, leased or parked.
    #[arg(long)]
    state: Option<String>,
    /// Rows of a page.
    #[arg(long)]
    limit: Option<u32>,
    /// Where the page before ended.
    #[arg(long)]
    cursor: Option<String>,
}

/// `task lease`.
#[derive(Debug, Args)]
pub(crate) struct Lease {
    /// A queue to serve; may be given several times.
    #[arg(long = "queue", required = true)]
    queues: Vec<String>,
    /// At most so many tasks.
    #[arg(long, default_value_t = 1)]
    max: u32,
    /// Length of the leases, for example 30s.
    #[arg(long, value_parser = super::duration, value_name = "TIME")]
    lease: Option<Duration>,
    /// Wait so long for the first task, for example 10s.
    #[arg(long, default_value = "0s", value_parser = super::duration, value_name = "TIME")]
    wait: Duration,
    /// Name of the worker, for people.
    #[arg(long, default_value = "by-hand")]
    worker: String,
}

/// A task that somebody holds.
#[derive(Debug, Args)]
pub(crate) struct Held {
    /// Id of the task.
    id: String,
    /// The lease's token.
    #[arg(long)]
    token: u64,
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    match verb {
        Verb::List(list) => list.run(session).await,
        Verb::Queues => queues(session).await,
        Verb::Lease(lease) => lease.run(session).await,
        Verb::Heartbeat(held) => held.report("heartbeat", json!({}), session).await,
        Verb::Complete { held, output } => {
            let output = payload::value("--output", &output)?;
            held.report("complete", json!({ "output": output }), session).await
        }
        Verb::Fail { held, code, message, no_retry } => {
            let body = json!({ "code": code, "message": message, "retryable": !no_retry });
            held.report("fail", body, session).await
        }
    }
}

impl List {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let request = Request::get(session.path("/tasks"))
            .with("queue", self.queue)
            .with("state", self.state)
            .with("limit", self.limit)
            .with("cursor", self.cursor);
        let row = |item: &Value| {
            [
                text(item, "id"),
                text(item, "queue"),
                text(item, "state"),
                text(item, "attempt"),
                text(item, "worker"),
                until(item),
                error(item),
            ]
        };
        let head = ["task", "queue", "state", "attempt", "worker", "until", "error"];
        let table = |body: &Value| {
            session.output.table(head, items(body, "items").iter().map(row).collect())
        };
        session.show(&request, table).await
    }
}

async fn queues(session: &Session) -> Result<Exit, Failure> {
    let row = |item: &Value| {
        [
            text(item, "queue"),
            text(item, "ready"),
            text(item, "waiting"),
            text(item, "leased"),
            text(item, "parked"),
            ago(item, "oldest_ready_ms").unwrap_or_default(),
            ago(item, "polled_ms").unwrap_or_else(|| "never".to_owned()),
        ]
    };
    let head = ["queue", "ready", "waiting", "leased", "parked", "oldest", "asked for"];
    let table =
        |body: &Value| session.output.table(head, items(body, "items").iter().map(row).collect());
    session.show(&Request::get(session.path("/queues")), table).await
}

impl Lease {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let mut body = json!({
            "queues": self.queues, "max": self.max, "wait_ms": wait_ms, "worker": self.worker,
        });
        if let Some(lease) = self.lease {
            body["lease_ms"] = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).into();
        }
        let request = Request::post(session.path("/tasks/lease"), Body::Json(body));
        let request = request.unkeyed().waiting_silently(self.wait);
        let row = |item: &Value| {
            [
                text(item, "id"),
                text(item, "token"),
                text(item, "attempt"),
                text(item, "lease_until"),
                text(item, "input"),
            ]
        };
        let table = |body: &Value| match items(body, "tasks") {
            [] => "nothing waits there".to_owned(),
            tasks => session.output.table(
                ["task", "token", "attempt", "lease until", "input"],
                tasks.iter().map(row).collect(),
            ),
        };
        session.show(&request, table).await
    }
}

impl Held {
    async fn report(self, verb: &str, body: Value, session: &Session) -> Result<Exit, Failure> {
        let mut body = body;
        body["token"] = self.token.into();
        let path = session.path(&format!("/tasks/{}/{verb}", escape(&self.id)));
        // Task and token name the report; no key is needed to repeat it.
        let request = Request::post(path, Body::Json(body)).unkeyed();
        session.show(&request, |body| self.said(body)).await
    }

    fn said(&self, body: &Value) -> String {
        let id = &self.id;
        match text(body, "outcome").as_str() {
            "done" => format!("{id} is done"),
            "retry" => format!("{id} is tried again at {}", text(body, "retry_at")),
            "parked" => format!("{id} is parked: an operator retries or skips it"),
            "failed" => format!("{id} has failed for good; its instance goes on with that"),
            "cancelled" => {
                format!("{id} was cancelled; its report is noted and has no other effect")
            }
            _ if body.get("cancelled") == Some(&Value::Bool(true)) => {
                format!("{id} was cancelled: stop working on it and report")
            }
            _ => format!("{id} is leased until {}", text(body, "lease_until")),
        }
    }
}

fn until(item: &Value) -> String {
    let lease = text(item, "lease_until");
    if lease.is_empty() { text(item, "ready_at") } else { lease }
}

fn error(item: &Value) -> String {
    item.get("error").map(|error| text(error, "code")).unwrap_or_default()
}

fn ago(item: &Value, member: &str) -> Option<String> {
    let ms = item.get(member)?.as_u64()?;
    Some(match ms {
        0..=999 => format!("{ms}ms"),
        1_000..=119_999 => format!("{}s", ms / 1_000),
        _ => format!("{}m", ms / 60_000),
    })
}
