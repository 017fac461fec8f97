//! A worker for the sample `order-fulfilment`, on a node of `statehouse dev`.
//!
//! `STATEHOUSE_TOKEN=$(cat statehouse-data/dev-token) cargo run -p statehouse-sdk --example worker`, then in another
//! terminal deploy the definition and start an order. Ctrl-C finishes what it holds and stops.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use serde::Deserialize;
use serde_json::{Value, json};
use statehouse_sdk::{Client, Options, TaskError, Work, Worker};

#[derive(Deserialize)]
struct Charge {
    token: String,
    amount: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::new(["http://127.0.0.1:7400"]);
    options.token = std::env::var("STATEHOUSE_TOKEN").ok();
    let queues =
        ["reserve-stock", "release-stock", "charge-card", "refund-card", "create-shipment"];
    let worker = Worker::new(Client::new(options)?, "example");
    let worker =
        queues.into_iter().fold(worker, |worker, queue| worker.queue(queue)).concurrency(8);
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let tally = worker.run(stop, |work: Work<Value>| async move { work_on(&work) }).await;
    println!("{tally:?}");
    Ok(())
}

fn work_on(work: &Work<Value>) -> Result<Value, TaskError> {
    println!("{} for {}, attempt {}", work.task.src, work.task.instance, work.task.attempt);
    Ok(match work.task.src.as_str() {
        "task:reserve-stock" => json!({ "reservationId": work.idempotency_key() }),
        "task:charge-card" => {
            // An input that does not fit is an error that no repeat helps.
            let charge: Charge = serde_json::from_value(work.input.clone())?;
            if charge.token == "declined" {
                return Err(TaskError::fatal(
                    "card_declined",
                    format!("{} is too much", charge.amount),
                ));
            }
            json!({ "chargeId": work.idempotency_key() })
        }
        "task:create-shipment" => json!({ "trackingId": format!("t-{}", work.task.instance) }),
        _ => json!({}),
    })
}
