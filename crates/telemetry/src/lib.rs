//! The one place that knows OpenTelemetry.
//!
//! Read `meter` first: typed instruments whose tags can only be enums. Then `spans`: the parts of a command's way, made
//! where a trace is sampled; `sampling` decides that, `outlet` lets them leave. `propagate` is a trace as plain data, in and
//! out of the present context. `pipeline` is what a process starts once.
//!
//! Absent on purpose: any tag that could carry a tenant, an instance, a key, a path or an error text: cardinality is paid
//! for every minute, for ever.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
mod lines;
pub mod meter;
pub mod outlet;
pub mod pipeline;
pub mod propagate;
pub mod sampling;
pub mod spans;

pub use error::TelemetryError;
pub use meter::{Counter, Gauge, Histogram, Level, Made, Meters, SECONDS, Tag, Tags};
pub use outlet::{Leaving, OutletSettings};
pub use pipeline::{LogFormat, LogSettings, Pipeline};
pub use propagate::{attach, carry, carry_all, current};
pub use sampling::Sampling;
pub use spans::{Leg, Span};
