//! The API's calls by name: each builds one request and sends it.
//!
//! Paths and parameters follow the table of the API's resources. Optional things stand in small structs instead of
//! long parameter lists; their empty form is the plain call.

use std::time::Duration;

use serde_json::{Value, json};
use statehouse_contract::Version;

use crate::{
    client::Client,
    outcome::{CallError, Outcome},
    request::{Body, Method, Request, escape},
    response::Lines,
    watch::Watch,
};

/// What a change may carry besides its payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct With<'a> {
    /// The idempotency key; a new one is made when none is given.
    pub key: Option<&'a str>,
    /// Do it only at this version.
    pub expected: Option<Version>,
    /// Say what would happen, write nothing.
    pub dry_run: bool,
    /// How long the command may stay postponed.
    pub postpone: Option<Duration>,
    /// The caller's name for the whole conversation.
    pub correlation: Option<&'a str>,
}

/// A start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// The definition's name.
    pub definition: &'a str,
    /// Its version; none means the current one.
    pub version: Option<u32>,
    /// The instance's id; none derives it from the key.
    pub id: Option<&'a str>,
    /// The input; none means `{}`.
    pub input: Option<&'a Value>,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadAt {
    /// `linearizable`, `leader` or `stale`; none is linearizable.
    pub consistency: Option<&'static str>,
    /// Wait for this version.
    pub min_version: Option<u64>,
}

/// Which instances a list shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// In this state.
    pub state: Option<&'a str>,
    /// Of this definition.
    pub definition: Option<&'a str>,
    /// With this status.
    pub status: Option<&'a str>,
    /// With this tag.
    pub tag: Option<&'a str>,
    /// Rows of a page.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<&'a str>,
    /// Refuse instead of leaving out a shard that cannot answer.
    pub complete: bool,
    /// Finished ones too.
    pub all: bool,
}

impl With<'_> {
    fn on(&self, request: Request) -> Request {
        request
            .keyed(self.key)
            .header("if-match", self.expected.map(|version| format!("\"{version}\"")))
            .header("x-statehouse-postpone-ms", self.postpone.map(|time| time.as_millis()))
            .header("x-correlation-id", self.correlation)
            .with("dry_run", self.dry_run.then_some(true))
    }
}

/// Definitions.
impl Client {
    /// Checks and stores a definition, written as YAML or JSON.
    pub async fn deploy(&self, document: &str, with: With<'_>) -> Outcome {
        let path = self.path("definitions");
        self.send(with.on(Request::post(path, Body::Yaml(document.to_owned())))).await
    }

    /// Checks a definition and stores nothing.
    pub async fn validate(&self, document: &str) -> Outcome {
        self.deploy(document, With { dry_run: true, ..With::default() }).await
    }

    /// Lists the definitions.
    pub async fn definitions(&self) -> Outcome {
        self.send(Request::get(self.path("definitions"))).await
    }

    /// Reads a definition; without a version, all that is known of its name.
    pub async fn definition(&self, name: &str, version: Option<u32>) -> Outcome {
        let version = version.map(|version| format!("/versions/{version}")).unwrap_or_default();
        self.send(Request::get(self.path(&format!("definitions/{}{version}", escape(name))))).await
    }

    /// Chooses the version that new instances take.
    pub async fn set_current(&self, name: &str, version: u32, with: With<'_>) -> Outcome {
        let path = self.path(&format!("definitions/{}/current", escape(name)));
        self.send(with.on(Request::new(
            Method::Put,
            path,
            Body::Json(json!({ "version": version })),
        )))
        .await
    }
}

/// Instances.
impl Client {
    /// Starts an instance.
    pub async fn start(&self, start: Start<'_>, with: With<'_>) -> Outcome {
        let mut body = json!({ "definition": start.definition, "input": start.input.cloned().unwrap_or_else(|| json!({})) });
        if let Some(version) = start.version {
            body["version"] = version.into();
        }
        if let Some(id) = start.id {
            body["id"] = id.into();
        }
        self.send(with.on(Request::post(self.path("instances"), Body::Json(body)))).await
    }

    /// Sends an event, a command or a signal.
    pub async fn event(&self, instance: &str, event: &str, data: Value, with: With<'_>) -> Outcome {
        let path = self.instance(instance, &format!("/events/{}", escape(event)));
        self.send(with.on(Request::post(path, Body::Json(data)))).await
    }

    /// Reads an instance.
    pub async fn get(&self, instance: &str, read: ReadAt) -> Outcome {
        let request = Request::get(self.instance(instance, ""));
        self.send(
            request.with("consistency", read.consistency).with("min_version", read.min_version),
        )
        .await
    }

    /// Lists instances, one page.
    pub async fn list(&self, filter: Filter<'_>) -> Outcome {
        let request = Request::get(self.path("instances"))
            .with("state", filter.state)
            .with("definition", filter.definition)
            .with("status", filter.status)
            .with("tag", filter.tag)
            .with("limit", filter.limit)
            .with("cursor", filter.cursor)
            .with("complete", filter.complete.then_some(true))
            .with("all", filter.all.then_some(true));
        self.send(request).await
    }

    /// Reads an instance's transitions, one page.
    pub async fn history(&self, instance: &str, after: Option<u64>, limit: Option<u32>) -> Outcome {
        let request = Request::get(self.instance(instance, "/history"));
        self.send(request.with("after", after).with("limit", limit)).await
    }

    /// Asks why an instance rests where it does.
    pub async fn explain(&self, instance: &str) -> Outcome {
        self.send(Request::get(self.instance(instance, "/explain"))).await
    }

    /// Reads the answer stored under a key; waits for a postponed command's end up to `wait`.
    pub async fn receipt(&self, instance: &str, key: &str, wait: Option<Duration>) -> Outcome {
        let request = Request::get(self.instance(instance, &format!("/receipts/{}", escape(key))));
        self.send(match wait {
            Some(wait) => request.waiting(wait),
            None => request,
        })
        .await
    }

    /// Carries out an operator's verb: `cancel`, `terminate`, `pause`, `resume`, `retry`, `skip`, `migrate`, `reset`.
    ///
    /// `more` is merged into the body beside the reason.
    pub async fn operate(
        &self,
        instance: &str,
        verb: &str,
        reason: &str,
        more: Value,
        with: With<'_>,
    ) -> Outcome {
        let mut body = if more.is_object() { more } else { json!({}) };
        body["reason"] = reason.into();
        let path = self.instance(instance, &format!("/{}", escape(verb)));
        self.send(with.on(Request::post(path, Body::Json(body)))).await
    }

    /// Watches an instance from after `cursor`; gives up when no server serves the stream for `patience`.
    pub fn watch(&self, instance: &str, cursor: Option<String>, patience: Duration) -> Watch {
        Watch::new(self.clone(), Request::get(self.instance(instance, "/watch")), cursor, patience)
    }

    /// Watches every instance of the tenant.
    pub fn watch_tenant(&self, cursor: Option<String>, patience: Duration) -> Watch {
        Watch::new(self.clone(), Request::get(self.path("watch")), cursor, patience)
    }
}

/// Tenants and keys.
impl Client {
    /// Makes a tenant.
    pub async fn put_tenant(&self, name: &str, with: With<'_>) -> Outcome {
        let body = Body::Json(json!({ "tenant": name }));
        self.send(with.on(Request::post("/v1/tenants", body))).await
    }

    /// Lists the tenants.
    pub async fn tenants(&self) -> Outcome {
        self.send(Request::get("/v1/tenants")).await
    }

    /// Makes an API key; its secret is in this one answer and in no other.
    pub async fn put_key(&self, name: &str, roles: &[&str], with: With<'_>) -> Outcome {
        let body = json!({ "name": name, "roles": roles });
        self.send(with.on(Request::post(self.path("keys"), Body::Json(body)))).await
    }

    /// Reads the tenant's quota and keys, without secrets.
    pub async fn tenant(&self) -> Outcome {
        self.send(Request::get(format!("/v1/tenants/{}", escape(&self.tenant)))).await
    }

    /// Revokes an API key.
    pub async fn revoke_key(&self, key: &str, reason: Option<&str>, with: With<'_>) -> Outcome {
        let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
        let path = self.path(&format!("keys/{}/revoke", escape(key)));
        self.send(with.on(Request::post(path, Body::Json(body)))).await
    }

    /// Sets the tenant's limits.
    pub async fn set_quota(&self, quota: Value, with: With<'_>) -> Outcome {
        self.send(with.on(Request::post(self.path("quota"), Body::Json(quota)))).await
    }
}

/// The cluster.
impl Client {
    /// Reads members, shards, leaders, lag.
    pub async fn cluster(&self) -> Outcome {
        self.send(Request::get("/v1/cluster")).await
    }

    /// Reads every entry of a shard as the asked node holds it, line by line.
    ///
    /// # Errors
    /// The dump was refused, or no server was reached.
    pub async fn dump(&self, shard: u32) -> Result<Lines, CallError> {
        self.lines(Request::get(format!("/v1/cluster/shards/{shard}/dump"))).await
    }

    /// Asks whether a node lives.
    pub async fn health(&self) -> Outcome {
        self.send(Request::get("/healthz")).await
    }

    /// Asks whether a node can serve.
    pub async fn ready(&self) -> Outcome {
        self.send(Request::get("/readyz")).await
    }
}

impl Client {
    /// Returns a path below the tenant.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v1/tenants/{}/{rest}", escape(&self.tenant))
    }

    fn instance(&self, id: &str, rest: &str) -> String {
        self.path(&format!("instances/{}{rest}", escape(id)))
    }
}
