//! Round trips of tasks: schedule, lease, complete, next state, measured from the worker's side.
//!
//! A set of instances that order one task after another, and workers that take one at a time. A round trip begins when a
//! worker asks for a task and ends when its report is answered; the answer comes after the next task was ordered. All of it
//! can be written as a history, so that the judge sees who held what.
//!
//! Deliberately absent: work. What a worker does with a task is not measured here.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};
use statehouse_sdk::{Claim, Client, Outcome, Start, With};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    answer::Out,
    bench::BenchError,
    dump::finish,
    history::{Asked, Recorder, Told},
    survey::{Patience, Sighting, cpu_us, survey},
};

/// The definition that orders one task after another.
pub const BENCH_TASK: &str = include_str!("../../../config/definitions/bench-task.yaml");

const QUEUE: &str = "bench";
const WAIT: Duration = Duration::from_secs(1);
/// Instances for each worker: there is always something to lease.
const INSTANCES_PER_WORKER: u32 = 2;
/// Time after the load in which workers finish what they hold.
const GRACE_MS: u64 = 10_000;
const SKEW_MS: u64 = 200;

/// What is measured.
#[derive(Clone, Debug)]
pub struct RoundTrips {
    /// A client of all servers.
    pub client: Client,
    /// One client for each server.
    pub nodes: Vec<Client>,
    /// Workers, each with one task at a time.
    pub workers: u32,
    /// Time at the beginning that is not measured.
    pub warm_up: Duration,
    /// How long is measured.
    pub time: Duration,
    /// Where the history is written, if anywhere.
    pub history: Option<PathBuf>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundTripReport {
    /// Workers.
    pub workers: u32,
    /// How long was measured.
    pub seconds: f64,
    /// Round trips that ended well.
    pub round_trips: u64,
    /// The same, a second.
    pub throughput: f64,
    /// From the lease call to the answer of the report, in milliseconds: p50, p90, p99, longest.
    pub latency_ms: [f64; 4],
    /// Lease calls and reports that ended otherwise.
    pub others: u64,
    /// CPU time of all nodes together for a round trip, in microseconds.
    pub cpu_us: Option<f64>,
    /// What a history lacks although it has its end.
    pub notes: Vec<String>,
}

impl std::fmt::Display for RoundTripReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p90, p99, max] = self.latency_ms;
        writeln!(
            f,
            "round trips of tasks: {} workers, {:.1} s measured",
            self.workers, self.seconds
        )?;
        writeln!(f, "{:.0} round trips/s, {} in all", self.throughput, self.round_trips)?;
        writeln!(f, "latency, ms: p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}, longest {max:.2}")?;
        if let Some(cpu) = self.cpu_us {
            writeln!(f, "CPU of all nodes: {cpu:.0} us a round trip")?;
        }
        write!(f, "other ends: {}", self.others)?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

struct Shared {
    client: Client,
    recorder: Option<Arc<Recorder>>,
    is_measured: AtomicBool,
    is_over: AtomicBool,
    others: AtomicU64,
}

/// Measures round trips, and writes the history with its end where one is wanted.
///
/// # Errors
/// The definition or the instances could not be made, or the history not be written.
pub async fn round_trips(mut options: RoundTrips) -> Result<RoundTripReport, BenchError> {
    let Some(path) = options.history.take() else { return run(options, None).await };
    let failed = |source| BenchError::History { path: path.clone(), source };
    let recorder = Arc::new(Recorder::create(&path).map_err(failed)?);
    let nodes = options.nodes.clone();
    let mut report = run(options, Some(Arc::clone(&recorder))).await?;
    if let Err(error) = finish(&recorder, &nodes, GRACE_MS, SKEW_MS).await {
        let note = format!("the history has no end, so it is undecided: {error}");
        report.notes.push(note);
    }
    recorder.flush().map_err(failed)?;
    Ok(report)
}

/// Measures round trips into a history that is another's to end: what else happens meanwhile stands in it, too.
///
/// # Errors
/// The definition or the instances could not be made.
pub async fn round_trips_into(
    options: RoundTrips,
    recorder: Arc<Recorder>,
) -> Result<RoundTripReport, BenchError> {
    run(options, Some(recorder)).await
}

async fn run(
    options: RoundTrips,
    recorder: Option<Arc<Recorder>>,
) -> Result<RoundTripReport, BenchError> {
    let RoundTrips { client, nodes, workers, warm_up, time, history: _ } = options;
    client.deploy(BENCH_TASK, With::default()).await.done().map_err(BenchError::Deploy)?;
    let mark = format!("{:x}", std::process::id());
    let starts = (0..workers * INSTANCES_PER_WORKER).map(|n| {
        let (client, id) = (client.clone(), format!("bench-{mark}-{n}"));
        async move {
            let start = Start { definition: "bench-task", id: Some(&id), ..Start::default() };
            client.start(start, With::default()).await.done()
        }
    });
    for started in futures::future::join_all(starts).await {
        started.map_err(BenchError::Deploy)?;
    }
    let shared = Arc::new(Shared {
        client,
        recorder,
        is_measured: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        others: AtomicU64::new(0),
    });
    let mut running = JoinSet::new();
    for number in 0..workers {
        running.spawn(work(Arc::clone(&shared), u64::from(number) + 1));
    }
    sleep(warm_up).await;
    let before = sightings(&nodes).await;
    shared.is_measured.store(true, Ordering::SeqCst);
    let began = Instant::now();
    sleep(time).await;
    shared.is_measured.store(false, Ordering::SeqCst);
    let seconds = began.elapsed().as_secs_f64();
    let after = sightings(&nodes).await;
    shared.is_over.store(true, Ordering::SeqCst);
    let mut all = histogram();
    while let Some(worker) = running.join_next().await {
        if let Ok(measured) = worker {
            all.add(measured).expect("both have the same bounds");
        }
    }
    let ms = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1_000.0;
    let cpu = cpu_us(&before, &after).filter(|_| !all.is_empty());
    Ok(RoundTripReport {
        workers,
        seconds,
        round_trips: all.len(),
        throughput: all.len() as f64 / seconds,
        latency_ms: [ms(0.5), ms(0.9), ms(0.99), all.max() as f64 / 1_000.0],
        others: shared.others.load(Ordering::Relaxed),
        cpu_us: cpu.map(|cpu| cpu as f64 / all.len() as f64),
        notes: Vec::new(),
    })
}

/// Microseconds up to a minute, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}

async fn sightings(nodes: &[Client]) -> Vec<Sighting> {
    survey(nodes, Patience::Once).await.into_iter().filter_map(Result::ok).collect()
}

/// One worker: a task at a time until the load is over.
async fn work(shared: Arc<Shared>, number: u64) -> Histogram<u64> {
    let mut measured = histogram();
    let (name, queues) = (format!("bench-{number}"), [QUEUE.to_owned()]);
    while !shared.is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let claim = Claim { queues: &queues, max: 1, lease: None, wait: WAIT, worker: &name };
        let asked = shared.asked(number, "lease", None);
        let outcome = shared.client.lease_tasks(claim).await;
        let body = outcome.response().map(statehouse_sdk::Response::json).unwrap_or_default();
        let task =
            body["tasks"].get(0).cloned().filter(|_| matches!(outcome, Outcome::Accepted(_)));
        let held = task.as_ref().and_then(held);
        shared.told(asked, &outcome, held.as_ref().map(|(id, token, _)| (id.as_str(), *token)));
        let Some((id, token, n)) = held else {
            shared.others.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let asked = shared.asked(number, "done", Some((&id, token)));
        let output = json!({ "n": n + 1 });
        let outcome = shared.client.complete_task(&id, token, &output, None).await;
        shared.told(asked, &outcome, None);
        match outcome {
            Outcome::Accepted(_) if shared.is_measured.load(Ordering::Relaxed) => {
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                measured.saturating_record(took);
            }
            Outcome::Accepted(_) => {}
            _ => drop(shared.others.fetch_add(1, Ordering::Relaxed)),
        }
    }
    measured
}

fn held(task: &Value) -> Option<(String, u64, i64)> {
    let id = task["id"].as_str()?.to_owned();
    Some((id, task["token"].as_u64()?, task["input"]["n"].as_i64()?))
}

impl Shared {
    fn asked(&self, c: u64, op: &'static str, held: Option<(&str, u64)>) -> Option<u64> {
        let (task, tok) = (held.map(|(task, _)| task), held.map(|(_, token)| token));
        let asked =
            Asked { c, tenant: self.client.tenant_name(), op, task, tok, ..Asked::default() };
        self.recorder.as_ref().map(|recorder| recorder.asked(&asked))
    }

    fn told(&self, attempt: Option<u64>, outcome: &Outcome, held: Option<(&str, u64)>) {
        let (Some(recorder), Some(attempt)) = (&self.recorder, attempt) else { return };
        let out = match outcome {
            Outcome::Accepted(_) => Out::Ok,
            Outcome::Postponed(_) => Out::Postponed,
            Outcome::Rejected(_) => Out::Rejected,
            Outcome::Unknown(_) => Out::Unknown,
            Outcome::Failed(_) => Out::Fail,
        };
        let code = match outcome {
            Outcome::Rejected(problem) => problem.code.map(|code| code.code()),
            _ => None,
        };
        let (task, tok) = (held.map(|(task, _)| task), held.map(|(_, token)| token));
        recorder.told(attempt, &Told { reason: code, task, tok, ..Told::only(out) });
    }
}
