//! Batches: one operator's verb for every instance that a filter finds. Pure.
//!
//! A batch is a document: what its operator wants (`spec`) and how far it has come (`state`). It goes through the list of
//! instances once, in the order of the list, as far as the list had grown when it began; whoever leads shard 0 goes on from
//! the cursor that is written down. A share of the instances is drawn by the hash of their ids, so a batch of 10 percent
//! and a later one of 100 begin with the same ones.
//!
//! Absent on purpose: clocks, asking, sending. `batch_actor.rs` does that.
//!
//! Whom a page will tell is written down before the first of them is told, and what became of them afterwards: so who is told
//! again after a crash is who was told, also when the verb has taken an instance out of the filter's sight.
//!
//! Invariant: each instance of the list is counted once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statehouse_contract::{
    InstanceId, RejectionCode, Timestamp, limits::BATCH_EXAMPLES_MAX, view::InstanceRow,
};

pub use spec::{Filter, Spec, Word};

mod spec;

/// Why an instance is left that is what the verb would make of it.
pub(crate) const NOTHING_TO_DO: &str = "nothing_to_do";

/// Where a batch is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It goes on.
    #[default]
    Running,
    /// It has been through the list.
    Done,
    /// An operator, or a refusal, has stopped it.
    Stopped,
}

/// An instance that refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Which one.
    pub instance: String,
    /// The code.
    pub code: String,
    /// The reason in words.
    pub detail: String,
}

/// How far a batch has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Who began it; every verb is said in this one's name.
    pub by: String,
    /// The roles of that one.
    pub roles: Vec<String>,
    /// Where it is in its life.
    pub phase: Phase,
    /// When it began, in milliseconds. Later instances are not its business.
    pub began: i64,
    /// When it ended, in milliseconds.
    #[serde(default)]
    pub ended: Option<i64>,
    /// Where in the list it goes on.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Instances before the cursor that are being told, and not counted yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub telling: Vec<InstanceId>,
    /// Instances that the filter found.
    #[serde(default)]
    pub found: u64,
    /// Those of them that said yes, or would.
    #[serde(default)]
    pub accepted: u64,
    /// Those that refused, or would.
    #[serde(default)]
    pub refused: u64,
    /// Those with whom there was nothing to do.
    #[serde(default)]
    pub left: u64,
    /// Those outside the share.
    #[serde(default)]
    pub not_drawn: u64,
    /// Those that refused or were left, by code.
    #[serde(default)]
    pub codes: BTreeMap<String, u64>,
    /// Those that said yes, by what became of their states (`a -> b`).
    #[serde(default)]
    pub moves: BTreeMap<String, u64>,
    /// The first ones that refused.
    #[serde(default)]
    pub examples: Vec<Example>,
    /// Why it was stopped.
    #[serde(default)]
    pub stopped: Option<String>,
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// What its operator wants.
    pub spec: Spec,
    /// How far it has come.
    pub state: State,
}

/// What became of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It said yes.
    Accepted {
        /// Its active states before and after, if it says.
        moved: Option<String>,
    },
    /// It refused.
    Refused {
        /// The code.
        code: RejectionCode,
        /// The reason in words.
        detail: String,
    },
    /// There was nothing to do.
    Left {
        /// Its refusal's code, or in one word why it was not asked.
        why: &'static str,
    },
    /// It is outside the share.
    NotDrawn,
}

/// Instances with what became of them.
pub type Endings = Vec<(InstanceId, Ending)>;

/// What is to be done with a page of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Whom to tell.
    pub telling: Vec<InstanceId>,
    /// Those who are not told.
    pub others: Endings,
    /// Where the list begins that it was taken from.
    pub from: Option<String>,
    /// Where the list goes on; nothing at its end.
    pub next: Option<String>,
}

/// Counts under a name, as long as there are not too many names; what comes later counts as `other`.
fn count(names: &mut BTreeMap<String, u64>, name: String) {
    let is_full = names.len() >= BATCH_EXAMPLES_MAX && !names.contains_key(&name);
    let name = if is_full { "other".to_owned() } else { name };
    *names.entry(name).or_default() += 1;
}

impl Batch {
    /// Reads a stored batch.
    #[must_use]
    pub fn read(document: &str) -> Option<Self> {
        serde_json::from_str(document).ok()
    }

    /// Returns whether it goes on.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.phase == Phase::Running
    }

    /// Returns whether an instance is its business: it was there when the batch began, at the version that is asked for.
    #[must_use]
    pub fn concerns(&self, row: &InstanceRow) -> bool {
        let began = Timestamp(self.state.began).to_rfc3339();
        row.created_at <= began
            && self.spec.filter.version.is_none_or(|version| version == row.definition_version)
    }

    /// Sorts the instances of a page.
    #[must_use]
    pub fn plan(&self, rows: &[InstanceRow], next: Option<String>) -> Page {
        let mut page = Page { from: self.state.cursor.clone(), next, ..Page::default() };
        for row in rows.iter().filter(|row| self.concerns(row)) {
            if !self.spec.draws(&row.id) {
                page.others.push((row.id.clone(), Ending::NotDrawn));
            } else if self.spec.is_done(row) {
                page.others.push((row.id.clone(), Ending::Left { why: NOTHING_TO_DO }));
            } else {
                page.telling.push(row.id.clone());
            }
        }
        page
    }

    /// Takes the next page; says whether it was the next one, of a batch that goes on.
    pub fn take(&mut self, page: Page, now: Timestamp) -> bool {
        let state = &self.state;
        if !self.is_running() || !state.telling.is_empty() || state.cursor != page.from {
            return false;
        }
        self.state.cursor = page.next;
        self.state.telling = page.telling;
        self.count(page.others);
        self.close(now);
        true
    }

    /// Takes in what became of those who were told; says whether they were not counted yet.
    pub fn take_in(&mut self, told: &[InstanceId], endings: Endings, now: Timestamp) -> bool {
        if self.state.telling != told {
            return false;
        }
        self.state.telling.clear();
        self.count(endings);
        self.close(now);
        true
    }

    fn count(&mut self, endings: Endings) {
        let stops = self.spec.stops();
        let state = &mut self.state;
        for (instance, ending) in endings {
            state.found += 1;
            match ending {
                Ending::Accepted { moved } => {
                    state.accepted += 1;
                    if let Some(moved) = moved {
                        count(&mut state.moves, moved);
                    }
                }
                Ending::Left { why } => {
                    state.left += 1;
                    count(&mut state.codes, why.to_owned());
                }
                Ending::NotDrawn => state.not_drawn += 1,
                Ending::Refused { code, detail } => {
                    state.refused += 1;
                    count(&mut state.codes, code.code().to_owned());
                    if stops && state.phase == Phase::Running {
                        state.phase = Phase::Stopped;
                        state.stopped = Some(format!("{instance} refused: {code}: {detail}"));
                    }
                    if state.examples.len() < BATCH_EXAMPLES_MAX {
                        let (instance, code) = (instance.to_string(), code.code().to_owned());
                        state.examples.push(Example { instance, code, detail });
                    }
                }
            }
        }
    }

    /// Ends it if it is through.
    fn close(&mut self, now: Timestamp) {
        let state = &mut self.state;
        let is_through = state.cursor.is_none() && state.telling.is_empty();
        if state.phase == Phase::Running && is_through {
            state.phase = Phase::Done;
        }
        if state.phase != Phase::Running {
            state.ended.get_or_insert(now.0);
        }
    }

    /// Stops it.
    pub fn stop(&mut self, by: &str, now: Timestamp) {
        if self.is_running() {
            self.state.phase = Phase::Stopped;
            self.state.ended = Some(now.0);
            self.state.stopped = Some(format!("{by} stopped it"));
        }
    }
}

#[cfg(test)]
mod tests;
