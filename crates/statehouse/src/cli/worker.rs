//! `statehouse worker run`: a program for each task, so that any language can be a worker.
//!
//! The program gets the task's input as JSON on standard input and says the output as JSON on standard output. How it ends
//! says how the attempt went (the table in `--help`). Everything else, leases, heartbeats, retries, is done here.
//!
//! The program runs in a process group of its own; when the work was cancelled or its lease is over, the group is asked to
//! end, and ended after a grace.
//!
//! Deliberately absent: the credential. A program never sees the token with which tasks are leased.

mod program;

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use serde_json::Value;

use statehouse_sdk::{TaskError, Work, Worker};
use statehouse_telemetry::{LogFormat, LogSettings, OutletSettings, Pipeline};

use super::{
    exit::{Exit, Failure},
    session::Session,
};
use program::Program;

/// How long the end waits for a collector.
const TELL_MAX: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "\
The program gets the input as JSON on standard input, and writes the output as JSON to standard output
(nothing counts as {}). Its exit code says how the attempt ended:
  0     done
  1     failed; tried again if the definition's retry policy allows it (75 is the same)
  2     failed for good: another attempt is in vain
  other failed; tried again
Code and message of a failure: a JSON object {\"error\": {\"code\": \"…\", \"message\": \"…\"}} on standard output, else the
code exit_N and the last line of standard error.
Environment: STATEHOUSE_TASK_ID, STATEHOUSE_QUEUE, STATEHOUSE_INSTANCE, STATEHOUSE_DEFINITION, STATEHOUSE_ATTEMPT,
STATEHOUSE_IDEMPOTENCY_KEY (hand it on to whoever must not do the work twice), TRACEPARENT.";

/// What to do as a worker.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a program for each task of some queues.
    #[command(after_help = AFTER_HELP)]
    Run(Run),
}

/// `worker run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A queue to serve; may be given several times.
    #[arg(long = "queue", required = true)]
    queues: Vec<String>,
    /// Tasks that run at once.
    #[arg(long, default_value_t = 1, value_name = "N")]
    concurrency: usize,
    /// Name of the worker, for people; left out: host and process.
    #[arg(long)]
    worker: Option<String>,
    /// Length of the leases where a task does not say its own, for example 30s.
    #[arg(long, value_parser = super::duration, value_name = "TIME")]
    lease: Option<Duration>,
    /// How long running programs may go on after Ctrl-C.
    #[arg(long, default_value = "10s", value_parser = super::duration, value_name = "TIME")]
    stop_limit: Duration,
    /// End when no task came for so long.
    #[arg(long, value_parser = super::duration, value_name = "TIME")]
    until_idle: Option<Duration>,
    /// The program and its arguments: everything that follows.
    #[arg(long = "exec", required = true, num_args = 1.., allow_hyphen_values = true, value_name = "CMD")]
    exec: Vec<String>,
}

/// Runs a verb.
pub(crate) async fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    let Verb::Run(run) = verb;
    run.run(session).await
}

impl Run {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let program = Arc::new(Program::find(&self.exec)?);
        let name = self.worker.unwrap_or_else(|| format!("worker-{}", std::process::id()));
        let mut worker = Worker::new(session.client()?, name.clone())
            .concurrency(self.concurrency)
            .stop_limit(self.stop_limit);
        for queue in &self.queues {
            worker = worker.queue(queue);
        }
        if let Some(lease) = self.lease {
            worker = worker.lease(lease);
        }
        let output = session.output;
        let pipeline = traces(&name)?;
        output.note(&format!("{name} serves {}; Ctrl-C stops it", self.queues.join(", ")));
        let busy = Arc::new(tokio::sync::watch::channel(0_u64).0);
        let idle = idle(busy.subscribe(), self.until_idle);
        let stop = async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                () = terminated() => {}
                () = idle => {}
            }
        };
        let tally = worker
            .run(stop, move |work: Work<Value>| {
                let (program, busy) = (Arc::clone(&program), Arc::clone(&busy));
                async move {
                    busy.send_modify(|count| *count += 1);
                    let task = work.task.id.clone();
                    let ended = Box::pin(program.run(work)).await;
                    output.note(&line(&task, &ended));
                    busy.send_modify(|count| *count += 1);
                    ended
                }
            })
            .await;
        let counts = format!(
            "{} done, {} failed, {} lost, {} not reported",
            tally.completed, tally.failed, tally.lost, tally.unreported
        );
        output.note(&counts);
        if let Some(pipeline) = pipeline {
            let _ = tokio::task::spawn_blocking(move || pipeline.close(TELL_MAX)).await;
        }
        Ok(Exit::Ok)
    }
}

/// Lets the spans of tasks leave, where the environment names a collector.
fn traces(name: &str) -> Result<Option<Pipeline>, Failure> {
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let standard = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    if !standard.into_iter().any(set) {
        return Ok(None);
    }
    let service = std::env::var("OTEL_SERVICE_NAME").ok().filter(|value| !value.is_empty());
    let outlet = OutletSettings {
        endpoint: None,
        service: service.unwrap_or_else(|| "statehouse-worker".to_owned()),
        instance: name.to_owned(),
        environment: None,
        region: None,
        split: false,
    };
    let lines = LogSettings { format: LogFormat::for_stderr(), filter: "warn".to_owned() };
    let started = Pipeline::start(&lines, Some(outlet));
    started.map(Some).map_err(|error| Failure::broken(format!("cannot let spans leave: {error}")))
}

fn line(task: &str, ended: &Result<Value, TaskError>) -> String {
    match ended {
        Ok(_) => format!("{task} done"),
        Err(error) if error.retryable => format!("{task} failed: {error}"),
        Err(error) => format!("{task} failed for good: {error}"),
    }
}

/// Ends when nothing has come for so long; never without a limit.
async fn idle(mut busy: tokio::sync::watch::Receiver<u64>, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    while tokio::time::timeout(limit, busy.changed()).await.is_ok_and(|changed| changed.is_ok()) {}
}

/// Waits for SIGTERM.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// Says an exit code as a task's error code.
fn exit_code(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit_{code}"),
        (None, Some(signal)) => format!("signal_{signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The codes by which a program says that another attempt is in vain.
const FATAL: i32 = 2;
