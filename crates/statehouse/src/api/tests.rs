//! The face against a house that is not there.
//!
//! `Fake` answers every question with something that looks real and writes down what it was asked. The
//! tests send requests through the whole router and compare status, headers and body as text.
//!
//! Absent on purpose: a socket, but for `sockets.rs`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use statehouse_cluster::KeyChoice;
use statehouse_contract::{
    Answer, Clock, CommandEnvelope, Credential, Digest, InstanceKey, NodeId, Query, Receipt,
    Rejection, RejectionCode, RoleName, ShardId, TenantId, Timestamp,
};
use statehouse_telemetry::Meters;

use super::{ApiState, Backend, Readiness, ShardCopy, router, token_hash};

mod answers;
mod bad_input;
mod commands;
mod contract;
mod definitions;
mod leads;
mod random;
mod reads;
mod roles;
mod sockets;
mod tasks;
mod tenants;

type Judge = dyn Fn(&CommandEnvelope) -> Result<Receipt, Rejection> + Send + Sync;
type Oracle = dyn Fn(&Query) -> Result<Answer, Rejection> + Send + Sync;

/// A house that is not there.
struct Fake {
    keys: Mutex<BTreeMap<Digest, Credential>>,
    commands: Mutex<Vec<CommandEnvelope>>,
    queries: Mutex<Vec<Query>>,
    /// How long each lease call would wait, and who has chosen its key.
    leases: Mutex<Vec<(u64, KeyChoice)>>,
    judge: Box<Judge>,
    oracle: Box<Oracle>,
    ready: bool,
    /// What a copy announces beyond what it holds.
    copy_short_by: u64,
    /// The node that leads every instance, where this one does not.
    leader: Option<&'static str>,
}

impl Fake {
    fn new() -> Self {
        let mut keys = BTreeMap::new();
        for tenant in ["acme", "other"] {
            for role in [
                "reader",
                "caller",
                "operator",
                "deployer",
                "worker",
                "worker:pay",
                "admin",
                "manager",
            ] {
                let credential = Credential {
                    tenant: TenantId::parse(tenant).unwrap(),
                    id: "k".into(),
                    name: role.into(),
                    roles: vec![RoleName::parse(role).unwrap()],
                };
                keys.insert(token_hash(&format!("{tenant}-{role}")), credential);
            }
        }
        Self {
            keys: Mutex::new(keys),
            commands: Mutex::default(),
            queries: Mutex::default(),
            leases: Mutex::default(),
            judge: Box::new(answers::accept),
            oracle: Box::new(answers::answer),
            ready: true,
            copy_short_by: 0,
            leader: None,
        }
    }

    fn judging(
        mut self,
        judge: impl Fn(&CommandEnvelope) -> Result<Receipt, Rejection> + Send + Sync + 'static,
    ) -> Self {
        self.judge = Box::new(judge);
        self
    }

    fn telling(
        mut self,
        oracle: impl Fn(&Query) -> Result<Answer, Rejection> + Send + Sync + 'static,
    ) -> Self {
        self.oracle = Box::new(oracle);
        self
    }

    fn last_command(&self) -> CommandEnvelope {
        self.commands.lock().unwrap().last().expect("a command came").clone()
    }

    fn last_query(&self) -> Query {
        self.queries.lock().unwrap().last().expect("a question came").clone()
    }
}

impl Backend for Fake {
    fn submit(&self, envelope: CommandEnvelope) -> BoxFuture<'_, Result<Receipt, Rejection>> {
        let answer = (self.judge)(&envelope);
        self.commands.lock().unwrap().push(envelope);
        Box::pin(async { answer })
    }

    fn lease(
        &self,
        envelope: CommandEnvelope,
        wait_ms: u64,
        choice: KeyChoice,
    ) -> BoxFuture<'_, Result<Receipt, Rejection>> {
        self.leases.lock().unwrap().push((wait_ms, choice));
        self.submit(envelope)
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, Rejection>> {
        if let Query::Credential { hash } = &query {
            let found = self.keys.lock().unwrap().get(hash).cloned();
            return Box::pin(async { Ok(Answer::Credential(found)) });
        }
        let answer = (self.oracle)(&query);
        self.queries.lock().unwrap().push(query);
        Box::pin(async { answer })
    }

    fn copy(&self, shard: ShardId) -> BoxFuture<'_, Result<ShardCopy, Rejection>> {
        let copy = answers::copy(shard, self.copy_short_by);
        Box::pin(async { copy })
    }

    fn readiness(&self) -> Readiness {
        let waiting_for =
            if self.ready { Vec::new() } else { vec!["shard 0 has no leader".to_owned()] };
        Readiness { ready: self.ready, waiting_for, apply_lag: 0 }
    }

    fn hand_over(
        &self,
        shard: ShardId,
        to: Option<NodeId>,
    ) -> BoxFuture<'_, Result<NodeId, Rejection>> {
        let second = NodeId { number: 2, incarnation: 1 };
        let answer = match shard {
            ShardId(0) => Ok(to.unwrap_or(second)),
            ShardId(_) => {
                Err(Rejection::gateway(RejectionCode::InvalidRequest, "there is no such shard"))
            }
        };
        Box::pin(async { answer })
    }

    fn leader_of(&self, _: &InstanceKey) -> Option<Box<str>> {
        self.leader.map(Into::into)
    }
}

/// A clock that is moved by hand.
#[derive(Default)]
struct Hand(Mutex<i64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(*self.0.lock().unwrap())
    }
}

/// The face in front of a fake.
struct Face {
    fake: Arc<Fake>,
    clock: Arc<Hand>,
    state: ApiState,
    router: Router,
}

impl Face {
    fn new(fake: Fake) -> Self {
        let (fake, clock) = (Arc::new(fake), Arc::new(Hand::default()));
        let meters = Meters::start().unwrap();
        let house = Arc::clone(&fake);
        let state = ApiState::new(
            house,
            Arc::clone(&clock) as Arc<dyn Clock>,
            "n1.1",
            TenantId::parse("acme").unwrap(),
            &meters,
            crate::slo::Objectives::ANY,
        );
        Self { fake, clock, router: router(state.clone()), state }
    }

    async fn send(&self, ask: Ask) -> Seen {
        let response = self.router.clone().oneshot(ask.request()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Seen { status: parts.status, headers: parts.headers, body }
    }
}

/// A request in the making; by default with a token that may do it and a key.
#[derive(Clone)]
struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl Ask {
    fn new(method: &'static str, path: impl Into<String>) -> Self {
        let headers = vec![
            ("authorization", b"Bearer acme-admin".to_vec()),
            ("idempotency-key", b"k-1".to_vec()),
        ];
        Self { method, path: path.into(), headers, body: Vec::new() }
    }

    fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", path) }
    }

    fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.retain(|(held, _)| *held != name);
        self.headers.push((name, value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(held, _)| *held != name);
        self
    }

    fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    fn request(self) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Body::from(self.body)).unwrap()
    }
}

/// What came back.
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Seen {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status, the headers that differ from request to request, body.
    fn transcript(&self) -> String {
        let mut text = format!("{}\n", self.status.as_u16());
        for (name, value) in &self.headers {
            let is_always_there = matches!(
                name.as_str(),
                "x-content-type-options"
                    | "cache-control"
                    | "content-security-policy"
                    | "referrer-policy"
                    | "x-frame-options"
                    | "x-statehouse-node"
                    | "content-length"
            );
            // One of our own is another one every time.
            let is_ours =
                name == "x-correlation-id" && uuid::Uuid::try_parse_ascii(value.as_bytes()).is_ok();
            if !is_always_there && !is_ours {
                writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
            }
        }
        writeln!(text, "{}", String::from_utf8_lossy(&self.body)).unwrap();
        text
    }

    /// `400 invalid_request: the detail`.
    fn refusal(&self) -> String {
        let problem = self.json();
        let member = |name: &str| problem[name].as_str().unwrap_or("-").to_owned();
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["status"], self.status.as_u16());
        format!("{} {}: {}", self.status.as_u16(), member("code"), member("detail"))
    }
}
