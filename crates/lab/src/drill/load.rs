//! The load of a drill: a profile of requests that measures, probes that ask awkwardly, workers that fail at times.
//!
//! All write into one history. The measuring part is the load tool's own, open loop, so that a stall is seen in full; its
//! clients follow every request to its end. It lasts as long as the drill's faults do, and not a moment by the clock.
//!
//! Deliberately absent: faults. Invariant: whatever was sent is followed to its end before the load has ended.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;
use statehouse_sdk::{Client, Options, With, chain};
use tokio::task::JoinSet;

use super::{
    DrillError,
    dice::Dice,
    probe::{self, Access, Probe},
    workers::{self, Abandoned},
};
use crate::{
    bench::{BenchOptions, Progress, bench_into},
    history::Recorder,
    pace::Pace,
    report::Report,
    workload::{Length, Mode, Workload},
};

/// The definition that the probes run.
const PROBE: &str = include_str!("../../../../config/definitions/drill-probe.yaml");
/// The tenant whose probes use the ids and keys of the first one's.
const TWIN: &str = "twin";
/// Longer than any drill.
const LOAD_MAX: Duration = Duration::from_secs(24 * 3_600);
const ATTEMPT: Duration = Duration::from_secs(3);
const ATTEMPTS_MAX: u32 = 2_000;
/// Time for all attempts of one request; a cluster that is gone for longer has failed.
const REQUEST_MAX: Duration = Duration::from_secs(600);
/// How long a new tenant may be unknown to some node.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
const PROBES_PER_TENANT: u64 = 3;
const WORKERS: u64 = 4;
const TASK_INSTANCES: u64 = 6;

/// The steady part of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Steady {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Clients: more than wait in vain during the longest gap, so that one shard's do not starve the others.
    pub(crate) clients: u32,
}

/// A load that runs.
#[derive(Debug)]
pub(crate) struct Load {
    progress: Arc<Progress>,
    steady: Option<JoinHandle<Result<Report, crate::bench::BenchError>>>,
    probes: Arc<probe::Shared>,
    workers: Arc<workers::Shared>,
    others: Option<JoinHandle<Result<(), DrillError>>>,
}

/// What a load found out besides its history.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) report: Report,
    /// From a lease that was let fall until the next one of the same task.
    pub(crate) again: Vec<Duration>,
}

/// Where a load goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Base addresses of all nodes.
    pub(crate) urls: Vec<String>,
    pub(crate) token: String,
}

impl Target {
    /// Returns a client of some of the addresses.
    pub(crate) fn client(&self, urls: &[String]) -> Result<Client, DrillError> {
        let mut options = Options::new(urls.iter().cloned());
        options.token = Some(self.token.clone());
        Client::new(options).map_err(|error| DrillError::Load(error.to_string()))
    }

    /// Returns one client for each node.
    pub(crate) fn nodes(&self) -> Result<Vec<Client>, DrillError> {
        self.urls.iter().map(|url| self.client(std::slice::from_ref(url))).collect()
    }
}

impl Load {
    /// Begins the load and waits until all of it is under way.
    pub(crate) fn begin(
        target: &Target,
        steady: Steady,
        recorder: &Arc<Recorder>,
        dice: &mut Dice,
    ) -> Result<Self, DrillError> {
        let runtime = runtime()?;
        let client = target.client(&target.urls)?;
        let mark = format!("{:x}", dice.below(1 << 32));
        let twin = runtime.block_on(prepare(target, &client, &mark))?;
        let host = |url: &String| url.trim_start_matches("http://").to_owned();
        let probes = Arc::new(probe::Shared {
            hosts: target.urls.iter().map(host).collect(),
            tenants: vec![
                Access { tenant: client.tenant_name().to_owned(), token: target.token.clone() },
                Access { tenant: TWIN.to_owned(), token: twin },
            ],
            recorder: Arc::clone(recorder),
            is_over: AtomicBool::new(false),
        });
        let workers = Arc::new(workers::Shared {
            client,
            recorder: Arc::clone(recorder),
            is_over: AtomicBool::new(false),
            abandoned: Mutex::new(Abandoned::default()),
        });
        let others = {
            let (probes, workers) = (Arc::clone(&probes), Arc::clone(&workers));
            let dice = dice.split();
            std::thread::spawn(move || runtime.block_on(beside(probes, workers, dice)))
        };
        let progress = Arc::new(Progress::default());
        let options = BenchOptions {
            servers: target.urls.clone(),
            token: Some(target.token.clone()),
            authority_pem: None,
            tenant: "default".to_owned(),
            workload: Workload::order(),
            mode: Mode::Commands,
            pace: Pace::Open { rate: steady.rate },
            clients: steady.clients,
            warm_up: Duration::ZERO,
            length: Length::For(LOAD_MAX),
            deadline: ATTEMPT,
            attempts_max: ATTEMPTS_MAX,
            patience: REQUEST_MAX,
            history: None,
            progress: Some(Arc::clone(&progress)),
        };
        let recorder = Arc::clone(recorder);
        let steady = std::thread::spawn(move || bench_into(options, recorder));
        Ok(Self { progress, steady: Some(steady), probes, workers, others: Some(others) })
    }

    /// Returns how many requests of the steady part have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.progress.ended()
    }

    /// Returns the second tenant and its token.
    pub(crate) fn twin(&self) -> &Access {
        // Both are made together with the load.
        self.probes.tenants.last().expect("a load has two tenants")
    }

    /// Lets all clients finish what they began.
    pub(crate) fn end(mut self) -> Result<Loaded, DrillError> {
        self.stop();
        let panicked = |_| DrillError::Load("a client of the load panicked".to_owned());
        let missing = || DrillError::Load("the load has ended already".to_owned());
        let report = self.steady.take().ok_or_else(missing)?.join().map_err(panicked)?;
        self.others.take().ok_or_else(missing)?.join().map_err(panicked)??;
        let report = report.map_err(|error| DrillError::Load(chain(&error)))?;
        let abandoned = self.workers.abandoned.lock();
        let again = abandoned.map(|mut abandoned| std::mem::take(&mut abandoned.again));
        Ok(Loaded { report, again: again.unwrap_or_default() })
    }

    fn stop(&self) {
        self.progress.enough();
        self.probes.is_over.store(true, Ordering::Relaxed);
        self.workers.is_over.store(true, Ordering::Relaxed);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes what the probes and the workers need; returns the second tenant's token.
async fn prepare(target: &Target, client: &Client, mark: &str) -> Result<String, DrillError> {
    let failed = |error| DrillError::Load(chain(&error));
    client.deploy(PROBE, With::default()).await.done().map_err(failed)?;
    client.put_tenant(TWIN, With::default()).await.done().map_err(failed)?;
    let twin = client.for_tenant(TWIN);
    let roles = ["caller", "reader", "deployer"];
    let key = patiently(async || {
        twin.put_key("probes", &roles, With::default()).await.done().map_err(failed)
    })
    .await?
    .json();
    let token = key.get("token").and_then(Value::as_str).map(str::to_owned);
    let token = token.ok_or_else(|| DrillError::Load(format!("no token of the twin: {key}")))?;
    // An administrator sees nothing of another tenant: the definition comes in with the tenant's own key.
    let own = Target { urls: target.urls.clone(), token: token.clone() };
    patiently(async || {
        own.client(&own.urls)?
            .for_tenant(TWIN)
            .deploy(PROBE, With::default())
            .await
            .done()
            .map_err(failed)
    })
    .await?;
    workers::prepare(client, TASK_INSTANCES, mark).await?;
    Ok(token)
}

/// Asks until it is done: a node that has not heard of a new tenant or key yet does not know it.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, DrillError>) -> Result<T, DrillError> {
    let begun = tokio::time::Instant::now();
    loop {
        match ask().await {
            Err(_) if begun.elapsed() < KNOWN_WITHIN => tokio::time::sleep(super::LOOK).await,
            last => return last,
        }
    }
}

/// Runs the probes and the workers until they are told that the load is over.
async fn beside(
    probes: Arc<probe::Shared>,
    workers: Arc<workers::Shared>,
    mut dice: Dice,
) -> Result<(), DrillError> {
    let mut all = JoinSet::new();
    for number in 0..PROBES_PER_TENANT {
        for tenant in 0..probes.tenants.len() {
            let Some(probe) = Probe::new(&probes, number, tenant, dice.split()) else { continue };
            all.spawn(probe.run(number * probes.tenants.len() as u64 + tenant as u64));
        }
    }
    for number in 0..WORKERS {
        all.spawn(workers::work(Arc::clone(&workers), number, dice.split()));
    }
    let mut end = Ok(());
    while let Some(one) = all.join_next().await {
        if let Err(error) = one {
            end = Err(DrillError::Load(format!("a client panicked: {error}")));
        }
    }
    end
}

fn runtime() -> Result<tokio::runtime::Runtime, DrillError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| DrillError::Load(error.to_string()))
}
