//! The client against a server that answers from a list.
//!
//! Each test lists the answers, makes one call, and looks at the outcome and at what the server was asked: same key on
//! every attempt, another server after a failure, no repeat where none was advised.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    calls::{Filter, ReadAt, Start, With},
    fake::{Fake, Reply},
    outcome::CallError,
    watch::WatchError,
};

mod several;

const OK: &str = r#"{"version":2,"from":["a"],"to":["b"]}"#;

fn client(servers: &[&Fake]) -> Client {
    let mut options = Options::new(servers.iter().map(|server| server.address.clone()));
    options.token = Some("secret".to_owned());
    options.budget = Budget {
        total: Duration::from_secs(20),
        attempt: Duration::from_millis(500),
        attempts_max: 10,
        unreached_max: 10,
    };
    Client::new(options).unwrap()
}

fn keys(fake: &Fake) -> Vec<String> {
    let key = |text: &String| {
        text.lines().find_map(|line| line.strip_prefix("idempotency-key: ").map(str::to_owned))
    };
    fake.asked().iter().filter_map(key).collect()
}

/// Returns an address at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn pay(client: &Client) -> Outcome {
    client.event("o-1", "pay", json!({"amount": 5}), With::default()).await
}

#[tokio::test]
async fn an_accepted_command_returns_its_bytes_tag_and_headers() {
    let headers = "etag: \"11.2\"\r\nidempotency-replayed: true\r\nx-statehouse-node: n1\r\n";
    let fake = Fake::start([Reply::Is(200, headers, OK.to_owned())]).await;
    let Outcome::Accepted(response) = pay(&client(&[&fake])).await else { panic!("not accepted") };
    assert_eq!(response.bytes, OK);
    assert_eq!(response.tag(), Some(statehouse_contract::Version { born: 11, version: 2 }));
    assert_eq!(
        (response.version(), response.is_replayed(), response.node()),
        (Some(2), true, Some("n1"))
    );
    let asked = fake.asked();
    assert!(
        asked[0].starts_with("POST /v1/tenants/default/instances/o-1/events/pay HTTP/1.1\r\n"),
        "{}",
        asked[0]
    );
    assert!(
        asked[0].contains("authorization: Bearer secret\r\n")
            && asked[0].ends_with("{\"amount\":5}"),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("x-statehouse-deadline-ms: "), "{}", asked[0]);
}

#[tokio::test]
async fn a_repeat_carries_the_same_key_and_waits_as_advised() {
    let advice = r#"{"code":"overloaded","retryable":true,"retry_after_ms":1}"#;
    let fake = Fake::start([
        Reply::json(503, advice),
        Reply::json(504, r#"{"code":"deadline_exceeded","retryable":true}"#),
        Reply::Cut,
        Reply::json(200, OK),
    ])
    .await;
    let Outcome::Accepted(response) = pay(&client(&[&fake])).await else { panic!("not accepted") };
    assert_eq!(response.attempts, 4);
    let keys = keys(&fake);
    assert_eq!(keys.len(), 4);
    assert!(
        keys.iter().all(|key| *key == keys[0] && Some(key) == response.key.as_ref()),
        "{keys:?}"
    );
}

#[tokio::test]
async fn a_rejection_is_not_repeated() {
    let body = r#"{"code":"version_conflict","retryable":false,"version":4,"source":"instance","detail":"at 4"}"#;
    let fake = Fake::start([Reply::json(412, body)]).await;
    let Outcome::Rejected(problem) = pay(&client(&[&fake])).await else { panic!("not rejected") };
    assert_eq!((problem.version, problem.status), (Some(4), 412));
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_command_that_was_cut_off_is_unknown_even_if_a_later_attempt_is_refused_at_the_door() {
    let fake = Fake::start([
        Reply::Cut,
        Reply::json(401, r#"{"code":"unauthenticated","source":"gateway"}"#),
    ])
    .await;
    let outcome = pay(&client(&[&fake])).await;
    let Outcome::Unknown(unknown) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(unknown.problem.as_ref().map(|problem| problem.status), Some(401));
    assert_eq!(unknown.key, Some(keys(&fake)[0].clone()));
}

#[tokio::test]
async fn a_server_that_is_down_is_left_for_the_next_one() {
    let down = nobody();
    let up = Fake::start([Reply::json(201, "{}")]).await;
    let mut options = Options::new([down, up.address.clone()]);
    options.tenant = "acme".to_owned();
    let start = Start { definition: "order", id: Some("o/1"), ..Start::default() };
    let outcome = Client::new(options)
        .unwrap()
        .start(start, With { key: Some("k-1"), ..With::default() })
        .await;
    assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    assert_eq!(keys(&up), ["k-1"]);
    assert!(
        up.asked()[0].ends_with(r#"{"definition":"order","input":{},"id":"o/1"}"#),
        "{}",
        up.asked()[0]
    );
}

#[tokio::test]
async fn a_server_that_is_down_certainly_did_nothing() {
    let down = nobody();
    let mut options = Options::new([down]);
    options.budget = Budget { attempts_max: 2, ..options.budget };
    let outcome = pay(&Client::new(options).unwrap()).await;
    let Outcome::Failed(failure) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.attempts, 2);
    assert!(matches!(outcome.done(), Err(CallError::Failed(_))));
}

#[tokio::test]
async fn a_server_that_hangs_leaves_the_outcome_unknown() {
    let fake = Fake::start([Reply::Hang]).await;
    let budget = Budget {
        total: Duration::from_millis(200),
        attempt: Duration::from_millis(200),
        attempts_max: 1,
        unreached_max: 1,
    };
    let outcome = pay(&client(&[&fake]).with_budget(budget)).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

#[tokio::test]
async fn every_call_asks_for_the_path_that_the_api_names() {
    let fake = Fake::start((0..20).map(|_| Reply::json(200, "{}"))).await;
    let client = client(&[&fake]).for_tenant("acme");
    let with = With {
        expected: Some(statehouse_contract::Version { born: 3, version: 4 }),
        ..With::default()
    };
    client.validate("id: x").await;
    client.definition("order", Some(2)).await;
    client.set_current("order", 2, With::default()).await;
    client.get("a", ReadAt { consistency: Some("stale"), min_version: Some(3) }).await;
    client
        .list(Filter { state: Some("paid"), limit: Some(5), all: true, ..Filter::default() })
        .await;
    client.history("a", Some(4), None).await;
    client.explain("a").await;
    client.receipt("a", "k 1", Some(Duration::from_secs(1))).await;
    client.operate("a", "cancel", "wrong order", json!(null), with).await;
    client.put_tenant("acme", With::default()).await;
    client.put_key("ci", &["caller"], With::default()).await;
    client.revoke_key("k1", None, With::default()).await;
    client.set_quota(json!({}), With::default()).await;
    client.cluster().await;
    client.ready().await;
    let asked = fake.asked();
    let lines: Vec<&str> =
        asked.iter().filter_map(|text| text.lines().next()?.strip_suffix(" HTTP/1.1")).collect();
    assert_eq!(
        lines,
        [
            "POST /v1/tenants/acme/definitions?dry_run=true",
            "GET /v1/tenants/acme/definitions/order/versions/2",
            "PUT /v1/tenants/acme/definitions/order/current",
            "GET /v1/tenants/acme/instances/a?consistency=stale&min_version=3",
            "GET /v1/tenants/acme/instances?state=paid&limit=5&all=true",
            "GET /v1/tenants/acme/instances/a/history?after=4",
            "GET /v1/tenants/acme/instances/a/explain",
            "GET /v1/tenants/acme/instances/a/receipts/k%201?wait=1000ms",
            "POST /v1/tenants/acme/instances/a/cancel",
            "POST /v1/tenants",
            "POST /v1/tenants/acme/keys",
            "POST /v1/tenants/acme/keys/k1/revoke",
            "POST /v1/tenants/acme/quota",
            "GET /v1/cluster",
            "GET /readyz",
        ]
    );
    assert!(
        asked[8].contains("if-match: \"3.4\"\r\n")
            && asked[8].ends_with(r#"{"reason":"wrong order"}"#),
        "{}",
        asked[8]
    );
    assert_eq!(keys(&fake).len(), 7, "every change has a key and no read has one");
}

#[tokio::test]
async fn a_watch_goes_on_behind_its_last_event_after_a_cut() {
    let fake = Fake::start([
        Reply::Stream("id: 1\ndata: one\n\nid: 2\ndata: tw".to_owned()),
        Reply::json(503, r#"{"code":"no_leader"}"#),
        Reply::Stream(": hello\n\nid: 2\ndata: two\n\n".to_owned()),
        Reply::json(410, r#"{"code":"compacted"}"#),
    ])
    .await;
    let mut watch = client(&[&fake]).watch("o-1", None, Duration::from_secs(20));
    assert_eq!(watch.next().await.unwrap().data, "one");
    assert_eq!(watch.next().await.unwrap().data, "two");
    assert_eq!(watch.cursor(), Some("2"));
    assert!(matches!(watch.next().await, Err(WatchError::Compacted)));
    let asked = fake.asked();
    assert!(!asked[0].contains("last-event-id"), "{}", asked[0]);
    assert!(
        asked[1].contains("last-event-id: 1\r\n") && asked[3].contains("last-event-id: 2\r\n"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_watch_whose_streams_end_at_once_pauses_and_ends() {
    let fake = Fake::start((0..10_000).map(|_| Reply::Stream("retry: 1\n\n".to_owned()))).await;
    let mut watch = client(&[&fake]).watch("o-1", None, Duration::from_secs(1));
    assert!(matches!(watch.next().await, Err(WatchError::Lost(_))));
    assert!((2..20).contains(&fake.asked().len()), "{}", fake.asked().len());
}

#[tokio::test]
async fn a_call_that_lets_the_server_wait_has_that_time_on_top() {
    let fake = Fake::start([Reply::json(200, OK), Reply::json(200, OK)]).await;
    let client = client(&[&fake]);
    client.receipt("o-1", "k", None).await;
    client.receipt("o-1", "k", Some(Duration::from_secs(15))).await;
    let told = |asked: &String| -> u64 {
        let line = asked.lines().find_map(|line| line.strip_prefix("x-statehouse-deadline-ms: "));
        line.unwrap().parse().unwrap()
    };
    let asked = fake.asked();
    assert_eq!((told(&asked[0]), told(&asked[1])), (500, 15_500));
    assert!(asked[1].contains("?wait=15000ms "), "{}", asked[1]);
}

#[tokio::test]
async fn a_redirect_is_no_success_and_is_not_followed() {
    let elsewhere = "location: https://login.example/\r\n";
    let fake = Fake::start([Reply::Is(302, elsewhere, String::new())]).await;
    let Outcome::Rejected(problem) = pay(&client(&[&fake])).await else { panic!("not rejected") };
    assert!(problem.detail.contains("to https://login.example/;"), "{}", problem.detail);
}

#[tokio::test]
async fn a_watch_that_no_server_serves_ends() {
    let down = nobody();
    let mut watch =
        Client::new(Options::new([down])).unwrap().watch_tenant(None, Duration::from_millis(100));
    assert!(matches!(watch.next().await, Err(WatchError::Lost(_))));
}

#[tokio::test]
async fn a_dump_is_read_line_by_line() {
    let fake = Fake::start([
        Reply::json(200, "{\"a\":1}\n{\"b\":2}\nlast"),
        Reply::json(403, r#"{"code":"forbidden"}"#),
    ])
    .await;
    let client = client(&[&fake]);
    let mut lines = client.dump(3).await.unwrap();
    let mut read = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        read.push(String::from_utf8(line.to_vec()).unwrap());
    }
    assert_eq!(read, ["{\"a\":1}", "{\"b\":2}", "last"]);
    assert!(matches!(client.dump(3).await, Err(CallError::Rejected(_))));
}

#[test]
fn a_client_refuses_options_that_cannot_work() {
    let build = |options: Options| Client::new(options).err();
    assert!(matches!(build(Options::new(Vec::<String>::new())), Some(BuildError::NoServer)));
    assert!(matches!(build(Options::new(["localhost:7400"])), Some(BuildError::Address(_))));
    let many = Options::new((0..65).map(|port| format!("http://localhost:{port}")));
    assert!(matches!(build(many), Some(BuildError::TooMany(65))));
    let token = Options { token: Some("a\nb".to_owned()), ..Options::new(["http://localhost"]) };
    assert!(matches!(build(token), Some(BuildError::Token)));
    let authority = Options {
        authority_pem: Some(
            b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n".to_vec(),
        ),
        ..Options::new(["https://localhost"])
    };
    assert!(matches!(build(authority), Some(BuildError::Authority(_) | BuildError::Http(_))));
}
