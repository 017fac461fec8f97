//! How long each shard went without an acknowledged command.
//!
//! The one figure that says what a failover cost those whose instances it met: from the last answer before it to the
//! first one after it, as the clients saw both. Times come in as arguments, so the same run always gives the same gaps.
//!
//! Deliberately absent: why. A shard that nobody asked has no gap; one that was asked too seldom to show a failover has
//! a long one, which is the load's fault.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A gap that is shown to people.
const SHOWN_MS_MIN: f64 = 100.0;

/// The longest time that a shard went without an acknowledged command.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The shard.
    pub shard: u32,
    /// When it began, in milliseconds since the measuring began.
    pub from: f64,
    /// How long it was, in milliseconds.
    pub ms: f64,
}

/// Follows the acknowledgements of a run; all times are since the measuring began and come in order.
#[derive(Clone, Debug)]
pub(crate) struct Gaps {
    shards: Vec<Line>,
}

/// One shard's.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    is_asked: bool,
    last: Duration,
    from: Duration,
    longest: Duration,
}

impl Gaps {
    /// Begins with so many shards.
    pub(crate) fn new(shards: u32) -> Self {
        Self { shards: (0..shards).map(|_| Line::default()).collect() }
    }

    /// A command was sent to a shard.
    pub(crate) fn asked(&mut self, shard: u32) {
        if let Some(line) = self.line(shard) {
            line.is_asked = true;
        }
    }

    /// A command of a shard was acknowledged.
    pub(crate) fn acknowledged(&mut self, shard: u32, at: Duration) {
        if let Some(line) = self.line(shard) {
            line.see(at);
            line.last = line.last.max(at);
        }
    }

    /// Returns the longest gap of each shard that was asked, in a run that measured until `end`.
    pub(crate) fn longest(mut self, end: Duration) -> Vec<Gap> {
        self.shards.iter_mut().for_each(|line| line.see(end));
        let asked = (0..).zip(&self.shards).filter(|(_, line)| line.is_asked);
        asked
            .map(|(shard, line)| Gap { shard, from: ms(line.from), ms: ms(line.longest) })
            .collect()
    }

    fn line(&mut self, shard: u32) -> Option<&mut Line> {
        self.shards.get_mut(usize::try_from(shard).ok()?)
    }
}

impl Line {
    fn see(&mut self, at: Duration) {
        let gap = at.saturating_sub(self.last);
        if gap > self.longest {
            (self.from, self.longest) = (self.last, gap);
        }
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Writes the gaps that a person should see as a table; nothing when there are none.
pub(crate) fn table(f: &mut fmt::Formatter<'_>, gaps: &[Gap]) -> fmt::Result {
    let mut shown = gaps.iter().filter(|gap| gap.ms > SHOWN_MS_MIN).peekable();
    if shown.peek().is_none() {
        return Ok(());
    }
    writeln!(f, "\n{:<14} {:>10} {:>9}", "no answer, ms", "from", "gap")?;
    shown.try_for_each(|Gap { shard, from, ms }| {
        writeln!(f, "{:<14} {from:>10.1} {ms:>9.1}", format!("shard {shard}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Gaps of a run of four shards, whose acknowledgements are (shard, ms), up to 1,000 ms.
    fn check(acknowledged: &[(u32, u64)]) -> Vec<(u32, f64, f64)> {
        let mut gaps = Gaps::new(4);
        for (shard, ms) in acknowledged {
            gaps.asked(*shard);
            gaps.acknowledged(*shard, at(*ms));
        }
        gaps.longest(at(1_000)).iter().map(|gap| (gap.shard, gap.from, gap.ms)).collect()
    }

    #[test]
    fn the_longest_gap_may_be_at_the_beginning_between_or_at_the_end() {
        assert_eq!(check(&[(0, 600), (0, 700), (0, 900)]), [(0, 0.0, 600.0)]);
        assert_eq!(check(&[(1, 100), (1, 800), (1, 900)]), [(1, 100.0, 700.0)]);
        assert_eq!(check(&[(2, 100), (2, 300)]), [(2, 300.0, 700.0)]);
    }

    #[test]
    fn shards_are_kept_apart_and_one_that_nobody_asked_has_none() {
        let both = check(&[(0, 200), (3, 300), (0, 400), (0, 600), (3, 800), (0, 900)]);
        assert_eq!(both, [(0, 600.0, 300.0), (3, 300.0, 500.0)]);
        assert_eq!(check(&[]), []);
        assert_eq!(check(&[(4, 100)]), [], "a shard that the cluster does not have");
    }

    #[test]
    fn a_shard_that_was_asked_and_never_answered_has_the_whole_run() {
        let mut gaps = Gaps::new(1);
        gaps.asked(0);
        assert_eq!(gaps.longest(at(1_000)), [Gap { shard: 0, from: 0.0, ms: 1_000.0 }]);
    }

    #[test]
    fn an_answer_after_the_end_still_ends_its_gap() {
        assert_eq!(check(&[(0, 900), (0, 1_500)]), [(0, 0.0, 900.0)]);
        assert_eq!(check(&[(0, 500), (0, 1_500)]), [(0, 500.0, 1_000.0)]);
    }
}
