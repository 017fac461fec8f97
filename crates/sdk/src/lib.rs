//! A client for people who call Statehouse from Rust.
//!
//! [`Client`] speaks the HTTP API with several servers, deadlines, and retries that obey the advice of the rejection
//! they met, always with the same idempotency key. What it learns is an [`Outcome`]: accepted, postponed, rejected,
//! unknown, or certainly failed. Those five are kept apart to the end, because "unknown" and "failed" call for opposite
//! acts.
//!
//! Deliberately absent: models of instances and definitions. Answers are JSON with their bytes, tag and headers
//! ([`Response`]), so that a client outlives a server release; whoever wants types reads them out with serde. A worker
//! loop comes with the tasks.
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
mod tls;
mod watch;

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
pub use crate::watch::{Watch, WatchError};
