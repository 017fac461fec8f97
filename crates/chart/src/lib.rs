//! A statechart as data, and the pure function that steps it.
//!
//! Read in the order of the modules: what an author writes, what is wrong with it, what it becomes, how it moves.
//!
//! Absent on purpose: clock, randomness, IO, async, and every identity outside the instance. The same arguments give the
//! same bytes on every node.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

mod adopt;
mod assign;
mod changes;
mod compile;
pub mod configuration;
pub mod conform;
pub mod definition;
mod draft;
pub mod effect;
pub mod explain;
pub mod guard;
mod lost;
mod macrostep;
mod microstep;
mod migrate;
mod postpone;
pub mod refusal;
mod saga;
mod select;
pub mod snapshot;
pub mod step;
pub mod template;
mod timers;
pub mod trigger;
mod upcast;
mod work;

pub mod value;

pub mod document;
pub mod duration;
pub mod finding;
pub mod load;
pub mod render;
pub mod schema;
pub mod source;
pub mod types;
pub mod validate;

pub use adopt::adopt;
pub use configuration::{StateIndex, StateSet};
pub use definition::Chart;
pub use effect::{ChildOrder, Effect, Ending, RetryPolicy, TaskOrder};
pub use explain::{EventExplained, explain};
pub use finding::{Finding, FindingCode, Severity};
pub use migrate::migrate;
pub use refusal::{EvaluationError, Refusal, RefusalKind, Violation};
pub use snapshot::{Snapshot, Status};
pub use source::{BUILT_IN, BUILT_IN_QUEUE, Source};
pub use step::{Outcome, Settled, Step, step};
pub use trigger::{Call, Trigger, WorkError, WorkKey};
pub use upcast::SnapshotError;
pub use validate::{Report, validate};
pub use value::Value;
