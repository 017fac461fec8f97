//! The command line: one binary, noun then verb.
//!
//! Each noun has a file. A verb that talks to a server builds one request of the API with the same words; a verb
//! that does not works on files alone. What is not in this release is absent rather than a stub.
//!
//! Deliberately absent: an interactive shell, and any state of its own: two verbs in a row share nothing but the
//! server.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use statehouse_contract::{InstanceId, KeyText, TenantId, Version};

use exit::{Exit, Failure};
use output::Output;
use session::{Global, Session};

pub(crate) mod again;
pub(crate) mod backup;
pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod certs;
pub(crate) mod cluster;
pub(crate) mod curl;
pub(crate) mod definition;
pub(crate) mod dev;
pub(crate) mod drill;
pub(crate) mod exit;
pub(crate) mod health;
pub(crate) mod instance;
pub(crate) mod output;
pub(crate) mod payload;
pub(crate) mod raise;
pub(crate) mod schedule;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod slo;
pub(crate) mod task;
pub(crate) mod tenant;
pub(crate) mod worker;

const AFTER_HELP: &str = "\
First five minutes:
  statehouse dev                                                  in one terminal
  statehouse instance start approval --id a-1 --input '{\"amount\": 12}'
  statehouse instance send a-1 approve
  statehouse instance explain a-1

Exit codes: 0 ok, 1 broken, 2 usage, 3 rejected, 4 not found, 5 conflict, 6 unavailable, 7 wait elapsed.";

/// Runs workflows that survive: statecharts as data, every step replicated before it is true.
#[derive(Debug, Parser)]
#[command(name = "statehouse", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Run a node to try things on: loopback, its own directory, a sample definition, a token.
    Dev(dev::Dev),
    /// Run a node from a configuration.
    Serve(crate::serve::Serve),
    /// Check, try, draw, deploy and list definitions.
    #[command(subcommand)]
    Definition(definition::Verb),
    /// Start, move, look at and operate instances.
    #[command(subcommand)]
    Instance(instance::Verb),
    /// Look at work that waits, and do it by hand.
    #[command(subcommand)]
    Task(task::Verb),
    /// Do the work: a program for each task.
    #[command(subcommand)]
    Worker(worker::Verb),
    /// Start instances by the calendar.
    #[command(subcommand)]
    Schedule(schedule::Verb),
    /// Carry out an operator's verb for many instances.
    #[command(subcommand)]
    Batch(batch::Verb),
    /// Make tenants, their keys and quotas.
    #[command(subcommand)]
    Tenant(tenant::Verb),
    /// Make a cluster and look at it.
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Check and print a configuration.
    #[command(subcommand)]
    Config(settings::Verb),
    /// Say whether a node is alive, or ready.
    Health(health::Health),
    /// Print a node's metrics as Prometheus reads them.
    Metrics(health::Metrics),
    /// Show what was promised and what came of it.
    #[command(subcommand)]
    Slo(slo::Verb),
    /// Measure a server: open or closed loop, latencies, outcomes.
    Bench(bench::Bench),
    /// Break a cluster on purpose, and judge what came of it.
    #[command(subcommand)]
    Drill(drill::Verb),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the process's command line and returns its last word.
pub(crate) fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() {
                // The code first, as in every other failure; clap's own next step stands at the end.
                let text = error.render().to_string().replacen("error: ", "error: usage: ", 1);
                let _ = write!(std::io::stderr().lock(), "{text}");
                return Exit::Usage;
            }
            let _ = error.print();
            return Exit::Ok;
        }
    };
    let output = Output::new(cli.global.output);
    match dispatch(cli.noun, &cli.global, output) {
        Ok(exit) => exit,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    }
}

fn dispatch(noun: Noun, global: &Global, output: Output) -> Result<Exit, Failure> {
    let session = || Session::new(global);
    let build = crate::build::of_process()?;
    crate::mutant::of_process()?;
    match noun {
        Noun::Dev(dev) => crate::serve::block_on(dev.run(output, build)),
        Noun::Serve(serve) => crate::serve::block_on(serve.run(output, build)),
        Noun::Bench(bench) => crate::serve::block_on(bench.run(&session()?)),
        Noun::Definition(verb) => once(definition::run(verb, &session()?)),
        Noun::Instance(verb) => once(instance::run(verb, &session()?)),
        Noun::Task(verb) => once(task::run(verb, &session()?)),
        Noun::Worker(verb) => crate::serve::block_on(worker::run(verb, &session()?)),
        Noun::Batch(verb) => once(batch::run(verb, &session()?)),
        Noun::Schedule(verb) => once(schedule::run(verb, &session()?)),
        Noun::Tenant(verb) => once(tenant::run(verb, &session()?)),
        Noun::Cluster(verb) => crate::serve::block_on(cluster::run(verb, &session()?, build)),
        Noun::Health(health) => once(health.run(&session()?)),
        Noun::Metrics(metrics) if metrics.list => health::list(output),
        Noun::Metrics(_) => once(health::metrics(&session()?)),
        Noun::Slo(verb) => once(slo::run(verb, &session()?)),
        Noun::Config(verb) => settings::run(verb, output),
        Noun::Drill(verb) => drill::run(verb, output, build),
        Noun::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "statehouse", &mut script);
            output.line(String::from_utf8_lossy(&script).trim_end())?;
            Ok(Exit::Ok)
        }
    }
}

// One request needs one thread.
fn once<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::broken(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(work)
}

/// Asks a person on a terminal; without one, `--yes` is needed.
pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() {
        return Err(Failure::usage(question, "add --yes to say that you mean it"));
    }
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut line = String::new();
    match stdin.read_line(&mut line) {
        Ok(_) if matches!(line.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) | Err(_) => Err(Failure::new(
            Exit::Rejected,
            "not_confirmed",
            "nothing was done",
            "answer y, or add --yes",
        )),
    }
}

/// Reads a time such as `500ms`, `10s`, `5m`, `2h` or `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_ms = match text.get(digits.len()..) {
        Some("ms") => 1,
        Some("s") => 1_000,
        Some("m") => 60_000,
        Some("h") => 3_600_000,
        Some("d") => 86_400_000,
        Some(_) | None => return Err("write a number and ms, s, m, h or d, such as 10s".to_owned()),
    };
    let count: u64 =
        digits.parse().map_err(|_| "write a whole number and a unit, such as 10s".to_owned())?;
    count
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(|| "that is too long".to_owned())
}

/// Reads an instance id; its rules are the server's.
pub(crate) fn instance_id(text: &str) -> Result<String, String> {
    InstanceId::parse(text).map(|id| id.to_string()).map_err(|error| error.to_string())
}

/// Reads a tenant's name.
pub(crate) fn tenant_id(text: &str) -> Result<String, String> {
    TenantId::parse(text).map(|id| id.to_string()).map_err(|error| error.to_string())
}

/// Reads an idempotency key.
pub(crate) fn key_text(text: &str) -> Result<String, String> {
    KeyText::parse(text).map(|key| key.to_string()).map_err(|error| error.to_string())
}

/// Reads a version as `get` and `ETag` show it.
pub(crate) fn version_tag(text: &str) -> Result<String, String> {
    Version::parse(text).map(|version| version.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_time_needs_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert!(duration("10").is_err());
        assert!(duration("s").is_err());
        assert!(duration("1.5s").is_err());
        assert!(duration("99999999999999999999d").is_err());
        assert!(duration("18446744073709551615d").is_err());
    }
}
