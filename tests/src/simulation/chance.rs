//! Chance from a seed: the only source of luck in a simulation.
//!
//! SplitMix64, because it is ten lines, has no state but one number, and gives the same numbers in every build. Streams
//! that must not disturb each other get their own seed from [`Chance::split`].
//!
//! Deliberately absent: the operating system's randomness, hashes of maps, the time.

/// A stream of numbers that follows from its seed alone.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins a stream.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a stream of its own for a purpose, which what is drawn here does not disturb.
    #[must_use]
    pub fn split(&self, purpose: u64) -> Self {
        let mut mixed = Self(self.0 ^ purpose.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        mixed.draw();
        mixed
    }

    /// Returns the next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below a bound, and 0 below 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        let drawn = self.draw();
        if bound == 0 { 0 } else { drawn % bound }
    }

    /// Returns a number within bounds, both included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Returns whether something happens that happens so often in a hundred times.
    pub const fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// Picks one of several.
    ///
    /// # Panics
    /// There is nothing to pick from.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        let index = self.below(among.len() as u64);
        let index = usize::try_from(index).expect("an index fits");
        among.get(index).expect("there is something to pick from")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_one_others() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..8).map(|_| chance.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(Chance::new(0).draw(), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn streams_do_not_disturb_each_other() {
        let chance = Chance::new(3);
        let (mut one, mut other) = (chance.split(1), chance.split(1));
        let _ = chance.split(2).draw();
        assert_eq!(one.draw(), other.draw());
    }
}
