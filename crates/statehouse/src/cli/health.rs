//! `statehouse health` and `statehouse metrics`: is it alive, is it ready, what does it count.
//!
//! `health --ready` is what a container's health check runs: exit 0 or 6, and one line that says why.
//!
//! Deliberately absent: the token; these routes need none.

use clap::Args;
use serde_json::Value;

use statehouse_sdk::Request;

use super::{
    exit::{Exit, Failure},
    output::plain,
    session::Session,
};

/// `health`.
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Ask whether it can serve, not only whether it is alive.
    #[arg(long)]
    ready: bool,
}

impl Health {
    /// Runs the verb.
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let (path, word) = if self.ready { ("/readyz", "ready") } else { ("/healthz", "alive") };
        let answer = session.run(&Request::get(path)).await.map_err(|failure| Failure {
            // Whatever it answered: it is not what was asked for.
            exit: Exit::Unavailable,
            ..failure
        })?;
        let Some(reply) = answer else { return Ok(Exit::Ok) };
        session.output.show(&reply.body, |_| word.to_owned())?;
        Ok(Exit::Ok)
    }
}

/// Prints the metrics as Prometheus reads them.
pub(crate) async fn metrics(session: &Session) -> Result<Exit, Failure> {
    let Some(reply) = session.run(&Request::get("/metrics")).await? else { return Ok(Exit::Ok) };
    match &reply.body {
        Value::String(text) => session.output.line(text.trim_end())?,
        other => session.output.line(&plain(other))?,
    }
    Ok(Exit::Ok)
}
