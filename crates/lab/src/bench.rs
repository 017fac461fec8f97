//! A load run from beginning to end: deploy, prepare, warm up, measure, record, report.
//!
//! The run has a thread and a single-threaded runtime of its own: the clients of a run spend their time waiting, and one
//! thread without locks or wake-ups between threads leaves the most of a small machine to the server.
//!
//! Deliberately absent: judging a history (`drill judge` does), and any budget to pass or fail.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use statehouse_sdk::{BuildError, CallError, Client, Options, With};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    drive::{Clockwork, Driver, Plan},
    dump::finish,
    history::Recorder,
    pace::{Pace, Slots},
    report::{Frame, Report},
    tally::Tally,
    workload::{Length, Mode, Workload},
};

/// How late a timer may be in a history of a load run.
const GRACE_MS: u64 = 5_000;
/// How early a timer may be in real time there.
const SKEW_MS: u64 = 500;
/// Most clients of a run.
const CLIENTS_MAX: u32 = 10_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Base addresses, `http://host:port`.
    pub servers: Vec<String>,
    /// The bearer token.
    pub token: Option<String>,
    /// The tenant.
    pub tenant: String,
    /// The definition and the journey.
    pub workload: Workload,
    /// Commands or reads.
    pub mode: Mode,
    /// Open or closed loop.
    pub pace: Pace,
    /// Clients, each with one connection: the concurrency of a closed loop, the bound of an open one.
    pub clients: u32,
    /// Time at the beginning that is not measured.
    pub warm_up: Duration,
    /// When to end.
    pub length: Length,
    /// Deadline of one attempt.
    pub deadline: Duration,
    /// Attempts of one request.
    pub attempts_max: u32,
    /// Where to write the history, if one is wanted.
    pub history: Option<PathBuf>,
    /// Counts requests while the run goes on.
    pub progress: Option<Arc<Progress>>,
}

/// How many requests have ended so far.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    /// Returns the number.
    pub fn ended(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a run did not happen.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The options cannot be run.
    #[error("{0}")]
    Options(&'static str),
    /// A server's address cannot be used.
    #[error("server address")]
    Address(#[source] BuildError),
    /// The definition was not deployed.
    #[error("deploy the definition")]
    Deploy(#[source] CallError),
    /// The answer to the deployment names no definition.
    #[error("the answer to the deployment names no definition")]
    Deployed,
    /// The instances to read were not started.
    #[error("{0}")]
    Prepare(String),
    /// The history file could not be written.
    #[error("write the history {path}")]
    History {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The runtime did not come up, or a client of the run panicked.
    #[error("run the clients")]
    Runtime(#[source] io::Error),
}

/// Runs a load and reports; blocks the calling thread until the end.
///
/// A history is completed with the nodes' dumps right after the last answer.
///
/// # Errors
/// The run could not begin, or its history could not be written. Answers of any kind are no error: they are counted.
pub fn bench(options: BenchOptions) -> Result<Report, BenchError> {
    on_its_own_thread(options, None)
}

/// Runs a load that writes its attempts to the caller's recorder, which the caller completes with [`crate::finish`].
///
/// For drills, which write their faults into the same history, and ask for the dumps only when everything has settled.
///
/// # Errors
/// As [`bench()`].
pub fn bench_into(options: BenchOptions, recorder: Arc<Recorder>) -> Result<Report, BenchError> {
    on_its_own_thread(options, Some(recorder))
}

fn on_its_own_thread(
    options: BenchOptions,
    shared: Option<Arc<Recorder>>,
) -> Result<Report, BenchError> {
    check(&options)?;
    let run = move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().map_err(BenchError::Runtime)?;
        runtime.block_on(run(options, shared))
    };
    // A thread of its own, so that this may be called from within another runtime.
    let thread = std::thread::Builder::new().name("bench".to_owned()).spawn(run);
    let panicked = |_| Err(BenchError::Runtime(io::Error::other("a client panicked")));
    thread.map_err(BenchError::Runtime)?.join().unwrap_or_else(panicked)
}

fn check(options: &BenchOptions) -> Result<(), BenchError> {
    let is_plain = |server: &String| server.starts_with("http://");
    if options.servers.is_empty() {
        Err(BenchError::Options("no server was given"))
    } else if !options.servers.iter().all(is_plain) {
        Err(BenchError::Options("the load tool speaks plain http only"))
    } else if !(1..=CLIENTS_MAX).contains(&options.clients) {
        Err(BenchError::Options("from 1 to 10,000 clients"))
    } else if matches!(options.pace, Pace::Open { rate } if !(rate > 0.0 && rate.is_finite())) {
        Err(BenchError::Options("the rate must be a positive number"))
    } else if matches!(options.mode, Mode::Reads { instances: 0, .. }) {
        Err(BenchError::Options("reads need at least one instance"))
    } else {
        Ok(())
    }
}

async fn run(options: BenchOptions, shared: Option<Arc<Recorder>>) -> Result<Report, BenchError> {
    let nodes = nodes(&options)?;
    let definition = deploy(&nodes, &options.workload).await?;
    let own = match &options.history {
        None => None,
        Some(path) => {
            let failed = |source| BenchError::History { path: path.clone(), source };
            Some((Arc::new(Recorder::create(path).map_err(failed)?), path.clone()))
        }
    };
    let recorder = shared.or_else(|| own.as_ref().map(|(recorder, _)| Arc::clone(recorder)));
    let host =
        |server: &String| server.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let name = uuid::Uuid::now_v7().simple().to_string();
    let plan = Arc::new(Plan {
        servers: options.servers.iter().map(host).collect(),
        token: options.token.clone(),
        tenant: options.tenant.clone(),
        workload: options.workload.clone(),
        definition,
        mode: options.mode,
        deadline: options.deadline,
        attempts_max: options.attempts_max.max(1),
        // The end of a UUIDv7 is random; its beginning is the time.
        run: name.get(20..).unwrap_or(&name).to_owned(),
        recorder,
        progress: options.progress.clone(),
        journeys: AtomicU64::new(0),
    });
    let anchors = tokio::spawn(anchors(Arc::clone(&plan)));
    prepare(&plan, options.clients).await?;
    let (tally, measured) = measure(&plan, &options).await?;
    anchors.abort();
    let mut report = Report::new(frame(&options, measured), &tally);
    if let Some((recorder, path)) = own {
        if let Err(error) = finish(&recorder, &nodes, GRACE_MS, SKEW_MS).await {
            report
                .notes
                .push(format!("the history has no end, so it is undecided: {}", chain(&error)));
        }
        recorder.flush().map_err(|source| BenchError::History { path, source })?;
    }
    Ok(report)
}

/// Returns one client for each node, for what is not load.
fn nodes(options: &BenchOptions) -> Result<Vec<Client>, BenchError> {
    let node = |server: &String| {
        let mut node = Options::new([server.clone()]);
        node.token.clone_from(&options.token);
        node.tenant.clone_from(&options.tenant);
        Client::new(node).map_err(BenchError::Address)
    };
    options.servers.iter().map(node).collect()
}

async fn deploy(nodes: &[Client], workload: &Workload) -> Result<(String, u64), BenchError> {
    let node = nodes.first().ok_or(BenchError::Options("no server was given"))?;
    let answer = node
        .deploy(&workload.document, With::default())
        .await
        .done()
        .map_err(BenchError::Deploy)?
        .json();
    let name = answer.get("name").and_then(|name| name.as_str());
    let version = answer.get("version").and_then(|version| version.as_u64());
    match (name, version) {
        (Some(name), Some(version)) => Ok((name.to_owned(), version)),
        _ => Err(BenchError::Deployed),
    }
}

async fn anchors(plan: Arc<Plan>) {
    let Some(recorder) = &plan.recorder else { return };
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        recorder.anchor("local");
    }
}

/// Starts the instances that will be read.
async fn prepare(plan: &Arc<Plan>, clients: u32) -> Result<(), BenchError> {
    let Mode::Reads { instances, .. } = plan.mode else { return Ok(()) };
    let share = instances.div_ceil(clients);
    let mut starts = JoinSet::new();
    for number in 0..clients {
        let (from, upto) = (
            number.saturating_mul(share),
            number.saturating_add(1).saturating_mul(share).min(instances),
        );
        starts.spawn(
            Driver::new(Arc::clone(plan), u64::from(number)).prepare(from.into(), upto.into()),
        );
    }
    while let Some(end) = starts.join_next().await {
        end.map_err(|error| BenchError::Runtime(io::Error::other(error)))?
            .map_err(BenchError::Prepare)?;
    }
    Ok(())
}

async fn measure(
    plan: &Arc<Plan>,
    options: &BenchOptions,
) -> Result<(Tally, Duration), BenchError> {
    let start = Instant::now();
    let measured_from = start + options.warm_up;
    let (ends, left) = match options.length {
        Length::For(time) => (Some(measured_from + time), None),
        Length::Count(count) => (None, Some(AtomicU64::new(count))),
    };
    let clockwork =
        Arc::new(Clockwork { slots: Slots::new(options.pace, start), measured_from, ends, left });
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        clients.spawn(Driver::new(Arc::clone(plan), u64::from(number)).run(Arc::clone(&clockwork)));
    }
    let mut total: Option<Tally> = None;
    while let Some(end) = clients.join_next().await {
        let tally = end.map_err(|error| BenchError::Runtime(io::Error::other(error)))?;
        match &mut total {
            Some(total) => total.merge(&tally),
            None => total = Some(tally),
        }
    }
    Ok((total.unwrap_or_else(|| Tally::new(0)), measured_from.elapsed()))
}

fn frame(options: &BenchOptions, measured: Duration) -> Frame {
    let (what, names) = match options.mode {
        Mode::Commands => {
            let names =
                (0..options.workload.requests()).map(|step| options.workload.name(step).to_owned());
            ("commands".to_owned(), names.collect())
        }
        Mode::Reads { consistency, .. } => {
            (format!("{consistency} reads"), vec!["read".to_owned()])
        }
    };
    let (shape, offered) = match options.pace {
        Pace::Closed => ("closed loop", None),
        Pace::Open { rate } => ("open loop", Some(rate)),
    };
    Frame { kind: format!("{shape}, {what}"), offered, clients: options.clients, measured, names }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
