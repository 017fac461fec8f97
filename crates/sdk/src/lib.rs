//! A client for people who call Statehouse from Rust.
//!
//! [`Client`] speaks the HTTP API with several servers, deadlines, and retries that obey the advice of the rejection
//! they met, always with the same idempotency key. What it learns is an [`Outcome`]: accepted, postponed, rejected,
//! unknown, or certainly failed. Those five are kept apart to the end, because "unknown" and "failed" call for opposite
//! acts.
//!
//! Deliberately absent: models of instances and definitions. Answers are JSON with their bytes, tag and headers
//! ([`Response`]), so that a client outlives a server release; whoever wants types reads them out with serde.
//!
//! [`Worker`] does the work that instances order: it leases tasks, runs a function of yours for each, keeps the leases
//! alive and reports. Inputs and outputs are types of yours.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use statehouse_sdk::{Client, Options, TaskError, Work, Worker};
//!
//! #[derive(Deserialize)]
//! struct Charge { amount: u64, token: String }
//! #[derive(Serialize)]
//! struct Charged { receipt: String }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(Options::new(["http://127.0.0.1:7400"]))?;
//! let worker = Worker::new(client, "billing-1").queue("charge-card").concurrency(8);
//! let stop = async { let _ = tokio::signal::ctrl_c().await; };
//! let tally = worker
//!     .run(stop, |work: Work<Charge>| async move {
//!         if work.input.token.is_empty() {
//!             return Err(TaskError::fatal("card_declined", "there is no card"));
//!         }
//!         // The bank gets `work.idempotency_key()`: an attempt may be given again.
//!         Ok(Charged { receipt: format!("{} for {}", work.idempotency_key(), work.input.amount) })
//!     })
//!     .await;
//! println!("{} charged, {} refused", tally.completed, tally.failed);
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: a request is repeated only with the key of its first attempt. A request, and with it a token, goes only
//! to servers of the options.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod calls;
mod client;
mod course;
mod options;
mod outcome;
mod problem;
mod request;
mod response;
mod retry;
mod servers;
mod sse;
mod task_calls;
mod tls;
mod trace;
mod watch;
mod worker;

#[cfg(test)]
mod fake;

pub use crate::calls::{Filter, ReadAt, Start, With};
pub use crate::client::{Client, chain};
pub use crate::options::{BuildError, Options};
pub use crate::outcome::{CallError, Failure, Outcome, Unknown};
pub use crate::problem::Problem;
pub use crate::request::{Body, Method, Request, escape};
pub use crate::response::{BrokenOff, Download, LineError, Lines, Response};
pub use crate::retry::{Budget, Decision, decide};
pub use crate::servers::Origin;
pub use crate::sse::{Parser, SseEvent};
pub use crate::task_calls::{Claim, LeasedTask, TaskList};
pub use crate::watch::{Watch, WatchError};
pub use crate::worker::{Tally, TaskError, Work, Worker};
