//! Workers that do not always do what they should: some vanish with a task in hand, some wake up after their lease.
//!
//! The tasks are those of `bench-task`: each completion orders the next. A worker that vanishes leaves its lease to run out;
//! one that is slow reports with a token that is stale by then, and must not be believed.
//!
//! Deliberately absent: work, and processes. A worker that dies is one that says nothing any more, wherever it ran.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use statehouse_sdk::{Claim, Client, Outcome, Response, Start, With};
use tokio::time::{Instant, sleep};

use super::{DrillError, dice::Dice};
use crate::{
    answer::Out,
    history::{Asked, Recorder, Told},
    round_trips::BENCH_TASK,
};

/// The first number of a worker as a client of the history.
const FIRST: u64 = 2_000_000;
/// How long a worker of a drill holds a task; short, so that many leases run out in a drill.
pub(crate) const LEASE: Duration = Duration::from_millis(1_500);
const WAIT: Duration = Duration::from_secs(1);
const QUEUE: &str = "bench";
/// What a worker does between two tasks, in milliseconds.
const PAUSE_MS: (u64, u64) = (10, 60);

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) is_over: AtomicBool,
    /// How long after its lease ended each abandoned task was in other hands.
    pub(crate) abandoned: Mutex<Abandoned>,
}

/// Tasks that somebody let fall, and when somebody else took them up.
#[derive(Debug, Default)]
pub(crate) struct Abandoned {
    open: Vec<(String, Instant)>,
    /// From the lease until the next one, for each that was taken up.
    pub(crate) again: Vec<Duration>,
}

impl Abandoned {
    fn let_fall(&mut self, task: &str, leased: Instant) {
        self.open.push((task.to_owned(), leased));
    }

    fn taken(&mut self, task: &str) {
        if let Some(place) = self.open.iter().position(|(open, _)| open == task) {
            let (_, leased) = self.open.swap_remove(place);
            self.again.push(leased.elapsed());
        }
    }
}

/// Makes the instances that order tasks.
pub(crate) async fn prepare(client: &Client, instances: u64, mark: &str) -> Result<(), DrillError> {
    let failed = |error| DrillError::Load(format!("tasks: {}", statehouse_sdk::chain(&error)));
    client.deploy(BENCH_TASK, With::default()).await.done().map_err(failed)?;
    for number in 0..instances {
        let id = format!("tasks-{mark}-{number}");
        let start = Start { definition: "bench-task", id: Some(&id), ..Start::default() };
        client.start(start, With::default()).await.done().map_err(failed)?;
    }
    Ok(())
}

/// One worker: a task at a time until the load is over.
pub(crate) async fn work(shared: Arc<Shared>, number: u64, mut dice: Dice) {
    let queues = [QUEUE.to_owned()];
    let client = FIRST + number;
    let mut lives = 0;
    while !shared.is_over.load(Ordering::Relaxed) {
        let name = format!("drill-{number}-{lives}");
        let claim =
            Claim { queues: &queues, max: 1, lease: Some(LEASE), wait: WAIT, worker: &name };
        let asked = shared.asked(client, "lease", None);
        let outcome = shared.client.lease_tasks(claim).await;
        let body = outcome.response().map(Response::json).unwrap_or_default();
        let is_given = matches!(outcome, Outcome::Accepted(_));
        let held = body["tasks"].get(0).filter(|_| is_given).and_then(held);
        let leased = Instant::now();
        shared.told(asked, &outcome, held.as_ref().map(|(id, token, _)| (id.as_str(), *token)));
        let Some((id, token, n)) = held else { continue };
        shared.abandoned().taken(&id);
        if dice.percent(6) {
            // It dies. Whoever comes next has another name.
            shared.abandoned().let_fall(&id, leased);
            lives += 1;
            continue;
        }
        if dice.percent(4) {
            sleep(LEASE + Duration::from_millis(dice.between(200, 1_500))).await;
        }
        let asked = shared.asked(client, "done", Some((&id, token)));
        let outcome = shared.client.complete_task(&id, token, &json!({ "n": n + 1 }), None).await;
        shared.told(asked, &outcome, None);
        sleep(Duration::from_millis(dice.between(PAUSE_MS.0, PAUSE_MS.1))).await;
    }
}

fn held(task: &Value) -> Option<(String, u64, i64)> {
    let id = task["id"].as_str()?.to_owned();
    Some((id, task["token"].as_u64()?, task["input"]["n"].as_i64()?))
}

impl Shared {
    fn abandoned(&self) -> std::sync::MutexGuard<'_, Abandoned> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self, c: u64, op: &'static str, held: Option<(&str, u64)>) -> u64 {
        let (task, tok) = (held.map(|(task, _)| task), held.map(|(_, token)| token));
        let tenant = self.client.tenant_name();
        self.recorder.asked(&Asked { c, tenant, op, task, tok, ..Asked::default() })
    }

    fn told(&self, attempt: u64, outcome: &Outcome, held: Option<(&str, u64)>) {
        let (out, reason) = match outcome {
            Outcome::Accepted(_) => (Out::Ok, None),
            Outcome::Postponed(_) => (Out::Postponed, None),
            Outcome::Rejected(problem) => (Out::Rejected, problem.code.map(|code| code.code())),
            Outcome::Unknown(_) => (Out::Unknown, None),
            Outcome::Failed(_) => (Out::Fail, None),
        };
        let (task, tok) = (held.map(|(task, _)| task), held.map(|(_, token)| token));
        self.recorder.told(attempt, &Told { reason, task, tok, ..Told::only(out) });
    }
}
