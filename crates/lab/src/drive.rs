//! One client of a load run: takes a slot, sends one request, follows it to its end.
//!
//! A request ends with a definite answer, or when its attempts are used up; every attempt carries the same key, so a
//! request that was cut off is asked for again and counts once. The latency of a request is from its slot to its end,
//! all attempts and waits included: that is what a caller of the API would have waited.
//!
//! Deliberately absent: any wish that a request succeeds. A refused command ends its journey; a new one begins.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::{
    answer::{Answer, Asking, Details, Out},
    bench::Progress,
    history::{Asked, Recorder, Told},
    http::{Broken, Connection},
    pace::Slots,
    tally::Tally,
    workload::{Mode, Workload},
};

const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `host:port` of each server.
    pub(crate) servers: Vec<String>,
    pub(crate) token: Option<String>,
    pub(crate) tenant: String,
    pub(crate) workload: Workload,
    /// The deployed definition.
    pub(crate) definition: (String, u64),
    pub(crate) mode: Mode,
    pub(crate) deadline: Duration,
    pub(crate) attempts_max: u32,
    /// Distinguishes this run's ids and keys from every other run's.
    pub(crate) run: String,
    pub(crate) recorder: Option<Arc<Recorder>>,
    pub(crate) progress: Option<Arc<Progress>>,
    /// The next journey, or the next instance to read.
    pub(crate) journeys: AtomicU64,
}

/// When a run measures and ends.
#[derive(Debug)]
pub(crate) struct Clockwork {
    pub(crate) slots: Slots,
    pub(crate) measured_from: Instant,
    pub(crate) ends: Option<Instant>,
    /// Requests still to be measured, where the run ends by their number.
    pub(crate) left: Option<AtomicU64>,
}

impl Clockwork {
    /// Decides about a request of this slot: not at all, unmeasured, or measured.
    fn admits(&self, slot: Instant) -> Option<bool> {
        if self.ends.is_some_and(|ends| slot >= ends) {
            return None;
        }
        if slot < self.measured_from {
            return Some(false);
        }
        let Some(left) = &self.left else { return Some(true) };
        // Relaxed: the count guards nothing but itself.
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .ok()
            .map(|_| true)
    }
}

/// One client.
pub(crate) struct Driver {
    plan: Arc<Plan>,
    number: u64,
    server: usize,
    connection: Option<Connection>,
    tally: Tally,
    request: Vec<u8>,
    body: String,
}

/// One request: the `step`-th of journey `journey`, or a read.
struct Target {
    instance: String,
    step: usize,
    key: String,
}

impl Driver {
    pub(crate) fn new(plan: Arc<Plan>, number: u64) -> Self {
        let steps = match plan.mode {
            Mode::Commands => plan.workload.requests(),
            Mode::Reads { .. } => 1,
        };
        let server = usize::try_from(number).unwrap_or(0) % plan.servers.len().max(1);
        Self {
            plan,
            number,
            server,
            connection: None,
            tally: Tally::new(steps),
            request: Vec::new(),
            body: String::new(),
        }
    }

    /// Sends requests until the run ends; returns what was counted.
    pub(crate) async fn run(mut self, clockwork: Arc<Clockwork>) -> Tally {
        let mut journey: Option<Target> = None;
        loop {
            let slot = clockwork.slots.take().await;
            let Some(is_measured) = clockwork.admits(slot) else { return self.tally };
            let target = match (self.plan.mode, journey.take()) {
                (Mode::Reads { instances, .. }, _) => self.next_read(instances),
                (Mode::Commands, Some(target)) => target,
                (Mode::Commands, None) => self.next_journey(),
            };
            let out = self.follow(&target, slot, is_measured).await.out;
            let has_more = matches!(self.plan.mode, Mode::Commands)
                && target.step + 1 < self.plan.workload.requests();
            if has_more && matches!(out, Out::Ok | Out::Postponed) {
                journey = Some(self.next_step(target));
            }
        }
    }

    /// Starts the instances that a run of reads will read.
    pub(crate) async fn prepare(mut self, from: u64, upto: u64) -> Result<(), String> {
        for number in from..upto {
            let target = self.journey(number);
            self.build_command(&target);
            let answer = self.follow_built(&target, Instant::now(), false).await;
            if answer.out != Out::Ok {
                return Err(format!("start {} to be read: {}", target.instance, answer.code));
            }
        }
        Ok(())
    }

    fn next_journey(&self) -> Target {
        // Relaxed: the numbers only have to differ.
        self.journey(self.plan.journeys.fetch_add(1, Ordering::Relaxed))
    }

    fn journey(&self, number: u64) -> Target {
        let run = &self.plan.run;
        Target { instance: format!("b-{run}-{number}"), step: 0, key: format!("{run}-{number}-0") }
    }

    fn next_step(&self, target: Target) -> Target {
        let step = target.step + 1;
        let stem = target.key.rsplit_once('-').map_or(target.key.as_str(), |(stem, _)| stem);
        Target { key: format!("{stem}-{step}"), step, instance: target.instance }
    }

    fn next_read(&self, instances: u32) -> Target {
        // Relaxed: any order of reading will do.
        let number =
            self.plan.journeys.fetch_add(1, Ordering::Relaxed) % u64::from(instances.max(1));
        Target { key: String::new(), ..self.journey(number) }
    }

    async fn follow(&mut self, target: &Target, slot: Instant, is_measured: bool) -> Answer {
        match self.plan.mode {
            Mode::Commands => self.build_command(target),
            Mode::Reads { consistency, .. } => self.build_read(target, consistency),
        }
        self.follow_built(target, slot, is_measured).await
    }

    /// Sends the request that stands in the buffer until its end.
    async fn follow_built(&mut self, target: &Target, slot: Instant, is_measured: bool) -> Answer {
        let mut attempt = 1;
        let mut pause = PAUSE_FIRST;
        loop {
            let answer = self.attempt(target).await;
            if is_measured {
                self.tally.answered(&answer);
            }
            if !answer.may_repeat() || attempt >= self.plan.attempts_max {
                if is_measured {
                    self.tally.ended(target.step, answer.out, attempt, slot.elapsed());
                }
                if let Some(progress) = &self.plan.progress {
                    progress.add();
                }
                return answer;
            }
            tokio::time::sleep(answer.retry_after.unwrap_or(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
            attempt += 1;
        }
    }

    async fn attempt(&mut self, target: &Target) -> Answer {
        let asking = if target.key.is_empty() { Asking::Read } else { Asking::Command };
        let attempt =
            self.plan.recorder.as_ref().map(|recorder| recorder.asked(&self.asked(target)));
        let answer = match self.exchange().await {
            Ok(status) => self
                .connection
                .as_ref()
                .map_or_else(Answer::late, |connection| Answer::read(connection, status, asking)),
            Err(Some(broken)) => Answer::broken(&broken),
            Err(None) => Answer::late(),
        };
        if let (Some(recorder), Some(attempt)) = (&self.plan.recorder, attempt) {
            let details = self.connection.as_ref().map(Details::read).unwrap_or_default();
            let reason = matches!(answer.out, Out::Rejected | Out::Fail).then_some(&*answer.code);
            let is_read = asking == Asking::Read;
            let told = Told {
                ver: details.ver,
                born: details.born,
                reply: details.reply.as_deref().filter(|_| !is_read && answer.out == Out::Ok),
                reason,
                node: details.node.as_deref(),
                age_ms: details.age_ms.filter(|_| is_read),
                replayed: details.replayed,
                ..Told::only(answer.out)
            };
            recorder.told(attempt, &told);
        }
        if self.connection.as_ref().is_some_and(Connection::is_last) {
            self.connection = None;
        }
        answer
    }

    fn asked<'a>(&'a self, target: &'a Target) -> Asked<'a> {
        let common = Asked {
            c: self.number,
            tenant: &self.plan.tenant,
            wf: Some(&target.instance),
            ..Asked::default()
        };
        match self.plan.mode {
            Mode::Reads { consistency, .. } if target.key.is_empty() => {
                let lvl = if consistency == "linearizable" { "lin" } else { consistency };
                Asked { op: "read", lvl: Some(lvl), ..common }
            }
            Mode::Reads { .. } | Mode::Commands => Asked {
                op: "cmd",
                key: Some(&target.key),
                cmd: Some(self.plan.workload.name(target.step)),
                ..common
            },
        }
    }

    /// Sends the request in the buffer; the answer stays in the connection. No error means that it came too late.
    async fn exchange(&mut self) -> Result<u16, Option<Broken>> {
        let limit = self.plan.deadline + ANSWER_GRACE;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let address = &self.plan.servers[self.server];
                let opened = timeout(limit, Connection::open(address)).await.unwrap_or_else(|_| {
                    let source = std::io::ErrorKind::TimedOut.into();
                    Err(Broken::Connect { address: address.clone(), source })
                });
                opened
                    .inspect_err(|_| self.server = (self.server + 1) % self.plan.servers.len())
                    .map_err(Some)?
            }
        };
        match timeout(limit, connection.exchange(&self.request)).await {
            Ok(Ok(status)) => {
                self.connection = Some(connection);
                Ok(status)
            }
            Ok(Err(broken)) => {
                self.server = (self.server + 1) % self.plan.servers.len();
                Err(Some(broken))
            }
            Err(_) => Err(None),
        }
    }

    fn build_command(&mut self, target: &Target) {
        let plan = Arc::clone(&self.plan);
        self.body.clear();
        let path = match target.step.checked_sub(1).and_then(|at| plan.workload.steps.get(at)) {
            None => {
                let input = plan.workload.input.to_string().replace("$id", &target.instance);
                let (name, version) = &plan.definition;
                let id = &target.instance;
                write!(
                    self.body,
                    r#"{{"definition":"{name}","version":{version},"id":"{id}","input":{input}}}"#
                )
                .expect("writing to a string cannot fail");
                format!("/v1/tenants/{}/instances", plan.tenant)
            }
            Some(step) => {
                write!(self.body, "{}", step.data).expect("writing to a string cannot fail");
                format!(
                    "/v1/tenants/{}/instances/{}/events/{}",
                    plan.tenant, target.instance, step.event
                )
            }
        };
        let (length, key, ms) = (self.body.len(), &target.key, plan.deadline.as_millis());
        self.head("POST", &path);
        let more = format!(
            "content-type: application/json\r\nidempotency-key: {key}\r\nx-statehouse-deadline-ms: {ms}\r\ncontent-length: {length}\r\n\r\n"
        );
        self.request.extend_from_slice(more.as_bytes());
        self.request.extend_from_slice(self.body.as_bytes());
    }

    fn build_read(&mut self, target: &Target, consistency: &str) {
        let path = format!(
            "/v1/tenants/{}/instances/{}?consistency={consistency}",
            self.plan.tenant, target.instance
        );
        self.head("GET", &path);
        self.request.extend_from_slice(b"\r\n");
    }

    fn head(&mut self, verb: &str, path: &str) {
        let plan = &self.plan;
        self.request.clear();
        let host = &plan.servers[self.server];
        self.request
            .extend_from_slice(format!("{verb} {path} HTTP/1.1\r\nhost: {host}\r\n").as_bytes());
        if let Some(token) = &plan.token {
            self.request.extend_from_slice(format!("authorization: Bearer {token}\r\n").as_bytes());
        }
    }
}
