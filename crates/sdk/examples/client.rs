//! Starts an instance of the sample `approval` and moves it, on a node of `statehouse dev`.
//!
//! `STATEHOUSE_TOKEN=$(cat statehouse-data/dev-token) cargo run -p statehouse-sdk --example client`
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use serde_json::json;
use statehouse_sdk::{Client, Options, Outcome, ReadAt, Start, With};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::new(["http://127.0.0.1:7400"]);
    options.token = std::env::var("STATEHOUSE_TOKEN").ok();
    let client = Client::new(options)?;
    // The key makes it one purchase, however often this program is run.
    let with = With { key: Some("purchase-7"), ..With::default() };
    let input = json!({ "amount": 12, "what": "tea" });
    let start = Start { definition: "approval", input: Some(&input), ..Start::default() };
    let started = client.start(start, with).await.done()?;
    let id = started.json()["id"].as_str().unwrap_or_default().to_owned();
    println!("{id}, {}", if started.is_replayed() { "started before" } else { "started now" });
    match client.event(&id, "approve", json!({}), With::default()).await {
        Outcome::Accepted(answer) => println!("approved: {}", answer.text()),
        Outcome::Postponed(answer) => println!("kept for later: {}", answer.text()),
        Outcome::Rejected(problem) => println!("refused: {}", problem.detail),
        Outcome::Unknown(unknown) => println!("nobody knows yet: {}", unknown.why),
        Outcome::Failed(failure) => println!("certainly not done: {failure:?}"),
    }
    println!("{}", client.get(&id, ReadAt::default()).await.done()?.text());
    Ok(())
}
