//! Low-cardinality tags: the only words that may become labels of a metric.
//!
//! Tenant, instance, key, path and error text never do: cardinality is paid for every minute, for ever.

use bincode::{Decode, Encode};

/// How a request ended, for metrics and for people who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum OutcomeClass {
    /// Done, or the stored answer of what was done.
    Ok,
    /// Kept for a later state.
    Postponed,
    /// The request itself is wrong.
    Invalid,
    /// No credential, or one that may not.
    Denied,
    /// There is no such thing.
    Missing,
    /// Something else is there already, or has moved on.
    Conflict,
    /// The chart, or the instance's status, says no.
    Refused,
    /// Too much at once.
    Throttled,
    /// Nobody here can do it now.
    Unavailable,
    /// It may or may not have been done.
    Unknown,
    /// Something is broken.
    Failed,
}

impl OutcomeClass {
    /// Every class, for tables and metrics.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Postponed,
        Self::Invalid,
        Self::Denied,
        Self::Missing,
        Self::Conflict,
        Self::Refused,
        Self::Throttled,
        Self::Unavailable,
        Self::Unknown,
        Self::Failed,
    ];

    /// Returns the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Postponed => "postponed",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// What kind of work a measurement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Start of an instance.
    Start,
    /// A command to an instance.
    Send,
    /// A signal to an instance.
    Signal,
    /// An operator's verb.
    Operate,
    /// A fired timer or other due work.
    Fire,
    /// A task lease or report.
    Task,
    /// A change of definitions, tenants, keys, members.
    Admin,
    /// A read.
    Read,
}

impl Operation {
    /// Returns the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Send => "send",
            Self::Signal => "signal",
            Self::Operate => "operate",
            Self::Fire => "fire",
            Self::Task => "task",
            Self::Admin => "admin",
            Self::Read => "read",
        }
    }
}
