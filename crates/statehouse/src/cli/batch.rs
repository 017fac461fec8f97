//! `statehouse batch …`: one verb for many instances, at a measured pace.
//!
//! A batch is carried out by the cluster; this only begins it and looks. `--wait` follows it to its end.
//!
//! Deliberately absent: choosing instances here. The filter goes along, so that a batch means the same wherever it runs.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use statehouse_sdk::{Body, Method, Request, escape};

use super::{
    again::Again,
    exit::{Exit, Failure},
    output::{items, plain, text},
    session::Session,
};

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(300);

/// What to do with batches.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Begin a batch.
    Start(Box<Start>),
    /// List batches.
    List,
    /// Show how far a batch has come, and who refused why.
    Show {
        /// Its name.
        name: String,
        /// Follow it to its end.
        #[arg(long)]
        wait: bool,
    },
    /// Stop a batch where it is; what it has done stands.
    Stop {
        /// Its name.
        name: String,
        /// Why; stands in the audit.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        again: Again,
    },
    /// Remove a batch that has ended.
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        again: Again,
    },
}

/// `batch start`.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Its name.
    name: String,
    /// What is said to each instance.
    #[arg(value_parser = ["cancel", "terminate", "pause", "resume", "retry", "skip", "migrate", "reset"])]
    verb: String,
    /// Of migrate: the version to move to.
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    /// Of reset: the version of each instance from which its new one begins.
    #[arg(long, value_name = "VERSION")]
    to_version: Option<u64>,
    /// Only instances of this definition.
    #[arg(long)]
    definition: Option<String>,
    /// Only instances of this version of the definition.
    #[arg(long, requires = "definition", value_name = "VERSION")]
    definition_version: Option<u32>,
    /// Only instances with this status; left out: all that have not ended.
    #[arg(long)]
    status: Option<String>,
    /// Only instances in this state.
    #[arg(long)]
    state: Option<String>,
    /// Only instances with this tag.
    #[arg(long)]
    tag: Option<String>,
    /// At most so many instances a second.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// The share of the instances; the same ones each time.
    #[arg(long, default_value_t = 100)]
    percent: u8,
    /// Only find out what would happen.
    #[arg(long)]
    dry_run: bool,
    /// Whether the first refusal stops it; left out: only of a migration.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    stop_on_refusal: Option<bool>,
    /// Why; stands in every instance's history.
    #[arg(long)]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Follow it to its end.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    again: Again,
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    match verb {
        Verb::Start(start) => start.run(session).await,
        Verb::List => list(session).await,
        Verb::Show { name, wait: true } => follow(&name, session).await,
        Verb::Show { name, wait: false } => show(&name, session).await,
        Verb::Stop { name, reason, again } => {
            let path = session.path(&format!("/batches/{}/stop", escape(&name)));
            let request = again.on(Request::post(path, Body::Json(json!({ "reason": reason }))));
            session.show(&request, |body| format!("batch {name} is {}", text(body, "phase"))).await
        }
        Verb::Remove { name, again } => {
            let path = session.path(&format!("/batches/{}", escape(&name)));
            let request = again.on(Request::new(Method::Delete, path, Body::None));
            session.show(&request, |_| format!("batch {name} is gone")).await
        }
    }
}

impl Start {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let is_final = matches!(self.verb.as_str(), "cancel" | "terminate" | "skip" | "migrate");
        if is_final && !self.dry_run && !self.yes && !session.is_curl() {
            super::confirm(&format!(
                "{} every instance that the filter finds? It cannot be taken back; --dry-run tells what would happen.",
                self.verb
            ))?;
        }
        let filter = json!({
            "definition": self.definition,
            "version": self.definition_version,
            "status": self.status,
            "state": self.state,
            "tag": self.tag,
        });
        let body = json!({
            "name": self.name,
            "verb": self.verb,
            "to": self.to,
            "version": self.to_version,
            "filter": without_nulls(filter),
            "rate": self.rate,
            "percent": self.percent,
            "dry_run": self.dry_run,
            "stop_on_refusal": self.stop_on_refusal,
            "reason": self.reason,
        });
        let request = Request::post(session.path("/batches"), Body::Json(without_nulls(body)));
        let request = self.again.on(request);
        if !self.wait {
            let said =
                |body: &Value| format!("batch {} is {}", text(body, "name"), text(body, "phase"));
            return session.show(&request, said).await;
        }
        match session.run(&request).await? {
            Some(_) => follow(&self.name, session).await,
            None => Ok(Exit::Ok),
        }
    }
}

fn without_nulls(mut body: Value) -> Value {
    if let Some(members) = body.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    body
}

async fn list(session: &Session) -> Result<Exit, Failure> {
    let row = |item: &Value| {
        let (spec, state) = (&item["spec"], &item["state"]);
        [
            text(item, "name"),
            text(spec, "verb"),
            text(state, "phase"),
            text(state, "found"),
            text(state, "accepted"),
            text(state, "refused"),
            text(state, "left"),
            text(state, "by"),
        ]
    };
    let head = ["batch", "verb", "phase", "found", "accepted", "refused", "left", "by"];
    let table =
        |body: &Value| session.output.table(head, items(body, "items").iter().map(row).collect());
    session.show(&Request::get(session.path("/batches")), table).await
}

fn request(name: &str, session: &Session) -> Request {
    Request::get(session.path(&format!("/batches/{}", escape(name))))
}

async fn show(name: &str, session: &Session) -> Result<Exit, Failure> {
    session.show(&request(name, session), |body| told(body, session)).await
}

/// Looks until the batch has ended, says so on the error output while it goes on, and shows it.
async fn follow(name: &str, session: &Session) -> Result<Exit, Failure> {
    let request = request(name, session);
    loop {
        let Some(reply) = session.run(&request).await? else { return Ok(Exit::Ok) };
        let state = &reply.body["state"];
        if state["phase"] != "running" {
            session.output.show(&reply.body, |body| told(body, session))?;
            let is_clean = state["phase"] == "done" && state["refused"] == 0;
            return Ok(if is_clean { Exit::Ok } else { Exit::Rejected });
        }
        session.output.note(&format!(
            "{name}: {} found, {} accepted, {} refused",
            state["found"], state["accepted"], state["refused"]
        ));
        tokio::time::sleep(LOOK).await;
    }
}

fn told(body: &Value, session: &Session) -> String {
    let (spec, state) = (&body["spec"], &body["state"]);
    let dry = if spec["dry_run"] == true { " (only tried)" } else { "" };
    let mut shown = session.output.pairs(&[
        ("batch", text(body, "name")),
        ("verb", format!("{}{dry}", text(spec, "verb"))),
        ("to", text(spec, "to")),
        ("from version", text(spec, "version")),
        ("filter", text(spec, "filter")),
        ("phase", text(state, "phase")),
        ("stopped", text(state, "stopped")),
        ("found", text(state, "found")),
        ("accepted", text(state, "accepted")),
        ("refused", text(state, "refused")),
        ("nothing to do", text(state, "left")),
        ("not drawn", text(state, "not_drawn")),
        ("reason", text(spec, "reason")),
        ("by", text(state, "by")),
        ("began", text(state, "began")),
        ("ended", text(state, "ended")),
    ]);
    for (what, counts) in [("moves", &state["moves"]), ("by code", &state["codes"])] {
        let counts = counts.as_object().filter(|counts| !counts.is_empty());
        if let Some(counts) = counts {
            let rows = counts.iter().map(|(name, count)| [name.clone(), plain(count)]).collect();
            shown.push_str("\n\n");
            shown.push_str(&session.output.table([what, "instances"], rows));
        }
    }
    let examples = items(state, "examples");
    if !examples.is_empty() {
        let row = |item: &Value| [text(item, "instance"), text(item, "code"), text(item, "detail")];
        let rows = examples.iter().map(row).collect();
        shown.push_str("\n\n");
        shown.push_str(&session.output.table(["refused", "code", "why"], rows));
    }
    shown
}
