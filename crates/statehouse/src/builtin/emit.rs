//! The kind `emit`: an event to a webhook that the operator has named.
//!
//! The task's row is the outbox: it is there as long as the webhook has not taken the event, and the invoke's `retry` says
//! how often it is offered. What is sent is a CloudEvent 1.0 in structured mode; its id is the task's idempotency key, so a
//! receiver can tell a repeat.
//!
//! Deliberately absent: addresses from workflows; those are for `http`.

use std::{collections::BTreeMap, time::Duration};

use futures::future::BoxFuture;
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};
use statehouse_cluster::{Failed, Kind, Work};
use statehouse_contract::Json;

use super::{
    http::{Call, Caller, refused},
    invalid,
};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Webhooks by name.
pub(crate) type Webhooks = BTreeMap<String, Url>;

/// Reads `orders=https://example.com/hook, audit=…`.
pub(crate) fn parse_webhooks(text: &str) -> Result<Webhooks, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let webhook = |part: &str| {
        let (name, url) = part.split_once('=')?;
        let url = Url::parse(url.trim()).ok()?;
        let fits = !name.trim().is_empty() && matches!(url.scheme(), "http" | "https");
        fits.then(|| (name.trim().to_owned(), url))
    };
    parts
        .map(|part| {
            webhook(part).ok_or_else(|| {
                format!("{part:?} is no webhook; write a name and a URL, such as orders=https://example.com/hook")
            })
        })
        .collect()
}

/// The kind.
pub(super) struct Emit {
    caller: Caller,
    webhooks: Webhooks,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    webhook: String,
    event: String,
    #[serde(default)]
    data: Value,
}

impl Emit {
    pub(super) const fn new(caller: Caller, webhooks: Webhooks) -> Self {
        Self { caller, webhooks }
    }
}

impl Kind for Emit {
    fn name(&self) -> &'static str {
        "emit"
    }

    fn at_once(&self) -> usize {
        64
    }

    fn run(&self, work: Work) -> BoxFuture<'static, Result<Json, Failed>> {
        let caller = self.caller.clone();
        let prepared = self.prepared(&work);
        Box::pin(async move {
            let answered = caller.call(prepared?).await?;
            if answered.status.is_success() {
                return Ok(Json::from_value(&json!({ "status": answered.status.as_u16() })));
            }
            Err(refused(&answered))
        })
    }
}

impl Emit {
    fn prepared(&self, work: &Work) -> Result<Call, Failed> {
        let input: Input = serde_json::from_value(work.input.clone())
            .map_err(|error| invalid(format!("emit takes {{webhook, event, data}}: {error}")))?;
        let url = self.webhooks.get(&input.webhook).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.webhooks.keys().map(String::as_str).collect();
            invalid(format!(
                "there is no webhook {:?}; this node knows [{}] (builtin.webhooks)",
                input.webhook,
                known.join(", ")
            ))
        })?;
        let event = json!({
            "specversion": "1.0",
            "id": work.idempotency_key,
            "source": format!("/v1/tenants/{}/instances/{}", work.instance.tenant, work.instance.instance),
            "type": input.event,
            "datacontenttype": "application/json",
            "data": input.data,
        });
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
        if let Some(trace) = work.traceparent.as_deref().and_then(|t| HeaderValue::from_str(t).ok())
        {
            headers.insert("traceparent", trace);
        }
        if let Ok(key) = HeaderValue::from_str(&work.idempotency_key) {
            headers.insert("idempotency-key", key);
        }
        let body = event.to_string().into_bytes();
        Ok(Call { method: Method::POST, url, headers, body, timeout: TIMEOUT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_are_names_with_urls() {
        let found = parse_webhooks("a=https://x.example/h, b=http://y.example/?q=1").unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(found["b"].as_str(), "http://y.example/?q=1");
        assert_eq!(parse_webhooks(" ").unwrap(), Webhooks::new());
        for wrong in ["a", "a=", "=https://x.example", "a=ftp://x.example", "a=b"] {
            assert!(parse_webhooks(wrong).unwrap_err().contains("is no webhook"), "{wrong}");
        }
    }
}
