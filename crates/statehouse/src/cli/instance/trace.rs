//! `statehouse instance trace`: an instance's spans, told from its history.
//!
//! A collector forgets and may lose what was sent. The history does not: each move has its time, its cause, the trace in
//! which it was decided, and follows the move before it. So the picture can be drawn years later; the trace id leads to the
//! collector's own, with what happened inside a move, while that is kept.
//!
//! Deliberately absent: how long a move took. History knows when it was decided, and how long the instance rested after it.

use clap::Args;
use serde_json::{Value, json};

use statehouse_contract::limits::PAGE_MAX;
use statehouse_sdk::Request;

use crate::cli::{
    exit::{Exit, Failure},
    output::{items, text},
    session::Session,
};

/// Width of the picture in characters.
const WIDTH: usize = 40;

/// `instance trace`.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// Id of the instance.
    #[arg(value_parser = crate::cli::instance_id)]
    id: String,
}

impl Trace {
    /// Runs the verb.
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let path = session.path(&format!("/instances/{}/history", self.id));
        let mut moves: Vec<Value> = Vec::new();
        loop {
            let after = moves.last().and_then(|last| last["version"].as_u64());
            let request =
                Request::get(path.clone()).with("after", after).with("limit", Some(PAGE_MAX));
            let Some(reply) = session.run(&request).await? else { return Ok(Exit::Ok) };
            let page = items(&reply.body, "items");
            moves.extend(page.iter().cloned());
            if reply.body["page"]["has_more"] != true || page.is_empty() {
                break;
            }
        }
        let spans = spans(&moves);
        session
            .output
            .show(&json!({ "instance": self.id, "spans": spans }), |_| told(&spans, session))?;
        Ok(Exit::Ok)
    }
}

/// A span for each move: from its decision until the next one.
fn spans(moves: &[Value]) -> Vec<Value> {
    let ms = |item: &Value| -> i64 {
        let at: Option<jiff::Timestamp> = item["at"].as_str().and_then(|at| at.parse().ok());
        at.map_or(0, jiff::Timestamp::as_millisecond)
    };
    let began = moves.first().map_or(0, ms);
    let span = |(place, item): (usize, &Value)| {
        let until = moves.get(place + 1).map_or_else(|| ms(item), ms);
        let follows = place.checked_sub(1).map(|before| moves[before]["version"].clone());
        json!({
            "version": item["version"],
            "name": item["event"],
            "cause": item["cause"],
            "to": item["to"],
            "at": item["at"],
            "after_ms": ms(item) - began,
            "rests_ms": until - ms(item),
            "trace_id": item["trace_id"],
            "follows": follows,
            "correlation_id": item["correlation_id"],
        })
    };
    moves.iter().enumerate().map(span).collect()
}

fn told(spans: &[Value], session: &Session) -> String {
    let number = |span: &Value, name: &str| span[name].as_i64().unwrap_or(0).max(0);
    let whole = spans.iter().map(|span| number(span, "after_ms") + number(span, "rests_ms")).max();
    let whole = whole.unwrap_or(0).max(1);
    let place = |ms: i64| usize::try_from(ms * WIDTH as i64 / whole).unwrap_or(0).min(WIDTH - 1);
    let row = |span: &Value| {
        let (from, rests) = (number(span, "after_ms"), number(span, "rests_ms"));
        let (first, last) = (place(from), place(from + rests));
        let bar: String = (0..WIDTH)
            .map(|at| match at {
                at if at == first => '|',
                at if at > first && at < last => '-',
                _ => ' ',
            })
            .collect();
        let states: Vec<String> = items(span, "to").iter().map(crate::cli::output::plain).collect();
        [
            text(span, "version"),
            format!("+{} ms", from),
            text(span, "cause"),
            text(span, "name"),
            states.join(" "),
            bar,
            text(span, "trace_id"),
        ]
    };
    let head = ["version", "at", "cause", "event", "to", "from then until the next", "trace"];
    session.output.table(head, spans.iter().map(row).collect())
}
