//! The kind `http`: one request, its answer as the output.
//!
//! The name is resolved once, every address is compared with what may be reached, and the connection goes to one of those
//! that were compared. Redirects are followed by hand, each target like the first. What comes back is read up to a limit.
//!
//! The task's idempotency key and trace are sent along, because an attempt may be made again.
//!
//! Deliberately absent: proxies of the environment, cookies, credentials in URLs.
//!
//! Invariants: no connection to an address that was not compared; `BOUND`: at most `ANSWER_BYTES_MAX` of an answer are read.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture};
use reqwest::{
    Method, StatusCode, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use statehouse_cluster::{Failed, Kind, Work};
use statehouse_contract::Json;

use super::{address::Allowed, invalid};

/// Most bytes of an answer: it becomes the output of a task.
const ANSWER_BYTES_MAX: usize = 24 * 1024;
/// Most headers that a request or an answer has.
const HEADERS_MAX: usize = 32;
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
const CONNECT_MAX: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: usize = 5;
/// Headers of an answer that become part of the output.
const KEPT: [&str; 4] = ["content-type", "location", "etag", "retry-after"];
/// Headers that a task may not set: they are the connection's own.
const OWN: [&str; 6] =
    ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te"];

/// Makes requests to what may be reached. Cheap to clone.
#[derive(Clone)]
pub(super) struct Caller {
    allowed: Arc<Allowed>,
}

/// A request that is about to be made.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) timeout: Duration,
}

/// What came back.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// The kind.
pub(super) struct Http {
    caller: Caller,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    method: Option<String>,
    url: String,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body: Option<Value>,
    /// Status codes that count as success; left out: 200 to 299.
    #[serde(default)]
    success: Option<Vec<u16>>,
    #[serde(default)]
    timeout: Option<String>,
}

impl Http {
    pub(super) const fn new(caller: Caller) -> Self {
        Self { caller }
    }
}

impl Kind for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn at_once(&self) -> usize {
        64
    }

    fn run(&self, work: Work) -> BoxFuture<'static, Result<Json, Failed>> {
        let caller = self.caller.clone();
        Box::pin(async move {
            let input: Input = serde_json::from_value(work.input.clone()).map_err(|error| {
                let takes = "http takes {method, url, headers, body, success, timeout}";
                invalid(format!("{takes}: {error}"))
            })?;
            let success = input.success.clone();
            let answered = caller.call(call(input, &work)?).await?;
            let is_good = match &success {
                Some(codes) => codes.contains(&answered.status.as_u16()),
                None => answered.status.is_success(),
            };
            if is_good { Ok(output(&answered)) } else { Err(refused(&answered)) }
        })
    }
}

fn call(input: Input, work: &Work) -> Result<Call, Failed> {
    let method = input.method.as_deref().unwrap_or("GET");
    let method = Method::from_str(&method.to_ascii_uppercase())
        .map_err(|_| invalid(format!("{method:?} is no method")))?;
    let url = Url::parse(&input.url).map_err(|error| invalid(format!("url: {error}")))?;
    if input.headers.len() > HEADERS_MAX {
        return Err(invalid(format!("more than {HEADERS_MAX} headers")));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &input.headers {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let key =
            HeaderName::from_str(name).map_err(|_| invalid(format!("{name:?} is no header")))?;
        if OWN.contains(&key.as_str()) {
            return Err(invalid(format!("header {key} belongs to the connection")));
        }
        let value = HeaderValue::from_str(&text).map_err(|_| {
            invalid(format!("the value of header {key} has characters that none may have"))
        })?;
        headers.insert(key, value);
    }
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.entry(name).or_insert(value);
        }
    };
    put("idempotency-key", &work.idempotency_key);
    if let Some(trace) = &work.traceparent {
        put("traceparent", trace);
    }
    let body = match input.body {
        None => Vec::new(),
        Some(Value::String(text)) => {
            put("content-type", "text/plain; charset=utf-8");
            text.into_bytes()
        }
        Some(value) => {
            put("content-type", "application/json");
            value.to_string().into_bytes()
        }
    };
    let timeout = match &input.timeout {
        None => TIMEOUT_DEFAULT,
        Some(text) => crate::cli::duration(text).map_err(invalid)?.min(TIMEOUT_MAX),
    };
    Ok(Call { method, url, headers, body, timeout })
}

fn output(answered: &Answered) -> Json {
    let mut headers = Map::new();
    for name in KEPT {
        if let Some(value) = answered.headers.get(name).and_then(|value| value.to_str().ok()) {
            headers.insert(name.to_owned(), value.into());
        }
    }
    let text = || Value::String(String::from_utf8_lossy(&answered.body).into_owned());
    let body = if answered.body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&answered.body).unwrap_or_else(|_| text())
    };
    Json::from_value(
        &json!({ "status": answered.status.as_u16(), "headers": headers, "body": body }),
    )
}

/// Returns the failure that a status stands for: what the other side may do better next time is tried again.
pub(super) fn refused(answered: &Answered) -> Failed {
    let status = answered.status.as_u16();
    let body: String = String::from_utf8_lossy(&answered.body).chars().take(300).collect();
    let later = answered.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let later = later.map(|later| format!(", retry after {later}")).unwrap_or_default();
    let (code, message) = (format!("http.{status}"), format!("status {status}{later}: {body}"));
    match status {
        408 | 425 | 429 | 500.. => Failed::retryable(code, message),
        _ => Failed::fatal(code, message),
    }
}

impl Caller {
    pub(super) fn new(allowed: Allowed) -> Self {
        Self { allowed: Arc::new(allowed) }
    }

    /// Makes a request, following redirects.
    pub(super) async fn call(&self, call: Call) -> Result<Answered, Failed> {
        let limit = call.timeout;
        let timed = tokio::time::timeout(limit, self.follow(call)).await;
        timed.unwrap_or_else(|_| {
            Err(Failed::retryable("http.timeout", format!("no answer within {limit:?}")))
        })
    }

    async fn follow(&self, mut call: Call) -> Result<Answered, Failed> {
        for _ in 0..=REDIRECTS_MAX {
            let answered = self.once(&call).await?;
            let Some(target) = target(&answered, &call.url) else { return Ok(answered) };
            let next = target.map_err(|why| {
                Failed::fatal("http.redirect", format!("a redirect leads nowhere: {why}"))
            })?;
            if next.host_str() != call.url.host_str() {
                // What was meant for one host is nobody else's.
                call.headers.remove(header::AUTHORIZATION);
                call.headers.remove(header::COOKIE);
            }
            let keeps_method =
                matches!(answered.status.as_u16(), 307 | 308) || call.method == Method::HEAD;
            if !keeps_method {
                call.method = Method::GET;
                call.body.clear();
                call.headers.remove(header::CONTENT_TYPE);
            }
            call.url = next;
        }
        Err(Failed::fatal("http.redirect", format!("more than {REDIRECTS_MAX} redirects")))
    }

    async fn once(&self, call: &Call) -> Result<Answered, Failed> {
        let (host, addresses) = self.resolved(&call.url).await?;
        // A client for each request: it knows this one name, with the addresses that were compared.
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .user_agent(concat!("statehouse/", env!("CARGO_PKG_VERSION")))
            .resolve_to_addrs(&host, &addresses);
        // Installed before by whoever came first.
        let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = match call.url.scheme() {
            // Reading the system's certificates takes time, and plain text needs none.
            "http" => client.tls_certs_only(Vec::<reqwest::Certificate>::new()),
            _ => client,
        };
        let client = client
            .build()
            .map_err(|error| Failed::retryable("http.tls", statehouse_sdk::chain(&error)))?;
        let request = client
            .request(call.method.clone(), call.url.clone())
            .headers(call.headers.clone())
            .body(call.body.clone());
        let response = request.send().await.map_err(|error| broken(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| broken(&error))?;
            if body.len() + part.len() > ANSWER_BYTES_MAX {
                let message = format!("the answer is larger than {ANSWER_BYTES_MAX} bytes");
                return Err(Failed::fatal("http.too_large", message));
            }
            body.extend_from_slice(&part);
        }
        Ok(Answered { status, headers, body })
    }

    /// Resolves a URL's host and compares every address with what may be reached.
    async fn resolved(&self, url: &Url) -> Result<(String, Vec<SocketAddr>), Failed> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!("{}: only http and https are spoken", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a URL with a name or password in it; use a header"));
        }
        let host = url.host_str().ok_or_else(|| invalid("the URL names no host"))?.to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let addresses: Vec<SocketAddr> = match literal {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => tokio::net::lookup_host((host.as_str(), port))
                .await
                .map_err(|error| Failed::retryable("http.dns", format!("{host}: {error}")))?
                .collect(),
        };
        if addresses.is_empty() {
            return Err(Failed::retryable("http.dns", format!("{host} has no address")));
        }
        for address in &addresses {
            if let Some(why) = self.allowed.refuses(address.ip()) {
                let message = format!(
                    "{host} is {}: {why}; an operator can allow it (builtin.http_allow)",
                    address.ip()
                );
                return Err(Failed::fatal("http.forbidden_address", message));
            }
        }
        Ok((host, addresses))
    }
}

/// Returns where an answer leads, if it leads elsewhere.
fn target(answered: &Answered, from: &Url) -> Option<Result<Url, String>> {
    if !matches!(answered.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answered.headers.get(header::LOCATION)?;
    let Ok(location) = location.to_str() else { return Some(Err("it is no text".to_owned())) };
    Some(from.join(location).map_err(|error| error.to_string()))
}

fn broken(error: &reqwest::Error) -> Failed {
    let message = statehouse_sdk::chain(error);
    let code = if error.is_timeout() {
        "http.timeout"
    } else if error.is_connect() {
        "http.connect"
    } else {
        "http.broken"
    };
    Failed::retryable(code, message)
}

#[cfg(test)]
pub(super) mod tests;
