//! `statehouse instance …`: start, send, look, explain, watch, and the operator's verbs.
//!
//! Each verb is one request with the same words as the API. Waiting (`--wait`) is the client's: it reads until
//! the instance rests or has ended, because an answer that is held back would tie up a server for nothing.
//!
//! Deliberately absent: many instances at once; `batch` does that.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use statehouse_sdk::{Body, Request};

use super::{
    exit::{Exit, Failure},
    payload,
    session::Session,
};

mod look;
mod trace;
mod view;
mod wait;

/// What to do with instances.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start an instance of a definition.
    Start(Start),
    /// Send a command, and print its receipt.
    Send(Send),
    /// Send a signal, and print what became of it.
    Signal(Send),
    /// Show how an instance stands.
    Get(look::Get),
    /// List instances; finished ones only with --all.
    List(look::List),
    /// List an instance's transitions, oldest first.
    History(look::History),
    /// Say why an instance rests where it rests, and what it would accept.
    Explain(look::Explain),
    /// Draw an instance's moves in time, with their traces, from its history.
    Trace(trace::Trace),
    /// Print changes as they happen.
    Watch(look::Watch),
    /// Ask an instance to end; what it did is undone by its saga.
    Cancel(Operate),
    /// End an instance now: no actions, no compensation.
    Terminate(Operate),
    /// Hold an instance's timers and refuse commands.
    Pause(Operate),
    /// Take a paused instance up again.
    Resume(Operate),
    /// Run the event again that made an instance faulted, or a parked task.
    Retry(Retry),
    /// Drop the event that made an instance faulted, or complete an open task in its worker's stead.
    Skip(Skip),
    /// Move an instance to another version of its definition.
    Migrate(Migrate),
    /// Begin a new instance as this one stood at an earlier version.
    Reset(Reset),
}

/// `instance start`.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Name of the definition.
    definition: String,
    /// Version of the definition; left out: the current one.
    #[arg(long)]
    version: Option<u32>,
    /// Id of the new instance; left out: derived from the key.
    #[arg(long, value_parser = super::instance_id)]
    id: Option<String>,
    /// Input as JSON, `@FILE`, or `-` for standard input.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    input: String,
    #[command(flatten)]
    command: CommandFlags,
}

/// `instance send` and `instance signal`.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Id of the instance.
    #[arg(value_parser = super::instance_id)]
    id: String,
    /// Name of the command or signal.
    event: String,
    /// Payload as JSON, `@FILE`, or `-` for standard input.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    data: String,
    /// Refuse it unless the instance is at this version (`born.version`, as `get` shows it).
    #[arg(long, alias = "expect", value_parser = super::version_tag, value_name = "VERSION")]
    if_match: Option<String>,
    /// How long it may stay postponed, for example 5m.
    #[arg(long, value_parser = super::duration, value_name = "TIME")]
    postpone: Option<std::time::Duration>,
    #[command(flatten)]
    command: CommandFlags,
}

/// What start, send and signal have in common.
#[derive(Debug, Args)]
struct CommandFlags {
    /// Idempotency key; the same key again gets the same answer. Left out: a new one.
    #[arg(long, value_parser = super::key_text)]
    key: Option<String>,
    /// Show what would happen; nothing is written.
    #[arg(long)]
    dry_run: bool,
    /// Wait until the instance rests, or has finished.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "resting")]
    wait: Option<WaitFor>,
    /// How long --wait waits.
    #[arg(long, default_value = "30s", value_parser = super::duration, value_name = "TIME")]
    wait_time: std::time::Duration,
}

/// What `--wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WaitFor {
    /// No task is open: only an event or a timer moves it.
    Resting,
    /// It has ended.
    Finished,
}

/// An operator's verb.
#[derive(Debug, Args)]
pub(crate) struct Operate {
    /// Id of the instance.
    #[arg(value_parser = super::instance_id)]
    id: String,
    /// Why; stands in the history.
    #[arg(long)]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Show what would happen; nothing is written.
    #[arg(long)]
    dry_run: bool,
    /// Refuse it unless the instance is at this version (`born.version`, as `get` shows it).
    #[arg(long, alias = "expect", value_parser = super::version_tag, value_name = "VERSION")]
    if_match: Option<String>,
    /// Idempotency key; left out: a new one.
    #[arg(long, value_parser = super::key_text)]
    key: Option<String>,
}

/// `instance retry`.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The parked task; left out: the event that made the instance faulted.
    #[arg(long)]
    task: Option<String>,
    #[command(flatten)]
    operate: Operate,
}

/// `instance skip`.
#[derive(Debug, Args)]
pub(crate) struct Skip {
    /// The open task that is completed; left out: the event that made the instance faulted.
    #[arg(long)]
    task: Option<String>,
    /// The task's output as JSON, `@FILE`, or `-` for standard input.
    #[arg(long, requires = "task", value_name = "JSON")]
    output: Option<String>,
    #[command(flatten)]
    operate: Operate,
}

/// `instance migrate`.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// The version to move to.
    #[arg(long, value_name = "VERSION")]
    to: u32,
    #[command(flatten)]
    operate: Operate,
}

/// `instance reset`.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The version of the instance from which the new one begins, as `history` shows it.
    #[arg(long, value_name = "VERSION")]
    to_version: u64,
    /// Id of the new instance.
    #[arg(long, value_parser = super::instance_id, value_name = "ID")]
    as_instance: String,
    #[command(flatten)]
    operate: Operate,
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    match verb {
        Verb::Start(start) => start.run(session).await,
        Verb::Send(send) | Verb::Signal(send) => send.run(session).await,
        Verb::Get(get) => get.run(session).await,
        Verb::List(list) => list.run(session).await,
        Verb::History(history) => history.run(session).await,
        Verb::Explain(explain) => explain.run(session).await,
        Verb::Trace(trace) => trace.run(session).await,
        Verb::Watch(watch) => watch.run(session).await,
        Verb::Cancel(operate) => operate.run("cancel", Undoable::No, session).await,
        Verb::Terminate(operate) => operate.run("terminate", Undoable::No, session).await,
        Verb::Pause(operate) => operate.run("pause", Undoable::Yes, session).await,
        Verb::Resume(operate) => operate.run("resume", Undoable::Yes, session).await,
        Verb::Retry(Retry { task, operate }) => {
            let more = task.map(|task| json!({ "task": task })).unwrap_or_else(|| json!({}));
            operate.run_with("retry", Undoable::Yes, more, session).await
        }
        Verb::Skip(Skip { task, output, operate }) => {
            let mut more = task.map(|task| json!({ "task": task })).unwrap_or_else(|| json!({}));
            if let Some(output) = output {
                more["output"] = payload::value("--output", &output)?;
            }
            operate.run_with("skip", Undoable::No, more, session).await
        }
        Verb::Migrate(Migrate { to, operate }) => {
            operate.run_with("migrate", Undoable::No, json!({ "to": to }), session).await
        }
        Verb::Reset(Reset { to_version, as_instance, operate }) => {
            let more = json!({ "version": to_version, "instance": as_instance });
            operate.run_with("reset", Undoable::Yes, more, session).await
        }
    }
}

impl Start {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let mut body = json!({"definition": self.definition});
        let mut put = |name: &str, value: Value| {
            body.as_object_mut().map(|members| members.insert(name.to_owned(), value))
        };
        if let Some(version) = self.version {
            put("version", version.into());
        }
        if let Some(id) = &self.id {
            put("id", id.as_str().into());
        }
        put("input", payload::object("--input", &self.input)?);
        let request = Request::post(session.path("/instances"), Body::Json(body))
            .with("dry_run", self.command.dry_run.then_some(true))
            .keyed(self.command.key.as_deref());
        let Some(reply) = session.run(&request).await? else { return Ok(Exit::Ok) };
        session.output.show(&reply.body, |body| {
            view::receipt(session.output, self.id.as_deref(), &reply, body)
        })?;
        let id = reply.body.get("id").and_then(Value::as_str).map(str::to_owned).or(self.id);
        match (self.command.wait, id) {
            (Some(wanted), Some(id)) if !self.command.dry_run => {
                wait::until(session, &id, wanted, self.command.wait_time).await
            }
            (Some(_) | None, _) => Ok(Exit::Ok),
        }
    }
}

impl Send {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let body = payload::object("--data", &self.data)?;
        let path = session.path(&format!(
            "/instances/{}/events/{}",
            self.id,
            statehouse_sdk::escape(&self.event)
        ));
        let postpone_ms = self.postpone.map(|time| time.as_millis());
        let request = Request::post(path, Body::Json(body))
            .with("dry_run", self.command.dry_run.then_some(true))
            .keyed(self.command.key.as_deref())
            .header("If-Match", quoted(self.if_match.as_deref()))
            .header("X-Statehouse-Postpone-Ms", postpone_ms);
        let Some(reply) = session.run(&request).await? else { return Ok(Exit::Ok) };
        session.output.show(&reply.body, |body| {
            view::receipt(session.output, Some(&self.id), &reply, body)
        })?;
        match self.command.wait {
            Some(wanted) if !self.command.dry_run => {
                wait::until(session, &self.id, wanted, self.command.wait_time).await
            }
            Some(_) | None => Ok(Exit::Ok),
        }
    }
}

/// Whether a verb can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undoable {
    Yes,
    No,
}

impl Operate {
    async fn run(self, verb: &str, undoable: Undoable, session: &Session) -> Result<Exit, Failure> {
        self.run_with(verb, undoable, json!({}), session).await
    }

    /// Sends a verb with more than its reason.
    async fn run_with(
        self,
        verb: &str,
        undoable: Undoable,
        more: Value,
        session: &Session,
    ) -> Result<Exit, Failure> {
        let mut body = more;
        body["reason"] = self.reason.as_str().into();
        if undoable == Undoable::No && !self.yes && !self.dry_run && !session.is_curl() {
            super::confirm(&format!("{verb} {}? It cannot be taken back.", self.id))?;
        }
        let path = session.path(&format!("/instances/{}/{verb}", self.id));
        let request = Request::post(path, Body::Json(body))
            .with("dry_run", self.dry_run.then_some(true))
            .keyed(self.key.as_deref())
            .header("If-Match", quoted(self.if_match.as_deref()));
        let Some(reply) = session.run(&request).await? else { return Ok(Exit::Ok) };
        session.output.show(&reply.body, |body| {
            view::receipt(session.output, Some(&self.id), &reply, body)
        })?;
        Ok(Exit::Ok)
    }
}

// An entity tag stands in quotes on the wire.
fn quoted(tag: Option<&str>) -> Option<String> {
    tag.map(|tag| format!("\"{}\"", tag.trim_matches('"')))
}
