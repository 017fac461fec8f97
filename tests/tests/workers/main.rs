//! The example definitions, run to their ends by workers of the SDK: along their branches on one node, and through the
//! death of a leader on three.
//!
//! The workers keep a ledger of what they did, so that a test can say not only how an instance ended but what was undone
//! for it, in which order, and that one and the same effect was named alike however often it was tried.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

mod asks;
mod clustered;
mod hands;

use serde_json::json;
use statehouse_sdk::{Outcome, With};
use statehouse_tests::stage::Stage;

use crate::{
    asks::{client_of, ended, event, in_state, order, sent, start},
    hands::Hands,
};

const ORDER: &str = include_str!("../../../config/definitions/order-fulfilment.yaml");
const ROLLOUT: &str = include_str!("../../../config/definitions/tenant-rollout.yaml");
const DRILL: &str = include_str!("../../../config/definitions/maintenance-drill.yaml");

/// The rollout with a soak of milliseconds.
fn quick_rollout() -> String {
    ROLLOUT
        .replace("duration('10m')", "duration('10ms')")
        .replace("duration('30m')", "duration('10ms')")
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

    // Nobody gives another card in time. The same definition, in a hurry.
    let hasty = ORDER.replace("id: order-fulfilment", "id: hasty").replace("24h:", "20ms:");
    client.deploy(&hasty, With::default()).await.done().unwrap();
    start(&client, "hasty", "late", order("late", "a", "declined")).await;
    assert_eq!(ended(&client, "late").await, json!({"outcome": "cancelled"}));
    assert_eq!(hands.done_for("late"), ["reserve-stock", "refund-card", "release-stock"]);
    let tally = hands.end().await;
    assert_eq!((tally.lost, tally.unreported), (0, 0), "{tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_needs_a_second_person_and_is_rolled_back_backwards() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path()).unwrap();
    let asker = client_of(&stage, stage.token());
    asker.deploy(&quick_rollout(), With::default()).await.done().unwrap();
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

    // Held in the middle of a step, and taken up again where it was.
    start(&asker, "tenant-rollout", "held", input("slow")).await;
    sent(&second, "held", "approve", json!({})).await;
    until_begun(&hands, "held", "shift-traffic").await;
    sent(&asker, "held", "pause", json!({})).await;
    in_state(&asker, "held", "paused").await;
    sent(&asker, "held", "resume", json!({})).await;
    assert_eq!(ended(&asker, "held").await, json!({"outcome": "live"}));

    start(&asker, "tenant-rollout", "no", input("other")).await;
    sent(&second, "no", "decline", json!({"why": "not today"})).await;
    assert_eq!(ended(&asker, "no").await, json!({"outcome": "declined"}));
    hands.end().await;
}

/// Waits until a worker has begun something that it will not end by itself.
async fn until_begun(hands: &Hands, instance: &str, what: &str) {
    let begun = format!("{what} begun");
    while !hands.done_for(instance).contains(&begun) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
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

    // The leader changes in the middle of a measurement; the next one goes on with it, and injects nothing again.
    start(&client, "maintenance-drill", "change", input(&["slow"])).await;
    sent(&client, "change", "start", json!({})).await;
    sent(&client, "change", "leader.elected", elected.clone()).await;
    until_begun(&hands, "change", "measure-recovery").await;
    sent(&client, "change", "leader.lost", json!({"term": 1})).await;
    in_state(&client, "change", "electing").await;
    sent(&client, "change", "leader.elected", json!({"node": "n2.1", "term": 2})).await;
    assert_eq!(ended(&client, "change").await, json!({"verdict": "pass"}));
    let done = hands.done_for("change");
    assert_eq!(done, ["inject-fault", "measure-recovery begun", "measure-recovery", "heal"]);

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
