//! What the operator of a batch wants: a verb, a filter, a rate, a share; read with every rule that it keeps.
//!
//! Absent on purpose: how far a batch has come.

use serde::{Deserialize, Serialize};
use statehouse_contract::{
    DefinitionName, Digest, InstanceFilter, InstanceId, RejectionCode, TenantId, Verb,
    limits::{BATCH_RATE_DEFAULT, BATCH_RATE_MAX, INSTANCE_BYTES_MAX, NAME_BYTES_MAX, PAGE_MAX},
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

    /// Returns whether an instance is what the verb would make of it.
    #[must_use]
    pub fn is_done(&self, row: &InstanceRow) -> bool {
        self.verb == Word::Migrate && self.to == Some(row.definition_version)
    }

    /// Returns what is said to an instance; nothing if it cannot be.
    #[must_use]
    pub fn verb_for(&self, name: &str, instance: &InstanceId) -> Option<Verb> {
        Some(match self.verb {
            Word::Cancel => Verb::Cancel,
            Word::Terminate => Verb::Terminate,
            Word::Pause => Verb::Pause,
            Word::Resume => Verb::Resume,
            Word::Retry => Verb::Retry { task: None },
            Word::Skip => Verb::Skip,
            Word::Migrate => Verb::Migrate { to: self.to? },
            Word::Reset => {
                Verb::Reset { version: self.version?, instance: reset_id(name, instance)? }
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

/// Returns the id of the instance that begins where another one stood; nothing if it would be too long.
fn reset_id(name: &str, old: &InstanceId) -> Option<InstanceId> {
    let id = format!("{old}-{name}");
    InstanceId::parse(&id).ok().filter(|id| id.as_str().len() <= INSTANCE_BYTES_MAX)
}
