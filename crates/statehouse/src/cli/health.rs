//! `statehouse health` and `statehouse metrics`: is it alive, is it ready, what does it count.
//!
//! `health --ready` is what a container's health check runs: exit 0 or 6, and one line that says why. Of several servers
//! each is asked once, and every one has to say yes.
//!
//! Deliberately absent: the token; these routes need none.

use clap::Args;
use serde_json::Value;

use statehouse_sdk::{Budget, Request};

use super::{
    exit::{Exit, Failure},
    output::{Output, items, plain},
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
        let request = Request::get(path);
        if session.is_curl() {
            session.run(&request).await?;
            return Ok(Exit::Ok);
        }
        for server in session.servers() {
            let body = ask(&session.at(server), &request).await?;
            let shown = if session.servers().len() == 1 {
                word.to_owned()
            } else {
                format!("{server}  {word}")
            };
            session.output.show(&body, |_| shown)?;
        }
        Ok(Exit::Ok)
    }
}

/// Asks one server once.
async fn ask(session: &Session, request: &Request) -> Result<Value, Failure> {
    let client = session.client()?;
    let once = Budget {
        attempts_max: 1,
        unreached_max: 1,
        attempt: session.timeout,
        total: session.timeout,
    };
    let outcome = client.with_budget(once).send(request.clone()).await;
    let said = outcome.response().map(statehouse_sdk::Response::json).unwrap_or_default();
    let error = match outcome.done() {
        Ok(response) => return Ok(response.json()),
        Err(error) => error,
    };
    let waits_for = items(&said, "waiting_for").iter().map(plain).collect::<Vec<_>>().join("; ");
    if waits_for.is_empty() {
        // Whatever it answered: it is not what was asked for.
        return Err(Failure { exit: Exit::Unavailable, ..session.failure(error) });
    }
    let server = session.servers().join(", ");
    let what = format!("{server} waits for: {waits_for}");
    Err(Failure::new(
        Exit::Unavailable,
        "not_ready",
        what,
        "ask again in a moment; its lines say more",
    ))
}

/// `metrics`.
#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// List every metric that this binary exports, without asking a server.
    #[arg(long)]
    pub(crate) list: bool,
}

/// Lists every metric that this binary exports.
pub(crate) fn list(output: Output) -> Result<Exit, Failure> {
    let made = crate::instruments::all()
        .map_err(|error| Failure::broken(format!("cannot make the instruments: {error}")))?;
    let rows = made.iter().map(|(name, made)| {
        [name.clone(), made.kind.to_owned(), made.unit.to_owned(), made.help.to_owned()]
    });
    let body: Vec<Value> = made
        .iter()
        .map(|(name, made)| {
            serde_json::json!({"name": name, "kind": made.kind, "unit": made.unit, "help": made.help})
        })
        .collect();
    let rows = rows.collect();
    output.show(&serde_json::json!({ "items": body }), |_| {
        output.table(["metric", "kind", "unit", "what"], rows)
    })?;
    Ok(Exit::Ok)
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
