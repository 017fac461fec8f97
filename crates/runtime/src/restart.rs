//! Restart policy: what follows when a supervised child ends. Pure: times come in, a verdict goes out.
//!
//! The actor library reports a death and leaves the rest to us. Here is the rest: who is started again, in which order,
//! after which pause, how often, and what happens when that was not enough. The tree (`tree.rs`) and the gateway
//! (`shard_actor.rs`) carry the verdicts out.
//!
//! Burst and sustained rate are chosen apart: `Intensity` bounds the burst, `Backoff` spreads it out. Intensities multiply
//! upwards, so they shrink upwards.
//!
//! Absent on purpose: clocks, actors, names. A child is its place in the order of starting.
//!
//! Invariants: a verdict never starts a child before one that stands earlier in the order; the memory of a child's deaths
//! is bounded by its intensity.

use std::collections::VecDeque;

#[cfg(test)]
mod tests;

/// When a child that has ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Always.
    Permanent,
    /// Only after a failure.
    Transient,
    /// Never.
    Temporary,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was done, or was asked to stop.
    Normal,
    /// It panicked, broke an invariant, returned an error, was killed, or could not start.
    Failed,
}

/// Whom a death concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The one child.
    OneForOne,
    /// All children.
    OneForAll,
    /// The child and all that were started after it.
    RestForOne,
    /// The one child, of many equal ones that come and go; past its intensity it alone is set aside.
    Dynamic,
}

/// How many restarts are borne within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// So many restarts.
    pub restarts: u32,
    /// Within so many milliseconds.
    pub window_ms: u64,
}

/// The pause before a restart: none before the first of a window, then doubling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The pause before the second restart of a window.
    pub first_ms: u64,
    /// The longest pause.
    pub max_ms: u64,
}

/// A supervisor's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whom a death concerns.
    pub strategy: Strategy,
    /// How many restarts are borne.
    pub intensity: Intensity,
    /// The pauses between them.
    pub backoff: Backoff,
}

/// What to do about a death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it was meant to end.
    Leave,
    /// Stop the running ones of these children in reverse order, wait, then start them in order.
    Restart {
        /// Their places in the order of starting.
        children: Vec<usize>,
        /// The pause before the first start.
        after_ms: u64,
    },
    /// Set this child aside; the others do not notice.
    Quarantine,
    /// The supervisor itself fails: stop everything and tell the one above.
    Escalate,
}

/// The deaths that still count: of a supervisor, or under [`Strategy::Dynamic`] of one child.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    times_ms: VecDeque<u64>,
}

impl Deaths {
    /// Counts a death at `now_ms` of a monotonic clock; returns how many count now, this one included.
    fn count(&mut self, now_ms: u64, intensity: Intensity) -> u32 {
        self.forget(now_ms, intensity);
        self.times_ms.push_back(now_ms);
        while self.times_ms.len() > intensity.restarts as usize + 1 {
            self.times_ms.pop_front();
        }
        u32::try_from(self.times_ms.len()).unwrap_or(u32::MAX)
    }

    /// Forgets what is older than the window; returns whether nothing is left to remember.
    pub fn forget(&mut self, now_ms: u64, intensity: Intensity) -> bool {
        while self
            .times_ms
            .front()
            .is_some_and(|died| now_ms.saturating_sub(*died) >= intensity.window_ms)
        {
            self.times_ms.pop_front();
        }
        self.times_ms.is_empty()
    }
}

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Its place in the order of starting.
    pub child: usize,
    /// When it is started again.
    pub lifetime: Lifetime,
    /// How it ended.
    pub exit: Exit,
    /// When, on a monotonic clock.
    pub now_ms: u64,
}

/// Decides what follows from a death, among `children` children in all.
pub fn judge(policy: Policy, deaths: &mut Deaths, children: usize, death: Death) -> Verdict {
    let is_meant = match (death.lifetime, death.exit) {
        (Lifetime::Temporary, _) | (Lifetime::Transient, Exit::Normal) => true,
        (Lifetime::Permanent, _) | (Lifetime::Transient, Exit::Failed) => false,
    };
    if is_meant {
        return Verdict::Leave;
    }
    let counted = deaths.count(death.now_ms, policy.intensity);
    if counted > policy.intensity.restarts {
        return match policy.strategy {
            Strategy::Dynamic => Verdict::Quarantine,
            Strategy::OneForOne | Strategy::OneForAll | Strategy::RestForOne => Verdict::Escalate,
        };
    }
    let concerned = match policy.strategy {
        Strategy::OneForOne | Strategy::Dynamic => vec![death.child],
        Strategy::OneForAll => (0..children).collect(),
        Strategy::RestForOne => (death.child..children).collect(),
    };
    Verdict::Restart { children: concerned, after_ms: pause_ms(policy.backoff, counted) }
}

/// Returns the pause before the n-th restart of a window, from 1.
fn pause_ms(backoff: Backoff, n: u32) -> u64 {
    match n {
        0 | 1 => 0,
        _ => {
            let doubled = backoff.first_ms.saturating_mul(1_u64 << (n - 2).min(32));
            doubled.min(backoff.max_ms)
        }
    }
}
