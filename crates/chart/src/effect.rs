//! Effects: the work that a step asks for, as plain values.
//!
//! They are written in the same entry as the new snapshot, and only their commit makes them real. An effect is complete:
//! whoever carries it out needs no chart and evaluates nothing.
//!
//! Deliberately absent: instance and tenant (the entry knows them), leases, attempts, addresses.
//!
//! Invariant: effects stand in the order in which they are to be written; a cancel stands before the start of the same id.

use bincode::{Decode, Encode};
use statehouse_contract::time::Timestamp;

use crate::{trigger::WorkKey, value::Value};

/// How often and when a failed attempt is tried again; jitter is added where the attempt is planned.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1.
    pub max_attempts: u32,
    /// Wait before the second attempt.
    pub initial_interval_ms: u64,
    /// Factor from one wait to the next.
    pub backoff: f64,
    /// Longest wait.
    pub max_interval_ms: u64,
    /// Codes that end the work at once; `net.*` stands for every code that starts so.
    pub non_retryable: Vec<String>,
}

impl RetryPolicy {
    /// Returns the policy of work that says nothing: one attempt.
    #[must_use]
    pub const fn once() -> Self {
        Self {
            max_attempts: 1,
            initial_interval_ms: 0,
            backoff: 1.0,
            max_interval_ms: 0,
            non_retryable: Vec::new(),
        }
    }

    /// Returns whether a failure with this code may be tried again.
    #[must_use]
    pub fn is_retryable(&self, code: &str) -> bool {
        !self.non_retryable.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => code.starts_with(prefix),
            None => code == pattern,
        })
    }

    /// Returns the wait after the given attempt (from 1), without jitter; `None` when it was the last.
    #[must_use]
    pub fn wait_ms(&self, attempt: u32) -> Option<u64> {
        if attempt >= self.max_attempts {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let wait = self.initial_interval_ms as f64 * self.backoff.powi(exponent);
        Some(
            (wait.min(self.max_interval_ms as f64) as u64)
                .max(self.initial_interval_ms.min(self.max_interval_ms)),
        )
    }
}

/// A task to be run by a worker.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TaskOrder {
    /// Its address.
    pub work: WorkKey,
    /// The invoke's id.
    pub invoke: String,
    /// `src` as written, for example `task:charge-card`.
    pub src: String,
    /// The queue that workers poll.
    pub queue: String,
    /// The input.
    pub input: Value,
    /// Which item of a `forEach` it is.
    pub item: Option<u32>,
    /// Longest time of one attempt.
    pub timeout_ms: Option<u64>,
    /// Length of a lease between two heartbeats.
    pub heartbeat_ms: Option<u64>,
    /// What follows a failed attempt.
    pub retry: RetryPolicy,
    /// Whether the instance wants [`Trigger::WorkStarted`](crate::Trigger::WorkStarted) at the first lease.
    pub report_start: bool,
    /// Whether it undoes a step.
    pub compensation: bool,
}

/// A child instance to be started.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ChildOrder {
    /// Its address within this instance.
    pub work: WorkKey,
    /// The invoke's id.
    pub invoke: String,
    /// The definition.
    pub definition: String,
    /// Its version; `None` = the current one.
    pub definition_version: Option<u64>,
    /// The input.
    pub input: Value,
    /// Which item of a `forEach` it is.
    pub item: Option<u32>,
    /// Whether it lives on when this instance leaves the state.
    pub detached: bool,
}

/// How an instance ended, as its parent hears it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Ending {
    /// Done, with the final output.
    Done {
        /// The output.
        output: Value,
    },
    /// Failed, cancelled or terminated.
    Failed {
        /// The code; `cancelled` and `terminated` are the platform's own.
        code: String,
        /// What a person reads.
        message: String,
    },
}

/// One piece of work that a step asks for.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Effect {
    /// Writes a timer's row.
    StartTimer {
        /// The timer.
        id: String,
        /// When it is due.
        due: Timestamp,
        /// The version that arms it.
        generation: u64,
        /// Of timers due at the same time, the lower number fires first.
        number: u64,
    },
    /// Deletes a timer's row.
    CancelTimer {
        /// The timer.
        id: String,
        /// The version that armed it.
        generation: u64,
    },
    /// Holds all timer rows of the instance: it was paused.
    HoldTimers,
    /// Releases all timer rows of the instance.
    ReleaseTimers,
    /// Writes the row of a postponed command's deadline.
    StartPostpone {
        /// The command.
        ticket: String,
        /// When it is refused for good.
        due: Timestamp,
    },
    /// Deletes the row of a postponed command's deadline.
    EndPostpone {
        /// The command.
        ticket: String,
    },
    /// The queue is not empty: due now.
    RunQueue,
    /// Writes a task.
    ScheduleTask(TaskOrder),
    /// Revokes a task and its lease.
    CancelTask {
        /// The task.
        work: WorkKey,
        /// Whether the instance wants [`Trigger::WorkReleased`](crate::Trigger::WorkReleased) when its attempt is over.
        report_release: bool,
    },
    /// Removes a task that has ended.
    CloseTask {
        /// The task.
        work: WorkKey,
    },
    /// Starts a child instance, through the outbox.
    StartChild(ChildOrder),
    /// Sends a child the platform event `instance.cancel`, through the outbox.
    CancelChild {
        /// The child.
        work: WorkKey,
    },
    /// Sends a signal to another instance of the tenant, through the outbox.
    Send {
        /// The instance.
        instance: String,
        /// The event.
        event: String,
        /// The payload.
        data: Value,
    },
    /// Sends a signal to the parent, through the outbox; nothing happens without one.
    SendParent {
        /// The event.
        event: String,
        /// The payload.
        data: Value,
    },
    /// Tells the parent how this instance ended; nothing happens without one.
    TellParent(Ending),
    /// Makes an event visible to watchers.
    Emit {
        /// The event.
        event: String,
        /// The payload.
        data: Value,
    },
    /// Writes to the instance's history.
    Log {
        /// What.
        value: Value,
    },
}
