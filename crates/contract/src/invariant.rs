//! The laws of the house, and the macro that checks them in every build.
//!
//! A broken law stops the smallest supervised domain that contains it, by a panic, instead of letting
//! wrong data through. The count of broken laws is a metric; whoever runs the process installs the hook
//! that counts them with [`on_violation`].
//!
//! Outside input never reaches an invariant; outside input gets a rejection.

use std::sync::OnceLock;

/// A law of the house (see `runbooks/develop/house.md`, section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InvariantId {
    /// Replicas of a shard apply the same entries in the same order.
    Order,
    /// A receipt, once given, is in every later leader's log.
    Durable,
    /// One instance and key make at most one transition.
    Once,
    /// An entry decided under an older term, or at another version, changes no row.
    Fence,
    /// Stepping over an instance's history yields its stored snapshot.
    Replay,
    /// A timer fires at most once, never early, never after its state was left.
    Timer,
    /// A task has at most one live lease; a stale token completes nothing.
    Lease,
    /// Nothing of one tenant is reachable by another.
    Tenant,
    /// A transition and its effects commit together or not at all.
    Together,
    /// Every queue, batch, payload, cache and retry has a limit.
    Bound,
    /// Every admitted command is answered by its deadline.
    Answer,
    /// With a majority alive, a shard accepts commands again within the recovery budget.
    Recover,
}

impl InvariantId {
    /// Returns the law's name as the house page and the metrics write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "ORDER",
            Self::Durable => "DURABLE",
            Self::Once => "ONCE",
            Self::Fence => "FENCE",
            Self::Replay => "REPLAY",
            Self::Timer => "TIMER",
            Self::Lease => "LEASE",
            Self::Tenant => "TENANT",
            Self::Together => "TOGETHER",
            Self::Bound => "BOUND",
            Self::Answer => "ANSWER",
            Self::Recover => "RECOVER",
        }
    }
}

static HOOK: OnceLock<fn(InvariantId)> = OnceLock::new();

/// Installs the function that counts violations; the first caller wins.
pub fn on_violation(hook: fn(InvariantId)) {
    let _ = HOOK.set(hook);
}

/// Counts a violation and panics. Called by [`invariant!`](crate::invariant!) only.
///
/// # Panics
/// Always: that is its purpose.
#[track_caller]
#[cold]
pub fn violated(law: InvariantId, what: &str) -> ! {
    if let Some(hook) = HOOK.get() {
        hook(law);
    }
    panic!("invariant {} broken: {what}", law.name());
}

/// Checks a law in every build; a violation panics, so that the smallest supervised domain dies.
#[macro_export]
macro_rules! invariant {
    ($law:expr, $holds:expr, $($message:tt)+) => {
        if !$holds {
            $crate::invariant::violated($law, &format!($($message)+));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_law_panics_with_its_name() {
        let outcome = std::panic::catch_unwind(|| {
            invariant!(InvariantId::Fence, 1 == 2, "expected {}, found {}", 1, 2);
        });
        let panic = outcome.expect_err("the law is broken");
        let text = panic.downcast_ref::<String>().expect("the message is a string");
        assert_eq!(text, "invariant FENCE broken: expected 1, found 2");
    }
}
