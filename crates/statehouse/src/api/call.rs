//! One call: a request that was read, admitted and granted, and the ways into the house.
//!
//! A handler gets a [`Call`] and nothing else. Path, query and body have been compared with the route's row,
//! so that what a handler asks for is there and of the right kind, or the call never came this far.
//!
//! Absent on purpose: headers and credentials as they came. See `head.rs` and `auth.rs`.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use statehouse_cluster::KeyChoice;
use statehouse_contract::{
    Actor, Answer, Command, CommandEnvelope, Digest, InstanceId, InstanceKey, Json, Key, KeyText,
    Query, Receipt, Rejection, RejectionCode, Target, TenantId, id::base32, limits,
};

use super::{
    ApiState,
    auth::{Grant, random},
    body::too_large,
    fields::Fields,
    head::Head,
    problem::invalid,
    routes::Route,
};

/// How much longer than its deadline the house gets before the face stops waiting for it.
const GRACE: Duration = Duration::from_millis(500);

/// A request that may be answered.
pub(super) struct Call {
    /// The face.
    pub(super) state: ApiState,
    /// The row of the table that it met.
    pub(super) route: &'static Route,
    /// Its path, as it came.
    pub(super) path: Arc<str>,
    /// Its headers.
    pub(super) head: Head,
    /// The instance that it turned out to be about; the gate reads it when the answer is there.
    pub(super) about: Arc<OnceLock<InstanceKey>>,
    /// What the caller may act on; nothing on open routes.
    pub(super) grant: Option<Grant>,
    /// Its path parameters, decoded.
    pub(super) params: Vec<(Box<str>, Box<str>)>,
    /// Its query parameters, compared with the row.
    pub(super) query: Fields,
    /// The members of its body, compared with the row; an event's payload as it is.
    pub(super) members: Map<String, Value>,
    /// Its body where it is no JSON object.
    pub(super) raw: Bytes,
    /// Its place in the pool; a stream takes it along.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// Returns what the caller may act on.
    pub(super) fn grant(&self) -> &Grant {
        self.grant.as_ref().expect("every route that is not open was granted before its handler")
    }

    /// Returns the tenant that the call is about.
    pub(super) fn tenant(&self) -> &TenantId {
        self.grant().tenant()
    }

    /// Returns a path parameter.
    pub(super) fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(held, _)| **held == *name);
        // An instance may be called like the one route that stands where its id stands (`search`).
        found.map_or_else(|| self.path.rsplit('/').next().unwrap_or_default(), |(_, value)| value)
    }

    /// Returns the instance that the path names.
    pub(super) fn instance(&self) -> Result<InstanceKey, Rejection> {
        let instance = InstanceId::parse(self.param("id"))
            .map_err(|error| invalid(format!("path, segment {{id}}: {error}")))?;
        let key = InstanceKey { tenant: self.tenant().clone(), instance };
        self.concerns(&key);
        Ok(key)
    }

    /// Says which instance the call is about.
    pub(super) fn concerns(&self, key: &InstanceKey) {
        // A call is about one instance: the first word stands.
        let _ = self.about.set(key.clone());
    }

    /// Returns a path parameter that is a number.
    pub(super) fn number(&self, name: &str) -> Result<u32, Rejection> {
        self.param(name).parse().map_err(|_| {
            invalid(format!("path, segment {{{name}}}: {:?} is not a number", self.param(name)))
        })
    }

    /// Returns the idempotency key, or a fresh one where none has to come along.
    pub(super) fn key(&self) -> KeyText {
        self.head.key.clone().unwrap_or_else(fresh_key)
    }

    /// Returns a whole envelope.
    pub(super) fn envelope(
        &self,
        target: Target,
        command: Command,
        key: Key,
        fingerprint: Digest,
    ) -> CommandEnvelope {
        CommandEnvelope {
            target,
            command,
            key,
            fingerprint,
            correlation: self.head.correlation.clone(),
            trace: self.head.trace.clone(),
            remaining_ms: self.head.deadline_ms,
            expected: self.head.expected,
            actor: self.actor(),
            reason: None,
            attempt: 1,
        }
    }

    fn actor(&self) -> Actor {
        self.grant().actor()
    }

    /// Hands a command in and waits for its stored answer.
    pub(super) async fn submit(&self, envelope: CommandEnvelope) -> Result<Receipt, Rejection> {
        let patience = Duration::from_millis(envelope.remaining_ms) + GRACE;
        let answer = self.state.backend().submit(envelope);
        tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// Leases tasks, waiting so long for the first one; a key of the caller's own may be repeated.
    pub(super) async fn lease(
        &self,
        envelope: CommandEnvelope,
        wait_ms: u64,
        is_own_key: bool,
    ) -> Result<Receipt, Rejection> {
        let choice = if is_own_key { KeyChoice::Worker } else { KeyChoice::Edge };
        let patience = Duration::from_millis(envelope.remaining_ms + wait_ms) + GRACE;
        let answer = self.state.backend().lease(envelope, wait_ms, choice);
        tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// Asks a question that may take `wait_ms` longer than the caller's deadline.
    pub(super) async fn ask(&self, query: Query, wait_ms: u64) -> Result<Answer, Rejection> {
        let patience = Duration::from_millis(self.head.deadline_ms + wait_ms) + GRACE;
        let answer = self.state.backend().query(query);
        tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| Err(self.late()))
    }

    fn late(&self) -> Rejection {
        Rejection::gateway(
            RejectionCode::DeadlineExceeded,
            format!("no answer within {} ms; ask again with the same key", self.head.deadline_ms),
        )
    }

    /// Takes an object out of the members as a payload, bounded.
    pub(super) fn payload(value: &Value, what: &str) -> Result<Json, Rejection> {
        let json = Json::from_value(value);
        if json.as_str().len() > limits::PAYLOAD_BYTES_MAX {
            return Err(too_large(what, "payload_bytes_max", limits::PAYLOAD_BYTES_MAX));
        }
        Ok(json)
    }
}

/// Makes a key for a command that is harmless to repeat.
pub(super) fn fresh_key() -> KeyText {
    KeyText::parse(&format!("edge-{}", base32(&random::<16>(), 25)))
        .expect("base32 is visible ASCII and short")
}
