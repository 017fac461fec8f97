//! Drills: a real cluster, a load, something that breaks, and the judge's word on what was promised.
//!
//! [`run()`] makes three processes of its own, puts a load on them, plays one [`Scenario`], waits until all is healed, takes
//! the dumps of every node and lets the judge read the history. What it found is a [`DrillReport`]: PASS only if the history
//! is VALID, every budget was kept and enough happened for both to mean something.
//!
//! Read `scenario` for the list, `stage` for what a scenario can do, `load` and `probe` for who asks meanwhile.
//!
//! Deliberately absent: judgement of histories (`statehouse-judge`), and anything that a user of the API could not do, but
//! for signals, files and the environment of processes that the drill itself started.
//!
//! Invariant: one seed, one schedule. How long things take is the machine's; what is done to whom, and in which order, is
//! the seed's.

mod ask;
mod dice;
mod load;
pub mod mutants;
mod node;
mod order;
mod power;
mod probe;
mod processes;
pub mod report;
mod running;
mod scenario;
mod scenarios;
mod shim;
mod stage;
mod view;
mod workers;

use std::{
    io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{dump::DumpError, server::ServerError};

pub use self::{
    dice::Dice,
    report::DrillReport,
    running::{DrillOptions, Outcome, run},
    scenario::{Row, Scenario, Set, find, scenarios},
};

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Why a drill came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// A file could not be read, written or run.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The cluster did not start.
    #[error("start the cluster")]
    Start(#[source] ServerError),
    /// A node did not do what the drill asked its process to do.
    #[error("{0}")]
    Node(String),
    /// The load could not run.
    #[error("the load: {0}")]
    Load(String),
    /// What had to happen did not.
    #[error("{what} did not come true within {within:?}; last seen: {last}")]
    Never {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// What was seen last.
        last: String,
    },
    /// The nodes did not tell what they hold.
    #[error("dump the nodes")]
    Dump(#[source] DumpError),
    /// The scenario cannot be played here.
    #[error("{0}")]
    NotHere(String),
}

impl DrillError {
    fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    /// Adds to what was seen last.
    fn with(self, more: &str) -> Self {
        match self {
            Self::Never { what, within, last } => {
                Self::Never { what, within, last: format!("{last}\n{more}") }
            }
            other => other,
        }
    }
}

/// Looks until something is found.
fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, DrillError> {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(last) if begun.elapsed() >= within => {
                return Err(DrillError::Never { what: what.to_owned(), within, last });
            }
            Err(_) => sleep(LOOK),
        }
    }
}
