//! Clients that do what is awkward: ask twice, ask elsewhere, lose answers, expect old versions, read at the wrong node.
//!
//! The steady load shows how long service was gone; the probes show whether what was promised holds. Each owns one
//! instance at a time, in one of two tenants whose probes use the same ids and keys on purpose. Old orders are sent again
//! now and then, also long after a failover: they must be answered from their receipts.
//!
//! Deliberately absent: any opinion on an answer. Everything is written down, and the judge reads it.
//!
//! Invariant: a probe follows a command to its definite end before it sends another.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use statehouse_contract::Version;
use tokio::time::{sleep, timeout};

use super::{dice::Dice, order::Order};
use crate::{
    answer::{Answer, Asking, Details, Out},
    history::{Recorder, Told},
    http::{Broken, Connection},
};

/// The first number of a probe as a client of the history; the loads count theirs from 0.
const FIRST: u64 = 1_000_000;
/// Between two moves, in milliseconds: the load of a probe, not a wait for anything.
const PAUSE_MS: (u64, u64) = (15, 70);
/// Between two attempts of one order.
const AGAIN: Duration = Duration::from_millis(40);
/// How many old orders a probe remembers.
const MEMORY: usize = 64;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_millis(3_500);
/// Attempts of one order; with [`AGAIN`] longer than any fault.
const ATTEMPTS_MAX: u32 = 2_000;
/// An instance is closed after about so many moves.
const MOVES: u64 = 40;

/// Whose name a probe asks in.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) tenant: String,
    pub(crate) token: String,
}

/// What all probes share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `host:port` of each node.
    pub(crate) hosts: Vec<String>,
    pub(crate) tenants: Vec<Access>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) is_over: AtomicBool,
}

/// One probe.
pub(crate) struct Probe {
    shared: Arc<Shared>,
    number: u64,
    access: Access,
    dice: Dice,
    links: Vec<Option<Connection>>,
    /// The instance that it owns, and the version it saw last.
    own: Option<(String, Option<Version>)>,
    instances: u64,
    orders: u64,
    old: VecDeque<Order>,
}

impl Probe {
    /// Makes the `number`-th probe; each tenant has one of the same name.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        number: u64,
        tenant: usize,
        dice: Dice,
    ) -> Option<Self> {
        let access = shared.tenants.get(tenant)?.clone();
        let links = shared.hosts.iter().map(|_| None).collect();
        Some(Self {
            shared: Arc::clone(shared),
            number,
            access,
            dice,
            links,
            own: None,
            instances: 0,
            orders: 0,
            old: VecDeque::new(),
        })
    }

    /// Moves until the drill's load is over.
    pub(crate) async fn run(mut self, client: u64) {
        let client = FIRST + client;
        while !self.shared.is_over.load(Ordering::Relaxed) {
            self.make_a_move(client).await;
            sleep(Duration::from_millis(self.dice.between(PAUSE_MS.0, PAUSE_MS.1))).await;
        }
    }

    async fn make_a_move(&mut self, client: u64) {
        let roll = self.dice.below(100);
        let Some((wf, seen)) = self.own.clone() else {
            self.instances += 1;
            let wf = format!("probe-{}-{}", self.number, self.instances);
            let body = format!(r#"{{"definition":"drill-probe","id":"{wf}"}}"#);
            self.own = Some((wf.clone(), None));
            let order = self.order(wf, "start", None, body);
            return self.follow(client, order).await;
        };
        match roll {
            0..20 => {
                let old = self.dice.below(self.old.len() as u64);
                let old = usize::try_from(old).ok().and_then(|place| self.old.get(place).cloned());
                if let Some(old) = old {
                    self.follow(client, old).await;
                }
            }
            20..45 => {
                let levels = ["linearizable", "linearizable", "linearizable", "leader", "stale"];
                let level = self.dice.one(&levels).copied().unwrap_or("linearizable");
                // Also instances that are closed and may have left the caches.
                let wf = match self.old.front() {
                    Some(old) if self.dice.percent(20) => old.wf.clone(),
                    Some(_) | None => wf,
                };
                let (key, body) = (String::new(), String::new());
                let read = Order { wf, name: level, key, expected: None, body };
                let server = self.anywhere();
                self.attempt(client, &read, server).await;
            }
            _ => {
                let name = match self.dice.below(MOVES) {
                    0 => "close",
                    1..6 => "short",
                    6..10 => "long",
                    10..14 => "disarm",
                    14..18 => "refuse",
                    _ => "add",
                };
                let expected = seen.filter(|_| self.dice.percent(60));
                let body = match name {
                    "add" => format!(r#"{{"note":"{}"}}"#, canary(&self.access.tenant)),
                    _ => "{}".to_owned(),
                };
                let order = self.order(wf, name, expected, body);
                self.follow(client, order).await;
            }
        }
    }

    fn order(
        &mut self,
        wf: String,
        name: &'static str,
        expected: Option<Version>,
        body: String,
    ) -> Order {
        self.orders += 1;
        // The same keys in both tenants: they must not meet.
        let key = format!("probe-{}-{}", self.number, self.orders);
        Order { wf, name, key, expected, body }
    }

    fn anywhere(&mut self) -> usize {
        usize::try_from(self.dice.below(self.links.len() as u64)).unwrap_or(0)
    }

    /// Sends a command until its answer is definite, at times without waiting for the first answer.
    async fn follow(&mut self, client: u64, order: Order) {
        let mut server = self.anywhere();
        if self.dice.percent(12) {
            self.lose(client, &order, server).await;
            server = self.anywhere();
        }
        for _ in 0..ATTEMPTS_MAX {
            let (answer, details) = self.attempt(client, &order, server).await;
            if !answer.may_repeat() {
                self.learn(order, &answer, &details);
                return;
            }
            sleep(answer.retry_after.unwrap_or(AGAIN).min(AGAIN * 4)).await;
            server = self.anywhere();
        }
    }

    fn learn(&mut self, order: Order, answer: &Answer, details: &Details) {
        if let (Some(born), Some(version)) = (details.born, details.ver)
            && let Some((wf, seen)) = &mut self.own
            && *wf == order.wf
            && seen.is_none_or(|seen| seen.version < version)
        {
            *seen = Some(Version { born, version });
        }
        // An expectation that was wrong is forgotten, so that the next order does not repeat it.
        if &*answer.code == "version_conflict"
            && let Some((_, seen)) = &mut self.own
        {
            *seen = None;
        }
        if order.name == "close" && answer.out == Out::Ok {
            self.own = None;
        }
        if matches!(answer.out, Out::Ok | Out::Rejected) && !self.old.contains(&order) {
            self.old.push_back(order);
            if self.old.len() > MEMORY {
                self.old.pop_front();
            }
        }
    }

    /// Sends an order and goes away before the answer is there.
    async fn lose(&mut self, client: u64, order: &Order, server: usize) {
        let patience = Duration::from_millis(self.dice.between(1, 12));
        let attempt = self.shared.recorder.asked(&order.asked(client, &self.access.tenant));
        let _ = timeout(patience, self.exchange(order, server)).await;
        // Whatever came, came to nobody.
        if let Some(link) = self.links.get_mut(server) {
            *link = None;
        }
        self.shared.recorder.told(attempt, &Told::only(Out::Unknown));
    }

    async fn attempt(&mut self, client: u64, order: &Order, server: usize) -> (Answer, Details) {
        let recorder = Arc::clone(&self.shared.recorder);
        let attempt = recorder.asked(&order.asked(client, &self.access.tenant));
        let asking = if order.is_read() { Asking::Read } else { Asking::Command };
        let exchanged = timeout(ANSWER_MAX, self.exchange(order, server)).await;
        let link = self.links.get_mut(server);
        let (answer, details, seen) = match (exchanged, link) {
            (Ok(Ok(status)), Some(Some(connection))) => {
                let answer = Answer::read(connection, status, asking);
                let seen = self.shared.canaries(connection.body());
                (answer, Details::read(connection), seen)
            }
            (Ok(Err(broken)), Some(link)) => {
                *link = None;
                (Answer::broken(&broken), Details::default(), Vec::new())
            }
            (_, link) => {
                if let Some(link) = link {
                    *link = None;
                }
                (Answer::late(), Details::default(), Vec::new())
            }
        };
        let reason = matches!(answer.out, Out::Rejected | Out::Fail).then_some(&*answer.code);
        let is_ok = answer.out == Out::Ok;
        let told = Told {
            ver: details.ver,
            born: details.born,
            reply: details.reply.as_deref().filter(|_| !order.is_read() && is_ok),
            reason,
            node: details.node.as_deref(),
            age_ms: details.age_ms.filter(|_| order.is_read()),
            replayed: details.replayed,
            see: &seen,
            ..Told::only(answer.out)
        };
        recorder.told(attempt, &told);
        (answer, details)
    }

    async fn exchange(&mut self, order: &Order, server: usize) -> Result<u16, Broken> {
        let host = self.shared.hosts.get(server).map_or("", String::as_str);
        let request = order.request(&self.access.tenant, &self.access.token, host);
        let Some(link) = self.links.get_mut(server) else { return Err(Broken::Closed) };
        let is_fresh = link.as_ref().is_some_and(|link| !link.is_last() && link.is_open());
        if !is_fresh {
            *link = Some(Connection::open(host).await?);
        }
        match link {
            Some(connection) => connection.exchange(&request).await,
            None => Err(Broken::Closed),
        }
    }
}

impl Shared {
    /// Returns the tenants whose canaries stand in an answer.
    fn canaries(&self, body: &[u8]) -> Vec<&str> {
        let is_there = |tenant: &str| crate::http::find(body, canary(tenant).as_bytes()).is_some();
        let tenants = self.tenants.iter().map(|access| access.tenant.as_str());
        tenants.filter(|tenant| is_there(tenant)).collect()
    }
}

/// What stands in every payload of a tenant and in no other's.
fn canary(tenant: &str) -> String {
    format!("canary-of-{tenant}")
}
