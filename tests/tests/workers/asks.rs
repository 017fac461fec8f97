//! What a test asks of a node: start, send, and look until it is so.

use std::time::Duration;

use serde_json::{Value, json};
use statehouse_sdk::{Client, Options, Outcome, ReadAt, Start, With};
use statehouse_tests::{patience::PATIENCE, stage::Stage};
use tokio::time::Instant;

/// A client of these addresses, as whoever a token names.
pub(crate) fn client_at(urls: impl IntoIterator<Item = String>, token: &str) -> Client {
    let mut options = Options::new(urls);
    options.token = Some(token.to_owned());
    "default".clone_into(&mut options.tenant);
    Client::new(options).unwrap()
}

/// A client of one node.
pub(crate) fn client_of(stage: &Stage, token: &str) -> Client {
    client_at([format!("http://{}", stage.server.address())], token)
}

pub(crate) async fn start(client: &Client, definition: &str, id: &str, input: Value) {
    let start = Start { definition, id: Some(id), input: Some(&input), ..Start::default() };
    client.start(start, With::default()).await.done().unwrap();
}

pub(crate) async fn event(client: &Client, id: &str, name: &str, data: Value) -> Outcome {
    client.event(id, name, data, With::default()).await
}

pub(crate) async fn sent(client: &Client, id: &str, name: &str, data: Value) {
    let outcome = event(client, id, name, data).await;
    assert!(matches!(outcome, Outcome::Accepted(_) | Outcome::Postponed(_)), "{name}: {outcome:?}");
}

/// Looks at an instance until it is so.
pub(crate) async fn until(
    client: &Client,
    id: &str,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = client.get(id, ReadAt::default()).await;
        let seen = seen.response().map(statehouse_sdk::Response::json).unwrap_or_default();
        if is_so(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{id} is never {what}: {seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn is_in(seen: &Value, state: &str) -> bool {
    let active = seen["configuration"].as_array().into_iter().flatten();
    active.filter_map(Value::as_str).any(|path| path.rsplit('.').next() == Some(state))
}

pub(crate) async fn in_state(client: &Client, id: &str, state: &str) {
    until(client, id, state, |seen| is_in(seen, state)).await;
}

pub(crate) async fn ended(client: &Client, id: &str) -> Value {
    until(client, id, "done", |seen| seen["status"] == "done").await["output"].clone()
}

pub(crate) fn order(id: &str, sku: &str, card: &str) -> Value {
    json!({
        "orderId": id, "lines": [{"sku": sku, "qty": 1}], "amount": 100, "currency": "EUR", "cardToken": card,
    })
}
