//! How old a copy may be.
//!
//! A follower numbers its answers to appends (an *echo*) and remembers when it sent each. The leader puts the
//! latest echo that it has got into its next append: what such an append says was therefore true after that
//! echo was sent, by the follower's own clock and nobody else's. A commit position so vouched for makes the copy
//! as fresh as that moment once it is applied here.
//!
//! A leader's copy is as fresh as the last moment at which a majority answered it.
//!
//! Absent on purpose: clocks of other nodes, and any promise: whoever needs one asks for a ReadIndex.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Echoes that are remembered. Appends of one leader are answered within a few.
const ECHOES_MAX: usize = 256;

/// What a follower knows about the freshness of its copy.
#[derive(Debug)]
pub(crate) struct Freshness(Mutex<Known>);

impl Default for Freshness {
    fn default() -> Self {
        // A replica that was restarted must not take an echo of its former life for one of this.
        let first = RandomState::new().build_hasher().finish() / 2;
        Self(Mutex::new(Known { next: first, ..Known::default() }))
    }
}

#[derive(Debug, Default)]
struct Known {
    next: u64,
    sent: VecDeque<(u64, Instant)>,
    /// Commit positions with the moment after which they were true, rising in both.
    vouched: VecDeque<(u64, Instant)>,
    fresh_at: Option<Instant>,
}

impl Freshness {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the echo of an answer that is sent now.
    pub(crate) fn echo(&self, now: Instant) -> u64 {
        let mut known = self.known();
        known.next += 1;
        let echo = known.next;
        if known.sent.len() == ECHOES_MAX {
            known.sent.pop_front();
        }
        known.sent.push_back((echo, now));
        echo
    }

    /// Takes what an accepted append vouches for: the echo that it answers, and the commit position it carries.
    pub(crate) fn vouch(&self, echo: u64, committed: Option<u64>) {
        let mut known = self.known();
        let Ok(place) = known.sent.binary_search_by_key(&echo, |(echo, _)| *echo) else { return };
        let at = known.sent[place].1;
        let committed = committed.map_or(0, |position| position + 1);
        if known.vouched.back().is_some_and(|(_, before)| *before >= at) {
            return;
        }
        if known.vouched.len() == ECHOES_MAX {
            known.vouched.pop_front();
        }
        known.vouched.push_back((committed, at));
    }

    /// Returns how old the copy is that has applied so much; nothing if nobody has vouched for it yet.
    pub(crate) fn age(&self, applied: Option<u64>, now: Instant) -> Option<Duration> {
        let mut known = self.known();
        let reached = applied.map_or(0, |position| position + 1);
        while let Some((committed, at)) = known.vouched.front().copied() {
            if committed > reached {
                break;
            }
            known.fresh_at = Some(at);
            known.vouched.pop_front();
        }
        known.fresh_at.map(|at| now.saturating_duration_since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_as_old_as_the_echo_whose_commit_it_has_applied() {
        let (fresh, begin) = (Freshness::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(fresh.age(Some(9), at(0)), None, "nobody has vouched");
        let first = fresh.echo(at(10));
        let second = fresh.echo(at(50));
        fresh.vouch(first, Some(5));
        fresh.vouch(second, Some(8));
        assert_eq!(fresh.age(Some(4), at(60)), None, "what was vouched for is not applied");
        assert_eq!(fresh.age(Some(5), at(60)), Some(Duration::from_millis(50)));
        assert_eq!(fresh.age(Some(8), at(60)), Some(Duration::from_millis(10)));
        // Silence makes it older, and an echo that was never sent vouches for nothing.
        fresh.vouch(second + 1, Some(9));
        assert_eq!(fresh.age(Some(9), at(1_060)), Some(Duration::from_millis(1_010)));
    }

    #[test]
    fn an_empty_shard_is_fresh_too_and_an_old_echo_takes_nothing_back() {
        let (fresh, begin) = (Freshness::default(), Instant::now());
        let old = fresh.echo(begin);
        let new = fresh.echo(begin + Duration::from_millis(5));
        fresh.vouch(new, None);
        fresh.vouch(old, None);
        let now = begin + Duration::from_millis(6);
        assert_eq!(fresh.age(None, now), Some(Duration::from_millis(1)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (fresh, begin) = (Freshness::default(), Instant::now());
        for _ in 0..(3 * ECHOES_MAX) {
            let echo = fresh.echo(begin);
            fresh.vouch(echo, Some(1_000_000));
        }
        let known = fresh.known();
        assert!(known.sent.len() <= ECHOES_MAX && known.vouched.len() <= ECHOES_MAX);
    }
}
