//! Every reason why Statehouse says no, with its class, HTTP status and advice.
//!
//! `Rejection` is the only "no" that leaves the process. A code is stable for ever; its class is a
//! metric tag; its advice is obeyed by clients. The table is kept here and not at the HTTP edge, because
//! a logged refusal is stored with its rendered bytes and must come out the same after an upgrade.
//!
//! Absent on purpose: how a refusal of the chart or an error of the log becomes a rejection. That is
//! `runtime/reject.rs`, the only bridge.

use std::fmt::{self, Write as _};

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::{CorrelationId, Json, OutcomeClass, TraceContext, Version};

/// What a client should do after a "no".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Advice {
    /// The same request can never succeed.
    Never,
    /// After a change of the instance, as a new command with a new key.
    AfterChange,
    /// Read first, then a new command with a new key.
    ReadFirst,
    /// From a newer position of the stream.
    NewerPosition,
    /// After the delay, with the same key.
    AfterDelay,
    /// With the same key, with backoff.
    SameKey,
    /// An operator has to look first.
    Operator,
}

impl Advice {
    /// Returns the advice in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Never => "do not repeat it as it is",
            Self::AfterChange => {
                "after the instance has changed, send a new command with a new key"
            }
            Self::ReadFirst => "read the instance, then send a new command with a new key",
            Self::NewerPosition => "go on from a newer position",
            Self::AfterDelay => "wait for the given time, then repeat it with the same key",
            Self::SameKey => "repeat it with the same key, backing off",
            Self::Operator => "an operator has to look at it first",
        }
    }

    /// Returns whether the same request, with the same key, may succeed later.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::AfterDelay | Self::SameKey)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $class:ident $status:literal $advice:ident $title:literal;)*) => {
        /// The stable name of a reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
        pub enum RejectionCode { $($(#[$doc])* $name,)* }

        impl RejectionCode {
            /// Every code, in the order of the table in `api.md`, section 4.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the name that stands in answers.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the class, which is a metric tag.
            #[must_use]
            pub const fn class(self) -> OutcomeClass {
                match self { $(Self::$name => OutcomeClass::$class,)* }
            }

            /// Returns the HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Returns what a client should do.
            #[must_use]
            pub const fn advice(self) -> Advice {
                match self { $(Self::$name => Advice::$advice,)* }
            }

            /// Returns the reason in a few words, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Reads a code's name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// The request cannot be read, or a header or parameter is wrong.
    InvalidRequest "invalid_request" Invalid 400 Never "the request is not valid";
    /// The body or payload is larger than its limit.
    PayloadTooLarge "payload_too_large" Invalid 413 Never "the payload is too large";
    /// The definition has errors.
    InvalidDefinition "invalid_definition" Invalid 422 Never "the definition has errors";
    /// The payload does not fit its schema.
    InvalidPayload "invalid_payload" Invalid 422 Never "the payload does not fit its schema";
    /// There is no credential, or it is unknown or revoked.
    Unauthenticated "unauthenticated" Denied 401 Never "no valid credential";
    /// The credential may not do this.
    Forbidden "forbidden" Denied 403 Never "the credential does not allow this";
    /// There is no such definition or version.
    UnknownDefinition "unknown_definition" Missing 404 Never "no such definition";
    /// There is no such instance.
    UnknownInstance "unknown_instance" Missing 404 Never "no such instance";
    /// There is no such task.
    UnknownTask "unknown_task" Missing 404 Never "no such task";
    /// There is no such tenant, or it is another's.
    UnknownTenant "unknown_tenant" Missing 404 Never "no such tenant";
    /// Something of that name exists already.
    AlreadyExists "already_exists" Conflict 409 Never "it exists already";
    /// The definition declares no such command or signal.
    UnknownEvent "unknown_event" Refused 409 AfterChange "the definition declares no such event";
    /// No active state reacts to this event.
    NotHandled "not_handled" Refused 409 AfterChange "no active state handles this event";
    /// A state reacts to this event, but every guard said no.
    GuardRefused "guard_refused" Refused 409 AfterChange "every guard said no";
    /// The author's own refusal; its code is in `reason`.
    Rejected "rejected" Refused 409 AfterChange "the workflow rejects this";
    /// The instance has ended.
    InstanceFinished "instance_finished" Refused 409 AfterChange "the instance has ended";
    /// The instance is faulted; an operator retries or skips its event.
    InstanceFaulted "instance_faulted" Refused 409 AfterChange "the instance is faulted";
    /// The instance is paused.
    InstancePaused "instance_paused" Refused 409 AfterChange "the instance is paused";
    /// Too many events are postponed already.
    PostponeOverflow "postpone_overflow" Refused 409 AfterChange "too many postponed events";
    /// The command was postponed until its deadline and never taken.
    PostponeExpired "postpone_expired" Refused 409 AfterChange "postponed until its deadline";
    /// An expression of the definition failed on this input.
    EvaluationError "evaluation_error" Refused 409 AfterChange "an expression failed";
    /// A limit of the instance was reached.
    LimitExceeded "limit_exceeded" Refused 409 AfterChange "a limit was reached";
    /// The lease is no longer held.
    StaleLease "stale_lease" Refused 409 Never "the lease is no longer held";
    /// The instance is at another version than expected.
    VersionConflict "version_conflict" Conflict 412 ReadFirst "the instance is at another version";
    /// The idempotency key was used for another request.
    KeyReused "key_reused" Conflict 422 Never "the idempotency key was used for another request";
    /// The position asked for is no longer kept.
    Compacted "compacted" Missing 410 NewerPosition "that position is no longer kept";
    /// The idempotency key is older than receipts are kept.
    KeyExpired "key_expired" Missing 410 Never "the idempotency key is too old";
    /// The tenant's quota is used up.
    QuotaExceeded "quota_exceeded" Throttled 429 AfterDelay "the quota is used up";
    /// The node or shard has no room for more work.
    Overloaded "overloaded" Throttled 503 AfterDelay "overloaded";
    /// The shard has no leader that this node knows.
    NoLeader "no_leader" Unavailable 503 SameKey "the shard has no leader";
    /// The leader cannot reach a majority.
    NoQuorum "no_quorum" Unavailable 503 SameKey "the shard has no majority";
    /// The disk is full.
    StorageFull "storage_full" Unavailable 503 SameKey "the disk is full";
    /// The node is shutting down.
    Draining "draining" Unavailable 503 SameKey "the node is shutting down";
    /// This copy has not reached the wanted version in time.
    Behind "behind" Unavailable 503 SameKey "this copy is behind";
    /// The outcome is not known yet.
    DeadlineExceeded "deadline_exceeded" Unknown 504 SameKey "the outcome is not known yet";
    /// The instance keeps failing and was set aside.
    Quarantined "quarantined" Failed 500 Operator "the instance was set aside";
    /// Something is broken in Statehouse.
    Internal "internal" Failed 500 Operator "internal error";
}

impl fmt::Display for RejectionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for RejectionCode {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.code())
    }
}

/// Who said no: the way to the instance, or the instance itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ErrorSource {
    /// Anything before the instance: credential, form, limits, leadership.
    Gateway,
    /// The instance, judged at a version.
    Instance,
}

impl ErrorSource {
    /// Returns the word that stands in answers and in `X-Statehouse-Error-Source`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Instance => "instance",
        }
    }
}

/// One place where a payload does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Violation {
    /// JSON pointer into the payload.
    pub pointer: Box<str>,
    /// What is wrong there.
    pub message: Box<str>,
}

/// The only "no" that leaves the process.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Rejection {
    /// Why.
    pub code: RejectionCode,
    /// This occurrence in words: the place, the reason, the next step.
    pub detail: Box<str>,
    /// Who said it.
    pub source: ErrorSource,
    /// The version at which an instance judged it.
    pub version: Option<Version>,
    /// The active states at that version.
    pub configuration: Option<Vec<Box<str>>>,
    /// The events that the instance would accept there.
    pub accepts: Option<Vec<Box<str>>>,
    /// The author's own code, for [`RejectionCode::Rejected`].
    pub reason: Option<Box<str>>,
    /// Where the payload does not fit.
    pub violations: Vec<Violation>,
    /// After how many milliseconds a repeat makes sense.
    pub retry_after_ms: Option<u64>,
    /// More members of the problem document, such as `findings`.
    pub extensions: Vec<(Box<str>, Json)>,
}

impl Rejection {
    /// Returns a rejection by the gateway, with nothing but its reason.
    #[must_use]
    pub fn gateway(code: RejectionCode, detail: impl Into<Box<str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            source: ErrorSource::Gateway,
            version: None,
            configuration: None,
            accepts: None,
            reason: None,
            violations: Vec::new(),
            retry_after_ms: None,
            extensions: Vec::new(),
        }
    }

    /// Returns the same rejection with the delay after which a repeat makes sense.
    #[must_use]
    pub fn after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Writes the problem document (RFC 9457) as the client gets it.
    ///
    /// `place` is the path of what the request was about; it becomes the member `instance`.
    #[must_use]
    pub fn render(
        &self,
        place: &str,
        correlation: Option<&CorrelationId>,
        trace: &TraceContext,
    ) -> Json {
        let mut members = serde_json::Map::new();
        let mut put = |name: &str, value: serde_json::Value| members.insert(name.to_owned(), value);
        put("type", format!("/errors/{}", self.code.code()).into());
        put("title", self.code.title().into());
        put("status", self.code.status().into());
        put("detail", (*self.detail).into());
        put("instance", place.into());
        put("code", self.code.code().into());
        put("source", self.source.name().into());
        put("retryable", self.code.advice().is_retryable().into());
        put("advice", self.code.advice().text().into());
        if let Some(ms) = self.retry_after_ms {
            put("retry_after_ms", ms.into());
        }
        if let Some(id) = correlation {
            put("correlation_id", id.as_str().into());
        }
        if let Some(id) = trace.trace_id() {
            put("trace_id", id.into());
        }
        if let Some(version) = self.version {
            put("version", version.version.into());
        }
        let names = |list: &[Box<str>]| {
            list.iter().map(|name| (**name).into()).collect::<Vec<serde_json::Value>>()
        };
        if let Some(list) = &self.configuration {
            put("configuration", names(list).into());
        }
        if let Some(list) = &self.accepts {
            put("accepts", names(list).into());
        }
        if let Some(reason) = &self.reason {
            put("reason", (**reason).into());
        }
        if !self.violations.is_empty() {
            let list = serde_json::to_value(&self.violations).expect("two texts always serialize");
            put("violations", list);
        }
        for (name, value) in &self.extensions {
            put(name, value.to_value());
        }
        Json::from_value(&members.into())
    }
}

/// Writes code and detail, for logs and terminals.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.code())?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        f.write_str(": ")?;
        f.write_str(&self.detail)
    }
}

/// Returns the table of all codes as Markdown: the form in which the pages carry it.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("| code | class | status | retry |\n|---|---|---|---|\n");
    for code in RejectionCode::ALL {
        let row = format!(
            "| `{code}` | {} | {} | {} |",
            code.class().name(),
            code.status(),
            code.advice().text()
        );
        writeln!(text, "{row}").expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_back_and_has_a_fitting_status() {
        for code in RejectionCode::ALL {
            assert_eq!(RejectionCode::parse(code.code()), Some(*code));
            assert!((400..600).contains(&code.status()), "{code}");
            let is_certain_no = matches!(code.status(), 429 | 503);
            let is_busy =
                matches!(code.class(), OutcomeClass::Throttled | OutcomeClass::Unavailable);
            assert_eq!(is_certain_no, is_busy, "{code}");
        }
        assert_eq!(RejectionCode::parse("nonsense"), None);
    }

    #[test]
    fn a_problem_document_carries_what_a_client_needs() {
        let rejection = Rejection {
            version: Some(Version { born: 9, version: 3 }),
            configuration: Some(vec!["waiting".into()]),
            accepts: Some(vec!["approve".into()]),
            reason: Some("self_approval".into()),
            source: ErrorSource::Instance,
            ..Rejection::gateway(RejectionCode::Rejected, "Another person has to approve.")
        };
        let text = rejection.render("/v1/tenants/t/instances/a", None, &TraceContext::default());
        expect_test::expect![[r#"{"type":"/errors/rejected","title":"the workflow rejects this","status":409,"detail":"Another person has to approve.","instance":"/v1/tenants/t/instances/a","code":"rejected","source":"instance","retryable":false,"advice":"after the instance has changed, send a new command with a new key","version":3,"configuration":["waiting"],"accepts":["approve"],"reason":"self_approval"}"#]].assert_eq(text.as_str());
        assert_eq!(
            rejection.to_string(),
            "rejected (self_approval): Another person has to approve."
        );
    }
}
