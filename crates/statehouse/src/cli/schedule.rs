//! `statehouse schedule …`: start instances by the calendar.
//!
//! Deliberately absent: working out a time. The server tells the next ones, by the time zones that it knows.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use statehouse_sdk::{Body, Method, Request, escape};

use super::{
    again::Again,
    exit::{Exit, Failure},
    output::{items, plain, text},
    payload,
    session::Session,
};

/// What to do with schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a schedule, or change it.
    Put(Put),
    /// List schedules.
    List,
    /// Show a schedule, how far it has come, and its next times.
    Show {
        /// Its name.
        name: String,
    },
    /// Hold a schedule.
    Pause(Reasoned),
    /// Let a held schedule go on.
    Resume(Reasoned),
    /// Start what would have been started within a time.
    Backfill {
        #[command(flatten)]
        which: Reasoned,
        /// From when on, such as 2026-01-01T00:00:00Z.
        #[arg(long)]
        from: String,
        /// Until when, exclusive.
        #[arg(long)]
        until: String,
    },
    /// Remove a schedule; what it has started goes on.
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        again: Again,
    },
}

/// `schedule put`.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// Its name.
    name: String,
    /// The definition that is started.
    #[arg(long)]
    definition: String,
    /// Its version; left out: the current one at each start.
    #[arg(long)]
    version: Option<u32>,
    /// Minute, hour, day of month, month, day of week, such as '0 3 * * *'.
    #[arg(long, required_unless_present = "every", conflicts_with = "every")]
    cron: Option<String>,
    /// An interval, such as 15m.
    #[arg(long)]
    every: Option<String>,
    /// Time zone of --cron, such as Europe/Berlin.
    #[arg(long, default_value = "UTC")]
    time_zone: String,
    /// While the last one runs: skip, queue or cancel_other.
    #[arg(long, default_value = "skip")]
    overlap: String,
    /// Of missed starts: all, last or none.
    #[arg(long, default_value = "last")]
    catch_up: String,
    /// Input of each start as JSON, `@FILE`, or `-` for standard input.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    input: String,
    #[command(flatten)]
    again: Again,
}

/// A schedule with a reason.
#[derive(Debug, Args)]
pub(crate) struct Reasoned {
    /// Its name.
    name: String,
    /// Why; stands in the audit.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    again: Again,
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    match verb {
        Verb::Put(put) => put.run(session).await,
        Verb::List => list(session).await,
        Verb::Show { name } => show(&name, session).await,
        Verb::Pause(which) => which.send("pause", json!({}), session).await,
        Verb::Resume(which) => which.send("resume", json!({}), session).await,
        Verb::Backfill { which, from, until } => {
            which.send("backfill", json!({ "from": from, "until": until }), session).await
        }
        Verb::Remove { name, again } => {
            let path = session.path(&format!("/schedules/{}", escape(&name)));
            let request = again.on(Request::new(Method::Delete, path, Body::None));
            session.show(&request, |_| format!("schedule {name} is gone")).await
        }
    }
}

impl Put {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let mut body = json!({
            "name": self.name,
            "definition": self.definition,
            "input": payload::object("--input", &self.input)?,
            "overlap": self.overlap,
            "catch_up": self.catch_up,
        });
        let mut put = |name: &str, value: Value| body[name] = value;
        if let Some(version) = self.version {
            put("version", version.into());
        }
        if let Some(cron) = self.cron {
            put("cron", cron.into());
            put("time_zone", self.time_zone.into());
        }
        if let Some(every) = self.every {
            put("every", every.into());
        }
        let request = Request::post(session.path("/schedules"), Body::Json(body));
        session.show(&self.again.on(request), said).await
    }
}

impl Reasoned {
    async fn send(self, verb: &str, more: Value, session: &Session) -> Result<Exit, Failure> {
        let mut body = more;
        body["reason"] = self.reason.into();
        let path = session.path(&format!("/schedules/{}/{verb}", escape(&self.name)));
        let request = self.again.on(Request::post(path, Body::Json(body)));
        session.show(&request, said).await
    }
}

fn said(body: &Value) -> String {
    let name = text(body, "name");
    let waiting = match body.get("pending").and_then(Value::as_u64) {
        Some(count) if count > 0 => format!("; {count} starts wait"),
        _ => String::new(),
    };
    match body.get("next").and_then(Value::as_str) {
        Some(next) => format!("{name} starts next at {next}{waiting}"),
        None => format!("{name} is held{waiting}"),
    }
}

async fn list(session: &Session) -> Result<Exit, Failure> {
    let row = |item: &Value| {
        let (spec, state) = (&item["spec"], &item["state"]);
        let when = if spec["cron"].is_string() {
            format!("{} {}", text(spec, "cron"), text(spec, "time_zone"))
        } else {
            format!("every {}", text(spec, "every"))
        };
        [
            text(item, "name"),
            text(spec, "definition"),
            when,
            text(item, "next"),
            text(state, "last_instance"),
            text(state, "started"),
            text(state, "last_error"),
        ]
    };
    let head = ["schedule", "definition", "when", "next", "last", "started", "error"];
    let table =
        |body: &Value| session.output.table(head, items(body, "items").iter().map(row).collect());
    session.show(&Request::get(session.path("/schedules")), table).await
}

async fn show(name: &str, session: &Session) -> Result<Exit, Failure> {
    let request = Request::get(session.path(&format!("/schedules/{}", escape(name))));
    let table = |body: &Value| {
        let (spec, state) = (&body["spec"], &body["state"]);
        session.output.pairs(&[
            ("schedule", text(body, "name")),
            ("definition", text(spec, "definition")),
            ("cron", text(spec, "cron")),
            ("every", text(spec, "every")),
            ("time zone", text(spec, "time_zone")),
            ("overlap", text(spec, "overlap")),
            ("catch up", text(spec, "catch_up")),
            ("held", text(spec, "paused")),
            ("next", items(body, "upcoming").iter().map(plain).collect::<Vec<_>>().join(", ")),
            ("waiting", text(state, "pending")),
            ("started", text(state, "started")),
            ("left out", text(state, "skipped")),
            ("refused", text(state, "refused")),
            ("last", text(state, "last_instance")),
            ("error", text(state, "last_error")),
        ])
    };
    session.show(&request, table).await
}
