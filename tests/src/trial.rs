//! A trial of a cluster: what clients asked and were told while something bad happened, and the judge's word on it.
//!
//! A trial records both the load of the bench and the single requests of a test into one history. At its end the dumps
//! of all three nodes are added, and the judge, who shares no code with the server, reads it. Minimums keep a verdict
//! from meaning nothing.
//!
//! Deliberately absent: faults. The test that tells the story makes them.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use statehouse_contract::{Digest, Version};
use statehouse_judge::{Demands, History, judge};
use statehouse_lab::{
    Asked, Out, Recorder, RoundTripReport, RoundTrips, Told, finish, round_trips_into,
};
use statehouse_sdk::{Client, Options};
use tokio::runtime::Runtime;

use crate::{
    cluster::Cluster,
    load::Load,
    member::Leads,
    node::{Answer, Question},
    patience::PATIENCE,
};

/// Timers may be as late as an outage is long, and as early as clocks of one machine differ.
const GRACE_MS: u64 = 20_000;
const SKEW_MS: u64 = 500;
/// The first number of clients that send a single request; a load counts its own from 0.
const SINGLE: u64 = 1_000;

/// A history that is being written.
#[derive(Debug)]
pub struct Trial {
    recorder: Arc<Recorder>,
    file: PathBuf,
    // A client has one attempt at a time, and single requests may overlap.
    singles: AtomicU64,
}

/// One command of a test: sent again, it is the same.
#[derive(Clone, Debug)]
pub struct Order {
    instance: String,
    name: String,
    key: String,
    body: String,
    deadline_ms: u64,
}

/// A request that was written down and sent.
#[derive(Debug)]
pub struct Sent {
    attempt: u64,
    is_read: bool,
    question: io::Result<Question>,
}

/// Returns a client of these addresses of a cluster.
///
/// # Panics
/// If one is no address.
#[must_use]
pub fn client(cluster: &Cluster, urls: impl IntoIterator<Item = String>) -> Client {
    let mut options = Options::new(urls);
    options.token = Some(cluster.token().to_owned());
    "default".clone_into(&mut options.tenant);
    Client::new(options).expect("the address is one")
}

/// Returns a runtime of one thread.
fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("there is room for a runtime")
}

impl Order {
    /// Starts the sample purchase under a key of its own.
    #[must_use]
    pub fn start(instance: &str) -> Self {
        let body =
            format!(r#"{{"definition":"approval","id":"{instance}","input":{{"amount":12}}}}"#);
        Self::new(instance, "start", format!("start-{instance}"), body)
    }

    /// Approves the sample purchase.
    #[must_use]
    pub fn approve(instance: &str) -> Self {
        Self::new(instance, "approve", format!("approve-{instance}"), "{}".to_owned())
    }

    fn new(instance: &str, name: &str, key: String, body: String) -> Self {
        let (instance, name) = (instance.to_owned(), name.to_owned());
        Self { instance, name, key, body, deadline_ms: 10_000 }
    }

    /// Sets how long the server may take.
    #[must_use]
    pub fn within_ms(self, deadline_ms: u64) -> Self {
        Self { deadline_ms, ..self }
    }

    fn request(&self) -> String {
        match self.name.as_str() {
            "start" => "POST /v1/tenants/default/instances".to_owned(),
            name => format!("POST /v1/tenants/default/instances/{}/events/{name}", self.instance),
        }
    }
}

impl Trial {
    /// Begins a history beside a cluster's data.
    ///
    /// # Panics
    /// If the file cannot be made.
    #[must_use]
    pub fn begin(cluster: &Cluster) -> Self {
        let file = cluster.folder().join("history.jsonl");
        let recorder = Arc::new(Recorder::create(&file).expect("the folder takes files"));
        recorder.anchor("local");
        Self { recorder, file, singles: AtomicU64::new(SINGLE) }
    }

    /// Begins a history with a load of so many clients on all nodes, and waits until so many requests have ended.
    ///
    /// # Panics
    /// If they do not end in time.
    #[must_use]
    pub fn under_load(cluster: &Cluster, clients: u32, requests: u64) -> (Self, Load) {
        let trial = Self::begin(cluster);
        let load = trial.load_on(cluster, &[1, 2, 3], clients);
        load.more(cluster, requests);
        (trial, load)
    }

    /// Writes down that something bad begins.
    pub fn fault(&self, what: &str) {
        self.recorder.fault_begins(what, None, &[]);
    }

    /// Writes down that it is over.
    pub fn healed(&self, what: &str) {
        self.recorder.fault_ends(what);
    }

    /// Waits until the cluster is whole and writes down that it is over; returns who leads.
    pub fn whole_after(&self, cluster: &Cluster, what: &str) -> Leads {
        let leads = cluster.whole();
        self.healed(what);
        leads
    }

    /// Begins a load of clients that know these nodes only.
    #[must_use]
    pub fn load_on(&self, cluster: &Cluster, nodes: &[u32], clients: u32) -> Load {
        Load::begin(cluster, nodes, clients, Arc::clone(&self.recorder))
    }

    /// Begins workers that lease and report tasks as long as given, and writes down who held what.
    #[must_use]
    pub fn tasks(
        &self,
        cluster: &Cluster,
        workers: u32,
        time: Duration,
    ) -> JoinHandle<RoundTripReport> {
        let nodes: Vec<Client> =
            cluster.urls().into_iter().map(|url| client(cluster, [url])).collect();
        let client = client(cluster, cluster.urls());
        let warm_up = Duration::ZERO;
        let options = RoundTrips { client, nodes, workers, warm_up, time, history: None };
        let recorder = Arc::clone(&self.recorder);
        std::thread::spawn(move || {
            let trips = runtime().block_on(round_trips_into(options, recorder));
            trips.unwrap_or_else(|error| panic!("the workers could not begin: {error:?}"))
        })
    }

    /// Sends a command to a node and leaves the answer to be read later.
    #[must_use]
    pub fn send(&self, cluster: &Cluster, node: u32, order: &Order) -> Sent {
        let asked = Asked {
            c: self.singles.fetch_add(1, Ordering::Relaxed),
            tenant: "default",
            wf: Some(&order.instance),
            op: "cmd",
            key: Some(&order.key),
            cmd: Some(&order.name),
            ..Asked::default()
        };
        let attempt = self.recorder.asked(&asked);
        let deadline = order.deadline_ms.to_string();
        let headers = [
            ("idempotency-key", order.key.as_str()),
            ("x-statehouse-deadline-ms", deadline.as_str()),
        ];
        let question = cluster.send(node, &order.request(), &headers, &order.body);
        Sent { attempt, is_read: false, question }
    }

    /// Sends a command to a node and returns the answer; nothing when none came.
    pub fn command(&self, cluster: &Cluster, node: u32, order: &Order) -> Option<Answer> {
        self.answer(self.send(cluster, node, order))
    }

    /// Sends a command to a node until it is done; every other answer must be one that promises nothing.
    ///
    /// # Panics
    /// If it is neither done nor open, or not done in time.
    pub fn done(&self, cluster: &Cluster, node: u32, order: &Order) -> Answer {
        cluster.until(&format!("node {node} does {order:?}"), || {
            let told = self.command(cluster, node, order).ok_or("no answer")?;
            match told.status {
                200 | 201 => Ok(told),
                503 | 504 => Err(told.body),
                _ => panic!("neither done nor open: {told:?}"),
            }
        })
    }

    /// Sends a read of an instance to a node: `linearizable`, `leader` or `stale`.
    #[must_use]
    pub fn send_read(
        &self,
        cluster: &Cluster,
        node: u32,
        instance: &str,
        how: &'static str,
    ) -> Sent {
        let level = if how == "linearizable" { "lin" } else { how };
        let asked = Asked {
            c: self.singles.fetch_add(1, Ordering::Relaxed),
            tenant: "default",
            wf: Some(instance),
            op: "read",
            lvl: Some(level),
            ..Asked::default()
        };
        let attempt = self.recorder.asked(&asked);
        let path = format!("GET /v1/tenants/default/instances/{instance}?consistency={how}");
        Sent { attempt, is_read: true, question: cluster.send(node, &path, &[], "") }
    }

    /// Reads an instance at a node; nothing when no answer came.
    pub fn read(
        &self,
        cluster: &Cluster,
        node: u32,
        instance: &str,
        how: &'static str,
    ) -> Option<Answer> {
        self.answer(self.send_read(cluster, node, instance, how))
    }

    /// Reads the answer to what was sent and writes it down; nothing when none came.
    pub fn answer(&self, sent: Sent) -> Option<Answer> {
        let Sent { attempt, is_read, question } = sent;
        // A connection that was not made is written down as unknown: less is claimed than is known.
        let Ok(answer) = question.and_then(|question| question.answer(PATIENCE)) else {
            self.recorder.told(attempt, &Told::only(Out::Unknown));
            return None;
        };
        let out = match answer.status {
            202 => Out::Postponed,
            200..400 => Out::Ok,
            504 | 502 | 408 => Out::Unknown,
            429 | 500.. => Out::Fail,
            _ => Out::Rejected,
        };
        let tag = answer.header("etag").and_then(|tag| Version::parse(tag).ok());
        let code = answer.field("code").as_str().map(str::to_owned);
        let reply = Digest::of(answer.body.as_bytes()).to_string();
        let told = Told {
            ver: tag.map(|tag| tag.version).or_else(|| answer.field("version").as_u64()),
            born: tag.map(|tag| tag.born),
            reply: Some(&*reply).filter(|_| !is_read && out == Out::Ok),
            reason: code.as_deref(),
            node: answer.header("x-statehouse-node"),
            age_ms: answer.field("age_ms").as_u64().filter(|_| is_read),
            replayed: answer.header("idempotency-replayed") == Some("true"),
            ..Told::only(out)
        };
        self.recorder.told(attempt, &told);
        Some(answer)
    }

    /// Says that all is well afterwards: every request of the load ended well, the nodes hold the same, the judge agrees.
    ///
    /// # Panics
    /// If it is not.
    pub fn all_well(self, cluster: &Cluster, load: Load, demands: &Demands) {
        load.end_well();
        self.judged(cluster, demands);
    }

    /// Adds what all nodes hold and lets the judge read the history; fails unless it is valid and met the minimums, and
    /// prints what was counted.
    ///
    /// # Panics
    /// If a promise was broken; the history is kept and named then.
    #[expect(clippy::print_stdout, reason = "a test says what its verdict stands on")]
    pub fn judged(self, cluster: &Cluster, demands: &Demands) {
        let _ = cluster.whole();
        self.recorder.anchor("local");
        let nodes: Vec<Client> =
            cluster.urls().into_iter().map(|url| client(cluster, [url])).collect();
        let dumped = runtime().block_on(finish(&self.recorder, &nodes, GRACE_MS, SKEW_MS));
        let dumped = dumped.unwrap_or_else(|error| panic!("{error:?}\n{}", cluster.describe()));
        let text = std::fs::read_to_string(&self.file).expect("it was written just now");
        let verdict = judge(&History::parse(text), demands);
        if !verdict.is_valid() || !dumped.absent.is_empty() || !dumped.uneven.is_empty() {
            let kept = tempfile::Builder::new().prefix("history-").suffix(".jsonl").tempfile();
            let kept = kept.and_then(|file| file.keep().map_err(|error| error.error));
            let (_, kept) = kept.expect("there is room for a file");
            std::fs::copy(&self.file, &kept).expect("there is room for a file");
            panic!("{verdict}\n{dumped:?}\nthe history is kept in {}", kept.display());
        }
        println!("{:?}", verdict.counts);
    }
}
