//! The client: servers, credential, and the loop that sends a request until its end is known or its time is up.
//!
//! One loop serves every call. It asks the server that answered last; after a failure it turns to the next one. Each
//! attempt tells the server how much time is left and waits a little longer than that, so that a typed answer comes
//! before our own timeout.
//!
//! Deliberately absent: hedged requests, and remembering leaders. Every server forwards, and a hint that is wrong costs
//! more than one hop.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use statehouse_contract::limits::DEADLINE_MS_MAX;

use crate::{
    outcome::{Failure, Outcome, Unknown},
    request::{Method, Request},
    response::{Lines, ReadError, Response, read},
    retry::{Budget, Decision, decide},
    tls,
};

/// How much longer than the server's deadline an attempt waits for its answer.
const ANSWER_GRACE: Duration = Duration::from_millis(250);
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base addresses, such as `http://127.0.0.1:7400`; at least one.
    pub servers: Vec<String>,
    /// The bearer token, if one is needed.
    pub token: Option<String>,
    /// The tenant whose things the calls speak of.
    pub tenant: String,
    /// How long calls may take.
    pub budget: Budget,
    /// Certificates (PEM) of the only authority to trust; none trusts the platform's.
    pub authority_pem: Option<Vec<u8>>,
}

impl Options {
    /// Returns options for these servers, the tenant `default`, and a budget that gets a definite answer through a
    /// change of leader: 30 s in all, 10 s each.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            token: None,
            tenant: "default".to_owned(),
            budget: Budget {
                total: Duration::from_secs(30),
                attempt: Duration::from_secs(10),
                attempts_max: 64,
            },
            authority_pem: None,
        }
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No server was given.
    #[error("no server was given")]
    NoServer,
    /// A server's address is not one.
    #[error("server address {0:?} does not begin with http:// or https://")]
    Address(String),
    /// The token cannot stand in a header.
    #[error("the token contains characters that a header cannot carry")]
    Token,
    /// The authority's certificates cannot be read.
    #[error("read the authority's certificates")]
    Authority(#[source] reqwest::Error),
    /// The HTTP client did not come up.
    #[error("build the HTTP client")]
    Http(#[source] reqwest::Error),
}

/// A client of the API; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    pub(crate) tenant: String,
    budget: Budget,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    servers: Vec<String>,
    authorization: Option<reqwest::header::HeaderValue>,
    current: AtomicUsize,
    chance: RandomState,
}

impl Client {
    /// Makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// The options name no server, or something in them cannot be used.
    pub fn new(options: Options) -> Result<Self, BuildError> {
        let Options { servers, token, tenant, budget, authority_pem } = options;
        if servers.is_empty() {
            return Err(BuildError::NoServer);
        }
        let is_address =
            |server: &&String| !(server.starts_with("http://") || server.starts_with("https://"));
        if let Some(wrong) = servers.iter().find(is_address) {
            return Err(BuildError::Address(wrong.clone()));
        }
        let servers: Vec<String> =
            servers.iter().map(|server| server.trim_end_matches('/').to_owned()).collect();
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .user_agent(concat!("statehouse-sdk/", env!("CARGO_PKG_VERSION")));
        let http = tls::trust(builder, &servers, authority_pem.as_deref())?
            .build()
            .map_err(BuildError::Http)?;
        let authorization = match token {
            None => None,
            Some(token) => {
                let mut value =
                    reqwest::header::HeaderValue::try_from(format!("Bearer {}", token.trim()))
                        .map_err(|_| BuildError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let inner = Inner {
            http,
            servers,
            authorization,
            current: AtomicUsize::new(0),
            chance: RandomState::new(),
        };
        Ok(Self { inner: Arc::new(inner), tenant, budget })
    }

    /// Returns a client of the same servers that speaks of another tenant.
    #[must_use]
    pub fn for_tenant(&self, tenant: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), ..self.clone() }
    }

    /// Returns a client of the same servers with another budget.
    #[must_use]
    pub fn with_budget(&self, budget: Budget) -> Self {
        Self { budget, ..self.clone() }
    }

    /// Returns the servers, in the order given.
    pub fn servers(&self) -> &[String] {
        &self.inner.servers
    }

    /// Sends a request until its end is known or the budget is used up.
    pub async fn send(&self, request: Request) -> Outcome {
        let request = request.with_some_key();
        let deadline = Instant::now() + self.budget.total;
        let mut in_doubt = false;
        let mut attempt = 1;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = self.attempt(&request, attempt, left).await;
            let left = deadline.saturating_duration_since(Instant::now());
            let chance = self.inner.chance.hash_one((&request.key, attempt));
            match decide(&self.budget, &outcome, attempt, left, chance) {
                // A read changes nothing: there is nothing to be in doubt about.
                Decision::Stop if in_doubt && request.method != Method::Get => {
                    return outcome.after_doubt();
                }
                Decision::Stop => return outcome,
                Decision::Again(wait) => {
                    in_doubt |= matches!(outcome, Outcome::Unknown(_));
                    self.turn();
                    tokio::time::sleep(wait).await;
                    attempt += 1;
                }
            }
        }
    }

    /// Sends a request once and reads the answer line by line, without a limit on its size or time.
    ///
    /// # Errors
    /// The answer is no 2xx, or none came.
    pub async fn lines(&self, request: Request) -> Result<Lines, crate::CallError> {
        let request = request.with_some_key();
        match self.open(&request, self.budget.attempt).await {
            Ok((response, _)) if response.status().is_success() => Ok(Lines::new(response)),
            Ok((response, server)) => {
                let outcome = self.finish(&request, response, server, 1).await;
                Err(outcome.done().err().unwrap_or_else(|| unexpected(&request)))
            }
            Err(outcome) => Err(outcome.done().err().unwrap_or_else(|| unexpected(&request))),
        }
    }

    /// Sends a request once and returns the open answer; its head must come within `within`.
    pub(crate) async fn open(
        &self,
        request: &Request,
        within: Duration,
    ) -> Result<(reqwest::Response, String), Outcome> {
        let server = self.server();
        let sending = self.build(request, &server).send();
        match tokio::time::timeout(within + ANSWER_GRACE, sending).await {
            Ok(Ok(response)) => Ok((response, server)),
            Ok(Err(error)) => Err(broken(request, 1, &error)),
            Err(_) => Err(no_answer(request, 1, "no answer in time")),
        }
    }

    /// Turns to the next server.
    pub(crate) fn turn(&self) {
        // Relaxed: any server will do; which one is only a preference.
        self.inner.current.fetch_add(1, Ordering::Relaxed);
    }

    fn server(&self) -> String {
        let servers = &self.inner.servers;
        servers[self.inner.current.load(Ordering::Relaxed) % servers.len()].clone()
    }

    async fn attempt(&self, request: &Request, attempt: u32, left: Duration) -> Outcome {
        let server = self.server();
        let time = left.min(self.budget.attempt);
        let told = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, DEADLINE_MS_MAX);
        let sending = self
            .build(request, &server)
            .header("x-statehouse-deadline-ms", told)
            .timeout(time + ANSWER_GRACE);
        match sending.send().await {
            Ok(response) => self.finish(request, response, server, attempt).await,
            Err(error) => broken(request, attempt, &error),
        }
    }

    fn build(&self, request: &Request, server: &str) -> reqwest::RequestBuilder {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut sending = self.inner.http.request(method, format!("{server}{}", request.target()));
        if let Some(authorization) = &self.inner.authorization {
            sending = sending.header(reqwest::header::AUTHORIZATION, authorization.clone());
        }
        if let Some(key) = &request.key {
            sending = sending.header("idempotency-key", key);
        }
        for (name, value) in &request.headers {
            sending = sending.header(*name, value);
        }
        match request.body.parts() {
            Some((media, bytes)) => {
                sending.header(reqwest::header::CONTENT_TYPE, media).body(bytes)
            }
            None => sending,
        }
    }

    pub(crate) async fn finish(
        &self,
        request: &Request,
        response: reqwest::Response,
        server: String,
        attempts: u32,
    ) -> Outcome {
        let status = response.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect();
        match read(response).await {
            Ok(bytes) => Outcome::of(Response {
                status,
                headers,
                bytes,
                server,
                key: request.key.clone(),
                attempts,
            }),
            Err(ReadError::Broken(error)) => broken(request, attempts, &error),
            Err(ReadError::TooLarge) => {
                no_answer(request, attempts, "the answer is larger than any may be")
            }
        }
    }
}

/// Reads a transport error: before a connection stood, nothing was sent; after that, anything may have happened.
fn broken(request: &Request, attempts: u32, error: &reqwest::Error) -> Outcome {
    let why = reason(error);
    if error.is_connect() || error.is_builder() {
        Outcome::Failed(Failure { key: request.key.clone(), why, problem: None, attempts })
    } else {
        no_answer(request, attempts, why)
    }
}

fn no_answer(request: &Request, attempts: u32, why: impl Into<String>) -> Outcome {
    Outcome::Unknown(Unknown { key: request.key.clone(), why: why.into(), problem: None, attempts })
}

/// Returns the whole chain of causes: the innermost one says what a person needs ("connection refused").
fn reason(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn unexpected(request: &Request) -> crate::CallError {
    let why = "an answer of an unexpected kind".to_owned();
    crate::CallError::Unknown(Box::new(Unknown {
        key: request.key.clone(),
        why,
        problem: None,
        attempts: 1,
    }))
}

#[cfg(test)]
mod tests;
