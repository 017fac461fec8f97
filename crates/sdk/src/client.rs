//! The client: servers, credential, and the loop that sends a request until its end is known or its time is up.
//!
//! One loop serves every call. It asks the server that leads the instance if that is known, else the one that answered
//! last; after a failure it turns to another one. Each attempt tells the server how much time is left and waits a
//! little longer than that, so that a typed answer comes before our own timeout.
//!
//! Deliberately absent: hedged requests, and any need of a leader. Every server forwards; a hint saves a hop.
//!
//! Invariant: an answer that says "not done" speaks of its own attempt. Once an attempt may have arrived, no later
//! refusal turns the call into one that did nothing.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use statehouse_contract::limits::DEADLINE_MS_MAX;

use crate::{
    course::Course,
    options::{BuildError, Options},
    outcome::{Failure, Outcome, Unknown},
    request::{Method, Request},
    response::{Download, Lines, ReadError, Response, read},
    retry::{Budget, Decision, decide},
    servers::{SERVERS_MAX, Servers},
    tls,
};

/// How much longer than the server's deadline an attempt waits for its answer.
const ANSWER_GRACE: Duration = Duration::from_millis(250);
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// The same where another server can be asked instead.
const CONNECT_MAX_OF_SEVERAL: Duration = Duration::from_secs(1);
/// Names the leader of the instance, in an answer of a node that is not it.
const LEADER: &str = "x-statehouse-leader";

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
    servers: Servers,
    authorization: Option<reqwest::header::HeaderValue>,
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
        if servers.len() > SERVERS_MAX {
            return Err(BuildError::TooMany(servers.len()));
        }
        let is_address =
            |server: &&String| !(server.starts_with("http://") || server.starts_with("https://"));
        if let Some(wrong) = servers.iter().find(is_address) {
            return Err(BuildError::Address(wrong.clone()));
        }
        let servers: Vec<String> =
            servers.iter().map(|server| server.trim_end_matches('/').to_owned()).collect();
        let connect = if servers.len() > 1 { CONNECT_MAX_OF_SEVERAL } else { CONNECT_MAX };
        let builder = reqwest::Client::builder()
            // Within an attempt: a server that takes no connection was certainly not asked.
            .connect_timeout(connect.min(budget.attempt))
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
            servers: Servers::new(servers),
            authorization,
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

    /// Returns the tenant of whose things it speaks.
    pub fn tenant_name(&self) -> &str {
        &self.tenant
    }

    /// Returns the servers, in the order given.
    pub fn servers(&self) -> &[String] {
        self.inner.servers.bases()
    }

    /// Sends a request until its end is known or the budget is used up.
    pub async fn send(&self, request: Request) -> Outcome {
        let request = request.with_some_key();
        let mut course = Course::new(request.bucket());
        let deadline = Instant::now() + self.budget.total + request.waits;
        let (mut attempt, mut round) = (1, 1);
        let (mut in_doubt, mut unreached) = (false, 0);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let server = course.next(&self.inner.servers);
            let outcome = self.attempt(&request, &mut course, server, attempt, left).await;
            let left = deadline.saturating_duration_since(Instant::now());
            if outcome.is_silence() {
                // Whatever else is to be asked there would wait as long.
                self.inner.servers.rest(server);
            }
            if outcome.is_unreached()
                && course.passes_over(&self.inner.servers, server)
                && !left.is_zero()
            {
                attempt += 1;
                continue;
            }
            unreached = if outcome.is_unreached() { unreached + 1 } else { 0 };
            let chance = self.inner.chance.hash_one((&request.key, attempt));
            let decision = if unreached >= self.budget.unreached_max {
                Decision::Stop
            } else {
                decide(&self.budget, &outcome, round, left, chance)
            };
            if let Decision::Again(wait) = decision {
                in_doubt |= matches!(outcome, Outcome::Unknown(_));
                if outcome.is_from_a_busy_server() {
                    course.busy(&self.inner.servers, server);
                } else if !outcome.is_unreached() {
                    course.failed(&self.inner.servers, server);
                }
                tokio::time::sleep(wait).await;
                attempt += 1;
                round += 1;
                // An attempt without time could only add doubt.
                if Instant::now() < deadline {
                    continue;
                }
            }
            // A read changes nothing: there is nothing to be in doubt about.
            let is_settled = !in_doubt || request.method == Method::Get;
            let outcome = if is_settled { outcome } else { outcome.after_doubt() };
            return outcome.after_trying(course.tried(&self.inner.servers));
        }
    }

    /// Sends a request once and reads the answer line by line, without a limit on its size or time.
    ///
    /// A server to which no connection can be made is left for the next one.
    ///
    /// # Errors
    /// The answer is no 2xx, or none came.
    pub async fn lines(&self, request: Request) -> Result<Lines, crate::CallError> {
        self.opened(request, self.budget.attempt).await.map(Lines::new)
    }

    /// Sends a request once and reads the answer part by part, without a limit on its size; it must begin `within`.
    ///
    /// A server to which no connection can be made is left for the next one.
    ///
    /// # Errors
    /// The answer is no 2xx, or none came.
    pub async fn download(
        &self,
        request: Request,
        within: Duration,
    ) -> Result<Download, crate::CallError> {
        self.opened(request, within).await.map(Download::new)
    }

    async fn opened(
        &self,
        request: Request,
        within: Duration,
    ) -> Result<reqwest::Response, crate::CallError> {
        let request = request.with_some_key();
        let mut course = Course::new(request.bucket());
        let outcome = match self.open(&request, &mut course, within).await {
            Ok((response, _)) if response.status().is_success() => return Ok(response),
            Ok((response, server)) => self.finish(&request, response, server, 1).await,
            Err(outcome) => outcome,
        };
        let outcome = outcome.after_trying(course.tried(&self.inner.servers));
        Err(outcome.done().err().unwrap_or_else(|| unexpected(&request)))
    }

    /// Sends a request to the first server that can be reached and returns the open answer; its head must come within
    /// `within`.
    pub(crate) async fn open(
        &self,
        request: &Request,
        course: &mut Course,
        within: Duration,
    ) -> Result<(reqwest::Response, usize), Outcome> {
        let servers = &self.inner.servers;
        let deadline = Instant::now() + within + ANSWER_GRACE;
        let mut attempt = 1;
        loop {
            let server = course.next(servers);
            let sending = self.build(request, server).send();
            match tokio::time::timeout_at(deadline, sending).await {
                Ok(Ok(response)) => {
                    self.heed(course, &response);
                    return Ok((response, server));
                }
                Ok(Err(error)) => {
                    let outcome = self.broken(request, server, attempt, &error);
                    if !outcome.is_unreached() {
                        course.failed(servers, server);
                        return Err(outcome);
                    }
                    if !course.passes_over(servers, server) {
                        return Err(outcome);
                    }
                    attempt += 1;
                }
                Err(_) => {
                    course.failed(servers, server);
                    return Err(self.no_answer(request, server, attempt, "no answer in time"));
                }
            }
        }
    }

    /// Notes that a stream broke at a server: the next one goes to another.
    pub(crate) fn leave(&self, course: &mut Course, server: usize) {
        course.failed(&self.inner.servers, server);
    }

    fn heed(&self, course: &Course, response: &reqwest::Response) {
        if let Some(hint) = response.headers().get(LEADER).and_then(|value| value.to_str().ok()) {
            course.heed(&self.inner.servers, hint);
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        course: &mut Course,
        server: usize,
        attempt: u32,
        left: Duration,
    ) -> Outcome {
        let time = left.min(self.budget.attempt + request.waits);
        let told = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, DEADLINE_MS_MAX);
        let sending = self
            .build(request, server)
            .header("x-statehouse-deadline-ms", told)
            .timeout(time + ANSWER_GRACE);
        match sending.send().await {
            Ok(response) => {
                self.heed(course, &response);
                self.finish(request, response, server, attempt).await
            }
            Err(error) => self.broken(request, server, attempt, &error),
        }
    }

    fn build(&self, request: &Request, server: usize) -> reqwest::RequestBuilder {
        let server = self.inner.servers.base(server);
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
        server: usize,
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
                server: self.inner.servers.base(server).to_owned(),
                key: request.key.clone(),
                attempts,
            }),
            Err(ReadError::Broken(error)) => self.broken(request, server, attempts, &error),
            Err(ReadError::TooLarge) => {
                self.no_answer(request, server, attempts, "the answer is larger than any may be")
            }
        }
    }

    /// Reads a transport error: before a connection stood, nothing was sent; after that, anything may have happened.
    fn broken(
        &self,
        request: &Request,
        server: usize,
        attempts: u32,
        error: &reqwest::Error,
    ) -> Outcome {
        let why = chain(error);
        if error.is_connect() || error.is_builder() {
            let tried = vec![self.inner.servers.base(server).to_owned()];
            let key = request.key.clone();
            Outcome::Failed(Failure { key, why, problem: None, attempts, tried })
        } else {
            self.no_answer(request, server, attempts, why)
        }
    }

    fn no_answer(
        &self,
        request: &Request,
        server: usize,
        attempts: u32,
        why: impl Into<String>,
    ) -> Outcome {
        let tried = vec![self.inner.servers.base(server).to_owned()];
        let (key, why) = (request.key.clone(), why.into());
        Outcome::Unknown(Unknown { key, why, problem: None, attempts, tried })
    }
}

/// Returns an error with its causes: the innermost one, the last, says what a person needs ("connection refused").
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
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
        tried: Vec::new(),
    }))
}

#[cfg(test)]
mod tests;
