//! `statehouse bench`: how much a server takes, and how long each answer takes.
//!
//! With `--rate` it is an open loop: requests leave on a schedule, and latency counts from the moment at which one
//! was meant to leave, so that a stalled server cannot hide. Without it is a closed loop: each client sends when
//! its last answer is there. The work itself is done by the lab; this file reads flags and prints the report.
//!
//! Deliberately absent: a verdict. Budgets belong to whoever runs it; `--history` gives the judge its evidence.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use statehouse_lab::{
    BenchError, BenchOptions, Length, Mode, Pace, Progress, RoundTrips, Workload,
};

use super::{
    exit::{Exit, Failure},
    output::Output,
    session::Session,
};
use statehouse_sdk::CallError;

use crate::serve::chain;

const TICK: Duration = Duration::from_millis(200);

/// `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Clients, each with one connection.
    #[arg(long, short = 'c', default_value_t = 64, value_name = "N")]
    clients: u32,
    /// Open loop: requests a second, on a schedule; left out: closed loop.
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// How long is measured.
    #[arg(long, default_value = "10s", value_parser = super::duration, value_name = "TIME", conflicts_with = "count")]
    time: Duration,
    /// How many requests are measured, instead of a time.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Time at the beginning that is not measured.
    #[arg(long, default_value = "1s", value_parser = super::duration, value_name = "TIME")]
    warm_up: Duration,
    /// Measure reads instead of commands.
    #[arg(long, value_enum, value_name = "CONSISTENCY")]
    reads: Option<Consistency>,
    /// Measure round trips of tasks instead: schedule, lease, complete, next state; `--clients` workers.
    #[arg(long, conflicts_with_all = ["reads", "rate", "count", "definition"])]
    tasks: bool,
    /// How many instances are read in turn.
    #[arg(long, default_value_t = 1_000, value_name = "N", requires = "reads")]
    instances: u32,
    /// A definition to run instead of the embedded order; deployed before the run.
    #[arg(long, value_name = "FILE")]
    definition: Option<PathBuf>,
    /// Input of each start; `$id` becomes the instance's id.
    #[arg(long, default_value = "{}", value_name = "JSON", requires = "definition")]
    input: String,
    /// A command after the start, as `name` or `name={json}`; may be given several times.
    #[arg(long = "step", value_name = "COMMAND", requires = "definition")]
    steps: Vec<String>,
    /// Attempts of one request.
    #[arg(long, default_value_t = 4, value_name = "N")]
    attempts: u32,
    /// Time for all attempts of one request; `--timeout` is that of one.
    #[arg(long, default_value = "60s", value_parser = super::duration, value_name = "TIME")]
    deadline: Duration,
    /// Write the history of the run, for `statehouse drill judge`.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// How fresh the reads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Consistency {
    /// See everything that was acknowledged before.
    Linearizable,
    /// Ask the node that believes it leads.
    Leader,
    /// Any copy.
    Stale,
}

impl Bench {
    /// Runs the load and prints the report.
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        if self.tasks {
            return self.round_trips(session).await;
        }
        let progress = Arc::new(Progress::default());
        let expected = (self.time + self.warm_up, self.count);
        let options = self.options(session, Arc::clone(&progress))?;
        let work = tokio::task::spawn_blocking(move || statehouse_lab::bench(options));
        let report = watched(work, &progress, expected, session.output).await;
        let report = report
            .map_err(|error| Failure::broken(format!("the load stopped: {error}")))?
            .map_err(|error| failed(&error))?;
        let document = serde_json::to_value(&report)
            .map_err(|error| Failure::broken(format!("cannot write the report: {error}")))?;
        session.output.show(&document, |_| report.to_string().trim_end().to_owned())?;
        Ok(Exit::Ok)
    }

    async fn round_trips(self, session: &Session) -> Result<Exit, Failure> {
        let nodes = session.servers().iter().map(|server| session.at(server).client());
        let options = RoundTrips {
            client: session.client()?,
            nodes: nodes.collect::<Result<_, _>>()?,
            workers: self.clients,
            warm_up: self.warm_up,
            time: self.time,
            history: self.history,
        };
        let report = statehouse_lab::round_trips(options).await.map_err(|error| failed(&error))?;
        let document = serde_json::to_value(&report)
            .map_err(|error| Failure::broken(format!("cannot write the report: {error}")))?;
        session.output.show(&document, |_| report.to_string())?;
        Ok(Exit::Ok)
    }

    fn options(self, session: &Session, progress: Arc<Progress>) -> Result<BenchOptions, Failure> {
        let mode = match self.reads {
            None => Mode::Commands,
            Some(consistency) => Mode::Reads {
                consistency: match consistency {
                    Consistency::Linearizable => "linearizable",
                    Consistency::Leader => "leader",
                    Consistency::Stale => "stale",
                },
                instances: self.instances,
            },
        };
        Ok(BenchOptions {
            servers: session.servers().to_vec(),
            token: session.token().map(str::to_owned),
            authority_pem: session.authority_pem()?,
            tenant: session.tenant.clone(),
            workload: workload(self.definition.as_deref(), &self.input, &self.steps)?,
            mode,
            pace: self.rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
            clients: self.clients,
            warm_up: self.warm_up,
            length: self.count.map_or(Length::For(self.time), Length::Count),
            deadline: session.timeout,
            attempts_max: self.attempts,
            patience: self.deadline,
            history: self.history,
            progress: Some(progress),
        })
    }
}

fn workload(
    definition: Option<&std::path::Path>,
    input: &str,
    steps: &[String],
) -> Result<Workload, Failure> {
    let Some(path) = definition else { return Ok(Workload::order()) };
    let document =
        std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    Workload::parse(document, input, steps)
        .map_err(|error| Failure::usage(chain(&error), "look at --input and --step"))
}

// Shows how far it is, if somebody watches.
async fn watched<T>(
    work: tokio::task::JoinHandle<T>,
    progress: &Progress,
    (time, count): (Duration, Option<u64>),
    output: Output,
) -> Result<T, tokio::task::JoinError> {
    if !output.is_watched() {
        return work.await;
    }
    let total = count.unwrap_or_else(|| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let begin = std::time::Instant::now();
    let mut work = work;
    loop {
        tokio::select! {
            end = &mut work => {
                bar.finish_and_clear();
                return end;
            }
            () = tokio::time::sleep(TICK) => {
                let ended = progress.ended();
                let passed = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
                bar.set_position(if count.is_some() { ended } else { passed });
                bar.set_message(format!("{ended} requests"));
            }
        }
    }
}

fn failed(error: &BenchError) -> Failure {
    let (exit, next) = match error {
        BenchError::Options(_) | BenchError::Address(_) | BenchError::Trust(_) => {
            (Exit::Usage, "look at the flags")
        }
        BenchError::Deploy(CallError::Failed(_) | CallError::Unknown(_)) => {
            (Exit::Unavailable, "is a server running there? --servers names it; repeat it later")
        }
        BenchError::Deploy(CallError::Rejected(_)) | BenchError::Deployed => {
            (Exit::Rejected, "is it a server of Statehouse, and may this token deploy?")
        }
        BenchError::Prepare(_) => (Exit::Rejected, "may this token start instances?"),
        BenchError::History { .. } => (Exit::Broken, "look at the path and its permissions"),
        BenchError::Runtime(_) => (Exit::Broken, "repeat it with fewer clients"),
    };
    Failure::new(exit, "bench", chain(error), next)
}
