//! The API's calls about tasks: what a worker says, and what people look at.
//!
//! Deliberately absent: a worker's loop; that is `worker.rs`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    client::Client,
    outcome::Outcome,
    request::{Body, Request, escape},
};

/// What a worker asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The queues that it serves.
    pub queues: &'a [String],
    /// At most so many tasks.
    pub max: u32,
    /// Length of the leases, unless a task says its own; none is the server's.
    pub lease: Option<Duration>,
    /// How long the server waits for the first task.
    pub wait: Duration,
    /// The worker's name, for people.
    pub worker: &'a str,
}

/// A task with the right to do it until a time.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LeasedTask {
    /// Its id.
    pub id: String,
    /// The queue from which it came.
    pub queue: String,
    /// What it runs, as the definition says it.
    pub src: String,
    /// The id of the invoke.
    pub invoke: String,
    /// The instance that ordered it.
    pub instance: String,
    /// The definition that the instance runs.
    pub definition: String,
    /// Its version.
    pub definition_version: u32,
    /// The input.
    pub input: Value,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The right to report on it.
    pub token: u64,
    /// Until when the lease lives (RFC 3339).
    pub lease_until: String,
    /// How long that is from the moment in which it was given, in milliseconds.
    pub lease_ms: u64,
    /// When the attempt is over, however long the lease is made (RFC 3339).
    #[serde(default)]
    pub timeout_at: Option<String>,
    /// Which item of a `forEach` it is.
    #[serde(default)]
    pub item: Option<u32>,
    /// Whether it undoes a step.
    #[serde(default)]
    pub compensation: bool,
    /// The conversation to which it belongs.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// The trace to which it belongs.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// The same for every attempt: hand it on to whoever must not do the work twice.
    pub idempotency_key: String,
}

/// Which open tasks a list shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskList<'a> {
    /// Of this queue.
    pub queue: Option<&'a str>,
    /// In this state: `ready`, `waiting`, `leased` or `parked`.
    pub state: Option<&'a str>,
    /// Rows of a page.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<&'a str>,
}

/// Tasks.
impl Client {
    /// Leases tasks. A call whose answer was lost leaves leases behind that run out by themselves.
    pub async fn lease_tasks(&self, claim: Claim<'_>) -> Outcome {
        self.send(self.lease_request(claim)).await
    }

    /// Returns the request of [`Client::lease_tasks`].
    pub fn lease_request(&self, claim: Claim<'_>) -> Request {
        let mut body = json!({
            "queues": claim.queues,
            "max": claim.max,
            "wait_ms": millis(claim.wait),
            "worker": claim.worker,
        });
        if let Some(lease) = claim.lease {
            body["lease_ms"] = millis(lease).into();
        }
        Request::post(self.path("tasks/lease"), Body::Json(body))
            .unkeyed()
            .waiting_silently(claim.wait)
    }

    /// Keeps a lease alive.
    pub async fn heartbeat_task(&self, task: &str, token: u64, lease: Option<Duration>) -> Outcome {
        let mut body = json!({ "token": token });
        if let Some(lease) = lease {
            body["lease_ms"] = millis(lease).into();
        }
        self.report(task, "heartbeat", body, None).await
    }

    /// Reports the result of a task.
    pub async fn complete_task(
        &self,
        task: &str,
        token: u64,
        output: &Value,
        traceparent: Option<&str>,
    ) -> Outcome {
        self.report(task, "complete", json!({ "token": token, "output": output }), traceparent)
            .await
    }

    /// Reports that an attempt failed.
    pub async fn fail_task(
        &self,
        task: &str,
        token: u64,
        (code, message): (&str, &str),
        retryable: bool,
        traceparent: Option<&str>,
    ) -> Outcome {
        let body =
            json!({ "token": token, "code": code, "message": message, "retryable": retryable });
        self.report(task, "fail", body, traceparent).await
    }

    async fn report(
        &self,
        task: &str,
        verb: &str,
        body: Value,
        traceparent: Option<&str>,
    ) -> Outcome {
        let path = self.path(&format!("tasks/{}/{verb}", escape(task)));
        // Task and token name the report, so no key is needed to repeat it.
        let request = Request::post(path, Body::Json(body)).unkeyed();
        self.send(request.header("traceparent", traceparent)).await
    }

    /// Lists open tasks.
    pub async fn tasks(&self, list: TaskList<'_>) -> Outcome {
        let request = Request::get(self.path("tasks"))
            .with("queue", list.queue)
            .with("state", list.state)
            .with("limit", list.limit)
            .with("cursor", list.cursor);
        self.send(request).await
    }

    /// Tells what waits in each queue.
    pub async fn queues(&self) -> Outcome {
        self.send(Request::get(self.path("queues"))).await
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
