//! Questions: what they ask of the house and how the answers look.

use expect_test::expect;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use statehouse_contract::{
    Answer, Consistency, Digest, Query, Rejection, RejectionCode, WatchScope,
};

use super::{Ask, Face, Fake, answers};

fn get(path: &str) -> Ask {
    Ask::get(format!("/v1/tenants/acme{path}")).token("acme-reader")
}

#[tokio::test]
async fn an_instance_comes_with_its_tag() {
    let face = Face::new(Fake::new());
    expect![[r#"
        200
        content-type: application/json
        etag: "17.3"
        {"id":"a-1","definition":"approval","definition_version":1,"born":17,"version":3,"configuration":["waiting"],"status":"running","tags":["open"],"context":{"amount":12},"output":{},"error":{"code":"x","message":"y"},"timers":[{"id":"after.30s.waiting","due":"2026-01-01T00:00:30.000Z","generation":1,"held":true}],"tasks":[{"id":"0af-a-1-1-1","invoke":"pay","src":"task:pay","input":{},"attempt":1,"queue":"pay","state":"ready","ready_at":"2026-01-01T00:00:00.000Z"}],"postponed":["approve"],"created_at":"2026-01-01T00:00:00.000Z","updated_at":"2026-01-01T00:00:00.000Z","position":19,"age_ms":0}
    "#]].assert_eq(&face.send(get("/instances/a-1")).await.transcript());
    for (text, expected) in [
        ("linearizable", Consistency::Linearizable),
        ("leader", Consistency::Leader),
        ("stale", Consistency::Stale),
    ] {
        let path = format!("/instances/a-1?consistency={text}&min_version=7");
        assert_eq!(face.send(get(&path)).await.status, 200);
        let Query::Instance { consistency, min_version, remaining_ms, .. } = face.fake.last_query()
        else {
            panic!()
        };
        assert_eq!((consistency, min_version, remaining_ms), (expected, Some(7), 10_000));
    }
}

#[tokio::test]
async fn an_instance_may_be_called_search() {
    let face = Face::new(Fake::new());
    assert_eq!(face.send(get("/instances/search")).await.status, 200);
    let Query::Instance { key, .. } = face.fake.last_query() else { panic!() };
    assert_eq!(key.instance.as_str(), "search");
    let ask = Ask::post("/v1/tenants/acme/instances/search/events/x", "");
    assert_eq!(face.send(ask).await.status, 200);
}

#[tokio::test]
async fn a_filter_means_the_same_in_query_and_body() {
    let face = Face::new(Fake::new());
    let query = "/instances?state=waiting&definition=approval&status=paused&tag=a%20b&all=true&limit=7&cursor=v1:x&complete";
    assert_eq!(face.send(get(query)).await.status, 200);
    let first = face.fake.last_query();
    let body = r#"{"state": "waiting", "definition": "approval", "status": "paused", "tag": "a b", "all": true, "limit": 7, "cursor": "v1:x", "complete": true}"#;
    let ask = Ask::post("/v1/tenants/acme/instances/search", body).token("acme-reader");
    let seen = face.send(ask.without("idempotency-key")).await;
    assert_eq!(face.fake.last_query(), first);
    expect![[r#"
        200
        content-type: application/json
        {"items":[{"id":"a-1","definition":"approval","definition_version":1,"version":3,"configuration":["waiting"],"status":"running","tags":[],"created_at":"2026-01-01T00:00:00.000Z","updated_at":"2026-01-01T00:00:00.000Z"}],"page":{"end_cursor":"v1:end","has_more":false,"missing_shards":[3]}}
    "#]].assert_eq(&seen.transcript());
}

#[tokio::test]
async fn history_explain_and_receipts_are_passed_through() {
    let face = Face::new(Fake::new());
    for path in ["/instances/a-1/history?after=3&limit=2", "/instances/a-1/explain"] {
        assert_eq!(face.send(get(path)).await.status, 200, "{path}");
    }
    let seen = face.send(get("/instances/a-1/receipts/k-9?wait=1s")).await;
    expect![[r#"
        202
        content-type: application/json
        etag: "17.2"
        {"postponed":true,"ticket":"t","version":2,"position":18}
    "#]]
    .assert_eq(&seen.transcript());
    let Query::Receipt { idempotency, wait_ms, .. } = face.fake.last_query() else { panic!() };
    assert_eq!((idempotency.as_str(), wait_ms), ("k-9", 1_000));
}

#[tokio::test]
async fn a_long_poll_is_one_answer() {
    let face = Face::new(Fake::new());
    let seen = face.send(get("/instances/a-1/watch?after=v1:0&wait=30s&limit=5")).await;
    assert_eq!(seen.json()["page"]["end_cursor"], "v1:1");
    let Query::Changes { scope, after, limit, wait_ms, complete } = face.fake.last_query() else {
        panic!()
    };
    assert!(matches!(scope, WatchScope::Instance(_)));
    assert_eq!((after.as_deref(), limit, wait_ms), (Some("v1:0"), 5, 30_000));
    assert!(!complete);
    assert_eq!(face.send(get("/watch?after=&wait=1ms&complete=true")).await.status, 200);
    let Query::Changes { scope, after, complete, .. } = face.fake.last_query() else { panic!() };
    assert!(matches!(scope, WatchScope::Tenant(_)));
    assert_eq!((after, complete), (None, true));
}

/// Tells version 1 at once, then 2 and 3 together without two shards, then nothing without one, then nothing, then that the
/// rest is gone.
fn story(query: &Query) -> Result<Answer, Rejection> {
    let Query::Changes { after, .. } = query else { return answers::answer(query) };
    let (versions, missing, cursor): (&[u64], &[u32], _) = match after.as_deref() {
        None | Some("v1:0") => (&[1], &[], "v1:1"),
        Some("v1:1") => (&[2, 3], &[0, 2], "v1:3"),
        Some("v1:3") => (&[], &[0, 2], "v1:4"),
        Some("v1:4") => (&[], &[], "v1:5"),
        _ => {
            return Err(Rejection::gateway(RejectionCode::Compacted, "that is no longer kept"));
        }
    };
    let items = versions.iter().map(|version| answers::transition(*version)).collect();
    let mut changes = answers::changes(items, cursor);
    changes.page.missing_shards = missing.to_vec();
    Ok(Answer::Changes(changes))
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_changes_comments_and_its_end() {
    let face = Face::new(Fake::new().telling(story));
    let seen = face.send(get("/instances/a-1/watch").header("last-event-id", "v1:0")).await;
    assert_eq!(seen.header("content-type"), Some("text/event-stream"));
    let text: String = seen
        .text()
        .lines()
        .map(|line| line.split_once(":{").map_or(line, |(head, _)| head).to_owned() + "\n")
        .map(|line| {
            if line.starts_with("data") && !line.contains("missing_shards") {
                "data\n".to_owned()
            } else {
                line
            }
        })
        .collect();
    expect![[r#"
        retry: 1000

        id: v1:1
        event: transition
        data

        id: v1:2
        event: transition
        data

        id: v1:3
        event: transition
        data

        event: shards
        data: {"missing_shards":[0, 2]}

        : nothing yet

        event: shards
        data: {"missing_shards":[]}

        event: problem
        data

    "#]]
    .assert_eq(&text);
}

#[tokio::test]
async fn a_cursor_that_is_gone_is_a_plain_410() {
    let face = Face::new(Fake::new().telling(story));
    let seen = face.send(get("/instances/a-1/watch?after=v1:999")).await;
    assert_eq!(seen.refusal(), "410 compacted: that is no longer kept");
}

/// Never has anything to tell.
fn quiet(query: &Query) -> Result<Answer, Rejection> {
    let Query::Changes { after, .. } = query else { return answers::answer(query) };
    let cursor = after.as_deref().unwrap_or("v1:0");
    Ok(Answer::Changes(answers::changes(Vec::new(), cursor)))
}

async fn open(face: &Face) -> axum::body::BodyDataStream {
    let request = get("/watch").request();
    let response = tower::ServiceExt::oneshot(face.router.clone(), request).await.unwrap();
    response.into_body().into_data_stream()
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_its_key_is_revoked() {
    let face = Face::new(Fake::new().telling(quiet));
    let mut stream = open(&face).await;
    assert!(stream.next().await.unwrap().unwrap().starts_with(b"retry: "));
    assert_eq!(&stream.next().await.unwrap().unwrap()[..], b": nothing yet\n\n");
    face.fake.keys.lock().unwrap().clear();
    *face.clock.0.lock().unwrap() += 5_000;
    let last = stream.next().await.unwrap().unwrap();
    assert!(last.starts_with(b"event: problem\ndata: {\"type\":\"/errors/unauthenticated\""));
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_the_node_drains() {
    let face = Face::new(Fake::new().telling(quiet));
    let mut stream = open(&face).await;
    assert!(stream.next().await.is_some());
    face.state.draining().cancel();
    assert!(stream.next().await.is_none());
    let said = face.send(get("/watch")).await.refusal();
    assert_eq!(said, "503 draining: this node is shutting down");
}

#[tokio::test]
async fn a_dump_is_every_page_one_object_a_line() {
    let face = Face::new(Fake::new());
    let seen = face.send(Ask::get("/v1/cluster/shards/0/dump")).await;
    expect![[r#"
        200
        content-type: application/x-ndjson
        {"e":"entry","pos":1}
        {"e":"entry","pos":2}
        {"e":"entry","pos":3}

    "#]]
    .assert_eq(&seen.transcript());
}

#[tokio::test]
async fn a_copy_of_a_shard_says_what_has_to_come_and_comes_whole() {
    let face = Face::new(Fake::new());
    let seen = face.send(Ask::get("/v1/cluster/shards/3/snapshot")).await;
    let header = |name: &str| seen.header(name).unwrap().to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    let told = ["cluster", "shards", "position", "term", "level"]
        .map(|name| header(&format!("x-statehouse-{name}")));
    assert_eq!(told, ["c0ffee", "4", "9", "2", "1"]);
    assert_eq!(header("content-length"), seen.body.len().to_string());
    assert_eq!(header("x-statehouse-digest"), Digest::of(&seen.body).to_string());
    let said = face.send(Ask::get("/v1/cluster/shards/4/snapshot")).await.refusal();
    assert_eq!(said, "400 invalid_request: there is no such shard");
}

#[tokio::test]
async fn a_copy_that_ends_too_early_breaks_the_answer() {
    let face = Face::new(Fake { copy_short_by: 1, ..Fake::new() });
    let ask = Ask::get("/v1/cluster/shards/0/snapshot").request();
    let response = face.router.clone().oneshot(ask).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn cluster_health_and_metrics_are_told() {
    let face = Face::new(Fake::new());
    assert_eq!(face.send(Ask::get("/v1/cluster?instance=a-1")).await.status, 200);
    let Query::Cluster { instance } = face.fake.last_query() else { panic!() };
    assert_eq!(instance.unwrap().to_string(), "acme/a-1");
    for (path, expected) in [
        ("/healthz", "{\"alive\":true}"),
        ("/readyz", "{\"ready\":true,\"waiting_for\":[],\"apply_lag\":0}"),
    ] {
        let seen = face.send(Ask::get(path).without("authorization")).await;
        assert_eq!((seen.status.as_u16(), seen.text()), (200, expected));
    }
    let unready = Face::new(Fake { ready: false, ..Fake::new() });
    let seen = unready.send(Ask::get("/readyz")).await;
    assert_eq!(seen.status, 503);
    face.send(Ask::post("/v1/tenants/acme/instances/a-1/events/x", "").token("nobody")).await;
    let text = face.send(Ask::get("/metrics")).await.text().to_owned();
    for line in [
        "statehouse_commands_total{operation=\"send\",outcome=\"denied\"} 1",
        "statehouse_api_request_duration_seconds_count{outcome=\"ok\",route=\"cluster\"} 1",
        "statehouse_api_requests_active 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn every_answer_has_the_same_safe_headers() {
    let face = Face::new(Fake::new());
    for ask in [get("/instances/a-1"), Ask::get("/nowhere"), get("/instances/a-1").token("x")] {
        let seen = face.send(ask).await;
        assert_eq!(seen.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(seen.header("cache-control"), Some("no-store"));
        assert_eq!(seen.header("x-statehouse-node"), Some("n1.1"));
        assert!(seen.header("content-security-policy").is_some());
    }
}

#[tokio::test]
async fn ten_thousand_tenants_make_no_more_series_than_two() {
    let face = Face::new(Fake::new());
    let series = async || {
        let text = face.send(Ask::get("/metrics")).await.text().to_owned();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let visit = async |n: usize| {
        for path in ["instances", "instances/i/explain", "tasks"] {
            face.send(Ask::get(format!("/v1/tenants/t-{n}/{path}"))).await;
        }
        face.send(Ask::post(format!("/v1/tenants/t-{n}/instances/i-{n}/events/e-{n}"), "{}")).await;
    };
    visit(0).await;
    visit(1).await;
    // To ask for metrics is a request, too.
    series().await;
    let few = series().await;
    for n in 2..10_000 {
        visit(n).await;
    }
    assert_eq!(series().await, few, "whoever comes adds to sums");
}
