//! Tasks at the face: what becomes an envelope, and what is refused before it does.

use statehouse_contract::{Command, InstanceId, InstanceKey, Key, TenantId, Verb, limits};

use super::*;

const LEASE: &str = r#"{"queues": ["pay"], "worker": "w-1"}"#;

/// Sends a body as a holder of a role and gives back status and body in one text.
async fn post(face: &Face, path: &str, role: &str, body: &str) -> String {
    let ask = Ask::post(path, body).token(&format!("acme-{role}")).without("idempotency-key");
    said(&face.send(ask).await)
}

async fn keyed(face: &Face, path: &str, role: &str, body: &str) -> String {
    said(&face.send(Ask::post(path, body).token(&format!("acme-{role}"))).await)
}

async fn get(face: &Face, path: &str) -> String {
    said(&face.send(Ask::get(path).token("acme-reader")).await)
}

fn said(seen: &Seen) -> String {
    format!("{} {}", seen.status.as_u16(), seen.text())
}

fn own_task(instance: &str) -> String {
    let key = InstanceKey {
        tenant: TenantId::parse("acme").unwrap(),
        instance: InstanceId::parse(instance).unwrap(),
    };
    format!("{:03x}-{instance}-3-0", key.bucket().number())
}

#[tokio::test]
async fn a_lease_call_becomes_a_claim_of_the_tenant_with_the_limits_filled_in() {
    let face = Face::new(Fake::new());
    let body = r#"{"queues": ["pay", "ship"], "worker": "w-1", "max": 7, "lease_ms": 5000, "wait_ms": 250}"#;
    post(&face, "/v1/tenants/acme/tasks/lease", "worker", body).await;
    let envelope = face.fake.last_command();
    let Command::LeaseTasks { queues, max, lease_ms, worker } = envelope.command else {
        panic!("another command");
    };
    assert_eq!((queues.len(), max, lease_ms, &*worker), (2, 7, 5_000, "w-1"));
    assert!(matches!(envelope.target, statehouse_contract::Target::Tenant(_)));
    post(&face, "/v1/tenants/acme/tasks/lease", "worker", LEASE).await;
    let Command::LeaseTasks { max, lease_ms, .. } = face.fake.last_command().command else {
        panic!("another command");
    };
    assert_eq!((max, lease_ms), (1, limits::LEASE_MS_DEFAULT));
    let waits: Vec<u64> = face.fake.leases.lock().unwrap().iter().map(|(ms, _)| *ms).collect();
    assert_eq!(waits, [250, 0]);
}

#[tokio::test]
async fn what_is_wrong_with_a_lease_call_is_named() {
    let face = Face::new(Fake::new());
    for (body, said) in [
        (r#"{"queues": [], "worker": "w"}"#, "names 0 queues"),
        (r#"{"queues": [""], "worker": "w"}"#, "has 1 to 128 bytes"),
        (r#"{"queues": ["q"], "worker": ""}"#, "member worker"),
        (r#"{"queues": ["q"], "worker": "w", "max": 0}"#, "max is 0; 1 to 100"),
        (r#"{"queues": ["q"], "worker": "w", "lease_ms": 5}"#, "lease_ms is 5"),
        (r#"{"queues": ["q"], "worker": "w", "wait_ms": 99999999}"#, "wait_ms_max"),
        (r#"{"queues": "q", "worker": "w"}"#, "a list of texts"),
    ] {
        let answer = post(&face, "/v1/tenants/acme/tasks/lease", "worker", body).await;
        assert!(answer.contains("invalid_request") && answer.contains(said), "{body}: {answer}");
    }
}

#[tokio::test]
async fn a_worker_of_one_queue_gets_no_other() {
    let face = Face::new(Fake::new());
    let path = "/v1/tenants/acme/tasks/lease";
    assert!(post(&face, path, "worker:pay", LEASE).await.starts_with("200"));
    let other = r#"{"queues": ["pay", "ship"], "worker": "w"}"#;
    let answer = post(&face, path, "worker:pay", other).await;
    assert!(answer.starts_with("403") && answer.contains("worker:ship"), "{answer}");
}

#[tokio::test]
async fn a_report_carries_the_key_of_its_task_and_token() {
    let face = Face::new(Fake::new());
    let task = own_task("a-1");
    let path = |verb: &str| format!("/v1/tenants/acme/tasks/{task}/{verb}");
    post(&face, &path("complete"), "worker", r#"{"token": 4, "output": [1, 2]}"#).await;
    let envelope = face.fake.last_command();
    let Key::Task { task: named, token, verb } = &envelope.key else { panic!("another key") };
    assert_eq!((named.to_string(), *token, &**verb), (task.clone(), 4, "complete"));
    assert!(
        matches!(envelope.command, Command::CompleteTask { ref output, .. } if output.as_str() == "[1,2]")
    );
    post(&face, &path("fail"), "worker", r#"{"token": 4, "code": "declined", "retryable": false}"#)
        .await;
    assert!(matches!(face.fake.last_command().command, Command::FailTask { retryable: false, .. }));
    post(&face, &path("heartbeat"), "worker", r#"{"token": 4}"#).await;
    assert!(matches!(face.fake.last_command().command, Command::ExtendLease { token: 4, .. }));
}

#[tokio::test]
async fn a_report_that_cannot_be_is_refused_with_its_reason() {
    let face = Face::new(Fake::new());
    let task = own_task("a-1");
    let path = |verb: &str| format!("/v1/tenants/acme/tasks/{task}/{verb}");
    let large = format!(r#"{{"token": 1, "output": "{}"}}"#, "x".repeat(limits::OUTPUT_BYTES_MAX));
    for (verb, body, said) in [
        ("complete", "{}", "the body lacks the member token"),
        ("complete", large.as_str(), "output_bytes_max"),
        ("complete", "not json", "invalid_request"),
        ("fail", r#"{"token": 1, "code": ""}"#, "member code"),
        ("fail", r#"{"token": 1, "code": "a b"}"#, "member code"),
        ("heartbeat", r#"{"token": 1, "lease_ms": 1}"#, "lease_ms is 1"),
    ] {
        let answer = post(&face, &path(verb), "worker", body).await;
        assert!(answer.contains(said), "{verb} {body:.40}: {answer}");
    }
    let foreign =
        post(&face, "/v1/tenants/acme/tasks/fff-a-1-3-0/complete", "worker", r#"{"token": 1}"#);
    let foreign = foreign.await;
    assert!(foreign.starts_with("404") && foreign.contains("unknown_task"), "{foreign}");
    let garbage =
        post(&face, "/v1/tenants/acme/tasks/nonsense/complete", "worker", r#"{"token": 1}"#);
    assert!(garbage.await.contains("invalid_request"));
}

#[tokio::test]
async fn an_operator_completes_a_task_in_its_workers_stead() {
    let face = Face::new(Fake::new());
    let task = own_task("a-1");
    let body =
        format!(r#"{{"reason": "done by phone", "task": "{task}", "output": {{"ok": true}}}}"#);
    keyed(&face, "/v1/tenants/acme/instances/a-1/skip", "operator", &body).await;
    let Command::Operate(Verb::Settle { output, .. }) = face.fake.last_command().command else {
        panic!("another command");
    };
    assert_eq!(output.as_str(), r#"{"ok":true}"#);
    let lost = r#"{"reason": "x", "output": {}}"#;
    let answer = keyed(&face, "/v1/tenants/acme/instances/a-1/skip", "operator", lost).await;
    assert!(answer.contains("name the task"), "{answer}");
}

#[tokio::test]
async fn tasks_and_queues_are_listed() {
    let face = Face::new(Fake::new());
    let tasks = get(&face, "/v1/tenants/acme/tasks?state=ready&queue=pay&limit=5").await;
    assert!(tasks.starts_with("200") && tasks.contains("0af-a-1-1-1"), "{tasks}");
    assert!(get(&face, "/v1/tenants/acme/queues").await.starts_with("200"));
    let wrong = get(&face, "/v1/tenants/acme/tasks?state=idle").await;
    assert!(wrong.contains("allowed are ready, waiting, leased, parked"), "{wrong}");
}
