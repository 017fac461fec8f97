//! One client of a load run: takes a slot, sends one request, follows it to its end.
//!
//! A request ends with a definite answer, or when its attempts are used up; every attempt carries the same key, so a
//! request that was cut off is asked for again and counts once. The latency of a request is from its slot to its end,
//! all attempts and waits included: that is what a caller of the API would have waited.
//!
//! With several servers each instance remembers the one that leads it. A server that takes no connection was not asked:
//! the next one is, at once, until each was tried; that counts as one attempt and is written down as what it was.
//!
//! Deliberately absent: any wish that a request succeeds. A refused command ends its journey; a new one begins.
//!
//! Invariant: once an attempt of a request may have taken effect, the request does not end as failed.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    answer::{Answer, Asking, Details, Out},
    bench::Progress,
    compose::Target,
    gaps::Gaps,
    history::{Asked, Recorder, Told},
    links::{Homes, Links, Places},
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
    pub(crate) servers: Places,
    pub(crate) token: Option<String>,
    pub(crate) tenant: String,
    pub(crate) workload: Workload,
    /// The deployed definition.
    pub(crate) definition: (String, u64),
    pub(crate) mode: Mode,
    pub(crate) deadline: Duration,
    pub(crate) attempts_max: u32,
    /// Time for all attempts of one request.
    pub(crate) patience: Duration,
    /// Distinguishes this run's ids and keys from every other run's.
    pub(crate) run: String,
    pub(crate) recorder: Option<Arc<Recorder>>,
    pub(crate) progress: Option<Arc<Progress>>,
    /// The next journey, or the next instance to read.
    pub(crate) journeys: AtomicU64,
    /// How many shards the cluster has, if it told.
    pub(crate) shards: Option<u32>,
    /// Where the instances are led that are read in turn; empty in a run of commands.
    pub(crate) homes: Homes,
}

/// When a run measures and ends.
#[derive(Debug)]
pub(crate) struct Clockwork {
    pub(crate) slots: Slots,
    pub(crate) measured_from: Instant,
    pub(crate) ends: Option<Instant>,
    /// Requests still to be measured, where the run ends by their number.
    pub(crate) left: Option<AtomicU64>,
    /// When each shard answered. The clients share a thread, so nobody waits for this lock.
    pub(crate) gaps: Option<Mutex<Gaps>>,
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

    /// Notes that a command is sent to a shard.
    fn asks(&self, shard: Option<u32>) {
        if let (Some(shard), Some(gaps)) = (shard, &self.gaps) {
            gaps.lock().unwrap_or_else(PoisonError::into_inner).asked(shard);
        }
    }

    /// Notes that a command of a shard was acknowledged now.
    fn acknowledges(&self, shard: Option<u32>) {
        if let (Some(shard), Some(gaps)) = (shard, &self.gaps)
            && let Some(at) = Instant::now().checked_duration_since(self.measured_from)
        {
            gaps.lock().unwrap_or_else(PoisonError::into_inner).acknowledged(shard, at);
        }
    }
}

/// One client.
pub(crate) struct Driver {
    plan: Arc<Plan>,
    number: u64,
    links: Links,
    tally: Tally,
    request: Vec<u8>,
    body: String,
}

impl Driver {
    pub(crate) fn new(plan: Arc<Plan>, number: u64) -> Self {
        let steps = match plan.mode {
            Mode::Commands => plan.workload.requests(),
            Mode::Reads { .. } => 1,
        };
        let links = Links::new(&plan.servers, number);
        Self {
            plan,
            number,
            links,
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
            if self.plan.progress.as_ref().is_some_and(|progress| progress.is_enough()) {
                return self.tally;
            }
            let Some(is_measured) = clockwork.admits(slot) else { return self.tally };
            let mut target = match (self.plan.mode, journey.take()) {
                (Mode::Reads { instances, .. }, _) => {
                    self.plan.read(self.next_number() % u64::from(instances.max(1)))
                }
                (Mode::Commands, Some(target)) => target,
                (Mode::Commands, None) => self.plan.journey(self.next_number()),
            };
            clockwork.asks(target.shard);
            let out = self.follow(&mut target, slot, is_measured).await.out;
            let is_acknowledged = matches!(out, Out::Ok | Out::Postponed);
            if is_acknowledged {
                clockwork.acknowledges(target.shard);
            }
            if matches!(self.plan.mode, Mode::Reads { .. }) {
                self.plan.homes.set(target.number, target.server);
            } else if is_acknowledged && target.step + 1 < self.plan.workload.requests() {
                target.step += 1;
                target.key = format!("{}-{}-{}", self.plan.run, target.number, target.step);
                journey = Some(target);
            }
        }
    }

    /// Starts the instances that a run of reads will read.
    pub(crate) async fn prepare(mut self, from: u64, upto: u64) -> Result<(), String> {
        for number in from..upto {
            let mut target = self.plan.journey(number);
            let answer = self.follow(&mut target, Instant::now(), false).await;
            if answer.out != Out::Ok {
                return Err(format!("start {} to be read: {}", target.instance, answer.code));
            }
            self.plan.homes.set(number, target.server);
        }
        Ok(())
    }

    fn next_number(&self) -> u64 {
        // Relaxed: the numbers only have to differ; any order of reading will do.
        self.plan.journeys.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request until its end.
    async fn follow(&mut self, target: &mut Target, slot: Instant, is_measured: bool) -> Answer {
        let plan = Arc::clone(&self.plan);
        let mut server = target.server.unwrap_or_else(|| self.links.home());
        let (mut attempt, mut unreached) = (1, 0);
        let mut pause = PAUSE_FIRST;
        let mut in_doubt = false;
        let end = Instant::now() + plan.patience;
        self.write(target, server);
        loop {
            let mut answer = self.attempt(target, server, end).await;
            if is_measured {
                self.tally.answered(&answer);
            }
            let next =
                if plan.servers.count() > 1 { self.learn(target, server, &answer) } else { server };
            if answer.is_unreached() {
                unreached += 1;
                if unreached < plan.servers.count() {
                    server = next;
                    self.write(target, server);
                    continue;
                }
            }
            unreached = 0;
            in_doubt |= answer.out == Out::Unknown;
            let wait = answer.retry_after.unwrap_or(pause);
            let is_over = attempt >= plan.attempts_max || Instant::now() + wait >= end;
            if !answer.may_repeat() || is_over {
                if in_doubt && answer.out == Out::Fail && !target.key.is_empty() {
                    answer.out = Out::Unknown;
                }
                if is_measured {
                    self.tally.ended(target.step, answer.out, attempt, slot.elapsed());
                }
                if let Some(progress) = &plan.progress {
                    progress.add();
                }
                return answer;
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
            attempt += 1;
            if next != server {
                server = next;
                self.write(target, server);
            }
        }
    }

    /// Learns from an answer where the instance is led; returns the server for the next attempt.
    fn learn(&mut self, target: &mut Target, server: usize, answer: &Answer) -> usize {
        let plan = &self.plan;
        if let Some(leader) = self.links.hint(&plan.servers, server) {
            target.server = Some(leader);
            return leader;
        }
        match answer.out {
            Out::Ok | Out::Rejected | Out::Postponed => {
                target.server = Some(server);
                server
            }
            // No room: it may be the right one all the same.
            Out::Fail if answer.is_throttled() => server,
            Out::Fail | Out::Unknown => {
                target.server = None;
                if answer.is_unreached() || answer.out == Out::Unknown {
                    self.links.leave(&plan.servers, server);
                }
                plan.servers.after(server)
            }
        }
    }

    fn write(&mut self, target: &Target, server: usize) {
        let plan = &self.plan;
        let host = plan.servers.host(server);
        match plan.mode {
            Mode::Reads { consistency, .. } if target.key.is_empty() => {
                plan.write_read(target, consistency, host, &mut self.request);
            }
            Mode::Reads { .. } | Mode::Commands => {
                plan.write_command(target, host, &mut self.body, &mut self.request);
            }
        }
    }

    async fn attempt(&mut self, target: &Target, server: usize, end: Instant) -> Answer {
        let asking = if target.key.is_empty() { Asking::Read } else { Asking::Command };
        let plan = &self.plan;
        let attempt = plan.recorder.as_ref().map(|recorder| recorder.asked(&self.asked(target)));
        let limit = plan.deadline.min(end.saturating_duration_since(Instant::now())) + ANSWER_GRACE;
        let answer = match self.links.exchange(&plan.servers, server, &self.request, limit).await {
            Ok(status) => self
                .links
                .last(server)
                .map_or_else(Answer::late, |connection| Answer::read(connection, status, asking)),
            Err(Some(broken)) => Answer::broken(&broken),
            Err(None) => Answer::late(),
        };
        if let (Some(recorder), Some(attempt)) = (&plan.recorder, attempt) {
            let details = self.links.last(server).map(Details::read).unwrap_or_default();
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
}
