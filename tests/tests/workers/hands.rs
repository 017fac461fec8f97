//! A worker that does what the examples ask for, and keeps a ledger of it.
//!
//! Inputs decide what goes wrong, so that each test has its own day. The ledger says what was done for whom, in which order,
//! and under which name.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use statehouse_sdk::{Client, TaskError, Work, Worker};
use tokio::{sync::oneshot, task::JoinHandle};

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
pub(crate) type Ledger = Arc<Mutex<Vec<(String, String, String)>>>;

/// A worker that does everything the examples ask for.
pub(crate) struct Hands {
    pub(crate) ledger: Ledger,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<statehouse_sdk::Tally>,
}

impl Hands {
    pub(crate) fn at(client: Client) -> Self {
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
    pub(crate) fn done_for(&self, instance: &str) -> Vec<String> {
        let ledger = self.ledger.lock().unwrap();
        let own = ledger.iter().filter(|(of, ..)| of == instance);
        own.map(|(_, what, _)| what.clone()).collect()
    }

    pub(crate) async fn end(mut self) -> statehouse_sdk::Tally {
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
        "measure-recovery" if text("check") == "endless" => return called_off(&mut work).await,
        // What is called off once and does well the second time.
        "measure-recovery"
            if text("check") == "slow" && is_first(&ledger, &task.instance, &what) =>
        {
            return called_off(&mut work).await;
        }
        "shift-traffic" if text("tenant") == "slow" && is_first(&ledger, &task.instance, &what) => {
            return called_off(&mut work).await;
        }
        _ => json!({}),
    };
    ledger.lock().unwrap().push((task.instance, what, task.idempotency_key));
    Ok(output)
}

/// Works until it is told to stop.
async fn called_off(work: &mut Work<Value>) -> Result<Value, TaskError> {
    work.stopped().await;
    Err(TaskError::retryable("stopped", "it was called off"))
}

/// Whether such work was never begun for an instance; it is begun now.
fn is_first(ledger: &Ledger, instance: &str, what: &str) -> bool {
    let mut ledger = ledger.lock().unwrap();
    let begun = format!("{what} begun");
    let is_first = !ledger.iter().any(|(of, done, _)| of == instance && *done == begun);
    if is_first {
        ledger.push((instance.to_owned(), begun, String::new()));
    }
    is_first
}
