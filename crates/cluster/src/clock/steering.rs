//! The cluster's clock as a line: it runs as fast as the boot clock, and by at most a twentieth faster or slower while it
//! is steered to where it should be.
//!
//! Whole milliseconds are enough, and every rounding is towards running like the boot clock.
//!
//! Absent on purpose: where it should be (`council.rs`), and jumps. Whoever is far off gets there slowly: a jump forward
//! would fire timers early, and one back would make time stand still.
//!
//! Invariant: with a clock that does not go back, neither does this one; between any two readings it runs within 5 % of it.

/// One part of so many is the most by which it runs faster or slower: 5 %.
const SLEW_PARTS: i64 = 20;

/// A clock that is steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steering {
    since: i64,
    from: i64,
    gap_ms: i64,
}

impl Steering {
    /// Starts it: at this time of the node's own clock it shows that.
    pub(crate) const fn start(own: i64, shows: i64) -> Self {
        Self { since: own, from: shows, gap_ms: 0 }
    }

    /// Returns what it shows at a time of the node's own clock.
    pub(crate) fn at(&self, own: i64) -> i64 {
        let passed = own.saturating_sub(self.since).max(0);
        let most = passed / SLEW_PARTS;
        self.from.saturating_add(passed).saturating_add(self.gap_ms.clamp(-most, most))
    }

    /// Steers it to where it should be at this time.
    pub(crate) fn steer(&mut self, own: i64, target: i64) {
        let shows = self.at(own);
        *self =
            Self { since: own.max(self.since), from: shows, gap_ms: target.saturating_sub(shows) };
    }

    /// Returns how far it still has to go at a time of the node's own clock; negative when it is ahead.
    pub(crate) fn left_ms(&self, own: i64) -> i64 {
        let passed = own.saturating_sub(self.since).max(0);
        let most = passed / SLEW_PARTS;
        self.gap_ms.saturating_sub(self.gap_ms.clamp(-most, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_closed_by_a_twentieth_of_the_time_and_not_beyond() {
        let mut clock = Steering::start(0, 1_000);
        clock.steer(0, 1_100);
        assert_eq!([0, 1_000, 2_000, 3_000].map(|at| clock.at(at)), [1_000, 2_050, 3_100, 4_100]);
        assert_eq!([0, 1_000, 2_000].map(|at| clock.left_ms(at)), [100, 50, 0]);
        let mut clock = Steering::start(0, 1_000);
        clock.steer(0, 900);
        assert_eq!([1_000, 2_000, 3_000].map(|at| clock.at(at)), [1_950, 2_900, 3_900]);
    }

    #[test]
    fn it_never_goes_back_and_never_runs_by_more_than_a_twentieth_off() {
        let mut state = 11_u64;
        let mut draw = move |below: u64| {
            // splitmix64 (Steele, Lea and Flood, 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            i64::try_from((z ^ (z >> 31)) % below).unwrap()
        };
        for _ in 0..200 {
            let begun = draw(1_000_000);
            let mut clock = Steering::start(0, begun);
            let mut readings = vec![(0, begun)];
            let mut own = 0;
            for _ in 0..100 {
                own += draw(400);
                if draw(3) == 0 {
                    clock.steer(own, clock.at(own) + draw(7_200_000) - 3_600_000);
                }
                readings.push((own, clock.at(own)));
            }
            for (n, (from, was)) in readings.iter().enumerate() {
                for (to, is) in &readings[n..] {
                    let (passed, moved) = (to - from, is - was);
                    assert!(moved >= 0, "it went back");
                    // A millisecond of rounding at either end.
                    let wrong = (moved - passed).abs();
                    assert!(wrong <= passed / SLEW_PARTS + 1, "{moved} in {passed}");
                }
            }
        }
    }
}
