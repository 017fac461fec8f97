//! Reads the history of a run and says whether every promise was kept.
//!
//! A run is written down as JSON lines (`format: 1`): what clients asked and were told, what every node holds
//! afterwards, which faults were made. [`judge`] holds the two against each other. Every answer carries a version,
//! so the order of events is given and judging is a sweep over sorted rows, not a search.
//!
//! Deliberately absent: everything of the server. The judge imports none of our crates and no server type, because
//! a judge that shares code with the accused shares its mistakes. It also does no IO: whoever calls it reads the file.
//!
//! What a history cannot show (corruption on disk, S14; wiped nodes that vote, S15; timing and metrics of S13; audit
//! records outside the log, S17) is listed in every verdict as not judged.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod dump;
mod event;
mod history;
mod index;
mod rules;
mod text;
mod verdict;

#[cfg(test)]
mod testing;

pub use crate::dump::{Arm, Entry, Kind, ShardEnd, TaskAct, TaskMark, TimerMark};
pub use crate::event::{Anchor, End, Fault, Inv, Level, Op, Open, Out, Phase, Ret};
pub use crate::history::{Attempt, History, Malformed};
pub use crate::rules::judge;
pub use crate::verdict::{Counts, Demands, Evidence, FaultGap, Finding, Rule, Verdict, Violation};
