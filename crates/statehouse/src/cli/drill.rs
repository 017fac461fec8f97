//! `statehouse drill …`: breaks a cluster on purpose, and says PASS or FAIL with the figures.
//!
//! `run` makes three processes of its own, loads them, breaks something, heals it, dumps every node and has the history
//! judged; `report` makes a page of what many drills found; `judge` reads a history alone. The judge shares no code with
//! the server. Exit 0 only for PASS and VALID: a run that proves nothing proves nothing.
//!
//! Deliberately absent: the scenarios. They stand in `crates/lab/src/drill`.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};

use statehouse_contract::Build;
use statehouse_judge::{Demands, History};
use statehouse_lab::drill::{
    self, DrillOptions, Outcome, Scenario, Set,
    mutants::{self, Hunt},
};
use statehouse_sdk::chain;

use super::{
    exit::{Exit, Failure},
    output::Output,
};

/// Requests a second of a steady load unless told otherwise: some for each shard in every failover, on a small machine.
const RATE: f64 = 200.0;

/// What to do with drills.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the drills: what breaks, what is expected, what it may cost.
    List,
    /// Play a drill, or a set of them, against three processes made for it; exit 0 only for PASS.
    Run(Run),
    /// Put each deliberate bug into the nodes and prove that its drill finds it; for test builds. Exit 0 only if all are found.
    Mutants {
        /// Only this one.
        name: Option<String>,
        /// The seed of the schedules.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How often a drill is repeated, with the next seed, before a bug counts as not found.
        #[arg(long, default_value_t = 3, value_name = "N")]
        tries: u64,
    },
    /// Make a page and a table of the reports in a directory.
    Report {
        /// The directory that `run --report` was given.
        directory: PathBuf,
    },
    /// Judge a history; exit 0 only if it is valid.
    Judge {
        /// The history (JSON lines, format 1), or `-` for standard input.
        file: PathBuf,
        /// What the run must contain at least, so that its verdict means something.
        #[arg(long, value_enum, default_value = "least")]
        demand: Demand,
    },
}

/// `drill run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The drill, as `list` names it; `short` and `nightly` are sets of them.
    name: String,
    /// The seed of the schedule; the same seed, the same schedule [default: from the clock].
    #[arg(long)]
    seed: Option<u64>,
    /// How often the fault is made [default: as the drill says].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    times: Option<u32>,
    /// Another build of this program, for `rolling-upgrade`: the nodes become this one from it, and it from this one.
    #[arg(long, value_name = "FILE")]
    older: Option<PathBuf>,
    /// By how much budgets of time are stretched, on a machine that has other work; promises are not.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    slack: f64,
    /// Requests a second of the steady load.
    #[arg(long, default_value_t = RATE)]
    rate: f64,
    /// Write the history here (JSON lines, format 1); a set writes one after another.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Write a report (HTML and JSON) into DIR/NAME-SEED.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Where the cluster lives while it runs [default: a new directory of the system's temporary ones]. It is removed
    /// after PASS and kept after FAIL.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// The least that a run must contain.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Demand {
    /// One acknowledged command.
    Least,
    /// What a drill with killed processes must show: unknown outcomes, retries, dedupe hits, a fault.
    Drill,
}

/// Runs a verb.
pub(crate) fn run(verb: Verb, output: Output, build: Build) -> Result<Exit, Failure> {
    match verb {
        Verb::List => list(output),
        Verb::Run(run) => run.run(output, build),
        Verb::Mutants { name, seed, tries } => hunt(name.as_deref(), seed, tries, output, build),
        Verb::Report { directory } => report(&directory, output),
        Verb::Judge { file, demand } => judge(&file, demand, output),
    }
}

fn list(output: Output) -> Result<Exit, Failure> {
    let is_short = |scenario: &Scenario| scenario.sets.contains(&Set::Short);
    let row = |scenario: &Scenario| {
        let set = if is_short(scenario) { "short, nightly" } else { "nightly" };
        [
            scenario.name.to_owned(),
            scenario.about.to_owned(),
            scenario.row.to_string(),
            set.to_owned(),
        ]
    };
    let document: Vec<serde_json::Value> = drill::scenarios()
        .iter()
        .map(|scenario| {
            serde_json::json!({
                "name": scenario.name,
                "about": scenario.about,
                "expected": scenario.expected,
                "budget": scenario.row.to_string(),
                "short": is_short(scenario),
                "times": scenario.times,
            })
        })
        .collect();
    let document = serde_json::json!({ "items": document });
    output.show(&document, |_| {
        let rows = drill::scenarios().iter().map(row).collect();
        output.table(["drill", "what breaks", "budget", "sets"], rows)
    })?;
    Ok(Exit::Ok)
}

impl Run {
    fn run(self, output: Output, build: Build) -> Result<Exit, Failure> {
        let scenarios: Vec<&'static Scenario> = match self.name.as_str() {
            "short" => of(Set::Short),
            "nightly" => of(Set::Nightly),
            name => vec![drill::find(name).ok_or_else(|| {
                Failure::usage(format!("there is no drill {name}"), "see `statehouse drill list`")
            })?],
        };
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return Err(Failure::usage("the rate must be a positive number", "leave --rate out"));
        }
        if !(self.slack >= 1.0 && self.slack.is_finite()) {
            return Err(Failure::usage("budgets are stretched, not cut", "give --slack 1 or more"));
        }
        let mut failed = Vec::new();
        for scenario in &scenarios {
            if !self.play(scenario, output, build)? {
                failed.push(scenario.name);
            }
        }
        if scenarios.len() > 1 {
            let passed = scenarios.len() - failed.len();
            let said = format!("{passed} of {} drills PASS", scenarios.len());
            let rest = if failed.is_empty() {
                String::new()
            } else {
                format!("; FAIL: {}", failed.join(", "))
            };
            output.line(&format!("{said}{rest}"))?;
        }
        Ok(if failed.is_empty() { Exit::Ok } else { Exit::Rejected })
    }

    fn play(
        &self,
        scenario: &'static Scenario,
        output: Output,
        build: Build,
    ) -> Result<bool, Failure> {
        let seed = self.seed.unwrap_or_else(seed_of_now);
        let (outcome, folder) = self.drill(scenario, seed, Vec::new(), build)?;
        let report = &outcome.report;
        let document = serde_json::to_value(report)
            .map_err(|error| Failure::broken(format!("cannot write the report: {error}")))?;
        output.show(&document, |_| drill::report::to_text(report).trim_end().to_owned())?;
        if let Some(directory) = &self.report {
            let directory = directory.join(format!("{}-{seed}", scenario.name));
            drill::report::save(report, &directory)
                .map_err(|error| Failure::file("write", &directory, &error))?;
            tell(&format!("the report: {}", directory.join("index.html").display()));
        }
        if report.pass && self.data.is_none() {
            std::fs::remove_dir_all(&folder)
                .map_err(|error| Failure::file("remove", &folder, &error))?;
        } else {
            tell(&format!("kept: {}", folder.display()));
        }
        Ok(report.pass)
    }

    /// Plays one drill; returns what came of it and where its cluster lived.
    fn drill(
        &self,
        scenario: &'static Scenario,
        seed: u64,
        variables: Vec<(String, String)>,
        build: Build,
    ) -> Result<(Outcome, PathBuf), Failure> {
        let binary = std::env::current_exe();
        let binary = binary
            .map_err(|error| Failure::broken(format!("cannot find this program: {error}")))?;
        let name = format!("statehouse-drill-{}-{seed}-{}", scenario.name, std::process::id());
        let folder = self.data.clone().unwrap_or_else(std::env::temp_dir).join(name);
        let (name, rate) = (scenario.name, self.rate);
        let mut repeat = format!("statehouse drill run {name} --seed {seed} --rate {rate}");
        if let Some(times) = self.times {
            repeat.push_str(&format!(" --times {times}"));
        }
        let options = DrillOptions {
            scenario,
            seed,
            binary,
            folder: folder.clone(),
            history: self.history.clone(),
            older: self.older.clone(),
            variables,
            times: self.times,
            rate,
            slack: self.slack,
            repeat,
            build: format!("{} (feature level {})", env!("CARGO_PKG_VERSION"), build.level),
            tell: &tell,
        };
        let outcome = drill::run(&options).map_err(|error| {
            let kept = folder.display();
            Failure::broken(format!("{}; what there is stands in {kept}", chain(&error)))
        })?;
        Ok((outcome, folder))
    }
}

/// Shows progress.
fn tell(line: &str) {
    // Nobody is there to be told that nobody is there.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Plays the drill of each bug until it is found.
fn hunt(
    name: Option<&str>,
    seed: u64,
    tries: u64,
    output: Output,
    build: Build,
) -> Result<Exit, Failure> {
    let hunts = mutants::hunts();
    let named = |hunt: &&Hunt| name.is_none_or(|name| hunt.mutant.name() == name);
    let chosen: Vec<&Hunt> = hunts.iter().filter(named).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = hunts.iter().map(|hunt| hunt.mutant.name()).collect();
        let why = format!("there is no mutant {}", name.unwrap_or_default());
        return Err(Failure::usage(why, format!("one of {}", names.join(", "))));
    }
    let mut missed = Vec::new();
    for hunt in &chosen {
        let mut found = None;
        for seed in seed..seed.saturating_add(tries) {
            found = stalk(hunt, seed, build)?;
            if found.is_some() {
                break;
            }
        }
        let (mutant, drill) = (hunt.mutant.name(), hunt.scenario.name);
        match found {
            Some(proof) => output.line(&format!("caught  {mutant}: {proof}"))?,
            None => {
                missed.push(mutant);
                output
                    .line(&format!("MISSED  {mutant}: {tries} times {drill} and no violation"))?;
            }
        }
    }
    output.line(&format!("{} of {} mutants caught", chosen.len() - missed.len(), chosen.len()))?;
    Ok(if missed.is_empty() { Exit::Ok } else { Exit::Rejected })
}

/// Plays a drill with a bug in its nodes; returns by which rules it was found, if it was.
fn stalk(hunt: &Hunt, seed: u64, build: Build) -> Result<Option<String>, Failure> {
    let run = Run {
        name: hunt.scenario.name.to_owned(),
        seed: Some(seed),
        times: Some(hunt.times),
        older: None,
        rate: RATE,
        slack: 1.0,
        history: None,
        report: None,
        data: None,
    };
    let variables = vec![(mutants::VARIABLE.to_owned(), hunt.mutant.name().to_owned())];
    let (outcome, folder) = run.drill(hunt.scenario, seed, variables, build)?;
    let _ = std::fs::remove_dir_all(&folder);
    let violations = outcome.report.verdict.violations();
    let mut rules: Vec<&str> = violations.iter().map(|violation| violation.rule.code()).collect();
    rules.sort_unstable();
    rules.dedup();
    let proof = format!("{} by {} (seed {seed})", rules.join(", "), hunt.scenario.name);
    Ok((!rules.is_empty()).then_some(proof))
}

fn of(set: Set) -> Vec<&'static Scenario> {
    drill::scenarios().iter().filter(|scenario| scenario.sets.contains(&set)).collect()
}

fn seed_of_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

fn report(directory: &Path, output: Output) -> Result<Exit, Failure> {
    let reports =
        drill::report::load(directory).map_err(|error| Failure::file("read", directory, &error))?;
    if reports.is_empty() {
        let why = format!("{} holds no reports", directory.display());
        return Err(Failure::usage(why, "run drills with --report, and give the same directory"));
    }
    let path = directory.join("index.html");
    std::fs::write(&path, drill::report::index_html(&reports))
        .map_err(|error| Failure::file("write", &path, &error))?;
    output.line(drill::report::index_markdown(&reports).trim_end())?;
    let is_passed = reports.iter().all(|report| report.pass);
    Ok(if is_passed { Exit::Ok } else { Exit::Rejected })
}

fn judge(file: &Path, demand: Demand, output: Output) -> Result<Exit, Failure> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut opened| opened.read_to_string(&mut text))
    };
    read.map_err(|error| Failure::file("read", file, &error))?;
    // A line that cannot be read is the judge's business: it makes the verdict undecided, and is named there.
    let history = History::parse(text);
    let demands = match demand {
        Demand::Least => Demands::LEAST,
        Demand::Drill => Demands::DRILL,
    };
    let verdict = statehouse_judge::judge(&history, &demands);
    let document = serde_json::to_value(&verdict)
        .map_err(|error| Failure::broken(format!("cannot write the verdict: {error}")))?;
    output.show(&document, |_| verdict.to_string().trim_end().to_owned())?;
    Ok(if verdict.is_valid() { Exit::Ok } else { Exit::Rejected })
}
