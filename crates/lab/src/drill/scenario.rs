//! The list of drills: a name, a row of the fault matrix, a budget, and the function that plays it.
//!
//! A row says what is expected and what it may cost; the function makes the faults through the [`Stage`]; the budgets are
//! held against what was measured afterwards, in one place. A scenario that cannot be played somewhere says why.
//!
//! Deliberately absent: any way to pass without a VALID history.

use statehouse_judge::Demands;

use super::{DrillError, stage::Stage};

/// Which sets a scenario belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Minutes: for every change.
    Short,
    /// As long as it takes: for every night.
    Nightly,
}

/// A row of the fault matrix: what a fault may cost. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    /// The median of the times without an acknowledged command on the shards that the fault hits.
    pub median_ms: Option<f64>,
    /// Their 99th percentile; of fewer than a hundred gaps, the longest.
    pub p99_ms: Option<f64>,
    /// The longest such time on all other shards.
    pub others_ms: Option<f64>,
    /// From the end of the last fault until every node is ready, agreed and caught up.
    pub whole_ms: Option<f64>,
    /// From a lease whose worker vanished until the next lease of the same task.
    pub again_ms: Option<f64>,
}

impl Row {
    /// Returns the row with budgets so many times as long.
    pub(crate) fn stretched(self, factor: f64) -> Self {
        let longer = |ms: Option<f64>| ms.map(|ms| ms * factor);
        Self {
            median_ms: longer(self.median_ms),
            p99_ms: longer(self.p99_ms),
            others_ms: longer(self.others_ms),
            whole_ms: longer(self.whole_ms),
            again_ms: longer(self.again_ms),
        }
    }
}

/// What a drill does.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What breaks, in one sentence.
    pub about: &'static str,
    /// What is expected, in one sentence.
    pub expected: &'static str,
    /// What it may cost.
    pub row: Row,
    /// The sets that it belongs to.
    pub sets: &'static [Set],
    /// How often the fault is made unless told otherwise.
    pub times: u32,
    /// More arguments of `dev` for its cluster.
    pub arguments: &'static [&'static str],
    /// What must have happened, so that a verdict means something.
    pub demands: Demands,
    /// Whether its nodes run under the storage and clock shim.
    pub is_shimmed: bool,
    /// Plays it.
    pub play: fn(&mut Stage<'_>) -> Result<(), DrillError>,
}

/// A row without budgets.
pub(crate) const NO_BUDGET: Row =
    Row { median_ms: None, p99_ms: None, others_ms: None, whole_ms: None, again_ms: None };
/// Demands of a drill in which processes vanish.
pub(crate) const HARSH: Demands = Demands {
    ok: 500,
    unknown: 5,
    retries: 20,
    dedupe_hits: 10,
    timers_fired: 5,
    leader_changes: 1,
    faults: 1,
};
/// Demands of a drill that changes no leader.
pub(crate) const MILD: Demands = Demands { leader_changes: 0, ..HARSH };

/// Every scenario, in the order of the fault matrix.
pub fn scenarios() -> &'static [Scenario] {
    super::scenarios::ALL
}

/// Finds a scenario by its name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    scenarios().iter().find(|scenario| scenario.name == name)
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The row in words, for lists.
impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("median", self.median_ms),
            ("p99", self.p99_ms),
            ("others", self.others_ms),
            ("whole", self.whole_ms),
            ("leased again", self.again_ms),
        ];
        let told: Vec<String> =
            parts.into_iter().filter_map(|(what, ms)| Some(format!("{what} {} ms", ms?))).collect();
        if told.is_empty() { write!(f, "none of time") } else { write!(f, "{}", told.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_words_and_different() {
        let names: BTreeSet<&str> = scenarios().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), scenarios().len());
        let is_word = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(names.iter().all(is_word), "{names:?}");
        assert!(find("leader-kill").is_some() && find("no-such-drill").is_none());
    }

    #[test]
    fn no_scenario_passes_by_doing_nothing() {
        for Scenario { name, demands, times, sets, .. } in scenarios() {
            assert!(demands.ok >= 100 && *times > 0 && !sets.is_empty(), "{name}");
        }
    }
}
