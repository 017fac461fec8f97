//! Refusals: the chart's no. Nothing moved, nothing is to be written but the answer.
//!
//! A refusal says why in a closed list of kinds whose codes are those of the API, and what the instance would accept now.
//! It is not an error: the chart works, the caller has to think.
//!
//! Deliberately absent: HTTP statuses, retry advice, versions (the caller of `step` knows them).

use bincode::{Decode, Encode};

/// An evaluation that failed: which expression, where, why.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EvaluationError {
    /// The CEL, or a description where no CEL is to blame.
    pub expression: String,
    /// The JSON pointer into the definition.
    pub place: String,
    /// What went wrong. Never a value of the instance.
    pub why: String,
}

/// A place in a payload that does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Violation {
    /// The JSON pointer into the payload.
    pub pointer: String,
    /// What is wrong there. Never the value itself.
    pub message: String,
}

/// Why the chart says no.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RefusalKind {
    /// No command or signal of that name is declared.
    UnknownEvent,
    /// Nothing active takes it.
    NotHandled,
    /// Something active would take it, but its guards say no.
    GuardRefused,
    /// The author's own `reject`.
    Rejected {
        /// The author's code.
        code: String,
        /// The author's message.
        message: Option<String>,
    },
    /// The instance has ended.
    InstanceFinished,
    /// The instance is faulted and waits for an operator.
    InstanceFaulted,
    /// The instance is paused.
    InstancePaused,
    /// Too many postponed events, or too large ones.
    PostponeOverflow,
    /// It stayed postponed until its deadline.
    PostponeExpired,
    /// An expression failed.
    EvaluationError(EvaluationError),
    /// A limit of the definition or the platform.
    LimitExceeded {
        /// The limit's name.
        limit: String,
    },
    /// The payload does not fit the declared schema.
    InvalidPayload {
        /// Every place that does not fit.
        violations: Vec<Violation>,
    },
    /// The trigger names a timer or task that is no longer open: nothing is to be written.
    Stale,
    /// The verb does not fit the instance's status, for example a retry of what is not faulted.
    WrongStatus,
    /// The definition's role for this command is not held; said by the caller of `step`, here for one list of codes.
    Forbidden {
        /// The role that it takes.
        role: String,
    },
    /// The instance has no place where it was to go: in another version of its definition, or in a life of its own.
    CannotMove {
        /// Why, and what would help.
        why: String,
    },
}

impl RefusalKind {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownEvent => "unknown_event",
            Self::NotHandled | Self::WrongStatus | Self::CannotMove { .. } => "not_handled",
            Self::GuardRefused => "guard_refused",
            Self::Rejected { .. } => "rejected",
            Self::InstanceFinished => "instance_finished",
            Self::InstanceFaulted => "instance_faulted",
            Self::InstancePaused => "instance_paused",
            Self::PostponeOverflow => "postpone_overflow",
            Self::PostponeExpired => "postpone_expired",
            Self::EvaluationError(_) => "evaluation_error",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::InvalidPayload { .. } => "invalid_payload",
            Self::Stale => "stale",
            Self::Forbidden { .. } => "forbidden",
        }
    }

    /// Returns the code that the definition's author gave, if this is a `reject`.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        if let Self::Rejected { code, .. } = self { Some(code) } else { None }
    }

    /// Returns what a person reads.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::UnknownEvent => "the definition declares no such event".to_owned(),
            Self::NotHandled => "nothing that is active takes this event".to_owned(),
            Self::GuardRefused => "every guard for this event said no".to_owned(),
            Self::Rejected { code, message } => message.clone().unwrap_or_else(|| code.clone()),
            Self::InstanceFinished => "the instance has ended".to_owned(),
            Self::InstanceFaulted => "the instance is faulted and waits for an operator".to_owned(),
            Self::InstancePaused => "the instance is paused".to_owned(),
            Self::PostponeOverflow => {
                "the instance keeps as many postponed events as it may".to_owned()
            }
            Self::PostponeExpired => "the command stayed postponed until its deadline".to_owned(),
            Self::EvaluationError(error) if error.expression.is_empty() => {
                format!("evaluating {} failed: {}", error.place, error.why)
            }
            Self::EvaluationError(error) => {
                format!(
                    "evaluating `{}` at {} failed: {}",
                    error.expression, error.place, error.why
                )
            }
            Self::LimitExceeded { limit } => format!("the limit `{limit}` is exceeded"),
            Self::InvalidPayload { violations } => match violations.first() {
                Some(first) if first.pointer.is_empty() => {
                    format!("the payload does not fit its schema: {}", first.message)
                }
                Some(first) => format!(
                    "the payload does not fit its schema at {}: {}",
                    first.pointer, first.message
                ),
                None => "the payload does not fit its schema".to_owned(),
            },
            Self::Stale => "no such timer or task is open".to_owned(),
            Self::WrongStatus => "the instance's status does not allow this".to_owned(),
            Self::Forbidden { role } => format!("this takes the role `{role}`"),
            Self::CannotMove { why } => why.clone(),
        }
    }
}

/// The chart's no, with what it would accept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[error("{}: {}", kind.code(), kind.message())]
pub struct Refusal {
    /// Why.
    pub kind: RefusalKind,
    /// The commands and signals that something active has a candidate for, sorted.
    pub accepts: Vec<String>,
}
