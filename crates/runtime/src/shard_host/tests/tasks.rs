//! Tasks from the step that orders them to the report that ends them, through the doors that workers use.

use std::collections::BTreeSet;

use serde_json::Value;
use statehouse_contract::{
    Command, CommandEnvelope, DefinitionName, DefinitionRef, Json, Key, Receipt, Rejection,
    RejectionCode, Target, TaskId, Verb,
};

use super::fixture::{Fixture, envelope, key, tenant};
use crate::{Tuning, reading::resolve};

mod queues;

/// A task that is tried twice and can be undone from its start; leaving its state undoes it.
const WORK: &str = r#"
format: statehouse/1
version: 1
id: work
initial: paying
commands: {leave: {}}
tasks:
  pay: {output: {type: object, required: [receipt], properties: {receipt: {type: string}}}}
retries:
  twice: {maxAttempts: 2, initialInterval: 1s, backoff: 1, maxInterval: 1s, nonRetryable: [declined]}
states:
  paying:
    on: {leave: undoing}
    invoke: {id: pay, src: "task:pay", input: {amount: 3}, retry: twice, heartbeat: 10s, timeout: 25s, compensate: {src: "task:refund", from: start}, onDone: paid, onError: undoing}
  undoing: {invoke: {id: undo, src: "saga:compensate", onDone: undone, onError: stuck}}
  stuck: {on: {leave: undoing}}
  paid: {type: final}
  undone: {type: final}
"#;

/// A task whose failure nobody names: it parks.
const PARKS: &str = r#"
format: statehouse/1
version: 1
id: parks
initial: going
states:
  going: {invoke: {id: go, src: "task:go", onDone: gone}}
  gone: {type: final}
"#;

/// A lease as its worker has it.
struct Lease {
    id: TaskId,
    token: u64,
    body: Value,
}

impl Fixture {
    async fn born(&self, definition: &str, instance: &str, input: &str) -> Receipt {
        let key = key(instance);
        let name = DefinitionName::parse(definition).unwrap();
        let wanted = DefinitionRef { name, version: None, digest: None };
        let definition = resolve(self.seat(), &key.tenant, &wanted).await.unwrap();
        let command = Command::Start { definition, input: Json::parse(input.as_bytes()).unwrap() };
        self.door().deliver(&key, envelope(&key, "start", command)).await.unwrap()
    }

    async fn claim(&self, queue: &str, max: u32, name: &str) -> Result<Receipt, Rejection> {
        let command = Command::LeaseTasks {
            queues: vec![queue.into()],
            max,
            lease_ms: 30_000,
            worker: "w".into(),
        };
        let target = Target::Tenant(tenant());
        let asked = CommandEnvelope { target, ..envelope(&key("x"), name, command) };
        self.door().desk(asked).await
    }

    async fn leases(&self, queue: &str, max: u32, name: &str) -> Vec<Lease> {
        let receipt = self.claim(queue, max, name).await.unwrap();
        let body: Value = serde_json::from_str(receipt.body.as_str()).unwrap();
        let tasks = body["tasks"].as_array().unwrap();
        let lease = |task: &Value| Lease {
            id: TaskId::parse(task["id"].as_str().unwrap()).unwrap(),
            token: task["token"].as_u64().unwrap(),
            body: task.clone(),
        };
        tasks.iter().map(lease).collect()
    }

    async fn lease(&self, queue: &str, name: &str) -> Lease {
        let mut leases = self.leases(queue, 1, name).await;
        assert_eq!(leases.len(), 1, "a task waits in {queue}");
        leases.remove(0)
    }

    async fn report(
        &self,
        lease: &Lease,
        verb: &str,
        command: Command,
    ) -> Result<Receipt, Rejection> {
        let key = key(lease.id.instance.as_str());
        let (task, token) = (lease.id.clone(), lease.token);
        let name = Key::Task { task, token, verb: verb.into() };
        let asked = CommandEnvelope { key: name, ..envelope(&key, "-", command) };
        match verb {
            "heartbeat" => self.door().desk(asked).await,
            _ => self.door().deliver(&key, asked).await,
        }
    }

    async fn complete(&self, lease: &Lease, output: &str) -> Result<Receipt, Rejection> {
        let (task, token) = (lease.id.clone(), lease.token);
        let output = Json::parse(output.as_bytes()).unwrap();
        self.report(lease, "complete", Command::CompleteTask { task, token, output }).await
    }

    async fn fail(&self, lease: &Lease, code: &str) -> Result<Receipt, Rejection> {
        let (task, token) = (lease.id.clone(), lease.token);
        let (code, message) = (code.into(), "it did not work".into());
        let command = Command::FailTask { task, token, code, message, retryable: true };
        self.report(lease, "fail", command).await
    }

    async fn heartbeat(&self, lease: &Lease) -> Result<Receipt, Rejection> {
        let (task, token) = (lease.id.clone(), lease.token);
        let command = Command::ExtendLease { task, token, lease_ms: 0 };
        self.report(lease, "heartbeat", command).await
    }

    async fn states(&self, instance: &str) -> String {
        let view = self.read(instance).await;
        format!("{} {}", view.status, view.configuration.join(","))
    }

    /// Lets time pass and waits until what became due has been done.
    async fn pass(&self, ms: i64, what: &str, is_true: impl AsyncFn(&Self) -> bool) {
        self.clock.advance(ms);
        self.until(what, is_true).await;
    }

    async fn task_state(&self, instance: &str) -> String {
        let view = self.read(instance).await;
        view.tasks.first().map(|task| task.state.clone()).unwrap_or_default()
    }
}

fn refused(answer: Result<Receipt, Rejection>) -> String {
    match answer {
        Ok(receipt) => match receipt.kind {
            statehouse_contract::ReceiptKind::Refused(code) => code.to_string(),
            other => panic!("not refused: {other:?} {}", receipt.body.as_str()),
        },
        Err(no) => no.code.to_string(),
    }
}

fn outcome(answer: &Receipt) -> String {
    let body: Value = serde_json::from_str(answer.body.as_str()).unwrap();
    body["outcome"].as_str().unwrap_or_default().to_owned()
}

async fn fixture(definitions: &[&str]) -> Fixture {
    let fixture = Fixture::with(Tuning::standard()).await;
    for (n, text) in definitions.iter().enumerate() {
        fixture.deploy_as(text, &format!("deploy-{n}")).await;
    }
    fixture
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_leased_completed_and_moves_its_instance_once() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    assert_eq!(lease.body["input"], serde_json::json!({"amount": 3}));
    assert_eq!((lease.body["attempt"].as_u64(), lease.token), (Some(1), 1));
    assert_eq!(fixture.leases("pay", 5, "l2").await.len(), 0, "nobody else gets it");
    assert_eq!(fixture.task_state("a").await, "leased");
    let done = fixture.complete(&lease, r#"{"receipt": "r-1"}"#).await.unwrap();
    assert_eq!(outcome(&done), "done");
    assert_eq!(fixture.states("a").await, "done paid");
    let again = fixture.complete(&lease, r#"{"receipt": "r-1"}"#).await.unwrap();
    assert_eq!((again.body, again.replayed), (done.body, true));
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_repeated_gets_the_leases_that_it_got() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let first = fixture.claim("pay", 1, "same").await.unwrap();
    let again = fixture.claim("pay", 1, "same").await.unwrap();
    assert_eq!((&again.body, again.replayed), (&first.body, true));
    let fixture = fixture.restart().await;
    let later = fixture.claim("pay", 1, "same").await.unwrap();
    assert_eq!(later.body, first.body);
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_compensation_from_the_start_is_registered_before_the_lease_is_given() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let _lease = fixture.lease("pay", "l").await;
    let history = fixture.seat().history(&key("a"), 0, 0, 10).await.unwrap();
    let events: Vec<_> = history.items.iter().map(|row| row.event.as_str()).collect();
    assert_eq!(events, ["start", "start"], "the second one is the task's");
    assert_eq!(history.items[1].cause, "task");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_gone_loses_its_lease_and_what_it_says_later_is_not_taken() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let first = fixture.lease("pay", "l1").await;
    fixture
        .pass(10_001, "the lease runs out", async |f| f.task_state("a").await == "waiting")
        .await;
    assert_eq!(refused(fixture.complete(&first, r#"{"receipt": "late"}"#).await), "stale_lease");
    assert_eq!(refused(fixture.heartbeat(&first).await), "stale_lease");
    fixture
        .pass(2_000, "it may be tried again", async |f| f.task_state("a").await == "ready")
        .await;
    let second = fixture.lease("pay", "l2").await;
    assert_eq!((second.body["attempt"].as_u64(), second.token > first.token), (Some(2), true));
    fixture.complete(&second, r#"{"receipt": "r"}"#).await.unwrap();
    assert_eq!(fixture.states("a").await, "done paid");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_keep_a_lease_alive_but_not_an_attempt_that_takes_too_long() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    for _ in 0..2 {
        fixture.clock.advance(8_000);
        fixture.heartbeat(&lease).await.unwrap();
    }
    assert_eq!(fixture.task_state("a").await, "leased");
    fixture.clock.advance(8_000);
    fixture.heartbeat(&lease).await.unwrap();
    fixture.pass(1_001, "its time is over", async |f| f.task_state("a").await == "waiting").await;
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_does_not_fit_is_a_failed_attempt_and_says_so() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    let no = fixture.complete(&lease, r#"{"receipt": 7}"#).await.unwrap();
    assert!(no.body.as_str().contains("invalid_payload"), "{}", no.body.as_str());
    assert!(no.body.as_str().contains("the next attempt begins at"), "{}", no.body.as_str());
    assert_eq!(fixture.task_state("a").await, "waiting");
    fixture.pass(2_000, "the wait is over", async |f| f.task_state("a").await == "ready").await;
    let last = fixture.lease("pay", "l2").await;
    let no = fixture.complete(&last, "{}").await;
    assert_eq!(refused(no), "invalid_payload");
    assert_eq!(fixture.states("a").await, "compensating undoing", "the last attempt has failed");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_attempt_is_tried_again_and_a_code_for_which_that_is_in_vain_is_not() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    let answer = fixture.fail(&lease, "net.reset").await.unwrap();
    assert_eq!(outcome(&answer), "retry");
    let again = fixture.fail(&lease, "net.reset").await.unwrap();
    assert_eq!((again.body, again.replayed), (answer.body, true));
    fixture.born("work", "b", "{}").await;
    let lease = fixture.lease("pay", "l2").await;
    assert_eq!(lease.id.instance.as_str(), "b", "the other one waits");
    assert_eq!(outcome(&fixture.fail(&lease, "declined").await.unwrap()), "failed");
    let undo = fixture.lease("refund", "l3").await;
    assert_eq!(undo.body["compensation"], Value::Bool(true));
    fixture.complete(&undo, "{}").await.unwrap();
    assert_eq!(fixture.states("b").await, "done undone");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_saga_waits_for_cancelled_work_that_a_worker_still_has() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    fixture.send("a", "leave", "k").await.unwrap();
    assert_eq!(fixture.leases("refund", 1, "l2").await.len(), 0, "the worker may still pay");
    let told = fixture.heartbeat(&lease).await.unwrap();
    assert!(told.body.as_str().contains(r#""cancelled":true"#), "{}", told.body.as_str());
    let answer = fixture.complete(&lease, r#"{"receipt": "too late"}"#).await.unwrap();
    assert_eq!(outcome(&answer), "cancelled");
    let undo = fixture.lease("refund", "l3").await;
    fixture.complete(&undo, "{}").await.unwrap();
    assert_eq!(fixture.states("a").await, "done undone");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_saga_goes_on_when_the_cancelled_works_lease_runs_out() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let _lost = fixture.lease("pay", "l1").await;
    fixture.send("a", "leave", "k").await.unwrap();
    let undoing = async |f: &Fixture| {
        let view = f.read("a").await;
        view.tasks.iter().any(|task| task.compensation && task.state == "ready")
    };
    fixture.pass(10_001, "the refund may begin", undoing).await;
    let undo = fixture.lease("refund", "l2").await;
    fixture.complete(&undo, "{}").await.unwrap();
    assert_eq!(fixture.states("a").await, "done undone");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_saga_waits_for_nobody_when_the_cancelled_work_only_waited_for_its_next_attempt() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    fixture.fail(&lease, "net.reset").await.unwrap();
    fixture.send("a", "leave", "k").await.unwrap();
    let undoing = async |f: &Fixture| !f.leases("refund", 1, "probe").await.is_empty();
    fixture.until("the refund may begin at once", undoing).await;
    assert_eq!(fixture.leases("pay", 1, "l2").await.len(), 0, "nobody pays any more");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_no_transition_expects_to_fail_is_parked_until_an_operator_decides() {
    let fixture = fixture(&[PARKS]).await;
    fixture.born("parks", "a", "{}").await;
    let lease = fixture.lease("go", "l1").await;
    assert_eq!(outcome(&fixture.fail(&lease, "broken").await.unwrap()), "parked");
    assert_eq!(fixture.task_state("a").await, "parked");
    assert_eq!(fixture.states("a").await, "running going");
    let task = lease.id.clone();
    fixture.operate("a", Verb::Retry { task: Some(task.clone()) }).await.unwrap();
    assert_eq!(fixture.task_state("a").await, "ready");
    let verb = Verb::Retry { task: Some(task.clone()) };
    let asked = envelope(&key("a"), "operate-again", Command::Operate(verb));
    assert_eq!(refused(fixture.door().deliver(&key("a"), asked).await), "not_handled");
    let second = fixture.lease("go", "l2").await;
    assert_eq!(outcome(&fixture.fail(&second, "broken").await.unwrap()), "parked");
    let output = Json::empty_object();
    fixture.operate("a", Verb::Settle { task, output }).await.unwrap();
    assert_eq!(fixture.states("a").await, "done gone");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_never_was_is_unknown_and_one_that_is_over_is_stale() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let mut lease = fixture.lease("pay", "l1").await;
    fixture.complete(&lease, r#"{"receipt": "r"}"#).await.unwrap();
    lease.token = 9;
    assert_eq!(refused(fixture.complete(&lease, "{}").await), "stale_lease");
    assert_eq!(refused(fixture.heartbeat(&lease).await), "stale_lease");
    lease.id.version = 77;
    assert_eq!(refused(fixture.complete(&lease, "{}").await), "unknown_task");
    assert_eq!(refused(fixture.heartbeat(&lease).await), "unknown_task");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_instance_keeps_the_result_of_its_task_until_it_goes_on() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    fixture.operate("a", Verb::Pause).await.unwrap();
    fixture.complete(&lease, r#"{"receipt": "r"}"#).await.unwrap();
    assert_eq!(fixture.states("a").await, "paused paying");
    fixture.operate("a", Verb::Resume).await.unwrap();
    let paid = async |f: &Fixture| f.states("a").await == "done paid";
    fixture.until("the result is taken", paid).await;
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_outlives_its_leader_and_its_token_counts_after_the_opening() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    let fixture = fixture.restart().await;
    assert_eq!(fixture.leases("pay", 1, "l2").await.len(), 0, "it is still held");
    fixture.complete(&lease, r#"{"receipt": "r"}"#).await.unwrap();
    assert_eq!(fixture.states("a").await, "done paid");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_whose_answer_was_lost_with_its_leader_gets_the_same_one_from_the_next() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    let lost = fixture.complete(&lease, r#"{"receipt": "r"}"#).await.unwrap();
    let version = fixture.read("a").await.version;
    let fixture = fixture.restart().await;
    let again = fixture.complete(&lease, r#"{"receipt": "r"}"#).await.unwrap();
    assert_eq!(again.body.as_str(), lost.body.as_str());
    assert_eq!(fixture.read("a").await.version, version, "it has counted once");
    fixture.rebuilds_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_used_for_another_report_is_refused() {
    let fixture = fixture(&[WORK]).await;
    fixture.born("work", "a", "{}").await;
    let lease = fixture.lease("pay", "l1").await;
    fixture.complete(&lease, r#"{"receipt": "r"}"#).await.unwrap();
    let no = fixture.complete(&lease, r#"{"receipt": "another"}"#).await.unwrap_err();
    assert_eq!(no.code, RejectionCode::KeyReused);
    fixture.rebuilds_all().await;
}

#[test]
fn jitter_lengthens_a_wait_by_at_most_a_fifth_and_is_the_same_on_every_node() {
    let task = TaskId::parse("0af-a-1-1-0").unwrap();
    let drawn: Vec<u64> = (1..6).map(|n| crate::decide::jitter_ms(&task, n, 1_000)).collect();
    assert!(drawn.iter().all(|ms| *ms <= 200), "{drawn:?}");
    assert_eq!(
        drawn,
        (1..6).map(|n| crate::decide::jitter_ms(&task, n, 1_000)).collect::<Vec<_>>()
    );
    assert!(drawn.iter().collect::<BTreeSet<_>>().len() > 1, "{drawn:?}");
    assert_eq!(crate::decide::jitter_ms(&task, 1, 0), 0);
}
