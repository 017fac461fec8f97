//! `--wait`: reads an instance until it rests or has ended, or the time is over.
//!
//! Deliberately absent: a server that holds the answer back. A read is cheap, and a client that has gone costs
//! nothing.

use std::time::{Duration, Instant};

use serde_json::Value;

use statehouse_sdk::Request;

use super::{WaitFor, view};
use crate::cli::{
    exit::{Exit, Failure},
    output::{items, text},
    session::Session,
};

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Waits and prints how the instance stands then.
pub(super) async fn until(
    session: &Session,
    id: &str,
    wanted: WaitFor,
    limit: Duration,
) -> Result<Exit, Failure> {
    let begin = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        let request = Request::get(session.path(&format!("/instances/{id}")));
        let Some(reply) = session.run(&request).await? else { return Ok(Exit::Ok) };
        if is_reached(&reply.body, wanted) {
            session.output.show(&reply.body, |body| view::instance(session.output, body))?;
            return Ok(Exit::Ok);
        }
        let left = limit.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Err(elapsed(id, wanted, limit, &reply.body));
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn is_reached(instance: &Value, wanted: WaitFor) -> bool {
    let is_finished =
        matches!(text(instance, "status").as_str(), "done" | "failed" | "cancelled" | "terminated");
    let is_held = matches!(text(instance, "status").as_str(), "paused" | "faulted");
    match wanted {
        WaitFor::Finished => is_finished,
        WaitFor::Resting => is_finished || is_held || items(instance, "tasks").is_empty(),
    }
}

fn elapsed(id: &str, wanted: WaitFor, limit: Duration, instance: &Value) -> Failure {
    let goal = match wanted {
        WaitFor::Resting => "does not rest",
        WaitFor::Finished => "has not finished",
    };
    let place = text(instance, "configuration");
    Failure::new(
        Exit::WaitElapsed,
        "wait_elapsed",
        format!("{id} {goal} after {limit:?}: it is {} in [{place}]", text(instance, "status")),
        format!(
            "`statehouse instance explain {id}` says what it waits for; --wait-time waits longer"
        ),
    )
}
