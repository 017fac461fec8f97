//! What the echoes of one other node say about its clock: how far it is from this node's, and how sure that is.
//!
//! A sample has three times: asked and heard by this node's own clock, and what the other one's clock showed in between.
//! Where on the way the answer was given nobody knows, so half the round trip bounds the error; nothing else has to be
//! assumed about the network. Of the last samples the one with the smallest bound counts (as in NTP's clock filter,
//! RFC 5905, section 10). Two samples whose bounds do not meet cannot be of the same clock: it was set, or its node
//! started anew, and the older ones are forgotten.
//!
//! Absent on purpose: clocks, connections, and what follows from the estimates. Pure.
//!
//! Invariant: while the other clock runs as fast as this one up to [`DRIFT_PPM`], its true offset is within the bound.

use std::collections::VecDeque;

use bincode::{Decode, Encode};

/// Samples of one node that are looked at together.
const SAMPLES_MAX: usize = 16;
/// A round trip above this says too little to be kept, in milliseconds.
const ROUND_MS_MAX: i64 = 1_000;
/// By how much two clocks may drift apart, in millionths: twice what a bad quartz does.
const DRIFT_PPM: i64 = 200;
/// After so long without an answer a node's clock is no longer known, in milliseconds.
const AGE_MS_MAX: i64 = 3_600_000;
/// What reading two clocks in whole milliseconds may hide.
const GRAIN_MS: i64 = 1;

/// What a node tells about its clocks: UTC milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Told {
    /// Its own clock: the wall clock at its start, moved on by the boot clock.
    pub(crate) own: i64,
    /// The cluster's clock as it has it; nothing before it has one.
    pub(crate) cluster: Option<i64>,
}

/// One echo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// When it was asked, by this node's own clock.
    pub(crate) sent: i64,
    /// When the answer was heard, by this node's own clock.
    pub(crate) heard: i64,
    /// What the other node said in between.
    pub(crate) told: Told,
}

impl Sample {
    const fn middle(&self) -> i64 {
        self.sent + (self.heard - self.sent) / 2
    }

    const fn is_useful(&self) -> bool {
        let round = self.heard.saturating_sub(self.sent);
        round >= 0 && round <= ROUND_MS_MAX
    }

    const fn kept(&self) -> Kept {
        let middle = self.middle();
        let error_ms = (self.heard - self.sent + 1) / 2 + GRAIN_MS;
        Kept { offset_ms: self.told.own.saturating_sub(middle), error_ms, at: self.heard }
    }
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    offset_ms: i64,
    error_ms: i64,
    at: i64,
}

impl Kept {
    const fn error_at(&self, now: i64) -> i64 {
        self.error_ms + now.saturating_sub(self.at) * DRIFT_PPM / 1_000_000
    }
}

/// How far another clock is ahead of this node's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Milliseconds; negative when it is behind.
    pub(crate) offset_ms: i64,
    /// How wrong that may be.
    pub(crate) error_ms: i64,
}

/// The last samples of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    samples: VecDeque<Kept>,
    cluster_ms: Option<i64>,
}

impl Window {
    /// Takes a sample in.
    pub(crate) fn take(&mut self, sample: Sample) {
        if !sample.is_useful() {
            return;
        }
        let (new, now) = (sample.kept(), sample.heard);
        let is_another = |old: &Kept| {
            let apart = new.offset_ms.saturating_sub(old.offset_ms).saturating_abs();
            apart > new.error_ms + old.error_at(now)
        };
        if self.samples.iter().any(is_another) {
            self.samples.clear();
        }
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(new);
        self.cluster_ms = sample.told.cluster.map(|at| at.saturating_sub(sample.middle()));
    }

    /// Returns the best estimate at a time of this node's own clock.
    pub(crate) fn estimate(&self, now: i64) -> Option<Estimate> {
        let fresh = self.samples.iter().filter(|kept| now.saturating_sub(kept.at) <= AGE_MS_MAX);
        let best = fresh.min_by_key(|kept| kept.error_at(now))?;
        Some(Estimate { offset_ms: best.offset_ms, error_ms: best.error_at(now) })
    }

    /// Returns how far the cluster's clock, as that node had it in its last answer, is ahead of this node's own clock.
    pub(crate) const fn cluster_ms(&self) -> Option<i64> {
        self.cluster_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sent: i64, heard: i64, own: i64) -> Sample {
        Sample { sent, heard, told: Told { own, cluster: None } }
    }

    fn of(samples: &[Sample]) -> Window {
        let mut window = Window::default();
        samples.iter().for_each(|sample| window.take(*sample));
        window
    }

    #[test]
    fn the_sample_with_the_smallest_round_trip_counts() {
        let slow = sample(1_000, 1_090, 1_080);
        let quick = sample(2_000, 2_004, 2_012);
        let window = of(&[slow, quick, slow]);
        let expected = Estimate { offset_ms: 10, error_ms: 3 };
        assert_eq!(window.estimate(2_004), Some(expected));
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_its_next_echo() {
        let mut window = of(&[sample(1_000, 1_002, 1_001), sample(2_000, 2_002, 2_001)]);
        window.take(sample(3_000, 3_400, 3_603_200));
        let found = window.estimate(3_400).unwrap();
        assert_eq!((found.offset_ms, found.error_ms), (3_600_000, 201));
        window.take(sample(4_000, 4_400, 4_200));
        assert_eq!(window.estimate(4_400).unwrap().offset_ms, 0, "and back");
    }

    #[test]
    fn an_estimate_grows_doubtful_with_age_and_ends() {
        let window = of(&[sample(0, 2, 1)]);
        assert_eq!(window.estimate(1_000_002).unwrap().error_ms, 2 + 200);
        assert_eq!(window.estimate(AGE_MS_MAX + 3), None);
    }

    #[test]
    fn what_took_too_long_or_came_before_it_was_asked_is_no_sample() {
        let window = of(&[sample(0, ROUND_MS_MAX + 1, 5), sample(10, 9, 5)]);
        assert_eq!((window.estimate(10), window.cluster_ms()), (None, None));
    }

    #[test]
    fn the_true_offset_is_within_the_bound_whatever_the_network_does() {
        let mut state = 7_u64;
        let mut draw = move |below: u64| {
            // splitmix64 (Steele, Lea and Flood, 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            i64::try_from((z ^ (z >> 31)) % below).unwrap()
        };
        for case in 0..500 {
            let truth = draw(7_200_000) - 3_600_000;
            let mut window = Window::default();
            let mut now = 1_000_000;
            for _ in 0..40 {
                let (there, back) = (draw(300), draw(300));
                window.take(sample(now, now + there + back, now + there + truth));
                now += there + back + draw(1_000);
                let found = window.estimate(now).unwrap();
                let wrong = (found.offset_ms - truth).abs();
                assert!(wrong <= found.error_ms, "case {case}: {found:?}, truly {truth}");
            }
        }
    }
}
