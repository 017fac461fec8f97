//! What a scenario has in its hands: a cluster under load, faults to make, a schedule from the seed, things to check.
//!
//! Faults are written into the history when they begin and when they end, with the nodes and shards that they hit, so that
//! the judge and the report see the same windows.
//!
//! Deliberately absent: the load itself and the verdict. A scenario cannot make itself pass.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    DrillError,
    dice::Dice,
    load::{Load, Target},
    processes::Processes,
    report::{Check, Window},
    shim::Shim,
    view::{self, Leads, led_by},
};
use crate::history::Recorder;

/// Between two looks at whether the load still moves.
const BREATH: Duration = Duration::from_millis(50);
/// How long the load may take for anything at all after a fault; a drill without answers has failed.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The hands of a scenario.
pub struct Stage<'a> {
    /// The nodes.
    pub(crate) cluster: &'a mut Processes,
    /// Where the load goes.
    pub(crate) target: Target,
    /// The history.
    pub(crate) recorder: Arc<Recorder>,
    /// The schedule.
    pub(crate) dice: Dice,
    /// How often the fault is made.
    pub(crate) times: u32,
    /// The shim of each node, where the scenario runs under it.
    pub(crate) shims: BTreeMap<u32, Shim>,
    /// Another build, for drills that change builds.
    pub(crate) older: Option<std::path::PathBuf>,
    pub(crate) load: &'a Load,
    pub(crate) windows: Vec<Window>,
    pub(crate) checks: Vec<Check>,
    pub(crate) notes: Vec<String>,
    pub(crate) tell: &'a (dyn Fn(&str) + Sync),
}

/// A fault that has begun.
#[must_use = "a fault that begins also ends"]
pub(crate) struct Begun(usize);

impl Stage<'_> {
    /// Shows progress.
    pub(crate) fn say(&self, text: &str) {
        (self.tell)(&format!("{:>6.1} s  {text}", self.now_ms() / 1_000.0));
    }

    fn now_ms(&self) -> f64 {
        self.recorder.now() as f64 / 1e6
    }

    /// Writes down that a fault begins on nodes, and which shards must feel it.
    pub(crate) fn begins(&mut self, name: &str, nodes: &[u32], shards: &[u32]) -> Begun {
        self.say(name);
        self.recorder.fault_begins(name, None, shards);
        self.windows.push(Window {
            name: name.to_owned(),
            begin_ms: self.now_ms(),
            end_ms: None,
            nodes: nodes.to_vec(),
            shards: shards.to_vec(),
        });
        Begun(self.windows.len() - 1)
    }

    /// Writes down that it is over.
    pub(crate) fn ends(&mut self, begun: Begun) {
        let now = self.now_ms();
        if let Some(window) = self.windows.get_mut(begun.0) {
            window.end_ms = Some(now);
            self.recorder.fault_ends(&window.name);
        }
    }

    /// Lets the load run for a while; its length is part of the schedule.
    pub(crate) fn run_on(&self, time: Duration) {
        sleep(time);
    }

    /// Lets the load run for a seeded while.
    pub(crate) fn run_on_between(&mut self, low_ms: u64, high_ms: u64) {
        sleep(Duration::from_millis(self.dice.between(low_ms, high_ms)));
    }

    /// Waits until so many more requests of the steady load have ended.
    pub(crate) fn more(&self, requests: u64) -> Result<(), DrillError> {
        let enough = self.load.ended() + requests;
        let begun = Instant::now();
        while self.load.ended() < enough {
            if begun.elapsed() > SILENCE_MAX {
                return Err(DrillError::Never {
                    what: format!("{requests} more requests end"),
                    within: SILENCE_MAX,
                    last: self.cluster.describe(),
                });
            }
            sleep(BREATH);
        }
        Ok(())
    }

    /// Waits until all nodes agree on leaders, and returns them.
    pub(crate) fn leads(&self) -> Result<Leads, DrillError> {
        self.cluster.agreed(&self.cluster.numbers())
    }

    /// Returns a node that leads something, chosen by the seed, and what it leads.
    pub(crate) fn some_leader(&mut self) -> Result<(u32, Vec<u32>), DrillError> {
        let leads = self.leads()?;
        let mut nodes: Vec<u32> = leads.values().map(|lead| lead.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let node = self.dice.one(&nodes).copied();
        let node = node.ok_or_else(|| DrillError::Node("nobody leads".to_owned()))?;
        Ok((node, led_by(&leads, node)))
    }

    /// Starts a node that has ended and waits until the cluster is whole and its leaders are spread again.
    pub(crate) fn back(&mut self, node: u32) -> Result<(), DrillError> {
        self.cluster.start(node)?;
        self.cluster.balanced().map(drop)
    }

    /// Returns the shim of a node.
    pub(crate) fn shim(&self, node: u32) -> Result<&Shim, DrillError> {
        let missing = || DrillError::NotHere(format!("node {node} does not run under the shim"));
        self.shims.get(&node).ok_or_else(missing)
    }

    /// Returns who leads what in the eyes of some node that answers now.
    pub(crate) fn seen(&mut self) -> Option<Leads> {
        let numbers = self.cluster.numbers();
        numbers.into_iter().find_map(|number| {
            let view = self.cluster.node(number).ok()?.view().ok()?;
            view::leads(&view).ok()
        })
    }

    /// Writes down what a scenario checks beyond the history.
    pub(crate) fn check(&mut self, name: &str, budget: &str, measured: String, pass: bool) {
        let budget = Some(budget.to_owned()).filter(|budget| !budget.is_empty());
        self.checks.push(Check { name: name.to_owned(), budget, measured, pass });
    }
}
