//! The Python worker of `config/workers/python`, against a real node: a worker needs no SDK.
//!
//! Where there is no Python this says so and tests nothing; the gate has one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use statehouse_tests::{patience::until, stage::Stage};

const ORDER: &str = include_str!("../../config/definitions/order-fulfilment.yaml");

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/workers/python/worker.py")
}

/// A worker that is ended with its test.
struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python(stage: &Stage, queues: &[&str]) -> Option<Python> {
    let mut command = Command::new("python3");
    command.arg(script()).arg("--server").arg(format!("http://{}", stage.server.address()));
    command.arg("--token-file").arg(stage.data().join("dev-token"));
    for queue in queues {
        command.args(["--queue", queue]);
    }
    match command.stdout(Stdio::null()).spawn() {
        Ok(child) => Some(Python(child)),
        Err(error) => {
            println!("there is no python3 here ({error}); nothing is tested");
            None
        }
    }
}

fn start(stage: &Stage, id: &str, card: &str) {
    let body = format!(
        r#"{{"definition": "order-fulfilment", "id": "{id}", "input": {{"orderId": "{id}",
        "lines": [{{"sku": "a", "qty": 1}}], "amount": 5, "currency": "EUR", "cardToken": "{card}"}}}}"#
    );
    let told = stage.ask("POST /v1/tenants/default/instances", id, &body);
    assert_eq!(told.status, 201, "{told:?}");
}

fn until_in(stage: &Stage, id: &str, state: &str) {
    until(&format!("{id} is in {state}"), || {
        let told = stage.read(id);
        let configuration = told.field("configuration").to_string();
        if configuration.contains(state) { Ok(()) } else { Err(told.body) }
    });
}

#[test]
fn a_python_worker_does_what_orders_ask_for_and_another_goes_on_when_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path()).unwrap();
    let deployed = stage.ask("POST /v1/tenants/default/definitions", "deploy", ORDER);
    assert_eq!(deployed.status, 201, "{deployed:?}");
    let Some(first) = python(&stage, &["reserve-stock", "charge-card"]) else { return };
    start(&stage, "good", "good");
    start(&stage, "bad", "declined");
    // It serves two of three queues: what nobody serves waits.
    until_in(&stage, "good", "shipping");
    until_in(&stage, "bad", "awaitingPayment");
    drop(first);
    let _second = python(&stage, &[]).unwrap();
    until_in(&stage, "good", "inTransit");
    let tracking = r#"{"trackingId": "t-good"}"#;
    let told = stage.ask(
        "POST /v1/tenants/default/instances/good/events/carrier.delivered",
        "delivered",
        tracking,
    );
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(stage.read("good").field("output")["outcome"], "delivered");
}
