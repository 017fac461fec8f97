//! What a caller knows after a call.
//!
//! Five ends, never folded into fewer: "certainly failed" may be repeated freely, "unknown" only with the same key,
//! "rejected" not at all as it is.
//!
//! Invariant: once an attempt of a call may have taken effect, the call ends as `Failed` no more. A later 503 speaks of
//! its own attempt, not of the earlier one.

use statehouse_contract::OutcomeClass;

use crate::{problem::Problem, response::Response};

/// The end of a call.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Done, now or by an earlier attempt; for a read, read.
    Accepted(Response),
    /// Accepted and kept for later; the answer carries the ticket.
    Postponed(Response),
    /// Judged, or wrong in itself, and certainly not done.
    Rejected(Problem),
    /// It may have taken effect or may yet. Ask again with the same key.
    Unknown(Unknown),
    /// Certainly not done, and nothing was judged.
    Failed(Failure),
}

/// What is known of an outcome that is not known.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// The key to ask again with.
    pub key: Option<String>,
    /// What happened last.
    pub why: String,
    /// The last answer, if the last attempt got one.
    pub problem: Option<Problem>,
    /// How many attempts were made.
    pub attempts: u32,
    /// The servers that were tried, each once, in the order of their first attempts.
    pub tried: Vec<String>,
}

/// Why nothing was done.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The key that was used.
    pub key: Option<String>,
    /// What happened last.
    pub why: String,
    /// The last answer; none when no server was reached.
    pub problem: Option<Problem>,
    /// How many attempts were made.
    pub attempts: u32,
    /// The servers that were tried, each once, in the order of their first attempts.
    pub tried: Vec<String>,
}

/// An end that is not the wanted one, as an error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// Judged and refused.
    #[error("{0}")]
    Rejected(Box<Problem>),
    /// It may have taken effect.
    #[error("the outcome is unknown: {}", .0.why)]
    Unknown(Box<Unknown>),
    /// Certainly not done.
    #[error("not done: {}", .0.why)]
    Failed(Box<Failure>),
}

impl Outcome {
    /// Returns the answer of an accepted or postponed call, and everything else as an error.
    ///
    /// # Errors
    /// The call was rejected, failed, or its outcome is unknown.
    pub fn done(self) -> Result<Response, CallError> {
        match self {
            Self::Accepted(response) | Self::Postponed(response) => Ok(response),
            Self::Rejected(problem) => Err(CallError::Rejected(Box::new(problem))),
            Self::Unknown(unknown) => Err(CallError::Unknown(Box::new(unknown))),
            Self::Failed(failure) => Err(CallError::Failed(Box::new(failure))),
        }
    }

    /// Returns the answer, whatever it says; none when no server gave one.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::Accepted(response) | Self::Postponed(response) => Some(response),
            Self::Rejected(problem) => Some(&problem.response),
            Self::Unknown(unknown) => unknown.problem.as_ref().map(|problem| &problem.response),
            Self::Failed(failure) => failure.problem.as_ref().map(|problem| &problem.response),
        }
    }

    /// Tells whether no connection to the server could be made.
    pub(crate) fn is_unreached(&self) -> bool {
        matches!(self, Self::Failed(Failure { problem: None, .. }))
    }

    /// Tells whether the request went out and nothing came back.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Unknown(Unknown { problem: None, .. }))
    }

    /// Tells whether the server turned the request away for lack of room: it need not be the wrong server.
    pub(crate) fn is_from_a_busy_server(&self) -> bool {
        let Self::Failed(Failure { problem: Some(problem), .. }) = self else { return false };
        problem.code.is_some_and(|code| code.class() == OutcomeClass::Throttled)
    }

    /// Returns this end with the servers that all attempts of its call went to.
    pub(crate) fn after_trying(mut self, servers: Vec<String>) -> Self {
        match &mut self {
            Self::Unknown(Unknown { tried, .. }) | Self::Failed(Failure { tried, .. }) => {
                *tried = servers;
            }
            Self::Accepted(_) | Self::Postponed(_) | Self::Rejected(_) => (),
        }
        self
    }

    /// Reads one attempt's answer.
    pub(crate) fn of(response: Response) -> Self {
        match response.status {
            202 => Self::Postponed(response),
            200..=299 => Self::Accepted(response),
            _ => {
                let problem = Problem::read(response);
                let (key, attempts) = (problem.response.key.clone(), problem.response.attempts);
                let why = problem.to_string();
                if problem.is_unknown() {
                    let tried = vec![problem.response.server.clone()];
                    Self::Unknown(Unknown { key, why, problem: Some(problem), attempts, tried })
                } else if problem.is_failure() {
                    let tried = vec![problem.response.server.clone()];
                    Self::Failed(Failure { key, why, problem: Some(problem), attempts, tried })
                } else {
                    Self::Rejected(problem)
                }
            }
        }
    }

    /// Returns this end as the end of a call that may have taken effect before.
    ///
    /// An answer that the instance gave is stored under the key and settles the doubt; one that the way to it gave
    /// (no credential, no such tenant, a key too old) does not.
    pub(crate) fn after_doubt(self) -> Self {
        match self {
            Self::Failed(Failure { key, why, problem, attempts, tried }) => {
                Self::Unknown(Unknown { key, why, problem, attempts, tried })
            }
            Self::Rejected(problem) if !problem.is_from_instance => Self::Unknown(Unknown {
                key: problem.response.key.clone(),
                why: problem.to_string(),
                attempts: problem.response.attempts,
                tried: vec![problem.response.server.clone()],
                problem: Some(problem),
            }),
            settled @ (Self::Accepted(_)
            | Self::Postponed(_)
            | Self::Rejected(_)
            | Self::Unknown(_)) => settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::tests::problem;

    #[test]
    fn a_failure_after_doubt_is_still_in_doubt() {
        let failed = Outcome::of(problem(503, r#"{"code":"no_leader"}"#).response);
        assert!(matches!(failed, Outcome::Failed(_)));
        assert!(matches!(failed.after_doubt(), Outcome::Unknown(_)));
    }

    #[test]
    fn the_instances_own_answer_settles_a_doubt_and_a_gateways_does_not() {
        let judged =
            Outcome::of(problem(409, r#"{"code":"not_handled","source":"instance"}"#).response);
        assert!(matches!(judged.after_doubt(), Outcome::Rejected(_)));
        let denied =
            Outcome::of(problem(401, r#"{"code":"unauthenticated","source":"gateway"}"#).response);
        assert!(matches!(denied.after_doubt(), Outcome::Unknown(_)));
    }

    #[test]
    fn each_end_becomes_its_own_error() {
        let done = |status, body| Outcome::of(problem(status, body).response).done();
        assert!(done(201, "{}").is_ok());
        assert!(done(202, "{}").is_ok());
        assert!(matches!(done(409, "{}"), Err(CallError::Rejected(_))));
        assert!(matches!(done(503, r#"{"code":"no_leader"}"#), Err(CallError::Failed(_))));
        assert!(matches!(done(504, "{}"), Err(CallError::Unknown(_))));
    }

    #[test]
    fn what_no_node_has_said_settles_nothing_and_a_redirect_has_done_nothing() {
        let done = |status, body| Outcome::of(problem(status, body).response).done();
        // Something between us and the node; it may have passed the request on before.
        for status in [408, 500, 502, 503, 520, 524] {
            assert!(matches!(done(status, "<html>"), Err(CallError::Unknown(_))), "{status}");
        }
        for status in [100, 301, 302, 304, 308] {
            assert!(matches!(done(status, ""), Err(CallError::Rejected(_))), "{status}");
        }
    }
}
