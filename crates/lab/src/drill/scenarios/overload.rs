//! Loads that nobody asked for: bursts, ramps, a key that all want, a noisy tenant, slow clients, storms of retries.
//!
//! First the peak of this machine is measured in a closed loop, beside the steady load; then more is offered in an open loop
//! (no coordinated omission). What is demanded is a share of that peak, so the same drill means the same on any machine. Load
//! and nodes share the cores: at ten times the peak the load itself takes much of what it measures, and that is part of the
//! figure.
//!
//! Deliberately absent: faults. A leader that changes under load alone is a finding, and told as one.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use statehouse_judge::Demands;
use statehouse_sdk::chain;

use crate::{
    BenchOptions, Length, Mode, Pace, Report, Workload, bench,
    drill::{
        DrillError,
        load::Target,
        scenario::{MILD, NO_BUDGET, Row, Scenario, Set},
        stage::Stage,
    },
};

const NIGHTLY: &[Set] = &[Set::Nightly];
const ROW: Row = Row { whole_ms: Some(30_000.0), ..NO_BUDGET };
/// A load alone makes no unknown outcomes of its own.
const CALM: Demands = Demands { unknown: 1, ..MILD };
/// How long the peak is measured, and how long each load lasts.
const PEAK_TIME: Duration = Duration::from_secs(6);
const LOAD_TIME: Duration = Duration::from_secs(12);
const PEAK_CLIENTS: u32 = 64;
/// What an accepted command may take under overload: twice the objective of 100 ms.
const ACCEPTED_MS: f64 = 200.0;
/// What a refusal may take.
const REFUSED_MS: f64 = 50.0;
/// Connections of clients that never finish what they say.
const SLOW_CLIENTS: usize = 400;

const fn scenario(
    name: &'static str,
    about: &'static str,
    expected: &'static str,
    play: fn(&mut Stage<'_>) -> Result<(), DrillError>,
) -> Scenario {
    Scenario {
        name,
        about,
        expected,
        row: ROW,
        sets: NIGHTLY,
        times: 1,
        arguments: &[],
        demands: CALM,
        is_shimmed: false,
        play,
    }
}

pub(crate) const BURST: Scenario = scenario(
    "burst",
    "twice, then ten times the peak is offered in an open loop",
    "what is too much is refused early; what is accepted is served as quickly as before",
    |stage| {
        let peak = peak(stage)?;
        for (times, share) in [(2.0, 0.9), (10.0, 0.8)] {
            let begun = stage.begins(&format!("{times} times the peak is offered"), &[], &[]);
            let report = offered(stage, peak * times, 1)?;
            stage.ends(begun);
            goodput(stage, &format!("goodput at {times}x"), &report, peak, share);
            let accepted = report.latency_ms.p99;
            let is_quick = accepted <= ACCEPTED_MS;
            let name = format!("p99 of what was accepted at {times}x");
            stage.check(&name, "200 ms", format!("{accepted:.0} ms"), is_quick);
            if report.others_ms.count > 0 {
                let refused = report.others_ms.p99;
                let name = format!("p99 of refusals at {times}x");
                stage.check(&name, "50 ms", format!("{refused:.0} ms"), refused <= REFUSED_MS);
            }
            stage.notes.push(format!("{times}x: {:?}", report.codes));
            after(stage, peak)?;
        }
        Ok(())
    },
);

pub(crate) const RAMP: Scenario = scenario(
    "ramp",
    "the load rises from half of the peak to twice the peak, step by step",
    "goodput follows the offer up to the peak and stays there",
    |stage| {
        let peak = peak(stage)?;
        let mut best: f64 = 0.0;
        for share in [0.25, 0.5, 0.75, 1.0, 1.5, 2.0] {
            let begun = stage.begins(&format!("{share} times the peak is offered"), &[], &[]);
            let report = offered(stage, peak * share, 1)?;
            stage.ends(begun);
            best = best.max(report.throughput);
            let (rate, p99) = (report.throughput, report.latency_ms.p99);
            stage.notes.push(format!("{share}x: {rate:.0}/s, p99 {p99:.0} ms"));
            if share >= 1.5 {
                goodput(stage, &format!("goodput at {share}x"), &report, best, 0.85);
            }
        }
        Ok(())
    },
);

pub(crate) const RETRY_STORM: Scenario = scenario(
    "retry-storm",
    "clients with a deadline far too short repeat at once, twenty times each",
    "receipts and refusals keep the storm from doing work twice; the rest goes on",
    |stage| {
        let peak = peak(stage)?;
        let begun = stage.begins("a storm of retries", &[], &[]);
        let mut options =
            options(&stage.target, "default", Pace::Open { rate: peak * 2.0 }, LOAD_TIME);
        (options.deadline, options.attempts_max) = (Duration::from_millis(5), 20);
        let report = run(options)?;
        stage.ends(begun);
        stage.notes.push(format!("storm: {} repeated, {:?}", report.repeated, report.codes));
        after(stage, peak)
    },
);

pub(crate) const NOISY_TENANT: Scenario = scenario(
    "noisy-tenant",
    "one tenant offers ten times its share while another goes on as before",
    "the other tenant's steady load loses at most a twentieth",
    |stage| {
        let peak = peak(stage)?;
        let before = steady(stage, LOAD_TIME);
        let begun = stage.begins("the twin makes noise", &[], &[]);
        let twin = stage.load.twin();
        let mut noise = options(&stage.target, &twin.tenant, Pace::Open { rate: peak }, LOAD_TIME);
        noise.token = Some(twin.token.clone());
        let noise = std::thread::spawn(move || run(noise));
        let during = steady(stage, LOAD_TIME);
        let noise =
            noise.join().map_err(|_| DrillError::Load("the noise panicked".to_owned()))??;
        stage.ends(begun);
        let told = format!(
            "{during:.0}/s of {before:.0}/s before; the twin got {:.0}/s",
            noise.throughput
        );
        stage.check(
            "steady load beside a noisy tenant",
            "at least 95 %",
            told,
            during >= 0.95 * before,
        );
        Ok(())
    },
);

pub(crate) const HOT_KEY: Scenario = scenario(
    "hot-key",
    "one instance is asked for by sixty-four clients at once, as often as it answers",
    "it is served in order, at its own pace; the others lose little",
    |stage| {
        let before = steady(stage, LOAD_TIME);
        let start = r#"{"definition":"drill-probe","id":"hot"}"#;
        let told = stage.cluster.node(1)?.ask("POST /v1/tenants/default/instances", start);
        let told = told.map_err(DrillError::Node)?;
        if told.0 != 201 {
            return Err(DrillError::Node(format!("the hot instance does not start: {told:?}")));
        }
        let begun = stage.begins("one instance is hot", &[], &[]);
        let (hosts, token) = (stage.target.urls.clone(), stage.target.token.clone());
        let hot =
            std::thread::spawn(move || super::hot::ask(&hosts, &token, PEAK_CLIENTS, LOAD_TIME));
        let during = steady(stage, LOAD_TIME);
        let hot =
            hot.join().map_err(|_| DrillError::Load("a hot client panicked".to_owned()))??;
        stage.ends(begun);
        stage.notes.push(format!("the hot instance: {hot:?}"));
        let told = format!("{during:.0}/s of {before:.0}/s before");
        stage.check("steady load beside a hot key", "at least 90 %", told, during >= 0.9 * before);
        stage.check(
            "the hot instance is served",
            "more than 0/s",
            format!("{} ok", hot.ok),
            hot.ok > 0,
        );
        Ok(())
    },
);

pub(crate) const SLOW_CLIENTS_DRILL: Scenario = scenario(
    "slow-clients",
    "four hundred clients begin a request and never end it",
    "they are cut off; nobody else waits for them",
    |stage| {
        let before = steady(stage, LOAD_TIME);
        let begun = stage.begins("four hundred requests do not end", &[], &[]);
        let mut held = Vec::new();
        let hosts: Vec<String> = stage
            .target
            .urls
            .iter()
            .map(|url| url.trim_start_matches("http://").to_owned())
            .collect();
        for (_, host) in (0..SLOW_CLIENTS).zip(hosts.iter().cycle()) {
            let Ok(mut stream) = TcpStream::connect(host) else { continue };
            let _ = stream.write_all(b"POST /v1/tenants/default/instances HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n");
            held.push(stream);
        }
        let during = steady(stage, LOAD_TIME);
        let taken = held.len();
        drop(held);
        stage.ends(begun);
        let told = format!("{during:.0}/s of {before:.0}/s before; {taken} connections were taken");
        stage.check(
            "steady load beside slow clients",
            "at least 90 %",
            told,
            during >= 0.9 * before,
        );
        Ok(())
    },
);

/// Measures the peak: what a closed loop gets beside the steady load.
fn peak(stage: &mut Stage<'_>) -> Result<f64, DrillError> {
    let mut options = options(&stage.target, "default", Pace::Closed, PEAK_TIME);
    options.clients = PEAK_CLIENTS;
    let report = run(options)?;
    stage.say(&format!("the peak: {:.0}/s beside the steady load", report.throughput));
    stage
        .notes
        .push(format!("peak {:.0}/s, p99 {:.0} ms", report.throughput, report.latency_ms.p99));
    Ok(report.throughput)
}

/// Offers a load in an open loop for a while.
fn offered(stage: &Stage<'_>, rate: f64, attempts: u32) -> Result<Report, DrillError> {
    let mut options = options(&stage.target, "default", Pace::Open { rate }, LOAD_TIME);
    options.attempts_max = attempts;
    run(options)
}

fn options(target: &Target, tenant: &str, pace: Pace, time: Duration) -> BenchOptions {
    BenchOptions {
        servers: target.urls.clone(),
        token: Some(target.token.clone()),
        authority_pem: None,
        tenant: tenant.to_owned(),
        workload: Workload::order(),
        mode: Mode::Commands,
        pace,
        clients: 1_024,
        warm_up: Duration::ZERO,
        length: Length::For(time),
        deadline: Duration::from_secs(2),
        attempts_max: 1,
        patience: Duration::from_secs(10),
        history: None,
        progress: None,
    }
}

fn run(options: BenchOptions) -> Result<Report, DrillError> {
    bench(options).map_err(|error| DrillError::Load(chain(&error)))
}

fn goodput(stage: &mut Stage<'_>, name: &str, report: &Report, peak: f64, share: f64) {
    let got = report.throughput / peak.max(1.0);
    let told = format!("{:.0}/s, {:.0} % of the peak", report.throughput, got * 100.0);
    stage.check(name, &format!("{:.0} % of the peak", share * 100.0), told, got >= share);
}

/// Whether the peak is back within five seconds.
fn after(stage: &mut Stage<'_>, peak: f64) -> Result<(), DrillError> {
    stage.run_on(Duration::from_secs(5));
    let mut options = options(&stage.target, "default", Pace::Closed, PEAK_TIME);
    options.clients = PEAK_CLIENTS;
    let report = run(options)?;
    goodput(stage, "goodput five seconds later", &report, peak, 0.95);
    Ok(())
}

/// The rate at which the steady load ends, over a while.
fn steady(stage: &Stage<'_>, time: Duration) -> f64 {
    let (begun, ended) = (Instant::now(), stage.load.ended());
    stage.run_on(time);
    (stage.load.ended() - ended) as f64 / begun.elapsed().as_secs_f64()
}
