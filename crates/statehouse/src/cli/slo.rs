//! `statehouse slo status`: what was promised, and how fast the rest of the promise burns.
//!
//! Of several servers each is asked: every node counts what it answered itself.
//!
//! Deliberately absent: adding nodes up. Prometheus does that, over all the time it has.

use clap::Subcommand;
use serde_json::Value;

use statehouse_sdk::Request;

use super::{
    exit::{Exit, Failure},
    output::{items, text},
    session::Session,
};

/// What to do with service levels.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show every objective of each server, with its burn rates.
    Status,
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    let Verb::Status = verb;
    let request = Request::get("/v1/slo");
    for server in session.servers() {
        let Some(reply) = session.at(server).run(&request).await? else { return Ok(Exit::Ok) };
        session.output.show(&reply.body, |body| told(server, body, session))?;
    }
    Ok(Exit::Ok)
}

fn told(server: &str, body: &Value, session: &Session) -> String {
    let rate = |item: &Value, window: &str| {
        let found = items(item, "windows").iter().find(|one| one["window"] == window);
        let burn = found.and_then(|one| one["burn"].as_f64()).unwrap_or(0.0);
        format!("{burn:.2}")
    };
    let row = |item: &Value| {
        [
            text(item, "objective"),
            format!("{} %", item["target_percent"]),
            text(item, "good"),
            text(item, "total"),
            rate(item, "5m"),
            rate(item, "30m"),
            rate(item, "1h"),
            rate(item, "6h"),
            rate(item, "3d"),
            text(item, "alarm"),
        ]
    };
    let head = ["objective", "target", "good", "of", "5m", "30m", "1h", "6h", "3d", "alarm"];
    let rows = items(body, "items").iter().map(row).collect();
    format!("{server}\n{}", session.output.table(head, rows))
}
