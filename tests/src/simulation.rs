//! A cluster in one deterministic loop: the product's log file, rows, decisions and charts over a seeded network, disk and
//! clock.
//!
//! Read `plan` first: everything that a run meets follows from its seed. Then `world`, the loop; `replica`, a node around the
//! real log file and rows; `desk`, what a leader does for clients; `disk`, what a death leaves; `client`; `verdict`, where
//! the judge speaks; `shrink`.
//!
//! What is real: `LogFile`, `Store` with its snapshots, `runtime::decide`, `chart::step`, the codec, the judge. What is not: the
//! consensus engine, actors, HTTP. `runbooks/develop/reliability.md`, "Simulation", says what follows from that.
//!
//! Invariant: the same plan gives the same run, to the last line of its trace.

pub mod chance;
pub mod client;
pub mod desk;
pub mod disk;
pub mod history;
pub mod hunt;
pub mod plan;
pub mod reach;
pub mod replica;
pub mod shrink;
pub mod subject;
pub mod verdict;
pub mod wire;
pub mod world;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use statehouse_contract::Digest;
use statehouse_judge::Counts;

pub use self::{
    hunt::{Hunted, hunt, kept_seeds},
    plan::Plan,
    shrink::shrink,
    wire::Failure,
};
use self::{verdict::judge_world, world::World};

/// Where directories of runs are made if there is such a place: files in memory, because nothing has to survive.
const MEMORY: &str = "/dev/shm";

/// What a run has come to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The fingerprint of everything that happened.
    pub print: Digest,
    /// What was wrong, if anything was.
    pub failure: Option<Failure>,
    /// What the run consisted of, where it was judged to its end.
    pub counts: Counts,
    /// How often things happened that have to happen in some run.
    pub tally: BTreeMap<String, u64>,
    /// How long it took in its own time, in microseconds.
    pub virtual_us: u64,
    /// Its history.
    pub history: String,
    /// What happened, line by line, where that was asked for.
    pub trace: Vec<String>,
}

impl Report {
    /// Returns the report of a run that did not get far enough to tell more.
    fn of(failure: Failure) -> Self {
        Self {
            print: Digest([0; 32]),
            failure: Some(failure),
            counts: Counts::default(),
            tally: BTreeMap::new(),
            virtual_us: 0,
            history: String::new(),
            trace: Vec::new(),
        }
    }
}

/// Runs a plan.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    run_telling(plan, false)
}

/// Runs a plan, and keeps what happened if `keeps_lines` says so.
#[must_use]
pub fn run_telling(plan: &Plan, keeps_lines: bool) -> Report {
    let made = tempfile::Builder::new().prefix("statehouse-simulation-").tempdir_in(place());
    let folder = match made {
        Ok(folder) => folder,
        Err(error) => return Report::of(error.into()),
    };
    // A broken invariant is a panic by design; here it is one more way to fail.
    let outcome = catch_unwind(AssertUnwindSafe(|| run_in(plan, folder.path(), keeps_lines)));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Report::of(Failure::of("panic", text.unwrap_or_default()))
    })
}

fn run_in(plan: &Plan, folder: &Path, keeps_lines: bool) -> Report {
    let mut world = match World::new(plan, folder, keeps_lines) {
        Ok(world) => world,
        Err(failure) => return Report::of(failure),
    };
    let judged = world.run().and_then(|()| judge_world(&mut world));
    let history = world.history.text().to_owned();
    world.trace.take(&history);
    let (counts, failure) = match judged {
        Ok(counts) => (counts, None),
        Err(failure) => (Counts::default(), Some(failure)),
    };
    Report {
        print: world.trace.print(),
        failure,
        counts,
        tally: std::mem::take(&mut world.tally),
        virtual_us: world.now_us,
        history,
        trace: world.trace.lines(),
    }
}

fn place() -> PathBuf {
    let memory = Path::new(MEMORY);
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}
