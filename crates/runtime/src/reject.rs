//! The only bridge from our errors to `Rejection`, variant by variant.
//!
//! The rule that everything here serves (`contract.md`, section 5): 503, 429 and 500 are certain. They are said only while
//! nothing was proposed. Once an entry is on its way, whatever cannot say yes or no ends as `deadline_exceeded`: unknown,
//! ask again with the same key.
//!
//! Absent on purpose: HTTP. The code knows its status; the edge writes it.

use statehouse_chart::{Refusal, RefusalKind};
use statehouse_contract::{ErrorSource, Rejection, RejectionCode, Version, Violation};
use statehouse_log::{ProposeError, ReadError};

/// Returns the rejection for the chart's no.
#[must_use]
pub fn from_refusal(refusal: &Refusal) -> Rejection {
    let accepts = refusal.accepts.iter().map(|event| event.as_str().into()).collect();
    let accepts = is_about_events(&refusal.kind).then_some(accepts);
    Rejection { accepts, ..from_kind(&refusal.kind) }
}

/// Returns the rejection for a reason alone: a postponed command that was refused at last.
#[must_use]
pub fn from_kind(kind: &RefusalKind) -> Rejection {
    let code = match kind {
        RefusalKind::UnknownEvent => RejectionCode::UnknownEvent,
        RefusalKind::NotHandled | RefusalKind::WrongStatus | RefusalKind::CannotMove { .. } => {
            RejectionCode::NotHandled
        }
        RefusalKind::GuardRefused => RejectionCode::GuardRefused,
        RefusalKind::Rejected { .. } => RejectionCode::Rejected,
        RefusalKind::InstanceFinished => RejectionCode::InstanceFinished,
        RefusalKind::InstanceFaulted => RejectionCode::InstanceFaulted,
        RefusalKind::InstancePaused => RejectionCode::InstancePaused,
        RefusalKind::PostponeOverflow => RejectionCode::PostponeOverflow,
        RefusalKind::PostponeExpired => RejectionCode::PostponeExpired,
        RefusalKind::EvaluationError(_) => RejectionCode::EvaluationError,
        RefusalKind::LimitExceeded { .. } => RejectionCode::LimitExceeded,
        RefusalKind::InvalidPayload { .. } => RejectionCode::InvalidPayload,
        // A client names no timer; a task that is no longer open is a lease that is no longer held.
        RefusalKind::Stale => RejectionCode::StaleLease,
        RefusalKind::Forbidden { .. } => RejectionCode::Forbidden,
    };
    let violations = if let RefusalKind::InvalidPayload { violations } = kind {
        violations.iter().map(violation).collect()
    } else {
        Vec::new()
    };
    Rejection {
        source: ErrorSource::Instance,
        reason: kind.reason().map(Into::into),
        violations,
        ..Rejection::gateway(code, kind.message())
    }
}

fn violation(found: &statehouse_chart::Violation) -> Violation {
    Violation { pointer: found.pointer.as_str().into(), message: found.message.as_str().into() }
}

/// What the instance would accept helps those whose event was not taken, and nobody else.
const fn is_about_events(kind: &RefusalKind) -> bool {
    match kind {
        RefusalKind::UnknownEvent | RefusalKind::NotHandled | RefusalKind::GuardRefused => true,
        RefusalKind::Rejected { .. }
        | RefusalKind::InstanceFinished
        | RefusalKind::InstanceFaulted
        | RefusalKind::InstancePaused
        | RefusalKind::PostponeOverflow
        | RefusalKind::PostponeExpired
        | RefusalKind::EvaluationError(_)
        | RefusalKind::LimitExceeded { .. }
        | RefusalKind::InvalidPayload { .. }
        | RefusalKind::Stale
        | RefusalKind::WrongStatus
        | RefusalKind::Forbidden { .. }
        | RefusalKind::CannotMove { .. } => false,
    }
}

/// Returns a rejection that an instance gave, without more than its words.
#[must_use]
pub fn by_instance(code: RejectionCode, detail: impl Into<Box<str>>) -> Rejection {
    Rejection { source: ErrorSource::Instance, ..Rejection::gateway(code, detail) }
}

/// Returns the answer to a key that was used for another request.
#[must_use]
pub fn key_reused(version: Option<Version>) -> Rejection {
    let detail = "this idempotency key was used for another request; use a new key";
    Rejection { version, ..by_instance(RejectionCode::KeyReused, detail) }
}

/// Returns the answer when nobody knows yet whether it was done.
#[must_use]
pub fn unknown() -> Rejection {
    let detail = "the outcome is not known yet; ask again with the same key";
    Rejection::gateway(RejectionCode::DeadlineExceeded, detail)
}

/// Returns the answer of a leader that is about to step down, or has to begin anew: certainly not done here.
#[must_use]
pub fn not_proposed_here() -> Rejection {
    let detail = "this shard is changing its leader; nothing was done";
    Rejection::gateway(RejectionCode::NoLeader, detail).after_ms(50)
}

/// Turns a "certainly not done" into what it is worth after an attempt whose outcome is unknown.
#[must_use]
pub fn after_unknown(no: Rejection) -> Rejection {
    match no.code.status() {
        429 | 500 | 503 => unknown(),
        _ => no,
    }
}

/// Returns the answer to a command that came to the wrong part of the house.
#[must_use]
pub fn misdirected(detail: &str) -> Rejection {
    Rejection::gateway(RejectionCode::InvalidRequest, detail)
}

/// Returns the answer of what a later release does.
#[must_use]
pub fn not_in_this_release(what: &str) -> Rejection {
    let detail = format!("{what} is not in this release");
    Rejection::gateway(RejectionCode::InvalidRequest, detail)
}

/// Returns the answer to a proposal that was certainly not written; nothing when nobody knows.
#[must_use]
pub fn from_propose(why: ProposeError) -> Option<Rejection> {
    let no = |code, detail: &str| Some(Rejection::gateway(code, detail));
    match why {
        ProposeError::NotLeader { .. } => {
            no(RejectionCode::NoLeader, "this node does not lead the shard")
                .map(|no| no.after_ms(100))
        }
        ProposeError::NoQuorum => no(RejectionCode::NoQuorum, "the leader cannot reach a majority")
            .map(|no| no.after_ms(500)),
        ProposeError::StorageFull => {
            no(RejectionCode::StorageFull, "the disk of this node is full; nothing was written")
                .map(|no| no.after_ms(2_000))
        }
        ProposeError::Overloaded => {
            no(RejectionCode::Overloaded, "the log has as much to write as it may")
                .map(|no| no.after_ms(100))
        }
        ProposeError::TooLarge { .. } => {
            no(RejectionCode::LimitExceeded, "the change is larger than an entry of the log may be")
        }
        ProposeError::Stopped => no(RejectionCode::NoLeader, "the shard has stopped on this node")
            .map(|no| no.after_ms(1_000)),
        ProposeError::Unknown => None,
    }
}

/// Returns the answer to a read that has no position to read at.
#[must_use]
pub fn from_read(why: &ReadError) -> Rejection {
    let (code, detail) = match why {
        ReadError::NotLeader { .. } => {
            (RejectionCode::NoLeader, "this node does not lead the shard")
        }
        ReadError::NoQuorum => (RejectionCode::NoQuorum, "the leader cannot reach a majority"),
        ReadError::Stopped => (RejectionCode::NoLeader, "the shard has stopped on this node"),
    };
    Rejection::gateway(code, detail).after_ms(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certain_no_of_the_log_is_certain_for_the_client_and_unknown_stays_unknown() {
        let said = |why| from_propose(why).map(|no| (no.code.code(), no.code.status()));
        assert_eq!(said(ProposeError::NotLeader { hint: None }), Some(("no_leader", 503)));
        assert_eq!(said(ProposeError::NoQuorum), Some(("no_quorum", 503)));
        assert_eq!(said(ProposeError::StorageFull), Some(("storage_full", 503)));
        assert_eq!(said(ProposeError::Overloaded), Some(("overloaded", 503)));
        assert_eq!(said(ProposeError::TooLarge { bytes: 9 }), Some(("limit_exceeded", 409)));
        assert_eq!(said(ProposeError::Stopped), Some(("no_leader", 503)));
        assert_eq!(said(ProposeError::Unknown), None);
    }

    #[test]
    fn after_an_unknown_attempt_no_not_now_is_certain_any_more() {
        for code in RejectionCode::ALL {
            let later = after_unknown(Rejection::gateway(*code, "x")).code;
            let is_certain = !matches!(code.status(), 429 | 500 | 503);
            let expected = if is_certain { *code } else { RejectionCode::DeadlineExceeded };
            assert_eq!(later, expected, "{code}");
        }
    }

    #[test]
    fn every_refusal_of_the_chart_has_the_code_that_the_chart_gives_it() {
        let evaluation = statehouse_chart::EvaluationError {
            expression: "1/0".to_owned(),
            place: "/states/a".to_owned(),
            why: "division by zero".to_owned(),
        };
        let kinds = [
            RefusalKind::UnknownEvent,
            RefusalKind::NotHandled,
            RefusalKind::WrongStatus,
            RefusalKind::GuardRefused,
            RefusalKind::Rejected { code: "own".to_owned(), message: None },
            RefusalKind::InstanceFinished,
            RefusalKind::InstanceFaulted,
            RefusalKind::InstancePaused,
            RefusalKind::PostponeOverflow,
            RefusalKind::PostponeExpired,
            RefusalKind::EvaluationError(evaluation),
            RefusalKind::LimitExceeded { limit: "timers".to_owned() },
            RefusalKind::InvalidPayload { violations: Vec::new() },
            RefusalKind::Forbidden { role: "warden".to_owned() },
            RefusalKind::CannotMove { why: "no".to_owned() },
        ];
        for kind in kinds {
            let no = from_kind(&kind);
            assert_eq!(no.code.code(), kind.code());
            assert_eq!(no.source, ErrorSource::Instance);
            assert_eq!(no.reason.as_deref(), kind.reason());
        }
    }
}
