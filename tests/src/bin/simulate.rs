//! Runs the simulation over many seeds, repeats one plan, or hunts deliberate bugs.
//!
//! ```text
//! cargo run --release -p statehouse-tests --bin simulate -- --seeds 10000 [--from N] [--threads N] [--whole]
//! cargo run -p statehouse-tests --bin simulate -- --kept
//! cargo run -p statehouse-tests --bin simulate -- --seed 17 [--keep 0,3,9] [--trace]
//! cargo run -p statehouse-tests --features mutants --bin simulate -- --mutant timer-early --seeds 1000
//! cargo run -p statehouse-tests --features mutants --bin simulate -- --mutants
//! ```
//!
//! A failure prints its seed and what broke, is made small, and prints the command that repeats the small one; then the exit
//! code is 1; `--whole` leaves it as it is. With `--mutant` a failure is what is wanted. `--mutants` takes each mutant in reach in a process of its own, because
//! a process chooses once, and fails if one of them is not found.
//!
//! Deliberately absent: a seed from the clock. What is run is what was asked for.
#![allow(clippy::print_stdout, reason = "a report is for standard output")]

use std::{
    collections::BTreeSet,
    env,
    process::{Command, ExitCode},
    thread,
    time::Instant,
};

use statehouse_contract::mutant;
use statehouse_tests::simulation::{
    Plan, Report, hunt, kept_seeds,
    reach::{IN_REACH, OUT_OF_REACH},
    run, run_telling, shrink,
};

/// Seeds unless told otherwise: those within which a deliberate bug has to be found.
const SEEDS: u64 = 1_000;

/// What was asked for.
#[derive(Default)]
struct Orders {
    seeds: Option<u64>,
    from: u64,
    threads: Option<usize>,
    seed: Option<u64>,
    keep: Option<BTreeSet<usize>>,
    mutant: Option<String>,
    is_trace: bool,
    is_mutants: bool,
    is_kept: bool,
    is_whole: bool,
}

impl Orders {
    fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut orders = Self::default();
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match &*word {
                "--seeds" => orders.seeds = Some(number(&value()?)?),
                "--from" => orders.from = number(&value()?)?,
                "--threads" => orders.threads = Some(number(&value()?)?),
                "--seed" => orders.seed = Some(number(&value()?)?),
                "--keep" => {
                    orders.keep = Some(value()?.split(',').map(number).collect::<Result<_, _>>()?);
                }
                "--mutant" => orders.mutant = Some(value()?),
                "--trace" => orders.is_trace = true,
                "--mutants" => orders.is_mutants = true,
                "--whole" => orders.is_whole = true,
                "--kept" => orders.is_kept = true,
                _ => return Err(format!("{word} is no order; see the head of simulate.rs")),
            }
        }
        Ok(orders)
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn main() -> ExitCode {
    let done = Orders::read(env::args().skip(1)).and_then(|orders| {
        mutant::choose(orders.mutant.as_deref()).map_err(|error| error.to_string())?;
        obey(&orders)
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("{why}");
            ExitCode::from(2)
        }
    }
}

fn obey(orders: &Orders) -> Result<bool, String> {
    if orders.is_mutants {
        return every_mutant();
    }
    if let Some(seed) = orders.seed {
        let whole = Plan::of(seed);
        let plan = orders.keep.clone().map_or_else(|| whole.clone(), |keep| whole.keeping(keep));
        return Ok(one(&plan, orders));
    }
    let count = orders.seeds.unwrap_or(SEEDS);
    let seeds: Vec<u64> = match orders.is_kept {
        true => kept_seeds(),
        false => (orders.from..orders.from + count).collect(),
    };
    let began = Instant::now();
    let hunted = hunt(&seeds, orders.threads());
    let seconds = began.elapsed().as_secs_f64();
    println!("{} runs kept every promise in {seconds:.1} s", hunted.kept);
    println!("{}", hunted.counts);
    let tally: Vec<String> =
        hunted.tally.iter().map(|(what, often)| format!("{what} {often}")).collect();
    println!("{}", tally.join(", "));
    let Some((plan, report)) = hunted.failed else { return Ok(true) };
    tell_failure(&plan, &report, orders);
    if orders.is_whole {
        return Ok(false);
    }
    let (small, report) = shrink(&plan, report);
    if !small.is_whole() {
        println!("made small:");
        print!("{small}");
        tell_failure(&small, &report, orders);
    }
    Ok(false)
}

/// Runs one plan twice, and tells everything.
fn one(plan: &Plan, orders: &Orders) -> bool {
    let report = run_telling(plan, orders.is_trace);
    if orders.is_trace {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    print!("{plan}");
    println!("trace {}, {} ms of its own time", report.print, report.virtual_us / 1_000);
    println!("{}", report.counts);
    let again = run(plan);
    if again.print != report.print {
        println!("not deterministic: the second run has trace {}", again.print);
        return false;
    }
    match &report.failure {
        Some(_) => tell_failure(plan, &report, orders),
        None => println!("every promise was kept"),
    }
    report.failure.is_none()
}

fn tell_failure(plan: &Plan, report: &Report, orders: &Orders) {
    let Some(failure) = &report.failure else { return };
    println!("seed {} fails: {failure}", plan.seed);
    let mutant =
        orders.mutant.as_ref().map_or_else(String::new, |name| format!(" --mutant {name}"));
    let features = if mutant.is_empty() { "" } else { " --features mutants" };
    let keep: Vec<String> = plan.kept().iter().map(ToString::to_string).collect();
    let keep = if plan.is_whole() { String::new() } else { format!(" --keep {}", keep.join(",")) };
    println!(
        "repeat it: cargo run -p statehouse-tests{features} --bin simulate -- --seed {}{keep}{mutant}",
        plan.seed
    );
}

/// Hunts each mutant in reach in a process of its own.
fn every_mutant() -> Result<bool, String> {
    let me = env::current_exe().map_err(|error| error.to_string())?;
    let mut is_all = true;
    for mutant in IN_REACH {
        let mut child = Command::new(&me);
        child.args(["--mutant", mutant.name(), "--seeds", &SEEDS.to_string(), "--whole"]);
        let output = child.output().map_err(|error| error.to_string())?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = told.lines().find(|line| line.starts_with("seed "));
        is_all &= output.status.code() == Some(1) && found.is_some();
        println!("{mutant} ({}): {}", mutant.breaks(), found.unwrap_or("NOT FOUND"));
    }
    for (mutant, why) in OUT_OF_REACH {
        println!("{mutant}: out of reach, {why}");
    }
    Ok(is_all)
}
