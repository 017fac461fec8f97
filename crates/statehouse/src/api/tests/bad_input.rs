//! Bad input: every line is a request that must be refused, with the reason that it gets.

use expect_test::expect;
use statehouse_contract::{Rejection, RejectionCode, Version, limits};

use super::{Ask, Face, Fake};

const EVENT: &str = "/v1/tenants/acme/instances/a-1/events/approve";
const START: &str = "/v1/tenants/acme/instances";

/// Sends each request and writes `what -> status code: detail`; nothing may reach the house.
async fn said(table: Vec<(&str, Ask)>) -> String {
    let face = Face::new(Fake::new());
    let mut text = String::new();
    for (what, ask) in table {
        let seen = face.send(ask).await;
        assert_eq!(seen.header("x-statehouse-error-source"), Some("gateway"), "{what}");
        text.push_str(&format!("{what} -> {}\n", seen.refusal()));
    }
    assert!(face.fake.commands.lock().unwrap().is_empty(), "something came through");
    text
}

#[tokio::test]
async fn bodies() {
    let bomb = "[".repeat(500_000);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(70), "]".repeat(70));
    let wide = format!("{{\"a\":\"{}\"}}", "x".repeat(limits::PAYLOAD_BYTES_MAX));
    let ten = vec![b' '; 10 * 1024 * 1024];
    let ten_announced = Ask::post(EVENT, ten.clone()).header("content-length", "10485760");
    let table = vec![
        ("malformed", Ask::post(EVENT, "{\"a\": 1,\n \"b\" 2}")),
        ("cut off", Ask::post(EVENT, "{\"a\": ")),
        ("no object", Ask::post(EVENT, "[1]")),
        ("twice", Ask::post(EVENT, "{\"a\": 1, \"a\": 2}")),
        ("depth bomb", Ask::post(EVENT, bomb)),
        ("deep", Ask::post(EVENT, deep)),
        ("not UTF-8", Ask::post(EVENT, b"{\"a\": \"\xff\"}".to_vec())),
        ("10 MiB", Ask::post(EVENT, ten)),
        ("10 MiB announced", ten_announced),
        ("payload too large", Ask::post(EVENT, wide.clone())),
        (
            "input too large",
            Ask::post(START, format!("{{\"definition\": \"d\", \"input\": {wide}}}")),
        ),
        ("compressed", Ask::post(EVENT, "x").header("content-encoding", "gzip")),
        ("unknown member", Ask::post(START, r#"{"definition": "d", "inputs": {}}"#)),
        ("missing member", Ask::post(START, "{}")),
        ("wrong kind", Ask::post(START, r#"{"definition": 7}"#)),
        ("bad name", Ask::post(START, r#"{"definition": "a b"}"#)),
        ("bad id", Ask::post(START, r#"{"definition": "d", "id": "a/b"}"#)),
        ("bad version", Ask::post(START, r#"{"definition": "d", "version": -1}"#)),
        ("huge version", Ask::post(START, r#"{"definition": "d", "version": 4294967296}"#)),
        ("no reason", Ask::post("/v1/tenants/acme/instances/a-1/cancel", "{}")),
        ("empty reason", Ask::post("/v1/tenants/acme/instances/a-1/cancel", r#"{"reason": " "}"#)),
        (
            "bad task",
            Ask::post("/v1/tenants/acme/instances/a-1/retry", r#"{"reason": "x", "task": "t"}"#),
        ),
        ("long wait", Ask::post(START, r#"{"definition": "d", "wait": "2m"}"#)),
        ("bad status", Ask::post("/v1/tenants/acme/instances/search", r#"{"status": "open"}"#)),
    ];
    expect![[r#"
        malformed -> 400 invalid_request: the body cannot be read as JSON: line 2, column 6: expected `:`
        cut off -> 400 invalid_request: the body cannot be read as JSON: line 1, column 6: EOF while parsing a value
        no object -> 400 invalid_request: the body has to be a JSON object; it is a list
        twice -> 400 invalid_request: the body cannot be read as JSON: line 1, column 12: the key "a" comes twice
        depth bomb -> 400 invalid_request: the body cannot be read as JSON: line 1, column 65: lists and objects are nested deeper than document_depth_max, 64
        deep -> 400 invalid_request: the body cannot be read as JSON: line 1, column 69: lists and objects are nested deeper than document_depth_max, 64
        not UTF-8 -> 400 invalid_request: the body cannot be read as JSON: line 1, column 8: invalid unicode code point
        10 MiB -> 413 payload_too_large: the body is larger than body_bytes_max, 1048576 bytes
        10 MiB announced -> 413 payload_too_large: the body is larger than body_bytes_max, 1048576 bytes
        payload too large -> 413 payload_too_large: the payload is larger than payload_bytes_max, 32768 bytes
        input too large -> 413 payload_too_large: the input is larger than payload_bytes_max, 32768 bytes
        compressed -> 400 invalid_request: header Content-Encoding: compressed bodies are not taken; send it as identity
        unknown member -> 400 invalid_request: there is no body member "inputs"; allowed are definition, version, id, input, wait
        missing member -> 400 invalid_request: the body lacks the member definition: a text (the definition's name)
        wrong kind -> 400 invalid_request: body member definition is a number; it takes a text
        bad name -> 400 invalid_request: body member definition: definition name has ' ' at byte 1; allowed are A-Z, a-z, 0-9, _ and -
        bad id -> 400 invalid_request: body member id: instance id has '/' at byte 1; allowed are A-Z, a-z, 0-9, . _ and -
        bad version -> 400 invalid_request: body member version is a number; it takes a non-negative integer
        huge version -> 400 invalid_request: body member version: versions are numbers below 4294967296
        no reason -> 400 invalid_request: the body lacks the member reason: a text (why, for the audit)
        empty reason -> 400 invalid_request: body member reason is empty; say why, for the audit
        bad task -> 400 invalid_request: body member task: task id "t" is not of the form <bucket>-<instance>-<version>-<n>
        long wait -> 400 invalid_request: body member wait is "2m"; it takes at most wait_ms_max, 60000 ms
        bad status -> 400 invalid_request: status is "open"; allowed are running, paused, faulted, compensating, done, failed, cancelled, terminated
    "#]].assert_eq(&said(table).await);
}

#[tokio::test]
async fn headers() {
    let post = || Ask::post(EVENT, "{}");
    let table = vec![
        ("no key", post().without("idempotency-key")),
        ("no key to start", Ask::post(START, r#"{"definition": "d"}"#).without("idempotency-key")),
        ("key with space", post().header("idempotency-key", "a b")),
        ("long key", post().header("idempotency-key", "k".repeat(129))),
        ("binary key", post().header("idempotency-key", b"\xff\xfe".to_vec())),
        ("if-match", post().header("if-match", "\"3\"")),
        ("binary if-match", post().header("if-match", b"\x80".to_vec())),
        ("correlation", post().header("x-correlation-id", "é")),
        ("deadline 0", post().header("x-statehouse-deadline-ms", "0")),
        ("deadline text", post().header("x-statehouse-deadline-ms", "soon")),
        ("postpone", post().header("x-statehouse-postpone-ms", "-1")),
        ("no token", post().without("authorization")),
        ("no bearer", post().header("authorization", "Basic YTpi")),
        ("binary token", post().header("authorization", b"Bearer \xff".to_vec())),
        ("unknown token", post().token("nobody")),
        ("wrong role", post().token("acme-reader")),
        ("role of the author's own", post().token("acme-manager")),
    ];
    expect![[r#"
        no key -> 400 invalid_request: send the header Idempotency-Key: 1 to 128 visible ASCII characters, new for every command and the same for its repeats
        no key to start -> 400 invalid_request: send the header Idempotency-Key: 1 to 128 visible ASCII characters, new for every command and the same for its repeats
        key with space -> 400 invalid_request: header Idempotency-Key: idempotency key has ' ' at byte 1; allowed are visible ASCII characters
        long key -> 400 invalid_request: header Idempotency-Key: idempotency key has 129 bytes, at most 128 are allowed
        binary key -> 400 invalid_request: header Idempotency-Key is not UTF-8 from byte 0 on
        if-match -> 400 invalid_request: header If-Match: version "\"3\"" is not of the form "<born>.<version>", as ETag gives it
        binary if-match -> 400 invalid_request: header If-Match is not UTF-8 from byte 0 on
        correlation -> 400 invalid_request: header X-Correlation-Id: correlation id has 'é' at byte 0; allowed are visible ASCII characters
        deadline 0 -> 400 invalid_request: header X-Statehouse-Deadline-Ms is not a number of milliseconds from 1 to 60000
        deadline text -> 400 invalid_request: header X-Statehouse-Deadline-Ms is not a number of milliseconds from 1 to 60000
        postpone -> 400 invalid_request: header X-Statehouse-Postpone-Ms is not a number of milliseconds from 1 to 2592000000
        no token -> 401 unauthenticated: send the header Authorization: Bearer <token>
        no bearer -> 401 unauthenticated: header Authorization is not of the form Bearer <token>
        binary token -> 401 unauthenticated: header Authorization is not of the form Bearer <token>
        unknown token -> 401 unauthenticated: the bearer token is unknown or revoked
        wrong role -> 403 forbidden: this needs one of the roles caller, admin; the credential has none of them
        role of the author's own -> 403 forbidden: this needs one of the roles caller, admin; the credential has none of them
    "#]].assert_eq(&said(table).await);
}

#[tokio::test]
async fn paths_and_queries() {
    let get = |path: &str| Ask::get(format!("/v1/tenants/acme{path}"));
    let table = vec![
        ("slash", get("/instances/a%2Fb")),
        ("unicode", get("/instances/%C3%A9t%C3%A9")),
        ("colon", get("/instances/a:b")),
        ("space", get("/instances/a%20b")),
        ("nothing but a space", get("/instances/%20")),
        ("not UTF-8", get("/instances/%ff")),
        ("long", get(&format!("/instances/{}", "a".repeat(129)))),
        (
            "long event",
            Ask::post(format!("/v1/tenants/acme/instances/a/events/{}", "e".repeat(129)), ""),
        ),
        ("bad definition", get("/definitions/a.b")),
        ("bad version", get("/definitions/a/versions/x")),
        ("bad shard", Ask::get("/v1/cluster/shards/-1/dump")),
        ("bad shard of a copy", Ask::get("/v1/cluster/shards/x/snapshot")),
        ("consistency", get("/instances/a?consistency=strong")),
        ("min_version", get("/instances/a?min_version=two")),
        ("unknown parameter", get("/instances?statsu=done")),
        ("twice", get("/instances?tag=a&tag=b")),
        ("status", get("/instances?status=open")),
        ("limit", get("/instances?limit=501")),
        ("limit 0", get("/instances?limit=0")),
        ("broken encoding", get("/instances?tag=%zz")),
        ("cursor", get("/instances?cursor=a%0ab")),
        ("wait", get("/instances/a/watch?wait=61s")),
        ("wait unit", get("/instances/a/watch?wait=5")),
        ("last event id", get("/instances/a/watch").header("last-event-id", "a b")),
        ("receipt key", get("/instances/a/receipts/%20")),
        (
            "no version to move to",
            Ask::post("/v1/tenants/acme/instances/a/migrate", r#"{"reason": "x"}"#),
        ),
        (
            "no id of a new instance",
            Ask::post(
                "/v1/tenants/acme/instances/a/reset",
                r#"{"reason": "x", "version": 2, "instance": "a b"}"#,
            ),
        ),
        (
            "no verb of a batch",
            Ask::post("/v1/tenants/acme/batches", r#"{"name": "b", "reason": "x"}"#),
        ),
        ("no queues", Ask::post("/v1/tenants/acme/tasks/lease", "")),
        ("no such node", Ask::post("/v1/cluster/nodes/9/drain", r#"{"reason": "x"}"#)),
        ("no reason", Ask::post("/v1/cluster/nodes/1/drain", "")),
        ("no node", Ask::post("/v1/cluster/shards/0/transfer", r#"{"to": "two"}"#)),
        ("no such shard", Ask::post("/v1/cluster/shards/9/transfer", "")),
        ("no level", Ask::post("/v1/cluster/shards/0/raise", "{}")),
        ("level 0", Ask::post("/v1/cluster/shards/0/raise", r#"{"level": 0}"#)),
        ("huge level", Ask::post("/v1/cluster/shards/0/raise", r#"{"level": 65536}"#)),
        ("half a level", Ask::post("/v1/cluster/shards/0/raise", r#"{"level": 1.5}"#)),
        (
            "level without a key",
            Ask::post("/v1/cluster/shards/0/raise", r#"{"level": 2}"#).without("idempotency-key"),
        ),
    ];
    expect![[r#"
        slash -> 400 invalid_request: path, segment {id}: instance id has '/' at byte 1; allowed are A-Z, a-z, 0-9, . _ and -
        unicode -> 400 invalid_request: path, segment {id}: instance id has 'é' at byte 0; allowed are A-Z, a-z, 0-9, . _ and -
        colon -> 400 invalid_request: path, segment {id}: instance id has ':' at byte 1; allowed are A-Z, a-z, 0-9, . _ and -
        space -> 400 invalid_request: path, segment {id}: instance id has ' ' at byte 1; allowed are A-Z, a-z, 0-9, . _ and -
        nothing but a space -> 400 invalid_request: path, segment {id}: instance id has ' ' at byte 0; allowed are A-Z, a-z, 0-9, . _ and -
        not UTF-8 -> 400 invalid_request: the path is not percent-encoded UTF-8
        long -> 400 invalid_request: path, segment {id}: instance id has 129 bytes, at most 128 are allowed
        long event -> 400 invalid_request: path, segment {event}: has 129 bytes, at most 128 are allowed
        bad definition -> 400 invalid_request: path, segment {name}: definition name has '.' at byte 1; allowed are A-Z, a-z, 0-9, _ and -
        bad version -> 400 invalid_request: path, segment {n}: "x" is not a number
        bad shard -> 400 invalid_request: path, segment {s}: "-1" is not a number
        bad shard of a copy -> 400 invalid_request: path, segment {s}: "x" is not a number
        consistency -> 400 invalid_request: query parameter consistency is "strong"; allowed are linearizable, leader, stale
        min_version -> 400 invalid_request: query parameter min_version is "two"; it takes a non-negative integer
        unknown parameter -> 400 invalid_request: there is no query parameter "statsu"; allowed are state, definition, status, tag, all, limit, cursor, complete
        twice -> 400 invalid_request: query parameter tag comes more than once
        status -> 400 invalid_request: status is "open"; allowed are running, paused, faulted, compensating, done, failed, cancelled, terminated
        limit -> 400 invalid_request: limit is 501; it takes 1 to page_max, 500
        limit 0 -> 400 invalid_request: limit is 0; it takes 1 to page_max, 500
        broken encoding -> 400 invalid_request: the query holds "%zz", which is not percent-encoded UTF-8
        cursor -> 400 invalid_request: cursor is not a position that Statehouse gave out: 1 to 4096 visible ASCII characters
        wait -> 400 invalid_request: wait is "61s"; it takes at most wait_ms_max, 60000 ms
        wait unit -> 400 invalid_request: query parameter wait is "5"; it takes a duration such as 30s or 500ms
        last event id -> 400 invalid_request: header Last-Event-ID is not a position that Statehouse gave out: 1 to 4096 visible ASCII characters
        receipt key -> 400 invalid_request: path, segment {key}: idempotency key has ' ' at byte 0; allowed are visible ASCII characters
        no version to move to -> 400 invalid_request: the body lacks the member to: a non-negative integer (the version to move to)
        no id of a new instance -> 400 invalid_request: body member instance: instance id has ' ' at byte 1; allowed are A-Z, a-z, 0-9, . _ and -
        no verb of a batch -> 400 invalid_request: the body lacks the member verb: a text (cancel, terminate, pause, resume, retry, skip, migrate or reset)
        no queues -> 400 invalid_request: the body lacks the member queues: a list of texts (the queues that the worker serves)
        no such node -> 400 invalid_request: path, segment {n}: "9" is no member; there are n1.1
        no reason -> 400 invalid_request: the body lacks the member reason: a text (why, for the audit)
        no node -> 400 invalid_request: body member to: node "two" is no n<number>.<incarnation>, such as n2.1
        no such shard -> 400 invalid_request: there is no such shard
        no level -> 400 invalid_request: the body lacks the member level: a non-negative integer (the level; a shard that has it or a higher one stays as it is)
        level 0 -> 400 invalid_request: body member level: feature levels are 1 to 65535
        huge level -> 400 invalid_request: body member level: feature levels are 1 to 65535
        half a level -> 400 invalid_request: body member level is a number; it takes a non-negative integer
        level without a key -> 400 invalid_request: send the header Idempotency-Key: 1 to 128 visible ASCII characters, new for every command and the same for its repeats
    "#]].assert_eq(&said(table).await);
}

#[tokio::test]
async fn what_is_not_there_is_told_in_problem_documents_too() {
    let table = vec![
        ("unknown route", Ask::get("/v2/x")),
        ("root", Ask::get("/")),
        ("raw slash", Ask::get("/v1/tenants/acme/instances/a/b")),
        ("wrong method", Ask::new("DELETE", "/v1/tenants/acme/instances/a")),
        ("strange method", Ask::new("BREW", "/v1/tenants/acme/instances")),
        ("unknown code", Ask::get("/errors/nonsense")),
    ];
    expect![[r#"
        unknown route -> 404 invalid_request: there is no such route; /openapi.json lists them all, and no name holds a slash
        root -> 404 invalid_request: there is no such route; /openapi.json lists them all, and no name holds a slash
        raw slash -> 404 invalid_request: there is no such route; /openapi.json lists them all, and no name holds a slash
        wrong method -> 405 invalid_request: this path does not take this method; the header Allow says which it takes
        strange method -> 405 invalid_request: this path does not take this method; the header Allow says which it takes
        unknown code -> 404 invalid_request: there is no rejection of this name
    "#]].assert_eq(&said(table).await);
    let face = Face::new(Fake::new());
    let seen = face.send(Ask::new("DELETE", "/v1/tenants/acme/instances")).await;
    assert_eq!(seen.header("allow"), Some("POST,GET,HEAD"));
}

#[tokio::test]
async fn a_rejection_of_the_house_keeps_everything_it_says() {
    let face = Face::new(Fake::new().judging(|_| {
        let mut no = Rejection::gateway(RejectionCode::Overloaded, "too much");
        no.version = Some(Version { born: 17, version: 3 });
        Err(no.after_ms(1_200))
    }));
    let ask = Ask::post(EVENT, "").header("x-correlation-id", "c-7");
    expect![[r#"
        503
        content-type: application/problem+json
        x-statehouse-error-source: gateway
        retry-after: 2
        etag: "17.3"
        x-correlation-id: c-7
        {"type":"/errors/overloaded","title":"overloaded","status":503,"detail":"too much","instance":"/v1/tenants/acme/instances/a-1/events/approve","code":"overloaded","source":"gateway","retryable":true,"advice":"wait for the given time, then repeat it with the same key","retry_after_ms":1200,"correlation_id":"c-7","version":3}
    "#]].assert_eq(&face.send(ask).await.transcript());
}

#[tokio::test]
async fn without_a_permit_nothing_is_read() {
    let face = Face::new(Fake::new());
    let all = u32::try_from(limits::INGRESS_PERMITS).unwrap();
    let held = face.state.ingress().try_acquire_many(all).unwrap();
    let seen = face.send(Ask::post(EVENT, "not JSON").without("authorization")).await;
    assert_eq!(
        seen.refusal(),
        "503 overloaded: every one of this node's ingress_permits is taken; nothing was done"
    );
    assert_eq!(seen.header("retry-after"), Some("1"));
    assert_eq!(face.send(Ask::get("/healthz")).await.status, 200);
    drop(held);
    assert_eq!(face.send(Ask::post(EVENT, "")).await.status, 200);
}
