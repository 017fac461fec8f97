//! Seeded chance: one seed, one schedule.
//!
//! SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): a counter through a mixer.
//! Nothing here is secret, and the same seed must give the same schedule in every release, which no library promises.
//!
//! Invariant: what is drawn depends on the seed and on the draws before it, and on nothing else. Dice that are split off
//! do not disturb those they came from.

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of seeded numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Begins with a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below a bound; 0 for the bound 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of a remainder is far below anything that a drill could show.
        self.draw().checked_rem(bound).unwrap_or(0)
    }

    /// Returns a number of a range, both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Tells whether something with so many chances in a hundred happens.
    pub fn percent(&mut self, chances: u64) -> bool {
        self.below(100) < chances
    }

    /// Returns one of several; nothing of none.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let place = self.below(of.len() as u64);
        of.get(usize::try_from(place).ok()?)
    }

    /// Returns dice of their own for a part of the run.
    pub fn split(&mut self) -> Self {
        Self(self.draw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_of_a_seed_are_those_of_the_published_algorithm() {
        // The reference implementation's output for the seed 1234567.
        let mut dice = Dice::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| dice.draw()).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn bounds_hold_and_a_part_does_not_disturb_the_whole() {
        let mut dice = Dice::new(7);
        assert!((0..1_000).all(|_| (3..=5).contains(&dice.between(3, 5))));
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.one::<u8>(&[]), None);
        let (mut one, mut two) = (Dice::new(9), Dice::new(9));
        let mut part = one.split();
        part.draw();
        two.draw();
        assert_eq!(one.draw(), two.draw());
    }
}
