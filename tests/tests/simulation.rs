//! The simulation keeps every promise over some hundred seeds, is deterministic, and still bites.
//!
//! A failure prints its seed, the smallest plan that still fails, and the command that repeats it; a seed that found something
//! is written into `src/simulation/seeds.txt`, and every run begins with those.
//!
//! Deliberately absent: time. How many seeds a second there are is printed by the command `simulate` and asserted nowhere.
#![allow(clippy::unwrap_used, reason = "a test stops, and says why")]

use std::{collections::BTreeSet, process::Command, thread};

use statehouse_contract::Mutant;
use statehouse_tests::simulation::{
    Hunted, Plan, hunt, kept_seeds,
    reach::{IN_REACH, OUT_OF_REACH},
    run, shrink,
};

/// Seeds of every test run. The command `simulate` runs more.
const SEEDS: u64 = 250;
/// What must have happened somewhere in these runs: without it they would prove little.
const HAPPENED: [&str; 12] = [
    "copy broken off",
    "copy installed",
    "death: Killed",
    "death: PowerCut",
    "decision waited",
    "fence: exists",
    "fence: term",
    "fence: version",
    "known at apply",
    "known before",
    "log cut off",
    "read confirmed",
];
/// Seeds within which a deliberate bug has to be found.
const HUNT: &str = "1000";

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn keep_every_promise(seeds: &[u64]) -> Hunted {
    let hunted = hunt(seeds, threads());
    let Some((plan, report)) = hunted.failed else { return hunted };
    let failure = report.failure.clone().unwrap();
    let seed = plan.seed;
    let (small, report) = shrink(&plan, report);
    let keep: Vec<String> = small.kept().iter().map(ToString::to_string).collect();
    panic!(
        "seed {seed} fails: {failure}\nmade small: {small}{}\nrepeat it: \
         cargo run -p statehouse-tests --bin simulate -- --seed {seed} --keep {}",
        report.failure.unwrap(),
        keep.join(",")
    );
}

#[test]
fn seeds_that_found_something_once_find_nothing_any_more() {
    let seeds = kept_seeds();
    assert_eq!(keep_every_promise(&seeds).kept, seeds.len() as u64);
}

#[test]
fn some_hundred_seeds_keep_every_promise_and_are_not_vacuous() {
    let seeds: Vec<u64> = (0..SEEDS).collect();
    let hunted = keep_every_promise(&seeds);
    assert_eq!(hunted.kept, SEEDS);
    for what in HAPPENED {
        assert!(hunted.tally.contains_key(what), "no run had this: {what}; {:?}", hunted.tally);
    }
    let counts = hunted.counts;
    let least = [
        ("ok", counts.ok, 40 * SEEDS),
        ("rejected", counts.rejected, 5 * SEEDS),
        ("unknown", counts.unknown, SEEDS),
        ("retries", counts.retries, 5 * SEEDS),
        ("dedupe hits", counts.dedupe_hits, 2 * SEEDS),
        ("postponed", counts.postponed, SEEDS / 10),
        ("timers fired", counts.timers_fired, SEEDS),
        ("tasks", counts.tasks, 2 * SEEDS),
        ("leader changes", counts.leader_changes, SEEDS),
        ("faults", counts.faults, SEEDS),
    ];
    for (what, found, wanted) in least {
        assert!(found >= wanted, "{found} {what}, at least {wanted} expected: {counts}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_last_line() {
    for seed in 0..12 {
        let plan = Plan::of(seed);
        let (first, second) = (run(&plan), run(&plan));
        assert_eq!(first.print, second.print, "seed {seed}");
        assert_eq!(first.history, second.history, "seed {seed}");
    }
}

#[test]
fn a_plan_can_be_repeated_with_a_part_of_its_elements() {
    let plan = Plan::of(5);
    let half: BTreeSet<usize> = plan.kept().iter().copied().filter(|n| n % 2 == 0).collect();
    let smaller = plan.keeping(half.clone());
    assert_eq!(smaller.elements().map(|(number, _)| number).collect::<BTreeSet<_>>(), half);
    assert_eq!(run(&smaller).print, run(&smaller).print);
}

#[test]
fn every_mutant_is_in_reach_or_out_of_it() {
    let mut listed: Vec<Mutant> = IN_REACH.to_vec();
    listed.extend(OUT_OF_REACH.iter().map(|(mutant, _)| *mutant));
    listed.sort_unstable();
    let mut all = Mutant::ALL.to_vec();
    all.sort_unstable();
    assert_eq!(listed, all);
}

#[test]
fn every_mutant_in_reach_is_found_within_a_thousand_seeds() {
    for mutant in IN_REACH {
        // A process chooses its mutant once, so each has one of its own.
        let mut child = Command::new(env!("CARGO_BIN_EXE_simulate"));
        let output =
            child.args(["--mutant", mutant.name(), "--seeds", HUNT, "--whole"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        // What the simulation itself cannot do, or nobody can judge, is no bug of the product.
        let is_found = |line: &str| {
            line.starts_with("seed ")
                && !["simulation: ", "undecided: "].iter().any(|no| line.contains(no))
        };
        let found = told.lines().any(is_found);
        assert!(output.status.code() == Some(1) && found, "{mutant} was not found: {told}");
    }
}
