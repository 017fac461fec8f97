//! One drill from beginning to end: stage, load, play, healing, dumps, verdict, figures, report.
//!
//! A play that fails is no reason to stop: the load is ended, the nodes are asked what they hold, and the judge reads what
//! there is, because a cluster that cannot heal may also have lost something. Only a stage that could not be set up has no
//! report.
//!
//! Deliberately absent: printing. Progress goes to whoever asked for the drill, line by line.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use statehouse_contract::Timestamp;
use statehouse_judge::{Finding, History, Verdict, judge};
use statehouse_sdk::chain;

use super::{
    DrillError,
    dice::Dice,
    load::{Load, Loaded, Steady, Target},
    processes::Processes,
    report::{self, Check, DrillReport},
    scenario::{Row, Scenario},
    shim::{Setting, Shim},
    stage::Stage,
};
use crate::{dump::finish, history::Recorder};

/// How many requests of the steady load end, and how long it goes on, before the first fault.
const WARM_REQUESTS: u64 = 100;
const WARM_TIME: Duration = Duration::from_millis(1_500);
/// Timers may be as late as an outage is long, and as early as clocks of one machine differ.
const GRACE_MS: u64 = 30_000;
const SKEW_MS: u64 = 500;

/// What to drill, and how.
pub struct DrillOptions<'a> {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// The seed of the schedule.
    pub seed: u64,
    /// The program that the nodes run.
    pub binary: PathBuf,
    /// Where the cluster and the history live; it must not exist or be empty.
    pub folder: PathBuf,
    /// Where the history goes; left out: into the folder.
    pub history: Option<PathBuf>,
    /// Another build, for drills that change builds; left out: this one plays both.
    pub older: Option<PathBuf>,
    /// More variables in the environment of every node.
    pub variables: Vec<(String, String)>,
    /// How often the fault is made; left out: as the scenario says.
    pub times: Option<u32>,
    /// Requests a second of the steady load.
    pub rate: f64,
    /// By how much budgets of time are stretched, on a machine that has other work; 1 for none.
    pub slack: f64,
    /// The command that repeats it, for the report.
    pub repeat: String,
    /// The build, for the report.
    pub build: String,
    /// Progress, line by line.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

/// What came of a drill.
#[derive(Debug)]
pub struct Outcome {
    /// What was found.
    pub report: DrillReport,
    /// The history.
    pub history: PathBuf,
}

/// Plays a scenario and judges it; blocks until it is over.
///
/// # Errors
/// The stage could not be set up, or the history not be written or read. Everything else is a report that does not pass.
pub fn run(options: &DrillOptions<'_>) -> Result<Outcome, DrillError> {
    let scenario = options.scenario;
    let tell = options.tell;
    tell(&format!("{}: {} (seed {})", scenario.name, scenario.about, options.seed));
    let begun = SystemTime::now();
    let mut shims = BTreeMap::new();
    let mut cluster = Processes::open(
        &options.binary,
        &options.folder,
        scenario.arguments,
        &options.variables,
        |node, directory| {
            if !scenario.is_shimmed {
                return Ok(Vec::new());
            }
            let shim = Shim::build(&options.folder.join("shim"), node, directory)?;
            shim.set(Setting::Record, 1)?;
            let environment = shim.environment();
            shims.insert(node, shim);
            Ok(environment)
        },
    )?;
    let history = options.history.clone().unwrap_or_else(|| options.folder.join("history.jsonl"));
    let recorder =
        Recorder::create(&history).map_err(|source| DrillError::file(&history, source))?;
    let recorder = Arc::new(recorder);
    let target = Target { urls: cluster.urls(), token: cluster.token().to_owned() };
    let mut dice = Dice::new(options.seed);
    // More clients than requests that wait for one shard through the longest gap.
    let steady = Steady { rate: options.rate, clients: 512 };
    let load = Load::begin(&target, steady, &recorder, &mut dice)?;
    let mut stage = Stage {
        cluster: &mut cluster,
        target: target.clone(),
        recorder: Arc::clone(&recorder),
        dice,
        times: options.times.unwrap_or(scenario.times),
        shims,
        older: options.older.clone(),
        load: &load,
        windows: Vec::new(),
        checks: Vec::new(),
        notes: Vec::new(),
        tell,
    };
    // What a cold start costs is no fault's.
    let warm = stage.more(WARM_REQUESTS).map(|()| stage.run_on(WARM_TIME));
    let played = warm.and_then(|()| (scenario.play)(&mut stage));
    if let Err(error) = &played {
        stage.say(&format!("the scenario breaks off: {}", chain(error)));
        // The load has to come to its end, and the nodes have to tell what they hold.
        if let Err(error) = stage.cluster.revive() {
            stage.say(&format!("the cluster is not revived: {}", chain(&error)));
        }
    }
    let healed = Instant::now();
    let row = scenario.row.stretched(options.slack);
    let (windows, mut checks, notes) = (stage.windows, stage.checks, stage.notes);
    let whole = cluster.whole().map(|_| healed.elapsed());
    tell("the load ends; the nodes are asked what they hold");
    let loaded = load.end();
    checks.extend(played.err().map(|error| failed("the scenario is played", &chain(&error))));
    checks.extend(liveness(&mut cluster, &whole, &loaded, &row));
    let verdict = verdict(&target, &recorder, &history, scenario)?;
    let text = fs::read(&history).map_err(|source| DrillError::file(&history, source))?;
    let figures = report::figures(&text, &windows);
    checks.extend(budgets(&figures, &row));
    let report = DrillReport {
        format: report::FORMAT,
        scenario: scenario.name.to_owned(),
        about: format!("{}; {}", scenario.about, scenario.expected),
        seed: options.seed,
        target: "processes".to_owned(),
        begun: rfc3339(begun),
        build: options.build.clone(),
        machine: machine(),
        repeat: options.repeat.clone(),
        pass: verdict.is_valid() && checks.iter().all(|check| check.pass),
        checks,
        verdict,
        faults: windows,
        gaps: figures.gaps,
        series: figures.series,
        shards: figures.shards,
        notes,
    };
    Ok(Outcome { report, history })
}

/// What must hold at the end of every drill, besides the history.
fn liveness(
    cluster: &mut Processes,
    whole: &Result<Duration, DrillError>,
    loaded: &Result<Loaded, DrillError>,
    row: &Row,
) -> Vec<Check> {
    let mut checks = Vec::new();
    match whole {
        Ok(took) => {
            let budget = row.whole_ms;
            let ms = took.as_secs_f64() * 1e3;
            checks.push(Check {
                name: "every node ready, agreed and caught up after the last fault".to_owned(),
                budget: budget.map(|ms| format!("{ms} ms")),
                measured: format!("{ms:.0} ms"),
                pass: budget.is_none_or(|budget| ms <= budget),
            });
        }
        Err(error) => checks.push(failed("the cluster is whole again", &chain(error))),
    }
    let died = cluster.died();
    if !died.is_empty() {
        checks.push(failed("no node ends by itself", &format!("nodes {died:?} did")));
    }
    match loaded {
        Ok(loaded) => {
            let ends: Vec<String> =
                loaded.report.classes.iter().map(|(class, n)| format!("{class} {n}")).collect();
            checks.push(Check {
                name: "requests of the steady load that ended, each followed to its end".to_owned(),
                budget: Some("ok alone".to_owned()),
                measured: ends.join(", "),
                pass: loaded.report.classes.keys().all(|class| class == "ok"),
            });
            let longest = loaded.again.iter().max().map(|time| time.as_secs_f64() * 1e3);
            if let (Some(longest), Some(budget)) = (longest, row.again_ms) {
                checks.push(Check {
                    name: "from a lease that was let fall until the next one, longest".to_owned(),
                    budget: Some(format!("{budget} ms")),
                    measured: format!("{longest:.0} ms of {} tasks", loaded.again.len()),
                    pass: longest <= budget,
                });
            }
        }
        Err(error) => checks.push(failed("the load runs to its end", &chain(error))),
    }
    checks
}

/// Holds what was measured against the row of the fault matrix.
fn budgets(figures: &report::Figures, row: &Row) -> Vec<Check> {
    let of = |is_hit: bool| {
        let mut gaps: Vec<f64> =
            figures.gaps.iter().filter(|gap| gap.hit == is_hit).map(|gap| gap.ms).collect();
        gaps.sort_by(f64::total_cmp);
        gaps
    };
    let (hit, others) = (of(true), of(false));
    let lines = [
        ("shards that were hit, no acknowledged command: median", &hit, 0.5, row.median_ms),
        ("shards that were hit, no acknowledged command: p99", &hit, 0.99, row.p99_ms),
        ("other shards, no acknowledged command: longest", &others, 1.0, row.others_ms),
    ];
    let check = |(name, gaps, share, budget): (&str, &Vec<f64>, f64, Option<f64>)| {
        let budget = budget?;
        let measured = report::quantile(gaps, share)?;
        Some(Check {
            name: format!("{name} ({} gaps)", gaps.len()),
            budget: Some(format!("{budget} ms")),
            measured: format!("{measured:.0} ms"),
            pass: measured <= budget,
        })
    };
    lines.into_iter().filter_map(check).collect()
}

/// Takes the dumps and lets the judge read the history.
fn verdict(
    target: &Target,
    recorder: &Recorder,
    history: &Path,
    scenario: &Scenario,
) -> Result<Verdict, DrillError> {
    recorder.anchor("local");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| DrillError::file(history, source))?;
    let dumped = runtime.block_on(finish(recorder, &target.nodes()?, GRACE_MS, SKEW_MS));
    recorder.flush().map_err(|source| DrillError::file(history, source))?;
    let text = fs::read_to_string(history).map_err(|source| DrillError::file(history, source))?;
    let mut verdict = judge(&History::parse(text), &scenario.demands);
    let missing = match dumped {
        Ok(dumped) if dumped.absent.is_empty() && dumped.uneven.is_empty() => None,
        Ok(dumped) => Some(format!("the dumps are not whole: {dumped:?}")),
        Err(error) => Some(format!("the nodes could not be dumped: {}", chain(&error))),
    };
    // Doubt is never validity: what only an absent node holds is not in the history.
    if let (Some(missing), Finding::Valid) = (missing, &verdict.finding) {
        verdict.finding = Finding::Undecided { why: vec![missing] };
    }
    Ok(verdict)
}

fn failed(name: &str, why: &str) -> Check {
    Check { name: name.to_owned(), budget: None, measured: why.to_owned(), pass: false }
}

/// What the figures were measured on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let system = Command::new("uname").arg("-sr").output().ok();
    let system = system.map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned());
    format!("{cores} cores, {model}, {}", system.unwrap_or_default())
}

/// UTC in RFC 3339.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(0)).to_rfc3339()
}
