//! Proof that the lab bites: each deliberate bug, and the drill that has to find it.
//!
//! A lab that never fails is right or blind. The nodes of a build for tests take one bug by name; a drill with a bug in its
//! nodes must end INVALID, and a drill without one must end VALID. What a bug breaks, and where it stands, is told in
//! `statehouse_contract::mutant` and in the page on reliability.
//!
//! Deliberately absent: bugs that nobody could notice from outside. Each of these loses, repeats, reorders or invents
//! something that a client was told.

use statehouse_contract::mutant::Mutant;

use super::scenario::{Scenario, find};

/// The variable by which the nodes are told.
pub const VARIABLE: &str = "STATEHOUSE_MUTANT";

/// A deliberate bug and the drill that has to find it.
#[derive(Debug)]
pub struct Hunt {
    /// The bug.
    pub mutant: Mutant,
    /// The drill.
    pub scenario: &'static Scenario,
    /// How often its fault is made.
    pub times: u32,
}

/// Returns the hunt for each bug.
pub fn hunts() -> Vec<Hunt> {
    let hunt = |mutant: &Mutant| {
        let (name, times) = ground(*mutant);
        Some(Hunt { mutant: *mutant, scenario: find(name)?, times })
    };
    Mutant::ALL.iter().filter_map(hunt).collect()
}

/// Where a bug has to be looked for, and with how many faults.
fn ground(mutant: Mutant) -> (&'static str, u32) {
    match mutant.name() {
        // Only a power cut takes what was never synced.
        "ack-before-sync" | "vote-not-synced" => ("power-loss", 4),
        "snapshot-without-receipts" => ("snapshot-install", 1),
        // An old leader has to live on while another one leads.
        "stale-group-trusted" => ("leader-cut", 4),
        "no-term-fence" => ("transfer", 20),
        "refused-after-lost-reply" => ("leader-kill", 4),
        _ => ("leader-kill", 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_drill_that_looks_for_it() {
        let hunted: Vec<&str> = hunts().iter().map(|hunt| hunt.mutant.name()).collect();
        let all: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(hunted, all);
        assert!(all.len() >= 16);
    }
}
