//! The example definitions, run to their ends by workers of the SDK: along their branches on one node, and through the
//! death of a leader on three.
//!
//! The workers keep a ledger of what they did, so that a test can say not only how an instance ended but what was undone
//! for it, in which order, and that one and the same effect was named alike however often it was tried.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use statehouse_judge::Demands;
use statehouse_sdk::{Client, Options, Outcome, ReadAt, Start, TaskError, With, Work, Worker};
use statehouse_tests::{
    cluster::{Cluster, others},
    patience::PATIENCE,
    stage::Stage,
    trial::{Trial, client},
};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

const ORDER: &str = include_str!("../../config/definitions/order-fulfilment.yaml");
const ROLLOUT: &str = include_str!("../../config/definitions/tenant-rollout.yaml");
const DRILL: &str = include_str!("../../config/definitions/maintenance-drill.yaml");
const QUEUES: [&str; 12] = [
    "reserve-stock",
    "release-stock",
    "charge-card",
    "refund-card",
    "create-shipment",
    "create-database",
    "drop-database",
    "create-dns",
    "delete-dns",
    "shift-traffic",
    "inject-fault",
    "measure-recovery",
];

/// What was done for whom, in order, each with the name that all its attempts share.
type Ledger = Arc<Mutex<Vec<(String, String, String)>>>;

/// A worker that does everything the examples ask for.
struct Hands {
    ledger: Ledger,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<statehouse_sdk::Tally>,
}

impl Hands {
    fn at(client: Client) -> Self {
        let ledger = Ledger::default();
        let (stop, stopped) = oneshot::channel();
        let worker = QUEUES
            .into_iter()
            .chain(["heal"])
            .fold(Worker::new(client, "hands"), |worker, queue| worker.queue(queue))
            .concurrency(16);
        let book = Arc::clone(&ledger);
        let running = tokio::spawn(async move {
            let stop = async { drop(stopped.await) };
            worker.run(stop, move |work| work_on(work, Arc::clone(&book))).await
        });
        Self { ledger, stop: Some(stop), running }
    }

    /// What was done for an instance.
    fn done_for(&self, instance: &str) -> Vec<String> {
        let ledger = self.ledger.lock().unwrap();
        let own = ledger.iter().filter(|(of, ..)| of == instance);
        own.map(|(_, what, _)| what.clone()).collect()
    }

    async fn end(mut self) -> statehouse_sdk::Tally {
        let _ = self.stop.take().unwrap().send(());
        self.running.await.unwrap()
    }
}

/// Does what a task says. Inputs decide what goes wrong, so that each test has its own day.
async fn work_on(mut work: Work<Value>, ledger: Ledger) -> Result<Value, TaskError> {
    let (task, input) = (work.task.clone(), work.input.clone());
    let what = task.src.trim_start_matches("task:").to_owned();
    let text = |member: &str| input[member].as_str().unwrap_or_default().to_owned();
    let output = match what.as_str() {
        "reserve-stock" if input["lines"][0]["sku"] == "unicorn" => {
            return Err(TaskError::fatal("out_of_stock", "there is none"));
        }
        "reserve-stock" if input["lines"][0]["sku"] == "flaky" && task.attempt == 1 => {
            return Err(TaskError::retryable("busy", "not now"));
        }
        "reserve-stock" => json!({"reservationId": format!("r-{}", text("orderId"))}),
        "charge-card" if text("token") == "declined" => {
            return Err(TaskError::fatal("card_declined", "no money"));
        }
        "charge-card" => json!({"chargeId": "c-1"}),
        "refund-card" if text("orderId") == "unlucky" => {
            return Err(TaskError::fatal("bank_closed", "never again"));
        }
        "create-shipment" => json!({"trackingId": format!("t-{}", text("orderId"))}),
        "create-database" => json!({"url": format!("db://{}", text("name"))}),
        "create-dns" if text("name").starts_with("nodns") => {
            return Err(TaskError::fatal("quota_exceeded", "no names left"));
        }
        "inject-fault" if text("check") == "broken" => {
            return Err(TaskError::fatal("invalid", "no such fault"));
        }
        "measure-recovery" if text("check") == "endless" => {
            work.stopped().await;
            return Err(TaskError::retryable("stopped", "it was called off"));
        }
        _ => json!({}),
    };
    ledger.lock().unwrap().push((task.instance, what, task.idempotency_key));
    Ok(output)
}

/// A client of one node, as the person who started it.
fn client_of(stage: &Stage, token: &str) -> Client {
    let mut options = Options::new([format!("http://{}", stage.server.address())]);
    options.token = Some(token.to_owned());
    "default".clone_into(&mut options.tenant);
    Client::new(options).unwrap()
}

async fn start(client: &Client, definition: &str, id: &str, input: Value) {
    let start = Start { definition, id: Some(id), input: Some(&input), ..Start::default() };
    client.start(start, With::default()).await.done().unwrap();
}

async fn event(client: &Client, id: &str, name: &str, data: Value) -> Outcome {
    client.event(id, name, data, With::default()).await
}

async fn sent(client: &Client, id: &str, name: &str, data: Value) {
    let outcome = event(client, id, name, data).await;
    assert!(matches!(outcome, Outcome::Accepted(_) | Outcome::Postponed(_)), "{name}: {outcome:?}");
}

/// Looks at an instance until it is so.
async fn until(client: &Client, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
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

fn is_in(seen: &Value, state: &str) -> bool {
    let active = seen["configuration"].as_array().into_iter().flatten();
    active.filter_map(Value::as_str).any(|path| path.rsplit('.').next() == Some(state))
}

async fn in_state(client: &Client, id: &str, state: &str) {
    until(client, id, state, |seen| is_in(seen, state)).await;
}

async fn ended(client: &Client, id: &str) -> Value {
    until(client, id, "done", |seen| seen["status"] == "done").await["output"].clone()
}

fn order(id: &str, sku: &str, card: &str) -> Value {
    json!({
        "orderId": id, "lines": [{"sku": sku, "qty": 1}], "amount": 100, "currency": "EUR", "cardToken": card,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_delivered_undone_and_abandoned_along_every_branch() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path()).unwrap();
    let client = client_of(&stage, stage.token());
    client.deploy(ORDER, With::default()).await.done().unwrap();
    let hands = Hands::at(client.clone());

    // The straight way, with one attempt that is in vain.
    start(&client, "order-fulfilment", "plain", order("plain", "flaky", "good")).await;
    in_state(&client, "plain", "inTransit").await;
    sent(&client, "plain", "carrier.delivered", json!({"trackingId": "t-plain"})).await;
    let output = ended(&client, "plain").await;
    assert_eq!(output, json!({"outcome": "delivered", "trackingId": "t-plain"}));
    assert_eq!(hands.done_for("plain"), ["reserve-stock", "charge-card", "create-shipment"]);

    // A card is declined and another one given.
    start(&client, "order-fulfilment", "second", order("second", "a", "declined")).await;
    in_state(&client, "second", "awaitingPayment").await;
    sent(&client, "second", "update_payment", json!({"cardToken": "good"})).await;
    in_state(&client, "second", "inTransit").await;
    let late = event(&client, "second", "cancel", json!({})).await;
    let Outcome::Rejected(problem) = late else { panic!("{late:?}") };
    assert!(problem.response.text().contains("too_late"), "{problem:?}");
    sent(&client, "second", "carrier.delivered", json!({"trackingId": "t-second"})).await;
    assert_eq!(ended(&client, "second").await["outcome"], "delivered");

    // It is cancelled while the card is awaited: what was begun is undone, the last first.
    start(&client, "order-fulfilment", "undone", order("undone", "a", "declined")).await;
    in_state(&client, "undone", "awaitingPayment").await;
    sent(&client, "undone", "cancel", json!({"why": "changed my mind"})).await;
    assert_eq!(ended(&client, "undone").await, json!({"outcome": "cancelled"}));
    assert_eq!(hands.done_for("undone"), ["reserve-stock", "refund-card", "release-stock"]);

    // Nothing is there to be reserved.
    start(&client, "order-fulfilment", "empty", order("empty", "unicorn", "good")).await;
    assert_eq!(ended(&client, "empty").await, json!({"outcome": "cancelled"}));
    assert_eq!(hands.done_for("empty"), ["release-stock"]);

    // What cannot be undone waits for a person.
    start(&client, "order-fulfilment", "unlucky", order("unlucky", "a", "declined")).await;
    in_state(&client, "unlucky", "awaitingPayment").await;
    sent(&client, "unlucky", "cancel", json!({})).await;
    in_state(&client, "unlucky", "needsOperator").await;
    sent(&client, "unlucky", "resolve", json!({"action": "abandon"})).await;
    assert_eq!(ended(&client, "unlucky").await, json!({"outcome": "abandoned"}));
    let tally = hands.end().await;
    assert_eq!((tally.lost, tally.unreported), (0, 0), "{tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_needs_a_second_person_and_is_rolled_back_backwards() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path()).unwrap();
    let asker = client_of(&stage, stage.token());
    // The same definition with a soak of milliseconds.
    let quick = ROLLOUT.replace("duration('10m')", "duration('10ms')");
    let quick = quick.replace("duration('30m')", "duration('10ms')");
    asker.deploy(&quick, With::default()).await.done().unwrap();
    let key = asker.put_key("a second person", &["approver", "caller"], With::default()).await;
    let key = key.done().unwrap().json();
    let second = client_of(&stage, key["token"].as_str().unwrap());
    let hands = Hands::at(asker.clone());
    let input = |name: &str| json!({"tenantName": name, "release": "r2"});

    start(&asker, "tenant-rollout", "live", input("acme")).await;
    let own = event(&asker, "live", "approve", json!({})).await;
    let Outcome::Rejected(problem) = own else { panic!("{own:?}") };
    assert!(problem.response.text().contains("self_approval"), "{problem:?}");
    sent(&second, "live", "approve", json!({"note": "go"})).await;
    assert_eq!(ended(&asker, "live").await, json!({"outcome": "live"}));
    let done = hands.done_for("live");
    let shifts = done.iter().filter(|what| *what == "shift-traffic").count();
    assert_eq!((shifts, done.len()), (4, 6), "{done:?}");

    start(&asker, "tenant-rollout", "back", input("nodns")).await;
    sent(&second, "back", "approve", json!({})).await;
    assert_eq!(ended(&asker, "back").await, json!({"outcome": "rolledBack"}));
    assert_eq!(hands.done_for("back"), ["create-database", "delete-dns", "drop-database"]);

    start(&asker, "tenant-rollout", "no", input("other")).await;
    sent(&second, "no", "decline", json!({"why": "not today"})).await;
    assert_eq!(ended(&asker, "no").await, json!({"outcome": "declined"}));
    hands.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_passes_fails_and_is_called_off_without_leaving_a_fault_behind() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path()).unwrap();
    let client = client_of(&stage, stage.token());
    client.deploy(DRILL, With::default()).await.done().unwrap();
    let hands = Hands::at(client.clone());
    let input = |checks: &[&str]| json!({"cluster": "c", "checks": checks});
    let elected = json!({"node": "n1.1", "term": 1});

    // The leader is known before the drill begins: the signal is kept for later.
    start(&client, "maintenance-drill", "pass", input(&["kill", "cut"])).await;
    let early = event(&client, "pass", "leader.elected", elected.clone()).await;
    assert_eq!(early.done().unwrap().json()["outcome"], "postponed");
    sent(&client, "pass", "start", json!({})).await;
    assert_eq!(ended(&client, "pass").await, json!({"verdict": "pass"}));
    let one = ["inject-fault", "measure-recovery", "heal"];
    assert_eq!(hands.done_for("pass"), [one, one].concat());

    start(&client, "maintenance-drill", "fail", input(&["broken", "kill"])).await;
    sent(&client, "fail", "start", json!({})).await;
    sent(&client, "fail", "leader.elected", elected.clone()).await;
    assert_eq!(ended(&client, "fail").await, json!({"verdict": "fail", "failures": ["broken"]}));

    // Called off in the middle of a measurement: the worker hears of it, and the fault is healed.
    start(&client, "maintenance-drill", "off", input(&["endless"])).await;
    sent(&client, "off", "start", json!({})).await;
    sent(&client, "off", "leader.elected", elected).await;
    in_state(&client, "off", "measuring").await;
    sent(&client, "off", "stop", json!({})).await;
    assert_eq!(ended(&client, "off").await, json!({"verdict": "stopped"}));
    assert_eq!(hands.done_for("off"), ["inject-fault", "heal"]);
    hands.end().await;
}

/// Runs what belongs to a cluster of processes, whose helpers wait in their own way.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_survive_the_death_of_a_leader_and_every_effect_keeps_its_name() {
    const ORDERS: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = blocking(|| Cluster::open(folder.path()));
    let all = client(&cluster, cluster.urls());
    all.deploy(ORDER, With::default()).await.done().unwrap();
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("order-{number}")).collect();
    let hands = Hands::at(all.clone());
    let (first, rest) = ids.split_at(ORDERS / 2);
    for id in first {
        start(&all, "order-fulfilment", id, order(id, "flaky", "good")).await;
    }
    let leader = blocking(|| cluster.agreed(&[1, 2, 3])[&1].node);
    blocking(|| cluster.kill(leader));
    for id in rest {
        start(&all, "order-fulfilment", id, order(id, "a", "good")).await;
    }
    let _ = blocking(|| cluster.agreed(&others(leader)));
    blocking(|| cluster.start(leader));
    for id in &ids {
        in_state(&all, id, "inTransit").await;
        let tracking = json!({"trackingId": format!("t-{id}")});
        sent(&all, id, "carrier.delivered", tracking).await;
        assert_eq!(ended(&all, id).await["outcome"], "delivered");
    }
    // An attempt may have been made twice; the name of its effect is the same then, and three effects are all there are.
    let mut effects: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (of, what, name) in hands.ledger.lock().unwrap().iter() {
        effects.entry((of.clone(), what.clone())).or_default().insert(name.clone());
    }
    assert_eq!(effects.len(), 3 * ORDERS);
    assert!(effects.values().all(|names| names.len() == 1), "{effects:?}");
    println!("{:?}", hands.end().await);
}

#[test]
fn tasks_are_held_by_one_worker_at_a_time_although_a_leader_dies() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(folder.path());
    let trial = Trial::begin(&cluster);
    let before = cluster.agreed(&[1, 2, 3]);
    let leader = before[&1].node;
    let workers = trial.tasks(&cluster, 16, Duration::from_secs(12));
    cluster.until("tasks are scheduled", || {
        let path = "GET /v1/tenants/default/queues";
        let told =
            cluster.ask(others(leader)[0], path, &[], "").map_err(|error| error.to_string())?;
        if told.body.contains("\"queue\":\"bench\"") { Ok(()) } else { Err(told.body) }
    });
    trial.fault("kill -9 of a leader");
    cluster.kill(leader);
    let _ = cluster.agreed(&others(leader));
    cluster.start(leader);
    trial.whole_after(&cluster, "kill -9 of a leader");
    let report = workers.join().unwrap();
    println!("{report}");
    let demands = Demands { ok: 200, leader_changes: 1, faults: 1, ..Demands::LEAST };
    trial.judged(&cluster, &demands);
}
