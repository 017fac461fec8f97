//! A worker: lease, run, keep alive, report.
//!
//! One loop leases as many tasks as there is room for and never more. Each task runs as a task of its own, so that a handler
//! that panics ends its attempt and nothing else. While it runs its lease is kept alive; a lease that is over, or work that
//! was cancelled, ends the handler: what it would report could not be taken.
//!
//! A report is repeated until its end is known or the lease is over. Task and token name it, so repeating is harmless.
//!
//! Deliberately absent: exactly once. An attempt may be given again after its worker was lost; hand
//! [`Work::idempotency_key`] on to whoever must not do the work twice.
//!
//! Invariants: no more tasks are held than may run; a handler never runs on after its lease is known to be over.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::{
    client::Client,
    outcome::Outcome,
    task_calls::{Claim, LeasedTask},
    trace,
};

/// How long a lease call waits at the server for the first task.
const POLL_WAIT: Duration = Duration::from_secs(10);
/// Pause after a lease call that failed, doubled up to a limit.
const FAILED_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause between two tries of a report whose end is not known.
const REPORT_PAUSE: Duration = Duration::from_millis(200);
/// The share of a lease after which it is kept alive.
const HEARTBEAT_SHARE: u32 = 3;
/// How long a handler that is told to stop has for it before it is ended.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long a worker tries to give a lease back before it leaves it to the clock.
const GIVE_BACK_MAX: Duration = Duration::from_secs(2);
/// Most tasks that one worker runs at once.
const CONCURRENCY_MAX: usize = 1_000;

/// A worker on some queues.
#[derive(Clone, Debug)]
pub struct Worker {
    client: Client,
    name: String,
    queues: Vec<String>,
    concurrency: usize,
    lease: Option<Duration>,
    stop_limit: Duration,
}

/// A task in the hands of its handler.
#[derive(Clone, Debug)]
pub struct Work<I> {
    /// The input.
    pub input: I,
    /// The task, with everything that is known of it.
    pub task: LeasedTask,
    stopped: watch::Receiver<bool>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct TaskError {
    /// A stable code, such as `card_declined`; a definition's `nonRetryable` and guards see it.
    pub code: String,
    /// What a person reads.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
}

/// What a worker has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tasks completed.
    pub completed: u64,
    /// Attempts that failed and were reported so.
    pub failed: u64,
    /// Attempts whose lease was over, or whose work was cancelled, before they had ended.
    pub lost: u64,
    /// Reports that were refused, or whose end nobody told.
    pub unreported: u64,
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Completed,
    Failed,
    Lost,
    Unreported,
}

impl TaskError {
    /// Returns an error after which another attempt may help.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: true }
    }

    /// Returns an error that ends the task at once.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false }
    }
}

impl From<std::io::Error> for TaskError {
    fn from(error: std::io::Error) -> Self {
        Self::retryable("io", error.to_string())
    }
}

impl From<serde_json::Error> for TaskError {
    fn from(error: serde_json::Error) -> Self {
        Self::fatal("invalid_json", error.to_string())
    }
}

impl<I> Work<I> {
    /// Returns the name to hand on to whoever must not do the work twice: the same for every attempt.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.task.idempotency_key
    }

    /// Returns whether the handler should stop: the lease is over, or the work was cancelled.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits until the handler should stop.
    pub async fn stopped(&mut self) {
        // The sender lives as long as the handler does.
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }
}

impl Worker {
    /// Returns a worker with a name that people recognise, on no queue yet, with one task at a time.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self {
            client,
            name: name.into(),
            queues: Vec::new(),
            concurrency: 1,
            lease: None,
            stop_limit: Duration::from_secs(10),
        }
    }

    /// Serves a queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queues.push(queue.into());
        self
    }

    /// Runs so many tasks at once.
    #[must_use]
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.concurrency = tasks.clamp(1, CONCURRENCY_MAX);
        self
    }

    /// Asks for leases of this length where a task does not say its own.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Lets tasks that run when it stops go on for so long; what has not ended by then is given back.
    #[must_use]
    pub fn stop_limit(mut self, limit: Duration) -> Self {
        self.stop_limit = limit;
        self
    }

    /// Works until `stop` is ready, then lets running tasks end.
    pub async fn run<I, O, F, R>(&self, stop: impl Future<Output = ()>, handler: F) -> Tally
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(Work<I>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, TaskError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let (mut running, mut tally) = (JoinSet::new(), Tally::default());
        let (halt, halted) = watch::channel(false);
        let mut pause = FAILED_PAUSE.0;
        let mut stop = std::pin::pin!(stop);
        loop {
            while let Some(ended) = running.try_join_next() {
                tally.count(ended);
            }
            let room = self.concurrency.saturating_sub(running.len());
            if room == 0 {
                tokio::select! {
                    () = &mut stop => break,
                    Some(ended) = running.join_next() => tally.count(ended),
                }
                continue;
            }
            let leased = tokio::select! {
                () = &mut stop => break,
                leased = self.claim(room) => leased,
            };
            let Some(tasks) = leased else {
                tokio::select! {
                    () = &mut stop => break,
                    () = sleep(pause) => {}
                }
                pause = (2 * pause).min(FAILED_PAUSE.1);
                continue;
            };
            pause = FAILED_PAUSE.0;
            for task in tasks {
                let (client, handler) = (self.client.clone(), Arc::clone(&handler));
                let attempt = Attempt { client, lease: self.lease, halted: halted.clone() };
                running.spawn(attempt.take(task, handler));
            }
        }
        let drained = async {
            while let Some(ended) = running.join_next().await {
                tally.count(ended);
            }
        };
        if timeout(self.stop_limit, drained).await.is_err() {
            // Each gives its lease back by failing as retryable.
            halt.send_replace(true);
            while let Some(ended) = running.join_next().await {
                tally.count(ended);
            }
        }
        tally
    }

    /// Leases tasks; nothing when the server could not be asked.
    async fn claim(&self, room: usize) -> Option<Vec<LeasedTask>> {
        let claim = Claim {
            queues: &self.queues,
            max: u32::try_from(room.min(100)).unwrap_or(1),
            lease: self.lease,
            wait: POLL_WAIT,
            worker: &self.name,
        };
        let outcome = self.client.lease_tasks(claim).await;
        let Outcome::Accepted(response) = outcome else { return None };
        let mut body = response.json();
        serde_json::from_value(body.get_mut("tasks")?.take()).ok()
    }
}

impl Tally {
    fn count(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Ok(Ended::Completed) => self.completed += 1,
            Ok(Ended::Failed) => self.failed += 1,
            Ok(Ended::Lost) => self.lost += 1,
            // A panic here is in this file, not in a handler.
            Ok(Ended::Unreported) | Err(_) => self.unreported += 1,
        }
    }
}

/// What one attempt needs besides its task.
struct Attempt {
    client: Client,
    lease: Option<Duration>,
    halted: watch::Receiver<bool>,
}

/// Why an attempt is watched no longer.
enum Watched<O> {
    /// The handler has ended.
    Ended(Result<O, TaskError>),
    /// The work was cancelled; the lease lives.
    Cancelled,
    /// The lease is over.
    Over,
    /// The worker is about to end.
    Halted,
}

impl Attempt {
    async fn take<I, O, F, R>(self, task: LeasedTask, handler: Arc<F>) -> Ended
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(Work<I>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, TaskError>> + Send + 'static,
    {
        let mut until = Instant::now() + Duration::from_millis(task.lease_ms);
        // Open until this attempt has ended; whatever it asks for and reports hangs below it.
        let mut task = task;
        let _span = trace::open(&mut task);
        let input = match serde_json::from_value(task.input.clone()) {
            Ok(input) => input,
            Err(error) => {
                let error = TaskError::fatal("invalid_input", error.to_string());
                return self.failed(&task, &error, until).await;
            }
        };
        let (stop, stopped) = watch::channel(false);
        let work = Work { input, task: task.clone(), stopped };
        let mut running = tokio::spawn(async move { handler(work).await });
        let watched = self.watch(&task, &mut running, &mut until).await;
        match watched {
            Watched::Ended(Ok(output)) => match serde_json::to_value(&output) {
                Ok(output) => self.completed(&task, &output, until).await,
                Err(error) => {
                    let error = TaskError::fatal("invalid_output", error.to_string());
                    self.failed(&task, &error, until).await
                }
            },
            Watched::Ended(Err(error)) => self.failed(&task, &error, until).await,
            Watched::Cancelled | Watched::Halted => {
                let is_halted = matches!(watched, Watched::Halted);
                end(&stop, running).await;
                // The report frees whoever waits for the end of this attempt.
                let (code, message) = if is_halted {
                    ("worker_stopped", "the worker was stopped")
                } else {
                    ("cancelled", "the work was cancelled")
                };
                // Nobody waits for a worker that wants to end: the lease runs out by itself.
                let until = until.min(Instant::now() + GIVE_BACK_MAX);
                self.failed(&task, &TaskError::retryable(code, message), until).await;
                Ended::Lost
            }
            Watched::Over => {
                end(&stop, running).await;
                Ended::Lost
            }
        }
    }

    /// Keeps the lease alive while the handler runs.
    async fn watch<O>(
        &self,
        task: &LeasedTask,
        running: &mut JoinHandle<Result<O, TaskError>>,
        until: &mut Instant,
    ) -> Watched<O> {
        let mut halted = self.halted.clone();
        let beat = Duration::from_millis(task.lease_ms) / HEARTBEAT_SHARE;
        let mut next = Instant::now() + beat;
        loop {
            tokio::select! {
                ended = &mut *running => {
                    return Watched::Ended(ended.unwrap_or_else(|error| {
                        Err(TaskError::retryable("worker_panic", error.to_string()))
                    }));
                }
                _ = halted.wait_for(|halted| *halted) => return Watched::Halted,
                () = tokio::time::sleep_until(next) => {}
            }
            let asked = Instant::now();
            match self.client.heartbeat_task(&task.id, task.token, self.lease).await {
                Outcome::Accepted(response) => {
                    if response.json()["cancelled"] == Value::Bool(true) {
                        return Watched::Cancelled;
                    }
                    *until = asked + Duration::from_millis(task.lease_ms);
                }
                Outcome::Rejected(_) => return Watched::Over,
                // Nobody knows; the lease lives until its time is over.
                Outcome::Postponed(_) | Outcome::Unknown(_) | Outcome::Failed(_) => {}
            }
            if Instant::now() >= *until {
                return Watched::Over;
            }
            next = Instant::now() + beat.min(until.saturating_duration_since(Instant::now()));
        }
    }

    async fn completed(&self, task: &LeasedTask, output: &Value, until: Instant) -> Ended {
        let trace = task.traceparent.as_deref();
        let report = || self.client.complete_task(&task.id, task.token, output, trace);
        reported(report, until, Ended::Completed).await
    }

    async fn failed(&self, task: &LeasedTask, error: &TaskError, until: Instant) -> Ended {
        let trace = task.traceparent.as_deref();
        let told = (error.code.as_str(), error.message.as_str());
        let report = || self.client.fail_task(&task.id, task.token, told, error.retryable, trace);
        reported(report, until, Ended::Failed).await
    }
}

/// Sends a report until its end is known, or the lease is over.
async fn reported<R: Future<Output = Outcome>>(
    report: impl Fn() -> R,
    until: Instant,
    done: Ended,
) -> Ended {
    loop {
        match report().await {
            Outcome::Accepted(_) | Outcome::Postponed(_) => return done,
            Outcome::Rejected(_) => return Ended::Unreported,
            Outcome::Unknown(_) | Outcome::Failed(_) if Instant::now() >= until => {
                return Ended::Unreported;
            }
            Outcome::Unknown(_) | Outcome::Failed(_) => sleep(REPORT_PAUSE).await,
        }
    }
}

/// Tells a handler to stop and ends it when it does not.
async fn end<O>(stop: &watch::Sender<bool>, mut running: JoinHandle<Result<O, TaskError>>) {
    stop.send_replace(true);
    if timeout(CANCEL_GRACE, &mut running).await.is_err() {
        running.abort();
    }
}

#[cfg(test)]
mod tests;
