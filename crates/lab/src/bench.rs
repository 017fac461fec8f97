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
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use statehouse_sdk::{BuildError, CallError, Client, Options, With, chain};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    drive::{Clockwork, Driver, Plan},
    dump::{Dumped, finish},
    gaps::{Gap, Gaps},
    history::Recorder,
    links::{Homes, Places, TLS},
    pace::{Pace, Slots},
    report::{Frame, Report},
    survey::{Patience, Sighting, changes, cpu_us, shards, survey},
    tally::Tally,
    trust::Trust,
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
    /// Base addresses, `http://host:port` or `https://host:port`; clients are spread over them and follow what answers say of leaders.
    pub servers: Vec<String>,
    /// The bearer token.
    pub token: Option<String>,
    /// The certificates to trust where the addresses are `https`, in PEM form.
    pub authority_pem: Option<Vec<u8>>,
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
    /// Time for all attempts of one request.
    pub patience: Duration,
    /// Where to write the history, if one is wanted.
    pub history: Option<PathBuf>,
    /// Counts requests while the run goes on, and ends it early.
    pub progress: Option<Arc<Progress>>,
}

/// How many requests have ended so far, and whether that is enough.
#[derive(Debug, Default)]
pub struct Progress {
    ended: AtomicU64,
    is_enough: AtomicBool,
}

impl Progress {
    /// Returns the number.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Ends the run before its time: no request begins any more, and those under way are followed to their end. For a
    /// drill, whose load has to last as long as its faults do.
    pub fn enough(&self) {
        self.is_enough.store(true, Ordering::Relaxed);
    }

    pub(crate) fn add(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.is_enough.load(Ordering::Relaxed)
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
    /// The certificates cannot be trusted.
    #[error("certificates to trust")]
    Trust(#[source] io::Error),
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
    let is_tls = |server: &String| server.starts_with(TLS);
    let is_known = |server: &String| server.starts_with("http://") || is_tls(server);
    if options.servers.is_empty() {
        Err(BenchError::Options("no server was given"))
    } else if !options.servers.iter().all(is_known) {
        Err(BenchError::Options("a server is http://host:port or https://host:port"))
    } else if options.servers.iter().any(is_tls) && options.authority_pem.is_none() {
        Err(BenchError::Options("https needs the certificates to trust: --ca-file FILE"))
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
    let trust = options.authority_pem.as_deref().map(Trust::new).transpose();
    let trust = trust.map_err(BenchError::Trust)?;
    let definition = deploy(&client(&options, &options.servers)?, &options.workload).await?;
    let before = sightings(&nodes).await;
    let own = match &options.history {
        None => None,
        Some(path) => {
            let failed = |source| BenchError::History { path: path.clone(), source };
            Some((Arc::new(Recorder::create(path).map_err(failed)?), path.clone()))
        }
    };
    let recorder = shared.or_else(|| own.as_ref().map(|(recorder, _)| Arc::clone(recorder)));
    let name = uuid::Uuid::now_v7().simple().to_string();
    let plan = Arc::new(Plan {
        servers: Places::new(&options.servers, trust),
        token: options.token.clone(),
        tenant: options.tenant.clone(),
        workload: options.workload.clone(),
        definition,
        mode: options.mode,
        deadline: options.deadline,
        attempts_max: options.attempts_max.max(1),
        patience: options.patience,
        // The end of a UUIDv7 is random; its beginning is the time.
        run: name.get(20..).unwrap_or(&name).to_owned(),
        recorder,
        progress: options.progress.clone(),
        journeys: AtomicU64::new(0),
        shards: shards(&before),
        homes: match options.mode {
            Mode::Commands => Homes::default(),
            Mode::Reads { instances, .. } => Homes::new(instances),
        },
    });
    let anchors = tokio::spawn(anchors(Arc::clone(&plan)));
    prepare(&plan, options.clients).await?;
    // The CPU time is that of the measured time; the look itself is a question among thousands.
    let begin = tokio::spawn({
        let (nodes, warm_up) = (nodes.clone(), options.warm_up);
        async move {
            tokio::time::sleep(warm_up).await;
            sightings(&nodes).await
        }
    });
    let Measured { tally, time, gaps } = measure(&plan, &options).await?;
    anchors.abort();
    let after = sightings(&nodes).await;
    begin.abort();
    // A load that ended before its warm-up was over measured nothing.
    let begin = begin.await.unwrap_or_default();
    let mut report = Report::new(frame(&options, time), &tally);
    report.gaps = gaps;
    report.leader_changes = changes(&before, &after);
    report.spend(cpu_us(&begin, &after));
    if let Some((recorder, path)) = own {
        match finish(&recorder, &nodes, GRACE_MS, SKEW_MS).await {
            Ok(dumped) => report.notes.extend(remarks(&dumped)),
            Err(error) => report
                .notes
                .push(format!("the history has no end, so it is undecided: {}", chain(&error))),
        }
        recorder.flush().map_err(|source| BenchError::History { path, source })?;
    }
    Ok(report)
}

/// Returns one client for each node, for what is not load.
fn nodes(options: &BenchOptions) -> Result<Vec<Client>, BenchError> {
    let node = |server: &String| client(options, std::slice::from_ref(server));
    options.servers.iter().map(node).collect()
}

fn client(options: &BenchOptions, servers: &[String]) -> Result<Client, BenchError> {
    let mut with = Options::new(servers.iter().cloned());
    with.token.clone_from(&options.token);
    with.tenant.clone_from(&options.tenant);
    with.authority_pem.clone_from(&options.authority_pem);
    Client::new(with).map_err(BenchError::Address)
}

/// Returns what those nodes say that answer.
async fn sightings(nodes: &[Client]) -> Vec<Sighting> {
    survey(nodes, Patience::Once).await.into_iter().filter_map(Result::ok).collect()
}

/// Says what a history lacks although it has its end.
fn remarks(dumped: &Dumped) -> Vec<String> {
    let absent = dumped
        .absent
        .iter()
        .map(|node| format!("{node} does not answer; what it holds is not in the history"));
    let uneven = dumped.uneven.iter().map(|shard| {
        format!(
            "the nodes have not applied shard {shard} equally far; their dumps differ in length"
        )
    });
    absent.chain(uneven).collect()
}

async fn deploy(client: &Client, workload: &Workload) -> Result<(String, u64), BenchError> {
    let answer = client
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

/// What the clients of a run saw.
struct Measured {
    tally: Tally,
    time: Duration,
    gaps: Vec<Gap>,
}

async fn measure(plan: &Arc<Plan>, options: &BenchOptions) -> Result<Measured, BenchError> {
    let start = Instant::now();
    let measured_from = start + options.warm_up;
    let (ends, left) = match options.length {
        Length::For(time) => (Some(measured_from + time), None),
        Length::Count(count) => (None, Some(AtomicU64::new(count))),
    };
    let slots = Slots::new(options.pace, start);
    let gaps = plan.shards.map(|shards| Mutex::new(Gaps::new(shards)));
    let clockwork = Arc::new(Clockwork { slots, measured_from, ends, left, gaps });
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
    let time = measured_from.elapsed();
    // After the end nobody asks: that is no gap.
    let end = ends.map_or(time, |ends| time.min(ends.saturating_duration_since(measured_from)));
    let gaps = clockwork.gaps.as_ref();
    let gaps = gaps.map(|gaps| gaps.lock().unwrap_or_else(PoisonError::into_inner).clone());
    Ok(Measured {
        tally: total.unwrap_or_else(|| Tally::new(0)),
        time,
        gaps: gaps.map(|gaps| gaps.longest(end)).unwrap_or_default(),
    })
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

#[cfg(test)]
mod tests;
