//! One request to the API, as plain data.
//!
//! Every typed call of [`crate::Client`] builds one of these and nothing else; a caller with a need of its own may do
//! the same. The credential and the deadline are not part of it: they belong to the client and are added when it is sent.

use std::{fmt::Write as _, time::Duration};

use serde_json::Value;
use statehouse_contract::{
    Bucket, InstanceId, InstanceKey, KeyText, TenantId, id::derived_instance,
};

/// The verb of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes or changes.
    Post,
    /// Chooses.
    Put,
    /// Takes away.
    Delete,
}

impl Method {
    /// Returns the word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What a request carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing.
    None,
    /// A JSON document.
    Json(Value),
    /// A definition as its author wrote it.
    Yaml(String),
}

impl Body {
    /// Returns the media type and the bytes.
    pub fn parts(&self) -> Option<(&'static str, String)> {
        match self {
            Self::None => None,
            Self::Json(value) => Some(("application/json", value.to_string())),
            Self::Yaml(text) => Some(("application/yaml", text.clone())),
        }
    }
}

/// A request to the API.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its verb.
    pub method: Method,
    /// Its path, from `/`, already escaped.
    pub path: String,
    /// Its query, in order, not yet escaped.
    pub query: Vec<(&'static str, String)>,
    /// Its headers besides those that every request carries.
    pub headers: Vec<(&'static str, String)>,
    /// Its idempotency key; a POST without one gets a new one when it is sent.
    pub key: Option<String>,
    /// What it carries.
    pub body: Body,
    /// Whether it gets a key when it has none.
    pub(crate) takes_key: bool,
    /// How long the server is asked to wait before it answers; calls and attempts may take that much longer.
    pub(crate) waits: Duration,
}

impl Request {
    /// Starts a request.
    pub fn new(method: Method, path: impl Into<String>, body: Body) -> Self {
        let (query, headers, key, waits) = (Vec::new(), Vec::new(), None, Duration::ZERO);
        let takes_key = method != Method::Get;
        Self { method, path: path.into(), query, headers, key, body, takes_key, waits }
    }

    /// Starts a request that reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::Get, path, Body::None)
    }

    /// Starts a request that makes or changes.
    pub fn post(path: impl Into<String>, body: Body) -> Self {
        Self::new(Method::Post, path, body)
    }

    /// Adds a query parameter, if there is a value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Asks the server to wait so long for what is not there yet, as the query parameter `wait`.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.waits = wait;
        self.with("wait", Some(format!("{}ms", wait.as_millis())))
    }

    /// Says that the server waits so long because the body asks for it.
    #[must_use]
    pub fn waiting_silently(mut self, wait: Duration) -> Self {
        self.waits = wait;
        self
    }

    /// Adds a header, if there is a value.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.headers.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Sets the idempotency key, if one is given.
    #[must_use]
    pub fn keyed(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned).or(self.key);
        self
    }

    /// Sends it without a key: doing it twice is as good as once, and nothing is kept of it.
    #[must_use]
    pub fn unkeyed(mut self) -> Self {
        self.takes_key = false;
        self
    }

    /// Returns path and query as they stand in the request line.
    pub fn target(&self) -> String {
        let mut text = self.path.clone();
        for (index, (name, value)) in self.query.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.push_str(&escape(value));
        }
        text
    }

    /// Returns the bucket of the instance that the request is about, if it is about one.
    ///
    /// Read from the path as it stands, so that a request that a caller built itself finds its leader too. The instance
    /// of a start stands in its body, or follows from its key.
    pub(crate) fn bucket(&self) -> Option<Bucket> {
        let (tenant, rest) = self.path.strip_prefix("/v1/tenants/")?.split_once('/')?;
        let tenant = TenantId::parse(tenant).ok()?;
        if let Some(task) = rest.strip_prefix("tasks/") {
            // A task's id begins with the bucket of its instance.
            let number = u16::from_str_radix(task.split_once('-')?.0, 16).ok()?;
            return Bucket::new(number);
        }
        let rest = rest.strip_prefix("instances")?;
        let instance = match rest.strip_prefix('/') {
            Some(rest) => InstanceId::parse(rest.split('/').next()?).ok()?,
            None if rest.is_empty() && self.method == Method::Post => self.started(&tenant)?,
            None => return None,
        };
        Some(InstanceKey { tenant, instance }.bucket())
    }

    fn started(&self, tenant: &TenantId) -> Option<InstanceId> {
        let Body::Json(body) = &self.body else { return None };
        match body.get("id") {
            Some(id) => InstanceId::parse(id.as_str()?).ok(),
            None => Some(derived_instance(tenant, &KeyText::parse(self.key.as_deref()?).ok()?)),
        }
    }

    /// Returns the request with a key: the given one, or a new one.
    ///
    /// A new key is a UUIDv7: it carries its time, so that a server can tell a key that is too old to be known.
    #[must_use]
    pub fn with_some_key(mut self) -> Self {
        if self.takes_key && self.key.is_none() {
            self.key = Some(uuid::Uuid::now_v7().to_string());
        }
        self
    }
}

/// Escapes what may not stand in a path segment or a query value (RFC 3986: all but unreserved).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_escaped() {
        let request = Request::get("/v1/x")
            .with("state", Some("a b&c=ü"))
            .with("tag", None::<&str>)
            .with("n", Some(2));
        assert_eq!(request.target(), "/v1/x?state=a%20b%26c%3D%C3%BC&n=2");
    }

    #[test]
    fn a_request_about_an_instance_knows_its_bucket() {
        let key = |instance: &str| InstanceKey {
            tenant: TenantId::parse("acme").unwrap(),
            instance: InstanceId::parse(instance).unwrap(),
        };
        let start = |body| Request::post("/v1/tenants/acme/instances", Body::Json(body));
        let table = [
            (Request::get("/v1/tenants/acme/instances/a-1"), Some("a-1")),
            (Request::get("/v1/tenants/acme/instances/a-1/receipts/k"), Some("a-1")),
            (Request::post("/v1/tenants/acme/instances/a-1/events/pay", Body::None), Some("a-1")),
            (start(serde_json::json!({"id": "a-1"})), Some("a-1")),
            (start(serde_json::json!({})).keyed(Some("k-1")), Some("i-mphgespol7lgfzkq5qlvl5wekm")),
            (start(serde_json::json!({})), None),
            (Request::get("/v1/tenants/acme/instances"), None),
            (Request::get("/v1/tenants/acme/definitions/a-1"), None),
            (Request::get("/v1/tenants/acme/instances/a%2F1"), None),
            (Request::get("/v1/tenants/acme"), None),
            (Request::get("/v1/cluster"), None),
        ];
        for (request, instance) in table {
            assert_eq!(request.bucket(), instance.map(|id| key(id).bucket()), "{}", request.path);
        }
    }

    #[test]
    fn a_change_gets_a_key_once_and_a_read_gets_none() {
        let request = Request::post("/", Body::None).with_some_key();
        assert_eq!(request.clone().with_some_key().key, request.key);
        assert!(request.key.is_some());
        assert_eq!(Request::get("/").with_some_key().key, None);
        assert_eq!(
            Request::post("/", Body::None).keyed(Some("k")).with_some_key().key.as_deref(),
            Some("k")
        );
    }
}
