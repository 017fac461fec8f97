//! The worker against a server that answers from a list.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::{
    fake::{Fake, Reply},
    options::Options,
    retry::Budget,
};

fn lease(number: u32, lease_ms: u64, input: &Value) -> Value {
    json!({
        "id": format!("0af-a-{number}-0"), "queue": "q", "src": "task:q", "invoke": "i", "instance": "a",
        "definition": "d", "definition_version": 1, "input": input, "attempt": 1, "token": 1,
        "lease_until": "2026-01-01T00:00:00Z", "lease_ms": lease_ms,
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "idempotency_key": format!("0af-a-{number}-0"),
    })
}

fn leases(tasks: &[Value]) -> Reply {
    Reply::json(200, json!({ "tasks": tasks }).to_string())
}

fn ok() -> Reply {
    Reply::json(200, r#"{"outcome":"done"}"#)
}

fn worker(fake: &Fake) -> Worker {
    let mut options = Options::new([fake.address.as_str()]);
    options.budget = Budget {
        total: Duration::from_secs(2),
        attempt: Duration::from_secs(1),
        attempts_max: 1,
        unreached_max: 1,
    };
    Worker::new(Client::new(options).unwrap(), "w").queue("q")
}

/// Runs until something has been asked that contains a text.
async fn until_asked(fake: &Fake, text: &str) {
    while !fake.asked().iter().any(|asked| asked.contains(text)) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_task_is_run_and_its_output_reported_with_its_trace() {
    let fake =
        Fake::start([leases(&[lease(1, 30_000, &json!({"n": 2}))]), ok(), Reply::Hang]).await;
    #[derive(serde::Deserialize)]
    struct Input {
        n: i64,
    }
    let stop = until_asked(&fake, "/complete");
    let tally = worker(&fake)
        .run(stop, |work: Work<Input>| async move { Ok(json!({ "twice": 2 * work.input.n })) })
        .await;
    assert_eq!((tally.completed, tally.failed), (1, 0));
    let asked = fake.asked();
    let report = asked.iter().find(|asked| asked.contains("/complete")).unwrap();
    assert!(
        report.contains(r#""twice":4"#) && report.contains("traceparent: 00-4bf92f35"),
        "{report}"
    );
    assert!(!report.contains("idempotency-key"), "task and token name it: {report}");
}

#[tokio::test]
async fn errors_panics_and_unreadable_inputs_are_reported_as_what_they_are() {
    let tasks = [
        lease(1, 30_000, &json!({"do": "fail"})),
        lease(2, 30_000, &json!({"do": "panic"})),
        lease(3, 30_000, &json!("no object")),
    ];
    let fake = Fake::start([leases(&tasks), ok(), ok(), ok(), Reply::Hang]).await;
    #[derive(serde::Deserialize)]
    struct Input {
        r#do: String,
    }
    let stop = async {
        while fake.asked().iter().filter(|asked| asked.contains("/fail")).count() < 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let tally = worker(&fake)
        .concurrency(3)
        .run(stop, |work: Work<Input>| async move {
            assert_ne!(work.input.r#do, "panic", "as it was told");
            Err::<Value, _>(TaskError::fatal("declined", "no money"))
        })
        .await;
    assert_eq!(tally.failed, 3);
    let asked = fake.asked().join("\n");
    for said in [
        r#""code":"declined","message":"no money","retryable":false"#,
        r#""code":"worker_panic""#,
        r#""code":"invalid_input""#,
    ] {
        assert!(asked.contains(said), "{said} in {asked}");
    }
}

#[tokio::test]
async fn never_more_tasks_are_asked_for_than_there_is_room() {
    let tasks = [lease(1, 30_000, &json!({})), lease(2, 30_000, &json!({}))];
    let fake = Fake::start([leases(&tasks), ok(), ok(), Reply::Hang]).await;
    let (running, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let (count, wait) = (Arc::clone(&running), Arc::clone(&go));
    let stop = async {
        while running.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let tally = worker(&fake)
        .concurrency(2)
        .stop_limit(Duration::ZERO)
        .run(stop, move |_: Work<Value>| {
            let (count, wait) = (Arc::clone(&count), Arc::clone(&wait));
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                wait.notified().await;
                Ok(json!({}))
            }
        })
        .await;
    assert_eq!(tally.lost, 2, "both were given back");
    let asked = fake.asked();
    let calls: Vec<_> = asked.iter().filter(|asked| asked.contains("/tasks/lease")).collect();
    assert_eq!(calls.len(), 1, "no room, no call");
    assert!(calls[0].contains(r#""max":2"#), "{}", calls[0]);
    assert_eq!(asked.iter().filter(|asked| asked.contains("worker_stopped")).count(), 2);
}

#[tokio::test]
async fn a_heartbeat_that_says_cancelled_or_is_refused_ends_the_handler() {
    let cancelled = Reply::json(200, r#"{"lease_until":"2026-01-01T00:00:00Z","cancelled":true}"#);
    let stale = Reply::json(409, r#"{"code":"stale_lease","source":"instance"}"#);
    for (answer, reports) in [(cancelled, 1), (stale, 0)] {
        let fake =
            Fake::start([leases(&[lease(1, 60, &json!({}))]), answer, ok(), Reply::Hang]).await;
        let (seen, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let tell = Arc::clone(&seen);
        let (wait, stop) = (Arc::clone(&told), async { told.notified().await });
        let tally = worker(&fake)
            .run(stop, move |mut work: Work<Value>| {
                let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
                async move {
                    work.stopped().await;
                    tell.notify_one();
                    wait.notify_one();
                    Ok(json!({}))
                }
            })
            .await;
        assert_eq!((tally.lost, tally.completed), (1, 0));
        let reported = fake.asked().iter().filter(|asked| asked.contains("/fail")).count();
        assert_eq!(reported, reports);
    }
}

#[tokio::test]
async fn a_report_without_an_answer_is_sent_again_as_it_was() {
    let fake =
        Fake::start([leases(&[lease(1, 30_000, &json!({}))]), Reply::Cut, ok(), Reply::Hang]).await;
    let stop = async {
        while fake.asked().iter().filter(|asked| asked.contains("/complete")).count() < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let tally = worker(&fake).run(stop, |_: Work<Value>| async { Ok(json!({"a": 1})) }).await;
    assert_eq!(tally.completed, 1);
    let asked = fake.asked();
    let bodies: Vec<_> = asked
        .iter()
        .filter(|asked| asked.contains("/complete"))
        .map(|asked| asked.rsplit("\r\n").next().unwrap_or_default())
        .collect();
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again() {
    let fake = Fake::start([
        Reply::json(503, r#"{"code":"no_leader"}"#),
        Reply::Cut,
        leases(&[lease(1, 30_000, &json!({}))]),
        ok(),
        Reply::Hang,
    ])
    .await;
    let stop = until_asked(&fake, "/complete");
    let tally = worker(&fake).run(stop, |_: Work<Value>| async { Ok(json!({})) }).await;
    assert_eq!(tally.completed, 1);
}
