//! Where the load and the faults come from.
//!
//! [`bench()`] drives a cluster over HTTP, open or closed loop, and says how fast it answered and what; a [`Recorder`]
//! writes the history of a run for the judge; a [`Server`] is a real one in a
//! process of its own, to be killed and started again; [`drill`] breaks a cluster under load and holds what came of it
//! against its budgets.
//!
//! Deliberately absent: judgement. What a run proves is said by `statehouse-judge`, which shares no code with us.
//!
//! Invariant: load is measured from the moment at which a request was meant to be sent, never from the moment at which
//! the client got round to it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod bench;
mod compose;
pub mod drill;
mod drive;
mod dump;
mod gaps;
mod history;
mod http;
mod links;
mod pace;
mod report;
mod round_trips;
mod server;
mod survey;
mod tally;
mod trust;
mod workload;

#[cfg(test)]
mod fake;

pub use crate::answer::Out;
pub use crate::bench::{BenchError, BenchOptions, Progress, bench, bench_into};
pub use crate::dump::{DumpError, Dumped, dump, finish};
pub use crate::gaps::Gap;
pub use crate::history::{Asked, Recorder, Told};
pub use crate::http::{Broken, Connection};
pub use crate::pace::Pace;
pub use crate::report::{Latency, Report, StepReport};
pub use crate::round_trips::{
    BENCH_TASK, RoundTripReport, RoundTrips, round_trips, round_trips_into,
};
pub use crate::server::{Launch, Server, ServerError, free_address, http_get};
pub use crate::workload::{BENCH_ORDER, Length, Mode, Step, Workload, WorkloadError};
