//! When to try again, and after how long: a pure function.
//!
//! The server's advice is obeyed as it stands: what it calls retryable is repeated with the same key, after the delay it
//! names, else with exponential backoff and full jitter. What it does not call retryable is never repeated, because a
//! repeat with the same key would only be given the same stored answer.
//!
//! Deliberately absent: clock and chance. Both are arguments, so that the policy is tested as a table.

use std::time::Duration;

use crate::outcome::Outcome;

const BACKOFF_MS_FIRST: u64 = 25;
const BACKOFF_MS_MAX: u64 = 2_000;

/// How long a call may take, in all and at each try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Time for the whole call, waits included.
    pub total: Duration,
    /// Time for one attempt.
    pub attempt: Duration,
    /// Most attempts; 1 never repeats. Servers that take no connection are left for the next one within one attempt.
    pub attempts_max: u32,
    /// Most attempts in a row in which no server took a connection.
    pub unreached_max: u32,
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This is the end of the call.
    Stop,
    /// Wait this long, then repeat with the same key, on another server if there is one.
    Again(Duration),
}

/// Decides what to do after an attempt.
///
/// `left` is what remains of the budget; `chance` is any number, fresh for each call.
pub fn decide(
    budget: &Budget,
    outcome: &Outcome,
    attempt: u32,
    left: Duration,
    chance: u64,
) -> Decision {
    let (is_retryable, told_ms) = match outcome {
        Outcome::Accepted(_) | Outcome::Postponed(_) => (false, None),
        Outcome::Rejected(problem) => (problem.retryable, problem.retry_after_ms),
        Outcome::Unknown(unknown) => {
            (true, unknown.problem.as_ref().and_then(|problem| problem.retry_after_ms))
        }
        Outcome::Failed(failure) => match &failure.problem {
            // No server was reached: nothing was said, and another may be up.
            None => (true, None),
            Some(problem) => (problem.retryable, problem.retry_after_ms),
        },
    };
    if !is_retryable || attempt >= budget.attempts_max {
        return Decision::Stop;
    }
    let wait = told_ms.map_or_else(|| backoff(attempt, chance), Duration::from_millis);
    if wait < left { Decision::Again(wait) } else { Decision::Stop }
}

/// Full jitter: anywhere between nothing and the step, so that clients that failed together do not return together.
fn backoff(attempt: u32, chance: u64) -> Duration {
    let step =
        BACKOFF_MS_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(BACKOFF_MS_MAX);
    Duration::from_millis(chance % step + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outcome::Failure, problem::tests::problem};

    const BUDGET: Budget = Budget {
        total: Duration::from_secs(30),
        attempt: Duration::from_secs(10),
        attempts_max: 5,
        unreached_max: 5,
    };

    fn after(status: u16, body: &'static str, left_ms: u64) -> Decision {
        let mut response = problem(status, body).response;
        response.headers.clear();
        decide(&BUDGET, &Outcome::of(response), 1, Duration::from_millis(left_ms), 7)
    }

    #[test]
    fn the_table_of_advice_is_obeyed() {
        let again = |ms| Decision::Again(Duration::from_millis(ms));
        assert_eq!(after(200, "{}", 1000), Decision::Stop);
        assert_eq!(after(202, "{}", 1000), Decision::Stop);
        assert_eq!(after(409, r#"{"code":"not_handled","retryable":false}"#, 1000), Decision::Stop);
        assert_eq!(after(412, r#"{"code":"version_conflict"}"#, 1000), Decision::Stop);
        assert_eq!(after(500, r#"{"code":"quarantined"}"#, 1000), Decision::Stop);
        assert_eq!(
            after(429, r#"{"code":"quota_exceeded","retry_after_ms":300}"#, 1000),
            again(300)
        );
        assert_eq!(after(503, r#"{"code":"overloaded","retry_after_ms":40}"#, 1000), again(40));
        assert_eq!(after(503, r#"{"code":"no_leader"}"#, 1000), again(8));
        assert_eq!(after(504, r#"{"code":"deadline_exceeded"}"#, 1000), again(8));
    }

    #[test]
    fn a_wait_that_does_not_fit_ends_the_call() {
        assert_eq!(
            after(429, r#"{"code":"quota_exceeded","retry_after_ms":300}"#, 300),
            Decision::Stop
        );
    }

    #[test]
    fn an_unreachable_server_is_tried_again_until_the_attempts_are_used_up() {
        let (key, why, tried) = (None, String::new(), Vec::new());
        let failure = Failure { key, why, problem: None, attempts: 1, tried };
        let outcome = Outcome::Failed(failure);
        let at = |attempt| decide(&BUDGET, &outcome, attempt, Duration::from_secs(9), 0);
        assert_eq!(at(4), Decision::Again(Duration::from_millis(1)));
        assert_eq!(at(5), Decision::Stop);
    }

    #[test]
    fn backoff_grows_to_its_limit_and_stays_there() {
        assert!(backoff(1, u64::MAX) <= Duration::from_millis(BACKOFF_MS_FIRST));
        assert!(backoff(60, u64::MAX) <= Duration::from_millis(BACKOFF_MS_MAX));
    }
}
