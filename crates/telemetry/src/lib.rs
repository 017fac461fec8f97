//! The one place that knows OpenTelemetry.
//!
//! Read `meter` first: typed instruments whose tags can only be enums. Then `propagate`: a trace as plain
//! data, in and out of the present context. Then `pipeline`: what a process starts once.
//!
//! Absent on purpose: OTLP exporters and the span layer (a later delivery), and any tag that could carry a
//! tenant, an instance, a key, a path or an error text: cardinality is paid for every minute, for ever.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
pub mod meter;
pub mod pipeline;
pub mod propagate;

pub use error::TelemetryError;
pub use meter::{Counter, Gauge, Histogram, Level, Meters, SECONDS, Tag, Tags};
pub use pipeline::{LogFormat, LogSettings, Pipeline};
pub use propagate::{attach, carry, current};
