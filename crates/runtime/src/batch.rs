//! Batches: one operator's verb for every instance that a filter finds. Pure.
//!
//! A batch is a document: what its operator wants (`spec`) and how far it has come (`state`). It goes through the list of
//! instances once, in the order of the list, as far as the list had grown when it began; whoever leads shard 0 goes on from
//! the cursor that is written down. A share of the instances is drawn by the hash of their ids, so a batch of 10 percent
//! and a later one of 100 begin with the same ones.
//!
//! Absent on purpose: clocks, asking, sending. `batch_actor.rs` does that.
//!
//! Invariant: counts and cursor move together, a page at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statehouse_contract::{
    DefinitionName, Digest, InstanceFilter, InstanceId, RejectionCode, TenantId, Timestamp, Verb,
    limits::{
        BATCH_EXAMPLES_MAX, BATCH_RATE_DEFAULT, BATCH_RATE_MAX, INSTANCE_BYTES_MAX, NAME_BYTES_MAX,
        PAGE_MAX,
    },
    view::InstanceRow,
};

/// Longest reason: the audit shows the batch's name before it.
const REASON_BYTES: usize = statehouse_contract::limits::REASON_BYTES_MAX - 128;

/// The verbs that a batch can carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Ask to end, with compensation.
    Cancel,
    /// End now.
    Terminate,
    /// Hold.
    Pause,
    /// Go on.
    Resume,
    /// Run a kept event again, and parked tasks.
    Retry,
    /// Drop a kept event.
    Skip,
    /// Move to another version of the definition.
    Migrate,
    /// Begin a new instance from a version of each.
    Reset,
}

/// Which instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Of this definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// Of this version of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// With this status; else every one that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// In this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// With this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The verb.
    pub verb: Word,
    /// For `migrate`: the version to move to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// For `reset`: the version from which to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Which instances.
    #[serde(default)]
    pub filter: Filter,
    /// At most so many instances a second.
    #[serde(default = "default_rate")]
    pub rate: u32,
    /// The share of the instances, in percent.
    #[serde(default = "default_percent")]
    pub percent: u8,
    /// Whether it only finds out what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether the first refusal stops it. Left out: only of a migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_on_refusal: Option<bool>,
    /// Why; stands in every instance's history.
    pub reason: String,
}

const fn default_rate() -> u32 {
    BATCH_RATE_DEFAULT
}

const fn default_percent() -> u8 {
    100
}

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

/// What became of a page of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Each instance that the filter found, with what became of it.
    pub endings: Vec<(InstanceId, Ending)>,
    /// Where the list goes on; nothing at its end.
    pub next: Option<String>,
}

impl Spec {
    /// Reads what an operator wants.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn read(document: &str) -> Result<Self, String> {
        let spec: Self = serde_json::from_str(document).map_err(|error| error.to_string())?;
        let name = |what: &str, text: &Option<String>| match text {
            Some(text) if text.is_empty() || text.len() > NAME_BYTES_MAX => Err(format!(
                "/filter/{what} has {} bytes; 1 to {NAME_BYTES_MAX} are allowed",
                text.len()
            )),
            _ => Ok(()),
        };
        name("status", &spec.filter.status)?;
        name("state", &spec.filter.state)?;
        name("tag", &spec.filter.tag)?;
        if let Some(definition) = &spec.filter.definition {
            DefinitionName::parse(definition)
                .map_err(|error| format!("/filter/definition: {error}"))?;
        }
        if spec.filter.version.is_some() && spec.filter.definition.is_none() {
            return Err("/filter/version stands without /filter/definition".to_owned());
        }
        match (spec.verb, spec.to, spec.version) {
            (Word::Migrate, Some(_), None) if spec.filter.definition.is_some() => {}
            (Word::Migrate, _, _) => {
                return Err(
                    "a migration takes /to and /filter/definition, and no /version".to_owned()
                );
            }
            (Word::Reset, None, Some(_)) => {}
            (Word::Reset, _, _) => return Err("a reset takes /version, and no /to".to_owned()),
            (_, None, None) => {}
            (_, _, _) => return Err("only migrate takes /to, only reset takes /version".to_owned()),
        }
        if !(1..=BATCH_RATE_MAX).contains(&spec.rate) {
            return Err(format!(
                "/rate is {}; it takes 1 to batch_rate_max, {BATCH_RATE_MAX}",
                spec.rate
            ));
        }
        if !(1..=100).contains(&spec.percent) {
            return Err(format!("/percent is {}; it takes 1 to 100", spec.percent));
        }
        match spec.reason.trim().len() {
            0 => Err("/reason is empty; say why, for the audit".to_owned()),
            bytes if bytes > REASON_BYTES => {
                Err(format!("/reason has {bytes} bytes; at most {REASON_BYTES} are allowed"))
            }
            _ => Ok(spec),
        }
    }

    /// Returns the question for a page of its instances.
    #[must_use]
    pub fn page(&self, tenant: &TenantId, cursor: Option<&str>, limit: u32) -> InstanceFilter {
        let filter = &self.filter;
        let text = |text: &Option<String>| text.as_deref().map(Into::into);
        InstanceFilter {
            state: text(&filter.state),
            definition: filter
                .definition
                .as_deref()
                .and_then(|name| DefinitionName::parse(name).ok()),
            status: text(&filter.status),
            tag: text(&filter.tag),
            limit: limit.clamp(1, PAGE_MAX),
            cursor: cursor.map(Into::into),
            // A shard that cannot answer now would be left out for good.
            complete: true,
            ..InstanceFilter::of(tenant.clone())
        }
    }

    /// Returns whether an instance is in the share.
    #[must_use]
    pub fn draws(&self, instance: &InstanceId) -> bool {
        let digest = Digest::of(instance.as_str().as_bytes());
        let drawn = u16::from_be_bytes([digest.0[0], digest.0[1]]) % 100;
        drawn < u16::from(self.percent)
    }

    /// Returns what is said to an instance; nothing if there is nothing to do.
    #[must_use]
    pub fn verb_for(&self, name: &str, row: &InstanceRow) -> Option<Verb> {
        Some(match self.verb {
            Word::Cancel => Verb::Cancel,
            Word::Terminate => Verb::Terminate,
            Word::Pause => Verb::Pause,
            Word::Resume => Verb::Resume,
            Word::Retry => Verb::Retry { task: None },
            Word::Skip => Verb::Skip,
            Word::Migrate => {
                let to = self.to?;
                if row.definition_version == to {
                    return None;
                }
                Verb::Migrate { to }
            }
            Word::Reset => {
                Verb::Reset { version: self.version?, instance: reset_id(name, &row.id)? }
            }
        })
    }

    /// Returns whether a refusal means that there was nothing to do: what the verb is for is not so, or not any more.
    #[must_use]
    pub const fn is_nothing_to_do(&self, code: RejectionCode) -> bool {
        match code {
            RejectionCode::InstanceFinished | RejectionCode::UnknownInstance => true,
            // The author's `when` keeps an instance where it is.
            RejectionCode::GuardRefused => matches!(self.verb, Word::Migrate),
            RejectionCode::NotHandled => !matches!(self.verb, Word::Migrate | Word::Reset),
            _ => false,
        }
    }

    /// Returns whether the first refusal stops it.
    #[must_use]
    pub fn stops(&self) -> bool {
        !self.dry_run && self.stop_on_refusal.unwrap_or(self.verb == Word::Migrate)
    }

    /// Returns what stands in the history of an instance.
    #[must_use]
    pub fn reason_in(&self, name: &str) -> String {
        format!("batch {name}: {}", self.reason.trim())
    }
}

/// Counts under a name, as long as there are not too many names; what comes later counts as `other`.
fn count(names: &mut BTreeMap<String, u64>, name: String) {
    let is_full = names.len() >= BATCH_EXAMPLES_MAX && !names.contains_key(&name);
    let name = if is_full { "other".to_owned() } else { name };
    *names.entry(name).or_default() += 1;
}

/// Returns the id of the instance that begins where another one stood; nothing if it would be too long.
fn reset_id(name: &str, old: &InstanceId) -> Option<InstanceId> {
    let id = format!("{old}-{name}");
    InstanceId::parse(&id).ok().filter(|id| id.as_str().len() <= INSTANCE_BYTES_MAX)
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

    /// Takes in what became of a page.
    pub fn take_in(&mut self, page: Page, now: Timestamp) {
        let stops = self.spec.stops();
        let state = &mut self.state;
        for (instance, ending) in page.endings {
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
        if state.phase == Phase::Running && page.next.is_none() {
            state.phase = Phase::Done;
        }
        if state.phase != Phase::Running {
            state.ended.get_or_insert(now.0);
        }
        state.cursor = page.next;
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
