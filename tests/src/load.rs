//! A load that runs on a cluster while its test makes trouble, and what is asked of its answers at the end.
//!
//! Each client follows the leaders and repeats what was cut off until it is answered. A load ends when its test has seen
//! enough, or with its handle.
//!
//! Deliberately absent: what is made of the history. The trial has it judged.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use statehouse_lab::{
    BenchError, BenchOptions, Length, Mode, Pace, Progress, Recorder, Report, Workload, bench_into,
};

use crate::cluster::Cluster;

/// Longer than any trial.
const LOAD_MAX: Duration = Duration::from_secs(600);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(3);
const ATTEMPTS_MAX: u32 = 500;
/// What a client is told, or finds out, that did not get what it came for at the first try.
const REFUSALS: [&str; 6] =
    ["unknown", "no_leader", "no_quorum", "timeout", "cut", "deadline_exceeded"];

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Result<Report, BenchError>>>,
}

impl Load {
    /// Begins a load of clients that know these nodes, and writes it down.
    pub(crate) fn begin(
        cluster: &Cluster,
        nodes: &[u32],
        clients: u32,
        recorder: Arc<Recorder>,
    ) -> Self {
        let progress = Arc::new(Progress::default());
        let options = BenchOptions {
            servers: nodes.iter().map(|node| cluster.url(*node)).collect(),
            token: Some(cluster.token().to_owned()),
            authority_pem: None,
            tenant: "default".to_owned(),
            workload: Workload::order(),
            mode: Mode::Commands,
            pace: Pace::Closed,
            clients,
            warm_up: Duration::ZERO,
            length: Length::For(LOAD_MAX),
            deadline: ATTEMPT,
            attempts_max: ATTEMPTS_MAX,
            patience: Duration::from_secs(600),
            history: None,
            progress: Some(Arc::clone(&progress)),
        };
        let thread = std::thread::spawn(move || bench_into(options, recorder));
        Self { progress, thread: Some(thread) }
    }

    /// Waits until so many more requests have ended.
    ///
    /// # Panics
    /// If they do not end in time.
    pub fn more(&self, cluster: &Cluster, requests: u64) {
        let enough = self.progress.ended() + requests;
        cluster.until(&format!("{requests} more requests end"), || {
            let ended = self.progress.ended();
            if ended >= enough { Ok(()) } else { Err(format!("{ended} of {enough} have")) }
        });
    }

    /// Lets the clients finish what they began; prints the report and returns it.
    ///
    /// # Panics
    /// If the load could not run.
    #[expect(clippy::print_stdout, reason = "a test says how its load went")]
    pub fn end(mut self) -> Report {
        self.progress.enough();
        let thread = self.thread.take().expect("a load ends once");
        let report = thread.join().expect("the load does not panic");
        let report = report.unwrap_or_else(|error| panic!("the load stopped: {error:?}"));
        println!("{report}");
        report
    }

    /// Ends it like [`Load::end`]; every request must have ended well, however often it was sent.
    ///
    /// # Panics
    /// If one did not.
    pub fn end_well(self) -> Report {
        let report = self.end();
        let ended: Vec<&str> = report.classes.keys().map(String::as_str).collect();
        assert_eq!(ended, ["ok"], "{report}");
        report
    }

    /// Ends it like [`Load::end_well`]; besides, no answer may have been a refusal. A connection that was not taken is none:
    /// the next node is asked then.
    ///
    /// # Panics
    /// If a request did not end well or was refused at first.
    pub fn end_unrefused(self) -> Report {
        let report = self.end_well();
        let told = |code: &&str| report.codes.contains_key(*code);
        let refusals: Vec<&str> = REFUSALS.into_iter().filter(told).collect();
        assert!(refusals.is_empty(), "{report}");
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.progress.enough();
    }
}
